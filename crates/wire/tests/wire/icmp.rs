//! ICMP of both versions.

use crate::arbitrary;
use lastack_wire::{Fragment, Icmp, IcmpError, IpHeader, Malformed, Quoted, ip};
use proptest::prelude::*;

fn carrier(v6: bool) -> IpHeader {
    if v6 {
        IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::ICMPV6)
    } else {
        IpHeader::new([192, 0, 2, 1].into(), [198, 51, 100, 7].into(), ip::ICMP)
    }
}

fn emit(v6: bool, message: Icmp<'_>) -> Vec<u8> {
    let mut out = vec![];
    message.emit(&carrier(v6), &mut out);
    out
}

/// Each error, the 32 bits it carries, and how it is shown, type and code included.
#[rustfmt::skip]
const ERRORS: [(IcmpError, u32, &str); 18] = [
    (IcmpError::net_unreachable(false), 0, "network unreachable (3/0)"),
    (IcmpError::net_unreachable(true), 0, "network unreachable (1/0)"),
    (IcmpError::host_unreachable(false), 0, "host unreachable (3/1)"),
    (IcmpError::host_unreachable(true), 0, "host unreachable (1/3)"),
    (IcmpError::protocol_unreachable(false, 9), 0, "protocol unreachable (3/2)"),
    (IcmpError::protocol_unreachable(true, 6), 6, "protocol unreachable (4/1)"),
    (IcmpError::port_unreachable(false), 0, "port unreachable (3/3)"),
    (IcmpError::port_unreachable(true), 0, "port unreachable (1/4)"),
    (IcmpError::packet_too_big(false, 1280), 1280, "fragmentation needed (3/4)"),
    (IcmpError::packet_too_big(true, 70_000), 70_000, "packet too big (2/0)"),
    (IcmpError::admin_prohibited(false), 0, "communication prohibited (3/13)"),
    (IcmpError::admin_prohibited(true), 0, "communication prohibited (1/1)"),
    (IcmpError::time_exceeded(false), 0, "hop limit exceeded (11/0)"),
    (IcmpError::time_exceeded(true), 0, "hop limit exceeded (3/0)"),
    (IcmpError::reassembly_timeout(false), 0, "fragment reassembly time exceeded (11/1)"),
    (IcmpError::reassembly_timeout(true), 0, "fragment reassembly time exceeded (3/1)"),
    (IcmpError::parameter_problem(false, 20), 20 << 24, "parameter problem (12/0)"),
    (IcmpError::parameter_problem(true, 20), 20, "erroneous header field (4/0)"),
];

#[test]
fn every_constructor_has_type_code_and_words_of_its_version() {
    for (row, (error, info, shown)) in ERRORS.into_iter().enumerate() {
        assert_eq!(error.info, info);
        assert_eq!(error.v6, row % 2 == 1);
        assert_eq!(error.to_string(), shown);
        let message = Icmp::Error { error, quoted: b"quote" };
        assert_eq!(Icmp::parse(&carrier(error.v6), &emit(error.v6, message)), Ok(message));
    }
}

#[test]
fn only_errors_about_size_tell_an_mtu() {
    assert_eq!(IcmpError::packet_too_big(false, 1280).mtu(), Some(1280));
    assert_eq!(IcmpError::packet_too_big(true, 70_000).mtu(), Some(70_000));
    assert_eq!(IcmpError::port_unreachable(false).mtu(), None);
    assert_eq!(IcmpError::time_exceeded(true).mtu(), None);
    // RFC 4884 puts a length before the MTU.
    let extended = IcmpError { v6: false, kind: 3, code: 4, info: 0x0020_0500 };
    assert_eq!(extended.mtu(), Some(1280));
}

#[test]
#[should_panic(expected = "65535")]
fn an_ipv4_mtu_has_16_bits() {
    let _ = IcmpError::packet_too_big(false, 65536);
}

