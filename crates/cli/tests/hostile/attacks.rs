//! What a hostile peer, or somebody beside the path, can send without end, and what an ordinary peer sends in its place.

use crate::link::Link;
use crate::packets::{Flow, Random, SMALL_MSS, sack};
use crate::peer::Peer;
use lastack_wire::icmp::{Icmp, IcmpError};
use lastack_wire::ip::{self, Fragment, IpHeader};
use lastack_wire::tcp::{TcpFlags, TcpOptions};
use lastack_wire::udp::UdpHeader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Where the hostile peer stands, and what it has brought about.
pub struct Ground<'a> {
    pub link: &'a Link,
    /// The victim listens there and echoes.
    pub server: SocketAddrV4,
    /// An address of the hostile peer, on the link.
    pub sender: Ipv4Addr,
    /// Bytes that the victim shall have in flight where an attack needs that.
    pub flight: u32,
}

/// The next packet, by the number of those before it.
pub type Packets = Box<dyn FnMut(u32) -> Vec<u8>>;

/// Makes connections as needed, and then packets, of an ordinary peer and of a hostile one.
pub type Prepare = fn(&Ground<'_>) -> (Packets, Packets);

pub struct Attack {
    pub name: &'static str,
    pub prepare: Prepare,
    /// As many packets fill what is bounded: afterwards memory must not grow.
    pub fills: u32,
    /// Each packet opens a flow, for which `run` opens a socket of the host.
    pub opens: bool,
}

const fn attack(name: &'static str, prepare: Prepare) -> Attack {
    Attack { name, prepare, fills: 0, opens: false }
}

/// Those for which the victim has to have data to send, so that they are tried on `run`, too.
pub const ON_A_SENDER: &[Attack] = &[
    attack("SACK of four single segments, each time others", sack_spread),
    attack("SACK of four ranges of nearly everything", sack_wide),
    attack("ACKs that advance by a byte, in the middle of segments", ack_by_byte),
    attack("windows that shut and open", windows),
];

pub const ON_A_RECEIVER: &[Attack] = &[
    attack("single bytes out of order, with gaps", gaps),
    attack("out of order data that overlaps", overlaps),
    attack("data behind the window, before and after it", outside),
    attack("resets and SYNs in the window", blind),
    Attack { fills: 5000, opens: true, ..attack("SYNs from as many addresses", syns) },
    attack("SYN and RST from as many addresses", syn_rst),
    attack("ACKs of no connection", stray),
    Attack { opens: true, ..attack("SYNs to closed ports", closed) },
    Attack { fills: 5000, ..attack("fragments of packets that stay incomplete", fragments) },
    attack("fragments that overlap, of one packet", overlapping_fragments),
    attack("ICMP errors about the connection", icmp_errors),
    Attack { opens: true, ..attack("datagrams to closed ports", datagrams) },
    attack("echo requests of 1,400 bytes", echo_requests),
    attack("TCP options without meaning", options),
    attack("segments with damaged bits", damaged),
    attack("chains of IPv6 extension headers", extension_headers),
];

impl Ground<'_> {
    fn flow(&self, port: u16) -> Flow {
        Flow { from: SocketAddrV4::new(self.sender, port), to: self.server }
    }

    fn connect(&self, port: u16) -> Peer {
        Peer::connect(self.link, self.flow(port), TcpOptions { mss: Some(1460), ..TcpOptions::default() })
    }

    /// A connection on which the victim has as many small segments in flight as `flight` says, and how many bytes
    /// these have.
    fn grown(&self) -> (Peer, u32) {
        let options = TcpOptions {
            mss: Some(SMALL_MSS),
            window_scale: Some(14),
            sack_permitted: true,
            ..TcpOptions::default()
        };
        let mut peer = Peer::connect(self.link, self.flow(20_000), options);
        let flight = peer.grow(self.link, self.flight);
        (peer, flight)
    }

    /// Single bytes in order, and the echoes acknowledged some time after they have come.
    fn ordinary(&self) -> Packets {
        let peer = self.connect(10_000);
        Box::new(move |n| {
            let acked = peer.ack.wrapping_add(n.saturating_sub(64));
            peer.flow.tcp(
                TcpFlags::ACK | TcpFlags::PSH,
                peer.seq.wrapping_add(n),
                acked,
                TcpOptions::default(),
                b"x",
            )
        })
    }

    /// The ordinary peer, and a hostile one that has a connection of its own.
    fn beside(&self, hostile: impl FnMut(u32) -> Vec<u8> + 'static) -> (Packets, Packets) {
        (self.ordinary(), Box::new(hostile))
    }
}

/// An address for each number.
fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + n)
}

/// The ordinary peer of a sender repeats an ACK, as every third segment that gets lost makes it do.
fn duplicate_acks(peer: Peer) -> Packets {
    Box::new(move |_| peer.ack(0, TcpOptions::default()))
}

