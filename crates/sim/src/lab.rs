//! The lab: what happens at the beginning and the end of connections, played and checked.
//!
//! A [`Scenario`] is a [`Script`]: what two applications do, and what must come of it. [`play`]
//! plays it with two stacks in virtual time, and looks whether it went as stated.

mod application;
mod expect;
mod forge;
mod scenarios;
mod script;
mod virtual_player;

pub use scenarios::SCENARIOS;
pub use script::{Call, Ending, Expected, FROM, Outcome, PORT, Reset, Script, Side, Step};

use crate::timeline::Timeline;
use crate::trace::Trace;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Something to be seen.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, in a line.
    pub summary: &'static str,
    /// What it belongs to.
    pub topic: Topic,
    /// Where to read about it.
    pub reference: &'static str,
    /// What is played.
    pub script: fn() -> Script,
}

/// What scenarios are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Nobody listens, or nobody answers.
    Refusal,
    /// Both sides finish with FIN.
    Release,
    /// One side gives up.
    Abort,
    /// One side has lost its state.
    HalfOpen,
    /// Somebody else interferes.
    Attack,
}

/// How a script is played.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The addresses of the two hosts.
    pub addresses: [IpAddr; 2],
    /// How long a packet takes.
    pub latency: Duration,
    /// What the initial sequence numbers follow from.
    pub seed: u64,
}

/// A scenario that was played.
#[derive(Clone, Debug)]
pub struct Played {
    /// Which.
    pub scenario: Scenario,
    /// What happened.
    pub trace: Trace,
    /// What was not as stated.
    pub differences: Vec<String>,
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Plays a scenario with two stacks in virtual time: the same on every run.
pub fn play(scenario: &Scenario, setup: &Setup) -> Played {
    let script = (scenario.script)();
    let (trace, result) = virtual_player::play(&script, setup);
    Played::new(scenario, &script, trace, result)
}

impl Played {
    /// What became of a script, whoever played it; `result` is what its steps came to.
    pub fn new(scenario: &Scenario, script: &Script, trace: Trace, result: Result<(), String>) -> Self {
        let mut differences: Vec<String> = result.err().into_iter().collect();
        differences.extend(expect::differences(script, &trace));
        Self { scenario: *scenario, trace, differences }
    }

    /// Whether it went as stated.
    pub fn as_stated(&self) -> bool {
        self.differences.is_empty()
    }

    /// It, as a picture.
    pub fn timeline(&self) -> Timeline {
        let Scenario { name, summary, reference, .. } = self.scenario;
        Timeline::new(&format!("{name}: {summary}"), Some(reference), &self.trace)
    }
}

impl Default for Setup {
    /// IPv4, ten milliseconds each way.
    fn default() -> Self {
        let addresses = [1, 2].map(|host| Ipv4Addr::new(192, 0, 2, host).into());
        Self { addresses, latency: Duration::from_millis(10), seed: 9293 }
    }
}

impl Setup {
    /// The same over IPv6.
    pub fn ipv6() -> Self {
        let addresses = [1, 2].map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
        Self { addresses, ..Self::default() }
    }
}

impl Topic {
    /// Its heading.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Refusal => "Nobody there",
            Self::Release => "Orderly release",
            Self::Abort => "Abort",
            Self::HalfOpen => "Half-open connections",
            Self::Attack => "Attacks",
        }
    }
}
