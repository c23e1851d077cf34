//! The JSON records of `lastack explain --json` and `lastack watch --json`: one object a line.

use crate::explainer::{Explained, Flow, IcmpError, Summary};
use crate::packet::{Addr, End, Frame};
use crate::pattern::Group;
use crate::read::FileFacts;
use crate::track::Shape;
use crate::verdict::{Device, Evidence, Lost, Verdict};
use lastack_causes::EndedBy;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The version of the schema.
pub const VERSION: u8 = 1;

/// Makes records of verdicts: how times and frames are written, and what is hidden.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// The names of the files, if there are several.
    pub files: Vec<String>,
    /// Digits of a second.
    pub digits: u8,
    /// Addresses are replaced.
    pub anonymize: bool,
    /// Application data is left out.
    pub redact: bool,
}

/// A frame: its number, or `file:number` with several files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameRef {
    /// Of the only file.
    Number(u64),
    /// Of one of several.
    InFile(String),
}

impl Serialize for FrameRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::InFile(name) => serializer.serialize_str(name),
        }
    }
}

impl std::fmt::Display for FrameRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::InFile(name) => f.write_str(name),
        }
    }
}

/// A number with two digits.
fn hundredths(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

#[derive(Serialize)]
struct Frames {
    first: FrameRef,
    last: FrameRef,
    count: u64,
    decisive: Vec<FrameRef>,
}

#[derive(Serialize)]
struct Bytes {
    client: u64,
    server: u64,
}

#[derive(Serialize)]
struct AlternativeRecord {
    cause: &'static str,
    code: &'static str,
    confidence: f64,
    settle: &'static str,
}

#[derive(Serialize)]
struct AlsoRecord {
    cause: &'static str,
    code: &'static str,
    frames: Vec<FrameRef>,
}

#[derive(Serialize)]
struct EvidenceRecord {
    kind: &'static str,
    frame: Option<FrameRef>,
    value: String,
    expected: Option<String>,
    #[serde(rename = "for")]
    speaks_for: Option<&'static str>,
    against: Option<&'static str>,
    text: String,
}

#[derive(Serialize)]
struct ResetRecord {
    frame: FrameRef,
    from: &'static str,
    shape: &'static str,
    effect: &'static str,
    role: &'static str,
}

#[derive(Serialize)]
struct IcmpRecord {
    frame: FrameRef,
    from: String,
    version: u8,
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    text: String,
}

#[derive(Serialize)]
struct DeclaredRecord {
    source: &'static str,
    frame: FrameRef,
    text: String,
    code: Option<String>,
}

#[derive(Serialize)]
struct LostRecord {
    unacked: u64,
    unread_max: u64,
    request_unanswered: bool,
}

#[derive(Serialize)]
struct LostOfBoth {
    client: LostRecord,
    server: LostRecord,
}

#[derive(Serialize)]
struct PathRecord {
    ttl: Option<u8>,
    hops: Option<u8>,
    address: Option<String>,
}

/// The ends of a connection in another capture, behind a NAT.
#[derive(Serialize)]
struct TranslatedRecord {
    client: String,
    server: String,
}

/// A connection's record.
#[derive(Serialize)]
pub struct ConnectionRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    proto: &'static str,
    id: String,
    client: String,
    server: String,
    roles: &'static str,
    started: String,
    ended: String,
    #[serde(rename = "octets")]
    bytes: Bytes,
    idle: f64,
    frames: Frames,
    cause: &'static str,
    code: &'static str,
    confidence: f64,
    ended_by: &'static str,
    ended_by_confidence: f64,
    path: Option<PathRecord>,
    severity: &'static str,
    alternatives: Vec<AlternativeRecord>,
    also: Vec<AlsoRecord>,
    evidence: Vec<EvidenceRecord>,
    rst_frames: Vec<ResetRecord>,
    icmp: Vec<IcmpRecord>,
    declared: Vec<DeclaredRecord>,
    lost: LostOfBoth,
    rules: Vec<&'static str>,
    advice: String,
    limits: Vec<String>,
    tunnel: Option<String>,
    translated: Option<TranslatedRecord>,
    kernel: Vec<String>,
}

/// An ICMP error's record.
#[derive(Serialize)]
pub struct IcmpErrorRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    proto: String,
    client: String,
    server: String,
    started: String,
    ended: String,
    count: u64,
    cause: &'static str,
    code: &'static str,
    confidence: f64,
    ended_by: &'static str,
    severity: &'static str,
    path: Option<PathRecord>,
    icmp: Vec<IcmpRecord>,
    advice: &'static str,
    limits: Vec<&'static str>,
}

