//! The receive side of a connection: when to acknowledge, and how large the buffer grows.

pub(super) mod ack_hold;
pub(super) mod ack_policy;
pub(super) mod autotune;
