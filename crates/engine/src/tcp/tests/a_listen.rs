//! A, continued: LISTEN and SYN-SENT.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both};

/// Whether a peer can still connect.
fn still_listens(p: &mut Peer) {
    assert_eq!(p.on("S seq=0 port=7000"), "accepted | 7000: S. seq=0 ack=1");
    assert_eq!(p.on(". seq=1 ack=1 port=7000"), "accepted");
    assert_eq!(p.new_events(), "Incoming");
}

#[test]
fn t16_an_ack_to_a_listener_is_reset_and_the_listener_goes_on() {
    both(|v6| {
        for segment in [
            ". seq=9 ack=7000",
            "P. seq=9 ack=7000 len=5",
            "F. seq=9 ack=7000",
            "S. seq=9 ack=7000",
            "SF. seq=9 ack=7000",
        ] {
            let mut p = Peer::listening(v6);
            assert_eq!(p.on(segment), "answered S10 | R seq=7000", "{segment}");
            still_listens(&mut p);
        }
    });
}

#[test]
fn t17_t18_a_listener_drops_segments_without_syn_and_ack() {
    both(|v6| {
        for (segment, expected) in [
            ("F seq=9", "dropped S13"),
            ("- seq=9", "dropped S13"),
            ("P seq=9 len=5", "dropped S13"),
            ("FPU seq=9", "dropped S13"),
            // The choice of Linux; RFC 9293 would take the SYN.
            ("SF seq=9", "dropped S14"),
        ] {
            let mut p = Peer::listening(v6);
            assert_eq!(p.on(segment), expected, "{segment}");
            still_listens(&mut p);
        }
    });
}

/// S15: there is no TCP Fast Open.
#[test]
fn t21_data_on_a_syn_is_not_acknowledged_and_accepted_when_retransmitted() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=0 len=7 mss=1460"), "accepted | S. seq=0 ack=1");
        assert_eq!(p.on("P. seq=1 ack=1 len=7"), "accepted");
        p.accept();
        assert_eq!(p.run(40), "40: . seq=1 ack=8");
        assert_eq!(p.receive(), "7");
    });
}

#[test]
fn t22_an_unacceptable_ack_in_syn_sent_is_reset_and_the_attempt_goes_on() {
    both(|v6| {
        for (segment, expected) in [
            (". seq=500 ack=0", "answered S20 | R seq=0"),
            (". seq=500 ack=6", "answered S20 | R seq=6"),
            ("P. seq=500 ack=6 len=3", "answered S20 | R seq=6"),
            ("F. seq=500 ack=-9", "answered S20 | R seq=-9"),
            ("S. seq=0 ack=10 mss=1460", "answered S20 | R seq=10"),
            ("S. seq=0 ack=0 mss=1460", "answered S20 | R seq=0"),
        ] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on(segment), expected, "{segment}");
            assert_eq!((p.state(), p.new_events().as_str()), (TcpState::SynSent, ""));
            p.complete(Kind::Plain);
        }
    });
}

#[test]
fn t23_t24_segments_without_meaning_in_syn_sent_are_dropped() {
    both(|v6| {
        for (segment, expected) in [
            (". seq=500 ack=1", "dropped S23"),
            ("P. seq=500 ack=1 len=3", "dropped S23"),
            ("F. seq=500 ack=1", "dropped S23"),
            ("R seq=0", "dropped R11a"),
            ("R seq=500", "dropped R11a"),
            ("SR seq=500", "dropped R11a"),
            ("F seq=500", "dropped S24"),
            ("- seq=500", "dropped S24"),
            ("P seq=500 len=3", "dropped S24"),
        ] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on(segment), expected, "{segment}");
            assert_eq!(p.state(), TcpState::SynSent);
            assert_eq!(p.run(1000), "1000: S seq=0");
            p.complete(Kind::Plain);
        }
    });
}

/// S26: data or FIN on a SYN|ACK is not accepted with it, as on Linux: the peer sends it
/// again.
#[test]
fn s26_data_and_fin_on_a_syn_ack_wait() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on("SF. seq=0 ack=1 len=5 mss=1460"), "accepted | . seq=1 ack=1");
        assert_eq!((p.state(), p.new_events().as_str()), (TcpState::Established, "Connected"));
        assert_eq!(p.on("FP. seq=1 ack=1 len=5"), "accepted | . seq=1 ack=7");
        assert_eq!((p.receive(), p.receive()), ("5".into(), "0".into()));
    });
}

