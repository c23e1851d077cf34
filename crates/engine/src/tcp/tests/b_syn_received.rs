//! B: SYN-RECEIVED, of a listener and by simultaneous open.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both, flags_of};

/// The handshake still completes: to ESTABLISHED, offered to the listener's user.
fn completes(p: &mut Peer) {
    assert_eq!(p.on(". seq=1 ack=1"), "accepted");
    assert_eq!((p.state(), p.new_events().as_str()), (TcpState::Established, "Incoming"));
    assert_eq!(p.ends(), "");
}

#[test]
fn t32_an_unacceptable_ack_is_reset_and_the_handshake_survives() {
    both(|v6| {
        for (segment, expected) in [
            (". ack=2", "answered S30 | R seq=2"),
            (". ack=0", "answered S30 | R seq=0"),
            ("P. ack=-7 len=3", "answered S30 | R seq=-7"),
            // The ACK is looked at before the sequence number.
            (". at=-5000 ack=9", "answered S30 | R seq=9"),
            ("S. at=5 ack=10", "answered S30 | R seq=10"),
        ] {
            let mut p = Peer::syn_received(v6, Kind::Plain);
            assert_eq!(p.on(segment), expected, "{segment}");
            completes(&mut p);
        }
    });
}

/// S40 to S42: what Linux takes for the end of the handshake (ACK = ISS) is as unacceptable as the
/// rest.
#[test]
fn t33_t34_an_unacceptable_ack_after_a_simultaneous_open_is_reset() {
    both(|v6| {
        for (segment, expected) in [
            (". ack=0", "answered S40 | R seq=0"),
            (". ack=2", "answered S40 | R seq=2"),
            (". ack=-3", "answered S40 | R seq=-3"),
            ("P. ack=0 len=5", "answered S40 | R seq=0"),
        ] {
            let mut p = Peer::simultaneous(v6, Kind::Plain);
            assert_eq!(p.on(segment), expected, "{segment}");
            assert_eq!((p.state(), p.new_events().as_str()), (TcpState::SynReceived, ""), "{segment}");
            assert_eq!(p.on("."), "accepted");
            assert_eq!((p.state(), p.new_events().as_str()), (TcpState::Established, "Connected"));
        }
    });
}

/// RFC 9293 figure 7, by the ACK of the last step and by the SYN|ACK of the peer.
#[test]
fn t35_a_simultaneous_open_completes() {
    both(|v6| {
        for kind in Kind::ALL {
            for (segment, expected) in
                [(".", "accepted"), ("S. seq=0", "accepted | . seq=1 ack=1"), ("P. len=3", "accepted")]
            {
                let mut p = Peer::simultaneous(v6, kind);
                let offered = p.last().header().options;
                let full = kind == Kind::Full;
                assert_eq!(offered.window_scale.is_some(), full);
                assert_eq!(offered.sack_permitted, full);
                assert_eq!(offered.timestamps.is_some(), full);
                assert_eq!(p.on(segment), expected, "{segment}");
                assert_eq!(p.state(), TcpState::Established);
                assert!(p.new_events().ends_with("Connected"));
                // D29: a window is scaled only if both scale.
                assert_eq!(p.send(3), "3");
                let len = if segment.starts_with('P') { 3 } else { 0 };
                assert_eq!(p.out(), alloc::format!("P. seq=1 ack={} len=3", 1 + len));
                let window = p.last().header().window;
                match offered.window_scale {
                    Some(shift) => assert!((65_535..=131_072).contains(&(u32::from(window) << shift))),
                    None => assert_eq!(window, 65_535 - len),
                }
            }
        }
    });
}

/// A FIN can come with the last step.
#[test]
fn t35_a_fin_completes_a_simultaneous_open() {
    both(|v6| {
        let mut p = Peer::simultaneous(v6, Kind::Plain);
        assert_eq!(p.on("F."), "accepted | . seq=1 ack=2");
        assert_eq!(p.state(), TcpState::CloseWait);
    });
}

#[test]
fn t36_an_exact_reset_ends_syn_received_silently() {
    both(|v6| {
        for segment in ["R", "R. ack=1", "R. ack=99", "R len=20", "SR", "FR"] {
            let mut p = Peer::syn_received(v6, Kind::Full);
            assert_eq!(p.on(segment), "ended R12", "{segment}");
            let line = alloc::format!("reset by the peer in SYN-RECEIVED (R12), {}", flags_of(segment));
            assert_eq!(p.ends(), line);
            assert_eq!(p.new_events(), "", "no event is reported");
            p.assert_gone();
            assert_eq!(p.on(". seq=1 ack=1"), "answered S10 | R seq=1");
            assert_eq!(p.on("S seq=0 port=7000"), "accepted | 7000: S. seq=0 ack=1");
        }
    });
}

