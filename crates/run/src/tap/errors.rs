//! ICMP errors for the program: the hop limit is that with which they arrived at this host.

use lastack_wire::checksum::Sum;
use lastack_wire::ip::{self, IpPacket};

use crate::host::hops;

/// An ICMP error with the hop limit of the path; `None`: it is no error, or was not received by this host.
pub(super) fn with_hop_limit(packet: [&[u8]; 3]) -> Option<Vec<u8>> {
    let start = packet[0];
    let v4 = start.first()? >> 4 == 4;
    let protocol = *start.get(if v4 { 9 } else { 6 })?;
    if protocol != if v4 { ip::ICMP } else { ip::ICMPV6 } {
        return None;
    }
    let mut packet = packet.concat();
    let parsed = IpPacket::parse(&packet).ok()?;
    let (kind, sender) = (*parsed.payload.first()?, parsed.header.src);
    let is_error = if v4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 };
    let hop_limit = hops::of(sender).filter(|_| is_error)?;
    if v4 {
        let header = usize::from(packet[0] & 0x0f) * 4;
        packet[8] = hop_limit;
        packet[10..12].fill(0);
        let checksum = Sum::new().add(&packet[..header]).finish();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        packet[7] = hop_limit;
    }
    Some(packet)
}

#[cfg(test)]
mod tests {
    use lastack_wire::ip::IpHeader;

    use super::*;

    fn packet(from: &str, to: &str, kind: u8) -> Vec<u8> {
        let (from, to): (std::net::IpAddr, std::net::IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let protocol = if from.is_ipv6() { ip::ICMPV6 } else { ip::ICMP };
        let mut packet = Vec::new();
        IpHeader::new(from, to, protocol).emit(8, &mut packet);
        packet.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        packet
    }

    #[test]
    fn an_error_has_the_hop_limit_of_its_path() {
        for (from, to, error, reply) in
            [("203.0.113.200", "10.0.2.100", 3, 0), ("2001:db8:77::1", "fd00::100", 1, 129)]
        {
            let whole = packet(from, to, error);
            assert_eq!(with_hop_limit([&whole, &[], &[]]), None, "it did not come from the path");
            hops::note(from.parse().unwrap(), 57);
            let changed = with_hop_limit([&whole, &[], &[]]).unwrap();
            let parsed = IpPacket::parse(&changed).expect("the checksum is right");
            assert_eq!((parsed.header.hop_limit, parsed.payload), (57, &whole[whole.len() - 8..]));
            assert_eq!(with_hop_limit([&packet(from, to, reply), &[], &[]]), None, "no error");
        }
    }
}
