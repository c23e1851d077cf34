//! Whether a packet that the stack sent is the one that the script expects.

use super::packets::Live;
use super::syntax::{Body, Ecn, IpFields, Packet, Segment, TcpOption};
use lastack_wire::tcp::TcpFlags;
use std::time::Duration;

/// The flags that may differ between the segments of what the script writes as one packet.
const OF_ONE_PART: TcpFlags = TcpFlags::FIN.union(TcpFlags::PSH).union(TcpFlags::CWR);

const ACE: TcpFlags = TcpFlags::ECE.union(TcpFlags::CWR).union(TcpFlags::AE);

/// Joins a segment to those before it, as if they had not been split.
pub fn glue(mut whole: Live, part: Live, part_len: u32) -> Result<Live, String> {
    let (Body::Tcp(before), Body::Tcp(after)) = (&whole.packet.body, &part.packet.body) else {
        return Err("only TCP segments can continue each other".to_owned());
    };
    let complaint = |what: &str| Err(format!("the next segment does not continue this one: {what}"));
    if before.seq.wrapping_add(before.len) != after.seq {
        return complaint("SEG.SEQ differs");
    }
    if after.len > part_len || before.len % part_len != 0 {
        return complaint("the length differs");
    }
    if before.flags - OF_ONE_PART != after.flags - OF_ONE_PART {
        return complaint("the flags differ");
    }
    if before.ack != after.ack {
        return complaint("SEG.ACK differs");
    }
    let cwr = before.flags & TcpFlags::CWR;
    let joined = Segment {
        seq: before.seq,
        len: before.len + after.len,
        flags: (after.flags - TcpFlags::CWR) | cwr,
        ..after.clone()
    };
    let flaw = whole.flaw.or(part.flaw);
    whole = part;
    whole.flaw = flaw;
    whole.packet.body = Body::Tcp(joined);
    Ok(whole)
}

/// How precisely timestamps are compared.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// The length of one tick; zero: timestamps are not compared.
    pub tick: Duration,
    pub tolerance: Duration,
}

/// The differences, in the numbers of the script; empty if the packets match.
pub fn differences(expected: &Packet, actual: &Packet, ticks: Ticks) -> Vec<String> {
    let mut found = Vec::new();
    compare_ip(&expected.ip, &actual.ip, &mut found);
    match (&expected.body, &actual.body) {
        (Body::Tcp(expected), Body::Tcp(actual)) => compare_segments(expected, actual, ticks, &mut found),
        (Body::Udp(expected), Body::Udp(actual)) => {
            compare("the length", &expected.len, &actual.len, &mut found);
        }
        (Body::Icmp(expected), Body::Icmp(actual)) => {
            let code = |message: &super::syntax::IcmpMessage| message.code.clone();
            compare("the type", &expected.kind, &actual.kind, &mut found);
            if code(expected).is_some() && code(expected) != code(actual) {
                found.push("the code differs".to_owned());
            }
        }
        _ => found.push("the protocol differs".to_owned()),
    }
    found
}

fn compare<T: PartialEq + std::fmt::Display>(what: &str, expected: &T, actual: &T, found: &mut Vec<String>) {
    if expected != actual {
        found.push(format!("{what} is {actual}, expected {expected}"));
    }
}

fn compare_ip(expected: &IpFields, actual: &IpFields, found: &mut Vec<String>) {
    if let (Some(tos), Some(actual)) = (expected.tos, actual.tos) {
        compare("the TOS byte", &tos, &actual, found);
    }
    if let Some(ttl) = expected.ttl.filter(|ttl| *ttl != 255) {
        compare("the TTL", &ttl, &actual.ttl.unwrap_or_default(), found);
    }
    let same = match (expected.ecn, actual.ecn) {
        (Some(Ecn::Ect), Some(actual)) => matches!(actual, Ecn::Ect0 | Ecn::Ect1),
        (Some(expected), Some(actual)) => expected == actual,
        _ => true,
    };
    if !same {
        found.push("the ECN field of the IP header differs".to_owned());
    }
}

fn compare_segments(expected: &Segment, actual: &Segment, ticks: Ticks, found: &mut Vec<String>) {
    let flags = |segment: &Segment| {
        let ace = segment
            .ace
            .map_or(TcpFlags::empty(), |ace| TcpFlags::from_bits_truncate(u16::from(ace) << 6) & ACE);
        segment.flags | ace
    };
    if flags(expected) != flags(actual) {
        let name = |flags: TcpFlags| if flags.is_empty() { "none".to_owned() } else { flags.to_string() };
        let missing = name(flags(expected) - flags(actual));
        let extra = name(flags(actual) - flags(expected));
        found.push(format!("the flags differ (missing: {missing}; unexpected: {extra})"));
    }
    compare("SEG.SEQ", &expected.seq, &actual.seq, found);
    compare("the length", &expected.len, &actual.len, found);
    compare("SEG.ACK", &expected.ack.unwrap_or(0), &actual.ack.unwrap_or(0), found);
    if let Some(window) = expected.window {
        compare("the window field", &window, &actual.window.unwrap_or(0), found);
    }
    compare("the urgent pointer", &expected.urgent.unwrap_or(0), &actual.urgent.unwrap_or(0), found);
    if let (Some(expected), Some(actual)) = (&expected.options, &actual.options) {
        compare_options(expected, actual, ticks, found);
    }
}

