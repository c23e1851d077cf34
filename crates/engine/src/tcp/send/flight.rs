//! What is in flight, segment by segment: when each was sent, and what is known of its fate. This is
//! the scoreboard of RFC 6675 with the times that RFC 8985 needs.

use crate::Instant;
use crate::seq::SndSeq;
use crate::tcp::connection::stats::segments;
use alloc::collections::VecDeque;
use core::ops::Range;

/// Most segments kept apart. Beyond it a SACK block that covers part of a segment is not noted, and new
/// data counts as part of the segment before it, so that a peer cannot make the scoreboard grow without
/// bound (CVE-2019-11477, CVE-2019-11478).
const MAX_SEGMENTS: usize = 16_384;

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// On its way, as far as we know.
    Flying,
    /// The peer has it, beyond a gap.
    Sacked,
    /// Taken for lost, and not sent again yet.
    Lost,
}

/// A segment that was sent and is not acknowledged. FIN counts as an octet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub seq: SndSeq,
    pub len: u32,
    /// When it was sent last.
    pub at: Instant,
    /// It was sent more than once.
    pub again: bool,
    /// What the user gave at once ends with it: PSH.
    pub pushed: bool,
    /// It was so because it was taken for lost.
    pub repaired: bool,
    pub fate: Fate,
}

impl Sent {
    pub fn end(&self) -> SndSeq {
        self.seq + self.len
    }
}

/// Everything between SND.UNA and SND.MAX, in order of sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    segments: VecDeque<Sent>,
    sacked: u32,
    lost: u32,
    total: u32,
    /// Tests drive the bound past its value.
    #[cfg(test)]
    pub max_segments: Option<usize>,
}

/// What an acknowledgment brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    /// Octets that are known to have arrived only now, by ACK or SACK.
    pub octets: u32,
    /// The same in segments of `mss`.
    pub segments: u32,
    pub mss: u32,
    /// The segment among them that was sent last.
    pub newest: Option<Sent>,
    /// One of them was sent only once, though others beyond it were known to have arrived before:
    /// the path reorders.
    pub reordered: bool,
    /// One of them was sent only once.
    pub original: bool,
}

impl Delivered {
    fn note(&mut self, segment: &Sent, highest_sacked: Option<SndSeq>) {
        self.octets += segment.len;
        self.segments += segments(segment.len, self.mss);
        let later = |known: &Sent| sent_after(segment.at, segment.end(), known.at, known.end());
        if self.newest.as_ref().is_none_or(later) {
            self.newest = Some(*segment);
        }
        if !segment.again {
            self.original = true;
            self.reordered |= highest_sacked.is_some_and(|highest| segment.end().before(highest));
        }
    }
}

/// RACK_sent_after of RFC 8985 section 6.2.
pub(crate) fn sent_after(at: Instant, end: SndSeq, other_at: Instant, other_end: SndSeq) -> bool {
    at > other_at || (at == other_at && end.after(other_end))
}

impl Flight {
    /// Octets in flight: neither acknowledged, nor known to have arrived, nor taken for lost.
    pub fn pipe(&self) -> u32 {
        self.total - self.sacked - self.lost
    }

    /// Octets that wait to be sent again.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Octets known to have arrived beyond a gap.
    pub fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Octets of memory taken.
    pub fn memory(&self) -> usize {
        self.segments.capacity() * size_of::<Sent>()
    }

    /// Gives the memory back if nothing is in flight.
    pub fn shrink(&mut self) {
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
    }

    pub fn len(&self) -> usize {
        self.segments.len()
    }

    fn has_room_for(&self, more: usize) -> bool {
        #[cfg(test)]
        let max = self.max_segments.unwrap_or(MAX_SEGMENTS);
        #[cfg(not(test))]
        let max = MAX_SEGMENTS;
        self.segments.len() + more <= max
    }

    /// How many segments of `mss` there are: in all; that the peer has beyond a gap; taken for lost;
    /// on their way again.
    pub fn count(&self, mss: u32) -> [u32; 4] {
        let mut counts = [0; 4];
        for segment in &self.segments {
            let n = segments(segment.len, mss);
            counts[0] += n;
            match segment.fate {
                Fate::Sacked => counts[1] += n,
                Fate::Lost => counts[2] += n,
                Fate::Flying if segment.repaired => counts[3] += n,
                Fate::Flying => {}
            }
        }
        counts
    }

    /// Notes a segment sent for the first time.
    pub fn push(&mut self, seq: SndSeq, len: u32, at: Instant, pushed: bool) {
        self.total += len;
        if !self.has_room_for(1)
            && let Some(last) = self.segments.back_mut().filter(|s| s.fate == Fate::Flying && !s.again)
        {
            last.len += len;
            (last.at, last.pushed) = (at, pushed);
            return;
        }
        self.segments.push_back(Sent {
            seq,
            len,
            at,
            again: false,
            repaired: false,
            pushed,
            fate: Fate::Flying,
        });
    }

