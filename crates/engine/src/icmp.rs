//! ICMP for IPv4 and IPv6 (RFC 792, RFC 4443): echo, errors received, errors sent.

mod echo;
mod errors;
mod limiter;
mod reported;
#[cfg(test)]
mod tests;

pub use echo::{EchoError, EchoReply, EchoRequest};
pub(crate) use errors::{order_error, send_error};

use crate::shared::Shared;
use crate::{DropReason, Instant, Rule, Stack, Verdict};
use core::net::IpAddr;
use echo::Echo;
use lastack_wire::icmp::{Icmp as Message, IcmpError};
use lastack_wire::ip::{self, IpPacket};
use limiter::Limiter;

/// No next header: the rest of the packet is ignored (RFC 8200 section 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// The state of ICMP.
#[derive(Debug, Default)]
pub(crate) struct Icmp {
    limiter: Limiter,
    echo: Echo,
}

impl Icmp {
    /// Accounts a packet that may have to be answered with an error in the rate limits, whether it is
    /// answered or not.
    pub(crate) fn arrived(&mut self, shared: &mut Shared, now: Instant, remote: IpAddr) {
        self.limiter.arrived(&shared.config.datagrams, &mut shared.secret, remote, now);
    }
}

/// Processes an ICMP message received.
pub(crate) fn arrives(stack: &mut Stack, now: Instant, packet: &[u8], parsed: &IpPacket<'_>) -> Verdict {
    let header = &parsed.header;
    if header.is_v6() != (header.protocol == ip::ICMPV6) {
        return unknown_protocol(stack, now, packet, parsed);
    }
    stack.shared.counters.icmp_in_messages += 1;
    match Message::parse(header, parsed.payload) {
        Ok(Message::Echo { reply: false, ident, seq, data }) => {
            stack.echo_request_arrives(header, ident, seq, data)
        }
        Ok(Message::Echo { reply: true, ident, seq, data }) => {
            stack.echo_reply_arrives(header, ident, seq, data)
        }
        Ok(Message::Error { error, quoted }) => reported::arrives(stack, now, header, error, quoted),
        Ok(Message::Other { .. }) => Verdict::Dropped(DropReason::Unwanted),
        Err(malformed) => {
            stack.shared.counters.icmp_in_errors += 1;
            Verdict::Dropped(malformed.into())
        }
    }
}

/// Answers a packet of an unsupported protocol (`Rule::IcmpProtocolUnreachable`).
pub(crate) fn unknown_protocol(
    stack: &mut Stack,
    now: Instant,
    packet: &[u8],
    parsed: &IpPacket<'_>,
) -> Verdict {
    stack.icmp.arrived(&mut stack.shared, now, parsed.header.src);
    let v6 = parsed.header.is_v6();
    if v6 && parsed.header.protocol == NO_NEXT_HEADER {
        return Verdict::Dropped(DropReason::Unwanted);
    }
    let error = IcmpError::protocol_unreachable(v6, parsed.next_header_at as u32);
    send_error(&mut stack.shared, &mut stack.icmp, now, packet, parsed, error, Rule::IcmpProtocolUnreachable)
}
