//! The task of a connection, as those see it that may have to wake it.

use std::cell::Cell;
use std::fmt;
use std::task::Waker;

/// The task that waits, if there is one. The last one counts.
#[derive(Default)]
pub struct Waiting(Cell<Option<Waker>>);

impl Waiting {
    /// This task waits.
    pub fn register(&self, waker: &Waker) {
        let known = self.0.take().filter(|known| known.will_wake(waker));
        self.0.set(Some(known.unwrap_or_else(|| waker.clone())));
    }

    /// Wakes it.
    pub fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
