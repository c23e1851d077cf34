//! IPv4 and IPv6 (RFC 791, RFC 8200): the header fields that a stack needs, as one type for both.

mod v4;
mod v6;

use crate::Malformed;
use crate::checksum::Sum;
use crate::icmp::Quoted;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Protocol number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// The fields of an IP header that matter to a host. The addresses determine the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub src: IpAddr,
    /// Destination address; of the same version as the source.
    pub dst: IpAddr,
    /// The protocol of the payload. For IPv6: the one behind the extension headers.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label of 20 bits; IPv6 only, 0 for IPv4.
    pub flow_label: u32,
    /// Identification; IPv4 only, 0 for IPv6.
    pub ident: u16,
    /// The DF bit; IPv4 only. Set for IPv6, since routers never fragment IPv6 packets.
    pub dont_fragment: bool,
}

/// The position of a fragment in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification; 16 bits for IPv4.
    pub ident: u32,
    /// Offset of the payload's first byte; a multiple of 8.
    pub offset: u32,
    /// The more-fragments flag.
    pub more: bool,
}

/// A parsed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// The header.
    pub header: IpHeader,
    /// Set if this is a fragment. `None` for an IPv6 atomic fragment (RFC 6946).
    pub fragment: Option<Fragment>,
    /// There are IPv4 options, or IPv6 extension headers other than the fragment header.
    pub has_options: bool,
    /// Offset of the byte that names `header.protocol`: the pointer of an ICMPv6 parameter problem.
    pub next_header_at: usize,
    /// Length of the headers before the payload.
    pub unfragmentable: usize,
    /// The payload, without link-layer padding.
    pub payload: &'a [u8],
}

impl IpHeader {
    /// A header with hop limit 64, traffic class 0, no flow label, identification 0 and DF set.
    #[must_use]
    pub const fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        Self {
            src,
            dst,
            protocol,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            ident: 0,
            dont_fragment: true,
        }
    }

    /// Whether this is IPv6.
    #[inline]
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Length that `emit` appends: 20 or 40 bytes.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        if self.is_v6() { v6::HEADER } else { v4::HEADER }
    }

    /// Appends the header of a packet with `payload_len` bytes of payload.
    ///
    /// # Panics
    /// If the addresses are of different versions, or the packet would exceed the max length.
    // Inlined where the header is built: reading it back from memory would stall.
    #[inline(always)]
    pub fn emit(&self, payload_len: usize, out: &mut Vec<u8>) {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => v4::emit(self, src, dst, None, payload_len, out),
            (IpAddr::V6(src), IpAddr::V6(dst)) => v6::emit(self, src, dst, self.protocol, payload_len, out),
            _ => mixed(),
        }
    }

    /// The header of a packet with `payload_len` bytes of payload, if it is IPv4.
    ///
    /// # Panics
    /// If the packet would exceed the max length.
    #[inline(always)]
    pub(crate) fn v4_bytes(&self, payload_len: usize) -> Option<[u8; v4::HEADER]> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(v4::bytes(self, src, dst, None, payload_len)),
            _ => None,
        }
    }

    /// Writes the constant fields of the header to the beginning of `bytes`: all but length, checksum, hop limit and
    /// traffic class.
    #[inline]
    pub(crate) fn write_constant(&self, bytes: &mut [u8]) {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes[..v4::HEADER].copy_from_slice(&v4::constant(self, src, dst));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let constant = Self { hop_limit: 0, traffic_class: 0, ..*self };
                bytes[..v6::HEADER].copy_from_slice(&v6::bytes(&constant, src, dst, self.protocol, 0));
            }
            _ => mixed(),
        }
    }

    /// Appends the header of a fragment with `payload_len` bytes of payload; for IPv6 with the fragment header.
    ///
    /// # Panics
    /// As [`IpHeader::emit`].
    pub fn emit_fragment(&self, fragment: Fragment, payload_len: usize, out: &mut Vec<u8>) {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => v4::emit(self, src, dst, Some(fragment), payload_len, out),
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                v6::emit_fragment(self, src, dst, fragment, payload_len, out)
            }
            _ => mixed(),
        }
    }

    /// The sum of the pseudo-header that the checksum of an upper layer begins with (RFC 9293 section 3.1, RFC 8200
    /// section 8.1).
    #[inline]
    #[must_use]
    pub fn pseudo(&self, payload_len: usize) -> Sum {
        let sum = match self.src {
            IpAddr::V4(src) => Sum::new().add_u32(src.to_bits()),
            IpAddr::V6(src) => Sum::new().add(&src.octets()),
        };
        let sum = match self.dst {
            IpAddr::V4(dst) => sum.add_u32(dst.to_bits()),
            IpAddr::V6(dst) => sum.add(&dst.octets()),
        };
        sum.add_u32(payload_len as u32).add_u16(u16::from(self.protocol))
    }
}

#[cold]
fn mixed() -> ! {
    panic!("source and destination of an IP header must be of the same version")
}

impl<'a> IpPacket<'a> {
    /// Parses a packet. For IPv4 the header checksum is verified. For IPv6 the extension headers are skipped:
    /// hop-by-hop options, routing, destination options, and fragment, where parsing ends if the packet is a
    /// fragment.
    ///
    /// # Errors
    /// If the packet cannot be parsed, or must be discarded.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => v4::parse(bytes),
            6 => v6::parse(bytes),
            _ => Err(Malformed::Version),
        }
    }

    /// A reassembled packet: `header` is that of the first fragment, `payload` all their payloads. IPv6 extension
    /// headers at the start of the payload are skipped.
    ///
    /// # Errors
    /// As [`IpPacket::parse`].
    pub fn reassembled(header: IpHeader, payload: &'a [u8]) -> Result<Self, Malformed> {
        if header.is_v6() { v6::reassembled(header, payload) } else { Ok(v4::reassembled(header, payload)) }
    }
}

/// Parses the packet that an ICMP error quotes. Fields that may be truncated or modified on the path are not
/// verified.
pub(crate) fn quoted(bytes: &[u8]) -> Result<Quoted<'_>, Malformed> {
    match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
        4 => v4::quoted(bytes),
        6 => v6::quoted(bytes),
        _ => Err(Malformed::Version),
    }
}

/// Whether an address can be unicast: not unspecified, multicast, broadcast, class E, or an IPv4-mapped IPv6 address,
/// which must not be on the wire (`Rule::DropBadSource`). Loopback addresses can.
#[inline]
#[must_use]
pub const fn unicast(addr: IpAddr) -> bool {
    match addr {
        // Class E includes 255.255.255.255.
        IpAddr::V4(addr) => !(addr.is_unspecified() || addr.is_multicast() || addr.octets()[0] >= 240),
        IpAddr::V6(addr) => {
            !(addr.is_unspecified() || addr.is_multicast() || addr.to_ipv4_mapped().is_some())
        }
    }
}
