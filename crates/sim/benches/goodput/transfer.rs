//! Transfers over a narrow path, by one stack or the other.

use crate::lastack;
use crate::world::{Flow, Outcome, START, World};
use lastack_engine::Config;
use lastack_link::Plan;
use std::time::Duration;

/// No transfer takes longer.
const HOUR: Duration = Duration::from_secs(3600);

/// A path. What is reordered is held up by as much as the one-way delay; 50 ms of packets may wait before the
/// bottleneck.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Megabits a second of the bottleneck.
    pub rate: u64,
    /// One way, in milliseconds.
    pub delay: u64,
    /// How much longer the way of the second connection is.
    pub detour: u64,
    /// The share of packets that are lost, and that are held up.
    pub loss: f64,
    pub reorder: f64,
}

impl Path {
    pub fn plan(self, seed: u64) -> Plan {
        let Self { loss, reorder, .. } = self;
        let rate = self.rate * 1_000_000 / 8;
        let delay = Duration::from_millis(self.delay);
        Plan {
            seed,
            delay,
            loss,
            reorder,
            reorder_by: delay,
            rate: Some(rate),
            queue: (rate / 20) as usize,
            ..Plan::default()
        }
    }
}

/// Makes the hosts of a run with these flows and this seed.
pub type Hosts<'a> = &'a dyn Fn(&[Flow], u64) -> [Box<dyn crate::world::Host>; 2];

/// One connection carries `octets`. The path decides how long that takes; an hour is too long.
pub fn transfer(hosts: Hosts<'_>, path: Path, bytes: u64, seed: u64) -> (Duration, Outcome) {
    let world = World::new(path.plan(seed), hosts(&[Flow { start: START, bytes }], seed), Duration::ZERO);
    let outcome = world.run(bytes, START + HOUR);
    assert!(outcome.failures.is_empty(), "{path:?}, seed {seed}: {:?}", outcome.failures);
    let took = outcome.took.unwrap_or_else(|| panic!("{path:?}, seed {seed}: an hour is not enough"));
    (took, outcome)
}

/// Two connections share the path for this long, the second begins two seconds after the first: the
/// bytes that each has received in the last two thirds of the time.
pub fn share(hosts: Hosts<'_>, path: Path, time: Duration, seed: u64) -> [f64; 2] {
    let flows = [START, START + Duration::from_secs(2)].map(|start| Flow { start, bytes: u64::MAX });
    let detour = Duration::from_millis(path.detour);
    let outcome = World::new(path.plan(seed), hosts(&flows, seed), detour).run(u64::MAX, START + time);
    assert!(outcome.failures.is_empty(), "{path:?}, seed {seed}: {:?}", outcome.failures);
    let history = &outcome.history;
    let (from, to) = (&history[history.len() / 3], &history[history.len() - 1]);
    [0, 1].map(|flow| (to[flow] - from[flow]) as f64)
}

/// Jain's index: 1 is fair, 0.5 is all for one of two.
pub fn jain(shares: [f64; 2]) -> f64 {
    let [a, b] = shares;
    (a + b) * (a + b) / (2.0 * (a * a + b * b))
}

/// lastack on both ends, with settings changed.
pub fn ours(change: impl Fn(&mut Config)) -> impl Fn(&[Flow], u64) -> [Box<dyn crate::world::Host>; 2] {
    move |flows, seed| lastack::hosts(&change, flows, seed)
}
