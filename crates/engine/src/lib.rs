//! The TCP/IP stack of lastack: a deterministic, sans-I/O state machine.
//!
//! [`Stack`] takes packets in and gives packets out. It has no I/O, clock, thread, lock or randomness of its own: the
//! same calls at the same times give the same packets, byte for byte. Data flows one way: an arrival, a timer or a call
//! changes state and marks output as *pending*; only [`Stack::poll_transmit`] creates packets.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buffer;
mod collections;
mod config;
mod counters;
mod end;
mod event;
mod icmp;
mod ip;
mod isn;
mod outbox;
mod packet;
mod reason;
mod reconfigure;
mod rule;
mod seq;
mod shared;
mod stack;
mod steps;
pub mod tcp;
#[cfg(test)]
mod testing;
mod time;
mod turn;
pub mod udp;

/// Congestion control: the algorithms, and the interface of an algorithm of the application.
pub mod congestion {
    pub use crate::tcp::{Acked, Algorithm, CongestionControl, CongestionFactory};
}

pub use config::validate::TcpConfigMut;
pub use config::{
    Checksums, Config, ConfigError, DatagramConfig, Intercept, InvalidPrefix, Prefix, TcpConfig,
    TransmitChecksum,
};
pub use counters::{ByRule, Counters, NSTAT, Nstat};
pub use end::{
    ByteCounts, Cause, End, Ended, EndedBy, FourTuple, Header, InitialNumbers, LikelyCause, LostBytes,
    Origin, TimeLimit,
};
pub use event::Event;
pub use icmp::{EchoError, EchoReply, EchoRequest};
pub use ip::raw::{RawError, RawPacket};
pub use packet::{DropReason, IpFields, LentPacket, Received, Transmit, Verdict};
pub use rule::{Rule, UnknownRule};
pub use seq::{RcvSeq, SndSeq};
pub use stack::Stack;
pub use tcp::{
    Algorithm, Answer, BindError, CaState, ConnId, ConnectError, Ecn, Keepalive, ListenerId, MtuProbing,
    OpenConnection, PeerInfo, Readiness, ResetEffect, ResetReceiver, SlowStartExit, TCP_INFO, Tcp, TcpError,
    TcpInfo, TcpState,
};
pub use time::Instant;
pub use udp::{Datagram, Udp, UdpError, UdpId};
