//! The SACK scoreboard (RFC 6675), with the times that RACK needs (RFC 8985): the segments in flight, that is the
//! retransmission queue, and the state of each.
//!
//! Two layers. `segments` holds each segment as first sent, ordered by sequence number, which is also the order
//! of time; it changes at its two ends only. `marks` holds the ranges that are SACKed, lost or retransmitted.
//! Without loss or reordering there are no marks, and an acknowledgment costs one step per segment that it
//! removes. With marks an operation costs O(log n) for each range that it creates, joins or removes.
//!
//! Positions are byte offsets (FIN counts as one byte) since the connection was established, in 64 bits. They do
//! not wrap, so that an old position compares correctly with any other.
//!
//! SACK reneging (RFC 2018 section 8): what was SACKed may still be discarded by the peer, so it is kept until it is
//! acknowledged.

mod marks;
#[cfg(test)]
mod tests;

use self::marks::{Mark, Marks, Resent};
use crate::seq::SndSeq;
use crate::tcp::connection::stats::segments;
use crate::{Instant, steps};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

pub(crate) use self::marks::SegmentState;

/// Max number of separate segments. Beyond it new data is merged into the last segment, so that neither the peer
/// nor the application can make the scoreboard grow without bound (CVE-2019-11477, CVE-2019-11478).
const MAX_SEGMENTS: usize = 16_384;

/// Max number of segments whose memory counts as part of the connection and is used again by the next one.
const MAX_KEPT: usize = 8;

/// The position of the first byte: far enough from zero that earlier sequence numbers have positions, too.
const ORIGIN: u64 = 1 << 32;

/// A segment as first sent. It ends where the next one starts.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: Instant,
    start: u64,
    /// How many segments on the wire were sent before it.
    before: u32,
    /// The data of one send call ends with it: PSH.
    pushed: bool,
    /// Earlier segments were merged into it: it gives no RTT sample.
    merged: bool,
}

/// A range of data in flight, for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub seq: SndSeq,
    pub len: u32,
    /// The data of one send call ends with it: PSH.
    pub pushed: bool,
}

impl InFlight {
    pub fn end(&self) -> SndSeq {
        self.seq + self.len
    }
}

/// A delivered segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// When it was last sent.
    pub at: Instant,
    /// The position after it.
    pub end: u64,
    /// It was retransmitted.
    pub resent: bool,
    /// The time since then is an RTT sample.
    pub timed: bool,
}

impl Arrived {
    /// RACK_sent_after of RFC 8985 section 6.2.
    pub fn sent_after(&self, at: Instant, end: u64) -> bool {
        (self.at, self.end) > (at, end)
    }
}

/// What an acknowledgment delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    /// Bytes newly delivered, by ACK or SACK.
    pub bytes: u32,
    /// The same in segments.
    pub segments: u32,
    /// The most recently sent segment among them.
    pub newest: Option<Arrived>,
    /// The segment among them that was processed last, in the order of RFC 8985 section 6.2: SACKed first, then
    /// acknowledged.
    pub last: Option<Arrived>,
    /// Nonzero if the path reorders: one of them was sent only once, and data up to this many bytes beyond its start
    /// had been delivered before.
    pub reordering: u32,
    /// One of them was sent only once.
    pub original: bool,
}

impl Delivered {
    fn note(&mut self, bytes: u32, segments: u32, arrived: Arrived) {
        self.bytes += bytes;
        self.segments += segments;
        if self.newest.as_ref().is_none_or(|newest| arrived.sent_after(newest.at, newest.end)) {
            self.newest = Some(arrived);
        }
        self.original |= !arrived.resent;
        self.last = Some(arrived);
    }
}

