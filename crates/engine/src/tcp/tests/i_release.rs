//! I: the orderly release, in every order of its segments.

use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Cause, EndedBy, TcpState};
use TcpState::{CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, TimeWait};
use alloc::format;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

/// E1, E5, E8: we close first.
#[test]
fn t130_we_close_first() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::connected(v6, kind);
            p.tcp().shutdown().unwrap();
            assert_eq!((p.out().as_str(), p.state()), ("F. seq=1 ack=1", FinWait1));
            p.ack = 2;
            assert_eq!((p.on(".").as_str(), p.state()), ("accepted", FinWait2));
            p.new_events();
            assert_eq!((p.on("F.").as_str(), p.state()), ("accepted | . seq=2 ack=2", TimeWait));
            assert_eq!((p.new_events().as_str(), p.receive().as_str()), ("Readable", "0"));
            assert_eq!(p.ends(), "orderly by the local application in FIN-WAIT-2 (E0)");
            p.tcp().close();
            p.pass(60_000);
            p.assert_gone();
        }
    });
}

/// E12: the peer's FIN again, with the ACK of ours that was lost before: nothing newer than the FIN will come.
#[test]
fn e12_a_retransmitted_fin_acknowledges_ours() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on("F.");
        p.tcp().shutdown().unwrap();
        assert_eq!((p.out().as_str(), p.state()), ("F. seq=1 ack=2", TcpState::LastAck));
        assert_eq!(p.on("F. seq=1 ack=2"), "accepted");
        assert_eq!(p.state(), TcpState::Closed);
    });
}

/// The same with data: its ACK field counts unless it ends before what we have acknowledged last.
#[test]
fn e12_retransmitted_data_acknowledges_ours() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on_all(&["P. len=10", "P. at=10 len=10"]);
        p.run(50);
        p.send(100);
        p.out();
        assert!(p.on("P. seq=1 len=10 ack=51").starts_with("answered S51"));
        assert_eq!(p.tcp().info().unacked, 100);
        assert!(p.on("P. seq=11 len=10 ack=51").starts_with("answered S51"));
        assert_eq!(p.tcp().info().unacked, 50);
        assert!(p.on("P. seq=11 len=10 ack=1000").contains("S52"));
        assert_eq!(p.tcp().info().unacked, 50);
    });
}

/// E4, E10, E12: the peer closes first. LAST-ACK leads to CLOSED without TIME-WAIT; S85.
#[test]
fn t130_the_peer_closes_first() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::established(v6, kind);
            assert_eq!((p.on("F.").as_str(), p.state()), ("accepted | . seq=1 ack=2", CloseWait));
            p.seq = 2;
            assert_eq!((p.receive(), p.receive(), p.send(3)), ("0".into(), "0".into(), "3".into()));
            assert_eq!(p.out(), "P. seq=1 ack=2 len=3");
            p.ack = 4;
            assert_eq!(p.on("."), "accepted");
            p.tcp().close();
            assert_eq!((p.out().as_str(), p.state()), ("F. seq=4 ack=2", LastAck));
            p.ack = 5;
            assert_eq!((p.on(".").as_str(), p.state()), ("accepted", Closed));
            assert_eq!(p.ends(), "orderly by the peer in LAST-ACK (E0)");
            p.assert_gone();
            assert_eq!(p.on("."), "answered S10 | R seq=5");
        }
    });
}

