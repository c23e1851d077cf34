//! The output of `lastack lab --json`: one line per event. Times are in seconds.

use lastack_engine::{Cause, Ended, EndedBy, Instant, Origin, Rule, Verdict};
use lastack_lab::{Played, SCENARIOS, Scenario};
use lastack_sim::decode::{Decoded, Decoder, Segment};
use lastack_sim::trace::{Entry, Fate, HostId, PacketKind, PacketRecord, Trace, What};
use serde::Serialize;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    scenario: &'a str,
    #[serde(flatten)]
    what: Event<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    Scenario { summary: &'a str, topic: &'a str, reference: &'a str },
    Host { host: &'a str, address: IpAddr, ours: bool },
    Packet(Packet<'a>),
    State { time: f64, host: &'a str, local: SocketAddr, remote: SocketAddr, state: String },
    Application { time: f64, host: &'a str, text: &'a str },
    Restart { time: f64, host: &'a str },
    Path { time: f64, cut: bool },
    End(End<'a>),
    Result { as_stated: bool, differences: &'a [String] },
}

#[derive(Serialize)]
struct Packet<'a> {
    time: f64,
    from: &'a str,
    to: Option<&'a str>,
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    kind: &'static str,
    /// The rule by which it was sent.
    rule: Option<&'static str>,
    rule_code: Option<&'static str>,
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrived: Option<f64>,
    /// The verdict of its receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict_rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict_rule_code: Option<&'static str>,
    #[serde(rename = "octets")]
    bytes: usize,
}

#[derive(Serialize)]
struct Tcp {
    flags: String,
    seq: i64,
    ack: Option<i64>,
    len: usize,
}

#[derive(Serialize)]
struct End<'a> {
    time: f64,
    host: &'a str,
    proto: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    origin: &'static str,
    cause: &'static str,
    by: &'static str,
    rule: &'static str,
    rule_code: &'static str,
    state: String,
    lost: Lost,
    #[serde(rename = "octets")]
    bytes: Bytes,
    opened: f64,
    ended: f64,
    sentence: String,
}

#[derive(Serialize)]
struct Lost {
    unsent: u64,
    unacked: u64,
    unread: u64,
}

#[derive(Serialize)]
struct Bytes {
    sent: u64,
    received: u64,
}

/// The list of scenarios.
pub(super) fn list(out: &mut impl Write) -> io::Result<()> {
    SCENARIOS.iter().try_for_each(|scenario| line(out, scenario, heading(scenario)))
}

/// The result of a scenario.
pub(super) fn played(out: &mut impl Write, played: &Played) -> io::Result<()> {
    let Played { scenario, trace, differences } = played;
    line(out, scenario, heading(scenario))?;
    for host in &trace.hosts {
        line(out, scenario, Event::Host { host: &host.name, address: host.address, ours: host.ours })?;
    }
    let mut decoder = Decoder::default();
    for entry in &trace.entries {
        if let Some(event) = event(trace, entry, &mut decoder) {
            line(out, scenario, event)?;
        }
    }
    line(out, scenario, Event::Result { as_stated: differences.is_empty(), differences })
}

fn heading(scenario: &Scenario) -> Event<'static> {
    let Scenario { summary, topic, reference, .. } = scenario;
    Event::Scenario { summary, topic: topic.heading(), reference }
}

fn line(out: &mut impl Write, scenario: &Scenario, what: Event<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Record { v: VERSION, scenario: scenario.name, what })?;
    out.write_all(b"\n")
}

fn seconds(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e9
}

fn name(trace: &Trace, host: HostId) -> &str {
    &trace.hosts[host.index()].name
}

fn event<'a>(trace: &'a Trace, entry: &'a Entry, decoder: &mut Decoder) -> Option<Event<'a>> {
    let (time, host) = (seconds(entry.at), name(trace, entry.host));
    Some(match &entry.what {
        What::Sent(index) => Event::Packet(packet(trace, &trace.packets[*index], decoder)),
        What::Arrived(_) => return None,
        What::State { flow, state } => {
            Event::State { time, host, local: flow.local, remote: flow.remote, state: state.to_string() }
        }
        What::Application(text) => Event::Application { time, host, text },
        What::Restarted => Event::Restart { time, host },
        What::Path { cut } => Event::Path { time, cut: *cut },
        What::Ended(ended) => Event::End(end(time, host, ended)),
    })
}

fn packet<'a>(trace: &'a Trace, record: &PacketRecord, decoder: &mut Decoder) -> Packet<'a> {
    let decoded = decoder.read(record);
    let (fate, arrived, verdict) = match record.fate {
        Fate::InFlight => ("in flight", None, None),
        Fate::Lost(_) => ("lost", None, None),
        Fate::Delivered { at, verdict } => ("delivered", Some(seconds(at)), verdict),
    };
    Packet {
        time: seconds(record.sent),
        from: name(trace, record.from),
        to: record.to.map(|to| name(trace, to)),
        summary: decoded.to_string(),
        tcp: match &decoded {
            Decoded::Tcp(segment) => Some(tcp(segment)),
            _ => None,
        },
        kind: match record.kind {
            PacketKind::Sent => "sent",
            PacketKind::Damaged => "damaged",
            PacketKind::Copy => "copy",
            PacketKind::Forged => "forged",
            PacketKind::Router => "router",
        },
        rule: record.transmit.rule.map(Rule::name),
        rule_code: record.transmit.rule.map(Rule::code),
        fate,
        arrived,
        verdict: verdict.as_ref().map(Verdict::to_string),
        verdict_rule: verdict.and_then(Verdict::rule).map(Rule::name),
        verdict_rule_code: verdict.and_then(Verdict::rule).map(Rule::code),
        bytes: record.bytes.len(),
    }
}

fn tcp(segment: &Segment) -> Tcp {
    let ack = segment.ack.map(|ack| ack.relative);
    Tcp { flags: segment.flags.to_string(), seq: segment.seq.relative, ack, len: segment.len }
}

fn end<'a>(time: f64, host: &'a str, ended: &Ended) -> End<'a> {
    let end = &ended.end;
    End {
        time,
        host,
        proto: "tcp",
        local: ended.flow.local,
        remote: ended.flow.remote,
        origin: match ended.origin {
            Origin::Active => "active",
            Origin::Passive => "passive",
        },
        cause: cause(end.cause),
        by: match end.by {
            EndedBy::Application => "application",
            EndedBy::Administrator => "administrator",
            EndedBy::Stack => "stack",
            EndedBy::Peer => "peer",
            EndedBy::Network(_) => "network",
        },
        rule: end.rule.name(),
        rule_code: end.rule.code(),
        state: end.state.to_string(),
        lost: Lost { unsent: end.lost.unsent, unacked: end.lost.unacked, unread: end.lost.unread },
        bytes: Bytes { sent: ended.bytes.sent, received: ended.bytes.received },
        opened: seconds(ended.opened),
        ended: seconds(end.at),
        sentence: end.to_string(),
    }
}

/// The cause in one word, as in the reports of `lastack run`.
fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Orderly => "orderly",
        Cause::Refused => "refused",
        Cause::Reset => "reset",
        Cause::Aborted => "aborted",
        Cause::TimedOut(_) => "timed-out",
        Cause::Unreachable(_) => "unreachable",
        _ => "other",
    }
}
