//! UDP (RFC 768).

use crate::Malformed;
use crate::ip::IpHeader;
use alloc::vec::Vec;

/// Length of the header in bytes.
const HEADER: usize = 8;

/// The ports of a datagram; length and checksum are derived.
///
/// ```
/// use lastack_wire::{IpHeader, UdpHeader, ip};
///
/// let ip = IpHeader::new("::1".parse()?, "::1".parse()?, ip::UDP);
/// let mut datagram = Vec::new();
/// UdpHeader { src_port: 49152, dst_port: 53 }.emit(&ip, b"query", &mut datagram);
/// let (header, payload) = UdpHeader::parse(&ip, &datagram)?;
/// assert_eq!((header.dst_port, payload), (53, &b"query"[..]));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port; 0 if the sender expects no reply.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl UdpHeader {
    /// Length of the header in bytes.
    pub const LEN: usize = HEADER;

    /// Parses a datagram and verifies its checksum. Checksum 0 means none for IPv4 and is illegal for IPv6 (RFC 8200
    /// section 8.1).
    ///
    /// # Errors
    /// If the datagram is shorter than a header, its length field contradicts that, or the checksum is wrong.
    #[inline]
    pub fn parse<'a>(ip: &IpHeader, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let (header, payload) = Self::parse_unchecked(bytes)?;
        let checksum_ok = match &bytes[6..8] {
            [0, 0] => !ip.is_v6(),
            _ => {
                let len = HEADER + payload.len();
                ip.pseudo(len).add(&bytes[..len]).is_valid()
            }
        };
        if checksum_ok { Ok((header, payload)) } else { Err(Malformed::Checksum) }
    }

    /// Parses a datagram whose checksum was verified already.
    ///
    /// # Errors
    /// If the datagram is shorter than a header, or its length field contradicts that.
    #[inline]
    pub fn parse_unchecked(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let b: &[u8; HEADER] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let len = usize::from(u16::from_be_bytes([b[4], b[5]]));
        // Bytes of the IP payload behind the datagram are not part of it.
        let payload = bytes.get(HEADER..len).ok_or(Malformed::Length)?;
        let header =
            Self { src_port: u16::from_be_bytes([b[0], b[1]]), dst_port: u16::from_be_bytes([b[2], b[3]]) };
        Ok((header, payload))
    }

    /// Appends the datagram, with its checksum.
    ///
    /// # Panics
    /// If the datagram would have more than 65535 bytes.
    pub fn emit(&self, ip: &IpHeader, payload: &[u8], out: &mut Vec<u8>) {
        let header = self.header(payload, 0);
        let checksum = match ip.pseudo(HEADER + payload.len()).add(&header).add(payload).finish() {
            // A computed 0 is sent as 0xffff, since 0 means no checksum.
            0 => 0xffff,
            checksum => checksum,
        };
        out.extend_from_slice(&self.header(payload, checksum));
        out.extend_from_slice(payload);
    }

    /// Appends the datagram with only the uncomplemented sum of the pseudo-header as checksum, for checksum offload.
    ///
    /// # Panics
    /// If the datagram would have more than 65535 bytes.
    pub fn emit_partial(&self, ip: &IpHeader, payload: &[u8], out: &mut Vec<u8>) {
        let sum = ip.pseudo(HEADER + payload.len()).folded();
        out.extend_from_slice(&self.header(payload, sum));
        out.extend_from_slice(payload);
    }

    fn header(&self, payload: &[u8], checksum: u16) -> [u8; HEADER] {
        let len = u16::try_from(HEADER + payload.len()).expect("a datagram has at most 65535 bytes");
        let mut b = [0; HEADER];
        b[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        b[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        b[4..6].copy_from_slice(&len.to_be_bytes());
        b[6..8].copy_from_slice(&checksum.to_be_bytes());
        b
    }
}
