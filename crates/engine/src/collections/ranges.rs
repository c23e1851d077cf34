//! Sets of ranges of stream positions.

use alloc::vec::Vec;
use core::ops::Range;

/// Sorted, disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds `new`, merged with every range that it overlaps or touches.
    pub fn insert(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < new.start);
        let last = self.0.partition_point(|r| r.start <= new.end);
        let met = &self.0[first..last];
        let start = met.first().map_or(new.start, |r| r.start.min(new.start));
        let end = met.last().map_or(new.end, |r| r.end.max(new.end));
        self.0.splice(first..last, core::iter::once(start..end));
    }

    /// Removes the first range if it starts at or before `at`, and returns its end.
    pub fn take_front(&mut self, at: u64) -> Option<u64> {
        if self.0.first()?.start > at {
            return None;
        }
        Some(self.0.remove(0).end)
    }

    /// The range that contains `at`.
    pub fn holding(&self, at: u64) -> Option<Range<u64>> {
        let i = self.0.partition_point(|r| r.end <= at);
        self.0.get(i).filter(|r| r.start <= at).cloned()
    }

    /// The first part of `range` that is in the set.
    pub fn meeting(&self, range: Range<u64>) -> Option<Range<u64>> {
        let i = self.0.partition_point(|r| r.end <= range.start);
        let met = self.0.get(i).filter(|r| r.start < range.end)?;
        Some(met.start.max(range.start)..met.end.min(range.end))
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// The end of the last range.
    pub fn end(&self) -> Option<u64> {
        self.0.last().map(|r| r.end)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all ranges.
    pub fn octets(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(ranges.octets() as usize, set.iter().filter(|s| **s).count());
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
