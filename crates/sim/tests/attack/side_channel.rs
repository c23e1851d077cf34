//! What an attacker beside the path can learn from answers to itself. It sends a guess in the name of
//! others, often, and then looks at what the host sends to its own address. A host that holds what was
//! guessed and one that does not must look the same to it: byte for byte, at the same times.
//!
//! CVE-2016-5696 (challenge ACKs), CVE-2020-25705 (ICMP errors), and the same with limited resets.

use crate::host::{CLOSED, Host, OPEN, address};
use lastack_engine::{Config, FourTuple, Verdict};
use lastack_wire::tcp::TcpFlags;
use std::net::SocketAddr;
use std::time::Duration;

const RST: TcpFlags = TcpFlags::RST;
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

/// Plays the same against a host of which the guess is true and one of which it is not, and compares what
/// the attacker saw. It must have seen something.
fn tells_nothing(name: &str, change: impl Fn(&mut Config), play: impl Fn(&mut Host, bool)) {
    for seed in 0..4 {
        for v6 in [false, true] {
            let [right, wrong] = [true, false].map(|guess| {
                let mut host = Host::new(v6, seed, &change);
                play(&mut host, guess);
                host.seen
            });
            assert!(!right.is_empty() && !wrong.is_empty(), "{name}: the attacker sees nothing at all");
            let (r, w) = (right.len(), wrong.len());
            assert!(right == wrong, "{name}, seed {seed}, IPv6 {v6}: {r} answers if right, {w} if wrong");
        }
    }
}

/// The port of the victim's connection, and one that it does not use.
const VICTIM: u16 = 40_000;
const OTHER: u16 = 40_001;
const ISN: u32 = 7_000_000;

/// A victim's connection, and one of the attacker; the numbers that the host expects to be acknowledged.
fn two_connections(host: &mut Host, victim_port: u16) -> (u32, u32) {
    let v6 = host.us.is_ipv6();
    let victim = host.open(host.flow(address(v6, 0, 7), victim_port, OPEN), ISN);
    let own = host.open(host.flow(host.attacker, 5, OPEN), ISN);
    host.pass(Duration::from_secs(2));
    (victim, own)
}

/// The attacker sends many guesses in the victim's name, and asks on its own connection for as many
/// challenge ACKs as it can have.
fn count_challenges(host: &mut Host, own: u32, guess: impl Fn(&mut Host, FourTuple) -> Verdict) {
    let v6 = host.us.is_ipv6();
    for _ in 0..10 {
        for _ in 0..50 {
            let _ = guess(host, host.flow(address(v6, 0, 7), VICTIM, OPEN));
        }
        for _ in 0..20 {
            let flow = host.flow(host.attacker, 5, OPEN);
            let _ = host.segment(flow, RST, ISN.wrapping_add(100), own);
            let _ = host.segment(flow, SYN, ISN, own);
        }
        host.pass(Duration::from_millis(200));
    }
}

/// D4, T69: whether the four-tuple is in use (which port the victim has).
#[test]
fn challenge_acks_tell_no_port() {
    for flags in [SYN, SYN | ACK, ACK, RST, TcpFlags::FIN | ACK] {
        tells_nothing(
            "port",
            |_| {},
            |host, guess| {
                let (_, own) = two_connections(host, if guess { VICTIM } else { OTHER });
                count_challenges(host, own, |host, flow| host.segment(flow, flags, 5, 5));
            },
        );
    }
}

/// Whether a sequence number is in the window.
#[test]
fn challenge_acks_tell_no_sequence_number() {
    for flags in [RST, RST | ACK, SYN, ACK] {
        tells_nothing(
            "sequence number",
            |_| {},
            |host, guess| {
                let (_, own) = two_connections(host, VICTIM);
                let seq = if guess { ISN + 1000 } else { ISN + (1 << 30) };
                count_challenges(host, own, |host, flow| host.segment(flow, flags, seq, 5));
            },
        );
    }
}

