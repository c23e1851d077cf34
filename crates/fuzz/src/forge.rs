//! Packets that are nearly valid: the packets of a stack determine what its peer would send next, and
//! the input decides how far to deviate from that.

use crate::Input;
use crate::host::byte;
use lastack_engine::{FourTuple, Instant};
use lastack_wire::{
    Fragment, Icmp, IcmpError, IpHeader, IpPacket, TcpFlags, TcpHeader, TcpOptions, Timestamps, UdpHeader,
    ip, tcp,
};
use std::net::{IpAddr, SocketAddr};

/// The next segment of the peer of a connection.
#[derive(Clone, Copy, Debug)]
struct Known {
    flow: FourTuple,
    seq: u32,
    ack: u32,
    timestamp: Option<u32>,
}

/// Generates packets for a stack.
#[derive(Debug, Default)]
pub struct Forger {
    known: Vec<Known>,
    /// The last packets sent, for ICMP errors about them.
    sent: Vec<Vec<u8>>,
}

/// Max connections and packets that are kept.
const MAX: usize = 16;

/// Interesting ports: listeners, sockets, the peers of active opens, a closed port.
pub const OURS: [u16; 5] = [80, 81, 4000, 4001, 7];
pub const THEIRS: [u16; 4] = [5000, 5001, 5002, 53];

const FLAGS: [TcpFlags; 16] = {
    use TcpFlags as F;
    let (ack, syn, fin, rst, psh) = (F::ACK, F::SYN, F::FIN, F::RST, F::PSH);
    [
        ack,
        ack,
        ack,
        ack.union(psh),
        ack.union(psh),
        syn,
        syn,
        syn.union(ack),
        ack.union(fin),
        ack.union(fin).union(psh),
        rst,
        rst.union(ack),
        fin,
        F::empty(),
        syn.union(fin),
        ack.union(F::URG),
    ]
};

impl Forger {
    /// Learns from a packet sent by the stack.
    pub fn note(&mut self, packet: &[u8]) {
        if self.sent.len() == MAX {
            self.sent.remove(0);
        }
        self.sent.push(packet.to_vec());
        let Some(parsed) = IpPacket::parse(packet).ok().filter(|parsed| parsed.fragment.is_none()) else {
            return;
        };
        if parsed.header.protocol != ip::TCP {
            return;
        }
        let Ok((segment, text)) = TcpHeader::parse(parsed.payload) else { return };
        let flow = FourTuple {
            local: SocketAddr::new(parsed.header.src, segment.src_port),
            remote: SocketAddr::new(parsed.header.dst, segment.dst_port),
        };
        let has = |flag| u32::from(segment.flags.contains(flag));
        let before = self.known.iter().position(|known| known.flow == flow).map(|at| self.known.remove(at));
        let seq = match segment.flags.contains(TcpFlags::ACK) {
            true => segment.ack,
            false => before.map_or(0, |known| known.seq),
        };
        let ack = segment.seq.wrapping_add(text.len() as u32 + has(TcpFlags::SYN) + has(TcpFlags::FIN));
        let timestamp = segment.options.timestamps.map(|timestamps| timestamps.val);
        if self.known.len() == MAX {
            self.known.remove(0);
        }
        self.known.push(Known { flow, seq, ack, timestamp });
    }

    /// A segment, mostly of a known connection.
    pub fn segment(&self, input: &mut Input<'_>, us: IpAddr, them: IpAddr, now: Instant) -> Vec<u8> {
        let which = usize::from(input.byte());
        let known = match self.known.iter().rev().nth(which % MAX) {
            Some(known) if which < 192 => *known,
            _ => Known {
                flow: FourTuple {
                    local: SocketAddr::new(us, input.pick(&OURS)),
                    remote: SocketAddr::new(them, input.pick(&THEIRS)),
                },
                seq: 0xffff_ff00,
                ack: 0,
                timestamp: None,
            },
        };
        let flags = match input.byte() {
            at @ 0..=239 => FLAGS[usize::from(at) % FLAGS.len()],
            _ => TcpFlags::from_bits_truncate(input.word()),
        };
        let mut ip = IpHeader::new(known.flow.remote.ip(), known.flow.local.ip(), ip::TCP);
        ip.traffic_class = input.pick(&[0, 0, 0, 2, 3, 1]);
        let header = TcpHeader {
            src_port: known.flow.remote.port(),
            dst_port: known.flow.local.port(),
            seq: known.seq.wrapping_add(offset(input)),
            ack: known.ack.wrapping_add(offset(input)),
            flags,
            window: input.pick(&[65_535, 65_535, 8192, 1000, 1, 0]),
            urgent: 0,
            options: options(input, &known, flags, now),
        };
        let len = input.pick(&[0, 0, 1, 10, 500, 1400, 3000]);
        let damaged = input.once_in(64);
        let mut packet = emit(&ip, &header, len);
        if damaged {
            packet[ip.len() + 16] ^= 1;
        }
        packet
    }

