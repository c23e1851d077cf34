//! Corrects checksums, so that modified packets are not merely dropped for them.

use lastack_link::complete_checksum;
use lastack_wire::checksum::Sum;
use lastack_wire::{IpPacket, ip};

/// Corrects the checksums of a packet, as far as it can be parsed.
pub fn repair(packet: &mut [u8]) {
    repair_ip(packet);
    complete_checksum(packet);
    repair_icmp(packet);
}

fn repair_ip(packet: &mut [u8]) {
    let header = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => return,
    };
    if let Some(header) = packet.get_mut(..header).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let checksum = Sum::new().add(header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn repair_icmp(packet: &mut [u8]) {
    let Ok(parsed) = IpPacket::parse(packet) else { return };
    let v6 = match parsed.header.protocol {
        ip::ICMP if !parsed.header.is_v6() => false,
        ip::ICMPV6 if parsed.header.is_v6() => true,
        _ => return,
    };
    let (header, at, len) = (parsed.header, parsed.unfragmentable, parsed.payload.len());
    if parsed.fragment.is_some() || len < 8 {
        return;
    }
    packet[at + 2..at + 4].fill(0);
    let begin = if v6 { header.pseudo(len) } else { Sum::new() };
    let checksum = begin.add(&packet[at..at + len]).finish();
    packet[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
}
