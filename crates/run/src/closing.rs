//! The end of a run: which connections are still open, whether they make progress, and when they are aborted.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::memory;
use super::relay::RelayStats;

/// After the program's end, its connections may go on as long as they make progress, and this much longer.
const QUIET: Duration = Duration::from_millis(500);
/// Data of the program that the remote has no room for stays queued, as in the kernel, while the remote takes at least
/// one part in [`SHARE`] of the queue in each [`WINDOW`].
const WINDOW: Duration = Duration::from_secs(30);
const SHARE: u64 = 10;
/// Max time from the program's end to the end of the run: a remote must not keep it alive for ever.
pub const LIMIT: Duration = Duration::from_secs(300);
/// The same, if a signal has asked for the end.
const LIMIT_ASKED: Duration = Duration::from_secs(3);
/// Max time for closing: a connection that does not end within it is left alone.
const CLOSES: Duration = Duration::from_secs(3);
/// This number of flows at once is a burst; this long after half of them have ended, their memory is returned to the
/// system. So is that of the start.
const BURST: usize = 32;
const SETTLED: Duration = Duration::from_secs(1);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(10);

/// The open connections.
#[derive(Debug)]
pub struct Connections(Rc<Open>);

/// What the connections share.
#[derive(Debug, Default)]
struct Open {
    /// The connections that the end of the run waits for, and all.
    waited_for: Cell<usize>,
    all: Cell<usize>,
    ledgers: RefCell<Vec<Weak<RelayStats>>>,
    /// The peak number, so that the memory of a burst can be returned to the system afterwards.
    peak: Cell<usize>,
    burst_is_over: Notify,
    closing: Cell<bool>,
    begins_to_close: Notify,
    /// The last has ended.
    none_left: Notify,
}

/// Guard held by a connection or a flow while it lives.
#[derive(Debug)]
pub struct Live {
    open: Rc<Open>,
    waited_for: Cell<bool>,
}

impl Connections {
    /// None.
    pub fn new() -> Self {
        Self(Rc::default())
    }

    /// Registers a connection whose end is waited for.
    pub fn enter(&self) -> Live {
        let live = self.enter_quietly();
        live.wait_for_end();
        live
    }

    /// Registers one without an end of its own.
    pub fn enter_quietly(&self) -> Live {
        let open = &self.0;
        open.all.set(open.all.get() + 1);
        open.peak.set(open.peak.get().max(open.all.get()));
        Live { open: open.clone(), waited_for: Cell::new(false) }
    }

    /// Returns memory to the system: what only the start has used, and whenever half of a burst is over. Never returns.
    pub async fn trim(&self) {
        sleep(SETTLED).await;
        memory::release_code();
        loop {
            self.0.burst_is_over.notified().await;
            sleep(SETTLED).await;
            self.0.peak.set(self.0.all.get());
            // What is left of a connection that has ended would keep its page in use.
            self.0.ledgers.borrow_mut().retain(|ledger| ledger.strong_count() > 0);
            memory::trim();
        }
    }

    /// The number of connections with data of the program that the remote has no room for.
    pub fn blocked(&self) -> usize {
        self.watched().iter().filter(|ledger| ledger.blocked.get()).count()
    }

