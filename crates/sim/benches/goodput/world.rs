//! Two hosts, the link between them, and transfers over it, in virtual time.

use lastack_engine::Instant;
use lastack_link::{Course, Direction, Passage, Plan};
use lastack_wire::ip::IpPacket;
use lastack_wire::tcp::TcpHeader;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A host whose application sends data, or reads what arrives.
pub trait Host {
    /// The application does what it can now.
    fn work(&mut self, now: Instant);
    fn handle_packet(&mut self, now: Instant, packet: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&mut self, now: Instant) -> Option<Instant>;
    /// Writes the next packet into `packet`; `false`: there is none.
    fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool;
    /// Bytes that each connection has brought so far.
    fn received(&self) -> &[u64];
    /// How connections ended, as far as that was before they had done their work.
    fn failures(&self) -> &[String];
}

/// A connection to be opened, and what it has to carry.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub start: Instant,
    pub bytes: u64,
}

/// The data that every connection carries: each byte is determined by its offset.
pub struct Text(Vec<u8>);

impl Text {
    /// A prime, so that a segment in the wrong place is noticed.
    const PERIOD: usize = 65_521;

    pub fn new() -> Self {
        Self((0..2 * Self::PERIOD).map(|i| ((i % Self::PERIOD * 197) >> 5) as u8).collect())
    }

    /// Some of the data from `at` on: 64 KiB, or what is left of `octets`.
    pub fn from(&self, at: u64, bytes: u64) -> &[u8] {
        let start = (at % Self::PERIOD as u64) as usize;
        let len = (bytes - at).min(Self::PERIOD as u64) as usize;
        &self.0[start..start + len]
    }

    /// Whether `bytes` is the data from `at` on.
    pub fn is(&self, mut at: u64, bytes: &[u8]) -> bool {
        bytes.chunks(Self::PERIOD).all(|chunk| {
            let start = (at % Self::PERIOD as u64) as usize;
            at += chunk.len() as u64;
            self.0[start..start + chunk.len()] == *chunk
        })
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// When each number of bytes was received, by all connections together: one entry in each
    /// [`STEP`], by connection.
    pub history: Vec<Vec<u64>>,
    /// From the start to the last byte; `None`: it never came.
    pub took: Option<Duration>,
    /// Bytes of data that the sender put on the wire.
    pub sent: u64,
    /// Ends before the work was done, and other things that should not be.
    pub failures: Vec<String>,
}

/// How often the history is written.
pub const STEP: Duration = Duration::from_millis(100);

/// A packet on its way: when it arrives, its number, where it goes.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// A sender (the first) and a receiver.
pub struct World {
    pub now: Instant,
    hosts: [Box<dyn Host>; 2],
    courses: [Course; 2],
    in_flight: BinaryHeap<InFlight>,
    /// The first connection, by its ports. Packets of others are on their way for longer, by this.
    first: Option<(u16, u16)>,
    detour: Duration,
    serial: u64,
    /// Bytes of data that the sender put on the wire.
    sent: u64,
    packet: Vec<u8>,
}

/// The time at which every run begins.
pub const START: Instant = Instant::from_millis(1000);

impl World {
    pub fn new(plan: Plan, hosts: [Box<dyn Host>; 2], detour: Duration) -> Self {
        let courses = [Direction::Sent, Direction::Received].map(|direction| Course::new(plan, direction));
        Self {
            now: START,
            hosts,
            courses,
            in_flight: BinaryHeap::new(),
            first: None,
            detour,
            serial: 0,
            sent: 0,
            packet: Vec::new(),
        }
    }

    /// Runs the world until `octets` have been received, or it is `limit`.
    pub fn run(mut self, bytes: u64, limit: Instant) -> Outcome {
        let (mut history, mut failures) = (Vec::new(), Vec::new());
        let took = loop {
            self.settle();
            let received = self.hosts[1].received();
            while self.now >= START + STEP * history.len() as u32 {
                history.push(received.to_vec());
            }
            failures.extend(self.hosts.iter().flat_map(|host| host.failures().to_vec()));
            if received.iter().sum::<u64>() >= bytes {
                break Some(self.now - START);
            }
            match self.next() {
                _ if !failures.is_empty() => break None,
                None => failures.push("stalled: nothing will happen any more".into()),
                Some(at) if at > limit => break None,
                Some(at) => self.advance(at),
            }
        };
        Outcome { history, took, sent: self.sent, failures }
    }

    /// Applications work, and hosts send what they owe.
    fn settle(&mut self) {
        for from in 0..2 {
            self.hosts[from].work(self.now);
            let mut packet = std::mem::take(&mut self.packet);
            while self.hosts[from].poll_transmit(self.now, &mut packet) {
                self.carry(from, &packet);
            }
            self.packet = packet;
        }
    }

    fn carry(&mut self, from: usize, packet: &[u8]) {
        let ip = IpPacket::parse(packet).expect("the stack sends what it can read");
        let (tcp, text) = TcpHeader::parse(ip.payload).expect("the stack sends segments");
        let [mut ports, reversed] = [(tcp.src_port, tcp.dst_port), (tcp.dst_port, tcp.src_port)];
        if from == 0 {
            self.sent += text.len() as u64;
        } else {
            ports = reversed;
        }
        let first = *self.first.get_or_insert(ports);
        if let Passage::Arrives { due, .. } = self.courses[from].pass(self.now, packet.len()) {
            let due = if ports == first { due } else { due + self.detour };
            self.serial += 1;
            self.in_flight.push(Reverse((due, self.serial, 1 - from, packet.to_vec())));
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let timers = self.hosts.iter_mut().filter_map(|host| host.poll_timeout(now));
        timers.chain(self.in_flight.peek().map(|Reverse((due, ..))| *due)).min()
    }

    fn advance(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for host in &mut self.hosts {
            if host.poll_timeout(self.now).is_some_and(|at| at <= self.now) {
                host.handle_timeout(self.now);
            }
        }
        if self.in_flight.peek().is_some_and(|Reverse((due, ..))| *due <= self.now)
            && let Some(Reverse((_, _, to, packet))) = self.in_flight.pop()
        {
            self.hosts[to].handle_packet(self.now, &packet);
        }
    }
}
