//! The stack of this project as the system under test, in virtual time, with the descriptors of its application.

use super::assertions;
use super::calls::{Fd, Operation};
use super::error::Problem;
use super::setup::Setup;
use super::syntax::{Call, Span};
use super::sysctl;
use super::system::{Reply, Sent, System};
use lastack_engine::{Instant, Received, Rule, Stack, Verdict};
use lastack_link::Cut;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// The stack and its application.
#[derive(Debug)]
pub struct Lastack {
    pub setup: Setup,
    pub stack: Stack,
    pub clock: Instant,
    pub fds: BTreeMap<i64, Fd>,
    /// The descriptor opened by the last call, until it has a number.
    pub opened: Option<Fd>,
    sent: VecDeque<Sent>,
}

impl Lastack {
    pub fn new(setup: Setup) -> Self {
        // The secret does not matter: the runner translates all numbers.
        let stack = Stack::new(setup.config(), *b"a script's secret"[..16].first_chunk().expect("16 bytes"));
        Self { setup, stack, clock: Instant::ZERO, fds: BTreeMap::new(), opened: None, sent: VecDeque::new() }
    }

    /// Takes all packets that the stack has to send.
    fn drain(&mut self) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(self.clock, &mut bytes) {
            let said = transmit.rule.map(|rule: Rule| format!("{rule}: {}", rule.text()));
            let (mut cut, mut piece) = (Cut::new(&bytes, &transmit), Vec::new());
            while cut.next(&mut piece).is_some() {
                self.sent.push_back(Sent { at: self.clock, bytes: piece.clone(), said: said.clone() });
            }
        }
        while self.stack.poll_event().is_some() {}
    }
}

impl System for Lastack {
    type Operation = Operation;

    /// Virtual time costs nothing.
    const PATIENCE: Duration = Duration::from_secs(3600);

    fn now(&self) -> Instant {
        self.clock
    }

    fn step(&mut self, limit: Instant, going_on: Option<&Operation>) -> bool {
        let timer = self.stack.poll_timeout();
        let call = going_on.and_then(Operation::deadline);
        let next = timer.into_iter().chain(call).min().filter(|at| *at <= limit);
        self.clock = self.clock.max(next.unwrap_or(limit));
        if next.is_some() {
            self.stack.handle_timeout(self.clock);
            self.drain();
        }
        next.is_some()
    }

    fn deliver(&mut self, packet: &[u8]) -> Option<String> {
        let verdict = self.stack.handle_packet(self.clock, packet, Received::default());
        self.drain();
        (verdict != Verdict::Accepted).then(|| verdict.to_string())
    }

    fn sent(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    fn begin(&mut self, call: &Call) -> Result<Operation, Problem> {
        let operation = self.begin_call(call);
        self.drain();
        operation
    }

    fn attempt(&mut self, operation: &mut Operation) -> Result<Option<Reply>, Problem> {
        let reply = self.attempt_call(operation);
        self.drain();
        reply
    }

    fn name(&mut self, number: Option<i64>) {
        if let (Some(fd), Some(number)) = (self.opened.take(), number) {
            self.fds.insert(number, fd);
        }
    }

    fn is_open(&self, fd: i64) -> bool {
        self.fds.contains_key(&fd)
    }

    fn ends(&mut self, fd: i64) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let Some(found) = self.fds.get(&fd) else { return (None, None) };
        if let Some(tcp) = found.connection().and_then(|id| self.stack.tcp(id)) {
            return (Some(tcp.local()), Some(tcp.remote()));
        }
        let udp = found.datagram().and_then(|id| self.stack.udp(id));
        (udp.map(|udp| udp.local()), None)
    }

    fn command(&mut self, command: &str, span: &Span) -> Result<(), Problem> {
        sysctl::run(command, span, &mut self.stack.tcp_config_mut())
    }

    fn snapshot(&mut self, fd: i64) -> Result<Vec<(&'static str, i64)>, String> {
        Ok(assertions::snapshot(self, fd))
    }
}
