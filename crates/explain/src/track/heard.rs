//! What the ACK numbers of one end tell of the other end's packets, where these are not in the capture.

use super::conn::Conn;
use crate::packet::{Pkt, ahead};

/// What an end has acknowledged of a direction that is not in the capture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// Bytes.
    pub bytes: u64,
    /// Bytes since its own last payload.
    pub run: u64,
    /// The last packet that acknowledged something new.
    pub last: Option<Pkt>,
    /// The last new number was a single one: presumably that of a FIN.
    pub fin: Option<Pkt>,
}

impl Heard {
    pub(super) const NONE: Self = Self { bytes: 0, run: 0, last: None, fin: None };
}

impl Conn {
    /// Takes note of what a packet acknowledges beyond `before`, if there is no packet of the other end.
    pub(super) fn hear(&mut self, pkt: &Pkt, before: Option<u32>) {
        let (own, peer) = (usize::from(pkt.side), 1 - pkt.side);
        let Some(before) = before.filter(|_| self.sides[usize::from(peer)].packets == 0) else { return };
        // A reset without a valid number, and numbers that no window allows, tell nothing.
        let new = ahead(pkt.ack, before);
        if !(1..1 << 30).contains(&new) {
            return;
        }
        let turn = self.speaker != Some(peer);
        let heard = &mut self.sides[own].heard;
        heard.last = Some(*pkt);
        if new == 1 {
            heard.fin = Some(*pkt);
            return;
        }
        heard.fin = None;
        heard.bytes += u64::from(new.unsigned_abs());
        heard.run = u64::from(new.unsigned_abs()) + if turn { 0 } else { heard.run };
        self.speaker = Some(peer);
    }
}
