//! D: SYNs, ACKs and timestamps in the synchronized states.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both};
use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
use alloc::format;
use core::time::Duration;
use lastack_wire::ip::{self, IpHeader};

const STATES: [TcpState; 6] = [Established, FinWait1, FinWait2, CloseWait, Closing, LastAck];

/// Text still flows both ways, as far as the state lets it.
fn still_works(p: &mut Peer) {
    let state = p.state();
    if matches!(state, Established | FinWait1 | FinWait2) {
        assert_eq!(p.on("P. len=5"), "accepted");
        assert_eq!(p.receive(), "5");
    }
    if matches!(state, Established | CloseWait) {
        assert_eq!(p.send(3), "3");
        assert!(p.out().starts_with("P. seq=1"));
    }
    assert_eq!((p.state(), p.ends().as_str()), (state, ""));
}

/// N9: an ACK, not a reset
#[test]
fn t60_t61_a_syn_is_challenged_whatever_its_number() {
    both(|v6| {
        for state in STATES {
            for segment in [
                "S",
                "S at=-5000",
                "S at=1073741824",
                "S seq=0",
                "S at=100",
                "S.",
                "S. ack=99",
                "SF",
                "S len=20",
                "S. len=20 at=-20",
                "SF. ack=-5",
            ] {
                let mut p = Peer::in_state(v6, Kind::Plain, state, true);
                p.run(500);
                let numbers = p.last().header();
                let out = p.on(segment);
                assert!(out.starts_with("answered S50 | . seq="), "{state} {segment}: {out}");
                let sent = p.last().header();
                assert_eq!((sent.seq.max(numbers.seq), sent.window), (sent.seq, numbers.window));
                assert_eq!(p.on(segment), "dropped S50", "one answer in 500 ms");
                still_works(&mut p);
            }
        }
    });
}

/// T62: PAWS does not come first: it would let the SYN fall without a challenge.
#[test]
fn t62_a_syn_with_an_old_timestamp_is_challenged() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.run(3000);
        assert_eq!(p.on("S ts=-2999"), "answered S50 | . seq=1 ack=1");
        still_works(&mut p);
    });
}

#[test]
fn t64_an_ack_of_unsent_data_is_answered_and_its_data_dropped() {
    both(|v6| {
        for state in STATES {
            for (past, text) in [(1, ""), (1, " len=8"), (99_999, " len=8"), (1 << 30, "")] {
                let mut p = Peer::in_state(v6, Kind::Plain, state, true);
                p.run(500);
                let next = if matches!(state, Established | CloseWait) { 1 } else { 2 };
                let out = p.on(&format!(". ack={}{text}", next + past));
                let got = if matches!(state, Established | FinWait1 | FinWait2) { 1 } else { 2 };
                assert_eq!(out, format!("answered S52 | . seq={next} ack={got}"), "{state}");
                assert_eq!(p.tcp().info().unread, 0);
                still_works(&mut p);
            }
        }
    });
}

/// D24: who acknowledges what was not sent gains nothing.
#[test]
fn t65_an_optimistic_ack_moves_neither_window_nor_estimate() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.send(1000), "1000");
        p.out();
        p.run(100);
        let before = p.tcp().info();
        p.on(". ack=1002");
        let after = p.tcp().info();
        let same = |info: &crate::TcpInfo| {
            (info.cwnd, info.ssthresh, info.srtt, info.rto, info.unacked, info.delivered)
        };
        assert_eq!(same(&after), same(&before));
        assert_eq!(p.on(". ack=1001"), "accepted");
        assert_ne!(p.tcp().info().srtt, before.srtt);
    });
}

/// S53 (RFC 5961 section 5.2): MAX.SND.WND bounds how old an ACK may be, and so do the bytes that
/// were acknowledged at all.
#[test]
fn t66_an_ack_that_is_too_old_is_challenged_and_its_data_dropped() {
    both(|v6| {
        // Nothing was acknowledged yet: only SND.UNA will do.
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("P. ack=0 len=3"), "answered S53 | . seq=1 ack=1");
        still_works(&mut p);

        // Now with a MAX.SND.WND of 1000.
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=0 win=1000 mss=1460"), "accepted | S. seq=0 ack=1");
        (p.seq, p.ack) = (1, 1);
        assert_eq!(p.on(". win=1000"), "accepted");
        p.accept();
        for _ in 0..5 {
            assert_eq!(p.send(1000), "1000");
            p.out();
            p.ack += 1000;
            assert_eq!(p.on(". win=1000"), "accepted");
        }
        // A run of in-order data, as header prediction handles it, does not change that.
        for _ in 0..4 {
            assert!(p.on("P. win=1000 len=10").starts_with("accepted"));
            p.seq += 10;
        }
        p.run(500);
        assert_eq!(p.on("P. win=1000 ack=4000 len=3"), "answered S53 | . seq=5001 ack=41");
        assert_eq!(p.tcp().info().unread, 40);
        assert_eq!(p.on(". win=1000 ack=-5"), "dropped S53");
        assert_eq!(p.on("P. win=1000 ack=4001 len=3"), "accepted");
        assert_eq!(p.tcp().info().unread, 43);
    });
}

