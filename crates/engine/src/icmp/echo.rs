//! ICMP echo, or ping (RFC 792, RFC 4443 section 4): requests received are answered by the stack or intercepted;
//! requests can be sent.

use crate::collections::bounded_queue::{Inbox, Limits};
use crate::collections::lru::Aging;
use crate::ip::ingress::is_host;
use crate::shared::Shared;
use crate::{DropReason, Event, Instant, IpFields, Rule, Stack, Verdict};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use lastack_wire::Malformed;
use lastack_wire::icmp::{self, Icmp as Message, IcmpError, Quoted};
use lastack_wire::ip::{self, IpHeader};

/// Max queued intercepted requests, and max queued replies.
const MAX_WAITING: Limits = Limits { items: 256, bytes: 4 << 20 };
/// Max outstanding requests; the oldest is evicted first.
const MAX_ASKED: usize = 1024;
/// Max bytes of an IP packet.
const MAX_LEN: usize = 65_535;
/// DSCP, without ECN.
const DSCP: u8 = 0xfc;

/// An intercepted echo request. The embedder answers it with [`Stack::echo_reply`] or
/// [`Stack::echo_unreachable`], or ignores it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EchoRequest {
    /// Its destination.
    pub local: IpAddr,
    /// Its source.
    pub remote: IpAddr,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// The data that the reply returns.
    pub data: Vec<u8>,
    /// Hop limit of the received packet.
    pub hop_limit: u8,
    /// Traffic class of the received packet.
    pub traffic_class: u8,
    /// Whether it arrived with the DF bit; for IPv6, unfragmented.
    pub dont_fragment: bool,
}

/// The result of an echo request sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EchoReply {
    /// The source of the request.
    pub local: IpAddr,
    /// The destination of the request.
    pub remote: IpAddr,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// The data of the reply; empty for an error.
    pub data: Vec<u8>,
    /// Hop limit of the reply or error received.
    pub hop_limit: u8,
    /// A reply, or an error about the request.
    pub result: Result<(), EchoError>,
}

/// Why an echo request could not be sent or delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EchoError {
    /// An ICMP error reported that the request was not delivered.
    Unreachable {
        /// The error.
        error: IcmpError,
        /// The sender of the error.
        from: IpAddr,
    },
    /// This host has no address of the remote's family.
    NoAddress,
    /// The local address is not an address of this host.
    NotOurs,
    /// The remote address is not a unicast address.
    NotUnicast,
    /// The remote address is this host's own, and there is no loopback.
    OwnAddress,
    /// The data does not fit into a packet.
    TooLong,
    /// The outbox is full: poll for transmission first.
    NoSpace,
}

impl fmt::Display for EchoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { error, from } => write!(f, "{error}, reported by {from}"),
            Self::NoAddress => f.write_str("this host has no address of that family"),
            Self::NotOurs => f.write_str("the local address is not one of this host's"),
            Self::NotUnicast => f.write_str("the remote address is not a unicast address"),
            Self::OwnAddress => {
                f.write_str("the remote address is this host's own, and a host has no loopback")
            }
            Self::TooLong => f.write_str("the data does not fit into a packet"),
            Self::NoSpace => f.write_str("the send queue is full"),
        }
    }
}

impl core::error::Error for EchoError {}

/// The state of echo.
#[derive(Debug, Default)]
pub(super) struct Echo {
    requests: Inbox<EchoRequest>,
    replies: Inbox<EchoReply>,
    asked: Aging<Asked, ()>,
    /// The number of names assigned.
    named: u32,
}

/// The fields of a reply that match it to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    local: IpAddr,
    remote: IpAddr,
    ident: u16,
    seq: u16,
}

impl Stack {
    /// The oldest intercepted echo request (`Intercept::echo`).
    pub fn poll_echo_request(&mut self) -> Option<EchoRequest> {
        self.icmp.echo.requests.pop()
    }

    /// Answers an intercepted echo request with a reply.
    ///
    /// # Errors
    /// If the outbox is full, in which case no reply is sent, or if the request could no longer arrive
    /// with the current settings.
    pub fn echo_reply(&mut self, request: &EchoRequest) -> Result<(), EchoError> {
        let header = reply_header(&self.shared, request.local, request.remote, request.traffic_class);
        push_echo(&mut self.shared, header, true, request.ident, request.seq, &request.data)
    }

