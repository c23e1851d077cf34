//! smoltcp at work, with CUBIC.

use crate::world::{Flow, Host, Text};
use lastack_engine::Instant;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::time::Duration;

const PORT: u16 = 80;

/// A link's end: what has arrived, and what is to be sent.
#[derive(Default)]
struct Port {
    arrived: Option<Vec<u8>>,
    sending: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.arrived.take()?), Tx(&mut self.sending)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.sending))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Smoltcp {
    iface: Interface,
    port: Port,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    /// The sender's connections yet to be opened are those from `handles.len()` on.
    flows: Vec<Flow>,
    sender: bool,
    buffers: [usize; 2],
    done: Vec<u64>,
    text: Text,
    failures: Vec<String>,
}

/// A sender and a receiver with these buffers to send and to receive.
pub fn hosts(buffers: [usize; 2], flows: &[Flow], seed: u64) -> [Box<dyn Host>; 2] {
    let host = |sender: bool| {
        let mut port = Port::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed * 2 + u64::from(sender);
        let mut iface = Interface::new(config, &mut port, time::Instant::ZERO);
        iface.update_ip_addrs(|addrs| addrs.push(IpCidr::new(address(sender), 24)).expect("there is room"));
        let mut host = Smoltcp {
            iface,
            port,
            sockets: SocketSet::new(Vec::new()),
            handles: Vec::new(),
            flows: flows.to_vec(),
            sender,
            buffers,
            done: vec![0; flows.len()],
            text: Text::new(),
            failures: Vec::new(),
        };
        if !sender {
            (0..flows.len()).for_each(|_| host.open());
        }
        Box::new(host) as Box<dyn Host>
    };
    [host(true), host(false)]
}

fn address(sender: bool) -> IpAddress {
    IpAddress::v4(10, 0, 0, if sender { 1 } else { 2 })
}

fn theirs(now: Instant) -> time::Instant {
    time::Instant::from_micros(now.as_nanos() as i64 / 1000)
}

impl Smoltcp {
    fn open(&mut self) {
        // A host needs the large buffer in its own direction only.
        let [sending, receiving] =
            if self.sender { [self.buffers[0], 4096] } else { [4096, self.buffers[1]] };
        let mut socket =
            Socket::new(SocketBuffer::new(vec![0; receiving]), SocketBuffer::new(vec![0; sending]));
        socket.set_congestion_control(CongestionControl::Cubic);
        if self.sender {
            let local = 40_000 + self.handles.len() as u16;
            socket.connect(self.iface.context(), (address(false), PORT), local).expect("it is closed");
        } else {
            socket.listen(PORT).expect("it is closed");
        }
        self.handles.push(self.sockets.add(socket));
    }

    fn send(&mut self, index: usize) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handles[index]);
        let bytes = self.flows[index].bytes;
        while self.done[index] < bytes && socket.can_send() {
            let sent = socket.send_slice(self.text.from(self.done[index], bytes)).expect("it can send");
            self.done[index] += sent as u64;
            if self.done[index] == bytes {
                socket.close();
            }
        }
        if self.done[index] < bytes && !socket.is_open() {
            self.failures.push(format!("connection {index} ended"));
        }
    }

    fn receive(&mut self, index: usize) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handles[index]);
        while socket.can_recv() {
            let (text, at) = (&self.text, self.done[index]);
            let read = |piece: &mut [u8]| {
                assert!(text.is(at, piece), "the text is not what was sent");
                (piece.len(), piece.len())
            };
            self.done[index] += socket.recv(read).expect("it can receive") as u64;
        }
    }
}

impl Host for Smoltcp {
    fn work(&mut self, now: Instant) {
        if self.sender {
            let next = self.handles.len();
            if self.flows.get(next).is_some_and(|flow| flow.start <= now) {
                self.open();
            }
            (0..self.handles.len()).for_each(|index| self.send(index));
        } else {
            (0..self.handles.len()).for_each(|index| self.receive(index));
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.port.arrived = Some(packet.to_vec());
        let Self { iface, port, sockets, .. } = self;
        while iface.poll_ingress_single(theirs(now), port, sockets) != PollIngressSingleResult::None {}
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.iface.poll_at(theirs(now), &self.sockets);
        let at = at.map(|at| Instant::from_micros(at.total_micros() as u64));
        let next = self.flows.get(self.handles.len()).map(|flow| flow.start);
        // What was due was done by `poll_transmit`.
        at.into_iter().chain(next).min().map(|at| at.max(now + Duration::from_micros(1)))
    }

    fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        let Self { iface, port, sockets, .. } = self;
        if port.sending.is_empty() {
            while iface.poll_egress(theirs(now), port, sockets) != PollResult::None {}
        }
        match port.sending.pop_front() {
            Some(next) => {
                *packet = next;
                true
            }
            None => false,
        }
    }

    fn received(&self) -> &[u64] {
        &self.done
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}
