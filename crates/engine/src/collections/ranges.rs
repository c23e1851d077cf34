//! Sets of ranges of stream positions.

use crate::steps;
use alloc::collections::VecDeque;
use core::ops::Range;

/// Sorted, disjoint, non-adjacent ranges. A change moves the ranges on the shorter side of it, so that the ends, where
/// most changes are, cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(VecDeque<Range<u64>>);

impl Ranges {
    /// Adds `new`, merged with every range that it overlaps or touches.
    pub fn insert(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < new.start);
        let last = self.0.partition_point(|r| r.start <= new.end);
        steps::count_moved(first.min(self.0.len() - last));
        if first == last {
            return self.0.insert(first, new);
        }
        let start = self.0[first].start.min(new.start);
        let end = self.0[last - 1].end.max(new.end);
        self.0.drain(first + 1..last);
        self.0[first] = start..end;
    }

    /// Removes the first range if it starts at or before `at`, and returns its end.
    pub fn take_front(&mut self, at: u64) -> Option<u64> {
        if self.0.front()?.start > at {
            return None;
        }
        self.0.pop_front().map(|range| range.end)
    }

    /// The range that contains `at`.
    pub fn holding(&self, at: u64) -> Option<Range<u64>> {
        steps::count();
        let i = self.0.partition_point(|r| r.end <= at);
        self.0.get(i).filter(|r| r.start <= at).cloned()
    }

    /// The first part of `range` that is in the set.
    pub fn meeting(&self, range: Range<u64>) -> Option<Range<u64>> {
        steps::count();
        let i = self.0.partition_point(|r| r.end <= range.start);
        let met = self.0.get(i).filter(|r| r.start < range.end)?;
        Some(met.start.max(range.start)..met.end.min(range.end))
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// The end of the last range.
    pub fn end(&self) -> Option<u64> {
        self.0.back().map(|r| r.end)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all ranges.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    pub fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn ranges_agree_with_a_plain_set() {
        let mut rng = 1u64;
        let mut random = |n: u64| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (rng >> 33) % n
        };
        for _ in 0..500 {
            let (mut ranges, mut set) = (Ranges::default(), [false; 64]);
            for _ in 0..12 {
                let start = random(60);
                let end = (start + random(9)).min(64);
                ranges.insert(start..end);
                set[start as usize..end as usize].fill(true);
            }
            let joined: Vec<_> = ranges.iter().collect();
            assert!(joined.windows(2).all(|w| w[0].end < w[1].start));
            for (i, &inside) in set.iter().enumerate() {
                assert_eq!(ranges.holding(i as u64).is_some(), inside);
                let in_reach = |n: usize| set[n..(n + 5).min(64)].iter().any(|s| *s);
                let met = ranges.meeting(i as u64..i as u64 + 5);
                assert_eq!(met.is_some(), in_reach(i));
                assert!(met.is_none_or(|met| met.clone().all(|at| set[at as usize])));
            }
            assert_eq!(ranges.bytes() as usize, set.iter().filter(|s| **s).count());
        }
    }

    #[test]
    fn the_front_is_taken_only_when_reached() {
        let mut ranges = Ranges::default();
        ranges.insert(5..9);
        ranges.insert(12..14);
        assert_eq!((ranges.take_front(4), ranges.take_front(5), ranges.len()), (None, Some(9), 1));
    }
}
