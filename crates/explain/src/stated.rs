//! The end of a connection as `lastack run` has recorded it, in the captures that it writes.
//!
//! Such a capture has the packets between the program and lastack. What ended the connection on the other side, an injected
//! fault, or an answer that was missing is known to the relay alone. It states the end of each connection in a comment of a block
//! of its own:
//!
//! ```text
//! end of tcp 10.0.2.100:40000 > 10.0.2.2:80: no-answer, suspicious, by nobody: the remote had not answered ..
//! ```

use std::fmt;
use std::net::SocketAddr;

use lastack_causes::{Cause, EndedBy, Severity};

use crate::Known;

/// How a connection, or a flow of datagrams, ended according to the relay that carried it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated {
    /// Datagrams, not a connection.
    pub udp: bool,
    /// The end that opened it, as its packets name it.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
    /// Nanoseconds since 1970 at which it was recorded; 0 until it is written.
    pub time: i64,
    /// How it ended.
    pub known: Known,
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { udp, client, server, known, .. } = self;
        let proto = if *udp { "udp" } else { "tcp" };
        let Known { cause, severity, ended_by, also, text, .. } = known;
        write!(f, "end of {proto} {client} > {server}: {cause}, {severity}, by {ended_by}")?;
        also.map_or(Ok(()), |also| write!(f, ", also {also}"))?;
        write!(f, ": {text}")
    }
}

impl Stated {
    /// Parses a comment; `None` if it states no end.
    #[must_use]
    pub fn parse(comment: &str, time: i64) -> Option<Self> {
        let (proto, rest) = comment.strip_prefix("end of ")?.split_once(' ')?;
        let (ends, rest) = rest.split_once(": ")?;
        let (facts, text) = rest.split_once(": ")?;
        let (client, server) = ends.split_once(" > ")?;
        let mut facts = facts.split(", ");
        let cause: Cause = facts.next()?.parse().ok()?;
        let severity = facts.next()?;
        let ended_by = facts.next()?.strip_prefix("by ")?;
        let also = match facts.next() {
            Some(also) => Some(also.strip_prefix("also ")?.parse().ok()?),
            None => None,
        };
        let known = Known {
            cause,
            severity: Severity::ALL.into_iter().find(|known| known.name() == severity)?,
            ended_by: EndedBy::ALL.into_iter().find(|known| known.name() == ended_by)?,
            also,
            source: "lastack run",
            text: text.to_owned(),
        };
        let udp = match proto {
            "tcp" => false,
            "udp" => true,
            _ => return None,
        };
        Some(Self { udp, client: client.parse().ok()?, server: server.parse().ok()?, time, known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_end_is_read_as_it_was_written() {
        for (server, also) in [("192.0.2.7:80", None), ("[2001:db8::7]:80", Some(Cause::CloseUnread))] {
            let stated = Stated {
                udp: also.is_some(),
                client: "10.0.2.100:40000".parse().unwrap(),
                server: server.parse().unwrap(),
                time: 7,
                known: Known {
                    cause: Cause::ClientCancelled,
                    severity: Severity::Benign,
                    ended_by: EndedBy::Lastack,
                    also,
                    source: "lastack run",
                    text: "client-cancelled (x: y); --inject rst:after=4k, twice".to_owned(),
                },
            };
            assert_eq!(Stated::parse(&stated.to_string(), 7), Some(stated));
        }
    }

    #[test]
    fn other_comments_state_no_end() {
        for comment in [
            "",
            "end of tcp 1.2.3.4:5 > 1.2.3.4:6",
            "end of tcp 1.2.3.4:5 > 1.2.3.4:6: bad luck, benign, by client: x",
            "end of tcp 1.2.3.4:5 > 1.2.3.4:6: orderly, benign, by me: x",
            "end of sctp 1.2.3.4:5 > 1.2.3.4:6: orderly, benign, by client: x",
            "end of tcp 1.2.3.4 > 1.2.3.4:6: orderly, benign, by client: x",
        ] {
            assert_eq!(Stated::parse(comment, 0), None, "{comment}");
        }
    }
}
