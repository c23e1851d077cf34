//! IPv6 extension headers.

use lastack_wire::{Fragment, IpHeader, IpPacket, Malformed, ip};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

fn header(protocol: u8) -> IpHeader {
    IpHeader::new([0x20; 16].into(), [0x21; 16].into(), protocol)
}

/// An IPv6 packet whose header names `next_header`, with `parts` behind it.
fn packet(next_header: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let mut packet = vec![];
    header(next_header).emit(rest.len(), &mut packet);
    packet.extend(rest);
    packet
}

/// A header of options that is nothing but padding (PadN).
const fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A routing header of type 2 with `left` segments left.
const fn routing(next: u8, left: u8) -> [u8; 8] {
    [next, 0, 2, left, 0, 0, 0, 0]
}

const fn fragment(next: u8, place: u16) -> [u8; 8] {
    let [a, b] = place.to_be_bytes();
    [next, 0, a, b, 0xde, 0xad, 0xbe, 0xef]
}

#[test]
fn all_extension_headers_in_a_row_are_passed_over() {
    let bytes = packet(
        HOP_BY_HOP,
        &[
            &padding(DESTINATION),
            &padding(ROUTING),
            &routing(DESTINATION, 0),
            &[ip::TCP, 1, 0, 0, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            b"text",
        ],
    );
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.header, header(ip::TCP));
    assert_eq!(packet.unfragmentable, 80);
    assert_eq!(packet.next_header_at, 64);
    assert_eq!(packet.payload, b"text");
    assert!(packet.has_options);
    assert_eq!(packet.fragment, None);
}

#[test]
fn an_unknown_next_header_ends_the_walk() {
    // ESP, AH, no next header, and hop-by-hop options where they must not be (RFC 8200 section 4).
    for protocol in [50, 51, 59, 132, HOP_BY_HOP] {
        let bytes = packet(DESTINATION, &[&padding(protocol), &[0; 16]]);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.header.protocol, protocol);
        assert_eq!(packet.next_header_at, 40);
        assert_eq!(packet.payload, [0; 16]);
    }
}

#[test]
fn a_fragment_ends_the_walk() {
    // The second destination options belong to the fragmentable part.
    let bytes =
        packet(DESTINATION, &[&padding(FRAGMENT), &fragment(DESTINATION, 1), &padding(ip::TCP), b"text"]);
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.fragment, Some(Fragment { ident: 0xdead_beef, offset: 0, more: true }));
    assert_eq!(packet.header.protocol, DESTINATION);
    assert_eq!(packet.next_header_at, 48);
    assert_eq!(packet.unfragmentable, 56);
    assert_eq!(packet.payload, [&padding(ip::TCP)[..], b"text"].concat());
}

#[test]
fn the_reserved_bits_of_a_fragment_are_not_its_offset() {
    let bytes = packet(FRAGMENT, &[&fragment(ip::UDP, 1480 | 0b110), b"text"]);
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.fragment, Some(Fragment { ident: 0xdead_beef, offset: 1480, more: false }));
    assert!(!packet.has_options);
}

#[test]
fn an_atomic_fragment_is_whole() {
    let bytes = packet(FRAGMENT, &[&fragment(DESTINATION, 0), &padding(ip::UDP), b"text"]);
    let packet = IpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.fragment, None);
    assert_eq!(packet.header.protocol, ip::UDP);
    assert_eq!(packet.payload, b"text");
}

#[test]
fn segments_left_are_refused() {
    let bytes = packet(ROUTING, &[&routing(ip::TCP, 1), b"text"]);
    assert_eq!(IpPacket::parse(&bytes), Err(Malformed::ExtensionHeader));
}

