//! Several captures as one, in the order of time.

use super::{Capture, FileFacts, RawPacket};
use crate::packet::Frame;
use crate::stated::Stated;

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
    vantage: u8,
}

/// Captures merged by time. One capture passes through unchanged, in the order of the file.
pub struct Merge {
    captures: Vec<Capture>,
    waiting: Vec<Option<Waiting>>,
    out: Option<Waiting>,
    /// Packets so far.
    place: u64,
    /// What is added to the times of each.
    offsets: Vec<i64>,
    /// The place of each among those that were made at the same time. The next file of a ring has that of the one before.
    vantages: Vec<Option<u8>>,
}

impl Merge {
    /// Merges these.
    pub fn new(captures: Vec<Capture>) -> Self {
        Self::with_offsets(captures, Vec::new())
    }

    /// Merges these, whose clocks differ: nanoseconds that are added to the times of each ([`super::offsets`]).
    pub fn with_offsets(captures: Vec<Capture>, offsets: Vec<i64>) -> Self {
        let waiting = captures.iter().map(|_| None).collect();
        let vantages = vec![None; captures.len()];
        let mut this = Self { waiting, captures, out: None, place: 0, offsets, vantages };
        if this.captures.len() > 1 {
            for index in 0..this.captures.len() {
                this.refill(index, None);
            }
        }
        this
    }

    fn refill(&mut self, index: usize, spare: Option<Vec<u8>>) {
        let mut data = spare.unwrap_or_default();
        let offset = self.offsets.get(index).copied().unwrap_or(0);
        self.waiting[index] = self.captures[index].next_packet().map(|packet| {
            data.clear();
            data.extend_from_slice(packet.data);
            Waiting {
                frame: packet.frame,
                time: packet.time.saturating_add(offset),
                timed: packet.timed,
                link: packet.link,
                interface: packet.interface,
                data,
                length: packet.length,
                comment: packet.comment.map(Into::into),
                vantage: 0,
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
        let vantage = self.vantage(index);
        self.out = self.waiting[index].take().map(|packet| Waiting { vantage, ..packet });
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
            vantage: packet.vantage,
        })
    }

    /// Where this file was made: with the first packet it takes over the place of one that has ended, as the next one of a ring does.
    fn vantage(&mut self, index: usize) -> u8 {
        if let Some(vantage) = self.vantages[index] {
            return vantage;
        }
        let is_over = |other: usize| other != index && self.waiting[other].is_none();
        let free = (0..self.vantages.len()).filter(|&other| is_over(other)).find_map(|other| {
            let vantage = self.vantages[other]?;
            let taken =
                (0..self.vantages.len()).any(|one| self.vantages[one] == Some(vantage) && !is_over(one));
            (!taken).then_some(vantage)
        });
        let most = self.vantages.iter().flatten().max().copied().unwrap_or(0);
        let vantage = free.unwrap_or_else(|| most.saturating_add(1));
        self.vantages[index] = Some(vantage);
        vantage
    }

    /// The place of each file among those that were made at the same time ([`RawPacket::vantage`]).
    pub fn vantages(&self) -> impl Iterator<Item = u8> + '_ {
        self.vantages.iter().map(|vantage| vantage.unwrap_or(0))
    }

    /// The ends of connections that lastack has stated before the last packet, or at the end of the captures.
    pub fn stated(&mut self) -> Vec<Stated> {
        let offset = |index: usize| self.offsets.get(index).copied().unwrap_or(0);
        let of_one = |(index, capture): (usize, &mut Capture)| {
            let mut stated = capture.stated();
            stated.iter_mut().for_each(|end| end.time = end.time.saturating_add(offset(index)));
            stated
        };
        self.captures.iter_mut().enumerate().flat_map(of_one).collect()
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