/// Whether an acknowledgment number is acceptable, or at least an old one.
#[test]
fn challenge_acks_tell_no_acknowledgment_number() {
    for offset in [0, 1u32.wrapping_neg(), 1000] {
        tells_nothing(
            "acknowledgment number",
            |_| {},
            |host, guess| {
                let (victim, own) = two_connections(host, VICTIM);
                let ack = victim.wrapping_add(if guess { offset } else { 1 << 30 });
                count_challenges(host, own, |host, flow| host.segment(flow, ACK, ISN + 1000, ack));
            },
        );
    }
}

/// With resets limited: what the attacker's own segments to a closed port are answered with.
#[test]
fn limited_resets_tell_nothing() {
    let limited = |config: &mut Config| config.tcp.reset_rate = Some(200);
    let probes = [SYN, SYN | ACK, ACK, TcpFlags::FIN | ACK, TcpFlags::FIN, TcpFlags::empty(), RST];
    for (flags, seq) in probes.into_iter().flat_map(|flags| [(flags, 5), (flags, ISN + 1000)]) {
        tells_nothing(&format!("reset limit, {flags}"), limited, |host, guess| {
            two_connections(host, if guess { VICTIM } else { OTHER });
            let v6 = host.us.is_ipv6();
            for _ in 0..3 {
                for _ in 0..150 {
                    let _ = host.segment(host.flow(address(v6, 0, 7), VICTIM, OPEN), flags, seq, 5);
                }
                for port in 0..200 {
                    let _ = host.segment(host.flow(host.attacker, port + 1, CLOSED), ACK, 5, 5);
                }
                host.pass(Duration::from_secs(1));
            }
        });
    }
}

/// D22: which UDP port is open. The attacker sends with the addresses of many others, and then with its own.
fn scan(sources: u16, port: impl Fn(u16) -> u16) -> impl Fn(&mut Host, bool) {
    move |host, guess| {
        let v6 = host.us.is_ipv6();
        let bound = SocketAddr::new(host.us, if guess { 53_000 } else { 54_000 });
        host.stack.udp_bind(bound).expect("the port is free");
        for _ in 0..4 {
            for n in 0..40 {
                let _ = host.datagram(host.attacker, 1000 + n, CLOSED);
            }
            for n in 0..sources {
                let _ = host.datagram(address(v6, 1 + (n >> 15), n), 53, port(n));
            }
            for n in 0..60 {
                let _ = host.datagram(host.attacker, 2000 + n, CLOSED);
            }
            host.pass(Duration::from_millis(1050));
        }
    }
}

#[test]
fn icmp_errors_tell_no_open_port() {
    // One port in the name of many; many ports, of which one is open; and enough of others to push the
    // attacker's own share out of any table, all but one of them to a port that surely is closed.
    tells_nothing("one port", |_| {}, scan(60, |_| 53_000));
    tells_nothing("fifty ports", |_| {}, scan(50, |n| 52_990 + n));
    tells_nothing("a full table", |_| {}, scan(4095, |n| if n == 77 { 53_000 } else { CLOSED }));
    tells_nothing("many sources", |_| {}, scan(9000, |_| 53_000));
}

/// The victim's own quota reveals nothing either: an attacker with its address does not see the rest of it.
#[test]
fn icmp_errors_to_another_tell_nothing() {
    tells_nothing(
        "one source",
        |_| {},
        |host, guess| {
            let bound = SocketAddr::new(host.us, if guess { 53_000 } else { 54_000 });
            host.stack.udp_bind(bound).expect("the port is free");
            let victim = address(host.us.is_ipv6(), 0, 7);
            for n in 0..500 {
                let _ = host.datagram(victim, 53, 53_000);
                let _ = host.datagram(host.attacker, n, CLOSED);
                host.pass(Duration::from_millis(20));
            }
        },
    );
}
