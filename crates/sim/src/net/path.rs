//! The path from one host to another, and the routers on it.

use crate::trace::Loss;
use lastack_engine::{Instant, Transmit};
use lastack_link::{Course, Passage};
use lastack_wire::icmp::{Icmp, IcmpError};
use lastack_wire::ip::{self, IpHeader, IpPacket};
use std::net::IpAddr;

/// A path from one host to another.
#[derive(Debug)]
pub(super) struct Path {
    pub course: Course,
    /// Nothing arrives, and whether a router reports it.
    pub cut: Option<RouterReply>,
    /// The largest packet that passes, and whether a router reports larger ones to their senders.
    pub mtu: Option<(usize, RouterReply)>,
}

/// Whether a router reports dropped packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterReply {
    /// With an ICMP error.
    Reports,
    /// Not at all: packets vanish.
    Silence,
}

/// The outcome for a packet on a path, and the error about it.
pub(super) struct Outcome {
    pub passage: Result<Passage, Loss>,
    pub error: Option<IcmpError>,
}

impl Path {
    /// A super-segment passes if its segments would.
    pub fn pass(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) -> Outcome {
        let passage = self.course.pass(now, packet.len());
        let whole = |segment| usize::from(transmit.header_len) + usize::from(segment);
        let size = transmit.segment_size.map_or(packet.len(), whole);
        let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let lost = |loss, word, error| Outcome {
            passage: Err(loss),
            error: Some(error).filter(|_| word == RouterReply::Reports),
        };
        if let Some(word) = self.cut {
            return lost(Loss::Cut, word, IcmpError::host_unreachable(v6));
        }
        match self.mtu {
            Some((mtu, word)) if size > mtu => {
                lost(Loss::TooBig, word, IcmpError::packet_too_big(v6, mtu as u32))
            }
            _ => Outcome { passage: Ok(passage), error: None },
        }
    }
}

/// The address of the router between all hosts (from the documentation ranges).
fn router(v6: bool) -> IpAddr {
    if v6 { IpAddr::from([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1]) } else { IpAddr::from([198, 51, 100, 1]) }
}

/// The packet with which a router reports `error` about `packet`; `None` if it must not be sent
/// (RFC 1122 section 3.2.2): about an error, about a fragment other than the first, and to IPv4 senders that
/// allow fragmentation.
pub(super) fn report(packet: &[u8], error: IcmpError) -> Option<Vec<u8>> {
    let about = IpPacket::parse(packet).ok()?;
    let header = about.header;
    let is_error = matches!(header.protocol, ip::ICMP | ip::ICMPV6)
        && !matches!(Icmp::parse(&header, about.payload), Ok(Icmp::Echo { .. }));
    if is_error || about.fragment.is_some() || error.mtu().is_some() && !header.dont_fragment {
        return None;
    }
    let protocol = if header.is_v6() { ip::ICMPV6 } else { ip::ICMP };
    let back = IpHeader::new(router(header.is_v6()), header.src, protocol);
    let mut message = Vec::new();
    Icmp::Error { error, quoted: error.quote(packet) }.emit(&back, &mut message);
    let mut bytes = Vec::new();
    back.emit(message.len(), &mut bytes);
    bytes.extend(message);
    Some(bytes)
}
