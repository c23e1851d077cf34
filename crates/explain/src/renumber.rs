//! Sequence numbers that a device between two captures chooses anew: a firewall that randomizes initial numbers. The
//! capture that met a direction first gives its numbers; those of the others are moved to them.

use crate::packet::Endpoint;
use crate::segment::Segment;
use crate::track::bit;
use lastack_wire::TcpFlags;
use std::collections::{HashMap, VecDeque};

/// Openings that are remembered.
const REMEMBERED: usize = 1 << 16;
/// Max time of a packet from one capture to the next.
const JOURNEY: i64 = 3_000_000_000;

type Ends = (Endpoint, Endpoint);
/// What such a device leaves as it is: the timestamps, the window, and the size of the options.
type Marks = (Option<(u32, u32)>, u16, u8);

/// The SYN of one direction, as the capture has it that met it first.
#[derive(Clone, Copy, Debug)]
struct Opening {
    seq: u32,
    time: i64,
    /// The captures that have it ([`bit`]).
    seen: u8,
    marks: Marks,
}

/// By how much the numbers of each capture and direction are off.
#[derive(Debug, Default)]
pub(crate) struct Renumbering {
    openings: HashMap<Ends, Opening, foldhash::fast::RandomState>,
    /// The ends of a SYN by its marks and IP id, for those whose addresses are translated, too.
    marked: HashMap<(Marks, u16), Ends, foldhash::fast::RandomState>,
    order: VecDeque<(Ends, (Marks, u16))>,
    shifts: HashMap<(u8, Ends), u32, foldhash::fast::RandomState>,
}

fn marks(segment: &Segment<'_>) -> Marks {
    let clock = segment.header.options.timestamps.map(|clock| (clock.val, clock.ecr));
    (clock, segment.pkt.window, segment.options_size)
}

impl Renumbering {
    /// The ends under which another capture has the SYN, where both its number and its ends are others.
    pub fn ends_elsewhere(&self, segment: &Segment<'_>) -> Option<Ends> {
        let pkt = &segment.pkt;
        let opens = pkt.has(TcpFlags::SYN) && !pkt.has(TcpFlags::ACK);
        if !opens || pkt.ident == 0 || self.openings.contains_key(&(segment.src, segment.dst)) {
            return None;
        }
        let ends = self.marked.get(&(marks(segment), pkt.ident))?;
        let old = self.openings.get(ends)?;
        let other = old.seen & bit(pkt.vantage) == 0 && old.seq != pkt.seq;
        (other && (pkt.time - old.time).abs() < JOURNEY && old.marks.0.is_some()).then_some(*ends)
    }

    /// Moves the numbers of a segment to those of the capture that met its direction first. Whether they were others.
    pub fn apply(&mut self, segment: &mut Segment<'_>) -> bool {
        let (there, back) = ((segment.src, segment.dst), (segment.dst, segment.src));
        if segment.pkt.has(TcpFlags::SYN) {
            self.open(segment, there);
        }
        if self.shifts.is_empty() {
            return false;
        }
        let pkt = &mut segment.pkt;
        let own = self.shifts.get(&(pkt.vantage, there)).copied();
        let other = self.shifts.get(&(pkt.vantage, back)).copied().filter(|_| pkt.has(TcpFlags::ACK));
        pkt.seq = pkt.seq.wrapping_add(own.unwrap_or(0));
        pkt.ack = pkt.ack.wrapping_add(other.unwrap_or(0));
        pkt.sack = pkt.sack.map(|end| end.wrapping_add(other.unwrap_or(0)));
        own.is_some() || other.is_some()
    }

    fn open(&mut self, segment: &Segment<'_>, ends: Ends) {
        let pkt = &segment.pkt;
        let marks = marks(segment);
        let here = bit(pkt.vantage);
        if let Some(old) = self.openings.get_mut(&ends) {
            let shift = self.shifts.get(&(pkt.vantage, ends)).copied().unwrap_or(0);
            // Sent again.
            if old.seen & here != 0 && pkt.seq.wrapping_add(shift) == old.seq {
                return;
            }
            let near = (pkt.time - old.time).abs() < JOURNEY;
            if old.seen & here == 0 && near && (pkt.seq == old.seq || old.marks == marks) {
                old.seen |= here;
                match old.seq.wrapping_sub(pkt.seq) {
                    0 => self.shifts.remove(&(pkt.vantage, ends)),
                    shift => self.shifts.insert((pkt.vantage, ends), shift),
                };
                return;
            }
        }
        self.remember(segment, ends, Opening { seq: pkt.seq, time: pkt.time, seen: here, marks });
    }

    /// A new life of the tuple, and the first that any capture has of it.
    fn remember(&mut self, segment: &Segment<'_>, ends: Ends, opening: Opening) {
        self.forget(ends);
        let mark = (opening.marks, segment.pkt.ident);
        if self.openings.insert(ends, opening).is_none() {
            self.order.push_back((ends, mark));
        }
        if !segment.pkt.has(TcpFlags::ACK) && segment.pkt.ident != 0 {
            self.marked.insert(mark, ends);
        }
        if self.order.len() > REMEMBERED
            && let Some((oldest, mark)) = self.order.pop_front()
        {
            self.openings.remove(&oldest);
            self.marked.remove(&mark);
            self.forget(oldest);
        }
    }

    fn forget(&mut self, ends: Ends) {
        if !self.shifts.is_empty() {
            for vantage in 0..8 {
                self.shifts.remove(&(vantage, ends));
            }
        }
    }
}
