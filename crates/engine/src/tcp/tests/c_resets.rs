//! C: a reset is received.

use crate::tcp::tests::peer::{Kind, Peer, both, flags_of};
use crate::{LikelyCause, TcpState};
use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, TimeWait};
use alloc::format;
use lastack_wire::reset_reason::ResetReason;

/// The synchronized states, and the rule by which a reset ends the connection there.
const STATES: [(TcpState, &str); 6] = [
    (Established, "R1"),
    (FinWait1, "R1"),
    (FinWait2, "R1"),
    (CloseWait, "R15"),
    (Closing, "R16"),
    (LastAck, "R16"),
];

/// Our SND.NXT and RCV.NXT in a state, as an ACK of ours says them.
fn numbers(state: TcpState) -> &'static str {
    match state {
        Established => ". seq=1 ack=1",
        FinWait1 | FinWait2 => ". seq=2 ack=1",
        CloseWait => ". seq=1 ack=2",
        _ => ". seq=2 ack=2",
    }
}

/// E18.
#[test]
fn t41_an_exact_reset_ends_the_connection() {
    both(|v6| {
        for (state, rule) in STATES {
            for kind in Kind::ALL {
                let mut p = Peer::in_state(v6, kind, state, true);
                assert_eq!(p.on("R"), format!("ended {rule}"), "{state}");
                assert_eq!(p.ends(), format!("reset by the peer in {state} ({rule}), R"));
                p.assert_gone();
                // RFC 4022 counts no others.
                let counted = matches!(state, Established | CloseWait);
                assert_eq!(p.stack.counters().tcp_established_resets, u64::from(counted));
                assert_eq!(p.on("."), format!("answered S10 | R seq={}", p.ack));
            }
        }
    });
}

#[test]
fn t42_a_reset_in_the_window_draws_one_challenge_ack() {
    both(|v6| {
        for (state, _) in STATES {
            for at in ["at=1", "at=100"] {
                for kind in Kind::ALL {
                    let mut p = Peer::in_state(v6, kind, state, true);
                    p.run(500);
                    assert_eq!(
                        p.on(&format!("R {at}")),
                        format!("answered R2 | {}", numbers(state)),
                        "{state}"
                    );
                    assert_eq!(p.on(&format!("R {at}")), "dropped R2");
                    assert_eq!((p.state(), p.ends().as_str()), (state, ""));
                }
            }
        }
    });
}

/// R1a: the number is compared with RCV.NXT, not with the last ACK that was sent.
#[test]
fn t43_a_reset_after_data_whose_ack_is_delayed_is_exact() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        assert_eq!(p.on("P. len=10"), "accepted");
        assert_eq!(p.on("P. at=10 len=10"), "accepted");
        assert_eq!(p.on("R at=20"), "ended R1");
        assert_eq!((p.receive(), p.receive(), p.receive()), ("20".into(), "Reset".into(), "0".into()));
    });
}

#[test]
fn t44_a_reset_outside_the_window_is_ignored() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::established(v6, kind);
            for at in [-1, -65_535, 65_535, 65_536, 1 << 30, -(1 << 30)] {
                assert_eq!(p.on(&format!("R at={at}")), "dropped R4", "{at}");
                // As in the RFC: data does not move a reset into the window.
                assert_eq!(p.on(&format!("R at={at} len=8")), "dropped R4", "{at}");
            }
            assert_eq!(p.on("R at=65534"), "answered R2 | . seq=1 ack=1");
            assert_eq!(p.state(), Established);
        }
    });
}

/// A connection whose window is shut, with all of it unread.
fn stalled(v6: bool) -> Peer {
    let mut p = Peer::with(v6, |config| config.tcp.receive_buffer = 4000).listen(1).establish(Kind::Plain);
    p.on_all(&["P. len=1400", "P. at=1400 len=1400", "P. at=2800 len=1200"]);
    p.run(100);
    assert_eq!((p.last().header().window, p.tcp().info().unread), (0, 4000));
    p.seq += 4000;
    p
}

/// R7, R7a: the allowance for a reset at a shut window holds whatever its length.
#[test]
fn t45_t46_a_reset_passes_a_shut_window() {
    both(|v6| {
        for segment in ["R", "R.", "R len=8", "R. len=1400"] {
            let mut p = stalled(v6);
            assert_eq!(p.on("R at=1"), "dropped R4");
            assert_eq!(p.on(segment), "ended R1", "{segment}");
            assert_eq!((p.receive(), p.receive(), p.receive()), ("4000".into(), "Reset".into(), "0".into()));
            assert_eq!(p.ends(), format!("reset by the peer in ESTABLISHED (R1), {}", flags_of(segment)));
        }
    });
}

