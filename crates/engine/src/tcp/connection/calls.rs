//! What the calls of the user do to a connection (RFC 9293 section 3.9.1), and a kill by the administrator.

use crate::buffer::PacketPool;
use crate::end::{Cause, EndedBy};
use crate::shared::Shared;
use crate::tcp::connection::state::State;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::{Connection, Ending};
use crate::tcp::{TcpError, TcpState};
use crate::{Instant, Rule};
use alloc::boxed::Box;
use core::task::Poll;
use core::time::Duration;

/// What follows when the application has read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consumed {
    /// A window update is due.
    pub update: bool,
    /// Memory was freed.
    pub freed: bool,
}

impl Connection {
    /// Whether the application may send.
    pub fn may_send(&self) -> bool {
        self.state.may_send() && self.fate.is_none()
    }

    pub fn send(&mut self, shared: &Shared, data: &[u8], more: bool) -> Poll<Result<usize, TcpError>> {
        if !self.may_send() {
            return Poll::Ready(Err(TcpError::BrokenPipe));
        }
        let room = self.send_room(shared);
        if room == 0 {
            self.waits.write = true;
            self.waits.blocked = true;
            return Poll::Pending;
        }
        let taken = self.outgoing.push(&data[..data.len().min(room)]);
        self.pending.more = more;
        if !more {
            self.push_written();
        }
        Poll::Ready(Ok(taken))
    }

    /// Lets `fill` write into the send buffer; `None`: there is no room, or no more data may be sent.
    pub fn send_with(
        &mut self,
        shared: &Shared,
        spare: &mut [u8],
        fill: impl FnOnce([&mut [u8]; 3]) -> usize,
    ) -> Option<usize> {
        let room = if self.may_send() { self.send_room(shared) } else { 0 };
        if room == 0 {
            return None;
        }
        let sent = self.outgoing.fill(room, spare, fill);
        self.pending.more = false;
        self.push_written();
        Some(sent)
    }

    /// A write has ended: its end is pushed (RFC 9293 section 3.9.1.2), and if it is long the data within.
    #[inline]
    fn push_written(&mut self) {
        let end = self.recovery.scoreboard.position(self.end_of_data());
        // What is still to be pushed within an earlier write stays.
        if self.pushed >= self.written {
            let is_long = end - self.written > u64::from(self.snd.max_wnd / 2);
            self.pushed = if is_long { self.first_push(end) } else { end };
        }
        self.written = end;
    }

    /// Where a long write up to `end` is pushed first. What is sent at once is on its way before a receiver could
    /// wait for the rest.
    #[cold]
    fn first_push(&self, end: u64) -> u64 {
        let nxt = self.recovery.scoreboard.nxt();
        let sent = if nxt < self.written { 0 } else { self.sendable_now() };
        end.min(self.written.max(nxt) + u64::from(self.push_interval(sent)))
    }

    /// Data up to `pushed` was sent: determines what is pushed next.
    #[cold]
    pub(super) fn push_next(&mut self) {
        self.pushed = self.written.min(self.pushed + u64::from(self.push_interval(0)));
    }

    /// After how many bytes of a write data is pushed, `sent` bytes of which are sent at once. As on Linux that is the
    /// first boundary after half of the peer's largest window of the pieces into which a write is cut: whole
    /// segments that fit half of the window and an IP packet.
    fn push_interval(&self, sent: u32) -> u32 {
        let half = self.snd.max_wnd / 2;
        let whole = |bytes: u32| bytes - bytes % self.mss;
        let piece = whole(half.min(u16::MAX.into())).max(self.mss);
        let sent = whole(sent.min(piece));
        sent + (half.saturating_sub(sent) / piece + 1) * piece
    }

    /// Removes `n` bytes of received data.
    #[inline]
    pub fn consume(&mut self, n: usize, pool: &mut PacketPool, now: Instant) -> Consumed {
        let freed = self.incoming.consume(n, pool, now);
        let update = self.state.may_receive() && self.rcv.update_is_due(&self.incoming, self.mss);
        self.pending.ack |= update;
        Consumed { update, freed }
    }

    pub fn poll_readable(&mut self) -> Poll<Result<usize, TcpError>> {
        if !self.incoming.is_empty() {
            return Poll::Ready(Ok(self.incoming.len()));
        }
        if !self.state.may_receive() || self.settings.read_shutdown {
            return Poll::Ready(Ok(0));
        }
        self.waits.read = true;
        Poll::Pending
    }

    pub fn end_record(&mut self) {
        let position = |seq| self.recovery.scoreboard.position(seq);
        let (una, end) = (position(self.snd.una), position(self.end_of_data()));
        self.records.get_or_insert_with(Box::default).push(end, una);
    }

    /// The settings of timers: the idle time of keep-alive, and both user timeouts.
    pub fn timer_settings(&self) -> (Option<Duration>, [Option<Duration>; 2]) {
        let rare = self.settings.rare();
        let idle = rare.keepalive.map(|keepalive| keepalive.idle);
        (idle, [rare.user_timeout, rare.advertised_user_timeout])
    }

    /// Stops the timers whose settings differ from those `before`, so that they are restarted. Protocol counters, such
    /// as that of unanswered probes, are not reset.
    pub fn rearm(&mut self, before: (Option<Duration>, [Option<Duration>; 2])) {
        let settings = self.timer_settings();
        if settings.0 != before.0 {
            self.timers.stop(Timer::KeepAlive);
        }
        if settings.1 != before.1 {
            self.timers.stop(Timer::User);
        }
    }

    /// Whether an orphan waits for the peer's FIN (`Rule::RstFinWait2Refused`).
    pub fn waits_for_fin(&self) -> bool {
        self.settings.rare().fin_wait_2.is_none_or(|limit| !limit.is_zero())
    }

    /// CLOSE of both directions: returns the rule if it is an abort (in this order: `Rule::RstUnreadDataAtClose`,
    /// `Rule::RstAbort`, `Rule::RstFinWait2Refused`).
    pub fn close(&mut self) -> Option<Rule> {
        if self.fate.is_some() {
            return None;
        }
        // No application is left to control acknowledgment.
        self.release_acks();
        if !self.incoming.is_empty() {
            return Some(Rule::RstUnreadDataAtClose);
        }
        if self.settings.rare().linger.is_some_and(|time| time.is_zero()) {
            return Some(Rule::RstAbort);
        }
        self.state = self.state.close();
        (self.state == State::FinWait2 && !self.waits_for_fin()).then_some(Rule::RstFinWait2Refused)
    }

    pub fn kill(&mut self, now: Instant) -> bool {
        if self.fate.is_some() {
            return false;
        }
        let rule = match self.state.public() {
            TcpState::Closing | TcpState::LastAck => Rule::EndKilledSilently,
            _ => Rule::RstKilled,
        };
        self.abort(Ending::new(Cause::Aborted, EndedBy::Administrator, rule), now);
        true
    }
}
