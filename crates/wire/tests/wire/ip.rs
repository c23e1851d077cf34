//! The IP header of both versions, and IPv4 in particular.

use crate::arbitrary;
use lastack_wire::checksum::Sum;
use lastack_wire::{Fragment, IpHeader, IpPacket, Malformed, ip};
use proptest::prelude::*;
use std::net::IpAddr;

fn header() -> IpHeader {
    IpHeader::new([192, 0, 2, 1].into(), [198, 51, 100, 7].into(), ip::TCP)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    header().emit(payload.len(), &mut packet);
    packet.extend_from_slice(payload);
    packet
}

/// Makes the header checksum right again.
fn sign(packet: &mut [u8]) {
    let header_len = (usize::from(packet[0] & 15) * 4).min(packet.len());
    packet[10..12].fill(0);
    let checksum = Sum::new().add(&packet[..header_len]).finish();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// A packet with IPv4 options before its payload.
fn with_options(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = packet(&[options, payload].concat());
    packet[0] += (options.len() / 4) as u8;
    sign(&mut packet);
    packet
}

#[test]
fn bytes_of_an_ipv4_header() {
    let header = IpHeader { traffic_class: 0xb8, ident: 0x1234, hop_limit: 3, ..header() };
    let mut out = vec![];
    header.emit(5, &mut out);
    assert_eq!(out[..10], [0x45, 0xb8, 0, 25, 0x12, 0x34, 0x40, 0, 3, 6]);
    assert_eq!(out[12..], [192, 0, 2, 1, 198, 51, 100, 7]);
    assert!(Sum::new().add(&out).is_valid());
}

#[test]
fn bytes_of_an_ipv6_header() {
    let header = IpHeader {
        traffic_class: 0xb8,
        flow_label: 0xfff1_2345,
        ..IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::UDP)
    };
    let mut out = vec![];
    header.emit(5, &mut out);
    assert_eq!(out[..8], [0x6b, 0x81, 0x23, 0x45, 0, 5, 17, 64], "the flow label has 20 bits");
    assert_eq!(out[8..], [[0x20; 16], [0x21; 16]].concat());
}

#[test]
fn padding_of_the_link_is_cut() {
    let mut padded = packet(b"abc");
    padded.extend([0; 23]);
    assert_eq!(IpPacket::parse(&padded).unwrap().payload, b"abc");
}

#[test]
fn malformed_headers() {
    let good = packet(b"abc");
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        sign(&mut packet);
        packet
    };
    for (packet, why) in [
        (vec![], Malformed::Truncated),
        (good[..19].to_vec(), Malformed::Truncated),
        (good[..22].to_vec(), Malformed::Truncated),
        (changed(0, 0x55), Malformed::Version),
        (changed(0, 0x44), Malformed::HeaderLength),
        (changed(0, 0x46), Malformed::Length),
        (changed(3, 19), Malformed::Length),
        (changed(3, 24), Malformed::Truncated),
    ] {
        assert_eq!(IpPacket::parse(&packet), Err(why), "{packet:02x?}");
    }
    let mut wrong = good.clone();
    wrong[8] -= 1;
    assert_eq!(IpPacket::parse(&wrong), Err(Malformed::Checksum));
}

#[test]
fn ipv4_options_are_passed_over() {
    for options in [
        &[1, 1, 1, 0][..],
        &[0, 9, 9, 9],             // what follows the end of options is not looked at
        &[148, 4, 0, 0],           // router alert
        &[7, 7, 4, 0, 0, 0, 0, 0], // record route
        &[1, 130, 3, 9],           // ends exactly with the header
    ] {
        let bytes = with_options(options, b"abc");
        let packet = IpPacket::parse(&bytes).unwrap();
        assert!(packet.has_options);
        assert_eq!(packet.unfragmentable, 20 + options.len());
        assert_eq!(packet.next_header_at, 9);
        assert_eq!(packet.payload, b"abc");
    }
    assert!(!IpPacket::parse(&packet(b"abc")).unwrap().has_options);
}

#[test]
fn ipv4_options_that_leave_the_header_are_malformed() {
    for options in [[148, 5, 0, 0], [148, 1, 0, 0], [148, 0, 0, 0], [1, 1, 1, 148]] {
        let packet = with_options(&options, b"abc");
        assert_eq!(IpPacket::parse(&packet), Err(Malformed::Option), "{options:?}");
    }
}