    /// Notes that the octets from `seq` on were sent again.
    pub fn sent_again(&mut self, seq: SndSeq, len: u32, at: Instant) {
        self.split(seq);
        self.split(seq + len);
        let end = seq + len;
        let first = self.index(seq);
        for segment in self.segments.iter_mut().skip(first).take_while(|s| s.seq.before(end)) {
            if segment.fate == Fate::Lost {
                segment.fate = Fate::Flying;
                segment.repaired = true;
                self.lost -= segment.len;
            }
            segment.at = at;
            segment.again = true;
        }
    }

    /// The first segment that waits to be sent again.
    pub fn first_lost(&self) -> Option<Sent> {
        if self.lost == 0 {
            return None;
        }
        self.segments.iter().find(|s| s.fate == Fate::Lost).copied()
    }

    /// Where it begins.
    pub fn first(&self) -> Option<SndSeq> {
        self.segments.front().map(|s| s.seq)
    }

    /// Whether a segment that was sent again, not before `at`, is still not acknowledged.
    pub fn was_sent_again_since(&self, at: Instant) -> bool {
        self.segments.iter().any(|s| s.again && s.at >= at)
    }

    /// Whether it is the scoreboard of `una..nxt`.
    pub fn covers(&self, una: SndSeq, nxt: SndSeq) -> bool {
        self.total == nxt - una && self.segments.front().is_none_or(|s| s.seq == una)
    }

    /// The segment with the highest number.
    pub fn last(&self) -> Option<&Sent> {
        self.segments.back()
    }

    /// Everything before `ack` is acknowledged.
    pub fn acknowledge(&mut self, ack: SndSeq, delivered: &mut Delivered) {
        let highest = self.highest_sacked();
        while let Some(front) = self.segments.front_mut().filter(|s| s.seq.before(ack)) {
            let mut segment = *front;
            if front.end().after(ack) {
                // In place: this needs no room, so it cannot fail.
                segment.len = ack - front.seq;
                front.len -= segment.len;
                front.seq = ack;
            } else {
                self.segments.pop_front();
            }
            self.total -= segment.len;
            match segment.fate {
                Fate::Sacked => {
                    self.sacked -= segment.len;
                    continue;
                }
                Fate::Lost => self.lost -= segment.len,
                Fate::Flying => {}
            }
            delivered.note(&segment, highest);
        }
    }

    /// The peer has the octets of `start..end`, beyond a gap. Whole segments are noted, of `mss` where more than one
    /// was sent at once: a peer that keeps parts of them has nothing from it, and cannot make us keep books of
    /// octets. Linux does the same.
    pub fn sack(&mut self, start: SndSeq, end: SndSeq, mss: u32, delivered: &mut Delivered) {
        let highest = self.highest_sacked();
        let (start, end) =
            (self.border(start, mss, u32::div_ceil), self.border(end, mss, |len, mss| len / mss));
        if !start.before(end) {
            return;
        }
        let cuts = usize::from(self.divides(start)) + usize::from(self.divides(end));
        if !self.has_room_for(cuts) {
            return;
        }
        self.split(start);
        self.split(end);
        let first = self.index(start);
        for segment in self.segments.iter_mut().skip(first).take_while(|s| s.seq.before(end)) {
            match segment.fate {
                Fate::Sacked => continue,
                Fate::Lost => self.lost -= segment.len,
                Fate::Flying => {}
            }
            segment.fate = Fate::Sacked;
            self.sacked += segment.len;
            delivered.note(segment, highest);
        }
    }

    /// Takes for lost what `is_lost` says of the segments that are still flying.
    pub fn judge(&mut self, mut is_lost: impl FnMut(&Sent) -> bool) {
        for segment in &mut self.segments {
            if segment.fate == Fate::Flying && is_lost(segment) {
                segment.fate = Fate::Lost;
                self.lost += segment.len;
            }
        }
    }

    /// Takes the first `octets` for lost, at most one segment, if it is flying.
    pub fn lose_front(&mut self, octets: u32) {
        let Some(front) = self.segments.front().map(|s| s.seq) else { return };
        self.split(front + octets);
        if let Some(segment) = self.segments.front_mut().filter(|s| s.fate == Fate::Flying) {
            segment.fate = Fate::Lost;
            self.lost += segment.len;
        }
    }

