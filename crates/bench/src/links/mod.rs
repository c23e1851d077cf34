//! Bad links: the goodput of lastack beside that of Linux, over the same emulated path in real time.

mod path;
mod run;

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use clap::ValueEnum;

use crate::measure::Spread;

pub use run::run;

/// The stacks at both ends of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ends {
    /// The kernel, with CUBIC.
    Linux,
    /// lastack.
    Lastack,
}

/// What differs from the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// Nothing.
    Default,
    /// No selective acknowledgments, at either end.
    NoSack,
    /// lastack paces; Linux is as it comes.
    Paced,
}

/// A path, and what is sent over it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Cell {
    /// One-way delay in milliseconds.
    #[arg(long)]
    pub delay: u64,
    /// Share of lost packets, in each direction.
    #[arg(long)]
    pub loss: f64,
    /// Share of packets that are held up by up to the one-way delay.
    #[arg(long)]
    pub reorder: f64,
    /// Chooses these packets.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, value_enum, default_value = "default")]
    pub variant: Variant,
}

/// Compares lastack with Linux over bad links, and writes the report.
#[derive(clap::Args)]
pub struct Compare {
    /// Write the report to this file instead of standard output.
    #[arg(long)]
    output: Option<std::path::PathBuf>,
    /// One seed, to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Seeds for each path.
    #[arg(long)]
    seeds: Option<u64>,
    /// Only these delays, in milliseconds.
    #[arg(long, value_delimiter = ',')]
    delays: Vec<u64>,
    /// Only these variants.
    #[arg(long, value_enum, value_delimiter = ',')]
    variants: Vec<Variant>,
}

const DELAYS: [u64; 3] = [1, 20, 100];
const LOSSES: [f64; 3] = [0.0, 0.001, 0.01];
const REORDERS: [f64; 2] = [0.0, 0.02];
/// Seeds for each path, where nothing else is asked for.
const SEEDS: u64 = 16;
/// What lastack must reach of Linux's goodput.
const MARK: f64 = 0.95;

impl Cell {
    /// Slow start over a long path takes long.
    fn time(&self) -> Duration {
        Duration::from_millis(3000 + 40 * self.delay)
    }

    /// Seeds at the same time: together the transfers must leave the CPUs idle for most of the time, and the more is
    /// lost, the less is sent.
    fn parallel(&self) -> usize {
        if self.loss == 0.0 {
            2
        } else if self.loss < 0.01 {
            4
        } else {
            8
        }
    }

    fn name(&self) -> String {
        let reordering = if self.reorder > 0.0 { ", reordering" } else { "" };
        format!("{} ms, {} %{reordering}", self.delay, self.loss * 100.0)
    }
}

/// The goodputs of a cell, by seed.
struct Row {
    cell: Cell,
    linux: Vec<f64>,
    lastack: Vec<f64>,
}

impl Row {
    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn ratio(&self) -> f64 {
        Self::mean(&self.lastack) / Self::mean(&self.linux)
    }
}

pub fn compare(arguments: &Compare) -> Result<()> {
    let begin = Instant::now();
    let seeds = arguments.seeds.unwrap_or(if arguments.quick { 1 } else { SEEDS });
    let delays = if arguments.delays.is_empty() { DELAYS.to_vec() } else { arguments.delays.clone() };
    let mut variants = arguments.variants.clone();
    if variants.is_empty() {
        variants = vec![Variant::Default];
        if !arguments.quick {
            variants.extend([Variant::NoSack, Variant::Paced]);
        }
    }
    let mut text = introduction(seeds);
    for variant in variants {
        let mut rows = Vec::new();
        for reorder in REORDERS {
            for &delay in &delays {
                for loss in LOSSES {
                    let cell = Cell { delay, loss, reorder, seed: 0, variant };
                    rows.push(measure(cell, seeds)?);
                }
            }
        }
        table(&mut text, variant, &rows);
    }
    let _ = writeln!(text, "Measured in {} s.", begin.elapsed().as_secs());
    match &arguments.output {
        Some(file) => std::fs::write(file, text)?,
        None => print!("{text}"),
    }
    Ok(())
}