/// D25: ACKs that divide a segment are worth the bytes that they acknowledge.
#[test]
fn t66a_divided_acks_grow_the_window_by_bytes() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let mss = p.tcp().info().mss;
        let before = p.tcp().info().cwnd;
        assert_eq!(p.send(20 * mss as usize), format!("{}", 20 * mss));
        p.out();
        for n in 1..=100 {
            p.on(&format!(". ack={}", 1 + n));
        }
        assert_eq!(p.tcp().info().cwnd, before + 100);
    });
}

/// D5: a peer that answers each of our ACKs with one that draws another.
#[test]
fn t67_a_loop_of_acks_dies_out() {
    both(|v6| {
        for segment in [". at=-1", ". ack=2", "S", "R at=9", ". at=70000"] {
            let mut p = Peer::established(v6, Kind::Plain);
            let mut answers = 0;
            for _ in 0..1000 {
                answers += usize::from(p.on(segment).contains('|'));
                p.run(10);
            }
            assert_eq!(answers, 20, "{segment}: two a second");
        }
    });
}

/// One limit for each connection, shared by all its cases; data is answered at once.
#[test]
fn t68_t69_t70_the_limit_of_challenge_acks() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let ack = " | . seq=1 ack=1";
        assert_eq!(p.on("S"), format!("answered S50{ack}"));
        p.pass(100);
        assert_eq!(p.on("S"), "dropped S50");
        p.pass(600);
        assert_eq!(p.on("S"), format!("answered S50{ack}"));

        // D4: another connection's budget is its own.
        assert_eq!(p.on("S seq=0 port=7000 mss=1460"), "accepted | 7000: S. seq=0 ack=1");
        assert_eq!(p.on(". seq=1 ack=1 port=7000"), "accepted");
        assert_eq!(p.on("S"), "dropped S50");
        assert_eq!(p.on("S seq=1 port=7000"), "answered S50 | 7000: . seq=1 ack=1");

        p.pass(1000);
        assert_eq!(p.on("R at=5"), format!("answered R2{ack}"));
        p.pass(50);
        assert_eq!(p.on("S"), "dropped S50");
        assert_eq!(p.on(". at=-9"), "dropped S51");
        assert_eq!(p.on("P. at=-9 len=4"), format!("answered S51{ack}"));
        assert_eq!(p.on("P. at=70000 len=4"), format!("answered S51{ack}"));
        assert_eq!(p.stack.counters().tcp_suppressed_acks, 4);
        assert_eq!(p.stack.counters().tcp_challenge_acks, 4);
    });
}

#[test]
fn t71_segments_without_ack_flag_are_dropped() {
    both(|v6| {
        for state in STATES {
            for segment in ["-", "F", "P len=5", "U", "FPU len=5"] {
                let mut p = Peer::in_state(v6, Kind::Plain, state, true);
                p.run(500);
                assert_eq!(p.on(segment), "dropped S54", "{state} {segment}");
                assert_eq!(p.tcp().info().unread, 0);
                still_works(&mut p);
            }
        }
    });
}

/// S51, S59: a segment outside the window is answered: a keep-alive probe of the peer, old data
/// and data beyond the edge.
#[test]
fn s51_s59_segments_outside_the_window_are_answered() {
    both(|v6| {
        for segment in [
            ". at=-1",
            ". at=-1 len=1",
            "P. at=-8 len=8",
            "P. at=65535 len=1",
            "P. at=100000 len=9",
            ". at=65536",
            "F. at=65536",
        ] {
            let mut p = Peer::established(v6, Kind::Plain);
            assert_eq!(p.on(segment), "answered S51 | . seq=1 ack=1", "{segment}");
            still_works(&mut p);
        }
        // Part of it is new, part fits: that part is taken.
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. len=10");
        assert_eq!(p.on("P. at=-0 len=13"), "accepted");
        assert_eq!(p.receive(), "13");
        // An ACK at the right edge, from a sender that filled the window, is no stray.
        assert_eq!(p.on(". at=65535"), "accepted");
    });
}

