//! What all connections of a run came to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::record::{Cause, Lost, Octets, Proto, Record};
use super::sentence::Size;

/// The last line of a report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// TCP connections by how they ended.
    pub tcp: BTreeMap<&'static str, u64>,
    /// UDP flows by how they ended.
    pub udp: BTreeMap<&'static str, u64>,
    /// Echo requests.
    pub echo: Echo,
    /// What arrived, in all.
    pub octets: Octets,
    /// What was lost, in all.
    pub lost: Lost,
    /// Packets that lastack itself lost between itself and the program's kernel. The network has no part in them.
    pub dropped: u64,
    /// What the program should have and could not be given.
    pub warnings: Vec<String>,
    /// How the program ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// Pings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Echo {
    /// Requests that went on to their remote.
    pub asked: u64,
    /// Replies.
    pub answered: u64,
    /// Errors.
    pub failed: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Summary {
    /// Counts a record in.
    pub fn add(&mut self, record: &Record) {
        let causes = match record.proto {
            Proto::Tcp => &mut self.tcp,
            Proto::Udp => &mut self.udp,
        };
        *causes.entry(record.cause.word()).or_default() += 1;
        self.octets.sent += record.octets.sent;
        self.octets.received += record.octets.received;
        self.lost.unsent += record.lost.unsent;
        self.lost.unacked += record.lost.unacked;
        self.lost.unread += record.lost.unread;
    }
}

/// `3 connections: 1 refused, 2 orderly`, the worst first.
fn causes(f: &mut fmt::Formatter<'_>, what: &str, causes: &BTreeMap<&str, u64>) -> fmt::Result {
    let total: u64 = causes.values().sum();
    write!(f, "{total} {what}{}", if total == 1 { "" } else { "s" })?;
    let fine = [Cause::Orderly.word(), Cause::Idle.word()];
    let (good, bad): (Vec<_>, Vec<_>) = causes.iter().partition(|(word, _)| fine.contains(word));
    for (i, (word, count)) in bad.into_iter().chain(good).enumerate() {
        write!(f, "{} {count} {word}", if i == 0 { ":" } else { "," })?;
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        causes(f, "TCP connection", &self.tcp)?;
        if !self.udp.is_empty() {
            f.write_str("; ")?;
            causes(f, "UDP flow", &self.udp)?;
        }
        let Echo { asked, answered, failed } = self.echo;
        if asked > 0 {
            let plural = if asked == 1 { "" } else { "s" };
            write!(f, "; {asked} echo request{plural}, {answered} answered, {failed} failed")?;
        }
        write!(f, "; {} sent, {} received", Size(self.octets.sent), Size(self.octets.received))?;
        if self.lost.total() > 0 {
            write!(f, ", {} lost", Size(self.lost.total()))?;
        }
        if self.dropped > 0 {
            write!(f, "; {} packets dropped by lastack itself, not by the network", self.dropped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests;
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let mut summary = Summary::default();
        for record in [tests::orderly(), tests::unreachable(), tests::orderly()] {
            summary.add(&record);
        }
        summary.add(&Record { proto: Proto::Udp, cause: Cause::Idle, ..tests::orderly() });
        assert_eq!(
            summary.to_string(),
            "3 TCP connections: 1 unreachable, 2 orderly; 1 UDP flow: 1 idle; 225 octets sent, 3600 octets received"
        );
        summary.dropped = 2;
        assert!(summary.to_string().ends_with("; 2 packets dropped by lastack itself, not by the network"));
    }

    #[test]
    fn nothing_is_a_summary_too() {
        assert_eq!(Summary::default().to_string(), "0 TCP connections; 0 octets sent, 0 octets received");
    }

    #[test]
    fn json_says_how_the_program_ended() {
        let summary = Summary { exit: Some(Exit::Signal(9)), ..Summary::default() };
        assert_eq!(serde_json::to_value(summary).unwrap()["exit"], serde_json::json!({"signal": 9}));
    }
}
