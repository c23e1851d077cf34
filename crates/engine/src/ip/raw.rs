//! Packets of other protocols than TCP, UDP and ICMP: intercepted, and sent.

use crate::collections::bounded_queue::{Inbox, Limits};
use crate::ip::ingress::{is_group, is_host};
use crate::shared::Shared;
use crate::{DropReason, Event, IpFields, Rule, Stack, Verdict, icmp};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use lastack_wire::Malformed;
use lastack_wire::ip::{self, IpHeader, IpPacket};

/// Max queued packets.
const MAX_WAITING: Limits = Limits { items: 256, bytes: 4 << 20 };
/// Max bytes of an IPv4 packet, and of an IPv6 payload.
const MAX_LEN: usize = 65_535;
/// No next header (RFC 8200 section 4.7).
const NO_NEXT_HEADER: u8 = 59;
/// The numbers of IPv6 extension headers that the stack interprets: hop-by-hop options, routing, fragment,
/// destination options.
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];

/// A packet of a protocol that the stack does not implement, intercepted with
/// [`Intercept::other`](crate::Intercept::other).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RawPacket {
    /// Its destination.
    pub local: IpAddr,
    /// Its source.
    pub remote: IpAddr,
    /// Its protocol: the number in the IPv4 header, or in the last IPv6 extension header. GRE is 47, ESP 50.
    pub protocol: u8,
    /// What follows the IP header and the extension headers, reassembled if it arrived in fragments.
    pub payload: Vec<u8>,
    /// Fields of its IP header.
    pub ip: IpFields,
}

/// Why a packet could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RawError {
    /// The protocol is TCP, UDP or ICMP, which have sockets of their own, or the number of an IPv6 extension header.
    Protocol,
    /// The source is not a unicast address of this host.
    NotOurs,
    /// The destination is not an address that packets can be sent to, or is of the other IP version.
    BadDestination,
    /// The destination is this host's own address, and there is no loopback.
    OwnAddress,
    /// The payload does not fit into a packet; or into one of the MTU of the link, with `dont_fragment`.
    TooLong,
    /// The queue is full. [`Event::RawWritable`] follows.
    NoSpace,
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => {
                "the protocol is one that this stack implements: use its sockets for TCP, UDP and ICMP"
            }
            Self::NotOurs => "the source address is not one of this host's",
            Self::BadDestination => "packets cannot be sent to this destination from this source",
            Self::OwnAddress => "the destination is this host's own, and a host has no loopback",
            Self::TooLong => "the payload does not fit into a packet",
            Self::NoSpace => "the send queue is full",
        })
    }
}

impl core::error::Error for RawError {}

/// The intercepted packets that were not yet taken.
#[derive(Debug, Default)]
pub(crate) struct RawPackets {
    waiting: Inbox<RawPacket>,
    stopped: bool,
}

impl RawPackets {
    /// Whether packets of this protocol are intercepted.
    fn takes(&self, shared: &Shared, header: &IpHeader) -> bool {
        let is_empty = header.is_v6() && header.protocol == NO_NEXT_HEADER;
        shared.config.intercept.other && !self.stopped && !is_empty
    }

    /// Queues an intercepted packet; `None`: it is not intercepted.
    pub fn arrives(&mut self, shared: &mut Shared, parsed: &IpPacket<'_>) -> Option<Verdict> {
        let header = &parsed.header;
        if !self.takes(shared, header) {
            return None;
        }
        let packet = RawPacket {
            local: header.dst,
            remote: header.src,
            protocol: header.protocol,
            payload: parsed.payload.to_vec(),
            ip: IpFields::of(header),
        };
        if self.waiting.push(packet, parsed.payload.len(), MAX_WAITING).is_err() {
            return Some(Verdict::Dropped(DropReason::NoSpace));
        }
        if self.waiting.tell() {
            shared.events.push(Event::RawPacket);
        }
        Some(Verdict::Accepted)
    }
}

