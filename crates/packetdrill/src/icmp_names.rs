//! The names of ICMP types and codes in a script.

use super::syntax::IcmpMessage;
use lastack_wire::icmp::{Icmp, IcmpError};

type Names = &'static [(&'static str, u8)];

const KINDS_V4: Names = &[
    ("echo_reply", 0),
    ("unreachable", 3),
    ("destination_unreachable", 3),
    ("source_quench", 4),
    ("redirect", 5),
    ("echo_request", 8),
    ("time_exceeded", 11),
    ("parameter_problem", 12),
];

const KINDS_V6: Names = &[
    ("unreachable", 1),
    ("destination_unreachable", 1),
    ("packet_too_big", 2),
    ("time_exceeded", 3),
    ("parameter_problem", 4),
    ("echo_request", 128),
    ("echo_reply", 129),
];

const UNREACHABLE_V4: Names = &[
    ("net_unreachable", 0),
    ("host_unreachable", 1),
    ("protocol_unreachable", 2),
    ("port_unreachable", 3),
    ("frag_needed", 4),
    ("source_route_failed", 5),
    ("net_unknown", 6),
    ("host_unknown", 7),
    ("source_host_isolated", 8),
    ("net_prohibited", 9),
    ("host_prohibited", 10),
    ("net_unreachable_for_tos", 11),
    ("host_unreachable_for_tos", 12),
    ("packet_filtered", 13),
    ("precedence_violation", 14),
    ("precedence_cutoff", 15),
];

const UNREACHABLE_V6: Names = &[
    ("no_route", 0),
    ("admin_prohibited", 1),
    ("not_neighbour", 2),
    ("address_unreachable", 3),
    ("port_unreachable", 4),
];

fn kinds(v6: bool) -> Names {
    if v6 { KINDS_V6 } else { KINDS_V4 }
}

/// The names of the codes of this type.
fn codes(v6: bool, kind: u8) -> Names {
    match (v6, kind) {
        (false, 3) => UNREACHABLE_V4,
        (true, 1) => UNREACHABLE_V6,
        _ => &[],
    }
}

fn find(names: Names, name: &str, numbered: &str) -> Option<u8> {
    let known = names.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    known.or_else(|| name.strip_prefix(numbered)?.parse().ok())
}

/// Type and code of a message given by name.
pub fn number(v6: bool, message: &IcmpMessage) -> Result<(u8, u8), String> {
    let version = if v6 { "ICMPv6" } else { "ICMP" };
    let kind = find(kinds(v6), &message.kind, "type_")
        .ok_or_else(|| format!("{version} has no type {}", message.kind))?;
    let Some(name) = &message.code else { return Ok((kind, 0)) };
    let code = find(codes(v6, kind), name, "code_")
        .ok_or_else(|| format!("{version} {} has no code {name}", message.kind))?;
    Ok((kind, code))
}

/// A message by the names of a script.
pub fn name(v6: bool, message: &Icmp<'_>) -> IcmpMessage {
    let (kind, code, mtu) = match message {
        Icmp::Echo { reply, .. } => {
            (if v6 { 128 + u8::from(*reply) } else { 8 * u8::from(!*reply) }, 0, None)
        }
        Icmp::Error { error, .. } => (error.kind, error.code, error.mtu()),
        Icmp::Other { kind, code } => (*kind, *code, None),
    };
    let called = |names: Names, number: u8, numbered: &str| {
        let known = names.iter().find(|(_, value)| *value == number);
        known.map_or_else(|| format!("{numbered}{number}"), |(name, _)| (*name).to_owned())
    };
    let names = codes(v6, kind);
    let code = (code > 0 || !names.is_empty()).then(|| called(names, code, "code_"));
    IcmpMessage { kind: called(kinds(v6), kind, "type_"), code, mtu, ..IcmpMessage::default() }
}

/// The ICMP error with this name.
pub fn error(v6: bool, message: &IcmpMessage) -> Result<IcmpError, String> {
    let (kind, code) = number(v6, message)?;
    Ok(IcmpError { v6, kind, code, info: message.mtu.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for v6 in [false, true] {
            for error in [IcmpError::port_unreachable(v6), IcmpError::host_unreachable(v6)] {
                let named = name(v6, &Icmp::Error { error, quoted: &[] });
                assert_eq!(super::error(v6, &named), Ok(error), "{named}");
            }
        }
        let numbered =
            IcmpMessage { kind: "type_9".into(), code: Some("code_7".into()), ..Default::default() };
        assert_eq!(number(false, &numbered), Ok((9, 7)));
        assert!(number(true, &IcmpMessage { kind: "source_quench".into(), ..Default::default() }).is_err());
    }
}
