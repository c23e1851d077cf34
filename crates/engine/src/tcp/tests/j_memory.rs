//! J: the memory of the buffers of all connections (D26), and what happens when there is no more.

use crate::Config;
use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, THEM, both};
use alloc::format;

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
fn t166_d26_who_stalls_longest_goes_first() {
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

/// If so configured nobody is reset: each goes on with what it may always have.
#[test]
fn d26_nobody_has_to_go_if_so_configured() {
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
