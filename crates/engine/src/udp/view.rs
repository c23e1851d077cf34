//! The socket calls of UDP.

use crate::end::FourTuple;
use crate::icmp;
use crate::ip::ingress::{is_group, is_host};
use crate::shared::Shared;
use crate::udp::socket::{Outgoing, Socket};
use crate::udp::{Datagram, UdpError, UdpId, UdpTable};
use crate::{DropReason, IpFields, Rule, TransmitChecksum};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use lastack_wire::Malformed;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::udp::UdpHeader;

/// Max bytes of data in a datagram over IPv4 and over IPv6.
const MOST_V4: usize = 65_535 - 20 - UdpHeader::LEN;
const MOST_V6: usize = 65_535 - UdpHeader::LEN;

/// A borrowed view of a UDP socket.
///
/// An ICMP error about a datagram of a *connected* socket is returned once, by the next call of
/// [`send`](Self::send), [`receive`](Self::receive) or [`take_error`](Self::take_error). If it is a
/// send, nothing is sent.
#[derive(Debug)]
pub struct Udp<'a> {
    table: &'a mut UdpTable,
    shared: &'a mut Shared,
    id: UdpId,
}

impl<'a> Udp<'a> {
    /// The socket must exist.
    pub(super) fn new(table: &'a mut UdpTable, shared: &'a mut Shared, id: UdpId) -> Self {
        Self { table, shared, id }
    }

    /// The local address: the one it is bound to, or connected from.
    pub fn local(&self) -> SocketAddr {
        self.socket().local()
    }

