//! Decides what the next segment of a connection is (RFC 9293 section 3.8): the Nagle algorithm in Minshall's
//! variant, silly window syndrome (SWS) avoidance, zero-window probes, retransmission. Planning has no side effects;
//! `segmentize` commits a plan.

use crate::Instant;
use crate::config::TcpConfig;
use crate::rule::Rule;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate;
use crate::tcp::send::congestion::Congestion;
use crate::tcp::send::pacing;
use core::time::Duration;
use lastack_wire::tcp::TcpFlags;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A pure ACK.
    Ack,
    /// A window or keep-alive probe: SEQ is one before what the peer expects.
    Probe,
    /// Data or FIN, new or retransmitted.
    Data,
    /// A tail loss probe: data, new or retransmitted, regardless of the congestion window (RFC 8985 section 7).
    TailProbe,
    /// A path MTU probe: new data in a segment larger than the known path MTU (RFC 4821).
    SizeProbe,
    /// A RST.
    Reset,
}

/// What the next segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentPlan {
    pub purpose: Purpose,
    pub seq: SndSeq,
    /// Bytes of data.
    pub len: u32,
    pub flags: TcpFlags,
    pub rule: Option<Rule>,
}

impl SegmentPlan {
    /// Bytes of the sequence space: data and FIN.
    pub fn occupies(&self) -> u32 {
        self.len + u32::from(self.flags.contains(TcpFlags::FIN))
    }
}

/// What blocks data that cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing, or an event that an arrival or a running timer brings.
    Nothing,
    /// Pacing, until this time.
    Turn(Instant),
    /// The peer's window, which has to be probed (RFC 9293 section 3.8.6.1).
    Window,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub segment: Option<SegmentPlan>,
    pub wait: Wait,
    /// The congestion window is reduced after an idle period, if data is sent.
    pub restart: bool,
}

impl Plan {
    const fn only(segment: SegmentPlan) -> Self {
        Self { segment: Some(segment), wait: Wait::Nothing, restart: false }
    }
}

impl Connection {
    /// Whether there may be something to send; if not, no plan is needed.
    pub fn wants_to_send(&self) -> bool {
        let end = self.end_of_data();
        let unsent = end.after(self.snd.nxt) || self.state.fin_pending() && self.snd.nxt == end;
        unsent || !self.pending.is_empty() || self.recovery.scoreboard.lost() > 0
    }

    /// Decides what the next segment is.
    pub(super) fn plan(&self, shared: &Shared, now: Instant) -> Plan {
        if self.pending.pure_acks > 0 || self.pending.challenge.is_some() {
            return Plan::only(self.plan_ack(self.pending.challenge));
        }
        if self.pending.tail_probe
            && let Some(probe) = self.plan_tail_probe()
        {
            return Plan::only(probe);
        }
        let restarted = self.restart_after_idle(shared, now);
        let congestion = restarted.as_ref().unwrap_or(&self.congestion);
        let restart = restarted.is_some();
        let mut wait = Wait::Nothing;
        if let Some(data) = self.plan_data(shared, now, congestion) {
            let Some(turn) = self.paced_until(shared, now, congestion) else {
                return Plan { restart, ..Plan::only(data) };
            };
            wait = Wait::Turn(turn);
        } else if self.is_data_stuck() {
            wait = Wait::Window;
        }
        let segment = if self.pending.probe {
            // The sequence number before SND.UNA is never acceptable, so the peer must answer with an ACK.
            Some(SegmentPlan { purpose: Purpose::Probe, seq: self.snd.una - 1, ..self.plan_ack(None) })
        } else {
            self.pending.ack.then(|| self.plan_ack(None))
        };
        Plan { segment, wait, restart: false }
    }

    /// The plan, for tests.
    #[cfg(test)]
    pub(in crate::tcp) fn plan_to_show(
        &self,
        shared: &Shared,
        now: Instant,
    ) -> impl core::fmt::Debug + use<> {
        self.plan(shared, now)
    }

