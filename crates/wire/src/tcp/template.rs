//! The headers of the segments of one connection, built once: only the fields that differ are written per segment.

use super::options::NOP;
use super::{ALONE, CHECKSUM, Checksum, HEADER, TIMESTAMPS_ALONE, TcpFlags, Timestamps};
use crate::checksum::Sum;
use crate::ip::IpHeader;
use alloc::vec::Vec;

/// Length of the headers of the two IP versions.
const V4: usize = 20;
const V6: usize = 40;

/// Max length of both headers.
const MAX: usize = V6 + HEADER + ALONE;

/// An IP header and a TCP header, with the timestamps option or without options, of one connection.
///
/// ```
/// use lastack_wire::ip::{self, IpHeader};
/// use lastack_wire::tcp::{self, Checksum, HeaderTemplate, SegmentFields, TcpFlags, TcpHeader};
/// let ip = IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::TCP);
/// let template = HeaderTemplate::new(&ip, 49152, 80, false);
/// let fields = SegmentFields { seq: 7, ack: 9, flags: TcpFlags::ACK, window: 1000, ..SegmentFields::of(&ip) };
/// let mut packet = Vec::new();
/// template.emit(&fields, [b"he", b"llo"], Checksum::Full, &mut packet);
/// packet.extend(b"hello");
/// assert!(tcp::checksum_ok(&ip, &packet[ip.len()..]));
/// ```
#[derive(Clone, Debug)]
pub struct HeaderTemplate {
    bytes: [u8; MAX],
    len: u8,
    /// The sum of the constant fields of the pseudo-header.
    pseudo: Sum,
}

/// The fields that differ between the segments of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct SegmentFields {
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field.
    pub window: u16,
    /// Timestamps; zero if the template does not have that option.
    pub timestamps: Timestamps,
}

impl SegmentFields {
    /// All zero, except for the fields of the IP header.
    #[must_use]
    pub fn of(ip: &IpHeader) -> Self {
        Self { hop_limit: ip.hop_limit, traffic_class: ip.traffic_class, ..Self::default() }
    }
}

impl HeaderTemplate {
    /// The template of packets with this IP header, these ports, and the timestamps option or no option.
    ///
    /// # Panics
    /// As [`IpHeader::emit`].
    #[inline]
    #[must_use]
    pub fn new(ip: &IpHeader, src_port: u16, dst_port: u16, timestamps: bool) -> Self {
        let mut bytes = [0; MAX];
        ip.write_constant(&mut bytes);
        let ports = [src_port.to_be_bytes(), dst_port.to_be_bytes()];
        if ip.is_v6() {
            Self::write_constant::<V6>(&mut bytes, ports, timestamps);
        } else {
            Self::write_constant::<V4>(&mut bytes, ports, timestamps);
        }
        let len = ip.len() + HEADER + if timestamps { ALONE } else { 0 };
        Self { bytes, len: len as u8, pseudo: ip.pseudo(0) }
    }

    /// Writes the constant fields of the TCP header behind an IP header of `IP` bytes.
    #[inline(always)]
    fn write_constant<const IP: usize>(bytes: &mut [u8; MAX], ports: [[u8; 2]; 2], timestamps: bool) {
        bytes[IP..IP + 2].copy_from_slice(&ports[0]);
        bytes[IP + 2..IP + 4].copy_from_slice(&ports[1]);
        if timestamps {
            bytes[IP + HEADER..IP + HEADER + ALONE].copy_from_slice(&Timestamps::default().block([NOP, NOP]));
        }
    }

    /// The bytes from `at` on.
    #[inline(always)]
    fn part<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.bytes[at..].first_chunk().expect("the template is longer")
    }

    /// Length of both headers.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Replaces the content of `out` by the headers of a segment with this data, which is to follow.
    ///
    /// # Panics
    /// If the packet would exceed the max length.
    #[inline(always)]
    pub fn emit(&self, fields: &SegmentFields, data: [&[u8]; 2], checksum: Checksum, out: &mut Vec<u8>) {
        match self.len() {
            52 => self.write::<V4, 52>(fields, data, checksum, out),
            _ => self.emit_other(fields, data, checksum, out),
        }
    }

    /// The same for all but IPv4 with timestamps.
    #[inline(never)]
    fn emit_other(&self, fields: &SegmentFields, data: [&[u8]; 2], checksum: Checksum, out: &mut Vec<u8>) {
        match self.len() {
            40 => self.write::<V4, 40>(fields, data, checksum, out),
            72 => self.write::<V6, 72>(fields, data, checksum, out),
            _ => self.write::<V6, 60>(fields, data, checksum, out),
        }
    }

    /// `IP`: length of the IP header; `LEN`: of both.
    #[inline(always)]
    fn write<const IP: usize, const LEN: usize>(
        &self,
        fields: &SegmentFields,
        data: [&[u8]; 2],
        checksum: Checksum,
        out: &mut Vec<u8>,
    ) {
        let segment = LEN - IP + data[0].len() + data[1].len();
        out.clear();
        out.extend_from_slice(&self.bytes[..LEN]);
        let Some(b) = out.first_chunk_mut::<LEN>() else { return };
        if IP == V4 {
            let total = u16::try_from(IP + segment).expect("an IPv4 packet has at most 65535 bytes");
            let (class, hops) = (u16::from(fields.traffic_class), u16::from(fields.hop_limit) << 8);
            // The addresses and the protocol are in the pseudo-header too; the first eight bytes are constant here.
            let constant = self.pseudo.add_array(self.part::<8>(0));
            let sum = constant.add_u16(class).add_u16(total).add_u16(hops);
            b[1] = fields.traffic_class;
            b[2..4].copy_from_slice(&total.to_be_bytes());
            b[8] = fields.hop_limit;
            b[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        } else {
            let len = u16::try_from(segment).expect("an IPv6 packet has at most 65535 bytes of payload");
            b[0] = self.bytes[0] | fields.traffic_class >> 4;
            b[1] = self.bytes[1] | fields.traffic_class << 4;
            b[4..6].copy_from_slice(&len.to_be_bytes());
            b[7] = fields.hop_limit;
        }
        let offset_and_flags = ((LEN - IP) as u16 / 4) << 12 | fields.flags.bits() & 0x01ff;
        let tcp = &mut b[IP..];
        tcp[4..8].copy_from_slice(&fields.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&fields.ack.to_be_bytes());
        tcp[12..14].copy_from_slice(&offset_and_flags.to_be_bytes());
        tcp[14..16].copy_from_slice(&fields.window.to_be_bytes());
        if LEN - IP > HEADER {
            tcp[24..28].copy_from_slice(&fields.timestamps.val.to_be_bytes());
            tcp[28..32].copy_from_slice(&fields.timestamps.ecr.to_be_bytes());
        }
        let pseudo = self.pseudo.add_u32(segment as u32);
        let checksum = match checksum {
            Checksum::None => 0,
            Checksum::Partial => pseudo.folded(),
            Checksum::Full => {
                let sum = pseudo.add_array(self.part::<4>(IP)).add_u32(fields.seq).add_u32(fields.ack);
                let sum = if LEN - IP > HEADER { sum.add_u32(TIMESTAMPS_ALONE) } else { sum };
                let sum = sum.add_u16(offset_and_flags).add_u16(fields.window);
                let sum = sum.add_u32(fields.timestamps.val).add_u32(fields.timestamps.ecr);
                sum.add_both(data).finish()
            }
        };
        tcp[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}
