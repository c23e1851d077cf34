//! The record of one connection or flow, from the view of the relay.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lastack_causes::{Cause, Severity};
use lastack_engine::{End, Ended, EndedBy, Instant, OpenConnection, Origin, Rule, TcpState};
use lastack_explain::Lacks;
use lastack_wire::icmp::IcmpError;
use serde::{Serialize, Serializer};

use super::judge::{Verdict, judge};
pub use super::order::{Order, Reached};
use crate::moment::Moment;
pub use crate::rate::Rate;

/// Both sides of a relayed connection, joined, or a flow of datagrams.
///
/// All fields are from the program's view: `local` is the program's end, `sent` is what it sent.
#[derive(Clone, Debug)]
pub struct Record {
    /// The protocol.
    pub proto: Proto,
    /// The program's end.
    pub local: SocketAddr,
    /// The other end, under the program's address for it.
    pub remote: SocketAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// The party that ended it.
    pub by: By,
    /// The rule by which it ended: of the party that refused or closed it, else the rule of the reset, ICMP error or
    /// timer that ended it. `None` if it has not ended.
    pub rule: Option<Rule>,
    /// The state of the program's end when it ended, as far as it follows from what both sides sent.
    pub state: Option<TcpState>,
    /// Data that did not arrive.
    pub lost: Lost,
    /// Data that arrived.
    pub bytes: Bytes,
    /// The time of the first packet.
    pub opened: Timestamp,
    /// The time of its end.
    pub ended: Timestamp,
    /// The ICMP error that ended it.
    pub icmp: Option<IcmpSaid>,
    /// The errno of the host's socket, if there was one.
    pub host_errno: Option<String>,
    /// Further details of the reason.
    pub note: Option<String>,
    /// How to get another outcome.
    pub hint: Option<String>,
    /// The facts from which the cause is derived, in addition to the other fields.
    pub facts: Facts,
    /// The process it belongs to, and the path.
    pub context: Context,
}

/// Facts about the course of a connection, from which the cause of its end is derived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The remote has accepted it.
    pub established: bool,
    /// Which FINs were received.
    pub fin: Fins,
    /// Bytes that the remote sent after the program's FIN.
    pub late_from_remote: u64,
    /// Bytes that the program sent after the remote's FIN.
    pub late_from_program: u64,
    /// The late data begins with a TLS alert, or a record of the length of one.
    pub late_alert: bool,
    /// The first bytes of either side are a TLS record.
    pub tls: bool,
    /// They are the preface of HTTP/2.
    pub http2: bool,
    /// The data when it ended.
    pub talk: Talk,
    /// The side that sent the first FIN.
    pub first_fin: Option<By>,
    /// The data when that came.
    pub before_fin: Option<Talk>,
    /// What had reached the side that sent a reset, of the other's.
    pub order: Order,
    /// Another connection to the same port was established while this one waited for an answer; for datagrams: another
    /// port of the remote has answered.
    pub sibling: bool,
}

/// The data of a connection at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// The side that sent last.
    pub last: Option<By>,
    /// How long ago that was; if neither has sent, the time since the connection began.
    pub idle: Duration,
    /// Bytes of that side since the other sent.
    pub run: u64,
    /// What those bytes are.
    pub message: Message,
}

/// What a side has sent since the other sent, if it is HTTP without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Message {
    /// Another protocol, or a message whose length is not known.
    #[default]
    Unknown,
    /// A request.
    Request,
    /// A response that is complete, or a closing alert of TLS.
    Whole,
    /// A response that is not complete.
    Cut {
        /// The bytes that came, with its head.
        bytes: u64,
        /// What did not come.
        lacks: Lacks,
    },
}

/// Which FINs were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fins {
    /// The program's.
    pub program: bool,
    /// The remote's.
    pub remote: bool,
}

