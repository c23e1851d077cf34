//! The receive side of a connection: delayed ACKs, and receive buffer auto-tuning.

pub(super) mod ack_policy;
pub(super) mod autotune;