/// Everything between SND.UNA and SND.NXT.
#[derive(Debug)]
pub(crate) struct Scoreboard {
    segments: VecDeque<Segment>,
    /// SND.UNA as a position, and as a sequence number.
    una: u64,
    una_seq: SndSeq,
    /// Segments on the wire that were sent for the first time, in all.
    sent: u32,
    /// SND.NXT as a position.
    nxt: u64,
    marks: Option<Box<Marks>>,
    /// Tests drive the bounds past their values.
    #[cfg(test)]
    pub max_segments: usize,
    #[cfg(test)]
    pub max_ranges: usize,
}

impl Scoreboard {
    /// An empty scoreboard; `una` is sent next.
    pub fn new(una: SndSeq) -> Self {
        Self {
            segments: VecDeque::new(),
            una: ORIGIN,
            una_seq: una,
            sent: 0,
            nxt: ORIGIN,
            marks: None,
            #[cfg(test)]
            max_segments: MAX_SEGMENTS,
            #[cfg(test)]
            max_ranges: marks::MAX_RANGES,
        }
    }

    /// Frees what [`restart`](Self::restart) does not use again.
    #[inline]
    pub fn release(&mut self) {
        self.segments.clear();
        if self.segments.capacity() > MAX_KEPT {
            self.segments = VecDeque::new();
        }
        self.marks = None;
    }

    /// Starts over in the memory that is left after [`release`](Self::release); `una` is sent next.
    #[inline]
    pub fn restart(&mut self, una: SndSeq) {
        self.una = ORIGIN;
        self.una_seq = una;
        self.sent = 0;
        self.nxt = ORIGIN;
    }

    /// The position of a sequence number that is in flight or near to it.
    pub fn position(&self, seq: SndSeq) -> u64 {
        self.una.wrapping_add_signed(seq.offset_from(self.una_seq).into())
    }

    fn seq(&self, position: u64) -> SndSeq {
        self.una_seq + position.wrapping_sub(self.una) as u32
    }

    /// SND.UNA as a position.
    pub fn una(&self) -> u64 {
        self.una
    }

    /// SND.NXT as a position.
    pub fn nxt(&self) -> u64 {
        self.nxt
    }

    /// Bytes between SND.UNA and SND.NXT.
    pub fn total(&self) -> u32 {
        (self.nxt - self.una) as u32
    }

    /// Bytes in flight: neither acknowledged, nor SACKed, nor marked lost.
    pub fn pipe(&self) -> u32 {
        self.total() - self.marks.as_ref().map_or(0, |marks| marks.sacked() + marks.lost())
    }

    /// Bytes marked lost and not yet retransmitted.
    pub fn lost(&self) -> u32 {
        self.marks.as_ref().map_or(0, |marks| marks.lost())
    }

    /// SACKed bytes.
    pub fn sacked(&self) -> u32 {
        self.marks.as_ref().map_or(0, |marks| marks.sacked())
    }

    /// Whether nothing is SACKed, lost or retransmitted.
    pub fn is_unmarked(&self) -> bool {
        self.marks.is_none()
    }

    /// Whether the scoreboard covers exactly `una..nxt`.
    pub fn covers(&self, una: SndSeq, nxt: SndSeq) -> bool {
        self.una_seq == una && self.total() == nxt - una
    }

    /// Memory used, in bytes, beyond that of a few segments.
    pub fn memory(&self) -> usize {
        let many = self.segments.capacity() > MAX_KEPT;
        let segments = if many { self.segments.capacity() } else { 0 };
        segments * size_of::<Segment>() + self.marks.as_ref().map_or(0, |marks| marks.memory())
    }

    /// Frees the memory if nothing is in flight.
    pub fn shrink(&mut self) {
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
    }

    /// The number of segments of `mss`: all; SACKed; lost; retransmitted. Walks over all marks: for statistics only.
    pub fn count(&self, mss: u32) -> [u32; 4] {
        let mut counts = [self.count_segments(self.una, self.nxt, mss), 0, 0, 0];
        for (start, mark) in self.marks.iter().flat_map(|marks| marks.ranges()) {
            let n = self.count_segments(start, mark.end, mss);
            match mark.state {
                SegmentState::Sacked => counts[1] += n,
                SegmentState::Lost => counts[2] += n,
                SegmentState::InFlight => counts[3] += if mark.repaired { n } else { 0 },
            }
        }
        counts
    }

