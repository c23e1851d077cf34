//! pcap: microseconds or nanoseconds, both byte orders, and the "modified" kind with longer record heads.

use super::buffer::Buffer;
use super::{FileFacts, Found, LARGEST, ReadError};
use pcap_parser::{parse_pcap_header, pcap};

const HEAD: usize = 24;

pub(super) struct Pcap {
    big: bool,
    nanoseconds: bool,
    record: usize,
    link: u16,
    snaplen: u32,
    doubtful: bool,
}

impl Pcap {
    /// Reads the head of the file; `None` if it is not pcap.
    pub fn begin(buffer: &mut Buffer, facts: &mut FileFacts) -> Result<Option<Self>, ReadError> {
        let magic = u32::from_le_bytes(*buffer.data().first_chunk().ok_or(ReadError::Empty)?);
        let (big, nanoseconds, modified) = match magic {
            0xa1b2_c3d4 => (false, false, false),
            0xd4c3_b2a1 => (true, false, false),
            0xa1b2_3c4d => (false, true, false),
            0x4d3c_b2a1 => (true, true, false),
            0xa1b2_cd34 => (false, false, true),
            0x34cd_b2a1 => (true, false, true),
            _ => return Ok(None),
        };
        if !buffer.fill(HEAD) {
            return Err(ReadError::Head("a pcap header has 24 bytes, and the file ends before that"));
        }
        // The parser accepts the header of the "modified" kind in one byte order only; the header is the same.
        let mut head: [u8; HEAD] = *buffer.data().first_chunk().ok_or(ReadError::Head("it is cut off"))?;
        if modified {
            let plain: u32 = if big { 0xd4c3_b2a1 } else { 0xa1b2_c3d4 };
            head[..4].copy_from_slice(&plain.to_le_bytes());
        }
        let (_, header) =
            parse_pcap_header(&head).map_err(|_| ReadError::Head("its fields cannot be read"))?;
        buffer.consume(HEAD);
        let kind = if modified { ", modified" } else { "" };
        let (unit, digits) = if nanoseconds { ("ns", 9) } else { ("us", 6) };
        facts.format = format!("pcap, {unit}, {}{kind}", if big { "big-endian" } else { "little-endian" });
        facts.digits = digits;
        // The upper bits of the link type describe a frame check sequence; bytes behind IP are ignored.
        let link = (header.network.0 as u32 & 0xffff) as u16;
        Ok(Some(Self {
            big,
            nanoseconds,
            record: if modified { 24 } else { 16 },
            link,
            snaplen: header.snaplen,
            doubtful: false,
        }))
    }

    pub fn next(&mut self, buffer: &mut Buffer, facts: &mut FileFacts) -> Option<Found> {
        buffer.release();
        if !buffer.fill(self.record) {
            if !buffer.data().is_empty() {
                let left = buffer.data().len();
                facts.damaged(format!("the file ends within the header of a packet ({left} bytes are left)"));
            }
            return None;
        }
        let (seconds, fraction, captured, length) = self.head(buffer.data())?;
        if captured > LARGEST {
            facts.damaged(format!(
                "packet {} has an impossible length of {captured} bytes: the file is damaged from there on",
                facts.packets + 1
            ));
            return None;
        }
        if captured > self.snaplen.max(262_144) && !self.doubtful {
            self.doubtful = true;
            facts.warn(format!("packet {} is larger than the snapshot length", facts.packets + 1));
        }
        let whole = self.record + captured as usize;
        let there = buffer.fill(whole);
        let end = whole.min(buffer.data().len());
        if !there {
            facts.damaged(format!("the file ends within packet {}", facts.packets + 1));
            if end == self.record {
                return None;
            }
        }
        buffer.take(end);
        let unit = if self.nanoseconds { 1 } else { 1000 };
        let time = i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * unit;
        Some(Found {
            time: Some(time),
            link: self.link,
            interface: 0,
            data: self.record..end,
            length,
            comment: None,
        })
    }

    /// The fields of a record's head: seconds, fraction, bytes captured, bytes on the wire.
    fn head(&self, data: &[u8]) -> Option<(u32, u32, u32, u32)> {
        // The head alone, as a record without data: what a length claims is looked at before it is read.
        let field = |at: usize| -> Option<u32> {
            let bytes = *data.get(at..)?.first_chunk()?;
            Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        let mut head = [0; 24];
        head[..self.record].copy_from_slice(data.get(..self.record)?);
        let captured = field(8)?;
        head[8..12].fill(0);
        let parsed = if self.big { pcap::parse_pcap_frame_be(&head) } else { pcap::parse_pcap_frame(&head) };
        let (_, record) = parsed.ok()?;
        Some((record.ts_sec, record.ts_usec, captured, record.origlen))
    }
}
