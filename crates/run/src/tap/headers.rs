//! The hop limit and the traffic class that the program sets for its connections (IP_TTL, IP_TOS, IPV6_UNICAST_HOPS,
//! IPV6_TCLASS), before it connects and later.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use lastack::IpFields;
use lastack_wire::ip::IpPacket;
use lastack_wire::tcp::TcpHeader;

use super::Seen;

/// Max SYNs whose fields are kept until the host connects for them; the oldest is dropped first.
const MAX_SYNS: usize = 4096;
/// Max queued changes.
const MAX_CHANGES: usize = 1024;
/// Size of the hash table of flows, by which unchanged fields are recognized quickly.
const PLACES: usize = 4096;
/// DSCP, without ECN, which is negotiated on each hop of a connection separately.
const DSCP: u8 = 0xfc;
/// Default hop limit and DSCP.
const DEFAULTS: (u8, u8) = (64, 0);
/// TCP flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// A connection: the program's end and the other.
pub type Flow = (SocketAddr, SocketAddr);

/// The last fields seen, by a hash of the ports.
#[derive(Debug)]
pub struct TcpHeaders {
    last: Box<[(u8, u8)]>,
}

/// Changes to be applied.
#[derive(Debug, Default)]
pub struct Changes {
    syns: HashMap<Flow, IpFields>,
    order: VecDeque<Flow>,
    changes: Vec<(Flow, IpFields)>,
}

impl Default for TcpHeaders {
    fn default() -> Self {
        Self { last: vec![(0, 0); PLACES].into() }
    }
}

impl TcpHeaders {
    /// Inspects a segment of the program. Returns whether it has urgent data.
    pub fn look(&mut self, packet: &[u8], seen: &Seen) -> bool {
        let Some(quick) = Quick::of(packet) else { return false };
        self.note(packet, &quick, seen);
        quick.urgent
    }

    fn note(&mut self, packet: &[u8], quick: &Quick, seen: &Seen) {
        let last = &mut self.last[quick.place];
        // Hash collisions make two flows appear changed, which costs time but does no harm.
        if *last == quick.fields && !quick.syn {
            return;
        }
        *last = quick.fields;
        // Fields that the program has not set are left to the host.
        if quick.syn && quick.fields == DEFAULTS {
            return;
        }
        let Ok(parsed) = IpPacket::parse(packet) else { return };
        let Ok((tcp, _)) = TcpHeader::parse(parsed.payload) else { return };
        let flow = (
            SocketAddr::new(parsed.header.src, tcp.src_port),
            SocketAddr::new(parsed.header.dst, tcp.dst_port),
        );
        let ip = IpFields {
            hop_limit: parsed.header.hop_limit,
            traffic_class: parsed.header.traffic_class & DSCP,
            dont_fragment: true,
        };
        seen.lock().headers.add(flow, ip, quick.syn);
        if !quick.syn {
            seen.changed.notify_one();
        }
    }
}

/// The fields of a segment that are read without parsing it.
struct Quick {
    place: usize,
    /// Hop limit and DSCP.
    fields: (u8, u8),
    /// The segment is a SYN.
    syn: bool,
    /// It has the URG flag.
    urgent: bool,
}

impl Quick {
    fn of(packet: &[u8]) -> Option<Self> {
        let (tcp_at, hops, class) = if packet[0] >> 4 == 4 {
            (usize::from(packet[0] & 0x0f) * 4, *packet.get(8)?, *packet.get(1)?)
        } else {
            (40, *packet.get(7)?, packet[0] << 4 | *packet.get(1)? >> 4)
        };
        let tcp = packet.get(tcp_at..tcp_at + 14)?;
        let port = |at: usize| usize::from(u16::from_be_bytes([tcp[at], tcp[at + 1]]));
        let hash = (port(0) * 31) ^ port(2);
        let (syn, urgent) = (tcp[13] & (SYN | ACK) == SYN, tcp[13] & URG != 0);
        Some(Self { place: hash % PLACES, fields: (hops, class & DSCP), syn, urgent })
    }
}

