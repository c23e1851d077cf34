//! The one task that moves packets between a stack and its link.

use crate::error::HostError;
use crate::shared::{DriverState, Inner, Shared};
use crate::wakers::Interest;
use lastack_engine::Instant;
use lastack_link::Link;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Sleep;

/// Max packets received before tasks run and packets are sent.
const RECEIVE_BATCH: usize = 64;
/// Max bytes of them: what is read should still be in the CPU cache when the tasks read it.
const RECEIVE_BYTES: usize = 512 * 1024;
/// Packets below this length, which rarely are part of bulk data, count as small.
const SMALL: usize = 512;
/// After this number of bursts that left more to read, twice as many small packets are read at once.
const PATIENCE: u32 = 8;
/// Max number of rounds before other tasks run.
const ROUNDS: usize = 4;
/// Max delay until an armed timer is re-evaluated while packets arrive: less than the shortest delay with which a stack
/// sets timers again and again.
const SOON: Duration = Duration::from_millis(8);
/// Max packets sent before received packets are handled.
const TRANSMIT_BATCH: usize = 256;

/// The future that moves packets between a host's stack and its link. A host does nothing unless it runs: pass it to
/// `tokio::spawn`, or poll it together with another future.
///
/// It needs a tokio runtime with time enabled. Its clock is the stack's clock: under `tokio::time::pause` a host runs
/// in virtual time.
///
/// It completes with `Ok` when [`Host::shutdown`](crate::Host::shutdown) is complete, or when the last handle and the
/// last socket of the host are dropped and no connection has anything left to send or receive (TIME-WAIT is not
/// waited for); with the link's error when the link fails. Afterwards every call on a socket fails with the
/// [`HostError`] that gives the reason, of the kind of the link's error, or [`io::ErrorKind::NetworkDown`].
///
/// If it is dropped before that, undelivered data is lost, and no peer is notified.
#[must_use = "a host does nothing unless its driver runs"]
#[derive(Debug)]
pub struct Driver<L> {
    shared: Arc<Shared>,
    link: L,
    packet: Vec<u8>,
    alarm: Alarm,
    burst: Burst,
    /// There were events, and nothing was sent since: whether more packets may have arrived.
    yielded: Option<bool>,
    /// The time of this round.
    now: Instant,
    /// Whether the link takes the parts of a packet as they are.
    vectored: bool,
}

/// The driver's timers.
///
/// Arming one for a time before every other of the runtime wakes the runtime's reactor, which costs a system call. So
/// while packets arrive, a timer is armed for soon, and one that fires soon is kept, even without a deadline: it may fire
/// too early, which only costs a check. Before it fires, another is armed for a later time, which replaces it without a
/// system call.
#[derive(Debug, Default)]
struct Alarm {
    /// The one that the driver waits for.
    timer: Option<Pin<Box<Sleep>>>,
    /// The one after it.
    next: Option<Pin<Box<Sleep>>>,
    /// Packets were received since the timer was armed.
    moved: bool,
}

/// How many small packets are read before answers are sent.
///
/// To learn that there is none left costs a system call. Often the first one is the only one, and its answer brings the
/// next: a SYN|ACK is acknowledged, and a refused client connects again, before the write has returned. So answers are
/// sent first, and the next read finds either. The number follows what is there to be read.
#[derive(Debug)]
struct Burst {
    limit: usize,
    /// Consecutive bursts that reached the limit.
    full: u32,
}

impl Burst {
    /// The link had no more after this number of small packets.
    fn ended(&mut self, small: usize) {
        self.full = 0;
        if small > 0 {
            self.limit = small;
        }
    }

    /// As many as the limit were read, and more may be there.
    fn filled(&mut self) {
        self.full += 1;
        if self.full == PATIENCE {
            *self = Self { limit: (self.limit * 2).min(RECEIVE_BATCH), full: 0 };
        }
    }
}

/// What was received.
#[derive(Debug, Default)]
struct Arrived {
    packets: usize,
    /// More may have arrived.
    more: bool,
    /// There were events, for which tasks may wait.
    events: bool,
}

