//! The host's own sockets: what `run` relays to and what `probe` asks with.
//!
//! An errno says too little: `ECONNREFUSED` is a reset or an ICMP message, `EHOSTUNREACH` one of a dozen codes from
//! any router on the way, or no packet at all. The kernel knows, and tells through the error queue of the socket.

pub mod connect;
pub mod datagrams;
pub mod error_queue;
pub mod failure;
pub mod inner;
pub mod interface;
pub mod networks;
pub mod path;
pub mod ping;
pub mod resolvers;
pub mod scratch;
pub mod socket;
pub mod tcp_info;

pub use connect::{Connected, connect, connect_with};
pub use failure::{Failure, Said};
pub use path::path_mtu;
