//! The lock of a host: std's, or under `--cfg lastack_loom` loom's, which explores all thread interleavings.

#[cfg(lastack_loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(not(lastack_loom))]
pub(crate) use std::sync::Mutex;
