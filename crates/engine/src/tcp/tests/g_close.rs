//! G: close and abort.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both};
use TcpState::{CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynSent, TimeWait};
use alloc::format;
use alloc::string::String;
use core::time::Duration;

fn linger(p: &mut Peer, time: u64) {
    p.tcp().set_linger(Some(Duration::from_secs(time)));
}

/// T109a, S69: a program that ends closes what it has
#[test]
fn t104_a_close_with_unread_data_resets() {
    both(|v6| {
        for (state, segment, expected) in [
            (Established, "P. len=5", "R. seq=1 ack=6"),
            (FinWait1, "P. len=5", "R. seq=2 ack=6"),
            (FinWait2, "P. len=5", "R. seq=2 ack=6"),
            (Established, "FP. len=5", "R. seq=1 ack=7"), // CLOSE-WAIT
        ] {
            for lingers in [false, true] {
                let mut p = Peer::in_state(v6, Kind::Plain, state, true);
                p.on(segment);
                let state = p.state();
                if lingers {
                    linger(&mut p, 0); // S65: the unread data comes first
                }
                p.tcp().close();
                assert_eq!(p.out(), expected, "{state}");
                assert_eq!(
                    p.ends(),
                    format!("aborted by the local application in {state} (S60), lost 0+0+5")
                );
                p.assert_gone();
                assert_eq!(p.on(". at=5"), format!("answered S10 | R seq={}", p.ack));
            }
        }
        // Part of it was read.
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. len=5");
        p.tcp().consume(2);
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=1 ack=6");
        assert!(p.ends().ends_with("lost 0+0+3"));
    });
}

/// S61 to S63: without unread data a close is no reset. Urgent bytes are ordinary data,
/// so one that was read was read.
#[test]
fn t105_a_close_with_all_data_read_is_orderly() {
    both(|v6| {
        for (segments, read, expected) in [
            (&["P. at=100 len=50"][..], false, "F. seq=1 ack=1"),
            (&["F."], false, "F. seq=1 ack=2"),
            (&["FP. len=5"], true, "F. seq=1 ack=7"),
            (&["P. len=5", "P. len=5", "FP. len=5"], true, "F. seq=1 ack=7"),
            (&["PU. len=5"], true, "F. seq=1 ack=6"),
        ] {
            let mut p = Peer::established(v6, Kind::Plain);
            p.on_all(segments);
            if read {
                assert_eq!(p.receive(), "5");
            }
            p.tcp().close();
            assert_eq!(p.out(), expected, "{segments:?}");
            assert!(matches!(p.state(), FinWait1 | LastAck));
        }
        // Data beyond a gap is lost, and recorded as such.
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. at=100 len=50");
        p.tcp().close();
        p.out();
        assert_eq!(p.on("R"), "ended R1");
        assert_eq!(p.ends(), "reset by the peer in FIN-WAIT-1 (R1), R, lost 0+0+50");
    });
}

/// T109, S68: to disconnect is to abort
#[test]
fn t106_a_close_with_linger_zero_aborts() {
    both(|v6| {
        for (state, expected, rule) in [
            (Established, "R. seq=1 ack=1", "S64"),
            (CloseWait, "R. seq=1 ack=2", "S64"),
            (FinWait1, "R. seq=2 ack=1", "S64"),
            (FinWait2, "R. seq=2 ack=1", "S64"),
            (Closing, "", "S66"),
            (LastAck, "", "S66"),
        ] {
            for abort in [false, true] {
                let mut p = Peer::in_state(v6, Kind::Plain, state, true);
                p.new_events();
                if abort {
                    p.tcp().abort();
                } else {
                    linger(&mut p, 0);
                    p.tcp().close();
                }
                assert_eq!(p.out(), expected, "{state}");
                assert_eq!(p.ends(), format!("aborted by the local application in {state} ({rule})"));
                p.assert_gone();
                assert_eq!(p.new_events().is_empty(), !abort);
                assert_eq!(p.stack.tcp(p.id).is_some(), abort);
            }
        }
        let mut p = Peer::in_state(v6, Kind::Plain, TimeWait, true);
        p.ends();
        linger(&mut p, 0);
        p.tcp().abort();
        p.tcp().close();
        assert_eq!((p.out(), p.state(), p.ends()), ("".into(), TimeWait, "".into()));
        let mut p = Peer::syn_sent(v6);
        linger(&mut p, 0);
        p.tcp().close();
        assert_eq!((p.out(), p.state()), ("".into(), Closed));
    });
}

/// S66: unless the peer still waits for what it will never get.
#[test]
fn t106_after_both_fins_with_data_or_fin_unsent() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("F. win=0"), "accepted | . seq=1 ack=2");
        p.seq = 2;
        assert_eq!(p.send(10), "10");
        p.tcp().shutdown().unwrap();
        assert_eq!((p.out(), p.state()), ("".into(), LastAck));
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=2");
        assert_eq!(p.ends(), "aborted by the local application in LAST-ACK (S64), lost 10+0+0");
    });
}