#[test]
fn which_types_are_errors() {
    let errors = |v6| (0..=255u8).filter(|&kind| IcmpError::is_error_kind(v6, kind)).collect::<Vec<_>>();
    assert_eq!(errors(false), [3, 4, 5, 11, 12]);
    assert_eq!(errors(true), (0..=127).collect::<Vec<_>>());
}

#[test]
fn every_type_and_code_has_words() {
    for v6 in [false, true] {
        for kind in (0..=255).filter(|&kind| IcmpError::is_error_kind(v6, kind)) {
            for code in 0..=20 {
                let error = IcmpError { v6, kind, code, info: 0 };
                let known = if v6 { (1..=4).contains(&kind) } else { true };
                assert_eq!(!error.describe().starts_with("unknown"), known, "{error}");
            }
        }
    }
}

#[test]
fn bytes_of_messages() {
    let echo = Icmp::Echo { reply: false, ident: 0x0102, seq: 0x0304, data: &[5] };
    assert_eq!(emit(false, echo)[..2], [8, 0]);
    assert_eq!(emit(true, echo)[..2], [128, 0]);
    assert_eq!(emit(false, echo)[4..], [1, 2, 3, 4, 5]);
    let reply = Icmp::Echo { reply: true, ident: 0x0102, seq: 0x0304, data: &[5] };
    assert_eq!(emit(false, reply)[..2], [0, 0]);
    assert_eq!(emit(true, reply)[..2], [129, 0]);
}

#[test]
fn other_messages_keep_type_and_code() {
    for (v6, kind) in [(false, 13), (true, 135)] {
        let other = Icmp::Other { kind, code: 2 };
        let bytes = emit(v6, other);
        assert_eq!(bytes.len(), 8);
        assert_eq!(Icmp::parse(&carrier(v6), &bytes), Ok(other));
    }
}

#[test]
fn truncated_or_with_a_wrong_checksum() {
    for v6 in [false, true] {
        let mut bytes = emit(v6, Icmp::Echo { reply: true, ident: 1, seq: 2, data: b"abc" });
        assert_eq!(Icmp::parse(&carrier(v6), &bytes[..7]), Err(Malformed::Truncated));
        bytes[9] ^= 1;
        assert_eq!(Icmp::parse(&carrier(v6), &bytes), Err(Malformed::Checksum));
    }
    let bytes = emit(true, Icmp::Echo { reply: true, ident: 1, seq: 2, data: b"abc" });
    let elsewhere = IpHeader { dst: [0x22; 16].into(), ..carrier(true) };
    assert_eq!(Icmp::parse(&elsewhere, &bytes), Err(Malformed::Checksum), "ICMPv6 has a pseudo-header");
}

#[test]
#[should_panic(expected = "its own IP version")]
fn an_error_goes_in_its_own_version() {
    emit(false, Icmp::Error { error: IcmpError::port_unreachable(true), quoted: b"" });
}

#[test]
fn a_quote_makes_a_message_of_576_or_1280_bytes() {
    let packet = [0; 1500];
    assert_eq!(IcmpError::port_unreachable(false).quote(&packet).len(), 548);
    assert_eq!(IcmpError::port_unreachable(true).quote(&packet).len(), 1232);
    assert_eq!(IcmpError::port_unreachable(true).quote(&packet[..100]).len(), 100);
}

#[test]
fn quoted_ports_and_sequence_number_as_far_as_the_quote_goes() {
    for v6 in [false, true] {
        let header = IpHeader { protocol: ip::TCP, ..carrier(v6) };
        let mut bytes = vec![];
        header.emit(1000, &mut bytes);
        bytes.extend([0x12, 0x34, 0, 80, 0, 0, 0, 9]);
        let header_len = header.len();
        let quote = |len: usize| Quoted::parse(&bytes[..header_len + len]).unwrap();
        assert_eq!(quote(8).header, header);
        assert_eq!(quote(8).total_len, header_len + 1000);
        assert_eq!((quote(8).ports(), quote(8).seq()), (Some((0x1234, 80)), Some(9)));
        assert_eq!((quote(7).ports(), quote(7).seq()), (Some((0x1234, 80)), None));
        assert_eq!((quote(4).ports(), quote(4).seq()), (Some((0x1234, 80)), None));
        assert_eq!((quote(3).ports(), quote(0).seq()), (None, None));
        assert_eq!(Quoted::parse(&bytes[..header_len - 1]), Err(Malformed::Truncated));
    }
}

