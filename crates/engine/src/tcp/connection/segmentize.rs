//! Makes the segments of a connection (RFC 9293 section 3.8): the only place that does. Slow start after idle (RFC 5681
//! section 4.1) is applied here.

use crate::counters::TcpSent;
use crate::end::{End, EndedBy};
use crate::packet::PacketBuffer;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::connection::plan::{Purpose, SegmentPlan, Wait};
use crate::tcp::connection::stats::segments;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::user_timeout;
use crate::tcp::connection::{Closing, Connection};
use crate::tcp::handshake::negotiate;
use crate::tcp::segment;
use crate::{Instant, Transmit};
use lastack_wire::reset_reason;
use lastack_wire::tcp::{SegmentFields, TcpFlags, TcpOptions, Timestamps};

/// Max SACK blocks in a segment: without and with the timestamp option.
const SACK_BLOCKS: [usize; 2] = [4, 3];

impl Connection {
    /// Writes the next segment into `packet`; `None` if there is none to send now.
    pub fn segmentize(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut impl PacketBuffer,
    ) -> Option<Transmit> {
        if self.pending.reset {
            return self.send_reset(shared, now, packet);
        }
        if self.fate.is_some() || self.settings.muted {
            return None;
        }
        if !self.recovery.scoreboard.covers(self.snd.una, self.snd.nxt) {
            // No peer can cause this. If it happens all the same, this connection retransmits too much.
            self.recovery.scoreboard.rebuild(self.snd.una, self.snd.nxt, now);
        }
        let plan = self.plan(shared, now);
        self.commit_wait(shared, now, plan.wait);
        let Some(next) = plan.segment else {
            self.arm(shared, now);
            self.note_limit(now);
            return None;
        };
        let header_len = self.emit(shared, now, &next, &[], packet)?;
        if plan.restart {
            self.commit_restart(shared, now);
        }
        let is_new_data = next.purpose == Purpose::Data && next.seq == self.snd.nxt && next.rule.is_none();
        if is_new_data {
            // The same, compiled for this case.
            let next = SegmentPlan { purpose: Purpose::Data, seq: self.snd.nxt, rule: None, ..next };
            self.commit(shared, now, &next);
        } else {
            self.commit_other(shared, now, &next);
        }
        self.arm(shared, now);
        let whole = next.len <= self.mss || next.purpose == Purpose::SizeProbe;
        let segment_size = (!whole).then_some(self.mss as u16);
        let transmit = segment::transmit(&shared.config, header_len);
        Some(Transmit { segment_size, rule: next.rule, ..transmit })
    }

    /// Sends the RST of an ABORT (RFC 9293 section 3.10.5) and ends the connection.
    #[cold]
    fn send_reset(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut impl PacketBuffer,
    ) -> Option<Transmit> {
        self.pending.reset = false;
        let Some(Closing::Resetting(mut ended)) = self.fate.take() else {
            return None;
        };
        let seq = self.snd.acceptable_seq(self.negotiated.snd_shift);
        let flags = TcpFlags::RST | TcpFlags::ACK;
        let plan = SegmentPlan { purpose: Purpose::Reset, seq, len: 0, flags, rule: Some(ended.end.rule) };
        let declared = self.rst_reason_payload(shared, seq, &ended.end).filter(|_| !self.pending.repeat);
        let header_len = self.emit(shared, now, &plan, declared.as_ref().map_or(&[], |d| d), packet)?;
        self.stats.sent(0, 1);
        shared.counters.tcp_sent(TcpSent::Reset, 1);
        shared.counters.tcp_reasons_sent += u64::from(declared.is_some());
        ended.end.at = now;
        let again = declared.is_some() && shared.config.tcp.resend_plain_rst;
        (self.pending.reset, self.pending.repeat) = (again, again);
        self.fate = Some(if again { Closing::Resetting(ended) } else { Closing::Closed(ended) });
        Some(Transmit { rule: plan.rule, ..segment::transmit(&shared.config, header_len) })
    }

    /// The diagnostic payload of a RST. `None` if it does not fit the peer's window: Linux drops such a RST,
    /// and would stay half-open.
    fn rst_reason_payload(&self, shared: &Shared, seq: SndSeq, end: &End) -> Option<[u8; reset_reason::LEN]> {
        let users = self.settings.rare().reset_reason.filter(|_| end.by == EndedBy::Application);
        let reason = users.or(end.rule.rst_reason().filter(|_| shared.config.tcp.send_rst_reason))?;
        let fits = !(seq + reset_reason::LEN as u32).after(self.snd.edge());
        fits.then(|| reason.to_payload())
    }

