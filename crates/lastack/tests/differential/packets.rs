//! Packets of the scripted peer, byte by byte, and what the stack under test sends, as text.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use lastack_wire::{
    Fragment, Icmp as IcmpMessage, IcmpError, IpHeader, IpPacket, TcpFlags, TcpHeader, checksum::Sum, ip,
};

use crate::notation::{Icmp, Origin, Segment};

/// The ISS of the peer.
const IRS: u32 = 0x7fff_f000;
/// The first TSval of the peer.
const CLOCK: u32 = 5_000_000;
const WINDOW: u16 = 65_535;
const RST: u16 = 4;
const ACK: u16 = 16;

/// Who speaks with whom in a scenario. The peer has several ports.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub local: SocketAddr,
    pub peer: IpAddr,
    pub router: IpAddr,
    pub first_port: u16,
}

impl Ends {
    /// Ports that a peer may use.
    pub const PORTS: u16 = 8;

    pub fn peer_at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.peer, self.first_port + port)
    }
}

/// What is known of the stack under test: its ISS, and the last timestamp heard, for each port of the peer.
#[derive(Debug, Default)]
pub struct Known {
    iss: HashMap<u16, u32>,
    timestamp: HashMap<u16, u32>,
    /// Text and FINs up to these numbers were seen.
    sent: HashMap<u16, u32>,
    /// The right edge of the peer's window, as advertised last, and its SND.NXT, both relative to its ISS.
    edge: i64,
    next: i64,
    /// Numbers are relative to SND.NXT, since they depend on the size of a window.
    sized: bool,
}

/// The data that the peer sends at this offset of its stream.
pub fn byte(at: i64) -> u8 {
    at.rem_euclid(251) as u8
}

impl Known {
    /// How many bytes the peer may still send.
    pub fn room(&self) -> usize {
        (self.edge - self.next).max(0) as usize
    }

    /// Whether this is all that the peer has sent, which depends on the size of a window.
    pub fn is_all(&self, read: i64) -> bool {
        self.sized && (read == self.next || read + 1 == self.next)
    }

    pub fn segment(&mut self, ends: &Ends, seg: &Segment) -> Vec<u8> {
        let first = match seg.origin {
            Origin::Iss => seg.seq,
            Origin::Next => self.next + seg.seq,
            Origin::Edge => self.edge + seg.seq,
        };
        self.sized |= seg.origin != Origin::Iss;
        let packet = self.packet(ends, seg, first);
        let (fin, syn) = (i64::from(seg.flags & 1), i64::from(seg.flags >> 1 & 1));
        if seg.flags & RST == 0 && seg.port == 0 && first == self.next {
            let text = if seg.origin == Origin::Iss { seg.len } else { seg.len.min(self.room()) };
            self.next += text as i64 + fin + if self.next == 0 { syn } else { 0 };
        }
        packet
    }