/// S22 is Linux's alone (RFC 7323 does not ask for it): a TSecr that we did not send is not tested
/// in SYN-SENT, neither on a SYN|ACK nor on a reset. The ACK number alone decides.
#[test]
fn t25_a_foreign_tsecr_in_syn_sent_is_not_tested() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        p.timestamps = true;
        let expected = "accepted | . seq=1 ack=1";
        assert_eq!(p.on("S. seq=0 ack=1 mss=1460 sackok ecr=12345"), expected);
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on("R. seq=0 ack=1 tsok ecr=12345"), "ended R11");
    });
}

/// D34: what looks like the challenge ACK of an old incarnation causes one early SYN retransmission; a SYN|ACK
/// or a reset is worth none.
#[test]
fn t26_the_syn_is_hurried_once_and_not_by_a_reset() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on(". seq=500 ack=6"), "answered S20 | R seq=6");
        assert_eq!(p.run(900), "10: S seq=0");
        assert_eq!(p.on(". seq=500 ack=6"), "answered S20 | R seq=6");
        assert_eq!(p.run(200), "110: S seq=0", "no second early retransmission");

        for segment in ["R. seq=500 ack=6", "R. seq=500 ack=0"] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on(segment), "dropped S21", "{segment}");
            assert_eq!(p.run(1000), "1000: S seq=0");
        }
    });
}

/// S27 by every call that ends an attempt: nothing is sent, the end is reported once.
#[test]
fn s27_an_attempt_times_out_without_a_reset() {
    both(|v6| {
        for how in ["close", "abort", "shutdown", "linger"] {
            let mut p = Peer::syn_sent(v6);
            match how {
                "close" => p.tcp().close(),
                "abort" => p.tcp().abort(),
                "shutdown" => p.tcp().shutdown().unwrap(),
                _ => {
                    p.tcp().set_linger(Some(core::time::Duration::ZERO));
                    p.tcp().close();
                }
            }
            assert_eq!(p.out(), "", "{how}");
            assert_eq!(p.ends(), "aborted by the local application in SYN-SENT (S27)", "{how}");
            p.assert_gone();
            assert_eq!(p.on("S. seq=0 ack=1"), "answered S4 | R seq=1");
        }
    });
}

/// S4: the answer that crosses the end of the attempt finds no connection, also before anything is polled, and
/// before the SYN of a later attempt with the same ports has left.
#[test]
fn s4_a_syn_ack_for_an_attempt_given_up_a_moment_ago_is_reset() {
    both(|v6| {
        for how in ["close", "abort", "shutdown", "kill"] {
            for again in [false, true] {
                let mut p = Peer::syn_sent(v6);
                match how {
                    "close" => p.tcp().close(),
                    "abort" => p.tcp().abort(),
                    "shutdown" => p.tcp().shutdown().unwrap(),
                    _ => assert!(p.stack.tcp_kill(&p.flow())),
                }
                if again {
                    let packet = p.packet("S. seq=0 ack=1");
                    p.open();
                    let verdict = p.stack.handle_packet(p.now, &packet, crate::Received::default());
                    assert_eq!(verdict, crate::Verdict::Answered(crate::Rule::RstNoConnection), "{how}");
                    assert_eq!(p.out().split(" | ").count(), 2, "{how}: the reset, and the new SYN");
                } else {
                    assert_eq!(p.on("S. seq=0 ack=1"), "answered S4 | R seq=1", "{how}");
                }
            }
        }
    });
}

/// The record of an attempt that ends before its SYN left names the time of the call.
#[test]
fn s27_before_the_syn_was_sent() {
    both(|v6| {
        let mut p = Peer::new(v6);
        p.run(500);
        p.open();
        p.tcp().close();
        assert_eq!(p.out(), "");
        let ended = p.ended.pop().unwrap();
        assert_eq!(ended.opened, ended.end.at);
        p.assert_gone();
    });
}
