//! One direction of an impaired link: packets in transit.

use super::course::{Course, Damage, Passage};
use super::plan::Plan;
use crate::{Direction, checksum};
use lastack_engine::{Instant, Received, Transmit};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Max bytes in transit in one direction: bounds memory if a sender has no congestion control.
const MAX_HELD: usize = 64 << 20;

/// Max free buffers kept for reuse.
const MAX_SPARE: usize = 1024;

/// Counters of the packets of one direction. While a plan is perfect, packets are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Packets, as they are on the wire.
    pub packets: u64,
    /// Lost at random.
    pub lost: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
    /// Duplicated.
    pub duplicated: u64,
    /// Delayed to be overtaken by others.
    pub reordered: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Delivered, including duplicates.
    pub delivered: u64,
}

/// Metadata of a packet.
pub(super) trait Meta: Copy {
    /// Completes the checksum and marks it as not verified, so that corruption is detected.
    fn expose(&mut self, packet: &mut [u8]);
}

impl Meta for Transmit {
    fn expose(&mut self, packet: &mut [u8]) {
        if self.partial_checksum {
            checksum::complete_checksum(packet);
            self.partial_checksum = false;
        }
    }
}

impl Meta for Received {
    fn expose(&mut self, packet: &mut [u8]) {
        if self.checksum_good {
            checksum::complete_if_wrong(packet);
            self.checksum_good = false;
        }
    }
}

#[derive(Debug)]
pub(super) struct Lane<M> {
    pub course: Course,
    pub stats: LaneStats,
    /// Tie-breaker for packets due at the same time.
    serial: u64,
    held: BinaryHeap<Held<M>>,
    held_bytes: usize,
    spare: Vec<Vec<u8>>,
}

/// A packet in transit.
#[derive(Debug)]
pub(super) struct Held<M> {
    due: Instant,
    serial: u64,
    /// The number of the packet in its direction.
    pub number: Option<u64>,
    /// It is unchanged.
    pub intact: bool,
    pub packet: Vec<u8>,
    pub meta: M,
}

impl<M: Meta> Lane<M> {
    pub fn new(plan: Plan, direction: Direction) -> Self {
        Self {
            course: Course::new(plan, direction),
            stats: LaneStats::default(),
            serial: 0,
            held: BinaryHeap::new(),
            held_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// Whether packets pass immediately and unchanged.
    pub fn is_transparent(&self) -> bool {
        self.course.plan.is_perfect() && self.held.is_empty()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.held.peek().map(|held| held.due)
    }

    /// The number of the last packet.
    pub fn newest(&self) -> Option<u64> {
        self.course.newest()
    }

    /// Enqueues a packet, or drops it.
    pub fn push(&mut self, now: Instant, packet: &[u8], meta: M) {
        self.stats.packets += 1;
        let (due, copy, damage, held_up) = match self.course.pass(now, packet.len()) {
            Passage::Lost => return self.stats.lost += 1,
            Passage::Overflowed => return self.stats.overflowed += 1,
            Passage::Arrives { due, copy, damage, held_up } => (due, copy, damage, held_up),
        };
        let held = self.hold(due, packet, meta, damage);
        if let Some(due) = copy.filter(|_| held) {
            self.stats.duplicated += u64::from(self.hold(due, packet, meta, damage));
        }
        if held {
            self.stats.reordered += u64::from(held_up);
            self.stats.corrupted += u64::from(damage.is_some() && !packet.is_empty());
        }
    }

    /// The first packet that is due.
    pub fn pop(&mut self, now: Instant) -> Option<Held<M>> {
        self.next_due().filter(|&due| due <= now)?;
        let held = self.held.pop()?;
        self.held_bytes -= held.packet.len();
        self.stats.delivered += 1;
        Some(held)
    }

    /// Keeps a buffer for reuse.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }

    fn hold(&mut self, due: Instant, packet: &[u8], mut meta: M, damage: Option<Damage>) -> bool {
        if self.held_bytes + packet.len() > MAX_HELD {
            self.stats.overflowed += 1;
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        if let Some(damage) = damage.filter(|_| !packet.is_empty()) {
            meta.expose(&mut buffer);
            damage.apply(&mut buffer);
        }
        self.held_bytes += buffer.len();
        let (intact, number) = (damage.is_none(), self.newest());
        self.held.push(Held { due, serial: self.serial, number, intact, packet: buffer, meta });
        self.serial += 1;
        true
    }
}

/// The greatest is due first, as `BinaryHeap` is a max-heap.
impl<M> Ord for Held<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.serial).cmp(&(self.due, self.serial))
    }
}

