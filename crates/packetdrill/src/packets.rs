//! Conversion between the packets of a script and their bytes.

use super::icmp_names;
use super::syntax::{Body, Ecn, IcmpMessage, IpFields, Packet, Quoted, Segment, TcpOption, Udp};
use lastack_engine::{FourTuple, Instant};
use lastack_wire::icmp::{self, Icmp, IcmpError};
use lastack_wire::ip::{self, IpHeader, IpPacket};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};
use lastack_wire::udp::UdpHeader;
use std::net::SocketAddr;

/// A packet that the stack sent, in the numbers on the wire.
#[derive(Clone, Debug)]
pub struct Live {
    pub at: Instant,
    /// Its ends; local is the stack's side. The ports of ICMP are 0.
    pub flow: FourTuple,
    pub packet: Packet,
    /// A wrong checksum, a reserved bit that is set, or data that is not all zero.
    pub flaw: Option<&'static str>,
}

/// The magic number of the experimental TCP Fast Open option.
const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

/// Parses a packet that the stack sent.
pub fn read(at: Instant, bytes: &[u8]) -> Result<Live, String> {
    let packet = IpPacket::parse(bytes).map_err(|malformed| format!("malformed IP packet ({malformed})"))?;
    let header = packet.header;
    let flow = |src_port, dst_port| FourTuple {
        local: SocketAddr::new(header.src, src_port),
        remote: SocketAddr::new(header.dst, dst_port),
    };
    let (flow, body, flaw) = match header.protocol {
        ip::TCP => {
            let (segment, flaw) = read_segment(&header, packet.payload)?;
            let (src, dst) = segment.ports.unwrap_or_default();
            (flow(src, dst), Body::Tcp(segment), flaw)
        }
        ip::UDP => {
            let parsed = UdpHeader::parse(&header, packet.payload);
            let (udp, payload) =
                parsed.map_err(|malformed| format!("malformed UDP datagram ({malformed})"))?;
            let ports = Some((udp.src_port, udp.dst_port));
            let body = Body::Udp(Udp { ports, len: payload.len() as u32 });
            (flow(udp.src_port, udp.dst_port), body, text_flaw(payload))
        }
        ip::ICMP | ip::ICMPV6 => {
            let message = Icmp::parse(&header, packet.payload);
            let message = message.map_err(|malformed| format!("malformed ICMP message ({malformed})"))?;
            (flow(0, 0), Body::Icmp(icmp_names::name(header.is_v6(), &message)), None)
        }
        other => return Err(format!("packet of IP protocol {other}")),
    };
    let ip = IpFields {
        ecn: Some(ecn_of(header.traffic_class)),
        tos: Some(header.traffic_class),
        ttl: Some(header.hop_limit),
        flow_label: Some(header.flow_label),
    };
    Ok(Live { at, flow, packet: Packet { ip, body }, flaw })
}

fn read_segment(header: &IpHeader, bytes: &[u8]) -> Result<(Segment, Option<&'static str>), String> {
    let parsed =
        TcpHeader::parse(bytes).map_err(|malformed| format!("malformed TCP segment ({malformed})"))?;
    let (tcp, text) = parsed;
    let header_len = bytes.len() - text.len();
    let reserved = bytes[12] & 0x0e != 0;
    let flaw = if !tcp::checksum_ok(header, bytes) {
        Some("the checksum is wrong")
    } else if reserved {
        Some("a reserved bit is set")
    } else {
        text_flaw(text)
    };
    let segment = Segment {
        ports: Some((tcp.src_port, tcp.dst_port)),
        flags: tcp.flags,
        ace: None,
        seq: tcp.seq,
        len: text.len() as u32,
        ack: Some(tcp.ack),
        window: Some(tcp.window),
        urgent: Some(tcp.urgent),
        options: Some(read_options(&bytes[20..header_len])),
    };
    Ok((segment, flaw))
}

/// The calls of a script write only zeros.
fn text_flaw(text: &[u8]) -> Option<&'static str> {
    text.iter().any(|&byte| byte != 0).then_some("the payload is not the data that was written")
}

fn read_options(mut bytes: &[u8]) -> Vec<TcpOption> {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        let len = match (kind, rest.first()) {
            (0 | 1, _) => 1,
            (_, Some(&len)) if len >= 2 && usize::from(len) <= bytes.len() => usize::from(len),
            _ => bytes.len(),
        };
        options.push(read_option(*kind, bytes.get(2..len).unwrap_or_default()));
        bytes = &bytes[len..];
    }
    options
}

