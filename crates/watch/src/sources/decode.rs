//! Bytes of a packet to the event it is.

use std::net::SocketAddr;

use lastack_wire::{Icmp, Quoted, TcpFlags, TcpHeader, ip};

use crate::event::{Event, Flow, IcmpReport, Segment};

/// The segment with SYN, FIN or RST, or the ICMP error about a segment, that this packet is. The packet may be cut
/// short behind its headers.
pub(super) fn decode(packet: &[u8], sent: bool) -> Option<Event> {
    let packet = Quoted::parse(packet).ok()?;
    if packet.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    match packet.header.protocol {
        ip::TCP => segment(&packet, sent),
        ip::ICMP | ip::ICMPV6 => icmp(&packet),
        _ => None,
    }
}

fn segment(packet: &Quoted<'_>, sent: bool) -> Option<Event> {
    let (tcp, _) = TcpHeader::parse(packet.payload).ok()?;
    if !tcp.flags.intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
        return None;
    }
    let ip = packet.header;
    let before_payload = ip.len() + tcp.len();
    let address = |ip, port| SocketAddr::new(ip, port);
    Some(Event::Segment(Segment {
        sent,
        flow: Flow::new(address(ip.src, tcp.src_port), address(ip.dst, tcp.dst_port)),
        flags: tcp.flags,
        seq: tcp.seq,
        ack: tcp.ack,
        window: tcp.window,
        payload: packet.total_len.saturating_sub(before_payload) as u32,
        hop_limit: ip.hop_limit,
        ident: ip.ident,
    }))
}

fn icmp(packet: &Quoted<'_>) -> Option<Event> {
    let Ok(Icmp::Error { error, quoted }) = Icmp::parse(&packet.header, packet.payload) else { return None };
    let quoted = Quoted::parse(quoted).ok()?;
    if quoted.header.protocol != ip::TCP {
        return None;
    }
    let (source, destination) = quoted.ports()?;
    let flow = Flow::new((quoted.header.src, source).into(), (quoted.header.dst, destination).into());
    Some(Event::Icmp(IcmpReport { from: packet.header.src, quoted: flow, error }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack_wire::{IcmpError, IpHeader};

    fn tcp(flags: TcpFlags, payload: usize) -> Vec<u8> {
        let header = IpHeader::new([10, 78, 0, 1].into(), [10, 78, 0, 2].into(), ip::TCP);
        let tcp = TcpHeader { src_port: 9, dst_port: 10, seq: 7, window: 64, flags, ..TcpHeader::default() };
        let mut packet = Vec::new();
        header.emit(tcp.len() + payload, &mut packet);
        tcp.emit(&mut packet);
        packet.resize(packet.len() + payload, 0);
        packet
    }

    #[test]
    fn a_segment_that_ends_a_connection_is_read_though_it_is_cut_short() {
        let mut packet = tcp(TcpFlags::FIN | TcpFlags::ACK, 1400);
        packet.truncate(96);
        let Some(Event::Segment(segment)) = decode(&packet, true) else { panic!("no segment") };
        assert_eq!((segment.payload, segment.seq, segment.window, segment.hop_limit), (1400, 7, 64, 64));
        assert_eq!(segment.flow.remote, "10.78.0.2:10".parse().unwrap());
        assert!(segment.sent);
        assert_eq!(decode(&tcp(TcpFlags::ACK, 5), true), None);
        assert!((0..40).all(|len| decode(&packet[..len], true).is_none()));
    }

    #[test]
    fn an_icmp_error_is_read_with_the_flow_it_is_about() {
        let header = IpHeader::new([10, 78, 0, 9].into(), [10, 78, 0, 1].into(), ip::ICMP);
        let quoted = tcp(TcpFlags::SYN, 0);
        let error = IcmpError::port_unreachable(false);
        let mut packet = Vec::new();
        header.emit(8 + quoted.len(), &mut packet);
        Icmp::Error { error, quoted: &quoted }.emit(&header, &mut packet);
        let Some(Event::Icmp(report)) = decode(&packet, false) else { panic!("no error") };
        assert_eq!((report.from, report.error), ([10, 78, 0, 9].into(), error));
        assert_eq!(report.quoted.remote.port(), 10);
    }
}
