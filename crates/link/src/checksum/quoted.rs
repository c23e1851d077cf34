//! The checksums of an ICMP error, and of the packet that it quotes.

use super::{complete, is_valid};
use crate::layout::Layout;
use lastack_wire::checksum::Sum;
use lastack_wire::{Icmp, IpPacket, ip};

/// Completes the checksum of the packet that an ICMP error quotes, if it is the sum of the pseudo-header: the sender
/// of the error quotes a partial checksum unchanged.
pub(crate) fn complete_quoted(packet: &mut [u8]) {
    if let Some((icmp, layout)) = partial_quoted(packet) {
        let quoted = icmp + ICMP_HEADER;
        complete(&layout, &mut packet[quoted..]);
        complete_icmp(icmp, packet);
    }
}

/// Length of an ICMP header, before the quoted packet.
const ICMP_HEADER: usize = 8;

/// The offset of the ICMP message, and the layout of the quoted packet.
fn partial_quoted(packet: &[u8]) -> Option<(usize, Layout)> {
    let parsed = IpPacket::parse(packet).ok().filter(|parsed| is_icmp(parsed))?;
    let Ok(Icmp::Error { quoted, .. }) = Icmp::parse(&parsed.header, parsed.payload) else {
        return None;
    };
    // The checksum of a truncated quote cannot be computed.
    let layout = Layout::of(quoted)?;
    let sum = layout.ip.pseudo(layout.end - layout.transport).folded();
    let partial = quoted[layout.checksum()..][..2] == sum.to_be_bytes() && !is_valid(&layout, quoted);
    partial.then_some((parsed.unfragmentable, layout))
}

pub(crate) fn is_icmp(parsed: &IpPacket<'_>) -> bool {
    parsed.fragment.is_none() && matches!(parsed.header.protocol, ip::ICMP | ip::ICMPV6)
}

fn complete_icmp(icmp: usize, packet: &mut [u8]) {
    packet[icmp + 2..icmp + 4].fill(0);
    let Ok(parsed) = IpPacket::parse(packet) else {
        return;
    };
    let pseudo = match parsed.header.protocol {
        ip::ICMPV6 => parsed.header.pseudo(parsed.payload.len()),
        _ => Sum::new(),
    };
    let checksum = pseudo.add(parsed.payload).finish();
    packet[icmp + 2..icmp + 4].copy_from_slice(&checksum.to_be_bytes());
}
