//! The ends of all connections of a host.

use crate::shared::{Inner, Shared};
use crate::wakers::{Interest, Wait, Wakers};
use lastack_engine::Ended;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The queue of each [`EndedConnections`].
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: HashMap<u64, VecDeque<Ended>>,
    next: u64,
}

impl Subscribers {
    pub fn push(&mut self, wakers: &mut Wakers, ended: &Ended) {
        for (&subscriber, queue) in &mut self.queues {
            queue.push_back(ended.clone());
            wakers.wake(Interest::Ended(subscriber));
        }
    }

    fn pop(&mut self, subscriber: u64) -> Option<Ended> {
        self.queues.get_mut(&subscriber)?.pop_front()
    }
}

/// The end of every connection of a host, in the order in which they end: one [`Ended`] for each,
/// those that nobody ever held (refused, embryonic, orphaned) included.
///
/// Made by [`Host::ended`](crate::Host::ended), and begins there. Nothing is lost: what is not
/// fetched is kept, without bound, so fetch it or drop this. It does not keep the host up, so a task
/// may loop over it until `None`.
#[derive(Debug)]
pub struct EndedConnections {
    shared: Arc<Shared>,
    subscriber: u64,
}

impl EndedConnections {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let subscriber = shared.with(|inner| {
            let subscriber = inner.ended.next;
            inner.ended.next += 1;
            inner.ended.queues.insert(subscriber, VecDeque::new());
            subscriber
        });
        Self { shared: shared.clone(), subscriber }
    }

    /// The next connection that ended; `None` once the driver has stopped and all were fetched.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Ended> {
        let subscriber = self.subscriber;
        let next = move |inner: &mut Inner| {
            inner.ended.pop(subscriber).map_or(Poll::Pending, |e| Poll::Ready(Ok(e)))
        };
        Wait::new(&self.shared, Interest::Ended(subscriber), next).await.ok()
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let subscriber = self.subscriber;
        self.shared
            .poll(cx, Interest::Ended(subscriber), None, |inner| {
                inner.ended.pop(subscriber).map_or(Poll::Pending, |e| Poll::Ready(io::Result::Ok(e)))
            })
            .map(Result::ok)
    }

    /// The next connection that has ended already.
    pub fn try_recv(&mut self) -> Option<Ended> {
        self.shared.with(|inner| inner.ended.pop(self.subscriber))
    }
}

impl Drop for EndedConnections {
    fn drop(&mut self) {
        self.shared.with(|inner| {
            inner.ended.queues.remove(&self.subscriber);
            inner.wakers.forget(Interest::Ended(self.subscriber));
        });
    }
}