/// The process of a connection, its path, and the options of the run that applied to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// It was opened from outside (`--publish`).
    pub inward: bool,
    /// The other end as the program's packets name it, if that is not the remote's own address.
    pub seen_as: Option<SocketAddr>,
    /// The name of its capture in the directory of the flight recorder.
    pub capture: Option<String>,
    /// The name that the program had resolved to the remote's address.
    pub name: Option<String>,
    /// The process that has the socket.
    pub process: Option<Process>,
    /// How long the host took to connect.
    pub connect: Option<Duration>,
    /// The real path, as measured by the host's kernel.
    pub path: Option<Path>,
    /// The time from its beginning to the remote's first data.
    pub first_received: Option<Duration>,
    /// The rates of the data.
    pub rates: Rates,
    /// The number of datagrams, of a flow of those.
    pub datagrams: Option<Datagrams>,
    /// The name server that was queried.
    pub asked: Option<SocketAddr>,
    /// The queries.
    pub questions: Vec<Question>,
    /// The options (`--inject`) that affected it.
    pub injected: Vec<String>,
    /// The proxy that carried it (`--via`).
    pub via: Option<String>,
    /// The proxy failed, not the remote.
    pub proxy_failed: bool,
    /// The option that denied it.
    pub denied: Option<String>,
    /// The option that would have denied it (`--log-only`).
    pub would_deny: Option<String>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its command (`/proc/PID/comm`).
    pub comm: String,
}

/// A path, as measured by the host's kernel (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The minimum RTT.
    pub min_rtt: Duration,
    /// Retransmitted segments.
    pub retransmitted: u32,
}

/// The datagrams of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Datagrams {
    /// Sent by the program.
    pub sent: u64,
    /// Received from the remote.
    pub received: u64,
}

/// The rates of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of the program's data.
    pub sent: Option<Rate>,
    /// Of the remote's data.
    pub received: Option<Rate>,
}

/// A DNS query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The name.
    pub name: String,
    /// The type of record: `A`, `AAAA`, `TYPE65`.
    pub kind: String,
    /// The response code, such as `NOERROR`; `None`: no answer came.
    pub rcode: Option<String>,
    /// The number of times it was sent.
    pub times: u32,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP; a flow is the traffic between two sockets until it has been idle for a while.
    Udp,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Both directions ended with FIN, and all bytes arrived.
    Orderly,
    /// Refused: a reset or an ICMP error reported a closed port.
    Refused,
    /// A reset came from the other side.
    Reset,
    /// The program, or lastack on its behalf, aborted it with a reset.
    Aborted,
    /// No answer came in time.
    TimedOut,
    /// An error reported that the remote cannot be reached.
    Unreachable,
    /// Still open when the program ended, or closed only by the program, which does not hold it any more.
    Open,
    /// A flow without an explicit end.
    Idle,
}

impl Outcome {
    /// All, in the sequence of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Orderly,
        Self::Refused,
        Self::Reset,
        Self::Aborted,
        Self::TimedOut,
        Self::Unreachable,
        Self::Open,
        Self::Idle,
    ];

    /// Whether it is a normal end.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Orderly | Self::Idle)
    }

    /// The word used in JSON.
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

/// The party that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The program that runs. For a clean end: it closed first.
    Program,
    /// The remote. For a clean end: it closed first.
    Remote,
    /// A router or host on the path, with an ICMP error.
    Network,
    /// This host's kernel: no route, or a local rule.
    Host,
    /// lastack, by a rule of the run.
    Lastack,
    /// No party: a timeout, or it has not ended.
    Nobody,
}

/// An ICMP error and its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpSaid {
    /// The error.
    pub error: IcmpError,
    /// Its sender, if known.
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

/// Bytes that did not arrive, for both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Sent by the program, but never sent to the remote.
    pub unsent: u64,
    /// Sent by the program, but not acknowledged by the remote: it may have received them or not.
    pub unacked: u64,
    /// Sent by the remote, but not taken by the program's side.
    pub unread: u64,
}

impl Lost {
    /// The sum.
    pub fn total(self) -> u64 {
        self.unsent + self.unacked + self.unread
    }
}

/// Bytes that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// From the program, acknowledged by the remote.
    pub sent: u64,
    /// From the remote, acknowledged by the program's side.
    pub received: u64,
}

