//! Fault injection (`--inject`): the rules ([`FaultRule`]), which connections they apply to ([`Select`], a pure
//! function of the connection's properties), and their effect: on the relay of a connection ([`Gate`]), or on its
//! packets ([`Faults`], a link around the program's device).

mod act;
mod file;
mod gate;
mod help;
mod kinds;
mod packets;
mod replies;
mod rule;
mod select;
mod sockets;
mod table;

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) use act::GRACE;
pub use act::{AtSyn, Held, Plan};
pub use file::read as read_file;
pub use gate::Gate;
pub use help::help;
pub use packets::Faults;
pub(crate) use rule::ports;
pub use rule::{Code, DnsFault, Ends, FaultRule, Kind, NOT_ON_SOCKETS, Seq};
pub use select::{Destination, Direction, Select, State, When};
pub use sockets::{OnData, Parting};
pub use table::Flow;

use crate::report::{Began, Injected, Proto};
use table::Table;

/// What the faults did to a connection or flow that is over.
#[derive(Debug, Default)]
pub struct Acted {
    /// The rules that acted on it.
    pub rules: Vec<String>,
    /// Datagrams of the program that were lost at the link.
    pub swallowed: u64,
    /// Datagrams to the program that were lost or damaged.
    pub lost: u64,
    /// The time of the last packet that a fault was considered for.
    pub last: Option<jiff::Timestamp>,
}

/// The injected faults of a run.
#[derive(Debug)]
pub struct Injector {
    rules: Arc<[FaultRule]>,
    /// The number of connections that each rule matched, which `when` refers to.
    matched: Vec<Cell<u64>>,
    /// The number of connections that each would have matched, and on which it cannot act.
    missed: Vec<Cell<u64>>,
    /// The number of those that `when` and `probability` selected.
    selected: Vec<Cell<u64>>,
    seed: u64,
    began: Instant,
    began_wall: Began,
    table: Arc<Mutex<Table>>,
}