/// The record of a flow of datagrams.
#[derive(Serialize)]
pub struct FlowRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    proto: &'static str,
    client: String,
    server: String,
    ended: String,
    cause: &'static str,
    code: &'static str,
    confidence: f64,
    ended_by: &'static str,
    severity: &'static str,
    text: String,
    advice: &'static str,
}

/// A group's record.
#[derive(Serialize)]
pub struct GroupRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    cause: &'static str,
    code: &'static str,
    server: String,
    count: u64,
    first: String,
    last: String,
    ended_by: &'static str,
    fact: String,
    ids: Vec<String>,
}

/// A file's record.
#[derive(Serialize)]
pub struct FileRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    format: String,
    linktypes: Vec<u16>,
    packets: u64,
    vantage: &'static str,
    clock: String,
    warnings: Vec<String>,
}

/// The last record.
#[derive(Serialize)]
pub struct SummaryRecord {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    packets: u64,
    connections: u64,
    causes: BTreeMap<&'static str, u64>,
    severities: BTreeMap<&'static str, u64>,
    rst_frames: u64,
    rst_explained: u64,
    evicted: u64,
    unread_packets: u64,
    #[serde(rename = "unread_octets")]
    unread_bytes: u64,
    warnings: Vec<String>,
}

fn lost(lost: Lost) -> LostRecord {
    LostRecord {
        unacked: lost.unacked,
        unread_max: lost.unread_max,
        request_unanswered: lost.request_unanswered,
    }
}

fn alternatives(verdict: &Verdict) -> Vec<AlternativeRecord> {
    let record = verdict.alternatives.iter().map(|alternative| AlternativeRecord {
        cause: alternative.cause.name(),
        code: alternative.cause.code(),
        confidence: hundredths(alternative.confidence),
        settle: alternative.settle,
    });
    record.collect()
}

impl Writer {
    /// A frame as it is written.
    #[must_use]
    pub fn frame(&self, frame: Frame) -> FrameRef {
        match self.files.get(usize::from(frame.file())) {
            Some(name) if self.files.len() > 1 => FrameRef::InFile(format!("{name}:{}", frame.number())),
            _ => FrameRef::Number(frame.number()),
        }
    }

    fn list(&self, frames: &[Frame]) -> Vec<FrameRef> {
        frames.iter().map(|frame| self.frame(*frame)).collect()
    }

    /// A time in RFC 3339 with the file's precision.
    #[must_use]
    pub fn time(&self, nanoseconds: i64) -> String {
        let time = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
        match self.digits {
            0..=3 => format!("{time:.3}"),
            4..=6 => format!("{time:.6}"),
            _ => format!("{time:.9}"),
        }
    }

    /// An address, or what stands for it.
    #[must_use]
    pub fn address(&self, addr: Addr) -> String {
        if self.anonymize { crate::render::pseudonym(addr).to_string() } else { addr.to_string() }
    }

    /// An address and a port.
    #[must_use]
    pub fn endpoint(&self, end: crate::packet::Endpoint) -> String {
        if self.anonymize {
            crate::packet::Endpoint { addr: crate::render::pseudonym(end.addr), port: end.port }.to_string()
        } else {
            end.to_string()
        }
    }

    /// An identifier, which is made of addresses.
    #[must_use]
    pub fn id(&self, explained: &Explained) -> String {
        if !self.anonymize {
            return explained.id();
        }
        let hide = |end: crate::packet::Endpoint| crate::packet::Endpoint {
            addr: crate::render::pseudonym(end.addr),
            port: end.port,
        };
        let [a, b] = [hide(explained.conn.sides[0].at), hide(explained.conn.sides[1].at)];
        let id = explained.id();
        let tail = id.split_once('#').map_or("", |(_, tail)| tail);
        format!("{}#{tail}", crate::id::community_id(a, b, 6))
    }

    /// An address that is given as text.
    pub(crate) fn named(&self, address: &str) -> String {
        match address.parse::<std::net::IpAddr>() {
            Ok(ip) if self.anonymize => self.address(ip.into()),
            _ => address.into(),
        }
    }

    fn path(&self, device: &Device) -> PathRecord {
        let address = device.address.as_ref().map(|address| self.named(address));
        PathRecord { ttl: device.ttl, hops: device.hops, address }
    }