    fn plan_ack(&self, rule: Option<Rule>) -> SegmentPlan {
        let seq = self.snd.acceptable_seq(self.negotiated.snd_shift);
        SegmentPlan { purpose: Purpose::Ack, seq, len: 0, flags: TcpFlags::ACK, rule }
    }

    /// A retransmission, a path MTU probe, or new data.
    fn plan_data(&self, shared: &Shared, now: Instant, congestion: &Congestion) -> Option<SegmentPlan> {
        if !self.recovery.scoreboard.is_unmarked()
            && let Some(again) = self.plan_retransmission(shared, congestion)
        {
            return Some(again);
        }
        if self.search.is_none() {
            return self.plan_new(shared, congestion);
        }
        match self.plan_size_probe(shared, now, congestion) {
            SizeProbe::Send(probe) => Some(probe),
            SizeProbe::UserInterest => None,
            SizeProbe::None => self.plan_new(shared, congestion),
        }
    }

    /// The congestion state after an idle period, when the old window may exceed what the path can take at once
    /// (RFC 5681 section 4.1); `None` if there was no idle period, or there is nothing to send.
    fn restart_after_idle(&self, shared: &Shared, now: Instant) -> Option<Congestion> {
        let config = &shared.config.tcp;
        if self.snd.una != self.snd.nxt || !config.slow_start_after_idle {
            return None;
        }
        let silence = now.nanos_since(self.data_sent?);
        let rto = self.rtt.rto_nanos(config);
        if silence <= rto || !self.end_of_data().after(self.snd.nxt) {
            return None;
        }
        Some(self.restarted(Duration::from_nanos(silence), Duration::from_nanos(rto)))
    }

    /// The congestion state if data is sent after this silence.
    #[cold]
    fn restarted(&self, silence: Duration, rto: Duration) -> Congestion {
        let mut congestion = self.congestion.clone();
        congestion.restart_after_idle(silence, rto, self.mss);
        congestion
    }

    /// The unused part of the congestion window.
    #[inline(always)]
    fn congestion_room(&self, congestion: &Congestion) -> u32 {
        self.recovery.window(congestion, self.mss).saturating_sub(self.recovery.pipe(self.mss))
    }

    /// Whether data or FIN is waiting, nothing is in flight, and the window does not allow sending it.
    fn is_data_stuck(&self) -> bool {
        let end = self.end_of_data();
        let waiting = end.after(self.snd.nxt) || (self.state.fin_pending() && self.snd.nxt == end);
        waiting && self.snd.una == self.snd.nxt && !self.pending.probe
    }

    /// A retransmission of lost data, limited by the congestion window. The peer's window has already allowed it once.
    #[cold]
    fn plan_retransmission(&self, shared: &Shared, congestion: &Congestion) -> Option<SegmentPlan> {
        let lost = self.recovery.scoreboard.first_lost()?;
        let room = self.congestion_room(congestion);
        // After a timeout, and first in a recovery, one segment is sent regardless of the window.
        let room = if self.recovery.pipe(self.mss) == 0 { room.max(self.mss) } else { room };
        let len = lost.len.min(self.longest(shared, congestion)).min(room / self.mss * self.mss);
        let whole = self.record_room(lost.seq, len);
        let pushed = lost.pushed && len == lost.len || whole < len;
        (len > 0).then(|| self.retransmission_plan(lost.seq, whole, pushed))
    }

    /// A tail loss probe: new data if there is any, else a retransmission of the last segment, regardless of the
    /// congestion window. `None`: everything has been acknowledged in the meantime.
    #[cold]
    fn plan_tail_probe(&self) -> Option<SegmentPlan> {
        let (seq, end) = (self.snd.nxt, self.end_of_data());
        let edge = self.snd.edge();
        let probe = if end.after(seq) && edge.after(seq) {
            let len = (end - seq).min(edge - seq).min(self.mss);
            self.data(seq, self.record_room(seq, len), false)
        } else {
            let last = self.recovery.scoreboard.last()?;
            let len = self.record_tail(last.end(), last.len.min(self.mss));
            self.retransmission_plan(last.end() - len, len, last.pushed)
        };
        Some(SegmentPlan { purpose: Purpose::TailProbe, ..probe })
    }

