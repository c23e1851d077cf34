//! What a peer can make the stack do: N segments cost at most c * N steps (`crate::steps`), whatever their order. The
//! same for SACK is shown at the scoreboard.

use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Config, Received, TcpState, steps};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// The steps of `count` packets, one after the other, a microsecond apart; what is sent in answer is not parsed.
fn steps_of(p: &mut Peer, packets: &[Vec<u8>]) -> u64 {
    let mut buffer = Vec::new();
    steps::of(|| {
        for packet in packets {
            let _ = p.stack.handle_packet(p.now, packet, Received::default());
            while p.stack.poll_transmit(p.now, &mut buffer).is_some() {}
            while p.stack.poll_event().is_some() {}
            p.now += Duration::from_micros(1);
        }
    })
}

fn assert_linear(p: &mut Peer, packets: &[Vec<u8>], max: u64, what: &str) {
    let steps = steps_of(p, packets);
    let n = packets.len() as u64;
    assert!(steps <= max * n, "{what}: {steps} steps for {n} packets");
    p.stack.check();
}

/// Single bytes with a gap before each, in this order.
fn holes(p: &Peer, order: impl Iterator<Item = u64>) -> Vec<Vec<u8>> {
    order.map(|i| p.packet(&format!(". at={} len=1 win=1000", 1 + 2 * i))).collect()
}

/// More ranges than are kept, in any order; then every gap is filled, from the front or from the back.
#[test]
fn out_of_order_ranges() {
    const N: u64 = 5000;
    both(|v6| {
        for (what, order) in [
            ("ascending", (0..N).collect::<Vec<_>>()),
            ("descending", (0..N).rev().collect()),
            ("scattered", (0..N).map(|i| i * 7919 % N).collect()),
        ] {
            let mut p = Peer::established(v6, Kind::Full);
            let early = holes(&p, order.iter().copied());
            // In the middle a range moves at most half of the 4096: 32 steps of 64.
            assert_linear(&mut p, &early, 48, what);
            let gaps: Vec<_> =
                order.iter().map(|i| p.packet(&format!(". at={} len=1 win=1000", 2 * i))).collect();
            assert_linear(&mut p, &gaps, 48, what);
        }
    });
}

#[test]
fn tiny_segments() {
    const N: usize = 10_000;
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let packets: Vec<_> = (0..N).map(|i| p.packet(&format!(". at={i} len=1 win=1000"))).collect();
        assert_linear(&mut p, &packets, 16, "in order");
        let again = packets.clone();
        assert_linear(&mut p, &again, 16, "again");
    });
}

/// SYNs from as many ports, answered with and without cookies, and dropped.
#[test]
fn syn_floods() {
    const N: u16 = 20_000;
    both(|v6| {
        for (what, cookies, max) in
            [("cookies", true, 100), ("no cookies", false, 100), ("room for all", true, 65_536)]
        {
            let change = |config: &mut Config| {
                config.tcp.syn_cookies = cookies;
                config.tcp.max_embryonic = max;
            };
            let mut p = Peer::with(v6, change).listen(1);
            let packets: Vec<_> =
                (0..N).map(|i| p.packet(&format!("S port={} mss=1460 win=1000", 10_000 + i))).collect();
            assert_linear(&mut p, &packets, 16, what);
            // Their SYN|ACKs are sent again, and they time out.
            let embryonic = max.min(usize::from(N)) as u64;
            let steps = steps::of(|| {
                while let Some(at) = p.stack.poll_timeout() {
                    p.now = p.now.max(at);
                    p.stack.handle_timeout(p.now);
                    let mut buffer = Vec::new();
                    while p.stack.poll_transmit(p.now, &mut buffer).is_some() {}
                }
            });
            assert!(steps <= 100 * embryonic + 1000, "{what}: {steps} steps for {embryonic} timeouts");
        }
    });
}

/// A connection in TIME-WAIT that is opened and closed again, many times.
#[test]
fn time_wait_is_reused() {
    const N: u32 = 2000;
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Full, TcpState::TimeWait, false);
        let steps = steps::of(|| {
            for n in 1..=N {
                // Twice as far as the last connection went.
                let at = i64::from(n) * 1_000_000;
                p.on(&format!("S seq={at} mss=1460 win=1000"));
                p.now += Duration::from_millis(20);
            }
        });
        assert!(steps <= 64 * u64::from(N), "{steps} steps for {N} SYNs");
        p.stack.check();
    });
}

/// Keep-alive of many connections: a deadline that moves with each segment costs the same however many there are.
#[test]
fn moving_deadlines() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(2000);
        for port in 0..1000 {
            p.on(&format!("S port={} mss=1460 win=1000", 10_000 + port));
        }
        let steps_each = |p: &mut Peer, n: usize| {
            let packets: Vec<_> = (0..n)
                .map(|i| p.packet(&format!("S port={} mss=1460 win=1000", 10_000 + i % 1000)))
                .collect();
            steps_of(p, &packets) / n as u64
        };
        let few = steps_each(&mut p, 1000);
        let many = steps_each(&mut p, 20_000);
        assert!(few <= 16 && many <= 16, "{few} and {many} steps for a SYN that comes again");
    });
}
