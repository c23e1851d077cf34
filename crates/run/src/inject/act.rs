//! The effect of a fault on a connection as a whole: on its SYN, on its relay, at its end.

use std::sync::Arc;
use std::time::Duration;

use lastack::TcpStream;
use lastack_wire::icmp::IcmpError;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::gate::Gate;
use super::rule::{Ends, Kind, Seq};
use super::select::{Direction, State};
use super::{Flow, Injector};
use crate::relay::Side;

/// How long a reset waits for the preceding data to arrive.
const PATIENCE: Duration = Duration::from_secs(3);
/// Min delay of a reset after the connection is established: a program that sees the reset first would lose the data
/// before it.
const GRACE: Duration = Duration::from_millis(20);

/// The faults for one connection.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    faults: Vec<Planned>,
}

#[derive(Clone, Debug)]
struct Planned {
    rule: usize,
    kind: Kind,
    direction: Direction,
    after: u64,
    state: Option<State>,
    from: Duration,
    until: Duration,
}

/// The answer to the SYN.
#[derive(Clone, Copy, Debug)]
pub enum AtSyn {
    /// RST.
    Refuse,
    /// An ICMP error.
    Unreachable(super::rule::Code),
    /// No answer, until this time since the run began.
    Silence(Duration),
}

impl AtSyn {
    /// The ICMP error, if it is one; datagrams are refused by one, too.
    pub fn icmp(self, v6: bool) -> Option<IcmpError> {
        match self {
            Self::Refuse => Some(IcmpError::port_unreachable(v6)),
            Self::Unreachable(code) => Some(code.error(v6)),
            Self::Silence(_) => None,
        }
    }
}

/// Which side of a connection that a fault has ended is kept open silently until the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Neither.
    Neither,
    /// The program's.
    Program,
    /// The remote's.
    Remote,
}

impl Plan {
    pub(super) fn new(injector: &Injector, flow: Flow, chosen: &[usize]) -> Self {
        let planned = |&rule: &usize| {
            let of = &injector.rules[rule];
            Planned {
                rule,
                kind: of.kind.clone(),
                direction: of.select.direction,
                after: of.select.after,
                state: of.select.state,
                from: of.select.from,
                until: of.select.until,
            }
        };
        let _ = flow;
        Self { faults: chosen.iter().map(planned).collect() }
    }

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The answer to the SYN, or to the first datagram, and its rule; `None`: the remote answers.
    fn first(&self, run: Duration) -> Option<(usize, AtSyn)> {
        self.faults.iter().find_map(|fault| {
            let answer = match &fault.kind {
                Kind::Refuse => AtSyn::Refuse,
                Kind::Unreach(code) => AtSyn::Unreachable(*code),
                Kind::Rst { to: Ends::Program | Ends::Both, seq: Seq::Exact }
                    if fault.state == Some(State::Syn) =>
                {
                    AtSyn::Refuse
                }
                Kind::Blackhole if fault.after == 0 && (fault.from..=fault.until).contains(&run) => {
                    AtSyn::Silence(fault.until)
                }
                _ => return None,
            };
            Some((fault.rule, answer))
        })
    }

    /// As [`answer`](Self::answer), for tests.
    #[cfg(test)]
    pub fn at_syn(&self) -> Option<AtSyn> {
        self.first(Duration::ZERO).map(|(_, answer)| answer)
    }

    /// The answer to the SYN, or to the first datagram; `None`: the remote answers. Counts it.
    pub fn answer(&self, injector: &Injector, flow: &Flow) -> Option<AtSyn> {
        let (rule, answer) = self.first(injector.began.elapsed())?;
        injector.table().acted_on(flow, rule);
        Some(answer)
    }

    /// Configures the gate of the relay.
    pub fn prepare(&self, gate: &Gate) {
        for fault in &self.faults {
            let sides = [(Side::Program, Direction::Up), (Side::Remote, Direction::Down)];
            for (side, way) in sides.into_iter().filter(|(_, way)| fault.direction.includes(*way)) {
                match &fault.kind {
                    Kind::SlowClose(time) => gate.delay_fin(side, *time),
                    Kind::Rst { seq: Seq::Exact, .. } if fault.state == Some(State::Fin) => {
                        gate.stop_fin(side)
                    }
                    Kind::Rst { seq: Seq::Exact, .. } | Kind::HalfOpen => gate.limit(side, fault.after),
                    // A zero window towards the remote: its data is no longer read.
                    Kind::ZeroWindow if way == Direction::Down && fault.direction == way => {
                        gate.limit(side, fault.after);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Waits until a fault ends the connection, and ends it. Returns which side is kept open silently.
    ///
    /// `reset_remote` makes the close of the host's socket a reset.
    pub async fn act(
        &self,
        injector: &Injector,
        flow: &Flow,
        gate: &Gate,
        program: &TcpStream,
        reset_remote: impl Fn(),
    ) -> Held {
        let established = Instant::now();
        for slow in self.faults.iter().filter(|fault| matches!(fault.kind, Kind::SlowClose(_))) {
            injector.table().acted_on(flow, slow.rule);
        }
        let ends =
            |fault: &&Planned| matches!(fault.kind, Kind::Rst { seq: Seq::Exact, .. } | Kind::HalfOpen);
        let Some(fault) = self.faults.iter().find(ends) else {
            return std::future::pending().await;
        };
        gate.reached().await;
        injector.table().acted_on(flow, fault.rule);
        match &fault.kind {
            Kind::Rst { to, .. } => {
                if *to != Ends::Remote {
                    // The connection is over in any case, and data before the reset should arrive.
                    let _late = timeout(PATIENCE, program.drained()).await;
                    sleep_until(established + GRACE).await;
                    program.abort();
                }
                if *to != Ends::Program {
                    reset_remote();
                }
                match to {
                    Ends::Both => Held::Neither,
                    Ends::Program => Held::Remote,
                    Ends::Remote => Held::Program,
                }
            }
            _ => {
                let _late = timeout(PATIENCE, program.drained()).await;
                let notice: Arc<Notify> = injector.table().forget(flow);
                reset_remote();
                notice.notified().await;
                program.abort();
                Held::Neither
            }
        }
    }
}
