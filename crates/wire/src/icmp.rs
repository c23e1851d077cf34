//! ICMP for both versions of IP (RFC 792, RFC 4443).

mod error;
mod quoted;

pub use error::IcmpError;
pub use quoted::Quoted;

use crate::Malformed;
use crate::checksum::Sum;
use crate::ip::IpHeader;
use alloc::vec::Vec;

/// Length of the header before the data of an echo, or the quoted packet of an error.
pub const HEADER: usize = 8;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp<'a> {
    /// Echo request or echo reply.
    Echo {
        /// Whether it is the reply.
        reply: bool,
        /// Identifier.
        ident: u16,
        /// Sequence number.
        seq: u16,
        /// The data that the reply must return.
        data: &'a [u8],
    },
    /// An error about a packet.
    Error {
        /// The error.
        error: IcmpError,
        /// The start of that packet; see [`Quoted::parse`].
        quoted: &'a [u8],
    },
    /// Anything else.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// Types of echo request and echo reply.
const fn echo_kinds(v6: bool) -> (u8, u8) {
    if v6 { (128, 129) } else { (8, 0) }
}

impl<'a> Icmp<'a> {
    /// Parses a message of the IP version of `ip`, and verifies its checksum.
    ///
    /// # Errors
    /// If the message is shorter than eight bytes or its checksum is wrong.
    pub fn parse(ip: &IpHeader, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&[kind, code, _, _, a, b, c, d], rest) =
            bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        if !begin(ip, bytes.len()).add(bytes).is_valid() {
            return Err(Malformed::Checksum);
        }
        let v6 = ip.is_v6();
        let (request, reply) = echo_kinds(v6);
        Ok(if kind == request || kind == reply {
            let (ident, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Self::Echo { reply: kind == reply, ident, seq, data: rest }
        } else if IcmpError::is_error_kind(v6, kind) {
            let info = u32::from_be_bytes([a, b, c, d]);
            Self::Error { error: IcmpError { v6, kind, code, info }, quoted: rest }
        } else {
            Self::Other { kind, code }
        })
    }

    /// Appends the message, with its checksum, for a packet with the header `ip`. The quoted packet is not truncated:
    /// use [`IcmpError::quote`] first.
    ///
    /// # Panics
    /// If an error is of another IP version than `ip`.
    pub fn emit(&self, ip: &IpHeader, out: &mut Vec<u8>) {
        let (kind, code, info, rest) = match *self {
            Self::Echo { reply, ident, seq, data } => {
                let (request_kind, reply_kind) = echo_kinds(ip.is_v6());
                let kind = if reply { reply_kind } else { request_kind };
                (kind, 0, u32::from(ident) << 16 | u32::from(seq), data)
            }
            Self::Error { error, quoted } => {
                assert_eq!(error.v6, ip.is_v6(), "an ICMP error goes in a packet of its own IP version");
                (error.kind, error.code, error.info, quoted)
            }
            Self::Other { kind, code } => (kind, code, 0, &[][..]),
        };
        let [a, b, c, d] = info.to_be_bytes();
        let mut header = [kind, code, 0, 0, a, b, c, d];
        let checksum = begin(ip, HEADER + rest.len()).add(&header).add(rest).finish();
        header[2..4].copy_from_slice(&checksum.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(rest);
    }
}

/// The initial sum of the checksum: for ICMPv6 the pseudo-header (RFC 4443 section 2.3), for ICMP empty.
fn begin(ip: &IpHeader, len: usize) -> Sum {
    if ip.is_v6() { ip.pseudo(len) } else { Sum::new() }
}
