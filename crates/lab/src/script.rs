//! A scenario as data: the calls of two applications, one after the other, and the expected result.
//!
//! A script does not depend on who plays it: two stacks in virtual time, or this stack and a kernel
//! in real time.

use lastack_engine::{Cause, EndedBy, LostBytes, Rule};
use lastack_wire::tcp::TcpFlags;
use std::fmt;
use std::io;
use std::time::Duration;

/// The port at the right side in every scenario.
pub const PORT: u16 = 1935;
/// The port at the left side in every scenario.
pub const FROM: u16 = 40001;

/// One of the two hosts. If one of them runs a kernel, it is [`Side::B`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The left one.
    A,
    /// The right one.
    B,
}

impl Side {
    /// The two.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// 0 or 1.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The script of a scenario.
#[derive(Clone, Debug)]
pub struct Script {
    /// The names of the hosts.
    pub names: [&'static str; 2],
    /// The steps, in sequence.
    pub steps: Vec<Step>,
    /// What must be true afterwards, beside the outcomes of the steps.
    pub expected: Vec<Expected>,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// An application makes a call and waits for its outcome, which must be this one.
    Call {
        /// The calling side.
        side: Side,
        /// The number of its socket.
        socket: usize,
        /// The call.
        call: Call,
        /// The expected outcome; `None`: the script does not wait for it here but at [`Step::Join`].
        outcome: Option<Outcome>,
    },
    /// Waits for the pending call on this socket, which must have this outcome.
    Join {
        /// The calling side.
        side: Side,
        /// The number of its socket.
        socket: usize,
        /// The expected outcome.
        outcome: Outcome,
    },
    /// Time passes.
    Wait(Duration),
    /// [`Side::A`] silently loses all its state and starts again.
    Restart,
    /// From now on nothing arrives, either way.
    Cut,
    /// From now on packets arrive again.
    Mend,
    /// A third party sends [`Side::B`] a reset in the name of A, within the connection from [`FROM`]
    /// to [`PORT`].
    ForgeReset {
        /// The distance of SEG.SEQ from the number that B expects.
        offset: u32,
    },
}

/// A call of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open a TCP listener on this port.
    Listen(u16),
    /// Accept the next connection of the listener on this socket.
    Accept(usize),
    /// Open a TCP connection from this port to that of the other side.
    Connect {
        /// The local port.
        from: u16,
        /// The remote port.
        to: u16,
    },
    /// Send this data.
    Send(&'static str),
    /// Read until this many bytes were read, or the stream has ended.
    Read(usize),
    /// Close the send direction.
    Shutdown,
    /// Close.
    Close,
    /// Close with linger zero: abort.
    Abort,
    /// Enable keep-alive.
    KeepAlive {
        /// The idle time before the first probe.
        idle: Duration,
        /// The time between probes.
        interval: Duration,
        /// The number of unanswered probes after which the connection ends.
        count: u32,
    },
    /// Set the user timeout: the max time that sent data may remain unacknowledged.
    UserTimeout(Duration),
    /// Open a UDP socket on this port, connected to that of the other side.
    ConnectUdp {
        /// The local port.
        from: u16,
        /// The remote port.
        to: u16,
    },
    /// Send a datagram.
    SendDatagram(&'static str),
    /// Receive a datagram.
    ReadDatagram,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// This many bytes were sent or read.
    Bytes(usize),
    /// The stream has ended cleanly.
    EndOfStream,
    /// It failed.
    Failed(io::ErrorKind),
}

/// A condition at the end. Conditions that concern another implementation cannot be observed and
/// are not checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Exactly these resets were sent, in this order; forged ones do not count.
    Resets(Vec<Reset>),
    /// This reset was sent before all others. A later one may answer a segment that crossed it.
    FirstReset(Reset),
    /// This many segments with at least these flags were sent.
    Count {
        /// The sending side.
        by: Side,
        /// The flags.
        flags: TcpFlags,
        /// Their number.
        times: usize,
    },
    /// This many packets were sent by this rule.
    ByRule {
        /// The sending side.
        by: Side,
        /// The rule.
        rule: Rule,
        /// Their number.
        times: usize,
    },
    /// Exactly these connections of this side ended, in this order.
    Ends(Side, Vec<Ending>),
    /// This side has this many connections that are not over.
    Open(Side, usize),
    /// This many packets were lost.
    Lost(usize),
    /// This many ICMP errors were sent by this side.
    IcmpErrors(Side, usize),
}

/// A reset on the wire, with relative sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Its sender.
    pub by: Side,
    /// SEG.SEQ.
    pub seq: i64,
    /// SEG.ACK, if it has the ACK flag.
    pub ack: Option<i64>,
}

/// The expected end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// The cause.
    pub cause: Cause,
    /// Who ended it.
    pub by: EndedBy,
    /// The rule.
    pub rule: Rule,
    /// The bytes that were lost.
    pub lost: LostBytes,
}

