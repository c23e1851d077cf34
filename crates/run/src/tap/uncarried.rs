//! Packets of the program that lastack does not relay, by kind: they are reported, never dropped silently.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lastack_wire::ip::{self, IpPacket};

/// The kind of such a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of this protocol above IP.
    Protocol(u8),
    /// An ICMP message of this type, of IPv6 if `true`.
    Icmp(bool, u8),
    /// A ping to a group.
    PingToGroup,
    /// To an address of class E, which no host has (RFC 1112 section 4).
    Reserved,
}

/// The number of each kind, and their destination.
#[derive(Debug, Default)]
pub struct Uncarried {
    kinds: BTreeMap<Kind, (u64, Option<IpAddr>)>,
}

/// No next header (RFC 8200 section 4.7).
const NO_NEXT_HEADER: u8 = 59;
/// The Internet group management protocol, which the tap evaluates.
const IGMP: u8 = 2;

impl Kind {
    /// The kind of this packet, with its destination; `None`: it is relayed, or sent by the kernel itself.
    pub fn of(packet: &IpPacket<'_>) -> Option<(Self, IpAddr)> {
        let header = &packet.header;
        if packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return None;
        }
        let to = header.dst;
        if matches!(to, IpAddr::V4(v4) if v4.octets()[0] >= 240 && !v4.is_broadcast()) {
            return Some((Self::Reserved, to));
        }
        match (header.protocol, header.is_v6()) {
            (ip::TCP | ip::UDP | IGMP | NO_NEXT_HEADER, _) => None,
            (ip::ICMP, false) => match *packet.payload.first()? {
                8 if to.is_multicast() => Some((Self::PingToGroup, to)),
                // Replies, and errors about packets to the program.
                0 | 3 | 8 | 11 | 12 => None,
                kind => Some((Self::Icmp(false, kind), to)),
            },
            (ip::ICMPV6, true) => match *packet.payload.first()? {
                128 if to.is_multicast() => Some((Self::PingToGroup, to)),
                // The same, and neighbour discovery and group management, which kernels do by themselves.
                1..=4 | 128 | 129 | 130..=137 | 143 => None,
                kind => Some((Self::Icmp(true, kind), to)),
            },
            (protocol, _) => Some((Self::Protocol(protocol), to)),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Protocol(number) => {
                let name = match number {
                    4 => " (IPIP)",
                    33 => " (DCCP)",
                    41 => " (IPv6 in IP)",
                    46 => " (RSVP)",
                    47 => " (GRE)",
                    50 => " (ESP)",
                    51 => " (AH)",
                    89 => " (OSPF)",
                    103 => " (PIM)",
                    112 => " (VRRP)",
                    115 => " (L2TP)",
                    132 => " (SCTP)",
                    136 => " (UDP-Lite)",
                    _ => "",
                };
                format!("IP protocol {number}{name}")
            }
            Self::Icmp(v6, kind) => format!("ICMP{} type {kind}", if v6 { "v6" } else { "" }),
            Self::PingToGroup => "pings to multicast groups".to_owned(),
            Self::Reserved => "reserved addresses (240.0.0.0/4)".to_owned(),
        }
    }
}

impl Uncarried {
    /// Counts one packet.
    pub fn add(&mut self, (kind, to): (Kind, IpAddr)) {
        // Bounded by the number of protocols and types.
        let entry = self.kinds.entry(kind).or_insert((0, Some(to)));
        entry.0 += 1;
        // A destination is named only if it is the same for all.
        entry.1 = entry.1.filter(|first| *first == to);
    }

    /// The warnings of the report.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(kind, (count, to)): (&Kind, &(u64, Option<IpAddr>))| {
            let plural = if *count == 1 { "packet" } else { "packets" };
            let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
            format!(
                "{}: {count} {plural}{to} not carried; lastack run carries TCP, UDP and ping",
                kind.name()
            )
        };
        self.kinds.iter().map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use lastack_wire::ip::IpHeader;

    use super::*;

    fn kind(to: &str, protocol: u8, payload: &[u8]) -> Option<Kind> {
        let to: IpAddr = to.parse().unwrap();
        let from = if to.is_ipv6() { "fd00::100" } else { "10.0.2.100" };
        let mut packet = Vec::new();
        IpHeader::new(from.parse().unwrap(), to, protocol).emit(payload.len(), &mut packet);
        packet.extend_from_slice(payload);
        Kind::of(&IpPacket::parse(&packet).unwrap()).map(|(kind, _)| kind)
    }

    #[test]
    fn carried_packets_and_kernel_packets_are_not_counted() {
        for (to, protocol, first) in [
            ("192.0.2.1", ip::TCP, 0),
            ("224.0.0.22", IGMP, 0x22),
            ("192.0.2.1", ip::ICMP, 8),
            ("192.0.2.1", ip::ICMP, 3),
            ("2001:db8::1", ip::ICMPV6, 128),
            ("ff02::2", ip::ICMPV6, 133),
        ] {
            assert_eq!(kind(to, protocol, &[first; 40]), None, "{to} {protocol} {first}");
        }
    }

    #[test]
    fn the_rest_is_named() {
        assert_eq!(kind("192.0.2.1", 47, &[0; 8]), Some(Kind::Protocol(47)));
        assert_eq!(kind("2001:db8::1", 50, &[0; 8]), Some(Kind::Protocol(50)));
        assert_eq!(kind("192.0.2.1", ip::ICMP, &[13; 20]), Some(Kind::Icmp(false, 13)));
        assert_eq!(kind("224.0.0.1", ip::ICMP, &[8; 20]), Some(Kind::PingToGroup));
        assert_eq!(kind("240.0.0.1", ip::TCP, &[0; 40]), Some(Kind::Reserved));
        assert_eq!(kind("255.255.255.255", ip::UDP, &[0; 20]), None);
        let (mut uncarried, to) = (Uncarried::default(), "192.0.2.1".parse().unwrap());
        uncarried.add((Kind::Protocol(47), to));
        uncarried.add((Kind::Protocol(47), to));
        uncarried.add((Kind::Protocol(50), to));
        uncarried.add((Kind::Protocol(50), "192.0.2.2".parse().unwrap()));
        assert_eq!(
            uncarried.warnings(),
            [
                "IP protocol 47 (GRE): 2 packets to 192.0.2.1 not carried; lastack run carries TCP, UDP and ping",
                "IP protocol 50 (ESP): 2 packets not carried; lastack run carries TCP, UDP and ping",
            ]
        );
    }
}
