//! Two stacks joined by a wire without delay, in virtual time.

use crate::{Config, ConnId, Ended, Event, Instant, ListenerId, Received, Stack, Tcp, Transmit, Verdict};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use core::time::Duration;

pub(super) const PORT: u16 = 80;

/// No test has so much to do.
const MAX_ROUNDS: usize = 20_000_000;

/// One of the two.
pub(super) struct Host {
    pub stack: Stack,
    pub addr: IpAddr,
    pub events: Vec<Event>,
    pub ended: Vec<Ended>,
    pub sent: Vec<(Instant, Vec<u8>, Transmit)>,
    pub verdicts: Vec<Verdict>,
}

impl Host {
    fn new(config: Config, seed: u8) -> Self {
        let addr = config.addresses[0];
        let stack = Stack::new(config, [seed; 16]);
        Self { stack, addr, events: Vec::new(), ended: Vec::new(), sent: Vec::new(), verdicts: Vec::new() }
    }

    pub fn tcp(&mut self, id: ConnId) -> Tcp<'_> {
        self.stack.tcp(id).expect("the connection has a name")
    }

    fn poll_transmit(&mut self, now: Instant, vectored: bool, packet: &mut Vec<u8>) -> Option<Transmit> {
        if !vectored {
            return self.stack.poll_transmit(now, packet);
        }
        let lent = self.stack.poll_transmit_vectored(now, packet)?;
        packet.extend_from_slice(lent.data[0]);
        packet.extend_from_slice(lent.data[1]);
        Some(lent.transmit)
    }

    fn collect_events(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::Ended(ended) => self.ended.push(*ended),
                other => self.events.push(other),
            }
        }
    }
}

/// Both, and the time.
pub(super) struct Pair {
    pub now: Instant,
    pub a: Host,
    pub b: Host,
    /// Loses the packet with this number on the wire, counted from both sides.
    pub lose: fn(usize) -> bool,
    /// Loses the packets that are larger than this.
    pub swallow_above: Option<usize>,
    /// Loses the packet after such a packet, too.
    pub swallow_next: bool,
    /// The data of packets is lent.
    pub vectored: bool,
    /// How long a packet is on its way.
    pub delay: Duration,
    /// When packets arrive, whether they are from A, and what they are.
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    carried: usize,
    /// How often something was due.
    pub rounds: usize,
}

impl Pair {
    pub fn new(v6: bool) -> Self {
        Self::with(v6, |_| {})
    }

    pub fn with(v6: bool, change: impl Fn(&mut Config)) -> Self {
        let config = |last: u8| {
            let v4 = IpAddr::from([10, 0, 0, last]);
            let mut config =
                Config::new([if v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]) } else { v4 }]);
            change(&mut config);
            config
        };
        let now = Instant::from_millis(1000);
        Self {
            now,
            a: Host::new(config(1), 1),
            b: Host::new(config(2), 2),
            lose: |_| false,
            swallow_above: None,
            swallow_next: false,
            vectored: false,
            delay: Duration::ZERO,
            wire: VecDeque::new(),
            carried: 0,
            rounds: 0,
        }
    }

    /// Carries packets until neither has one to send, and none arrives now.
    pub fn run_until_idle(&mut self) {
        let mut is_next = false;
        loop {
            for from_a in [true, false] {
                let host = if from_a { &mut self.a } else { &mut self.b };
                let mut packet = Vec::new();
                while let Some(transmit) = host.poll_transmit(self.now, self.vectored, &mut packet) {
                    host.sent.push((self.now, packet.clone(), transmit));
                    self.carried += 1;
                    let swallowed = self.swallow_above.is_some_and(|max| packet.len() > max);
                    if !(self.lose)(self.carried) && !swallowed && !is_next {
                        self.wire.push_back((self.now + self.delay, from_a, packet.clone()));
                    }
                    is_next = self.swallow_next && swallowed;
                }
                host.collect_events();
            }
            if self.wire.front().is_none_or(|(due, ..)| *due > self.now) {
                return;
            }
            let Some((_, from_a, mut packet)) = self.wire.pop_front() else { return };
            let host = if from_a { &mut self.b } else { &mut self.a };
            let verdict = host.stack.handle_owned_packet(self.now, &mut packet, Received::default());
            host.verdicts.push(verdict);
            host.collect_events();
        }
    }

    /// Lets time pass, timer by timer.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run_until_idle();
            let arrival = self.wire.front().map(|(due, ..)| *due);
            let next = [self.a.stack.poll_timeout(), self.b.stack.poll_timeout(), arrival];
            let next = next.into_iter().flatten().min();
            match next.filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.rounds += 1;
            assert!(self.rounds < MAX_ROUNDS, "the timers of a stack spin at {:?}", self.now);
            self.a.stack.handle_timeout(self.now);
            self.b.stack.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// A listener at B.
    pub fn listen(&mut self, backlog: usize) -> ListenerId {
        self.b.stack.tcp_listen(SocketAddr::new(self.b.addr, PORT), backlog).unwrap()
    }

    /// A connection from A to B, accepted.
    pub fn connect(&mut self) -> (ConnId, ConnId) {
        let listener = self.listen(8);
        self.connect_to(listener)
    }

    pub fn connect_to(&mut self, listener: ListenerId) -> (ConnId, ConnId) {
        let a = self.a.stack.tcp_connect(None, SocketAddr::new(self.b.addr, PORT)).unwrap();
        self.run_until_idle();
        (a, self.b.stack.tcp_accept(listener).expect("it is established"))
    }

    /// Sends all of `data` and returns what the other side received.
    pub fn transfer(&mut self, from: ConnId, to: ConnId, data: &[u8]) -> Vec<u8> {
        let (mut rest, mut got) = (data, Vec::new());
        let mut buf = [0; 65_536];
        for _ in 0..1_000_000 {
            if let Poll::Ready(n) = self.a.tcp(from).send(rest) {
                rest = &rest[n.expect("it can be sent")..];
            }
            self.run(Duration::from_millis(1));
            while let Poll::Ready(Ok(n @ 1..)) = self.b.tcp(to).receive(&mut buf) {
                got.extend_from_slice(&buf[..n]);
            }
            if got.len() >= data.len() {
                return got;
            }
        }
        panic!("{} of {} bytes arrived", got.len(), data.len());
    }
}
