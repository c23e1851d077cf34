//! Makes the segments of a connection: the only place that does (RFC 9293 section 3.8).

use crate::end::{End, Party};
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::connection::pending::Owed;
use crate::tcp::connection::stats::segments;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::user_timeout;
use crate::tcp::connection::{Connection, Fate};
use crate::tcp::handshake::negotiate;
use crate::tcp::segment::Outgoing;
use crate::tcp::send::congestion::Control;
use crate::{Instant, Rule, TcpConfig, Transmit};
use alloc::vec::Vec;
use lastack_wire::reset_reason;
use lastack_wire::tcp::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// SACK blocks that fit beside a timestamp.
const SACK_BLOCKS: [usize; 2] = [4, 3];

/// What the next segment is.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seq: SndSeq,
    /// Octets of text.
    len: u32,
    flags: TcpFlags,
    rule: Option<Rule>,
}

impl Connection {
    /// Writes the next segment into `packet`; `None` if there is none to send now.
    pub fn segmentize(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if self.owed.reset {
            return self.send_reset(shared, now, packet);
        }
        if self.fate.is_some() {
            return None;
        }
        if !self.recovery.scoreboard.covers(self.snd.una, self.snd.nxt) {
            // No peer can bring this about. If it happens all the same, one connection sends too much again.
            self.recovery.scoreboard.rebuild(self.snd.una, self.snd.nxt, now);
        }
        self.arm(shared, now);
        let Some(plan) = self.plan(shared, now) else {
            self.note_limit(now);
            return None;
        };
        let transmit = self.write(shared, now, plan, &[], packet)?;
        let occupies = plan.len > 0 || plan.flags.contains(TcpFlags::FIN);
        let again = occupies && plan.seq.before(self.snd.nxt);
        self.sent(shared, now, plan);
        if !again {
            shared.counters.tcp_out_segments += u64::from(segments(plan.len, self.mss));
        }
        if plan.rule.is_some() {
            shared.counters.tcp_challenge_acks += 1;
        }
        Some(transmit)
    }

    /// Whether there is surely nothing to send, so that to ask is needless.
    pub fn is_quiet(&self) -> bool {
        let end = self.end_of_text();
        let unsent = end.after(self.snd.nxt) || self.state.fin_pending() && self.snd.nxt == end;
        !unsent && self.owed == Owed::default() && self.recovery.scoreboard.lost() == 0
    }

    /// The ABORT of RFC 9293 section 3.10.5 goes out, and the connection is over.
    fn send_reset(&mut self, shared: &mut Shared, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        self.owed.reset = false;
        let Some(Fate::Resetting(mut end)) = self.fate.take() else {
            return None;
        };
        let seq = self.snd.acceptable_seq(self.negotiated.snd_shift);
        let plan = Plan { seq, len: 0, flags: TcpFlags::RST | TcpFlags::ACK, rule: Some(end.rule) };
        let declared = self.declaration(shared, seq, &end).filter(|_| !self.owed.repeat);
        let transmit = self.write(shared, now, plan, declared.as_ref().map_or(&[], |d| d), packet)?;
        self.stats.sent(0, self.mss);
        shared.counters.tcp_out_segments += 1;
        shared.counters.tcp_out_resets += 1;
        shared.counters.tcp_reasons_sent += u64::from(declared.is_some());
        end.at = now;
        let again = declared.is_some() && shared.config.tcp.repeat_declared;
        (self.owed.reset, self.owed.repeat) = (again, again);
        self.fate = Some(if again { Fate::Resetting(end) } else { Fate::Over(end) });
        Some(transmit)
    }

    /// What the reset says of its reason. Nothing, unless it fits the peer's window: Linux drops a
    /// reset whose text does not, and would stay half-open.
    fn declaration(&self, shared: &Shared, seq: SndSeq, end: &End) -> Option<[u8; reset_reason::LEN]> {
        let users = self.settings.reset_reason.filter(|_| end.by == Party::Application);
        let reason = users.or(end.rule.declared().filter(|_| shared.config.tcp.declare_reasons))?;
        let fits = !(seq + reset_reason::LEN as u32).after(self.snd.edge());
        fits.then(|| reason.to_payload())
    }

