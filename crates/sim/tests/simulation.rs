//! Random runs of hosts and paths: nothing happens that must not, and what does is noticed.
//!
//! `LASTACK_SEEDS=5000` plays more of them; `cargo run --release -p lastack-sim -- --seed 17` plays one
//! and prints what happened.

use lastack_engine::Rule;
use lastack_sim::simulation::{self, InjectedBug, Met};
use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const SEEDS: u64 = 400;

fn seeds() -> Option<u64> {
    let text = env::var("LASTACK_SEEDS").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("LASTACK_SEEDS={text} is not a number")))
}

/// Plays every seed, on all processors.
fn play_all(seeds: u64) -> Met {
    let next = AtomicU64::new(0);
    let work = || {
        let mut met = Met::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return met;
            }
            let outcome = simulation::play(seed);
            assert!(outcome.violations.is_empty(), "{}", outcome.report(60));
            met.add(outcome.met);
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut met = Met::default();
        for thread in threads {
            met.add(thread.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)));
        }
        met
    })
}

#[test]
fn nothing_happens_that_must_not() {
    let met = play_all(seeds().unwrap_or(SEEDS));
    println!("{met:#?}");
    assert!(met.bytes > 5_000_000 && met.packets > 50_000, "{met:?}");
    let common = [
        Rule::EndOrderly,
        Rule::PeerRstExact,
        Rule::PeerRstRefused,
        Rule::RstUnreadDataAtClose,
        Rule::RstAbort,
        Rule::RstDataAfterClose,
        Rule::RstKeepaliveTimeout,
        Rule::EndSynTimeout,
    ];
    assert!(common.iter().all(|rule| met.ends.contains_key(rule)), "{met:?}");
    assert!(met.ends.len() > 20 && met.rules.len() > 35, "{met:?}");
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    for seed in (0..SEEDS).step_by(20) {
        let [first, second] = [simulation::play(seed), simulation::play(seed)];
        assert!(!first.trace.packets.is_empty(), "seed {seed}");
        assert_eq!(first.trace.fingerprint(), second.trace.fingerprint(), "seed {seed}");
        assert_eq!((first.story(), first.met), (second.story(), second.met), "seed {seed}");
    }
}

/// What must be said of each injected. Some of them do harm in few runs only, so that several are played.
const NOTICED: [(InjectedBug, &str); 10] = [
    (InjectedBug::FlipByte, "not what was written"),
    (InjectedBug::EarlyFin, "a short stream that ends well"),
    (InjectedBug::DropEnd, "no end"),
    (InjectedBug::DoubleEnd, "two ends of one connection"),
    (InjectedBug::LieAboutBytes, "received, not sent"),
    (InjectedBug::ForgeReset, "nobody sent the reset"),
    (InjectedBug::ShrinkWindow, "the right edge moves left"),
    (InjectedBug::AcknowledgeTooMuch, "it acknowledges what was never sent"),
    (InjectedBug::KeepOne, "keeps (connections, timer, output)"),
    (InjectedBug::FalsePeace, "an orderly end that loses"),
];

#[test]
fn every_injected_bug_is_detected() {
    assert_eq!(NOTICED.map(|(injected, _)| injected), InjectedBug::ALL);
    for (injected, words) in NOTICED {
        let noticed = (0..40).any(|seed| {
            let outcome = simulation::play_with_bug(seed, Some(injected));
            let report = outcome.report(5);
            report.contains(words) && report.contains(&format!("--seed {seed}"))
        });
        assert!(noticed, "{injected:?} is not noticed as {words:?}");
    }
}
