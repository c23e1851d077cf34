//! Losses and their repair: what is sent again and when, what that costs, and what a repair for nothing
//! gives back.

use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;
use alloc::string::String;

/// A connection that has sent `segments` full segments which are all on their way, the window wide open.
struct Bulk {
    p: Peer,
    mss: u32,
    /// Bytes acknowledged.
    acked: u32,
}

impl Bulk {
    /// The peer has a window scale of 7 or, plain, one of 64 KiB.
    fn new(v6: bool, kind: Kind) -> Self {
        let mut p = Peer::established(v6, kind);
        p.tcp().set_nodelay(true);
        let mss = p.tcp().info().mss;
        let mut bulk = Self { p, mss, acked: 0 };
        bulk.p.pass(50);
        bulk.p.send(120_000);
        assert_eq!(bulk.sent_now(), 10);
        bulk
    }

    /// How many segments go out now.
    fn sent_now(&mut self) -> usize {
        let from = self.p.sent.len();
        self.p.out();
        self.p.sent[from..].iter().filter(|sent| !sent.data().is_empty()).count()
    }

    /// The number of the first byte of a segment, relative to the ISS.
    fn seq(&self, segment: u32) -> u32 {
        1 + segment * self.mss
    }

    /// An ACK of all before `segment`, with the SACK block of these segments, its echo older than what
    /// was heard last by `older` ms. What it sends.
    fn on(&mut self, segment: u32, sack: Option<(u32, u32)>, older: u32) -> String {
        self.acked = segment;
        self.p.ack = i64::from(self.seq(segment));
        let mut text = format!(". ecr=-{older}");
        if let Some((from, to)) = sack {
            text += &format!(" sack={}-{}", self.seq(from), self.seq(to));
        }
        let packet = self.p.packet(&text);
        self.p.on_packet(&packet)
    }

    fn cwnd(&mut self) -> u32 {
        self.p.tcp().info().cwnd / self.mss
    }

    fn again(&mut self) -> u64 {
        self.p.tcp().info().retransmissions
    }

    /// A whole window is acknowledged, segment by segment, and the next goes out.
    fn round(&mut self, segments: u32) {
        self.p.run(20);
        for segment in self.acked + 1..=self.acked + segments {
            self.on(segment, None, 0);
        }
    }
}

/// RFC 3708: a DSACK for all that was sent again.
#[test]
fn a_recovery_that_dsacks_show_to_be_spurious_is_undone() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        bulk.p.run(20);
        for to in 3..=5 {
            bulk.on(0, Some((2, to)), 0);
        }
        assert_eq!(bulk.again(), 1, "the first; the rest of what is lost follows the clock of ACKs");
        bulk.on(0, Some((2, 7)), 0);
        assert_eq!(bulk.again(), 2);
        bulk.p.run(20);
        bulk.on(10, None, 0);
        assert_eq!((bulk.cwnd(), bulk.again()), (7, 2));
        bulk.on(10, Some((0, 1)), 0);
        assert_eq!(bulk.cwnd(), 7, "one of two");
        bulk.on(10, Some((1, 2)), 0);
        assert!(bulk.cwnd() >= 10, "{}", bulk.cwnd());
    });
}

/// RFC 3522: the first answer to a repair echoes a time before it.
#[test]
fn a_recovery_that_a_timestamp_echo_shows_to_be_spurious_is_undone() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        bulk.p.run(20);
        for to in 2..=4 {
            bulk.on(0, Some((1, to)), 20);
        }
        assert_eq!((bulk.again(), bulk.cwnd()), (1, 7));
        bulk.on(4, None, 20);
        assert!(bulk.cwnd() >= 10, "{}", bulk.cwnd());
        // The path is known to reorder: three segments beyond a gap are no loss yet.
        for to in 6..=9 {
            bulk.on(4, Some((5, to)), 20);
        }
        assert_eq!(bulk.again(), 1);
        bulk.p.run(30);
        assert_eq!(bulk.again(), 2, "after the reordering window they are");
    });
}