    /// Decides what the next segment is.
    fn plan(&mut self, shared: &Shared, now: Instant) -> Option<Plan> {
        if self.owed.pure_acks > 0 || self.owed.challenge.is_some() {
            return Some(self.plan_ack(self.owed.challenge));
        }
        if let Some(plan) = self.plan_tail_probe() {
            return Some(plan);
        }
        self.heed_silence(shared, now);
        let (size_probe, waits) = self.plan_size_probe(shared, now);
        let again = self.plan_retransmission(shared).or(size_probe);
        if let Some(plan) = again.or_else(|| if waits { None } else { self.plan_text(shared) }) {
            let Some(turn) = self.paced_until(shared, now) else { return Some(plan) };
            self.timers.set(Timer::Pace, turn);
        } else {
            self.arm_persist(shared, now);
        }
        if self.owed.probe {
            // The number before SND.UNA is never acceptable, so the peer must answer with an ACK.
            return Some(Plan { seq: self.snd.una - 1, ..self.plan_ack(None) });
        }
        self.owed.ack.then(|| self.plan_ack(None))
    }

    fn plan_ack(&self, rule: Option<Rule>) -> Plan {
        let seq = self.snd.acceptable_seq(self.negotiated.snd_shift);
        Plan { seq, len: 0, flags: TcpFlags::ACK, rule }
    }

    /// RFC 5681 section 4.1: after a silence the congestion window is not what the path can take at once.
    fn heed_silence(&mut self, shared: &Shared, now: Instant) {
        let config = &shared.config.tcp;
        let Some(silence) = self.text_sent.map(|at| now - at) else { return };
        let rto = self.rtt.rto(config);
        let silent = self.snd.una == self.snd.nxt && self.end_of_text().after(self.snd.nxt) && silence > rto;
        if silent && config.slow_start_after_idle {
            self.text_sent = None;
            self.congestion.restart(silence, rto, self.mss);
            self.recovery.trust();
        }
    }

    /// What may still be in flight by congestion control.
    fn congestion_room(&self) -> u32 {
        let window = self.recovery.window(&self.congestion, self.mss);
        window.saturating_sub(self.recovery.pipe(self.mss))
    }

    /// What was lost, again: as much of it as the congestion window lets go. What the peer's window
    /// let go once may go again.
    fn plan_retransmission(&self, shared: &Shared) -> Option<Plan> {
        let lost = self.recovery.scoreboard.first_lost()?;
        let room = self.congestion_room();
        // After a timeout, and first in a recovery, one segment goes whatever the window says.
        let room = if self.recovery.pipe(self.mss) == 0 { room.max(self.mss) } else { room };
        let len = lost.len.min(self.longest(shared)).min(room / self.mss * self.mss);
        (len > 0).then(|| self.plan_again(lost.seq, len, lost.pushed && len == lost.len))
    }

    /// New text if there is some, else the last segment again, whatever the congestion window says.
    fn plan_tail_probe(&mut self) -> Option<Plan> {
        if !self.owed.tail_probe {
            return None;
        }
        let (seq, end) = (self.snd.nxt, self.end_of_text());
        let edge = self.snd.edge();
        if end.after(seq) && edge.after(seq) {
            let len = (end - seq).min(edge - seq).min(self.mss);
            return Some(Plan { seq, len, flags: self.flags_at(seq, len, false), rule: None });
        }
        let Some(last) = self.recovery.scoreboard.last() else {
            self.owed.tail_probe = false;
            return None;
        };
        let len = last.len.min(self.mss);
        Some(self.plan_again(last.end() - len, len, last.pushed))
    }

    /// `octets` of what was sent before, FIN included.
    fn plan_again(&self, seq: SndSeq, octets: u32, pushed: bool) -> Plan {
        let (end, end_of_text) = (seq + octets, self.end_of_text());
        let fin = end.after(end_of_text);
        let len = octets - u32::from(fin);
        let mut flags = self.flags_at(seq, len, fin);
        flags.set(TcpFlags::PSH, len > 0 && (pushed || len > self.mss));
        Plan { seq, len, flags, rule: None }
    }

    /// A segment larger than the path is known to take, to see whether it arrives. The second: it waits for the
    /// congestion window, and text with it.
    fn plan_size_probe(&mut self, shared: &Shared, now: Instant) -> (Option<Plan>, bool) {
        let Some(len) = self.size_to_probe(shared, now) else { return (None, false) };
        if self.congestion_room() < len {
            return (None, self.recovery.pipe(self.mss) > 0);
        }
        let seq = self.snd.nxt;
        self.probe_size(seq, len);
        (Some(Plan { seq, len, flags: self.flags_at(seq, len, false), rule: None }), false)
    }

    /// Text that the windows let go, or the FIN after it.
    fn plan_text(&self, shared: &Shared) -> Option<Plan> {
        let (seq, end) = (self.snd.nxt, self.end_of_text());
        let fin_wanted = self.state.fin_pending() && !seq.after(end);
        let available = if seq.after(end) { 0 } else { end - seq };
        if available == 0 && !fin_wanted {
            return None;
        }
        let edge = self.snd.edge();
        let peer_room = if edge.after(seq) { edge - seq } else { 0 };
        let room = peer_room.min(self.congestion_room());
        let len = self.sendable(available, room, fin_wanted, self.longest(shared))?;
        let fin = fin_wanted && len == available && room > len;
        if len == 0 && !fin {
            return None;
        }
        Some(Plan { seq, len, flags: self.flags_at(seq, len, fin), rule: None })
    }