#[test]
fn t107_the_number_of_a_reset_of_ours() {
    both(|v6| {
        // 500 unsent, behind a shut window.
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=0");
        assert_eq!(p.send(500), "500");
        p.out();
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=1");
        assert!(p.ends().ends_with("lost 500+0+0"));
        // 500 in flight; and again after a timeout.
        for waits in [0, 300] {
            let mut p = Peer::established(v6, Kind::Plain);
            assert_eq!(p.send(500), "500");
            p.out();
            p.run(waits);
            p.tcp().abort();
            assert_eq!(p.out(), "R. seq=501 ack=1");
            assert!(p.ends().ends_with("lost 0+500+0"));
        }
        // 3000 in flight, and the window shrank below that: the right edge.
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.send(3000), "3000");
        p.out();
        p.tcp().set_nodelay(true);
        p.out();
        assert_eq!(p.on(". ack=1001 win=1000"), "accepted");
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=2001 ack=1");
        // With scaled windows less than 2^7 is rounding, not shrinking.
        for (window, expected) in [(15, "R. seq=3001 ack=1"), (14, "R. seq=2793 ack=1")] {
            let mut p = Peer::established(v6, Kind::Full);
            p.tcp().set_nodelay(true);
            assert_eq!(p.send(3000), "3000");
            p.out();
            assert_eq!(p.on(&format!(". ack=1001 win={window}")), "accepted");
            p.tcp().abort();
            assert_eq!(p.out(), expected);
        }
    });
}

/// S67: a timed linger is the caller's to wait for: [`poll_drained`](crate::Tcp::poll_drained) says
/// when it has ended. Nothing is reset when the time runs out.
#[test]
fn t108_a_timed_linger_resets_nothing() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        linger(&mut p, 1);
        p.send(10);
        p.out();
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "F. seq=11 ack=1");
        assert!(p.tcp().poll_drained().is_pending());
        p.tcp().close();
        let out = p.run(5000);
        assert!(out.contains("P. seq=1") && !out.contains('R'), "{out}");
        assert_eq!(p.state(), FinWait1);
        p.ack = 12;
        assert_eq!(p.on("."), "accepted");
        assert_eq!(p.state(), FinWait2);

        let mut p = Peer::established(v6, Kind::Plain);
        p.send(10);
        p.tcp().shutdown().unwrap();
        p.out();
        assert!(p.tcp().poll_drained().is_pending());
        p.new_events();
        p.ack = 12;
        p.on(".");
        assert_eq!(p.new_events(), "Writable");
        assert!(matches!(p.tcp().poll_drained(), core::task::Poll::Ready(Ok(()))));
    });
}

/// S95: nine orphan timeouts' time, 102.2 s, then silence.
#[test]
fn t110_a_fin_that_is_never_acknowledged() {
    both(|v6| {
        for (state, ack) in [(FinWait1, 1), (LastAck, 2)] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, false);
            let times = [200, 600, 1400, 3000, 6200, 12_600, 25_400, 51_000];
            let lines = times.map(|ms| format!("{ms}: F. seq=1 ack={ack}"));
            assert_eq!(p.run(102_199), lines.join(" | "));
            p.pass(1);
            let end = "timed out (no acknowledgment) by the local stack";
            assert_eq!(p.ends(), format!("{end} in {state} (S95)"));
            p.assert_gone();
            p.ack = 2;
            assert_eq!(p.on("."), "answered S10 | R seq=2");
        }
    });
}

/// D26, D27: an orphan whose peer keeps its window shut does not live on answered probes.
#[test]
fn t110_a_shut_window_does_not_keep_an_orphan() {
    both(|v6| {
        for in_flight in [false, true] {
            let mut p = Peer::established(v6, Kind::Plain);
            if !in_flight {
                p.on(". win=0");
            }
            p.send(100);
            p.out();
            p.on(". win=0");
            p.tcp().close();
            for _ in 0..2500 {
                if !p.run(100).is_empty() && p.state() != Closed {
                    p.on(". win=0");
                }
            }
            let lost = if in_flight { "0+100+0" } else { "100+0+0" };
            let end = "timed out (no acknowledgment) by the local stack in FIN-WAIT-1 (S95)";
            assert_eq!(p.ends(), format!("{end}, lost {lost}"));
            p.assert_gone();
        }
    });
}

#[test]
fn t112_an_orphan_waits_one_minute_for_the_fin() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
        p.pass(59_999);
        assert_eq!(p.on("F."), "accepted | . seq=2 ack=2");
        assert_eq!(
            (p.state(), p.ends().as_str()),
            (TimeWait, "orderly by the local application in FIN-WAIT-2 (E0)")
        );

        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
        p.pass(60_000);
        let end = "timed out (no FIN from the peer) by the local stack in FIN-WAIT-2 (S96)";
        assert_eq!(p.ends(), end);
        p.assert_gone();
        assert_eq!(p.on("F."), "answered S10 | R seq=2");

        // Closed only while in FIN-WAIT-2: the minute starts then.
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
        p.pass(500_000);
        p.tcp().close();
        p.pass(59_999);
        assert_eq!(p.state(), FinWait2);
        p.pass(1);
        assert_eq!(p.state(), Closed);
    });
}

