//! TCP (RFC 9293).
//!
//! The life of a connection is a few types: a `Listener`; a `Handshake` without buffers (SYN-SENT,
//! SYN-RECEIVED); a `Connection` (ESTABLISHED to LAST-ACK); a `TimeWait` of a few words; and `Over`
//! for a user who has still something to read.

mod acceptance;
mod acks;
mod active;
mod api;
mod arrives;
mod autotune;
mod check;
mod congestion;
mod connection;
mod cookies;
mod demux;
mod ecn;
mod expire;
mod flight;
mod handshake;
mod icmp;
mod index;
mod info;
mod kill;
mod listen;
mod memory;
mod open;
mod opening;
mod options;
mod over;
mod owed;
mod pacing;
mod passive;
mod promptness;
mod prr;
mod rack;
mod rcv;
mod readiness;
mod recovery;
mod reset;
mod retries;
mod rtt;
mod search;
mod segment;
mod segmentize;
mod settings;
mod snd;
mod state;
mod stats;
mod table;
mod time_wait;
mod timers;
mod user;
mod uto;

pub use acceptance::{ResetEffect, ResetReceiver};
pub use api::{Answer, BindError, ConnId, ConnectError, Keepalive, ListenerId, Repair, TcpError, TcpState};
pub use congestion::Algorithm;
pub use ecn::Ecn;
pub use info::{Counterpart, TCP_INFO, TcpInfo};
pub(crate) use memory::Memory;
pub use open::OpenConnection;
pub use readiness::Readiness;
pub(crate) use reset::ResetLimit;
pub use search::MtuProbing;
pub(crate) use table::TcpTable;
pub use user::Tcp;

#[cfg(test)]
mod tests;
