//! UDP.

use crate::arbitrary;
use lastack_wire::checksum::Sum;
use lastack_wire::{IpHeader, Malformed, UdpHeader, ip};
use proptest::prelude::*;

fn v4() -> IpHeader {
    IpHeader::new([192, 0, 2, 1].into(), [198, 51, 100, 7].into(), ip::UDP)
}

fn v6() -> IpHeader {
    IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::UDP)
}

const HEADER: UdpHeader = UdpHeader { src_port: 5353, dst_port: 53 };

fn datagram(ip: &IpHeader, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    HEADER.emit(ip, payload, &mut datagram);
    datagram
}

#[test]
fn checksum_0_is_legal_in_ipv4_only() {
    for (ip, expected) in [(v4(), Ok((HEADER, &b"abc"[..]))), (v6(), Err(Malformed::Checksum))] {
        let mut datagram = datagram(&ip, b"abc");
        datagram[6..8].fill(0);
        assert_eq!(UdpHeader::parse(&ip, &datagram), expected);
    }
}

#[test]
fn a_checksum_that_computes_to_0_is_sent_as_ffff() {
    for ip in [v4(), v6()] {
        // Two bytes of payload that make the sum 0xffff.
        let sum = datagram(&ip, &[0, 0]);
        let payload = &sum[6..8];
        let datagram = datagram(&ip, payload);
        assert_eq!(datagram[6..8], [0xff, 0xff]);
        assert_eq!(UdpHeader::parse(&ip, &datagram), Ok((HEADER, payload)));
    }
}

#[test]
fn a_wrong_checksum_is_detected_if_verification_is_on() {
    let mut datagram = datagram(&v4(), b"abc");
    datagram[7] ^= 1;
    assert_eq!(UdpHeader::parse(&v4(), &datagram), Err(Malformed::Checksum));
    assert_eq!(UdpHeader::parse_unchecked(&datagram), Ok((HEADER, &b"abc"[..])));
}

#[test]
fn another_address_is_a_wrong_checksum() {
    let datagram = datagram(&v4(), b"abc");
    let elsewhere = IpHeader { dst: [198, 51, 100, 8].into(), ..v4() };
    assert_eq!(UdpHeader::parse(&elsewhere, &datagram), Err(Malformed::Checksum));
}

#[test]
fn length_field() {
    let good = datagram(&v4(), b"abc");
    assert_eq!(UdpHeader::parse(&v4(), &good[..7]), Err(Malformed::Truncated));
    assert_eq!(UdpHeader::parse(&v4(), &good[..10]), Err(Malformed::Length), "longer than what IP carries");
    for len in [0, 7] {
        let mut short = good.clone();
        short[5] = len;
        assert_eq!(UdpHeader::parse(&v4(), &short), Err(Malformed::Length), "shorter than a header: {len}");
    }
    let mut padded = good;
    padded.extend(b"padding");
    assert_eq!(UdpHeader::parse(&v4(), &padded), Ok((HEADER, &b"abc"[..])), "what follows is not part of it");
}

#[test]
fn partial_checksum_is_completed_by_summing_the_datagram() {
    for ip in [v4(), v6()] {
        let mut partial = Vec::new();
        HEADER.emit_partial(&ip, b"abc", &mut partial);
        // What a device does (checksum start 0, offset 6).
        let checksum = Sum::new().add(&partial).finish();
        partial[6..8].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(partial, datagram(&ip, b"abc"));
    }
}

proptest! {
    #[test]
    fn emitted_headers_are_parsed(
        ip in arbitrary::ip_header(), src_port in any::<u16>(), dst_port in any::<u16>(), payload in arbitrary::payload(),
    ) {
        let ip = IpHeader { protocol: ip::UDP, ..ip };
        let header = UdpHeader { src_port, dst_port };
        let mut datagram = vec![];
        header.emit(&ip, &payload, &mut datagram);
        prop_assert_eq!(datagram.len(), UdpHeader::LEN + payload.len());
        prop_assert_eq!(UdpHeader::parse(&ip, &datagram), Ok((header, &payload[..])));
    }
}
