//! smoltcp at work.

use crate::harness::Work;
use crate::work::{BATCH, BULK_BUFFER, Pair, SIDE_BY_SIDE, Shape, Side, TIME_WAIT_MS};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::Socket as AnySocket;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const PORT: u16 = 80;
const IDLE_PORT: u16 = 1000;
const IDLE_PER_PORT: usize = 20_000;
/// Buffers of a connection that carries little.
const SMALL_BUFFER: usize = 4096;

/// Packets on their way, in buffers that are used again.
#[derive(Default)]
struct Batch {
    buffers: Vec<(Vec<u8>, usize)>,
    used: usize,
}

impl Batch {
    fn add(&mut self, room: usize, len: usize) -> &mut [u8] {
        if self.used == self.buffers.len() {
            self.buffers.push((vec![0; room], 0));
        }
        let (buffer, used) = &mut self.buffers[self.used];
        *used = len;
        self.used += 1;
        &mut buffer[..len]
    }
}

/// A device: one batch to be received, one being sent.
struct Port {
    shape: Shape,
    arrived: Batch,
    taken: usize,
    sending: Batch,
}

impl Port {
    fn new(shape: Shape) -> Self {
        Self { shape, arrived: Batch::default(), taken: 0, sending: Batch::default() }
    }

    fn mtu(&self) -> usize {
        if self.shape.large { 65_535 } else { 1500 }
    }
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut Batch, usize);

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        f(self.0.add(self.1, len))
    }
}

impl Device for Port {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        if self.taken == self.arrived.used {
            return None;
        }
        let mtu = self.mtu();
        let (buffer, len) = &self.arrived.buffers[self.taken];
        self.taken += 1;
        Some((Rx(&buffer[..*len]), Tx(&mut self.sending, mtu)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        let mtu = self.mtu();
        (self.sending.used < BATCH).then_some(Tx(&mut self.sending, mtu))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu();
        if !self.shape.checksums {
            capabilities.checksum = ChecksumCapabilities::ignored();
        }
        debug_assert!(!self.shape.checksums || matches!(capabilities.checksum.tcp, Checksum::Both));
        capabilities
    }
}

struct Host {
    iface: Interface,
    port: Port,
    sockets: SocketSet<'static>,
}

impl Host {
    fn new(side: Side, shape: Shape) -> Self {
        let mut port = Port::new(shape);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = side as u64 + 1;
        let mut iface = Interface::new(config, &mut port, Instant::ZERO);
        iface.update_ip_addrs(|addrs| addrs.push(IpCidr::new(address(side), 24)).expect("there is room"));
        Self { iface, port, sockets: SocketSet::new(Vec::new()) }
    }

    fn add(&mut self, buffer: usize) -> SocketHandle {
        let ring = || SocketBuffer::new(vec![0; buffer]);
        self.sockets.add(Socket::new(ring(), ring()))
    }

    fn listen(&mut self, handle: SocketHandle, port: u16) {
        self.socket(handle).listen(port).expect("it is closed");
    }

