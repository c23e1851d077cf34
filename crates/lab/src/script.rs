//! A scenario as data: what two applications do, one after the other, and what must come of it.
//!
//! A script says nothing of who plays it: two stacks in virtual time, or one of ours and a kernel
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

/// One of the two hosts. If one of them is a kernel, it is [`Side::B`].
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

/// What is played.
#[derive(Clone, Debug)]
pub struct Script {
    /// What the hosts are called.
    pub names: [&'static str; 2],
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What must be true afterwards, beside the outcomes that the steps name.
    pub expected: Vec<Expected>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// An application makes a call and waits for its outcome, which must be this one.
    Call {
        /// Who calls.
        side: Side,
        /// On which of its sockets.
        socket: usize,
        /// What.
        call: Call,
        /// What must come of it; `None`: it is not waited for, [`Step::Join`] is.
        outcome: Option<Outcome>,
    },
    /// The call on this socket that was not waited for has this outcome.
    Join {
        /// Who called.
        side: Side,
        /// On which of its sockets.
        socket: usize,
        /// What must have come of it.
        outcome: Outcome,
    },
    /// Time passes.
    Wait(Duration),
    /// [`Side::A`] loses all its state and starts again, without a word.
    Restart,
    /// From now on nothing arrives, either way.
    Cut,
    /// From now on packets arrive again.
    Mend,
    /// Somebody else sends [`Side::B`] a reset in the name of A, within the connection from [`FROM`]
    /// to [`PORT`].
    ForgeReset {
        /// How far SEG.SEQ is from the number that B waits for.
        offset: u32,
    },
}

/// What an application asks of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A TCP listener at this port.
    Listen(u16),
    /// The next connection of the listener on the socket of this number.
    Accept(usize),
    /// A TCP connection from this port to that of the other side.
    Connect {
        /// The local port.
        from: u16,
        /// The remote port.
        to: u16,
    },
    /// Send this text.
    Send(&'static str),
    /// Read until so many octets were read, or no more will come.
    Read(usize),
    /// Finish our direction.
    Shutdown,
    /// Close.
    Close,
    /// Close with linger zero: abort.
    Abort,
    /// Ask a silent peer whether it is still there.
    KeepAlive {
        /// Silence before the first question.
        idle: Duration,
        /// Time between questions.
        interval: Duration,
        /// Unanswered questions before the connection is given up.
        count: u32,
    },
    /// Give the connection up once sent text has waited so long for its acknowledgment.
    UserTimeout(Duration),
    /// A UDP socket from this port, connected to that of the other side.
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

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// So many octets were sent or read.
    Octets(usize),
    /// The stream has ended in an orderly way.
    EndOfStream,
    /// It failed.
    Failed(io::ErrorKind),
}

/// What must be true at the end. What concerns a stack that is not one of ours cannot be seen and
/// is not asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Exactly these resets were sent, in this order; forged ones do not count.
    Resets(Vec<Reset>),
    /// This reset was sent before all others. One that follows it may answer what has crossed it.
    FirstReset(Reset),
    /// So many segments with these flags were sent, beside whatever other flags.
    Count {
        /// By whom.
        by: Side,
        /// The flags.
        flags: TcpFlags,
        /// How many.
        times: usize,
    },
    /// So many packets were sent by this rule.
    ByRule {
        /// By whom.
        by: Side,
        /// The rule.
        rule: Rule,
        /// How many.
        times: usize,
    },
    /// Exactly these connections of this side ended, in this order.
    Ends(Side, Vec<Ending>),
    /// This side has so many connections that are not over.
    Open(Side, usize),
    /// So many packets were lost.
    Lost(usize),
    /// So many ICMP errors were sent, by this side.
    IcmpErrors(Side, usize),
}

/// A reset on the wire, its numbers counted from the SYN of their direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Who sent it.
    pub by: Side,
    /// SEG.SEQ.
    pub seq: i64,
    /// SEG.ACK, if it has the ACK flag.
    pub ack: Option<i64>,
}

/// How a connection must have ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// How.
    pub cause: Cause,
    /// Who did it.
    pub by: EndedBy,
    /// By which rule.
    pub rule: Rule,
    /// What was lost.
    pub lost: LostBytes,
}

impl Ending {
    /// The end of a connection that lost nothing.
    pub const fn new(cause: Cause, by: EndedBy, rule: Rule) -> Self {
        Self { cause, by, rule, lost: LostBytes { unsent: 0, unacked: 0, unread: 0 } }
    }
}

impl Call {
    /// What the timeline shows before the outcome, if that takes time.
    pub fn asked(self) -> Option<String> {
        match self {
            Self::Connect { to, .. } => Some(format!("connect to port {to}")),
            _ => None,
        }
    }

    /// What the timeline shows of its outcome.
    pub fn said(self, outcome: Outcome) -> String {
        match outcome {
            Outcome::Done => self.to_string(),
            outcome => format!("{}: {outcome}", self.name()),
        }
    }

    /// Its name, for people.
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

    /// Compares what came of it with what the script states.
    pub fn verify(self, side: Side, found: Outcome, stated: Outcome) -> Result<(), String> {
        if found == stated {
            return Ok(());
        }
        Err(format!("{side}: {}: {found}, stated is {stated}", self.name()))
    }
}

/// The call that succeeded with nothing more to say.
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
            Self::Octets(1) => f.write_str("1 octet"),
            Self::Octets(n) => write!(f, "{n} octets"),
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
