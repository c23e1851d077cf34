//! Completing the partial checksum of a packet.

use crate::layout::{Layout, Protocol};
use lastack_wire::checksum::Sum;
use lastack_wire::{Icmp, IpPacket, ip};

/// Computes the checksum of a TCP or UDP header and stores it; other packets and fragments are left unchanged.
///
/// For a packet sent with [`Transmit::partial_checksum`](lastack_engine::Transmit) that is to be captured, or
/// corrupted detectably.
pub fn complete_checksum(packet: &mut [u8]) {
    if let Some(layout) = Layout::of(packet) {
        complete(&layout, packet);
    }
}

/// As [`complete_checksum`], only if the stored checksum is wrong: a received packet that is known to be good may
/// carry the sum of the pseudo-header.
pub(crate) fn complete_if_wrong(packet: &mut [u8]) {
    if let Some(layout) = Layout::of(packet)
        && !is_valid(&layout, packet)
    {
        complete(&layout, packet);
    }
}

pub(crate) fn complete(layout: &Layout, packet: &mut [u8]) {
    let at = layout.checksum();
    packet[at..at + 2].fill(0);
    let segment = &packet[layout.transport..layout.end];
    let checksum = match (layout.ip.pseudo(segment.len()).add(segment).finish(), layout.protocol) {
        // RFC 768: a computed 0 is sent as 0xffff, since 0 means no checksum.
        (0, Protocol::Udp) => 0xffff,
        (checksum, _) => checksum,
    };
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

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

fn is_valid(layout: &Layout, packet: &[u8]) -> bool {
    let segment = &packet[layout.transport..layout.end];
    // RFC 768: over IPv4 the checksum is optional.
    let without = layout.protocol == Protocol::Udp && !layout.ip.is_v6() && segment[6..8] == [0, 0];
    without || layout.ip.pseudo(segment.len()).add(segment).is_valid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{datagram, partial, segment, unreachable};

    #[test]
    fn a_partial_checksum_becomes_the_whole_one() {
        for whole in [
            segment("192.0.2.1", "192.0.2.2", b"odd"),
            segment("2001:db8::1", "2001:db8::2", b"even"),
            datagram("192.0.2.1", "192.0.2.2", b"query"),
            datagram("2001:db8::1", "2001:db8::2", b"?"),
        ] {
            let mut packet = partial(&whole);
            assert_ne!(packet, whole);
            complete_if_wrong(&mut packet);
            assert_eq!(packet, whole);
            complete_if_wrong(&mut packet);
            assert_eq!(packet, whole);
            packet[whole.len() - 1] ^= 1;
            complete_checksum(&mut packet);
            assert_ne!(packet, whole);
        }
    }

    #[test]
    fn a_datagram_without_checksum_stays_without() {
        let mut packet = datagram("192.0.2.1", "192.0.2.2", b"query");
        packet[26..28].fill(0);
        let before = packet.clone();
        complete_if_wrong(&mut packet);
        assert_eq!(packet, before);
    }

    #[test]
    fn a_quoted_partial_checksum_becomes_whole_and_the_error_stays_valid() {
        for (a, b) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let whole = datagram(a, b, b"query");
            let quote = |quoted: &[u8]| unreachable(b, a, quoted);
            let mut error = quote(&partial(&whole));
            complete_quoted(&mut error);
            assert_eq!(error, quote(&whole));
            // Wrong, but not what offload leaves; and cut short.
            let mut wrong = whole.clone();
            wrong[whole.len() - 1] ^= 1;
            for quoted in [&wrong[..], &partial(&whole)[..whole.len() - 1], &[]] {
                let mut error = quote(quoted);
                complete_quoted(&mut error);
                assert_eq!(error, quote(quoted));
            }
        }
    }

    #[test]
    fn what_is_no_transport_packet_is_left_alone() {
        let whole = segment("192.0.2.1", "192.0.2.2", b"text");
        let mut fragment = whole.clone();
        fragment[6] = 0x20;
        let mut short_offset = whole.clone();
        short_offset[32] = 0x40;
        for mut packet in [Vec::new(), vec![0x45], whole[..30].to_vec(), fragment, short_offset] {
            let before = packet.clone();
            complete_checksum(&mut packet);
            complete_if_wrong(&mut packet);
            assert_eq!(packet, before);
        }
    }
}
