//! What happens when a timer expires: retransmission (RFC 6298), zero-window probe (persist), keep-alive, delayed ACK,
//! tail loss probe, user timeout, FIN-WAIT-2.

use crate::config::TcpConfig;
use crate::end::{Cause, EndedBy, TimeLimit};
use crate::shared::Shared;
use crate::tcp::connection::retries;
use crate::tcp::connection::state::State;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::{Connection, Ending};
use crate::tcp::send::mtu_discovery;
use crate::{Instant, Rule};
use core::time::Duration;

/// Max time that a peer may delay the ACK of a single segment (WCDelAckT of RFC 8985), in nanoseconds.
const WORST_ACK_DELAY: u64 = 200_000_000;

/// Added to two RTTs if several segments are in flight, for the clock granularity; in nanoseconds.
const MIN_PROBE_DELAY: u64 = 2_000_000;

impl Connection {
    /// Starts the timers that the settings and the state require and that do not run. Calls that change the settings
    /// have no time argument, so the timers are started here.
    #[inline]
    pub fn arm(&mut self, shared: &Shared, now: Instant) {
        if let Some(keepalive) = self.settings.rare().keepalive
            && !self.timers.is_running(Timer::KeepAlive)
        {
            self.timers.set(Timer::KeepAlive, self.last_received + keepalive.idle);
        }
        if let (Some(limit), Some(since)) = (self.user_timeout_limit(&shared.config.tcp), self.stalled_since)
            && !self.timers.is_running(Timer::User)
        {
            self.timers.set(Timer::User, since + limit);
        }
        if self.state == State::FinWait2 && !self.has_user && !self.timers.is_running(Timer::FinWait2) {
            let limit = self.settings.rare().fin_wait_2.unwrap_or(shared.config.tcp.fin_wait_2);
            self.timers.set(Timer::FinWait2, now + limit);
        }
    }

    /// Data or FIN is unsent, nothing is in flight, and the window does not allow it: only a probe can detect when the
    /// window opens (RFC 9293 section 3.8.6.1).
    pub(in crate::tcp) fn arm_persist(&mut self, shared: &Shared, now: Instant) {
        let waiting = self.end_of_data().after(self.snd.nxt)
            || (self.state.fin_pending() && self.snd.nxt == self.end_of_data());
        if waiting
            && self.snd.una == self.snd.nxt
            && !self.timers.is_running(Timer::Persist)
            && !self.pending.probe
        {
            self.timers.set(Timer::Persist, self.rtt.expiry(now, &shared.config.tcp));
            self.stalled_since.get_or_insert(now);
            self.arm(shared, now);
        }
    }

    /// Handles the timers that have expired at `now`. `orphans`: number of connections without a user.
    pub fn expire(&mut self, shared: &mut Shared, now: Instant, orphans: usize) {
        while self.fate.is_none()
            && let Some(timer) = self.timers.take_expired(now)
        {
            match timer {
                Timer::Retransmission | Timer::Persist if self.exceeds_orphan_limit(shared, now, orphans) => {
                    shared.counters.tcp_orphan_overflows += 1;
                    self.abort(Ending::new(Cause::Aborted, EndedBy::Stack, Rule::LimitOrphans), now);
                }
                Timer::Retransmission
                    if self.timers.is_running(Timer::TailProbe) && self.recovery.may_probe() =>
                {
                    self.timers.stop(Timer::TailProbe);
                    self.pending.tail_probe = true;
                    self.timers.set(Timer::Retransmission, self.rtt.expiry(now, &shared.config.tcp));
                }
                Timer::Retransmission => self.retransmit(shared, now),
                Timer::Reorder => self.reorder_timeout(shared, now),
                Timer::TailProbe => self.pending.tail_probe = self.recovery.may_probe(),
                Timer::Persist => self.persist(shared, now),
                Timer::DelayedAck => {
                    self.pending.ack = true;
                    shared.counters.tcp_delayed_acks += 1;
                }
                Timer::KeepAlive => self.keep_alive(shared, now),
                Timer::User => self.user_timeout(shared, now),
                Timer::FinWait2 => self.fin_wait_2_timeout(shared, now),
                Timer::Idle => self.release_idle_buffers(shared, now),
                Timer::Pace => {} // `segmentize` follows every timer
            }
        }
    }

