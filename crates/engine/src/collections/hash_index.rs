//! A hash table of slot indices that touches one cache line per lookup.
//!
//! Many connections do not fit in the cache, and a cache miss costs as much as the rest of a handshake. A bucket is one
//! cache line and holds all that a lookup needs, so a lookup touches only the connection it finds.

use crate::steps;
use alloc::vec::Vec;
use core::mem;

/// Entries per bucket.
const WAYS: usize = 10;

/// The table grows at this average number of entries per bucket. About 1% of the entries then
/// overflow to another bucket.
const FULL: usize = 7;

/// The tag of a free entry.
const FREE: u16 = 0;

/// Slot indices by hash. The caller stores the hash of each slot.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two, or empty.
    buckets: Vec<Bucket>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    places: [u32; WAYS],
    /// The bits of the hash that do not select the bucket.
    tags: [u16; WAYS],
    /// Number of entries that probed past this bucket because it was full.
    passed: u32,
}

const _: () = assert!(mem::size_of::<Bucket>() == 64, "a bucket is a cache line");

fn tag(hash: u32) -> u16 {
    ((hash >> 16) as u16).max(FREE + 1)
}

impl Bucket {
    /// The position of the first entry with this tag that satisfies `is_it`.
    #[inline]
    fn find(&self, tag: u16, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut hits = 0u16;
        // Eight tags fill a vector register, if there are any.
        for i in 0..8 {
            hits |= u16::from(self.tags[i] == tag) << i;
        }
        for i in 8..WAYS {
            hits |= u16::from(self.tags[i] == tag) << i;
        }
        while hits != 0 {
            steps::count();
            let i = hits.trailing_zeros() as usize;
            if is_it(self.places[i]) {
                return Some(i);
            }
            hits &= hits - 1;
        }
        None
    }
}

impl Index {
    /// The probe sequence of this hash (linear probing).
    #[inline]
    fn walk(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let count = self.buckets.len();
        (0..count).map(move |n| (hash as usize + n) & (count - 1))
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bucket and position of the entry with this hash that satisfies `is_it`.
    #[inline]
    fn locate(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        for at in self.walk(hash) {
            steps::count();
            let bucket = &self.buckets[at];
            if let Some(i) = bucket.find(tag(hash), &is_it) {
                return Some((at, i));
            }
            if bucket.passed == 0 {
                break;
            }
        }
        None
    }

    /// The slot with this hash that satisfies `is_it`.
    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (at, i) = self.locate(hash, is_it)?;
        Some(self.buckets[at].places[i])
    }

    /// Adds a slot. `kept` yields all present hashes and slots, in case the table must grow.
    pub fn insert(&mut self, hash: u32, place: u32, kept: impl Iterator<Item = (u32, u32)>) {
        if self.len >= self.buckets.len() * FULL {
            let buckets = (self.buckets.len() * 2).max(1);
            self.buckets = Vec::new();
            self.buckets.resize(buckets, Bucket::default());
            kept.for_each(|(hash, place)| self.put(hash, place));
        }
        self.put(hash, place);
        self.len += 1;
    }

    fn put(&mut self, hash: u32, place: u32) {
        for at in self.walk(hash) {
            steps::count();
            let bucket = &mut self.buckets[at];
            if let Some(i) = bucket.find(FREE, |_| true) {
                bucket.tags[i] = tag(hash);
                bucket.places[i] = place;
                return;
            }
            bucket.passed += 1;
        }
    }

    /// Removes the slot with this hash, if present.
    pub fn remove(&mut self, hash: u32, place: u32) {
        let Some((found, i)) = self.locate(hash, |other| other == place) else { return };
        self.buckets[found].tags[i] = FREE;
        self.len -= 1;
        for at in self.walk(hash).take_while(|at| *at != found) {
            self.buckets[at].passed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// Many operations, with hashes that meet often, against a plain map.
    #[test]
    fn the_index_agrees_with_a_plain_map() {
        for (seed, hashes) in [(1u64, u32::MAX), (2, 300), (3, 0x0003_0007)] {
            let mut rng = seed;
            let mut random = |n: u64| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (rng >> 33) % n
            };
            let (mut index, mut model) = (Index::default(), BTreeMap::<u32, u32>::new());
            for step in 0..20_000u32 {
                let place = random(700) as u32;
                match model.get(&place).copied() {
                    Some(hash) => {
                        index.remove(hash, place);
                        model.remove(&place);
                    }
                    None => {
                        let hash = (random(1 << 31) as u32).wrapping_mul(2_654_435_769) & hashes;
                        index.insert(hash, place, model.iter().map(|(place, hash)| (*hash, *place)));
                        model.insert(place, hash);
                    }
                }
                assert_eq!(index.len, model.len());
                if step % 100 == 0 {
                    for (&place, &hash) in &model {
                        assert_eq!(index.find(hash, |other| other == place), Some(place));
                        assert_eq!(index.find(hash, |other| other == 700), None);
                    }
                }
            }
            for (place, hash) in mem::take(&mut model) {
                index.remove(hash, place);
            }
            let clean = |b: &Bucket| b.passed == 0 && b.tags.iter().all(|tag| *tag == FREE);
            assert!(index.len == 0 && index.buckets.iter().all(clean));
        }
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert_eq!(Index::default().find(7, |_| true), None);
    }
}
