//! Why connections end: every connection leaves exactly one record.

use crate::tcp::{ConnId, TcpError, TcpState};
use crate::{Instant, Rule};
use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use lastack_wire::icmp::IcmpError;
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp::TcpFlags;

/// The local and remote endpoint of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FourTuple {
    /// The local endpoint.
    pub local: SocketAddr,
    /// The peer's endpoint.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// The four-tuple of no connection.
    pub(crate) const NOWHERE: Self = {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { local: nowhere, remote: nowhere }
    };

    /// Hashes a four-tuple in as few words as possible: every arrival is looked up by it. Inlined, so that the hasher
    /// need not find out how far its last word is filled.
    #[inline(always)]
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
    #[inline(always)]
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

/// A connection that has ended: its identity and its [`End`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// Its id. Received data can still be read until the application closes the socket.
    pub id: ConnId,
    /// Its local and remote endpoint.
    pub flow: FourTuple,
    /// Who opened it.
    pub origin: Origin,
    /// When the first SYN was sent or received.
    pub opened: Instant,
    /// When it reached ESTABLISHED, if it did.
    pub established: Option<Instant>,
    /// Its initial sequence numbers, which identify its segments in a capture.
    pub numbers: InitialNumbers,
    /// The bytes of data it carried.
    pub bytes: ByteCounts,
    /// Why it ended.
    pub end: End,
}

/// The initial sequence numbers of a connection. They distinguish it from earlier and later
/// connections with the same four-tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct InitialNumbers {
    /// ISS; `None` if no SYN was sent.
    pub ours: Option<u32>,
    /// IRS; `None` if no SYN was received.
    pub peers: Option<u32>,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side, by an active open.
    Active,
    /// The peer; a listener or an interception accepted it.
    Passive,
}

/// Bytes of data sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// Sent and acknowledged by the peer.
    pub sent: u64,
    /// Received in order.
    pub received: u64,
}

/// How, why and by whom a connection was ended. Every connection has exactly one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct End {
    /// How.
    pub cause: Cause,
    /// Who ended it. After a clean close: who sent the first FIN; this side on a simultaneous close.
    pub by: EndedBy,
    /// The rule that ended it.
    pub rule: Rule,
    /// The state in which it ended.
    pub state: TcpState,
    /// The header of the segment that ended it; `None` if a timer or a call did.
    pub trigger: Option<Header>,
    /// The reason in the peer's reset (RST diagnostic payload).
    pub peer_said: Option<ResetReason>,
    /// The likely cause of a peer's reset, inferred from its header.
    pub inferred: Option<LikelyCause>,
    /// The data that was lost.
    pub lost: LostBytes,
    /// When it ended.
    pub at: Instant,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Both FINs were sent and acknowledged.
    Orderly,
    /// A SYN was answered with a reset, by the peer or by this side.
    Refused,
    /// The peer sent a reset.
    Reset,
    /// This side aborted it.
    Aborted,
    /// A timeout expired.
    TimedOut(TimeLimit),
    /// An ICMP error reported that the peer is unreachable.
    Unreachable(IcmpError),
}

/// Which timeout expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeLimit {
    /// No answer to the SYN or the SYN|ACK.
    Handshake,
    /// No acknowledgment of data or FIN.
    Retransmission,
    /// The user timeout.
    User,
    /// No answer to keep-alive probes.
    KeepAlive,
    /// No FIN from the peer while orphaned in FIN-WAIT-2.
    FinWait2,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The application on this side.
    Application,
    /// The administrator of this side ([`Stack::tcp_kill`](crate::Stack::tcp_kill)).
    Administrator,
    /// The stack on this side, by a timer or a rule.
    Stack,
    /// The remote endpoint.
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
    /// Bytes of data.
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

/// The likely cause of a peer's reset, inferred from its header (RFC 9293 section 3.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LikelyCause {
    /// The SYN was sent to a port without a listener: RST with ACK, SEQ 0, window 0.
    NoListener,
    /// The peer has no such connection: RST without ACK, whose SEQ is an acknowledgment number sent.
    /// The peer lost its state (half-open connection) or has closed completely.
    UnknownConnection,
    /// The peer aborted an existing connection: RST with ACK.
    AbortedByPeer,
}

/// Bytes of data lost when a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostBytes {
    /// Queued in the send buffer and never sent.
    pub unsent: u64,
    /// Sent and never acknowledged: the peer may have received them.
    pub unacked: u64,
    /// Received and discarded before the application read them.
    pub unread: u64,
}

impl LostBytes {
    /// Whether nothing was lost.
    pub const fn is_nothing(self) -> bool {
        self.unsent == 0 && self.unacked == 0 && self.unread == 0
    }
}

impl End {
    /// The error that the user of the socket sees; `None` after a clean close or an abort by the
    /// application.
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
            Self::NoListener => "no socket listens at the peer's port",
            Self::UnknownConnection => "the peer has no such connection (it lost its state or has closed)",
            Self::AbortedByPeer => "the peer aborted an existing connection",
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
        for (bytes, what) in [
            (self.lost.unsent, "unsent"),
            (self.lost.unacked, "unacknowledged"),
            (self.lost.unread, "unread"),
        ] {
            if bytes > 0 {
                write!(f, "; {bytes} bytes {what}")?;
            }
        }
        Ok(())
    }
}
