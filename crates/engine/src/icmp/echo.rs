//! Echo, the ping protocol (RFC 792, RFC 4443 section 4): requests are answered by the stack or intercepted, and can be
//! sent.

use crate::collections::bounded_queue::{Inbox, Most};
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

/// Most intercepted requests, and most replies, that wait for the user.
const MAX_WAITING: Most = Most { items: 256, octets: 4 << 20 };
/// Most requests of ours whose replies are waited for; the oldest is forgotten first.
const MAX_ASKED: usize = 1024;
/// Most octets of an IP packet.
const MAX_LEN: usize = 65_535;
/// DSCP, without ECN.
const DSCP: u8 = 0xfc;

/// An echo request that the embedder is to answer, by [`Stack::echo_reply`],
/// [`Stack::echo_unreachable`], or silence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EchoRequest {
    /// Whom it asks.
    pub local: IpAddr,
    /// Who asks.
    pub remote: IpAddr,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// What the reply brings back.
    pub data: Vec<u8>,
    /// Hop limit with which it arrived.
    pub hop_limit: u8,
    /// Traffic class with which it arrived.
    pub traffic_class: u8,
    /// Whether it arrived with the DF bit; of IPv6, in one piece.
    pub dont_fragment: bool,
}

/// What came of an echo request of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EchoReply {
    /// Where we asked from.
    pub local: IpAddr,
    /// Whom we asked.
    pub remote: IpAddr,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// What the reply brought back; nothing if there was none.
    pub data: Vec<u8>,
    /// Hop limit with which the answer arrived.
    pub hop_limit: u8,
    /// Whether it was a reply, or an error about the request.
    pub result: Result<(), EchoError>,
}

/// Why there is no reply to an echo request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EchoError {
    /// The network says that the request did not arrive.
    Unreachable {
        /// What it says.
        error: IcmpError,
        /// Who says it.
        from: IpAddr,
    },
    /// This host has no address of the remote's family.
    NoAddress,
    /// The local address is not one of this host's.
    NotOurs,
    /// The remote address cannot be one host's.
    NotUnicast,
    /// The remote address is this host's own, and there is no loopback.
    OwnAddress,
    /// The data does not fit into a packet.
    TooLong,
    /// Too much waits to be sent: poll what is to be transmitted first.
    NoSpace,
}

impl fmt::Display for EchoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { error, from } => write!(f, "{error}, says {from}"),
            Self::NoAddress => f.write_str("this host has no address of that family"),
            Self::NotOurs => f.write_str("the local address is not one of this host's"),
            Self::NotUnicast => f.write_str("the remote address is not the address of one host"),
            Self::OwnAddress => {
                f.write_str("the remote address is this host's own, and a host has no loopback")
            }
            Self::TooLong => f.write_str("the data does not fit into a packet"),
            Self::NoSpace => f.write_str("too much waits to be sent"),
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
    /// How often a name was given.
    named: u32,
}

/// What a reply must name to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    local: IpAddr,
    remote: IpAddr,
    ident: u16,
    seq: u16,
}

impl Stack {
    /// The oldest echo request that waits for an answer (`Intercept::echo`).
    pub fn poll_echo_request(&mut self) -> Option<EchoRequest> {
        self.icmp.echo.requests.pop()
    }

    /// Answers an intercepted echo request with a reply.
    ///
    /// # Errors
    /// If too much waits to be sent; the requester then sees silence. Or if the request is no longer
    /// one that can have arrived.
    pub fn echo_reply(&mut self, request: &EchoRequest) -> Result<(), EchoError> {
        let header = reply_header(&self.shared, request.local, request.remote, request.traffic_class);
        push_echo(&mut self.shared, header, true, request.ident, request.seq, &request.data)
    }

    /// Answers an intercepted echo request with a reply that has these fields in its IP header. A reply too large for
    /// the link leaves in fragments whatever they say.
    ///
    /// # Errors
    /// As [`echo_reply`](Self::echo_reply).
    pub fn echo_forward(&mut self, request: &EchoRequest, ip: IpFields) -> Result<(), EchoError> {
        let header = ip.apply(echo_header(&self.shared, request.local, request.remote));
        let whole = header.len() + icmp::HEADER + request.data.len() <= self.shared.config.mtu;
        let header = IpHeader { dont_fragment: header.dont_fragment && whole, ..header };
        push_echo(&mut self.shared, header, true, request.ident, request.seq, &request.data)
    }

    /// Answers an intercepted echo request with an ICMP error, as from `from`, or from whom it asked.
    ///
    /// # Errors
    /// The reason why no error can be sent: it or `from` is of the other IP version, `from` is not the
    /// address of one host (`Rule::IcmpNotAllowed`), or too much waits to be sent.
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

    /// Sends an echo request, from `local` or from an address of ours. What comes of it follows by
    /// [`poll_echo_reply`](Self::poll_echo_reply), if anything comes.
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

    /// An identifier and a sequence number for an echo request, which nobody outside can guess and which do not come
    /// again soon.
    pub fn echo_name(&mut self) -> (u16, u16) {
        let echo = &mut self.icmp.echo;
        echo.named = echo.named.wrapping_add(1);
        let name = self.shared.secret.echo_name(echo.named);
        ((name >> 16) as u16, name as u16)
    }

    /// The oldest reply, or error, to an echo request of ours.
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

    /// Hands over the answer to a request of ours, if it is one. A second answer is not.
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

/// Whether there is a packet with this header that carries an echo of `data`.
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
