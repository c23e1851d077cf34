//! The lines for people.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use lastack_causes::{Cause, Certainty, Severity};

use crate::ended::{Ended, Owner, Totals};
use crate::event::Source;
use crate::record::{Calendar, ended_by_words};

/// `12:00:01.204  10.1.2.3:51522 > 10.9.8.7:443  curl[812]  close-unread by the client: closed with 37 bytes unread ..`
#[must_use]
pub fn line(ended: &Ended, calendar: &Calendar, zone: &TimeZone) -> String {
    let time = calendar.at(ended.ended).to_zoned(zone.clone()).strftime("%H:%M:%S%.3f");
    let mut line = format!("{time}  {} > {}  ", shown(ended, true), shown(ended, false));
    match (&ended.process, &ended.peer_process) {
        (Some(owner), Some(peer)) if owner.pid != peer.pid => {
            let _ = write!(line, "{} (peer {})  ", owner_words(owner), owner_words(peer));
        }
        (Some(owner), _) => drop(write!(line, "{}  ", owner_words(owner))),
        (None, Some(peer)) => drop(write!(line, "(peer {})  ", owner_words(peer))),
        (None, None) => {}
    }
    line.push_str(&verdict(ended));
    let facts = [ended.started.map(|at| format!("after {}", duration(ended.ended.since(at)))), sent(ended)];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        let _ = write!(line, "  {}", facts.join(", "));
    }
    if let Some(other) = ended.alternatives.first() {
        let _ = match Certainty::of(ended.confidence) {
            Certainty::Is => Ok(()),
            // Both causes are named already.
            Certainty::Either => write!(line, "; {} would settle it", other.settle),
            Certainty::VeryLikely | Certainty::Unknown => {
                write!(line, "; otherwise {}: {} would settle it", other.cause, other.settle)
            }
        };
    }
    if ended.amends {
        line.push_str("; this connection had ended cleanly before");
    }
    line
}

/// What each end sent, as far as it is known.
fn sent(ended: &Ended) -> Option<String> {
    let words = |count: Option<u64>| count.map_or_else(|| "unknown".into(), bytes);
    match ended.bytes {
        [None, None] => None,
        [Some(0), Some(0)] if ended.cause == Cause::Refused => None,
        [client, server] => Some(format!("client sent {}, server {}", words(client), words(server))),
    }
}

/// The cause, who ended it, and what happened, in words that follow the confidence.
fn verdict(ended: &Ended) -> String {
    let (cause, by) = (ended.cause, ended_by_words(ended));
    let words = match (Certainty::of(ended.confidence), ended.alternatives.first()) {
        (Certainty::Is, _) => format!("{cause} {by}"),
        (Certainty::VeryLikely, _) => format!("very likely {cause} {by}"),
        (Certainty::Either, Some(other)) => format!("either {cause} or {} {by}", other.cause),
        (Certainty::Either, None) => format!("probably {cause} {by}"),
        (Certainty::Unknown, _) => format!("unknown; it may be {cause} {by}"),
    };
    if ended.detail.is_empty() { words } else { format!("{words}: {}", ended.detail) }
}

/// An address whose part the kernel had cleared is shown as such.
fn shown(ended: &Ended, client: bool) -> String {
    let address = if client { ended.client() } else { ended.server() };
    let ip = if address.ip().is_unspecified() { "?".into() } else { address.ip().to_string() };
    match (address.port(), address.is_ipv6()) {
        (0, _) => format!("{ip}:?"),
        (port, true) if ip != "?" => format!("[{ip}]:{port}"),
        (port, _) => format!("{ip}:{port}"),
    }
}

fn owner_words(owner: &Owner) -> String {
    let name = if owner.comm.is_empty() { "?" } else { &owner.comm };
    format!("{name}[{}]", owner.pid)
}

/// `1.2 s`, `340 ms`, `87 us`.
fn duration(nanoseconds: u64) -> String {
    let microseconds = nanoseconds / 1000;
    match microseconds {
        0..1000 => format!("{microseconds} us"),
        1000..1_000_000 => format!("{} ms", microseconds / 1000),
        1_000_000..60_000_000 => format!("{:.1} s", microseconds as f64 / 1e6),
        _ => {
            let seconds = microseconds / 1_000_000;
            format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
    }
}

fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".into(),
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} KB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// The summary: totals, causes by count, and what was lost.
#[must_use]
pub fn summary(totals: &Totals, open: usize) -> String {
    let count = |severity| totals.severities.get(&severity).copied().unwrap_or_default();
    let (harmful, suspicious, benign) =
        (count(Severity::Harmful), count(Severity::Suspicious), count(Severity::Benign));
    let mut out = format!(
        "{} connection{} ended: {harmful} harmful, {suspicious} suspicious, {benign} benign; {open} still open\n",
        totals.ended,
        if totals.ended == 1 { "" } else { "s" }
    );
    let mut causes: Vec<_> = totals.causes.iter().filter(|(_, count)| **count > 0).collect();
    causes.sort_by_key(|(cause, count)| (std::cmp::Reverse(cause.severity()), std::cmp::Reverse(**count)));
    for (cause, count) in causes {
        let _ = writeln!(out, "  {count:>8}  {cause}");
    }
    let notes = [
        (
            totals.listen_overflows,
            "handshake was dropped because an accept queue was full",
            "handshakes were dropped because an accept queue was full",
        ),
        (
            totals.evicted,
            "connection was dropped from memory: too many were open at a time",
            "connections were dropped from memory: too many were open at a time",
        ),
        (
            totals.foreign,
            "socket of another network namespace was left out",
            "sockets of other network namespaces were left out",
        ),
    ];
    for (count, one, several) in notes.into_iter().filter(|(count, ..)| *count > 0) {
        let _ = writeln!(out, "  {count} {}", if count == 1 { one } else { several });
    }
    let lost: Vec<String> = Source::ALL
        .iter()
        .filter_map(|source| Some(format!("{} {}", totals.lost.get(source)?, source.name())))
        .collect();
    let lost = if lost.is_empty() { "none".into() } else { lost.join(", ") };
    let _ = writeln!(out, "  lost events: {lost}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration(87_000), "87 us");
        assert_eq!(duration(340_000_000), "340 ms");
        assert_eq!(duration(1_240_000_000), "1.2 s");
        assert_eq!(duration(3_725_000_000_000), "1:02:05");
        assert_eq!(
            (bytes(9), bytes(37_400), bytes(12_345_678)),
            ("9 bytes".into(), "37 KB".into(), "12 MB".into())
        );
    }
}
