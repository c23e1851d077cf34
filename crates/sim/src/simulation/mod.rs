//! Random hosts, paths and faults from one seed, and the invariants that must hold.
//!
//! Programs open connections in every way, write, read slowly or not at all, half-close, close, abort, linger and
//! die. Paths lose, duplicate, reorder, damage and delay packets, reduce their MTU, and are cut. Hosts
//! reboot, are suspended for hours, and run short of memory. After every step the stacks are checked
//! ([`Stack::check`](lastack_engine::Stack::check)), and the packets that they send; at the end, the data that every
//! program
//! has read and the ends of both sides.

mod app_profile;
mod application;
mod fault;
mod injected_bug;
mod invariants;
mod settings;
mod udp_traffic;
mod verdict;
mod world;

use crate::decode::Decoder;
use crate::trace::{Fate, PacketKind, Trace, What};
use lastack_engine::{Cause, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

pub use injected_bug::InjectedBug;

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed that determines the run.
    pub seed: u64,
    /// The violated invariants.
    pub violations: Vec<String>,
    /// The complete log.
    pub trace: Trace,
    /// The coverage of the run.
    pub met: Met,
}

/// The coverage of runs: a simulation without a reset shows nothing about resets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Number of runs.
    pub runs: u64,
    /// Number of packets sent.
    pub packets: u64,
    /// Bytes of data that arrived in sequence.
    pub bytes: u64,
    /// How often connections ended, by rule.
    pub ends: BTreeMap<Rule, u64>,
    /// The same, by cause.
    pub causes: BTreeMap<String, u64>,
    /// The rules by which a packet was answered, dropped or sent.
    pub rules: BTreeSet<Rule>,
}

impl Met {
    /// Adds the coverage of other runs.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.packets += other.packets;
        self.bytes += other.bytes;
        other.ends.into_iter().for_each(|(rule, count)| *self.ends.entry(rule).or_default() += count);
        other.causes.into_iter().for_each(|(cause, count)| *self.causes.entry(cause).or_default() += count);
        self.rules.extend(other.rules);
    }
}

/// Plays a seed.
pub fn play(seed: u64) -> Outcome {
    play_with_bug(seed, None)
}

/// Plays a seed with an injected bug.
pub fn play_with_bug(seed: u64, injected: Option<InjectedBug>) -> Outcome {
    let mut world = World::new(seed, injected);
    let failure =
        catch_unwind(AssertUnwindSafe(|| if world.run() { verdict::judge(&world) } else { Vec::new() }));
    let mut violations = std::mem::take(&mut world.invariants.accusations);
    match failure {
        Ok(wrong) => violations.extend(wrong),
        Err(panic) => violations.push(words(&*panic)),
    }
    let met = met(&world);
    Outcome { seed, violations, trace: world.net.into_trace(), met }
}

/// The message of a panic.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panics").to_owned()
}

fn met(world: &World) -> Met {
    let mut met = Met { runs: 1, packets: world.net.trace().packets.len() as u64, ..Met::default() };
    for end in &world.ends {
        let end = &end.ended;
        met.bytes += end.bytes.received;
        *met.ends.entry(end.end.rule).or_default() += 1;
        let cause = match end.end.cause {
            Cause::Unreachable(_) => "unreachable".to_owned(),
            cause => cause.to_string(),
        };
        *met.causes.entry(cause).or_default() += 1;
    }
    for record in &world.net.trace().packets {
        let verdict = match record.fate {
            Fate::Delivered { verdict, .. } => verdict.and_then(lastack_engine::Verdict::rule),
            Fate::InFlight | Fate::Lost(_) => None,
        };
        met.rules.extend(verdict.into_iter().chain(record.transmit.rule));
    }
    met
}

impl Outcome {
    /// The violations, how to reproduce them, and the last `lines` lines of the log.
    pub fn report(&self, lines: usize) -> String {
        let mut report = vec![format!("seed {} fails:", self.seed)];
        report.extend(self.violations.iter().map(|violation| format!("- {violation}")));
        report.push(format!("again: cargo run --release -p lastack-sim -- --seed {}", self.seed));
        let story = self.story();
        report.extend(story[story.len().saturating_sub(lines)..].iter().cloned());
        report.join("\n")
    }

    /// The log, one line per entry.
    pub fn story(&self) -> Vec<String> {
        let mut decoder = Decoder::default();
        let read: Vec<String> =
            self.trace.packets.iter().map(|record| decoder.read(record).to_string()).collect();
        let line = |entry: &crate::trace::Entry| {
            let at = entry.at.as_micros() as f64 / 1e6;
            let host = &self.trace.hosts[entry.host.index()].name;
            format!("{at:14.6} {host}: {}", self.tell(&entry.what, &read))
        };
        self.trace.entries.iter().map(line).collect()
    }

    fn tell(&self, what: &What, read: &[String]) -> String {
        let name = |index: &usize| {
            let record = &self.trace.packets[*index];
            let ends = crate::net::tcp_flow(&record.bytes).map(|flow| flow.to_string()).unwrap_or_default();
            let kind =
                if record.kind == PacketKind::Sent { String::new() } else { format!("{:?} ", record.kind) };
            let window =
                invariants::window(record).map(|window| format!(" win={window}")).unwrap_or_default();
            let rule = record.transmit.rule.map(|rule| format!(" by {rule}")).unwrap_or_default();
            (format!("{kind}{ends} {}{window}{rule}", read[*index]), record.fate)
        };
        match what {
            What::Sent(index) => {
                let (name, fate) = name(index);
                let lost = match fate {
                    Fate::Lost(loss) => format!(" ({loss})"),
                    Fate::InFlight | Fate::Delivered { .. } => String::new(),
                };
                format!("sends {name}{lost}")
            }
            What::Arrived(index) => {
                let (name, fate) = name(index);
                let verdict = match fate {
                    Fate::Delivered { verdict: Some(verdict), .. } => verdict.to_string(),
                    _ => String::new(),
                };
                format!("gets  {name}: {verdict}")
            }
            What::State { flow, state } => format!("{flow} {state}"),
            What::Application(text) => text.clone(),
            What::Ended(ended) => format!("{} ends: {:?}", ended.flow, ended.end),
            What::Restarted => "** restarts **".to_owned(),
            What::Path { cut } => format!("path cut: {cut}"),
        }
    }
}