#[test]
fn t37_t38_another_reset_does_not_end_a_connection_in_syn_received() {
    both(|v6| {
        let challenged = "answered R2 | . seq=1 ack=1";
        for (segment, expected) in [
            ("R at=1", challenged),
            ("R. at=1 ack=77", challenged),
            ("R at=65534", challenged),
            ("R at=-1", "dropped R4"),
            ("R at=65535", "dropped R4"),
            ("R at=1000000", "dropped R4"),
        ] {
            for kind in Kind::ALL {
                let mut p = Peer::syn_received(v6, kind);
                assert_eq!(p.on(segment), expected, "{segment}");
                completes(&mut p);
            }
        }
    });
}

#[test]
fn t39_other_segments_in_syn_received() {
    both(|v6| {
        for (segment, expected) in [
            ("S seq=0", "answered S31 | S. seq=0 ack=1"),
            ("SF seq=0", "answered S31 | S. seq=0 ack=1"),
            ("S at=-5000", "answered S33 | . seq=1 ack=1"),
            (". at=-5000", "answered S33 | . seq=1 ack=1"),
            (". at=1000000", "answered S33 | . seq=1 ack=1"),
            ("P. at=65535 len=4", "answered S33 | . seq=1 ack=1"),
            ("-", "dropped S34"),
            ("F", "dropped S34"),
            ("P len=4", "dropped S34"),
        ] {
            let mut p = Peer::syn_received(v6, Kind::Plain);
            assert_eq!(p.on(segment), expected, "{segment}");
            completes(&mut p);
        }
    });
}

/// S31, S33: one answer in 500 ms, whatever it is to.
#[test]
fn t39_the_answers_of_a_connection_in_syn_received_are_limited() {
    both(|v6| {
        let mut p = Peer::syn_received(v6, Kind::Plain);
        assert_eq!(p.on("S seq=0"), "answered S31 | S. seq=0 ack=1");
        assert_eq!(p.on("S seq=0"), "dropped Duplicate");
        assert_eq!(p.on(". at=-5000"), "dropped S33");
        assert_eq!(p.on("R at=1"), "dropped R2");
        p.pass(499);
        assert_eq!(p.on("S seq=0"), "dropped Duplicate");
        p.pass(1);
        assert_eq!(p.on(". at=-5000"), "answered S33 | . seq=1 ack=1");
        assert_eq!(p.stack.counters().tcp_suppressed_acks, 4);
        completes(&mut p);
    });
}

/// S33 by the timestamp: a segment that is older than the SYN does not complete the handshake.
#[test]
fn t39_an_old_timestamp_does_not_complete_a_handshake() {
    both(|v6| {
        for make in [Peer::syn_received, Peer::simultaneous] {
            let mut p = make(v6, Kind::Full);
            assert_eq!(p.on(". ts=-10"), "answered S33 | . seq=1 ack=1");
            assert_eq!(p.on(". ts=-10"), "dropped S33");
            assert_eq!(
                p.on("P. ts=-10 len=5"),
                "answered S33 | . seq=1 ack=1",
                "data never causes an ACK loop"
            );
            assert_eq!(p.state(), TcpState::SynReceived);
            assert_eq!(p.on("."), "accepted");
            assert_eq!(p.state(), TcpState::Established);
        }
    });
}

/// S32: the policy is Linux's; the other one of RFC 9293 (back to LISTEN silently) by a setting.
#[test]
fn t39_another_syn_in_the_window() {
    both(|v6| {
        for (reset, expected) in [(true, "ended S32 | R. seq=0 ack=102"), (false, "ended S32")] {
            let set = |config: &mut crate::Config| config.tcp.reset_on_embryonic_syn = reset;
            let mut p = Peer::with(v6, set).listen(8).receive_syn(Kind::Plain);
            assert_eq!(p.on("S seq=101"), expected);
            assert_eq!(p.ends(), "refused by the local stack in SYN-RECEIVED (S32), S");
            assert_eq!(p.on(". seq=1 ack=1"), "answered S10 | R seq=1");
            assert_eq!(p.on("S seq=101"), "accepted | S. seq=0 ack=102");
        }
        // After a simultaneous open it is challenged (S43).
        let mut p = Peer::simultaneous(v6, Kind::Plain);
        assert_eq!(p.on("S at=50"), "answered S50 | . seq=1 ack=1");
        assert_eq!(p.state(), TcpState::SynReceived);
    });
}

/// S35, and a FIN with the last ACK.
#[test]
fn t39_unusual_completions_of_a_handshake() {
    both(|v6| {
        let mut p = Peer::syn_received(v6, Kind::Plain);
        assert_eq!(p.on("S. seq=0 ack=1"), "accepted | . seq=1 ack=1");
        assert_eq!((p.state(), p.new_events().as_str()), (TcpState::Established, "Incoming"));

        let mut p = Peer::syn_received(v6, Kind::Plain);
        assert_eq!(p.on("F."), "accepted | . seq=1 ack=2");
        assert_eq!(p.state(), TcpState::CloseWait);
        p.accept();
        assert_eq!(p.receive(), "0");

        let mut p = Peer::syn_received(v6, Kind::Plain);
        assert_eq!(p.on("FP. len=6"), "accepted | . seq=1 ack=8");
        p.accept();
        assert_eq!((p.receive(), p.receive()), ("6".into(), "0".into()));
    });
}

