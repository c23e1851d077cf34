//! An idle connection is parked: it takes less memory, and continues as if it had not been.

use crate::tcp::connection::parked::Parked;
use crate::tcp::table::Slot;
use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Answer, ConnId, Event, Keepalive, Stack, TcpState};
use core::time::Duration;

fn is_parked(stack: &Stack, id: ConnId) -> bool {
    matches!(stack.tcp.entries[id].slot, Slot::Parked(_))
}

/// An idle connection is to take no more than 512 bytes with all tables that know of it.
#[test]
fn it_is_small() {
    assert!(size_of::<Parked>() <= 344, "{}", size_of::<Parked>());
}

/// A relay's options, those of the handshake and `TCP_NODELAY`, take no memory of their own, nor does a connection without
/// losses.
#[test]
fn a_relayed_connection_has_no_rare_fields() {
    let mut pair = Pair::new(false);
    let listener = pair.listen(8);
    let (a, b) = pair.connect_to(listener);
    pair.b.tcp(b).set_nodelay(true);
    pair.b.tcp(b).set_max_segment(Some(1000));
    pair.b.tcp(b).hold_acks();
    assert!(pair.transfer(a, b, b"question") == b"question");
    pair.b.tcp(b).acknowledge(8, false);
    pair.run(Duration::from_secs(1000));
    for _ in 0..3 {
        pair.b.stack.tcp.park_some(&pair.b.stack.shared, pair.now + Duration::from_secs(1000));
    }
    let Slot::Parked(parked) = &pair.b.stack.tcp.entries[b].slot else { panic!("not parked") };
    assert!(!parked.has_rare_fields());
}

/// Everything that it reports is the same, and it carries data, whether it has carried any before or not, and whether
/// packets were lost.
#[test]
fn parking_changes_no_state() {
    for v6 in [false, true] {
        for (used, lossy) in [(false, false), (true, false), (true, true)] {
            let mut pair = Pair::new(v6);
            pair.lose = if lossy { |carried| carried % 40 == 20 } else { |_| false };
            pair.delay = Duration::from_millis(5);
            let listener = pair.listen(8);
            let to = core::net::SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
            let a = pair.a.stack.tcp_connect(None, to).unwrap();
            pair.run(Duration::from_millis(50));
            let b = pair.b.stack.tcp_accept(listener).unwrap();
            pair.a.tcp(a).set_nodelay(true);
            pair.a.tcp(a).set_keepalive(Some(Keepalive::default()));
            pair.b.tcp(b).set_user_timeout(Some(Duration::from_secs(77)));
            pair.b.tcp(b).set_max_segment(Some(1000));
            let data: alloc::vec::Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
            if used {
                assert!(pair.transfer(a, b, &data) == data);
            }
            pair.run(Duration::from_secs(5));
            assert_eq!(pair.a.tcp(a).info().retransmissions > 0, lossy);
            let before = (pair.a.tcp(a).info(), pair.b.tcp(b).info());
            let numbers = (pair.a.tcp(a).initial_numbers(), pair.b.tcp(b).initial_numbers());
            pair.run(Duration::from_secs(60));
            for (host, id) in [(&mut pair.a, a), (&mut pair.b, b)] {
                let Pair { now, .. } = Pair::new(v6);
                host.stack.tcp.park_some(&host.stack.shared, now + Duration::from_secs(1000));
                assert!(is_parked(&host.stack, id), "used {used}");
                host.stack.check();
                let listed = host.stack.tcp_connections().find(|open| open.id == id).unwrap();
                assert_eq!((listed.state, listed.has_user), (TcpState::Established, true));
                assert_eq!(host.stack.tcp_state(&listed.flow), Some(TcpState::Established));
            }
            let after = (pair.a.tcp(a).info(), pair.b.tcp(b).info());
            assert_eq!(before, after, "used {used}");
            assert_eq!(numbers, (pair.a.tcp(a).initial_numbers(), pair.b.tcp(b).initial_numbers()));
            assert!(pair.a.tcp(a).nodelay() && pair.a.tcp(a).keepalive() == Some(Keepalive::default()));
            assert_eq!(pair.b.tcp(b).user_timeout(), Some(Duration::from_secs(77)));
            assert_eq!(pair.b.tcp(b).max_segment(), Some(1000));
            assert!(pair.transfer(a, b, &data) == data);
            pair.a.tcp(a).close();
            pair.b.tcp(b).close();
            pair.run(Duration::from_secs(100));
            assert_eq!((pair.a.stack.connections(), pair.b.stack.connections()), (0, 0));
        }
    }
}

