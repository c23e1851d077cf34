//! Pacing: when data is sent that the window allows.

use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::vec::Vec;

const RTT: u64 = 50;

/// A connection with a window of 80 segments, in slow start, of which none are on their way.
fn ready(v6: bool, pacing: bool) -> Peer {
    let mut p = Peer::with(v6, |config| config.tcp.pacing = pacing).listen(8).receive_syn(Kind::Full);
    p.run(RTT);
    p.on(".");
    p.accept();
    p.send(1 << 20);
    p.out();
    while p.tcp().info().cwnd < 80 * p.tcp().info().mss {
        p.run(RTT);
        acknowledge_all(&mut p);
    }
    p
}

/// There is always more to send.
fn acknowledge_all(p: &mut Peer) {
    p.ack = 1 + p.tcp().info().bytes_sent as i64;
    p.on(".");
    p.send(1 << 20);
    p.out();
}

/// Whether the window lets no more go.
fn is_full(p: &mut Peer) -> bool {
    let info = p.tcp().info();
    info.unacked as u32 + info.mss > info.cwnd
}

/// When the segments with data were sent since `from`, in milliseconds after `start`.
fn departures(p: &Peer, from: usize, start: crate::Instant) -> Vec<u64> {
    let text = p.sent[from..].iter().filter(|sent| !sent.data().is_empty());
    text.map(|sent| (sent.at - start).as_millis() as u64).collect()
}

#[test]
fn a_window_is_spread_over_the_round_trip() {
    both(|v6| {
        let mut p = ready(v6, true);
        p.run(RTT);
        let (from, start) = (p.sent.len(), p.now);
        acknowledge_all(&mut p);
        p.run(RTT - 1);
        assert!(is_full(&mut p), "all of the window in less than a round trip");
        let at = departures(&p, from, start);
        let window = at.len() as u64;
        assert!((RTT / 2 - 4..RTT / 2 + 2).contains(&at[at.len() - 2]), "at twice the pace: {at:?}");
        for ms in 0..RTT / 2 {
            let burst = at.iter().filter(|sent| **sent == ms).count() as u64;
            let max = if ms == 0 { 11 } else { window * 2 / RTT + 2 };
            assert!(burst <= max, "{ms}: {at:?}");
        }
    });
}

#[test]
fn without_pacing_a_window_leaves_at_once() {
    both(|v6| {
        let mut p = ready(v6, false);
        p.run(RTT);
        let (from, start) = (p.sent.len(), p.now);
        acknowledge_all(&mut p);
        assert!(is_full(&mut p) && departures(&p, from, start).len() > 150);
    });
}

/// An ACK is pending at once, also while data is paced.
#[test]
fn acks_are_not_paced() {
    both(|v6| {
        let mut p = ready(v6, true);
        acknowledge_all(&mut p);
        let out = p.on_all(&["P. at=10 len=10"]);
        assert_eq!(out.matches("sack=11-21").count(), 1, "{out}");
        assert!(p.tcp().info().unsent > 0 && p.last().data().is_empty());
    });
}