    /// An ICMP error about one of the last packets, with a quote whose length the input decides.
    pub fn error(&self, input: &mut Input<'_>) -> Option<Vec<u8>> {
        let about = self.sent.iter().rev().nth(usize::from(input.byte()) % MAX)?;
        let header = IpPacket::parse(about).ok()?.header;
        let v6 = header.is_v6();
        let kinds: &[(u8, u8)] = if v6 {
            &[(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (3, 1), (4, 1), (100, 9)]
        } else {
            &[(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (4, 0), (5, 1), (11, 0), (12, 0)]
        };
        let (kind, code) = input.pick(kinds);
        let info = input.pick(&[0, 68, 576, 1280, 1300, 1499, 9000]);
        let error = IcmpError { v6, kind, code, info };
        let mut quoted = error.quote(about).to_vec();
        quoted.truncate(input.pick(&[usize::MAX, 28, 48, 68, 20, 1]));
        if input.once_in(4) {
            let at = input.below(quoted.len().max(1) as u32) as usize;
            quoted[at] = input.byte();
        }
        let router = if v6 {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99])
        } else {
            IpAddr::from([192, 0, 2, 99])
        };
        let from = if input.byte() & 1 == 0 { router } else { header.dst };
        Some(message(from, header.src, Icmp::Error { error, quoted: &quoted }))
    }

    /// A packet sent by the stack that comes back: unchanged, or with source and destination swapped.
    pub fn reflection(&self, input: &mut Input<'_>) -> Option<Vec<u8>> {
        let mut packet = self.sent.iter().rev().nth(usize::from(input.byte()) % MAX)?.clone();
        if input.byte() & 1 == 1 {
            let v6 = packet[0] >> 4 == 6;
            let (src, dst, len, ports) = if v6 { (8, 24, 16, 40) } else { (12, 16, 4, 20) };
            (0..len).for_each(|i| packet.swap(src + i, dst + i));
            if packet.len() >= ports + 4 {
                packet.swap(ports, ports + 2);
                packet.swap(ports + 1, ports + 3);
            }
        }
        Some(packet)
    }
}

/// Interesting offsets: zero, close, the edges of windows, anywhere.
pub fn offset(input: &mut Input<'_>) -> u32 {
    match input.below(8) {
        0..=4 => 0,
        5 => input.byte() as i8 as u32,
        6 => input.pick(&[100, 1460, 65_534, 65_535, 65_536, 131_072, 70_000u32.wrapping_neg(), 1 << 31]),
        _ => input.long(),
    }
}

fn options(input: &mut Input<'_>, known: &Known, flags: TcpFlags, now: Instant) -> TcpOptions {
    let bits = input.byte();
    let mut options = TcpOptions::default();
    if flags.contains(TcpFlags::SYN) {
        options.mss = (bits & 1 != 0).then(|| input.pick(&[1460, 536, 88, 3, 65_535, 0]));
        options.window_scale = (bits & 2 != 0).then(|| input.pick(&[7, 0, 14, 255]));
        options.sack_permitted = bits & 4 != 0;
    }
    let timed = if flags.contains(TcpFlags::SYN) {
        bits & 8 != 0
    } else {
        known.timestamp.is_some() != (bits & 8 != 0)
    };
    if timed {
        let val = (now.as_millis() as u32).wrapping_add(offset(input));
        options.timestamps =
            Some(Timestamps { val, ecr: known.timestamp.unwrap_or(0).wrapping_add(offset(input)) });
    }
    for _ in 0..bits >> 5 & 3 {
        let start = known.ack.wrapping_sub(u32::from(input.word()));
        options.sack.push((start, start.wrapping_add(input.pick(&[1, 100, 1460, 5000, 0]))));
    }
    options
}

/// Emits a segment whose data is determined by its place in the sequence space.
fn emit(ip: &IpHeader, header: &TcpHeader, len: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    ip.emit(header.len() + len as usize, &mut packet);
    header.emit(&mut packet);
    let first = header.seq.wrapping_add(u32::from(header.flags.contains(TcpFlags::SYN)));
    packet.extend((0..len).map(|i| byte(first.wrapping_add(i))));
    tcp::fill_checksum(ip, &mut packet[ip.len()..]);
    packet
}

/// A packet with an ICMP message.
pub fn message(src: IpAddr, dst: IpAddr, message: Icmp<'_>) -> Vec<u8> {
    let header = IpHeader::new(src, dst, if src.is_ipv6() { ip::ICMPV6 } else { ip::ICMP });
    let (mut payload, mut packet) = (Vec::new(), Vec::new());
    message.emit(&header, &mut payload);
    header.emit(payload.len(), &mut packet);
    packet.extend_from_slice(&payload);
    packet
}

/// A packet with a datagram of this many bytes.
pub fn datagram(src: SocketAddr, dst: SocketAddr, len: usize) -> Vec<u8> {
    let header = IpHeader::new(src.ip(), dst.ip(), ip::UDP);
    let (mut payload, mut packet) = (Vec::new(), Vec::new());
    UdpHeader { src_port: src.port(), dst_port: dst.port() }.emit(&header, &vec![7; len], &mut payload);
    header.emit(payload.len(), &mut packet);
    packet.extend_from_slice(&payload);
    packet
}

/// The fragments of a packet, which may overlap, leave gaps, or come in any order.
pub fn fragments(input: &mut Input<'_>, packet: &[u8]) -> Vec<Vec<u8>> {
    let Ok(parsed) = IpPacket::parse(packet) else { return Vec::new() };
    let ident = u32::from(input.byte());
    let mut parts = Vec::new();
    for _ in 0..=input.below(5) {
        let offset = usize::from(input.byte()) * 8;
        let len = usize::from(input.byte()) * 8;
        let rest = parsed.payload.get(offset..).unwrap_or_default();
        let more = rest.len() > len || input.once_in(8);
        let (text, mut part) = (&rest[..rest.len().min(len)], Vec::new());
        let fragment = Fragment { ident, offset: offset as u32, more };
        IpHeader { dont_fragment: parsed.header.is_v6(), ..parsed.header }.emit_fragment(
            fragment,
            text.len(),
            &mut part,
        );
        part.extend_from_slice(text);
        parts.push(part);
    }
    parts
}
