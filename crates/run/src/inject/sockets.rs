//! Faults of connections that are accepted from a socket of this host or of the program's network: those of
//! `--map-localhost` and of published ports. Where there are no packets, faults act on the data.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::act::{AtSyn, GRACE, Plan};
use super::gate::Gate;
use super::rule::{Ends, FaultRule, Kind};
use super::select::{self, Destination, Direction};
use super::{Flow, Injector};
use crate::relay::Side;

/// How a fault ends a connection between two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// These ends are reset, and the other does not notice.
    Reset(Ends),
    /// The remote is gone; the program is reset when it sends.
    HalfOpen {
        /// The remote's data up to the place of the fault was passed on last: the program's acknowledgment of it is
        /// what the remote answers.
        acknowledges: bool,
    },
}

/// What faults do to the next data of one direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnData {
    /// Nothing passes until this time since the run began, by this rule.
    pub stalled: Option<(usize, Duration)>,
    /// A FIN does not pass until this time, by this rule.
    pub cut: Option<(usize, Duration)>,
    /// The delay of the data.
    pub delay: Duration,
    /// The max rate in bytes per second.
    pub rate: Option<u64>,
    /// The rules that delay the data.
    pub late: Vec<usize>,
    /// How many bytes pass before another fault begins.
    pub room: Option<u64>,
}

impl Injector {
    /// The faults of a connection between two sockets that begins now.
    pub fn between_sockets(&self, flow: Flow, to: &Destination<'_>) -> Plan {
        self.accepted(flow, to, FaultRule::acts_on_sockets)
    }

    /// The faults of a connection from a socket to the program's address, through the stack.
    pub fn inward(&self, flow: Flow, to: &Destination<'_>) -> Plan {
        self.accepted(flow, to, |rule| !matches!(rule.kind, Kind::Unreach(_) | Kind::Dns(_)))
    }

    fn accepted(&self, flow: Flow, to: &Destination<'_>, acts: impl Fn(&FaultRule) -> bool) -> Plan {
        for (index, rule) in self.rules.iter().enumerate() {
            if !acts(rule) && !matches!(rule.kind, Kind::Dns(_)) && rule.select.destination(to) {
                self.missed[index].set(self.missed[index].get() + 1);
            }
        }
        if self.is_empty() {
            return Plan::default();
        }
        let chosen = self.choose(to, acts);
        self.table().enter(flow, &chosen);
        Plan::new(self, &chosen)
    }

    /// The packets of a connection have other addresses than were known when it began.
    pub fn move_to(&self, from: &Flow, to: Flow) {
        self.table().move_to(from, to);
    }

    /// Counts an action of a rule on this connection.
    pub fn acted(&self, flow: &Flow, rule: usize) {
        self.table().acted_on(flow, rule);
    }
}

impl Plan {
    /// As [`answer`](Self::answer), to a connection that the kernel has accepted: it is reset, or nothing happens for a
    /// while. Its data is delayed later.
    pub fn answer_to_socket(&self, injector: &Injector, flow: &Flow) -> Option<AtSyn> {
        let (_, first) = self.first(injector.elapsed())?;
        if matches!(first, AtSyn::Late(_)) { None } else { self.answer(injector, flow) }
    }

    /// Waits until a fault ends the connection. `passed` is the number of bytes that have passed from a side.
    pub async fn parting(
        &self,
        injector: &Injector,
        flow: &Flow,
        gate: &Gate,
        passed: impl Fn(Side) -> u64,
    ) -> Parting {
        let established = Instant::now();
        let fault = self.end(injector, gate, &passed).await;
        injector.acted(flow, fault.rule);
        sleep_until(established + GRACE).await;
        match fault.kind {
            Kind::Rst { to, .. } => Parting::Reset(to),
            _ => {
                let of_remote = fault.direction.includes(Direction::Down) && fault.after > 0;
                Parting::HalfOpen { acknowledges: of_remote && passed(Side::Remote) == fault.after }
            }
        }
    }

