//! The wakers of the tasks that wait for sockets.

use crate::shared::{Inner, Shared};
use lastack_engine::udp::UdpId;
use lastack_engine::{ConnId, ListenerId};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The event that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    /// A connection to accept.
    Accept(ListenerId),
    /// Data, the end of the stream or an error.
    Read(ConnId),
    /// Room in the send buffer, an acknowledgment, the result of the handshake, or an error.
    Write(ConnId),
    /// The end of the connection.
    End(ConnId),
    /// The peer needs an acknowledgment that is held back.
    Acknowledge(ConnId),
    /// The end of the connection, for a `Watch`.
    Watch(ConnId),
    /// An intercepted SYN.
    Intercepted,
    /// A datagram or an error.
    UdpRead(UdpId),
    /// Room for a datagram.
    UdpWrite(UdpId),
    /// An intercepted echo request.
    EchoRequest,
    /// The reply to our echo request with this name.
    EchoReply(u32),
    /// The end of any connection, for this subscriber.
    Ended(u64),
    /// The driver has nothing left to send.
    Quiet,
    /// The driver has stopped.
    Stopped,
}

/// Identifies a future among those with the same interest.
pub(crate) type Ticket = Option<NonZeroU64>;

/// All wakers of a host.
///
/// Wakers are foreign code: waking or dropping one may run a task, which may call us. So both are deferred to
/// [`Due`], which is processed after unlocking.
#[derive(Debug)]
pub(crate) struct Wakers {
    waiting: HashMap<Interest, Waiting>,
    due: Due,
    next_ticket: NonZeroU64,
}

/// Wakers to be woken or dropped after unlocking.
#[derive(Debug, Default)]
pub(crate) struct Due {
    wake: Vec<Waker>,
    stale: Vec<Waker>,
}

impl Due {
    pub fn wake(self) {
        self.wake.into_iter().for_each(Waker::wake);
    }
}

/// The wakers of one interest: the task that last called a `poll_*` method, and any number of futures.
#[derive(Debug, Default)]
struct Waiting {
    poller: Option<Waker>,
    futures: Vec<(NonZeroU64, Waker)>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.poller.is_none() && self.futures.is_empty()
    }

    fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.poller.into_iter().chain(self.futures.into_iter().map(|(_, waker)| waker))
    }
}

impl Default for Wakers {
    fn default() -> Self {
        Self { waiting: HashMap::new(), due: Due::default(), next_ticket: NonZeroU64::MIN }
    }
}

impl Wakers {
    /// Registers the task of a `poll_*` method. Only the last such task is kept, as in tokio's sockets.
    pub fn register_poller(&mut self, interest: Interest, waker: &Waker) {
        let poller = &mut self.waiting.entry(interest).or_default().poller;
        match poller {
            Some(old) if old.will_wake(waker) => {}
            _ => self.due.stale.extend(poller.replace(waker.clone())),
        }
    }

    /// Registers a future; `ticket` identifies it across polls.
    pub fn register(&mut self, interest: Interest, ticket: &mut Ticket, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            let ticket = self.next_ticket;
            self.next_ticket = ticket.checked_add(1).expect("2^64 futures do not fit into a lifetime");
            ticket
        });
        let futures = &mut self.waiting.entry(interest).or_default().futures;
        match futures.iter_mut().find(|(owner, _)| *owner == ticket) {
            Some((_, old)) if old.will_wake(waker) => {}
            Some((_, old)) => self.due.stale.push(mem::replace(old, waker.clone())),
            None => futures.push((ticket, waker.clone())),
        }
    }

    /// Unregisters a future.
    fn unregister(&mut self, interest: Interest, ticket: NonZeroU64) {
        let Some(waiting) = self.waiting.get_mut(&interest) else { return };
        if let Some(at) = waiting.futures.iter().position(|(owner, _)| *owner == ticket) {
            self.due.stale.push(waiting.futures.swap_remove(at).1);
        }
        if waiting.is_empty() {
            self.waiting.remove(&interest);
        }
    }

    /// Wakes all tasks with this interest.
    pub fn wake(&mut self, interest: Interest) {
        if let Some(waiting) = self.waiting.remove(&interest) {
            self.due.wake.extend(waiting.into_wakers());
        }
    }

    /// Wakes all tasks.
    pub fn wake_all(&mut self) {
        let waiting = mem::take(&mut self.waiting);
        self.due.wake.extend(waiting.into_values().flat_map(Waiting::into_wakers));
    }

    /// Wakes this task after unlocking.
    pub fn wake_later(&mut self, waker: Waker) {
        self.due.wake.push(waker);
    }

    /// Drops the wakers of this interest: the socket was closed.
    pub fn forget(&mut self, interest: Interest) {
        if let Some(waiting) = self.waiting.remove(&interest) {
            self.due.stale.extend(waiting.into_wakers());
        }
    }

    /// Takes the wakers to be processed after unlocking.
    pub fn take_due(&mut self) -> Due {
        mem::take(&mut self.due)
    }
}

/// A future that calls `poll` each time its interest is woken.
///
/// Cancel safe: `poll` takes something from the stack only when it is ready, and the waker is unregistered on drop.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Wait<'a, F> {
    shared: &'a Shared,
    interest: Interest,
    ticket: Ticket,
    poll: F,
}

impl<'a, F, T> Wait<'a, F>
where
    F: FnMut(&mut Inner) -> Poll<io::Result<T>> + Unpin,
{
    pub fn new(shared: &'a Shared, interest: Interest, poll: F) -> Self {
        Self { shared, interest, ticket: None, poll }
    }
}

impl<F, T> Future for Wait<'_, F>
where
    F: FnMut(&mut Inner) -> Poll<io::Result<T>> + Unpin,
{
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, interest, ticket, poll } = &mut *self;
        shared.poll(cx, *interest, Some(ticket), poll)
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.with(|inner| inner.wakers.unregister(self.interest, ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (count.clone(), count.into())
    }

    #[test]
    fn the_last_poller_and_every_future_are_woken_once() {
        let mut wakers = Wakers::default();
        let [(first, a), (second, b), (third, c)] = [counted(), counted(), counted()];
        let (mut one, mut two) = (None, None);
        wakers.register_poller(Interest::Intercepted, &a);
        wakers.register_poller(Interest::Intercepted, &b);
        wakers.register(Interest::Intercepted, &mut one, &b);
        wakers.register(Interest::Intercepted, &mut two, &c);
        wakers.register(Interest::Intercepted, &mut two, &c);
        wakers.wake(Interest::Intercepted);
        wakers.wake(Interest::Intercepted);
        wakers.take_due().wake();
        let counts = [first, second, third].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 2, 1]);
    }

    #[test]
    fn a_future_that_is_dropped_leaves_nothing() {
        let mut wakers = Wakers::default();
        let (count, waker) = counted();
        let mut ticket = None;
        wakers.register(Interest::EchoRequest, &mut ticket, &waker);
        wakers.unregister(Interest::EchoRequest, ticket.expect("registered"));
        assert!(wakers.waiting.is_empty());
        wakers.wake_all();
        wakers.take_due().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_forgotten_is_not_woken() {
        let mut wakers = Wakers::default();
        let (count, waker) = counted();
        wakers.register_poller(Interest::EchoRequest, &waker);
        wakers.forget(Interest::EchoRequest);
        wakers.wake_all();
        wakers.take_due().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
