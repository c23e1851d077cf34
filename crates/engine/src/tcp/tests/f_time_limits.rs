//! F, continued: how long an answer is waited for.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// When data that is never acknowledged is retransmitted: doubling from 200 ms, 120 s at most.
fn schedule() -> Vec<u64> {
    let mut times = alloc::vec![200];
    let mut rto = 200;
    while times.len() < 15 {
        rto = (rto * 2).min(120_000);
        times.push(times.last().unwrap() + rto);
    }
    times
}

fn at(times: &[u64], segment: &str) -> String {
    let lines: Vec<_> = times.iter().map(|ms| format!("{ms}: {segment}")).collect();
    lines.join(" | ")
}

/// S93: at the deadline the connection ends silently; a later segment is answered as without
/// a connection.
#[test]
fn t98_the_user_timeout_ends_silently() {
    both(|v6| {
        for before in [true, false] {
            let mut p = Peer::established(v6, Kind::Plain);
            let set = |p: &mut Peer| p.tcp().set_user_timeout(Some(Duration::from_millis(1500)));
            if before {
                set(&mut p);
            }
            assert_eq!(p.send(10), "10");
            assert_eq!(p.out(), "P. seq=1 ack=1 len=10");
            if !before {
                set(&mut p);
            }
            assert_eq!(p.run(1499), at(&[200, 600, 1400], "P. seq=1 ack=1 len=10"));
            assert_eq!(p.state(), TcpState::Established);
            p.pass(1);
            assert_eq!(
                p.ends(),
                "timed out (user timeout) by the local stack in ESTABLISHED (S93), lost 0+10+0"
            );
            p.assert_gone();
            assert_eq!(p.on(". ack=11"), "answered S10 | R seq=11");
            assert_eq!((p.send(1), p.send(1)), ("TimedOut".into(), "BrokenPipe".into()));
        }
    });
}

/// Progress restarts the timer; with nothing in flight there is no limit.
#[test]
fn t98_the_user_timeout_counts_from_the_last_progress() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_user_timeout(Some(Duration::from_millis(1500)));
        p.pass(10_000);
        p.send(20);
        p.out();
        p.run(1400);
        assert_eq!(p.on(". ack=11"), "accepted");
        p.run(1499);
        assert_eq!((p.state(), p.ends()), (TcpState::Established, "".into()));
        p.run(1);
        assert!(p.ends().starts_with("timed out (user timeout)"));

        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_user_timeout(Some(Duration::from_millis(1500)));
        p.send(20);
        p.out();
        p.run(1400);
        assert_eq!(p.on(". ack=21"), "accepted");
        p.pass(100_000);
        assert_eq!(p.state(), TcpState::Established);
    });
}

/// S92: `tcp_retries2` as a budget: 15 retransmissions, 924.6 s. By a setting a reset is sent.
#[test]
fn t99_the_retransmission_limit() {
    both(|v6| {
        for reset in [false, true] {
            let set = |config: &mut crate::Config| config.tcp.reset_on_give_up = reset;
            let mut p = Peer::with(v6, set).listen(1).establish(Kind::Plain);
            p.send(10);
            assert_eq!(p.out(), "P. seq=1 ack=1 len=10");
            let again = "P. seq=1 ack=1 len=10";
            assert_eq!(p.run(924_599), at(&schedule(), again));
            assert_eq!(p.ends(), "");
            assert_eq!(p.run(1), if reset { "1: R. seq=11 ack=1" } else { "" });
            let end = "timed out (no acknowledgment) by the local stack in ESTABLISHED (S92), lost 0+10+0";
            assert_eq!(p.ends(), end);
            p.assert_gone();
        }
        // 3: four retransmissions' time, 3 s.
        let mut p = Peer::with(v6, |config| config.tcp.retries = 3).listen(1).establish(Kind::Plain);
        p.send(10);
        p.out();
        assert_eq!(p.run(2999), at(&[200, 600, 1400], "P. seq=1 ack=1 len=10"));
        p.pass(1);
        assert_eq!(p.state(), TcpState::Closed);
    });
}

/// A connection whose peer has closed its window, with data that waits for it.
fn shut(v6: bool) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    assert_eq!(p.on(". win=0"), "accepted");
    assert_eq!((p.send(100), p.out()), ("100".into(), "".into()));
    p
}

