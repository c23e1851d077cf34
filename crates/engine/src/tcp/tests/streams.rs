//! Text, in both directions, whatever happens to it on the way; and the orderly release.

use crate::tcp::tests::pair::Pair;
use crate::{Cause, Rule, TcpState};
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn data_arrives() {
    for v6 in [false, true] {
        let mut pair = Pair::new(v6);
        let (a, b) = pair.connect();
        let sent = data(3_000_000);
        assert_eq!(pair.transfer(a, b, &sent), sent);
        assert_eq!(pair.a.tcp(a).info().retransmissions, 0);
        assert_eq!(pair.a.tcp(a).info().mss, if v6 { 1428 } else { 1448 });
    }
}

#[test]
fn data_arrives_over_a_wire_that_loses() {
    let mut pair = Pair::new(false);
    let (a, b) = pair.connect();
    pair.lose = |n| n % 37 == 0 || n % 41 == 3;
    let sent = data(1_000_000);
    assert_eq!(pair.transfer(a, b, &sent), sent);
    assert!(pair.a.tcp(a).info().retransmissions > 5);
}

/// E1, E4 to E8, E10, E12: T130.
#[test]
fn an_orderly_release_ends_both_sides_cleanly() {
    for v6 in [false, true] {
        let mut pair = Pair::new(v6);
        let (a, b) = pair.connect();
        assert_eq!(pair.a.tcp(a).send(b"hello"), Poll::Ready(Ok(5)));
        pair.a.tcp(a).shutdown().unwrap();
        pair.run_until_idle();
        assert_eq!((pair.a.tcp(a).state(), pair.b.tcp(b).state()), (TcpState::FinWait2, TcpState::CloseWait));
        let mut buf = [0; 10];
        assert_eq!(pair.b.tcp(b).receive(&mut buf), Poll::Ready(Ok(5)));
        assert_eq!(pair.b.tcp(b).receive(&mut buf), Poll::Ready(Ok(0)));
        assert_eq!(pair.b.tcp(b).send(b"good bye"), Poll::Ready(Ok(8)));
        pair.b.tcp(b).close();
        pair.run_until_idle();
        assert_eq!(pair.a.tcp(a).state(), TcpState::TimeWait);
        assert_eq!(pair.a.tcp(a).receive(&mut buf), Poll::Ready(Ok(8)));
        assert_eq!(pair.a.tcp(a).receive(&mut buf), Poll::Ready(Ok(0)));
        for ended in [&pair.a.ended, &pair.b.ended] {
            assert_eq!(ended.len(), 1);
            assert_eq!((ended[0].end.cause, ended[0].end.rule), (Cause::Orderly, Rule::EndOrderly));
            assert!(ended[0].end.lost.is_nothing());
        }
        pair.run(Duration::from_secs(61));
        assert_eq!(pair.a.tcp(a).state(), TcpState::Closed);
    }
}

/// However much is sent to it, a user that does not read holds no more than a connection starts with.
#[test]
fn an_idle_reader_holds_little() {
    let mut pair = Pair::new(false);
    let (a, b) = pair.connect();
    while pair.a.tcp(a).send(&data(65_536)).is_ready() {
        pair.run_until_idle();
    }
    let info = pair.b.tcp(b).info();
    assert!((64 * 1024..=128 * 1024).contains(&info.unread), "{info:?}");
}

/// A user that closes with data behind a zero window: it arrives once the reader reads.
#[test]
fn data_behind_a_closed_window_outlives_its_socket() {
    let mut pair = Pair::new(false);
    let (a, b) = pair.connect();
    let sent = data(300_000);
    let mut rest = &sent[..];
    for _ in 0..1000 {
        if let Poll::Ready(n) = pair.a.tcp(a).send(rest) {
            rest = &rest[n.unwrap()..];
        }
        pair.run(Duration::from_millis(1));
        if rest.is_empty() {
            break;
        }
    }
    let sent_len = sent.len() - rest.len();
    pair.a.tcp(a).close();
    pair.run(Duration::from_secs(1));
    let (mut got, mut buf) = (Vec::new(), [0; 4096]);
    for _ in 0..10_000 {
        match pair.b.tcp(b).receive(&mut buf) {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(n) => got.extend_from_slice(&buf[..n.unwrap()]),
            Poll::Pending => pair.run(Duration::from_millis(1)),
        }
        assert!(pair.a.sent.len() < 5000, "{:?}", pair.a.sent.len());
    }
    assert_eq!(got.len(), sent_len);
}
