//! How much a connection buffers: what its path can use.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;
use core::time::Duration;

/// The peer sends this number of segments of 1000 bytes one RTT of 20 ms after our last ACK, and all is read.
fn receive_round(p: &mut Peer, segments: u32) {
    p.run(20);
    for _ in 0..segments {
        let echo = if p.last().at == p.now { "P. len=1000 ecr=-20" } else { "P. len=1000" };
        assert!(p.on(echo).starts_with("accepted"));
        p.seq += 1000;
        p.receive();
    }
}

/// The handshake of this peer took no time, and we send nothing: the RTT is measured by the echo in its data.
#[test]
fn the_receive_buffer_holds_twice_the_data_read_per_rtt() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        for _ in 0..8 {
            receive_round(&mut p, 60);
        }
        let steady = p.tcp().info().rcv_wnd;
        receive_round(&mut p, 60);
        assert!(p.tcp().info().rcv_wnd <= steady && steady < 5 * 60_000, "no more comes: {steady}");
        for n in 1..=4 {
            receive_round(&mut p, 60 << n);
        }
        let grown = p.tcp().info().rcv_wnd;
        assert!(grown > 2 * (480 + 480) * 1000, "the next round trip may bring twice as much: {grown}");
    });
}

/// What comes first after a silence echoes a timestamp as old as the silence. It is no round trip, neither for the
/// window nor for who asks; whatever the silence, and once or again and again.
#[test]
fn idle_time_is_not_an_rtt() {
    let took = |silences: &[u64]| {
        let mut pair = Pair::new(false);
        let listener = pair.listen(8);
        pair.delay = Duration::from_millis(10);
        let to = core::net::SocketAddr::new(pair.b.addr, PORT);
        let a = pair.a.stack.tcp_connect(None, to).unwrap();
        pair.run(Duration::from_millis(100));
        let b = pair.b.stack.tcp_accept(listener).unwrap();
        for silence in silences {
            pair.run(Duration::from_secs(*silence));
            assert_eq!(pair.transfer(a, b, &[7; 3000]).len(), 3000);
        }
        pair.run(Duration::from_secs(silences.last().copied().unwrap_or_default()));
        let (start, data) = (pair.now, alloc::vec![7; 4 << 20]);
        assert_eq!(pair.transfer(a, b, &data).len(), data.len());
        let rtt = pair.b.tcp(b).info().receiver_rtt.unwrap();
        assert!((20..100).contains(&rtt.as_millis()), "{silences:?}: {rtt:?}");
        pair.now - start
    };
    let at_once = took(&[]);
    for silences in [&[1][..], &[3600], &[60; 20], &[30 * 86_400], &[50 * 86_400]] {
        let after = took(silences);
        assert!(after < at_once * 3 / 2, "{silences:?}: {after:?}, at once {at_once:?}");
    }
}

/// A path that has become longer is known after a few round trips all the same.
#[test]
fn a_grown_rtt_is_detected() {
    let mut pair = Pair::new(false);
    let listener = pair.listen(8);
    pair.delay = Duration::from_millis(1);
    let to = core::net::SocketAddr::new(pair.b.addr, PORT);
    let a = pair.a.stack.tcp_connect(None, to).unwrap();
    pair.run(Duration::from_millis(100));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    let data = alloc::vec![7; 1 << 20];
    assert_eq!(pair.transfer(a, b, &data).len(), data.len());
    pair.delay = Duration::from_millis(40);
    for _ in 0..4 {
        assert_eq!(pair.transfer(a, b, &data).len(), data.len());
    }
    let rtt = pair.b.tcp(b).info().receiver_rtt.unwrap();
    assert!((80..200).contains(&rtt.as_millis()), "{rtt:?}");
}

/// The user reads nothing: a window that is not read does not grow.
#[test]
fn the_receive_buffer_does_not_grow_without_reads() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let at_first = p.tcp().info().rcv_wnd;
        for _ in 0..100 {
            p.run(20);
            assert!(p.on("P. len=1000").starts_with("accepted"));
            p.seq += 1000;
        }
        let info = p.tcp().info();
        assert!(info.rcv_wnd <= at_first && info.unread == 100_000, "{at_first}: {info:?}");
    });
}

/// The send buffer follows the congestion window upwards. It does not shrink with it: what the peer has
/// beyond a gap takes room, and the window must not wait for room.
#[test]
fn the_send_buffer_holds_twice_the_largest_window() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        assert_eq!(p.send(1 << 20), "131072");
        let mss = i64::from(p.tcp().info().mss);
        p.out();
        for _ in 0..6 {
            p.run(20);
            let next = 1 + i64::from(p.tcp().info().unacked as u32) + p.tcp().info().bytes_sent as i64
                - p.tcp().info().unacked as i64;
            while p.ack < next {
                p.ack = (p.ack + mss).min(next);
                p.on(".");
                p.send(1 << 20);
            }
        }
        let (cwnd, held) = (p.tcp().info().cwnd as usize, p.tcp().info());
        let held = held.unsent + held.unacked;
        assert!(cwnd > 200_000 && held > cwnd * 3 / 2 && held <= cwnd * 2, "{held}, window {cwnd}");
        let (from, to) = (p.ack + mss, p.ack + 10 * mss);
        for n in 2..=10 {
            p.on(&format!(". sack={from}-{}", (from + (n - 1) * mss).min(to)));
        }
        assert!((p.tcp().info().cwnd as usize) < cwnd);
        p.ack += 10 * mss;
        p.on(".");
        p.send(1 << 20);
        let info = p.tcp().info();
        assert!(info.unsent + info.unacked >= held, "{info:?}");
    });
}