/// What waits to be read or sent, or is held back, keeps a connection from being parked.
#[test]
fn a_connection_in_use_is_not_parked() {
    both(|v6| {
        let reasons: [fn(&mut Peer); 6] = [
            |p| assert_eq!(p.on("P. len=3"), "accepted"),
            |p| assert!(p.on("P. at=2 len=3").contains("accepted")),
            |p| assert_eq!(p.send(3), "3"),
            |p| p.tcp().shutdown().unwrap(),
            |p| drop(p.on("F.")),
            |p| {
                p.send(3);
                p.out();
            },
        ];
        for (n, reason) in reasons.into_iter().enumerate() {
            let mut p = Peer::established(v6, Kind::Full);
            reason(&mut p);
            for _ in 0..3 {
                let now = p.now + Duration::from_millis(1);
                p.stack.tcp.park_some(&p.stack.shared, now);
            }
            assert!(!is_parked(&p.stack, p.id), "{n}");
        }
    });
}

/// A connection whose ACKs the application holds back is parked once it has allowed all of them, and they are held back
/// afterwards.
#[test]
fn held_acks_stay_held() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.tcp().hold_acks();
        p.run(1);
        p.stack.tcp.park_some(&p.stack.shared, p.now);
        assert!(is_parked(&p.stack, p.id));
        assert_eq!((p.on("P. len=3"), p.receive()), ("accepted".into(), "3".into()));
        p.run(60_000);
        p.stack.tcp.park_some(&p.stack.shared, p.now);
        assert!(!is_parked(&p.stack, p.id), "an ACK is held back");
        p.tcp().acknowledge(3, false);
        p.run(60_000);
        p.stack.tcp.park_some(&p.stack.shared, p.now);
        assert!(is_parked(&p.stack, p.id));
        assert_eq!(p.on(". seq=3"), "dropped S51");
        assert!(p.tcp().ack_wanted(), "a keep-alive probe is left to the application");
        assert_eq!(p.out(), "");
        p.stack.tcp.park_some(&p.stack.shared, p.now);
        assert!(!is_parked(&p.stack, p.id), "and its answer is awaited");
        p.tcp().acknowledge(3, false);
        assert_eq!(p.out(), ". seq=1 ack=4");
    });
}

/// A segment, a timer and a call each find it whole.
#[test]
fn a_segment_a_timer_and_a_call_unpark_it() {
    both(|v6| {
        let parked = || {
            let mut p = Peer::established(v6, Kind::Full);
            p.tcp().set_keepalive(Some(Keepalive {
                idle: Duration::from_secs(10),
                interval: Duration::from_secs(2),
                count: 1,
            }));
            p.run(1);
            p.stack.tcp.park_some(&p.stack.shared, p.now);
            assert!(is_parked(&p.stack, p.id));
            p
        };
        let mut p = parked();
        assert_eq!((p.on("P. len=3"), p.receive()), ("accepted".into(), "3".into()));
        let mut p = parked();
        assert_eq!((p.on("R"), p.state()), ("ended R1".into(), TcpState::Closed));
        let mut p = parked();
        assert_eq!(p.run(11_998), "9999: . seq=0 ack=1");
        assert_eq!(p.run(1), "1: R. seq=1 ack=1");
        let mut p = parked();
        assert!(p.stack.tcp_kill(&p.flow()));
        assert!(p.out().starts_with("R. seq=1"));
        let mut p = parked();
        assert_eq!((p.send(5), p.out()), ("5".into(), "P. seq=1 ack=1 len=5".into()));
        let mut p = parked();
        p.tcp().close();
        assert_eq!(p.out(), "F. seq=1 ack=1");
    });
}

