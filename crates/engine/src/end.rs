//! Why connections end: the record that every connection leaves exactly once.

use crate::tcp::{ConnId, TcpError, TcpState};
use crate::{Instant, Rule};
use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use lastack_wire::icmp::IcmpError;
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp::TcpFlags;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FourTuple {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// Hashes a four-tuple in as few words as it has: every arrival is looked up by it.
    #[inline]
    pub(crate) fn hash_ends<H: Hasher>(
        local: &IpAddr,
        remote: &IpAddr,
        (local_port, remote_port): (u16, u16),
        state: &mut H,
    ) {
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                state.write_u128(bits(*local));
                state.write_u128(bits(*remote));
            }
        }
        state.write_u32(u32::from(local_port) << 16 | u32::from(remote_port));
    }
}

impl Hash for FourTuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = (self.local.port(), self.remote.port());
        Self::hash_ends(&self.local.ip(), &self.remote.ip(), ports, state);
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.local, self.remote)
    }
}

/// A connection that is over: who it was, and its [`End`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// Its name. It may still be read from if its user has not closed it.
    pub id: ConnId,
    /// Its two ends.
    pub flow: FourTuple,
    /// Who opened it.
    pub origin: Origin,
    /// When the first SYN was sent or received.
    pub opened: Instant,
    /// When it reached ESTABLISHED, if it did.
    pub established: Option<Instant>,
    /// Where its sequence numbers begin: by them its segments are found in a capture.
    pub numbers: InitialNumbers,
    /// How much text it carried.
    pub octets: ByteCounts,
    /// Why it is over.
    pub end: End,
}

/// The initial sequence numbers of a connection. Together with its ends they tell it from those
/// before and after it on the same ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct InitialNumbers {
    /// ISS; `None` while no SYN was sent.
    pub ours: Option<u32>,
    /// IRS; `None` while no SYN has come.
    pub peers: Option<u32>,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side, by connecting.
    Active,
    /// The peer, to a listener or an interception of ours.
    Passive,
}

/// ByteCounts of text: sent and acknowledged, received in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// Sent by us and acknowledged by the peer.
    pub sent: u64,
    /// Received from the peer, in order.
    pub received: u64,
}

/// Why, how and by whom a connection ended. Every connection leaves exactly one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct End {
    /// How.
    pub cause: Cause,
    /// Who did it. In an orderly release: who sent the first FIN; this side, if both did at once.
    pub by: EndedBy,
    /// The rule that ended it.
    pub rule: Rule,
    /// The state in which that happened.
    pub state: TcpState,
    /// The header of the segment that did it; `None` if it was a timer or a call.
    pub trigger: Option<Header>,
    /// What the peer's reset says of its reason (RST diagnostic payload).
    pub peer_said: Option<ResetReason>,
    /// For a peer's reset: what its shape tells.
    pub inferred: Option<LikelyCause>,
    /// What was lost.
    pub lost: LostBytes,
    /// When.
    pub at: Instant,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Both directions were finished with FIN and acknowledged.
    Orderly,
    /// The peer answered our SYN with a reset, or we the peer's.
    Refused,
    /// A reset from the peer ended it.
    Reset,
    /// This side gave it up.
    Aborted,
    /// An answer did not come in time.
    TimedOut(TimeLimit),
    /// The network said that the peer cannot be reached.
    Unreachable(IcmpError),
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// No answer to the SYN or the SYN|ACK.
    Handshake,
    /// No acknowledgment of text or FIN.
    Retransmission,
    /// The user timeout.
    User,
    /// No answer to keep-alive probes.
    KeepAlive,
    /// No FIN from the peer in FIN-WAIT-2, and no user.
    FinWait2,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The program on this side.
    Application,
    /// Who runs the stack on this side, against the program ([`Stack::tcp_kill`](crate::Stack::tcp_kill)).
    Administrator,
    /// The stack on this side, by a timer or a rule.
    Stack,
    /// The other end of the connection.
    Peer,
    /// A router or host that sent an ICMP error.
    Network(IpAddr),
}

