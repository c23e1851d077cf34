//! J: the memory of the buffers of all connections (D26), and what happens when there is no more.

use crate::Config;
use crate::TcpState;
use crate::tcp::table::MAX_SPARE;
use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Kind, Peer, THEM, both};
use alloc::format;
use core::task::Poll;
use core::time::Duration;

fn small(config: &mut Config) {
    config.tcp.memory = 64 << 10;
}

/// A second connection, established and accepted: it is the peer's current one then.
fn second(p: &mut Peer) {
    p.on(&format!("S seq=0 mss=1460 port={}", THEM + 1));
    p.on(&format!(". seq=1 ack=1 port={}", THEM + 1));
    p.accept();
}

/// T166: the connection whose peer takes nothing for a second is reset; the other gets its memory.
#[test]
fn t166_d26_the_longest_stalled_is_reset_first() {
    both(|v6| {
        let mut p = Peer::with(v6, small).listen(8).establish(Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(100_000), "65536", "all there is");
        assert_eq!(p.out(), "");
        second(&mut p);
        assert_eq!(p.send(10_000), "4096", "what each may always have");
        let port = THEM + 1;
        for ack in [1, 1461, 2921, 4097] {
            p.on(&format!(". seq=1 ack={ack} port={port}"));
        }
        assert_eq!(p.run(600), "200: . seq=0 ack=1 | 600: . seq=0 ack=1");
        assert_eq!(p.run(800), "800: R. seq=1 ack=1");
        assert_eq!(p.ends(), "aborted by the local stack in ESTABLISHED (D26), lost 65536+0+0");
        assert_eq!(p.stack.counters().tcp_memory_aborts, 1);
        assert_eq!(p.send(100_000), "65536");
    });
}

/// If so configured no connection is reset: each continues with its guaranteed memory.
#[test]
fn d26_no_connection_is_reset_if_so_configured() {
    both(|v6| {
        let set = |config: &mut Config| {
            small(config);
            config.tcp.reset_for_memory = false;
        };
        let mut p = Peer::with(v6, set).listen(8).establish(Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(100_000), "65536");
        second(&mut p);
        assert_eq!(p.send(10_000), "4096");
        p.run(100_000);
        assert_eq!((p.ends().as_str(), p.stack.connections()), ("", 2));
        p.tcp().close();
        assert!(!p.out().contains('R'));
    });
}

/// Text for which there is no memory is dropped, and asked for again; the window does not open for it.
#[test]
fn d26_no_memory_to_receive() {
    both(|v6| {
        let mut p = Peer::with(v6, small).listen(8).establish(Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(100_000), "65536");
        second(&mut p);
        let port = THEM + 1;
        for seq in [1, 1461] {
            assert!(p.on(&format!(". seq={seq} ack=1 len=1460 port={port}")).starts_with("accepted"));
        }
        // A part of the third fits; nothing of the fourth.
        assert_eq!(p.on(&format!(". seq=2921 ack=1 len=1460 port={port}")), "accepted");
        let fourth = p.on(&format!(". seq=4381 ack=1 len=1460 port={port}"));
        assert!(fourth.starts_with("dropped NoSpace") && fourth.contains("ack=4097"), "{fourth}");
        assert_eq!(p.buffers(), 4096);
        assert_eq!(p.tcp().readable().concat().len(), 4096);
    });
}

/// S99 and S100: who has much to send and no user is reset at once.
#[test]
fn s99_s100_no_memory_for_orphans() {
    both(|v6| {
        let mut p = Peer::with(v6, small).listen(8).establish(Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(100_000), "65536");
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=1 ack=1");
        assert!(p.ends().contains("(S99)"));

        let mut p = Peer::with(v6, |_| {}).listen(8).establish(Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(50_000), "50000");
        p.tcp().close();
        assert_eq!(p.out(), "");
        p.stack.tcp_config_mut().memory = 1000;
        assert_eq!(p.run(200), "200: R. seq=1 ack=1");
        assert!(p.ends().contains("(S100)"));
        assert_eq!(p.state(), TcpState::Closed);
    });
}

/// A pair with large packets, and many connections that are not read: the memory of both ends.
fn unread(many: usize, memory: usize) -> (Pair, crate::ListenerId) {
    let mut pair = Pair::with(false, |config| {
        (config.mtu, config.max_packet) = (65_520, 65_520);
        config.tcp.memory = memory;
        config.tcp.reset_for_memory = false;
    });
    pair.delay = Duration::from_micros(100);
    let listener = pair.listen(8);
    let data = alloc::vec![7; 1 << 20];
    for _ in 0..many {
        let (a, _) = connect(&mut pair, listener);
        for _ in 0..10 {
            let _ = pair.a.tcp(a).send(&data);
            pair.run(Duration::from_micros(200));
        }
        pair.a.sent.clear();
        pair.b.sent.clear();
    }
    (pair, listener)
}