/// E7, E13: FIN and ACK of ours together; FIN is on the last data segment.
#[test]
fn t130_fin_with_ack_and_fin_with_data() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.send(100), "100");
        p.tcp().close();
        assert_eq!(p.out(), "FP. seq=1 ack=1 len=100");
        p.ack = 102;
        assert_eq!((p.on("F.").as_str(), p.state()), ("accepted | . seq=102 ack=2", TimeWait));
        assert_eq!(p.ended[0].bytes.sent, 100);
        assert_eq!(p.ends(), "orderly by the local application in FIN-WAIT-2 (E0)");
    });
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// E9: a megabyte after our FIN.
#[test]
fn t131_half_close() {
    for v6 in [false, true] {
        let mut pair = Pair::new(v6);
        let (a, b) = pair.connect();
        pair.b.tcp(b).shutdown().unwrap();
        pair.run_until_idle();
        let sent = data(1 << 20);
        assert_eq!(pair.transfer(a, b, &sent), sent);
        assert_eq!((pair.a.tcp(a).state(), pair.b.tcp(b).state()), (CloseWait, FinWait2));
        pair.a.tcp(a).close();
        pair.run(Duration::from_millis(1));
        assert_eq!(pair.b.tcp(b).state(), TimeWait);
        assert_eq!(pair.a.ended[0].end.by, EndedBy::Peer);
        assert_eq!(pair.b.ended[0].end.by, EndedBy::Application);
    }
}

/// E6, E11.
#[test]
fn t132_simultaneous_close() {
    for v6 in [false, true] {
        let mut pair = Pair::new(v6);
        let (a, b) = pair.connect();
        pair.a.tcp(a).shutdown().unwrap();
        pair.b.tcp(b).shutdown().unwrap();
        pair.run_until_idle();
        assert_eq!((pair.a.tcp(a).state(), pair.b.tcp(b).state()), (TimeWait, TimeWait));
        for host in [&pair.a, &pair.b] {
            assert_eq!((host.ended.len(), host.ended[0].end.cause), (1, Cause::Orderly));
            assert_eq!(host.ended[0].end.state, Closing);
        }
    }
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait1, true);
        assert_eq!((p.on("F.").as_str(), p.state()), ("accepted | . seq=2 ack=2", Closing));
        p.seq = 2;
        p.ack = 2;
        assert_eq!((p.on(".").as_str(), p.state()), ("accepted", TimeWait));
    });
}

#[test]
fn t133_a_lost_fin_is_retransmitted() {
    both(|v6| {
        for (state, segment) in [(FinWait1, "F. seq=1 ack=1"), (LastAck, "F. seq=1 ack=2")] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            assert_eq!(p.run(700), format!("200: {segment} | 600: {segment}"));
            p.ack = 2;
            assert_eq!(p.on("."), "accepted");
            p.run(100_000);
            assert_eq!(p.state(), if state == FinWait1 { FinWait2 } else { Closed });
        }
        // Text and FIN were sent apart, and go again apart.
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_nodelay(true);
        p.send(10);
        p.out();
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "F. seq=11 ack=1");
        assert_eq!(p.run(250), "200: P. seq=1 ack=1 len=10");
        p.ack = 11;
        assert_eq!(p.on("."), "accepted | F. seq=11 ack=1");
    });
}

/// E14: our ACK of the peer's FIN was lost.
#[test]
fn t134_a_retransmitted_fin_is_acknowledged_again() {
    both(|v6| {
        for state in [CloseWait, Closing, LastAck, TimeWait] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            p.run(150);
            let seq = if state == CloseWait { 1 } else { 2 };
            let rule = if state == TimeWait { "Q1" } else { "S51" };
            for segment in ["F. at=-1", "FP. at=-4 len=3"] {
                assert_eq!(p.on(segment), format!("answered {rule} | . seq={seq} ack=2"), "{state}");
                p.run(500);
            }
            assert_eq!((p.state(), p.receive().as_str()), (state, "0"));
        }
    });
}

