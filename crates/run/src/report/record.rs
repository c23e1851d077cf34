//! The record of one connection or flow, as the program in front of it saw it.

use std::net::{IpAddr, SocketAddr};

use jiff::{SignedDuration, Timestamp};
use lastack_engine::{End, Ended, Instant, OpenConnection, Party, Rule, TcpState};
use lastack_wire::icmp::IcmpError;
use serde::{Serialize, Serializer};

/// One line of a report: both sides of a relayed connection, joined.
///
/// Everything is said from the side of the program that runs: `local` is the program's end, `sent` is what it sent.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Of what protocol.
    pub proto: Proto,
    /// The program's end.
    pub local: SocketAddr,
    /// Whom the program wanted to reach.
    pub remote: SocketAddr,
    /// How it ended.
    pub cause: Cause,
    /// Who ended it.
    pub by: By,
    /// The rule by which it ended: of whoever refused or closed it, else the rule by which a reset, an ICMP error or a
    /// timer ended it. `None` if it has not ended.
    #[serde(serialize_with = "rule_id")]
    pub rule: Option<Rule>,
    /// The state of the program's end when it ended, as far as what both sides sent tells.
    #[serde(serialize_with = "display_state")]
    pub state: Option<TcpState>,
    /// What did not arrive.
    pub lost: Lost,
    /// What arrived.
    pub octets: Octets,
    /// When the first packet came.
    #[serde(serialize_with = "display")]
    pub opened: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "display")]
    pub ended: Timestamp,
    /// The ICMP error that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpSaid>,
    /// The errno of the host's socket, if one came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_errno: Option<String>,
    /// What else is known of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What to do for another outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP; a flow is what goes between two sockets until nothing has gone for a while.
    Udp,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Both directions ended with FIN, and all octets arrived.
    Orderly,
    /// Somebody said that nobody is there.
    Refused,
    /// A reset came from the other side.
    Reset,
    /// The program, or lastack for it, gave it up with a reset.
    Aborted,
    /// No answer came in time.
    TimedOut,
    /// Somebody said that the remote cannot be reached.
    Unreachable,
    /// It had not ended when the program did.
    Open,
    /// A flow without an end of its own.
    Idle,
}

impl Cause {
    /// Whether it is how connections are meant to go.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Orderly | Self::Idle)
    }

    /// As in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Orderly => "orderly",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Open => "open",
            Self::Idle => "idle",
        }
    }
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The program that runs. For an orderly end: it closed first.
    Program,
    /// The remote. For an orderly end: it closed first.
    Remote,
    /// A router or host on the way, with an ICMP error.
    Network,
    /// This host's kernel: no route, or a rule of its own.
    Host,
    /// lastack, by a rule of the run.
    Lastack,
    /// Nobody: silence, or it has not ended.
    Nobody,
}

/// An ICMP error and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpSaid {
    /// What it says.
    pub error: IcmpError,
    /// Who says so, if that is known.
    pub from: Option<IpAddr>,
}

impl Serialize for IcmpSaid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Said {
            version: u8,
            r#type: u8,
            code: u8,
            text: &'static str,
            from: Option<IpAddr>,
        }
        let Self { error, from } = *self;
        let version = if error.v6 { 6 } else { 4 };
        Said { version, r#type: error.kind, code: error.code, text: error.describe(), from }
            .serialize(serializer)
    }
}

/// Octets that did not arrive, both directions joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The program sent them, and they never left for the remote.
    pub unsent: u64,
    /// The program sent them, and the remote did not acknowledge them: it may have them or not.
    pub unacked: u64,
    /// The remote sent them, and the program's side never took them.
    pub unread: u64,
}

impl Lost {
    /// All.
    pub fn total(self) -> u64 {
        self.unsent + self.unacked + self.unread
    }
}

/// Octets that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Octets {
    /// From the program, acknowledged by the remote.
    pub sent: u64,
    /// From the remote, acknowledged by the program's side.
    pub received: u64,
}

impl Record {
    /// Of a connection of a stack of our own, seen from there; `zero` is the time of the stack's zero.
    pub fn of_ours(ended: &Ended, zero: Timestamp) -> Self {
        let Ended { flow, opened, octets, end, .. } = ended;
        let (cause, icmp) = Cause::of(end);
        let icmp = icmp.map(|error| {
            let from = if let Party::Network(from) = end.by { Some(from) } else { None };
            IcmpSaid { error, from }
        });
        Self {
            proto: Proto::Tcp,
            local: flow.local,
            remote: flow.remote,
            cause,
            by: match end.by {
                Party::Application | Party::Administrator | Party::Stack => By::Lastack,
                Party::Peer => By::Remote,
                Party::Network(_) => By::Network,
            },
            rule: Some(end.rule),
            state: Some(end.state),
            lost: Lost { unsent: end.lost.unsent, unacked: end.lost.unacked, unread: end.lost.unread },
            octets: Octets { sent: octets.sent, received: octets.received },
            opened: at(zero, *opened),
            ended: at(zero, end.at),
            icmp,
            host_errno: None,
            note: end.inferred.map(|inferred| inferred.to_string()),
            hint: None,
        }
    }

