//! Decodes the packets of a trace, with relative sequence numbers.

use crate::trace::{PacketKind, PacketRecord};
use lastack_wire::icmp::{Icmp, IcmpError};
use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader};
use lastack_wire::udp::UdpHeader;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

/// A packet, in the detail of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram.
    Udp {
        /// Bytes of its payload.
        len: usize,
    },
    /// An ICMP error.
    IcmpError(IcmpError),
    /// Anything else, described in words.
    Other(String),
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its source.
    pub src: SocketAddr,
    /// Its destination.
    pub dst: SocketAddr,
    /// Its control bits.
    pub flags: TcpFlags,
    /// SEG.SEQ.
    pub seq: Number,
    /// SEG.ACK, if it has the ACK flag.
    pub ack: Option<Number>,
    /// Bytes of its data.
    pub len: usize,
}

/// A sequence number, counted from the SYN of its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its distance from that SYN, which is 0.
    pub relative: i64,
    /// It belongs to an earlier connection between the same two ends, and is relative to the SYN of that
    /// connection.
    pub old: bool,
}

/// Reads packets in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Decoder(HashMap<(SocketAddr, SocketAddr), Direction>);

/// The sequence numbers that one end has sent to the other.
#[derive(Clone, Debug, Default)]
struct Direction {
    /// The initial sequence numbers, one for each incarnation of the connection.
    isns: Vec<u32>,
    /// The next sequence number after everything sent since the last SYN.
    next: u32,
}

impl Decoder {
    /// Decodes the next packet.
    pub fn read(&mut self, record: &PacketRecord) -> Decoded {
        let Ok(packet) = IpPacket::parse(&record.bytes) else {
            return Decoded::Other(format!("damaged IP packet len={}", record.bytes.len()));
        };
        let header = &packet.header;
        match header.protocol {
            ip::TCP => match TcpHeader::parse(packet.payload) {
                Ok((tcp, text)) => {
                    let src = SocketAddr::new(header.src, tcp.src_port);
                    let dst = SocketAddr::new(header.dst, tcp.dst_port);
                    if record.kind == PacketKind::Sent {
                        self.note(src, dst, &tcp, text.len());
                    }
                    Decoded::Tcp(self.segment(src, dst, &tcp, text.len()))
                }
                Err(malformed) => Decoded::Other(format!("TCP, {malformed}")),
            },
            ip::UDP => match UdpHeader::parse_unchecked(packet.payload) {
                Ok((_, payload)) => Decoded::Udp { len: payload.len() },
                Err(malformed) => Decoded::Other(format!("UDP, {malformed}")),
            },
            ip::ICMP | ip::ICMPV6 => match Icmp::parse(header, packet.payload) {
                Ok(Icmp::Error { error, .. }) => Decoded::IcmpError(error),
                Ok(Icmp::Echo { reply, .. }) => {
                    Decoded::Other(if reply { "ICMP echo reply" } else { "ICMP echo request" }.to_owned())
                }
                Ok(Icmp::Other { kind, code }) => Decoded::Other(format!("ICMP {kind}/{code}")),
                Err(malformed) => Decoded::Other(format!("ICMP, {malformed}")),
            },
            protocol => Decoded::Other(format!("IP protocol {protocol}")),
        }
    }

    /// The next sequence number after everything that `src` has sent to `dst`: the one `dst` expects, if
    /// it has received everything.
    pub fn next_seq(&self, src: SocketAddr, dst: SocketAddr) -> Option<u32> {
        self.0.get(&(src, dst)).filter(|direction| !direction.isns.is_empty()).map(|direction| direction.next)
    }

    fn note(&mut self, src: SocketAddr, dst: SocketAddr, tcp: &TcpHeader, len: usize) {
        let direction = self.0.entry((src, dst)).or_default();
        if tcp.flags.contains(TcpFlags::SYN) && direction.isns.last() != Some(&tcp.seq) {
            direction.isns.push(tcp.seq);
            direction.next = tcp.seq;
        }
        let controls =
            u32::from(tcp.flags.contains(TcpFlags::SYN)) + u32::from(tcp.flags.contains(TcpFlags::FIN));
        let end = tcp.seq.wrapping_add(len as u32).wrapping_add(controls);
        let ahead = end.wrapping_sub(direction.next) as i32 > 0;
        if ahead && !tcp.flags.contains(TcpFlags::RST) {
            direction.next = end;
        }
    }

    fn segment(&self, src: SocketAddr, dst: SocketAddr, tcp: &TcpHeader, len: usize) -> Segment {
        let ack = tcp.flags.contains(TcpFlags::ACK).then(|| self.number(dst, src, tcp.ack));
        // A reset that answers a segment without ACK has no number of its own direction (`Rule::RstNoListener`, `Rule::RstNoConnectionNoAck`).
        let numberless = tcp.seq == 0 && tcp.flags.contains(TcpFlags::RST | TcpFlags::ACK);
        let seq =
            if numberless { Number { relative: 0, old: false } } else { self.number(src, dst, tcp.seq) };
        Segment { src, dst, flags: tcp.flags, seq, ack, len }
    }

