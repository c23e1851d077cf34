//! F: one side has lost the connection and the other has not.

use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Keepalive, LikelyCause, TcpState};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;

/// ESTABLISHED with the numbers of RFC 9293 section 3.5.1: SND.NXT = 300, RCV.NXT = 100.
fn b_of_the_figures(v6: bool) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    p.on("P. len=99");
    assert_eq!((p.receive(), p.send(299)), ("99".into(), "299".into()));
    p.out();
    (p.seq, p.ack) = (100, 300);
    assert_eq!(p.on("."), "accepted");
    p
}

/// Figure 9, H1, H11, H14; and T63: the challenge ACK, its reset, the SYN again.
#[test]
fn t90_t63_figure_9() {
    both(|v6| {
        // We are B, which still has the connection.
        let mut p = b_of_the_figures(v6);
        assert_eq!(p.on("S seq=400"), "answered S50 | . seq=300 ack=100");
        assert_eq!(p.on("R seq=100"), "ended R1");
        assert_eq!(p.ended[0].end.inferred, Some(LikelyCause::UnknownConnection));
        assert_eq!(p.on("S seq=400"), "accepted | S. seq=0 ack=401");

        // We are A, which has lost it and asks again from the same port.
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on(". seq=300 ack=100"), "answered S20 | R seq=100");
        assert_eq!(p.run(500), "10: S seq=0");
        p.complete(Kind::Full);
    });
}

/// Figure 10, H2.
#[test]
fn t91_figure_10() {
    both(|v6| {
        for listening in [false, true] {
            // We are A: no socket, or a listener, has the port.
            let mut p = if listening { Peer::listening(v6) } else { Peer::new(v6) };
            let rule = if listening { "S10" } else { "S4" };
            assert_eq!(p.on("P. seq=300 ack=100 len=10"), format!("answered {rule} | R seq=100"));
        }
        let mut p = b_of_the_figures(v6);
        assert_eq!(p.send(10), "10");
        assert_eq!(p.out(), "P. seq=300 ack=100 len=10");
        assert_eq!(p.on("R seq=100"), "ended R1");
        assert_eq!((p.send(1), p.send(1)), ("Reset".into(), "BrokenPipe".into()));
        assert_eq!(p.ends(), "reset by the peer in ESTABLISHED (R1), R, lost 0+10+0");
    });
}

/// Figures 11 (H3) and 8 (H3a): an old SYN comes to a listener.
#[test]
fn t92_t93_figures_11_and_8() {
    both(|v6| {
        // We are B: the old SYN comes to us, and A, in LISTEN, resets our answer.
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=90"), "accepted | S. seq=0 ack=91");
        assert_eq!(p.on("R seq=91"), "ended R12");
        assert_eq!((p.new_events(), p.state()), ("".into(), TcpState::Closed));
        // We are A: in LISTEN, and in SYN-SENT, where our real SYN has another number.
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S. seq=300 ack=91"), "answered S10 | R seq=91");
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on("S. seq=300 ack=91"), "answered S20 | R seq=91");
        p.complete(Kind::Plain);
    });
}

fn keepalive(idle: u64, interval: u64, count: u32) -> Keepalive {
    Keepalive { idle: Duration::from_secs(idle), interval: Duration::from_secs(interval), count }
}

/// H6: the probe has the sequence number before SND.NXT, without data.
#[test]
fn t94_keep_alive_finds_a_peer_that_was_rebooted() {
    both(|v6| {
        let mut p = b_of_the_figures(v6);
        p.tcp().set_keepalive(Some(keepalive(10, 1, 3)));
        assert_eq!(p.run(10_500), "10000: . seq=299 ack=100");
        assert_eq!(p.on("R seq=100"), "ended R1");
        assert_eq!((p.receive(), p.receive()), ("Reset".into(), "0".into()));
        p.assert_gone();
    });
}

/// H7, S91: the only time limit at which the peer is notified.
#[test]
fn t95_keep_alive_gives_up_with_a_reset() {
    both(|v6| {
        for unreachable in [false, true] {
            let mut p = b_of_the_figures(v6);
            p.tcp().set_keepalive(Some(keepalive(1, 1, 2)));
            assert_eq!(p.run(2999), "1000: . seq=299 ack=100 | 2000: . seq=299 ack=100");
            if unreachable {
                let mut about = p.last().bytes.clone();
                let at = p.last().ip.len() + 4;
                about[at..at + 4].copy_from_slice(&p.last().header().seq.wrapping_add(1).to_be_bytes());
                assert_eq!(p.on_icmp(&about, IcmpError::host_unreachable(v6)), "dropped I2");
            }
            assert_eq!(p.run(1), "1: R. seq=300 ack=100");
            let (who, error) = if unreachable {
                let why = IcmpError::host_unreachable(v6);
                (format!("{why} by the network ({})", p.router()), "HostUnreachable")
            } else {
                ("timed out (keep-alive) by the local stack".into(), "TimedOut")
            };
            assert_eq!(p.ends(), format!("{who} in ESTABLISHED (S91)"));
            assert_eq!((p.receive(), p.receive()), (error.into(), "0".into()));
            p.assert_gone();
        }
    });
}

