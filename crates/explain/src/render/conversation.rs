//! Words that several renderings share: numbers, times, and how sure a verdict sounds.

use crate::explainer::Explained;
use crate::record::Writer;
use crate::verdict::Verdict;
use lastack_causes::{Cause, Certainty, EndedBy};

/// A count with thousands set apart: `1,204`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people: `812 B`, `37 KB`, `4.2 MB`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{} KB", n / 1000),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

/// Time spans for people.
pub(super) fn span(nanoseconds: i64) -> String {
    crate::verdict::span(nanoseconds)
}

/// The verdict as a sentence, in words that follow the confidence.
pub(super) fn sentence(writer: &Writer, explained: &Explained) -> String {
    let verdict = &explained.verdict;
    let what = format!(
        "{} ({}, {}, confidence {:.2})",
        cause_by(writer, explained),
        verdict.cause.code(),
        verdict.severity,
        verdict.confidence
    );
    let meaning = verdict.cause.sentence();
    match (Certainty::of(verdict.confidence), verdict.alternatives.first()) {
        (Certainty::Is, _) => format!("The cause is {what}. {meaning}"),
        (Certainty::VeryLikely, _) => format!("The cause is very likely {what}. {meaning}"),
        (Certainty::Either, Some(other)) => format!(
            "The cause is either {what} or {} ({}, {:.2}). {meaning}",
            other.cause,
            other.cause.code(),
            other.confidence
        ),
        (Certainty::Either, None) => format!("The cause is probably {what}. {meaning}"),
        (Certainty::Unknown, _) => format!("The cause is unknown; it may be {what}. {meaning}"),
    }
}

/// The confidence in a list, with the likeliest other cause where the two cannot be told apart.
pub(super) fn in_doubt(verdict: &Verdict) -> String {
    let sure = format!("confidence {:.2}", verdict.confidence);
    match verdict.alternatives.first() {
        Some(other) if Certainty::of(verdict.confidence) <= Certainty::Either && other.confidence >= 0.2 => {
            format!("{sure}, or {} {:.2}", other.cause, other.confidence)
        }
        _ => sure,
    }
}

/// The cause and who: `close-unread by the server`.
pub(super) fn cause_by(writer: &Writer, explained: &Explained) -> String {
    let verdict = &explained.verdict;
    match (verdict.cause, verdict.ended_by) {
        (cause, EndedBy::Nobody | EndedBy::Unknown) => cause.to_string(),
        // An injector writes the hop limit that it likes.
        (Cause::Injected, _) => "injected by a third party".into(),
        (cause, EndedBy::Path) => match &verdict.device {
            Some(device) if device.address.is_some() => {
                format!("{cause} by {}", writer.named(device.address.as_deref().unwrap_or_default()))
            }
            Some(device) => match (device.ttl, device.hops) {
                (Some(64 | 128 | 255), _) => format!("{cause} by a device on this link"),
                (_, Some(1)) => format!("{cause} by a device 1 hop away"),
                (_, Some(hops)) => format!("{cause} by a device {hops} hops away"),
                _ => format!("{cause} by a device on the path"),
            },
            None => format!("{cause} by a device on the path"),
        },
        (cause, by) => format!("{cause} by {}", by.noun()),
    }
}

/// A group's ends in the plural: `20 refused by 10.0.0.5:8080`.
pub(super) fn group_phrase(cause: Cause, count_of: u64, server: &str, by: EndedBy) -> String {
    let n = count(count_of);
    match cause {
        Cause::Refused => format!("{n} refused by {server}"),
        Cause::CloseUnread if by == EndedBy::Unknown => format!("{n} closed with data unread at {server}"),
        Cause::CloseUnread => format!("{n} closed with data unread by {}", party(by, server)),
        Cause::SilentDrop => format!("{n} without answer from {server}"),
        Cause::Abort if by == EndedBy::Unknown => format!("{n} aborted at {server}"),
        Cause::Abort => format!("{n} aborted by {}", party(by, server)),
        Cause::Open => format!("{n} still open to {server}"),
        cause => format!("{n} {cause} at {server}"),
    }
}

fn party(by: EndedBy, server: &str) -> String {
    match by {
        EndedBy::Server => server.to_owned(),
        EndedBy::Client => format!("clients of {server}"),
        other => format!("{} ({server})", other.noun()),
    }
}
