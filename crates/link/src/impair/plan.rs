//! The impairments of a link, and the choice of the packets they apply to.

use super::course::Damage;
use crate::Direction;
use std::time::Duration;

/// The impairments of one direction of a link. The default is a perfect link.
///
/// The affected packets depend only on the seed, the direction and the packet's number in it, not on time or on the
/// other direction. The same seed affects the same packets, in every version.
///
/// Probabilities range from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Seed of the random choices. Links with the same seed affect the same packets, so use different seeds.
    pub seed: u64,
    /// One-way delay.
    pub delay: Duration,
    /// Max jitter added to `delay`, uniformly distributed. The order of packets is kept.
    pub jitter: Duration,
    /// The probability that a packet is lost.
    pub loss: f64,
    /// The probability that a packet arrives twice.
    pub duplicate: f64,
    /// The probability that a packet is delayed by up to `reorder_by`, so that later ones overtake it.
    pub reorder: f64,
    /// Max extra delay of a reordered packet.
    pub reorder_by: Duration,
    /// The probability that a byte of a packet, in a header or in the data, is corrupted.
    pub corrupt: f64,
    /// Rate in bytes per second; `None` for no limit.
    pub rate: Option<u64>,
    /// Max bytes in the queue of the bottleneck (`rate`); further packets are dropped.
    pub queue: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            corrupt: 0.0,
            rate: None,
            queue: 256 * 1024,
        }
    }
}

/// The impairments of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub lost: bool,
    pub damage: Option<Damage>,
    /// Jitter, added to the delay.
    pub jitter: Duration,
    /// Extra delay, to be overtaken by others.
    pub held_up: Option<Duration>,
    /// The jitter of a duplicate, if there is one.
    pub copy: Option<Duration>,
}

/// The purposes of random numbers. The values are fixed, since they determine the meaning of a seed.
#[derive(Clone, Copy)]
enum Question {
    Loss = 1,
    Corrupt = 2,
    Byte = 3,
    Bits = 4,
    Duplicate = 5,
    Jitter = 6,
    CopyJitter = 7,
    Reorder = 8,
    HeldUp = 9,
}

impl Plan {
    /// Whether the plan has no effect.
    pub fn is_perfect(&self) -> bool {
        let never = [self.loss, self.duplicate, self.reorder, self.corrupt].iter().all(|&p| p <= 0.0);
        never && self.delay.is_zero() && self.jitter.is_zero() && self.rate.is_none()
    }

    pub(super) fn fate(&self, direction: Direction, number: u64) -> Fate {
        let chance = Chance::of(self.seed, direction, number);
        let damage = chance.hits(Question::Corrupt, self.corrupt).then(|| Damage {
            at: chance.draw(Question::Byte),
            bits: 1 + (chance.draw(Question::Bits) % 255) as u8,
        });
        let reordered = chance.hits(Question::Reorder, self.reorder);
        let copied = chance.hits(Question::Duplicate, self.duplicate);
        Fate {
            lost: chance.hits(Question::Loss, self.loss),
            damage,
            jitter: chance.share(Question::Jitter, self.jitter),
            held_up: reordered.then(|| chance.share(Question::HeldUp, self.reorder_by)),
            copy: copied.then(|| chance.share(Question::CopyJitter, self.jitter)),
        }
    }
}

/// The random numbers of one packet.
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    fn of(seed: u64, direction: Direction, number: u64) -> Self {
        let direction = match direction {
            Direction::Sent => 1,
            Direction::Received => 2,
        };
        Self(mix(mix(mix(seed) ^ direction) ^ number))
    }

    fn draw(self, question: Question) -> u64 {
        mix(self.0 ^ question as u64)
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    fn unit(self, question: Question) -> f64 {
        (self.draw(question) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn hits(self, question: Question, probability: f64) -> bool {
        self.unit(question) < probability
    }

    fn share(self, question: Question, max: Duration) -> Duration {
        let nanos = (u128::from(self.draw(question)) * max.as_nanos()) >> 64;
        Duration::from_nanos(nanos as u64)
    }
}

/// One step of SplitMix64: every bit of the input changes about half of the output.
const fn mix(v: u64) -> u64 {
    let v = v.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_kept() {
        let plan = Plan { seed: 7, loss: 0.1, duplicate: 0.5, corrupt: 1.0, ..Plan::default() };
        let fates: Vec<_> = (0..10_000).map(|number| plan.fate(Direction::Sent, number)).collect();
        let count = |test: fn(&Fate) -> bool| fates.iter().filter(|fate| test(fate)).count();
        assert!((900..1100).contains(&count(|fate| fate.lost)));
        assert!((4800..5200).contains(&count(|fate| fate.copy.is_some())));
        assert_eq!(count(|fate| fate.damage.is_some_and(|damage| damage.bits != 0)), 10_000);
        assert_eq!(count(|fate| fate.held_up.is_some()), 0);
        // Independent of each other: about 5 % are both.
        assert!((400..600).contains(&count(|fate| fate.lost && fate.copy.is_some())));
    }

    #[test]
    fn seeds_and_directions_differ_and_the_same_seed_does_not() {
        let losses = |seed, direction| {
            let plan = Plan { seed, loss: 0.5, ..Plan::default() };
            (0..64).fold(0u64, |bits, number| bits << 1 | u64::from(plan.fate(direction, number).lost))
        };
        assert_eq!(losses(1, Direction::Sent), losses(1, Direction::Sent));
        assert_ne!(losses(1, Direction::Sent), losses(1, Direction::Received));
        assert_ne!(losses(1, Direction::Sent), losses(2, Direction::Sent));
    }

    #[test]
    fn a_seed_keeps_its_meaning() {
        let plan = Plan { seed: 42, loss: 0.25, ..Plan::default() };
        let lost: Vec<_> = (0..40).filter(|&number| plan.fate(Direction::Sent, number).lost).collect();
        assert_eq!(
            lost,
            [3, 4, 10, 14, 18, 19, 27, 28],
            "a change here makes every seed in a bug report void"
        );
    }

    #[test]
    fn always_and_never_are_meant() {
        let plan = Plan { loss: 1.0, duplicate: 0.0, reorder: -1.0, corrupt: f64::NAN, ..Plan::default() };
        for number in 0..1000 {
            let fate = plan.fate(Direction::Received, number);
            assert!(fate.lost);
            assert_eq!((fate.copy, fate.held_up, fate.damage), (None, None, None));
        }
        assert!(Plan { seed: 9, ..Plan::default() }.is_perfect());
        assert!(!plan.is_perfect());
    }

    #[test]
    fn shares_of_time_stay_within_it() {
        let plan = Plan { jitter: Duration::from_micros(10), reorder: 1.0, ..Plan::default() };
        let fates: Vec<_> = (0..1000).map(|number| plan.fate(Direction::Sent, number)).collect();
        assert!(fates.iter().all(|fate| fate.jitter < plan.jitter));
        assert!(fates.iter().any(|fate| fate.jitter > plan.jitter / 2));
        assert!(fates.iter().all(|fate| fate.held_up.unwrap() < plan.reorder_by));
    }
}
