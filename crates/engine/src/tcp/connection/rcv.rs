//! The receive sequence variables (RFC 9293 section 3.3.1), the advertised window and when a window update is due (silly
//! window syndrome avoidance, RFC 9293 section 3.8.6.2.2), and the SACK blocks of an ACK (RFC 2018).

use crate::Instant;
use crate::buffer::RecvBuffer;
use crate::seq::RcvSeq;
use crate::tcp::connection::ack_hold::AckHold;
use crate::tcp::segment::Arrival;
use core::time::Duration;
use lastack_wire::tcp::{SackBlocks, TcpFlags, Timestamps};

/// How long TS.Recent is valid on an idle connection (RFC 7323 section 5.5).
const TS_RECENT_LIFE: Duration = Duration::from_secs(24 * 24 * 3600);

/// A smaller segment is not taken for a full one: the MSS of a path of the min MTU.
const MIN_FULL: u16 = 536;

/// The receive variables, named as in the RFC.
#[derive(Debug)]
pub(crate) struct Rcv {
    pub irs: RcvSeq,
    /// Next sequence number expected.
    pub nxt: RcvSeq,
    /// The advertised right edge: RCV.NXT + RCV.WND. It never moves left.
    pub edge: RcvSeq,
    /// Rcv.Wind.Shift
    pub shift: u8,
    /// The largest window to advertise, as the value of the window field.
    pub max_field: u16,
    /// The sequence number of the peer's FIN, once seen; processed if before `nxt`.
    pub fin: Option<RcvSeq>,
    /// Last.ACK.sent of RFC 7323.
    pub last_ack: RcvSeq,
    /// Bytes received since then.
    pub unacked: u32,
    /// Bytes of data in a full segment of the peer; 0: not known.
    pub full: u16,
    pub ts_recent: u32,
    pub ts_recent_at: Instant,
    /// A range received twice and not yet reported by D-SACK (RFC 2883).
    pub duplicate: Option<(RcvSeq, RcvSeq)>,
    /// How far the application allows acknowledging; `None`: all that has arrived.
    pub hold: Option<AckHold>,
    /// Stream positions of the most recent out-of-order data, the latest first.
    pub recent: [u64; 4],
}

impl Rcv {
    /// The variables after a handshake in which this window was advertised and the peer's SYN had this timestamp.
    #[inline]
    pub fn new(irs: RcvSeq, window: u32, shift: u8, ts_recent: u32, now: Instant) -> Self {
        let nxt = irs + 1;
        Self {
            irs,
            nxt,
            edge: nxt + window,
            shift,
            max_field: u16::MAX,
            fin: None,
            last_ack: nxt,
            hold: None,
            unacked: 0,
            full: 0,
            ts_recent,
            ts_recent_at: now,
            duplicate: None,
            recent: [0; 4],
        }
    }

    /// RCV.WND
    pub fn wnd(&self) -> u32 {
        if self.edge.after(self.nxt) { self.edge - self.nxt } else { 0 }
    }

    /// The value of the ACK field.
    pub fn ack(&self) -> RcvSeq {
        self.hold.map_or(self.nxt, |hold| hold.upto)
    }

    /// Data has arrived: notes how much of it the peer sends in a full segment. Its path, or its stack, may allow less than
    /// ours. A segment without PSH or FIN is full, as more data follows it; one that is larger than what was full shows that
    /// more is allowed.
    #[inline]
    pub fn measure_segment(&mut self, seg: &Arrival<'_>) {
        let single = u16::try_from(seg.payload.len()).unwrap_or(u16::MAX);
        if seg.segment_size > 0 {
            self.full = seg.segment_size;
        } else if single > self.full && self.full > 0
            || single >= MIN_FULL && !seg.has(TcpFlags::PSH | TcpFlags::FIN)
        {
            self.full = single;
        }
    }

    /// Bytes of data in a full segment of the peer, as far as it is known; `mss`: in one of ours.
    #[inline]
    pub fn full_segment(&self, mss: u32) -> u32 {
        if self.full > 0 { mss.min(self.full.into()) } else { mss }
    }

    /// The stream position of a sequence number at or after RCV.NXT.
    pub fn position(&self, ring: &RecvBuffer, seq: RcvSeq) -> u64 {
        ring.next() + u64::from(seq - self.nxt)
    }

