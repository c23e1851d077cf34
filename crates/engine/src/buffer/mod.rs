//! The send and receive buffers of a connection: rings that start empty, grow with use and can be released.

mod recv;
mod ring;
mod send;

pub(crate) use crate::collections::ranges::Ranges;
pub(crate) use recv::RecvRing;
pub(crate) use send::SendRing;