    /// Takes everything for lost that is not known to have arrived, or, with `forget_sacks`, that too
    /// (a receiver may discard what it has reported: RFC 2018 section 8).
    pub fn lose_all(&mut self, forget_sacks: bool) {
        for segment in &mut self.segments {
            if segment.fate != Fate::Sacked || forget_sacks {
                segment.fate = Fate::Lost;
            }
        }
        self.recount();
    }

    /// Forgets what is known of each segment and takes all of `una..nxt` for lost, not sent again yet: what is
    /// left to do if the scoreboard does not fit the send variables.
    pub fn rebuild(&mut self, una: SndSeq, nxt: SndSeq, at: Instant) {
        self.segments.clear();
        (self.sacked, self.lost, self.total) = (0, 0, 0);
        if nxt.after(una) {
            self.push(una, nxt - una, at, true);
            self.lose_all(true);
        }
    }

    /// Whether all that is taken for lost lies in `octets`, and none of it was sent again before.
    pub fn lost_only(&self, octets: &Range<SndSeq>) -> bool {
        let mut lost = self.segments.iter().filter(|s| s.fate == Fate::Lost);
        lost.all(|s| !s.again && !s.seq.before(octets.start) && !s.end().after(octets.end))
    }

    /// Nothing was lost after all.
    pub fn find_all(&mut self) {
        for segment in &mut self.segments {
            if segment.fate == Fate::Lost {
                segment.fate = Fate::Flying;
            }
        }
        self.recount();
    }

    /// Whether the first segment is of this size at least.
    pub fn first_is_full(&self, mss: u32) -> bool {
        self.segments.front().is_some_and(|s| s.len >= mss)
    }

    /// The peer had the first octets once, and acknowledges less: it has discarded them.
    pub fn first_is_sacked(&self) -> bool {
        self.segments.front().is_some_and(|s| s.fate == Fate::Sacked)
    }

    /// The end of the highest octets known to have arrived.
    fn highest_sacked(&self) -> Option<SndSeq> {
        if self.sacked == 0 {
            return None;
        }
        self.segments.iter().rev().find(|s| s.fate == Fate::Sacked).map(Sent::end)
    }

    fn recount(&mut self) {
        let sum = |fate| self.segments.iter().filter(|s| s.fate == fate).map(|s| s.len).sum();
        (self.sacked, self.lost) = (sum(Fate::Sacked), sum(Fate::Lost));
    }

    /// The first segment that ends after `seq`.
    fn index(&self, seq: SndSeq) -> usize {
        self.segments.partition_point(|s| !s.end().after(seq))
    }

    /// The end of a whole number of segments beside `seq`, if it lies within what was sent at once: `count` says how
    /// many of them so many octets are.
    fn border(&self, seq: SndSeq, mss: u32, count: fn(u32, u32) -> u32) -> SndSeq {
        match self.segments.get(self.index(seq)) {
            Some(sent) if sent.seq.before(seq) => sent.seq + (count(seq - sent.seq, mss) * mss).min(sent.len),
            _ => seq,
        }
    }

    /// Whether `seq` lies inside a segment, not at a border.
    fn divides(&self, seq: SndSeq) -> bool {
        self.segments.get(self.index(seq)).is_some_and(|s| s.seq.before(seq))
    }

    /// Makes `seq` a border between segments. What we send ourselves cuts at multiples of the segment size, so
    /// this is bounded by what is in flight; whoever cuts at the peer's will asks for room first.
    fn split(&mut self, seq: SndSeq) {
        let i = self.index(seq);
        let Some(segment) = self.segments.get(i).copied().filter(|s| s.seq.before(seq)) else {
            return;
        };
        let head = seq - segment.seq;
        self.segments[i].len = head;
        self.segments[i].pushed = false;
        self.segments.insert(i + 1, Sent { seq, len: segment.len - head, ..segment });
    }

