//! ICMP errors received: demultiplexing by the packet they quote.

use crate::end::FourTuple;
use crate::ip::paths::{MIN_V6, plateau_below};
use crate::{DropReason, Instant, Rule, Stack, Verdict};
use core::net::SocketAddr;
use lastack_wire::Malformed;
use lastack_wire::icmp::{IcmpError, Quoted};
use lastack_wire::ip::{self, IpHeader};

/// ICMP types that are ignored.
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;

/// Passes an error to the protocol whose packet it quotes. Its source is not checked: any router on
/// the path may send it.
pub(super) fn arrives(
    stack: &mut Stack,
    now: Instant,
    header: &IpHeader,
    error: IcmpError,
    quoted: &[u8],
) -> Verdict {
    if !error.v6 && matches!(error.kind, SOURCE_QUENCH | REDIRECT) {
        return Verdict::Dropped(Rule::IcmpIgnored.into());
    }
    if error.v6 && error.mtu().is_some_and(|mtu| (mtu as usize) < MIN_V6) {
        return Verdict::Dropped(Rule::IcmpMtuTooSmall.into());
    }
    let quoted = match Quoted::parse(quoted) {
        Ok(quoted) => quoted,
        Err(malformed) => return broken(stack, malformed),
    };
    // An error is sent to the source of the packet it quotes.
    if quoted.header.src != header.dst {
        return Verdict::Dropped(DropReason::Unwanted);
    }
    let error = with_mtu(error, &quoted);
    match quoted.header.protocol {
        ip::TCP => {
            let (Some(flow), Some(seq)) = (flow(&quoted), quoted.seq()) else {
                return broken(stack, Malformed::Truncated);
            };
            stack.tcp.icmp_error(&mut stack.shared, now, &flow, seq, error, header.src)
        }
        ip::UDP => match flow(&quoted) {
            Some(flow) => stack.udp.icmp_error(&mut stack.shared, now, &flow, error, header.src),
            None => broken(stack, Malformed::Truncated),
        },
        ip::ICMP | ip::ICMPV6 => stack.echo_error_arrives(now, header, error, &quoted),
        _ => Verdict::Dropped(DropReason::Unwanted),
    }
}

fn broken(stack: &mut Stack, malformed: Malformed) -> Verdict {
    stack.shared.counters.icmp_in_errors += 1;
    Verdict::Dropped(malformed.into())
}

fn flow(quoted: &Quoted<'_>) -> Option<FourTuple> {
    let (local, remote) = quoted.ports()?;
    Some(FourTuple {
        local: SocketAddr::new(quoted.header.src, local),
        remote: SocketAddr::new(quoted.header.dst, remote),
    })
}

/// An error of a router that predates RFC 1191 has no MTU: the next plateau below the packet size is
/// used.
fn with_mtu(error: IcmpError, quoted: &Quoted<'_>) -> IcmpError {
    match error.mtu() {
        Some(0) => IcmpError { info: plateau_below(quoted.total_len) as u32, ..error },
        _ => error,
    }
}
