//! The lab: scenarios of how connections begin and end, played and checked.
//!
//! A [`Scenario`] is a [`Script`]: the calls of two applications and the expected result. [`play`]
//! plays it with two stacks in virtual time, and compares the result.

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

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// A summary in one line.
    pub summary: &'static str,
    /// Its topic.
    pub topic: Topic,
    /// The section of an RFC or other reference.
    pub reference: &'static str,
    /// Whether the host on the right takes part. If not, its implementation does not matter.
    pub two_sided: bool,
    /// The script.
    pub script: fn() -> Script,
}

/// The topics of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// There is no listener, or no answer.
    Refusal,
    /// Both sides finish with FIN.
    Release,
    /// One side aborts.
    Abort,
    /// One side has lost its state.
    HalfOpen,
    /// A third party interferes.
    Attack,
}

/// The settings for playing a script.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The addresses of the two hosts.
    pub addresses: [IpAddr; 2],
    /// The one-way delay of a packet.
    pub latency: Duration,
    /// The seed of the initial sequence numbers.
    pub seed: u64,
    /// The duration of TIME-WAIT at the left side.
    pub time_wait: Duration,
    /// How long the hosts are observed after the last step: longer than TIME-WAIT.
    pub aftermath: Duration,
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct Played {
    /// The scenario.
    pub scenario: Scenario,
    /// The log.
    pub trace: Trace,
    /// The differences from the expected result.
    pub differences: Vec<String>,
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Plays a scenario with two stacks in virtual time: the same on every run.
pub fn play(scenario: &Scenario, setup: &Setup) -> Played {
    play_with(scenario, setup, &mut player::Virtual::default())
}

/// Plays a scenario with another implementation as the host on the right side.
pub fn play_with(scenario: &Scenario, setup: &Setup, other: &mut impl Counterpart) -> Played {
    let script = (scenario.script)();
    let (trace, result) = player::play(&script, setup, other);
    let mut differences: Vec<String> = result.err().into_iter().collect();
    differences.extend(expect::differences(&script, &trace));
    Played { scenario: *scenario, trace, differences }
}

impl Played {
    /// Whether the result was as expected.
    pub fn as_stated(&self) -> bool {
        self.differences.is_empty()
    }

    /// The result as a timeline.
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
            Self::Refusal => "No listener",
            Self::Release => "Orderly release",
            Self::Abort => "Abort",
            Self::HalfOpen => "Half-open connections",
            Self::Attack => "Attacks",
        }
    }
}