    /// The peer, if it is connected.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.socket().flow.map(|flow| flow.remote)
    }

    /// Connects it: it then receives only from `remote`, which is the default destination of sends.
    /// Datagrams already received from others stay readable.
    ///
    /// # Errors
    /// If `remote` is not a unicast address or its port is 0, there is no source address for it, or
    /// another socket is connected with the same four-tuple.
    pub fn connect(&mut self, remote: SocketAddr) -> Result<(), UdpError> {
        let remote = canonical(remote);
        let bound = self.socket().bound;
        if self.table.intercept == Some(self.id) {
            return Err(UdpError::NoAddress);
        }
        let flow = FourTuple { local: self.source(bound, remote)?, remote };
        let before = self.socket().flow;
        if before != Some(flow) && self.table.bindings.connected(&flow).is_some() {
            return Err(UdpError::InUse);
        }
        if let Some(before) = before {
            self.table.bindings.disconnect(&before);
        }
        self.table.bindings.connect(bound, flow, self.id);
        let socket = self.socket_mut();
        socket.flow = Some(flow);
        socket.error = None;
        Ok(())
    }

    /// Queues a datagram to `to`, or to the connected peer.
    ///
    /// # Errors
    /// If the datagram is invalid, the queue is full ([`UdpError::Full`]), or an earlier error is
    /// pending.
    pub fn send(&mut self, payload: &[u8], to: Option<SocketAddr>) -> Result<(), UdpError> {
        let socket = self.socket_mut();
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let flow = match to.map(canonical) {
            None => socket.flow.ok_or(UdpError::NotConnected)?,
            Some(remote) => {
                let local = socket.local();
                FourTuple { local: self.source(local, remote)?, remote }
            }
        };
        self.push(Outgoing { flow, payload: payload.to_vec(), segment_size: None, ip: None })
    }

    /// Queues a datagram from `from` to `to`. The intercepting socket sends from any local address (with
    /// `Config::any_address` any unicast address), another only from its own.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_from(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<(), UdpError> {
        let (from, to) = (canonical(from), canonical(to));
        let socket = self.socket_mut();
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let bound = socket.bound;
        let hears = bound == from || bound.port() == from.port() && bound.ip().is_unspecified();
        if !hears && self.table.intercept != Some(self.id) {
            return Err(UdpError::NoAddress);
        }
        let local = self.source(from, to)?;
        let flow = FourTuple { local, remote: to };
        self.push(Outgoing { flow, payload: payload.to_vec(), segment_size: None, ip: None })
    }

    /// Queues datagrams of one flow with these fields in their IP headers. `segment_size`: the payload is split into
    /// datagrams of this many bytes (the last may be shorter). They are sent as one super-segment if the link
    /// supports it, otherwise one by one. Only for the [intercepting](crate::Stack::udp_intercept) socket; the
    /// destination may be a multicast or broadcast address.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`UdpError::NoAddress`] if it is not the intercepting socket.
    pub fn forward(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
        segment_size: Option<u16>,
        ip: IpFields,
    ) -> Result<(), UdpError> {
        let flow = FourTuple { local: canonical(from), remote: canonical(to) };
        let one_family = flow.local.is_ipv4() == flow.remote.is_ipv4();
        if self.table.intercept != Some(self.id) || !one_family || !is_host(flow.local.ip()) {
            return Err(UdpError::NoAddress);
        }
        if !is_host(flow.remote.ip()) && !is_group(flow.remote.ip()) || flow.remote.port() == 0 {
            return Err(UdpError::NotUnicast);
        }
        self.push_segments(flow, payload, segment_size, Some(ip))
    }

    /// Queues datagrams of one flow with this DSCP and ECN byte in their IP headers. `from` as in
    /// [`send_from`](Self::send_from), or `None`: the local address; `to`: `None`: the connected peer. `segment_size`:
    /// the payload is split into datagrams of this many bytes, the last may be shorter (`UDP_SEGMENT`).
    ///
    /// # Errors
    /// As [`send_from`](Self::send_from). If the queue becomes full, the first datagrams are queued.
    pub fn send_segments(
        &mut self,
        from: Option<SocketAddr>,
        to: Option<SocketAddr>,
        payload: &[u8],
        segment_size: Option<u16>,
        traffic_class: u8,
    ) -> Result<(), UdpError> {
        let socket = self.socket_mut();
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let remote = match to {
            Some(to) => canonical(to),
            None => socket.flow.ok_or(UdpError::NotConnected)?.remote,
        };
        let (bound, here, dont_fragment) = (socket.bound, socket.local(), socket.dont_fragment);
        let from = from.map_or(here, canonical);
        let hears = from == here || from.port() == bound.port() && bound.ip().is_unspecified();
        if !hears && self.table.intercept != Some(self.id) {
            return Err(UdpError::NoAddress);
        }
        let local = self.source(from, remote)?;
        let ip = IpFields { hop_limit: self.hop_limit(), traffic_class, dont_fragment };
        self.push_segments(FourTuple { local, remote }, payload, segment_size, Some(ip))
    }

    fn push_segments(
        &mut self,
        flow: FourTuple,
        payload: &[u8],
        segment_size: Option<u16>,
        ip: Option<IpFields>,
    ) -> Result<(), UdpError> {
        let config = &self.shared.config;
        let headers = headers(&flow);
        let size = segment_size.filter(|&size| size > 0 && usize::from(size) < payload.len());
        let cut_by_link = headers + payload.len() <= config.max_packet
            && config.checksums.transmit == TransmitChecksum::Partial
            && size.is_some_and(|size| headers + usize::from(size) <= config.mtu);
        let Some(size) = size.filter(|_| !cut_by_link) else {
            return self.push(Outgoing { flow, payload: payload.to_vec(), segment_size: size, ip });
        };
        for piece in payload.chunks(size.into()) {
            self.push(Outgoing { flow, payload: piece.to_vec(), segment_size: None, ip })?;
        }
        Ok(())
    }

    /// Removes the oldest received datagram. After `None`, `Event::UdpReadable` follows.
    ///
    /// # Errors
    /// A pending error. Datagrams stay readable.
    pub fn receive(&mut self) -> Result<Option<Datagram>, UdpError> {
        let socket = self.socket_mut();
        match socket.error.take() {
            Some(error) => Err(error),
            None => Ok(socket.received.pop()),
        }
    }

    /// The datagram that [`receive`](Self::receive) would return. A pending error is returned, too.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn peek(&mut self) -> Result<Option<&Datagram>, UdpError> {
        let socket = self.socket_mut();
        match socket.error.take() {
            Some(error) => Err(error),
            None => Ok(socket.received.peek()),
        }
    }

    /// Whether a receive would return a datagram or an error. If not, `Event::UdpReadable` follows.
    pub fn poll_readable(&mut self) -> Poll<()> {
        let socket = self.socket_mut();
        let ready = socket.error.is_some() || socket.received.peek().is_some();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether an error is pending.
    pub fn has_error(&self) -> bool {
        self.socket().error.is_some()
    }

    /// Whether the send queue has room or an error is pending. If not, `Event::UdpWritable` follows.
    pub fn poll_writable(&mut self) -> Poll<()> {
        let max = self.shared.config.datagrams.send_queue;
        let socket = self.socket_mut();
        if socket.error.is_some() || socket.unsent.len() < max {
            return Poll::Ready(());
        }
        socket.blocked = true;
        Poll::Pending
    }

    /// Takes the pending error (SO_ERROR).
    pub fn take_error(&mut self) -> Option<UdpError> {
        self.socket_mut().error.take()
    }

    /// Takes the ICMP error that caused the last error, and its sender.
    pub fn take_icmp(&mut self) -> Option<(IcmpError, IpAddr)> {
        self.socket_mut().icmp.take()
    }

    /// Sets the max datagrams in the receive queue; further ones are dropped. `None`: the stack's limit
    /// ([`DatagramConfig::receive_queue`](crate::DatagramConfig::receive_queue)).
    pub fn set_receive_queue(&mut self, datagrams: Option<usize>) {
        self.socket_mut().receive_queue = datagrams;
    }

    /// Whether a datagram too large for the path is an error ([`UdpError::MessageTooLong`]) instead of
    /// fragmented: the application then does path MTU discovery (RFC 8899). Default: false.
    pub fn set_dont_fragment(&mut self, dont_fragment: bool) {
        self.socket_mut().dont_fragment = dont_fragment;
    }

    /// Sets the hop limit (TTL) of datagrams sent; `None`: the stack's.
    pub fn set_hop_limit(&mut self, hop_limit: Option<u8>) {
        self.socket_mut().hop_limit = hop_limit;
    }

    /// The hop limit (TTL) of datagrams sent.
    pub fn hop_limit(&self) -> u8 {
        self.socket().hop_limit.unwrap_or(self.shared.config.hop_limit)
    }

    /// Answers a datagram received earlier with an ICMP error that quotes it, from `from`, or from the
    /// datagram's destination. The error is not rate-limited.
    ///
    /// # Errors
    /// If no error can be sent: it or `from` is of the other IP version, `from` is not a unicast address
    /// (`Rule::IcmpNotAllowed`), there is no such datagram, or the outbox is full.
    pub fn reject(
        &mut self,
        datagram: &Datagram,
        error: IcmpError,
        from: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        let Datagram { local, remote, ref payload, ip } = *datagram;
        let header = ip.apply(IpHeader::new(remote.ip(), local.ip(), ip::UDP));
        if local.is_ipv4() != remote.is_ipv4() || payload.len() > max_payload(local.ip()) {
            return Err(Malformed::Length.into());
        }
        let mut packet = Vec::new();
        header.emit(UdpHeader::LEN + payload.len(), &mut packet);
        UdpHeader { src_port: remote.port(), dst_port: local.port() }.emit(&header, payload, &mut packet);
        icmp::order_error(self.shared, &packet, error, from, Rule::IcmpIntercepted)
    }

    /// Closes the socket. Queued datagrams are still sent, unread ones are discarded.
    pub fn close(self) {
        self.table.close(self.id);
    }

    fn socket(&self) -> &Socket {
        &self.table.sockets[self.id]
    }

    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.table.sockets[self.id]
    }

    /// The source of a datagram to `remote` from a socket bound to `local`.
    fn source(&self, local: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, UdpError> {
        let local = self.address(local, remote)?;
        if self.shared.is_own(local.ip(), remote.ip()) {
            return Err(UdpError::OwnAddress);
        }
        let may_leave = Shared::may_leave(local.ip(), remote.ip());
        if may_leave { Ok(local) } else { Err(UdpError::NoAddress) }
    }

    fn address(&self, local: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, UdpError> {
        if !is_host(remote.ip()) || remote.port() == 0 {
            return Err(UdpError::NotUnicast);
        }
        let both = local.ip().is_unspecified() && local.is_ipv6();
        if local.is_ipv4() != remote.is_ipv4() && !both || local.port() == 0 {
            return Err(UdpError::NoAddress);
        }
        if local.ip().is_unspecified() {
            let ip = self.shared.source_for(remote.ip()).ok_or(UdpError::NoAddress)?;
            return Ok(SocketAddr::new(ip, local.port()));
        }
        let ours = self.shared.is_local(local.ip()) && is_host(local.ip());
        if ours { Ok(local) } else { Err(UdpError::NoAddress) }
    }

    fn push(&mut self, outgoing: Outgoing) -> Result<(), UdpError> {
        let Outgoing { flow, payload, segment_size, ip } = &outgoing;
        let (room, link_mtu) = (self.shared.config.datagrams.send_queue, self.shared.config.mtu);
        let socket = &mut self.table.sockets[self.id];
        let whole = ip.map_or(socket.dont_fragment, |ip| ip.dont_fragment && flow.remote.is_ipv4());
        let too_large_to_stay_whole =
            whole && segment_size.is_none() && headers(flow) + payload.len() > link_mtu;
        if payload.len() > max_payload(flow.remote.ip()) || too_large_to_stay_whole {
            return Err(UdpError::MessageTooLong);
        }
        if socket.unsent.len() >= room {
            socket.blocked = true;
            return Err(UdpError::Full);
        }
        if socket.unsent.is_empty() {
            self.table.ready.push_back(self.id);
        }
        socket.unsent.push_back(outgoing);
        Ok(())
    }
}

/// Max bytes of data in a datagram to this address.
fn max_payload(remote: IpAddr) -> usize {
    if remote.is_ipv4() { MOST_V4 } else { MOST_V6 }
}

/// Bytes of the headers of a datagram.
const fn headers(flow: &FourTuple) -> usize {
    UdpHeader::LEN + if flow.remote.is_ipv4() { 20 } else { 40 }
}

/// The canonical form of an address: IPv4-mapped as IPv4, no scope.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