    fn evidence(&self, evidence: &Evidence) -> EvidenceRecord {
        EvidenceRecord {
            kind: evidence.kind.name(),
            frame: evidence.frame.map(|frame| self.frame(frame)),
            value: evidence.value.clone(),
            expected: evidence.expected.clone().filter(|expected| !expected.is_empty()),
            speaks_for: evidence.speaks_for.map(|cause| cause.name()),
            against: evidence.against.map(|cause| cause.name()),
            text: self.hide_addresses(&evidence.text),
        }
    }

    /// An ICMP evidence names its sender.
    pub(crate) fn hide_addresses(&self, text: &str) -> String {
        match text.split_once(" says: ") {
            Some((from, rest)) if self.anonymize => match from.parse::<std::net::IpAddr>() {
                Ok(ip) => format!("{} says: {rest}", self.address(ip.into())),
                Err(_) => text.into(),
            },
            _ => text.into(),
        }
    }

    /// The record of a connection.
    #[must_use]
    pub fn connection(&self, explained: &Explained, kernel: &[String]) -> ConnectionRecord {
        let (conn, verdict) = (&explained.conn, &explained.verdict);
        let client = usize::from(verdict.client);
        ConnectionRecord {
            v: VERSION,
            kind: "connection",
            proto: "tcp",
            id: self.id(explained),
            client: self.endpoint(explained.client()),
            server: self.endpoint(explained.server()),
            roles: if verdict.roles_known { "syn" } else { "guessed" },
            started: self.time(conn.first.0),
            ended: self.time(conn.last.0),
            bytes: Bytes { client: conn.sides[client].bytes, server: conn.sides[1 - client].bytes },
            idle: (verdict.idle * 1e6).round() / 1e6,
            frames: Frames {
                first: self.frame(conn.first.1),
                last: self.frame(conn.last.1),
                count: conn.packets,
                decisive: self.list(&verdict.decisive),
            },
            cause: verdict.cause.name(),
            code: verdict.cause.code(),
            confidence: hundredths(verdict.confidence),
            ended_by: verdict.ended_by.name(),
            ended_by_confidence: hundredths(verdict.ended_by_confidence),
            path: verdict.device.as_ref().map(|device| self.path(device)),
            severity: verdict.severity.name(),
            alternatives: alternatives(verdict),
            also: self.also(verdict),
            evidence: verdict.evidence.iter().map(|evidence| self.evidence(evidence)).collect(),
            rst_frames: self.resets(explained),
            icmp: conn.icmp.iter().map(|icmp| self.icmp(icmp)).collect(),
            declared: self.declared(explained),
            lost: LostOfBoth { client: lost(verdict.lost[0]), server: lost(verdict.lost[1]) },
            rules: verdict.rules.clone(),
            advice: verdict.advice.clone().unwrap_or_else(|| verdict.cause.advice().into()),
            limits: verdict.limits.clone(),
            tunnel: conn.tunnel.is_some().then(|| self.tunnel(&conn.tunnel.to_string())),
            translated: explained
                .translated()
                .map(|(a, b)| TranslatedRecord { client: self.endpoint(a), server: self.endpoint(b) }),
            kernel: kernel.to_vec(),
        }
    }

    fn also(&self, verdict: &Verdict) -> Vec<AlsoRecord> {
        let also = verdict.also.iter().map(|also| AlsoRecord {
            cause: also.cause.name(),
            code: also.cause.code(),
            frames: self.list(&also.frames),
        });
        also.collect()
    }

    fn resets(&self, explained: &Explained) -> Vec<ResetRecord> {
        let resets = explained.conn.resets.iter().zip(&explained.verdict.roles);
        let record = resets.map(|(reset, role)| ResetRecord {
            frame: self.frame(reset.pkt.frame),
            from: if reset.pkt.side == explained.verdict.client { End::Client } else { End::Server }.name(),
            shape: match reset.shape {
                Shape::Active => "active",
                Shape::Reply => "reply",
            },
            effect: reset.effect.name(),
            role: role.name(),
        });
        record.collect()
    }

    fn tunnel(&self, text: &str) -> String {
        if self.anonymize { text.split(" between ").next().unwrap_or_default().into() } else { text.into() }
    }

    fn declared(&self, explained: &Explained) -> Vec<DeclaredRecord> {
        let said = |(said, frame): &(crate::Declared, Frame)| DeclaredRecord {
            source: said.source,
            frame: self.frame(*frame),
            text: if self.redact && matches!(said.source, "application" | "text") {
                format!("({} bytes, left out)", said.text.len())
            } else {
                said.text.clone()
            },
            code: said.code.clone(),
        };
        explained.verdict.declared.iter().map(said).collect()
    }

