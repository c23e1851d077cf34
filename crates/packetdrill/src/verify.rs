//! Static checks of a script: whether it makes sense, and whether the features that it uses are supported.

use super::arguments::{self, Arguments};
use super::error::Problem;
use super::icmp_names;
use super::setup::Setup;
use super::syntax::{Action, Body, Call, Event, Expr, IcmpMessage, Packet, Script, Segment, Span, TcpOption};
use lastack_wire::tcp::TcpFlags;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Checks all events.
pub fn verify(script: &Script, setup: &Setup) -> Result<(), Problem> {
    script.events.iter().try_for_each(|event| match &event.action {
        Action::Inbound(packet) | Action::Outbound(packet) => verify_packet(event, packet, setup),
        Action::Call(call) => verify_call(call, setup),
        Action::Command(_) | Action::Code(_) => Ok(()),
    })
}

fn verify_packet(event: &Event, packet: &Packet, setup: &Setup) -> Result<(), Problem> {
    match &packet.body {
        Body::Tcp(segment) => refuse_foreign(&event.span, segment),
        Body::Icmp(message) => verify_icmp(&event.span, message, setup.v6()),
        Body::Udp(_) => Ok(()),
    }
}

/// Rejects packets of extensions that the stack does not support: its reaction would prove nothing about them.
fn refuse_foreign(span: &Span, segment: &Segment) -> Result<(), Problem> {
    let foreign = segment.options.iter().flatten().find_map(|option| match option {
        TcpOption::FastOpen(_) | TcpOption::ExperimentalFastOpen(_) => Some("TCP Fast Open (RFC 7413)"),
        TcpOption::AccurateEcn { .. } => Some("Accurate ECN (RFC 9768)"),
        _ => None,
    });
    let accurate = segment.ace.is_some() || segment.flags.contains(TcpFlags::AE);
    match foreign.or(accurate.then_some("Accurate ECN (RFC 9768)")) {
        Some(what) => {
            Err(Problem::unsupported(span.clone(), format!("{what} is not supported by this stack")))
        }
        None => Ok(()),
    }
}

/// An ICMP name of the other IP version only shows that the script is for that version.
fn verify_icmp(span: &Span, message: &IcmpMessage, v6: bool) -> Result<(), Problem> {
    let Err(wrong) = icmp_names::number(v6, message) else { return Ok(()) };
    Err(match icmp_names::number(!v6, message) {
        Ok(_) => Problem::unsupported(span.clone(), wrong),
        Err(_) => Problem::syntax(span.clone(), wrong).note("write numbers as type_N and code_N"),
    })
}

/// The number of arguments of a call.
fn arity(name: &str) -> Option<RangeInclusive<usize>> {
    Some(match name {
        "close" | "epoll_create" | "epoll_create1" => 1..=1,
        "listen" | "shutdown" => 2..=2,
        "fcntl" => 2..=3,
        "socket" | "bind" | "accept" | "connect" | "read" | "readv" | "recvmsg" | "write" | "writev"
        | "sendmsg" | "ioctl" | "poll" => 3..=3,
        "accept4" | "recv" | "send" | "epoll_ctl" | "epoll_wait" => 4..=4,
        "setsockopt" | "getsockopt" => 5..=5,
        "recvfrom" | "sendto" => 6..=6,
        _ => return None,
    })
}

fn verify_call(call: &Call, setup: &Setup) -> Result<(), Problem> {
    let arguments = Arguments::new(call);
    let (name, count) = (arguments.name(), arguments.count());
    if let Some(arity) = arity(name).filter(|arity| !arity.contains(&count)) {
        let (min, max) = (arity.start(), arity.end());
        let wanted = if min == max { min.to_string() } else { format!("{min} to {max}") };
        let message = format!("{name}() takes {wanted} arguments, got {count}");
        return Err(Problem::syntax(arguments.span(), message));
    }
    match name {
        "poll" => verify_count(&arguments, 0),
        "readv" | "writev" => verify_count(&arguments, 1),
        "bind" => refuse_address(arguments.at(1)?, setup.local_end()),
        "connect" if !arguments::is_unspecified(arguments.at(1)?) => {
            refuse_address(arguments.at(1)?, setup.remote_end())
        }
        "sendto" if arguments::number(arguments.at(4)?) != Ok(0) => {
            refuse_address(arguments.at(4)?, setup.remote_end())
        }
        "sendmsg" => match arguments::fields(arguments.at(1)?)?.iter().find(|field| field.name == "msg_name")
        {
            Some(field) if arguments::number(&field.value) != Ok(0) => {
                refuse_address(&field.value, setup.remote_end())
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A list is followed by its length.
fn verify_count(arguments: &Arguments<'_>, index: usize) -> Result<(), Problem> {
    let (list, count) = (arguments.at(index)?, arguments.at(index + 1)?);
    let (Ok(parts), Ok(stated)) = (arguments::list(list), arguments::number(count)) else { return Ok(()) };
    if usize::try_from(stated) == Ok(parts.len()) {
        return Ok(());
    }
    let message = format!("{}() got a list of {} but the count {stated}", arguments.name(), parts.len());
    Err(Problem::syntax(count.span.clone(), message))
}

/// The runner chooses the addresses: an address written in a script must be the same.
fn refuse_address(expr: &Expr, chosen: SocketAddr) -> Result<(), Problem> {
    if arguments::is_ellipsis(expr) || arguments::socket_address(expr) == Some(chosen) {
        return Ok(());
    }
    let message = format!("unsupported address (only {chosen}, written `...`)");
    Err(Problem::unsupported(expr.span.clone(), message))
}
