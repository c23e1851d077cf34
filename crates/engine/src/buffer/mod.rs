//! The send and receive buffers of a connection: rings that start empty, grow with use and can be released, and packets
//! that are kept as they arrived.

mod kept;
mod pool;
mod recv;
mod ring;
mod send;

pub(crate) use crate::collections::ranges::Ranges;
pub(crate) use pool::PacketPool;
pub(crate) use recv::RecvBuffer;
pub(crate) use send::SendRing;
