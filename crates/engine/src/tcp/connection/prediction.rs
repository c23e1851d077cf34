//! Header prediction: in ESTABLISHED, and without loss, the next segment is an acknowledgment of data in flight, or the
//! data expected next, or both. For such a segment nothing but the fifth and the seventh step of SEGMENT ARRIVES
//! (RFC 9293 section 3.10.7.4) has an effect, and of these only the parts below. `is_predicted` decides; every other
//! segment takes all the steps, with the same result for a predicted one.

use crate::Instant;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::arrives::Step;
use crate::tcp::connection::state::State;
use crate::tcp::segment::Arrival;
use lastack_wire::tcp::TcpFlags;

impl Connection {
    /// Whether the segment is the one expected next, and nothing unusual is going on.
    pub(super) fn is_predicted(&self, seg: &Arrival<'_>) -> bool {
        let tcp = seg.tcp;
        let plain = tcp.flags & !TcpFlags::PSH == TcpFlags::ACK
            && tcp.options.timestamps.is_some() == self.negotiated.timestamps
            && tcp.options.sack.is_empty()
            && tcp.options.user_timeout.is_none();
        // First: the sequence number is the expected one, the data lies in the window, and the timestamp is not old.
        let expected = seg.seq() == self.rcv.nxt
            && self.rcv.edge.offset_from(self.rcv.nxt) >= seg.payload.len() as i32
            && tcp.options.timestamps.is_none_or(|timestamps| self.rcv.is_recent(timestamps));
        // Fifth: it acknowledges data in flight, or nothing new and carries data.
        let ack = seg.ack();
        let (advances, is_sent) = (ack.after(self.snd.una), !ack.after(self.snd.nxt));
        let acknowledges = is_sent && (advances || ack == self.snd.una && !seg.payload.is_empty());
        plain && expected && acknowledges && self.is_undisturbed()
    }

    /// Whether the connection is in ESTABLISHED, with nothing lost, out of order, held back or marked.
    fn is_undisturbed(&self) -> bool {
        self.state == State::Established
            && self.has_user
            && self.recovery.is_undisturbed()
            && self.incoming.out_of_order().is_empty()
            && self.rcv.fin.is_none()
            && !self.marks.is_on()
    }

    /// What the steps do with a predicted segment.
    pub(super) fn process_predicted(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        self.acknowledge_predicted(shared, now, seg); // fifth
        if seg.payload.is_empty() {
            return Ok(());
        }
        let at = self.incoming.next();
        self.store_data(shared, now, seg, at, seg.payload) // seventh
    }

    fn acknowledge_predicted(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) {
        let (ack, before) = (seg.ack(), self.snd.una);
        self.last_received = now;
        self.probes = 0;
        self.pending.more = false;
        let advances = ack != before;
        if advances {
            self.advance_una(shared, now, ack);
            self.recover_undisturbed(shared, now, seg, ack - before);
            self.progress(shared, now);
        }
        let wnd = u32::from(seg.tcp.window) << self.negotiated.snd_shift;
        if self.snd.update_window(seg.seq(), ack, wnd, advances) {
            self.window_opened(shared, now);
        }
        self.wake_low_water_writer(shared);
        if let Some(timestamps) = seg.tcp.options.timestamps {
            self.rcv.note_recent(timestamps, seg.seq(), now);
        }
    }
}
