//! J: what outsiders must not be able to guess, or to make us do.

use crate::isn::Secret;
use crate::tcp::tests::peer::{Kind, Peer, THEM, US, both};
use crate::{ConnectError, FourTuple, Instant, TcpState};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use lastack_wire::icmp::IcmpError;

/// Pearson's statistic of counts that should be equal, in standard deviations from its mean.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let sum: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    let freedom = counts.len() as f64 - 1.0;
    (sum - freedom) / (2.0 * freedom).sqrt()
}

/// D11 (RFC 6528): the ISNs of different four-tuples at one time have nothing to do with each other.
#[test]
fn t140_t142_isns_of_different_flows_are_uniform() {
    both(isns_are_uniform);
}

fn isns_are_uniform(v6: bool) {
    let secret = Secret::new([7; 16]);
    let host = |n: u8| -> IpAddr {
        if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into() } else { [10, 0, 0, n].into() }
    };
    let isn = |secret: &Secret, n: u32| {
        let remote = SocketAddr::new(host((n >> 16) as u8 + 2), n as u16);
        let local = SocketAddr::new(host(1), US);
        secret.of_flow(&FourTuple { local, remote }).initial_sequence_number(Instant::from_millis(5)).0
    };
    let mut counts = [[0; 256]; 3];
    for n in 0..100_000 {
        let (here, next) = (isn(&secret, n), isn(&secret, n + 1));
        counts[0][(here >> 24) as usize] += 1;
        counts[1][(here & 0xff) as usize] += 1;
        counts[2][(next.wrapping_sub(here) >> 24) as usize] += 1;
    }
    for counts in counts {
        assert!(chi_square(&counts).abs() < 5.0, "{}", chi_square(&counts));
    }
    // Another boot, another secret.
    let other = Secret::new([8; 16]);
    let mut apart = [0; 256];
    (0..100_000).for_each(|n| apart[(isn(&other, n).wrapping_sub(isn(&secret, n)) >> 24) as usize] += 1);
    assert!(chi_square(&apart).abs() < 5.0);
}

/// The same four-tuple again: later by the clock of 4 µs, on both sides.
#[test]
fn t141_the_isn_of_the_same_flow_grows_with_the_clock() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        let first = p.last().header().seq;
        p.tcp().close();
        p.out();
        p.run(1000);
        p.open();
        p.out();
        assert_eq!(p.last().header().seq.wrapping_sub(first), 250_000);

        let mut p = Peer::syn_received(v6, Kind::Plain);
        let first = p.last().header().seq;
        p.on("R");
        p.run(8);
        p.on("S seq=0");
        assert_eq!(p.last().header().seq.wrapping_sub(first), 2000);
    });
}

/// The clock that timestamps tell starts anywhere for each flow (RFC 7323 section 5.4).
#[test]
fn t142_timestamps_tell_no_common_clock() {
    let mut p = Peer::listening(false);
    p.timestamps = true;
    let values: Vec<u32> = (0..50)
        .map(|n| {
            p.on(&format!("S seq=0 port={}", 6000 + n));
            p.last().header().options.timestamps.unwrap().val
        })
        .collect();
    let mut steps: Vec<u32> = values.windows(2).map(|w| w[1].wrapping_sub(w[0]) >> 16).collect();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.len(), 49);
}

/// D12 (RFC 6056): every ephemeral port as likely as another, for each destination; none that is in
/// use or in TIME-WAIT.
#[test]
fn t143_ephemeral_ports_are_uniform() {
    let mut p = Peer::new(false);
    let them = SocketAddr::new(p.them, THEM);
    let mut counts = [0; 32];
    let mut ports = Vec::new();
    for _ in 0..4000 {
        let id = p.stack.tcp_connect(None, them).unwrap();
        let port = p.stack.tcp(id).unwrap().local().port();
        assert!((32_768..60_999).contains(&port));
        ports.push(port);
        counts[usize::from(port - 32_768) * 32 / (60_999 - 32_768)] += 1;
        p.stack.tcp(id).unwrap().close();
        while p.stack.poll_transmit(p.now, &mut Vec::new()).is_some() {}
        while p.stack.poll_event().is_some() {}
    }
    assert!(chi_square(&counts).abs() < 5.0, "{counts:?}");
    // One reveals nothing of the next.
    let mut steps = [0; 32];
    ports.windows(2).for_each(|w| {
        let step = (u32::from(w[1]) + 28_231 - u32::from(w[0])) % 28_231;
        steps[(step * 32 / 28_231) as usize] += 1;
    });
    assert!(chi_square(&steps).abs() < 5.0, "{steps:?}");
    // All that are held at once are different, and none is a listener's.
    let held: BTreeSet<_> = (0..1000)
        .map(|_| {
            let id = p.stack.tcp_connect(None, them).unwrap();
            p.stack.tcp(id).unwrap().local()
        })
        .collect();
    assert_eq!(held.len(), 1000);
}

