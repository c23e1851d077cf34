//! A receive buffer shared by all sockets, because each use ends before another begins.

use std::cell::RefCell;

/// Bytes read at once.
pub const LEN: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LEN].into());
}

/// Lends the buffer. `read` must not call this function.
pub fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buffer| read(buffer))
}
