//! Which transfers are made, and what is shown of them.

use crate::smoltcp;
use crate::transfer::{Path, jain, ours, share, transfer};
use crate::world::{Flow, Host};
use lastack_engine::{Algorithm, TcpConfig};
use std::fmt::Write;
use std::time::Duration;

/// How much is measured.
pub struct Effort {
    /// Bytes of a transfer.
    pub bytes: u64,
    /// The number of seeds of each transfer.
    pub seeds: u64,
    /// How long two connections share a path.
    pub shared: Duration,
    pub contenders: Vec<Contender>,
}

/// Who carries a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Cubic,
    Paced,
    Reno,
    NoSack,
    Smoltcp,
}

impl Contender {
    pub const ALL: [Self; 5] = [Self::Cubic, Self::Paced, Self::Reno, Self::NoSack, Self::Smoltcp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "lastack",
            Self::Paced => "paced",
            Self::Reno => "Reno",
            Self::NoSack => "no SACK",
            Self::Smoltcp => "smoltcp",
        }
    }

    fn hosts(self, flows: &[Flow], seed: u64) -> [Box<dyn Host>; 2] {
        match self {
            Self::Cubic => ours(|_| {})(flows, seed),
            Self::Paced => ours(|config| config.tcp.pacing = true)(flows, seed),
            Self::Reno => ours(|config| config.tcp.congestion = Algorithm::Reno)(flows, seed),
            Self::NoSack => ours(|config| config.tcp.sack = false)(flows, seed),
            Self::Smoltcp => {
                let TcpConfig { send_buffer, receive_buffer, .. } = TcpConfig::default();
                smoltcp::hosts([send_buffer, receive_buffer], flows, seed)
            }
        }
    }
}

const HEAD: &str = "# Goodput

What a transfer makes of a bad link, in virtual time: the same numbers on every machine. Made by
`UPDATE_DOCS=1 cargo bench --bench goodput`; do not edit.

The link carries 100 Mbit/s, and 50 ms of packets may wait before it. It loses packets at random, both
ways; *reordering* holds up 2 % of them by up to the one-way delay. One connection carries 20 MB. Each
number is the median of five seeds: Mbit/s from the SYN to the last byte, and in parentheses the share
of the bytes sent that went in vain or again.

- *lastack*: the defaults: CUBIC, SACK, RACK-TLP, timestamps.
- *paced*: the same with `TcpConfig::pacing`. *Reno*: as the first, with `Algorithm::Reno`. *no SACK*: as the
  first, to a peer without SACK.
- *smoltcp* 0.14 with CUBIC, and buffers as large as lastack's may become (4 MiB to send, 6 MiB to
  receive); otherwise as it comes: without SACK, which it does not send, and with at most four ranges
  out of order.
";

const SHARED: &str = "
## Two connections over one link

Over a minute; the second begins two seconds after the first. Mbit/s of each in the last 40 seconds, and
in parentheses Jain's index (1: the same, 0.5: all for one), medians of five seeds. Where two delays are
given the second is that of the second connection.

";

const TAIL: &str = "
## How to read it

- Random loss is no congestion, and neither CUBIC nor Reno knows: 1448 bytes / RTT * sqrt(1.5 / loss) is what
  standard TCP makes of it (Mathis et al., 1997): 0.7 Mbit/s for 1 % and 100 ms. `crates/sim/tests/goodput.rs` tests
  that no cell falls under half of that, that none stalls, and that two connections share a link.
- At 100 ms without loss the link could carry 20 MB in 1.6 s; the handshake and slow start take 1.7 s more.
- Slow start ends in an overflow where the queue is as long as here: HyStart++ sees the round-trip time grow, but five
  rounds of careful growth are too many. That is the share sent again without loss; without SACK, where a
  round trip repairs one segment, it costs up to two thirds of the time.
- Where segments are held up for half a round trip and others are lost, a repair that arrives makes the timestamps of
  those still held up too old (PAWS, RFC 7323 section 5), and they are sent again as well.
- Connections with a longer way get less, with CUBIC as with Reno. At 100 ms a minute is short for the second of two
  that are paced.
";

/// The paths of all tables: 100 Mbit/s.
const PATH: Path = Path { rate: 100, delay: 0, detour: 0, loss: 0.0, reorder: 0.0 };

/// The whole document.
pub fn all(effort: &Effort) -> String {
    let mut out = HEAD.to_owned();
    for (title, reorder) in [("Without reordering", 0.0), ("With reordering", 0.02)] {
        out += &format!("\n## {title}\n\n");
        out += &head(effort);
        for delay in [1, 20, 100] {
            for loss in [0.0, 0.001, 0.01, 0.05] {
                out += &row(effort, Path { delay, loss, reorder, ..PATH }, goodput);
            }
        }
    }
    out += SHARED;
    out += &head(effort);
    for (delay, detour) in [(1, 0), (20, 0), (100, 0), (20, 20), (20, 80)] {
        for loss in [0.0, 0.001] {
            out += &row(effort, Path { delay, detour, loss, ..PATH }, fairness);
        }
    }
    out + TAIL
}

fn head(effort: &Effort) -> String {
    let mut out = "| delay | loss |".to_owned();
    for contender in &effort.contenders {
        write!(out, " {} |", contender.name()).expect("a string takes all");
    }
    out + "\n|---:|---:|" + &"---:|".repeat(effort.contenders.len()) + "\n"
}

fn row(effort: &Effort, path: Path, cell: fn(Contender, Path, &Effort) -> String) -> String {
    let mut out = match path.detour {
        0 => format!("| {} ms | {} % |", path.delay, path.loss * 100.0),
        detour => format!("| {}, {} ms | {} % |", path.delay, path.delay + detour, path.loss * 100.0),
    };
    for contender in &effort.contenders {
        write!(out, " {} |", cell(*contender, path, effort)).expect("a string takes all");
    }
    out + "\n"
}

fn goodput(contender: Contender, path: Path, effort: &Effort) -> String {
    let bytes = effort.bytes;
    let hosts = |flows: &[Flow], seed| contender.hosts(flows, seed);
    let runs = (1..=effort.seeds).map(|seed| {
        let (took, outcome) = transfer(&hosts, path, bytes, seed);
        (bytes as f64 * 8e-6 / took.as_secs_f64(), 100.0 - 100.0 * bytes as f64 / outcome.sent as f64)
    });
    let (rates, again) = runs.unzip();
    format!("{:.2} ({:.1} %)", median(rates), median(again))
}

fn fairness(contender: Contender, path: Path, effort: &Effort) -> String {
    let hosts = |flows: &[Flow], seed| contender.hosts(flows, seed);
    let shares: Vec<_> = (1..=effort.seeds).map(|seed| share(&hosts, path, effort.shared, seed)).collect();
    let time = effort.shared.as_secs_f64() * 2.0 / 3.0;
    let rate = |flow: usize| median(shares.iter().map(|share| share[flow] * 8e-6 / time).collect());
    let index = median(shares.iter().map(|share| jain(*share)).collect());
    format!("{:.1} + {:.1} ({index:.2})", rate(0), rate(1))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
