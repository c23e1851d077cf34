//! No bytes make a parser panic, whatever they are and wherever they end.

use crate::arbitrary;
use lastack_wire::{Icmp, IpHeader, IpPacket, Quoted, ResetReason, TcpHeader, UdpHeader, ip, tcp};
use proptest::prelude::*;

/// Passes `bytes` to every parser; other tests check the results.
fn parse_as_everything(bytes: &[u8]) {
    let v4 = IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::TCP);
    let v6 = IpHeader::new([1; 16].into(), [2; 16].into(), ip::TCP);
    if let Ok(packet) = IpPacket::parse(bytes) {
        assert!(packet.unfragmentable + packet.payload.len() <= bytes.len());
        assert!(packet.next_header_at < packet.unfragmentable);
        assert_eq!(bytes[packet.next_header_at], packet.header.protocol);
    }
    for protocol in [0, 6, 43, 44, 60] {
        for header in [v4, v6] {
            let header = IpHeader { protocol, ..header };
            if let Ok(packet) = IpPacket::reassembled(header, bytes) {
                assert_eq!(packet.unfragmentable + packet.payload.len(), header.len() + bytes.len());
                assert!(packet.fragment.is_none());
            }
        }
    }
    if let Ok((header, text)) = TcpHeader::parse(bytes) {
        assert!(text.len() <= bytes.len() - 20);
        let mut emitted = Vec::new();
        header.emit(&mut emitted);
        assert_eq!(emitted.len(), header.len());
    }
    for ip in [&v4, &v6] {
        let _ = tcp::checksum_ok(ip, bytes);
        let _ = UdpHeader::parse(ip, bytes);
        let _ = Icmp::parse(ip, bytes);
    }
    let _ = UdpHeader::parse_unchecked(bytes);
    if let Ok(quoted) = Quoted::parse(bytes) {
        let _ = (quoted.ports(), quoted.seq());
    }
    if let Some(reason) = ResetReason::from_payload(bytes) {
        assert_eq!(&reason.to_payload(), bytes);
    }
}

/// An IPv6 header before `bytes`, so that they are read as extension headers.
fn behind_v6(next_header: u8, bytes: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    IpHeader::new([1; 16].into(), [2; 16].into(), next_header).emit(bytes.len(), &mut packet);
    packet.extend_from_slice(bytes);
    packet
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse_as_everything(&bytes);
    }

    #[test]
    fn any_bytes_with_a_version(first in 0x40..0x70u8, mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        bytes[0] = first;
        parse_as_everything(&bytes);
    }

    #[test]
    fn any_extension_headers(
        next in prop_oneof![Just(0u8), Just(43), Just(44), Just(60)],
        // Mostly small numbers: they are lengths and the numbers of extension headers.
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(43), Just(44), Just(60), any::<u8>()], 0..200),
    ) {
        parse_as_everything(&behind_v6(next, &bytes));
    }

    #[test]
    fn every_truncation((_, _, _, packet) in arbitrary::tcp_packet()) {
        for len in 0..packet.len() {
            parse_as_everything(&packet[..len]);
            prop_assert!(IpPacket::parse(&packet[..len]).is_err(), "{} of {} bytes", len, packet.len());
        }
    }

    #[test]
    fn every_changed_byte((_, _, _, mut packet) in arbitrary::tcp_packet(), value in any::<u8>()) {
        for at in 0..packet.len().min(100) {
            let was = std::mem::replace(&mut packet[at], value);
            parse_as_everything(&packet);
            packet[at] = was;
        }
    }

    #[test]
    fn any_tcp_options(options in proptest::collection::vec(0..31u8, 40), words in 0..=10usize) {
        let mut segment = vec![0; 20];
        segment[12] = (5 + words as u8) << 4;
        segment.extend_from_slice(&options[..words * 4]);
        prop_assert!(TcpHeader::parse(&segment).is_ok(), "options are never an error");
        parse_as_everything(&segment);
    }
}
