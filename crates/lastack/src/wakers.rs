//! The wakers of the tasks that wait for sockets.

use crate::shared::{Inner, Shared};
use lastack_engine::udp::UdpId;
use lastack_engine::{ConnId, ListenerId};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The event that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// An intercepted packet of another protocol.
    RawPacket,
    /// Room for such a packet.
    RawWrite,
    /// The reply to our echo request with this name.
    EchoReply(u32),
    /// The end of any connection, for this subscriber.
    Ended(u64),
    /// The driver has nothing left to send.
    Quiet,
    /// The driver has stopped.
    Stopped,
}

/// The socket that an interest is about.
enum Socket {
    Connection(ConnId),
    Listener(ListenerId),
    Udp(UdpId),
    None,
}

/// A set of interests in one socket: a bit for each kind.
type Interests = u16;

/// Every kind.
const ALL: Interests = Interests::MAX;

impl Interest {
    /// Its kind.
    const fn bit(self) -> Interests {
        let number = match self {
            Self::Accept(_) => 0,
            Self::Read(_) => 1,
            Self::Write(_) => 2,
            Self::End(_) => 3,
            Self::Acknowledge(_) => 4,
            Self::Watch(_) => 5,
            Self::Intercepted => 6,
            Self::UdpRead(_) => 7,
            Self::UdpWrite(_) => 8,
            Self::EchoRequest => 9,
            Self::RawPacket => 10,
            Self::RawWrite => 11,
            Self::EchoReply(_) => 12,
            Self::Ended(_) => 13,
            Self::Quiet => 14,
            Self::Stopped => 15,
        };
        1 << number
    }

    fn socket(self) -> Socket {
        match self {
            Self::Accept(id) => Socket::Listener(id),
            Self::Read(id) | Self::Write(id) | Self::End(id) | Self::Acknowledge(id) | Self::Watch(id) => {
                Socket::Connection(id)
            }
            Self::UdpRead(id) | Self::UdpWrite(id) => Socket::Udp(id),
            Self::Intercepted
            | Self::EchoRequest
            | Self::EchoReply(_)
            | Self::RawPacket
            | Self::RawWrite
            | Self::Ended(_)
            | Self::Quiet
            | Self::Stopped => Socket::None,
        }
    }
}

/// Identifies a future among those with the same interest.
pub(crate) type Ticket = Option<NonZeroU64>;

/// All wakers of a host.
///
/// Wakers are foreign code: waking or dropping one may run a task, which may call us. So both are deferred to
/// [`Due`], which is processed after unlocking.
#[derive(Debug)]
pub(crate) struct Wakers {
    connections: BySlot<ConnId>,
    listeners: BySlot<ListenerId>,
    udp: BySlot<UdpId>,
    /// Those of no socket.
    others: BTreeMap<Interest, Waiting>,
    due: Due,
    next_ticket: NonZeroU64,
}

/// Wakers to be woken or dropped after unlocking.
#[derive(Debug, Default)]
pub(crate) struct Due {
    wake: List,
    stale: List,
}

/// Wakers, the first of which needs no allocation. Most calls wake one task at most.
#[derive(Debug, Default)]
struct List {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl List {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }
}

impl Extend<Waker> for List {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }
}

impl Due {
    pub fn wake(self) {
        self.wake.first.into_iter().chain(self.wake.more).for_each(Waker::wake);
    }

    fn is_empty(&self) -> bool {
        self.wake.is_empty() && self.stale.is_empty()
    }
}

/// The wakers of each socket, by the slot of its id.
#[derive(Debug)]
struct BySlot<I>(Vec<(I, Waiting)>);

impl<I> Default for BySlot<I> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<I: Copy + Default + PartialEq> BySlot<I> {
    fn get(&mut self, id: I, slot: usize) -> Option<&mut Waiting> {
        self.0.get_mut(slot).filter(|(owner, _)| *owner == id).map(|(_, waiting)| waiting)
    }