    /// Answers an intercepted echo request with a reply that has these fields in its IP header. A reply too large for
    /// the link is fragmented even with `dont_fragment`.
    ///
    /// # Errors
    /// As [`echo_reply`](Self::echo_reply).
    pub fn echo_forward(&mut self, request: &EchoRequest, ip: IpFields) -> Result<(), EchoError> {
        let header = ip.apply(echo_header(&self.shared, request.local, request.remote));
        let whole = header.len() + icmp::HEADER + request.data.len() <= self.shared.config.mtu;
        let header = IpHeader { dont_fragment: header.dont_fragment && whole, ..header };
        push_echo(&mut self.shared, header, true, request.ident, request.seq, &request.data)
    }

    /// Answers an intercepted echo request with an ICMP error from `from`, or from its destination.
    ///
    /// # Errors
    /// If no error can be sent: it or `from` is of the other IP version, `from` is not a unicast address
    /// (`Rule::IcmpNotAllowed`), or the outbox is full.
    pub fn echo_unreachable(
        &mut self,
        request: &EchoRequest,
        error: IcmpError,
        from: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        let header = IpHeader {
            hop_limit: request.hop_limit,
            traffic_class: request.traffic_class,
            dont_fragment: request.dont_fragment,
            ..echo_header(&self.shared, request.remote, request.local)
        };
        let (ident, seq, data) = (request.ident, request.seq, &request.data[..]);
        fits(&header, data).map_err(|_| Malformed::Length)?;
        let mut packet = Vec::new();
        header.emit(icmp::HEADER + data.len(), &mut packet);
        Message::Echo { reply: false, ident, seq, data }.emit(&header, &mut packet);
        crate::icmp::order_error(&mut self.shared, &packet, error, from, Rule::IcmpIntercepted)
    }

    /// Sends an echo request, from `local` or from an address of this host. A reply or error is returned
    /// by [`poll_echo_reply`](Self::poll_echo_reply).
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn echo_send(
        &mut self,
        local: Option<IpAddr>,
        remote: IpAddr,
        ident: u16,
        seq: u16,
        data: &[u8],
    ) -> Result<(), EchoError> {
        if !is_host(remote) {
            return Err(EchoError::NotUnicast);
        }
        let local = local.or_else(|| self.shared.source_for(remote)).ok_or(EchoError::NoAddress)?;
        if !self.shared.is_local(local) || !is_host(local) {
            return Err(EchoError::NotOurs);
        }
        if self.shared.is_own(local, remote) {
            return Err(EchoError::OwnAddress);
        }
        if !Shared::may_leave(local, remote) {
            return Err(EchoError::NotOurs);
        }
        let header = echo_header(&self.shared, local, remote);
        push_echo(&mut self.shared, header, false, ident, seq, data)?;
        let asked = &mut self.icmp.echo.asked;
        if asked.len() >= MAX_ASKED {
            asked.pop_oldest();
        }
        asked.insert(Asked { local, remote, ident, seq }, ());
        Ok(())
    }

    /// An identifier and a sequence number for an echo request: unpredictable, and not reused soon.
    pub fn echo_name(&mut self) -> (u16, u16) {
        let echo = &mut self.icmp.echo;
        echo.named = echo.named.wrapping_add(1);
        let name = self.shared.secret.echo_name(echo.named);
        ((name >> 16) as u16, name as u16)
    }

    /// The oldest reply, or error, to an echo request sent.
    pub fn poll_echo_reply(&mut self) -> Option<EchoReply> {
        self.icmp.echo.replies.pop()
    }

    pub(super) fn echo_request_arrives(
        &mut self,
        header: &IpHeader,
        ident: u16,
        seq: u16,
        data: &[u8],
    ) -> Verdict {
        let (local, remote, traffic_class) = (header.dst, header.src, header.traffic_class);
        let config = &self.shared.config;
        if !config.intercept.echo || config.addresses.contains(&local) {
            let reply = reply_header(&self.shared, local, remote, traffic_class);
            return match push_echo(&mut self.shared, reply, true, ident, seq, data) {
                Ok(()) => Verdict::Accepted,
                Err(_) => Verdict::Dropped(DropReason::NoSpace),
            };
        }
        let (copy, hop_limit) = (data.to_vec(), header.hop_limit);
        let dont_fragment = header.dont_fragment;
        let request =
            EchoRequest { local, remote, ident, seq, data: copy, hop_limit, traffic_class, dont_fragment };
        let requests = &mut self.icmp.echo.requests;
        if requests.push(request, data.len(), MAX_WAITING).is_err() {
            return Verdict::Dropped(DropReason::NoSpace);
        }
        if requests.tell() {
            self.shared.events.push(Event::EchoRequest);
        }
        Verdict::Accepted
    }