fn sack_spread(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, flight) = ground.grown();
    let mss = u32::from(SMALL_MSS);
    let segments = flight / mss - 8;
    let hostile = move |n: u32| {
        let first = 1 + n * 8 % segments;
        let block = |i: u32| {
            let start = peer.ack.wrapping_add((first + 2 * i) * mss);
            (start, start.wrapping_add(mss))
        };
        peer.ack(0, sack([0, 1, 2, 3].map(block)))
    };
    (duplicate_acks(peer), Box::new(hostile))
}

fn sack_wide(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, flight) = ground.grown();
    let mss = u32::from(SMALL_MSS);
    // First every second segment, so that there are ranges to walk over.
    let mut spread = spread_once(peer, flight);
    let at = move |offset: u32| peer.ack.wrapping_add(offset);
    let wide = move |_| {
        peer.ack(
            0,
            sack([
                (at(mss), at(flight)),
                (at(mss), at(flight - mss)),
                (at(2 * mss), at(flight)),
                (at(3 * mss), at(flight - mss)),
            ]),
        )
    };
    let ordinary = Box::new(move |n: u32| spread(n).unwrap_or_else(|| peer.ack(0, TcpOptions::default())));
    (ordinary, Box::new(wide))
}

/// SACKs of every second segment, once.
fn spread_once(peer: Peer, flight: u32) -> impl FnMut(u32) -> Option<Vec<u8>> {
    let mss = u32::from(SMALL_MSS);
    move |n| {
        let first = 1 + n * 8;
        let block = |i: u32| {
            let start = peer.ack.wrapping_add((first + 2 * i) * mss);
            (start, start.wrapping_add(mss))
        };
        ((first + 8) * mss < flight).then(|| peer.ack(0, sack([0, 1, 2, 3].map(block))))
    }
}

fn ack_by_byte(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, _) = ground.grown();
    let middle = u32::from(SMALL_MSS) / 2;
    (duplicate_acks(peer), Box::new(move |n| peer.ack(middle + n, TcpOptions::default())))
}

fn windows(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, _) = ground.grown();
    let hostile = move |n: u32| {
        let window = if n.is_multiple_of(2) { 0 } else { 65535 };
        peer.flow.tcp_with_window(TcpFlags::ACK, peer.seq, peer.ack, window, TcpOptions::default(), b"")
    };
    (duplicate_acks(peer), Box::new(hostile))
}

fn gaps(ground: &Ground<'_>) -> (Packets, Packets) {
    let peer = ground.connect(20_000);
    // From the end of the window to its beginning, so that each range goes before the others.
    ground.beside(move |n| peer.segment(TcpFlags::ACK, 60_000 - 2 * (n % 29_999), b"x"))
}

fn overlaps(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, mut random) = (ground.connect(20_000), Random(1));
    ground.beside(move |_| {
        let data = [b'x'; 1400];
        let len = 1 + random.below(1400) as usize;
        peer.segment(TcpFlags::ACK, 1 + random.below(58_000), &data[..len])
    })
}

fn outside(ground: &Ground<'_>) -> (Packets, Packets) {
    let peer = ground.connect(20_000);
    ground.beside(move |n| {
        let offset = if n.is_multiple_of(2) { 0_u32.wrapping_sub(1 + n) } else { (1 << 26) + n };
        peer.segment(TcpFlags::ACK, offset, b"x")
    })
}

fn blind(ground: &Ground<'_>) -> (Packets, Packets) {
    let peer = ground.connect(20_000);
    ground.beside(move |n| {
        let flags = if n.is_multiple_of(2) { TcpFlags::RST } else { TcpFlags::SYN };
        peer.segment(flags, 1 + n % 60_000, b"")
    })
}

fn syns(ground: &Ground<'_>) -> (Packets, Packets) {
    let to = ground.server;
    ground.beside(move |n| Flow { from: SocketAddrV4::new(address(n), 5000), to }.syn(n))
}

fn syn_rst(ground: &Ground<'_>) -> (Packets, Packets) {
    let to = ground.server;
    ground.beside(move |n| {
        let flow = Flow { from: SocketAddrV4::new(address(n / 2), 5000), to };
        match n % 2 {
            0 => flow.syn(1000),
            _ => flow.tcp(TcpFlags::RST, 1001, 0, TcpOptions::default(), b""),
        }
    })
}

fn stray(ground: &Ground<'_>) -> (Packets, Packets) {
    let (to, mut random) = (ground.server, Random(2));
    ground.beside(move |n| {
        let flow = Flow { from: SocketAddrV4::new(address(n), 5000), to };
        flow.tcp(TcpFlags::ACK, random.next() as u32, random.next() as u32, TcpOptions::default(), b"data")
    })
}