fn connect(pair: &mut Pair, listener: crate::ListenerId) -> (crate::ConnId, crate::ConnId) {
    let to = core::net::SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
    let a = pair.a.stack.tcp_connect(None, to).unwrap();
    pair.run(Duration::from_millis(1));
    (a, pair.b.stack.tcp_accept(listener).unwrap())
}

/// The bound is one for all of them together, however large a segment is; and who takes what it asked for gets it
/// nearly as fast as without them.
#[test]
fn d26_the_total_holds_and_others_go_on() {
    const MEMORY: usize = 16 << 20;
    const TEXT: usize = 32 << 20;
    let took = |many: usize| {
        let (mut pair, listener) = unread(many, MEMORY);
        let held = [&pair.a, &pair.b].map(|host| host.stack.shared.memory.held());
        assert!(held.iter().all(|held| *held <= MEMORY + many * 2 * 4096), "{many}: {held:?}");
        assert!(
            many == 0 || held[0] >= MEMORY * 2 / 5,
            "{many}: the test does not fill the memory: {held:?}"
        );
        let (a, b) = connect(&mut pair, listener);
        let (mut rest, mut got, mut buf) = (TEXT, 0, alloc::vec![0; 1 << 17]);
        let start = pair.now;
        while got < TEXT {
            while rest > 0
                && let Poll::Ready(Ok(n)) = pair.a.tcp(a).send(&buf[..buf.len().min(rest)])
            {
                rest -= n;
            }
            while let Poll::Ready(Ok(n @ 1..)) = pair.b.tcp(b).receive(&mut buf) {
                got += n;
            }
            pair.run(Duration::from_micros(50));
            pair.a.sent.clear();
            assert!(pair.now - start < Duration::from_secs(10), "beside {many}: {got}");
        }
        pair.now - start
    };
    let alone = took(0);
    for many in [60, 100] {
        let beside = took(many);
        assert!(beside <= alone * 2, "beside {many}: {beside:?}, alone {alone:?}");
    }
}

/// However many there are, the total is the bound and the least of each.
#[test]
fn d26_the_total_holds_for_any_number() {
    const MEMORY: usize = 16 << 20;
    let (pair, _) = unread(500, MEMORY);
    for host in [&pair.a, &pair.b] {
        let held = host.stack.shared.memory.held();
        assert!((MEMORY / 2..MEMORY + 500 * 2 * 4096).contains(&held), "{held}");
    }
}

/// Whoever is looked at when there is no memory: a number at a time, and each in its turn.
#[test]
fn d26_looking_for_memory_costs_no_more_than_a_few_at_a_time() {
    let mut p = Peer::with(false, |config| config.tcp.memory = 64 << 10).listen(8);
    for port in 1000..2000 {
        p.on(&format!("S seq=0 mss=1460 port={port}"));
        p.on(&format!(". seq=1 ack=1 port={port} win=0"));
        p.accept();
        assert_eq!(p.send(4000), "4000");
        p.out();
    }
    let before = p.stack.shared.memory.looked_at;
    for _ in 0..100 {
        p.run(1);
        for _ in 0..50 {
            p.on(". seq=1 ack=1 port=1999 win=0");
        }
    }
    let looked_at = p.stack.shared.memory.looked_at - before;
    assert!(looked_at <= 11 * 256, "{looked_at} in 100 ms and 5000 segments");
    for _ in 0..40 {
        p.run(100);
        p.on(". seq=1 ack=1 port=1999 win=0");
    }
    assert!(p.stack.counters().tcp_memory_aborts > 900, "{}", p.stack.counters().tcp_memory_aborts);
}

/// The allocations of connections that ended are kept for those to come, but not of as many as there ever were.
#[test]
fn few_allocations_are_kept_for_connections_to_come() {
    let mut p = Peer::new(false).listen(200);
    for port in 1000..1200 {
        p.on(&format!("S seq=0 mss=1460 port={port}"));
    }
    for port in 1000..1200 {
        // With unread data it is in use, and not parked.
        p.on(&format!("P. seq=1 ack=1 len=10 port={port}"));
    }
    assert_eq!(p.stack.tcp.spare.kept()[0], MAX_SPARE, "200 handshakes are complete");
    for port in 1000..1200 {
        p.on(&format!("R seq=11 port={port}"));
    }
    // Those that were not accepted have ended when one is accepted.
    for _ in 0..200 {
        p.accept();
        p.tcp().close();
    }
    p.run(1000);
    assert_eq!(p.stack.connections(), 0);
    assert_eq!(p.stack.tcp.spare.kept(), [MAX_SPARE, MAX_SPARE]);
}