    /// The wakers of this socket. Tasks that still wait for the slot's previous owner are woken: it is gone.
    fn entry(&mut self, id: I, slot: usize, due: &mut Due) -> &mut Waiting {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, Default::default);
        }
        let (owner, waiting) = &mut self.0[slot];
        if *owner != id {
            waiting.take(ALL, |_| true, &mut due.wake);
            *owner = id;
        }
        waiting
    }

    fn take_all(&mut self, into: &mut List) {
        for (_, waiting) in std::mem::take(&mut self.0).iter_mut() {
            waiting.take(ALL, |_| true, into);
        }
    }
}

/// The wakers of a socket: for each interest the task that last called a `poll_*` method, and any number of futures.
/// Usually there is one.
#[derive(Debug, Default)]
struct Waiting {
    first: Option<Waiter>,
    more: Vec<Waiter>,
}

/// A task that waits.
#[derive(Debug)]
struct Waiter {
    /// What it waits for. The task of a future waits for one thing, that of `poll_*` methods for several: a relay, which
    /// waits for everything, takes the memory of one waiter.
    interests: Interests,
    /// `None`: the task of `poll_*` methods.
    ticket: Ticket,
    waker: Waker,
}

impl Waiter {
    /// Ends its interest in these, and appends its waker to `into`. Returns whether it waits for nothing any more.
    fn take(&mut self, interests: Interests, into: &mut List) -> bool {
        self.interests &= !interests;
        if self.interests != 0 {
            into.push(self.waker.clone());
        }
        self.interests == 0
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.first.iter_mut().chain(&mut self.more)
    }

    fn register(&mut self, interest: Interests, ticket: Ticket, waker: &Waker, due: &mut Due) {
        if let Some(old) = self.all().find(|old| old.interests & interest != 0 && old.ticket == ticket) {
            if old.waker.will_wake(waker) {
                return;
            }
            if old.interests == interest {
                due.stale.push(mem::replace(&mut old.waker, waker.clone()));
                return;
            }
            old.interests &= !interest;
        }
        let same = |old: &&mut Waiter| ticket.is_none() && old.ticket.is_none() && old.waker.will_wake(waker);
        if let Some(same) = self.all().find(same) {
            same.interests |= interest;
            return;
        }
        let new = Waiter { interests: interest, ticket, waker: waker.clone() };
        match self.first {
            None => self.first = Some(new),
            Some(_) => self.more.push(new),
        }
    }

    /// Ends the interest of the tasks that match in these, and appends their wakers to `into`.
    fn take(&mut self, interests: Interests, matches: impl Fn(&Waiter) -> bool, into: &mut List) {
        let is_concerned = |waiter: &Waiter| waiter.interests & interests != 0 && matches(waiter);
        let first = self.first.take_if(|waiter| is_concerned(waiter) && waiter.take(interests, into));
        into.extend(first.map(|waiter| waiter.waker));
        if !self.more.is_empty() {
            let mut partly = List::default();
            let over = self
                .more
                .extract_if(.., |waiter| is_concerned(waiter) && waiter.take(interests, &mut partly));
            into.extend(over.map(|waiter| waiter.waker));
            into.extend(partly.first.into_iter().chain(partly.more));
        }
    }
}

impl Default for Wakers {
    fn default() -> Self {
        Self {
            connections: BySlot::default(),
            listeners: BySlot::default(),
            udp: BySlot::default(),
            others: BTreeMap::new(),
            due: Due::default(),
            next_ticket: NonZeroU64::MIN,
        }
    }
}

impl Wakers {
    /// Registers the task of a `poll_*` method. Only the last such task is kept, as in tokio's sockets.
    pub fn register_poller(&mut self, interest: Interest, waker: &Waker) {
        self.add(interest, None, waker);
    }

