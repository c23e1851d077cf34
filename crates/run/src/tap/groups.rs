//! Groups that the program joins and leaves, as its kernel announces them: IGMP (RFC 2236, RFC 3376) and MLD (RFC 2710,
//! RFC 3810).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lastack_wire::ip::{self, IpPacket};

/// Max queued announcements.
pub const MAX_WAITING: usize = 1024;

const IGMP: u8 = 2;

/// A group was joined or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// Joined, else left.
    pub joined: bool,
}

/// The memberships that a packet announces.
pub fn read(packet: &IpPacket<'_>) -> Vec<Membership> {
    let payload = packet.payload;
    match (packet.header.protocol, packet.header.is_v6()) {
        (IGMP, false) => match payload.first() {
            Some(0x12 | 0x16) => one_v4(payload, true),
            Some(0x17) => one_v4(payload, false),
            Some(0x22) => records(payload, 4),
            _ => Vec::new(),
        },
        (ip::ICMPV6, true) => match payload.first() {
            Some(131) => one_v6(payload, true),
            Some(132) => one_v6(payload, false),
            Some(143) => records(payload, 16),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn one_v4(payload: &[u8], joined: bool) -> Vec<Membership> {
    let group = payload.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    group.map(|group| Membership { group: Ipv4Addr::from(group).into(), joined }).into_iter().collect()
}

fn one_v6(payload: &[u8], joined: bool) -> Vec<Membership> {
    let group = payload.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    group.map(|group| Membership { group: Ipv6Addr::from(group).into(), joined }).into_iter().collect()
}

/// The group records of an IGMPv3 or MLDv2 report, with addresses of `size` bytes. A source filter is treated as the
/// whole group.
fn records(payload: &[u8], size: usize) -> Vec<Membership> {
    let Some(header) = payload.first_chunk::<8>() else { return Vec::new() };
    let (count, mut at, mut memberships) = (u16::from_be_bytes([header[6], header[7]]), 8, Vec::new());
    for _ in 0..count {
        let Some(record) = payload.get(at..at + 4 + size) else { break };
        let sources = usize::from(u16::from_be_bytes([record[2], record[3]]));
        let auxiliary = usize::from(record[1]) * 4;
        let group = match <[u8; 4]>::try_from(&record[4..]) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => match <[u8; 16]>::try_from(&record[4..]) {
                Ok(v6) => IpAddr::from(v6),
                Err(_) => break,
            },
        };
        match record[0] {
            // EXCLUDE mode, or INCLUDE mode with sources.
            2 | 4 => memberships.push(Membership { group, joined: true }),
            1 | 3 | 5 if sources > 0 => memberships.push(Membership { group, joined: true }),
            // INCLUDE mode without sources: the group is left.
            1 | 3 => memberships.push(Membership { group, joined: false }),
            _ => {}
        }
        at += 4 + size * (1 + sources) + auxiliary;
    }
    memberships
}

#[cfg(test)]
mod tests {
    use lastack_wire::ip::IpHeader;

    use super::*;

    fn announced(to: &str, protocol: u8, payload: &[u8]) -> Vec<(String, bool)> {
        let to: IpAddr = to.parse().unwrap();
        let from = if to.is_ipv6() { "fd00::100" } else { "10.0.2.100" };
        let mut packet = Vec::new();
        IpHeader::new(from.parse().unwrap(), to, protocol).emit(payload.len(), &mut packet);
        packet.extend_from_slice(payload);
        let memberships = read(&IpPacket::parse(&packet).unwrap());
        memberships.into_iter().map(|one| (one.group.to_string(), one.joined)).collect()
    }

    #[test]
    fn version_2_names_one_group() {
        assert_eq!(
            announced("224.0.0.251", IGMP, &[0x16, 0, 0, 0, 224, 0, 0, 251]),
            [("224.0.0.251".to_owned(), true)]
        );
        assert_eq!(
            announced("224.0.0.2", IGMP, &[0x17, 0, 0, 0, 239, 1, 2, 3]),
            [("239.1.2.3".to_owned(), false)]
        );
    }

    #[test]
    fn version_3_lists_records() {
        let mut report = vec![0x22, 0, 0, 0, 0, 0, 0, 3];
        report.extend([4, 0, 0, 0, 224, 0, 0, 251]);
        report.extend([3, 0, 0, 0, 239, 255, 255, 250]);
        report.extend([5, 0, 0, 1, 232, 1, 1, 1, 192, 0, 2, 1]);
        assert_eq!(
            announced("224.0.0.22", IGMP, &report),
            [
                ("224.0.0.251".to_owned(), true),
                ("239.255.255.250".to_owned(), false),
                ("232.1.1.1".to_owned(), true)
            ]
        );
        for length in 0..report.len() {
            announced("224.0.0.22", IGMP, &report[..length]);
        }
    }

    #[test]
    fn version_6_lists_records_too() {
        let mut report = vec![143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
        report.extend("ff02::fb".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(announced("ff02::16", ip::ICMPV6, &report), [("ff02::fb".to_owned(), true)]);
    }
}
