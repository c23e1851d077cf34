//! Which connections and packets a fault applies to: pure functions of their properties.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::report::Proto;
use crate::target::Target;

/// The properties by which a connection or a flow of datagrams is selected when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// Its protocol.
    pub proto: Proto,
    /// The destination of the program.
    pub remote: SocketAddr,
    /// The real destination, if the program's address stands for another: the host's loopback, a name server.
    pub actual: Option<IpAddr>,
    /// The name that was resolved to the address for the program.
    pub name: Option<&'a str>,
}

/// The conditions of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// Only to these networks and names; empty for all.
    pub to: Vec<Target>,
    /// Only to these ports; empty for all.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Only of this protocol.
    pub proto: Option<Proto>,
    /// Only these of the connections that match all of the above, counted from 1.
    pub when: When,
    /// The probability that a selected connection, or, for packet faults, a packet, is hit.
    pub probability: f64,
    /// Not before this time since the run began.
    pub from: Duration,
    /// Not after this time since the run began.
    pub until: Duration,
    /// Only this direction.
    pub direction: Direction,
    /// Only after this number of bytes has passed in that direction.
    pub after: u64,
    /// Only in this state of the connection.
    pub state: Option<State>,
}

/// The direction of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the program.
    Up,
    /// To the program.
    Down,
    /// Both directions.
    #[default]
    Both,
}

/// A state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Before the handshake is complete.
    Syn,
    /// After the handshake.
    Established,
    /// When a FIN is due.
    Fin,
}

/// Which of the selected connections: `3`, `2..10`, `2..10+2`, `4..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    first: u64,
    last: u64,
    step: u64,
}

impl Default for When {
    fn default() -> Self {
        Self { first: 1, last: u64::MAX, step: 1 }
    }
}

impl When {
    /// Whether the connection with this number is selected, counted from 1.
    pub fn contains(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number) && (number - self.first).is_multiple_of(self.step)
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a connection number: write 3, 2..10, 2..10+2 or 4..");
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(wrong);
        let Some((first, rest)) = text.split_once("..") else {
            let number = number(text)?;
            return Ok(Self { first: number, last: number, step: 1 });
        };
        let (last, step) = rest.split_once('+').unwrap_or((rest, "1"));
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        let (first, step) = (number(first)?, number(step)?);
        if first > last {
            let what = "is empty, as its first number is the greater one";
            return Err(format!("{text:?} {what}: write {last}..{first}"));
        }
        Ok(Self { first, last, step })
    }
}

impl Default for Select {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            ports: Vec::new(),
            proto: None,
            when: When::default(),
            probability: 1.0,
            from: Duration::ZERO,
            until: Duration::MAX,
            direction: Direction::Both,
            after: 0,
            state: None,
        }
    }
}

impl Select {
    /// Whether the destination matches. Connection number, probability and time are checked separately.
    pub fn destination(&self, to: &Destination<'_>) -> bool {
        let port = to.remote.port();
        let meant = |target: &Target| {
            target.contains(to.remote.ip(), to.name)
                || to.actual.is_some_and(|actual| target.contains(actual, None))
        };
        self.proto.is_none_or(|proto| proto == to.proto)
            && (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port)))
            && (self.to.is_empty() || self.to.iter().any(meant))
    }

    /// Whether this time since the run began matches.
    pub fn time(&self, now: Duration) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

impl Direction {
    /// Whether this direction matches.
    pub fn includes(self, way: Self) -> bool {
        self == Self::Both || self == way
    }
}

/// A pseudorandom number, the same for the same seed, rule and turn.
pub fn chance(seed: u64, rule: usize, turn: u64) -> f64 {
    // SplitMix64: each input bit affects half of the output bits on average.
    let mut x = seed
        ^ (rule as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ turn.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Both => "both",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(select: &Select, remote: &str, name: Option<&str>) -> bool {
        let remote = remote.parse().unwrap();
        select.destination(&Destination { proto: Proto::Tcp, remote, actual: None, name })
    }

    #[test]
    fn destinations_are_addresses_networks_names_and_ports() {
        let select = Select {
            to: vec!["192.0.2.0/24".parse().unwrap(), "*.example.org".parse().unwrap()],
            ports: vec![5432..=5432, 8000..=8080],
            ..Select::default()
        };
        assert!(selected(&select, "192.0.2.7:5432", None) && selected(&select, "192.0.2.7:8001", None));
        assert!(!selected(&select, "192.0.2.7:80", None) && !selected(&select, "198.51.100.7:5432", None));
        assert!(selected(&select, "198.51.100.7:5432", Some("db.example.org")));
        assert!(selected(&Select::default(), "[2001:db8::1]:1", None), "without conditions, all");
        let udp = Select { proto: Some(Proto::Udp), ..Select::default() };
        assert!(!selected(&udp, "192.0.2.7:53", None));
    }

    #[test]
    fn connections_have_numbers() {
        let of = |text: &str| {
            let when: When = text.parse().unwrap();
            (1..=12).filter(|&number| when.contains(number)).collect::<Vec<u64>>()
        };
        assert_eq!(of("3"), [3]);
        assert_eq!(of("2..4"), [2, 3, 4]);
        assert_eq!(of("2..10+3"), [2, 5, 8]);
        assert_eq!(of("11.."), [11, 12]);
        for wrong in ["", "0", "x", "1..9+0", "-1"] {
            assert!(wrong.parse::<When>().unwrap_err().contains("2..10+2"), "{wrong}");
        }
    }

    #[test]
    fn chance_is_even_and_repeats() {
        let draws: Vec<f64> = (0..10_000).map(|turn| chance(7, 0, turn)).collect();
        assert_eq!(chance(7, 0, 5).to_bits(), draws[5].to_bits());
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let hits = draws.iter().filter(|draw| **draw < 0.3).count();
        assert!((2800..3200).contains(&hits), "{hits}");
        assert_ne!(chance(7, 1, 5).to_bits(), draws[5].to_bits(), "rules do not depend on each other");
    }

    #[test]
    fn time_is_a_window() {
        let select =
            Select { from: Duration::from_secs(2), until: Duration::from_secs(5), ..Select::default() };
        assert_eq!([1, 2, 5, 6].map(|s| select.time(Duration::from_secs(s))), [false, true, true, false]);
    }
}