    /// Registers a future; `ticket` identifies it across polls.
    pub fn register(&mut self, interest: Interest, ticket: &mut Ticket, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            let ticket = self.next_ticket;
            self.next_ticket = ticket.checked_add(1).expect("2^64 futures do not fit into a lifetime");
            ticket
        });
        self.add(interest, Some(ticket), waker);
    }

    /// As [`register_poller`](Self::register_poller), for several interests in one connection.
    pub fn register_poller_of(
        &mut self,
        id: ConnId,
        interests: impl Iterator<Item = Interest> + Clone,
        waker: &Waker,
    ) {
        let Self { connections, due, .. } = self;
        let waiting = connections.entry(id, id.slot(), due);
        if let Waiting { first: Some(only), more } = waiting
            && more.is_empty()
            && only.ticket.is_none()
            && only.waker.will_wake(waker)
        {
            only.interests |= interests.fold(0, |all, interest| all | interest.bit());
            return;
        }
        for interest in interests {
            waiting.register(interest.bit(), None, waker, due);
        }
    }

    fn add(&mut self, interest: Interest, ticket: Ticket, waker: &Waker) {
        let Self { connections, listeners, udp, others, due, .. } = self;
        let waiting = match interest.socket() {
            Socket::Connection(id) => connections.entry(id, id.slot(), due),
            Socket::Listener(id) => listeners.entry(id, id.slot(), due),
            Socket::Udp(id) => udp.entry(id, id.slot(), due),
            Socket::None => others.entry(interest).or_default(),
        };
        waiting.register(interest.bit(), ticket, waker, due);
    }

    /// Unregisters a future.
    fn unregister(&mut self, interest: Interest, ticket: NonZeroU64) {
        let matches = |waiter: &Waiter| waiter.ticket == Some(ticket);
        self.take(interest, interest.bit(), matches, |due| &mut due.stale);
    }

    /// Wakes all tasks with this interest.
    pub fn wake(&mut self, interest: Interest) {
        self.take(interest, interest.bit(), |_| true, |due| &mut due.wake);
    }

    /// Wakes all tasks that wait for this connection, whatever their interest.
    pub fn wake_connection(&mut self, id: ConnId) {
        self.take(Interest::End(id), ALL, |_| true, |due| &mut due.wake);
        // The memory is not kept for the slot's next connection: after a burst of connections, the few bytes of each
        // would keep a page in use.
        if let Some(waiting) = self.connections.get(id, id.slot()) {
            waiting.more = Vec::new();
        }
    }

    /// Drops the wakers of this interest: the socket was closed.
    pub fn forget(&mut self, interest: Interest) {
        self.take(interest, interest.bit(), |_| true, |due| &mut due.stale);
    }

    fn take(
        &mut self,
        interest: Interest,
        interests: Interests,
        matches: impl Fn(&Waiter) -> bool,
        into: impl Fn(&mut Due) -> &mut List,
    ) {
        let Self { connections, listeners, udp, others, due, .. } = self;
        let waiting = match interest.socket() {
            Socket::Connection(id) => connections.get(id, id.slot()),
            Socket::Listener(id) => listeners.get(id, id.slot()),
            Socket::Udp(id) => udp.get(id, id.slot()),
            Socket::None => others.get_mut(&interest),
        };
        let Some(waiting) = waiting else { return };
        waiting.take(interests, matches, into(due));
        if waiting.is_empty() && matches!(interest.socket(), Socket::None) {
            others.remove(&interest);
        }
    }

    /// Wakes all tasks.
    pub fn wake_all(&mut self) {
        let Self { connections, listeners, udp, others, due, .. } = self;
        connections.take_all(&mut due.wake);
        listeners.take_all(&mut due.wake);
        udp.take_all(&mut due.wake);
        for mut waiting in mem::take(others).into_values() {
            waiting.take(ALL, |_| true, &mut due.wake);
        }
    }

    /// Wakes this task after unlocking.
    pub fn wake_later(&mut self, waker: Waker) {
        self.due.wake.push(waker);
    }

    /// Takes the wakers to be processed after unlocking, if there are any.
    #[inline]
    pub fn take_due(&mut self) -> Option<Due> {
        if self.due.is_empty() { None } else { Some(mem::take(&mut self.due)) }
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
        wakers.take_due().into_iter().for_each(Due::wake);
        let counts = [first, second, third].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 2, 1]);
    }

    /// A stack with one connection.
    fn connected() -> (lastack_engine::Stack, ConnId) {
        let address = std::net::IpAddr::from([10, 0, 0, 1]);
        let mut stack = lastack_engine::Stack::new(lastack_engine::Config::new([address]), [0; 16]);
        let id = stack.tcp_connect(None, ([10, 0, 0, 2], 80).into()).unwrap();
        (stack, id)
    }

    #[test]
    fn a_task_that_polls_for_several_events_is_one_waiter_until_each_has_come() {
        let (_stack, id) = connected();
        let mut wakers = Wakers::default();
        let [(first, a), (second, b)] = [counted(), counted()];
        for interest in [Interest::Read(id), Interest::Write(id), Interest::Acknowledge(id)] {
            wakers.register_poller(interest, &a);
        }
        assert!(wakers.connections.get(id, id.slot()).is_some_and(|waiting| waiting.more.is_empty()));
        // Another task polls for one of them in its place.
        wakers.register_poller(Interest::Write(id), &b);
        let woken = |wakers: &mut Wakers, interest: Interest| {
            wakers.wake(interest);
            wakers.take_due().into_iter().for_each(Due::wake);
            [&first, &second].map(|count| count.0.swap(0, Ordering::Relaxed))
        };
        assert_eq!(woken(&mut wakers, Interest::Write(id)), [0, 1]);
        assert_eq!(woken(&mut wakers, Interest::Read(id)), [1, 0]);
        assert_eq!(woken(&mut wakers, Interest::Read(id)), [0, 0], "an event wakes once");
        assert_eq!(woken(&mut wakers, Interest::Acknowledge(id)), [1, 0]);
        assert!(wakers.connections.get(id, id.slot()).is_some_and(|waiting| waiting.is_empty()));
    }

    #[test]
    fn a_connection_that_has_ended_leaves_nothing() {
        let mut wakers = Wakers::default();
        let (count, waker) = counted();
        let (_stack, id) = connected();
        for interest in [Interest::Read(id), Interest::Write(id), Interest::End(id)] {
            wakers.register_poller(interest, &waker);
        }
        wakers.wake_connection(id);
        wakers.take_due().into_iter().for_each(Due::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "one task");
        let waiting = wakers.connections.get(id, id.slot()).expect("the slot has an owner");
        assert!(waiting.is_empty() && waiting.more.capacity() == 0);
    }

    #[test]
    fn a_future_that_is_dropped_leaves_nothing() {
        let mut wakers = Wakers::default();
        let (count, waker) = counted();
        let mut ticket = None;
        wakers.register(Interest::EchoRequest, &mut ticket, &waker);
        wakers.unregister(Interest::EchoRequest, ticket.expect("registered"));
        assert!(wakers.others.is_empty());
        wakers.wake_all();
        wakers.take_due().into_iter().for_each(Due::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_removed_waker_is_not_woken() {
        let mut wakers = Wakers::default();
        let (count, waker) = counted();
        wakers.register_poller(Interest::EchoRequest, &waker);
        wakers.forget(Interest::EchoRequest);
        wakers.wake_all();
        wakers.take_due().into_iter().for_each(Due::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    /// A stack whose connections end and begin in the same slot.
    #[test]
    fn a_slot_that_is_used_again_wakes_only_its_owner() {
        let mut stack =
            lastack_engine::Stack::new(lastack_engine::Config::new([[10, 0, 0, 1].into()]), [0; 16]);
        let mut connect = || {
            let id = stack.tcp_connect(None, ([10, 0, 0, 2], 80).into()).unwrap();
            stack.tcp(id).unwrap().close();
            id
        };
        let [old, new] = [connect(), connect()];
        assert!(old.slot() == new.slot() && old != new);
        let mut wakers = Wakers::default();
        let [(first, a), (second, b), (third, c)] = [counted(), counted(), counted()];
        wakers.register_poller(Interest::Watch(old), &a);
        let mut ticket = None;
        wakers.register(Interest::Read(new), &mut ticket, &b);
        wakers.register_poller(Interest::Write(new), &c);
        let woken = |wakers: &mut Wakers| {
            wakers.take_due().into_iter().for_each(Due::wake);
            [&first, &second, &third].map(|count| count.0.load(Ordering::Relaxed))
        };
        assert_eq!(woken(&mut wakers), [1, 0, 0], "the connection that was waited for is gone");
        wakers.wake_connection(old);
        wakers.wake(Interest::Read(old));
        assert_eq!(woken(&mut wakers), [1, 0, 0]);
        wakers.wake(Interest::Read(new));
        assert_eq!(woken(&mut wakers), [1, 1, 0]);
        wakers.wake_connection(new);
        assert_eq!(woken(&mut wakers), [1, 1, 1]);
    }
}
