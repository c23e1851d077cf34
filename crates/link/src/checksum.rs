//! Completing the partial checksum of a packet.

#[cfg(feature = "pcap")]
mod quoted;

use crate::layout::{Layout, Protocol};
#[cfg(feature = "pcap")]
pub(crate) use quoted::{complete_quoted, is_icmp};

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

fn is_valid(layout: &Layout, packet: &[u8]) -> bool {
    let segment = &packet[layout.transport..layout.end];
    // RFC 768: over IPv4 the checksum is optional.
    let without = layout.protocol == Protocol::Udp && !layout.ip.is_v6() && segment[6..8] == [0, 0];
    without || layout.ip.pseudo(segment.len()).add(segment).is_valid()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "pcap")]
    use crate::testing::unreachable;
    use crate::testing::{datagram, partial, segment};

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

    #[cfg(feature = "pcap")]
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
    fn other_packets_are_not_modified() {
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