/// Packets of other protocols than TCP, UDP and ICMP.
impl Stack {
    /// The oldest intercepted packet of another protocol ([`Intercept::other`](crate::Intercept::other)). After
    /// `None`, [`Event::RawPacket`] follows.
    pub fn poll_raw_packet(&mut self) -> Option<RawPacket> {
        self.raw.waiting.pop()
    }

    /// Stops or resumes the interception of [`Intercept::other`](crate::Intercept::other). While it is stopped,
    /// such packets are answered with protocol unreachable (`Rule::IcmpProtocolUnreachable`); those that wait are
    /// discarded.
    pub fn set_raw_interception(&mut self, on: bool) {
        self.raw.stopped = !on;
        if !on {
            self.raw.waiting = Inbox::default();
        }
    }

    /// Sends a packet of a protocol other than TCP, UDP and ICMP. It is fragmented if it exceeds the path MTU, unless
    /// `dont_fragment` is set and it exceeds that of the link. The checksum of the protocol is part of `payload`.
    ///
    /// # Errors
    /// If the packet cannot be sent; see [`RawError`].
    pub fn raw_send(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        payload: &[u8],
        fields: IpFields,
    ) -> Result<(), RawError> {
        let shared = &mut self.shared;
        may_send(shared, from, to, protocol)?;
        let header = fields.apply(IpHeader::new(from, to, protocol));
        let counted = if header.is_v6() { 0 } else { header.len() };
        let is_whole = header.len() + payload.len() <= shared.config.mtu;
        if counted + payload.len() > MAX_LEN || fields.dont_fragment && !is_whole {
            return Err(RawError::TooLong);
        }
        shared.outbox.push_packet(header, payload.to_vec(), None).map_err(|_| {
            shared.outbox.blocked = true;
            RawError::NoSpace
        })
    }

    /// Answers an intercepted packet with an ICMP error from `from`, or from its destination. The error is not
    /// rate-limited.
    ///
    /// # Errors
    /// If no error can be sent: it or `from` is of the other IP version, `from` is not a unicast address
    /// (`Rule::IcmpNotAllowed`), there is no such packet, or the outbox is full.
    pub fn raw_reject(
        &mut self,
        packet: &RawPacket,
        error: lastack_wire::icmp::IcmpError,
        from: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        let header = packet.ip.apply(IpHeader::new(packet.remote, packet.local, packet.protocol));
        if packet.local.is_ipv4() != packet.remote.is_ipv4() || header.len() + packet.payload.len() > MAX_LEN
        {
            return Err(Malformed::Length.into());
        }
        let mut bytes = Vec::new();
        header.emit(packet.payload.len(), &mut bytes);
        bytes.extend_from_slice(&packet.payload);
        icmp::order_error(&mut self.shared, &bytes, error, from, Rule::IcmpIntercepted)
    }
}