impl Record {
    /// A record with only these fields known. Its end is now, on the monotonic clock since `opened`.
    pub fn new(proto: Proto, local: SocketAddr, remote: SocketAddr, opened: Began, outcome: Outcome) -> Self {
        Self {
            proto,
            local,
            remote,
            outcome,
            by: By::Nobody,
            rule: None,
            state: None,
            lost: Lost::default(),
            bytes: Bytes::default(),
            opened: opened.wall(),
            ended: opened.after(opened.clock.elapsed()),
            icmp: None,
            host_errno: None,
            note: None,
            hint: None,
            facts: Facts::default(),
            context: Context::default(),
        }
    }

    /// Why it ended, and how much that matters.
    pub fn verdict(&self) -> Verdict {
        judge(self)
    }

    /// Whether the report mentions it in any case.
    pub fn is_trouble(&self) -> bool {
        self.verdict().severity > Severity::Benign || self.context.would_deny.is_some()
    }

    /// A reset that came after both sides had closed and everything had arrived did not end the connection: that was over,
    /// in order.
    pub fn end_before_reset(&mut self) {
        let reset = matches!(self.outcome, Outcome::Reset | Outcome::Aborted);
        if let Some(first) = self.facts.first_fin.filter(|_| reset && self.verdict().cause == Cause::Orderly)
        {
            (self.outcome, self.by, self.host_errno) = (Outcome::Orderly, first, None);
            self.note = Some("a reset came after both sides had closed: nothing was lost".to_owned());
        }
    }

    /// If an answer was missing when it was closed, or the order of a reset and data matters, the note says so.
    pub fn note_what_is_known(&mut self) {
        let verdict = self.verdict();
        if let Some(missing) = verdict.missing {
            self.note = Some(missing.to_string());
        } else if self.note.is_none() {
            self.note = super::order::note(self, verdict);
        }
    }

    /// Counts datagrams of the program that an injected fault swallowed, and takes off those that it kept from the program.
    pub fn lose_datagrams(&mut self, swallowed: u64, lost: u64) {
        let Some(datagrams) = self.context.datagrams.as_mut() else { return };
        datagrams.sent += swallowed;
        if lost == 0 {
            return;
        }
        datagrams.received = datagrams.received.saturating_sub(lost);
        if datagrams.received == 0 {
            self.bytes.received = 0;
        }
    }

    /// Its duration.
    pub fn duration(&self) -> Duration {
        self.ended.duration_since(self.opened).try_into().unwrap_or_default()
    }

    /// The record of a closed connection of our own stack, from its view; `zero` is the wall time of the stack's time
    /// zero.
    pub fn of_ours(ended: &Ended, zero: Timestamp) -> Self {
        let Ended { flow, opened, bytes, end, .. } = ended;
        let (outcome, icmp) = Outcome::of(end);
        let icmp = icmp.map(|error| {
            let from = if let EndedBy::Network(from) = end.by { Some(from) } else { None };
            IcmpSaid { error, from }
        });
        Self {
            proto: Proto::Tcp,
            local: flow.local,
            remote: flow.remote,
            outcome,
            by: match end.by {
                EndedBy::Application | EndedBy::Administrator | EndedBy::Stack => By::Lastack,
                EndedBy::Peer => By::Remote,
                EndedBy::Network(_) => By::Network,
            },
            rule: Some(end.rule),
            state: Some(end.state),
            lost: Lost { unsent: end.lost.unsent, unacked: end.lost.unacked, unread: end.lost.unread },
            bytes: Bytes { sent: bytes.sent, received: bytes.received },
            opened: at(zero, *opened),
            ended: at(zero, end.at),
            icmp,
            host_errno: None,
            note: end.inferred.map(|inferred| inferred.to_string()),
            hint: None,
            facts: Facts { established: ended.established.is_some(), ..Facts::default() },
            context: Context { inward: ended.origin == Origin::Passive, ..Context::default() },
        }
    }

    /// The record of a connection of our own stack that is still open at `now`.
    pub fn of_open(open: &OpenConnection, now: Instant, zero: Timestamp) -> Self {
        Self {
            proto: Proto::Tcp,
            local: open.flow.local,
            remote: open.flow.remote,
            outcome: Outcome::Open,
            by: By::Nobody,
            rule: None,
            state: Some(open.state),
            lost: Lost::default(),
            bytes: Bytes { sent: open.bytes.sent, received: open.bytes.received },
            opened: at(zero, open.opened),
            ended: at(zero, now),
            icmp: None,
            host_errno: None,
            note: None,
            hint: None,
            facts: Facts::default(),
            context: Context::default(),
        }
    }
}

