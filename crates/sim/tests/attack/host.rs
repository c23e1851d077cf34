//! A host that is attacked, alone: all others are made by hand.

use crate::forge::{Segment, raw};
use lastack_engine::{Config, FourTuple, Instant, ListenerId, Received, Stack, Verdict};
use lastack_wire::ip::{self, IpHeader, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader, TcpOptions, Timestamps};
use lastack_wire::udp::UdpHeader;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A host, and what it sent to the attacker and when.
pub struct Host {
    pub stack: Stack,
    pub now: Instant,
    pub us: IpAddr,
    pub attacker: IpAddr,
    /// The last segment to anybody.
    pub last: Option<TcpHeader>,
    /// How much data was in it, and its destination.
    pub last_len: usize,
    pub last_flow: Option<FourTuple>,
    pub listener: ListenerId,
    pub seen: Vec<(Instant, Vec<u8>)>,
}

/// The port of a connection of its own, and one with no listener.
pub const OPEN: u16 = 1935;
pub const CLOSED: u16 = 9;

impl Host {
    pub fn new(v6: bool, seed: u8, change: impl Fn(&mut Config)) -> Self {
        let us = address(v6, 0, 1);
        let mut config = Config::new([us]);
        change(&mut config);
        let mut stack = Stack::new(config, [seed; 16]);
        let listener = stack.tcp_listen(SocketAddr::new(us, OPEN), 64).expect("the port is free");
        let now = Instant::from_millis(5000);
        Self {
            stack,
            now,
            us,
            attacker: address(v6, 0, 66),
            last: None,
            last_len: 0,
            last_flow: None,
            listener,
            seen: Vec::new(),
        }
    }

    pub fn give(&mut self, packet: &[u8]) -> Verdict {
        let verdict = self.stack.handle_packet(self.now, packet, Received::default());
        self.send();
        verdict
    }

    /// Sends its pending packets, and discards its events.
    pub fn send(&mut self) {
        let mut sent = Vec::new();
        while self.stack.poll_transmit(self.now, &mut sent).is_some() {
            let parsed = IpPacket::parse(&sent).expect("our packets are whole");
            if parsed.header.protocol == ip::TCP {
                let (tcp, text) = TcpHeader::parse(parsed.payload).expect("our segments are whole");
                let remote = SocketAddr::new(parsed.header.src, tcp.src_port);
                let local = SocketAddr::new(parsed.header.dst, tcp.dst_port);
                (self.last_len, self.last_flow) = (text.len(), Some(FourTuple { local, remote }));
                self.last = Some(tcp);
            }
            if parsed.header.dst == self.attacker {
                let mut seen = sent.clone();
                if parsed.header.ident != 0 {
                    // It is different each time; that it reveals nothing has a test of its own.
                    [4, 5, 10, 11].into_iter().for_each(|at| seen[at] = 0);
                }
                self.seen.push((self.now, seen));
            }
        }
        while self.stack.poll_event().is_some() {}
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.stack.handle_timeout(self.now);
        self.send();
    }

    pub fn flow(&self, from: IpAddr, port: u16, to: u16) -> FourTuple {
        FourTuple { local: SocketAddr::new(from, port), remote: SocketAddr::new(self.us, to) }
    }

    pub fn segment(&mut self, flow: FourTuple, flags: TcpFlags, seq: u32, ack: u32) -> Verdict {
        self.give(&Segment { flow, flags, seq, ack, text: b"" }.packet())
    }

    /// Opens a connection from there; the number that the host expects to be acknowledged.
    pub fn open(&mut self, flow: FourTuple, isn: u32) -> u32 {
        self.open_with(flow, isn, TcpOptions::default(), 1000)
    }

    /// The same with these options in the SYN, and this window after it.
    pub fn open_with(&mut self, flow: FourTuple, isn: u32, options: TcpOptions, window: u16) -> u32 {
        let syn = Segment { flow, flags: TcpFlags::SYN, seq: isn, ack: 0, text: b"" };
        let _ = self.give(&syn.with(options, window));
        let answer = self.last.expect("a SYN|ACK");
        let ack = answer.seq.wrapping_add(1);
        let timestamps = answer.options.timestamps.map(|t| Timestamps { val: t.ecr, ecr: t.val });
        let last = Segment { flow, flags: TcpFlags::ACK, seq: isn.wrapping_add(1), ack, text: b"" };
        let _ = self.give(&last.with(TcpOptions { timestamps, ..TcpOptions::default() }, window));
        ack
    }

    pub fn datagram(&mut self, from: IpAddr, port: u16, to: u16) -> Verdict {
        self.payload(from, port, to, b"?")
    }

    pub fn payload(&mut self, from: IpAddr, port: u16, to: u16, payload: &[u8]) -> Verdict {
        let header = IpHeader::new(from, self.us, ip::UDP);
        let mut datagram = Vec::new();
        UdpHeader { src_port: port, dst_port: to }.emit(&header, payload, &mut datagram);
        self.give(&raw(header, &datagram))
    }
}

pub fn address(v6: bool, net: u16, host: u16) -> IpAddr {
    let [high, low] = host.to_be_bytes();
    if v6 { [0x2001, 0xdb8, net, 0, 0, 0, 0, host].into() } else { [20 + net as u8, 0, high, low].into() }
}
