//! Where the relay of a connection stops: a limit of bytes in each direction, and a FIN that is delayed or suppressed.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use tokio::sync::Notify;

use crate::relay::Side;

/// The gate of a connection; open, unless a fault closes it.
#[derive(Debug)]
pub struct Gate {
    from_program: Way,
    from_remote: Way,
    reached: Notify,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Bytes that may pass.
    limit: Cell<u64>,
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
        Self { limit: Cell::new(u64::MAX), fin: Cell::new(Fin::Passes) }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { from_program: Way::default(), from_remote: Way::default(), reached: Notify::new() }
    }
}

impl Gate {
    fn way(&self, from: Side) -> &Way {
        if from == Side::Program { &self.from_program } else { &self.from_remote }
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
        self.reached.notified().await;
    }

    /// The number of bytes that may still pass from this side, after `passed` ones. If none, never returns, and the
    /// limit is reached.
    pub async fn left(&self, from: Side, passed: u64) -> usize {
        match self.way(from).limit.get().saturating_sub(passed) {
            0 => {
                self.reached.notify_one();
                pending().await
            }
            left => left.try_into().unwrap_or(usize::MAX),
        }
    }

    /// Returns when this side's FIN may pass.
    pub async fn fin(&self, from: Side) {
        match self.way(from).fin.get() {
            Fin::Passes => {}
            Fin::Late(time) => tokio::time::sleep(time).await,
            Fin::Stops => {
                self.reached.notify_one();
                pending().await
            }
        }
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
    }

    #[tokio::test(start_paused = true)]
    async fn a_fin_is_late_or_stops() {
        let gate = Gate::default();
        gate.fin(Side::Remote).await;
        gate.delay_fin(Side::Remote, Duration::from_secs(5));
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