    /// Of a connection of a stack of our own that has not ended by `now`.
    pub fn of_open(open: &OpenConnection, now: Instant, zero: Timestamp) -> Self {
        Self {
            proto: Proto::Tcp,
            local: open.flow.local,
            remote: open.flow.remote,
            cause: Cause::Open,
            by: By::Nobody,
            rule: None,
            state: Some(open.state),
            lost: Lost::default(),
            octets: Octets { sent: open.octets.sent, received: open.octets.received },
            opened: at(zero, open.opened),
            ended: at(zero, now),
            icmp: None,
            host_errno: None,
            note: None,
            hint: None,
        }
    }

    /// As a line of JSON.
    pub fn json(&self) -> String {
        super::writer::json("connection", self)
    }
}

/// A time of a stack whose zero was at `zero`.
fn at(zero: Timestamp, instant: Instant) -> Timestamp {
    SignedDuration::try_from(instant.elapsed())
        .map_or(zero, |elapsed| zero.saturating_add(elapsed).unwrap_or(zero))
}

impl Cause {
    /// As the engine says it.
    fn of(end: &End) -> (Self, Option<IcmpError>) {
        match end.cause {
            lastack_engine::Cause::Orderly => (Self::Orderly, None),
            lastack_engine::Cause::Refused => (Self::Refused, None),
            lastack_engine::Cause::Reset => (Self::Reset, None),
            lastack_engine::Cause::TimedOut(_) => (Self::TimedOut, None),
            lastack_engine::Cause::Unreachable(error) => (Self::Unreachable, Some(error)),
            _ => (Self::Aborted, None),
        }
    }
}

/// The state of the program's end that goes with the state of ours, which faces it.
///
/// What is on its way between the two is taken for not yet arrived.
pub fn facing(ours: TcpState) -> TcpState {
    match ours {
        TcpState::SynReceived => TcpState::SynSent,
        // We have its FIN, and acknowledged it.
        TcpState::CloseWait | TcpState::LastAck => TcpState::FinWait2,
        // Our FIN is unacknowledged ..
        TcpState::FinWait1 => TcpState::Established,
        // .. and acknowledged.
        TcpState::FinWait2 => TcpState::CloseWait,
        TcpState::TimeWait => TcpState::LastAck,
        same => same,
    }
}

fn display<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn display_state<S: Serializer>(state: &Option<TcpState>, serializer: S) -> Result<S::Ok, S::Error> {
    state.map(|state| state.to_string()).serialize(serializer)
}

fn rule_id<S: Serializer>(rule: &Option<Rule>, serializer: S) -> Result<S::Ok, S::Error> {
    rule.map(Rule::code).serialize(serializer)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A connection that ended well.
    pub fn orderly() -> Record {
        Record {
            proto: Proto::Tcp,
            local: "10.0.2.100:40000".parse().unwrap(),
            remote: "192.0.2.7:80".parse().unwrap(),
            cause: Cause::Orderly,
            by: By::Remote,
            rule: Some(Rule::EndOrderly),
            state: Some(TcpState::Closed),
            lost: Lost::default(),
            octets: Octets { sent: 75, received: 1200 },
            opened: "2026-11-22T10:00:00.5Z".parse().unwrap(),
            ended: "2026-11-22T10:00:01Z".parse().unwrap(),
            icmp: None,
            host_errno: None,
            note: None,
            hint: None,
        }
    }

    /// One that a router said cannot be.
    pub fn unreachable() -> Record {
        Record {
            cause: Cause::Unreachable,
            by: By::Network,
            rule: Some(Rule::IcmpEndsAttempt),
            state: Some(TcpState::SynSent),
            octets: Octets::default(),
            icmp: Some(IcmpSaid {
                error: IcmpError::host_unreachable(false),
                from: Some("192.0.2.1".parse().unwrap()),
            }),
            host_errno: Some("EHOSTUNREACH".to_owned()),
            ..orderly()
        }
    }

    #[test]
    fn json_has_the_words_that_are_promised() {
        let json = serde_json::to_value(unreachable()).unwrap();
        let expected = serde_json::json!({
            "proto": "tcp", "local": "10.0.2.100:40000", "remote": "192.0.2.7:80",
            "cause": "unreachable", "by": "network", "rule": "I1", "state": "SYN-SENT",
            "lost": {"unsent": 0, "unacked": 0, "unread": 0}, "octets": {"sent": 0, "received": 0},
            "opened": "2026-11-22T10:00:00.5Z", "ended": "2026-11-22T10:00:01Z",
            "icmp": {"version": 4, "type": 3, "code": 1, "text": "host unreachable", "from": "192.0.2.1"},
            "host_errno": "EHOSTUNREACH",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn causes_have_one_word_each() {
        use Cause::{Aborted, Idle, Open, Orderly, Refused, Reset, TimedOut, Unreachable};
        for cause in [Orderly, Refused, Reset, Aborted, TimedOut, Unreachable, Open, Idle] {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.word());
        }
    }

    #[test]
    fn two_ends_of_a_handshake_and_a_release_face_each_other() {
        assert_eq!(facing(TcpState::SynReceived), TcpState::SynSent);
        assert_eq!(facing(TcpState::Established), TcpState::Established);
        assert_eq!(facing(TcpState::CloseWait), TcpState::FinWait2);
        assert_eq!(facing(TcpState::FinWait2), TcpState::CloseWait);
    }
}
