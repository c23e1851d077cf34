//! H: TIME-WAIT.

use crate::TcpState;
use crate::tcp::tests::peer::{IRS, Kind, Peer, US, both};
use TcpState::{Closed, SynReceived, TimeWait};
use core::net::SocketAddr;

const ACK: &str = "answered Q1 | . seq=2 ack=2";

fn waiting(v6: bool, kind: Kind) -> Peer {
    Peer::in_state(v6, kind, TimeWait, true)
}

/// For how many milliseconds it still waits.
fn rest(p: &mut Peer) -> u64 {
    let start = p.now;
    while p.state() == TimeWait {
        let at = p.stack.poll_timeout().expect("it does not wait for ever");
        p.pass((at - p.now).as_millis() as u64);
    }
    p.assert_gone();
    (p.now - start).as_millis() as u64
}

/// Q1 to Q4, Q10, Q12, Q14: what is answered, and what restarts the timer.
#[test]
fn t120_t121_t122_segments_in_time_wait() {
    both(|v6| {
        for (segment, expected, restarts) in [
            ("F. at=-1", ACK, true),
            (".", "dropped Q2", true),
            (". ack=1", "dropped Q2", true),
            ("P. len=3", ACK, true),
            (". at=-5", ACK, false),
            (". at=100000", ACK, false),
            ("F. at=-2", ACK, false),
            ("F. at=500000", ACK, false),
            ("F at=-5", ACK, false),
            ("-", "dropped Q2", false),
            ("P len=3", "dropped Q2", false),
            ("F at=-1", ACK, true), // the choice of Linux
            ("S. at=5", ACK, false),
            ("S at=-5", ACK, false),
            ("S", ACK, false),
            ("SF at=5", ACK, false),
            // An ACK of unsent data belongs to no connection: it does not extend the entry.
            ("F. at=-1 ack=99", "dropped Q2", false),
            ("R", "dropped R17", false),
        ] {
            let mut p = waiting(v6, Kind::Plain);
            p.pass(50_000);
            assert_eq!(p.on(segment), expected, "{segment}");
            assert_eq!(rest(&mut p), if restarts { 60_000 } else { 10_000 }, "{segment}");
        }
    });
}

/// Text and FIN come from a sender that waits, and are always answered, as on Linux.
#[test]
fn t122_answers_to_bare_acks_are_limited() {
    both(|v6| {
        let mut p = waiting(v6, Kind::Plain);
        assert_eq!(p.on(". at=9"), ACK);
        for segment in [". at=9", "S at=-5", "S. at=5"] {
            assert_eq!(p.on(segment), "dropped Q1", "{segment}");
        }
        for segment in ["P. len=3", "P. len=3", "F. at=-1", "F. at=-1"] {
            assert_eq!(p.on(segment), ACK, "{segment}");
        }
        p.pass(500);
        assert_eq!(p.on("S at=-5"), ACK);
        assert_eq!(p.stack.counters().tcp_suppressed_acks, 3);
    });
}

/// Q6 to Q9 (RFC 6191).
#[test]
fn t123_t124_t125_a_new_syn_in_time_wait() {
    both(|v6| {
        for (kind, segment, reopens) in [
            (Kind::Plain, "S at=100 mss=1460", true),
            (Kind::Plain, "S mss=1460", false),
            (Kind::Plain, "S at=-100 mss=1460", false),
            (Kind::Full, "S at=-100 ts=10 mss=1460", true),
            (Kind::Full, "S at=100 ts=10 mss=1460", true),
            (Kind::Full, "S at=100 ts=-1000000 mss=1460", false),
            (Kind::Full, "S at=100 nots mss=1460", true),
            (Kind::Full, "S at=-100 nots mss=1460", false),
        ] {
            let mut p = waiting(v6, kind);
            p.pass(10_000);
            let last = p.sent.iter().rev().find(|sent| sent.header().flags.bits() & 1 != 0).unwrap();
            let snd_nxt = last.header().seq.wrapping_add(1);
            let out = p.on(segment);
            if !reopens {
                assert_eq!(out, ACK, "{segment}");
                assert_eq!(rest(&mut p), 50_000);
                continue;
            }
            assert!(out.starts_with("accepted | S. seq=0 ack="), "{segment}: {out}");
            let ahead = p.last().header().seq.wrapping_sub(snd_nxt) as i32;
            assert!(ahead > 0 && ahead != 65_537, "{ahead}");
            assert_eq!(p.state(), SynReceived);
            p.seq = i64::from(p.last().header().ack.wrapping_sub(IRS));
            p.ack = 1;
            p.timestamps = p.timestamps && !segment.contains("nots");
            assert_eq!(p.on(". ts=10"), "accepted");
            assert_eq!(p.state(), TcpState::Established);
            p.on("R");
            assert_eq!(p.state(), Closed);
        }
    });
}