impl Changes {
    fn add(&mut self, flow: Flow, ip: IpFields, syn: bool) {
        if !syn {
            if self.changes.len() < MAX_CHANGES {
                self.changes.push((flow, ip));
            }
            return;
        }
        if self.syns.insert(flow, ip).is_none() {
            self.order.push_back(flow);
        }
        while self.order.len() > MAX_SYNS {
            if let Some(oldest) = self.order.pop_front() {
                self.syns.remove(&oldest);
            }
        }
    }

    /// The fields of the SYN of this connection.
    pub fn of_syn(&mut self, flow: Flow) -> Option<IpFields> {
        // Few programs set any: the hash of a flow costs more than all else here.
        if self.syns.is_empty() { None } else { self.syns.remove(&flow) }
    }

    /// The connections whose fields have changed since the last call.
    pub fn take(&mut self) -> Vec<(Flow, IpFields)> {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use lastack_wire::ip::{self, IpHeader};
    use lastack_wire::tcp::TcpFlags;

    use super::*;

    fn segment(from: &str, to: &str, flags: TcpFlags, hop_limit: u8, traffic_class: u8) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let tcp = TcpHeader { src_port: from.port(), dst_port: to.port(), flags, ..TcpHeader::default() };
        let header = IpHeader { hop_limit, traffic_class, ..IpHeader::new(from.ip(), to.ip(), ip::TCP) };
        let mut packet = Vec::new();
        header.emit(tcp.len(), &mut packet);
        tcp.emit(&mut packet);
        packet
    }

    #[test]
    fn fields_are_known_from_the_syn_and_when_they_change() {
        for (from, to) in [("10.0.2.100:5000", "192.0.2.1:80"), ("[fd00::100]:5000", "[2001:db8::1]:80")] {
            let flow: Flow = (from.parse().unwrap(), to.parse().unwrap());
            let (seen, mut headers) = (Seen::default(), TcpHeaders::default());
            headers.look(&segment(from, to, TcpFlags::SYN, 3, 0x48), &seen);
            let syn = seen.lock().headers.of_syn(flow).unwrap();
            assert_eq!((syn.hop_limit, syn.traffic_class), (3, 0x48));
            assert_eq!(seen.lock().headers.of_syn(flow), None);
            // ECN is no change.
            headers.look(&segment(from, to, TcpFlags::ACK, 3, 0x4a), &seen);
            assert_eq!(seen.lock().headers.take(), []);
            headers.look(&segment(from, to, TcpFlags::ACK, 64, 0x08), &seen);
            let [(changed, ip)] = seen.lock().headers.take()[..] else { panic!("one change") };
            assert_eq!((changed, ip.hop_limit, ip.traffic_class), (flow, 64, 0x08));
        }
    }

    #[test]
    fn unset_fields_are_left_to_the_host() {
        let (seen, mut headers) = (Seen::default(), TcpHeaders::default());
        let (from, to) = ("10.0.2.100:5000", "192.0.2.1:80");
        headers.look(&segment(from, to, TcpFlags::SYN, 64, 2), &seen);
        headers.look(&segment(from, to, TcpFlags::ACK, 64, 0), &seen);
        let mut seen = seen.lock();
        assert_eq!(seen.headers.of_syn((from.parse().unwrap(), to.parse().unwrap())), None);
        assert_eq!(seen.headers.take(), []);
    }

    #[test]
    fn syns_without_a_request_expire() {
        let (seen, mut headers) = (Seen::default(), TcpHeaders::default());
        for port in 1..=u16::MAX {
            let from = format!("10.0.2.100:{port}");
            headers.look(&segment(&from, "192.0.2.1:80", TcpFlags::SYN, 63, 0), &seen);
        }
        let seen = seen.lock();
        assert!(seen.headers.syns.len() <= MAX_SYNS && seen.headers.order.len() <= MAX_SYNS);
    }
}
