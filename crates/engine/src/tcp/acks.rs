//! The fifth step of SEGMENT ARRIVES: the ACK field (RFC 9293 section 3.10.7.4, RFC 5961 section 5,
//! RFC 5681 section 3, RFC 6298 section 5).

use super::congestion::Control;
use super::connection::Connection;
use super::options;
use super::recovery::Progress;
use super::segment::Arrival;
use super::state::State;
use super::timers::Timer;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::{Instant, Rule, Verdict};
use core::time::Duration;
use lastack_wire::tcp::TcpFlags;

impl Connection {
    /// Fifth: the ACK field.
    pub(super) fn process_ack(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
    ) -> Result<(), Verdict> {
        if !seg.has(TcpFlags::ACK) {
            return Err(Verdict::Dropped(Rule::S54.into()));
        }
        let ack = seg.ack();
        if ack.after(self.snd.max) {
            return Err(self.challenge(shared, now, Rule::S52));
        }
        if ack.before(self.snd.oldest_ack()) {
            return Err(self.challenge(shared, now, Rule::S53));
        }
        self.probes = 0;
        let wnd = u32::from(seg.tcp.window) << self.negotiated.snd_shift;
        if ack.after(self.snd.una) {
            self.advance_una(shared, now, ack, seg);
        } else if self.is_duplicate(seg, wnd) {
            self.duplicate_ack();
        }
        if !ack.before(self.snd.una) {
            self.snd.update_window(seg.seq(), ack, wnd);
        }
        // Only now is the segment known to be the peer's (`RESETS.md` D23).
        if let Some(timestamps) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps) {
            self.rcv.note(timestamps, seg.seq(), now);
        }
        Ok(())
    }

    /// RFC 5681 section 2: what counts as a duplicate ACK.
    fn is_duplicate(&self, seg: &Arrival<'_>, wnd: u32) -> bool {
        seg.ack() == self.snd.una && self.snd.max != self.snd.una && seg.len() == 0 && wnd == self.snd.wnd
    }

    fn duplicate_ack(&mut self) {
        let flight = self.snd.max - self.snd.una;
        if self.recovery.duplicate_ack(self.snd.una, self.snd.max, self.mss) {
            self.congestion.on_loss(flight, self.mss);
            self.owed.retransmission = true;
        }
    }

    /// SND.UNA moves to `ack`.
    fn advance_una(&mut self, shared: &mut Shared, now: Instant, ack: SndSeq, seg: &Arrival<'_>) {
        let text = (ack - self.snd.una).min(self.outgoing.len() as u32);
        let fin = self.state.fin_pending() && ack == self.end_of_text() + 1;
        let limited = self.snd.max - self.snd.una + self.mss > self.congestion.window() / 2;
        self.outgoing.acknowledge(text as usize);
        self.octets.sent += u64::from(text);
        self.snd.una = ack;
        self.snd.nxt = self.snd.nxt.later(ack);
        self.soft_error = None;
        self.measure(shared, now, ack, seg);
        self.repair(ack, text, limited);
        self.restart_retransmission(shared, now);
        if fin {
            self.go(self.state.fin_acked(), now);
            if self.state == State::FinWait2 {
                self.arm(shared, now);
            }
        }
        self.wake_writer(shared);
    }

    fn measure(&mut self, shared: &Shared, now: Instant, ack: SndSeq, seg: &Arrival<'_>) {
        let config = &shared.config.tcp;
        self.rtt.acknowledged(ack, now, config);
        // After a retransmission only a timestamp tells which segment is acknowledged.
        if self.rtt.srtt().is_none()
            && let Some(ts) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps)
        {
            let elapsed = options::timestamp(now, self.ts_offset).wrapping_sub(ts.ecr);
            if elapsed < 1 << 31 {
                self.rtt.measure(Duration::from_millis(u64::from(elapsed.max(1))), config);
            }
        }
        self.rtt.progress();
    }

    /// What the acknowledgment means for the congestion window and the repair of losses.
    fn repair(&mut self, ack: SndSeq, octets: u32, limited: bool) {
        match self.recovery.acknowledged(octets, ack, self.mss) {
            Progress::Normal if limited => self.congestion.on_ack(octets, self.mss),
            Progress::Partial => self.owed.retransmission = true,
            Progress::Normal | Progress::Complete => {}
        }
    }

    /// RFC 6298 sections 5.2 and 5.3.
    fn restart_retransmission(&mut self, shared: &Shared, now: Instant) {
        if self.snd.una == self.snd.max {
            self.timers.stop(Timer::Retransmission);
            self.stalled_since = None;
            self.timers.stop(Timer::User);
        } else {
            self.timers.set(Timer::Retransmission, now + self.rtt.rto(&shared.config.tcp));
            self.stalled_since = Some(now);
            self.timers.stop(Timer::User);
            self.arm(shared, now);
        }
    }
}
