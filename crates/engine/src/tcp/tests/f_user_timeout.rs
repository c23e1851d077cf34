//! F: the user timeout option (RFC 5482).

use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Config, TcpState};
use core::time::Duration;

const fn seconds(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n))
}

fn advertising(config: &mut Config) {
    config.tcp.advertised_user_timeout = seconds(300);
}

/// Sends data that is never acknowledged, and returns after how many seconds the connection ends, and by
/// which rule.
fn dies_after(p: &mut Peer) -> (u64, &'static str) {
    let start = p.now;
    assert_eq!(p.send(1), "1");
    while p.state() != TcpState::Closed {
        p.run(500);
    }
    let end = p.ended.pop().expect("it ended").end;
    ((end.at - start).as_secs(), end.rule.code())
}

/// Off unless asked for: not sent, and what the peer says is nothing to us.
#[test]
fn h10_the_option_is_off_until_requested() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=0 mss=1460 uto=200"), "accepted | S. seq=0 ack=1");
        (p.seq, p.ack) = (1, 1);
        assert_eq!(p.on(". uto=200"), "accepted");
        p.accept();
        assert_eq!((p.tcp().user_timeout(), p.tcp().advertised_user_timeout()), (None, None));
        let (time, rule) = dies_after(&mut p);
        assert!(time > 900 && rule == "S92", "{time} {rule}");
    });
}

/// It is sent on SYN and SYN|ACK, and the longer of both counts, within the limits.
#[test]
fn s93_the_longer_of_both_counts() {
    for (theirs, expected) in [
        ("", 300),
        (" uto=200", 300),
        (" uto=500", 500),
        (" uto=0", 300),      // reserved
        (" uto=32778", 600),  // ten minutes
        (" uto=32868", 3600), // a hundred minutes: more than U_LIMIT
    ] {
        both(|v6| {
            let mut p = Peer::with(v6, advertising).listen(8);
            let syn = alloc::format!("S seq=0 mss=1460{theirs}");
            assert_eq!(p.on(&syn), "accepted | S. seq=0 ack=1 uto=300");
            (p.seq, p.ack) = (1, 1);
            p.on(".");
            p.accept();
            assert_eq!(dies_after(&mut p), (expected, "S93"), "{theirs}");

            let mut p = Peer::with(v6, advertising);
            p.open();
            assert_eq!(p.out(), "S seq=0 uto=300");
            let syn_ack = alloc::format!("S. seq=0 mss=1460{theirs}");
            assert_eq!(p.on(&syn_ack), "accepted | . seq=1 ack=1 uto=300", "a cookie forgot it");
            (p.seq, p.ack) = (1, 1);
            assert_eq!(dies_after(&mut p), (expected, "S93"), "{theirs}");
        });
    }
}

/// Less than L_LIMIT is taken for L_LIMIT; what the user has set itself stands whatever is advertised.
#[test]
fn s93_the_limits_and_the_user() {
    both(|v6| {
        let short = |config: &mut Config| config.tcp.advertised_user_timeout = seconds(5);
        let mut p = Peer::with(v6, short).listen(8).establish_with_uto();
        p.on(". uto=7");
        assert_eq!(dies_after(&mut p), (100, "S93"));

        let mut p = Peer::with(v6, short).listen(8).establish_with_uto();
        p.tcp().set_user_timeout(seconds(20));
        p.on(". uto=500");
        assert_eq!(dies_after(&mut p), (20, "S93"));
    });
}

impl Peer {
    /// ESTABLISHED where our SYN|ACK has the option.
    fn establish_with_uto(mut self) -> Self {
        assert_eq!(self.on("S seq=0 mss=1460"), "accepted | S. seq=0 ack=1 uto=5");
        (self.seq, self.ack) = (1, 1);
        self.on(".");
        self.accept();
        self
    }
}

/// Later a change is sent at once, once, on a segment without data; a change by the peer also applies,
/// also while data is expected.
#[test]
fn s93_a_change_is_advertised_and_applied() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.tcp().set_advertised_user_timeout(seconds(150));
        assert_eq!(p.out(), ". seq=1 ack=1 uto=150");
        p.tcp().set_advertised_user_timeout(seconds(150));
        assert_eq!(p.out(), "", "that is no news");
        // With data the option is sent with the next segment, at once.
        assert_eq!(p.send(3), "3");
        p.tcp().set_advertised_user_timeout(seconds(40_000));
        assert_eq!(p.out(), ". seq=1 ack=1 uto=33435 | P. seq=1 ack=1 len=3");
        p.tcp().set_advertised_user_timeout(seconds(150));
        p.out();
        p.run(100_000);
        assert_eq!(p.on(". uto=400"), "accepted");
        p.run(299_000);
        assert_eq!(p.state(), TcpState::Established);
        p.run(2_000);
        assert!(p.ends().contains("(S93)"));

        // Unacceptable segments change nothing.
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_advertised_user_timeout(seconds(150));
        p.out();
        for segment in [". at=-9 uto=900", ". ack=9 uto=900", "- uto=900", "R at=9 uto=900"] {
            p.on(segment);
        }
        assert_eq!(dies_after(&mut p), (150, "S93"));
        // Off again.
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_advertised_user_timeout(seconds(150));
        p.tcp().set_advertised_user_timeout(None);
        assert_eq!(p.out(), ". seq=1 ack=1", "the ACK that it would have ridden on");
        assert_eq!(dies_after(&mut p).1, "S92");
    });
}

/// S91: keep-alive ends a connection no sooner than that (RFC 5482 section 4.2).
#[test]
fn s91_keep_alive_waits_for_the_user_timeout() {
    both(|v6| {
        let mut p = Peer::with(v6, advertising);
        p.open();
        p.out();
        p.on("S. seq=0 mss=1460 uto=400");
        let keepalive =
            crate::Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(10), count: 2 };
        p.tcp().set_keepalive(Some(keepalive));
        p.run(399_000);
        assert_eq!(p.state(), TcpState::Established);
        p.run(2_000);
        assert!(p.ends().contains("(S91)"));
    });
}

/// An ACK of an old connection hurries the next SYN, and does not put off the end of the attempt.
#[test]
fn an_old_ack_in_syn_sent_does_not_extend_the_user_timeout() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        p.tcp().set_user_timeout(seconds(2));
        p.run(1_995);
        assert_eq!(p.on(". seq=500 ack=6"), "answered S20 | R seq=6");
        assert_eq!((p.run(4).as_str(), p.state()), ("", TcpState::SynSent));
        assert_eq!((p.run(1).as_str(), p.state()), ("", TcpState::Closed));
        // A user timeout that has passed when it is set.
        let mut p = Peer::syn_sent(v6);
        p.run(5_000);
        p.tcp().set_user_timeout(seconds(2));
        p.on(". seq=500 ack=6");
        assert_eq!((p.run(1).as_str(), p.state()), ("", TcpState::Closed));
    });
}