#[test]
fn a_late_segment_among_lost_ones_takes_nothing_back() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        bulk.p.run(20);
        for to in 5..=8 {
            bulk.on(0, Some((2, to)), 20);
        }
        assert_eq!((bulk.again(), bulk.cwnd()), (2, 7));
        bulk.on(1, Some((2, 8)), 20);
        assert_eq!(bulk.cwnd(), 7, "the second may be lost all the same");
        bulk.on(10, None, 0);
        assert_eq!(bulk.cwnd(), 7);
    });
}

/// As Linux (`TCPPartialUndo`): both retransmitted segments were late, not lost, and nothing retransmitted is unacknowledged.
#[test]
fn a_recovery_is_undone_if_late_segments_fill_all_its_holes() {
    both(|v6| {
        for (echo, restored) in [(20, true), (0, false)] {
            let mut bulk = Bulk::new(v6, Kind::Full);
            bulk.p.run(20);
            for to in 5..=8 {
                bulk.on(0, Some((2, to)), 20);
            }
            assert_eq!((bulk.again(), bulk.cwnd()), (2, 7));
            bulk.on(1, Some((2, 8)), 20);
            assert_eq!(bulk.cwnd(), 7);
            bulk.on(8, None, echo);
            assert_eq!(bulk.cwnd() >= 10, restored, "an echo {echo} ms old: {}", bulk.cwnd());
        }
    });
}

/// RFC 6675 section 6: what is repaired is waited for as long as anything that is sent.
#[test]
fn a_repair_restarts_the_timer() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        let rto = bulk.p.tcp().info().rto.as_millis() as u64;
        bulk.p.run(rto / 2);
        for to in 2..=4 {
            bulk.on(0, Some((1, to)), 0);
        }
        assert_eq!(bulk.again(), 1);
        let late = bulk.p.tcp().info().rto.as_millis() as u64;
        bulk.p.run(rto / 2 + 1);
        assert_eq!((bulk.again(), bulk.cwnd()), (1, 7), "the timer of what was lost is over");
        bulk.p.run(late - rto / 2);
        assert_eq!(bulk.cwnd(), 1);
    });
}

/// RFC 6582 section 4: without SACK a partial ACK repairs one segment, and where many are lost the timer
/// must not wait for all of them.
#[test]
fn without_sack_many_losses_are_left_to_the_timer() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Plain);
        bulk.p.run(20);
        for _ in 0..3 {
            bulk.on(0, None, 0);
        }
        assert_eq!(bulk.again(), 1);
        let rto = bulk.p.tcp().info().rto.as_millis() as u64;
        for segment in 1..=3 {
            bulk.p.run(rto / 3 + 1);
            bulk.on(segment, None, 0);
        }
        assert_eq!(bulk.again(), 4, "one at a time");
        bulk.p.run(rto / 3 + 1);
        assert_eq!(bulk.cwnd(), 1, "a timeout, one RTO after the first partial ACK");
    });
}

/// RFC 6937 section 3: where nearly all was lost, each repair that arrives lets two go, as in slow start, as
/// long as nothing more turns out to be lost.
#[test]
fn repairs_that_arrive_let_more_go() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        bulk.p.run(20);
        for to in 8..=10 {
            bulk.on(0, Some((7, to)), 0);
        }
        assert_eq!(bulk.again(), 1);
        // What went out while nothing was known to be lost arrives as well.
        bulk.p.run(10);
        bulk.on(0, Some((7, 12)), 0);
        let before = bulk.again();
        bulk.p.run(20);
        bulk.on(1, Some((7, 12)), 0);
        assert_eq!(bulk.again(), before + 2);
    });
}

/// RFC 6582 section 3.2 step 3: the ACK that ends a repair lets no whole window go at once.
#[test]
fn the_end_of_a_repair_is_no_burst() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        bulk.round(10);
        bulk.round(20);
        assert_eq!(bulk.cwnd(), 40);
        bulk.p.run(20);
        for to in 51..=70 {
            bulk.on(30, Some((50, to)), 0);
        }
        bulk.p.send(120_000);
        bulk.p.run(20);
        let all = 30 + bulk.p.tcp().info().unacked as u32 / bulk.mss;
        let from = bulk.p.sent.len();
        bulk.on(all, None, 0);
        let burst = bulk.p.sent.len() - from;
        let window = bulk.p.tcp().info().ssthresh / bulk.mss;
        assert_eq!((window, burst), (28, 14));
    });
}

