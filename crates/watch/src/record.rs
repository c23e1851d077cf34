//! The records of `--json`: those of `lastack explain`, and fields that only a live host has.
//!
//! One JSON object a line. `"v": 1`: fields may be added; none is removed or renamed without another version.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use lastack_causes::{EndedBy, Severity};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, SocketAddr};

use crate::ended::{Ended, Owner, Role, SeenReset, Totals, Wire};
use crate::event::{Source, Time};
use crate::sources::Availability;

/// The version of the records.
pub const VERSION: u32 = 1;

/// Turns times of CLOCK_MONOTONIC into those of a calendar.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// Nanoseconds since 1970 at time 0.
    pub offset: u64,
}

impl Calendar {
    /// By the clocks as they are now.
    #[must_use]
    pub fn now() -> Self {
        Self { offset: crate::sources::wall_now().saturating_sub(crate::sources::now().0) }
    }

    /// The time as a time stamp.
    #[must_use]
    pub fn at(&self, time: Time) -> Timestamp {
        let nanoseconds = i128::from(self.offset) + i128::from(time.0);
        Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::MAX)
    }

    /// RFC 3339 with microseconds, in UTC.
    #[must_use]
    pub fn rfc3339(&self, time: Time) -> String {
        format!("{:.6}", self.at(time))
    }
}

/// Community ID version 1 of a TCP flow, with seed 0: the same for both directions.
#[must_use]
pub fn community_id(a: SocketAddr, b: SocketAddr) -> String {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut ends = [(bytes(a.ip()), a.port()), (bytes(b.ip()), b.port())];
    ends.sort();
    let mut input = vec![0, 0];
    input.extend_from_slice(&ends[0].0);
    input.extend_from_slice(&ends[1].0);
    input.extend_from_slice(&[6, 0]);
    input.extend_from_slice(&ends[0].1.to_be_bytes());
    input.extend_from_slice(&ends[1].1.to_be_bytes());
    let digest = sha1_smol::Sha1::from(&input).digest().bytes();
    format!("1:{}", STANDARD.encode(digest))
}

/// Confidences have two decimals: more would claim a precision that is not there.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

fn sides<T: Into<Value> + Copy>(pair: [Option<T>; 2]) -> Value {
    let value = |value: Option<T>| value.map_or(Value::Null, Into::into);
    json!({ "client": value(pair[0]), "server": value(pair[1]) })
}

/// The record of an end.
#[must_use]
pub fn connection(ended: &Ended, calendar: &Calendar) -> Value {
    let mut record = Map::new();
    let mut set = |name: &str, value: Value| drop(record.insert(name.to_owned(), value));
    set("v", VERSION.into());
    set("type", "connection".into());
    set("proto", "tcp".into());
    set("id", id(ended).into());
    set("client", ended.client().to_string().into());
    set("server", ended.server().to_string().into());
    set("roles", if ended.roles_known { "syn" } else { "guessed" }.into());
    set("local", if ended.both_local { "both" } else { ended.local.name() }.into());
    set("started", ended.started.map_or(Value::Null, |at| calendar.rfc3339(at).into()));
    set("ended", calendar.rfc3339(ended.ended).into());
    set("octets", sides(ended.bytes));
    set("idle", ended.idle.map_or(Value::Null, Into::into));
    set("frames", json!({ "first": null, "last": null, "count": ended.packets, "decisive": [] }));
    set("cause", ended.cause.name().into());
    set("code", ended.cause.code().into());
    set("confidence", rounded(ended.confidence).into());
    set("ended_by", ended.ended_by.name().into());
    set("ended_by_confidence", rounded(ended.ended_by_confidence).into());
    set("path", Value::Null);
    set("severity", ended.severity.name().into());
    set("detail", ended.detail.clone().into());
    set("alternatives", alternatives(ended));
    set("also", also(ended));
    set("evidence", evidence(ended));
    set("rst_frames", ended.resets.iter().map(reset).collect());
    set("icmp", icmp(ended));
    set("declared", json!([]));
    set("lost", lost(ended));
    set("rules", ended.rules.clone().into());
    set("advice", ended.cause.advice().into());
    set("limits", ended.limits.clone().into());
    set("tunnel", Value::Null);
    set("kernel", ended.kernel.clone().into());
    set("process", ended.process.as_ref().map_or(Value::Null, process));
    set("peer_process", ended.peer_process.as_ref().map_or(Value::Null, process));
    set("sources", ended.sources.iter().map(|source| source.name()).collect());
    if ended.amends {
        set("amends", true.into());
    }
    if let Some(wire) = &ended.wire {
        add_packets(&mut record, wire);
    }
    Value::Object(record)
}

