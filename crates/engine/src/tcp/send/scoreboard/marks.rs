//! Ranges of data in flight that are SACKed, lost or retransmitted, in order.

use crate::{Instant, steps};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

/// Max number of separate ranges. Beyond it a SACK block is applied only if it extends a range, and a
/// retransmission is merged into the one before it.
pub(super) const MAX_RANGES: usize = 16_384;

/// Number of lost ranges that an undo may revert without credit: see [`Marks::credit`].
const FREE_UNDO: u32 = 64;

/// The state of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Neither acknowledged nor marked lost.
    InFlight,
    /// Reported by SACK: received beyond a gap.
    Sacked,
    /// Marked lost, and not yet retransmitted.
    Lost,
}

/// A range of bytes of equal state. Data without a mark is in flight and was sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub end: u64,
    pub state: SegmentState,
    /// When it was last retransmitted.
    pub resent: Option<Instant>,
    /// It was retransmitted because it was marked lost.
    pub repaired: bool,
}

impl Mark {
    /// Whether this retransmission of it is still in flight.
    fn is_of(&self, resent: &Resent) -> bool {
        self.state == SegmentState::InFlight && self.resent == Some(resent.at)
    }

    /// Whether two adjacent ranges can be joined.
    fn joins(&self, other: &Self) -> bool {
        (self.state, self.resent, self.repaired) == (other.state, other.resent, other.repaired)
    }
}

/// A range that was retransmitted at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resent {
    pub at: Instant,
    /// What ends up to here and was sent at the same time had been delivered before: it does not mark this one lost.
    pub delivered: u64,
    pub start: u64,
    pub end: u64,
}

/// The marks of a connection. They exist only while there are some.
#[derive(Debug)]
pub(super) struct Marks {
    ranges: BTreeMap<u64, Mark>,
    /// Where lost ranges start.
    lost_starts: BTreeSet<u64>,
    /// Retransmissions, ordered by time and then by position. Parts may have been delivered or lost since.
    pub resent: VecDeque<Resent>,
    sacked: u32,
    lost: u32,
    /// One past the highest SACKed byte; 0 if there is none.
    pub highest_sacked: u64,
    /// RACK continues here: data before this position that was sent once has already been examined. An undo moves
    /// it back.
    pub judged: u64,
    /// An undo reverts the mark of each lost range. To bound the work that a peer can cause, it may revert at most
    /// as many ranges as there were new SACK blocks and retransmissions.
    credit: u32,
    #[cfg(test)]
    pub max_ranges: usize,
}