/// S18 is not for those who come out of TIME-WAIT: their ACK would not find the listener that sent the
/// cookie.
#[test]
fn s18_a_new_syn_in_time_wait_gets_no_cookie() {
    both(|v6| {
        for cookies in [true, false] {
            let mut p = waiting(v6, Kind::Plain);
            let mut tcp = p.stack.tcp_config_mut();
            (tcp.max_embryonic, tcp.syn_cookies) = (0, cookies);
            drop(tcp);
            let out = p.on("S at=100 mss=1460");
            assert!(out.starts_with("accepted | S. seq=0 ack="), "{out}");
            p.seq = i64::from(p.last().header().ack.wrapping_sub(IRS));
            p.ack = 1;
            assert_eq!(p.on("."), "accepted");
            assert_eq!(p.state(), TcpState::Established);
        }
    });
}

/// Q13 (RFC 1122 section 4.2.2.13): a SYN that was an old copy leaves TIME-WAIT as it was, where Linux
/// forgets it.
#[test]
fn t126_a_reset_of_the_new_handshake_leads_back() {
    both(|v6| {
        let mut p = waiting(v6, Kind::Plain);
        p.pass(10_000);
        assert_eq!(p.on("S at=100"), "accepted | S. seq=0 ack=103");
        p.ends();
        assert_eq!(p.on("R seq=103"), "ended R12");
        assert_eq!(p.ends(), "reset by the peer in SYN-RECEIVED (R12), R");
        assert_eq!(p.state(), TimeWait);
        assert_eq!(rest(&mut p), 50_000);
    });
}

/// A SYN that cannot be taken now costs nothing either.
#[test]
fn t126_a_full_queue_leaves_time_wait_as_it_is() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(0).establish(Kind::Plain).lead_to(TimeWait, true);
        p.on("S seq=0 port=6001");
        p.on(". seq=1 ack=1 port=6001");
        assert_eq!(p.on("S at=100"), "dropped S17");
        assert_eq!(p.state(), TimeWait);
        p.accept();
        assert_eq!(p.on("S at=100"), "accepted | S. seq=0 ack=103");
    });
}

/// Q11: a reset would tell an old copy's sender that its connection is gone.
#[test]
fn t127_t128_without_a_listener() {
    both(|v6| {
        let mut p = waiting(v6, Kind::Plain);
        p.stack.tcp_unlisten(p.listener.unwrap());
        p.pass(1000);
        assert_eq!(p.on("S at=100"), ACK);
        p.pass(58_999);
        assert_eq!(p.on("S at=100"), ACK);
        p.pass(1);
        assert_eq!(p.on("S seq=102"), "answered S1 | R. seq=0 ack=103");
        assert_eq!(p.on("F. seq=1 ack=2"), "answered S4 | R seq=2");
    });
}