    /// RFC 6298 sections 5.4 to 5.6: retransmit from SND.UNA and back off; or give up at threshold R2
    /// (RFC 9293 section 3.8.3).
    fn retransmit(&mut self, shared: &mut Shared, now: Instant) {
        let config = &shared.config.tcp;
        let retries = if self.has_user { config.retries } else { config.orphan_retries };
        let budget = retries::budget(config, retries);
        // A peer that closed its window over data in flight, and acknowledges each retransmission with a zero window, is
        // alive (RFC 9293 section 3.8.6.1).
        let shut = self.has_user && self.snd.wnd == 0 && now - self.last_received < budget;
        if self.is_unanswered_for(now, budget) && !shut && !self.user_decides(config) {
            return self.give_up(
                shared,
                now,
                TimeLimit::Retransmission,
                if self.has_user { Rule::EndRetransmissionTimeout } else { Rule::EndFinTimeout },
            );
        }
        if let Some(search) = &mut self.search {
            search.abandon();
        }
        self.recovery.timeout(now, self.mss, &mut self.congestion);
        let losses = &mut self.cold.losses;
        losses.timeouts = losses.timeouts.wrapping_add(1);
        shared.counters.tcp_timeouts += 1;
        losses.timeout_recoveries += u32::from(self.rtt.backoffs() == 0);
        self.rtt.back_off();
        self.check_black_hole(shared, now);
        let config = &shared.config.tcp;
        self.timers.stop(Timer::Reorder);
        self.timers.stop(Timer::TailProbe);
        self.timers.set(Timer::Retransmission, self.rtt.expiry(now, config));
    }

    /// RFC 4821 section 7.7: when full-sized segments are lost repeatedly, the path may drop them silently (black hole):
    /// fall back to a size that passes everywhere.
    fn check_black_hole(&mut self, shared: &mut Shared, now: Instant) {
        let remote = self.flow.remote.ip();
        let full = self.recovery.scoreboard.first_is_full(self.mss);
        if shared.config.tcp.black_hole_timeouts.is_some_and(|max| self.rtt.backoffs() == max) && full {
            let lowered = shared.paths.mark_black_hole(
                remote,
                mtu_discovery::base_mtu(&shared.config.tcp, remote),
                now,
            );
            shared.counters.tcp_black_holes += u64::from(lowered);
            self.fit_path(shared, now);
            self.start_mtu_discovery(shared);
        }
    }

    /// RFC 8985 section 6.2: the reordering window has passed.
    fn reorder_timeout(&mut self, shared: &mut Shared, now: Instant) {
        let srtt = self.rtt.srtt();
        let wait = self.recovery.reorder_timeout(now, self.mss, srtt, &mut self.congestion);
        self.wait_for_reordered(now, wait);
        self.on_mtu_probe_outcome(shared, now);
    }

    /// RFC 8985 section 7.2: a probe is sent after two RTTs without an ACK, but not later than the retransmission
    /// timeout.
    #[inline(always)]
    pub(in crate::tcp) fn arm_tail_probe(&mut self, shared: &Shared, now: Instant) {
        if !self.recovery.may_probe() {
            return;
        }
        let srtt = self.rtt.srtt_nanos();
        if srtt == 0 {
            return;
        }
        let alone = self.recovery.scoreboard.pipe() <= self.mss;
        let pto =
            srtt.saturating_mul(2).saturating_add(if alone { WORST_ACK_DELAY } else { MIN_PROBE_DELAY });
        // If both expire at the same time, the probe is sent instead of the retransmission.
        self.timers.set(Timer::TailProbe, now.after_nanos(pto.min(self.rtt.rto_nanos(&shared.config.tcp))));
    }

    /// The persist timer expired: probe a zero window; if the window is open but small, send what fits.
    fn persist(&mut self, shared: &mut Shared, now: Instant) {
        let config = &shared.config.tcp;
        if self.snd.wnd > 0 {
            self.pending.force = true;
            return;
        }
        // Unanswered probes are limited as retransmissions are; answered ones are not, unless the connection is an
        // orphan.
        let spent = now - self.last_received >= retries::budget(config, config.retries);
        if self.probes > 0 && spent && !self.user_decides(config) {
            return self.give_up(shared, now, TimeLimit::Retransmission, Rule::EndRetransmissionTimeout);
        }
        if !self.has_user && self.stalled_for(now) >= retries::budget(config, config.orphan_retries) {
            return self.give_up(shared, now, TimeLimit::Retransmission, Rule::EndFinTimeout);
        }
        shared.counters.tcp_window_probes += 1;
        self.probes += 1;
        self.pending.probe = true;
        self.rtt.back_off();
        self.timers.set(Timer::Persist, self.rtt.expiry(now, config));
    }

