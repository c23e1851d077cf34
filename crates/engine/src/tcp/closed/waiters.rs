//! All connections in TIME-WAIT, by four-tuple, removed when their 2 MSL timer expires.

use super::time_wait::TimeWait;
use crate::collections::timer_queue::TimerQueue;
use crate::{FourTuple, Instant, steps};
use alloc::vec::Vec;
use hashbrown::HashTable;

/// Number of places that are kept while there is no entry.
const KEPT: usize = 64;

/// A connection in TIME-WAIT.
#[derive(Debug)]
struct Waiter {
    hash: u32,
    flow: FourTuple,
    entry: TimeWait,
}

/// The connections in TIME-WAIT. Its memory is proportional to the peak number of entries since it was last empty.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Indices into `places`, by the hash of the four-tuple.
    index: HashTable<u32>,
    places: Vec<Option<Waiter>>,
    free: Vec<u32>,
    /// When each entry may expire, by its place: the entry's own deadline may be later, never earlier.
    deadlines: TimerQueue,
}

/// The 64-bit hash for the table, which uses its highest and lowest bits: the 32 bits are repeated in both halves.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Waiters {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(&FourTuple) -> bool) -> Option<u32> {
        let of = |place: &u32| {
            steps::count();
            self.places[*place as usize].as_ref().is_some_and(|waiter| is_it(&waiter.flow))
        };
        self.index.find(spread(hash), of).copied()
    }

    /// Number of places and deadlines kept, and of steps the deadlines took.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize, u64) {
        (self.places.len(), self.deadlines.len(), self.deadlines.steps)
    }

    pub fn contains(&self, hash: u32, flow: &FourTuple) -> bool {
        self.find(hash, |other| other == flow).is_some()
    }

    /// The entry of the four-tuple with this hash.
    #[inline]
    pub fn get_mut(&mut self, hash: u32, is_it: impl Fn(&FourTuple) -> bool) -> Option<&mut TimeWait> {
        let place = self.find(hash, is_it)?;
        self.places[place as usize].as_mut().map(|waiter| &mut waiter.entry)
    }

    /// Adds an entry, whose four-tuple is free.
    pub fn insert(&mut self, hash: u32, flow: FourTuple, entry: TimeWait) {
        let deadline = entry.deadline;
        let waiter = Some(Waiter { hash, flow, entry });
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = waiter;
                place
            }
            None => {
                self.places.push(waiter);
                self.places.len() as u32 - 1
            }
        };
        self.deadlines.set(place, deadline);
        let places = &self.places;
        let hash_of = |place: &u32| places[*place as usize].as_ref().map_or(0, |waiter| spread(waiter.hash));
        self.index.insert_unique(spread(hash), place, hash_of);
    }

    /// Removes the entry of a four-tuple, if there is one.
    pub fn remove(&mut self, hash: u32, flow: &FourTuple) {
        if let Some(place) = self.find(hash, |other| other == flow) {
            self.deadlines.remove(place);
            self.forget(place);
        }
    }

    fn forget(&mut self, place: u32) {
        let Some(waiter) = self.places[place as usize].take() else { return };
        if let Ok(found) = self.index.find_entry(spread(waiter.hash), |other| *other == place) {
            found.remove();
        }
        self.free.push(place);
        if self.index.is_empty() && self.places.len() > KEPT {
            *self = Self::default(); // frees the memory of a past peak
        }
    }

    /// When the next entry may expire.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Removes the entries that have expired.
    pub fn expire(&mut self, now: Instant) {
        while let Some(place) = self.deadlines.take_expired(now) {
            let deadline = self.places[place as usize].as_ref().map(|waiter| waiter.entry.deadline);
            match deadline.filter(|deadline| *deadline > now) {
                Some(later) => self.deadlines.set(place, later),
                None => self.forget(place),
            }
        }
    }
}