/// E15.
#[test]
fn t135_a_fin_out_of_order_is_kept() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("F. at=10"), "accepted | . seq=1 ack=1");
        assert_eq!(p.on("F. at=10"), "accepted | . seq=1 ack=1");
        assert_eq!(p.state(), Established);
        assert_eq!(p.on("P. len=10"), "accepted | . seq=1 ack=12");
        assert_eq!((p.state(), p.receive(), p.receive()), (CloseWait, "10".into(), "0".into()));

        // With data, and SACK: one answer for one segment, and the FIN is not data that could be
        // acknowledged selectively.
        let mut p = Peer::established(v6, Kind::Full);
        assert_eq!(p.on("FP. at=10 len=5"), "accepted | . seq=1 ack=1 sack=11-16");
        assert_eq!(p.on("P. len=4"), "accepted | . seq=1 ack=5 sack=11-16");
        assert_eq!(p.on("P. at=4 len=6"), "accepted | . seq=1 ack=17");
        assert_eq!((p.state(), p.receive(), p.receive()), (CloseWait, "15".into(), "0".into()));
        assert_eq!(p.on("F. at=15"), "answered S51 | . seq=1 ack=17");

        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
        p.on("F. at=3");
        assert_eq!(p.on("P. len=3"), "accepted | . seq=2 ack=5");
        assert_eq!(p.state(), TimeWait);
    });
}

/// Out-of-order FINs that contradict each other, or the data: the first that is reached ends the stream. What lay
/// beyond it was never part of the stream; in-order data replaces one before its end, which a third party
/// may have sent.
#[test]
fn t135_of_several_fins_out_of_order_the_first_reached_counts() {
    both(|v6| {
        for (segments, data) in [
            (&["F. at=10", "P. at=12 len=20", "P. len=10"][..], "10"),
            (&["P. at=12 len=20", "F. at=10", "P. len=10"], "10"),
            (&["F. at=50", "F. at=10", "P. len=10"], "10"),
            (&["F. at=10", "F. at=50", "P. len=10"], "10"),
            (&["F. at=50", "PF. len=10"], "10"),
            (&["F. at=4", "PF. len=10"], "10"),
            (&["F. at=4", "P. len=10", "F. at=10"], "10"),
        ] {
            let mut p = Peer::established(v6, Kind::Full);
            p.on_all(segments);
            assert_eq!(p.last().header().ack, crate::tcp::tests::peer::IRS.wrapping_add(12), "{segments:?}");
            assert_eq!((p.state(), p.receive().as_str(), p.receive().as_str()), (CloseWait, data, "0"));
            assert_eq!(p.on("P. at=12 len=20"), "dropped S84");
            p.tcp().close();
            assert_eq!(p.out(), "F. seq=1 ack=12");
            assert_eq!(p.on("R at=12"), "answered R2 | . seq=2 ack=12");
            assert_eq!(p.on("R at=11"), "ended R16");
            assert_eq!(p.ends(), "reset by the peer in LAST-ACK (R16), R");
        }
        // Data continues where a FIN should have been.
        let mut p = Peer::established(v6, Kind::Full);
        p.on("F. at=10");
        p.on("P. len=30");
        assert_eq!((p.state(), p.receive(), p.receive()), (Established, "30".into(), "pending".into()));
    });
}

/// E16. A FIN at a zero window is accepted at RCV.NXT, where data is not: it needs no room (as
/// Linux 7.3); one beyond the edge is not.
#[test]
fn t136_a_fin_and_the_window() {
    both(|v6| {
        let full = |segments: &[&str]| {
            let mut p = Peer::with(v6, |config| config.tcp.receive_buffer = 4000).listen(1);
            p = p.establish(Kind::Plain);
            p.on_all(segments);
            p.run(100);
            p
        };
        let mut p = full(&["P. len=1400", "P. at=1400 len=1400", "P. at=2800 len=1200"]);
        assert_eq!(p.last().header().window, 0);
        assert_eq!(p.on("F. at=4001"), "answered S51 | . seq=1 ack=4001");
        assert_eq!(p.on("F. at=4000"), "accepted");
        assert_eq!(p.run(50), "40: . seq=1 ack=4002");
        assert_eq!((p.state(), p.receive(), p.receive()), (CloseWait, "4000".into(), "0".into()));
        // Text and FIN, of which the FIN alone does not fit.
        let mut p = full(&["P. len=1400", "P. at=1400 len=1400"]);
        assert_eq!(p.on("FP. at=2800 len=1200"), "accepted | . seq=1 ack=4002");
        assert_eq!(p.state(), CloseWait);
        // Part of the data does not fit either: the FIN waits for it.
        let mut p = full(&["P. len=1400", "P. at=1400 len=1400"]);
        let out = p.on("FP. at=2800 len=1400");
        assert!(out.ends_with(". seq=1 ack=4001"), "{out}");
        assert_eq!((p.state(), p.receive().as_str()), (Established, "4000"));
        assert_eq!(p.out(), ". seq=1 ack=4001");
        assert_eq!(p.on("FP. at=4000 len=200"), "accepted | . seq=1 ack=4202");
        assert_eq!((p.state(), p.receive()), (CloseWait, "200".into()));
    });
}

