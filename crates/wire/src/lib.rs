//! The packet formats of lastack: parsing and emitting headers.
//!
//! All types are values or views of bytes that the caller holds; nothing allocates except the `Vec` that an `emit`
//! appends to, and no input causes a panic. Semantics are not checked here: a parser rejects only what cannot be
//! parsed, with [`Malformed`].
//!
//! ```
//! use lastack_wire::{IpHeader, IpPacket, TcpFlags, TcpHeader, ip, tcp};
//!
//! let header = IpHeader::new("192.0.2.1".parse()?, "192.0.2.2".parse()?, ip::TCP);
//! let syn = TcpHeader { src_port: 49152, dst_port: 80, flags: TcpFlags::SYN, ..TcpHeader::default() };
//! let mut packet = Vec::new();
//! header.emit(syn.len(), &mut packet);
//! syn.emit(&mut packet);
//! tcp::fill_checksum(&header, &mut packet[header.len()..]);
//!
//! let parsed = IpPacket::parse(&packet)?;
//! assert!(tcp::checksum_ok(&parsed.header, parsed.payload));
//! assert_eq!(TcpHeader::parse(parsed.payload)?.0, syn);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod checksum;
pub mod icmp;
pub mod ip;
mod malformed;
pub mod reset_reason;
pub mod tcp;
pub mod udp;

pub use icmp::{Icmp, IcmpError, Quoted};
pub use ip::{Fragment, IpHeader, IpPacket};
pub use malformed::Malformed;
pub use reset_reason::ResetReason;
pub use tcp::{SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps};
pub use udp::UdpHeader;