/// An entry whose timer was restarted expires at its own time, whatever else is in the table.
#[test]
fn t128_each_entry_has_its_own_time() {
    both(|v6| {
        let mut p = waiting(v6, Kind::Plain);
        p.pass(5000);
        // Another one, 5 s later; then the first is restarted, so that it is the later one.
        let port = 6001;
        let other =
            crate::FourTuple { local: SocketAddr::new(p.us, US), remote: SocketAddr::new(p.them, port) };
        p.on("S seq=0 port=6001 nots");
        p.on(". seq=1 ack=1 port=6001");
        p.accept();
        p.tcp().close();
        p.out();
        p.on("F. seq=1 ack=2 port=6001");
        assert_eq!(p.stack.tcp_state(&other), Some(TimeWait));
        p.pass(2000);
        assert_eq!(p.on("F. at=-1"), ACK);
        for (wait, first, second) in
            [(57_999, true, true), (1, true, false), (1999, true, false), (1, false, false)]
        {
            p.pass(wait);
            let second = second.then_some(TimeWait);
            assert_eq!((p.state() == TimeWait, p.stack.tcp_state(&other)), (first, second));
        }
        p.assert_gone();
    });
}

/// A four-tuple that is used again and again leaves nothing behind but its last entry, at a cost in proportion to
/// how often it was used.
#[test]
fn t128_a_reopened_connection_leaves_no_state() {
    both(|v6| {
        const TIMES: u64 = 300;
        let mut p = waiting(v6, Kind::Plain);
        for _ in 0..TIMES {
            let out = p.on("S at=1000 mss=1460");
            assert!(out.starts_with("accepted | S. seq=0 ack="), "{out}");
            p.seq = i64::from(p.last().header().ack.wrapping_sub(IRS));
            p.ack = 1;
            assert_eq!(p.on("."), "accepted");
            p.accept();
            p.tcp().close();
            p.out();
            p.ack = 2;
            p.on("F.");
            p.seq += 1;
            assert_eq!(p.state(), TimeWait);
            let (places, deadlines, steps) = p.stack.tcp.demux.waiting.kept();
            assert_eq!((places, deadlines), (1, 1));
            assert!(steps <= 2 * TIMES);
        }
        assert_eq!(rest(&mut p), 60_000);
    });
}

/// A TIME-WAIT that was made shorter meanwhile does not wait for the longer ones before it.
#[test]
fn t128_a_shorter_time_does_not_wait_for_a_longer_one() {
    both(|v6| {
        let mut p = waiting(v6, Kind::Plain);
        p.stack.tcp_config_mut().time_wait = core::time::Duration::from_secs(1);
        p.on("S seq=0 port=6001 nots");
        p.on(". seq=1 ack=1 port=6001");
        p.accept();
        p.tcp().close();
        p.out();
        p.on("F. seq=1 ack=2 port=6001");
        p.pass(1000);
        assert_eq!(p.stack.tcp.demux.waiting.kept().1, 1);
        assert_eq!(p.state(), TimeWait);
        p.pass(59_000);
        p.assert_gone();
    });
}

/// S101: the newest entry is not kept; the connection's end is the same.
#[test]
fn t129_a_full_table_forgets() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.tcp.max_time_wait = 0).listen(1);
        p = p.establish(Kind::Plain).lead_to(TcpState::FinWait2, true);
        assert_eq!(p.on("F."), "accepted | . seq=2 ack=2");
        assert_eq!(p.state(), Closed);
        assert_eq!(p.ends(), "orderly by the local application in FIN-WAIT-2 (E0)");
        assert_eq!(p.stack.counters().tcp_time_wait_overflows, 1);
        assert_eq!(p.receive(), "0");
        p.tcp().close();
        p.assert_gone();
    });
}

/// The user may read on, and the name stays until it closes; the four-tuple is not taken again
/// meanwhile.
#[test]
fn the_user_of_a_connection_in_time_wait() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Full, TcpState::FinWait2, true);
        assert_eq!(p.on("FP. len=7"), "accepted | . seq=2 ack=9");
        assert_eq!(p.tcp().state(), TimeWait);
        let flow = p.flow();
        assert!(p.stack.tcp_connect(Some(flow.local), flow.remote).is_err());
        assert_eq!((p.receive(), p.receive(), p.send(1)), ("7".into(), "0".into(), "BrokenPipe".into()));
        p.tcp().close();
        assert_eq!(p.state(), TimeWait);
        p.pass(60_000);
        assert_eq!(p.state(), Closed);
        assert!(p.stack.tcp_connect(Some(flow.local), flow.remote).is_ok());
    });
}