    fn icmp(&self, icmp: &crate::icmp::IcmpSeen) -> IcmpRecord {
        IcmpRecord {
            frame: self.frame(icmp.frame),
            from: self.address(icmp.from),
            version: icmp.version,
            kind: icmp.kind,
            code: icmp.code,
            text: icmp.text(),
        }
    }

    /// The record of an ICMP error that belongs to no connection.
    #[must_use]
    pub fn icmp_error(&self, error: &IcmpError) -> IcmpErrorRecord {
        let seen = &error.seen;
        let cause = seen.cause();
        let target = seen.is_from_target();
        let device = Device { ttl: Some(seen.ttl), hops: None, address: Some(seen.from.to_string()) };
        let stated = error.stated.as_ref();
        let cause = stated.map_or(cause, |stated| stated.cause);
        let by =
            stated.map_or(if target { EndedBy::Server } else { EndedBy::Path }, |stated| stated.ended_by);
        let doubtful = error.unmatched && stated.is_none();
        IcmpErrorRecord {
            v: VERSION,
            kind: "icmp",
            proto: seen.quoted.protocol_name(),
            client: self.endpoint(seen.quoted.src),
            server: self.endpoint(seen.quoted.dst),
            started: self.time(seen.time),
            ended: self.time(error.last),
            count: error.count,
            cause: cause.name(),
            code: cause.code(),
            confidence: match stated {
                Some(_) => 0.99,
                None if doubtful => 0.5,
                None => 0.9,
            },
            ended_by: by.name(),
            severity: stated.map_or(cause.severity(), |stated| stated.severity).name(),
            path: (by == EndedBy::Path).then(|| self.path(&device)),
            icmp: vec![self.icmp(seen)],
            advice: cause.advice(),
            limits: if doubtful {
                vec!["the quoted segment belongs to no connection in this capture, or the message is forged"]
            } else {
                Vec::new()
            },
        }
    }

    /// The record of a flow of datagrams whose end is stated.
    #[must_use]
    pub fn flow(&self, flow: &Flow) -> FlowRecord {
        let stated = &flow.stated;
        FlowRecord {
            v: VERSION,
            kind: "flow",
            proto: "udp",
            client: self.endpoint(flow.client),
            server: self.endpoint(flow.server),
            ended: self.time(flow.time),
            cause: stated.cause.name(),
            code: stated.cause.code(),
            confidence: 0.99,
            ended_by: stated.ended_by.name(),
            severity: stated.severity.name(),
            text: if self.anonymize { String::new() } else { stated.text.clone() },
            advice: stated.cause.advice(),
        }
    }

    /// The record of a group.
    #[must_use]
    pub fn group(&self, group: &Group) -> GroupRecord {
        GroupRecord {
            v: VERSION,
            kind: "group",
            cause: group.cause.name(),
            code: group.cause.code(),
            server: self.endpoint(group.server),
            count: group.count,
            first: self.time(group.first),
            last: self.time(group.last),
            ended_by: group.ended_by.name(),
            fact: group.fact.clone(),
            ids: if self.anonymize { Vec::new() } else { group.ids.clone() },
        }
    }

    /// The record of a file.
    #[must_use]
    pub fn file(&self, facts: &FileFacts, vantage: &'static str) -> FileRecord {
        let clock = match (facts.untimed, facts.backwards) {
            (0, 0) => "in order".into(),
            (0, n) => format!("runs backwards {n} times"),
            (n, _) if n == facts.packets => "none".into(),
            (n, _) => format!("{n} packets without a time"),
        };
        FileRecord {
            v: VERSION,
            kind: "file",
            name: facts.name.clone(),
            format: facts.format.clone(),
            linktypes: facts.links.clone(),
            packets: facts.packets,
            vantage,
            clock,
            warnings: facts.warnings.clone(),
        }
    }

    /// The last record.
    #[must_use]
    pub fn summary(&self, summary: &Summary, warnings: Vec<String>) -> SummaryRecord {
        SummaryRecord {
            v: VERSION,
            kind: "summary",
            packets: summary.packets,
            connections: summary.connections,
            causes: summary.causes.iter().map(|(cause, count)| (cause.name(), *count)).collect(),
            severities: summary
                .severities
                .iter()
                .map(|(severity, count)| (severity.name(), *count))
                .collect(),
            rst_frames: summary.rst_frames,
            rst_explained: summary.rst_explained,
            evicted: summary.evicted,
            unread_packets: summary.unread_packets,
            unread_bytes: summary.cut_bytes,
            warnings,
        }
    }
}
