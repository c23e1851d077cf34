//! The stack under test, its clock, what it has sent, and the descriptors of its application.

use super::calls::Fd;
use super::packets;
use super::setup::Setup;
use super::syntax::{Body, Segment};
use super::translate::{Phase, Record};
use lastack_engine::{FourTuple, Instant, Received, Rule, Stack, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A packet on the wire.
#[derive(Clone, Debug)]
pub struct Passed {
    pub at: Instant,
    pub outbound: bool,
    pub bytes: Vec<u8>,
    /// What the stack said of it: the rule that made it, or what became of it.
    pub said: Option<String>,
}

/// The stack and everything around it.
#[derive(Debug)]
pub struct Host {
    pub setup: Setup,
    pub stack: Stack,
    pub clock: Instant,
    /// What the stack has sent and nobody has looked at: indices of `passed`.
    pub outbox: VecDeque<usize>,
    pub passed: Vec<Passed>,
    pub fds: BTreeMap<i64, Fd>,
    pub records: Vec<Record>,
    /// The record of the socket under test.
    pub subject: Option<usize>,
    next_port: u16,
}

impl Host {
    pub fn new(setup: Setup) -> Self {
        // Any secret will do: the runner translates all numbers.
        let stack = Stack::new(setup.config(), *b"a script's secret"[..16].first_chunk().expect("16 octets"));
        Self {
            setup,
            stack,
            clock: Instant::ZERO,
            outbox: VecDeque::new(),
            passed: Vec::new(),
            fds: BTreeMap::new(),
            records: Vec::new(),
            subject: None,
            next_port: 40_000,
        }
    }

    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.setup.local, self.setup.bind_port)
    }

    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.setup.remote, self.setup.connect_port)
    }

    /// A new socket is the one under test.
    pub fn add_record(&mut self, record: Record) {
        self.records.push(record);
        self.subject = Some(self.records.len() - 1);
    }

    pub fn record(&mut self) -> Option<&mut Record> {
        self.records.get_mut(self.subject?)
    }

    /// The record of this descriptor.
    pub fn record_of(&mut self, fd: i64) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.fd == Some(fd))
    }

    /// The record that a segment of the peer belongs to: a new one, unless a connection is under test.
    pub fn record_for(&mut self, segment: &Segment) -> &mut Record {
        let begins = self.record().is_none_or(|record| record.phase == Phase::Listening);
        if begins {
            let remote = SocketAddr::new(self.setup.remote, self.next_port);
            self.next_port += 1;
            self.add_record(Record::passive(FourTuple { local: self.local(), remote }, segment));
        }
        let subject = self.subject.unwrap_or_default();
        &mut self.records[subject]
    }

    /// Gives the stack a packet.
    pub fn deliver(&mut self, bytes: Vec<u8>) {
        let verdict = self.stack.handle_packet(self.clock, &bytes, Received::default());
        let said = (verdict != Verdict::Accepted).then(|| verdict.to_string());
        self.passed.push(Passed { at: self.clock, outbound: false, bytes, said });
        self.drain();
    }

    /// Takes all that the stack wants to send.
    pub fn drain(&mut self) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(self.clock, &mut bytes) {
            let said = transmit.rule.map(|rule: Rule| format!("{rule}: {}", rule.text()));
            self.outbox.push_back(self.passed.len());
            self.passed.push(Passed { at: self.clock, outbound: true, bytes: bytes.clone(), said });
        }
        while self.stack.poll_event().is_some() {}
    }

    /// Does what is due at this time, which is not before the clock's.
    pub fn tick(&mut self, at: Instant) {
        self.clock = self.clock.max(at);
        self.stack.handle_timeout(self.clock);
        self.drain();
    }

    /// The next packet of the socket under test. Those of others are thrown away.
    pub fn next_sent(&mut self) -> Option<Result<packets::Live, String>> {
        while let Some(index) = self.outbox.pop_front() {
            let passed = &self.passed[index];
            let live = packets::read(passed.at, &passed.bytes);
            let ours = live.as_ref().map_or(true, |live| self.is_under_test(live));
            if ours {
                return Some(live);
            }
        }
        None
    }

    fn is_under_test(&self, live: &packets::Live) -> bool {
        let record = self.subject.and_then(|subject| self.records.get(subject));
        match (record.and_then(|record| record.flow.as_ref()), &live.packet.body) {
            (_, Body::Icmp(_)) => live.flow.remote.ip() == self.setup.remote,
            (Some(flow), _) => *flow == live.flow,
            (None, _) => false,
        }
    }
}
