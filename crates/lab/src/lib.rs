//! The lab: what happens at the beginning and the end of connections, played and checked.
//!
//! A [`Scenario`] is a [`Script`]: what two applications do, and what must come of it. [`play`]
//! plays it with two stacks in virtual time, and looks whether it went as stated.

mod application;
mod expect;
mod forge;
mod player;
mod scenarios;
mod script;
pub mod timeline;

pub use player::{Counterpart, Job};
pub use scenarios::SCENARIOS;
pub use script::{Call, Ending, Expected, FROM, Outcome, PORT, Reset, Script, Side, Step};

use crate::timeline::Timeline;
use lastack_sim::trace::Trace;
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
    /// Whether the host on the right takes part. If not, it does not matter who plays it.
    pub two_sided: bool,
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
    /// How long TIME-WAIT lasts at the left side.
    pub time_wait: Duration,
    /// How long the hosts are watched after the last step: longer than TIME-WAIT.
    pub aftermath: Duration,
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
    play_with(scenario, setup, &mut player::Virtual::default())
}

/// Plays a scenario with somebody else as the host on the right side.
pub fn play_with(scenario: &Scenario, setup: &Setup, other: &mut impl Counterpart) -> Played {
    let script = (scenario.script)();
    let (trace, result) = player::play(&script, setup, other);
    let mut differences: Vec<String> = result.err().into_iter().collect();
    differences.extend(expect::differences(&script, &trace));
    Played { scenario: *scenario, trace, differences }
}

impl Played {
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
        Self {
            addresses,
            latency: Duration::from_millis(10),
            seed: 9293,
            time_wait: Duration::from_secs(60),
            aftermath: Duration::from_secs(150),
        }
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