/// The result of an attempt to send.
enum Sent {
    Packet,
    /// There was nothing; what is next, if nothing more has been received.
    Nothing(Option<Next>),
}

/// What is known when the driver begins to send.
#[derive(Clone, Copy)]
struct Sending<'a> {
    now: Instant,
    /// Timers are due first.
    timers: bool,
    /// The driver sleeps afterwards, until this wakes it.
    sleeper: Option<&'a Waker>,
}

/// The next step of a driver with nothing to send.
enum Next {
    /// Another round.
    Round,
    /// Wait for this deadline or the link.
    Wait(Option<Instant>),
    /// The host is finished.
    End,
    /// The host has failed with this error.
    Failed(io::Error),
}

impl<L: Link> Driver<L> {
    pub(crate) fn new(shared: Arc<Shared>, link: L) -> Self {
        let vectored = link.is_vectored();
        Self {
            shared,
            link,
            vectored,
            packet: Vec::new(),
            alarm: Alarm::default(),
            burst: Burst { limit: 1, full: 0 },
            yielded: None,
            now: Instant::ZERO,
        }
    }

    /// Receives packets, handles timers, sends packets. `None`: there may be more to do.
    ///
    /// After events, tasks run before anything is sent: what they send carries the acknowledgments of what they have read,
    /// and the window after it. This saves a packet for each request and response on a new connection, and data is read
    /// while it is in the CPU cache.
    fn turn(&mut self, waker: &Waker) -> Option<Next> {
        self.now = self.shared.now();
        for round in 0..ROUNDS {
            let more_arrived = match self.yielded.take() {
                Some(more) => more,
                None => {
                    let arrived = self.receive();
                    if round > 0 && arrived.packets == 0 {
                        return Some(self.shared.with(|inner| inner.driver_sleeps(waker)));
                    }
                    if arrived.events {
                        self.yielded = Some(arrived.more);
                        return None;
                    }
                    arrived.more
                }
            };
            let sleeper = (!more_arrived).then_some(waker);
            let (packets, next) = self.transmit(Sending { now: self.now, timers: round == 0, sleeper });
            self.link.flush(self.now);
            match next {
                Sent::Packet => return None,
                Sent::Nothing(Some(next)) => return Some(next),
                Sent::Nothing(None) => {}
            }
            if packets > 0 {
                self.now = self.shared.now();
            }
        }
        None
    }

    fn receive(&mut self) -> Arrived {
        let now = self.now;
        let (mut arrived, mut bytes, mut small) = (Arrived { more: true, ..Arrived::default() }, 0, 0);
        while arrived.packets < RECEIVE_BATCH && bytes < RECEIVE_BYTES {
            if small == self.burst.limit {
                self.burst.filled();
                return arrived;
            }
            let Some(received) = self.link.recv(now, &mut self.packet) else {
                self.burst.ended(small);
                arrived.more = false;
                return arrived;
            };
            arrived.packets += 1;
            bytes += self.packet.len();
            small += usize::from(self.packet.len() < SMALL);
            self.alarm.moved = true;
            let Self { shared, packet, .. } = self;
            let (verdict, events) = shared.with_events(|inner| {
                inner.driver_is_awake();
                inner.stack.handle_owned_packet(now, packet, received)
            });
            arrived.events |= events;
            #[cfg(feature = "tracing")]
            crate::trace::verdict(&verdict);
            self.link.annotate(now, &verdict);
        }
        arrived
    }

    /// Sends packets, and returns how many.
    fn transmit(&mut self, mut sending: Sending<'_>) -> (usize, Sent) {
        for packets in 0..TRANSMIT_BATCH {
            let sent = if self.vectored { self.send_lent(sending) } else { self.send_copied(sending) };
            if let Sent::Nothing(_) = sent {
                return (packets, sent);
            }
            sending.timers = false;
        }
        (TRANSMIT_BATCH, Sent::Packet)
    }

    /// Sends the next packet, if there is one.
    fn send_copied(&mut self, sending: Sending<'_>) -> Sent {
        let Self { shared, link, packet, .. } = self;
        let sent = shared.with(|inner| {
            inner.driver_begins(sending);
            let transmit = inner.stack.poll_transmit(sending.now, packet);
            transmit.ok_or_else(|| inner.driver_is_done(sending))
        });
        match sent {
            Ok(transmit) => {
                link.send(sending.now, packet, &transmit);
                Sent::Packet
            }
            Err(nothing) => nothing,
        }
    }