    /// The counts are those of the segments, which lie end to end.
    pub fn check(&self, una: SndSeq, max: SndSeq) {
        let mut at = una;
        for segment in &self.segments {
            assert!(segment.seq == at && segment.len > 0, "a gap at {at:?}: {segment:?}");
            at = segment.end();
        }
        assert_eq!(at, max, "the segments end before SND.MAX");
        let sum = |fate| self.segments.iter().filter(|s| s.fate == fate).map(|s| s.len).sum::<u32>();
        assert_eq!((self.sacked, self.lost, self.total), (sum(Fate::Sacked), sum(Fate::Lost), max - una));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ten() -> Flight {
        let mut flight = Flight::default();
        (0..10).for_each(|i| flight.push(SndSeq(1000 + i * 100), 100, at(u64::from(i)), false));
        flight
    }

    #[test]
    fn acks_split_segments_where_they_end() {
        let (mut flight, mut delivered) = (ten(), Delivered::default());
        flight.sack(SndSeq(1300), SndSeq(1500), 100, &mut delivered);
        flight.check(SndSeq(1000), SndSeq(2000));
        assert_eq!((delivered.octets, flight.sacked(), flight.pipe(), flight.len()), (200, 200, 800, 10));
        flight.acknowledge(SndSeq(1120), &mut delivered);
        flight.check(SndSeq(1120), SndSeq(2000));
        assert_eq!((delivered.octets, flight.pipe()), (320, 680));
        assert!(delivered.reordered && delivered.original);
        assert_eq!(delivered.newest.unwrap().at, at(4));
    }

    /// Two segments of 50 in each piece, and the last piece shorter.
    #[test]
    fn sacks_count_by_whole_segments() {
        for (block, expected) in [
            ((1999, 2000), 0),
            ((1001, 1050), 0),
            ((1050, 1100), 50),
            ((1049, 1101), 50),
            ((1149, 1352), 200),
            ((1951, 2020), 20),
            ((1950, 2020), 70),
            ((2010, 2020), 0),
        ] {
            let (mut flight, mut delivered) = (ten(), Delivered::default());
            flight.push(SndSeq(2000), 20, at(10), false);
            flight.sack(SndSeq(block.0), SndSeq(block.1), 50, &mut delivered);
            flight.check(SndSeq(1000), SndSeq(2020));
            assert_eq!((flight.sacked(), delivered.octets), (expected, expected), "{block:?}");
        }
    }

    #[test]
    fn what_is_lost_leaves_the_pipe_until_it_is_sent_again() {
        let mut flight = ten();
        flight.judge(|s| s.at < at(3));
        assert_eq!((flight.lost(), flight.pipe()), (300, 700));
        let first = flight.first_lost().unwrap();
        flight.sent_again(first.seq, 150, at(50));
        flight.check(SndSeq(1000), SndSeq(2000));
        assert_eq!((flight.lost(), flight.pipe()), (150, 850));
        assert_eq!(flight.first_lost().unwrap().seq, SndSeq(1150));
        flight.find_all();
        assert_eq!(flight.lost(), 0);
    }

    /// At the bound, and past it, an ACK in the middle of a segment, new data, and what is sent again are
    /// noted exactly; only a SACK block that would need more segments is not.
    #[test]
    fn at_the_bound_only_sack_blocks_are_left_out() {
        let (mut flight, mut delivered) = (ten(), Delivered::default());
        flight.max_segments = Some(10);
        flight.sack(SndSeq(1520), SndSeq(1560), 20, &mut delivered);
        assert_eq!((flight.len(), flight.sacked()), (10, 0), "that needs two more");
        flight.sack(SndSeq(1500), SndSeq(1600), 20, &mut delivered);
        assert_eq!((flight.len(), flight.sacked()), (10, 100), "that needs none");
        for i in 0..20 {
            flight.push(SndSeq(2000 + i * 10), 10, at(20 + u64::from(i)), false);
        }
        assert_eq!(flight.len(), 10);
        flight.check(SndSeq(1000), SndSeq(2200));
        flight.acknowledge(SndSeq(1050), &mut delivered);
        flight.check(SndSeq(1050), SndSeq(2200));
        assert_eq!((flight.first(), flight.len()), (Some(SndSeq(1050)), 10));
        flight.lose_front(20);
        assert_eq!((flight.lost(), flight.first_lost().unwrap().len), (20, 20));
        flight.lose_all(false);
        flight.sent_again(SndSeq(1050), 30, at(50));
        flight.check(SndSeq(1050), SndSeq(2200));
        assert_eq!((flight.lost(), flight.first_lost().unwrap().seq), (1020, SndSeq(1080)));
    }

    #[test]
    fn a_scoreboard_is_rebuilt_from_the_send_variables() {
        let mut flight = ten();
        flight.rebuild(SndSeq(1234), SndSeq(2100), at(60));
        flight.check(SndSeq(1234), SndSeq(2100));
        assert_eq!((flight.lost(), flight.pipe()), (866, 0));
        flight.rebuild(SndSeq(2100), SndSeq(2100), at(60));
        flight.check(SndSeq(2100), SndSeq(2100));
    }

    #[test]
    fn after_a_timeout_all_is_lost_but_what_has_arrived() {
        let (mut flight, mut delivered) = (ten(), Delivered::default());
        flight.sack(SndSeq(1500), SndSeq(1600), 100, &mut delivered);
        flight.lose_all(false);
        assert_eq!((flight.lost(), flight.sacked(), flight.pipe()), (900, 100, 0));
        flight.lose_all(true);
        assert_eq!((flight.lost(), flight.sacked(), flight.pipe()), (1000, 0, 0));
        flight.check(SndSeq(1000), SndSeq(2000));
    }
}
