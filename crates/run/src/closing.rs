//! The end of a run: which connections still live, whether anything still moves, and when they must go.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::relay::Ledger;

/// After the program's end, its connections have as long to end as something moves, and this much longer.
const QUIET: Duration = Duration::from_millis(500);
/// As long as a remote takes nothing of what the program sent, its octets are kept for it: the kernel would keep them
/// as well.
const BLOCKED: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The connections that live.
#[derive(Debug)]
pub struct Connections {
    /// Those whose end is waited for, and all.
    connections: Rc<Cell<usize>>,
    all: Rc<Cell<usize>>,
    ledgers: Rc<RefCell<Vec<Weak<Ledger>>>>,
    closing: watch::Sender<bool>,
}

/// Held by a connection or a flow for as long as it lives.
#[derive(Debug)]
pub struct Live {
    counts: Vec<Rc<Cell<usize>>>,
    ledgers: Rc<RefCell<Vec<Weak<Ledger>>>>,
    closing: watch::Receiver<bool>,
}

impl Connections {
    /// None.
    pub fn new() -> Self {
        let closing = watch::Sender::new(false);
        Self { connections: Rc::default(), all: Rc::default(), ledgers: Rc::default(), closing }
    }

    /// One more, whose end is waited for.
    pub fn enter(&self) -> Live {
        self.live(vec![self.connections.clone(), self.all.clone()])
    }

    /// One more that has no end of its own.
    pub fn enter_quietly(&self) -> Live {
        self.live(vec![self.all.clone()])
    }

    fn live(&self, counts: Vec<Rc<Cell<usize>>>) -> Live {
        counts.iter().for_each(|count| count.set(count.get() + 1));
        Live { counts, ledgers: self.ledgers.clone(), closing: self.closing.subscribe() }
    }

    /// How many there are whose end is waited for.
    pub fn waited_for(&self) -> usize {
        self.connections.get()
    }

    /// Waits until none is left, or nothing moves any more.
    pub async fn drain(&self) {
        let (mut moved, mut since) = (0, Instant::now());
        while self.connections.get() > 0 {
            let ledgers: Vec<Rc<Ledger>> = self.ledgers.borrow().iter().filter_map(Weak::upgrade).collect();
            // Connections that end take their octets with them, and that is movement too.
            let now = ledgers
                .iter()
                .map(|ledger| ledger.moved())
                .sum::<u64>()
                .wrapping_add(self.connections.get() as u64);
            if now != moved {
                (moved, since) = (now, Instant::now());
            }
            let patience = if ledgers.iter().any(|ledger| ledger.blocked.get()) { BLOCKED } else { QUIET };
            if since.elapsed() >= patience {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Tells those that are left to go, and waits until they have.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        while self.all.get() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Live {
    /// What this connection does counts as movement.
    pub fn watch(&self, ledger: &Rc<Ledger>) {
        let mut ledgers = self.ledgers.borrow_mut();
        // Now and then those that are gone are swept out, at a cost that does not grow with their number.
        if ledgers.len() == ledgers.capacity() {
            ledgers.retain(|ledger| ledger.strong_count() > 0);
        }
        ledgers.push(Rc::downgrade(ledger));
    }

    /// Waits until the connection must go.
    pub async fn closing(&self) {
        let mut closing = self.closing.clone();
        // The sender lives as long as the run does.
        let _gone = closing.wait_for(|closing| *closing).await;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.counts.iter().for_each(|count| count.set(count.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_waited_for() {
        let connections = Connections::new();
        let live = connections.enter();
        let ledger = Rc::new(Ledger::default());
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
        let (last, ()) = tokio::join!(mover, connections.drain());
        assert!(last >= QUIET * 5);
        assert!(start.elapsed() <= last + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_told_to_go() {
        let connections = Connections::new();
        let live = connections.enter();
        let start = Instant::now();
        connections.drain().await;
        assert!(start.elapsed() >= QUIET && start.elapsed() < QUIET * 2);
        let gone = async {
            live.closing().await;
            drop(live);
        };
        tokio::join!(gone, connections.close());
        assert_eq!(connections.all.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_remote_is_waited_for_longer() {
        let connections = Connections::new();
        let live = connections.enter();
        let ledger = Rc::new(Ledger::default());
        live.watch(&ledger);
        ledger.blocked.set(true);
        let start = Instant::now();
        connections.drain().await;
        assert!(start.elapsed() >= BLOCKED);
    }
}
