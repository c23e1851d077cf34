//! G: connections whose user has gone: how long they wait (S71, S96, S97), and how many there may be
//! (S100).

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, THEM, both};
use TcpState::{CloseWait, Closed, Closing, FinWait1, FinWait2, TimeWait};
use alloc::format;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;

fn wait_for_fin(p: &mut Peer, time: u64) {
    p.tcp().set_fin_wait_2(Some(Duration::from_secs(time)));
}

/// S71 in FIN-WAIT-2: a RST at once; before: FIN, and RST when it is acknowledged, whatever comes with the
/// ACK.
#[test]
fn t113_a_user_that_does_not_wait_for_the_fin() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
        wait_for_fin(&mut p, 0);
        assert_eq!(p.out(), "", "it still holds the connection");
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=2 ack=1");
        assert_eq!(p.ends(), "aborted by the local application in FIN-WAIT-2 (S71)");
        p.assert_gone();

        for (segment, lost) in [(". ack=2", ""), ("F. ack=2", ""), ("FP. ack=2 len=3", ", lost 0+0+3")] {
            let mut p = Peer::established(v6, Kind::Plain);
            wait_for_fin(&mut p, 0);
            p.tcp().close();
            assert_eq!(p.out(), "F. seq=1 ack=1");
            assert_eq!((p.on(". ack=1").as_str(), p.state()), ("accepted", FinWait1));
            assert_eq!(p.on(segment), "ended S71 | R seq=2");
            let flags = crate::tcp::tests::peer::flags_of(segment);
            let end = "aborted by the local application in FIN-WAIT-2 (S71)";
            assert_eq!(p.ends(), format!("{end}, {flags}{lost}"));
            p.assert_gone();
        }
    });
}

/// S71 is about FIN-WAIT-2 only: if the peer's FIN has arrived, it is not waited for; unread data and a
/// linger time of zero come first.
#[test]
fn t113_elsewhere_nothing_changes() {
    both(|v6| {
        for (state, segment, end) in [(CloseWait, ". ack=2", Closed), (FinWait1, "F. ack=1", Closing)] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            wait_for_fin(&mut p, 0);
            p.tcp().close();
            assert!(!p.out().contains('R'), "{state}");
            assert!(!p.on(segment).contains('R'), "{state}");
            assert_eq!(p.state(), end);
        }
        for (unread, lingers, rule) in [(true, false, "S60"), (true, true, "S60"), (false, true, "S64")] {
            let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
            wait_for_fin(&mut p, 0);
            if unread {
                p.on("P. len=3");
            }
            if lingers {
                p.tcp().set_linger(Some(Duration::ZERO));
            }
            p.tcp().close();
            assert!(p.out().starts_with("R."));
            assert!(p.ends().contains(rule), "{rule}");
        }
    });
}

/// S96 with a time of the user's own (`TCP_LINGER2`), two minutes at most.
#[test]
fn t112_a_user_sets_the_fin_wait_2_timeout() {
    both(|v6| {
        for (asked, waited) in [(3, 3), (90, 90), (1000, 120)] {
            let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
            wait_for_fin(&mut p, asked);
            assert_eq!(p.tcp().fin_wait_2(), Some(Duration::from_secs(waited)));
            p.tcp().close();
            p.pass(waited * 1000 - 1);
            assert_eq!(p.state(), FinWait2);
            p.pass(1);
            assert!(p.ends().ends_with("(S96)"));
            p.assert_gone();
        }
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, true);
        wait_for_fin(&mut p, 3);
        p.tcp().set_fin_wait_2(None);
        p.tcp().close();
        p.pass(59_999);
        assert_eq!((p.on("F.").as_str(), p.state()), ("accepted | . seq=2 ack=2", TimeWait));
    });
}

#[test]
fn s97_a_reset_after_fin_wait_2_if_so_configured() {
    both(|v6| {
        let p = Peer::with(v6, |config| config.tcp.reset_on_give_up = true).listen(8);
        let mut p = p.establish(Kind::Plain).lead_to(FinWait2, false);
        assert_eq!(p.run(60_000), "60000: R. seq=2 ack=1");
        let end = "timed out (no FIN from the peer) by the local stack in FIN-WAIT-2 (S97)";
        assert_eq!(p.ends(), end);
        p.assert_gone();
    });
}

/// Two connections without a user, of which the network says of the first that its peer cannot be
/// reached: it counts twice, and goes when its timer comes. The other stays.
#[test]
fn s100_unreachable_orphans_end_first() {
    both(|v6| {
        let p = Peer::with(v6, |config| config.tcp.max_orphans = 3).listen(8);
        let mut p = p.establish(Kind::Plain);
        p.tcp().close();
        assert_eq!(p.out(), "F. seq=1 ack=1");
        let fin = p.last().bytes.clone();
        assert_eq!(p.on_icmp(&fin, IcmpError::host_unreachable(v6)), "dropped I2");
        assert_eq!(p.run(200), "200: F. seq=1 ack=1", "one is not too many, even twice");
        p.on(&format!("S seq=0 mss=1460 port={}", THEM + 1));
        p.on(&format!(". seq=1 ack=1 port={}", THEM + 1));
        p.accept();
        p.tcp().close();
        assert_eq!(p.out(), "5001: F. seq=1 ack=1");
        assert_eq!(p.run(400), "200: 5001: F. seq=1 ack=1 | 400: R. seq=2 ack=1");
        assert_eq!(p.ends(), "aborted by the local stack in FIN-WAIT-1 (S100)");
        assert_eq!((p.state(), p.stack.counters().tcp_orphan_overflows), (Closed, 1));
        assert_eq!(p.stack.tcp.orphans, 1);
    });
}

/// S100 at the timer of a window probe; a connection with a user is no burden, however many there are.
#[test]
fn s100_is_about_orphans_only() {
    both(|v6| {
        for has_user in [true, false] {
            let mut p = Peer::listening(v6).establish(Kind::Plain);
            p.on(". win=0");
            assert_eq!(p.send(5), "5");
            p.out();
            if has_user {
                p.tcp().shutdown().unwrap();
            } else {
                p.tcp().close();
            }
            p.stack.tcp_config_mut().max_orphans = 0;
            let out = p.run(300);
            assert_eq!(out, if has_user { "200: . seq=0 ack=1" } else { "200: R. seq=1 ack=1" });
            assert_eq!(p.state(), if has_user { FinWait1 } else { Closed });
        }
    });
}