#[test]
fn t47_the_extensions_of_the_sequence_test() {
    both(|v6| {
        for lenient in [true, false] {
            let with = |kind| {
                let set = |config: &mut crate::Config| config.tcp.lenient_resets = lenient;
                Peer::with(v6, set).listen(1).establish(kind)
            };
            let challenge = "answered R2 | . seq=1 ack=1";
            let selective = "answered R2 | . seq=1 ack=1 sack=101-151";
            // R5: the end of the highest block that we reported, which needs SACK.
            for (kind, at, expected) in [
                (Kind::Full, 150, if lenient { "ended R5" } else { selective }),
                (Kind::Full, 149, selective),
                (Kind::Full, 151, selective),
                (Kind::Plain, 150, challenge),
                (Kind::Full, 0, "ended R1"),
            ] {
                let mut p = with(kind);
                p.on("P. at=100 len=50");
                assert_eq!(p.on(&format!("R at={at}")), expected, "{kind:?} {at}");
            }
            // R6: the number of the peer's FIN.
            for (state, has_user) in [(CloseWait, true), (Closing, true), (LastAck, false)] {
                let mut p = with(Kind::Plain).lead_to(state, has_user);
                assert_eq!(p.on("R at=-2"), "dropped R4");
                assert_eq!(p.on("R at=-1"), if lenient { "ended R6" } else { "dropped R4" }, "{state}");
            }
            for state in [Established, FinWait1, FinWait2] {
                let mut p = with(Kind::Plain).lead_to(state, true);
                assert_eq!(p.on("R at=-1"), "dropped R4", "{state}");
            }
        }
    });
}

/// T199: an exact reset counts whatever else it has, and its data is not delivered.
#[test]
fn t48_nothing_but_the_number_of_a_reset_counts() {
    both(|v6| {
        for segment in [
            "R. ack=9999999",
            "R. ack=-9999999",
            "SR",
            "FR",
            "FR. ack=77",
            "R len=50",
            "R ts=-4999000",
            "R nots",
        ] {
            let mut p = Peer::established(v6, Kind::Full);
            p.run(5000);
            assert_eq!(p.on(segment), "ended R1", "{segment}");
            assert_eq!((p.receive(), p.receive()), ("Reset".into(), "0".into()));
            assert_eq!(p.ended[0].bytes.received, 0);
        }
    });
}

/// D1, D31: resets at random numbers cost a look each: at most two challenge ACKs a second and no
/// state.
#[test]
fn t49_a_flood_of_resets_is_bounded() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let mut rng = 1_u32;
        for _ in 0..20_000 {
            rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let out = p.on(&format!("R at={}", i64::from(rng >> 12) - 10));
            assert!(!out.starts_with("ended"), "{out}");
            p.now += core::time::Duration::from_micros(100);
        }
        assert!(p.stack.counters().tcp_challenge_acks <= 5);
        assert!(p.stack.counters().tcp_suppressed_acks > 0);
        assert_eq!((p.state(), p.ends(), p.new_events()), (Established, "".into(), "".into()));
    });
}

#[test]
fn t50_t51_a_reset_in_syn_sent_counts_by_its_ack() {
    both(|v6| {
        for segment in [
            "R. seq=0 ack=1",
            "R. seq=1 ack=1",
            "R. seq=123456789 ack=1",
            "R. seq=0 ack=1 len=30",
            "SR. seq=9 ack=1",
        ] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on(segment), "ended R11", "{segment}");
            let ended = p.ended[0].clone();
            assert_eq!(ended.end.inferred, Some(LikelyCause::NoListener));
            assert_eq!(ended.established, None);
            assert_eq!(p.ends(), format!("refused by the peer in SYN-SENT (R11), {}", flags_of(segment)));
            assert_eq!(
                (p.receive(), p.receive(), p.send(1)),
                ("Refused".into(), "0".into(), "BrokenPipe".into())
            );
            p.assert_gone();
        }
        for segment in ["R. seq=0 ack=0", "R. seq=0 ack=5", "R. seq=0 ack=-1"] {
            let mut p = Peer::syn_sent(v6);
            assert_eq!(p.on(segment), "dropped S21", "{segment}");
            p.complete(Kind::Plain);
        }
    });
}

/// R10: a reset finds nothing and leaves nothing.
#[test]
fn t52_a_reset_without_a_connection_leaves_no_state() {
    both(|v6| {
        for listen in [false, true] {
            let mut p = if listen { Peer::listening(v6) } else { Peer::new(v6) };
            for n in 0..100 {
                let expected = if listen { "dropped S12" } else { "dropped R10" };
                assert_eq!(p.on(&format!("R seq={n} port={}", 6000 + n)), expected);
            }
            p.assert_gone();
            assert_eq!((p.new_events(), p.ends()), ("".into(), "".into()));
        }
    });
}

