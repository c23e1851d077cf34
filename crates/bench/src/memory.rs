//! The memory of `lastack run`.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::environment::{Environment, Kind, Layout, Outer, Programs};
use crate::process::{memory, own_memory};
use crate::work::{Outcome, Work};

/// Connections of each kind.
pub const CONNECTIONS: usize = 1000;
/// Downloads of which the median counts.
const DOWNLOADS: usize = 3;
/// What the kernel, the allocator and the run take to release memory.
const SETTLE: Duration = Duration::from_secs(2);

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub rest: u64,
    /// Of each of many idle connections.
    pub idle: f64,
    /// With many connections over which the program reads nothing, at `--memory 256`.
    pub never_read: u64,
    /// After these have been closed.
    pub after: u64,
    /// Gbit/s of a download alone, and beside those connections.
    pub alone: f64,
    pub beside: f64,
}

pub fn measure(programs: &Programs, time: Duration) -> Result<Memory> {
    let outer = Outer::new(programs)?;
    let mut environment = Environment::new(Kind::RunLastack, programs, &[])?;
    let pid = environment.stack.context("no process")?;
    let mut run = |work: Work, time: Duration| environment.run(&outer, work, time, Layout::TwoCpus, false);
    let downloads = |run: &mut dyn FnMut(Work, Duration) -> Result<Outcome>| -> Result<f64> {
        // Windows open only as data passes: the first is not counted.
        let work = Work::Download { streams: 1 };
        run(work, time)?;
        let rates = (0..DOWNLOADS).map(|_| run(work, time).map(|outcome| outcome.rate));
        let mut rates = rates.collect::<Result<Vec<_>>>()?;
        rates.sort_by(f64::total_cmp);
        Ok(rates[DOWNLOADS / 2])
    };
    sleep(SETTLE);
    let rest = memory(pid)?;
    // What is allocated once, with the first connections, is not theirs; neither is the code that is mapped.
    run(Work::Idle { connections: 10 }, time)?;
    sleep(SETTLE / 4);
    let first = own_memory(pid)?;
    run(Work::Idle { connections: CONNECTIONS }, time)?;
    sleep(SETTLE / 4);
    let idle = own_memory(pid)?.saturating_sub(first) as f64 / CONNECTIONS as f64;
    run(Work::Release, time)?;
    sleep(SETTLE);
    let alone = downloads(&mut run)?;
    run(Work::NeverRead { connections: CONNECTIONS }, time)?;
    sleep(SETTLE);
    let never_read = memory(pid)?;
    let beside = downloads(&mut run)?;
    run(Work::Release, time)?;
    sleep(SETTLE * 2);
    let after = memory(pid)?;
    Ok(Memory { rest, idle, never_read, after, alone, beside })
}
