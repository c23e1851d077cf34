//! pcapng: sections of either byte order, several interfaces, enhanced, simple and old packet blocks.

use super::buffer::Buffer;
use super::{FileFacts, Found, LARGEST, ReadError};
use crate::stated::Stated;
use pcap_parser::Block;
use pcap_parser::pcapng::{parse_block_be, parse_block_le};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// The option of a comment, and that of the application that wrote a section.
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
/// Bytes before the options of a section header.
const SECTION_OPTIONS: usize = 24;
/// Bytes before the data of an enhanced packet block, and of an old packet block.
const PACKET_HEAD: usize = 28;
/// Bytes before the options of a statistics block.
const STATISTICS_OPTIONS: usize = 20;

#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    snaplen: u32,
    /// Units of a second; 0 if the resolution cannot be represented.
    units: u64,
    /// Seconds to add.
    offset: i64,
    /// Bytes of the frame check sequence behind each packet.
    fcs: u8,
}

pub(super) struct Pcapng {
    big: bool,
    /// The section was written by lastack's stack, whose packet comments are evidence.
    own: bool,
    /// It was written by lastack, also from another capture: ends that the stack has stated are in it.
    states_ends: bool,
    interfaces: Vec<Interface>,
    bad_blocks: u64,
    /// Ends that lastack's stack has stated between the packets.
    stated: Vec<Stated>,
}

impl Pcapng {
    pub fn begin(buffer: &mut Buffer, facts: &mut FileFacts) -> Result<Self, ReadError> {
        if buffer.data().get(..4) != Some(&SECTION.to_be_bytes()) {
            let head = buffer.data();
            return Err(ReadError::Unknown(head[..head.len().min(8)].to_vec()));
        }
        if !buffer.fill(12) {
            return Err(ReadError::Head(
                "a pcapng section header has 28 bytes, and the file ends before that",
            ));
        }
        facts.format = "pcapng".into();
        let mut this = Self {
            big: false,
            own: false,
            states_ends: false,
            interfaces: Vec::new(),
            bad_blocks: 0,
            stated: Vec::new(),
        };
        if !this.order(buffer.data()) {
            return Err(ReadError::Head("the byte-order magic of pcapng is neither 1a2b3c4d nor 4d3c2b1a"));
        }
        Ok(this)
    }