    fn packet(&self, ends: &Ends, seg: &Segment, first: i64) -> Vec<u8> {
        let header = IpHeader {
            traffic_class: seg.traffic_class,
            hop_limit: seg.hop_limit.unwrap_or(64),
            ..IpHeader::new(seg.from.unwrap_or(ends.peer), seg.to.unwrap_or(ends.local.ip()), ip::TCP)
        };
        let options = self.options(seg);
        let words = seg.data_offset.unwrap_or(5 + (options.len() / 4) as u8);
        let iss = self.iss.get(&seg.port).copied().unwrap_or(0);
        let ack = if seg.flags & ACK != 0 { iss.wrapping_add(seg.ack as u32) } else { seg.ack as u32 };
        let window = seg.window.unwrap_or(if seg.flags & RST != 0 { 0 } else { WINDOW });
        let mut tcp = Vec::new();
        tcp.extend((ends.first_port + seg.port).to_be_bytes());
        tcp.extend(ends.local.port().to_be_bytes());
        tcp.extend(IRS.wrapping_add(first as u32).to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([words << 4 | if seg.reserved { 0xe } else { 0 }, seg.flags as u8]);
        tcp.extend(window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(seg.urgent.to_be_bytes());
        tcp.extend(options);
        // A SYN stands before the first byte.
        let text = first + i64::from(seg.flags >> 1 & 1);
        tcp.extend((0..seg.len as i64).map(|at| byte(text + at)));
        let sum = header.pseudo(tcp.len()).add(&tcp).finish() ^ if seg.bad_checksum { 0x5555 } else { 0 };
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Vec::new();
        match seg.fragment {
            None => header.emit(tcp.len(), &mut packet),
            Some((offset, more)) => {
                header.emit_fragment(Fragment { ident: 77, offset, more }, tcp.len(), &mut packet);
            }
        }
        packet.extend(tcp);
        packet
    }

    fn options(&self, seg: &Segment) -> Vec<u8> {
        let mut options = Vec::new();
        if seg.mss {
            options.extend([2, 4, 5, 0xb4]);
        }
        if seg.sack_permitted {
            options.extend([1, 1, 4, 2]);
        }
        if let Some(shift) = seg.window_scale {
            options.extend([1, 3, 3, shift]);
        }
        if let Some((val, ecr)) = seg.timestamps {
            options.extend([1, 1, 8, 10]);
            options.extend(CLOCK.wrapping_add(val as u32).to_be_bytes());
            let heard = self.timestamp.get(&seg.port).copied().unwrap_or(0);
            options.extend(heard.wrapping_add(ecr as u32).to_be_bytes());
        }
        if !seg.sack.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * seg.sack.len() as u8]);
            let iss = self.iss.get(&seg.port).copied().unwrap_or(0);
            for (start, end) in &seg.sack {
                options.extend(iss.wrapping_add(*start).to_be_bytes());
                options.extend(iss.wrapping_add(*end).to_be_bytes());
            }
        }
        options.extend(&seg.raw_options);
        options.resize(options.len().next_multiple_of(4), 0);
        options
    }

    /// An ICMP error, from a router in between or from the peer.
    pub fn icmp(&self, ends: &Ends, icmp: &Icmp) -> Vec<u8> {
        let quoted = self.quoted(ends, icmp);
        let v6 = ends.peer.is_ipv6();
        let from = if icmp.from_peer { ends.peer } else { ends.router };
        let header = IpHeader::new(from, ends.local.ip(), if v6 { ip::ICMPV6 } else { ip::ICMP });
        let error = IcmpError { v6, kind: icmp.kind, code: icmp.code, info: icmp.mtu };
        let mut message = Vec::new();
        IcmpMessage::Error { error, quoted: &quoted }.emit(&header, &mut message);
        if icmp.bad_checksum {
            message[2] ^= 0x55;
        }
        let mut packet = Vec::new();
        header.emit(message.len(), &mut packet);
        packet.extend(message);
        packet
    }

    /// A segment of the stack under test, as a router would quote it: the header without options.
    fn quoted(&self, ends: &Ends, icmp: &Icmp) -> Vec<u8> {
        let header = IpHeader { hop_limit: 60, ..IpHeader::new(ends.local.ip(), ends.peer, ip::TCP) };
        let iss = self.iss.get(&icmp.port).copied().unwrap_or(0);
        let tcp = TcpHeader {
            src_port: ends.local.port(),
            dst_port: ends.first_port + icmp.port,
            seq: iss.wrapping_add(icmp.seq as u32),
            flags: TcpFlags::SYN,
            ..TcpHeader::default()
        };
        let mut quoted = Vec::new();
        header.emit(tcp.len(), &mut quoted);
        tcp.emit(&mut quoted);
        quoted
    }

    /// What the stack under test has sent, in the notation of scenarios with what only answers have: `raw 0` is a SEQ that
    /// belongs to no sequence. `None`: a retransmission, unless `repeats` includes them.
    pub fn show(&mut self, ends: &Ends, bytes: &[u8], repeats: bool) -> Option<String> {
        let packet = match IpPacket::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => return Some(format!("malformed: {error}")),
        };
        if packet.header.protocol != ip::TCP {
            return Some(format!("protocol {}", packet.header.protocol));
        }
        if !Sum::is_valid(packet.header.pseudo(packet.payload.len()).add(packet.payload)) {
            return Some("wrong checksum".to_owned());
        }
        let (tcp, text) = match TcpHeader::parse(packet.payload) {
            Ok(parsed) => parsed,
            Err(error) => return Some(format!("malformed: {error}")),
        };
        let port = tcp.dst_port.wrapping_sub(ends.first_port);
        if let Some(timestamps) = tcp.options.timestamps {
            self.timestamp.insert(port, timestamps.val);
        }
        let reopened = self.note_syn(port, &tcp);
        if port == 0 && tcp.flags.contains(TcpFlags::ACK) && !tcp.flags.contains(TcpFlags::RST) {
            let ack = i64::from(tcp.ack.wrapping_sub(IRS) as i32);
            self.edge = ack + i64::from(tcp.window);
        }
        if self.is_repeated(port, &tcp, text.len()) && !repeats {
            return None;
        }
        let place = if port == 0 { String::new() } else { format!("port={port} ") };
        let again = if reopened { " reopened" } else { "" };
        Some(format!(
            "{place}{}{again}{}",
            self.segment_text(port, &packet.header, &tcp, text.len()),
            header_text(&packet.header, &tcp)
        ))
    }

    /// A SYN has the ISS; a different one belongs to a new connection.
    fn note_syn(&mut self, port: u16, tcp: &TcpHeader) -> bool {
        if !tcp.flags.contains(TcpFlags::SYN) {
            return false;
        }
        let before = self.iss.insert(port, tcp.seq);
        before.is_some_and(|iss| iss != tcp.seq)
    }

    /// Whether it is data or a FIN that was sent before. The time of a retransmission depends on timers.
    fn is_repeated(&mut self, port: u16, tcp: &TcpHeader, len: usize) -> bool {
        let fin = u32::from(tcp.flags.contains(TcpFlags::FIN));
        if tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST) || len as u32 + fin == 0 {
            return false;
        }
        let end = tcp.seq.wrapping_add(len as u32 + fin);
        let seen = self.sent.entry(port).or_insert(tcp.seq);
        let news = end.wrapping_sub(*seen) as i32 > 0;
        if news {
            *seen = end;
        }
        !news
    }

    fn segment_text(&self, port: u16, ip: &IpHeader, tcp: &TcpHeader, len: usize) -> String {
        let acks = tcp.flags.contains(TcpFlags::ACK);
        let mut shown = match (tcp.flags.contains(TcpFlags::RST), tcp.seq) {
            (true, 0) => format!("{} raw 0", tcp.flags),
            _ => {
                let iss = self.iss.get(&port).copied().unwrap_or(0);
                format!("{} {}", tcp.flags, tcp.seq.wrapping_sub(iss) as i32)
            }
        };
        if len > 0 {
            shown += &format!("+{len}");
        }
        if acks {
            let ack = tcp.ack.wrapping_sub(IRS) as i32;
            let all = self.sized && i64::from(ack) == self.next;
            shown += &if all { " ack next".to_owned() } else { format!(" ack {ack}") };
        } else if tcp.ack != 0 {
            shown += " ack field set";
        }
        if tcp.window == 0 && !tcp.flags.contains(TcpFlags::RST) {
            shown += " win=0";
        }
        shown + &options_text(ip, tcp, self.sized.then_some(self.edge))
    }
}