#[test]
fn t114_data_after_the_close_is_reset() {
    both(|v6| {
        for (state, segment, expected) in [
            (FinWait1, "P. ack=1 len=3", "ended S80 | R seq=1"),
            (FinWait1, "P. ack=2 len=3", "ended S80 | R seq=2"), // S81
            (FinWait1, "FP. ack=2 len=3", "ended S80 | R seq=2"),
            (FinWait2, "P. len=3", "ended S80 | R seq=2"),
            (FinWait2, "P. at=100 len=3", "ended S80 | R seq=2"),
            (FinWait2, "FP. len=3", "ended S80 | R seq=2"),
        ] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, false);
            assert_eq!(p.on(segment), expected, "{state} {segment}");
            let flags = crate::tcp::tests::peer::flags_of(segment);
            // With the ACK of our FIN the state has moved on.
            let state = if segment.contains("ack=2") { FinWait2 } else { state };
            let end = format!("aborted by the local application in {state} (S80), {flags}, lost 0+0+3");
            assert_eq!(p.ends(), end);
            p.assert_gone();
        }
        // Nothing new: no reset.
        for segment in [". at=-1", "P. at=-3 len=3", ". at=70000"] {
            let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
            assert_eq!(p.on(segment), "answered S51 | . seq=2 ack=1");
            assert_eq!(p.state(), FinWait2);
        }
        // S83 is Linux's for its small sockets; ours is S50 in every state.
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
        assert_eq!(p.on("S at=10"), "answered S50 | . seq=2 ack=1");
    });
}

/// D7: where Linux does not verify the ACK.
#[test]
fn t117_an_orphan_looks_at_the_ack() {
    both(|v6| {
        for segment in ["F. ack=99999", "P. ack=99999 len=3", "FP. ack=3 len=3", "P. ack=-70000 len=3"] {
            let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
            let rule = if segment.contains('-') { "S53" } else { "S52" };
            assert_eq!(p.on(segment), format!("answered {rule} | . seq=2 ack=1"), "{segment}");
            assert_eq!(p.state(), FinWait2);
        }
    });
}

/// E9, D30: who only shut down its own direction reads on for as long as it likes.
#[test]
fn t118_a_half_close_has_no_limit() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Full, FinWait2, true);
        p.pass(3_600_000);
        assert_eq!(p.stack.poll_timeout(), None);
        assert_eq!(p.on("P. len=5"), "accepted");
        assert_eq!(p.run(1000), "40: . seq=2 ack=6");
        assert_eq!(p.receive(), "5");
        p.pass(3_600_000);
        assert_eq!(p.on("F. at=5"), "accepted | . seq=2 ack=7");
        assert_eq!((p.state(), p.receive()), (TimeWait, String::from("0")));
    });
}

/// S72: a second shutdown is none.
#[test]
fn s72_repeated_shutdowns_send_one_fin() {
    both(|v6| {
        for state in [Established, CloseWait] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            p.tcp().shutdown().unwrap();
            assert!(p.out().starts_with("F. seq=1"));
            p.tcp().shutdown().unwrap();
            assert_eq!((p.out(), p.send(1)), ("".into(), "BrokenPipe".into()));
            p.tcp().close();
            assert_eq!(p.out(), "");
        }
        assert_eq!(Peer::syn_sent(v6).state(), SynSent);
    });
}

/// S99, T111: above the bound a close resets, and the bound holds.
#[test]
fn t111_too_many_orphans() {
    both(|v6| {
        let mut pair = crate::tcp::tests::pair::Pair::with(v6, |config| config.tcp.max_orphans = 3);
        let listener = pair.listen(16);
        let to = core::net::SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
        for n in 0..6 {
            pair.a.stack.tcp_connect(None, to).unwrap();
            pair.run_until_idle();
            let b = pair.b.stack.tcp_accept(listener).unwrap();
            pair.b.tcp(b).close();
            pair.run_until_idle();
            let reset = pair
                .b
                .ended
                .iter()
                .filter(|ended| ended.end.rule == crate::Rule::LimitOrphansAtClose)
                .count();
            assert_eq!(reset, (n + 1usize).saturating_sub(3), "the peer closes none of them");
            assert_eq!(pair.b.stack.tcp.orphans, (n + 1).min(3));
        }
        assert_eq!(pair.b.stack.counters().tcp_orphan_overflows, 3);
        pair.run(core::time::Duration::from_secs(61));
        assert_eq!(pair.b.stack.tcp.orphans, 0, "FIN-WAIT-2 has passed");
    });
}
