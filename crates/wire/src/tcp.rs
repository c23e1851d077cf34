//! The TCP header (RFC 9293 section 3.1).

mod options;
mod template;

pub use options::{SackBlocks, TcpOptions, Timestamps};
pub use template::{HeaderTemplate, SegmentFields};

use crate::Malformed;
use crate::checksum::Sum;
use crate::ip::IpHeader;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use options::NOP;

/// Length of a header without options.
const HEADER: usize = 20;
/// The first word of the timestamps option behind two NOPs.
const TIMESTAMPS_ALONE: u32 = 0x0101_080a;
/// Length of the timestamps option with its padding.
const ALONE: usize = 12;
/// Offset of the checksum.
const CHECKSUM: core::ops::Range<usize> = 16..18;

bitflags! {
    /// The control bits. Displayed as by tcpdump: `S`, `S.`, `R.`, `P.`, and `-` for none.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TcpFlags: u16 {
        /// No more data from the sender.
        const FIN = 1;
        /// Synchronize sequence numbers.
        const SYN = 1 << 1;
        /// Reset the connection.
        const RST = 1 << 2;
        /// Push function.
        const PSH = 1 << 3;
        /// The acknowledgment field is significant.
        const ACK = 1 << 4;
        /// The urgent pointer is significant.
        const URG = 1 << 5;
        /// ECN-Echo (RFC 3168).
        const ECE = 1 << 6;
        /// Congestion window reduced (RFC 3168).
        const CWR = 1 << 7;
        /// Accurate ECN (RFC 9768); formerly NS.
        const AE = 1 << 8;
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(TcpFlags, &str); 9] = [
            (TcpFlags::FIN, "F"),
            (TcpFlags::SYN, "S"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
            (TcpFlags::AE, "e"),
        ];
        if self.is_empty() {
            return f.write_str("-");
        }
        for (flag, letter) in LETTERS {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// A header: all fields except the checksum and the data offset, which follows from the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number (SEG.SEQ).
    pub seq: u32,
    /// Acknowledgment number (SEG.ACK); significant with [`TcpFlags::ACK`].
    pub ack: u32,
    /// Control bits. The three reserved bits are ignored on receipt and sent as zero.
    pub flags: TcpFlags,
    /// Window field of the header, not scaled.
    pub window: u16,
    /// Urgent pointer; significant with [`TcpFlags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpHeader {
    /// Parses a segment into header and data. The checksum is not verified here. Options that are unknown or of
    /// illegal length are ignored.
    ///
    /// # Errors
    /// If the segment is shorter than a header, or its data offset is below 5 or past its end
    /// (`Rule::DropBadHeader`).
    #[inline]
    pub fn parse(segment: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut header = Self::default();
        let text = header.read(segment)?;
        Ok((header, text))
    }

    /// As [`TcpHeader::parse`], in place: moving a header right after writing it would stall on the store buffer.
    /// Returns the data.
    ///
    /// # Errors
    /// As [`TcpHeader::parse`]; the header is unchanged then.
    #[inline]
    pub fn read<'a>(&mut self, segment: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let b: &[u8; HEADER] = segment.first_chunk().ok_or(Malformed::Truncated)?;
        let len = usize::from(b[12] >> 4) * 4;
        if len < HEADER || len > segment.len() {
            return Err(Malformed::HeaderLength);
        }
        let (header, text) = segment.split_at(len);
        self.src_port = u16::from_be_bytes([b[0], b[1]]);
        self.dst_port = u16::from_be_bytes([b[2], b[3]]);
        self.seq = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
        self.ack = u32::from_be_bytes([b[8], b[9], b[10], b[11]]);
        self.flags = TcpFlags::from_bits_truncate(u16::from_be_bytes([b[12], b[13]]));
        self.window = u16::from_be_bytes([b[14], b[15]]);
        self.urgent = u16::from_be_bytes([b[18], b[19]]);
        self.options.read(&header[HEADER..]);
        Ok(text)
    }

    /// Length that `emit` appends: 20 bytes, and the options with their padding.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        HEADER + self.options.len()
    }

    /// Appends the header, its checksum field 0.
    #[inline]
    pub fn emit(&self, out: &mut Vec<u8>) {
        let options = self.options.len();
        out.extend_from_slice(&self.fixed(HEADER + options, 0));
        if options > 0 {
            self.options.emit(out);
        }
    }

    /// Data offset and control bits of a header of `len` bytes.
    #[inline]
    const fn offset_and_flags(&self, len: usize) -> u16 {
        (len as u16 / 4) << 12 | self.flags.bits() & 0x01ff
    }

    /// The sum of the pseudo-header and of a header with these timestamps and no other options.
    #[inline]
    const fn sum_with(&self, timestamps: Option<Timestamps>, len: usize, pseudo: Sum) -> Sum {
        let sum = pseudo
            .add_u16(self.src_port)
            .add_u16(self.dst_port)
            .add_u32(self.seq)
            .add_u32(self.ack)
            .add_u16(self.offset_and_flags(len))
            .add_u16(self.window)
            .add_u16(self.urgent);
        match timestamps {
            None => sum,
            Some(Timestamps { val, ecr }) => sum.add_u32(TIMESTAMPS_ALONE).add_u32(val).add_u32(ecr),
        }
    }

    /// The fixed part of a header of `len` bytes.
    #[inline]
    fn fixed(&self, len: usize, checksum: u16) -> [u8; HEADER] {
        let offset_and_flags = self.offset_and_flags(len);
        let mut b = [0; HEADER];
        b[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        b[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        b[4..8].copy_from_slice(&self.seq.to_be_bytes());
        b[8..12].copy_from_slice(&self.ack.to_be_bytes());
        b[12..14].copy_from_slice(&offset_and_flags.to_be_bytes());
        b[14..16].copy_from_slice(&self.window.to_be_bytes());
        b[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        b[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        b
    }
}

/// The content of the checksum field of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum.
    Full,
    /// The uncomplemented sum of the pseudo-header, for checksum offload.
    Partial,
    /// Zero: it is not verified.
    None,
}

/// Replaces the content of `out` by a packet: IP header, TCP header, and data in two slices. Returns the length of
/// both headers.
///
/// ```
/// use lastack_wire::ip::{self, IpHeader};
/// use lastack_wire::tcp::{self, Checksum, TcpHeader};
/// let ip = IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::TCP);
/// let mut packet = Vec::new();
/// let header = tcp::emit_packet(&ip, &TcpHeader::default(), [b"he", b"llo"], Checksum::Full, &mut packet);
/// assert_eq!(&packet[header..], b"hello");
/// assert!(tcp::checksum_ok(&ip, &packet[ip.len()..]));
/// ```
///
/// # Panics
/// As [`IpHeader::emit`].
#[inline(always)]
pub fn emit_packet(
    ip: &IpHeader,
    tcp: &TcpHeader,
    data: [&[u8]; 2],
    checksum: Checksum,
    out: &mut Vec<u8>,
) -> usize {
    let headers = emit_headers(ip, tcp, data, checksum, out);
    out.extend_from_slice(data[0]);
    if !data[1].is_empty() {
        out.extend_from_slice(data[1]);
    }
    headers
}

/// Replaces the content of `out` by the headers of such a packet, without its data. Returns their length.
///
/// # Panics
/// As [`IpHeader::emit`].
// Inlined where the headers are built, so that their known fields are constants.
#[inline(always)]
pub fn emit_headers(
    ip: &IpHeader,
    tcp: &TcpHeader,
    data: [&[u8]; 2],
    checksum: Checksum,
    out: &mut Vec<u8>,
) -> usize {
    let alone = tcp.options.timestamps_alone();
    let len = match alone {
        Some(None) => HEADER,
        Some(Some(_)) => HEADER + ALONE,
        None => tcp.len(),
    };
    let segment = len + data[0].len() + data[1].len();
    let pseudo = ip.pseudo(segment);
    out.clear();
    if let (Some(None), Some(first)) = (alone, ip.v4_bytes(segment)) {
        let field = match checksum {
            Checksum::Full => tcp.sum_with(None, len, pseudo).add_both(data).finish(),
            Checksum::Partial => pseudo.folded(),
            Checksum::None => 0,
        };
        let mut headers = [0; 2 * HEADER];
        headers[..HEADER].copy_from_slice(&first);
        headers[HEADER..].copy_from_slice(&tcp.fixed(len, field));
        out.extend_from_slice(&headers);
        return headers.len();
    }
    ip.emit(segment, out);
    let at = out.len();
    let field = if checksum == Checksum::Partial { pseudo.folded() } else { 0 };
    out.extend_from_slice(&tcp.fixed(len, field));
    match alone {
        Some(None) => {}
        Some(Some(timestamps)) => out.extend_from_slice(&timestamps.block([NOP, NOP])),
        None => tcp.options.emit(out),
    }
    if checksum == Checksum::Full {
        let sum = match alone {
            // By value: reading back the header just written would stall.
            Some(timestamps) => tcp.sum_with(timestamps, len, pseudo),
            None => pseudo.add(&out[at..]),
        };
        out[at..][CHECKSUM].copy_from_slice(&sum.add_both(data).finish().to_be_bytes());
    }
    out.len()
}

/// Whether the checksum of a whole segment is valid.
#[inline]
#[must_use]
pub fn checksum_ok(ip: &IpHeader, segment: &[u8]) -> bool {
    ip.pseudo(segment.len()).add(segment).is_valid()
}

/// Computes the checksum of a whole segment and stores it.
///
/// # Panics
/// If `segment` is shorter than a header.
#[inline]
pub fn fill_checksum(ip: &IpHeader, segment: &mut [u8]) {
    segment[CHECKSUM].fill(0);
    let checksum = ip.pseudo(segment.len()).add(segment).finish();
    segment[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

/// Stores the uncomplemented sum of the pseudo-header, for checksum offload.
///
/// # Panics
/// If `segment` is shorter than a header.
#[inline]
pub fn fill_partial_checksum(ip: &IpHeader, segment: &mut [u8]) {
    let sum = ip.pseudo(segment.len()).folded();
    segment[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}