fn compare_options(expected: &[TcpOption], actual: &[TcpOption], ticks: Ticks, found: &mut Vec<String>) {
    let shown = |options: &[TcpOption]| {
        let all: Vec<String> = options.iter().map(TcpOption::to_string).collect();
        format!("<{}>", all.join(","))
    };
    let kinds = |options: &[TcpOption]| options.iter().map(std::mem::discriminant).collect::<Vec<_>>();
    if kinds(expected) != kinds(actual) {
        found.push(format!("the options are {}, expected {}", shown(actual), shown(expected)));
        return;
    }
    for (expected, actual) in expected.iter().zip(actual) {
        match (expected, actual) {
            (TcpOption::Timestamps { val: expected, .. }, TcpOption::Timestamps { val: actual, .. }) => {
                let off = actual.wrapping_sub(*expected) as i32;
                if !ticks.tick.is_zero() && ticks.tick.saturating_mul(off.unsigned_abs()) > ticks.tolerance {
                    found.push(format!("TS val is {actual}, expected {expected}"));
                }
            }
            _ => compare("an option", expected, actual, found),
        }
    }
}

/// Whether an event at `at` was in time; if not, by how much it was early or late.
pub fn in_time(at: Duration, from: Duration, to: Duration, tolerance: Duration) -> Result<(), String> {
    let seconds = |time: Duration| time.as_secs_f64();
    if at + tolerance < from {
        return Err(format!("{:.6} s too early, at {:.6} s", seconds(from - at), seconds(at)));
    }
    if at > to + tolerance {
        return Err(format!("{:.6} s too late, at {:.6} s", seconds(at - to), seconds(at)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack_engine::{FourTuple, Instant};

    const UNCHECKED: Ticks = Ticks { tick: Duration::ZERO, tolerance: Duration::ZERO };

    fn live(segment: Segment) -> Live {
        let addr = "192.0.2.1:80".parse().unwrap();
        let packet = Packet { body: Body::Tcp(segment), ..Packet::default() };
        Live { at: Instant::ZERO, flow: FourTuple { local: addr, remote: addr }, packet, flaw: None }
    }

    fn text(flags: TcpFlags, seq: u32, len: u32) -> Segment {
        Segment { flags, seq, len, ack: Some(1), options: Some(vec![]), ..Segment::default() }
    }

    #[test]
    fn parts_make_the_packet_that_the_script_writes() {
        let last = TcpFlags::ACK | TcpFlags::PSH;
        let parts = [text(TcpFlags::ACK, 1, 1000), text(TcpFlags::ACK, 1001, 1000), text(last, 2001, 500)];
        let mut parts = parts.into_iter().map(live);
        let first = parts.next().unwrap();
        let whole = parts.try_fold(first, |whole, part| glue(whole, part, 1000)).unwrap();
        let expected = Packet { body: Body::Tcp(text(last, 1, 2500)), ..Packet::default() };
        assert_eq!(differences(&expected, &whole.packet, UNCHECKED), [""; 0]);
        let apart = glue(live(text(TcpFlags::ACK, 1, 1000)), live(text(last, 1002, 500)), 1000);
        assert!(apart.unwrap_err().contains("SEG.SEQ"));
    }

    #[test]
    fn every_difference_is_reported() {
        let expected = Segment { window: Some(5), ..text(TcpFlags::ACK, 1, 0) };
        let actual = Segment {
            window: Some(6),
            seq: 2,
            ack: Some(3),
            flags: TcpFlags::ACK | TcpFlags::RST,
            options: Some(vec![TcpOption::Nop]),
            ..expected.clone()
        };
        let of = |segment: Segment| Packet { body: Body::Tcp(segment), ..Packet::default() };
        let found = differences(&of(expected.clone()), &of(actual), UNCHECKED);
        assert_eq!(found.len(), 5, "{found:?}");
        let any = Segment { window: None, options: None, ..expected.clone() };
        let other = Segment { options: Some(vec![TcpOption::Nop]), ..expected };
        assert_eq!(differences(&of(any), &of(other), UNCHECKED), [""; 0]);
    }

    #[test]
    fn too_early_is_as_wrong_as_too_late() {
        let ms = Duration::from_millis;
        assert!(in_time(ms(10), ms(12), ms(12), ms(2)).is_ok());
        assert!(in_time(ms(9), ms(12), ms(12), ms(2)).unwrap_err().contains("early"));
        assert!(in_time(ms(15), ms(12), ms(12), ms(2)).unwrap_err().contains("late"));
        assert!(in_time(ms(15), ms(12), ms(14), ms(2)).is_ok());
    }
}
