//! The effect of a fault on a connection as a whole: on its SYN, on its relay, at its end.

use std::future::pending;
use std::time::Duration;

use lastack::TcpStream;
use lastack_wire::icmp::IcmpError;
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
pub(crate) const GRACE: Duration = Duration::from_millis(20);

/// The faults for one connection.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(super) faults: Box<[Planned]>,
}

#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) rule: usize,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) after: u64,
    state: Option<State>,
    from: Duration,
    pub(super) until: Duration,
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
    /// It is delayed until this time since the run began.
    Late(Duration),
}

impl Planned {
    /// Whether it ends a relayed connection.
    fn ends(&self) -> bool {
        matches!(self.kind, Kind::Rst { seq: Seq::Exact, .. } | Kind::HalfOpen)
    }

    /// Whether it applies to the packet that begins a connection or flow.
    fn is_of_first(&self, run: Duration) -> bool {
        self.after == 0 && self.is_due(run)
    }

    /// Whether this time since the run began is within its time.
    pub(super) fn is_due(&self, run: Duration) -> bool {
        (self.from..=self.until).contains(&run)
    }
}

impl AtSyn {
    /// The ICMP error, if it is one; datagrams are refused by one, too.
    pub fn icmp(self, v6: bool) -> Option<IcmpError> {
        match self {
            Self::Refuse => Some(IcmpError::port_unreachable(v6)),
            Self::Unreachable(code) => Some(code.error(v6)),
            Self::Silence(_) | Self::Late(_) => None,
        }
    }
}

/// Which side of a connection that a fault has ended does not know that: what it sends is answered with a reset.
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
    pub(super) fn new(injector: &Injector, chosen: &[usize]) -> Self {
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
        Self { faults: chosen.iter().map(planned).collect() }
    }

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether packets may be duplicated.
    pub fn duplicates(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.kind, Kind::Duplicate(_)))
    }

    /// The answer to the SYN, or to the first datagram, and its rule; `None`: the remote answers.
    pub(super) fn first(&self, run: Duration) -> Option<(usize, AtSyn)> {
        self.faults.iter().find_map(|fault| {
            let answer = match &fault.kind {
                Kind::Refuse => AtSyn::Refuse,
                Kind::Unreach(code) => AtSyn::Unreachable(*code),
                Kind::Rst { to: Ends::Program | Ends::Both, seq: Seq::Exact }
                    if fault.state == Some(State::Syn) =>
                {
                    AtSyn::Refuse
                }
                _ if fault.direction == Direction::Down && fault.kind != Kind::Blackhole => return None,
                Kind::Blackhole if fault.is_of_first(run) => AtSyn::Silence(fault.until),
                Kind::Loss(share) if *share >= 1.0 && fault.is_of_first(run) => AtSyn::Silence(fault.until),
                // On the way to the program packets are delayed at the link.
                Kind::Delay(delay, _) if fault.is_of_first(run) => AtSyn::Late(run + *delay),
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

    /// Configures the gate of the relay for this time since the run began.
    pub fn prepare(&self, gate: &Gate, run: Duration) {
        gate.open();
        for fault in self.faults.iter().filter(|fault| fault.is_due(run)) {
            let sides = [(Side::Program, Direction::Up), (Side::Remote, Direction::Down)];
            for (side, _) in sides.into_iter().filter(|(_, way)| fault.direction.includes(*way)) {
                match &fault.kind {
                    Kind::SlowClose(time) => gate.delay_fin(side, *time),
                    Kind::Rst { seq: Seq::Exact, .. } if fault.state == Some(State::Fin) => {
                        gate.stop_fin(side);
                    }
                    Kind::Rst { seq: Seq::Exact, .. } | Kind::HalfOpen => gate.limit(side, fault.after),
                    // The program's data is not accepted, or (direction=down) the remote's not read.
                    Kind::ZeroWindow => gate.limit(side, fault.after),
                    _ => {}
                }
            }
        }
    }

    /// Configures the gate again when the time of a fault begins or ends.
    async fn follow_time(&self, injector: &Injector, gate: &Gate) {
        let now = injector.began.elapsed();
        let times = self.faults.iter().flat_map(|fault| [fault.from, fault.until]);
        let Some(next) = times.filter(|time| *time > now).min() else { return pending().await };
        match injector.began.checked_add(next) {
            // The time that ends a fault belongs to it.
            Some(at) => sleep_until(Instant::from_std(at) + Duration::from_millis(1)).await,
            None => return pending().await,
        }
        self.prepare(gate, injector.began.elapsed());
        gate.has_changed();
    }

    /// Waits for the fault that ends the connection: its place is reached, or its time has come when the connection has
    /// passed that place.
    pub(super) async fn end(
        &self,
        injector: &Injector,
        gate: &Gate,
        passed: impl Fn(Side) -> u64,
    ) -> &Planned {
        loop {
            let run = injector.began.elapsed();
            let ends = self.faults.iter().find(|fault| fault.ends() && fault.is_due(run));
            let past = |side| gate.room(side, passed(side)) == 0;
            match ends {
                Some(fault) if past(Side::Program) || past(Side::Remote) => return fault,
                Some(fault) => tokio::select! {
                    () = gate.reached() => return fault,
                    () = self.follow_time(injector, gate) => {}
                },
                None => self.follow_time(injector, gate).await,
            }
        }
    }

    /// At the end of the relay: counts the faults that have delayed a FIN, or left data unread. Packets, if there are any,
    /// show that the program's data was not accepted, and the other faults.
    pub fn count_at_end(&self, injector: &Injector, flow: &Flow, gate: &Gate, packets: bool) {
        let unread = |fault: &Planned, way, side| fault.direction.includes(way) && gate.has_stopped(side);
        let acted = |fault: &&Planned| match fault.kind {
            Kind::SlowClose(_) => gate.fin_was_late(),
            Kind::ZeroWindow => {
                unread(fault, Direction::Down, Side::Remote)
                    || !packets && unread(fault, Direction::Up, Side::Program)
            }
            _ => false,
        };
        for fault in self.faults.iter().filter(acted) {
            injector.table().acted_on(flow, fault.rule);
        }
    }

    /// Waits until a fault ends the connection, and ends it. Returns which side does not know that.
    ///
    /// `passed` is the number of bytes that have been relayed from a side; `reset_remote` makes the close of the host's
    /// socket a reset.
    pub async fn act(
        &self,
        injector: &Injector,
        flow: &Flow,
        gate: &Gate,
        program: &TcpStream,
        passed: impl Fn(Side) -> u64,
        reset_remote: impl Fn(),
    ) -> Held {
        let (established, begun) = (Instant::now(), injector.elapsed());
        let fault = self.end(injector, gate, &passed).await;
        injector.table().acted_on(flow, fault.rule);
        match &fault.kind {
            Kind::Rst { to: to @ (Ends::Program | Ends::Both), .. } => {
                sleep_until(established + GRACE).await;
                // The connection has ended in any case, and data before the reset should arrive. Nothing is relayed
                // between the last acknowledgment and the reset.
                let _late = timeout(PATIENCE, program.drained()).await;
                program.abort();
                if *to == Ends::Program {
                    return Held::Remote;
                }
                reset_remote();
                Held::Neither
            }
            _ => {
                injector.table().forget(flow, fault.rule, passed(Side::Remote), begun + GRACE);
                reset_remote();
                Held::Program
            }
        }
    }
}
