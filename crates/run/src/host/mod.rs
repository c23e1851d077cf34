//! The host's own sockets: those that `run` relays to, and those of `probe`.
//!
//! An errno is ambiguous: `ECONNREFUSED` is a reset or an ICMP message, `EHOSTUNREACH` one of a dozen codes from any
//! router on the path, or no packet at all. The kernel reports the exact error by the error queue of the socket.

pub mod connect;
pub mod datagrams;
pub mod error_queue;
pub mod failure;
pub mod hops;
pub mod inner;
pub mod interface;
mod joined;
pub mod networks;
pub mod path;
pub mod ping;
pub mod resolvers;
pub mod scratch;
pub mod socket;
pub mod source;
mod spare;
pub mod tcp_info;
pub mod urgent;

pub use connect::{Connected, connect, connect_with};
pub use failure::{Failure, Said};
pub use path::path_mtu;
pub use source::Source;