/// R17 by RFC 1337: where Linux (`tcp_rfc1337` = 0) removes the connection.
#[test]
fn t53_a_reset_in_time_wait_is_ignored_and_the_time_goes_on() {
    both(|v6| {
        for segment in ["R", "R at=1", "R at=-1", "SR", "R. ack=77", "R ts=-1000"] {
            let mut p = Peer::in_state(v6, Kind::Full, TimeWait, true);
            p.pass(30_000);
            assert_eq!(p.on(segment), "dropped R17", "{segment}");
            p.pass(29_999);
            assert_eq!(p.state(), TimeWait);
            p.pass(1);
            assert_eq!(p.state(), TcpState::Closed);
        }
    });
}

#[test]
fn t54_t55_a_reset_ends_an_orphan_only_if_it_is_exact() {
    both(|v6| {
        for (state, rule) in [(FinWait1, "R1"), (FinWait2, "R1"), (Closing, "R16"), (LastAck, "R16")] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, false);
            p.run(500);
            p.new_events();
            assert_eq!(p.on("R at=5"), format!("answered R2 | {}", numbers(state)), "{state}");
            assert_eq!(p.on("R at=-7"), "dropped R4");
            assert_eq!(p.on("R at=70000"), "dropped R4");
            assert_eq!(p.state(), state);
            assert_eq!(p.on("R"), format!("ended {rule}"));
            assert_eq!(p.new_events(), "");
            assert_eq!(p.ends(), format!("reset by the peer in {state} ({rule}), R"));
            p.assert_gone();
        }
    });
}

/// T87, R19: the choice is Linux's: accept succeeds, the data can be read, then the reset is reported.
#[test]
fn t56_a_connection_that_was_reset_in_the_queue_is_accepted() {
    both(|v6| {
        let mut p = Peer::listening(v6).receive_syn(Kind::Plain);
        assert_eq!(p.on("P. len=2"), "accepted");
        assert_eq!(p.on("R at=2"), "ended R1");
        p.accept();
        assert_eq!(p.tcp().state(), TcpState::Closed);
        assert_eq!((p.receive(), p.receive(), p.receive()), ("2".into(), "Reset".into(), "0".into()));
        assert_eq!(p.ends(), "reset by the peer in ESTABLISHED (R1), R");
        p.tcp().close();
        assert!(p.stack.tcp(p.id).is_none());

        // It holds its place in the queue until then.
        let mut p = Peer::new(v6).listen(0).receive_syn(Kind::Plain);
        p.on(".");
        p.on("R");
        assert_eq!(p.on("S seq=0 port=7000"), "dropped S17");
        p.accept();
        assert_eq!(p.on("S seq=0 port=7000"), "accepted | 7000: S. seq=0 ack=1");
    });
}

#[test]
fn t57_a_sweep_of_the_window_does_not_end_the_connection() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let mut challenges = 0;
        for at in (1..65_535).step_by(50) {
            challenges += usize::from(p.on(&format!("R at={at}")).starts_with("answered R2"));
            p.run(1);
        }
        assert_eq!((challenges, p.state()), (3, Established), "in 1.3 s");
        assert_eq!(p.on("P. len=5"), "accepted");
        p.seq += 5;
        assert_eq!(p.on("R"), "ended R1");
    });
}

/// What is inferred from the header of a reset, and the reason in its data.
#[test]
fn the_record_of_a_reset_is_complete() {
    both(|v6| {
        for (segment, inferred) in [("R", LikelyCause::UnknownConnection), ("R.", LikelyCause::AbortedByPeer)]
        {
            let mut p = Peer::established(v6, Kind::Plain);
            p.run(250);
            assert_eq!(p.send(700), "700");
            p.out();
            p.on("P. len=20");
            assert_eq!(p.on(&format!("{segment} at=20 win=7")), "ended R1");
            let ended = p.ended[0].clone();
            assert_eq!(ended.end.inferred, Some(inferred));
            let trigger = ended.end.trigger.unwrap();
            assert_eq!(
                (trigger.seq, trigger.window, trigger.len),
                (crate::tcp::tests::peer::IRS.wrapping_add(21), 7, 0)
            );
            assert_eq!((ended.end.at, ended.flow), (p.now, p.flow()));
            assert_eq!((ended.bytes.sent, ended.bytes.received), (0, 20));
            assert_eq!((ended.end.lost.unacked, ended.end.peer_said), (700, None));
        }
        let said = ResetReason::from_payload(&[0x33, 0xaa, 0, 5, 0, 0, 0, 0]).unwrap();
        for (make, segment, rule) in [
            (Peer::established(v6, Kind::Plain), "R", "ended R1"),
            (Peer::syn_sent(v6), "R. seq=0 ack=1", "ended R11"),
        ] {
            let mut p = make;
            let ip = lastack_wire::ip::IpHeader::new(p.them, p.us, lastack_wire::ip::TCP);
            let mut packet = p.packet(&format!("{segment} len=8"));
            let (at, end) = (packet.len() - 8, packet.len());
            packet[at..end].copy_from_slice(&said.to_payload());
            lastack_wire::tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
            assert_eq!(p.on_packet(&packet), rule);
            assert_eq!(p.ended[0].end.peer_said, Some(said));
        }
    });
}
