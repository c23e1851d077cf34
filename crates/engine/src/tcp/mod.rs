//! TCP (RFC 9293).
//!
//! A connection's life is a few types: a `Listener`; a `Handshake` without buffers (SYN-SENT, SYN-RECEIVED); a
//! `Connection` (ESTABLISHED to LAST-ACK), `Parked` while it is idle; a `TimeWait` of a few words; and a closed socket
//! that its user still reads.

mod acceptance;
mod closed;
mod connection;
mod demux;
mod handshake;
mod memory;
mod recv;
mod segment;
mod send;
mod socket;
mod table;

pub use acceptance::{ResetEffect, ResetReceiver};
pub(crate) use closed::reset_reply::ResetLimit;
pub(crate) use handshake::negotiate::MIN_MSS;
pub(crate) use memory::Memory;
pub(crate) use segment::{emit, emit_control};
pub use send::congestion::{Acked, Algorithm, CongestionControl, CongestionFactory, SlowStartExit};
pub use send::ecn::Ecn;
pub use send::mtu_discovery::MtuProbing;
pub use socket::api::{
    Answer, BindError, CaState, ConnId, ConnectError, Keepalive, ListenerId, TcpError, TcpState,
};
pub use socket::calls::Tcp;
pub use socket::info::{PeerInfo, TCP_INFO, TcpInfo};
pub use socket::list::OpenConnection;
pub use socket::readiness::Readiness;
pub(crate) use table::TcpTable;

#[cfg(test)]
mod tests;