/// Which options are there, and the SACK blocks; these from the right edge, if the size of the window matters.
fn options_text(ip: &IpHeader, tcp: &TcpHeader, edge: Option<i64>) -> String {
    let options = &tcp.options;
    let header = if ip.is_v6() { 60 } else { 40 };
    let mut shown = String::new();
    if let Some(mss) = options.mss {
        // 1500 bytes without the headers is what it should be.
        shown += &if mss == 1500 - header { " mss".to_owned() } else { format!(" mss={mss}") };
    }
    for (there, name) in [
        (options.sack_permitted, " sackok"),
        (options.timestamps.is_some(), " ts"),
        (options.window_scale.is_some(), " ws"),
    ] {
        if there {
            shown += name;
        }
    }
    for (start, end) in options.sack.iter() {
        let [start, end] = [start, end].map(|at| i64::from(at.wrapping_sub(IRS) as i32));
        shown += &match edge {
            Some(edge) => format!(" sack=edge{:+}..{:+}", start - edge, end - edge),
            None => format!(" sack={start}-{end}"),
        };
    }
    shown
}

/// Of a reset outside a connection also the IP header counts: it must be the same for everybody (RESETS 1.1, D13).
fn header_text(ip: &IpHeader, tcp: &TcpHeader) -> String {
    let outside = tcp.flags.contains(TcpFlags::RST) && (tcp.seq == 0 || !tcp.flags.contains(TcpFlags::ACK));
    if !outside {
        return String::new();
    }
    let mut shown = String::new();
    if ip.traffic_class != 0 {
        shown += &format!(" tos={}", ip.traffic_class);
    }
    if ip.hop_limit != 64 {
        shown += &format!(" ttl={}", ip.hop_limit);
    }
    if ip.ident != 0 || !ip.dont_fragment {
        shown += " numbered";
    }
    if tcp.window != 0 {
        shown += " with a window";
    }
    shown
}