    /// How much of `available` octets goes now: whole segments; the rest only if the Nagle algorithm
    /// (RFC 9293 section 3.7.4) and sender SWS avoidance (section 3.8.6.2.1) let it.
    fn sendable(&self, available: u32, room: u32, fin: bool, longest: u32) -> Option<u32> {
        let len = available.min(room).min(longest);
        if len == available {
            let last = len % self.mss;
            // Minshall's form of the Nagle algorithm, as in Linux: a small segment waits for another
            // small one only, so the end of a long text does not wait for an ACK that is held back.
            let idle = self.small <= self.recovery.scoreboard.una();
            let held = self.settings.cork || self.owed.more;
            let goes = !held && (self.settings.nodelay || idle);
            if last == 0 || fin || goes || self.owed.force || self.owed.flush {
                return Some(len);
            }
            return (len > last).then_some(len - last);
        }
        if len >= self.mss {
            return Some(len - len % self.mss);
        }
        (self.owed.force || (len > 0 && len >= self.snd.max_wnd / 2)).then_some(len)
    }

    /// The most text in one packet to the link: what it can cut, in whole segments.
    fn longest(&self, shared: &Shared) -> u32 {
        let most = shared.config.max_packet.min(usize::from(u16::MAX));
        if most <= shared.config.mtu {
            return self.mss;
        }
        let headers = negotiate::headers(self.flow.remote.ip()) + 40;
        let most = (most.saturating_sub(headers) as u32).min(self.burst(&shared.config.tcp));
        (most - most % self.mss).max(self.mss)
    }

    /// What the link gets at once: what the path carries in a millisecond, so that no long burst waits in front of a
    /// slow part of it; more where the peer is near; as many segments as is set at least, and half of the congestion
    /// window at most. Linux cuts its own so ("TSO autosizing").
    fn burst(&self, config: &TcpConfig) -> u32 {
        let Some(srtt) = self.rtt.srtt() else { return u32::MAX };
        let micros = (srtt.as_micros() as u64).max(1);
        let cwnd = u64::from(self.congestion.window());
        let rate = cwnd * self.pace_percent(cwnd) * 10 / micros * 1000 / 1024;
        let near = (1 << 16) >> (micros >> 9).min(17);
        let most = (cwnd / 2).max(self.mss.into());
        let least = u64::from(self.mss) * u64::from(config.burst_segments);
        (rate + near).max(least).min(most) as u32
    }

    /// The flags of a segment with this text: PSH with the end of what the user gave us at once (RFC 9293 section
    /// 3.9.1.2), and with what the link cuts, so that the peer's link, which puts it together again, need not wait
    /// for more.
    fn flags_at(&self, seq: SndSeq, len: u32, fin: bool) -> TcpFlags {
        let end = seq + len;
        let mut flags = TcpFlags::ACK;
        let position = |seq| self.recovery.scoreboard.position(seq);
        let pushed = self.pushed > position(seq) && self.pushed <= position(end) || self.owed.force;
        flags.set(TcpFlags::PSH, len > 0 && (pushed || len > self.mss));
        flags.set(TcpFlags::FIN, fin && end == self.end_of_text());
        flags
    }

    /// Writes the planned segment, with text from the send buffer or, in a reset, what it declares. `None`: the
    /// send buffer has no such text.
    fn write(
        &mut self,
        shared: &Shared,
        now: Instant,
        plan: Plan,
        declared: &[u8],
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.allot(shared);
        let window = self.rcv.announce(&self.incoming, self.mss);
        let (ecn, codepoint) = self.marks.stamp(plan.len > 0 && plan.seq == self.snd.nxt);
        let mut tcp = TcpHeader {
            src_port: self.flow.local.port(),
            dst_port: self.flow.remote.port(),
            seq: plan.seq.0,
            ack: self.rcv.nxt.0,
            flags: plan.flags | ecn,
            window,
            urgent: 0,
            options: TcpOptions::default(),
        };
        self.write_options(now, plan, &mut tcp.options);
        let text = match plan.len {
            0 => [declared, &[]],
            len => self.outgoing.slices((plan.seq - self.snd.una) as usize, len as usize)?,
        };
        let whole = plan.len <= self.mss || self.is_size_probe(plan.seq, plan.len);
        let size = (!whole).then_some(self.mss as u16);
        let dscp = self.settings.dscp;
        let rule = plan.rule;
        let segment =
            Outgoing { flow: &self.flow, tcp: &tcp, text, segment_size: size, dscp, codepoint, rule };
        Some(segment.emit(&shared.config, packet))
    }

