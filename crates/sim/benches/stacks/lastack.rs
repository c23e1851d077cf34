//! lastack at work.

use crate::harness::Work;
use crate::work::{BATCH, BULK_BUFFER, Pair, SIDE_BY_SIDE, Shape, Side, TIME_WAIT_MS};
use lastack_engine::{
    Checksums, Config, ConnId, Event, Instant, ListenerId, Received, Stack, TransmitChecksum, Verdict,
};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))];
const PORT: u16 = 80;
/// The first port that the connections lead to that are only there.
const IDLE_PORT: u16 = 1000;
/// How many of those lead to one port.
const IDLE_PER_PORT: usize = 20_000;

/// Two stacks, and buffers that go back and forth.
pub struct Hosts {
    now: Instant,
    stacks: [Stack; 2],
    wire: Vec<Vec<u8>>,
}

fn config(side: Side, change: impl Fn(&mut Config)) -> Config {
    let mut config = Config::new([ADDRESSES[side as usize]]);
    config.tcp.time_wait = Duration::from_millis(TIME_WAIT_MS);
    change(&mut config);
    config
}

impl Hosts {
    pub fn new(change: impl Fn(&mut Config)) -> Self {
        let stacks = [Side::A, Side::B].map(|side| Stack::new(config(side, &change), [side as u8; 16]));
        let wire = std::iter::repeat_with(|| Vec::with_capacity(65_536)).take(BATCH).collect();
        Self { now: Instant::from_millis(1000), stacks, wire }
    }

    fn stack(&mut self, side: Side) -> &mut Stack {
        &mut self.stacks[side as usize]
    }

    /// Carries at most a batch of packets, and returns how many.
    fn carry(&mut self, from: Side) -> usize {
        self.now += Duration::from_micros(1);
        let [a, b] = &mut self.stacks;
        let (sender, receiver) = if from == Side::A { (a, b) } else { (b, a) };
        let mut count = 0;
        while count < BATCH && sender.poll_transmit(self.now, &mut self.wire[count]).is_some() {
            count += 1;
        }
        for packet in &mut self.wire[..count] {
            let verdict = receiver.handle_owned_packet(self.now, packet, Received::default());
            debug_assert_eq!(verdict, Verdict::Accepted);
        }
        count
    }

    fn listen(&mut self, port: u16, backlog: usize) -> ListenerId {
        let local = SocketAddr::new(ADDRESSES[1], port);
        self.stack(Side::B).tcp_listen(local, backlog).expect("the port is free")
    }

    /// Connects A to a listener of B.
    fn connect(&mut self) -> (ConnId, ConnId) {
        let listener = self.listen(PORT, 1);
        let a = self.stack(Side::A).tcp_connect(None, SocketAddr::new(ADDRESSES[1], PORT)).expect("a port");
        while self.carry(Side::A) + self.carry(Side::B) > 0 {}
        let b = self.stack(Side::B).tcp_accept(listener).expect("it is established");
        (a, b)
    }

    /// Opens connections that are only there, and returns both ends of each.
    pub fn open_idle(&mut self, count: usize) -> Vec<(ConnId, ConnId)> {
        let mut open = Vec::with_capacity(count);
        let ports = count.div_ceil(IDLE_PER_PORT) as u16;
        let listeners: Vec<_> = (0..ports).map(|n| self.listen(IDLE_PORT + n, BATCH)).collect();
        for first in (0..count).step_by(BATCH) {
            let batch = first..(first + BATCH).min(count);
            let at = |n: usize| (n / IDLE_PER_PORT, 10_000 + (n % IDLE_PER_PORT) as u16);
            let a: Vec<_> = batch.clone().map(|n| self.connect_idle(at(n))).collect();
            while self.carry(Side::A) + self.carry(Side::B) > 0 {}
            let b = batch.map(|n| self.stack(Side::B).tcp_accept(listeners[at(n).0]).expect("established"));
            let b: Vec<_> = b.collect();
            open.extend(a.into_iter().zip(b));
            self.forget_events();
        }
        // Timers of the handshakes must not expire during the measurement.
        self.pass(Duration::from_secs(60));
        open
    }

    fn connect_idle(&mut self, (listener, port): (usize, u16)) -> ConnId {
        let remote = SocketAddr::new(ADDRESSES[1], IDLE_PORT + listener as u16);
        let local = SocketAddr::new(ADDRESSES[0], port);
        self.stack(Side::A).tcp_connect(Some(local), remote).expect("the port is free")
    }

    /// Lets every connection carry some data in each direction.
    pub fn use_all(&mut self, open: &[(ConnId, ConnId)]) {
        for &(a, b) in open {
            for (from, to, at, end) in [(Side::A, Side::B, a, b), (Side::B, Side::A, b, a)] {
                let text = [7; 1000];
                let sent = self.stack(from).tcp(at).expect("it is open").send(&text);
                assert_eq!(sent, Poll::Ready(Ok(text.len())));
                self.carry(from);
                let received = self.stack(to).tcp(end).expect("it is open").receive(&mut [0; 2000]);
                assert_eq!(received, Poll::Ready(Ok(text.len())));
            }
            self.forget_events();
        }
    }