    /// New data from `seq` on, optionally with FIN after it.
    fn data(&self, seq: SndSeq, len: u32, fin: bool) -> SegmentPlan {
        SegmentPlan { purpose: Purpose::Data, seq, len, flags: self.flags_at(seq, len, fin), rule: None }
    }

    /// A retransmission of `octets` bytes of the sequence space, FIN included.
    fn retransmission_plan(&self, seq: SndSeq, bytes: u32, pushed: bool) -> SegmentPlan {
        let (end, end_of_data) = (seq + bytes, self.end_of_data());
        let fin = end.after(end_of_data);
        let len = bytes - u32::from(fin);
        let mut flags = self.flags_at(seq, len, fin);
        flags.set(TcpFlags::PSH, len > 0 && (pushed || len > self.mss));
        SegmentPlan { purpose: Purpose::Data, seq, len, flags, rule: None }
    }

    /// A segment larger than the known path MTU, as a probe. It waits for the congestion window, and so does the new
    /// data behind it.
    #[inline(never)]
    fn plan_size_probe(&self, shared: &Shared, now: Instant, congestion: &Congestion) -> SizeProbe {
        let Some(len) = self.next_probe_size(shared, now, congestion.window()) else {
            return SizeProbe::None;
        };
        if self.record_room(self.snd.nxt, len) < len {
            return SizeProbe::None;
        }
        if self.congestion_room(congestion) < len {
            return if self.recovery.pipe(self.mss) > 0 { SizeProbe::UserInterest } else { SizeProbe::None };
        }
        SizeProbe::Send(SegmentPlan { purpose: Purpose::SizeProbe, ..self.data(self.snd.nxt, len, false) })
    }

    /// New data that both windows allow, or the FIN after it.
    #[inline(always)]
    fn plan_new(&self, shared: &Shared, congestion: &Congestion) -> Option<SegmentPlan> {
        let (seq, end) = (self.snd.nxt, self.end_of_data());
        let fin_wanted = self.state.fin_pending() && !seq.after(end);
        let available = if seq.after(end) { 0 } else { end - seq };
        if available == 0 && !fin_wanted {
            return None;
        }
        let edge = self.snd.edge();
        let peer_room = if edge.after(seq) { edge - seq } else { 0 };
        let room = peer_room.min(self.congestion_room(congestion));
        let record = self.record_room(seq, available);
        let longest = if record <= self.mss { self.mss } else { self.longest(shared, congestion) };
        // The last segment of a record does not wait if data follows it.
        let len = self.sendable(record, room, fin_wanted || record < available, longest)?;
        let fin = fin_wanted && len == available && room > len;
        (len > 0 || fin).then(|| self.data(seq, len, fin))
    }

    /// How many of `available` bytes are sent now: whole segments; the rest only if the Nagle algorithm
    /// (RFC 9293 section 3.7.4) and sender SWS avoidance (section 3.8.6.2.1) allow it.
    #[inline(always)]
    fn sendable(&self, available: u32, room: u32, fin: bool, longest: u32) -> Option<u32> {
        let len = available.min(room).min(longest);
        if len == available {
            let last = if len < self.mss { len } else { len % self.mss };
            // Minshall's variant of the Nagle algorithm, as on Linux: a small segment waits only for the ACK
            // of another small one, so the end of a large write does not wait for a delayed ACK.
            let idle = self.small <= self.recovery.scoreboard.una();
            let held = self.settings.cork || self.pending.more;
            let goes = !held && (self.settings.nodelay || idle);
            if last == 0 || fin || goes || self.pending.force || self.pending.flush {
                return Some(len);
            }
            return (len > last).then_some(len - last);
        }
        if len >= self.mss {
            return Some(len - len % self.mss);
        }
        (self.pending.force || (len > 0 && len >= self.snd.max_wnd / 2)).then_some(len)
    }