    /// Adds `len` bytes of new data from SND.NXT on, sent as `count` segments on the wire.
    #[inline(always)]
    pub fn push(&mut self, len: u32, count: u32, at: Instant, pushed: bool) {
        #[cfg(test)]
        let max = self.max_segments;
        #[cfg(not(test))]
        let max = MAX_SEGMENTS;
        let at = self.segments.back().map_or(at, |last| last.at.max(at));
        let full = self.segments.len() >= max;
        match self.segments.back_mut().filter(|_| full) {
            Some(last) => (last.at, last.pushed, last.merged) = (at, pushed, true),
            None => {
                let (start, before) = (self.nxt, self.sent);
                self.segments.push_back(Segment { at, start, before, pushed, merged: false });
            }
        }
        self.nxt += u64::from(len);
        self.sent = self.sent.wrapping_add(count);
    }

    /// The index of the segment that holds the byte at this position.
    fn index(&self, at: u64) -> usize {
        steps::count();
        self.segments.partition_point(|segment| segment.start <= at).saturating_sub(1)
    }

    /// Where a segment ends.
    fn end_of(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(self.nxt, |next| next.start)
    }

    /// The number of segments on the wire in `start..end`; parts of a super-segment are counted by `mss`.
    fn count_segments(&self, start: u64, end: u64, mss: u32) -> u32 {
        if start >= end || self.segments.is_empty() {
            return 0;
        }
        let (first, last) = (self.index(start), self.index(end - 1));
        let part = |from: u64, to: u64| segments((to - from) as u32, mss);
        let whole = |index: usize| {
            let next = self.segments.get(index + 1).map_or(self.sent, |next| next.before);
            next.wrapping_sub(self.segments[index].before)
        };
        let tail = |from: u64| if end == self.end_of(last) { whole(last) } else { part(from, end) };
        let at = self.segments[first].start;
        if first == last {
            return if at == start { tail(start) } else { part(start, end) };
        }
        let head = if at == start { whole(first) } else { part(start, self.end_of(first)) };
        let between = self.segments[last].before.wrapping_sub(self.segments[first + 1].before);
        head + between + tail(self.segments[last].start)
    }

    fn marks_mut(&mut self) -> &mut Marks {
        let una = self.una;
        #[cfg(test)]
        let max_ranges = self.max_ranges;
        self.marks.get_or_insert_with(|| {
            #[allow(unused_mut)]
            let mut marks = Box::new(Marks::new(una));
            #[cfg(test)]
            {
                marks.max_ranges = max_ranges;
            }
            marks
        })
    }

    /// Records the retransmission of `len` bytes from `seq` on. `newest`: the most recently sent segment among those delivered.
    pub fn on_retransmit(&mut self, seq: SndSeq, len: u32, at: Instant, newest: Option<Arrived>) {
        let mut start = self.position(seq).max(self.una);
        let end = (self.position(seq) + u64::from(len)).min(self.nxt);
        let marks = self.marks_mut();
        if marks.is_full()
            && let Some((before, left)) = marks.before(start)
            && left.end == start
            && left.state == SegmentState::InFlight
        {
            // The later time is used for both.
            start = before;
        }
        marks.pay();
        let mut position = start;
        while position < end {
            let (piece_end, mark) = marks.piece(position, end);
            if mark.is_none_or(|mark| mark.state != SegmentState::Sacked) {
                let repaired = mark.is_some_and(|m| m.repaired || m.state == SegmentState::Lost);
                let state = SegmentState::InFlight;
                marks.set(position, Mark { end: piece_end, state, resent: Some(at), repaired });
            }
            position = piece_end;
        }
        let delivered = newest.filter(|newest| newest.at == at).map_or(0, |newest| newest.end);
        marks.push_resent(Resent { at, delivered, start, end });
    }

