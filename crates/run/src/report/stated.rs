//! A record as `explain` takes it: what it states overrides what the packets show.

use std::net::SocketAddr;

use lastack_causes::EndedBy;
use lastack_explain::{Known, Stated};

use super::record::{By, Proto, Record};

impl Record {
    /// The end that captures and the page state. `remote`: the other end as the program's packets name it.
    pub fn stated(&self, remote: SocketAddr) -> Stated {
        let verdict = self.verdict();
        let inward = self.context.inward;
        let (client, server) = if inward { (remote, self.local) } else { (self.local, remote) };
        let ended_by = match self.by {
            By::Program if inward => EndedBy::Server,
            By::Program => EndedBy::Client,
            By::Remote if inward => EndedBy::Client,
            By::Remote => EndedBy::Server,
            By::Network => EndedBy::Path,
            By::Host => EndedBy::Host,
            By::Lastack => EndedBy::Lastack,
            By::Nobody => EndedBy::Nobody,
        };
        let known = Known {
            cause: verdict.cause,
            severity: verdict.severity,
            ended_by,
            also: verdict.also,
            source: "lastack run",
            text: self.reason(),
        };
        Stated { udp: self.proto == Proto::Udp, client, server, time: 0, known }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests;
    use super::*;

    #[test]
    fn the_sides_are_those_of_who_opened_the_connection() {
        let mut record = tests::orderly();
        let stated = record.stated(record.remote);
        assert_eq!((stated.client, stated.known.ended_by), (record.local, EndedBy::Server));
        record.context.inward = true;
        let seen_as = "10.0.2.2:50000".parse().unwrap();
        let stated = record.stated(seen_as);
        assert_eq!((stated.client, stated.server), (seen_as, record.local));
        assert_eq!(stated.known.ended_by, EndedBy::Client);
        assert_eq!(Stated::parse(&stated.to_string(), 0), Some(stated));
    }
}