impl<M> PartialOrd for Held<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> PartialEq for Held<M> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<M> Eq for Held<M> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lane(plan: Plan) -> Lane<Transmit> {
        Lane::new(plan, Direction::Sent)
    }

    fn popped(lane: &mut Lane<Transmit>, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| lane.pop(now)).map(|held| held.packet[0]).collect()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delay_and_jitter_keep_the_order() {
        let mut lane = lane(Plan { delay: 10 * MS, jitter: 5 * MS, ..Plan::default() });
        for i in 0..50 {
            lane.push(Instant::from_micros(u64::from(i) * 100), &[i; 100], Transmit::default());
        }
        assert_eq!(popped(&mut lane, Instant::from_micros(9_999)), []);
        let first = lane.next_due().unwrap();
        assert!(first >= Instant::from_millis(10) && first < Instant::from_millis(15));
        assert_eq!(popped(&mut lane, Instant::from_millis(20)), (0..50).collect::<Vec<_>>());
        assert_eq!((lane.next_due(), lane.stats.delivered), (None, 50));
    }

    #[test]
    fn a_packet_held_up_is_overtaken() {
        let mut lane = lane(Plan { seed: 3, reorder: 0.2, ..Plan::default() });
        for i in 0..50 {
            lane.push(Instant::ZERO, &[i], Transmit::default());
        }
        let at_once = popped(&mut lane, Instant::ZERO);
        assert!(at_once.is_sorted());
        let late = popped(&mut lane, Instant::from_millis(5));
        assert_eq!(late.len() as u64, lane.stats.reordered);
        assert!(late.len() > 3 && at_once.len() + late.len() == 50);
    }

    #[test]
    fn a_rate_spaces_packets_and_its_queue_overflows() {
        let mut lane = lane(Plan { rate: Some(1_000_000), queue: 3_000, ..Plan::default() });
        for i in 0..5 {
            lane.push(Instant::ZERO, &[i; 1000], Transmit::default());
        }
        assert_eq!(lane.stats.overflowed, 2);
        for i in 0..3u8 {
            assert_eq!(lane.next_due(), Some(Instant::from_millis(u64::from(i) + 1)));
            assert_eq!(popped(&mut lane, Instant::from_millis(u64::from(i) + 1)), [i]);
        }
        // The line is free again; a packet larger than the queue passes it.
        lane.push(Instant::from_millis(10), &[9; 4000], Transmit::default());
        assert_eq!(lane.next_due(), Some(Instant::from_millis(14)));
        lane.course.plan.rate = Some(0);
        lane.push(Instant::from_millis(20), &[9; 10], Transmit::default());
        assert_eq!(lane.stats.overflowed, 3);
    }

    #[test]
    fn a_copy_comes_not_before_its_original() {
        let plan = Plan { seed: 5, duplicate: 1.0, jitter: 3 * MS, ..Plan::default() };
        let mut lane = lane(plan);
        for i in 0..20 {
            lane.push(Instant::ZERO, &[i], Transmit::default());
        }
        let all = popped(&mut lane, Instant::from_millis(3));
        let mut firsts = all.clone();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!((all.len(), firsts.len(), lane.stats.duplicated), (40, 20, 20));
    }

    #[test]
    fn packets_in_flight_are_bounded() {
        let mut lane = lane(Plan { delay: MS, ..Plan::default() });
        for _ in 0..1100 {
            lane.push(Instant::ZERO, &[0; 65_000], Transmit::default());
        }
        assert!(lane.stats.overflowed > 0);
        assert!(lane.held_bytes <= MAX_HELD);
    }
}