    /// How far the right edge could move if it were advertised now; zero if less than the smaller of a segment and half
    /// the buffer, to avoid silly window syndrome (RFC 9293 section 3.8.6.2.2).
    pub fn growth(&self, ring: &RecvBuffer, mss: u32) -> u32 {
        let to = self.nxt + ring.room().min(usize::from(self.max_field) << self.shift) as u32;
        if !to.after(self.edge) {
            return 0;
        }
        let growth = to - self.edge;
        if growth >= mss.min(ring.bound() as u32 / 2) { growth } else { 0 }
    }

    /// Limits the window to this many bytes. A window that was advertised is not taken back.
    pub fn limit_window(&mut self, bytes: usize) {
        self.max_field = u16::try_from(bytes >> self.shift).unwrap_or(u16::MAX);
    }

    /// The right edge that the buffer allows.
    pub fn edge_to_announce(&self, ring: &RecvBuffer, mss: u32) -> RcvSeq {
        self.edge + self.growth(ring, mss)
    }

    /// The window field that advertises this right edge.
    pub fn window_field(&self, edge: RcvSeq) -> u16 {
        // The window starts at the ACK field of the same segment.
        let ack = self.ack();
        let wnd = if edge.after(ack) { edge - ack } else { 0 };
        (wnd >> self.shift).min(u32::from(u16::MAX)) as u16
    }

    /// Whether a window update is worth a segment of its own: it doubles what the peer may send.
    pub fn update_is_due(&self, ring: &RecvBuffer, mss: u32) -> bool {
        let growth = self.growth(ring, mss);
        growth > 0 && growth >= self.wnd() && (growth >= 2 * mss || growth >= ring.bound() as u32 / 2)
    }

    /// PAWS (RFC 7323 section 5): whether this timestamp is older than TS.Recent.
    pub fn is_old(&self, timestamps: Timestamps, now: Instant) -> bool {
        !self.is_recent(timestamps) && now - self.ts_recent_at < TS_RECENT_LIFE
    }

    /// Whether this timestamp is not older than TS.Recent, whatever the age of that.
    pub fn is_recent(&self, timestamps: Timestamps) -> bool {
        timestamps.val.wrapping_sub(self.ts_recent) as i32 >= 0
    }

    /// Updates TS.Recent from an acceptable segment (RFC 7323 section 4.3).
    pub fn note(&mut self, timestamps: Timestamps, seq: RcvSeq, now: Instant) {
        if !self.is_old(timestamps, now) {
            self.note_recent(timestamps, seq, now);
        }
    }

    /// The same for a timestamp that is known not to be old.
    pub fn note_recent(&mut self, timestamps: Timestamps, seq: RcvSeq, now: Instant) {
        if !seq.after(self.last_ack) {
            self.ts_recent = timestamps.val;
            self.ts_recent_at = now;
        }
    }

    /// The sequence number after the last out-of-order byte.
    pub fn end_of_sack(&self, ring: &RecvBuffer) -> Option<RcvSeq> {
        ring.out_of_order().end().map(|at| self.nxt + (at - ring.next()) as u32)
    }

    /// Records that out-of-order data arrived at this position.
    pub fn note_out_of_order(&mut self, ring: &RecvBuffer, at: u64) {
        let Some(range) = ring.out_of_order().holding(at) else { return };
        let before = self.recent;
        let mut others = before.into_iter().filter(|other| !range.contains(other));
        self.recent = core::array::from_fn(|i| if i == 0 { at } else { others.next().unwrap_or(0) });
    }

    /// The SACK option: the duplicate range (RFC 2883), then out-of-order data, the latest first, so that a block is
    /// reported several times before others replace it (RFC 2018 section 4).
    pub fn sack_blocks(&self, ring: &RecvBuffer, max: usize) -> SackBlocks {
        let mut blocks = SackBlocks::new();
        if let Some((start, end)) = self.duplicate {
            blocks.push((start.0, end.0));
        }
        let max = max - blocks.len();
        let seq = |at: u64| (self.nxt + (at - ring.next()) as u32).0;
        let recent = self.recent.into_iter().filter_map(|at| ring.out_of_order().holding(at));
        let others = ring.out_of_order().iter().filter(|r| !self.recent.iter().any(|at| r.contains(at)));
        for range in recent.chain(others).take(max) {
            blocks.push((seq(range.start), seq(range.end)));
        }
        blocks
    }
}
