//! Addresses and ports that a NAT rewrites between two captures: the same packet with other ends.

use crate::packet::Endpoint;
use crate::segment::Segment;
use lastack_wire::TcpFlags;
use std::collections::{HashMap, VecDeque};

/// Max SYNs and packets with data that are kept.
const REMEMBERED: usize = 1 << 16;
/// Max time of a packet from one capture to the next.
const JOURNEY: i64 = 3_000_000_000;

type Ends = (Endpoint, Endpoint);
/// What a NAT leaves as it is: SEQ, ACK, flags, payload, TSval.
type Mark = (u32, u32, u16, u32, Option<u32>);

/// Which ends of one capture are which of another.
#[derive(Debug, Default)]
pub(crate) struct Translations {
    /// By capture and ends as they are there: the ends as they were met first.
    known: HashMap<(u8, Ends), Ends, foldhash::fast::RandomState>,
    packets: HashMap<Mark, (u8, Ends, i64, u16), foldhash::fast::RandomState>,
    order: VecDeque<Mark>,
}

impl Translations {
    /// The ends under which the segment's connection is followed, if they are others. `is_followed`: whether its own ends are.
    pub fn find(&mut self, segment: &Segment<'_>, is_followed: bool) -> Option<Ends> {
        let pkt = &segment.pkt;
        let ends = (segment.src, segment.dst);
        let opens = pkt.has(TcpFlags::SYN) && !pkt.has(TcpFlags::ACK);
        if !opens && let Some(found) = self.known.get(&(pkt.vantage, ends)) {
            return Some(*found);
        }
        // Only a SYN or data can be told from others, and a RST is no beginning.
        if pkt.is_rst() || !opens && pkt.len == 0 {
            return None;
        }
        let mark = (pkt.seq, pkt.ack, pkt.flags.bits(), pkt.len, pkt.tsval);
        let found = if opens || !is_followed { self.elsewhere(segment, mark, ends) } else { None };
        if found.is_none() {
            self.remember(mark, segment, ends);
        }
        found
    }

    /// The ends of one capture are those of another, as is known by other means.
    pub fn learn(&mut self, vantage: u8, ends: Ends, other: Ends) {
        self.known.insert((vantage, ends), other);
        self.known.insert((vantage, (ends.1, ends.0)), (other.1, other.0));
    }

    /// The same packet in another capture, with other ends.
    fn elsewhere(&mut self, segment: &Segment<'_>, mark: Mark, ends: Ends) -> Option<Ends> {
        let (vantage, turned) = (segment.pkt.vantage, |(a, b): Ends| (b, a));
        let &(before, other, time, ident) = self.packets.get(&mark)?;
        // Tools that forge SYNs use one number for many: without a clock the IP id has to be the same, too.
        let same = mark.4.is_some() || ident != 0 && ident == segment.pkt.ident;
        if before == vantage || other == ends || !same || (segment.pkt.time - time).abs() > JOURNEY {
            self.known.remove(&(vantage, ends));
            self.known.remove(&(vantage, turned(ends)));
            return None;
        }
        self.learn(vantage, ends, other);
        Some(other)
    }

    fn remember(&mut self, mark: Mark, segment: &Segment<'_>, ends: Ends) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.packets.remove(&oldest);
        }
        let pkt = &segment.pkt;
        if self.packets.insert(mark, (pkt.vantage, ends, pkt.time, pkt.ident)).is_none() {
            self.order.push_back(mark);
        }
    }
}
