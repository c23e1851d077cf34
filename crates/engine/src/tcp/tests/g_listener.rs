//! G, continued: listeners, their queue, and SYNs that the embedder answers.

use crate::tcp::tests::peer::{Peer, US, both};
use crate::{Answer, BindError, Event, TcpState};
use alloc::format;
use core::net::SocketAddr;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::IpPacket;

/// A connection from another port of the peer, complete and not accepted.
fn another(p: &mut Peer, port: u16) {
    assert_eq!(p.on(&format!("S seq=0 port={port} mss=1460")), format!("accepted | {port}: S. seq=0 ack=1"));
    assert_eq!(p.on(&format!(". seq=1 ack=1 port={port}")), "accepted");
}

/// D16, S17: as many as the backlog and one more.
#[test]
fn t100_a_full_queue_drops_syns() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(1);
        another(&mut p, 6001);
        another(&mut p, 6002);
        assert_eq!(p.on("S seq=0 port=6003"), "dropped S17");
        let counters = p.stack.counters();
        assert_eq!((counters.tcp_listen_overflows, counters.tcp_listen_drops), (1, 1));
        assert_eq!(p.new_events(), "Incoming", "new_events once, until it was looked");
        p.accept();
        assert_eq!(p.tcp().remote().port(), 6001);
        another(&mut p, 6003);
        p.accept();
        p.accept();
        assert!(p.stack.tcp_accept(p.listener.unwrap()).is_none());
        assert_eq!(p.new_events(), "");
        another(&mut p, 6004);
        assert_eq!(p.new_events(), "Incoming");
    });
}

/// S37: the peer believes that it is connected.
#[test]
fn t101_a_full_queue_drops_the_last_ack() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(0);
        assert_eq!(p.on("S seq=0 port=6001"), "accepted | 6001: S. seq=0 ack=1");
        another(&mut p, 6002);
        assert_eq!(p.on(". seq=1 ack=1 port=6001"), "dropped S37");
        assert_eq!(p.on("P. seq=1 ack=1 len=5 port=6001"), "dropped S37");
        assert_eq!(p.run(1000), "1000: 6001: S. seq=0 ack=1");
        p.accept();
        assert_eq!(p.on("P. seq=1 ack=1 len=5 port=6001"), "accepted");
        p.accept();
        assert_eq!((p.tcp().remote().port(), p.receive()), (6001, "5".into()));
        assert_eq!(p.stack.counters().tcp_listen_overflows, 2);
    });
}

#[test]
fn t102_a_full_queue_may_refuse_the_last_ack() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.tcp.abort_on_overflow = true).listen(0);
        assert_eq!(p.on("S seq=0 port=6001"), "accepted | 6001: S. seq=0 ack=1");
        another(&mut p, 6002);
        assert_eq!(p.on("S seq=0 port=6003"), "dropped S17");
        assert_eq!(p.on(". seq=1 ack=1 port=6001"), "answered S37 | 6001: R seq=1");
        assert_eq!(p.ends(), "refused by the local stack in SYN-RECEIVED (S37), .");
        assert_eq!(p.on("P. seq=1 ack=1 len=5 port=6001"), "answered S10 | 6001: R seq=1");
        p.pass(100_000);
    });
}

/// S90, S38.
#[test]
fn t103_a_closed_listener_resets_connections_not_accepted() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        another(&mut p, 6001);
        another(&mut p, 6002);
        p.on("P. seq=1 ack=1 len=2 port=6002");
        another(&mut p, 6003);
        p.on("F. seq=1 ack=1 port=6003");
        assert_eq!(p.on("S seq=0 port=6004"), "accepted | 6004: S. seq=0 ack=1");
        another(&mut p, 6005);
        p.on("R seq=1 port=6005");
        let before = p.ends();
        assert!(before.contains("(R1)"), "{before}");
        p.stack.tcp_unlisten(p.listener.unwrap());
        assert_eq!(p.out(), "6001: R. seq=1 ack=1 | 6002: R. seq=1 ack=3 | 6003: R. seq=1 ack=2");
        let ends = p.ends();
        let mut ends: alloc::vec::Vec<_> = ends.split(" | ").collect();
        ends.sort_unstable();
        assert_eq!(
            ends,
            [
                "aborted by the local application in CLOSE-WAIT (S90)",
                "aborted by the local application in ESTABLISHED (S90)",
                "aborted by the local application in ESTABLISHED (S90), lost 0+0+2",
                "aborted by the local application in SYN-RECEIVED (S38)",
            ]
        );
        p.assert_gone();
        assert_eq!(p.on(". seq=1 ack=1 port=6004"), "answered S4 | 6004: R seq=1");
        assert_eq!(p.on("S seq=0"), "answered S1 | R. seq=0 ack=1");
        // A new listener does not know the old connections either.
        let mut p = p.listen(1);
        assert_eq!(p.on(". seq=1 ack=1 port=6004"), "answered S10 | 6004: R seq=1");
        assert!(p.stack.tcp_accept(p.listener.unwrap()).is_none());
    });
}