    /// The first lost range, up to the end of its segment.
    pub fn first_lost(&self) -> Option<InFlight> {
        let (start, mark) = self.marks.as_ref()?.first_lost()?;
        let index = self.index(start);
        let end_of_segment = self.end_of(index);
        let end = mark.end.min(end_of_segment);
        let pushed = self.segments.get(index)?.pushed && end == end_of_segment;
        Some(InFlight { seq: self.seq(start), len: (end - start) as u32, pushed })
    }

    /// The segment with the highest sequence number.
    pub fn last(&self) -> Option<InFlight> {
        let last = self.segments.back()?;
        let start = last.start.max(self.una);
        Some(InFlight { seq: self.seq(start), len: (self.nxt - start) as u32, pushed: last.pushed })
    }

    /// Whether data retransmitted at `at` or later is still unacknowledged.
    pub fn was_resent_since(&self, at: Instant) -> bool {
        let resent = self.marks.iter().flat_map(|marks| marks.resent.iter().rev());
        resent.take_while(|resent| resent.at >= at).any(|resent| resent.end > self.una)
    }

    /// Removes all data before `ack`.
    pub fn acknowledge(&mut self, ack: SndSeq, mss: u32, delivered: &mut Delivered) {
        let ack = self.position(ack).min(self.nxt);
        if ack <= self.una {
            return;
        }
        if self.marks.is_none() {
            let bytes = (ack - self.una) as u32;
            if let Some((newest, segments)) = self.acknowledge_unmarked(ack, mss) {
                delivered.note(bytes, segments, newest);
            }
            return;
        }
        self.deliver_marked(self.una, ack, mss, delivered, false);
        while self.segments.front().is_some_and(|_| self.end_of(0) <= ack) {
            steps::count();
            self.segments.pop_front();
        }
        self.una_seq = self.seq(ack);
        self.una = ack;
        if let Some(marks) = &mut self.marks {
            marks.acknowledged(ack);
            if marks.is_empty() {
                self.marks = None;
            }
        }
    }

    /// The same while nothing is SACKed, lost or retransmitted: each segment is visited once, when it is removed. Returns
    /// the last one and their number. `ack` is a position after SND.UNA, and not after SND.NXT.
    #[inline]
    pub fn acknowledge_unmarked(&mut self, ack: u64, mss: u32) -> Option<(Arrived, u32)> {
        let (mut from, mut count) = (self.una, 0);
        let mut newest = None;
        while let Some(&front) = self.segments.front().filter(|_| from < ack) {
            steps::count();
            newest = Some(front);
            let (end, sent) =
                self.segments.get(1).map_or((self.nxt, self.sent), |next| (next.start, next.before));
            if end > ack {
                count += segments((ack - from) as u32, mss);
                break;
            }
            let whole = from == front.start;
            count += if whole { sent.wrapping_sub(front.before) } else { segments((end - from) as u32, mss) };
            from = end;
            self.segments.pop_front();
        }
        self.una_seq = self.seq(ack);
        self.una = ack;
        let newest = newest?;
        Some((Arrived { at: newest.at, end: ack, resent: false, timed: !newest.merged }, count))
    }

    /// Records the delivery of `start..end`, which was sent once and has no mark.
    fn deliver(&self, start: u64, end: u64, mss: u32, delivered: &mut Delivered) {
        let (first, last) = (self.index(start), self.index(end - 1));
        let Some(newest) = self.segments.get(last) else { return };
        let count = self.count_segments(start, end, mss);
        let arrived = Arrived { at: newest.at, end, resent: false, timed: !newest.merged };
        delivered.note((end - start) as u32, count, arrived);
        let highest = self.marks.as_ref().map_or(0, |marks| marks.highest_sacked);
        if self.end_of(first).min(end) < highest {
            delivered.reordering = delivered.reordering.max((highest - start) as u32);
        }
    }

