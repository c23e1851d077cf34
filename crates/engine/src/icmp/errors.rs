//! ICMP errors that the stack sends, such as port unreachable: when they are allowed, what they quote, and their headers.

use crate::icmp::Icmp;
use crate::ip::ingress::is_host;
use crate::shared::Shared;
use crate::{DropReason, Instant, Rule, Verdict};
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::icmp::{self, Icmp as Message, IcmpError};
use lastack_wire::ip::{self, IpHeader, IpPacket};

/// Precedence "internetwork control" of ICMP errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// The TOS bits below the precedence, without ECN.
const SERVICE: u8 = 0x1c;
/// Type of the ICMPv6 redirect: not an error by its number, but treated as one (RFC 4443 section
/// 2.4 (e.2)).
const REDIRECT_V6: u8 = 137;

/// Sends an ICMP error about a packet that [arrived](Icmp::arrived), from the packet's destination, if allowed
/// (`Rule::IcmpNotAllowed`) and within the rate limits (`Rule::LimitReplies`).
pub(crate) fn send_error(
    shared: &mut Shared,
    icmp: &mut Icmp,
    now: Instant,
    packet: &[u8],
    parsed: &IpPacket<'_>,
    error: IcmpError,
    rule: Rule,
) -> Verdict {
    if !answerable(parsed) {
        return Verdict::Dropped(Rule::IcmpNotAllowed.into());
    }
    if !icmp.limiter.admit(&shared.config.datagrams, &shared.secret, parsed.header.src, now) {
        shared.counters.icmp_suppressed_errors += 1;
        return Verdict::Dropped(Rule::LimitReplies.into());
    }
    match push_error(shared, now, packet, parsed, error, parsed.header.dst, rule) {
        Ok(()) => Verdict::Answered(rule),
        Err(reason) => Verdict::Dropped(reason),
    }
}

/// Sends an ICMP error requested by the embedder about an intercepted packet, from `from` or from
/// the packet's destination, without rate limit.
pub(crate) fn order_error(
    shared: &mut Shared,
    packet: &[u8],
    error: IcmpError,
    from: Option<IpAddr>,
    rule: Rule,
) -> Result<(), DropReason> {
    let parsed = IpPacket::parse(packet)?;
    let from = from.unwrap_or(parsed.header.dst);
    let one_family = parsed.header.is_v6() == error.v6 && parsed.header.is_v6() == from.is_ipv6();
    if !one_family || !is_host(from) || !answerable(&parsed) {
        return Err(Rule::IcmpNotAllowed.into());
    }
    // The call takes no time. At time zero no path entry has expired, so at worst the error quotes
    // less than possible.
    push_error(shared, Instant::ZERO, packet, &parsed, error, from, rule)
}

/// Whether an error about this packet is allowed (RFC 1122 section 3.2.2, RFC 4443 section
/// 2.4 (e)).
fn answerable(parsed: &IpPacket<'_>) -> bool {
    let (src, dst) = (parsed.header.src, parsed.header.dst);
    is_host(src)
        && is_host(dst)
        && (!src.is_loopback() || dst.is_loopback())
        && parsed.fragment.is_none_or(|fragment| fragment.offset == 0)
        && !is_error(parsed)
}

/// Whether a packet is an ICMP error. A truncated one is considered an error.
fn is_error(parsed: &IpPacket<'_>) -> bool {
    let v6 = match parsed.header.protocol {
        ip::ICMP => false,
        ip::ICMPV6 => true,
        _ => return false,
    };
    parsed.payload.first().is_none_or(|&kind| IcmpError::is_error_kind(v6, kind) || v6 && kind == REDIRECT_V6)
}

fn push_error(
    shared: &mut Shared,
    now: Instant,
    packet: &[u8],
    parsed: &IpPacket<'_>,
    error: IcmpError,
    from: IpAddr,
    rule: Rule,
) -> Result<(), DropReason> {
    let to = parsed.header.src;
    let (protocol, traffic_class) = if error.v6 {
        (ip::ICMPV6, 0)
    } else {
        (ip::ICMP, parsed.header.traffic_class & SERVICE | INTERNETWORK_CONTROL)
    };
    let header = IpHeader {
        hop_limit: shared.config.hop_limit,
        dont_fragment: false,
        traffic_class,
        ..IpHeader::new(from, to, protocol)
    };
    let packet = &packet[..parsed.unfragmentable + parsed.payload.len()];
    let room = shared.paths.mtu(to, shared.config.mtu, now).saturating_sub(header.len() + icmp::HEADER);
    let quoted = error.quote(packet);
    let quoted = &quoted[..quoted.len().min(room)];
    let mut payload = Vec::with_capacity(icmp::HEADER + quoted.len());
    Message::Error { error, quoted }.emit(&header, &mut payload);
    if shared.outbox.push_packet(header, payload, Some(rule)).is_err() {
        shared.counters.outbox_overflows += 1;
        return Err(DropReason::NoSpace);
    }
    shared.counters.icmp_out_errors += 1;
    Ok(())
}
