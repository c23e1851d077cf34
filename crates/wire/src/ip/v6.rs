//! The IPv6 header, and the extension headers that a host skips (RFC 8200).

use super::{Fragment, IpHeader, IpPacket};
use crate::Malformed;
use crate::icmp::Quoted;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// Length of the header in bytes.
pub(super) const HEADER: usize = 40;

const NEXT_HEADER_AT: usize = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const FRAGMENT_HEADER: usize = 8;

/// Max extension headers skipped in one packet. RFC 8200 section 4.1 lists at most six.
const MAX_EXTENSIONS: usize = 8;

/// The raw header, with its payload length, which is not verified.
pub(super) struct Fields {
    pub header: IpHeader,
    pub payload_len: usize,
}

impl Fields {
    #[inline]
    pub(super) fn read(b: &[u8; HEADER]) -> Self {
        let first = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        Self {
            header: IpHeader {
                src: address(&b[8..24]),
                dst: address(&b[24..40]),
                protocol: b[NEXT_HEADER_AT],
                hop_limit: b[7],
                traffic_class: (first >> 20 & 0xff) as u8,
                flow_label: first & 0x000f_ffff,
                ident: 0,
                dont_fragment: true,
            },
            payload_len: usize::from(u16::from_be_bytes([b[4], b[5]])),
        }
    }
}

#[inline]
fn address(b: &[u8]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(b);
    IpAddr::V6(Ipv6Addr::from(bytes))
}

/// The state of the walk along the extension headers.
pub(super) struct Walk {
    /// The type of the header at `at`.
    pub protocol: u8,
    /// Offset of the next-header field that names it.
    pub named_at: usize,
    /// Offset of the first byte not skipped yet.
    pub at: usize,
    /// Set if the walk ended behind the fragment header of a fragment.
    pub fragment: Option<Fragment>,
    /// A header other than the fragment header was skipped.
    pub options: bool,
    /// Nothing was skipped yet, so hop-by-hop options may follow.
    first: bool,
}

impl Walk {
    pub(super) const fn new(protocol: u8, named_at: usize, at: usize) -> Self {
        Self { protocol, named_at, at, fragment: None, options: false, first: true }
    }

    /// Skips to the upper-layer header, or to the first header that is not skipped. On failure, `self` is at the
    /// offending header.
    pub(super) fn run(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        for _ in 0..MAX_EXTENSIONS {
            match self.protocol {
                FRAGMENT => self.pass_fragment(packet)?,
                // Only directly behind the IPv6 header; elsewhere it is an unknown protocol (RFC 8200 section 4).
                HOP_BY_HOP if self.first => self.pass(packet)?,
                ROUTING | DESTINATION => self.pass(packet)?,
                _ => return Ok(()),
            }
            if self.fragment.is_some() {
                return Ok(());
            }
        }
        match self.protocol {
            FRAGMENT | ROUTING | DESTINATION => Err(Malformed::ExtensionHeader),
            _ => Ok(()),
        }
    }

    fn pass(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        let rest = packet.get(self.at..).unwrap_or_default();
        let [next, len, ..] = *rest else {
            return Err(Malformed::ExtensionHeader);
        };
        let len = (usize::from(len) + 1) * 8;
        let header = rest.get(..len).ok_or(Malformed::ExtensionHeader)?;
        if self.protocol == ROUTING {
            // With segments left we would have to forward it, and type 0 is forbidden even then (RFC 5095).
            if header[3] != 0 {
                return Err(Malformed::ExtensionHeader);
            }
        } else {
            options(&header[2..])?;
        }
        self.options = true;
        self.advance(next, len);
        Ok(())
    }

    fn pass_fragment(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        let rest = packet.get(self.at..).unwrap_or_default();
        let b: &[u8; FRAGMENT_HEADER] = rest.first_chunk().ok_or(Malformed::ExtensionHeader)?;
        let place = u16::from_be_bytes([b[2], b[3]]);
        let fragment = Fragment {
            ident: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            offset: u32::from(place & !7),
            more: place & 1 != 0,
        };
        // Offset 0 and no more fragments: an atomic fragment, which is a whole packet (RFC 6946).
        self.fragment = (fragment.offset != 0 || fragment.more).then_some(fragment);
        self.advance(b[0], FRAGMENT_HEADER);
        Ok(())
    }

    const fn advance(&mut self, next: u8, len: usize) {
        self.first = false;
        self.protocol = next;
        self.named_at = self.at;
        self.at += len;
    }
}