/// RFC 9293 section 3.8.6.1, MUST-36: while its probes are answered the connection stays.
#[test]
fn t99_probes_of_a_shut_window_may_go_on_for_ever() {
    both(|v6| {
        let mut p = shut(v6);
        let mut probes = 0;
        for _ in 0..3000 {
            let out = p.run(1000);
            if !out.is_empty() {
                assert!(out.split(" | ").all(|probe| probe.ends_with(": . seq=0 ack=1")), "{out}");
                probes += out.split(" | ").count();
                assert_eq!(p.on(". win=0"), "accepted");
            }
        }
        assert_eq!((p.state(), p.ends()), (TcpState::Established, "".into()));
        // 0.2, 0.4, .. 102.4 s, then every 120 s.
        assert_eq!(probes, 10 + (3000 - 204) / 120);
        // It opens: what waits goes at once, and its own time limit is not that of the probes.
        assert_eq!(p.on("."), "accepted | P. seq=1 ack=1 len=100");
        assert_eq!(p.run(700), at(&[200, 600], "P. seq=1 ack=1 len=100"));
        p.ack = 101;
        assert_eq!(p.on("."), "accepted");
        p.pass(100_000);
    });
}

/// H9: unanswered probes are limited as retransmissions are.
#[test]
fn t99_unanswered_probes_end_the_connection() {
    both(|v6| {
        let mut p = shut(v6);
        p.run(924_000);
        assert_eq!(p.state(), TcpState::Established);
        p.run(120_600);
        assert_eq!(
            p.ends(),
            "timed out (no acknowledgment) by the local stack in ESTABLISHED (S92), lost 100+0+0"
        );
        p.assert_gone();
    });
}

/// S98, D26: the user timeout counts answered probes too.
#[test]
fn t99_the_user_timeout_ends_a_shut_window() {
    both(|v6| {
        let mut p = shut(v6);
        p.tcp().set_user_timeout(Some(Duration::from_millis(1500)));
        for _ in 0..14 {
            p.run(100);
            p.on(". win=0");
        }
        assert_eq!(p.state(), TcpState::Established);
        p.run(100);
        assert_eq!(
            p.ends(),
            "timed out (user timeout) by the local stack in ESTABLISHED (S93), lost 100+0+0"
        );
        assert_eq!(p.on(". win=0"), "answered S10 | R seq=1");
    });
}

/// A window that closed over data in flight: the peer answers each retransmission, so it is alive.
#[test]
fn t99_a_window_closed_over_data_in_flight_does_not_end_the_connection() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(100);
        p.out();
        assert_eq!(p.on(". win=0"), "accepted");
        for _ in 0..3000 {
            if !p.run(1000).is_empty() {
                p.on(". win=0");
            }
        }
        assert_eq!((p.state(), p.ends()), (TcpState::Established, "".into()));
        p.ack = 101;
        assert_eq!(p.on("."), "accepted");
        p.pass(100_000);
        // Unless there is no answer any more.
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(100);
        p.out();
        p.on(". win=0");
        p.run(1_100_000);
        assert!(p.ends().contains("(S92)"));
    });
}

/// Keep-alive and a user timeout together: the first probe, then the limit (RFC 5482 section 4.2 as
/// Linux reads it).
#[test]
fn s91_the_user_timeout_limits_keep_alive() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let idle = Duration::from_secs(10);
        let keepalive = crate::Keepalive { idle, interval: Duration::from_secs(2), count: 9 };
        p.tcp().set_keepalive(Some(keepalive));
        p.tcp().set_user_timeout(Some(Duration::from_secs(13)));
        let out = p.run(14_000);
        assert_eq!(out, "10000: . seq=0 ack=1 | 12000: . seq=0 ack=1 | 14000: R. seq=1 ack=1");
        assert_eq!(p.ends(), "timed out (keep-alive) by the local stack in ESTABLISHED (S91)");
    });
}

/// On a path without timestamps that loses every other segment, the timeout stays backed off (RFC 6298 section 5.7), and
/// may exceed the limit of an orphan: its data is retransmitted all the same before it is given up.
#[test]
fn s95_the_first_timeout_after_progress_ends_nothing() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(10_000);
        p.out();
        while p.tcp().info().backoffs < 9 {
            p.run(1000);
        }
        // An acknowledgment of what was retransmitted gives no round-trip time.
        p.on(". ack=1461");
        p.tcp().close();
        p.out();
        p.ends();
        let sent = p.sent.len();
        p.run(110_000);
        assert_eq!(p.ends(), "");
        assert!(p.sent.len() > sent, "the data is retransmitted");
        p.run(125_000);
        assert!(p.ends().starts_with("timed out"), "{}", p.ends());
    });
}