    /// Writes the planned segment, with data from the send buffer or, in a RST, the diagnostic payload `declared`.
    /// Returns the length of its headers. `None`: the send buffer does not hold the data, and nothing has changed.
    #[inline(always)]
    fn emit(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        plan: &SegmentPlan,
        declared: &[u8],
        packet: &mut impl PacketBuffer,
    ) -> Option<usize> {
        self.cap_receive_buffer(shared);
        let start = (plan.seq - self.snd.una) as usize;
        let data = match plan.len {
            0 => [declared, &[]],
            len => self.outgoing.slices(start, len as usize)?,
        };
        let edge = self.rcv.edge_to_announce(&self.incoming, self.mss);
        let (ecn, codepoint) = self.marks.stamp(plan.len > 0 && plan.seq == self.snd.nxt);
        let fields = SegmentFields {
            hop_limit: self.settings.hop_limit.unwrap_or(shared.config.hop_limit),
            traffic_class: self.settings.dscp << 2 | codepoint,
            seq: plan.seq.0,
            ack: self.rcv.ack().0,
            flags: plan.flags | ecn,
            window: self.rcv.window_field(edge),
            timestamps: self.timestamps(now),
        };
        let checksum = segment::checksum(&shared.config);
        // Routers must be able to distinguish fragments of different segments (RFC 6864).
        let fragmentable = self.settings.may_fragment && self.flow.remote.is_ipv4();
        let ident = fragmentable.then(|| shared.idents.next(&shared.secret, false) as u16);
        let has_template = !fragmentable && !self.needs_rare_options();
        let rare = (!has_template).then(|| self.options_of(plan, fields.timestamps));
        let header_len = match rare {
            Some(options) => {
                segment::emit_fields(&self.flow, &fields, options, ident, data, checksum, packet.headers())
            }
            None => {
                self.template.emit(&fields, data, checksum, packet.headers());
                self.template.len()
            }
        };
        if plan.len > 0 {
            packet.data(self.id, start..start + plan.len as usize, data);
        } else if !declared.is_empty() {
            packet.headers().extend_from_slice(declared);
        }
        // The window, the options and the flags of this segment are now announced.
        if let Some(options) = rare {
            self.rare_options_announced(plan, &options);
        }
        self.rcv.edge = edge;
        if ecn.contains(TcpFlags::CWR) {
            self.marks.cwr_sent();
        }
        Some(header_len)
    }

    /// The timestamps option; zero if it is not used.
    fn timestamps(&self, now: Instant) -> Timestamps {
        if !self.negotiated.timestamps {
            return Timestamps::default();
        }
        Timestamps { val: negotiate::timestamp(now, self.ts_offset), ecr: self.rcv.ts_recent }
    }

    /// Whether there are options to send other than timestamps.
    fn needs_rare_options(&self) -> bool {
        self.reports_ranges() || self.pending.user_timeout
    }

    /// Whether there is something to report with SACK.
    fn reports_ranges(&self) -> bool {
        self.negotiated.sack && (!self.incoming.out_of_order().is_empty() || self.rcv.duplicate.is_some())
    }

    /// The options of a segment.
    #[cold]
    fn options_of(&self, plan: &SegmentPlan, timestamps: Timestamps) -> TcpOptions {
        let has_timestamps = self.negotiated.timestamps;
        let mut options =
            TcpOptions { timestamps: has_timestamps.then_some(timestamps), ..TcpOptions::default() };
        if self.reports_ranges() {
            let max = SACK_BLOCKS[usize::from(has_timestamps)];
            // As many as fit beside the data; out-of-order data was already reported by an ACK of its own.
            let room = self.mss.saturating_sub(plan.len + 4) as usize / 8;
            if room > 0 {
                options.sack = self.rcv.sack_blocks(&self.incoming, max.min(room));
            }
        }
        if self.pending.user_timeout && Self::may_advertise_timeout(plan, &options) {
            options.user_timeout = self.settings.rare().advertised_user_timeout.map(user_timeout::field);
        }
        options
    }

    /// A segment with these options is sent.
    #[cold]
    fn rare_options_announced(&mut self, plan: &SegmentPlan, options: &TcpOptions) {
        if !options.sack.is_empty() {
            self.rcv.duplicate = None;
        }
        if self.pending.user_timeout && Self::may_advertise_timeout(plan, options) {
            self.pending.user_timeout = false;
        }
    }

    /// Data segments have no room for the User Timeout Option, nor does a segment with four SACK blocks.
    fn may_advertise_timeout(plan: &SegmentPlan, options: &TcpOptions) -> bool {
        matches!(plan.purpose, Purpose::Ack | Purpose::Probe) && options.sack.is_empty()
    }

    /// Arms the timer for data that has to wait.
    fn commit_wait(&mut self, shared: &Shared, now: Instant, wait: Wait) {
        match wait {
            Wait::Nothing => {}
            Wait::Turn(at) => self.timers.set(Timer::Pace, at),
            Wait::Window => self.arm_persist(shared, now),
        }
    }

