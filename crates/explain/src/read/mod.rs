//! Reading capture files: pcap and pcapng in all their forms, compressed or not, several merged by time.

mod align;
mod buffer;
mod compress;
mod merge;
mod pcap;
mod pcapng;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::packet::Frame;
use crate::stated::Stated;
pub use align::offsets;
use buffer::Buffer;
pub use merge::Merge;

/// The largest valid packet; a length above it means that the file is damaged.
pub(crate) const LARGEST: u32 = 1 << 26;

/// A packet as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub struct RawPacket<'a> {
    /// Its place in the input.
    pub frame: Frame,
    /// Nanoseconds since 1970; that of the packet before it if the file has none.
    pub time: i64,
    /// Whether the file has a time.
    pub timed: bool,
    /// The link type (LINKTYPE_ number) of what `data` begins with.
    pub link: u16,
    /// The interface within the file.
    pub interface: u32,
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// Bytes that the packet had on the wire.
    pub length: u32,
    /// Its comment, if lastack wrote the capture: the comments of others are not read.
    pub comment: Option<&'a str>,
    /// The place of the capture among several that were made at the same time, from 1 on; 0 if there is one only.
    pub vantage: u8,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened, or not read at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is something else.
    #[error("not a packet capture: it begins with {}; pcap and pcapng are read, also in gzip, zstd, xz, bzip2 or lz4", hex(.0))]
    Unknown(Vec<u8>),
    /// Its head is damaged or cut off.
    #[error("the header of the capture is damaged: {0}")]
    Head(&'static str),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What is known of a file when its end is reached.
#[derive(Clone, Debug, Default)]
pub struct FileFacts {
    /// The name under which it was opened.
    pub name: String,
    /// `pcap` or `pcapng`, with its variant.
    pub format: String,
    /// The link types of its packets.
    pub links: Vec<u16>,
    /// Packets that were read.
    pub packets: u64,
    /// Digits of a second that the times have.
    pub digits: u8,
    /// Times went backwards so often.
    pub backwards: u64,
    /// Packets without a time.
    pub untimed: u64,
    /// What was wrong with it.
    pub warnings: Vec<String>,
    /// It could not be read to its end.
    pub partly: bool,
    /// lastack's own stack wrote it.
    pub by_lastack: bool,
}

impl FileFacts {
    fn warn(&mut self, text: impl Into<String>) {
        if self.warnings.len() < 20 {
            self.warnings.push(text.into());
        }
    }

    fn damaged(&mut self, text: impl Into<String>) {
        self.partly = true;
        self.warn(text);
    }
}

enum Format {
    Pcap(pcap::Pcap),
    Pcapng(pcapng::Pcapng),
}

/// An open capture, read packet by packet.
pub struct Capture {
    buffer: Buffer,
    format: Format,
    facts: FileFacts,
    file: u16,
    last: i64,
    over: bool,
}

impl Capture {
    /// Opens a file; `-` is standard input. `file` is its place among several, in frame numbers.
    ///
    /// # Errors
    /// If it cannot be opened, is empty, or is not a capture.
    pub fn open(path: &Path, file: u16) -> Result<Self, ReadError> {
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            return Self::from_reader(Box::new(io::stdin()), "standard input", file);
        }
        if path.is_dir() {
            return Err(ReadError::Io(io::Error::other(
                "it is a directory: name the captures in it, as DIRECTORY/*.pcap",
            )));
        }
        Self::from_reader(Box::new(File::open(path)?), &name, file)
    }

    /// Reads from any source.
    ///
    /// # Errors
    /// If the source is empty, cannot be read, or is not a capture.
    pub fn from_reader(reader: Box<dyn Read + Send>, name: &str, file: u16) -> Result<Self, ReadError> {
        let mut buffer = Buffer::new(compress::plain(reader)?);
        if !buffer.fill(4) {
            if let Some(error) = buffer.error.take() {
                return Err(ReadError::Io(error));
            }
            return Err(if buffer.data().is_empty() {
                ReadError::Empty
            } else {
                ReadError::Unknown(buffer.data().to_vec())
            });
        }
        let mut facts = FileFacts { name: name.into(), digits: 6, ..FileFacts::default() };
        let format = match pcap::Pcap::begin(&mut buffer, &mut facts)? {
            Some(pcap) => Format::Pcap(pcap),
            None => Format::Pcapng(pcapng::Pcapng::begin(&mut buffer, &mut facts)?),
        };
        Ok(Self { buffer, format, facts, file, last: 0, over: false })
    }

    /// The next packet; `None` at the end, or where the file cannot be read further.
    pub fn next_packet(&mut self) -> Option<RawPacket<'_>> {
        if self.over {
            return None;
        }
        let found = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.buffer, &mut self.facts),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.buffer, &mut self.facts),
        };
        let Some(found) = found else {
            self.over = true;
            if let Some(error) = self.buffer.error.take() {
                self.facts.damaged(format!("reading failed after {} packets: {error}", self.facts.packets));
            }
            return None;
        };
        self.facts.packets += 1;
        let time = found.time.unwrap_or(self.last);
        if found.time.is_none() {
            self.facts.untimed += 1;
        } else if time < self.last && self.facts.packets > 1 {
            self.facts.backwards += 1;
        }
        self.last = time;
        if !self.facts.links.contains(&found.link) {
            self.facts.links.push(found.link);
        }
        Some(RawPacket {
            frame: Frame::new(self.file, self.facts.packets),
            time,
            timed: found.time.is_some(),
            link: found.link,
            interface: found.interface,
            data: &self.buffer.data()[found.data.clone()],
            length: found.length,
            comment: found.comment.and_then(|at| std::str::from_utf8(self.buffer.data().get(at)?).ok()),
            vantage: 0,
        })
    }

    /// The ends of connections that lastack has stated in what was read since the last call.
    pub fn stated(&mut self) -> Vec<Stated> {
        match &mut self.format {
            Format::Pcap(_) => Vec::new(),
            Format::Pcapng(pcapng) => pcapng.stated().collect(),
        }
    }

    /// Bytes of the capture, decompressed, that were read so far.
    pub fn position(&self) -> u64 {
        self.buffer.position()
    }

    /// What is known of the file so far.
    pub fn facts(&self) -> &FileFacts {
        &self.facts
    }
}

/// A packet that a format found in the buffer.
struct Found {
    /// Nanoseconds since 1970.
    time: Option<i64>,
    link: u16,
    interface: u32,
    data: std::ops::Range<usize>,
    length: u32,
    comment: Option<std::ops::Range<usize>>,
}
