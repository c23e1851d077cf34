//! Alternating rounds, and what comes of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::environment::{Environment, Kind, Outer, Programs};
use crate::process;
use crate::rows::{Against, Group, Row};
use crate::work::{Outcome, Work};

/// A share of the CPU time that others may use; beyond it a sample is marked.
const OTHERS: f64 = 0.05;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub outcome: Outcome,
    /// CPU time of the process that carries the packets, for each byte or operation, in nanoseconds.
    pub cpu: Option<f64>,
}

/// The samples of each row and network, by round: `None` where it failed.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<(usize, usize, Kind), Vec<Option<Sample>>>,
    /// The rounds that were measured.
    pub rounds: usize,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, usize>,
    /// The share of CPU time that other processes used, for each sample.
    pub others: Vec<f64>,
}

/// A median, the extremes, and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// Measures every row in every network, round by round, until the rounds or the time allowed are over. Each round has new
/// networks.
pub fn rounds(
    groups: &[Group],
    programs: &Programs,
    count: usize,
    time: Duration,
    allowed: Duration,
) -> Result<Results> {
    let mut results = Results::default();
    let begin = Instant::now();
    for round in 0..count {
        if begin.elapsed() > allowed {
            eprintln!("no time for more rounds");
            break;
        }
        results.rounds += 1;
        eprintln!("round {} of {count}", round + 1);
        let outer = Outer::new(programs)?;
        let mut environments = start(groups, programs, &mut results);
        for (group, rows) in groups.iter().enumerate() {
            for (number, row) in rows.rows.iter().enumerate() {
                // Another order in each round, so that none is always the first.
                let kinds = row.kinds.len();
                for at in 0..kinds {
                    let kind = row.kinds[(at + round) % kinds];
                    let sample = results.sample(&mut environments, programs, &outer, kind, row, time);
                    let samples = results.samples.entry((group, number, kind)).or_default();
                    samples.resize(round, None);
                    samples.push(sample);
                }
            }
        }
    }
    Ok(results)
}

/// The networks of all rows.
fn start(groups: &[Group], programs: &Programs, results: &mut Results) -> BTreeMap<Kind, Environment> {
    let mut environments = BTreeMap::new();
    for kind in groups.iter().flat_map(|group| &group.rows).flat_map(|row| row.kinds) {
        results.need(&mut environments, programs, *kind);
    }
    environments
}

impl Results {
    /// Notes a failure for the report.
    pub fn failed(&mut self, message: String) {
        eprintln!("{message}");
        *self.errors.entry(message).or_default() += 1;
    }

    /// Starts a network, unless it is there or its program is not installed.
    fn need(&mut self, environments: &mut BTreeMap<Kind, Environment>, programs: &Programs, kind: Kind) {
        if environments.contains_key(&kind) || !kind.is_available() {
            return;
        }
        match Environment::new(kind, programs, &[]) {
            Ok(environment) => {
                environments.insert(kind, environment);
            }
            Err(error) => self.failed(format!("{error:#}")),
        }
    }