fn closed(ground: &Ground<'_>) -> (Packets, Packets) {
    let (sender, server) = (ground.sender, *ground.server.ip());
    ground.beside(move |n| {
        let to = SocketAddrV4::new(server, 1024 + (n % 60_000) as u16);
        Flow { from: SocketAddrV4::new(sender, 5000), to }.syn(n)
    })
}

fn fragments(ground: &Ground<'_>) -> (Packets, Packets) {
    let flow = ground.flow(5000);
    ground.beside(move |n| {
        let fragment = Fragment { ident: n & 0xffff, offset: 8 * (1 + n % 100), more: true };
        flow.fragment(fragment, &[0; 1000])
    })
}

fn overlapping_fragments(ground: &Ground<'_>) -> (Packets, Packets) {
    let (flow, mut random) = (ground.flow(5000), Random(3));
    ground.beside(move |_| {
        let fragment = Fragment { ident: 1, offset: 8 * (1 + random.below(7000)), more: true };
        flow.fragment(fragment, &[0; 1400][..8 * (1 + random.below(100)) as usize])
    })
}

fn icmp_errors(ground: &Ground<'_>) -> (Packets, Packets) {
    let peer = ground.connect(20_000);
    let mut random = Random(4);
    ground.beside(move |n| {
        let kinds = [
            IcmpError::packet_too_big(false, 68 + random.below(1400)),
            IcmpError::host_unreachable(false),
            IcmpError::time_exceeded(false),
            IcmpError::port_unreachable(false),
        ];
        let back = Flow { from: peer.flow.to, to: peer.flow.from };
        let quoted =
            back.tcp(TcpFlags::ACK, random.next() as u32, peer.seq, TcpOptions::default(), &[0; 100]);
        let error = kinds[n as usize % kinds.len()];
        let ip = peer.flow.header(ip::ICMP);
        let mut message = Vec::new();
        Icmp::Error { error, quoted: error.quote(&quoted) }.emit(&ip, &mut message);
        packet(&ip, &message)
    })
}

fn datagrams(ground: &Ground<'_>) -> (Packets, Packets) {
    let to = ground.server;
    ground.beside(move |n| {
        let ip = Flow { from: SocketAddrV4::new(address(n % 5000), 5000), to }.header(ip::UDP);
        let mut datagram = Vec::new();
        UdpHeader { src_port: 5000, dst_port: 1 + (n % 60_000) as u16 }.emit(&ip, &[0; 100], &mut datagram);
        packet(&ip, &datagram)
    })
}

fn echo_requests(ground: &Ground<'_>) -> (Packets, Packets) {
    let ip = ground.flow(0).header(ip::ICMP);
    ground.beside(move |n| {
        let mut message = Vec::new();
        Icmp::Echo { reply: false, ident: 7, seq: n as u16, data: &[0; 1400] }.emit(&ip, &mut message);
        packet(&ip, &message)
    })
}

fn options(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, mut random) = (ground.connect(20_000), Random(5));
    ground.beside(move |_| {
        let mut packet = peer.segment(TcpFlags::ACK, 0, &[0; 40]);
        // The 40 bytes behind the header become options.
        let len = packet.len();
        packet[len - 40..].iter_mut().for_each(|byte| *byte = random.below(40) as u8);
        packet[20 + 12] = 15 << 4;
        lastack_wire::tcp::fill_checksum(&peer.flow.header(ip::TCP), &mut packet[20..]);
        packet
    })
}

fn damaged(ground: &Ground<'_>) -> (Packets, Packets) {
    let (peer, mut random) = (ground.connect(20_000), Random(6));
    ground.beside(move |_| {
        let mut packet = peer.segment(TcpFlags::ACK, 0, b"some data");
        for _ in 0..=random.below(4) {
            let bit = random.below(8 * packet.len() as u32) as usize;
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        // The version stays, by which the link chooses the protocol; half of the checksums fit.
        packet[0] = packet[0] & 0x0f | 0x40;
        if random.below(2) == 0 {
            lastack_wire::tcp::fill_checksum(&peer.flow.header(ip::TCP), &mut packet[20..]);
        }
        packet
    })
}

fn extension_headers(ground: &Ground<'_>) -> (Packets, Packets) {
    let mut random = Random(7);
    let [src, dst] = [2, 1].map(|host| IpAddr::from(Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, host)));
    ground.beside(move |_| {
        // Hop-by-hop, routing, destination options, each with the next behind it; 8 bytes are the shortest.
        let kinds: Vec<u8> = (0..170).map(|_| [0, 43, 60][random.below(3) as usize]).collect();
        let mut payload = Vec::new();
        for next in kinds.iter().skip(1).chain([&ip::TCP]) {
            payload.extend([*next, 0, 1, 4, 0, 0, 0, 0]);
        }
        packet(&IpHeader::new(src, dst, kinds[0]), &payload)
    })
}

fn packet(header: &IpHeader, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    header.emit(payload.len(), &mut packet);
    packet.extend_from_slice(payload);
    packet
}