    fn watched(&self) -> Vec<Rc<RelayStats>> {
        self.0.ledgers.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no connection is left, until none makes progress, or until the progress is too slow. `asked`: a signal
    /// has asked for the end.
    pub async fn drain(&self, asked: bool) {
        let begun = Instant::now();
        let limit = if asked { LIMIT_ASKED } else { LIMIT };
        let mut movement = Movement { moved: 0, since: begun, window: begun, at_window: 0 };
        while self.0.waited_for.get() > 0 && begun.elapsed() < limit {
            let ledgers = self.watched();
            // Connections that end take their counts with them, which also counts as progress.
            let moved = ledgers
                .iter()
                .map(|ledger| ledger.moved())
                .sum::<u64>()
                .wrapping_add(self.0.waited_for.get() as u64);
            let blocked = ledgers.iter().filter(|ledger| ledger.blocked.get());
            let waiting = blocked.map(|ledger| ledger.waiting.get()).max();
            if movement.is_over(moved, waiting) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Tells the remaining connections to close, and waits until they have. Returns how many have not.
    pub async fn close(&self) -> usize {
        self.0.closing.set(true);
        self.0.begins_to_close.notify_waiters();
        for ledger in self.watched() {
            ledger.task.wake();
        }
        let closed = async {
            while self.0.all.get() > 0 {
                self.0.none_left.notified().await;
            }
        };
        let _late = timeout(CLOSES, closed).await;
        self.0.all.get()
    }
}

/// Progress since the program's end, and its time.
struct Movement {
    moved: u64,
    since: Instant,
    /// The beginning of the current window, and the count at that time.
    window: Instant,
    at_window: u64,
}

impl Movement {
    /// Whether to stop waiting. `waiting`: the longest queue of data that a remote has no room for.
    fn is_over(&mut self, moved: u64, waiting: Option<u64>) -> bool {
        if moved != self.moved {
            (self.moved, self.since) = (moved, Instant::now());
        }
        let Some(waiting) = waiting else {
            (self.window, self.at_window) = (Instant::now(), moved);
            return self.since.elapsed() >= QUIET;
        };
        if self.window.elapsed() < WINDOW {
            return false;
        }
        // Less than before: a connection has ended and taken its count with it.
        let taken = moved.checked_sub(self.at_window);
        (self.window, self.at_window) = (Instant::now(), moved);
        taken.is_some_and(|taken| taken.saturating_mul(SHARE) <= waiting)
    }
}

impl Live {
    /// From now on its end is waited for.
    pub fn wait_for_end(&self) {
        if !self.waited_for.replace(true) {
            self.open.waited_for.set(self.open.waited_for.get() + 1);
        }
    }

    /// Counts this connection's progress.
    pub fn watch(&self, ledger: &Rc<RelayStats>) {
        let mut ledgers = self.open.ledgers.borrow_mut();
        // Removes dead entries from time to time, at amortized constant cost.
        if ledgers.len() == ledgers.capacity() {
            ledgers.retain(|ledger| ledger.strong_count() > 0);
        }
        ledgers.push(Rc::downgrade(ledger));
    }

    /// As [`closing`](Self::closing), for the task of a connection that is watched; it is woken when it is evicted, too.
    pub fn poll_closing(&self, ledger: &RelayStats, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.closing.get() {
            return Poll::Ready(());
        }
        ledger.task.register(cx.waker());
        Poll::Pending
    }

    /// Waits until the connection must close.
    pub async fn closing(&self) {
        while !self.open.closing.get() {
            self.open.begins_to_close.notified().await;
        }
    }

    /// What the future gives; `None`: the connection must close before. Everything that a connection waits for without a
    /// limit has to be waited for in this way.
    pub async fn unless_closing<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.closing() => None,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let open = &self.open;
        open.waited_for.set(open.waited_for.get() - usize::from(self.waited_for.get()));
        open.all.set(open.all.get() - 1);
        let (all, peak) = (open.all.get(), open.peak.get());
        if peak >= BURST && all <= peak / 2 {
            open.burst_is_over.notify_one();
        }
        if all == 0 {
            open.none_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_is_waited_for() {
        let connections = Connections::new();
        let live = connections.enter();
        let ledger = Rc::new(RelayStats::default());
        live.watch(&ledger);
        let start = Instant::now();
        let mover = async {
            for _ in 0..10 {
                sleep(QUIET / 2).await;
                ledger.to_remote.set(ledger.to_remote.get() + 1);
            }
            let last = start.elapsed();
            drop(live);
            last
        };
        let (last, ()) = tokio::join!(mover, connections.drain(false));
        assert!(last >= QUIET * 5);
        assert!(start.elapsed() <= last + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_connection_is_ended() {
        let connections = Connections::new();
        let live = connections.enter();
        let start = Instant::now();
        connections.drain(false).await;
        assert!(start.elapsed() >= QUIET && start.elapsed() < QUIET * 2);
        let gone = async {
            live.closing().await;
            drop(live);
        };
        let ((), left) = tokio::join!(gone, connections.close());
        assert_eq!(left, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_close_does_not_keep_the_run() {
        let connections = Connections::new();
        let _live = connections.enter_quietly();
        let start = Instant::now();
        assert_eq!(connections.close().await, 1);
        assert!(start.elapsed() <= CLOSES + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_without_a_limit_ends_with_the_run() {
        let connections = Connections::new();
        let live = connections.enter();
        let waits = async {
            assert_eq!(live.unless_closing(std::future::pending::<()>()).await, None);
            assert_eq!(live.unless_closing(async { 7 }).await, Some(7), "what is ready is not lost");
            drop(live);
        };
        let ((), left) = tokio::join!(waits, connections.close());
        assert_eq!(left, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_limits_the_time_for_a_remote_that_takes_its_data_slowly() {
        let connections = Connections::new();
        let live = connections.enter();
        let ledger = Rc::new(RelayStats::default());
        live.watch(&ledger);
        ledger.blocked.set(true);
        ledger.waiting.set(1 << 20);
        let start = Instant::now();
        connections.drain(true).await;
        assert!(start.elapsed() <= LIMIT_ASKED + LOOK);
    }

    /// How long the drain lasts if the remote, for which `waiting` bytes are kept, takes `step` of them each second.
    async fn drained_after(waiting: u64, step: u64) -> Duration {
        let connections = Connections::new();
        let live = connections.enter();
        let ledger = Rc::new(RelayStats::default());
        live.watch(&ledger);
        ledger.blocked.set(true);
        ledger.waiting.set(waiting);
        let start = Instant::now();
        let taker = async {
            while ledger.waiting.get() > 0 {
                sleep(Duration::from_secs(1)).await;
                ledger.to_remote.set(ledger.to_remote.get() + step);
                ledger.waiting.set(ledger.waiting.get().saturating_sub(step));
            }
            drop(live);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = connections.drain(false) => start.elapsed(),
            () = taker => unreachable!("it is pending"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_remote_that_takes_nothing_is_waited_for_longer() {
        let waited = drained_after(1 << 20, 0).await;
        assert!(waited >= WINDOW && waited < WINDOW + QUIET, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_remote_that_takes_a_little_now_and_then_is_given_up() {
        let waited = drained_after(4 << 20, 2000).await;
        assert!(waited >= WINDOW && waited < WINDOW + QUIET, "{waited:?}");
        // However large the steps are, there is an end.
        assert!(drained_after(u64::MAX / 2, u64::MAX / 2000).await <= LIMIT + QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_remote_receives_all_data() {
        let waited = drained_after(4 << 20, 32 << 10).await;
        assert!(waited >= Duration::from_secs(128) && waited < Duration::from_secs(130), "{waited:?}");
    }
}