    /// Records the delivery of `start..end`, by SACK or by ACK, and adds what is new to `delivered`.
    fn deliver_marked(&mut self, start: u64, end: u64, mss: u32, delivered: &mut Delivered, sacked: bool) {
        let mut position = start;
        while let Some(marks) = self.marks.as_ref().filter(|_| position < end) {
            let (piece_end, mark) = marks.piece(position, end);
            match mark {
                Some(Mark { state: SegmentState::Sacked, .. }) => {}
                Some(Mark { resent: Some(at), .. }) => {
                    let arrived = Arrived { at, end: piece_end, resent: true, timed: false };
                    let count = self.count_segments(position, piece_end, mss);
                    delivered.note((piece_end - position) as u32, count, arrived);
                }
                _ => self.deliver(position, piece_end, mss, delivered),
            }
            position = piece_end;
        }
        let Some(marks) = &mut self.marks else { return };
        if sacked {
            marks.set(start, Mark { end, state: SegmentState::Sacked, resent: None, repaired: false });
        } else {
            marks.clear(start, end);
        }
    }

    /// Applies the SACK block `start..end`. Only whole segments are marked (of `mss` in a super-segment), so that a
    /// peer that SACKs parts of segments cannot make the scoreboard track single bytes. Linux does the same.
    pub fn sack(&mut self, start: SndSeq, end: SndSeq, mss: u32, delivered: &mut Delivered) {
        let start = self.border(self.position(start).max(self.una), mss, u32::div_ceil);
        let end = self.border(self.position(end).min(self.nxt), mss, |len, mss| len / mss);
        if start >= end {
            return;
        }
        let marks = self.marks_mut();
        match marks.at(start) {
            // Nothing new: SACK blocks are repeated.
            Some((_, mark)) if mark.state == SegmentState::Sacked && mark.end >= end => return,
            _ if marks.is_full() && !marks.meets_sacked(start, end) => return,
            _ => marks.pay(),
        }
        self.deliver_marked(start, end, mss, delivered, true);
    }

    /// The boundary of a segment on the wire next to `at`, if `at` lies within a super-segment: `count` converts bytes
    /// to segments and rounds.
    fn border(&self, at: u64, mss: u32, count: fn(u32, u32) -> u32) -> u64 {
        if at <= self.una || at >= self.nxt {
            return at;
        }
        let index = self.index(at);
        let Some(segment) = self.segments.get(index).filter(|segment| segment.start < at) else { return at };
        let whole = segment.start + u64::from(count((at - segment.start) as u32, mss)) * u64::from(mss);
        whole.min(self.end_of(index)).max(self.una)
    }

    /// Marks lost what was sent before `newest` and at least `wait` ago (RFC 8985 section 6.2 step 5), in order of
    /// time. Returns how long to wait until the rest of what was sent before `newest` is due.
    pub fn detect_losses(&mut self, now: Instant, newest: Arrived, wait: Duration) -> Option<Duration> {
        let since = |at: Instant| now - at; // zero for what is in the future
        let due = |at: Instant| since(at) >= wait;
        // Bytes sent for the first time before `newest`, and those of them that are due.
        let older = self.segments.partition_point(|s| s.at < newest.at);
        let equal = self.segments.partition_point(|s| s.at <= newest.at);
        let start_of = |i: usize| self.segments.get(i).map_or(self.nxt, |segment| segment.start);
        let candidates = start_of(older).max(newest.end.min(start_of(equal)));
        let expired = candidates.min(start_of(self.segments.partition_point(|s| due(s.at))));
        self.mark_unmarked_lost(expired);
        let first = self.wait_for_originals(candidates, expired);
        let again = self.detect_lost_again(newest, due);
        let last = first.into_iter().chain(again).max()?;
        Some(wait.saturating_sub(since(last)))
    }