/// Lets both carry data over the path of each seed: side by side, so that both have the same machine.
fn measure(cell: Cell, seeds: u64) -> Result<Row> {
    let mut row = Row { cell, linux: Vec::new(), lastack: Vec::new() };
    let seeds: Vec<u64> = (1..=seeds).collect();
    for some in seeds.chunks(cell.parallel()) {
        let runs: Vec<_> = some
            .iter()
            .flat_map(|&seed| [(Ends::Linux, seed), (Ends::Lastack, seed)])
            .map(|(ends, seed)| Ok((ends, start(ends, Cell { seed, ..cell })?)))
            .collect::<Result<_>>()?;
        for (ends, child) in runs {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "{ends:?} over {}: {}", cell.name(), output.status);
            let text = String::from_utf8(output.stdout)?;
            let goodput = text.trim().parse().with_context(|| format!("{ends:?}: {text:?}"))?;
            match ends {
                Ends::Linux => row.linux.push(goodput),
                Ends::Lastack => row.lastack.push(goodput),
            }
        }
    }
    eprintln!(
        "{:?} {}: Linux {:.2?}, lastack {:.2?}: {:.2}",
        cell.variant,
        cell.name(),
        row.linux,
        row.lastack,
        row.ratio()
    );
    Ok(row)
}

fn start(ends: Ends, cell: Cell) -> Result<std::process::Child> {
    let arguments = [
        "link".to_owned(),
        name(ends),
        format!("--delay={}", cell.delay),
        format!("--loss={}", cell.loss),
        format!("--reorder={}", cell.reorder),
        format!("--seed={}", cell.seed),
        format!("--variant={}", name(cell.variant)),
    ];
    let program = std::env::current_exe()?;
    // Before other processes, so that the emulated delay is exact. Not with real-time priority: the kernel's own
    // threads, which carry packets, would wait.
    let mut command = Command::new("nice");
    command.args(["-n", "-15"]).arg(program).args(arguments).stdout(Stdio::piped());
    command.spawn().context("cannot start nice (package coreutils)")
}

/// The name of a value on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn introduction(seeds: u64) -> String {
    format!(
        "# Bad links beside Linux\n\n\
         Made by `.ci/performance links` (root); do not edit. Linux {}.\n\n\
         One connection over an emulated path in real time: two TUN devices with `Impair` between them, 100 Mbit/s, 50 ms of \
         packets may wait before the bottleneck. Linux, with CUBIC and its defaults, at both ends, and lastack with its \
         defaults at both ends, each behind a TUN device of its own from which the kernel forwards to the path. Both run at \
         the same time, over paths of the same seed, with a high priority, so that they do not wait for the CPU. *Reordering* holds up 2 % of the packets by up to the one-way delay. \
         The goodput is what the receiver has read, and compared, within 3 s and 40 times the delay after the SYN: Mbit/s, \
         the mean of {seeds} seeds, with the smallest and the largest. The mark is {MARK} of Linux's in each cell, and more \
         than Linux's in the median.\n\n",
        crate::report::output("uname", &["-r"]),
    )
}

fn table(text: &mut String, variant: Variant, rows: &[Row]) {
    let title = match variant {
        Variant::Default => "Defaults",
        Variant::NoSack => "Without SACK (Linux: `net.ipv4.tcp_sack=0`)",
        Variant::Paced => "With pacing (`TcpConfig::pacing`; Linux as it comes)",
    };
    let _ = write!(
        text,
        "## {title}\n\n| one-way delay, loss | Linux | lastack | ratio | |\n|---|---:|---:|---:|---|\n"
    );
    let spread = |values: &[f64]| {
        let spread = Spread::of(values.iter().copied()).expect("there is a seed");
        format!("{:.2} ({:.2}-{:.2})", Row::mean(values), spread.min, spread.max)
    };
    for row in rows {
        let met = if row.ratio() >= MARK { "met" } else { "**not met**" };
        let (linux, lastack) = (spread(&row.linux), spread(&row.lastack));
        let _ = writeln!(text, "| {} | {linux} | {lastack} | {:.2} | {met} |", row.cell.name(), row.ratio());
    }
    if let Some(ratios) = Spread::of(rows.iter().map(Row::ratio)) {
        let met = if ratios.median > 1.0 { "met" } else { "**not met**" };
        let _ = write!(text, "\nMedian of the ratios: {:.3}, {met}.\n\n", ratios.median);
    }
}
