//! Rounds in which the contenders take turns, medians, and the table.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A contender's work, ready to go: each call does one batch and returns its size.
pub type Work = Box<dyn FnMut() -> f64>;

/// How long everything takes.
#[derive(Clone, Copy)]
pub struct Options {
    pub rounds: usize,
    /// Processor time of a contender in a round.
    pub slice: Duration,
    /// Max connections that the slower stack has to hold.
    pub bearable: usize,
    /// The most connections of all.
    pub max: usize,
    /// lastack works alone, for a profiler.
    pub alone: bool,
}

impl Options {
    pub const FULL: Self =
        Self { rounds: 15, slice: Duration::from_millis(150), bearable: 10_000, max: 100_000, alone: false };
    pub const QUICK: Self =
        Self { rounds: 5, slice: Duration::from_millis(40), bearable: 1_000, max: 100_000, alone: false };
    /// Not a measurement: shows that everything runs.
    pub const SMOKE: Self = Self { rounds: 1, slice: Duration::ZERO, bearable: 10, max: 10, alone: false };
}

/// The processor time of this thread. What other programs do on this machine is not in it, as far as
/// they leave the caches alone.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread has a clock").into()
}

/// The rates of a contender, one for each round.
pub struct Rates(Vec<f64>);

impl Rates {
    pub fn median(&self) -> f64 {
        median(&self.0)
    }

    /// The median of the ratios to `other` in the same round.
    pub fn ratio(&self, other: &Self) -> f64 {
        median(&self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// Lets the contenders work in turns, and returns their rates in units a second.
pub fn compare(options: Options, contenders: &mut [Work]) -> Vec<Rates> {
    for work in contenders.iter_mut() {
        turn(work, options.slice / 4); // warm
    }
    let mut rates: Vec<_> = contenders.iter().map(|_| Rates(Vec::new())).collect();
    for round in 0..options.rounds {
        for i in 0..contenders.len() {
            let i = if round % 2 == 0 { i } else { contenders.len() - 1 - i };
            rates[i].0.push(turn(&mut contenders[i], options.slice));
        }
    }
    rates
}

fn turn(work: &mut Work, slice: Duration) -> f64 {
    let start = processor_time();
    let mut amount = 0.0;
    loop {
        amount += work();
        let spent = processor_time() - start;
        if spent >= slice {
            return amount / spent.as_secs_f64();
        }
    }
}

/// A line of the table. What was not measured is `None`.
pub struct Row {
    pub work: String,
    pub lastack: Option<f64>,
    pub smoltcp: Option<f64>,
    pub ratio: Option<f64>,
    pub show: fn(f64) -> String,
}

/// Prints one line; the heading if there is no row.
pub fn print(row: Option<&Row>) {
    let Some(row) = row else {
        println!("| {:<52} | {:>12} | {:>12} | {:>6} |", "work", "lastack", "smoltcp", "ratio");
        return println!("|{:-<54}|{:->13}:|{:->13}:|{:->7}:|", "", "", "", "");
    };
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), row.show);
    let ratio = row.ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
    println!("| {:<52} | {:>12} | {:>12} | {ratio:>6} |", row.work, show(row.lastack), show(row.smoltcp));
}

/// 12,345,678/s
pub fn per_second(rate: f64) -> String {
    format!("{}/s", grouped(rate as usize))
}

/// 31.4 Gbit/s
pub fn gigabits(bytes: f64) -> String {
    format!("{:.1} Gbit/s", bytes * 8e-9)
}

/// 1,234 bytes
pub fn bytes(bytes: f64) -> String {
    format!("{} bytes", grouped(bytes as usize))
}

/// 98 %
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// 12,345
pub fn grouped(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
