//! Datagrams received, and ICMP errors about datagrams sent.

use crate::collections::bounded_queue::Limits;
use crate::end::FourTuple;
use crate::icmp;
use crate::shared::Shared;
use crate::udp::{Datagram, UdpError, UdpTable};
use crate::{DropReason, Instant, IpFields, Received, Rule, Stack, Verdict};
use core::net::{IpAddr, SocketAddr};
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::IpPacket;
use lastack_wire::udp::UdpHeader;

/// Processes a datagram received.
pub(crate) fn arrives(
    stack: &mut Stack,
    now: Instant,
    packet: &[u8],
    parsed: &IpPacket<'_>,
    received: Received,
) -> Verdict {
    let Stack { shared, udp, icmp, .. } = stack;
    let header = &parsed.header;
    let datagram = if received.checksum_good || !shared.config.checksums.verify {
        UdpHeader::parse_unchecked(parsed.payload)
    } else {
        UdpHeader::parse(header, parsed.payload)
    };
    let Ok((ports, payload)) = datagram else {
        shared.counters.udp_in_errors += 1;
        return Verdict::Dropped(Rule::DropBadDatagram.into());
    };
    let flow = FourTuple {
        local: SocketAddr::new(header.dst, ports.dst_port),
        remote: SocketAddr::new(header.src, ports.src_port),
    };
    icmp.arrived(shared, now, header.src);
    let fields = IpFields::of(header);
    if let Some(verdict) = udp.deliver(shared, &flow, payload, fields) {
        return verdict;
    }
    shared.counters.udp_no_ports += 1;
    let error = IcmpError::port_unreachable(header.is_v6());
    icmp::send_error(shared, icmp, now, packet, parsed, error, Rule::IcmpPortUnreachable)
}

impl UdpTable {
    /// Delivers a datagram to its socket; `None`: no socket matches.
    fn deliver(
        &mut self,
        shared: &mut Shared,
        flow: &FourTuple,
        payload: &[u8],
        ip: IpFields,
    ) -> Option<Verdict> {
        let id = self.bindings.lookup(flow).or(self.intercept)?;
        let socket = self.sockets.get_mut(id)?;
        let config = &shared.config.datagrams;
        let max = Limits {
            items: socket.receive_queue.unwrap_or(config.receive_queue),
            bytes: config.receive_bytes,
        };
        let datagram = Datagram { local: flow.local, remote: flow.remote, payload: payload.to_vec(), ip };
        Some(if socket.deliver(id, datagram, max, &mut shared.events) {
            shared.counters.udp_in_datagrams += 1;
            Verdict::Accepted
        } else {
            shared.counters.udp_receive_overflows += 1;
            Verdict::Dropped(DropReason::NoSpace)
        })
    }

    /// Processes an ICMP error about a datagram sent. It is reported only to a socket connected to that
    /// peer: the ports are the only evidence that the datagram was sent by this host.
    pub fn icmp_error(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        flow: &FourTuple,
        error: IcmpError,
        from: IpAddr,
    ) -> Verdict {
        let ignored = Verdict::Dropped(Rule::IcmpNotReported.into());
        let Some(id) = self.bindings.connected(flow) else {
            return if self.path_shrinks(shared, now, flow, error) { Verdict::Accepted } else { ignored };
        };
        let (Some(socket), Some(reported)) = (self.sockets.get_mut(id), UdpError::from_icmp(error)) else {
            return ignored;
        };
        if let Some(mtu) = error.mtu() {
            // Without DF an IPv4 router fragments instead of sending this error.
            if !error.v6 && !socket.dont_fragment {
                return ignored;
            }
            shared.paths.lower(flow.remote.ip(), mtu as usize, now);
        }
        socket.icmp = Some((error, from));
        socket.fail(id, reported, &mut shared.events);
        Verdict::Accepted
    }

    /// Nothing is reported to an unconnected socket, but without fragmentation by routers it needs the
    /// path MTU. An attacker can forge such an error, so a packet of that size must have been sent.
    fn path_shrinks(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        flow: &FourTuple,
        error: IcmpError,
    ) -> bool {
        let Some(mtu) = error.mtu() else { return false };
        let sender = self.bindings.unconnected(flow.local).or(self.intercept);
        let remote = flow.remote.ip();
        let relies = sender.and_then(|id| self.sockets.get(id)).is_some_and(|socket| {
            (error.v6 || socket.dont_fragment) && socket.has_sent_more(remote, mtu as usize)
        });
        relies && shared.paths.lower(flow.remote.ip(), mtu as usize, now)
    }
}