    /// Takes over the byte order of the section header at the start of `data`.
    fn order(&mut self, data: &[u8]) -> bool {
        match data.get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => self.big = true,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => self.big = false,
            _ => return false,
        }
        true
    }

    fn u32(&self, data: &[u8], at: usize) -> Option<u32> {
        let bytes = *data.get(at..)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u16(&self, data: &[u8], at: usize) -> Option<u16> {
        let bytes = *data.get(at..)?.first_chunk()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub fn next(&mut self, buffer: &mut Buffer, facts: &mut FileFacts) -> Option<Found> {
        loop {
            buffer.release();
            if !buffer.fill(8) {
                if !buffer.data().is_empty() {
                    facts.damaged("the file ends within the header of a block");
                }
                return None;
            }
            let magic: [u8; 4] = *buffer.data().first_chunk()?;
            if magic == SECTION.to_be_bytes() {
                buffer.fill(12);
                if !self.order(buffer.data()) {
                    facts.damaged("a section header without a byte-order magic: the rest cannot be read");
                    return None;
                }
                self.interfaces.clear();
            }
            let kind = self.u32(buffer.data(), 0)?;
            let length = self.u32(buffer.data(), 4)?;
            if !(12..=LARGEST).contains(&length) {
                facts.damaged(format!(
                    "a block after packet {} has an impossible length of {length} bytes: the file is damaged from there on",
                    facts.packets
                ));
                return None;
            }
            // Blocks are padded to 32 bits; some writers omit the padding in the length.
            let whole = (length as usize).next_multiple_of(4);
            let there = buffer.fill(whole);
            let end = whole.min(buffer.data().len());
            if !there {
                facts.damaged(format!("the file ends within a block, after packet {}", facts.packets));
            }
            buffer.take(end);
            match kind {
                _ if magic == SECTION.to_be_bytes() => {
                    (self.own, self.states_ends) = self.is_own(&buffer.data()[..end]);
                    facts.by_lastack |= self.own;
                }
                STATISTICS if there && self.states_ends => self.statement(&buffer.data()[..end]),
                INTERFACE if there => self.interface(&buffer.data()[..end], facts),
                ENHANCED_PACKET | OLD_PACKET | SIMPLE_PACKET => {
                    if let Some(found) = self.packet(kind, &buffer.data()[..end], facts) {
                        return Some(found);
                    }
                }
                _ => {}
            }
            if !there {
                return None;
            }
        }
    }

    /// The ends that were stated since the last call.
    pub fn stated(&mut self) -> std::vec::Drain<'_, Stated> {
        self.stated.drain(..)
    }

    /// A statistics block whose comment states how a connection ended.
    fn statement(&mut self, block: &[u8]) {
        let comment = self.option(block, STATISTICS_OPTIONS, COMMENT).and_then(|at| block.get(at));
        let comment = comment.and_then(|comment| std::str::from_utf8(comment).ok());
        let interface = self.u32(block, 8).and_then(|number| self.interfaces.get(number as usize).copied());
        let (Some(comment), Some(interface), Some(ticks)) = (comment, interface, self.ticks(block)) else {
            return;
        };
        self.stated.extend(Stated::parse(comment, nanoseconds(ticks, interface).unwrap_or(0)));
    }

    fn interface(&mut self, block: &[u8], facts: &mut FileFacts) {
        let parsed = if self.big { parse_block_be(block) } else { parse_block_le(block) };
        let Ok((_, Block::InterfaceDescription(described))) = parsed else {
            // Its place counts: packets name it by number. The link type stands at a fixed place.
            let link = self.u16(block, 8).unwrap_or(u16::MAX);
            self.interfaces.push(Interface { link, snaplen: 0, units: 1_000_000, offset: 0, fcs: 0 });
            facts.warn(format!("the options of interface {} cannot be read", self.interfaces.len() - 1));
            return;
        };
        let resolution = described.if_tsresol;
        let units = match resolution & 0x7f {
            exponent if resolution & 0x80 != 0 => 1u64.checked_shl(exponent.into()).unwrap_or(0),
            exponent => 10u64.checked_pow(exponent.into()).unwrap_or(0),
        };
        if units == 0 {
            facts.warn(format!("the time resolution {resolution:#x} of an interface cannot be represented"));
        }
        let digits = match units {
            0..=1_000 => 3,
            1_001..=1_000_000 => 6,
            _ => 9,
        };
        facts.digits =
            if self.interfaces.is_empty() && facts.packets == 0 { digits } else { facts.digits.max(digits) };
        // The parser reads the offset in one byte order only.
        let offset = described.options.iter().find(|option| option.code.0 == 14);
        let offset = offset.and_then(|option| option.value().first_chunk().copied()).unwrap_or_default();
        let offset = if self.big { i64::from_be_bytes(offset) } else { i64::from_le_bytes(offset) };
        let fcs = described.options.iter().find(|option| option.code.0 == 13);
        let fcs = fcs.and_then(|option| option.value().first().copied()).unwrap_or(0);
        self.interfaces.push(Interface {
            link: described.linktype.0 as u16,
            snaplen: described.snaplen,
            units,
            offset,
            fcs: if fcs <= 8 { fcs } else { 0 },
        });
    }

    /// The packet of a block, which may be cut off at its end.
    fn packet(&mut self, kind: u32, block: &[u8], facts: &mut FileFacts) -> Option<Found> {
        let (number, ticks, captured, length, start) = match kind {
            SIMPLE_PACKET => {
                let length = self.u32(block, 8)?;
                (0, None, length, length, 12)
            }
            OLD_PACKET => {
                let number = u32::from(self.u16(block, 8)?);
                (number, Some(self.ticks(block)?), self.u32(block, 20)?, self.u32(block, 24)?, PACKET_HEAD)
            }
            _ => {
                let number = self.u32(block, 8)?;
                (number, Some(self.ticks(block)?), self.u32(block, 20)?, self.u32(block, 24)?, PACKET_HEAD)
            }
        };
        let Some(interface) = self.interfaces.get(number as usize).copied() else {
            self.bad_blocks += 1;
            if self.bad_blocks == 1 {
                facts.damaged(format!("packets name interface {number}, which the file does not describe"));
            }
            return None;
        };
        let room = block.len().checked_sub(start)?;
        let stated = captured;
        let captured = match kind {
            SIMPLE_PACKET if interface.snaplen > 0 => captured.min(interface.snaplen),
            _ => captured,
        };
        let captured = (captured as usize).min(room);
        let captured = captured - usize::from(interface.fcs).min(captured);
        let time = ticks.and_then(|ticks| nanoseconds(ticks, interface));
        let data = start..start + captured;
        Some(Found {
            time,
            link: interface.link,
            interface: number,
            data,
            length: length.max(captured as u32),
            comment: if self.own && kind == ENHANCED_PACKET { self.comment(block, stated) } else { None },
        })
    }

    /// Whether lastack's stack wrote this section: the application is `lastack VERSION`; and whether lastack wrote it at all:
    /// `lastack explain VERSION` has what the stack stated in the capture that was explained.
    fn is_own(&self, block: &[u8]) -> (bool, bool) {
        let application = self.option(block, SECTION_OPTIONS, APPLICATION);
        let version = application.and_then(|at| block.get(at)?.strip_prefix(b"lastack "));
        let begins_version = |version: &[u8]| version.first().is_some_and(u8::is_ascii_digit);
        let own = version.is_some_and(begins_version);
        (own, own || version.and_then(|rest| rest.strip_prefix(b"explain ")).is_some_and(begins_version))
    }

    /// Where the comment of a packet block stands. `captured`: the bytes of the packet as the block states them.
    fn comment(&self, block: &[u8], captured: u32) -> Option<std::ops::Range<usize>> {
        self.option(block, PACKET_HEAD.checked_add((captured as usize).next_multiple_of(4))?, COMMENT)
    }

    /// Where the first option of this kind stands in a block whose options begin at `at`.
    fn option(&self, block: &[u8], mut at: usize, wanted: u16) -> Option<std::ops::Range<usize>> {
        loop {
            let (code, length) = (self.u16(block, at)?, usize::from(self.u16(block, at + 2)?));
            let value = at + 4..at + 4 + length;
            match code {
                0 => return None,
                code if code == wanted => return (value.end <= block.len()).then_some(value),
                _ => at = value.end.next_multiple_of(4),
            }
        }
    }

    fn ticks(&self, block: &[u8]) -> Option<u64> {
        Some(u64::from(self.u32(block, 12)?) << 32 | u64::from(self.u32(block, 16)?))
    }
}

fn nanoseconds(ticks: u64, interface: Interface) -> Option<i64> {
    if interface.units == 0 {
        return None;
    }
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(interface.units);
    i64::try_from(nanoseconds).ok()?.checked_add(interface.offset.checked_mul(1_000_000_000)?)
}
