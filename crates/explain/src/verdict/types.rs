//! A verdict and its parts.

use crate::declared::Declared;
use crate::packet::{Endpoint, Frame};
use lastack_causes::{Cause, EndedBy, Severity};

/// What kind of observation an evidence is. Their names are a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The shape of the reset.
    Shape,
    /// Sequence number.
    Seq,
    /// Acknowledgment number.
    Ack,
    /// Window.
    Window,
    /// Hop limit.
    Ttl,
    /// IP identification.
    IpId,
    /// Timestamps.
    Timestamps,
    /// Time since the trigger.
    Delay,
    /// Time without traffic.
    Idle,
    /// Data that was probably not read.
    Unread,
    /// Data that was not acknowledged.
    Unacked,
    /// What the reset answers.
    Trigger,
    /// What came after the reset.
    AfterReset,
    /// Several resets for one trigger.
    Copies,
    /// Payload of the reset, or of the connection.
    Payload,
    /// Other connections.
    Pattern,
    /// A FIN of the other end.
    PeerFin,
    /// The handshake.
    Handshake,
    /// Retransmissions.
    Retransmissions,
    /// Probes.
    Probes,
    /// An ICMP error.
    Icmp,
    /// The kernel's own word.
    Kernel,
    /// A packet comment of the stack that wrote the capture.
    Comment,
    /// What another capture of the same connection has, or lacks.
    Vantage,
}

impl Kind {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Seq => "seq",
            Self::Ack => "ack",
            Self::Window => "window",
            Self::Ttl => "ttl",
            Self::IpId => "ipid",
            Self::Timestamps => "timestamps",
            Self::Delay => "delay",
            Self::Idle => "idle",
            Self::Unread => "unread",
            Self::Unacked => "unacked",
            Self::Trigger => "trigger",
            Self::AfterReset => "after-reset",
            Self::Copies => "copies",
            Self::Payload => "payload",
            Self::Pattern => "pattern",
            Self::PeerFin => "peer-fin",
            Self::Handshake => "handshake",
            Self::Retransmissions => "retransmissions",
            Self::Probes => "probes",
            Self::Icmp => "icmp",
            Self::Kernel => "kernel",
            Self::Comment => "comment",
            Self::Vantage => "vantage",
        }
    }
}

/// An observation that supports or contradicts a cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What kind.
    pub kind: Kind,
    /// Where it can be seen.
    pub frame: Option<Frame>,
    /// The observed value.
    pub value: String,
    /// The usual value, if that is informative.
    pub expected: Option<String>,
    /// The cause that it supports.
    pub speaks_for: Option<Cause>,
    /// The cause that it contradicts.
    pub against: Option<Cause>,
    /// In words.
    pub text: String,
}

/// Another cause that fits, and the observation that would settle it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternative {
    /// The cause.
    pub cause: Cause,
    /// How likely it is.
    pub confidence: f32,
    /// The observation that would settle it.
    pub settle: &'static str,
}

/// A further cause that applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Also {
    /// The mechanism, an earlier stage, or a declared reason.
    pub cause: Cause,
    /// Where it can be seen.
    pub frames: Vec<Frame>,
}

/// The role of a reset in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the decision that ended the connection.
    Decision,
    /// It answers a segment, because of a decision before or a lost state.
    Reply,
    /// It came after the end.
    Echo,
    /// A third party made it.
    Injected,
    /// The same packet was captured before.
    Copy,
}

impl Role {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Reply => "reply",
            Self::Echo => "echo",
            Self::Injected => "injected",
            Self::Copy => "copy",
        }
    }
}

/// Data that was lost at one end, or may have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes that it sent and that were not acknowledged.
    pub unacked: u64,
    /// Max number of bytes that it received and may not have read.
    pub unread_max: u64,
    /// Its request had no answer.
    pub request_unanswered: bool,
}

/// A device on the path, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The hop limit of its packets.
    pub ttl: Option<u8>,
    /// How many hops away it is, if the hop limit shows it.
    pub hops: Option<u8>,
    /// Its address, if an ICMP error shows it.
    pub address: Option<String>,
}

/// Who ended a connection and why.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Why.
    pub cause: Cause,
    /// How sure that is, from 0 to 1.
    pub confidence: f32,
    /// Who.
    pub ended_by: EndedBy,
    /// How sure that is.
    pub ended_by_confidence: f32,
    /// How much it matters.
    pub severity: Severity,
    /// Which side of the connection is the client.
    pub client: u8,
    /// Whether a SYN shows it.
    pub roles_known: bool,
    /// Up to three others, the likelier first.
    pub alternatives: Vec<Alternative>,
    /// Further causes that apply.
    pub also: Vec<Also>,
    /// The evidence, the strongest first.
    pub evidence: Vec<Evidence>,
    /// The packets that decide.
    pub decisive: Vec<Frame>,
    /// The role of each reset.
    pub roles: Vec<Role>,
    /// The reasons that resets and programs state.
    pub declared: Vec<(Declared, Frame)>,
    /// Seconds without traffic before the end.
    pub idle: f64,
    /// Lost at the client, and at the server.
    pub lost: [Lost; 2],
    /// Rules of the stack's catalogue.
    pub rules: Vec<&'static str>,
    /// Observations that the capture cannot have.
    pub limits: Vec<String>,
    /// A device that had a part in it.
    pub device: Option<Device>,
    /// What to do, if it is more than the vocabulary's advice.
    pub advice: Option<String>,
}

/// A place that many connections share: for groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The cause.
    pub cause: Cause,
    /// The server.
    pub server: Endpoint,
}
