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

/// Most arrivals taken in before anything is sent.
const RECEIVE_BATCH: usize = 64;
/// How late a timer is armed at most while packets arrive.
const SOON: Duration = Duration::from_millis(30);
/// Most packets sent before arrivals are looked at again.
const TRANSMIT_BATCH: usize = 256;

/// The future that carries packets between a host's stack and its link. Nothing of a host moves
/// unless it runs: give it to `tokio::spawn`, or poll it beside something else.
///
/// It needs a tokio runtime with its time enabled, whose clock is the stack's clock: under
/// `tokio::time::pause` a host runs in virtual time.
///
/// It ends with `Ok` when [`Host::shutdown`](crate::Host::shutdown) is complete, or when the last handle and the last
/// socket of the host are dropped and no connection has anything left to send or to receive (TIME-WAIT is not waited
/// for); with the link's error when the link fails. From then on every call on a socket fails with the
/// [`HostError`] that says why: of the link's kind, or [`io::ErrorKind::NetworkDown`].
///
/// Dropped before that, it is a machine without power: what was not yet delivered is lost, and no peer is told.
#[must_use = "a host does nothing unless its driver runs"]
#[derive(Debug)]
pub struct Driver<L> {
    shared: Arc<Shared>,
    link: L,
    packet: Vec<u8>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Packets have arrived since the timer was armed.
    moved: bool,
}

/// What a driver with nothing to send does next.
enum Next {
    /// Another round.
    Round,
    /// It waits for this deadline and for what the link says.
    Wait(Option<Instant>),
    /// It is not needed any more.
    End,
    /// The host has failed, for this reason.
    Failed(io::Error),
}

impl<L: Link> Driver<L> {
    pub(crate) fn new(shared: Arc<Shared>, link: L) -> Self {
        Self { shared, link, packet: Vec::new(), timer: None, moved: false }
    }

    /// Takes in, does what is due, sends. Returns whether more of it may wait.
    fn round(&mut self) -> bool {
        let now = self.shared.now();
        let more_arrived = self.receive(now);
        self.shared.with(|inner| inner.driver_wakes(now));
        let more_to_send = self.transmit(now);
        self.link.flush(now);
        more_arrived || more_to_send
    }

    fn receive(&mut self, now: Instant) -> bool {
        for _ in 0..RECEIVE_BATCH {
            let Some(received) = self.link.recv(now, &mut self.packet) else { return false };
            self.moved = true;
            let verdict = self.shared.with(|inner| inner.stack.handle_packet(now, &self.packet, received));
            self.link.annotate(now, &verdict);
        }
        true
    }

    fn transmit(&mut self, now: Instant) -> bool {
        for _ in 0..TRANSMIT_BATCH {
            let packet = &mut self.packet;
            let Some(transmit) = self.shared.with(|inner| inner.stack.poll_transmit(now, packet)) else {
                return false;
            };
            self.link.send(now, packet, &transmit);
        }
        true
    }

    /// Waits for the link, a call that has something to send, or a deadline. Ready: another round.
    fn poll_wait(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<io::Result<()>> {
        if self.link.poll_readable(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let deadline = deadline.into_iter().chain(self.link.poll_timeout()).min();
        let deadline = deadline.and_then(|at| self.shared.start.checked_add(at.elapsed()));
        // To arm a timer for an earlier time wakes the runtime's reactor, a system call. So while packets come and go it
        // is left as it is if it fires in time, and armed for soon: too early costs one look, now and then.
        if let Some(timer) = &mut self.timer
            && !timer.is_elapsed()
            && deadline.is_none_or(|at| timer.deadline() <= at)
            && (self.moved || deadline == Some(timer.deadline()))
        {
            return timer.as_mut().poll(cx).map(Ok);
        }
        let Some(mut at) = deadline else {
            self.timer = None;
            return Poll::Pending;
        };
        if std::mem::take(&mut self.moved) {
            at = at.min(tokio::time::Instant::now() + SOON);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(Ok)
    }
}

impl<L: Link> Unpin for Driver<L> {}

impl<L: Link> Driver<L> {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let more = self.round();
        if !more {
            let result = match self.shared.with(|inner| inner.driver_sleeps(cx.waker())) {
                Next::Round => Poll::Ready(Ok(())),
                Next::Wait(deadline) => self.poll_wait(cx, deadline),
                Next::End => return Poll::Ready(Ok(())),
                Next::Failed(error) => return Poll::Ready(Err(error)),
            };
            match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
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
        // Another round, but the tasks of this thread have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Resets every connection, so that no peer waits for a host that is not there any more.
    fn reset_all(&mut self) {
        if self.shared.with(|inner| inner.running().map(|()| inner.abort_all())).is_err() {
            return;
        }
        let now = self.shared.now();
        while self.transmit(now) {}
        self.link.flush(now);
    }
}

impl<L: Link> Future for Driver<L> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.step(cx))).unwrap_or_else(|panic| {
            // The stack's own panics are noted where they happen; this is the link's.
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

/// A driver on a runtime: if the runtime is dropped before the host is done, it resets what is open.
pub(crate) struct Spawned<L: Link>(pub Driver<L>);

impl<L: Link> Future for Spawned<L> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Its result stands in the error of every call.
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
    /// The driver is awake again, at this time.
    fn driver_wakes(&mut self, now: Instant) {
        if self.running().is_ok() {
            self.driver = DriverState::Awake;
            self.stack.handle_timeout(now);
        }
    }

    /// The driver has sent all there is, or so it thinks: the last look, under one lock with the
    /// registration, so that no call between the two goes unseen.
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