/// E17, Q14.
#[test]
fn t137_a_fin_without_ack() {
    both(|v6| {
        for (state, expected) in [
            (Established, "dropped S54"),
            (FinWait2, "dropped S54"),
            (TimeWait, "answered Q1 | . seq=2 ack=2"),
        ] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            assert_eq!(p.on("F"), expected);
            assert_eq!(p.state(), state);
        }
    });
}

#[test]
fn t138_calls_after_the_ends_of_the_streams() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("FP. len=4");
        assert_eq!((p.receive(), p.receive(), p.receive()), ("4".into(), "0".into(), "0".into()));
        assert_eq!(p.tcp().poll_readable(), Poll::Ready(Ok(0)));
        p.tcp().shutdown().unwrap();
        p.out();
        assert_eq!((p.send(1), p.tcp().poll_writable().is_ready()), ("BrokenPipe".into(), true));
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "");
        p.ack = 2;
        assert_eq!(p.on(". at=5"), "accepted");
        assert_eq!(p.tcp().shutdown(), Err(crate::TcpError::NotConnected));
        assert_eq!(p.tcp().poll_drained(), Poll::Ready(Ok(())));
        assert_eq!((p.receive(), p.send(1), p.error()), ("0".into(), "BrokenPipe".into(), "none".into()));
    });
}

/// S84.
#[test]
fn t139_data_beyond_the_fin_is_ignored() {
    both(|v6| {
        for state in [CloseWait, Closing, LastAck] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            assert_eq!(p.on("P. len=5"), "dropped S84", "{state}");
            assert_eq!(p.on("P. at=90 len=5"), "dropped S84", "{state}");
            assert_eq!((p.state(), p.receive().as_str(), p.ends().as_str()), (state, "0", ""));
        }
        // Its ACK counts all the same.
        let mut p = Peer::in_state(v6, Kind::Plain, LastAck, true);
        p.ack = 2;
        assert_eq!(p.on("P. len=5"), "accepted");
        assert_eq!(p.state(), Closed);
    });
}

/// `poll_drained` says when everything has arrived, FIN included.
#[test]
fn drained_data_has_arrived() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.tcp().poll_drained(), Poll::Ready(Ok(())));
        p.send(10);
        assert_eq!(p.tcp().poll_drained(), Poll::Pending);
        p.out();
        p.new_events();
        p.on(". ack=6");
        assert_eq!(p.tcp().poll_drained(), Poll::Pending);
        p.on(". ack=11");
        assert_eq!((p.new_events().is_empty(), p.tcp().poll_drained()), (false, Poll::Ready(Ok(()))));
        p.tcp().shutdown().unwrap();
        assert_eq!(p.tcp().poll_drained(), Poll::Pending);
        p.out();
        p.new_events();
        p.on(". ack=12");
        assert_eq!((p.new_events().as_str(), p.tcp().poll_drained()), ("Writable", Poll::Ready(Ok(()))));
    });
}