/// A start time by both clocks: durations do not depend on changes of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// Nanoseconds since 1970, up to the year 2262: less than a `Timestamp` takes.
    wall: i64,
    clock: Moment,
}

impl Began {
    /// Now.
    pub fn now() -> Self {
        let wall = Timestamp::now().as_nanosecond();
        Self { wall: wall.try_into().unwrap_or(i64::MAX), clock: Moment::now() }
    }

    /// The wall time.
    pub fn wall(self) -> Timestamp {
        Timestamp::from_nanosecond(self.wall.into()).unwrap_or_default()
    }

    /// The monotonic time.
    pub fn clock(self) -> std::time::Instant {
        self.clock.into()
    }

    /// The wall time after this duration.
    pub fn after(self, elapsed: Duration) -> Timestamp {
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or_default();
        self.wall().saturating_add(elapsed).unwrap_or(self.wall())
    }
}

/// The wall time of an instant of a stack whose time zero was at `zero`.
fn at(zero: Timestamp, instant: Instant) -> Timestamp {
    SignedDuration::try_from(instant.elapsed())
        .map_or(zero, |elapsed| zero.saturating_add(elapsed).unwrap_or(zero))
}

impl Outcome {
    /// From the engine's report.
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

/// The state of the program's end that corresponds to the state of our end, its peer.
///
/// Segments in flight between the two are treated as not yet received.
pub fn peer_state(ours: TcpState) -> TcpState {
    match ours {
        TcpState::SynReceived => TcpState::SynSent,
        // Its FIN is received, and acknowledged.
        TcpState::CloseWait | TcpState::LastAck => TcpState::FinWait2,
        // Our FIN is unacknowledged ..
        TcpState::FinWait1 => TcpState::Established,
        // .. and acknowledged.
        TcpState::FinWait2 => TcpState::CloseWait,
        TcpState::TimeWait => TcpState::LastAck,
        same => same,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A connection that ended cleanly.
    pub fn orderly() -> Record {
        Record {
            proto: Proto::Tcp,
            local: "10.0.2.100:40000".parse().unwrap(),
            remote: "192.0.2.7:80".parse().unwrap(),
            outcome: Outcome::Orderly,
            by: By::Remote,
            rule: Some(Rule::EndOrderly),
            state: Some(TcpState::Closed),
            lost: Lost::default(),
            bytes: Bytes { sent: 75, received: 1200 },
            opened: "2026-11-22T10:00:00.5Z".parse().unwrap(),
            ended: "2026-11-22T10:00:01Z".parse().unwrap(),
            icmp: None,
            host_errno: None,
            note: None,
            hint: None,
            facts: Facts { established: true, ..Facts::default() },
            context: Context::default(),
        }
    }

    /// One that a router reported as impossible.
    pub fn unreachable() -> Record {
        Record {
            outcome: Outcome::Unreachable,
            by: By::Network,
            rule: Some(Rule::IcmpEndsAttempt),
            state: Some(TcpState::SynSent),
            bytes: Bytes::default(),
            icmp: Some(IcmpSaid {
                error: IcmpError::host_unreachable(false),
                from: Some("192.0.2.1".parse().unwrap()),
            }),
            host_errno: Some("EHOSTUNREACH".to_owned()),
            facts: Facts::default(),
            ..orderly()
        }
    }

    #[test]
    fn outcomes_have_one_word_each() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.word());
        }
    }

    #[test]
    fn two_ends_of_a_handshake_and_a_release_face_each_other() {
        assert_eq!(peer_state(TcpState::SynReceived), TcpState::SynSent);
        assert_eq!(peer_state(TcpState::Established), TcpState::Established);
        assert_eq!(peer_state(TcpState::CloseWait), TcpState::FinWait2);
        assert_eq!(peer_state(TcpState::FinWait2), TcpState::CloseWait);
    }
}