/// RFC 2018 section 3: a block says what has arrived. One that reaches beyond SND.NXT says nothing.
#[test]
fn a_sack_block_beyond_the_data_sent_is_ignored() {
    both(|v6| {
        let mut bulk = Bulk::new(v6, Kind::Full);
        let (inside, end) = (bulk.seq(5), bulk.seq(10));
        for beyond in [end + 1, end + 100_000] {
            bulk.p.on(&format!(". sack={inside}-{beyond}"));
            assert_eq!(bulk.p.tcp().info().sacked, 0, "{beyond}");
        }
        bulk.p.on(&format!(". sack={inside}-{end}"));
        assert_eq!(bulk.p.tcp().info().sacked, end - inside);
    });
}

/// RFC 8985 section 6.2 step 4: a spurious retransmission widens the reordering window by a quarter of a round
/// trip.
#[test]
fn a_dsack_makes_the_next_repair_wait_longer() {
    /// How long segments that arrived beyond a gap wait for the one before them.
    fn patience(v6: bool, dsack: bool) -> u32 {
        let mut bulk = Bulk::new(v6, Kind::Full);
        [10, 20, 40].into_iter().for_each(|segments| bulk.round(segments));
        bulk.p.run(20);
        let at = bulk.acked;
        bulk.on(at, Some((at + 1, at + 2)), 0);
        bulk.on(at + 2, None, 0); // it was late: the path reorders
        if dsack {
            bulk.on(at + 2, Some((0, 1)), 0);
        }
        bulk.on(at + 2, Some((at + 3, at + 6)), 0);
        assert_eq!(bulk.again(), 0);
        (0..100).find(|_| bulk.p.run(1).contains("len")).expect("it is repaired in the end")
    }
    both(|v6| assert_eq!(patience(v6, true), patience(v6, false) + 5));
}

/// RFC 5681 section 3.1, equation 4: each timeout leaves a window of one segment, and so does one in the
/// repair after another, though the window has grown since.
#[test]
fn each_timeout_begins_from_one_segment() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut bulk = Bulk::new(v6, kind);
            bulk.p.run(600);
            for segment in [1, 3, 5] {
                bulk.p.run(10);
                bulk.on(segment, None, 0);
            }
            assert!(bulk.cwnd() > 3, "it grows by slow start");
            let again = bulk.again();
            while bulk.again() == again {
                bulk.p.run(10);
            }
            assert_eq!((bulk.again() - again, bulk.cwnd()), (1, 1), "{kind:?}");
        }
    });
}

/// RFC 8985 section 7.4.2: a tail loss probe that retransmitted old data reduces the window only once an ACK lies
/// beyond it, and nothing if a DSACK or a repeated ACK has shown before that both copies arrived.
#[test]
fn a_tail_loss_probe_costs_the_window_when_more_is_acknowledged() {
    both(|v6| {
        for (answer, reduced) in [("", true), ("dsack", false), ("repeated", false)] {
            let mut p = Peer::established(v6, Kind::Full);
            p.tcp().set_nodelay(true);
            let mss = p.tcp().info().mss;
            p.pass(50);
            p.send(2 * mss as usize);
            p.out();
            p.run(130);
            let info = p.tcp().info();
            assert_eq!((info.retransmissions, info.timeouts), (1, 0), "the probe");
            let acknowledged = i64::from(1 + 2 * mss);
            p.ack = acknowledged;
            p.on(".");
            let before = p.tcp().info().cwnd;
            match answer {
                "dsack" => p.on(&format!(". sack={}-{}", 1 + mss, 1 + 2 * mss)),
                "repeated" => p.on("."),
                _ => String::new(),
            };
            assert!(p.tcp().info().cwnd >= before, "the probe's own ACK may be that of what it repeated");
            p.send(100);
            p.out();
            p.pass(20);
            p.ack = acknowledged + 100;
            p.on(".");
            assert_eq!(p.tcp().info().cwnd < before, reduced, "{answer}");
        }
    });
}
