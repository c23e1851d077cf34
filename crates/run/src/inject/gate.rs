//! Where the relay of a connection stops: a limit of bytes in each direction, and a FIN that is delayed or suppressed.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use tokio::sync::Notify;

use crate::relay::Side;

/// The gate of a connection; open, unless a fault closes it.
#[derive(Debug, Default)]
pub struct Gate(OnceCell<Box<Ways>>);

/// Both directions, once a fault has an effect on one: few connections have faults.
#[derive(Debug)]
struct Ways {
    from_program: Way,
    from_remote: Way,
    reached: Notify,
    changed: Notify,
    fin_was_late: Cell<bool>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Bytes that may pass.
    limit: Cell<u64>,
    /// Data waited at the limit.
    stopped: Cell<bool>,
    fin: Cell<Fin>,
}

/// The treatment of a FIN.
#[derive(Clone, Copy, Debug)]
enum Fin {
    Passes,
    Late(Duration),
    Stops,
}

impl Default for Way {
    fn default() -> Self {
        Self { limit: Cell::new(u64::MAX), stopped: Cell::new(false), fin: Cell::new(Fin::Passes) }
    }
}

impl Default for Ways {
    fn default() -> Self {
        let (from_program, from_remote) = (Way::default(), Way::default());
        Self {
            from_program,
            from_remote,
            reached: Notify::new(),
            changed: Notify::new(),
            fin_was_late: Cell::new(false),
        }
    }
}

impl Ways {
    fn way(&self, from: Side) -> &Way {
        if from == Side::Program { &self.from_program } else { &self.from_remote }
    }
}

impl Gate {
    fn ways(&self) -> &Ways {
        self.0.get_or_init(Box::default)
    }

    fn way(&self, from: Side) -> &Way {
        self.ways().way(from)
    }

    /// Opens it.
    pub(super) fn open(&self) {
        let Some(ways) = self.0.get() else { return };
        for way in [&ways.from_program, &ways.from_remote] {
            way.limit.set(u64::MAX);
            way.fin.set(Fin::Passes);
        }
    }

    /// Wakes the tasks that wait at it.
    pub(super) fn has_changed(&self) {
        if let Some(ways) = self.0.get() {
            ways.changed.notify_waiters();
        }
    }

    /// Limits the bytes from this side.
    pub(super) fn limit(&self, from: Side, bytes: u64) {
        let limit = &self.way(from).limit;
        limit.set(limit.get().min(bytes));
    }

    /// Delays this side's FIN.
    pub(super) fn delay_fin(&self, from: Side, time: Duration) {
        self.way(from).fin.set(Fin::Late(time));
    }

    /// Suppresses this side's FIN.
    pub(super) fn stop_fin(&self, from: Side) {
        self.way(from).fin.set(Fin::Stops);
    }

    /// Waits until the limit is reached from either side.
    pub(super) async fn reached(&self) {
        self.ways().reached.notified().await;
    }

    /// Whether a FIN was delayed.
    pub(super) fn fin_was_late(&self) -> bool {
        self.0.get().is_some_and(|ways| ways.fin_was_late.get())
    }

    /// Whether data of this side has waited at its limit.
    pub(super) fn has_stopped(&self, from: Side) -> bool {
        self.0.get().is_some_and(|ways| ways.way(from).stopped.get())
    }

    /// The number of bytes that may still pass from this side, after `passed` ones.
    pub fn room(&self, from: Side, passed: u64) -> usize {
        let limit = self.0.get().map_or(u64::MAX, |ways| ways.way(from).limit.get());
        limit.saturating_sub(passed).try_into().unwrap_or(usize::MAX)
    }

    /// As [`room`](Self::room). If there is none the limit is reached, and this waits until it is raised.
    pub async fn left(&self, from: Side, passed: u64) -> usize {
        loop {
            match self.room(from, passed) {
                0 => {
                    self.way(from).stopped.set(true);
                    self.wait().await;
                }
                left => return left,
            }
        }
    }

    /// Whether this side's FIN is delayed or suppressed.
    pub fn holds_fin(&self, from: Side) -> bool {
        self.0.get().is_some_and(|ways| !matches!(ways.way(from).fin.get(), Fin::Passes))
    }

    /// Returns when this side's FIN may pass.
    pub async fn fin(&self, from: Side) {
        loop {
            match self.0.get().map_or(Fin::Passes, |ways| ways.way(from).fin.get()) {
                Fin::Passes => return,
                Fin::Late(time) => {
                    self.ways().fin_was_late.set(true);
                    return tokio::time::sleep(time).await;
                }
                Fin::Stops => self.wait().await,
            }
        }
    }

    async fn wait(&self) {
        self.ways().reached.notify_one();
        self.ways().changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_up_to_the_limit() {
        let gate = Gate::default();
        assert_eq!(gate.left(Side::Program, 1 << 40).await, usize::MAX - (1 << 40));
        gate.limit(Side::Program, 10);
        gate.limit(Side::Program, 20);
        assert_eq!(gate.left(Side::Program, 3).await, 7, "the lower limit counts");
        assert!(gate.left(Side::Remote, 100).await > 100);
        tokio::select! {
            _ = gate.left(Side::Program, 10) => panic!("nothing is left"),
            () = gate.reached() => {}
        }
        gate.open();
        let raise = async {
            tokio::task::yield_now().await;
            gate.open();
            gate.has_changed();
        };
        gate.limit(Side::Program, 10);
        let (left, ()) = tokio::join!(gate.left(Side::Program, 10), raise);
        assert_eq!(left, usize::MAX - 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fin_is_late_or_stops() {
        let gate = Gate::default();
        gate.fin(Side::Remote).await;
        gate.delay_fin(Side::Remote, Duration::from_secs(5));
        assert!(gate.holds_fin(Side::Remote) && !gate.holds_fin(Side::Program));
        let start = tokio::time::Instant::now();
        gate.fin(Side::Remote).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        gate.stop_fin(Side::Remote);
        tokio::select! {
            () = gate.fin(Side::Remote) => panic!("it never passes"),
            () = gate.reached() => {}
        }
    }
}