    /// A sequence number of the direction from `src` to `dst`, relative to the nearest SYN.
    fn number(&self, src: SocketAddr, dst: SocketAddr, number: u32) -> Number {
        let isns = self.0.get(&(src, dst)).map_or(&[][..], |direction| &direction.isns);
        let offsets = isns.iter().enumerate().rev().map(|(at, isn)| (number.wrapping_sub(*isn) as i32, at));
        match offsets.min_by_key(|(offset, _)| offset.unsigned_abs()) {
            Some((offset, at)) => Number { relative: offset.into(), old: at + 1 < isns.len() },
            None => Number { relative: number.into(), old: false },
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.relative, if self.old { "'" } else { "" })
    }
}

impl fmt::Display for Segment {
    /// In tcpdump's format, but shorter: `P. seq=1 ack=1 len=5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seq={}", self.flags, self.seq)?;
        if let Some(ack) = self.ack {
            write!(f, " ack={ack}")?;
        }
        if self.len > 0 {
            write!(f, " len={}", self.len)?;
        }
        Ok(())
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(segment) => segment.fmt(f),
            Self::Udp { len } => write!(f, "UDP len={len}"),
            Self::IcmpError(error) => write!(f, "ICMP {error}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Fate, HostId, Loss};
    use lastack_engine::{Instant, Transmit};
    use lastack_wire::ip::IpHeader;

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";

    fn record(src: &str, dst: &str, flags: TcpFlags, seq: u32, ack: u32, len: usize) -> PacketRecord {
        let ip = IpHeader::new(src.parse().unwrap(), dst.parse().unwrap(), ip::TCP);
        let ports = if src == A { (9, 7) } else { (7, 9) };
        let tcp = TcpHeader { src_port: ports.0, dst_port: ports.1, seq, ack, flags, ..TcpHeader::default() };
        let mut bytes = Vec::new();
        ip.emit(tcp.len() + len, &mut bytes);
        tcp.emit(&mut bytes);
        bytes.resize(bytes.len() + len, b'x');
        PacketRecord {
            sent: Instant::ZERO,
            from: HostId(0),
            to: None,
            bytes,
            transmit: Transmit::default(),
            kind: PacketKind::Sent,
            fate: Fate::Lost(Loss::NoRoute),
        }
    }

    #[test]
    fn numbers_are_counted_from_the_syn() {
        let mut decoder = Decoder::default();
        let mut line = |record: PacketRecord| decoder.read(&record).to_string();
        assert_eq!(line(record(A, B, TcpFlags::SYN, u32::MAX, 0, 0)), "S seq=0");
        assert_eq!(line(record(B, A, TcpFlags::SYN | TcpFlags::ACK, 500, 0, 0)), "S. seq=0 ack=1");
        assert_eq!(line(record(A, B, TcpFlags::PSH | TcpFlags::ACK, 0, 501, 5)), "P. seq=1 ack=1 len=5");
        assert_eq!(line(record(B, A, TcpFlags::RST, 501, 0, 0)), "R seq=1");
        let next = |src: &str, dst: &str, ports: (u16, u16)| {
            let ends =
                [(src, ports.0), (dst, ports.1)].map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port));
            decoder.next_seq(ends[0], ends[1])
        };
        assert_eq!(next(A, B, (9, 7)), Some(5));
        assert_eq!(next(B, A, (7, 9)), Some(501));
        assert_eq!(next(B, A, (7, 10)), None);
    }

    #[test]
    fn numbers_of_an_earlier_connection_are_marked() {
        let mut decoder = Decoder::default();
        let mut line = |record: PacketRecord| decoder.read(&record).to_string();
        line(record(A, B, TcpFlags::SYN, 1_000_000, 0, 0));
        line(record(B, A, TcpFlags::SYN | TcpFlags::ACK, 7_000, 1_000_001, 0));
        assert_eq!(line(record(A, B, TcpFlags::SYN, 3_000_000_000, 0, 0)), "S seq=0");
        assert_eq!(line(record(B, A, TcpFlags::ACK, 7_001, 1_000_001, 0)), ". seq=1 ack=1'");
        assert_eq!(line(record(A, B, TcpFlags::RST, 1_000_001, 0, 0)), "R seq=1'");
    }

    #[test]
    fn a_refusal_has_no_number_of_its_own() {
        let mut decoder = Decoder::default();
        decoder.read(&record(B, A, TcpFlags::SYN, 9, 0, 0));
        decoder.read(&record(A, B, TcpFlags::SYN, 40, 0, 0));
        let refusal = record(B, A, TcpFlags::RST | TcpFlags::ACK, 0, 41, 0);
        assert_eq!(decoder.read(&refusal).to_string(), "R. seq=0 ack=1");
    }
}
