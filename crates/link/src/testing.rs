//! Packets for the tests.

use crate::layout::Layout;
use lastack_wire::{
    Icmp, IcmpError, IpHeader, TcpFlags, TcpHeader, TcpOptions, Timestamps, UdpHeader, ip, tcp,
};
use std::task::{Context, Waker};

pub(crate) fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A segment with data, from port 49152 to port 80, with the timestamps option.
pub(crate) fn segment(src: &str, dst: &str, text: &[u8]) -> Vec<u8> {
    let timestamps = Some(Timestamps { val: 1, ecr: 2 });
    let header = TcpHeader {
        src_port: 49152,
        dst_port: 80,
        seq: 1000,
        ack: 2000,
        flags: TcpFlags::ACK,
        window: 500,
        options: TcpOptions { timestamps, ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    segment_with(src, dst, header, text)
}

pub(crate) fn segment_with(src: &str, dst: &str, header: TcpHeader, text: &[u8]) -> Vec<u8> {
    let ip = IpHeader::new(src.parse().unwrap(), dst.parse().unwrap(), ip::TCP);
    let mut packet = Vec::new();
    ip.emit(header.len() + text.len(), &mut packet);
    header.emit(&mut packet);
    packet.extend_from_slice(text);
    tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
    packet
}

/// A datagram from port 49152 to port 53.
pub(crate) fn datagram(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let ip = IpHeader::new(src.parse().unwrap(), dst.parse().unwrap(), ip::UDP);
    let mut packet = Vec::new();
    ip.emit(UdpHeader::LEN + payload.len(), &mut packet);
    UdpHeader { src_port: 49152, dst_port: 53 }.emit(&ip, payload, &mut packet);
    packet
}

/// The same packet with the sum of the pseudo-header in place of its checksum.
pub(crate) fn partial(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let layout = Layout::of(&packet).unwrap();
    let sum = layout.ip.pseudo(layout.end - layout.transport).folded();
    packet[layout.checksum()..][..2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An ICMP error that quotes a packet.
pub(crate) fn unreachable(src: &str, dst: &str, quoted: &[u8]) -> Vec<u8> {
    let mut ip = IpHeader::new(src.parse().unwrap(), dst.parse().unwrap(), ip::ICMP);
    ip.protocol = if ip.is_v6() { ip::ICMPV6 } else { ip::ICMP };
    let (mut icmp, mut packet) = (Vec::new(), Vec::new());
    Icmp::Error { error: IcmpError::port_unreachable(ip.is_v6()), quoted }.emit(&ip, &mut icmp);
    ip.emit(icmp.len(), &mut packet);
    packet.extend_from_slice(&icmp);
    packet
}
