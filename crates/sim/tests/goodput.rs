//! Transfers over bad links: none stalls or ends before its time, none is slower than the losses explain, and
//! two over one link share it. `cargo bench --bench goodput` says how fast they are.

#[path = "../benches/goodput/lastack.rs"]
mod lastack;
#[path = "../benches/goodput/transfer.rs"]
mod transfer;
#[path = "../benches/goodput/world.rs"]
mod world;

use lastack_engine::{Algorithm, Config};
use std::time::Duration;
use transfer::{Path, jain, ours, share, transfer};
use world::{Outcome, STEP};

const PATH: Path = Path { rate: 100, delay: 0, detour: 0, loss: 0.0, reorder: 0.0 };

/// The cells of the table.
fn paths() -> impl Iterator<Item = Path> {
    [1, 20, 100].into_iter().flat_map(|delay| {
        [0.0, 0.001, 0.01, 0.05].into_iter().flat_map(move |loss| {
            [0.0, 0.02].into_iter().map(move |reorder| Path { delay, loss, reorder, ..PATH })
        })
    })
}

/// The longest time in which nothing came.
fn longest_pause(outcome: &Outcome) -> Duration {
    let mut longest = 0;
    let mut pause = 0;
    for pair in outcome.history.windows(2) {
        pause = if pair[0] == pair[1] { pause + 1 } else { 0 };
        longest = longest.max(pause);
    }
    STEP * longest
}

fn no_cell_stalls(change: impl Fn(&mut Config)) {
    for path in paths() {
        let (_, outcome) = transfer(&ours(&change), path, 1_000_000, 1);
        let pause = longest_pause(&outcome);
        // A SYN and its successor lost, or a segment four times: the RTO is backed off. No more.
        assert!(pause < Duration::from_secs(4), "{path:?}: nothing for {pause:?}");
    }
}

#[test]
fn no_transfer_stalls() {
    no_cell_stalls(|_| {});
}

#[test]
fn no_paced_transfer_stalls() {
    no_cell_stalls(|config| config.tcp.pacing = true);
}

#[test]
fn no_transfer_with_reno_stalls() {
    no_cell_stalls(|config| config.tcp.congestion = Algorithm::Reno);
}

#[test]
fn no_transfer_without_sack_stalls() {
    no_cell_stalls(|config| config.tcp.sack = false);
}

/// What a standard TCP makes of a path (Mathis et al., 1997), if losses are single and none is waited for.
fn expected(path: Path) -> f64 {
    let round_trip = path.delay as f64 * 2e-3;
    let by_loss = 1448.0 * 8e-6 / round_trip * (1.5 / path.loss).sqrt();
    by_loss.min(path.rate as f64 * 1448.0 / 1500.0)
}

/// Round trips of a handshake and a slow start.
const ROUNDS: f64 = 12.0;

/// The start included, a transfer is at half of that at least, and retransmits little unnecessarily.
#[test]
fn no_cell_is_slower_than_its_losses_explain() {
    for path in paths().filter(|path| path.loss > 0.0) {
        let bytes = 2_000_000;
        let mut rates: Vec<_> = (1..=3)
            .map(|seed| {
                let (took, outcome) = transfer(&ours(|_| {}), path, bytes, seed);
                let again = outcome.sent as f64 / bytes as f64 - 1.0;
                assert!(again < path.loss * 1.5 + 0.08, "{path:?}, {seed}: {again} sent again");
                bytes as f64 * 8e-6 / took.as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let megabits = bytes as f64 * 8e-6;
        let min = megabits / (2.0 * megabits / expected(path) + ROUNDS * path.delay as f64 * 2e-3);
        assert!(rates[1] >= min, "{path:?}: {rates:?}, expected {min}");
    }
}

fn is_shared(change: impl Fn(&mut Config), path: Path) {
    for seed in 1..=3 {
        let shares = share(&ours(&change), path, Duration::from_secs(30), seed);
        let index = jain(shares);
        assert!(index >= 0.8, "{path:?}, seed {seed}: {shares:?}, {index}");
    }
}

/// Two connections with the same round-trip time share a link evenly, also if one is there first.
#[test]
fn two_connections_share_a_link() {
    for (delay, loss) in [(20, 0.0), (20, 0.001), (100, 0.0)] {
        is_shared(|_| {}, Path { rate: 10, delay, loss, ..PATH });
    }
}

#[test]
fn two_paced_connections_share_a_link() {
    is_shared(|config| config.tcp.pacing = true, Path { rate: 10, delay: 20, ..PATH });
}
