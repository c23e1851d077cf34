//! Fragments that we send (RFC 791 section 2.3, RFC 8200 section 4.5), and the numbers that tell the
//! packets apart that they belong to.

use crate::isn::Secret;
use crate::{Rule, Transmit};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::ip::{Fragment, IpHeader};

/// Octets of the IPv6 fragment header.
const FRAGMENT_HEADER_V6: usize = 8;

/// A packet that leaves in parts.
#[derive(Debug)]
pub(crate) struct Fragments {
    ip: IpHeader,
    ident: u32,
    payload: Vec<u8>,
    sent: usize,
    /// Octets of payload in each part but the last.
    room: usize,
    rule: Option<Rule>,
}

impl Fragments {
    pub fn new(ip: IpHeader, ident: u32, payload: Vec<u8>, mtu: usize, rule: Option<Rule>) -> Self {
        let headers = ip.len() + if ip.is_v6() { FRAGMENT_HEADER_V6 } else { 0 };
        // Offsets count in units of eight octets.
        let room = (mtu.saturating_sub(headers) & !7).max(8);
        Self { ip, ident, payload, sent: 0, room, rule }
    }

    pub fn is_done(&self) -> bool {
        self.sent >= self.payload.len()
    }

    /// Puts the next part into `packet`; `None` after the last.
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

/// Counters of identification. Which of them a pair of hosts counts with, and from where, depends on
/// the secret: a host cannot see from its own packets how many others we send (RFC 7739).
#[derive(Debug)]
pub(crate) struct Idents(Box<[u32; Self::COUNTERS]>);

impl Default for Idents {
    fn default() -> Self {
        Self(Box::new([0; Self::COUNTERS]))
    }
}

impl Idents {
    const COUNTERS: usize = 256;

    /// The next number for a packet from `local` to `remote`; IPv4 takes its lower half.
    pub fn next(&mut self, secret: &Secret, local: IpAddr, remote: IpAddr) -> u32 {
        let place = secret.ident_place(local, remote);
        let counter = &mut self.0[(place >> 32) as usize % Self::COUNTERS];
        *counter = counter.wrapping_add(1);
        (place as u32).wrapping_add(*counter)
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
    fn idents_count_for_a_pair_and_begin_at_a_secret_place() {
        let (secret, mut idents) = (Secret::new([1; 16]), Idents::default());
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|a| a.parse().unwrap());
        let first = idents.next(&secret, a, b);
        let other = idents.next(&secret, a, c);
        assert_eq!(idents.next(&secret, a, b).wrapping_sub(first), 1);
        assert!(other.abs_diff(first) > 16);
        assert_ne!(Idents::default().next(&Secret::new([2; 16]), a, b), first);
    }
}
