//! The search for the path MTU with segments (RFC 4821).

use crate::tcp::tests::pair::Pair;
use crate::{ConnId, MtuProbing};
use core::time::Duration;

/// The path silently drops larger packets.
const MTU: usize = 1300;
/// The search ends this close to what passes.
const NEAR: u32 = 8;

/// The max data in a packet of this size.
fn max_data(mtu: usize, v6: bool) -> u32 {
    mtu as u32 - if v6 { 72 } else { 52 }
}

fn path(v6: bool, probing: MtuProbing, swallow_above: Option<usize>) -> Pair {
    let mut pair = Pair::with(v6, |config| config.tcp.mtu_probing = probing);
    pair.swallow_above = swallow_above;
    pair
}

fn transfer(pair: &mut Pair, a: ConnId, b: ConnId) -> u32 {
    let data = alloc::vec![7; 300_000];
    assert_eq!(pair.transfer(a, b, &data), data);
    pair.run(Duration::from_millis(50));
    pair.a.tcp(a).info().mss
}

fn near(size: u32, max: u32) -> bool {
    size <= max && size + NEAR > max
}

#[test]
fn after_a_black_hole_larger_segments_are_tried() {
    for v6 in [false, true] {
        let mut pair = path(v6, MtuProbing::AfterBlackHole, Some(MTU));
        let (a, b) = pair.connect();
        let mss = transfer(&mut pair, a, b);
        assert!(near(mss, max_data(MTU, v6)), "{mss}");
        let counters = pair.a.stack.counters();
        assert_eq!(counters.tcp_black_holes, 1);
        assert!(counters.tcp_mtu_probes_lost > 0 && counters.tcp_mtu_probes_arrived > 0, "{counters:?}");
    }
}

#[test]
fn without_probing_segments_stay_small() {
    for v6 in [false, true] {
        let mut pair = path(v6, MtuProbing::Off, Some(MTU));
        let (a, b) = pair.connect();
        let base = max_data(if v6 { 1280 } else { 1064 }, v6);
        assert_eq!(transfer(&mut pair, a, b), base);
        assert_eq!(pair.a.stack.counters().tcp_mtu_probes_arrived, 0);
    }
}

/// Nothing is lost but probes, which does not reduce the window; and no timeout is needed.
#[test]
fn a_search_from_below_meets_no_black_hole() {
    for v6 in [false, true] {
        for (swallow_above, max) in [(Some(MTU), MTU), (None, 1500)] {
            let mut pair = path(v6, MtuProbing::Always, swallow_above);
            let (a, b) = pair.connect();
            pair.delay = Duration::from_millis(5);
            let base = max_data(if v6 { 1280 } else { 1064 }, v6);
            assert_eq!(pair.a.tcp(a).info().mss, base);
            let mss = (0..4).map(|_| transfer(&mut pair, a, b)).last().unwrap();
            assert!(near(mss, max_data(max, v6)), "{mss}");
            let info = pair.a.tcp(a).info();
            let counters = pair.a.stack.counters();
            assert_eq!((counters.tcp_black_holes, counters.tcp_mtu_probes_lost > 0), (0, max == MTU));
            assert_eq!(info.ssthresh, u32::MAX, "no loss was taken for congestion: {info:?}");
            // Each lost probe goes again as two segments; and each transfer may end in a tail loss probe.
            assert!(info.retransmissions <= 2 * counters.tcp_mtu_probes_lost + 4, "{info:?}");
        }
    }
}

/// A probe is lost with others: that is congestion.
#[test]
fn a_probe_lost_among_others_hides_nothing() {
    for v6 in [false, true] {
        let mut pair = path(v6, MtuProbing::Always, Some(MTU));
        let (a, b) = pair.connect();
        pair.lose = |n| n % 10 == 0;
        transfer(&mut pair, a, b);
        assert!(pair.a.tcp(a).info().ssthresh < u32::MAX);
    }
}

/// The path grows, and ten minutes later that is found out; the next connection begins with what was found.
#[test]
fn the_search_begins_anew_and_serves_the_next_connection() {
    for v6 in [false, true] {
        let mut pair = path(v6, MtuProbing::AfterBlackHole, Some(MTU));
        let listener = pair.listen(8);
        let (a, b) = pair.connect_to(listener);
        let found = transfer(&mut pair, a, b);
        let (next, _) = pair.connect_to(listener);
        assert_eq!(pair.a.tcp(next).info().mss, found);
        pair.swallow_above = None;
        assert_eq!(transfer(&mut pair, a, b), found);
        pair.run(Duration::from_secs(590));
        assert_eq!(transfer(&mut pair, a, b), found);
        pair.run(Duration::from_secs(20));
        let mss = transfer(&mut pair, a, b);
        assert!(near(mss, max_data(1500, v6)), "{mss}");
    }
}

/// A probe that pacing holds back has not been sent: what is acknowledged meanwhile says nothing of it.
#[test]
fn a_probe_that_was_not_sent_does_not_raise_the_mtu() {
    for (v6, pacing) in [(false, false), (false, true), (true, true)] {
        let mut pair = Pair::with(v6, |config| {
            config.tcp.mtu_probing = MtuProbing::Always;
            config.tcp.pacing = pacing;
        });
        pair.swallow_above = Some(MTU);
        let (a, b) = pair.connect();
        pair.delay = Duration::from_millis(20);
        for _ in 0..8 {
            let mss = transfer(&mut pair, a, b);
            assert!(mss <= max_data(MTU, v6), "{pacing}: {mss} is more than the path takes");
        }
        let counters = pair.a.stack.counters();
        assert_eq!(counters.tcp_black_holes, 0);
        assert!(counters.tcp_mtu_probes_arrived > 0, "{counters:?}");
    }
}

/// RFC 4821 section 7.6.4: a probe that was lost together with other segments is inconclusive. The acknowledgment of its
/// retransmission does not raise the MTU.
#[test]
fn a_probe_lost_with_other_segments_does_not_raise_the_mtu() {
    for v6 in [false, true] {
        let mut pair = path(v6, MtuProbing::Always, Some(MTU));
        let (a, b) = pair.connect();
        pair.delay = Duration::from_millis(20);
        pair.swallow_next = true;
        let mss = transfer(&mut pair, a, b);
        assert!(mss <= max_data(MTU, v6), "{mss} is more than passes on this path");
    }
}