fn read_option(kind: u8, data: &[u8]) -> TcpOption {
    let word = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    match (kind, data) {
        (0, _) => TcpOption::End,
        (1, _) => TcpOption::Nop,
        (2, &[a, b]) => TcpOption::Mss(u16::from_be_bytes([a, b])),
        (3, &[shift]) => TcpOption::WindowScale(shift),
        (4, []) => TcpOption::SackPermitted,
        (5, _) if data.len().is_multiple_of(8) => {
            TcpOption::Sack((0..data.len()).step_by(8).map(|at| (word(at), word(at + 4))).collect())
        }
        (8, _) if data.len() == 8 => TcpOption::Timestamps { val: word(0), ecr: word(4) },
        (19, _) => TcpOption::Md5(data.to_vec()),
        (34, _) => TcpOption::FastOpen(data.to_vec()),
        (172 | 174, _) if data.len().is_multiple_of(3) => {
            let fields = data.chunks(3).map(|f| u32::from_be_bytes([0, f[0], f[1], f[2]])).collect();
            TcpOption::AccurateEcn { kind, fields }
        }
        (254, [a, b, cookie @ ..]) if [*a, *b] == FAST_OPEN_MAGIC => {
            TcpOption::ExperimentalFastOpen(cookie.to_vec())
        }
        _ => TcpOption::Other { kind, data: data.to_vec() },
    }
}

fn write_options(options: &[TcpOption]) -> Vec<u8> {
    let mut out = Vec::new();
    for option in options {
        let (kind, data) = match option {
            TcpOption::Nop | TcpOption::End => {
                out.push(u8::from(*option == TcpOption::Nop));
                continue;
            }
            TcpOption::Mss(mss) => (2, mss.to_be_bytes().to_vec()),
            TcpOption::WindowScale(shift) => (3, vec![*shift]),
            TcpOption::SackPermitted => (4, vec![]),
            TcpOption::Sack(blocks) => {
                let edges = blocks.iter().flat_map(|(left, right)| [left, right]);
                (5, edges.flat_map(|edge| edge.to_be_bytes()).collect())
            }
            TcpOption::Timestamps { val, ecr } => (8, [val.to_be_bytes(), ecr.to_be_bytes()].concat()),
            TcpOption::Md5(bytes) => (19, bytes.clone()),
            TcpOption::FastOpen(bytes) => (34, bytes.clone()),
            TcpOption::ExperimentalFastOpen(bytes) => (254, [&FAST_OPEN_MAGIC, &bytes[..]].concat()),
            TcpOption::AccurateEcn { kind, fields } => {
                (*kind, fields.iter().flat_map(|field| field.to_be_bytes()[1..].to_vec()).collect())
            }
            TcpOption::Other { kind, data } => (*kind, data.clone()),
        };
        out.extend([kind, data.len() as u8 + 2]);
        out.extend(data);
    }
    out
}

fn ecn_of(traffic_class: u8) -> Ecn {
    match traffic_class & 3 {
        0 => Ecn::None,
        1 => Ecn::Ect1,
        2 => Ecn::Ect0,
        _ => Ecn::Ce,
    }
}

/// The IP header of a packet to the stack, from the fields in the script.
fn inbound_header(fields: &IpFields, flow: &FourTuple, protocol: u8) -> IpHeader {
    let ecn = fields.ecn.map_or(0, |ecn| match ecn {
        Ecn::None => 0,
        Ecn::Ect1 => 1,
        Ecn::Ect0 | Ecn::Ect => 2,
        Ecn::Ce => 3,
    });
    let mut header = IpHeader::new(flow.remote.ip(), flow.local.ip(), protocol);
    header.hop_limit = fields.ttl.unwrap_or(255);
    header.traffic_class = fields.tos.unwrap_or(ecn);
    header.flow_label = fields.flow_label.unwrap_or(0);
    header.dont_fragment = false;
    header
}

