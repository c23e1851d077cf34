//! Several captures as one, in the order of time.

use super::{Capture, FileFacts, RawPacket};
use crate::packet::Frame;

/// The next packet of a file, kept until it is the earliest.
struct Waiting {
    frame: Frame,
    time: i64,
    timed: bool,
    link: u16,
    interface: u32,
    data: Vec<u8>,
    length: u32,
    comment: Option<Box<str>>,
}

/// Captures merged by time. One capture passes through unchanged, in the order of the file.
pub struct Merge {
    captures: Vec<Capture>,
    waiting: Vec<Option<Waiting>>,
    out: Option<Waiting>,
    /// Packets so far.
    place: u64,
}

impl Merge {
    /// Merges these.
    pub fn new(captures: Vec<Capture>) -> Self {
        let mut this =
            Self { waiting: captures.iter().map(|_| None).collect(), captures, out: None, place: 0 };
        if this.captures.len() > 1 {
            for index in 0..this.captures.len() {
                this.refill(index, None);
            }
        }
        this
    }

    fn refill(&mut self, index: usize, spare: Option<Vec<u8>>) {
        let mut data = spare.unwrap_or_default();
        self.waiting[index] = self.captures[index].next_packet().map(|packet| {
            data.clear();
            data.extend_from_slice(packet.data);
            Waiting {
                frame: packet.frame,
                time: packet.time,
                timed: packet.timed,
                link: packet.link,
                interface: packet.interface,
                data,
                length: packet.length,
                comment: packet.comment.map(Into::into),
            }
        });
    }

    /// The next packet of all.
    pub fn next_packet(&mut self) -> Option<RawPacket<'_>> {
        if self.captures.len() == 1 {
            return self.captures[0].next_packet();
        }
        let earliest = |(index, waiting): (usize, &Option<Waiting>)| {
            waiting.as_ref().map(|waiting| (waiting.time, index))
        };
        let (_, index) = self.waiting.iter().enumerate().filter_map(earliest).min()?;
        let spare = self.out.take().map(|old| old.data);
        self.out = self.waiting[index].take();
        self.refill(index, spare);
        self.place += 1;
        let place = self.place;
        self.out.as_ref().map(|packet| RawPacket {
            frame: packet.frame.placed(place),
            time: packet.time,
            timed: packet.timed,
            link: packet.link,
            interface: packet.interface,
            data: &packet.data,
            length: packet.length,
            comment: packet.comment.as_deref(),
        })
    }

    /// What is known of each file.
    pub fn facts(&self) -> impl Iterator<Item = &FileFacts> {
        self.captures.iter().map(Capture::facts)
    }

    /// Bytes read so far, of all files together.
    pub fn position(&self) -> u64 {
        self.captures.iter().map(Capture::position).sum()
    }
}
