//! A record as a JSON object. `docs/report.md` specifies the fields.

use jiff::Timestamp;
use lastack_engine::Rule;
use serde::Serialize;

use super::record::{Bytes, Datagrams, IcmpSaid, Lost, Question, Rate, Rates, Record};

/// The version of the format: adding a field does not change it; removing, renaming or redefining one does.
pub const VERSION: u8 = 2;

/// A line.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u8,
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// A line of this type.
pub(super) fn line(kind: &str, body: &impl Serialize) -> String {
    // Our own types: text keys, no maps that could fail.
    serde_json::to_string(&Line { v: VERSION, r#type: kind, body })
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// A time in RFC 3339, always with nine fractional digits: such times sort as text.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

#[derive(Serialize)]
struct Connection<'a> {
    proto: super::record::Proto,
    direction: &'static str,
    local: String,
    remote: String,
    remote_ip: String,
    remote_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<&'a str>,
    cause: &'static str,
    code: &'static str,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    also: Option<&'static str>,
    outcome: &'static str,
    by: super::record::By,
    rule: Option<&'static str>,
    rule_code: Option<&'static str>,
    state: Option<String>,
    lost: Lost,
    late: u64,
    #[serde(rename = "octets")]
    bytes: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams: Option<Datagrams>,
    opened: String,
    ended: String,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_received_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<PerSecond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rtt_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retrans: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
    #[serde(skip_serializing_if = "<[Question]>::is_empty")]
    questions: &'a [Question],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    injected: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpSaid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_errno: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl<'a> Connection<'a> {
    fn of(record: &'a Record) -> Self {
        let (verdict, context) = (record.verdict(), &record.context);
        let path = context.path;
        Self {
            proto: record.proto,
            direction: if context.inward { "in" } else { "out" },
            local: record.local.to_string(),
            remote: record.remote.to_string(),
            remote_ip: record.remote.ip().to_string(),
            remote_port: record.remote.port(),
            name: context.name.as_deref(),
            via: record.context.via.as_deref(),
            pid: context.process.as_ref().map(|process| process.pid),
            comm: context.process.as_ref().map(|process| process.comm.as_str()),
            cause: verdict.cause.name(),
            code: verdict.cause.code(),
            severity: verdict.severity.name(),
            also: verdict.also.map(|cause| cause.name()),
            outcome: record.outcome.word(),
            by: record.by,
            rule: record.rule.map(Rule::name),
            rule_code: record.rule.map(Rule::code),
            state: record.state.map(|state| state.to_string()),
            lost: verdict.lost,
            late: verdict.late,
            bytes: record.bytes,
            datagrams: context.datagrams,
            opened: time(record.opened),
            ended: time(record.ended),
            duration_us: micros(record.duration()),
            connect_us: context.connect.map(micros),
            first_received_us: context.first_received.map(micros),
            rate: PerSecond::of(context.rates),
            rtt_us: path.map(|path| micros(path.rtt)),
            min_rtt_us: path.map(|path| micros(path.min_rtt)),
            retrans: path.map(|path| path.retransmitted),
            asked: context.asked.map(|asked| asked.to_string()),
            questions: &context.questions,
            injected: &context.injected,
            denied: context.denied.as_deref(),
            would_deny: context.would_deny.as_deref(),
            capture: context.capture.as_deref(),
            icmp: record.icmp,
            host_errno: record.host_errno.as_deref(),
            note: record.note.as_deref(),
            hint: record.hint.as_deref(),
        }
    }
}

/// Bytes per second; `null` for a direction without a rate.
#[derive(Serialize)]
struct PerSecond {
    sent: Option<u64>,
    received: Option<u64>,
    peak_sent: Option<u64>,
    peak_received: Option<u64>,
}

impl PerSecond {
    fn of(Rates { sent, received }: Rates) -> Option<Self> {
        let mean = |rate: Option<Rate>| rate.map(|rate| rate.mean);
        let peak = |rate: Option<Rate>| rate.map(|rate| rate.peak);
        (sent.is_some() || received.is_some()).then(|| Self {
            sent: mean(sent),
            received: mean(received),
            peak_sent: peak(sent),
            peak_received: peak(received),
        })
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

impl Record {
    /// As a line of JSON.
    pub fn json(&self) -> String {
        line("connection", &Connection::of(self))
    }

    /// As a line for a connection that was opened.
    pub fn json_open(&self) -> String {
        #[derive(Serialize)]
        struct Begun<'a> {
            proto: super::record::Proto,
            direction: &'static str,
            local: String,
            remote: String,
            remote_ip: String,
            remote_port: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            pid: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            comm: Option<&'a str>,
            opened: String,
        }
        let all = Connection::of(self);
        let Connection {
            proto,
            direction,
            local,
            remote,
            remote_ip,
            remote_port,
            name,
            pid,
            comm,
            opened,
            ..
        } = all;
        line(
            "open",
            &Begun { proto, direction, local, remote, remote_ip, remote_port, name, pid, comm, opened },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::record::{Path, Process, tests};
    use super::*;

    #[test]
    fn the_fields_are_those_that_are_promised() {
        let mut record = tests::unreachable();
        record.context.name = Some("db.example".to_owned());
        record.context.process = Some(Process { pid: 123, comm: "curl".to_owned() });
        record.context.connect = Some(Duration::from_micros(80));
        record.context.first_received = Some(Duration::from_millis(90));
        record.context.rates.received = Some(Rate { mean: 1000, peak: 2000 });
        record.context.path = Some(Path {
            rtt: Duration::from_millis(12),
            min_rtt: Duration::from_millis(11),
            retransmitted: 2,
        });
        let json: serde_json::Value = serde_json::from_str(&record.json()).unwrap();
        let expected = serde_json::json!({
            "v": 2, "type": "connection", "proto": "tcp", "direction": "out",
            "local": "10.0.2.100:40000", "remote": "192.0.2.7:80", "remote_ip": "192.0.2.7", "remote_port": 80,
            "name": "db.example", "pid": 123, "comm": "curl",
            "cause": "icmp-host-unreachable", "code": "I03", "severity": "harmful",
            "outcome": "unreachable", "by": "network", "rule": "icmp-ends-attempt", "rule_code": "I1", "state": "SYN-SENT",
            "lost": {"unsent": 0, "unacked": 0, "unread": 0}, "late": 0, "octets": {"sent": 0, "received": 0},
            "opened": "2026-11-22T10:00:00.500000000Z", "ended": "2026-11-22T10:00:01.000000000Z",
            "duration_us": 500_000, "connect_us": 80,
            "first_received_us": 90_000,
            "rate": {"sent": null, "received": 1000, "peak_sent": null, "peak_received": 2000},
            "rtt_us": 12_000, "min_rtt_us": 11_000, "retrans": 2,
            "icmp": {"version": 4, "type": 3, "code": 1, "text": "host unreachable", "from": "192.0.2.1"},
            "host_errno": "EHOSTUNREACH",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn an_address_of_version_6_is_apart_from_its_port() {
        let record = Record { remote: "[fd00::2]:80".parse().unwrap(), ..tests::orderly() };
        let json: serde_json::Value = serde_json::from_str(&record.json_open()).unwrap();
        assert_eq!(
            (&json["type"], &json["remote_ip"], &json["remote_port"]),
            (&"open".into(), &"fd00::2".into(), &80.into())
        );
        assert!(json.get("cause").is_none());
    }
}
