//! `lastack-sim`: plays seeds of the simulation.

use lastack_sim::simulation::{self, Met};
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
Plays random runs of hosts and paths in virtual time, and looks for what must never happen

Usage: lastack-sim [--seeds N] [--from SEED] [--seconds N]   plays N seeds (1000), for so long at most
       lastack-sim --seed SEED [--lines N]                   plays one and tells what happened

The exit status is 1 if something happened that must not.";

/// The number of log lines printed for a failed run.
const LINES: usize = 60;

struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    seconds: Option<u64>,
    lines: Option<u64>,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { seed: None, seeds: 1000, from: 0, seconds: None, lines: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse().map_err(|_| format!("{word} {text} is not a number"))
        };
        match word.as_str() {
            "--seed" => parsed.seed = Some(number()?),
            "--seeds" => parsed.seeds = number()?,
            "--from" => parsed.from = number()?,
            "--seconds" => parsed.seconds = Some(number()?),
            "--lines" => parsed.lines = Some(number()?),
            _ => return Err(format!("{word} means nothing here\n\n{HELP}")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    if env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match arguments() {
        Ok(arguments) => match arguments.seed {
            Some(seed) => one(seed, arguments.lines),
            None => many(&arguments),
        },
        Err(error) => {
            eprintln!("lastack-sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Plays one seed and prints its log.
fn one(seed: u64, lines: Option<u64>) -> ExitCode {
    let outcome = simulation::play(seed);
    let story = outcome.story();
    let shown = lines.map_or(story.len(), |lines| lines as usize).min(story.len());
    let mut out = io::stdout().lock();
    let text = story[story.len() - shown..].join("\n");
    // The reader may close the pipe early.
    let _closed = writeln!(out, "{text}\n{:#?}", outcome.met);
    if outcome.violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    let _closed = writeln!(out, "{}", outcome.report(0));
    ExitCode::FAILURE
}

/// Plays many seeds, and prints those that fail.
fn many(arguments: &Arguments) -> ExitCode {
    // The message of a panic is printed with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut met, mut failures) = (Met::default(), 0);
    for seed in arguments.from..arguments.from + arguments.seeds {
        if arguments.seconds.is_some_and(|max| began.elapsed().as_secs() >= max) {
            break;
        }
        let outcome = simulation::play(seed);
        if !outcome.violations.is_empty() {
            failures += 1;
            println!("{}\n", outcome.report(arguments.lines.map_or(LINES, |lines| lines as usize)));
        }
        met.add(outcome.met);
    }
    println!("{met:#?}");
    println!("{} runs in {:.1} s, {failures} fail", met.runs, began.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