    /// The same, with data that the link takes from the send buffer, under the lock.
    fn send_lent(&mut self, sending: Sending<'_>) -> Sent {
        let Self { shared, link, packet, .. } = self;
        let sent = shared.with(|inner| {
            inner.driver_begins(sending);
            let Some(lent) = inner.stack.poll_transmit_vectored(sending.now, packet) else {
                return Err(inner.driver_is_done(sending));
            };
            let [first, second] = lent.data;
            let has_data = !(first.is_empty() && second.is_empty());
            if has_data {
                link.send_vectored(sending.now, [packet, first, second], &lent.transmit);
            }
            Ok((lent.transmit, has_data))
        });
        match sent {
            Ok((_, true)) => Sent::Packet,
            Ok((transmit, false)) => {
                link.send(sending.now, packet, &transmit);
                Sent::Packet
            }
            Err(nothing) => nothing,
        }
    }

    /// Waits for the link, a call that has something to send, or a deadline. When ready: another round.
    fn poll_wait(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<io::Result<()>> {
        if self.link.poll_readable(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let deadline = deadline.into_iter().chain(self.link.poll_timeout()).min();
        let deadline = deadline.and_then(|at| self.shared.start.checked_add(at.elapsed()));
        let now = self.shared.start.checked_add(self.now.elapsed());
        self.alarm.poll(cx, now.unwrap_or_else(tokio::time::Instant::now), deadline).map(Ok)
    }
}

impl Alarm {
    /// Ready at the deadline at the latest. Pending without one, unless a timer still runs.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: tokio::time::Instant,
        deadline: Option<tokio::time::Instant>,
    ) -> Poll<()> {
        if !is_armed(&self.timer) && is_armed(&self.next) {
            std::mem::swap(&mut self.timer, &mut self.next);
        }
        let soon = now + SOON;
        if let Some(timer) = &mut self.timer
            && !timer.is_elapsed()
            && deadline.is_none_or(|at| timer.deadline() <= at)
            && (timer.deadline() <= soon || deadline == Some(timer.deadline()))
        {
            let after = timer.deadline() + SOON;
            if self.moved && deadline.is_some() && !is_armed(&self.next) {
                // It need not wake the driver before it has taken the other's place.
                let _pending = arm(&mut self.next, after).poll(cx);
            }
            return timer.as_mut().poll(cx);
        }
        let Some(mut at) = deadline else {
            self.timer = None;
            return Poll::Pending;
        };
        if std::mem::take(&mut self.moved) {
            at = at.min(soon);
        }
        arm(&mut self.timer, at).poll(cx)
    }
}

fn is_armed(timer: &Option<Pin<Box<Sleep>>>) -> bool {
    timer.as_ref().is_some_and(|timer| !timer.is_elapsed())
}

fn arm(timer: &mut Option<Pin<Box<Sleep>>>, at: tokio::time::Instant) -> Pin<&mut Sleep> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
    if timer.deadline() != at || timer.is_elapsed() {
        timer.as_mut().reset(at);
    }
    timer.as_mut()
}

impl<L: Link> Unpin for Driver<L> {}

impl<L: Link> Driver<L> {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(next) = self.turn(cx.waker()) {
            let result = match next {
                Next::Round => Poll::Ready(Ok(())),
                Next::Wait(deadline) => self.poll_wait(cx, deadline),
                Next::End => return Poll::Ready(Ok(())),
                Next::Failed(error) => return Poll::Ready(Err(error)),
            };
            match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    #[cfg(feature = "tracing")]
                    crate::trace::link_failed(&error);
                    let copy = match error.raw_os_error() {
                        Some(errno) => io::Error::from_raw_os_error(errno),
                        None => io::Error::new(error.kind(), error.to_string()),
                    };
                    self.shared.with(|inner| inner.stop(HostError::LinkFailed(Arc::new(error))));
                    return Poll::Ready(Err(copy));
                }
                Poll::Ready(Ok(())) => {}
            }
        }
        // Another round, after the other tasks of this thread have run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Resets every connection, so that no peer waits for a host that has stopped.
    fn reset_all(&mut self) {
        if self.shared.with(|inner| inner.running().map(|()| inner.abort_all())).is_err() {
            return;
        }
        let now = self.shared.now();
        let sending = Sending { now, timers: false, sleeper: None };
        while let (_, Sent::Packet) = self.transmit(sending) {}
        self.link.flush(now);
    }
}

