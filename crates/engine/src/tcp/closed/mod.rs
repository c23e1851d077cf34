//! What remains of a closed connection, and replies to segments of no connection.

pub(super) mod closed_socket;
pub(super) mod reset_reply;
pub(super) mod time_wait;
pub(super) mod waiters;
