//! Ranges of data in flight that are SACKed, lost or retransmitted, in order.

use crate::{Instant, steps};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ranges kept apart. Beyond it a SACK block is noted only where it extends one, and what is sent again counts as
/// part of what was sent again before it.
pub(super) const MAX_RANGES: usize = 16_384;

/// Ranges of lost bytes that one undo may take back beyond what segments have paid for: see [`Marks::credit`].
const FREE_UNDO: u32 = 64;

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Neither acknowledged nor taken for lost.
    InFlight,
    /// The peer has it, beyond a gap.
    Sacked,
    /// Taken for lost, and not sent again yet.
    Lost,
}

/// A range of bytes of equal state. What has no mark is in flight and was sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub end: u64,
    pub state: SegmentState,
    /// When it was sent again last.
    pub resent: Option<Instant>,
    /// It was sent again because it was taken for lost.
    pub repaired: bool,
}

impl Mark {
    /// Whether it is still in flight as it was sent then.
    fn is_of(&self, resent: &Resent) -> bool {
        self.state == SegmentState::InFlight && self.resent == Some(resent.at)
    }

    /// Whether two ranges that meet are one.
    fn joins(&self, other: &Self) -> bool {
        (self.state, self.resent, self.repaired) == (other.state, other.resent, other.repaired)
    }
}

/// What was sent again at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resent {
    pub at: Instant,
    pub start: u64,
    pub end: u64,
}

/// The marks of a connection. They exist only while there are some.
#[derive(Debug)]
pub(super) struct Marks {
    ranges: BTreeMap<u64, Mark>,
    /// Where lost ranges start.
    lost_starts: BTreeSet<u64>,
    /// What was sent again, in order of time and, of one time, of position. Parts of it may have arrived or be lost since.
    pub resent: VecDeque<Resent>,
    sacked: u32,
    lost: u32,
    /// One past the highest byte that is SACKed; 0 if there is none.
    pub highest_sacked: u64,
    /// What was sent once and ends before this has a mark, or was found not to be lost and is judged anew from
    /// here if that changes. RACK goes on from here.
    pub judged: u64,
    /// An undo takes back the mark of each lost range. So that a peer cannot make us do that again and again, it
    /// may take back as many as there were new SACK blocks and segments sent again.
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

    /// Bytes that are SACKed.
    pub fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Bytes that are taken for lost and not sent again.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Bytes of memory taken, about: nodes of the maps are two thirds full.
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

    /// The range that ends at or before `at` and is nearest to it, or holds the byte before it.
    pub fn before(&self, at: u64) -> Option<(u64, Mark)> {
        steps::count();
        self.ranges.range(..at).next_back().map(|(&start, &mark)| (start, mark))
    }

    /// Where the first range at or after `at` starts.
    pub fn next_start(&self, at: u64) -> Option<u64> {
        steps::count();
        self.ranges.range(at..).next().map(|(&start, _)| start)
    }

    /// The piece of `at..end` of one state that starts at `at`: where it ends, and its mark.
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

    /// Whether some SACKed range meets `start..end`, so that to note it makes no range more.
    pub fn meets_sacked(&self, start: u64, end: u64) -> bool {
        let sacked = |found: Option<(u64, Mark)>| found.is_some_and(|(_, m)| m.state == SegmentState::Sacked);
        let touches = self.before(start).filter(|(_, mark)| mark.end >= start);
        sacked(touches) || sacked(self.at(start)) || sacked(self.at(end))
    }

    /// Segments have paid for an undo.
    pub fn pay(&mut self) {
        self.credit = self.credit.saturating_add(1);
    }

    /// Whether an undo may take back all that is lost; it has paid then.
    pub fn may_undo(&mut self) -> bool {
        let cost = (self.lost_starts.len() + self.resent.len()) as u32;
        if cost > self.credit {
            return false;
        }
        self.credit = (self.credit - cost).max(FREE_UNDO);
        true
    }

    /// Gives `start..end` this state, whatever it was.
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

    /// Takes all marks of `start..end` away.
    pub fn clear(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        while let Some(next) = self.next_start(start).filter(|next| *next < end) {
            self.remove(next);
        }
    }

    /// Makes `at` a border between ranges.
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

    /// Notes that `start..end` was sent again.
    pub fn push_resent(&mut self, start: u64, end: u64, at: Instant) {
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
            Some(last) => last.end = end,
            None => self.resent.insert(place, Resent { at, start, end }),
        }
        if self.resent.len() > 2 * MAX_RANGES {
            let mut kept = core::mem::take(&mut self.resent);
            kept.retain(|resent| self.is_alive(resent));
            self.resent = kept;
        }
    }

    /// Whether some of it is still in flight as it was sent then; taken to be so if that is far to seek.
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

    /// Takes for lost what was sent again as `resent` says, starts before `end`, and is still in flight.
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

    /// All before `una` is acknowledged, and has no mark any more.
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
    /// If the parts contradict each other.
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