/// Checks the options of a header. None is acted on; the two highest bits of an unknown one say whether the packet is
/// to be discarded (RFC 8200 section 4.2).
fn options(mut options: &[u8]) -> Result<(), Malformed> {
    const PAD1: u8 = 0;
    const SKIP: u8 = 0;
    loop {
        match *options {
            [] => return Ok(()),
            [PAD1, ref rest @ ..] => options = rest,
            [kind, len, ref rest @ ..] if kind >> 6 == SKIP => {
                options = rest.get(usize::from(len)..).ok_or(Malformed::Option)?;
            }
            _ => return Err(Malformed::Option),
        }
    }
}

#[inline]
pub(super) fn parse(bytes: &[u8]) -> Result<IpPacket<'_>, Malformed> {
    let Fields { header, payload_len } = Fields::read(bytes.first_chunk().ok_or(Malformed::Truncated)?);
    let packet = bytes.get(..HEADER + payload_len).ok_or(Malformed::Truncated)?;
    finish(header, packet, Walk::new(header.protocol, NEXT_HEADER_AT, HEADER))
}

pub(super) fn quoted(bytes: &[u8]) -> Result<Quoted<'_>, Malformed> {
    let Fields { mut header, payload_len } = Fields::read(bytes.first_chunk().ok_or(Malformed::Truncated)?);
    let mut walk = Walk::new(header.protocol, NEXT_HEADER_AT, HEADER);
    walk.run(bytes)?;
    header.protocol = walk.protocol;
    Ok(Quoted {
        header,
        fragment: walk.fragment,
        total_len: HEADER + payload_len,
        payload: &bytes[walk.at..],
    })
}

pub(super) fn reassembled(header: IpHeader, payload: &[u8]) -> Result<IpPacket<'_>, Malformed> {
    let mut walk = Walk::new(header.protocol, 0, 0);
    // Hop-by-hop options precede the fragment header; behind it they are an unknown protocol.
    walk.first = false;
    let mut packet = finish(header, payload, walk)?;
    if packet.fragment.is_some() {
        return Err(Malformed::ExtensionHeader);
    }
    // Offsets relative to the packet formed by `header` and `payload`.
    packet.next_header_at =
        if packet.unfragmentable == 0 { NEXT_HEADER_AT } else { HEADER + packet.next_header_at };
    packet.unfragmentable += HEADER;
    Ok(packet)
}

#[inline]
fn finish(mut header: IpHeader, packet: &[u8], mut walk: Walk) -> Result<IpPacket<'_>, Malformed> {
    walk.run(packet)?;
    header.protocol = walk.protocol;
    Ok(IpPacket {
        header,
        fragment: walk.fragment,
        has_options: walk.options,
        next_header_at: walk.named_at,
        unfragmentable: walk.at,
        payload: &packet[walk.at..],
    })
}

#[inline]
pub(super) fn emit(
    header: &IpHeader,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next_header: u8,
    payload_len: usize,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&bytes(header, src, dst, next_header, payload_len));
}

/// The header of a packet with `payload_len` bytes of payload.
#[inline(always)]
pub(super) fn bytes(
    header: &IpHeader,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next_header: u8,
    payload_len: usize,
) -> [u8; HEADER] {
    let payload_len = u16::try_from(payload_len).expect("an IPv6 packet has at most 65535 bytes of payload");
    let first = 6 << 28 | u32::from(header.traffic_class) << 20 | header.flow_label & 0x000f_ffff;
    let mut b = [0; HEADER];
    b[0..4].copy_from_slice(&first.to_be_bytes());
    b[4..6].copy_from_slice(&payload_len.to_be_bytes());
    b[NEXT_HEADER_AT] = next_header;
    b[7] = header.hop_limit;
    b[8..24].copy_from_slice(&src.octets());
    b[24..40].copy_from_slice(&dst.octets());
    b
}

pub(super) fn emit_fragment(
    header: &IpHeader,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    fragment: Fragment,
    payload_len: usize,
    out: &mut Vec<u8>,
) {
    emit(header, src, dst, FRAGMENT, FRAGMENT_HEADER + payload_len, out);
    let mut b = [0; FRAGMENT_HEADER];
    b[0] = header.protocol;
    b[2..4].copy_from_slice(&((fragment.offset & 0xfff8) as u16 | u16::from(fragment.more)).to_be_bytes());
    b[4..8].copy_from_slice(&fragment.ident.to_be_bytes());
    out.extend_from_slice(&b);
}
