//! Step five of SEGMENT ARRIVES: the ACK field (RFC 9293 section 3.10.7.4, RFC 5961 section 5, RFC 5681 section 3,
//! RFC 6298 section 5).

use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::State;
use crate::tcp::connection::stats::is_marked;
use crate::tcp::connection::timers::Timer;
use crate::tcp::handshake::negotiate;
use crate::tcp::segment::Arrival;
use crate::tcp::send::congestion::Acked;
use crate::tcp::send::recovery::Ack;
use crate::{Instant, Rule, Verdict};
use core::time::Duration;
use lastack_wire::tcp::SackBlocks;

impl Connection {
    /// Fifth: the ACK field.
    pub(in crate::tcp) fn process_ack(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
    ) -> Result<(), Verdict> {
        let ack = seg.ack();
        if ack.after(self.snd.nxt) {
            return Err(self.challenge(shared, now, Rule::AckUnsentData));
        }
        let acked = self.bytes.sent + u64::from(self.state == State::FinWait2);
        if ack.before(self.snd.oldest_ack(acked)) {
            return Err(self.challenge(shared, now, Rule::AckTooOld));
        }
        // Only an acceptable segment with an acceptable ACK proves that the peer is alive.
        self.last_received = now;
        self.probes = 0;
        let (recovery, congestion) = (&mut self.recovery, &mut self.congestion);
        self.marks.acknowledged(now, seg, self.mss, recovery, congestion);
        self.pending.more = false;
        let wnd = u32::from(seg.tcp.window) << self.negotiated.snd_shift;
        let before = self.snd.una;
        let duplicate = self.is_duplicate(seg, wnd);
        if ack.after(before) {
            self.advance_una(shared, now, ack);
        }
        if ack.after(before) && seg.tcp.options.sack.is_empty() && self.recovery.is_undisturbed() {
            self.recover_undisturbed(shared, now, seg, ack - before);
        } else if ack.after(before) || duplicate || !seg.tcp.options.sack.is_empty() {
            self.recover(shared, now, seg, ack.offset_from(before).max(0) as u32, duplicate);
        }
        if ack == before && seg.len() == 0 && wnd == self.snd.wnd && seg.tcp.options.sack.is_empty() {
            self.recovery.on_duplicate_pure_ack();
        }
        if ack.after(before) {
            self.progress(shared, now);
        }
        let advances = ack.after(before);
        if !ack.before(self.snd.una) && self.snd.update_window(seg.seq(), ack, wnd, advances) {
            self.window_opened(shared, now);
        }
        self.wake_low_water_writer(shared);
        self.on_peer_user_timeout(shared, now, seg);
        // Only now is the segment known to come from the peer (RFC 7323 section 4.3).
        if let Some(timestamps) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps) {
            self.rcv.note(timestamps, seg.seq(), now);
        }
        Ok(())
    }

    /// A zero window has opened: the lack of progress was due to flow control, not to the path. The RTO backoff is reset
    /// and the time limits restart.
    #[cold]
    pub(super) fn window_opened(&mut self, shared: &Shared, now: Instant) {
        self.rtt.progress();
        self.stalled_since = self.stalled_since.map(|_| now);
        self.timers.stop(Timer::User);
        self.arm(shared, now);
        if self.timers.is_running(Timer::Retransmission) {
            self.timers.set(Timer::Retransmission, self.rtt.expiry(now, &shared.config.tcp));
        }
    }

    /// The windows may allow more: the writer may be waiting for unsent data to be sent.
    #[inline]
    pub(super) fn wake_low_water_writer(&mut self, shared: &mut Shared) {
        if self.settings.not_sent_low_water.is_some() {
            self.wake_writer(shared);
        }
    }

    /// RFC 5681 section 2: what counts as a duplicate ACK.
    fn is_duplicate(&self, seg: &Arrival<'_>, wnd: u32) -> bool {
        seg.ack() == self.snd.una && self.snd.nxt != self.snd.una && seg.len() == 0 && wnd == self.snd.wnd
    }

    /// SND.UNA moves to `ack`.
    #[inline(always)]
    pub(super) fn advance_una(&mut self, shared: &mut Shared, now: Instant, ack: SndSeq) {
        let data = (ack - self.snd.una).min(self.outgoing.len() as u32);
        let fin = self.state.fin_pending() && ack == self.end_of_data() + 1;
        self.outgoing.acknowledge(data as usize);
        self.bytes.sent += u64::from(data);
        self.snd.una = ack;
        self.soft_error = None;
        if fin {
            self.fin_acknowledged(shared, now);
        }
    }

    #[inline(never)]
    fn fin_acknowledged(&mut self, shared: &Shared, now: Instant) {
        self.go(self.state.fin_acked(), now);
        self.arm(shared, now);
    }

    /// Fast path: new data is acknowledged while nothing is lost or out of order.
    #[inline(always)]
    pub(super) fn recover_undisturbed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        advanced: u32,
    ) {
        let in_flight = self.recovery.scoreboard.total();
        let outcome = self.recovery.acknowledged_undisturbed(now, advanced, self.mss);
        if self.recovery.uses_window(in_flight, self.mss, &self.congestion) {
            self.congestion.on_ack(&Acked {
                now,
                bytes: advanced,
                mss: self.mss,
                rtt: outcome.rtt.map(Duration::from_nanos),
                srtt: self.rtt.srtt(),
                delivered: self.bytes.sent,
                sent: self.bytes.sent + u64::from(self.snd.nxt - self.snd.una),
            });
        }
        self.stats.delivered(outcome.delivered, is_marked(seg, self.marks.is_on()));
        self.measure_rtt(shared, now, seg, outcome.rtt, advanced);
        self.timers.stop(Timer::Reorder);
        if self.search.is_some() {
            self.on_mtu_probe_outcome(shared, now);
        }
    }

    /// Takes an RTT sample, in nanoseconds.
    #[inline]
    fn measure_rtt(
        &mut self,
        shared: &Shared,
        now: Instant,
        seg: &Arrival<'_>,
        rtt: Option<u64>,
        advanced: u32,
    ) {
        let config = &shared.config.tcp;
        let echo = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps).map(|t| t.ecr);
        if let Some(rtt) = rtt {
            self.rtt.measure_nanos(rtt, config);
        } else if let Some(ecr) = echo.filter(|_| self.rtt.srtt().is_none() && advanced > 0) {
            // After a retransmission only a timestamp identifies the acknowledged segment.
            let elapsed = negotiate::timestamp(now, self.ts_offset).wrapping_sub(ecr);
            if elapsed < 1 << 31 {
                self.rtt.measure(Duration::from_millis(u64::from(elapsed.max(1))), config);
            }
        }
        if rtt.is_some() || echo.is_some() {
            self.rtt.progress();
        }
    }

    /// Applies the acknowledgment to loss detection, the RTT estimate and path MTU probing.
    fn recover(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        advanced: u32,
        duplicate: bool,
    ) {
        let mut blocks = [(SndSeq(0), SndSeq(0)); SackBlocks::MAX];
        let mut known = 0;
        for (start, end) in seg.tcp.options.sack.iter().filter(|_| self.negotiated.sack) {
            blocks[known] = (SndSeq(start), SndSeq(end));
            known += 1;
        }
        let echo = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps).map(|t| t.ecr);
        let offset = self.ts_offset;
        let echo_before = move |at: Instant| {
            echo.is_some_and(|ecr| (ecr.wrapping_sub(negotiate::timestamp(at, offset)) as i32) < 0)
        };
        let outcome = self.recovery.acknowledged(
            &Ack {
                now,
                una: self.snd.una,
                nxt: self.snd.nxt,
                advanced,
                duplicate,
                blocks: &blocks[..known],
                echo_before: &echo_before,
                mss: self.mss,
                srtt: self.rtt.srtt(),
                delivered: self.bytes.sent,
            },
            &mut self.congestion,
        );
        self.stats.delivered(outcome.delivered, is_marked(seg, self.marks.is_on()));
        self.measure_rtt(shared, now, seg, outcome.rtt, advanced);
        self.wait_for_reordered(now, outcome.reorder_wait);
        self.on_mtu_probe_outcome(shared, now);
    }

    /// Sets the reordering timer, or stops it.
    pub(in crate::tcp) fn wait_for_reordered(&mut self, now: Instant, wait: Option<Duration>) {
        match wait {
            Some(wait) => self.timers.set(Timer::Reorder, now + wait),
            None => self.timers.stop(Timer::Reorder),
        }
    }

    /// New data was acknowledged: the timers restart (RFC 6298 sections 5.2 and 5.3).
    #[inline(always)]
    pub(super) fn progress(&mut self, shared: &mut Shared, now: Instant) {
        self.timers.stop(Timer::User);
        self.timers.stop(Timer::TailProbe);
        if self.snd.una == self.snd.nxt {
            self.pending.tail_probe = false;
            self.note_limit(now);
            self.timers.stop(Timer::Retransmission);
            self.stalled_since = None;
            if self.outgoing.is_empty() {
                self.records = None;
            }
        } else {
            if self.recovery.restarts_timer() {
                self.timers.set(Timer::Retransmission, self.rtt.expiry(now, &shared.config.tcp));
            }
            self.stalled_since = Some(now);
            self.arm(shared, now);
            self.arm_tail_probe(shared, now);
        }
        self.tune_send_buffer(shared, now);
        self.wake_writer(shared);
    }
}
