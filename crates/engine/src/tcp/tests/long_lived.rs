//! Connections that have carried gigabytes: no number is compared with one that lies 2^31 bytes behind it.

use super::super::connection::Connection;
use super::super::table::Socket;
use super::peer::{Kind, Peer, both};
use alloc::format;

/// Bytes that were sent and acknowledged before: on this side and on the far side of 2^31 and 2^32.
const CARRIED: [u64; 7] = [0, 1 << 30, (1 << 31) + 5, 3 << 30, (1 << 32) - 1, (1 << 32) + 77, 7 << 30];

fn connection(p: &mut Peer) -> &mut Connection {
    match p.stack.tcp.unparked_mut(p.id) {
        Socket::Open(connection) => connection,
        other => panic!("{other:?}"),
    }
}

/// As if so much had been sent and acknowledged, without a loss.
fn carry(p: &mut Peer, bytes: u64) {
    let now = p.now;
    let c = connection(p);
    assert_eq!(c.snd.una, c.snd.nxt);
    let mut rest = bytes;
    while rest > 0 {
        let part = rest.min(1 << 29) as u32;
        let scoreboard = &mut c.recovery.scoreboard;
        scoreboard.push(part, 1, now, false);
        c.snd.nxt += part;
        scoreboard.acknowledge(c.snd.nxt, c.mss, &mut Default::default());
        c.snd.una = c.snd.nxt;
        c.bytes.sent += u64::from(part);
        rest -= u64::from(part);
    }
    p.ack += bytes as i64;
}

/// RFC 5681 section 3.2, RFC 6582: three duplicates, and the segment goes again.
#[test]
fn a_fast_retransmit_after_gigabytes() {
    both(|v6| {
        for bytes in CARRIED {
            let mut p = Peer::established(v6, Kind::Plain);
            carry(&mut p, bytes);
            let una = p.ack as i32;
            for _ in 0..8 {
                p.send(1000);
                p.out();
            }
            assert_eq!((p.on("."), p.on(".")), ("accepted".into(), "accepted".into()), "{bytes}");
            let again = p.on(".");
            assert!(again.contains(&format!("seq={una} ack=1 len=1000")), "{bytes}: {again}");
        }
    });
}

/// RFC 3168 section 6.1.2: a mark is answered, once a round trip.
#[test]
fn a_mark_of_congestion_after_gigabytes() {
    both(|v6| {
        for bytes in CARRIED {
            let mut p = Peer::listening(v6);
            p.on("SEW seq=0 mss=1460");
            (p.seq, p.ack) = (1, 1);
            p.on(".");
            p.accept();
            for round in 1..3 {
                carry(&mut p, bytes);
                let before = p.tcp().info().cwnd;
                p.send(5000);
                p.out();
                p.ack += 1000;
                p.on(".E");
                let after = p.tcp().info().cwnd;
                assert!(after < before, "{bytes}, round {round}: {before} {after}");
                p.ack += 1000;
                p.on(".E");
                assert!(p.tcp().info().cwnd >= after, "{bytes}: twice in a round trip");
                p.ack += 3000;
                p.on(".");
                p.out();
            }
        }
    });
}

/// The Nagle algorithm holds a small segment only if another is in flight.
#[test]
fn a_small_segment_after_gigabytes() {
    both(|v6| {
        for bytes in CARRIED {
            let mut p = Peer::established(v6, Kind::Plain);
            p.send(10);
            p.out();
            p.ack += 10;
            p.on(".");
            carry(&mut p, bytes);
            let mss = p.tcp().info().mss as usize;
            p.send(mss);
            p.out();
            p.send(7);
            assert!(p.out().contains("len=7"), "{bytes}");
        }
    });
}

/// RFC 8985 section 6.2 step 4: a DSACK widens the reordering window once a round trip.
#[test]
fn a_dsack_after_gigabytes() {
    both(|v6| {
        for bytes in CARRIED {
            let mut p = Peer::established(v6, Kind::Full);
            for round in 1..3 {
                p.send(1000);
                p.out();
                p.run(2000);
                let (una, end) = (p.ack, p.ack + 1000);
                p.on(&format!(". ack={end} sack={}-{}", una as u32, end as u32));
                p.ack = end;
                carry(&mut p, bytes);
                assert_eq!(connection(&mut p).recovery.rack().steps(), 1 + round, "{bytes}");
            }
        }
    });
}
