//! The IPv4 header (RFC 791).

use super::{Fragment, IpHeader, IpPacket};
use crate::Malformed;
use crate::checksum::Sum;
use crate::icmp::Quoted;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// Length of a header without options.
pub(super) const HEADER: usize = 20;

const PROTOCOL_AT: usize = 9;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// The raw header, with its lengths, which are not verified.
pub(super) struct Fields {
    pub header: IpHeader,
    pub fragment: Option<Fragment>,
    pub header_len: usize,
    pub total_len: usize,
}

impl Fields {
    #[inline]
    pub(super) fn read(b: &[u8; HEADER]) -> Self {
        let ident = u16::from_be_bytes([b[4], b[5]]);
        let place = u16::from_be_bytes([b[6], b[7]]);
        let fragment = Fragment {
            ident: u32::from(ident),
            offset: u32::from(place & OFFSET) * 8,
            more: place & MORE_FRAGMENTS != 0,
        };
        Self {
            header: IpHeader {
                src: IpAddr::V4(Ipv4Addr::new(b[12], b[13], b[14], b[15])),
                dst: IpAddr::V4(Ipv4Addr::new(b[16], b[17], b[18], b[19])),
                protocol: b[PROTOCOL_AT],
                hop_limit: b[8],
                traffic_class: b[1],
                flow_label: 0,
                ident,
                dont_fragment: place & DONT_FRAGMENT != 0,
            },
            fragment: (place & (MORE_FRAGMENTS | OFFSET) != 0).then_some(fragment),
            header_len: usize::from(b[0] & 0x0f) * 4,
            total_len: usize::from(u16::from_be_bytes([b[2], b[3]])),
        }
    }
}

#[inline]
pub(super) fn parse(bytes: &[u8]) -> Result<IpPacket<'_>, Malformed> {
    let fields = Fields::read(bytes.first_chunk().ok_or(Malformed::Truncated)?);
    if fields.header_len < HEADER {
        return Err(Malformed::HeaderLength);
    }
    if fields.total_len < fields.header_len {
        return Err(Malformed::Length);
    }
    let packet = bytes.get(..fields.total_len).ok_or(Malformed::Truncated)?;
    let (header, payload) = packet.split_at(fields.header_len);
    let sum = match header.first_chunk::<HEADER>() {
        Some(plain) if header.len() == HEADER => Sum::new().add_array(plain),
        _ => Sum::new().add(header),
    };
    if !sum.is_valid() {
        return Err(Malformed::Checksum);
    }
    if !options_ok(&header[HEADER..]) {
        return Err(Malformed::Option);
    }
    Ok(IpPacket {
        header: fields.header,
        fragment: fields.fragment,
        has_options: header.len() > HEADER,
        next_header_at: PROTOCOL_AT,
        unfragmentable: header.len(),
        payload,
    })
}

/// Whether each option lies within the header. The options are ignored: RFC 7126 advises hosts to do so.
fn options_ok(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [] | [0, ..] => return true,
            [1, ref rest @ ..] => options = rest,
            [_, len, ..] if len >= 2 => match options.get(usize::from(len)..) {
                Some(rest) => options = rest,
                None => return false,
            },
            _ => return false,
        }
    }
}

pub(super) fn quoted(bytes: &[u8]) -> Result<Quoted<'_>, Malformed> {
    let fields = Fields::read(bytes.first_chunk().ok_or(Malformed::Truncated)?);
    if fields.header_len < HEADER {
        return Err(Malformed::HeaderLength);
    }
    let payload = bytes.get(fields.header_len..).ok_or(Malformed::Truncated)?;
    Ok(Quoted { header: fields.header, fragment: fields.fragment, total_len: fields.total_len, payload })
}

pub(super) const fn reassembled(header: IpHeader, payload: &[u8]) -> IpPacket<'_> {
    IpPacket {
        header,
        fragment: None,
        has_options: false,
        next_header_at: PROTOCOL_AT,
        unfragmentable: HEADER,
        payload,
    }
}

#[inline(always)]
pub(super) fn emit(
    header: &IpHeader,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    fragment: Option<Fragment>,
    payload_len: usize,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&bytes(header, src, dst, fragment, payload_len));
}

/// The constant fields of the headers of unfragmented packets: all but length, checksum, hop limit and traffic class.
#[inline(always)]
pub(super) fn constant(header: &IpHeader, src: Ipv4Addr, dst: Ipv4Addr) -> [u8; HEADER] {
    let mut b = [0; HEADER];
    b[0] = 0x45;
    b[4..6].copy_from_slice(&header.ident.to_be_bytes());
    b[6..8].copy_from_slice(&(if header.dont_fragment { DONT_FRAGMENT } else { 0 }).to_be_bytes());
    b[PROTOCOL_AT] = header.protocol;
    b[12..16].copy_from_slice(&src.octets());
    b[16..20].copy_from_slice(&dst.octets());
    b
}

/// The header of a packet with `payload_len` bytes of payload.
#[inline(always)]
pub(super) fn bytes(
    header: &IpHeader,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    fragment: Option<Fragment>,
    payload_len: usize,
) -> [u8; HEADER] {
    let total_len = u16::try_from(HEADER + payload_len).expect("an IPv4 packet has at most 65535 bytes");
    let (ident, place) = match fragment {
        None => (header.ident, if header.dont_fragment { DONT_FRAGMENT } else { 0 }),
        Some(Fragment { ident, offset, more }) => {
            ((ident & 0xffff) as u16, (offset / 8) as u16 & OFFSET | if more { MORE_FRAGMENTS } else { 0 })
        }
    };
    let (version_and_class, hops_and_protocol) = (
        u16::from_be_bytes([0x45, header.traffic_class]),
        u16::from_be_bytes([header.hop_limit, header.protocol]),
    );
    // Computed from values: reading back the bytes just written would stall.
    let checksum = Sum::new()
        .add_u16(version_and_class)
        .add_u16(total_len)
        .add_u16(ident)
        .add_u16(place)
        .add_u16(hops_and_protocol)
        .add_u32(src.to_bits())
        .add_u32(dst.to_bits())
        .finish();
    let mut b = [0; HEADER];
    b[0..2].copy_from_slice(&version_and_class.to_be_bytes());
    b[2..4].copy_from_slice(&total_len.to_be_bytes());
    b[4..6].copy_from_slice(&ident.to_be_bytes());
    b[6..8].copy_from_slice(&place.to_be_bytes());
    b[8..10].copy_from_slice(&hops_and_protocol.to_be_bytes());
    b[10..12].copy_from_slice(&checksum.to_be_bytes());
    b[12..16].copy_from_slice(&src.octets());
    b[16..20].copy_from_slice(&dst.octets());
    b
}