/// The header of the segment that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its flags.
    pub flags: TcpFlags,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, meaningful with the ACK flag.
    pub ack: u32,
    /// The window field, unscaled.
    pub window: u16,
    /// ByteCounts of text.
    pub len: u32,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seq={}", self.flags, self.seq)?;
        if self.flags.contains(TcpFlags::ACK) {
            write!(f, " ack={}", self.ack)?;
        }
        if self.len > 0 {
            write!(f, " len={}", self.len)?;
        }
        Ok(())
    }
}

/// What the shape of a peer's reset tells of its reason (RFC 9293 section 3.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikelyCause {
    /// It answers our SYN from a port where nobody listens: RST with ACK, SEQ 0, window 0.
    NobodyListens,
    /// It answers a segment of a connection that it does not know: RST without ACK whose SEQ is an
    /// acknowledgment that we sent. The peer lost its state (half-open) or closed for good.
    UnknownConnection,
    /// The peer aborted a connection that it knew: RST with ACK.
    AbortedByPeer,
}

/// ByteCounts of text that a connection's end lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostBytes {
    /// Given to us to send and never sent.
    pub unsent: u64,
    /// Sent and never acknowledged: the peer may have them or not.
    pub unacked: u64,
    /// Received and discarded before the user read them.
    pub unread: u64,
}

impl LostBytes {
    /// Whether nothing was lost.
    pub const fn is_nothing(self) -> bool {
        self.unsent == 0 && self.unacked == 0 && self.unread == 0
    }
}

impl End {
    /// The error that a user of the connection sees; `None` for an orderly release and for what the
    /// user did itself.
    pub fn error(&self) -> Option<TcpError> {
        match self.cause {
            Cause::Orderly => None,
            Cause::Refused => Some(TcpError::Refused),
            Cause::Reset => Some(TcpError::Reset),
            Cause::Aborted => match self.by {
                EndedBy::Application => None,
                EndedBy::Administrator => Some(TcpError::Aborted),
                EndedBy::Stack | EndedBy::Peer | EndedBy::Network(_) => Some(TcpError::Reset),
            },
            Cause::TimedOut(TimeLimit::FinWait2) => None,
            Cause::TimedOut(_) => Some(TcpError::TimedOut),
            Cause::Unreachable(icmp) => Some(TcpError::from_icmp(icmp)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orderly => f.write_str("orderly"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut(TimeLimit::Handshake) => f.write_str("timed out (no answer to SYN)"),
            Self::TimedOut(TimeLimit::Retransmission) => f.write_str("timed out (no acknowledgment)"),
            Self::TimedOut(TimeLimit::User) => f.write_str("timed out (user timeout)"),
            Self::TimedOut(TimeLimit::KeepAlive) => f.write_str("timed out (keep-alive)"),
            Self::TimedOut(TimeLimit::FinWait2) => f.write_str("timed out (no FIN from the peer)"),
            Self::Unreachable(icmp) => write!(f, "{icmp}"),
        }
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => f.write_str("the local application"),
            Self::Administrator => f.write_str("the local administrator"),
            Self::Stack => f.write_str("the local stack"),
            Self::Peer => f.write_str("the peer"),
            Self::Network(from) => write!(f, "the network ({from})"),
        }
    }
}

impl fmt::Display for LikelyCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NobodyListens => "nobody listens at the peer's port",
            Self::UnknownConnection => {
                "the peer does not know the connection (it lost its state or has closed)"
            }
            Self::AbortedByPeer => "the peer aborted a connection that it knew",
        })
    }
}

impl fmt::Display for End {
    /// One sentence: `reset by the peer in ESTABLISHED; [peer-rst-exact] reset exactly at RCV.NXT: the
    /// connection ends; 5 bytes unacknowledged`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.cause == Cause::Orderly { ", started" } else { "" };
        write!(f, "{}{how} by {} in {}", self.cause, self.by, self.state)?;
        write!(f, "; [{}] {}", self.rule, self.rule.text())?;
        if let Some(said) = self.peer_said {
            write!(f, "; reason in the reset: {said}")?;
        } else if let Some(inferred) = self.inferred {
            write!(f, "; {inferred}")?;
        }
        for (octets, what) in [
            (self.lost.unsent, "unsent"),
            (self.lost.unacked, "unacknowledged"),
            (self.lost.unread, "unread"),
        ] {
            if octets > 0 {
                write!(f, "; {octets} bytes {what}")?;
            }
        }
        Ok(())
    }
}