    /// Max data in one packet to the link: what it can segment (GSO), in whole segments.
    #[inline]
    fn longest(&self, shared: &Shared, congestion: &Congestion) -> u32 {
        let max = shared.config.max_packet.min(usize::from(u16::MAX));
        // Without DF each segment has an identification of its own.
        if max <= shared.config.mtu || self.settings.may_fragment {
            return self.mss;
        }
        self.longest_super_segment(shared, congestion, max)
    }

    #[inline(never)]
    fn longest_super_segment(&self, shared: &Shared, congestion: &Congestion, max: usize) -> u32 {
        let headers = negotiate::headers(self.flow.remote.ip()) + 40;
        let max = (max.saturating_sub(headers) as u32).min(self.burst(&shared.config.tcp, congestion));
        (max - max % self.mss).max(self.mss)
    }

    /// How many of `len` bytes from `seq` on may share a segment: those up to the end of a record (`MSG_EOR`).
    fn record_room(&self, seq: SndSeq, len: u32) -> u32 {
        let Some(records) = &self.records else { return len };
        let (start, end) = self.record_span(seq, self.end_of_data());
        records.next_after(start).filter(|at| *at < end).map_or(len, |at| len.min((at - start) as u32))
    }

    /// How many of the last `len` bytes before `end` may share a segment.
    fn record_tail(&self, end: SndSeq, len: u32) -> u32 {
        let Some(records) = &self.records else { return len };
        let (end, end_of_data) = self.record_span(end, self.end_of_data());
        // A FIN shares the segment of the last record.
        records.last_before(end.min(end_of_data)).map_or(len, |at| len.min((end - at) as u32))
    }

    fn record_span(&self, from: SndSeq, to: SndSeq) -> (u64, u64) {
        (self.recovery.scoreboard.position(from), self.recovery.scoreboard.position(to))
    }

    /// Bytes of unsent data that both windows allow sending now.
    pub(in crate::tcp) fn sendable_now(&self) -> u32 {
        let room = self.snd.edge().offset_from(self.snd.nxt).max(0) as u32;
        room.min(self.congestion_room(&self.congestion))
    }

    /// Max size of a super-segment: what the path carries in a millisecond, so that no long burst queues at a
    /// bottleneck; more at a small RTT; at least `burst_segments` segments, and at most half of the congestion window.
    /// As in Linux's "TSO autosizing".
    fn burst(&self, config: &TcpConfig, congestion: &Congestion) -> u32 {
        let Some(srtt) = self.rtt.srtt() else { return u32::MAX };
        let micros = (srtt.as_micros() as u64).max(1);
        let cwnd = u64::from(congestion.window());
        let rate = cwnd * pacing::percent(congestion, cwnd) * 10 / micros * 1000 / 1024;
        let near = (1 << 16) >> (micros >> 9).min(17);
        let max = (cwnd / 2).max(self.mss.into());
        let min = u64::from(self.mss) * u64::from(config.burst_segments);
        (rate + near).max(min).min(max) as u32
    }

    /// The flags of a segment with this data: PSH at the end of a send call (RFC 9293 section 3.9.1.2), and on every
    /// super-segment, so that the peer's link, which coalesces segments (GRO), need not wait for more.
    fn flags_at(&self, seq: SndSeq, len: u32, fin: bool) -> TcpFlags {
        let end = seq + len;
        let mut flags = TcpFlags::ACK;
        let position = |seq| self.recovery.scoreboard.position(seq);
        let record = || self.records.as_ref().is_some_and(|records| records.ends_at(position(end)));
        let pushed =
            self.pushed > position(seq) && self.pushed <= position(end) || self.pending.force || record();
        flags.set(TcpFlags::PSH, len > 0 && (pushed || len > self.mss));
        flags.set(TcpFlags::FIN, fin && end == self.end_of_data());
        flags
    }
}

/// The next step of the search for a larger path MTU.
enum SizeProbe {
    /// There is nothing to probe now.
    None,
    /// It waits for the congestion window.
    UserInterest,
    Send(SegmentPlan),
}