    /// Marks lost what has no mark before `end`.
    fn mark_unmarked_lost(&mut self, end: u64) {
        let una = self.una;
        if end <= self.marks.as_ref().map_or(una, |marks| marks.judged.max(una)) {
            return;
        }
        let marks = self.marks_mut();
        let mut position = marks.judged.max(una);
        while position < end {
            let (piece_end, mark) = marks.piece(position, end);
            if mark.is_none() {
                let state = SegmentState::Lost;
                marks.set(position, Mark { end: piece_end, state, resent: None, repaired: false });
            }
            position = piece_end;
        }
        marks.judged = end;
    }

    /// When the last range of `expired..candidates` without a mark was sent; after a bounded search, the latest time
    /// that is possible.
    fn wait_for_originals(&self, candidates: u64, expired: u64) -> Option<Instant> {
        const FAR: usize = 16;
        let mut position = candidates;
        let floor = self.marks.as_ref().map_or(self.una, |marks| marks.judged).max(expired).max(self.una);
        for _ in 0..FAR {
            if position <= floor {
                return None;
            }
            match self.marks.as_ref().and_then(|marks| marks.before(position)) {
                Some((start, mark)) if mark.end >= position => position = start,
                _ => break,
            }
        }
        (position > floor).then(|| self.segments[self.index(position - 1)].at)
    }

    /// Loss detection for retransmitted data. Returns when the last range that is not due was sent. Of what was sent at one time,
    /// the sequence number decides, unless `newest` was delivered before the retransmission.
    fn detect_lost_again(&mut self, newest: Arrived, due: impl Fn(Instant) -> bool) -> Option<Instant> {
        const FAR: usize = 16;
        let marks = self.marks.as_mut()?;
        while let Some(front) = marks.resent.front().copied() {
            steps::count();
            let end = if front.at < newest.at { front.end } else { front.end.min(newest.end) };
            if !newest.sent_after(front.at, front.delivered) || end <= front.start || !due(front.at) {
                break;
            }
            marks.mark_resent_lost(&front, end);
            match marks.resent.front_mut().filter(|resent| end < resent.end) {
                Some(rest) => rest.start = end,
                None => _ = marks.resent.pop_front(),
            }
        }
        let older = marks.resent.partition_point(|resent| resent.at <= newest.at);
        let mut candidates = marks.resent.range(..older).rev().take(FAR).filter(|r| !due(r.at));
        let sent_before = |r: &Resent| newest.sent_after(r.at, r.start.max(r.delivered));
        candidates.find(|resent| sent_before(resent) && marks.is_alive(resent)).map(|resent| resent.at)
    }

    /// Marks the first `octets` bytes lost, at most one segment, if they are in flight.
    pub fn mark_front_lost(&mut self, bytes: u32) {
        if self.una == self.nxt {
            return;
        }
        let una = self.una;
        let end = self.end_of(self.index(una)).min(una + u64::from(bytes));
        let marks = self.marks_mut();
        let (end, mark) = marks.piece(una, end);
        if mark.is_none_or(|mark| mark.state == SegmentState::InFlight) {
            let (resent, repaired) = mark.map_or((None, false), |mark| (mark.resent, mark.repaired));
            marks.set(una, Mark { end, state: SegmentState::Lost, resent, repaired });
        }
    }

    /// Marks lost everything that is not SACKed; with `forget_sacks`, also what is SACKed (a receiver may discard
    /// data that it has SACKed: RFC 2018 section 8).
    pub fn mark_all_lost(&mut self, forget_sacks: bool) {
        let (una, nxt) = (self.una, self.nxt);
        if una == nxt {
            return;
        }
        let marks = self.marks_mut();
        let mut position = una;
        while position < nxt {
            let (end, mark) = marks.piece(position, nxt);
            let keeps = mark.is_some_and(|mark| mark.state == SegmentState::Sacked) && !forget_sacks;
            if !keeps {
                let (resent, repaired) = mark.map_or((None, false), |mark| (mark.resent, mark.repaired));
                marks.set(position, Mark { end, state: SegmentState::Lost, resent, repaired });
            }
            position = end;
        }
        if forget_sacks {
            marks.highest_sacked = 0;
        }
        marks.resent.clear();
        marks.judged = nxt;
    }

