//! All parsers of `wire`: none panics, and parsing, emitting and parsing gives the same result.

use crate::repair::repair;
use lastack_wire::{
    Icmp, IpHeader, IpPacket, Quoted, ResetReason, SackBlocks, TcpHeader, TcpOptions, UdpHeader, ip, tcp,
};

/// Parses the bytes as a packet, unchanged and with correct checksums; and as the payload of a packet.
pub fn run(bytes: &[u8]) {
    packet(bytes);
    let mut repaired = bytes.to_vec();
    repair(&mut repaired);
    packet(&repaired);
    transport(bytes);
    quoted(bytes);
    reassembled(bytes);
    if let Some(reason) = ResetReason::from_payload(bytes) {
        assert_eq!(reason.to_payload(), bytes);
    }
}

fn packet(bytes: &[u8]) {
    let Ok(parsed) = IpPacket::parse(bytes) else { return };
    assert!(parsed.unfragmentable + parsed.payload.len() <= bytes.len());
    assert!(parsed.next_header_at < parsed.unfragmentable);
    assert_eq!(bytes[parsed.next_header_at], parsed.header.protocol);
    let mut again = Vec::new();
    emit_ip(&parsed, &mut again);
    // After the IPv6 header these protocol numbers would be extension headers.
    let walked = parsed.fragment.is_none()
        && parsed.header.is_v6()
        && matches!(parsed.header.protocol, 0 | 43 | 44 | 60);
    if !walked {
        let reparsed = IpPacket::parse(&again).expect("what was emitted is a packet");
        // A fragment of IPv4 is not sent with DF.
        let dont_fragment =
            parsed.header.dont_fragment && (parsed.header.is_v6() || parsed.fragment.is_none());
        assert_eq!(reparsed.header, IpHeader { dont_fragment, ..parsed.header });
        assert_eq!((reparsed.fragment, reparsed.payload), (parsed.fragment, parsed.payload));
        assert!(!reparsed.has_options);
    }
    if parsed.fragment.is_none() {
        carried(&parsed);
    }
}

/// Emits a packet without its IP options.
fn emit_ip(parsed: &IpPacket<'_>, out: &mut Vec<u8>) {
    let room = if parsed.header.is_v6() { 65_535 - 8 } else { 65_535 - 20 };
    let len = parsed.payload.len();
    assert!(len <= room + 8);
    match parsed.fragment {
        Some(fragment) => parsed.header.emit_fragment(fragment, len, out),
        None => parsed.header.emit(len, out),
    }
    out.extend_from_slice(parsed.payload);
}

/// Parses the payload of a packet with this header, checksum included.
fn carried(parsed: &IpPacket<'_>) {
    let (header, payload) = (&parsed.header, parsed.payload);
    match header.protocol {
        ip::TCP => {
            let _ = tcp::checksum_ok(header, payload);
            tcp_header(payload);
        }
        ip::UDP => udp(header, payload),
        ip::ICMP | ip::ICMPV6 => icmp(header, payload),
        _ => {}
    }
}

/// Parsers that are the same for both IP versions.
fn transport(bytes: &[u8]) {
    tcp_header(bytes);
    let v4 = IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::UDP);
    let v6 = IpHeader::new([1; 16].into(), [2; 16].into(), ip::UDP);
    for header in [v4, v6] {
        udp(&header, bytes);
        icmp(&header, bytes);
    }
}

fn tcp_header(segment: &[u8]) {
    let Ok((header, text)) = TcpHeader::parse(segment) else { return };
    assert!(text.len() + 20 <= segment.len() && segment.ends_with(text));
    let mut again = Vec::new();
    header.emit(&mut again);
    assert_eq!(again.len(), header.len());
    again.extend_from_slice(text);
    let (reparsed, same) = TcpHeader::parse(&again).expect("what was emitted is a header");
    assert_eq!(same, text);
    // Signatures are never emitted, and only the SACK blocks that fit.
    let blocks: Vec<_> = reparsed.options.sack.iter().collect();
    assert!(
        header.options.sack.iter().zip(&blocks).all(|(a, b)| a == *b)
            && blocks.len() <= header.options.sack.len()
    );
    let bare = |header: TcpHeader| TcpHeader {
        options: TcpOptions { sack: SackBlocks::new(), signed: false, ..header.options },
        ..header
    };
    assert_eq!(bare(reparsed), bare(header));
}

fn udp(ip: &IpHeader, bytes: &[u8]) {
    let unchecked = UdpHeader::parse_unchecked(bytes);
    let checked = UdpHeader::parse(ip, bytes);
    assert!(checked.is_err() || checked == unchecked);
    if let Ok((header, payload)) = unchecked {
        let mut again = Vec::new();
        header.emit(ip, payload, &mut again);
        assert_eq!(UdpHeader::parse(ip, &again), Ok((header, payload)));
    }
}

fn icmp(ip: &IpHeader, bytes: &[u8]) {
    let Ok(message) = Icmp::parse(ip, bytes) else { return };
    let mut again = Vec::new();
    message.emit(ip, &mut again);
    assert_eq!(Icmp::parse(ip, &again), Ok(message));
    if let Icmp::Error { error, quoted: about } = message {
        assert!(!error.describe().is_empty() && !error.to_string().is_empty());
        let _ = error.mtu();
        assert!(error.quote(bytes).len() <= bytes.len());
        quoted(about);
    }
}

fn quoted(bytes: &[u8]) {
    if let Ok(quoted) = Quoted::parse(bytes) {
        assert!(quoted.payload.len() <= bytes.len());
        assert!(quoted.seq().is_none() || quoted.ports().is_some());
    }
}

fn reassembled(bytes: &[u8]) {
    for src in [[1; 16].into(), std::net::IpAddr::from([192, 0, 2, 1])] {
        for protocol in [0, ip::TCP, 43, 44, 60] {
            let header = IpHeader::new(src, src, protocol);
            if let Ok(packet) = IpPacket::reassembled(header, bytes) {
                assert_eq!(packet.unfragmentable + packet.payload.len(), header.len() + bytes.len());
                assert!(packet.fragment.is_none());
            }
        }
    }
}