    fn sample(
        &mut self,
        environments: &mut BTreeMap<Kind, Environment>,
        programs: &Programs,
        outer: &Outer,
        kind: Kind,
        row: &Row,
        time: Duration,
    ) -> Option<Sample> {
        self.need(environments, programs, kind);
        let environment = environments.get_mut(&kind)?;
        let begin = Instant::now();
        let load = Load::begin();
        let cpu = environment.stack.and_then(|pid| process::cpu_time(pid).ok());
        let outcome = match environment.run(outer, row.work, time, row.layout, false) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.failed(format!("{error:#}"));
                // It may have stopped for good: the next measurement starts it anew.
                environments.remove(&kind);
                return None;
            }
        };
        let used = environment.stack.and_then(|pid| process::cpu_time(pid).ok()).zip(cpu);
        let cpu =
            used.map(|(after, before)| (after - before).as_nanos() as f64 / outcome.amount.max(1) as f64);
        self.others.push(load.others(begin.elapsed()));
        Some(Sample { outcome, cpu })
    }

    /// The result of something beside the rounds, or a note of its failure.
    pub fn noted<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.failed(format!("{what}: {error:#}"))).ok()
    }

    /// Every byte of transfers compared, once in each network, without measuring.
    pub fn verify(&mut self, groups: &[Group], programs: &Programs) -> Result<usize> {
        let outer = Outer::new(programs)?;
        let mut environments = start(groups, programs, self);
        let mut verified = 0;
        for row in groups.iter().flat_map(|group| &group.rows) {
            if !matches!(row.work, Work::Download { .. } | Work::Upload { .. }) {
                continue;
            }
            for kind in row.kinds {
                self.need(&mut environments, programs, *kind);
                let Some(environment) = environments.get_mut(kind) else { continue };
                match environment.run(&outer, row.work, Duration::from_millis(100), row.layout, true) {
                    Ok(_) => verified += 1,
                    Err(error) => {
                        self.failed(format!("comparing every byte: {error:#}"));
                        environments.remove(kind);
                    }
                }
            }
        }
        Ok(verified)
    }

    fn samples(&self, at: (usize, usize), kind: Kind) -> &[Option<Sample>] {
        self.samples.get(&(at.0, at.1, kind)).map_or(&[], Vec::as_slice)
    }

    /// The figures of a network in a row.
    pub fn spread(
        &self,
        at: (usize, usize),
        kind: Kind,
        of: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.samples(at, kind).iter().flatten().filter_map(of))
    }

    /// The ratios of lastack to something, round by round.
    pub fn ratio(&self, groups: &[Group], at: (usize, usize), against: Against) -> Option<Spread> {
        let row = &groups[at.0].rows[at.1];
        let own = self.samples(at, row.kinds[0]);
        let rate = |kind: Kind, round: usize| -> Option<f64> {
            Some(self.samples(at, kind).get(round)?.as_ref()?.outcome.rate)
        };
        let ratios = own.iter().enumerate().filter_map(|(round, sample)| {
            let sample = sample.as_ref()?;
            let mine = sample.outcome.rate;
            Some(match against {
                Against::Peer(kind) => mine / rate(kind, round)?,
                Against::BestPeer => {
                    let peers =
                        [Kind::RunPasta, Kind::RunSlirp].into_iter().filter_map(|kind| rate(kind, round));
                    mine / peers.max_by(f64::total_cmp)?
                }
                Against::Floor => {
                    let floor = 1.0 / rate(Kind::Loopback, round)? + 1.0 / rate(Kind::Veth, round)?;
                    mine * floor
                }
                Against::OneStream(work) => {
                    let other = groups[at.0].rows.iter().position(|row| row.work == work)?;
                    let one = self.samples((at.0, other), row.kinds[0]).get(round)?.as_ref()?;
                    mine / one.outcome.rate
                }
                Against::CpuOf(kind) => sample.cpu? / self.samples(at, kind).get(round)?.as_ref()?.cpu?,
                Against::Fairness => sample.outcome.fairness?,
                Against::Delivery => {
                    let veth = self.samples(at, Kind::Veth).get(round)?.as_ref()?;
                    (1.0 - sample.outcome.loss?) / (1.0 - veth.outcome.loss?)
                }
            })
        });
        Spread::of(ratios)
    }

    /// The share of samples during which others used the CPUs, and the median of what they used.
    pub fn disturbed(&self) -> (f64, f64) {
        let many = self.others.iter().filter(|others| **others > OTHERS).count();
        let median = Spread::of(self.others.iter().copied()).map_or(0.0, |spread| spread.median);
        (many as f64 / self.others.len().max(1) as f64, median)
    }
}

/// CPU time of the machine and of this benchmark, at the beginning of a sample.
struct Load {
    machine: Duration,
    ours: Duration,
}

impl Load {
    fn begin() -> Self {
        let machine = process::machine_time().unwrap_or_default();
        Self { machine, ours: process::tree_time(std::process::id()) }
    }

    /// The share of all CPUs that others have used since.
    fn others(&self, elapsed: Duration) -> f64 {
        let now = Self::begin();
        let all = now.machine.saturating_sub(self.machine);
        let ours = now.ours.saturating_sub(self.ours);
        let capacity = elapsed.as_secs_f64() * process::cpus() as f64;
        all.saturating_sub(ours).as_secs_f64() / capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }
}
