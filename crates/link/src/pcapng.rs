//! Writing captures in the format pcapng (draft-ietf-opsawg-pcapng).

use crate::{Direction, Sink};
use lastack_engine::Instant;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The length of the section is not known while it is written.
const UNKNOWN_LENGTH: u64 = u64::MAX;
/// Packets begin with the IP header.
const LINKTYPE_RAW: u16 = 101;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const SECTION_HARDWARE: u16 = 2;
const SECTION_OS: u16 = 3;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;

/// Timestamps are in nanoseconds.
const NANOSECONDS: u8 = 9;

/// Max time that written data is buffered once the link is flushed: for live readers, and so that a killed program
/// loses no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The origin of a capture, in its header; Wireshark shows it as the properties of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The machine.
    pub hardware: String,
    /// The operating system.
    pub os: String,
    /// The program that writes the capture.
    pub application: String,
    /// The capture interface.
    pub interface: String,
    /// A comment on the whole capture.
    pub comment: Option<String>,
}

impl Default for Section {
    /// This machine's architecture and system, this library, its name as that of the interface, and no comment.
    fn default() -> Self {
        Self {
            hardware: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
            application: concat!("lastack ", env!("CARGO_PKG_VERSION")).into(),
            interface: "lastack".into(),
            comment: None,
        }
    }
}

/// A [`Sink`] that writes a pcapng file, for Wireshark and tcpdump: each packet with its timestamp in nanoseconds,
/// its direction and its comment.
///
/// An error does not stop the packets: it is stored, nothing more is written, and [`PcapngWriter::finish`] returns
/// it.
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    /// The first error replaces the writer.
    writer: Result<BufWriter<W>, io::Error>,
    unwritten: u64,
    /// Wall-clock time of [`Instant::ZERO`], since 1970.
    start: Duration,
    flushed: Instant,
    block: Block,
}

impl<W: Write> PcapngWriter<W> {
    /// Starts a capture. `start` is the wall-clock time of [`Instant::ZERO`].
    pub fn new(writer: W, start: SystemTime) -> Self {
        Self::with_section(writer, start, &Section::default())
    }

    /// Starts a capture with this origin.
    pub fn with_section(writer: W, start: SystemTime, section: &Section) -> Self {
        let mut this = Self {
            writer: Ok(BufWriter::with_capacity(1 << 16, writer)),
            unwritten: 0,
            start: start.duration_since(UNIX_EPOCH).unwrap_or_default(),
            flushed: Instant::ZERO,
            block: Block::default(),
        };
        this.write_head(section);
        this
    }

    /// The first error of writing, if there was one.
    pub fn error(&self) -> Option<&io::Error> {
        self.writer.as_ref().err()
    }

    /// Number of packets missing in the file because of an error.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Flushes buffered data.
    pub fn flush(&mut self) {
        if let Ok(writer) = &mut self.writer
            && let Err(error) = writer.flush()
        {
            self.fail(error);
        }
    }

    /// Ends the capture and returns the writer.
    ///
    /// Dropping the writer instead also flushes buffered data, but cannot report an error.
    ///
    /// # Errors
    /// The first error that occurred while the capture was written.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush();
        self.writer?.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn write_head(&mut self, section: &Section) {
        let block = self.block.begin(SECTION_HEADER);
        block.u32(BYTE_ORDER).u16(1).u16(0).u64(UNKNOWN_LENGTH);
        block.option(SECTION_HARDWARE, section.hardware.as_bytes());
        block.option(SECTION_OS, section.os.as_bytes());
        block.option(SECTION_APPLICATION, section.application.as_bytes());
        if let Some(comment) = &section.comment {
            block.option(COMMENT, comment.as_bytes());
        }
        self.write_block();
        // Snapshot length 0: packets are never cut short.
        self.block.begin(INTERFACE_DESCRIPTION).u16(LINKTYPE_RAW).u16(0).u32(0);
        self.block.option(INTERFACE_NAME, section.interface.as_bytes());
        self.block.option(INTERFACE_RESOLUTION, &[NANOSECONDS]);
        self.write_block();
    }

    fn write_block(&mut self) -> bool {
        let block = self.block.end();
        let Ok(writer) = &mut self.writer else {
            return false;
        };
        match writer.write_all(block) {
            Ok(()) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        if let Ok(writer) = std::mem::replace(&mut self.writer, Err(error)) {
            // Taken apart, so that it does not retry when it is dropped, which could leave a gap in the file.
            drop(writer.into_parts());
        }
    }
}

impl<W: Write> PcapngWriter<W> {
    /// Writes a comment that belongs to no packet, as that of an interface statistics block at this time.
    pub fn comment(&mut self, at: SystemTime, comment: &str) {
        let stamp = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        self.block.begin(STATISTICS).u32(0).u32((stamp >> 32) as u32).u32(stamp as u32);
        self.block.option(COMMENT, comment.as_bytes());
        self.write_block();
    }

    /// Writes a truncated packet. `len` is its length on the link.
    pub fn record_cut(
        &mut self,
        at: Instant,
        direction: Direction,
        packet: &[u8],
        len: usize,
        comment: Option<&str>,
    ) {
        let stamp = (self.start + at.elapsed()).as_nanos() as u64;
        let (high, low) = ((stamp >> 32) as u32, stamp as u32);
        let block = self.block.begin(ENHANCED_PACKET);
        block.u32(0).u32(high).u32(low).u32(packet.len() as u32).u32(len as u32).bytes(packet);
        let flags: u32 = match direction {
            Direction::Received => 1,
            Direction::Sent => 2,
        };
        block.option(PACKET_FLAGS, &flags.to_le_bytes());
        if let Some(comment) = comment {
            block.option(COMMENT, comment.as_bytes());
        }
        if !self.write_block() {
            self.unwritten += 1;
        }
    }
}

impl<W: Write> Sink for PcapngWriter<W> {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        self.record_cut(at, direction, packet, packet.len(), comment);
    }