/// Fills in what only the packets show, as `lastack explain` prints it.
fn add_packets(record: &mut Map<String, Value>, wire: &Wire) {
    let explained = &*wire.explained;
    let writer = lastack_explain::record::Writer { digits: 6, ..Default::default() };
    let Ok(Value::Object(mut packets)) = serde_json::to_value(writer.connection(explained, &[])) else {
        return;
    };
    // Guessed roles may differ from those of the sockets.
    if packets.get("client") != record.get("client") {
        return;
    }
    if record.get("ended_by") != Some(&"path".into()) {
        packets.remove("path");
    }
    for name in ["frames", "declared", "tunnel", "path"] {
        if let Some(value) = packets.remove(name) {
            record.insert(name.to_owned(), value);
        }
    }
    for name in ["rst_frames", "icmp"] {
        if let Some(value) =
            packets.remove(name).filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
        {
            record.insert(name.to_owned(), value);
        }
    }
    // An answer that was not read by the watch is no missing answer.
    for end in ["client", "server"].into_iter().filter(|_| wire.whole) {
        let unanswered = packets.get("lost").map(|lost| lost[end]["request_unanswered"].clone());
        if let (Some(unanswered), Some(lost)) = (unanswered, record.get_mut("lost")) {
            lost[end]["request_unanswered"] = unanswered;
        }
    }
    let frames_of = |cause: &str| {
        let also = packets.get("also")?.as_array()?.iter().find(|also| also["cause"] == cause)?;
        also.get("frames").cloned()
    };
    for also in record.get_mut("also").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(frames) = also["cause"].as_str().and_then(frames_of) {
            also["frames"] = frames;
        }
    }
}

/// Community ID, `#`, and the client's initial sequence number, or `s` and the server's, or `?` and an ordinal.
fn id(ended: &Ended) -> String {
    let community = community_id(ended.client(), ended.server());
    match ended.initial {
        [Some(client), _] => format!("{community}#{client:08x}"),
        [None, Some(server)] => format!("{community}#s{server:08x}"),
        [None, None] => format!("{community}#?{}", ended.ordinal),
    }
}

fn alternatives(ended: &Ended) -> Value {
    let alternatives = ended.alternatives.iter().take(3);
    alternatives
        .map(|other| {
            json!({
                "cause": other.cause.name(),
                "code": other.cause.code(),
                "confidence": rounded(other.confidence),
                "settle": other.settle,
            })
        })
        .collect()
}

fn also(ended: &Ended) -> Value {
    ended
        .also
        .iter()
        .map(|cause| json!({ "cause": cause.name(), "code": cause.code(), "frames": [] }))
        .collect()
}

fn evidence(ended: &Ended) -> Value {
    let evidence = ended.evidence.iter();
    evidence
        .map(|evidence| {
            json!({
                "kind": evidence.kind,
                "frame": evidence.frame,
                "value": evidence.value,
                "expected": null,
                "for": evidence.supports.map(|cause| cause.name()),
                "against": null,
                "text": evidence.text,
            })
        })
        .collect()
}

fn reset(reset: &SeenReset) -> Value {
    json!({
        "frame": null,
        "from": reset.from.name(),
        "shape": if reset.active { "active" } else { "reply" },
        "effect": match reset.accepted {
            Some(true) => "accepted",
            Some(false) => "ignored",
            None => "unseen",
        },
        "role": match (reset.decision, reset.active) {
            (false, _) => "echo",
            (true, true) => "decision",
            (true, false) => "reply",
        },
    })
}