#[test]
fn a_port_has_one_listener_for_each_address() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        let (ours, any): (SocketAddr, SocketAddr) = (
            SocketAddr::new(p.us, US),
            if v6 { format!("[::]:{US}") } else { format!("0.0.0.0:{US}") }.parse().unwrap(),
        );
        assert_eq!(p.stack.tcp_listen(ours, 1), Err(BindError::InUse));
        let foreign = SocketAddr::new(p.them, 81);
        assert_eq!(p.stack.tcp_listen(foreign, 1), Err(BindError::NotOurs));
        // One bound to the address comes before one bound to any.
        let wide = p.stack.tcp_listen(any, 1).unwrap();
        another(&mut p, 6001);
        assert!(p.stack.tcp_accept(wide).is_none());
        p.accept();
        p.stack.tcp_unlisten(p.listener.unwrap());
        another(&mut p, 6002);
        assert!(p.stack.tcp_accept(wide).is_some());
        // Port 0: one that is free.
        let id = p.stack.tcp_listen(SocketAddr::new(p.us, 0), 1).unwrap();
        assert!(p.stack.tcp_listener_addr(id).unwrap().port() >= 32_768);
        p.stack.tcp_unlisten(id);
        assert_eq!(p.stack.tcp_listener_addr(id), None);
    });
}

/// A stack whose embedder answers SYNs, and one SYN that waits.
fn held(v6: bool) -> Peer {
    let mut p = Peer::with(v6, |config| {
        config.any_address = true;
        config.intercept.tcp = true;
    });
    assert_eq!(p.on("S seq=0 mss=1460"), "accepted");
    let Some(Event::Intercepted(id)) = p.events.pop() else { panic!("the embedder is notified") };
    (p.id, p.seq, p.ack) = (id, 1, 0);
    assert_eq!((p.state(), p.new_events()), (TcpState::SynReceived, "".into()));
    p
}

#[test]
fn an_intercepted_syn_is_not_answered_before_the_decision() {
    both(|v6| {
        let mut p = held(v6);
        p.pass(60_000);
        for (segment, expected) in [
            ("S seq=0 mss=1460", "dropped Duplicate"),
            ("- ", "dropped S34"),
            ("F", "dropped S34"),
            ("R at=5", "dropped R4"),
            (". ack=77", "answered S30 | R seq=77"),
            ("P. ack=77 len=4", "answered S30 | R seq=77"),
            ("S. seq=0 ack=77", "answered S30 | R seq=77"),
        ] {
            assert_eq!(p.on(segment), expected, "{segment}");
            assert_eq!((p.new_events(), p.state()), ("".into(), TcpState::SynReceived));
        }
        // R12: the peer gives up; the embedder is notified, nothing is kept, and its answer comes too late.
        assert_eq!(p.on("R"), "ended R12");
        assert_eq!(p.ends(), "reset by the peer in SYN-RECEIVED (R12), R");
        assert!(p.stack.tcp(p.id).is_none());
        p.stack.tcp_answer(p.id, Answer::Accept);
        assert_eq!(p.out(), "");
        p.assert_gone();

        // S32: another SYN from there is another attempt.
        let mut p = held(v6);
        assert_eq!(p.on("S seq=500"), "ended S32 | R. seq=0 ack=501");
        assert_eq!(p.on("S seq=500"), "accepted");
    });
}

/// X4: there is no answer, and the peer has long given up.
#[test]
fn x4_an_intercepted_syn_that_is_not_answered_is_dropped() {
    both(|v6| {
        let mut p = held(v6);
        p.pass(129_999);
        assert_eq!(p.state(), TcpState::SynReceived);
        p.pass(1);
        assert_eq!(p.ends(), "timed out (no answer to SYN) by the local stack in SYN-RECEIVED (X4)");
        assert!(p.stack.tcp(p.id).is_none());
        p.assert_gone();

        // One that is answered in time has the time of any handshake.
        let mut p = held(v6);
        p.pass(129_999);
        p.stack.tcp_answer(p.id, Answer::Accept);
        assert_eq!(p.out(), "S. seq=0 ack=1");
        p.run(62_999);
        assert_eq!(p.state(), TcpState::SynReceived);
        p.run(1);
        assert_eq!(p.ends(), "timed out (no answer to SYN) by the local stack in SYN-RECEIVED (S36)");
        p.tcp().close();
        p.assert_gone();
    });
}