    fn flush(&mut self, now: Instant) {
        if now - self.flushed >= LONGEST_WAIT {
            self.flushed = now;
            Self::flush(self);
        }
    }
}

/// A block under construction; its memory is reused.
#[derive(Debug, Default)]
struct Block(Vec<u8>);

impl Block {
    fn begin(&mut self, kind: u32) -> &mut Self {
        self.0.clear();
        self.u32(kind).u32(0)
    }

    fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    /// Bytes, padded to 32 bits.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// An option; a value too long for its length field is truncated.
    fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        let value = cut_short(value);
        self.u16(code).u16(value.len() as u16).bytes(value)
    }

    /// Ends the options and writes both length fields.
    fn end(&mut self) -> &[u8] {
        self.u16(END_OF_OPTIONS).u16(0);
        let len = self.0.len() as u32 + 4;
        self.u32(len);
        self.0[4..8].copy_from_slice(&len.to_le_bytes());
        &self.0
    }
}

/// Truncates to the max length of an option, at a UTF-8 character boundary.
fn cut_short(value: &[u8]) -> &[u8] {
    let max = usize::from(u16::MAX);
    if value.len() <= max {
        return value;
    }
    let continues = |byte: u8| byte & 0xc0 == 0x80;
    let end = (0..=max).rev().find(|&at| !continues(value[at])).unwrap_or(max);
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full after this number of bytes.
    struct Full(Vec<u8>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = bytes.len().min(self.1 - self.0.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let len = word(4) as usize;
            assert!(len.is_multiple_of(4) && word(len - 4) == word(4));
            blocks.push((word(0), &file[8..len - 4]));
            file = &file[len..];
        }
        blocks
    }

    #[test]
    fn a_packet_is_written_with_time_direction_and_comment() {
        let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut writer = PcapngWriter::new(Vec::new(), start);
        writer.record(Instant::from_nanos(123_456_789), Direction::Sent, &[7; 5], Some("why"));
        let file = writer.finish().unwrap();
        let blocks = blocks(&file);
        let kinds: Vec<_> = blocks.iter().map(|block| block.0).collect();
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET]);
        let stamp = 1_700_000_000_123_456_789u64;
        let mut expected = vec![0; 4];
        expected.extend_from_slice(&((stamp >> 32) as u32).to_le_bytes());
        expected.extend_from_slice(&(stamp as u32).to_le_bytes());
        expected.extend_from_slice(&[5, 0, 0, 0, 5, 0, 0, 0, 7, 7, 7, 7, 7, 0, 0, 0]);
        expected.extend_from_slice(&[2, 0, 4, 0, 2, 0, 0, 0]);
        expected.extend_from_slice(&[1, 0, 3, 0, b'w', b'h', b'y', 0, 0, 0, 0, 0]);
        assert_eq!(blocks[2].1, expected);
    }

    #[test]
    fn a_comment_without_a_packet_is_that_of_a_statistics_block() {
        let mut writer = PcapngWriter::new(Vec::new(), UNIX_EPOCH);
        writer.comment(UNIX_EPOCH + Duration::from_nanos(5), "why");
        let file = writer.finish().unwrap();
        let blocks = blocks(&file);
        let expected = [0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 3, 0, b'w', b'h', b'y', 0, 0, 0, 0, 0];
        assert_eq!(blocks[2], (STATISTICS, &expected[..]));
    }

    #[test]
    fn an_error_is_kept_and_missing_packets_are_counted() {
        let mut writer = PcapngWriter::new(Full(Vec::new(), 100_000), UNIX_EPOCH);
        for _ in 0..300 {
            writer.record(Instant::ZERO, Direction::Received, &[7; 1000], None);
        }
        assert_eq!(writer.error().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        assert!(writer.unwritten() > 100, "{}", writer.unwritten());
        assert_eq!(writer.finish().err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn an_error_at_the_very_end_is_reported_too() {
        let mut writer = PcapngWriter::new(Full(Vec::new(), 100), UNIX_EPOCH);
        writer.record(Instant::ZERO, Direction::Received, &[7; 1000], None);
        assert!(writer.error().is_none());
        assert!(writer.finish().is_err());
    }

    #[test]
    fn a_reader_along_sees_packets_after_a_second() {
        let mut file = Vec::new();
        let mut writer = PcapngWriter::new(&mut file, UNIX_EPOCH);
        writer.record(Instant::ZERO, Direction::Received, &[7; 40], None);
        Sink::flush(&mut writer, Instant::from_millis(999));
        assert!(writer.writer.as_ref().unwrap().get_ref().is_empty());
        Sink::flush(&mut writer, Instant::from_millis(1000));
        assert_eq!(blocks(writer.writer.as_ref().unwrap().get_ref()).len(), 3);
    }

    #[test]
    fn a_long_comment_is_cut_between_characters() {
        let comment = "€".repeat(30_000);
        let short = std::str::from_utf8(cut_short(comment.as_bytes())).unwrap();
        assert_eq!(short.len(), 65_535);
        let comment = format!("x{comment}");
        let short = std::str::from_utf8(cut_short(comment.as_bytes())).unwrap();
        assert_eq!(short.len(), 65_533);
    }
}