impl Injector {
    /// From these rules. The same seed hits the same connections and packets.
    pub fn new(rules: Vec<FaultRule>, seed: u64) -> Self {
        let rules: Arc<[FaultRule]> = rules.into();
        let began_wall = Began::now();
        let began = began_wall.clock();
        let table = Arc::new(Mutex::new(Table::new(rules.clone(), seed)));
        let counts = || vec![Cell::new(0); rules.len()];
        Self {
            matched: counts(),
            selected: counts(),
            missed: counts(),
            rules,
            seed,
            began,
            began_wall,
            table,
        }
    }

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules that apply to a connection or flow that begins now; counts it for each rule that matches it.
    fn choose(&self, to: &Destination<'_>, applies: impl Fn(&FaultRule) -> bool) -> Vec<usize> {
        let mut chosen = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if !applies(rule) || !rule.select.destination(to) {
                continue;
            }
            let now = self.began.elapsed();
            // The time of other faults is checked when they act, which may be later.
            if now > rule.select.until || rule.is_of_syn() && now < rule.select.from {
                continue;
            }
            if self.is_selected(index, rule) {
                chosen.push(index);
            }
        }
        chosen
    }

    /// Counts a connection or query that the rule matches: do `when` and `probability` select it?
    fn is_selected(&self, index: usize, rule: &FaultRule) -> bool {
        let number = self.matched[index].get() + 1;
        self.matched[index].set(number);
        let lot = select::chance(self.seed, index, number);
        let selected = rule.select.when.contains(number) && lot < rule.select.probability;
        self.selected[index].set(self.selected[index].get() + u64::from(selected));
        selected
    }

    /// The faults of a connection that begins now.
    pub fn connection(&self, flow: Flow, actual: Option<std::net::IpAddr>, name: Option<&str>) -> Plan {
        if self.is_empty() {
            return Plan::default();
        }
        self.begin(flow, actual, name, |rule| !matches!(rule.kind, Kind::Dns(_)))
    }

    /// The faults of a ping that begins now.
    pub fn ping(&self, flow: Flow, actual: std::net::IpAddr, name: Option<&str>) -> Plan {
        if self.is_empty() {
            return Plan::default();
        }
        self.begin(flow, Some(actual), name, FaultRule::is_of_pings)
    }

    fn begin(
        &self,
        flow: Flow,
        actual: Option<std::net::IpAddr>,
        name: Option<&str>,
        applies: impl Fn(&FaultRule) -> bool,
    ) -> Plan {
        let to = Destination { proto: flow.proto, remote: flow.remote, actual, name };
        let chosen = self.choose(&to, applies);
        self.table().enter(flow, &chosen);
        Plan::new(self, &chosen)
    }

    /// Whether a rule may answer DNS queries.
    pub fn answers_questions(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.kind, Kind::Dns(_)))
    }

    /// The fault of a DNS query for this name, and its rule.
    pub fn question(&self, name: &str) -> Option<(DnsFault, String)> {
        for (index, rule) in self.rules.iter().enumerate() {
            let Kind::Dns(fault) = rule.kind else { continue };
            let meant =
                rule.select.to.is_empty() || rule.select.to.iter().any(|target| target.contains_name(name));
            if !meant || !rule.select.time(self.began.elapsed()) {
                continue;
            }
            if self.is_selected(index, rule) {
                self.table().acted(index);
                return Some((fault, rule.text().to_owned()));
            }
        }
        None
    }

    /// Removes a connection that has ended.
    pub fn leave(&self, flow: &Flow) -> Acted {
        if self.is_empty() {
            return Acted::default();
        }
        let effect = self.table().leave(flow);
        let rules = effect.rules.into_iter().map(|index| self.rules[index].text().to_owned()).collect();
        let last = effect.last.map(|last| self.began_wall.after(last));
        Acted { rules, swallowed: effect.swallowed, lost: effect.lost, last }
    }

    /// The effect of each rule.
    pub fn summary(&self) -> Vec<Injected> {
        let table = self.table();
        let of = |(index, rule): (usize, &FaultRule)| Injected {
            rule: rule.text().to_owned(),
            matched: self.matched[index].get(),
            selected: self.selected[index].get(),
            acted: table.acts[index],
            missed: self.missed[index].get(),
        };
        self.rules.iter().enumerate().map(of).collect()
    }

    /// Waits until a remote that has lost the state of this connection has answered the program. Returns whether that had
    /// acknowledged all that the remote had sent.
    pub async fn answered(&self, flow: &Flow) -> bool {
        let answered = self.table().answered(flow);
        match answered {
            Some(answered) => answered.notified().await,
            None => std::future::pending().await,
        }
        self.table().has_all(flow)
    }

    /// The time since the run began.
    pub fn elapsed(&self) -> std::time::Duration {
        self.began.elapsed()
    }

    /// A link that applies the faults to the packets of `inner`.
    pub fn around<L>(&self, inner: L, comments: crate::comments::Comments) -> Faults<L> {
        Faults::new(inner, self.table.clone(), comments, self.began)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// A connection or flow of the program.
    pub fn new(proto: Proto, local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Self {
        Self { proto, local, remote }
    }

    /// A ping of the program. No datagram has the port 0, so it is no other flow.
    pub fn of_ping(program: std::net::IpAddr, ident: u16, remote: std::net::IpAddr) -> Self {
        Self::new(Proto::Udp, (program, ident).into(), (remote, 0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injector(rules: &[&str]) -> Injector {
        Injector::new(rules.iter().map(|text| text.parse().unwrap()).collect(), 1)
    }

    fn flow(port: u16) -> Flow {
        Flow::new(Proto::Tcp, "10.0.2.100:40000".parse().unwrap(), ([192, 0, 2, 7], port).into())
    }

    #[test]
    fn connections_are_counted_for_each_rule_apart() {
        let injector = injector(&["refuse:port=80:when=2", "rst:when=2"]);
        let begin = |port| injector.connection(flow(port), None, None);
        assert!(begin(22).is_empty());
        assert!(!begin(80).is_empty(), "the second of all");
        assert!(begin(443).is_empty());
        assert!(matches!(begin(80).at_syn(), Some(AtSyn::Refuse)), "the second to port 80");
        let summary = injector.summary();
        assert_eq!((summary[0].matched, summary[1].matched), (2, 4));
        assert_eq!((summary[0].selected, summary[1].selected), (1, 1));
        assert_eq!(summary[0].rule, "refuse:port=80:when=2");
    }

    #[test]
    fn the_same_seed_hits_the_same_connections() {
        let hits = |seed| {
            let injector = Injector::new(vec!["refuse:probability=0.3".parse().unwrap()], seed);
            (0..50).map(|_| !injector.connection(flow(80), None, None).is_empty()).collect::<Vec<bool>>()
        };
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
    }

    #[test]
    fn questions_are_selected_by_name() {
        let injector = injector(&["dns=nxdomain:to=*.example.org:when=2..", "dns=timeout:to=slow.test"]);
        assert!(injector.question("a.example.org").is_none());
        assert_eq!(injector.question("b.example.org").unwrap().0, DnsFault::NxDomain);
        assert_eq!(injector.question("slow.test").unwrap().0, DnsFault::Timeout);
        assert!(injector.question("other.test").is_none());
        assert_eq!(injector.summary()[1].acted, 1);
    }
}