#[test]
fn unknown_options_are_skipped_or_dropped_by_their_high_bits() {
    for (kind, expected) in [
        (0x05, Ok(())), // router alert
        (0x3e, Ok(())),
        (0x7e, Err(Malformed::Option)),
        (0x9e, Err(Malformed::Option)),
        (0xc2, Err(Malformed::Option)), // jumbo payload
        (0xc9, Err(Malformed::Option)), // home address
    ] {
        for next_header in [HOP_BY_HOP, DESTINATION] {
            let bytes = packet(next_header, &[&[ip::TCP, 0, kind, 2, 0, 0, 1, 0], b"text"]);
            assert_eq!(IpPacket::parse(&bytes).map(|_| ()), expected, "{kind:#x}");
        }
    }
}

#[test]
fn options_that_leave_their_header_are_malformed() {
    for options in [[1, 5, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 3, 0, 0, 0, 1]] {
        let bytes = packet(DESTINATION, &[&[ip::TCP, 0], &options, b"text"]);
        assert_eq!(IpPacket::parse(&bytes), Err(Malformed::Option), "{options:?}");
    }
    let only_padding = packet(DESTINATION, &[&[ip::TCP, 0, 0, 0, 0, 0, 0, 0], b"text"]);
    assert_eq!(IpPacket::parse(&only_padding).unwrap().payload, b"text", "Pad1 has no length");
}

#[test]
fn extension_headers_cut_short() {
    for (next_header, part) in [
        (DESTINATION, &[][..]),
        (DESTINATION, &[ip::TCP]),
        (DESTINATION, &padding(ip::TCP)[..7]),
        (DESTINATION, &[ip::TCP, 1, 1, 4, 0, 0, 0, 0]),
        (HOP_BY_HOP, &[]),
        (ROUTING, &[ip::TCP, 0, 0, 0]),
        (FRAGMENT, &fragment(ip::TCP, 8)[..7]),
    ] {
        let bytes = packet(next_header, &[part]);
        assert_eq!(IpPacket::parse(&bytes), Err(Malformed::ExtensionHeader), "{next_header} {part:?}");
    }
}

#[test]
fn the_walk_is_bounded() {
    let chain = |n: usize| {
        let mut parts = vec![padding(DESTINATION); n];
        parts[n - 1] = padding(ip::TCP);
        packet(DESTINATION, &[&parts.concat()])
    };
    assert_eq!(IpPacket::parse(&chain(8)).unwrap().header.protocol, ip::TCP);
    assert_eq!(IpPacket::parse(&chain(9)), Err(Malformed::ExtensionHeader));
}

#[test]
fn truncated_and_padded() {
    let mut bytes = packet(ip::TCP, &[b"text"]);
    assert_eq!(IpPacket::parse(&bytes[..39]), Err(Malformed::Truncated));
    assert_eq!(IpPacket::parse(&bytes[..43]), Err(Malformed::Truncated));
    bytes.extend(b"padding");
    assert_eq!(IpPacket::parse(&bytes).unwrap().payload, b"text");
}

#[test]
fn a_reassembled_packet_goes_on_behind_the_fragment_header() {
    let payload = [&padding(ip::TCP)[..], b"text"].concat();
    let packet = IpPacket::reassembled(header(DESTINATION), &payload).unwrap();
    assert_eq!(packet.header, header(ip::TCP));
    assert_eq!((packet.payload, packet.unfragmentable, packet.next_header_at), (&b"text"[..], 48, 40));

    let packet = IpPacket::reassembled(header(ip::UDP), b"text").unwrap();
    assert_eq!((packet.payload, packet.unfragmentable, packet.next_header_at), (&b"text"[..], 40, 6));

    // A fragment within a fragment (RFC 8200 section 4.5 makes one fragment header of each packet).
    let payload = [&fragment(ip::TCP, 8)[..], b"text"].concat();
    assert_eq!(IpPacket::reassembled(header(FRAGMENT), &payload), Err(Malformed::ExtensionHeader));

    let packet = IpPacket::reassembled(header(HOP_BY_HOP), b"text").unwrap();
    assert_eq!((packet.header.protocol, packet.next_header_at), (HOP_BY_HOP, 6), "an unknown protocol here");
}