    /// RFC 9293 section 3.8.4: nothing was received for the idle time: probe, or end the connection
    /// (`Rule::RstKeepaliveTimeout`).
    fn keep_alive(&mut self, shared: &mut Shared, now: Instant) {
        let Some(keepalive) = self.settings.rare().keepalive else { return };
        let silence = now - self.last_received;
        if silence < keepalive.idle {
            self.probes = 0;
            return self.timers.set(Timer::KeepAlive, self.last_received + keepalive.idle);
        }
        if self.snd.una != self.snd.nxt || !self.outgoing.is_empty() {
            // Retransmissions or window probes detect a dead peer.
            return self.timers.set(Timer::KeepAlive, now + keepalive.idle);
        }
        let limit = self.user_timeout_limit(&shared.config.tcp);
        let late = limit.is_some_and(|limit| self.probes > 0 && silence >= limit);
        let spent = limit.is_none() && self.probes >= keepalive.count;
        if late || spent {
            let ending = self.silent(TimeLimit::KeepAlive, Rule::RstKeepaliveTimeout);
            return self.abort(ending, now);
        }
        shared.counters.tcp_keep_alive_probes += 1;
        self.probes += 1;
        self.pending.probe = true;
        self.timers.set(Timer::KeepAlive, now + keepalive.interval);
    }

    fn user_timeout(&mut self, shared: &mut Shared, now: Instant) {
        let Some(limit) = self.user_timeout_limit(&shared.config.tcp) else { return };
        if self.stalled_for(now) >= limit {
            self.give_up(shared, now, TimeLimit::User, Rule::EndUserTimeout);
        } else {
            self.arm(shared, now);
        }
    }

    /// `Rule::EndFinWait2Timeout`, or `Rule::RstFinWait2Timeout`: with a reset if so configured.
    fn fin_wait_2_timeout(&mut self, shared: &Shared, now: Instant) {
        let ending = |rule| Ending::new(Cause::TimedOut(TimeLimit::FinWait2), EndedBy::Stack, rule);
        if shared.config.tcp.reset_on_give_up {
            self.abort(ending(Rule::RstFinWait2Timeout), now);
        } else {
            self.finish(ending(Rule::EndFinWait2Timeout), now);
        }
    }

    /// `Rule::LimitOrphans`: whether an orphan whose timer expired exceeds the limit. The orphan count is doubled if the
    /// network reported it unreachable, and doubled if it has been stalled for long, so that those are ended first.
    fn exceeds_orphan_limit(&self, shared: &Shared, now: Instant, orphans: usize) -> bool {
        let config = &shared.config.tcp;
        let hopeless = [self.soft_error.is_some(), self.stalled_for(now) > config.max_rto * 2];
        let weight = hopeless.into_iter().filter(|reason| *reason).count();
        !self.has_user && (orphans << weight > config.max_orphans || self.exceeds_memory_share(shared))
    }

    /// The end after a time limit: silent as on Linux, or with a reset if so configured.
    fn give_up(&mut self, shared: &mut Shared, now: Instant, limit: TimeLimit, rule: Rule) {
        let ending = self.silent(limit, rule);
        if shared.config.tcp.reset_on_give_up {
            self.abort(ending, now);
        } else {
            self.finish(ending, now);
        }
    }

    /// The end for lack of an answer: unreachable if an ICMP error reported that, else timed out.
    fn silent(&self, limit: TimeLimit, rule: Rule) -> Ending {
        match self.soft_error.as_deref().copied() {
            Some((icmp, from)) => Ending::new(Cause::Unreachable(icmp), EndedBy::Network(from), rule),
            None => Ending::new(Cause::TimedOut(limit), EndedBy::Stack, rule),
        }
    }

    /// Whether the user timeout replaces threshold R2; it may be shorter or longer (RFC 9293 MUST-21). It does not
    /// apply to orphans.
    fn user_decides(&self, config: &TcpConfig) -> bool {
        self.has_user && self.user_timeout_limit(config).is_some()
    }

    /// Whether nothing was acknowledged for `budget`, though data was retransmitted after the last progress. As on Linux, the
    /// first timeout after progress ends nothing: backed off it may exceed the budget by itself.
    fn is_unanswered_for(&self, now: Instant, budget: Duration) -> bool {
        let Some(since) = self.stalled_since.filter(|since| now - *since >= budget) else { return false };
        self.recovery.scoreboard.was_resent_since(since + Duration::from_nanos(1))
            || now - since >= 2 * budget
    }

    fn stalled_for(&self, now: Instant) -> Duration {
        self.stalled_since.map_or(Duration::ZERO, |since| now - since)
    }

    fn release_idle_buffers(&mut self, shared: &Shared, now: Instant) {
        let idle_since = self.last_received.max(self.sent);
        if now - idle_since < shared.config.tcp.buffer_idle {
            return self.timers.set(Timer::Idle, idle_since + shared.config.tcp.buffer_idle);
        }
        let (sent, read) = (self.outgoing.shrink(), self.incoming.shrink());
        self.recovery.scoreboard.shrink();
        if !(sent && read) {
            self.timers.set(Timer::Idle, now + shared.config.tcp.buffer_idle);
        }
    }
}