/// D23: only what is in order and acceptable moves TS.Recent.
#[test]
fn t72_a_stray_timestamp_is_not_taken_over() {
    both(|v6| {
        for segment in [
            "P. at=-9 len=4 ts=1073741824",
            "P. at=2000000 len=4 ts=1073741824",
            ". ack=99 ts=1073741824",
            ". at=5000 ts=1073741824",
            "P. at=5000 len=5 ts=1073741824",
            "S ts=1073741824",
            "R at=7 ts=1073741824",
            "- ts=1073741824",
        ] {
            let mut p = Peer::established(v6, Kind::Full);
            p.run(10);
            p.on(segment);
            assert!(p.on("P. len=5").starts_with("accepted"), "{segment}");
            assert_eq!(p.receive(), "5", "{segment}");
        }
    });
}

/// S55, S56.
#[test]
fn t73_t75_old_and_missing_timestamps() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.run(5000);
        assert_eq!(p.on("P. len=5"), "accepted");
        p.seq += 5;
        p.run(1000);
        assert_eq!(p.on("P. len=8 ts=-1001"), "answered S55 | . seq=1 ack=6");
        assert_eq!(p.receive(), "5");
        assert_eq!(p.on(". ts=-1001"), "answered S55 | . seq=1 ack=6");
        assert_eq!(p.on(". ts=-1001"), "dropped S55", "an old ACK is worth the limited answer only");
        assert_eq!(p.on("P. len=8 ts=-1001"), "answered S55 | . seq=1 ack=6");
        assert_eq!(p.stack.counters().tcp_challenge_acks, 1);
        // The policy is Linux's: a segment without the option that was agreed on is taken.
        assert_eq!(p.on("P. len=8 nots"), "accepted");
        assert_eq!(p.receive(), "8");
        // Where no timestamps were agreed on they mean nothing.
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("P. len=8 tsok ts=-99999"), "accepted");
        assert!(p.run(100).ends_with(". seq=1 ack=9"));
        assert_eq!(p.last().header().options.timestamps, None);
    });
}

#[test]
fn t74_a_reset_of_ours_has_a_fresh_timestamp() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        assert_eq!(p.send(5), "5");
        p.out();
        let before = p.last().header().options.timestamps.unwrap();
        p.ack = 6;
        p.on(".");
        p.pass(1234);
        p.on("P. len=4");
        let last_received = p.now;
        p.tcp().set_linger(Some(Duration::ZERO));
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=6 ack=5");
        let after = p.last().header().options.timestamps.unwrap();
        assert_eq!(after.val.wrapping_sub(before.val), 1234);
        assert_eq!(after.ecr, (5_000_000 + last_received.as_millis()) as u32);
        assert_eq!(p.last().transmit.rule.unwrap().code(), "S60");
        assert_eq!(p.last().data(), b"");
    });
}

/// N12, N9: what DSCP the peer's segments have means nothing, not even where it changes.
#[test]
fn n12_a_changed_dscp_is_no_reason() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        for (traffic_class, segment, expected) in
            [(0xb8, "P. len=3", "accepted"), (0x28, ". at=3", "accepted"), (0, "R at=3", "ended R1")]
        {
            let spec = crate::tcp::tests::notation::Spec::parse(segment);
            let header = IpHeader { traffic_class, ..IpHeader::new(p.them, p.us, ip::TCP) };
            let packet = p.packet_from(header, &spec);
            assert_eq!(p.on_packet(&packet), expected, "{traffic_class:#x}");
        }
    });
}

/// S102: what finds no room is acknowledged away, never reset.
#[test]
fn s102_a_full_buffer_resets_nothing() {
    both(|v6| {
        let p = Peer::with(v6, |config| config.tcp.receive_buffer = 1000).listen(8);
        let mut p = p.establish(Kind::Plain);
        p.on("P. len=1000");
        assert_eq!(p.run(100), "40: . seq=1 ack=1001");
        for segment in ["P. at=1000 len=1", "P. at=1000 len=1400"] {
            assert_eq!(p.on(segment), "dropped NoSpace | . seq=1 ack=1001");
            assert_eq!(p.last().header().window, 0);
        }
        assert_eq!(p.receive(), "1000");
        assert_eq!(p.ends(), "");
    });
}
