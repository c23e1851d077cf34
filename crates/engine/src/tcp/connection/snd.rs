//! The send sequence variables (RFC 9293 section 3.3.1).

use crate::seq::{RcvSeq, SndSeq};

/// The send variables, named as in the RFC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snd {
    pub iss: SndSeq,
    /// Oldest unacknowledged sequence number.
    pub una: SndSeq,
    /// Next sequence number to be sent. It never goes back: the scoreboard tracks retransmissions.
    pub nxt: SndSeq,
    /// The window that the peer advertised, in bytes.
    pub wnd: u32,
    /// SEG.SEQ of the segment that advertised it.
    pub wl1: RcvSeq,
    /// SEG.ACK of the segment that advertised it.
    pub wl2: SndSeq,
    /// The largest window ever advertised (MAX.SND.WND of RFC 5961).
    pub max_wnd: u32,
}

impl Snd {
    /// The variables after a handshake: our SYN is acknowledged, and the peer's advertised this window.
    #[inline]
    pub fn new(iss: SndSeq, irs: RcvSeq, wnd: u32) -> Self {
        let una = iss + 1;
        Self { iss, una, nxt: una, wnd, wl1: irs, wl2: iss, max_wnd: wnd }
    }

    /// The right edge of the window: the first sequence number beyond it.
    pub fn edge(&self) -> SndSeq {
        self.una + self.wnd
    }

    /// The SEQ of a reset or of an ACK without data: SND.NXT, or the right edge if the peer shrank its window, since
    /// SND.NXT would be outside the peer's window (RFC 9293 section 3.5.2). A shortfall smaller than the rounding of
    /// the window field is ignored.
    pub fn acceptable_seq(&self, shift: u8) -> SndSeq {
        let edge = self.edge();
        if self.nxt.after(edge) && self.nxt - edge >= 1 << shift { edge } else { self.nxt }
    }

    /// The oldest acceptable ACK once `acked` bytes, FIN included, were acknowledged (RFC 5961 section 5.2; before
    /// a full window was acknowledged, that is ISS + 1).
    pub fn oldest_ack(&self, acked: u64) -> SndSeq {
        self.una - u64::from(self.max_wnd).min(acked) as u32
    }

    /// Updates the window, unless the segment is older than the one of the last update
    /// (RFC 9293 section 3.10.7.4, fifth). `true` if a zero window has opened.
    ///
    /// A segment that advances SND.UNA (`advances`) is not old, though it may be a retransmission with an old SEQ:
    /// added to the new SND.UNA, the previous window would reach beyond the right edge. (As on Linux; the RFC's test
    /// skips this update.)
    pub fn update_window(&mut self, seq: RcvSeq, ack: SndSeq, wnd: u32, advances: bool) -> bool {
        let newer = self.wl1.before(seq) || (self.wl1 == seq && !ack.before(self.wl2));
        if !newer && !advances {
            return false;
        }
        let opens = self.wnd == 0 && wnd > 0;
        self.wnd = wnd;
        self.wl1 = seq;
        self.wl2 = ack;
        self.max_wnd = self.max_wnd.max(wnd);
        opens
    }
}
