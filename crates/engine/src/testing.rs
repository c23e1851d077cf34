//! Shared parts of the tests of the datagram protocols: a stack, and packets for it.

use crate::{Config, Event, Instant, Received, Stack, Transmit, Verdict};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use lastack_wire::icmp::{Icmp, IcmpError};
use lastack_wire::ip::{self, IpHeader, IpPacket};
use lastack_wire::udp::UdpHeader;

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An IP packet with any payload.
pub(crate) fn packet(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_with(IpHeader::new(src, dst, protocol), payload)
}

pub(crate) fn packet_with(header: IpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.emit(payload.len(), &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn datagram(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    datagram_with(IpHeader::new(src.ip(), dst.ip(), ip::UDP), src.port(), dst.port(), payload)
}

pub(crate) fn datagram_with(header: IpHeader, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    UdpHeader { src_port, dst_port }.emit(&header, payload, &mut datagram);
    packet_with(header, &datagram)
}

/// An ICMP message in a packet.
pub(crate) fn icmp(src: IpAddr, dst: IpAddr, message: Icmp<'_>) -> Vec<u8> {
    let header = IpHeader::new(src, dst, if src.is_ipv6() { ip::ICMPV6 } else { ip::ICMP });
    let mut payload = Vec::new();
    message.emit(&header, &mut payload);
    packet_with(header, &payload)
}

/// An ICMP error about `offending`, from `src`.
pub(crate) fn icmp_error(src: IpAddr, offending: &[u8], error: IcmpError) -> Vec<u8> {
    let dst = IpPacket::parse(offending).unwrap().header.src;
    icmp(src, dst, Icmp::Error { error, quoted: error.quote(offending) })
}

/// A packet that the stack sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub bytes: Vec<u8>,
    pub transmit: Transmit,
}

impl Sent {
    pub fn ip(&self) -> IpPacket<'_> {
        IpPacket::parse(&self.bytes).unwrap()
    }

    /// Ports and payload of a datagram.
    pub fn udp(&self) -> (SocketAddr, SocketAddr, &[u8]) {
        let parsed = self.ip();
        let (udp, payload) = UdpHeader::parse(&parsed.header, parsed.payload).unwrap();
        let src = SocketAddr::new(parsed.header.src, udp.src_port);
        (src, SocketAddr::new(parsed.header.dst, udp.dst_port), payload)
    }

    pub fn icmp(&self) -> Icmp<'_> {
        let parsed = self.ip();
        Icmp::parse(&parsed.header, parsed.payload).unwrap()
    }

    /// An ICMP error and the packet it quotes.
    pub fn error(&self) -> (IcmpError, &[u8]) {
        match self.icmp() {
            Icmp::Error { error, quoted } => (error, quoted),
            other => panic!("not an error: {other:?}"),
        }
    }
}

/// A stack, its peer's address, and a clock.
#[derive(Debug)]
pub(crate) struct Bench {
    pub stack: Stack,
    pub now: Instant,
    pub us: IpAddr,
    pub peer: IpAddr,
    pub router: IpAddr,
    pub v6: bool,
}

impl Bench {
    pub fn new(v6: bool) -> Self {
        Self::with(v6, |_| {})
    }

    /// A stack with one address of each family.
    pub fn with(v6: bool, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new([addr("192.0.2.1"), addr("2001:db8::1")]);
        change(&mut config);
        let [us, peer, router] = if v6 {
            ["2001:db8::1", "2001:db8::2", "2001:db8::99"]
        } else {
            ["192.0.2.1", "192.0.2.2", "192.0.2.99"]
        }
        .map(addr);
        Self { stack: Stack::new(config, [7; 16]), now: Instant::from_millis(1000), us, peer, router, v6 }
    }

    pub fn both() -> [Self; 2] {
        [false, true].map(Self::new)
    }

    pub fn us(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.us, port)
    }

    pub fn peer(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.peer, port)
    }

    pub fn give(&mut self, packet: &[u8]) -> Verdict {
        self.stack.handle_packet(self.now, packet, Received::default())
    }

    /// Everything that the stack has to send.
    pub fn take(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(self.now, &mut bytes) {
            sent.push(Sent { bytes: core::mem::take(&mut bytes), transmit });
        }
        assert!(!self.stack.has_output());
        sent
    }

    /// The only packet that the stack has to send.
    pub fn take_one(&mut self) -> Sent {
        let mut sent = self.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    pub fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.stack.poll_event()).collect()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.stack.poll_timeout().is_some_and(|due| due <= self.now) {
            self.stack.handle_timeout(self.now);
        }
    }
}