/// However many SYNs arrive and end, in whatever way, nothing is left of those that have ended; and those without an answer
/// keep others out for a time only.
#[test]
fn x4_undecided_intercepted_syns_do_not_accumulate() {
    both(|v6| {
        let intercepting = |max| {
            Peer::with(v6, |config| {
                config.intercept.tcp = true;
                config.tcp.max_embryonic = max;
            })
        };
        let mut p = intercepting(8);
        for n in 0..1000u16 {
            let port = 1000 + n;
            assert_eq!(p.on(&format!("S seq=0 port={port}")), "accepted");
            match n % 3 {
                0 => assert_eq!(p.on(&format!("R seq=1 port={port}")), "ended R12"),
                1 => assert!(p.on(&format!("S seq=700 port={port}")).starts_with("ended S32")),
                _ => {
                    let us = SocketAddr::new(p.us, US);
                    let flow = crate::FourTuple { local: us, remote: SocketAddr::new(p.them, port) };
                    assert!(p.stack.tcp_kill(&flow));
                }
            }
            assert_eq!((p.stack.connections(), p.stack.tcp.timers.len()), (0, 0));
        }
        p.new_events();

        let mut p = intercepting(8);
        for n in 0..20 {
            let expected = if n < 8 { "accepted" } else { "dropped S18" };
            assert_eq!(p.on(&format!("S seq=0 port={}", 1000 + n)), expected);
        }
        p.pass(130_000);
        assert_eq!((p.stack.connections(), p.stack.tcp.timers.len()), (0, 0));
        assert_eq!(p.on("S seq=0"), "accepted");
    });
}

#[test]
fn an_intercepted_syn_is_accepted() {
    both(|v6| {
        let mut p = held(v6);
        p.run(5000);
        p.stack.tcp_answer(p.id, Answer::Accept);
        assert_eq!(p.out(), "S. seq=0 ack=1");
        assert_eq!(p.run(1000), "1000: S. seq=0 ack=1");
        p.stack.tcp_answer(p.id, Answer::Refuse); // an answer is given once
        assert_eq!(p.out(), "");
        p.ack = 1;
        assert_eq!(p.on("P. len=5"), "accepted");
        assert_eq!((p.new_events(), p.receive()), ("Readable Connected".into(), "5".into()));
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "F. seq=1 ack=6");
    });
}

#[test]
fn an_intercepted_syn_is_refused() {
    both(|v6| {
        for close in [false, true] {
            let mut p = held(v6);
            p.run(1000);
            if close {
                p.tcp().close();
            } else {
                p.stack.tcp_answer(p.id, Answer::Refuse);
            }
            assert_eq!(p.out(), "R. seq=0 ack=1", "as a port where nobody listens");
            assert_eq!(p.last().transmit.rule, Some(crate::Rule::RstIntercepted));
            assert_eq!((p.last().header().window, p.last().header().len()), (0, 20));
            let how = if close { "aborted" } else { "refused" };
            assert_eq!(p.ends(), format!("{how} by the local application in SYN-RECEIVED (X1)"));
            assert_eq!(p.stack.tcp(p.id).is_some(), !close);
            p.assert_gone();
        }
    });
}

#[test]
fn an_intercepted_syn_is_answered_by_icmp_or_not_at_all() {
    both(|v6| {
        let mut p = held(v6);
        let (error, from) = (IcmpError::host_unreachable(v6), Some(p.router()));
        p.stack.tcp_answer(p.id, Answer::Unreachable { error, from });
        assert!(p.out().starts_with("protocol"));
        let sent = p.last().clone();
        assert_eq!((sent.ip.src, sent.ip.dst), (p.router(), p.them));
        assert_eq!(sent.transmit.rule, Some(crate::Rule::IcmpIntercepted));
        let parsed = IpPacket::parse(&sent.bytes).unwrap();
        let icmp = lastack_wire::icmp::Icmp::parse(&parsed.header, parsed.payload).unwrap();
        let lastack_wire::icmp::Icmp::Error { error: said, quoted } = icmp else { panic!("{icmp:?}") };
        assert_eq!(said, error);
        let quoted = lastack_wire::icmp::Quoted::parse(quoted).unwrap();
        assert_eq!(quoted.seq(), Some(crate::tcp::tests::peer::IRS));
        assert_eq!(quoted.ports(), Some((crate::tcp::tests::peer::THEM, US)));
        assert_eq!(p.ends(), format!("{error} by the local application in SYN-RECEIVED (X2)"));
        p.assert_gone();
        assert_eq!(p.on("S seq=0"), "accepted", "the next SYN is a new question");

        let mut p = held(v6);
        p.stack.tcp_answer(p.id, Answer::Drop);
        assert_eq!(p.out(), "");
        assert_eq!(p.ends(), "refused by the local application in SYN-RECEIVED (X3)");
        p.tcp().close();
        p.assert_gone();
        assert_eq!(p.on(". ack=1"), "answered S4 | R seq=1");
    });
}

/// A listener's port is not intercepted.
#[test]
fn interception_is_for_syns_without_a_listener() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.intercept.tcp = true).listen(1);
        assert_eq!(p.on("S seq=0"), "accepted | S. seq=0 ack=1");
        assert_eq!(p.new_events(), "");
        let mut p = Peer::with(v6, |config| config.intercept.tcp = true);
        for (segment, expected) in [
            (". seq=0 ack=5", "answered S4 | R seq=5"),
            ("SF seq=0", "answered S1 | R. seq=0 ack=2"),
            ("F seq=0", "answered S5 | R. seq=0 ack=1"),
        ] {
            assert_eq!(p.on(segment), expected);
        }
        assert_eq!(p.new_events(), "");
        assert_eq!((p.on("S seq=0"), p.new_events()), ("accepted".into(), "Intercepted".into()));
    });
}