impl<L: Link> Future for Driver<L> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.step(cx))).unwrap_or_else(|panic| {
            // Panics of the stack are handled where they occur; this one is the link's.
            self.shared.with(|inner| {
                if inner.running().is_ok() {
                    inner.stop(HostError::panicked(panic.as_ref()));
                }
            });
            resume_unwind(panic)
        })
    }
}

impl<L> Drop for Driver<L> {
    fn drop(&mut self) {
        self.shared.with(|inner| {
            if inner.running().is_ok() {
                inner.stop(HostError::DriverDropped);
            }
        });
    }
}

/// A spawned driver: if the runtime is dropped before the host is finished, it resets open connections.
pub(crate) struct Spawned<L: Link>(pub Driver<L>);

impl<L: Link> Future for Spawned<L> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Its result is in the error of every call.
        Pin::new(&mut self.0).poll(cx).map(|_result| ())
    }
}

impl<L: Link> Drop for Spawned<L> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.reset_all();
        }
    }
}

impl Inner {
    /// The driver will send before it sleeps.
    fn driver_is_awake(&mut self) {
        if let DriverState::Asleep { .. } = self.driver {
            self.driver = DriverState::Awake;
        }
    }

    /// The driver is about to send: expires what is due.
    fn driver_begins(&mut self, sending: Sending<'_>) {
        if sending.timers && self.running().is_ok() {
            self.driver_is_awake();
            self.stack.handle_timeout(sending.now);
        }
    }

    /// Nothing is left to send.
    fn driver_is_done(&mut self, sending: Sending<'_>) -> Sent {
        Sent::Nothing(sending.sleeper.map(|waker| self.driver_sleeps(waker)))
    }

    /// The driver has nothing left to send. Checks again and registers its waker under one lock, so that no call in
    /// between is missed.
    fn driver_sleeps(&mut self, waker: &Waker) -> Next {
        if let DriverState::Stopped(cause) = &self.driver {
            return Next::Failed(cause.clone().into());
        }
        if self.is_finished() {
            self.stop(HostError::ShutDown);
            return Next::End;
        }
        if self.stack.has_output() {
            return Next::Round;
        }
        self.wakers.wake(Interest::Quiet);
        let until = self.stack.poll_timeout();
        self.driver = DriverState::Asleep { until, waker: waker.clone() };
        Next::Wait(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_is_never_late() {
        let mut alarm = Alarm::default();
        for millis in [3, 200, 1, 8, 9, 30, 2, 1000, 16, 7] {
            for moved in [false, true, true] {
                let deadline = Instant::now() + Duration::from_millis(millis);
                let mut early = 0;
                while Instant::now() < deadline {
                    alarm.moved |= moved;
                    poll_fn(|cx| alarm.poll(cx, Instant::now(), Some(deadline))).await;
                    early += 1;
                }
                assert!(deadline.elapsed() < Duration::from_millis(2), "{millis}");
                assert!(early <= 3 + millis / 4, "{millis}: {early} times");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_ends_without_a_deadline() {
        let mut alarm = Alarm::default();
        let deadline = Instant::now() + Duration::from_millis(50);
        alarm.moved = true;
        for _ in 0..2 {
            poll_fn(|cx| Poll::Ready(alarm.poll(cx, Instant::now(), Some(deadline)).is_pending())).await;
        }
        let idle = async {
            loop {
                poll_fn(|cx| alarm.poll(cx, Instant::now(), None)).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(1), idle).await.is_err(),
            "it is not armed for ever"
        );
        assert!(alarm.timer.is_none() && !is_armed(&alarm.next));
    }
}