#[test]
fn only_tcp_has_a_sequence_number_and_only_tcp_and_udp_ports() {
    for (protocol, ports, seq) in
        [(ip::TCP, Some((1, 2)), Some(3)), (ip::UDP, Some((1, 2)), None), (ip::ICMP, None, None)]
    {
        let mut bytes = vec![];
        IpHeader { protocol, ..carrier(false) }.emit(8, &mut bytes);
        bytes.extend([0, 1, 0, 2, 0, 0, 0, 3]);
        let quoted = Quoted::parse(&bytes).unwrap();
        assert_eq!((quoted.ports(), quoted.seq()), (ports, seq));
    }
}

#[test]
fn a_quoted_fragment_has_ports_only_if_it_is_the_first() {
    for v6 in [false, true] {
        for (offset, ports) in [(0, Some((1, 2))), (8, None)] {
            let fragment = Fragment { ident: 7, offset, more: true };
            let mut bytes = vec![];
            IpHeader { protocol: ip::UDP, ..carrier(v6) }.emit_fragment(fragment, 8, &mut bytes);
            bytes.extend([0, 1, 0, 2, 0, 8, 0, 0]);
            let quoted = Quoted::parse(&bytes).unwrap();
            assert_eq!(quoted.fragment, Some(fragment));
            assert_eq!(quoted.ports(), ports);
        }
    }
}

#[test]
fn a_quote_may_be_changed_and_odd() {
    let mut bytes = vec![];
    IpHeader { protocol: ip::UDP, ..carrier(false) }.emit(8, &mut bytes);
    bytes[10..12].fill(0);
    bytes[2..4].fill(0);
    bytes[0] = 0x46;
    bytes.extend([1, 1, 1, 1, 0, 1, 0, 2]);
    assert_eq!(Quoted::parse(&bytes).unwrap().ports(), Some((1, 2)), "behind the options");
    bytes[0] = 0x44;
    assert_eq!(Quoted::parse(&bytes), Err(Malformed::HeaderLength));
    bytes[0] = 0x4f;
    assert_eq!(Quoted::parse(&bytes), Err(Malformed::Truncated));
    bytes[0] = 0x05;
    assert_eq!(Quoted::parse(&bytes), Err(Malformed::Version));
}

#[test]
fn a_quoted_ipv6_packet_has_its_extension_headers_passed_over() {
    let mut bytes = vec![];
    IpHeader { protocol: 60, ..carrier(true) }.emit(16, &mut bytes);
    bytes.extend([ip::UDP, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2]);
    let quoted = Quoted::parse(&bytes).unwrap();
    assert_eq!((quoted.header.protocol, quoted.ports()), (ip::UDP, Some((1, 2))));
    assert_eq!(Quoted::parse(&bytes[..45]), Err(Malformed::ExtensionHeader));
}

proptest! {
    #[test]
    fn emitted_headers_are_parsed(
        ip in arbitrary::ip_header(), reply in any::<bool>(), ident in any::<u16>(), seq in any::<u16>(),
        data in arbitrary::payload(), kind in any::<u8>(), code in any::<u8>(), info in any::<u32>(),
    ) {
        let v6 = ip.is_v6();
        let ip = IpHeader { protocol: if v6 { ip::ICMPV6 } else { ip::ICMP }, ..ip };
        let mut messages = vec![Icmp::Echo { reply, ident, seq, data: &data }];
        if IcmpError::is_error_kind(v6, kind) {
            messages.push(Icmp::Error { error: IcmpError { v6, kind, code, info }, quoted: &data });
        }
        for message in messages {
            let mut bytes = vec![];
            message.emit(&ip, &mut bytes);
            prop_assert_eq!(Icmp::parse(&ip, &bytes), Ok(message));
        }
    }
}