/// A connection that is parked in the step that establishes it: the timer scheduled for it is its handshake's, and may be
/// later than its keep-alive deadline.
#[test]
fn keepalive_of_a_connection_parked_at_once() {
    both(|v6| {
        let mut p = Peer::simultaneous(v6, Kind::Full);
        p.tcp().set_keepalive(Some(Keepalive {
            idle: Duration::from_secs(3),
            interval: Duration::from_secs(2),
            count: 1,
        }));
        // The retransmission after the next is due 4 s after it.
        p.run(3_500);
        p.on(".");
        p.stack.check();
        assert!(is_parked(&p.stack, p.id));
        let due = p.stack.poll_timeout().expect("the keep-alive timer runs");
        assert!(due <= p.now + Duration::from_secs(3), "{due:?} at {:?}", p.now);
    });
}

/// A probe that was answered leaves a timer that expires after its interval, which may be later than the idle time.
#[test]
fn keepalive_of_a_connection_parked_after_a_probe() {
    let secs = Duration::from_secs;
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.intercept.tcp = true);
        assert_eq!(p.on("S seq=0 mss=1460"), "accepted");
        let Some(Event::Intercepted(id)) = p.events.pop() else { panic!("the SYN is reported") };
        (p.id, p.seq) = (id, 1);
        p.stack.tcp_answer(id, Answer::Accept);
        assert_eq!(p.out(), "S. seq=0 ack=1");
        p.run(3000);
        let keepalive = Keepalive { idle: Duration::from_millis(50), interval: secs(100), count: 3 };
        p.tcp().set_keepalive(Some(keepalive));
        p.ack = 1;
        assert_eq!(p.on("."), "accepted");
        p.stack.check();
        assert_eq!(p.run(50), "50: . seq=0 ack=1");
        assert_eq!(p.on("."), "accepted");
        for _ in 0..3 {
            p.stack.tcp.park_some(&p.stack.shared, p.now);
            p.stack.check();
        }
        assert!(is_parked(&p.stack, p.id));
        assert_eq!(p.run(50), "50: . seq=0 ack=1");
    });
}

/// A new MTU applies to parked connections and does not unpark them, however many there are.
#[test]
fn a_new_mtu_leaves_parked_connections_parked() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.run(1);
        p.stack.tcp.park_some(&p.stack.shared, p.now);
        assert!(is_parked(&p.stack, p.id));
        p.stack.set_mtu(1300, 1300).unwrap();
        assert!(is_parked(&p.stack, p.id) && !p.stack.has_output());
        p.stack.check();
        let headers = if v6 { 60 } else { 40 } + 12;
        assert_eq!(p.send(3000), "3000");
        assert!(p.out().starts_with(&alloc::format!(". seq=1 ack=1 len={}", 1300 - headers)));
        // A larger MTU does not raise the size of segments again.
        p.stack.set_mtu(1500, 1500).unwrap();
        assert_eq!(p.tcp().info().mss, 1300 - headers);
    });
}

/// The sender still knows the largest window that the peer has offered: what is less than half of it waits (RFC 9293
/// section 3.8.6.2.1).
#[test]
fn the_largest_window_is_kept() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=10000");
        p.send(10);
        p.out();
        p.on(". ack=11 win=600");
        p.run(20_000);
        p.stack.tcp.park_some(&p.stack.shared, p.now + Duration::from_secs(1000));
        assert!(is_parked(&p.stack, p.id));
        p.send(2000);
        assert_eq!(p.out(), "");
        p.on(". ack=11 win=5000");
        assert!(p.sent.last().unwrap().data().len() >= 540);
    });
}
