//! Fragmentation of packets that the stack sends (RFC 791 section 2.3, RFC 8200 section 4.5), and the identification
//! field (RFC 6864, RFC 7739).

use crate::isn::Secret;
use crate::{Rule, Transmit};
use alloc::vec::Vec;
use lastack_wire::ip::{Fragment, IpHeader};

/// Bytes of the IPv6 fragment header.
const FRAGMENT_HEADER_V6: usize = 8;

/// A packet sent in fragments.
#[derive(Debug)]
pub(crate) struct Fragments {
    ip: IpHeader,
    ident: u32,
    payload: Vec<u8>,
    sent: usize,
    /// Bytes of payload in each fragment but the last.
    room: usize,
    rule: Option<Rule>,
}

impl Fragments {
    pub fn new(ip: IpHeader, ident: u32, payload: Vec<u8>, mtu: usize, rule: Option<Rule>) -> Self {
        let headers = ip.len() + if ip.is_v6() { FRAGMENT_HEADER_V6 } else { 0 };
        // Offsets are in units of eight bytes.
        let room = (mtu.saturating_sub(headers) & !7).max(8);
        Self { ip, ident, payload, sent: 0, room, rule }
    }

    pub fn is_done(&self) -> bool {
        self.sent >= self.payload.len()
    }

    /// Writes the next fragment into `packet`; `None` after the last.
    pub fn emit_next(&mut self, packet: &mut Vec<u8>) -> Option<Transmit> {
        if self.is_done() {
            return None;
        }
        let rest = &self.payload[self.sent..];
        let part = &rest[..rest.len().min(self.room)];
        let more = part.len() < rest.len();
        packet.clear();
        let fragment = Fragment { ident: self.ident, offset: self.sent as u32, more };
        self.ip.emit_fragment(fragment, part.len(), packet);
        let header_len = packet.len() as u16;
        packet.extend_from_slice(part);
        self.sent += part.len();
        Some(Transmit { header_len, rule: self.rule, ..Transmit::default() })
    }
}

/// Assigns identifications to packets, in a secret permutation that changes with each epoch.
///
/// A counter, even one per pair of hosts, can be shared by several flows and so reveals how much is sent to
/// others (RFC 7739 section 4), for example whether a spoofed packet reached an open port. The highest bit
/// alternates with the epoch, so that no number is reused within half of the number space.
#[derive(Debug, Default)]
pub(crate) struct Idents {
    given: [u64; 2],
}

impl Idents {
    /// The next identification of an IPv4 packet (16 bits) or IPv6 packet (32 bits).
    pub fn next(&mut self, secret: &Secret, v6: bool) -> u32 {
        let bits = if v6 { 31 } else { 15 };
        let given = &mut self.given[usize::from(v6)];
        let (epoch, n) = (*given >> bits, *given & ((1 << bits) - 1));
        *given += 1;
        (epoch as u32 & 1) << bits | secret.shuffled(epoch << 1 | u64::from(v6), n as u32, bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use lastack_wire::ip::{self, IpPacket};

    fn parts(src: &str, dst: &str, len: usize, mtu: usize) -> Vec<(Fragment, Vec<u8>, usize)> {
        let ip = IpHeader::new(src.parse().unwrap(), dst.parse().unwrap(), ip::UDP);
        let payload = (0..len).map(|i| i as u8).collect();
        let mut fragments = Fragments::new(ip, 0x1_2345, payload, mtu, None);
        let (mut packet, mut parts) = (vec![9], vec![]);
        while let Some(transmit) = fragments.emit_next(&mut packet) {
            let parsed = IpPacket::parse(&packet).unwrap();
            assert_eq!(usize::from(transmit.header_len), parsed.unfragmentable);
            assert_eq!(parsed.header.protocol, ip::UDP);
            parts.push((parsed.fragment.unwrap(), parsed.payload.to_vec(), packet.len()));
        }
        parts
    }

    #[test]
    fn parts_fill_the_mtu_and_make_the_whole() {
        for (src, dst, room, ident, headers) in
            [("10.0.0.1", "10.0.0.2", 976, 0x2345, 20), ("fd00::1", "fd00::2", 952, 0x1_2345, 48)]
        {
            let parts = parts(src, dst, 2500, 1001);
            let offsets: Vec<_> =
                parts.iter().map(|(f, p, _)| (f.offset as usize, p.len(), f.more)).collect();
            assert_eq!(offsets, [(0, room, true), (room, room, true), (2 * room, 2500 - 2 * room, false)]);
            assert!(parts.iter().all(|(f, p, len)| f.ident == ident && *len == headers + p.len()));
            let whole: Vec<u8> = parts.into_iter().flat_map(|(_, p, _)| p).collect();
            assert_eq!(whole, (0..2500).map(|i| i as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_ident_is_not_reused_soon_and_does_not_reveal_the_count() {
        for v6 in [false, true] {
            let (secret, mut idents) = (Secret::new([1; 16]), Idents::default());
            let given: Vec<u32> = (0..3 << 15).map(|_| idents.next(&secret, v6)).collect();
            for recent in [&given[..1 << 15], &given[1 << 15..2 << 15], &given[40_000..40_000 + (1 << 14)]] {
                let mut sorted = recent.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), recent.len());
            }
            // The difference of two numbers does not show how many were allocated between them.
            for apart in [1, 2, 7] {
                let mut steps = [0u32; 64];
                given.windows(apart + 1).for_each(|w| {
                    let low = w[apart].wrapping_sub(w[0]) & 0x7fff;
                    steps[(low >> 9) as usize] += 1;
                });
                let expected = f64::from(steps.iter().sum::<u32>()) / 64.0;
                let chi: f64 = steps.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
                assert!((20.0..130.0).contains(&chi), "{apart}: {chi}");
            }
        }
        let of = |key| Idents::default().next(&Secret::new([key; 16]), false);
        assert_ne!(of(1), of(2));
    }
}