#[test]
fn ipv4_fragments() {
    for (field, fragment) in [
        (0x2000u16, Some(Fragment { ident: 0x1234, offset: 0, more: true })),
        (0x00b9, Some(Fragment { ident: 0x1234, offset: 1480, more: false })),
        (0x3fff, Some(Fragment { ident: 0x1234, offset: 65528, more: true })),
        (0x4000, None),
        (0x8000, None), // the reserved bit
    ] {
        let mut bytes = packet(b"abcdefgh");
        bytes[4..8].copy_from_slice(&[0x12, 0x34, (field >> 8) as u8, field as u8]);
        sign(&mut bytes);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.fragment, fragment);
        assert_eq!(packet.header.dont_fragment, field & 0x4000 != 0);
    }
}

#[test]
fn pseudo_header_is_the_one_of_the_rfc() {
    let v4 = [&[192, 0, 2, 1, 198, 51, 100, 7, 0, 6][..], &1234u16.to_be_bytes()].concat();
    assert_eq!(header().pseudo(1234).folded(), Sum::new().add(&v4).folded());
    let header = IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::UDP);
    let v6 = [&[0x20; 16][..], &[0x21; 16], &70_000u32.to_be_bytes(), &[0, 0, 0, 17]].concat();
    assert_eq!(header.pseudo(70_000).folded(), Sum::new().add(&v6).folded());
}

#[test]
fn which_addresses_are_of_one_host() {
    for addr in ["192.0.2.1", "127.0.0.1", "10.0.0.255", "0.0.0.1", "::1", "fe80::1", "2001:db8::1"] {
        let addr: IpAddr = addr.parse().unwrap();
        assert!(ip::unicast(addr), "{addr}");
    }
    for addr in ["0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:192.0.2.1"]
    {
        assert!(!ip::unicast(addr.parse().unwrap()), "{addr}");
    }
}

#[test]
#[should_panic(expected = "same version")]
fn mixed_versions_cannot_be_emitted() {
    IpHeader::new([192, 0, 2, 1].into(), [0x20; 16].into(), ip::TCP).emit(0, &mut vec![]);
}

#[test]
#[should_panic(expected = "at most 65535 bytes")]
fn a_packet_longer_than_its_length_field_cannot_be_emitted() {
    header().emit(65516, &mut vec![]);
}

#[test]
fn a_reassembled_ipv4_packet() {
    let packet = IpPacket::reassembled(header(), b"abc").unwrap();
    assert_eq!((packet.payload, packet.fragment, packet.unfragmentable), (&b"abc"[..], None, 20));
}

proptest! {
    #[test]
    fn emitted_headers_are_parsed(header in arbitrary::ip_header(), payload in arbitrary::payload()) {
        let mut bytes = vec![];
        header.emit(payload.len(), &mut bytes);
        prop_assert_eq!(bytes.len(), header.len());
        bytes.extend_from_slice(&payload);
        let packet = IpPacket::parse(&bytes).unwrap();
        prop_assert_eq!(packet, IpPacket {
            header,
            fragment: None,
            has_options: false,
            next_header_at: if header.is_v6() { 6 } else { 9 },
            unfragmentable: header.len(),
            payload: &payload,
        });
    }

    #[test]
    fn an_emitted_fragment_is_parsed(
        header in arbitrary::ip_header(), fragment in arbitrary::fragment(), payload in arbitrary::payload(),
    ) {
        let mut bytes = vec![];
        header.emit_fragment(fragment, payload.len(), &mut bytes);
        let expected = if header.is_v6() { 48 } else { 20 };
        prop_assert_eq!(bytes.len(), expected);
        bytes.extend_from_slice(&payload);
        let packet = IpPacket::parse(&bytes).unwrap();
        prop_assert_eq!(packet.fragment, Some(fragment));
        prop_assert_eq!(packet.unfragmentable, expected);
        prop_assert_eq!(packet.payload, &payload[..]);
        prop_assert_eq!(packet.header, if header.is_v6() {
            header
        } else {
            IpHeader { ident: fragment.ident as u16, dont_fragment: false, ..header }
        });
    }
}
