//! What is played: rows of the catalogue of resets, as data.

mod arrivals;
mod closed;
mod closing;
mod counters;
pub mod errno;
mod icmp;
mod info;
mod kill;
mod opening;
mod release;
mod resets;
mod time_wait;
mod timers;
mod user;

use std::fmt;

use crate::notation::{self, Step};

/// Name, ids of the rules it is about, script.
type Row = (&'static str, &'static str, &'static str);

/// The settings of both stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// Linux' defaults; no SYN cookies.
    Usual,
    /// Few retries and short times; a full accept queue refuses.
    Short,
    /// Small receive buffers.
    Small,
}

impl Settings {
    pub const ALL: [Self; 3] = [Self::Usual, Self::Short, Self::Small];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What is compared with Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Engine,
    /// The sockets over the engine.
    Sockets,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub layer: Layer,
    pub rules: String,
    pub settings: Settings,
    /// It has a namespace of its own.
    pub alone: bool,
    pub families: &'static [Family],
    pub steps: Vec<Step>,
}

impl Scenario {
    fn new(
        families: &'static [Family],
        settings: Settings,
        (name, rules, script): (&str, &str, &str),
    ) -> Self {
        let (name, rules) = (name.to_owned(), rules.to_owned());
        Self {
            name,
            layer: Layer::Engine,
            rules,
            settings,
            alone: false,
            families,
            steps: notation::parse(script),
        }
    }

    /// The sockets play it.
    fn at_sockets(self) -> Self {
        Self { layer: Layer::Sockets, ..self }
    }

    fn both(row: &Row) -> Self {
        Self::new(&Family::ALL, Settings::Usual, *row)
    }

    fn v4(row: &Row) -> Self {
        Self::new(&[Family::V4], Settings::Usual, *row)
    }

    fn v6(row: &Row) -> Self {
        Self::new(&[Family::V6], Settings::Usual, *row)
    }

    fn small(row: &Row) -> Self {
        Self::new(&Family::ALL, Settings::Small, *row)
    }

    fn short(row: &Row) -> Self {
        Self::new(&Family::ALL, Settings::Short, *row)
    }
}

/// Every scenario, in the order of the catalogue.
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for rows in [
        closed::NEVER,
        closed::CLOSED,
        closed::LISTEN,
        opening::SYN_SENT,
        opening::SYN_RECEIVED,
        opening::SIMULTANEOUS,
        arrivals::SYN,
        arrivals::ACK,
        arrivals::TEXT,
        arrivals::TIMESTAMPS,
        closing::CLOSE,
        closing::ABORT,
        closing::AFTER_CLOSE,
        closing::LISTENER,
        kill::KILL,
        kill::LINGER2,
        resets::ESTABLISHED,
        resets::STATES,
        resets::EXTENSIONS,
        user::ERRORS,
        user::CONNECT,
        user::HALF_OPEN,
        release::ORDER,
        release::EARLY,
        time_wait::SEGMENTS,
        time_wait::REOPEN,
        timers::KEEPALIVE,
        timers::USER_TIMEOUT,
    ] {
        all.extend(rows.iter().map(Scenario::both));
    }
    all.extend(closed::NEVER_V4.iter().map(Scenario::v4));
    all.extend(closed::NEVER_V6.iter().map(Scenario::v6));
    all.extend(timers::SHORT.iter().map(Scenario::short));
    all.extend(resets::SHUT.iter().map(Scenario::small));
    all.extend(icmp::scenarios());
    all.extend(errno::scenarios());
    all.extend(info::scenarios());
    all.extend(counters::scenarios());
    all
}