/// Builds a segment from the peer to the stack.
pub fn write_segment(fields: &IpFields, segment: &Segment, flow: &FourTuple) -> Vec<u8> {
    let header = inbound_header(fields, flow, ip::TCP);
    let ports = segment.ports.unwrap_or((flow.remote.port(), flow.local.port()));
    let options = write_options(segment.options.as_deref().unwrap_or_default());
    let ace = segment.ace.map_or(TcpFlags::empty(), |ace| TcpFlags::from_bits_truncate(u16::from(ace) << 6));
    let tcp = TcpHeader {
        src_port: ports.0,
        dst_port: ports.1,
        seq: segment.seq,
        ack: segment.ack.unwrap_or(0),
        flags: segment.flags | ace,
        window: segment.window.unwrap_or(0),
        urgent: segment.urgent.unwrap_or(0),
        ..TcpHeader::default()
    };
    let mut bytes = Vec::new();
    tcp.emit(&mut bytes);
    bytes[12] = (bytes[12] & 0x0f) | ((20 + options.len()) as u8 / 4) << 4;
    bytes.extend(options);
    bytes.resize(bytes.len() + segment.len as usize, 0);
    tcp::fill_checksum(&header, &mut bytes);
    let mut packet = Vec::new();
    header.emit(bytes.len(), &mut packet);
    packet.extend(bytes);
    packet
}

/// Builds a datagram from the peer to the stack.
pub fn write_datagram(fields: &IpFields, udp: &Udp, flow: &FourTuple) -> Vec<u8> {
    let header = inbound_header(fields, flow, ip::UDP);
    let (src_port, dst_port) = udp.ports.unwrap_or((flow.remote.port(), flow.local.port()));
    let mut packet = Vec::new();
    header.emit(UdpHeader::LEN + udp.len as usize, &mut packet);
    UdpHeader { src_port, dst_port }.emit(&header, &vec![0; udp.len as usize], &mut packet);
    packet
}

/// Builds an ICMP error about a packet that the stack sent; the sequence number in its quote is that on the wire.
pub fn write_icmp(fields: &IpFields, message: &IcmpMessage, error: IcmpError, flow: &FourTuple) -> Vec<u8> {
    let protocol = if error.v6 { ip::ICMPV6 } else { ip::ICMP };
    let header = inbound_header(fields, flow, protocol);
    let (inner, len, seq) = match message.quoted {
        Some(Quoted::Udp { len }) => (ip::UDP, 8 + len, 0),
        Some(Quoted::Tcp { seq, len }) => (ip::TCP, 20 + len, seq),
        Some(Quoted::Raw { len }) => (ip::TCP, len, 0),
        None => (ip::TCP, 20, 0),
    };
    let mut quoted = Vec::new();
    IpHeader::new(flow.local.ip(), flow.remote.ip(), inner).emit(len as usize, &mut quoted);
    quoted.extend(flow.local.port().to_be_bytes());
    quoted.extend(flow.remote.port().to_be_bytes());
    let last = if inner == ip::UDP { len << 16 } else { seq };
    quoted.extend(last.to_be_bytes());
    let mut packet = Vec::new();
    header.emit(icmp::HEADER + quoted.len(), &mut packet);
    Icmp::Error { error, quoted: &quoted }.emit(&header, &mut packet);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_they_are_written() {
        let options = vec![
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { val: 1, ecr: 2 },
            TcpOption::Nop,
            TcpOption::WindowScale(8),
            TcpOption::Sack(vec![(1, 2)]),
            TcpOption::AccurateEcn { kind: 172, fields: vec![1, 2, 3] },
        ];
        assert_eq!(read_options(&write_options(&options)), options);
    }

    #[test]
    fn a_segment_has_its_checksum_and_its_data() {
        let flow =
            FourTuple { local: "192.168.0.1:8080".parse().unwrap(), remote: "192.0.2.1:9".parse().unwrap() };
        let options = Some(vec![TcpOption::Mss(5)]);
        let segment = Segment { seq: 7, len: 10, flags: TcpFlags::SYN, options, ..Segment::default() };
        let bytes = write_segment(&IpFields::default(), &segment, &flow);
        let live = read(Instant::ZERO, &bytes).unwrap();
        assert_eq!((live.flow.local, live.flow.remote, live.flaw), (flow.remote, flow.local, None));
        let Body::Tcp(read) = live.packet.body else { panic!("it is a segment") };
        assert_eq!((read.seq, read.len, read.options), (7, 10, segment.options));
    }
}