    /// Fills in the options of a segment, which has none yet.
    fn write_options(&mut self, now: Instant, plan: Plan, options: &mut TcpOptions) {
        let timestamps = self.negotiated.timestamps;
        if timestamps {
            let val = negotiate::timestamp(now, self.ts_offset);
            options.timestamps = Some(Timestamps { val, ecr: self.rcv.ts_recent });
        }
        let tells = !self.incoming.early().is_empty() || self.rcv.duplicate.is_some();
        if self.negotiated.sack && tells {
            let most = SACK_BLOCKS[usize::from(timestamps)];
            // As many as the packet has room for; beside text what came early was told by an ACK of its own.
            let room = self.mss.saturating_sub(plan.len + 4) as usize / 8;
            if room > 0 {
                options.sack = self.rcv.sack_blocks(&self.incoming, most.min(room));
            }
        }
        // Segments of text have no room for it, nor has one with four blocks of SACK.
        let bare = plan.len == 0 && !plan.flags.intersects(TcpFlags::RST | TcpFlags::FIN);
        if bare && options.sack.is_empty() && core::mem::take(&mut self.owed.user_timeout) {
            options.user_timeout = self.settings.advertised_user_timeout.map(user_timeout::field);
        }
    }

    /// Books what was just sent: debts paid, SND.NXT, timers.
    fn sent(&mut self, shared: &mut Shared, now: Instant, plan: Plan) {
        self.sent = now;
        self.stats.sent(plan.len, self.mss);
        self.settle_acks(plan);
        let fin = plan.flags.contains(TcpFlags::FIN);
        let end = plan.seq + plan.len + u32::from(fin);
        if plan.len == 0 && !fin {
            return;
        }
        (self.owed.force, self.owed.flush) = (false, false);
        self.text_sent = Some(now);
        self.touch_buffers(shared, now);
        self.timers.stop(Timer::Persist);
        let octets = end - plan.seq;
        let again = plan.seq.before(self.snd.nxt);
        self.recovery.sent(octets, again);
        self.book_pace(shared, now, octets);
        if again {
            self.stats.sent_again(plan.len, self.mss);
            shared.counters.tcp_retransmitted += u64::from(segments(plan.len, self.mss));
            self.recovery.scoreboard.on_retransmit(plan.seq, octets, now);
        } else {
            let pushed = plan.flags.contains(TcpFlags::PSH) && plan.len <= self.mss;
            let end_of_text = self.recovery.scoreboard.nxt() + u64::from(plan.len);
            let pushed = pushed || self.pushed == end_of_text;
            let count = segments(plan.len, self.mss);
            shared.counters.tcp_text_sent += u64::from(count);
            self.recovery.scoreboard.push(octets, count, now, pushed);
            self.recovery.note_use();
            if !plan.len.is_multiple_of(self.mss) {
                self.small = end_of_text;
            }
            if plan.len > 0 {
                self.promptness.text_sent(now, shared.config.tcp.ack_delay);
            }
            self.snd.nxt = end;
        }
        if core::mem::take(&mut self.owed.tail_probe) {
            shared.counters.tcp_loss_probes += 1;
            self.recovery.probed(again);
            self.timers.set(Timer::Retransmission, now + self.rtt.rto(&shared.config.tcp));
        } else if !again {
            self.arm_tail_probe(shared, now);
        }
        self.stalled_since.get_or_insert(now);
        // What is repaired gets the time that any segment gets (RFC 6675 section 6).
        let repaired = again && plan.seq == self.snd.una && self.recovery.restarts_timer();
        if repaired || !self.timers.is_running(Timer::Retransmission) {
            self.timers.set(Timer::Retransmission, now + self.rtt.rto(&shared.config.tcp));
        }
        self.arm(shared, now);
        self.note_limit(now);
    }

    /// Every segment of ours acknowledges what has arrived.
    fn settle_acks(&mut self, plan: Plan) {
        if plan.len == 0 && !plan.flags.contains(TcpFlags::FIN) {
            if plan.seq.before(self.snd.una) {
                self.owed.probe = false;
            } else if plan.rule.is_some() {
                self.owed.challenge = None;
            } else {
                self.owed.pure_acks = self.owed.pure_acks.saturating_sub(1);
            }
        }
        self.owed.ack = false;
        self.promptness.acknowledged();
        self.rcv.unacked = 0;
        self.rcv.last_ack = self.rcv.nxt;
        self.timers.stop(Timer::DelayedAck);
    }
}
