//! Notification of the end of every connection of a host.

use crate::shared::{Inner, Shared};
use crate::wakers::{Interest, Wait, Wakers};
use lastack_engine::Ended;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Default max length of a subscriber's queue.
pub(crate) const CAPACITY: usize = 16_384;

/// The queue of each [`EndedConnections`].
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: HashMap<u64, Queue>,
    next: u64,
}

#[derive(Debug)]
struct Queue {
    ends: VecDeque<Ended>,
    capacity: usize,
    missed: u64,
}

impl Subscribers {
    pub fn push(&mut self, wakers: &mut Wakers, ended: &Ended) {
        for (&subscriber, queue) in &mut self.queues {
            if queue.ends.len() >= queue.capacity {
                queue.ends.pop_front();
                queue.missed += 1;
            }
            queue.ends.push_back(ended.clone());
            wakers.wake(Interest::Ended(subscriber));
        }
    }

    fn pop(&mut self, subscriber: u64) -> Option<Ended> {
        self.queues.get_mut(&subscriber)?.ends.pop_front()
    }
}

/// Receives one [`Ended`] for every connection of a host, in the order in which they end, including those without a
/// socket (refused, in SYN-RECEIVED, orphaned).
///
/// Made by [`Host::ended`](crate::Host::ended); earlier ends are not included. It queues up to 16,384 ends (or the
/// capacity given to [`Host::ended_with_capacity`](crate::Host::ended_with_capacity)); when the queue is full, the
/// oldest is dropped and counted in [`missed`](Self::missed). It does not keep the host running, so a task may loop
/// over it until `None`.
///
/// ```
/// use lastack::{Cause, EndedConnections};
/// # use lastack::{Config, Host, TcpStream, link};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let _server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
///
/// let mut ended: EndedConnections = client.ended();
/// TcpStream::connect(&client, ([10, 0, 0, 2], 80)).await.unwrap_err();
/// let last = ended.recv().await.expect("the host runs");
/// assert_eq!((last.end.cause, last.flow.remote.port()), (Cause::Refused, 80));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EndedConnections {
    shared: Arc<Shared>,
    subscriber: u64,
}

impl EndedConnections {
    pub(crate) fn new(shared: &Arc<Shared>, capacity: usize) -> Self {
        let subscriber = shared.with(|inner| {
            let subscriber = inner.ended.next;
            inner.ended.next += 1;
            let queue = Queue { ends: VecDeque::new(), capacity: capacity.max(1), missed: 0 };
            inner.ended.queues.insert(subscriber, queue);
            subscriber
        });
        Self { shared: shared.clone(), subscriber }
    }

    /// Number of ends dropped so far because the queue was full.
    pub fn missed(&self) -> u64 {
        self.shared.with(|inner| inner.ended.queues.get(&self.subscriber).map_or(0, |queue| queue.missed))
    }

    /// The next end; `None` once the driver has stopped and the queue is empty.
    ///
    /// # Cancel safety
    /// No end is lost when the future is dropped.
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

    /// The next end in the queue, without waiting.
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
