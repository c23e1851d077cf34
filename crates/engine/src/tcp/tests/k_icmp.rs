//! K: ICMP errors about segments of TCP.

use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Cause, EndedBy, TcpState};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use lastack_wire::icmp::IcmpError;

fn error(v6: bool, kind: u8, code: u8) -> IcmpError {
    IcmpError { v6, kind, code, info: 0 }
}

/// What an error means: the error of `connect`, and whether it is hard. Where Linux has an errno that
/// `std::io` has no kind for (EOPNOTSUPP, EHOSTDOWN, ENONET), ours is host unreachable.
type Row = (u8, u8, &'static str, bool);

const V4: [Row; 18] = [
    (3, 0, "NetworkUnreachable", false),
    (3, 1, "HostUnreachable", false),
    (3, 2, "ProtocolUnreachable", true),
    (3, 3, "Refused", true),
    (3, 5, "HostUnreachable", false),
    (3, 6, "NetworkUnreachable", true),
    (3, 7, "HostUnreachable", true),
    (3, 8, "HostUnreachable", true),
    (3, 9, "NetworkUnreachable", true),
    (3, 10, "HostUnreachable", true),
    (3, 11, "NetworkUnreachable", false),
    (3, 12, "HostUnreachable", false),
    (3, 13, "HostUnreachable", true),
    (3, 14, "HostUnreachable", true),
    (3, 15, "HostUnreachable", true),
    (11, 0, "HostUnreachable", false),
    (12, 0, "Protocol", true),
    (12, 1, "Protocol", true),
];

const V6: [Row; 13] = [
    (1, 0, "NetworkUnreachable", false),
    (1, 1, "Prohibited", true),
    (1, 2, "HostUnreachable", false),
    (1, 3, "HostUnreachable", false),
    (1, 4, "Refused", true),
    (1, 5, "Prohibited", true),
    (1, 6, "Prohibited", true),
    (1, 7, "Protocol", true),
    (3, 0, "HostUnreachable", false),
    (3, 1, "HostUnreachable", false),
    (4, 0, "Protocol", true),
    (4, 1, "Protocol", true),
    (4, 2, "Protocol", true),
];

fn rows(v6: bool) -> &'static [Row] {
    if v6 { &V6 } else { &V4 }
}

/// The last packet sent, its SEQ moved by so much.
fn quoted(p: &Peer, by: i32) -> Vec<u8> {
    let mut packet = p.last().bytes.clone();
    let at = p.last().ip.len() + 4;
    let seq = p.last().header().seq.wrapping_add(by as u32);
    packet[at..at + 4].copy_from_slice(&seq.to_be_bytes());
    packet
}

/// I1 to I3, I5, I6, I8, I9: any of them ends an attempt to connect at once.
#[test]
fn t170_t171_an_error_ends_an_attempt() {
    both(|v6| {
        for &(kind, code, expected, _) in rows(v6) {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on_icmp(&quoted(&p, 0), error(v6, kind, code)), "ended I1", "{kind}/{code}");
            let ended = p.ended.pop().unwrap().end;
            assert_eq!(
                (ended.cause, ended.state),
                (Cause::Unreachable(error(v6, kind, code)), TcpState::SynSent)
            );
            assert_eq!(ended.by, EndedBy::Network(p.router()));
            let errors = [p.send(1), p.send(1), p.receive()];
            assert_eq!(errors, [expected, "BrokenPipe", "0"], "{kind}/{code}");
            p.assert_gone();
        }
    });
}

/// The same after a simultaneous open; the number just after the SYN passes there and in SYN-SENT.
#[test]
fn t170_the_number_that_an_error_quotes_is_tested() {
    both(|v6| {
        let unreachable = IcmpError::host_unreachable(v6);
        for (by, expected) in [(-1, "dropped I11"), (0, "ended I1"), (1, "ended I1"), (2, "dropped I11")] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on_icmp(&quoted(&p, by), unreachable), expected, "{by}");
            let mut p = Peer::simultaneous(v6, Kind::Plain);
            assert_eq!(p.on_icmp(&quoted(&p, by), unreachable), expected, "{by}");
        }
    });
}