#[test]
fn t143_a_pair_in_use_is_not_allocated() {
    both(|v6| {
        for state in [TcpState::Established, TcpState::LastAck, TcpState::TimeWait] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            let flow = p.flow();
            let again = p.stack.tcp_connect(Some(flow.local), flow.remote);
            assert_eq!(again, Err(ConnectError::Bind(crate::BindError::InUse)), "{state}");
            // The port alone is free for another peer.
            let other = SocketAddr::new(p.them, 7777);
            assert!(p.stack.tcp_connect(Some(flow.local), other).is_ok());
        }
        let mut p = Peer::new(v6);
        let foreign = SocketAddr::new(p.them, 9);
        let remote = SocketAddr::new(p.them, 10);
        let not_ours = Err(ConnectError::Bind(crate::BindError::NotOurs));
        assert_eq!(p.stack.tcp_connect(Some(foreign), remote), not_ours);
        let nowhere = SocketAddr::new(p.them, 0);
        assert_eq!(p.stack.tcp_connect(None, nowhere), Err(ConnectError::NoRemotePort));
        let own = SocketAddr::new(p.us, 80);
        assert_eq!(p.stack.tcp_connect(None, own), Err(ConnectError::OwnAddress));
        let mut everywhere = Peer::with(v6, |config| config.any_address = true);
        assert!(everywhere.stack.tcp_connect(None, own).is_ok());
    });
}

/// D13: no message of the path makes our packets fragmentable.
#[test]
fn t144_dont_fragment_stands() {
    let mut p = Peer::established(false, Kind::Full);
    p.send(1400);
    p.out();
    let about = p.last().bytes.clone();
    for mtu in [1300, 600, 100, 0] {
        p.on_icmp(&about, IcmpError::packet_too_big(false, mtu));
    }
    p.run(2000);
    assert!(p.sent.len() > 4);
    assert!(p.sent.iter().all(|sent| sent.ip.dont_fragment));
}

/// D17 to D19: a tiny MSS is taken for one that pays, and SACK blocks of single bytes are bounded work.
#[test]
fn t160_t161_t162_a_tiny_mss_and_a_storm_of_sacks() {
    both(|v6| {
        for offer in ["mss=1", "mss=8", "mss=0"] {
            let mut p = Peer::listening(v6);
            p.on(&format!("S seq=0 {offer} sackok"));
            (p.seq, p.ack) = (1, 1);
            p.on(".");
            p.accept();
            assert_eq!(p.tcp().info().mss, 88, "{offer}");
            p.send(60_000);
            p.out();
            for n in 0..500 {
                let from = 3 + (n * 2) % 800;
                p.on(&format!(". sack={from}-{}", from + 1));
            }
            p.on(". sack=4000000000-4000000001");
            p.on(". sack=500-400");
            assert_eq!((p.state(), p.tcp().info().unacked > 0), (TcpState::Established, true));
            p.run(5000);
            assert_eq!(p.state(), TcpState::Established);
        }
    });
}

/// D20: data in pieces of one byte, each behind a hole. What is kept is bounded, and the connection goes
/// on once the holes are filled.
#[test]
fn t163_a_hundred_thousand_holes() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        for n in 0..100_000_i64 {
            // Every second byte of the window, over and over.
            let at = 1 + 2 * (n % 30_000);
            let packet = p.packet(&format!(". at={at} len=1"));
            let _ = p.stack.handle_packet(p.now, &packet, crate::Received::default());
            while p.stack.poll_transmit(p.now, &mut Vec::new()).is_some() {}
        }
        let info = p.tcp().info();
        let max = p.stack.config().tcp.max_ooo_ranges;
        assert!(info.out_of_order == max && info.unread == 0, "{info:?}");
        assert!(p.buffers() <= 1 << 17, "{}", p.buffers());
        for n in 0..60 {
            p.on(&format!("P. at={} len=1000", n * 1000));
        }
        assert_eq!(p.receive(), "60000");
        assert_eq!(p.tcp().info().out_of_order, 0);
    });
}

/// D26: a peer that never reads and shuts its window at once costs one probe in two minutes, and
/// nothing at all while there is nothing to send.
#[test]
fn t164_t165_peers_that_stall() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(500);
        for n in 0..500 {
            let port = 6000 + n;
            p.on(&format!("S seq=0 mss=1460 port={port}"));
            assert_eq!(p.on(&format!(". seq=1 ack=1 win=0 port={port}")), "accepted");
        }
        p.run(1000);
        assert_eq!(p.stack.poll_timeout(), None);
        let listener = p.listener.unwrap();
        while let Some(id) = p.stack.tcp_accept(listener) {
            let mut tcp = p.stack.tcp(id).unwrap();
            assert!(tcp.send(b"hello").is_ready());
            tcp.set_user_timeout(Some(core::time::Duration::from_secs(30)));
        }
        p.run(29_000);
        let probes = p.sent.len();
        assert!(probes < 500 * 10, "{probes}");
        p.run(1000);
        assert_eq!(p.ends().split(" | ").count(), 500, "the user timeout counts though nothing is in flight");
        p.assert_gone();
    });
}