fn may_send(shared: &Shared, from: IpAddr, to: IpAddr, protocol: u8) -> Result<(), RawError> {
    let implemented = matches!(protocol, ip::TCP | ip::UDP | ip::ICMP | ip::ICMPV6);
    if implemented || from.is_ipv6() && EXTENSION_HEADERS.contains(&protocol) {
        return Err(RawError::Protocol);
    }
    if !shared.is_local(from) || !is_host(from) {
        return Err(RawError::NotOurs);
    }
    if from.is_ipv4() != to.is_ipv4() || !is_host(to) && !is_group(to) {
        return Err(RawError::BadDestination);
    }
    if shared.is_own(from, to) {
        return Err(RawError::OwnAddress);
    }
    if Shared::may_leave(from, to) { Ok(()) } else { Err(RawError::NotOurs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Intercept;
    use crate::testing::{Bench, addr, packet};
    use alloc::vec;
    use lastack_wire::icmp::IcmpError;

    const GRE: u8 = 47;
    const IGMP: u8 = 2;
    const PLAIN: IpFields = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };

    /// A stack that accepts packets to any address, and intercepts other protocols.
    fn proxy(v6: bool) -> Bench {
        let mut bench = Bench::with(v6, |config| {
            config.any_address = true;
            config.intercept = Intercept { other: true, ..Intercept::default() };
        });
        bench.us = addr(if v6 { "2001:db8:5::5" } else { "198.51.100.5" });
        bench
    }

    #[test]
    fn a_packet_of_another_protocol_is_reported_and_not_answered() {
        for mut bench in [false, true].map(proxy) {
            let fields = IpFields { hop_limit: 9, traffic_class: 0xb8, dont_fragment: true };
            let header = fields.apply(IpHeader::new(bench.peer, bench.us, GRE));
            let arriving = crate::testing::packet_with(header, b"tunnelled");
            assert_eq!(bench.give(&arriving), Verdict::Accepted);
            assert_eq!(bench.events(), [Event::RawPacket]);
            let (local, remote, payload) = (bench.us, bench.peer, b"tunnelled".to_vec());
            let expected = RawPacket { local, remote, protocol: GRE, payload, ip: fields };
            assert_eq!(bench.stack.poll_raw_packet(), Some(expected));
            assert_eq!(bench.stack.poll_raw_packet(), None);
            assert!(bench.take().is_empty());
        }
    }

    #[test]
    fn without_interception_the_protocol_is_unreachable() {
        for mut bench in [false, true].map(proxy) {
            bench.stack.set_raw_interception(false);
            let arriving = packet(bench.peer, bench.us, GRE, b"1");
            assert_eq!(bench.give(&arriving), Verdict::Answered(Rule::IcmpProtocolUnreachable));
            bench.stack.set_raw_interception(true);
            assert_eq!(bench.give(&arriving), Verdict::Accepted);
            bench.stack.set_raw_interception(false);
            assert_eq!(bench.stack.poll_raw_packet(), None, "a packet that waits is discarded");
        }
    }

    #[test]
    fn icmp_of_the_other_version_and_no_next_header_are_not_intercepted() {
        for mut bench in [false, true].map(proxy) {
            let other = if bench.v6 { ip::ICMP } else { ip::ICMPV6 };
            let arriving = packet(bench.peer, bench.us, other, &[128, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(bench.give(&arriving), Verdict::Answered(Rule::IcmpProtocolUnreachable));
        }
        let mut bench = proxy(true);
        let arriving = packet(bench.peer, bench.us, NO_NEXT_HEADER, b"1");
        assert_eq!(bench.give(&arriving), Verdict::Dropped(DropReason::Unwanted));
    }

    #[test]
    fn packets_to_groups_are_intercepted_if_groups_are() {
        for mut bench in [false, true].map(proxy) {
            let group = addr(if bench.v6 { "ff02::16" } else { "224.0.0.22" });
            let arriving = packet(bench.peer, group, IGMP, b"report");
            assert_eq!(bench.give(&arriving), Verdict::Dropped(Rule::DropBadDestination.into()));
            bench.stack.shared.config.intercept.groups = true;
            assert_eq!(bench.give(&arriving), Verdict::Accepted);
            assert_eq!(bench.stack.poll_raw_packet().map(|packet| packet.local), Some(group));
            // TCP and ICMP have no groups.
            let echo = packet(bench.peer, group, ip::TCP, &[0; 20]);
            assert_eq!(bench.give(&echo), Verdict::Dropped(Rule::DropBadDestination.into()));
            bench.stack.set_raw_interception(false);
            assert_eq!(bench.give(&arriving), Verdict::Dropped(Rule::IcmpNotAllowed.into()));
        }
    }

    #[test]
    fn the_packets_that_wait_are_bounded_and_there_is_one_event_for_them() {
        let mut bench = proxy(false);
        let arriving = packet(bench.peer, bench.us, GRE, &[1; 100]);
        for _ in 0..MAX_WAITING.items {
            assert_eq!(bench.give(&arriving), Verdict::Accepted);
        }
        assert_eq!(bench.give(&arriving), Verdict::Dropped(DropReason::NoSpace));
        assert_eq!(bench.events(), [Event::RawPacket]);
        assert!(core::iter::from_fn(|| bench.stack.poll_raw_packet()).count() == MAX_WAITING.items);
        assert_eq!(bench.give(&arriving), Verdict::Accepted);
        assert_eq!(bench.events(), [Event::RawPacket]);
    }

    #[test]
    fn a_packet_is_sent_with_its_fields_and_fragmented_if_it_must_be() {
        for mut bench in [false, true].map(proxy) {
            let (us, peer) = (bench.us, bench.peer);
            let fields = IpFields { hop_limit: 7, traffic_class: 0x10, dont_fragment: true };
            assert_eq!(bench.stack.raw_send(us, peer, GRE, b"answer", fields), Ok(()));
            let sent = bench.take_one();
            let header = sent.ip().header;
            assert_eq!((header.src, header.dst, header.protocol), (us, peer, GRE));
            assert_eq!(
                (header.hop_limit, header.traffic_class, sent.ip().payload),
                (7, 0x10, &b"answer"[..])
            );
            let large = vec![1; 3000];
            assert_eq!(bench.stack.raw_send(us, peer, GRE, &large, fields), Err(RawError::TooLong));
            assert_eq!(bench.stack.raw_send(us, peer, GRE, &large, PLAIN), Ok(()));
            assert_eq!(bench.take().len(), 3);
            assert_eq!(bench.stack.raw_send(us, peer, GRE, &vec![1; 65_536], PLAIN), Err(RawError::TooLong));
        }
    }

    #[test]
    fn an_event_reports_that_the_full_queue_is_empty_again() {
        let mut bench = proxy(false);
        let (us, peer) = (bench.us, bench.peer);
        let send = |bench: &mut Bench| bench.stack.raw_send(us, peer, GRE, &[1; 10_000], PLAIN);
        let sent = core::iter::from_fn(|| send(&mut bench).ok()).count();
        assert_eq!(sent, (4 << 20) / 10_000);
        assert_eq!((send(&mut bench), bench.events()), (Err(RawError::NoSpace), vec![]));
        bench.take();
        assert_eq!((bench.events(), send(&mut bench)), (vec![Event::RawWritable], Ok(())));
        bench.take();
        assert_eq!(bench.events(), []);
    }

    #[test]
    fn a_packet_that_cannot_be_sent_is_refused_with_the_reason() {
        let mut bench = Bench::with(false, |config| config.intercept.other = true);
        let (us, peer) = (bench.us, bench.peer);
        let mut send = |from, to, protocol| bench.stack.raw_send(from, to, protocol, b"1", PLAIN);
        for protocol in [ip::TCP, ip::UDP, ip::ICMP, ip::ICMPV6] {
            assert_eq!(send(us, peer, protocol), Err(RawError::Protocol));
        }
        assert_eq!(send(addr("192.0.2.99"), peer, GRE), Err(RawError::NotOurs));
        assert_eq!(send(us, us, GRE), Err(RawError::OwnAddress));
        assert_eq!(send(us, addr("127.0.0.1"), GRE), Err(RawError::OwnAddress));
        assert_eq!(send(us, addr("0.0.0.0"), GRE), Err(RawError::BadDestination));
        assert_eq!(send(us, addr("2001:db8::1"), GRE), Err(RawError::BadDestination));
        assert_eq!(send(us, addr("224.0.0.22"), IGMP), Ok(()));
        let mut six = proxy(true);
        let (us, peer) = (six.us, six.peer);
        for protocol in EXTENSION_HEADERS {
            assert_eq!(six.stack.raw_send(us, peer, protocol, b"1", PLAIN), Err(RawError::Protocol));
        }
    }

    #[test]
    fn an_intercepted_packet_can_be_answered_with_an_icmp_error() {
        for mut bench in [false, true].map(proxy) {
            let arriving = packet(bench.peer, bench.us, GRE, b"12345678");
            assert_eq!(bench.give(&arriving), Verdict::Accepted);
            let raw = bench.stack.poll_raw_packet().unwrap();
            let error = IcmpError::protocol_unreachable(bench.v6, 6);
            assert_eq!(bench.stack.raw_reject(&raw, error, None), Ok(()));
            let sent = bench.take_one();
            assert_eq!((sent.error().0.kind, sent.error().1), (error.kind, &arriving[..]));
            assert_eq!(sent.transmit.rule, Some(Rule::IcmpIntercepted));
        }
    }
}