/// I2: hard or soft, a synchronized connection continues, and nothing is sent. The error is reported once
/// to who asks.
#[test]
fn t172_an_error_does_not_end_a_connection() {
    both(|v6| {
        for &(kind, code, expected, _) in rows(v6) {
            let mut p = Peer::established(v6, Kind::Plain);
            p.send(10);
            p.out();
            assert_eq!(p.on_icmp(&quoted(&p, 0), error(v6, kind, code)), "dropped I2", "{kind}/{code}");
            assert_eq!((p.state(), p.new_events(), p.ends()), (TcpState::Established, "".into(), "".into()));
            assert_eq!((p.error(), p.error()), (String::from(expected), "none".into()));
            p.ack = 11;
            assert_eq!(p.on("P. len=4"), "accepted");
            assert_eq!((p.receive(), p.send(5)), ("4".into(), "5".into()));
        }
    });
}

/// The policy: an embryonic connection ends by hard errors only, and only if ours
/// was quoted exactly.
#[test]
fn t173_only_a_hard_error_ends_a_connection_in_syn_received() {
    both(|v6| {
        for &(kind, code, _, hard) in rows(v6) {
            let mut p = Peer::syn_received(v6, Kind::Plain);
            for by in [-1, 1] {
                assert_eq!(p.on_icmp(&quoted(&p, by), error(v6, kind, code)), "dropped I11");
            }
            let out = p.on_icmp(&quoted(&p, 0), error(v6, kind, code));
            assert_eq!(out, if hard { "ended I1" } else { "dropped I2" }, "{kind}/{code}");
            let expected = if hard { "answered S10 | R seq=1" } else { "accepted" };
            assert_eq!(p.on("."), expected, "{kind}/{code}");
        }
    });
}

/// D21.
#[test]
fn t174_an_error_that_does_not_fit_is_ignored() {
    both(|v6| {
        let unreachable = IcmpError::host_unreachable(v6);
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(10);
        p.out();
        p.ack = 11;
        p.on(".");
        p.send(10);
        p.out();
        // In flight are 11 to 20; SND.NXT, 21, is where a SYN-less keep-alive or FIN would stand.
        for (by, expected) in [
            (-1, "dropped I11"),
            (0, "dropped I2"),
            (9, "dropped I2"),
            (10, "dropped I2"),
            (11, "dropped I11"),
        ] {
            assert_eq!(p.on_icmp(&quoted(&p, by), unreachable), expected, "{by}");
        }
        p.error();
        // Another port; another address; a checksum that is wrong.
        let at = p.last().ip.len();
        let mut other = quoted(&p, 0);
        other[at + 3] ^= 1;
        assert_eq!(p.on_icmp(&other, unreachable), "dropped Unwanted");
        let good = crate::testing::icmp_error(p.router(), &quoted(&p, 0), unreachable);
        let mut bad = good.clone();
        bad[at + 2] ^= 1;
        assert_eq!(p.on_packet(&bad), "dropped Malformed(Checksum)");
        assert_eq!(p.error(), "none");
        assert_eq!(p.on_packet(&good), "dropped I2");
    });
}

#[test]
fn t175_time_wait_and_listeners_ignore_errors() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, TcpState::TimeWait, true);
        assert_eq!(p.on_icmp(&quoted(&p, 0), IcmpError::port_unreachable(v6)), "dropped Unwanted");
        p.pass(59_999);
        assert_eq!(p.state(), TcpState::TimeWait);
        // The port of a listener, of which no connection is known.
        let about = quoted(&p, 0);
        let mut p = Peer::listening(v6);
        assert_eq!(p.on_icmp(&about, IcmpError::port_unreachable(v6)), "dropped Unwanted");
        assert_eq!(p.on("S seq=0"), "accepted | S. seq=0 ack=1");
    });
}

/// I7, I5: source quench, redirects and reassembly timeouts mean nothing.
#[test]
fn t176_meaningless_errors_are_ignored_in_every_state() {
    for (kind, code, expected) in [(4, 0, "dropped I7"), (5, 1, "dropped I7"), (11, 1, "dropped Unwanted")] {
        let states: [fn() -> Peer; 4] = [
            || Peer::syn_sent(false),
            || Peer::syn_received(false, Kind::Plain),
            || Peer::in_state(false, Kind::Plain, TcpState::FinWait1, true),
            || Peer::in_state(false, Kind::Plain, TcpState::LastAck, true),
        ];
        for make in states {
            let mut p = make();
            let (state, about) = (p.state(), quoted(&p, 0));
            assert_eq!(p.on_icmp(&about, error(false, kind, code)), expected, "{kind}/{code} {state}");
            assert_eq!((p.state(), p.error_if_owned()), (state, "none".into()));
        }
    }
}