    pub(super) fn echo_reply_arrives(
        &mut self,
        header: &IpHeader,
        ident: u16,
        seq: u16,
        data: &[u8],
    ) -> Verdict {
        let asked = Asked { local: header.dst, remote: header.src, ident, seq };
        self.answered(asked, header.hop_limit, data, Ok(()))
    }

    pub(super) fn echo_error_arrives(
        &mut self,
        now: Instant,
        header: &IpHeader,
        error: IcmpError,
        quoted: &Quoted<'_>,
    ) -> Verdict {
        let (local, remote) = (quoted.header.src, quoted.header.dst);
        let request_kind = if error.v6 { 128 } else { 8 };
        let Some(&[kind, _, _, _, a, b, c, d]) = quoted.payload.first_chunk() else {
            return Verdict::Dropped(DropReason::Unwanted);
        };
        if kind != request_kind {
            return Verdict::Dropped(DropReason::Unwanted);
        }
        let (ident, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let asked = Asked { local, remote, ident, seq };
        if self.icmp.echo.asked.get(&asked).is_some()
            && let Some(mtu) = error.mtu()
        {
            self.shared.paths.lower(remote, mtu as usize, now);
        }
        let result = Err(EchoError::Unreachable { error, from: header.src });
        self.answered(asked, header.hop_limit, &[], result)
    }

    /// Queues the reply or error if it matches an outstanding request. Duplicates do not match.
    fn answered(
        &mut self,
        asked: Asked,
        hop_limit: u8,
        data: &[u8],
        result: Result<(), EchoError>,
    ) -> Verdict {
        let echo = &mut self.icmp.echo;
        if echo.asked.remove(&asked).is_none() {
            return Verdict::Dropped(DropReason::Unwanted);
        }
        let Asked { local, remote, ident, seq } = asked;
        let reply = EchoReply { local, remote, ident, seq, data: data.to_vec(), hop_limit, result };
        if echo.replies.push(reply, data.len(), MAX_WAITING).is_err() {
            return Verdict::Dropped(DropReason::NoSpace);
        }
        if echo.replies.tell() {
            self.shared.events.push(Event::EchoReply);
        }
        Verdict::Accepted
    }
}

fn echo_header(shared: &Shared, from: IpAddr, to: IpAddr) -> IpHeader {
    let protocol = if from.is_ipv6() { ip::ICMPV6 } else { ip::ICMP };
    IpHeader { hop_limit: shared.config.hop_limit, dont_fragment: false, ..IpHeader::new(from, to, protocol) }
}

fn reply_header(shared: &Shared, from: IpAddr, to: IpAddr, traffic_class: u8) -> IpHeader {
    IpHeader { traffic_class: traffic_class & DSCP, ..echo_header(shared, from, to) }
}

/// Whether an echo with this header and `data` fits in an IP packet.
fn fits(header: &IpHeader, data: &[u8]) -> Result<(), EchoError> {
    if header.src.is_ipv4() != header.dst.is_ipv4() {
        return Err(EchoError::NoAddress);
    }
    let headers = icmp::HEADER + if header.is_v6() { 0 } else { header.len() };
    if headers + data.len() > MAX_LEN { Err(EchoError::TooLong) } else { Ok(()) }
}

fn push_echo(
    shared: &mut Shared,
    header: IpHeader,
    reply: bool,
    ident: u16,
    seq: u16,
    data: &[u8],
) -> Result<(), EchoError> {
    fits(&header, data)?;
    let mut payload = Vec::with_capacity(icmp::HEADER + data.len());
    Message::Echo { reply, ident, seq, data }.emit(&header, &mut payload);
    shared.outbox.push_packet(header, payload, None).map_err(|_| {
        shared.counters.outbox_overflows += 1;
        EchoError::NoSpace
    })
}
