//! Deadlines of many connections: a hierarchical timing wheel.
//!
//! A deadline is a number of ticks, read as digits of six bits. It is stored in the level of the highest digit in which
//! it differs from the current tick, in the slot of that digit. When its slot is reached it moves to a lower level, and
//! from the lowest level to the sorted set of current deadlines. Adding, removing and moving a deadline take constant
//! time, and each deadline moves at most once per level.

use crate::{Instant, steps};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A tick is 2^20 ns, about a millisecond. Deadlines within the current tick are sorted.
const TICK_BITS: u32 = 20;
/// Bits of a digit.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;

/// No node.
const NONE: u32 = u32::MAX;
/// The deadline of a node that has none.
const UNSET: Instant = Instant::from_nanos(u64::MAX);

/// Deadlines by slot, a small number chosen by the caller. A slot has at most one deadline.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    nodes: Vec<Node>,
    levels: Vec<Level>,
    /// The deadlines in the current tick or before it.
    current: BTreeSet<(Instant, u32)>,
    /// The current tick.
    tick: u64,
    /// The number of deadlines.
    len: usize,
    /// The number of insertions and moves: the cost of the queue.
    #[cfg(test)]
    pub steps: u64,
}

/// A deadline, linked to its neighbours in its slot.
#[derive(Clone, Copy, Debug)]
struct Node {
    at: Instant,
    next: u32,
    previous: u32,
}

/// The slots of one digit.
#[derive(Debug)]
struct Level {
    /// A bit for each slot that is not empty.
    occupied: u64,
    /// The first node of each slot.
    first: [u32; SLOTS],
    /// A lower bound of the deadlines of each slot.
    earliest: [Instant; SLOTS],
}

impl Level {
    fn new() -> Self {
        Self { occupied: 0, first: [NONE; SLOTS], earliest: [UNSET; SLOTS] }
    }
}

fn tick_of(at: Instant) -> u64 {
    at.as_nanos() >> TICK_BITS
}

impl TimerQueue {
    /// Sets or replaces the deadline of `place`.
    pub fn set(&mut self, place: u32, at: Instant) {
        let index = place as usize;
        if self.nodes.len() <= index {
            self.nodes.resize(index + 1, Node { at: UNSET, next: NONE, previous: NONE });
        }
        self.remove(place);
        self.len += 1;
        // The max value marks an unset deadline.
        let at = at.min(Instant::from_nanos(u64::MAX - 1));
        self.nodes[index].at = at;
        self.put(place, at);
    }

    /// The deadline of `place`.
    pub fn get(&self, place: u32) -> Option<Instant> {
        self.nodes.get(place as usize).map(|node| node.at).filter(|at| *at != UNSET)
    }

    /// Removes the deadline of `place`, if it has one.
    pub fn remove(&mut self, place: u32) {
        let Some(at) = self.get(place) else { return };
        self.len -= 1;
        self.nodes[place as usize].at = UNSET;
        match self.slot_of(tick_of(at)) {
            None => {
                self.current.remove(&(at, place));
            }
            Some((level, slot)) => self.unlink(place, level, slot),
        }
    }

    /// A lower bound of all deadlines, usually the earliest one. `None`: there are no deadlines.
    pub fn next(&self) -> Option<Instant> {
        if let Some((at, _)) = self.current.first() {
            return Some(*at);
        }
        let level = self.levels.iter().find(|level| level.occupied != 0)?;
        Some(level.earliest[level.occupied.trailing_zeros() as usize])
    }

    /// Removes and returns a place whose deadline is due at `now`. Call it until it returns `None`.
    pub fn take_expired(&mut self, now: Instant) -> Option<u32> {
        self.advance(tick_of(now));
        let (at, place) = *self.current.first()?;
        if at > now {
            return None;
        }
        self.current.pop_first();
        self.nodes[place as usize].at = UNSET;
        self.len -= 1;
        Some(place)
    }

    /// The number of deadlines.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The level and the slot of a future tick; `None` for a current or past one.
    fn slot_of(&self, tick: u64) -> Option<(usize, usize)> {
        if tick <= self.tick {
            return None;
        }
        let level = (tick ^ self.tick).ilog2() / DIGIT_BITS;
        let slot = tick >> (level * DIGIT_BITS) & (SLOTS as u64 - 1);
        Some((level as usize, slot as usize))
    }

    fn put(&mut self, place: u32, at: Instant) {
        steps::count();
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let Some((level, slot)) = self.slot_of(tick_of(at)) else {
            self.current.insert((at, place));
            return;
        };
        while self.levels.len() <= level {
            self.levels.push(Level::new());
        }
        let level = &mut self.levels[level];
        let first = core::mem::replace(&mut level.first[slot], place);
        level.earliest[slot] = if first == NONE { at } else { level.earliest[slot].min(at) };
        level.occupied |= 1 << slot;
        if first != NONE {
            self.nodes[first as usize].previous = place;
        }
        let node = &mut self.nodes[place as usize];
        (node.next, node.previous) = (first, NONE);
    }

    fn unlink(&mut self, place: u32, level: usize, slot: usize) {
        let Node { next, previous, .. } = self.nodes[place as usize];
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let level = &mut self.levels[level];
        level.first[slot] = next;
        if next == NONE {
            level.occupied &= !(1 << slot);
        }
    }

