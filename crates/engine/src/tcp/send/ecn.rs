//! Explicit congestion notification, ECN (RFC 3168): a router marks packets instead of dropping them.

use crate::Instant;
use crate::tcp::segment::Arrival;
use crate::tcp::send::congestion::Congestion;
use crate::tcp::send::recovery::Recovery;
use lastack_wire::tcp::TcpFlags;

/// The IP codepoint of a sent segment that may be marked.
const ECT_0: u8 = 0b10;
/// The codepoint of a marked segment.
const CONGESTION_EXPERIENCED: u8 = 0b11;

/// The flags of an ECN-setup SYN.
pub(crate) const SETUP: TcpFlags = TcpFlags::ECE.union(TcpFlags::CWR);

/// Whether a connection requests ECN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ecn {
    /// Never.
    Off,
    /// If the peer requests it, as on Linux.
    #[default]
    Accept,
    /// Always.
    Request,
}

/// Whether the peer's SYN or SYN|ACK agrees to ECN (section 6.1.1).
pub(crate) fn is_agreed(config: Ecn, seg: &Arrival<'_>) -> bool {
    let flags = seg.tcp.flags & SETUP;
    match config {
        Ecn::Off => false,
        Ecn::Accept if seg.has(TcpFlags::ACK) => false,
        Ecn::Accept | Ecn::Request if seg.has(TcpFlags::ACK) => flags == TcpFlags::ECE,
        Ecn::Accept | Ecn::Request => flags == SETUP,
    }
}

/// The ECN state of a connection.
#[derive(Debug)]
pub(crate) struct EcnState {
    on: bool,
    /// A mark has arrived: ECE is sent until the peer sends CWR.
    echo: bool,
    /// The window was reduced: the next new data carries CWR.
    cwr_pending: bool,
    /// ECE for data before this position has been handled.
    until: u64,
}

impl EcnState {
    pub fn new(on: bool) -> Self {
        Self { on, echo: false, cwr_pending: false, until: 0 }
    }

    /// Whether ECE or CWR is pending.
    pub fn is_pending(&self) -> bool {
        self.echo || self.cwr_pending
    }

    /// Whether both sides use ECN.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// A segment has arrived in the window (section 6.1.3). `true`: it must be acknowledged at once.
    pub fn arrived(&mut self, seg: &Arrival<'_>) -> bool {
        if !self.on {
            return false;
        }
        if seg.has(TcpFlags::CWR) {
            self.echo = false;
        }
        let marked = !seg.payload.is_empty()
            && seg.ip.traffic_class & CONGESTION_EXPERIENCED == CONGESTION_EXPERIENCED;
        self.echo |= marked;
        marked
    }

    /// An ACK has arrived (section 6.1.2): ECE reduces the window, once per round trip.
    pub fn acknowledged(
        &mut self,
        now: Instant,
        seg: &Arrival<'_>,
        mss: u32,
        recovery: &mut Recovery,
        congestion: &mut Congestion,
    ) {
        if self.on && seg.has(TcpFlags::ECE) && recovery.scoreboard.position(seg.ack()) > self.until {
            recovery.marked(now, mss, congestion);
            self.until = recovery.scoreboard.nxt();
            self.cwr_pending = true;
        }
    }

    /// CWR was sent.
    pub fn cwr_sent(&mut self) {
        self.cwr_pending = false;
    }

    /// The flags and the codepoint of an outgoing segment. Only new data may be marked.
    pub fn stamp(&self, new_data: bool) -> (TcpFlags, u8) {
        let mut flags = TcpFlags::empty();
        if !self.on {
            return (flags, 0);
        }
        flags.set(TcpFlags::ECE, self.echo);
        flags.set(TcpFlags::CWR, new_data && self.cwr_pending);
        (flags, if new_data { ECT_0 } else { 0 })
    }
}