/// R13: the choice is RFC 9293's ECONNREFUSED, where Linux says ECONNRESET.
#[test]
fn t40_a_reset_after_a_simultaneous_open_refuses() {
    both(|v6| {
        let mut p = Peer::simultaneous(v6, Kind::Plain);
        assert_eq!(p.on("R at=1"), "answered R2 | . seq=1 ack=1");
        assert_eq!(p.on("R at=-1"), "dropped R4");
        assert_eq!(p.on("R"), "ended R13");
        assert_eq!(p.ends(), "refused by the peer in SYN-RECEIVED (R13), R");
        assert_eq!((p.error(), p.error()), ("Refused".into(), "none".into()));
        p.assert_gone();
    });
}

/// T151, S36: 1, 2, 4, 8, 16 and 32 s; then silence, and the last ACK finds a listener (S10).
#[test]
fn s36_an_unanswered_syn_ack_times_out_silently() {
    both(|v6| {
        let mut p = Peer::syn_received(v6, Kind::Plain);
        let times = [1, 3, 7, 15, 31].map(|s| alloc::format!("{s}000: S. seq=0 ack=1"));
        assert_eq!(p.run(62_999), times.join(" | "));
        assert_eq!(p.ends(), "");
        p.pass(1);
        assert_eq!(p.ends(), "timed out (no answer to SYN) by the local stack in SYN-RECEIVED (S36)");
        p.assert_gone();
        assert_eq!(p.on(". seq=1 ack=1"), "answered S10 | R seq=1");
    });
}

/// S94: 1, 2, 4, .. 64 s.
#[test]
fn s94_an_unanswered_syn_times_out_silently() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        let times = [1, 3, 7, 15, 31, 63].map(|s| alloc::format!("{s}000: S seq=0"));
        assert_eq!(p.run(126_999), times.join(" | "));
        p.pass(1);
        assert_eq!(p.ends(), "timed out (no answer to SYN) by the local stack in SYN-SENT (S94)");
        assert_eq!((p.send(1), p.send(1), p.receive()), ("TimedOut".into(), "BrokenPipe".into(), "0".into()));
        p.assert_gone();
    });
}

/// S94 by the user timeout, exactly at its time.
#[test]
fn s94_the_user_timeout_ends_an_attempt() {
    both(|v6| {
        let mut p = Peer::new(v6);
        p.open();
        p.tcp().set_user_timeout(Some(core::time::Duration::from_millis(1500)));
        assert_eq!(p.run(1499), "0: S seq=0 | 1000: S seq=0");
        assert_eq!(p.ends(), "");
        p.pass(1);
        assert_eq!(p.ends(), "timed out (no answer to SYN) by the local stack in SYN-SENT (S94)");
        p.assert_gone();
        // Set while the SYN is out.
        let mut p = Peer::syn_sent(v6);
        p.tcp().set_user_timeout(Some(core::time::Duration::from_millis(300)));
        p.pass(299);
        assert_eq!(p.ends(), "");
        p.pass(1);
        assert_ne!(p.ends(), "");
    });
}

/// S44, E2: closed in SYN-RECEIVED. With linger zero: RST. Else the FIN follows the handshake.
#[test]
fn s44_e2_closed_in_syn_received() {
    both(|v6| {
        let mut p = Peer::simultaneous(v6, Kind::Full);
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=1");
        assert!(p.last().header().options.timestamps.is_some());
        assert_eq!(p.ends(), "aborted by the local application in SYN-RECEIVED (S44)");
        p.assert_gone();

        let mut p = Peer::simultaneous(v6, Kind::Plain);
        p.tcp().set_linger(Some(core::time::Duration::ZERO));
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=1 ack=1");
        p.assert_gone();

        let mut p = Peer::simultaneous(v6, Kind::Plain);
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "");
        assert_eq!(p.send(1), "BrokenPipe");
        assert_eq!(p.on("."), "accepted | F. seq=1 ack=1");
        assert_eq!(p.state(), TcpState::FinWait1);
        assert_eq!(p.on("P. ack=2 len=5"), "accepted");
        assert_eq!(p.receive(), "5");

        let mut p = Peer::simultaneous(v6, Kind::Plain);
        p.tcp().close();
        assert_eq!(p.out(), "");
        assert_eq!(p.on("."), "accepted | F. seq=1 ack=1");
        assert_eq!((p.state(), p.new_events().as_str()), (TcpState::FinWait1, ""));
        assert_eq!(p.on("P. ack=2 len=5"), "ended S80 | R seq=2");
        p.assert_gone();
    });
}
