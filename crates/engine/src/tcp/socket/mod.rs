//! The socket calls: the handle [`Tcp`](calls::Tcp), its options, state and statistics.

pub(super) mod admin;
pub(super) mod api;
pub(super) mod buffers;
pub(super) mod calls;
mod closing;
pub(super) mod info;
pub(super) mod list;
mod options;
pub(super) mod readiness;
pub(super) mod settings;
