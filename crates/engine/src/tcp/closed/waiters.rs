//! All connections in TIME-WAIT, by four-tuple, removed when their 2 MSL timer expires.

use super::time_wait::TimeWait;
use crate::collections::timer_queue::TimerQueue;
use crate::{FourTuple, Instant, steps};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashTable;

/// Number of places that are kept while there is no entry.
const KEPT: usize = 64;

/// A connection in TIME-WAIT.
#[derive(Debug)]
#[repr(align(64))]
struct Waiter {
    hash: u32,
    flow: FourTuple,
    entry: TimeWait,
    /// Its deadline in `queue`, if it has one there.
    queued: Option<Instant>,
}

/// The connections in TIME-WAIT. Its memory is proportional to the peak number of entries since it was last empty.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Indices into `places`, by the hash of the four-tuple.
    index: HashTable<u32>,
    places: Vec<Option<Waiter>>,
    free: Vec<u32>,
    /// When entries may expire, and their places, the earliest first: 2 MSL is the same for all, so that a new entry
    /// comes last. The entry may be gone, or its own deadline be later.
    queue: VecDeque<(Instant, u32)>,
    /// When the other entries may expire, by their place: those whose 2 MSL timer was restarted.
    restarted: TimerQueue,
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

    /// Number of places and deadlines kept, and of steps that restarted deadlines took.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize, u64) {
        (self.places.len(), self.queue.len() + self.restarted.len(), self.restarted.steps)
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
        // If 2 MSL was set to less, a new entry may expire before the last one.
        let is_last = self.queue.back().is_none_or(|(last, _)| *last <= deadline);
        let waiter = Some(Waiter { hash, flow, entry, queued: is_last.then_some(deadline) });
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
        if is_last {
            self.queue.push_back((deadline, place));
        } else {
            self.restarted.set(place, deadline);
        }
        let places = &self.places;
        let hash_of = |place: &u32| places[*place as usize].as_ref().map_or(0, |waiter| spread(waiter.hash));
        self.index.insert_unique(spread(hash), place, hash_of);
    }

    /// Removes the entry of a four-tuple, if there is one.
    pub fn remove(&mut self, hash: u32, flow: &FourTuple) {
        if let Some(place) = self.find(hash, |other| other == flow) {
            self.restarted.remove(place);
            self.forget(place);
            self.clean_queue();
        }
    }

    /// Removes deadlines of entries that are gone, if they are the first or the majority: entries that are removed and
    /// added again must not let the queue grow.
    fn clean_queue(&mut self) {
        let Self { queue, places, index, .. } = self;
        let is_queued = |(at, place): &(Instant, u32)| {
            steps::count();
            places[*place as usize].as_ref().is_some_and(|waiter| waiter.queued == Some(*at))
        };
        while queue.front().is_some_and(|first| !is_queued(first)) {
            queue.pop_front();
        }
        if queue.len() > 2 * index.len() + KEPT {
            queue.retain(is_queued);
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
        [self.queue.front().map(|(at, _)| *at), self.restarted.next()].into_iter().flatten().min()
    }

    /// Removes the entries that have expired.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(at, place)) = self.queue.front().filter(|(at, _)| *at <= now) {
            self.queue.pop_front();
            if let Some(waiter) = &mut self.places[place as usize]
                && waiter.queued == Some(at)
            {
                waiter.queued = None;
                self.expire_at(now, place);
            }
        }
        while let Some(place) = self.restarted.take_expired(now) {
            self.expire_at(now, place);
        }
        self.clean_queue();
    }

    /// Removes an entry, unless its timer was restarted.
    fn expire_at(&mut self, now: Instant, place: u32) {
        let deadline = self.places[place as usize].as_ref().map(|waiter| waiter.entry.deadline);
        match deadline.filter(|deadline| *deadline > now) {
            Some(later) => self.restarted.set(place, later),
            None => self.forget(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FourTuple {
        let mut flow = FourTuple::NOWHERE;
        flow.remote.set_port(port);
        flow
    }

    fn add(waiters: &mut Waiters, port: u16, ms: u64) {
        waiters.insert(port.into(), flow(port), TimeWait::until(Instant::from_millis(ms)));
    }

    fn left(waiters: &Waiters) -> Vec<u16> {
        (0..100).filter(|port| waiters.contains((*port).into(), &flow(*port))).collect()
    }

    /// Expires the entries in steps of a millisecond, and returns when each was removed.
    fn removals(waiters: &mut Waiters) -> Vec<(u64, u16)> {
        let mut removed = Vec::new();
        for ms in 0..1000 {
            let before = left(waiters);
            waiters.expire(Instant::from_millis(ms));
            let after = left(waiters);
            removed.extend(before.into_iter().filter(|port| !after.contains(port)).map(|port| (ms, port)));
            let next = waiters.next_deadline();
            assert!(
                next.is_none_or(|at| at > Instant::from_millis(ms)),
                "it expires again at once: {next:?}"
            );
            assert_eq!(after.is_empty(), next.is_none());
        }
        removed
    }

    /// In order, out of order, restarted, removed, and added again in the place of another.
    #[test]
    fn each_entry_is_removed_at_its_deadline() {
        let mut waiters = Waiters::default();
        for (port, ms) in [(1, 100), (2, 100), (3, 200), (4, 150), (5, 300)] {
            add(&mut waiters, port, ms);
        }
        waiters.get_mut(2, |_| true).expect("it was added").deadline = Instant::from_millis(250);
        waiters.remove(3, &flow(3));
        add(&mut waiters, 6, 400);
        waiters.remove(4, &flow(4));
        add(&mut waiters, 7, 120);
        assert_eq!(removals(&mut waiters), [(100, 1), (120, 7), (250, 2), (300, 5), (400, 6)]);
    }

    /// Entries that are removed and added again do not let the queue grow behind one that stays.
    #[test]
    fn deadlines_of_removed_entries_are_bounded() {
        let mut waiters = Waiters::default();
        add(&mut waiters, 1, 100);
        let steps = steps::of(|| {
            for n in 0..10_000 {
                add(&mut waiters, 2, 200 + n);
                waiters.remove(2, &flow(2));
                assert!(waiters.kept().1 <= 2 + KEPT, "{}", waiters.kept().1);
            }
        });
        assert!(steps <= 10 * 10_000, "{steps} steps");
        assert_eq!(removals(&mut waiters), [(100, 1)]);
    }
}