    /// Advances to a tick: the deadlines in the slots up to it move to lower levels.
    fn advance(&mut self, to: u64) {
        while let Some((start, level, slot)) = self.first_slot().filter(|(start, ..)| *start <= to) {
            self.tick = start;
            let cleared = &mut self.levels[level];
            cleared.occupied &= !(1 << slot);
            let mut place = core::mem::replace(&mut cleared.first[slot], NONE);
            while place != NONE {
                let Node { at, next, .. } = self.nodes[place as usize];
                self.put(place, at);
                place = next;
            }
        }
        self.tick = self.tick.max(to);
    }

    /// The first tick of the earliest non-empty slot, its level and its number. All deadlines of a level are
    /// earlier than those of a higher level.
    fn first_slot(&self) -> Option<(u64, usize, usize)> {
        let (number, level) = self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0)?;
        let slot = level.occupied.trailing_zeros();
        let shift = number as u32 * DIGIT_BITS;
        let digits_above = self.tick.checked_shr(shift + DIGIT_BITS).unwrap_or(0);
        let start = digits_above.checked_shl(shift + DIGIT_BITS).unwrap_or(0) | u64::from(slot) << shift;
        Some((start, number, slot as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn random(state: &mut u64, n: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) % n
    }

    /// Deadlines near and far, set, moved and removed in any order, against a set in order.
    #[test]
    fn the_timer_queue_agrees_with_an_ordered_set() {
        for seed in 0..20u64 {
            let mut rng = seed;
            let (mut queue, mut model) = (TimerQueue::default(), BTreeSet::<(Instant, u32)>::new());
            let mut now = Instant::from_nanos(random(&mut rng, 1 << 40));
            for _ in 0..3000 {
                let place = random(&mut rng, 50) as u32;
                let reach = 1 << random(&mut rng, 60);
                let at = now + Duration::from_nanos(random(&mut rng, reach));
                match random(&mut rng, 10) {
                    0..=4 => {
                        model.retain(|(_, other)| *other != place);
                        model.insert((at, place));
                        queue.set(place, at);
                    }
                    5..=6 => {
                        model.retain(|(_, other)| *other != place);
                        queue.remove(place);
                    }
                    _ => {
                        now =
                            if random(&mut rng, 3) == 0 { at } else { queue.next().unwrap_or(now).max(now) };
                        while let Some(place) = queue.take_expired(now) {
                            let (at, expected) = model.pop_first().unwrap();
                            assert!(at <= now && expected == place, "seed {seed}");
                        }
                        assert!(queue.next().is_none_or(|next| next > now), "seed {seed}: it never rests");
                    }
                }
                assert!(model.first().is_none_or(|(at, _)| *at > now || queue.next().unwrap() <= *at));
                assert_eq!(model.is_empty(), queue.next().is_none());
                assert!(model.first().is_none_or(|(at, _)| queue.next().is_some_and(|next| next <= *at)));
                assert_eq!(model.len(), queue.len());
            }
            for (at, place) in &model {
                assert_eq!(queue.get(*place), Some(*at));
            }
        }
    }

    /// The earliest deadline is known exactly where none was removed before it.
    #[test]
    fn the_next_deadline_is_exact() {
        let mut queue = TimerQueue::default();
        for (place, nanos) in [(0, 7_000_000_123), (1, 200_000_000), (2, 200_000_001), (3, u64::MAX)] {
            queue.set(place, Instant::from_nanos(nanos));
        }
        for (place, nanos) in [(1, 200_000_000), (2, 200_000_001), (0, 7_000_000_123), (3, u64::MAX - 1)] {
            let at = Instant::from_nanos(nanos);
            assert_eq!(queue.next(), Some(at));
            assert_eq!(queue.take_expired(Instant::from_nanos(nanos - 1)), None);
            assert_eq!((queue.take_expired(at), queue.take_expired(at)), (Some(place), None));
        }
        assert_eq!((queue.next(), queue.len()), (None, 0));
    }

    /// A million deadlines cost a few steps each, however they lie, and so does one that is moved on and on.
    #[test]
    fn the_cost_does_not_depend_on_how_many_there_are() {
        const MANY: u32 = 1_000_000;
        for spread in [0, 1, 1_000, 7_200_000] {
            let mut queue = TimerQueue::default();
            for place in 0..MANY {
                let nanos = 7_200_000_000_000 + u64::from(place) * spread;
                queue.set(place, Instant::from_nanos(nanos));
            }
            let (mut taken, mut wakes) = (0, 0u32);
            while let Some(at) = queue.next() {
                wakes += 1;
                while queue.take_expired(at).is_some() {
                    taken += 1;
                }
            }
            assert_eq!(taken, MANY);
            assert!(queue.steps <= 5 * u64::from(MANY), "{} steps for a spread of {spread}", queue.steps);
            assert!(wakes <= MANY, "{wakes}");
        }
        let mut queue = TimerQueue::default();
        for ms in 0..100_000 {
            queue.set(7, Instant::from_millis(ms + 200));
            assert_eq!(queue.take_expired(Instant::from_millis(ms)), None);
        }
        assert!(queue.steps <= 300_000, "{}", queue.steps);
    }
}