    fn connect(&mut self, handle: SocketHandle, port: u16, local: u16) {
        let context = self.iface.context();
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(context, (address(Side::B), port), local).expect("it is closed");
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

fn address(side: Side) -> IpAddress {
    IpAddress::v4(10, 0, 0, side as u8 + 1)
}

/// Two hosts.
pub struct Hosts {
    now: Instant,
    hosts: [Host; 2],
}

const PLAIN: Shape = Shape { checksums: true, large: false };

impl Hosts {
    /// Hosts with packets of 1500 bytes and checksums.
    pub fn plain() -> Self {
        Self::new(PLAIN)
    }

    fn new(shape: Shape) -> Self {
        let hosts = [Side::A, Side::B].map(|side| Host::new(side, shape));
        Self { now: Instant::from_millis(1000), hosts }
    }

    fn host(&mut self, side: Side) -> &mut Host {
        &mut self.hosts[side as usize]
    }

    /// Carries at most a batch of packets, and returns how many.
    fn carry(&mut self, from: Side) -> usize {
        self.now += Duration::from_micros(1);
        let now = self.now;
        let [a, b] = &mut self.hosts;
        let (sender, receiver) = if from == Side::A { (a, b) } else { (b, a) };
        while sender.iface.poll_egress(now, &mut sender.port, &mut sender.sockets) != PollResult::None {}
        std::mem::swap(&mut sender.port.sending, &mut receiver.port.arrived);
        sender.port.sending.used = 0;
        receiver.port.taken = 0;
        let Host { iface, port, sockets } = receiver;
        while iface.poll_ingress_single(now, port, sockets) != PollIngressSingleResult::None {}
        port.arrived.used
    }

    fn settle(&mut self) {
        while self.carry(Side::A) + self.carry(Side::B) > 0 {}
    }

    fn join(&mut self, port: u16, local: u16, buffer: usize) -> [SocketHandle; 2] {
        let ends = [Side::A, Side::B].map(|side| self.host(side).add(buffer));
        self.host(Side::B).listen(ends[1], port);
        self.host(Side::A).connect(ends[0], port, local);
        ends
    }

    /// Opens connections that are only there.
    pub fn open_idle(&mut self, count: usize) {
        for first in (0..count).step_by(BATCH) {
            for n in first..(first + BATCH).min(count) {
                let port = IDLE_PORT + (n / IDLE_PER_PORT) as u16;
                self.join(port, 10_000 + (n % IDLE_PER_PORT) as u16, SMALL_BUFFER);
            }
            self.settle();
        }
        for host in &self.hosts {
            let open = |socket: &AnySocket<'_>| matches!(socket, AnySocket::Tcp(tcp) if tcp.state() == State::Established);
            assert_eq!(host.sockets.iter().filter(|(_, socket)| open(socket)).count(), count);
        }
    }
}

/// Two hosts and the one connection that carries data.
pub struct Joined {
    hosts: Hosts,
    ends: [SocketHandle; 2],
}

fn joined(shape: Shape, buffer: usize) -> Joined {
    let mut hosts = Hosts::new(shape);
    let ends = hosts.join(PORT, 40_000, buffer);
    hosts.settle();
    Joined { hosts, ends }
}

/// A connection for bulk transfer.
pub fn for_bulk(shape: Shape) -> Joined {
    joined(shape, BULK_BUFFER)
}

/// A connection for round trips.
pub fn for_round_trips() -> Joined {
    joined(PLAIN, SMALL_BUFFER)
}

impl Pair for Joined {
    fn send(&mut self, from: Side, text: &[u8]) -> usize {
        let id = self.ends[from as usize];
        self.hosts.host(from).socket(id).send_slice(text).expect("it is established")
    }

    fn receive(&mut self, at: Side, buf: &mut [u8]) -> usize {
        let id = self.ends[at as usize];
        self.hosts.host(at).socket(id).recv_slice(buf).expect("it is established")
    }

    fn carry(&mut self, from: Side) -> usize {
        self.hosts.carry(from)
    }

    fn wait(&mut self) {
        let now = self.hosts.now;
        let timers = self.hosts.hosts.iter_mut().filter_map(|host| host.iface.poll_at(now, &host.sockets));
        self.hosts.now = now.max(timers.min().expect("a timer runs"));
    }
}

/// Opens and closes connections beside `open` others. The amount is connections.
pub fn connect_close(open: usize) -> Work {
    let mut hosts = Hosts::new(PLAIN);
    hosts.open_idle(open);
    let sides = [Side::A, Side::B];
    let mut add = || sides.map(|side| hosts.host(side).add(SMALL_BUFFER));
    let ends: Vec<_> = (0..SIDE_BY_SIDE).map(|_| add()).collect();
    let mut local = 40_000;
    Box::new(move || {
        for _ in 0..16 {
            local = if local > 60_000 { 40_000 } else { local + SIDE_BY_SIDE as u16 };
            hosts.connect_close(&ends, local);
        }
        (16 * SIDE_BY_SIDE) as f64
    })
}

impl Hosts {
    fn connect_close(&mut self, ends: &[[SocketHandle; 2]], local: u16) {
        for (n, &[a, b]) in ends.iter().enumerate() {
            self.host(Side::B).listen(b, PORT);
            self.host(Side::A).connect(a, PORT, local + n as u16);
        }
        // The client closes once it is connected, the server once its peer did.
        let serve = |host: &mut Host, end: usize, at: State| {
            let ready = |socket: &&mut Socket<'_>| socket.state() == at;
            ends.iter()
                .filter_map(|ends| Some(host.socket(ends[end])).filter(ready).map(Socket::close))
                .count()
        };
        while self.carry(Side::A) + serve(self.host(Side::B), 1, State::CloseWait) > 0
            || self.carry(Side::B) + serve(self.host(Side::A), 0, State::Established) > 0
        {}
        for &[a, b] in ends {
            assert_eq!(self.host(Side::A).socket(a).state(), State::TimeWait);
            assert_eq!(self.host(Side::B).socket(b).state(), State::Closed);
        }
        self.now += Duration::from_millis(TIME_WAIT_MS);
    }
}

/// Answers SYNs to a closed port with RST beside `open` connections. The amount is answers.
pub fn refuse(open: usize, syns: Vec<Vec<u8>>) -> Work {
    let mut hosts = Hosts::new(PLAIN);
    hosts.open_idle(open);
    let now = hosts.now;
    let Host { mut iface, mut port, mut sockets } = hosts.hosts.into_iter().nth(1).expect("there are two");
    port.arrived.buffers = syns
        .into_iter()
        .map(|syn| {
            let len = syn.len();
            (syn, len)
        })
        .collect();
    port.arrived.used = port.arrived.buffers.len();
    Box::new(move || {
        port.taken = 0;
        while iface.poll_ingress_single(now, &mut port, &mut sockets) != PollIngressSingleResult::None {
            assert_eq!(std::mem::take(&mut port.sending.used), 1);
        }
        port.arrived.used as f64
    })
}
