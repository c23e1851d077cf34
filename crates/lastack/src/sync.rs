//! The lock of a host: that of std, or under `--cfg lastack_loom` that of loom, which tries every order of threads.

#[cfg(lastack_loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(not(lastack_loom))]
pub(crate) use std::sync::Mutex;