impl Marks {
    pub fn new(una: u64) -> Self {
        Self {
            ranges: BTreeMap::new(),
            lost_starts: BTreeSet::new(),
            resent: VecDeque::new(),
            sacked: 0,
            lost: 0,
            highest_sacked: 0,
            judged: una,
            credit: FREE_UNDO,
            #[cfg(test)]
            max_ranges: MAX_RANGES,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// SACKed bytes.
    pub fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Bytes marked lost and not retransmitted.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Approximate memory in bytes: nodes of the maps are two thirds full.
    pub fn memory(&self) -> usize {
        const RANGE: usize = (size_of::<u64>() + size_of::<Mark>()) * 3 / 2;
        const START: usize = size_of::<u64>() * 3 / 2;
        size_of::<Self>()
            + self.ranges.len() * RANGE
            + self.lost_starts.len() * START
            + self.resent.capacity() * size_of::<Resent>()
    }

    pub fn is_full(&self) -> bool {
        #[cfg(test)]
        let max = self.max_ranges;
        #[cfg(not(test))]
        let max = MAX_RANGES;
        self.ranges.len() >= max
    }

    /// The range that holds `at`, and where it starts.
    pub fn at(&self, at: u64) -> Option<(u64, Mark)> {
        steps::count();
        let (&start, &mark) = self.ranges.range(..=at).next_back()?;
        (mark.end > at).then_some((start, mark))
    }

    /// The last range that starts before `at`.
    pub fn before(&self, at: u64) -> Option<(u64, Mark)> {
        steps::count();
        self.ranges.range(..at).next_back().map(|(&start, &mark)| (start, mark))
    }

    /// Where the first range at or after `at` starts.
    pub fn next_start(&self, at: u64) -> Option<u64> {
        steps::count();
        self.ranges.range(at..).next().map(|(&start, _)| start)
    }

    /// The first piece of `at..end` of one state: where it ends, and its mark.
    pub fn piece(&self, at: u64, end: u64) -> (u64, Option<Mark>) {
        match self.at(at) {
            Some((_, mark)) => (mark.end.min(end), Some(mark)),
            None => (self.next_start(at).map_or(end, |start| start.min(end)), None),
        }
    }

    /// The first lost range.
    pub fn first_lost(&self) -> Option<(u64, Mark)> {
        let start = *self.lost_starts.first()?;
        Some((start, self.ranges[&start]))
    }

    /// The lost ranges from the first on.
    pub fn lost_ranges(&self) -> impl Iterator<Item = (u64, Mark)> {
        self.lost_starts.iter().map(|start| (*start, self.ranges[start]))
    }

    pub fn ranges(&self) -> impl Iterator<Item = (u64, Mark)> {
        self.ranges.iter().map(|(&start, &mark)| (start, mark))
    }

    /// Whether a SACKed range touches `start..end`, so that marking it adds no range.
    pub fn meets_sacked(&self, start: u64, end: u64) -> bool {
        let sacked = |found: Option<(u64, Mark)>| found.is_some_and(|(_, m)| m.state == SegmentState::Sacked);
        let touches = self.before(start).filter(|(_, mark)| mark.end >= start);
        sacked(touches) || sacked(self.at(start)) || sacked(self.at(end))
    }

    /// Adds credit for an undo.
    pub fn pay(&mut self) {
        self.credit = self.credit.saturating_add(1);
    }

    /// Whether the credit allows an undo of all losses; if so, its cost is subtracted.
    pub fn may_undo(&mut self) -> bool {
        let cost = (self.lost_starts.len() + self.resent.len()) as u32;
        if cost > self.credit {
            return false;
        }
        self.credit = (self.credit - cost).max(FREE_UNDO);
        true
    }

    /// Sets the state of `start..mark.end`, whatever it was.
    pub fn set(&mut self, start: u64, mark: Mark) {
        self.clear(start, mark.end);
        let mut start = start;
        let mut mark = mark;
        if let Some((before, left)) =
            self.before(start).filter(|(_, left)| left.end == start && left.joins(&mark))
        {
            self.remove(before);
            start = before;
            debug_assert!(left.end <= mark.end);
        }
        if let Some(right) = self.ranges.get(&mark.end).copied().filter(|right| right.joins(&mark)) {
            self.remove(mark.end);
            mark.end = right.end;
        }
        self.insert(start, mark);
    }

    /// Removes all marks of `start..end`.
    pub fn clear(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        while let Some(next) = self.next_start(start).filter(|next| *next < end) {
            self.remove(next);
        }
    }

    /// Splits the range that contains `at`.
    fn cut(&mut self, at: u64) {
        if let Some((start, mark)) = self.at(at).filter(|(start, _)| *start < at) {
            self.remove(start);
            self.insert(start, Mark { end: at, ..mark });
            self.insert(at, mark);
        }
    }

    fn insert(&mut self, start: u64, mark: Mark) {
        steps::count();
        let len = (mark.end - start) as u32;
        match mark.state {
            SegmentState::Sacked => {
                self.sacked += len;
                self.highest_sacked = self.highest_sacked.max(mark.end);
            }
            SegmentState::Lost => {
                self.lost += len;
                self.lost_starts.insert(start);
            }
            SegmentState::InFlight => {}
        }
        self.ranges.insert(start, mark);
    }

    fn remove(&mut self, start: u64) {
        steps::count();
        let Some(mark) = self.ranges.remove(&start) else { return };
        let len = (mark.end - start) as u32;
        match mark.state {
            SegmentState::Sacked => self.sacked -= len,
            SegmentState::Lost => {
                self.lost -= len;
                self.lost_starts.remove(&start);
            }
            SegmentState::InFlight => {}
        }
    }

    /// Records the retransmission of `start..end`.
    pub fn push_resent(&mut self, resent: Resent) {
        let Resent { at, delivered, start, end } = resent;
        let mut place = self.resent.len();
        while let Some(before) =
            place.checked_sub(1).filter(|i| self.resent[*i].at == at && self.resent[*i].end > start)
        {
            steps::count();
            place = before;
        }
        match place
            .checked_sub(1)
            .map(|i| &mut self.resent[i])
            .filter(|last| last.at == at && last.end == start)
        {
            Some(last) => (last.end, last.delivered) = (end, last.delivered.max(delivered)),
            None => self.resent.insert(place, resent),
        }
        if self.resent.len() > 2 * MAX_RANGES {
            let mut kept = core::mem::take(&mut self.resent);
            kept.retain(|resent| self.is_alive(resent));
            self.resent = kept;
        }
    }

    /// Whether some of this retransmission is still in flight; `true` if a bounded search does not find out.
    pub fn is_alive(&self, resent: &Resent) -> bool {
        const FAR: usize = 16;
        let mut at = resent.start;
        for _ in 0..FAR {
            if at >= resent.end {
                return false;
            }
            let (end, mark) = self.piece(at, resent.end);
            if mark.is_some_and(|mark| mark.is_of(resent)) {
                return true;
            }
            at = end;
        }
        true
    }

    /// Marks lost the part of this retransmission that starts before `end` and is still in flight.
    pub fn mark_resent_lost(&mut self, resent: &Resent, end: u64) {
        let mut at = resent.start;
        while at < end {
            let (piece_end, mark) = self.piece(at, end);
            if let Some(mark) = mark.filter(|mark| mark.is_of(resent)) {
                self.set(at, Mark { end: piece_end, state: SegmentState::Lost, ..mark });
            }
            at = piece_end;
        }
    }

    /// All data before `una` is acknowledged, and has no marks any more.
    pub fn acknowledged(&mut self, una: u64) {
        self.judged = self.judged.max(una);
        while self.resent.front().is_some_and(|resent| resent.end <= una) {
            steps::count();
            self.resent.pop_front();
        }
        if self.highest_sacked <= una {
            self.highest_sacked = 0;
        }
    }

    /// # Panics
    ///
    /// If the parts are inconsistent.
    pub fn check(&self, una: u64, nxt: u64) {
        let (mut end, mut sacked, mut lost, mut highest) = (una, 0, 0, 0);
        let mut last: Option<Mark> = None;
        for (start, mark) in self.ranges() {
            assert!(start >= end && mark.end > start && mark.end <= nxt, "{start}: {mark:?} in {una}..{nxt}");
            assert!(
                start > end || last.is_none_or(|last| !last.joins(&mark)),
                "two ranges are one at {start}"
            );
            let len = (mark.end - start) as u32;
            match mark.state {
                SegmentState::Sacked => (sacked, highest) = (sacked + len, mark.end),
                SegmentState::Lost => lost += len,
                SegmentState::InFlight => {
                    assert!(mark.resent.is_some(), "a mark that says nothing: {mark:?}")
                }
            }
            assert_eq!(self.lost_starts.contains(&start), mark.state == SegmentState::Lost);
            (end, last) = (mark.end, Some(mark));
        }
        assert_eq!((self.sacked, self.lost, self.highest_sacked), (sacked, lost, highest));
        assert!(self.resent.iter().is_sorted_by_key(|resent| resent.at), "{:?}", self.resent);
    }
}
