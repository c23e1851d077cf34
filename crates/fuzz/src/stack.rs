//! One stack under arbitrary packets and calls.

use crate::Input;
use crate::forge::{self, Forger, OURS, THEIRS};
use crate::host::{Host, byte};
use crate::repair::repair;
use lastack_engine::{
    Answer, Config, ConnId, Ecn, FourTuple, Instant, ListenerId, Stack, TransmitChecksum, UdpId,
};
use lastack_wire::{Icmp, IcmpError, IpPacket, TcpFlags, TcpHeader, ip};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
    host: Host,
    forger: Forger,
    us: IpAddr,
    them: IpAddr,
    /// The connections that an application still has.
    held: Vec<ConnId>,
    listeners: Vec<ListenerId>,
    udp: Vec<UdpId>,
    /// While this is set, packets are not taken from the stack, as with a slow driver.
    late: bool,
}

/// Settings from the input.
pub fn config(input: &mut Input<'_>, addresses: [IpAddr; 2]) -> Config {
    let mut config = Config::new(addresses);
    let bits = input.byte();
    config.tcp.timestamps = bits & 1 == 0;
    config.tcp.sack = bits & 2 == 0;
    config.tcp.window_scaling = bits & 4 == 0;
    config.tcp.nodelay = bits & 8 != 0;
    config.tcp.ecn = if bits & 16 == 0 { Ecn::default() } else { Ecn::Request };
    config.tcp.reset_on_give_up = bits & 32 != 0;
    config.tcp.abort_on_overflow = bits & 64 != 0;
    config.tcp.reset_on_embryonic_syn = bits & 128 == 0;
    config.tcp.receive_buffer = input.pick(&[60_000, 3000, 1, 200_000]);
    config.tcp.send_buffer = input.pick(&[60_000, 3000, 1, 100_000]);
    config.tcp.max_embryonic = input.pick(&[100, 1, 0]);
    config.tcp.max_orphans = input.pick(&[100, 1, 0]);
    config.tcp.max_time_wait = input.pick(&[100, 1, 0]);
    config.tcp.max_ooo_ranges = input.pick(&[256, 2]);
    config.tcp.retries = 5;
    config.mtu = input.pick(&[1500, 1280, 9000]);
    let bits = input.byte();
    config.max_packet = if bits & 1 == 0 { config.mtu } else { 65_535 };
    config.tcp.min_kept = if bits & 2 == 0 { 1 } else { config.tcp.min_kept };
    config.checksums.transmit = TransmitChecksum::Full;
    config
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let addr = |text: &str| text.parse::<IpAddr>().expect("it is an address");
        let mut config = config(input, [addr("192.0.2.1"), addr("2001:db8::1")]);
        let bits = input.byte();
        config.intercept.tcp = bits & 1 != 0;
        config.intercept.udp = bits & 2 != 0;
        config.intercept.echo = bits & 4 != 0;
        config.any_address = bits & 8 != 0;
        config.intercept.other = bits & 32 != 0;
        config.intercept.groups = bits & 64 != 0;
        let [us, them] =
            if bits & 16 == 0 { ["192.0.2.1", "192.0.2.2"] } else { ["2001:db8::1", "2001:db8::2"] }
                .map(addr);
        let host = Host::new(Stack::new(config, [7; 16]), Instant::from_millis(1000));
        let (held, listeners, udp) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, forger: Forger::default(), us, them, held, listeners, udp, late: false }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=5 => {
                let packet = self.forger.segment(input, self.us, self.them, self.host.now);
                self.give(&packet);
            }
            6 => self.pass(input),
            7 => self.network(input),
            8 => self.open(input),
            9 => self.datagrams(input),
            10 => self.late = input.byte() & 1 == 1,
            _ => self.call(input),
        }
        let intercepted: Vec<_> = self
            .host
            .named
            .keys()
            .filter(|id| !self.held.contains(id) && !self.host.named[id].closed)
            .copied()
            .collect();
        self.held.extend(intercepted);
        self.held.retain(|id| !self.host.named[id].closed);
        if !self.late {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let sent = self.host.drain();
        sent.iter().for_each(|sent| self.forger.note(sent));
    }

    /// Delivers a packet. A reset is never answered with a reset (`Rule::DropResetToReset`).
    fn give(&mut self, packet: &[u8]) {
        let reset = segment_of(packet).is_some_and(|segment| segment.flags.contains(TcpFlags::RST));
        if reset {
            self.drain();
        }
        let _ = self.host.arrival(packet);
        if reset {
            for sent in self.host.drain() {
                let answer = segment_of(&sent).is_some_and(|segment| segment.flags.contains(TcpFlags::RST));
                assert!(!answer, "a reset is answered with a reset");
                self.forger.note(&sent);
            }
        }
    }

    fn pass(&mut self, input: &mut Input<'_>) {
        let millis = input.pick(&[1, 10, 45, 250, 1100, 5000, 61_000, 1_000_000]);
        self.pass_millis(millis);
    }

    fn pass_millis(&mut self, millis: u64) {
        let (end, forger) = (self.host.now + Duration::from_millis(millis), &mut self.forger);
        self.host.pass(end, |sent| sent.iter().for_each(|sent| forger.note(sent)));
    }

    /// Packets that are not TCP, are incomplete, or do not come from a peer.
    fn network(&mut self, input: &mut Input<'_>) {
        let (us, them, now) = (self.us, self.them, self.host.now);
        let packet = match input.below(6) {
            0 => self.forger.error(input),
            1 => {
                let data = vec![9; usize::from(input.byte()) * 8];
                let reply = input.byte() & 1 == 1;
                Some(forge::message(them, us, Icmp::Echo { reply, ident: 1, seq: 2, data: &data }))
            }
            2 => {
                let (src, dst) = (input.pick(&THEIRS), input.pick(&OURS));
                let len = input.pick(&[0, 9, 1000, 3000]);
                Some(forge::datagram(SocketAddr::new(them, src), SocketAddr::new(us, dst), len))
            }
            3 => self.forger.reflection(input),
            4 => {
                let mut raw = input.take(usize::from(u8::MAX)).to_vec();
                repair(&mut raw);
                Some(raw)
            }
            _ => Some(self.forger.segment(input, us, them, now)),
        };
        let Some(packet) = packet else { return };
        if input.once_in(3) {
            for part in forge::fragments(input, &packet) {
                self.give(&part);
            }
        } else {
            self.give(&packet);
        }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let local = SocketAddr::new(self.us, input.pick(&OURS));
        match input.below(4) {
            0 => {
                let backlog = input.pick(&[8, 0, 1]);
                self.listeners.extend(self.host.call(|stack| stack.tcp_listen(local, backlog)));
            }
            1 => {
                let remote = SocketAddr::new(self.them, input.pick(&THEIRS));
                let from = (input.byte() & 1 == 0).then_some(local);
                if let Ok(id) = self.host.call(|stack| stack.tcp_connect(from, remote)) {
                    self.hold(id);
                }
            }
            2 => {
                for at in 0..self.listeners.len() {
                    let listener = self.listeners[at];
                    while let Some(id) = self.host.call(|stack| stack.tcp_accept(listener)) {
                        self.hold(id);
                    }
                }
            }
            _ => match input.byte() {
                0..=100 => {
                    if let Some(listener) = self.listeners.pop() {
                        self.host.call(|stack| stack.tcp_unlisten(listener));
                    }
                }
                101..=150 => {
                    self.host.call(|stack| stack.tcp_kill_listener(local));
                }
                _ => {
                    let flow = FourTuple { local, remote: SocketAddr::new(self.them, input.pick(&THEIRS)) };
                    self.host.call(|stack| stack.tcp_kill(&flow));
                }
            },
        }
    }

    fn hold(&mut self, id: ConnId) {
        self.host.name(id);
        self.held.push(id);
    }

    fn datagrams(&mut self, input: &mut Input<'_>) {
        let (local, remote) =
            (SocketAddr::new(self.us, input.pick(&OURS)), SocketAddr::new(self.them, input.pick(&THEIRS)));
        let len = input.pick(&[0, 5, 1472, 5000, 70_000]);
        let what = input.below(8);
        let udp = self.udp.last().copied();
        let bound = self.host.call(|stack| {
            let socket = udp.and_then(|id| stack.udp(id));
            match (what, socket) {
                (0, _) => return stack.udp_bind(local).ok(),
                (1, Some(mut udp)) => drop(udp.connect(remote)),
                (2, Some(mut udp)) => drop(udp.send(&vec![3; len], Some(remote))),
                (3, Some(mut udp)) => drop(udp.receive()),
                (4, Some(udp)) => udp.close(),
                (5, _) => drop(stack.echo_send(None, remote.ip(), 1, 2, &vec![4; len])),
                (6, _) => drop(stack.poll_echo_reply()),
                _ => {
                    if let Some(request) = stack.poll_echo_request() {
                        let _ = stack.echo_reply(&request);
                    }
                    if let Some(raw) = stack.poll_raw_packet() {
                        let _ = stack.raw_send(raw.local, raw.remote, raw.protocol, &raw.payload, raw.ip);
                        let _ = stack.raw_reject(
                            &raw,
                            IcmpError::protocol_unreachable(raw.local.is_ipv6(), 0),
                            None,
                        );
                    }
                }
            }
            None
        });
        self.udp.extend(bound);
        if what == 4 {
            self.udp.pop();
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let Some(last) = self.held.len().checked_sub(1) else { return };
        let at = last - input.below(3) as usize % (last + 1);
        let id = self.held[at];
        match input.below(12) {
            0..=3 => self.host.send(id, input),
            4..=6 => self.host.receive(id, input),
            7 => drop(self.host.call(|stack| stack.tcp(id).map(|mut tcp| tcp.shutdown()))),
            8 => self.set(id, input),
            9 => self.answer(id, input),
            10 => {
                self.host.abort(id);
            }
            _ => {
                self.held.remove(at);
                self.host.close(id);
            }
        }
    }

    /// Calls for a single stack only: they discard data that its application has not read.
    fn set(&mut self, id: ConnId, input: &mut Input<'_>) {
        if input.once_in(3) {
            // After a shutdown of the read direction the end of the stream is not the peer's.
            self.host.named.get_mut(&id).expect("it has a name").failed = true;
            self.host.call(|stack| {
                let mut tcp = stack.tcp(id).expect("a user has it");
                let _ = tcp.shutdown_read();
                let _ = (tcp.take_error(), tcp.poll_drained(), tcp.poll_writable(), tcp.info());
            });
        } else {
            self.host.set(id, input);
        }
    }

    fn answer(&mut self, id: ConnId, input: &mut Input<'_>) {
        let error = IcmpError::host_unreachable(self.us.is_ipv6());
        let unreachable = Answer::Unreachable { error, from: None };
        let answer = input.pick(&[Answer::Accept, Answer::Accept, Answer::Refuse, unreachable, Answer::Drop]);
        self.host.call(|stack| stack.tcp_answer(id, answer));
    }

    /// Closes everything: all connections end, and leave nothing behind.
    fn finish(&mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            self.host.call(|stack| stack.tcp_unlisten(listener));
        }
        for id in std::mem::take(&mut self.held) {
            self.host.close(id);
        }
        self.pass_millis(24 * 3600 * 1000);
        self.host.assert_over();
        self.host.assert_accounted();
        let ours: Vec<u32> =
            self.host.named.values().filter_map(|named| named.end.as_ref()?.numbers.ours).collect();
        for named in self.host.named.values() {
            let ended = named.end.as_ref().expect("it is over");
            if let Some(irs) = ended.numbers.peers {
                // A packet that the stack sent, now or on an earlier connection, may come back to it (`Forger::reflection`). Its
                // data depends on its distance from the ISS of that connection.
                let reflected =
                    |read, i| ours.iter().any(|iss| read == byte(irs.wrapping_sub(*iss).wrapping_add(i)));
                let is_expected = |(i, read): (u32, &u8)| {
                    *read == byte(irs.wrapping_add(1).wrapping_add(i)) || reflected(*read, i)
                };
                assert!((0..).zip(&named.read).all(is_expected), "it was read and never sent: {ended:?}");
            }
        }
    }
}

fn segment_of(packet: &[u8]) -> Option<TcpHeader> {
    let parsed = IpPacket::parse(packet)
        .ok()
        .filter(|parsed| parsed.header.protocol == ip::TCP && parsed.fragment.is_none())?;
    Some(TcpHeader::parse(parsed.payload).ok()?.0)
}