    /// What the faults do to the next data from a side. `bytes`: how many have passed from the program, and from the
    /// remote; `turn`: a number that is another for each piece of data.
    pub fn on_data(&self, injector: &Injector, from: Side, bytes: [u64; 2], turn: u64) -> OnData {
        let (way, own) = match from {
            Side::Program => (Direction::Up, bytes[0]),
            Side::Remote => (Direction::Down, bytes[1]),
        };
        let run = injector.elapsed();
        let mut effect = OnData::default();
        for fault in self.faults.iter().filter(|fault| fault.direction.includes(way) && fault.is_due(run)) {
            let reached = match fault.direction {
                Direction::Both => bytes[0].max(bytes[1]),
                _ => own,
            } >= fault.after;
            if !reached {
                let room = fault.after - own;
                effect.room = Some(effect.room.map_or(room, |other| other.min(room)));
                continue;
            }
            match fault.kind {
                Kind::Blackhole => effect.stalled = Some((fault.rule, fault.until)),
                Kind::CutFin => effect.cut = Some((fault.rule, fault.until)),
                Kind::Delay(delay, jitter) => {
                    let lot =
                        select::chance(injector.seed, fault.rule, turn * 2 + u64::from(from == Side::Remote));
                    effect.delay += delay + jitter.mul_f64(lot);
                    effect.late.push(fault.rule);
                }
                Kind::Rate(rate) => {
                    effect.rate = Some(effect.rate.map_or(rate, |other| other.min(rate)));
                    effect.late.push(fault.rule);
                }
                _ => {}
            }
        }
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Proto;

    fn flow() -> Flow {
        Flow::new(Proto::Tcp, "127.0.0.1:40000".parse().unwrap(), "127.0.0.1:5432".parse().unwrap())
    }

    fn plan(rules: &[&str]) -> (Injector, Plan) {
        let injector = Injector::new(rules.iter().map(|text| text.parse().unwrap()).collect(), 1);
        let to =
            Destination { proto: Proto::Tcp, remote: flow().remote, actual: None, name: Some("localhost") };
        let plan = injector.between_sockets(flow(), &to);
        (injector, plan)
    }

    #[test]
    fn a_fault_without_effect_on_sockets_is_counted_as_missed() {
        let rules =
            ["rst:port=5432", "corrupt=1%:to=localhost", "loss=1%:port=80", "dns=timeout", "rst:seq=window"];
        let (injector, plan) = plan(&rules);
        assert_eq!(plan.faults.len(), 1);
        let counts: Vec<(u64, u64)> =
            injector.summary().iter().map(|rule| (rule.matched, rule.missed)).collect();
        assert_eq!(counts, [(1, 0), (0, 1), (0, 0), (0, 0), (0, 1)]);
    }

    #[test]
    fn faults_act_on_data_from_their_byte_on() {
        let (injector, plan) =
            plan(&["blackhole:after=100:direction=up", "delay=50ms", "rate=1k", "cut-fin"]);
        let up = plan.on_data(&injector, Side::Program, [60, 500], 0);
        assert_eq!((up.room, up.stalled, up.delay), (Some(40), None, Duration::from_millis(50)));
        assert_eq!((up.rate, up.late), (Some(1024), vec![1, 2]));
        let stalled = plan.on_data(&injector, Side::Program, [100, 0], 1);
        assert_eq!((stalled.stalled, stalled.cut), (Some((0, Duration::MAX)), Some((3, Duration::MAX))));
        let down = plan.on_data(&injector, Side::Remote, [100, 0], 1);
        assert_eq!((down.stalled, down.room), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_open_connection_meets_its_acknowledgment_of_data_or_its_next_data() {
        let cases = [
            ("half-open:after=1000", [80, 1000], true),
            ("half-open:after=1000", [1000, 80], false),
            ("half-open:after=1000:direction=up", [1000, 1000], false),
            ("half-open", [0, 0], false),
        ];
        for (rule, passed, expected) in cases {
            let (injector, plan) = plan(&[rule]);
            let gate = Gate::default();
            plan.prepare(&gate, injector.elapsed());
            let of = |side| passed[usize::from(side == Side::Remote)];
            let parting = plan.parting(&injector, &flow(), &gate, of).await;
            assert_eq!(parting, Parting::HalfOpen { acknowledges: expected }, "{rule} {passed:?}");
        }
    }

    #[test]
    fn jitter_is_within_its_limit_and_repeats() {
        let (injector, plan) = plan(&["delay=10ms:jitter=10ms"]);
        let delays =
            |from| (0..50).map(|turn| plan.on_data(&injector, from, [0, 0], turn).delay).collect::<Vec<_>>();
        let up = delays(Side::Program);
        assert!(up.iter().all(|delay| (10..=20).contains(&delay.as_millis())), "{up:?}");
        assert_eq!(up, delays(Side::Program));
        assert_ne!(up, delays(Side::Remote));
    }

    #[test]
    fn what_the_kernel_has_accepted_is_reset_or_waits() {
        for (rule, refused) in [("refuse", true), ("rst:state=syn", true), ("blackhole:until=9s", false)] {
            let (injector, plan) = plan(&[rule]);
            let answer = plan.answer_to_socket(&injector, &flow());
            assert_eq!(matches!(answer, Some(AtSyn::Refuse)), refused, "{rule}");
            assert!(refused || matches!(answer, Some(AtSyn::Silence(_))), "{rule}");
            assert_eq!(injector.leave(&flow()).rules, [rule]);
        }
        let (injector, plan) = plan(&["delay=1s"]);
        assert!(plan.answer_to_socket(&injector, &flow()).is_none(), "its data is late");
        assert_eq!(injector.summary()[0].acted, 0);
    }
}
