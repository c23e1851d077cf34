//! The send sequence variables (RFC 9293 section 3.3.1).

use crate::seq::{RcvSeq, SndSeq};

/// The send variables, named as in the RFC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snd {
    pub iss: SndSeq,
    /// Oldest number not acknowledged.
    pub una: SndSeq,
    /// Next number to be sent. It never goes back: what is sent again is the scoreboard's to know.
    pub nxt: SndSeq,
    /// The window the peer announced, in octets.
    pub wnd: u32,
    /// SEG.SEQ of the segment that announced it.
    pub wl1: RcvSeq,
    /// SEG.ACK of the segment that announced it.
    pub wl2: SndSeq,
    /// The largest window ever announced (MAX.SND.WND of RFC 5961).
    pub max_wnd: u32,
}

impl Snd {
    /// The number one past the window.
    pub fn edge(&self) -> SndSeq {
        self.una + self.wnd
    }

    /// The SEQ of a reset or an ACK of ours that carries nothing: SND.NXT, or the right edge if the
    /// peer shrank its window, for else the peer sees it outside the window (RFC 9293 section 3.5.2). A
    /// shortfall below the rounding of the window field is none.
    pub fn acceptable_seq(&self, shift: u8) -> SndSeq {
        let edge = self.edge();
        if self.nxt.after(edge) && self.nxt - edge >= 1 << shift { edge } else { self.nxt }
    }

    /// The oldest acknowledgment that is believed once `acked` octets, FIN included, were acknowledged
    /// (RFC 5961 section 5.2; before a window was used up, its size says nothing).
    pub fn oldest_ack(&self, acked: u64) -> SndSeq {
        self.una - u64::from(self.max_wnd).min(acked) as u32
    }

    /// Takes over a window, unless the segment is older than the one that told the last
    /// (RFC 9293 section 3.10.7.4, fifth). `true` if it was shut and is open now.
    ///
    /// What acknowledges more than anything before (`advances`) is not old, though it may be text sent
    /// again, with an old SEQ: SND.UNA moves, and the window that was told with less would reach beyond
    /// the right edge. (As Linux; the RFC's test passes it over.)
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