    /// Data is sent after an idle period: reduces the congestion window (RFC 5681 section 4.1).
    #[cold]
    fn commit_restart(&mut self, shared: &Shared, now: Instant) {
        if let Some(silence) = self.data_sent.map(|at| now - at) {
            self.congestion.restart_after_idle(silence, self.rtt.rto(&shared.config.tcp), self.mss);
            self.recovery.trust();
        }
    }

    /// Commits a segment that is not new data.
    #[inline(never)]
    fn commit_other(&mut self, shared: &mut Shared, now: Instant, plan: &SegmentPlan) {
        self.commit(shared, now, plan);
    }

    /// Commits the segment just sent: pending flags, SND.NXT, timers.
    #[inline(always)]
    fn commit(&mut self, shared: &mut Shared, now: Instant, plan: &SegmentPlan) {
        let probes_size = plan.purpose == Purpose::SizeProbe;
        let count = if probes_size { 1 } else { segments(plan.len, self.mss) };
        self.sent = now;
        self.stats.sent(plan.len, count);
        self.commit_acks(plan);
        let occupies = plan.occupies();
        let again = occupies > 0 && plan.seq.before(self.snd.nxt);
        let sent = match plan.rule {
            _ if again => TcpSent::Again,
            _ if occupies > 0 => TcpSent::Data,
            Some(_) => TcpSent::ChallengeAck,
            None => TcpSent::Control,
        };
        shared.counters.tcp_sent(sent, count);
        if occupies == 0 {
            return;
        }
        (self.pending.force, self.pending.flush) = (false, false);
        let last = self.data_sent.replace(now);
        if let Some(last) = last.filter(|_| self.snd.una == self.snd.nxt) {
            self.congestion.add_idle_time(now - last);
        }
        self.touch_buffers(shared, now);
        self.timers.stop(Timer::Persist);
        self.recovery.sent(occupies, again);
        self.book_pace(shared, now, occupies);
        if again {
            self.commit_retransmission(now, plan, count);
        } else {
            self.commit_new(shared, now, plan, count);
        }
        if plan.purpose == Purpose::TailProbe {
            self.pending.tail_probe = false;
            shared.counters.tcp_loss_probes += 1;
            self.recovery.probed(again);
            self.timers.set(Timer::Retransmission, self.rtt.expiry(now, &shared.config.tcp));
        } else if !again {
            self.arm_tail_probe(shared, now);
        }
        self.stalled_since.get_or_insert(now);
        // The retransmission of the first segment restarts the timer (RFC 6675 section 6).
        let repaired = again && plan.seq == self.snd.una && self.recovery.restarts_timer();
        if repaired || !self.timers.is_running(Timer::Retransmission) {
            self.timers.set(Timer::Retransmission, self.rtt.expiry(now, &shared.config.tcp));
        }
        self.note_limit(now);
    }

    /// Commits a retransmission, sent as `count` segments on the wire.
    #[cold]
    fn commit_retransmission(&mut self, now: Instant, plan: &SegmentPlan, count: u32) {
        self.cold.losses.count_retransmission(plan.len, count);
        self.recovery.on_retransmit(plan.seq, plan.occupies(), now);
        if let Some(search) = &mut self.search {
            search.on_retransmit(plan.seq, plan.len);
        }
    }

    /// Commits new data, sent as `count` segments on the wire.
    #[inline(always)]
    fn commit_new(&mut self, shared: &mut Shared, now: Instant, plan: &SegmentPlan, count: u32) {
        if plan.purpose == Purpose::SizeProbe {
            self.on_mtu_probe_sent(shared, now, plan.seq, plan.len);
        }
        let end_of_data = self.recovery.scoreboard.nxt() + u64::from(plan.len);
        let mut pushed = self.pushed == end_of_data;
        if plan.flags.contains(TcpFlags::PSH) {
            pushed |= plan.len <= self.mss;
            if self.pushed < self.written && self.pushed <= end_of_data {
                self.push_next();
            }
        }
        self.recovery.scoreboard.push(plan.occupies(), count, now, pushed);
        self.recovery.note_use();
        if plan.len > 0 {
            if plan.len < self.mss || !plan.len.is_multiple_of(self.mss) {
                self.small = end_of_data;
            }
            self.ack_policy.data_sent(now, shared.config.tcp.ack_delay);
        }
        self.snd.nxt = plan.seq + plan.occupies();
    }

    /// Commits the ACK that every segment carries.
    #[inline(always)]
    fn commit_acks(&mut self, plan: &SegmentPlan) {
        match plan.purpose {
            Purpose::Probe => self.pending.probe = false,
            Purpose::Ack if plan.rule.is_some() => self.pending.challenge = None,
            Purpose::Ack => self.pending.pure_acks = self.pending.pure_acks.saturating_sub(1),
            _ => {}
        }
        self.pending.ack = false;
        self.ack_policy.acknowledged();
        self.rcv.unacked = 0;
        self.rcv.last_ack = self.rcv.ack();
        self.timers.stop(Timer::DelayedAck);
    }
}