    /// Undoes all loss marks. Data that was not retransmitted is subject to loss detection again. If the undo exceeds
    /// `Marks::credit`, the data stays lost and is retransmitted.
    pub fn unmark_all_lost(&mut self) {
        let Some(marks) = self.marks.as_mut().filter(|marks| marks.lost() > 0) else { return };
        if !marks.may_undo() {
            return;
        }
        while let Some((start, mark)) = marks.first_lost() {
            match mark.resent {
                Some(at) => {
                    marks.set(start, Mark { state: SegmentState::InFlight, ..mark });
                    marks.resent.push_back(Resent { at, delivered: 0, start, end: mark.end });
                }
                None => {
                    marks.clear(start, mark.end);
                    marks.judged = marks.judged.min(start);
                }
            }
        }
        marks.resent.make_contiguous().sort_by_key(|resent| (resent.at, resent.end));
        if marks.is_empty() {
            self.marks = None;
        }
    }

    /// Discards the state of each segment and marks all of `una..nxt` lost: the fallback if the scoreboard is
    /// inconsistent with the send variables.
    pub fn rebuild(&mut self, una: SndSeq, nxt: SndSeq, at: Instant) {
        let len = nxt.offset_from(una).max(0) as u32;
        self.segments.clear();
        self.marks = None;
        (self.una_seq, self.una, self.nxt) = (una, self.nxt, self.nxt);
        if len > 0 {
            self.push(len, 1, at, true);
            self.mark_all_lost(true);
        }
    }

    /// Whether all lost data lies in these positions, and none of it was retransmitted before.
    pub fn lost_only(&self, bytes: &core::ops::Range<u64>) -> bool {
        let mut lost = self.marks.iter().flat_map(|marks| marks.lost_ranges());
        lost.all(|(start, mark)| mark.resent.is_none() && start >= bytes.start && mark.end <= bytes.end)
    }

    /// Whether the first segment has at least this size.
    pub fn first_is_full(&self, mss: u32) -> bool {
        !self.segments.is_empty() && self.end_of(0) - self.una >= u64::from(mss)
    }

    /// Whether the first byte is SACKed, though not acknowledged: the peer has discarded it (SACK reneging).
    pub fn first_is_sacked(&self) -> bool {
        let first = self.marks.as_ref().and_then(|marks| marks.at(self.una));
        first.is_some_and(|(_, mark)| mark.state == SegmentState::Sacked)
    }

    /// The number of segments and ranges.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.segments.len() + self.marks.as_ref().map_or(0, |marks| marks.len())
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.una == self.nxt
    }

    /// # Panics
    ///
    /// If it does not cover `una..nxt`, or its parts are inconsistent.
    pub fn check(&self, una: SndSeq, nxt: SndSeq) {
        assert!(self.covers(una, nxt), "the scoreboard of {una:?}..{nxt:?}: {self:?}");
        let mut end = self.segments.front().map_or(self.nxt, |segment| segment.start);
        assert!(end <= self.una && (end < self.nxt || self.una == self.nxt), "the front: {self:?}");
        for (i, segment) in self.segments.iter().enumerate() {
            assert!(segment.start == end && self.end_of(i) > end, "segment {i} at {end}: {self:?}");
            end = self.end_of(i);
        }
        assert!(self.segments.iter().is_sorted_by_key(|segment| segment.at), "order of time: {self:?}");
        let Some(marks) = &self.marks else { return };
        marks.check(self.una, self.nxt);
    }
}