/// A noted error is the reason of a later timeout, unless the peer was heard since.
#[test]
fn t177_a_noted_error_explains_a_timeout() {
    both(|v6| {
        for answered in [false, true] {
            let mut p = Peer::established(v6, Kind::Plain);
            p.send(10);
            p.out();
            p.on_icmp(&quoted(&p, 0), IcmpError::net_unreachable(v6));
            if answered {
                assert_eq!(p.on(". ack=6"), "accepted");
            }
            p.run(1_000_000);
            let ended = p.ended.pop().unwrap().end;
            assert_eq!(ended.rule.code(), "S92");
            if answered {
                assert_eq!((ended.by, p.error()), (EndedBy::Stack, "TimedOut".into()));
            } else {
                assert_eq!(
                    (ended.by, p.error()),
                    (EndedBy::Network(p.router()), "NetworkUnreachable".into())
                );
            }
        }
    });
}

fn too_big(v6: bool, mtu: u32) -> IcmpError {
    IcmpError::packet_too_big(v6, mtu)
}

/// P4: at once, in smaller segments, and without congestion control.
#[test]
fn t178_a_segment_too_big_is_retransmitted_in_pieces() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let len = 1400;
        p.send(len);
        assert_eq!(p.out(), "P. seq=1 ack=1 len=1400");
        let cwnd = p.tcp().info().cwnd;
        let first = if v6 { 1240 } else { 1260 };
        let expected =
            format!("accepted | . seq=1 ack=1 len={first} | P. seq={} ack=1 len={}", 1 + first, len - first);
        let about = quoted(&p, 0);
        assert_eq!(p.on_icmp(&about, too_big(v6, 1300)), expected);
        assert_eq!((p.tcp().info().cwnd, p.tcp().info().mss), (cwnd, first as u32));
        // A copy of the error changes nothing.
        assert_eq!(p.on_icmp(&about, too_big(v6, 1300)), "accepted");
        p.ack = 1401;
        assert_eq!(p.on("."), "accepted");
        assert_eq!(p.state(), TcpState::Established);
        assert_eq!(p.tcp().info().unacked, 0);
    });
}

/// P1, P2, P3.
#[test]
fn t179_t180_t182_which_mtu_is_accepted() {
    both(|v6| {
        let mss = |mtu: u32| mtu - if v6 { 60 } else { 40 };
        for (mtu, by, expected) in [
            (100, 0, if v6 { 1500 } else { 552 }),
            (1000, 0, if v6 { 1500 } else { 1000 }),
            (1280, 0, 1280),
            (1600, 0, 1500),
            (0, 0, if v6 { 1500 } else { 1006 }), // the plateau below the packet
            (1300, -1, 1500),
            (1300, 1441, 1500),
        ] {
            let mut p = Peer::established(v6, Kind::Plain);
            p.send(1440);
            p.out();
            let about = quoted(&p, by);
            p.on_icmp(&about, too_big(v6, mtu));
            let announced = 1460.min(mss(expected));
            assert_eq!(p.tcp().info().mss, announced, "{mtu} {by}");
            p.on_icmp(&about, too_big(v6, 1400));
            assert!(p.tcp().info().mss <= announced, "it never grows");
        }
    });
}

/// P1: the path is tried again after ten minutes.
#[test]
fn t181_the_path_mtu_expires() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(1440);
        p.out();
        p.on_icmp(&quoted(&p, 0), too_big(v6, 1300));
        p.on("R");
        let new = |p: &mut Peer| {
            (p.seq, p.ack) = (0, 1);
            p.on("S mss=1460");
            p.on(". seq=1");
            p.accept();
            let mss = p.tcp().info().mss;
            p.on("R seq=1");
            mss
        };
        assert_eq!(new(&mut p), if v6 { 1240 } else { 1260 });
        p.run(599_000);
        assert_eq!(new(&mut p), if v6 { 1240 } else { 1260 });
        p.run(1000);
        assert_eq!(new(&mut p), if v6 { 1440 } else { 1460 });
    });
}

/// P6: in SYN-SENT the MTU is stored and the attempt continues.
#[test]
fn p6_a_path_mtu_in_syn_sent() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on_icmp(&quoted(&p, 0), too_big(v6, 1300)), "accepted");
        let mut p = p.complete(Kind::Plain);
        assert_eq!(p.tcp().info().mss, if v6 { 1240 } else { 1260 });
    });
}