fn icmp(ended: &Ended) -> Value {
    let errors = ended.icmp.iter();
    errors
        .map(|icmp| {
            json!({
                "frame": null,
                "from": icmp.from.to_string(),
                "version": icmp.version,
                "type": icmp.kind,
                "code": icmp.code,
                "text": icmp.text,
            })
        })
        .collect()
}

fn lost(ended: &Ended) -> Value {
    let side = |role: Role| {
        let at = usize::from(role == Role::Server);
        json!({
            "unacked": ended.unacked[at],
            "unread_max": ended.unread[at],
            "request_unanswered": null,
        })
    };
    json!({ "client": side(Role::Client), "server": side(Role::Server) })
}

fn process(owner: &Owner) -> Value {
    json!({
        "pid": owner.pid,
        "comm": &*owner.comm,
        "command": &*owner.command,
        "uid": owner.uid,
        "cgroup": &*owner.cgroup,
        "how": owner.how,
        "killed_by": owner.killed_by,
    })
}

/// The first record: what is watched and by which sources.
#[must_use]
pub fn start(scope: &str, sources: &[Availability], at: Time, calendar: &Calendar) -> Value {
    let sources: Vec<Value> = sources
        .iter()
        .map(|source| {
            json!({
                "source": source.source.name(),
                "open": source.error.is_none(),
                "error": source.error.as_ref().map(ToString::to_string),
                "limit": source.limit,
            })
        })
        .collect();
    json!({ "v": VERSION, "type": "watch", "started": calendar.rfc3339(at), "watched": scope, "sources": sources })
}

/// The last record: all counts.
#[must_use]
pub fn summary(totals: &Totals, open: usize, written: u64) -> Value {
    let causes: Map<String, Value> =
        totals.causes.iter().map(|(cause, &count)| (cause.name().to_owned(), count.into())).collect();
    let severity = |severity: Severity| totals.severities.get(&severity).copied().unwrap_or_default();
    let lost: Map<String, Value> = Source::ALL
        .iter()
        .map(|source| (source.name().to_owned(), lost_by(totals, *source).into()))
        .collect();
    json!({
        "v": VERSION,
        "type": "summary",
        "connections": totals.ended,
        "causes": causes,
        "severities": {
            "harmful": severity(Severity::Harmful),
            "suspicious": severity(Severity::Suspicious),
            "benign": severity(Severity::Benign),
        },
        "rst_frames": totals.resets_seen,
        "resets_sent": totals.resets_sent,
        "listen_overflows": totals.listen_overflows,
        "open": open,
        "evicted": totals.evicted,
        "foreign": totals.foreign,
        "lost": lost,
        "packets_written": written,
    })
}

fn lost_by(totals: &Totals, source: Source) -> u64 {
    totals.lost.get(&source).copied().unwrap_or_default()
}

/// Who ended it, in words, with the local name of the process if it is known.
pub(crate) fn ended_by_words(ended: &Ended) -> String {
    match ended.ended_by {
        EndedBy::Client | EndedBy::Server => format!("by the {}", ended.ended_by.name()),
        EndedBy::Path => "by a device on the path".into(),
        EndedBy::Both => "by both ends".into(),
        EndedBy::Nobody => "by neither end".into(),
        EndedBy::Lastack | EndedBy::Host => format!("by {}", ended.ended_by.noun()),
        _ => "by an unknown party".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_community_id_is_that_of_the_specification() {
        // A pair of its baseline: 128.232.110.120:34855 > 66.35.250.204:80.
        let id = community_id("128.232.110.120:34855".parse().unwrap(), "66.35.250.204:80".parse().unwrap());
        assert_eq!(id, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let back =
            community_id("66.35.250.204:80".parse().unwrap(), "128.232.110.120:34855".parse().unwrap());
        assert_eq!(back, id);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let calendar = Calendar { offset: 1_700_000_000_000_000_000 };
        assert_eq!(calendar.rfc3339(Time(204_000_000)), "2023-11-14T22:13:20.204000Z");
    }
}
