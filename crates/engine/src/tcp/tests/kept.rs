//! Packets that the receive buffer keeps instead of copying their data: the same segments and calls give the same packets
//! and the same events, and the memory is bounded.

use super::pair::Pair;
use super::peer::{Kind, Peer, both};
use super::prediction::exchange;
use super::random::Run;
use crate::{Config, Ecn};
use alloc::format;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

/// How many packets a stack has kept.
fn kept(stack: &crate::Stack) -> u64 {
    stack.shared.pool.taken
}

#[test]
fn any_calls_and_any_segments_have_the_same_result_if_packets_are_kept() {
    let mut number = 0;
    for seed in 1..=300 {
        let [with, without] = [1, usize::MAX].map(|min_kept| {
            let mut run = Run::new(seed);
            run.p.stack.tcp_config_mut().min_kept = min_kept;
            if run.p.listener.is_some() {
                run.p = run.p.establish(if seed % 2 == 0 { Kind::Full } else { Kind::Plain });
                run.name(run.p.id);
            }
            (0..120).for_each(|_| run.step());
            let sent: Vec<_> = run.p.sent.iter().map(|sent| (sent.bytes.clone(), sent.transmit)).collect();
            (sent, format!("{:?}", run.p.ended), kept(&run.p.stack))
        });
        assert!(with.0 == without.0, "seed {seed}: other packets");
        assert_eq!(with.1, without.1, "seed {seed}");
        assert_eq!(without.2, 0);
        number += with.2;
    }
    assert!(number > 100, "{number} packets were kept");
}

#[test]
fn data_both_ways_over_a_path_that_loses_has_the_same_result_if_packets_are_kept() {
    type Change = fn(&mut Config);
    let changes: [Change; 5] = [
        |_| {},
        |config| config.tcp.ecn = Ecn::Request,
        |config| (config.tcp.receive_buffer, config.tcp.send_buffer) = (9000, 30_000),
        |config| config.max_packet = 65_535,
        |config| (config.max_packet, config.tcp.receive_buffer) = (65_535, 50_000),
    ];
    let mut packets = 0;
    for (number, change) in changes.into_iter().enumerate() {
        for lose in [|_| false, |n| n % 53 == 7, |n| n % 11 == 3] {
            let [with, without] = [1, usize::MAX].map(|min_kept| {
                let mut pair = Pair::with(number % 2 == 1, |config| {
                    change(config);
                    config.tcp.min_kept = min_kept;
                });
                pair.lose = lose;
                pair.delay = Duration::from_millis(4);
                exchange(&mut pair, number % 3 == 1);
                let ends = [&mut pair.a, &mut pair.b].map(|host| {
                    let sent = core::mem::take(&mut host.sent);
                    (sent, format!("{:?} {:?}", host.events, host.ended), kept(&host.stack))
                });
                (ends, pair.now)
            });
            for (with, without) in with.0.into_iter().zip(without.0) {
                assert!(with.0 == without.0, "{number}: other packets");
                assert_eq!(with.1, without.1, "{number}");
                assert_eq!(without.2, 0, "{number}");
                packets += with.2;
            }
            assert_eq!(with.1, without.1);
        }
    }
    assert!(packets > 200, "{packets} packets were kept");
}

/// Only large segments are kept, and the application reads them and what was copied in order, also after the peer has
/// closed.
#[test]
fn large_segments_are_kept_and_small_ones_are_copied() {
    both(|v6| {
        let mut p = Peer::listening(v6).establish(Kind::Full);
        let mut seq = 1;
        for (len, number) in [(30_000, 1), (1000, 1), (16_383, 1), (16_384, 2), (5, 2), (1000, 2)] {
            let verdict = p.on(&format!("P. seq={seq} len={len}"));
            seq += len;
            assert!(verdict.starts_with("accepted"), "{len}: {verdict}");
            assert_eq!(kept(&p.stack), number, "{len}");
        }
        assert!(p.on(&format!("F. seq={seq}")).starts_with("accepted"));
        let unread = 30_000 + 1000 + 16_383 + 16_384 + 5 + 1000;
        assert_eq!(p.tcp().poll_readable(), Poll::Ready(Ok(unread)));
        let mut all = alloc::vec![0; 100_000];
        assert_eq!(p.tcp().peek(&mut all), unread);
        let mut read = Vec::new();
        loop {
            let lent = p.tcp().readable().concat();
            let n = (lent.len() / 2 + 1).min(lent.len());
            if n == 0 {
                break;
            }
            read.extend_from_slice(&lent[..n]);
            p.tcp().consume(n);
        }
        assert_eq!(read, all[..unread]);
        assert_eq!(p.tcp().receive(&mut all), Poll::Ready(Ok(0)));
    });
}

/// The last segment, with FIN, moves the connection to TIME-WAIT before its packet is handed over.
#[test]
fn a_packet_that_ends_the_connection_is_read_all_the_same() {
    both(|v6| {
        let mut p = Peer::listening(v6).establish(Kind::Full);
        assert_eq!(p.tcp().shutdown(), Ok(()));
        p.out();
        assert!(p.on("F. len=20000 ack=2").starts_with("accepted"));
        assert_eq!(kept(&p.stack), 1);
        let mut buf = alloc::vec![0; 30_000];
        assert_eq!(p.tcp().receive(&mut buf), Poll::Ready(Ok(20_000)));
        assert_eq!(p.tcp().receive(&mut buf), Poll::Ready(Ok(0)));
    });
}

/// D26: the memory of whole packets counts, whatever part of them is data, and beyond a quarter of the limit data is
/// copied.
#[test]
fn d26_kept_packets_count_towards_the_limit() {
    let limit = 4 << 20;
    let mut p = Peer::with(false, |config| config.tcp.memory = limit).listen(8);
    let mut connections = 0;
    for port in 5001..5101 {
        p.on(&format!("S seq=0 mss=1460 ws=7 sackok port={port}"));
        p.on(&format!(". seq=1 ack=1 port={port}"));
        p.accept();
        connections += 1;
        for at in 0..4 {
            p.on(&format!("P. seq={} ack=1 len=20000 port={port}", 1 + at * 20_000));
            let held = p.stack.shared.memory.held();
            assert!(held <= limit + connections * 4096, "{connections}: {held}");
        }
    }
    let number = kept(&p.stack) as usize;
    assert_eq!(connections, 100);
    assert!(number * 20_000 <= limit / 4 && number * 24_000 > limit / 4, "{number} kept");
}

/// Buffers of packets that were read are used for packets to come, and their memory is released when none comes.
#[test]
fn free_packet_buffers_are_released_when_no_data_comes() {
    let mut p = Peer::listening(false).establish(Kind::Full);
    p.on("P. len=30000");
    assert_eq!(p.tcp().receive(&mut alloc::vec![0; 40_000]), Poll::Ready(Ok(30_000)));
    let idle = p.stack.config().tcp.buffer_idle;
    let pool = |p: &Peer| p.stack.shared.pool.deadline(idle);
    assert_eq!(pool(&p), Some(p.now + idle));
    p.run(9_000);
    assert!(pool(&p).is_some());
    assert!(p.stack.poll_timeout().is_some_and(|at| at <= p.now + Duration::from_secs(1)));
    p.run(2_000);
    assert_eq!(pool(&p), None);
}
