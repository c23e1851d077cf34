//! What is left when a connection is over, and replies to segments of no connection.

pub(super) mod closed_socket;
pub(super) mod reset_reply;
pub(super) mod time_wait;
pub(super) mod waiters;
