//! PSH: at the end of a write, and within a long one.

use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::vec;
use alloc::vec::Vec;
use core::task::Poll;
use lastack_wire::tcp::TcpFlags;

/// Acknowledges each segment by itself until all is sent. Returns where the segments with PSH end, relative to the
/// start of the data.
fn pushed(p: &mut Peer) -> Vec<i64> {
    let (mut ends, mut next) = (Vec::new(), 0);
    p.out();
    while next < p.sent.len() {
        let (header, data) = p.sent[next].tcp.clone().unwrap();
        next += 1;
        let end = i64::from(header.seq.wrapping_sub(p.iss())) + data.len() as i64;
        if data.is_empty() || end <= p.ack {
            continue;
        }
        if header.flags.contains(TcpFlags::PSH) {
            ends.push(end - 1);
        }
        p.ack = end;
        p.on(".");
    }
    ends
}

/// A receiver that holds data until it sees PSH gets one before its window is full.
#[test]
fn a_long_write_is_pushed_within_each_window_of_the_peer() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let (mss, window) = (i64::from(p.tcp().info().mss), 65_535);
        let piece = window / 2 / mss * mss;
        assert_eq!(p.send(130_000), "130000");
        // Ten segments are sent at once.
        let first = 10 * mss + piece;
        assert_eq!(pushed(&mut p), [first, first + 2 * piece, 130_000]);
        assert!(first < window && 2 * piece < window);
    });
}

#[test]
fn a_write_up_to_half_of_the_window_is_pushed_at_its_end_alone() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.send(65_535 / 2), "32767");
        assert_eq!(pushed(&mut p), [32_767]);
        assert_eq!(p.send(65_535 / 2 + 1), "32768");
        assert_eq!(pushed(&mut p).len(), 1, "its half is within the last segment");
        // With a window scale of 7 the peer's window is 8 MiB.
        let mut p = Peer::established(v6, Kind::Full);
        assert_eq!(p.send(130_000), "130000");
        assert_eq!(pushed(&mut p), [130_000]);
    });
}

/// What follows a long write does not remove what is pushed within it, nor does data that is not pushed itself.
#[test]
fn a_write_behind_a_long_one_leaves_its_pushes() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let mss = i64::from(p.tcp().info().mss);
        let piece = 65_535 / 2 / mss * mss;
        assert_eq!(p.send(100_000), "100000");
        assert_eq!(p.send(10), "10");
        let first = 10 * mss + piece;
        assert_eq!(pushed(&mut p), [first, 100_010]);
        // With MSG_MORE nothing is pushed before the end of the write that follows.
        assert_eq!(p.tcp().send_more(&vec![7; 30_000]), Poll::Ready(Ok(30_000)));
        assert_eq!(p.send(10), "10");
        assert_eq!(pushed(&mut p), [130_020]);
    });
}

/// Unsent data of earlier writes is ahead of a long write: what is pushed is counted from its start.
#[test]
fn a_long_write_behind_unsent_data_is_pushed_within() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let mss = i64::from(p.tcp().info().mss);
        let piece = 65_535 / 2 / mss * mss;
        assert_eq!(p.send(30_000), "30000");
        p.out();
        assert_eq!(p.send(100_000), "100000");
        assert_eq!(pushed(&mut p), [30_000 + 2 * piece, 130_000].map(|end| next_segment(end, mss)));
    });
}

/// The segment that holds the byte before `end` ends there, or at the next boundary.
fn next_segment(end: i64, mss: i64) -> i64 {
    if end == 130_000 { end } else { (end + mss - 1) / mss * mss }
}

/// A peer whose window holds less than a segment: a push interval is a segment at least.
#[test]
fn a_tiny_window_of_the_peer() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=0 mss=1000 win=600"), "accepted | S. seq=0 ack=1");
        (p.seq, p.ack) = (1, 1);
        assert_eq!(p.on(". win=600"), "accepted");
        p.accept();
        assert_eq!(p.send(5000), "5000");
        assert_eq!(p.out(), ". seq=1 ack=1 len=600");
        p.ack = 601;
        assert_eq!(p.on(". win=600"), "accepted | P. seq=601 ack=1 len=600", "the end of the first 1000");
    });
}
