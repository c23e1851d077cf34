//! Two stacks over a path that loses, doubles, reorders and damages packets, driven by applications
//! that write, read, half-close, close and abort as chance has it.
//!
//! Whatever happens, the bytes arrive exactly, or an `End` says what was lost.
//!
//! `LASTACK_SEEDS=5000` plays more of them, `LASTACK_SEED=17` this one alone.

mod application;
mod check;
mod world;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::World;

const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Plays one seed, and says how to play it again if it fails.
fn play(seed: u64) -> World {
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        world.run();
        check::check(&world);
        world
    }));
    result.unwrap_or_else(|failure| {
        eprintln!("\nseed {seed} fails; again: LASTACK_SEED={seed} cargo test -p lastack-sim --test streams");
        panic::resume_unwind(failure)
    })
}

/// Plays every seed, on all processors, and adds up what was met.
fn play_all() -> check::Met {
    if let Some(seed) = number("LASTACK_SEED") {
        let world = play(seed);
        println!("{}", world.summary());
        return check::met(&world);
    }
    let (seeds, next) = (number("LASTACK_SEEDS").unwrap_or(SEEDS), AtomicU64::new(0));
    let work = || {
        let mut met = check::Met::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < seeds => met.add(check::met(&play(seed))),
                _ => return met,
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut met = check::Met::default();
        for thread in threads {
            met.add(thread.join().unwrap_or_else(|failure| panic::resume_unwind(failure)));
        }
        met
    })
}

#[test]
fn bytes_arrive_or_the_end_counts_the_loss() {
    let met = play_all();
    println!("{met:#?}");
    if number("LASTACK_SEED").is_none() && number("LASTACK_SEEDS").is_none() {
        met.assert_variety();
    }
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    for seed in (0..SEEDS).step_by(15) {
        let [first, second] = [play(seed), play(seed)].map(|world| world.net.trace().fingerprint());
        assert_eq!(first, second, "seed {seed}");
    }
}