    fn forget_events(&mut self) {
        for stack in &mut self.stacks {
            while stack.poll_event().is_some() {}
        }
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.stacks.iter().filter_map(Stack::poll_timeout).min().filter(|at| *at <= end)
        {
            self.now = self.now.max(at);
            let now = self.now;
            self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
            while self.carry(Side::A) + self.carry(Side::B) > 0 {}
        }
        self.now = self.now.max(end);
    }
}

/// Two hosts and the one connection that carries data.
pub struct Joined {
    hosts: Hosts,
    ends: [ConnId; 2],
}

/// A connection for bulk transfer.
pub fn for_bulk(shape: Shape) -> Joined {
    let mut hosts = Hosts::new(|config| {
        config.tcp.send_buffer = BULK_BUFFER;
        config.tcp.receive_buffer = BULK_BUFFER;
        if !shape.checksums {
            config.checksums = Checksums { verify: false, transmit: TransmitChecksum::None };
        }
        if shape.large {
            config.max_packet = 65_535;
        }
    });
    let (a, b) = hosts.connect();
    Joined { hosts, ends: [a, b] }
}

/// A connection for round trips.
pub fn for_round_trips() -> Joined {
    let mut hosts = Hosts::new(|_| {});
    let (a, b) = hosts.connect();
    Joined { hosts, ends: [a, b] }
}

impl Pair for Joined {
    fn send(&mut self, from: Side, text: &[u8]) -> usize {
        let id = self.ends[from as usize];
        match self.hosts.stack(from).tcp(id).expect("it is open").send(text) {
            Poll::Ready(sent) => sent.expect("it is established"),
            Poll::Pending => 0,
        }
    }

    fn receive(&mut self, at: Side, buf: &mut [u8]) -> usize {
        let id = self.ends[at as usize];
        match self.hosts.stack(at).tcp(id).expect("it is open").receive(buf) {
            Poll::Ready(received) => received.expect("it is established"),
            Poll::Pending => 0,
        }
    }

    fn carry(&mut self, from: Side) -> usize {
        let count = self.hosts.carry(from);
        self.hosts.forget_events();
        count
    }

    fn wait(&mut self) {
        let next = self.hosts.stacks.iter().filter_map(Stack::poll_timeout).min().expect("a timer runs");
        self.hosts.now = self.hosts.now.max(next);
        let now = self.hosts.now;
        self.hosts.stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
    }
}

/// Opens and closes connections beside `open` others. The amount is connections.
pub fn connect_close(open: usize) -> Work {
    let mut hosts = Hosts::new(|_| {});
    hosts.open_idle(open);
    let listener = hosts.listen(PORT, SIDE_BY_SIDE);
    Box::new(move || {
        for _ in 0..16 {
            hosts.connect_close(listener);
        }
        (16 * SIDE_BY_SIDE) as f64
    })
}

impl Hosts {
    fn connect_close(&mut self, listener: ListenerId) {
        let server = SocketAddr::new(ADDRESSES[1], PORT);
        for _ in 0..SIDE_BY_SIDE {
            self.stack(Side::A).tcp_connect(None, server).expect("a port is free");
        }
        let mut ended = 0;
        while self.carry(Side::A) + self.serve(Side::B, listener, &mut ended) > 0
            || self.carry(Side::B) + self.serve(Side::A, listener, &mut ended) > 0
        {}
        assert_eq!(ended, 2 * SIDE_BY_SIDE);
        self.now += Duration::from_millis(TIME_WAIT_MS);
        let now = self.now;
        self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
    }

    /// Both applications: the client closes once it is connected, the server once its peer did.
    fn serve(&mut self, side: Side, listener: ListenerId, ended: &mut usize) -> usize {
        let stack = self.stack(side);
        let mut calls = 0;
        while let Some(event) = stack.poll_event() {
            calls += 1;
            match event {
                Event::Connected(id) => stack.tcp(id).expect("it is open").close(),
                Event::Readable(id) => {
                    let mut tcp = stack.tcp(id).expect("it is open");
                    assert_eq!(tcp.receive(&mut [0; 16]), Poll::Ready(Ok(0)));
                    tcp.close();
                }
                Event::Incoming(_) => while stack.tcp_accept(listener).is_some() {},
                Event::Ended(_) => *ended += 1,
                other => panic!("{other:?}"),
            }
        }
        calls
    }
}

/// Answers SYNs to a closed port with RST beside `open` connections. The amount is answers.
pub fn refuse(open: usize, syns: Vec<Vec<u8>>) -> Work {
    let mut hosts = Hosts::new(|_| {});
    hosts.open_idle(open);
    let mut reply = Vec::with_capacity(2048);
    Box::new(move || {
        let now = hosts.now;
        let stack = hosts.stack(Side::B);
        for syn in &syns {
            let verdict = stack.handle_packet(now, syn, Received::default());
            assert!(matches!(verdict, Verdict::Answered(_)));
            assert!(stack.poll_transmit(now, &mut reply).is_some());
        }
        syns.len() as f64
    })
}