impl Ending {
    /// The end of a connection that lost nothing.
    pub const fn new(cause: Cause, by: EndedBy, rule: Rule) -> Self {
        Self { cause, by, rule, lost: LostBytes { unsent: 0, unacked: 0, unread: 0 } }
    }
}

impl Call {
    /// The text of the timeline before the outcome, for a call that may take time.
    pub fn asked(self) -> Option<String> {
        match self {
            Self::Connect { to, .. } => Some(format!("connect to port {to}")),
            _ => None,
        }
    }

    /// The text of the timeline for its outcome.
    pub fn said(self, outcome: Outcome) -> String {
        match outcome {
            Outcome::Done => self.to_string(),
            outcome => format!("{}: {outcome}", self.name()),
        }
    }

    /// Its display name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listen(_) => "listen",
            Self::Accept(_) => "accept",
            Self::Connect { .. } => "connect",
            Self::Send(_) | Self::SendDatagram(_) => "send",
            Self::Read(_) | Self::ReadDatagram => "read",
            Self::Shutdown => "shutdown",
            Self::Close => "close",
            Self::Abort => "abort",
            Self::KeepAlive { .. } => "keep-alive",
            Self::UserTimeout(_) => "user timeout",
            Self::ConnectUdp { .. } => "UDP",
        }
    }

    /// Compares the outcome with the expected one.
    pub fn verify(self, side: Side, found: Outcome, stated: Outcome) -> Result<(), String> {
        if found == stated {
            return Ok(());
        }
        Err(format!("{side}: {}: {found}, expected {stated}", self.name()))
    }
}

/// The text for a call that succeeded without a further result.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(port) => write!(f, "listen on port {port}"),
            Self::Accept(_) => f.write_str("accept: connected"),
            Self::Connect { .. } => f.write_str("connect: connected"),
            Self::Shutdown => f.write_str("shutdown(write)"),
            Self::Close => f.write_str("close"),
            Self::Abort => f.write_str("close, linger 0"),
            Self::KeepAlive { idle, interval, count } => {
                write!(f, "keep-alive {idle:?}+{count}x{interval:?}")
            }
            Self::UserTimeout(limit) => write!(f, "user timeout {limit:?}"),
            Self::ConnectUdp { to, .. } => write!(f, "UDP to port {to}"),
            Self::Send(_) | Self::Read(_) | Self::SendDatagram(_) | Self::ReadDatagram => {
                f.write_str(self.name())
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Bytes(1) => f.write_str("1 byte"),
            Self::Bytes(n) => write!(f, "{n} bytes"),
            Self::EndOfStream => f.write_str("end of stream"),
            Self::Failed(kind) => write!(f, "{kind:?}"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ack {
            Some(ack) => write!(f, "{}: R. seq={} ack={ack}", self.by, self.seq),
            None => write!(f, "{}: R seq={}", self.by, self.seq),
        }
    }
}
