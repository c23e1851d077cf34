//! The packets between the system under test and the peer, and the sockets they belong to.

use super::packets::{self, Live};
use super::setup::Setup;
use super::syntax::{Body, Segment};
use super::system::{Sent, System};
use super::translate::{Phase, Record};
use lastack_engine::{FourTuple, Instant};
use lastack_wire::tcp::TcpFlags;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A packet on the wire.
#[derive(Clone, Debug)]
pub struct Passed {
    pub at: Instant,
    pub outbound: bool,
    pub bytes: Vec<u8>,
    /// What the system reported about it: the rule that sent it, or the verdict on it.
    pub said: Option<String>,
}

/// The packets of a run, and the sockets of the script.
#[derive(Debug)]
pub struct Exchange {
    pub setup: Setup,
    /// Packets sent by the system and not examined yet: indices of `passed`.
    outbox: VecDeque<usize>,
    pub passed: Vec<Passed>,
    records: Vec<Record>,
    /// The index of the record of the socket under test.
    subject: Option<usize>,
    next_port: u16,
}

impl Exchange {
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            outbox: VecDeque::new(),
            passed: Vec::new(),
            records: Vec::new(),
            subject: None,
            next_port: 40_000,
        }
    }

    /// Adds the record of a new socket, which becomes the one under test.
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

    /// The record of a socket without a number yet, by the peer that it is connected to.
    pub fn unnamed(&mut self, remote: Option<SocketAddr>) -> Option<&mut Record> {
        let Some(remote) = remote else { return self.record() };
        let is_it =
            |record: &Record| record.fd.is_none() && record.flow.is_some_and(|flow| flow.remote == remote);
        self.records.iter_mut().rev().find(|record| is_it(record))
    }

    /// The record for a segment of the peer: a new one, unless a connection is under test.
    pub fn record_for(&mut self, segment: &Segment) -> &mut Record {
        let begins = self.record().is_none_or(|record| record.phase == Phase::Listening);
        if begins {
            let remote = SocketAddr::new(self.setup.remote, self.next_port);
            self.next_port += 1;
            let local = self.setup.local_end();
            self.add_record(Record::passive(FourTuple { local, remote }, segment));
        }
        let subject = self.subject.unwrap_or_default();
        &mut self.records[subject]
    }

    /// The addresses of the socket under test; the ephemeral port may be known before anything is sent.
    pub fn flow(&mut self, system: &mut impl System) -> FourTuple {
        let nobody = FourTuple { local: self.setup.local_end(), remote: self.setup.remote_end() };
        let local_ip = self.setup.local;
        let Some(record) = self.record() else { return nobody };
        if record.flow.is_none()
            && record.phase == Phase::Connecting
            && let Some(local) = record.fd.and_then(|fd| system.ends(fd).0).filter(|local| local.port() != 0)
        {
            record.flow = Some(FourTuple { local: SocketAddr::new(local_ip, local.port()), ..nobody });
        }
        record.flow.unwrap_or(nobody)
    }

    /// Delivers a packet of the peer.
    pub fn deliver(&mut self, system: &mut impl System, bytes: Vec<u8>) {
        let at = system.now();
        let said = system.deliver(&bytes);
        self.passed.push(Passed { at, outbound: false, bytes, said });
    }

    /// The next packet of the socket under test; packets of other sockets are discarded.
    pub fn next_sent(&mut self, system: &mut impl System) -> Option<Result<Live, String>> {
        self.drain(system);
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

    /// Takes the packets that were sent.
    pub fn drain(&mut self, system: &mut impl System) {
        while let Some(Sent { at, bytes, said }) = system.sent() {
            self.outbox.push_back(self.passed.len());
            self.passed.push(Passed { at, outbound: true, bytes, said });
        }
    }

    fn is_under_test(&mut self, live: &Live) -> bool {
        let peer = self.setup.remote_end();
        let Some(record) = self.record() else {
            return matches!(live.packet.body, Body::Icmp(_)) && live.flow.remote.ip() == peer.ip();
        };
        // The first packet to the peer shows the ephemeral port.
        let begins = match &live.packet.body {
            Body::Tcp(segment) => segment.flags.contains(TcpFlags::SYN),
            Body::Udp(_) => true,
            Body::Icmp(_) => return live.flow.remote.ip() == peer.ip(),
        };
        if record.flow.is_none() && record.phase == Phase::Connecting && begins && live.flow.remote == peer {
            record.flow = Some(live.flow);
        }
        record.flow == Some(live.flow)
    }
}
