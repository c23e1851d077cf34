//! The fate of successive packets of one direction.

use super::plan::{Fate, Plan};
use crate::Direction;
use lastack_engine::Instant;
use std::time::Duration;

/// The packets of one direction under a [`Plan`].
///
/// An [`Impair`](crate::Impair) uses two of them. A simulation that carries packets itself can query one for the fate
/// of each packet.
#[derive(Clone, Debug)]
pub struct Course {
    /// The current plan.
    pub plan: Plan,
    direction: Direction,
    /// The number of the next packet.
    next: u64,
    /// When the previous packets have passed the bottleneck ([`Plan::rate`]).
    free_at: Instant,
    /// Delivery time of the last packet that is not reordered.
    last_due: Instant,
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Passage {
    /// Lost at random.
    Lost,
    /// Lost because the queue of the bottleneck is full.
    Overflowed,
    /// Delivered.
    Arrives {
        /// Delivery time.
        due: Instant,
        /// Delivery time of a duplicate, not earlier than that.
        copy: Option<Instant>,
        /// The corruption of its bytes, and of the duplicate's.
        damage: Option<Damage>,
        /// Whether others may overtake it.
        held_up: bool,
    },
}

/// The byte and the bit of a packet that are corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// A random number, to be taken modulo the length.
    pub(super) at: u64,
    pub(super) bits: u8,
}

impl Damage {
    /// Changes one byte. The checksums of the packet should be complete, so that it is detected.
    pub fn apply(self, packet: &mut [u8]) {
        if !packet.is_empty() {
            packet[(self.at % packet.len() as u64) as usize] ^= self.bits;
        }
    }
}

impl Course {
    /// The packets of this direction: the random choices of the two directions are independent.
    pub fn new(plan: Plan, direction: Direction) -> Self {
        Self { plan, direction, next: 0, free_at: Instant::ZERO, last_due: Instant::ZERO }
    }

    /// The fate of the next packet, of `len` bytes.
    pub fn pass(&mut self, now: Instant, len: usize) -> Passage {
        let fate = self.plan.fate(self.direction, self.next);
        self.next += 1;
        // Random loss occurs after the bottleneck, so a lost packet has used its capacity.
        let Some(departs) = self.pass_rate(now, len) else {
            return Passage::Overflowed;
        };
        if fate.lost {
            return Passage::Lost;
        }
        let (due, copy) = self.deadlines(departs, &fate);
        Passage::Arrives { due, copy, damage: fate.damage, held_up: fate.held_up.is_some() }
    }

    /// The number of the last packet.
    pub(super) fn newest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// When a packet has passed the bottleneck of the link; `None` if its queue is full.
    fn pass_rate(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.plan.rate else {
            return Some(now);
        };
        let waiting = (self.free_at - now).as_nanos() * u128::from(rate) / NANOS_PER_SECOND;
        // A packet passes an empty queue of any max length, but not a rate of 0.
        if rate == 0 || waiting > 0 && waiting + len as u128 > self.plan.queue as u128 {
            return None;
        }
        let nanos = len as u128 * NANOS_PER_SECOND / u128::from(rate);
        self.free_at = self.free_at.max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Some(self.free_at)
    }

    /// Delivery time of a packet, and of its duplicate if there is one. Jitter does not reorder packets.
    fn deadlines(&mut self, departs: Instant, fate: &Fate) -> (Instant, Option<Instant>) {
        let soonest = departs + self.plan.delay;
        let in_order = (soonest + fate.jitter).max(self.last_due);
        let due = match fate.held_up {
            Some(held_up) => in_order + held_up,
            None => {
                self.last_due = in_order;
                in_order
            }
        };
        (due, fate.copy.map(|jitter| due.max(soonest + jitter)))
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_passage_is_met() {
        let plan = Plan { seed: 1, loss: 0.3, duplicate: 0.3, reorder: 0.3, corrupt: 0.3, ..Plan::default() };
        let mut course = Course::new(Plan { rate: Some(1_000_000), queue: 2000, ..plan }, Direction::Sent);
        let mut seen = [0; 5];
        for i in 0..400 {
            match course.pass(Instant::from_micros(i * 90), 100) {
                Passage::Lost => seen[0] += 1,
                Passage::Overflowed => seen[1] += 1,
                Passage::Arrives { due, copy, damage, held_up } => {
                    assert!(due > Instant::from_micros(i * 90) && copy.is_none_or(|copy| copy >= due));
                    seen[2] += u32::from(copy.is_some());
                    seen[3] += u32::from(held_up);
                    if let Some(damage) = damage {
                        let mut packet = [0; 100];
                        damage.apply(&mut packet);
                        assert_eq!(packet.iter().filter(|byte| **byte != 0).count(), 1);
                        damage.apply(&mut []);
                        seen[4] += 1;
                    }
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }
}