/// H5: nothing finds out before
#[test]
fn t96_keep_alive_is_off_by_default_and_waits_two_hours() {
    both(|v6| {
        // Off: nothing is sent for a year, and no timer runs.
        let mut p = Peer::connected(v6, Kind::Full);
        p.pass(365 * 86_400_000);
        assert_eq!(p.stack.poll_timeout(), None);
        assert_eq!(p.state(), TcpState::Established);

        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_keepalive(Some(Keepalive::default()));
        let times = (0..9).map(|n| format!("{}: . seq=0 ack=1", 7_200_000 + n * 75_000));
        assert_eq!(p.run(7_874_999), times.collect::<alloc::vec::Vec<String>>().join(" | "));
        assert_eq!(p.run(1), "1: R. seq=1 ack=1");

        // Any segment of the peer restarts the timer: an answer to a probe, an ACK, data.
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_keepalive(Some(keepalive(10, 2, 2)));
        for (segment, taken) in [(".", true), (". at=-1", false), ("P. len=4", true)] {
            assert_eq!(p.run(12_500), "10000: . seq=0 ack=1 | 12000: . seq=0 ack=1");
            assert_eq!(p.on(segment).starts_with("accepted"), taken);
        }
        p.seq = 5;
        p.run(9000);
        p.on(".");
        assert_eq!(p.run(13_999), "10000: . seq=0 ack=5 | 12000: . seq=0 ack=5");
        assert_eq!(p.run(1), "1: R. seq=1 ack=5");
    });
}

/// H15: the restarted peer's ISS happens to fit: our challenge acknowledges its SYN, which without SYN
/// says nothing to it. Nobody is reset; the user's timer, or the peer's, resolves it.
#[test]
fn t97_a_challenge_that_fits_the_new_syn() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. len=10");
        p.receive();
        // ISS + 1 = RCV.NXT of ours.
        for _ in 0..3 {
            assert_eq!(p.on("S seq=10"), "answered S50 | . seq=1 ack=11");
            p.run(1000);
        }
        assert_eq!((p.state(), p.ends()), (TcpState::Established, "".into()));
        assert_eq!(p.send(5), "5");
        p.out();
        p.run(1_000_000);
        assert!(p.ends().starts_with("timed out (no acknowledgment)"));
        // And as the peer that connects: no RST, the attempt continues until it times out.
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.on(". seq=300 ack=1"), "dropped S23");
        assert_eq!(p.state(), TcpState::SynSent);
    });
}

/// H17: what is left of us after a close meets a rebooted peer.
#[test]
fn h17_an_orphan_is_removed_by_the_reset_of_a_rebooted_peer() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, TcpState::LastAck, false);
        assert_eq!(p.run(250), "200: F. seq=1 ack=2");
        assert_eq!(p.on("R seq=2"), "ended R16");
        p.assert_gone();
    });
}

/// H16: a middlebox that forgot the connection gives the peer another port: what comes from there is a
/// stranger's, and its reset leads the peer to its end. Ours stays until a segment arrives.
#[test]
fn h16_the_peer_comes_back_from_another_port() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("P. port=5001 ack=77 len=3"), "answered S10 | 5001: R seq=77");
        assert_eq!((p.state(), p.ends().as_str()), (TcpState::Established, ""));
    });
}

/// H18: nothing is left of a connection that both sides have lost: nothing is sent, and the same two ends
/// connect again.
#[test]
fn h18_both_lost_their_state() {
    both(|v6| {
        let mut pair = Pair::new(v6);
        let (a, _) = pair.connect();
        let (local, remote) = (pair.a.tcp(a).local(), pair.a.tcp(a).remote());
        for host in [&mut pair.a, &mut pair.b] {
            host.stack = crate::Stack::new(host.stack.config().clone(), [9; 16]);
            host.sent.clear();
        }
        pair.run(Duration::from_secs(10_000));
        assert!(pair.a.sent.is_empty() && pair.b.sent.is_empty());
        let listener = pair.listen(1);
        pair.a.stack.tcp_connect(Some(local), remote).unwrap();
        pair.run_until_idle();
        assert!(pair.b.stack.tcp_accept(listener).is_some());
    });
}
