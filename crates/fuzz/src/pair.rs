//! Two stacks under arbitrary interference.
//!
//! A path without corruption loses, duplicates and reorders packets, and the bytes must still arrive exactly, or an
//! end reports what was lost. A hostile one also modifies them, with correct checksums, and injects others;
//! still each connection follows the state diagram, ends once, and leaves nothing behind.

use crate::Input;
use crate::forge::Forger;
use crate::host::{Host, Named, byte};
use crate::repair::repair;
use crate::stack::config;
use lastack_engine::{Cause, ConnId, FourTuple, Instant, ListenerId, Stack};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port of both listeners.
const PORT: u16 = 80;
/// The first port of active opens.
const FIRST: u16 = 10_000;
/// Max rounds of timeouts until everything has ended.
const MAX_ROUNDS: usize = 100_000;

/// Reads settings, and then actions.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    while !input.is_empty() {
        world.step(&mut input);
    }
    world.finish();
}

struct World {
    hosts: [Host; 2],
    addresses: [IpAddr; 2],
    listeners: [ListenerId; 2],
    /// Packets in flight to each host.
    wires: [Vec<Vec<u8>>; 2],
    forgers: [Forger; 2],
    /// The connections that an application still has, with their host.
    held: Vec<(usize, ConnId)>,
    /// The connection ids at both hosts, by the flow from the first host's side.
    flows: BTreeMap<FourTuple, [Option<ConnId>; 2]>,
    /// Flows with two connections at one host, one after the other: the first was aborted, and a duplicate of its SYN
    /// and the first data of the peer, that acknowledges the same SYN cookie, made the second.
    accepted_twice: BTreeSet<FourTuple>,
    hostile: bool,
    opened: u16,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let bits = input.byte();
        let addresses = [1, 2].map(|last| match bits & 2 == 0 {
            true => IpAddr::from([192, 0, 2, last]),
            false => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
        });
        let mut hosts = [0, 1].map(|side| {
            let config = config(input, [addresses[side]; 2]);
            Host::new(Stack::new(config, [side as u8; 16]), Instant::from_millis(1000))
        });
        let listeners = [0, 1].map(|side| {
            let local = SocketAddr::new(addresses[side], PORT);
            hosts[side].call(|stack| stack.tcp_listen(local, 4)).expect("the port is free")
        });
        Self {
            hosts,
            addresses,
            listeners,
            wires: [Vec::new(), Vec::new()],
            forgers: [Forger::default(), Forger::default()],
            held: Vec::new(),
            flows: BTreeMap::new(),
            accepted_twice: BTreeSet::new(),
            hostile: bits & 1 == 1,
            opened: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=5 => self.interfere(input),
            6 => self.settle(),
            7 => {
                let millis = input.pick(&[1, 10, 45, 250, 1100, 5000, 61_000]);
                self.pass(self.hosts[0].now + Duration::from_millis(millis));
            }
            8 => self.open(input),
            _ => self.call(input),
        }
        self.accept();
        self.drain();
    }

    /// Interferes with one of the first packets in flight to a host.
    fn interfere(&mut self, input: &mut Input<'_>) {
        let to = usize::from(input.byte() & 1);
        let what = input.below(8);
        if self.hostile && what >= 6 {
            return self.attack(to, what, input);
        }
        if self.wires[to].is_empty() {
            return;
        }
        let at = input.below(4) as usize % self.wires[to].len();
        match what {
            0 => drop(self.wires[to].remove(at)),
            1 => self.wires[to].push(self.wires[to][at].clone()),
            _ => {
                let packet = self.wires[to].remove(at);
                let _ = self.hosts[to].arrival(&packet);
            }
        }
    }

    /// Modifies a packet, or forges one.
    fn attack(&mut self, to: usize, what: u32, input: &mut Input<'_>) {
        if what == 6 {
            if let Some(packet) = self.wires[to].first_mut() {
                let at = usize::from(input.byte()) % packet.len();
                packet[at] = input.byte();
                repair(packet);
            }
            return;
        }
        let (us, them, now) = (self.addresses[to], self.addresses[1 - to], self.hosts[to].now);
        let forged = match input.below(4) {
            0 => self.forgers[to].error(input),
            1 => self.forgers[to].reflection(input),
            _ => Some(self.forgers[to].segment(input, us, them, now)),
        };
        if let Some(packet) = forged {
            let _ = self.hosts[to].arrival(&packet);
        }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let (side, how) = (usize::from(input.byte() & 1), input.below(4));
        let port = FIRST + self.opened;
        self.opened = self.opened.wrapping_add(1);
        match how {
            0..=1 => self.connect(side, port, PORT),
            2 => self.connect(side, port, 9),
            // Simultaneous open.
            _ => [0, 1].into_iter().for_each(|side| self.connect(side, port, port)),
        }
    }

    fn connect(&mut self, side: usize, local: u16, remote: u16) {
        let local = SocketAddr::new(self.addresses[side], local);
        let remote = SocketAddr::new(self.addresses[1 - side], remote);
        let id = self.hosts[side].call(|stack| stack.tcp_connect(Some(local), remote));
        self.hold(side, id.expect("its port is new"), FourTuple { local, remote });
    }

    fn accept(&mut self) {
        for side in [0, 1] {
            let listener = self.listeners[side];
            while let Some(id) = self.hosts[side].call(|stack| stack.tcp_accept(listener)) {
                let flow = self.hosts[side].call(|stack| {
                    let tcp = stack.tcp(id).expect("it was accepted now");
                    FourTuple { local: tcp.local(), remote: tcp.remote() }
                });
                self.hold(side, id, flow);
            }
        }
    }

    fn hold(&mut self, side: usize, id: ConnId, flow: FourTuple) {
        self.hosts[side].name(id);
        self.held.push((side, id));
        let canonical = if side == 0 { flow } else { FourTuple { local: flow.remote, remote: flow.local } };
        let before = self.flows.entry(canonical).or_default()[side].replace(id);
        let Some(before) = before else { return };
        let ended = self.hosts[side].named[&before].end.is_some();
        assert!(ended || self.hostile, "two connections with the four-tuple {flow} exist at once");
        self.accepted_twice.insert(canonical);
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let Some(last) = self.held.len().checked_sub(1) else { return };
        let at = last - input.below(4) as usize % (last + 1);
        let (side, id) = self.held[at];
        let host = &mut self.hosts[side];
        match input.below(16) {
            0..=5 => host.send(id, input),
            6..=10 => host.receive(id, input),
            11..=12 => host.shutdown(id),
            13 => host.set(id, input),
            14 if input.once_in(4) => host.abort(id),
            15 => {
                self.held.remove(at);
                host.close(id);
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        for side in [0, 1] {
            let sent = self.hosts[side].drain();
            self.carry(side, sent);
        }
    }

    fn carry(&mut self, from: usize, sent: Vec<Vec<u8>>) {
        sent.iter().for_each(|packet| self.forgers[from].note(packet));
        self.wires[1 - from].extend(sent);
    }

    /// Delivers everything in flight.
    fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.drain();
            if self.wires.iter().all(Vec::is_empty) {
                return;
            }
            for to in [0, 1] {
                for packet in std::mem::take(&mut self.wires[to]) {
                    let _ = self.hosts[to].arrival(&packet);
                }
            }
            self.accept();
        }
        panic!("two stacks that never stop answering each other");
    }

    fn pass(&mut self, end: Instant) {
        for side in [0, 1] {
            let mut sent = Vec::new();
            self.hosts[side].pass(end, |packets| sent.extend(packets));
            self.carry(side, sent);
        }
    }

    /// Closes everything, and delivers what is in flight.
    fn finish(&mut self) {
        self.settle();
        for (side, id) in std::mem::take(&mut self.held) {
            self.hosts[side].close(id);
        }
        for side in [0, 1] {
            let listener = self.listeners[side];
            self.hosts[side].call(|stack| stack.tcp_unlisten(listener));
        }
        for round in 0.. {
            self.settle();
            let due = self.hosts.iter().filter_map(|host| host.stack.poll_timeout()).min();
            let Some(due) = due else { break };
            assert!(round < MAX_ROUNDS, "a timer runs for ever");
            self.pass(due.max(self.hosts[0].now));
        }
        for host in &self.hosts {
            host.assert_over();
            host.assert_accounted();
        }
        if !self.hostile {
            self.check();
        }
    }

    /// Checks the streams on a path without corruption.
    fn check(&self) {
        for (flow, ids) in self.flows.iter().filter(|(flow, _)| !self.accepted_twice.contains(flow)) {
            let named = [0, 1].map(|side| ids[side].map(|id| &self.hosts[side].named[&id]));
            for (one, other) in [(named[0], named[1]), (named[1], named[0])] {
                match (one, other) {
                    (Some(one), Some(other)) => together(flow, one, other),
                    (Some(one), None) => assert!(one.read.is_empty(), "{flow}: bytes from nobody"),
                    (None, _) => {}
                }
            }
        }
    }
}

/// `receiver` got what `sender` wrote.
fn together(flow: &FourTuple, sender: &Named, receiver: &Named) {
    let (Some(sent), Some(received)) = (&sender.end, &receiver.end) else { panic!("{flow} is not over") };
    let show = || format!("{flow}\n{sent:?}\n{received:?}");
    let exact = receiver.read.iter().enumerate().all(|(at, read)| *read == byte(at as u32));
    assert!(exact, "other bytes than were written: {}", show());
    assert!(received.bytes.received <= u64::from(sender.written), "more than was written: {}", show());
    assert!(sent.bytes.sent <= received.bytes.received, "acknowledged and not received: {}", show());
    if receiver.end_of_stream {
        assert_eq!(receiver.read.len(), sender.written as usize, "a short stream that ends well: {}", show());
    }
    if sent.end.cause == Cause::Orderly {
        assert_eq!(received.bytes.received, u64::from(sender.written), "a short release: {}", show());
    }
}
