//! Several bulk streams through one bottleneck: none is starved, whatever each has done before.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::{ConnId, Received, TransmitChecksum};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

const STREAMS: usize = 8;
/// A step of virtual time, and the packets that pass the bottleneck in one.
const STEP: Duration = Duration::from_micros(500);
const PASSED: usize = 5;
const MTU: usize = 9000;

/// Connections from A to B, and the packets from A that wait at the bottleneck. Nothing is lost there; ACKs are not held
/// up.
struct Streams {
    pair: Pair,
    ids: Vec<(ConnId, ConnId)>,
    queue: VecDeque<Vec<u8>>,
    received: [usize; STREAMS],
    step: Duration,
}

impl Streams {
    /// Established in turn; the first is silent for a time before the others are.
    fn new(silence: Duration, mtu: usize, step: Duration) -> Self {
        let mut pair = Pair::with(false, |config| {
            (config.mtu, config.max_packet) = (mtu, mtu);
            config.checksums.transmit = TransmitChecksum::None;
            config.checksums.verify = false;
        });
        let listener = pair.listen(STREAMS);
        let mut ids = Vec::new();
        for n in 0..STREAMS {
            let to = core::net::SocketAddr::new(pair.b.addr, PORT);
            let a = pair.a.stack.tcp_connect(None, to).unwrap();
            pair.run(Duration::from_millis(1));
            ids.push((a, pair.b.stack.tcp_accept(listener).unwrap()));
            if n == 0 {
                pair.run(silence);
            }
        }
        Self { pair, ids, queue: VecDeque::new(), received: [0; STREAMS], step }
    }

    fn run(&mut self, time: Duration) {
        let end = self.pair.now + time;
        let (data, mut buffer, mut packet) = (alloc::vec![7; 1 << 16], alloc::vec![0; 1 << 16], Vec::new());
        while self.pair.now < end {
            let Self { pair, ids, queue, received, step } = self;
            let Pair { a, b, now, .. } = pair;
            *now += *step;
            for stack in [&mut a.stack, &mut b.stack] {
                stack.handle_timeout(*now);
            }
            for (id, _) in ids.iter() {
                while matches!(a.tcp(*id).send(&data), Poll::Ready(Ok(1..))) {}
            }
            while a.stack.poll_transmit(*now, &mut packet).is_some() {
                queue.push_back(packet.clone());
            }
            for packet in queue.drain(..PASSED.min(queue.len())) {
                let _ = b.stack.handle_packet(*now, &packet, Received::default());
            }
            for ((_, id), received) in ids.iter().zip(received) {
                while let Poll::Ready(Ok(n @ 1..)) = b.tcp(*id).receive(&mut buffer) {
                    *received += n;
                }
            }
            while b.stack.poll_transmit(*now, &mut packet).is_some() {
                let _ = a.stack.handle_packet(*now, &packet, Received::default());
            }
            for stack in [&mut a.stack, &mut b.stack] {
                while stack.poll_event().is_some() {}
            }
        }
    }

    /// The smallest share in percent of the mean.
    fn smallest_share(&self) -> usize {
        let total: usize = self.received.iter().sum();
        // Computed in 64 bits: an address may have 32.
        let share = *self.received.iter().min().unwrap() as u64 * (STREAMS * 100) as u64 / total as u64;
        share as usize
    }
}

/// One stream was silent before: the silence is no round trip, so it does not keep its receive buffer small while the
/// others fill the bottleneck.
#[test]
fn none_of_eight_streams_is_starved_after_a_silence() {
    for silence in [0, 20_000] {
        let mut streams = Streams::new(Duration::from_millis(silence), MTU, STEP);
        streams.run(Duration::from_millis(1500));
        let share = streams.smallest_share();
        assert!(share >= 50, "silence of {silence} ms: {share} % of {:?}", streams.received);
    }
}

/// Streams on a path without delay of its own, as fast as memory: their RTT is the time that each waits for the others, so
/// larger buffers would only make it longer, and leave the CPU cache. They hold no more together than one alone could use,
/// in equal parts.
#[test]
fn fast_streams_share_the_buffer_that_one_could_use() {
    const STEP: Duration = Duration::from_micros(50);
    let mut streams = Streams::new(Duration::ZERO, 65_520, STEP);
    streams.run(Duration::from_millis(40));
    let Streams { pair, ids, .. } = &mut streams;
    let held: Vec<usize> =
        ids.iter().map(|(a, _)| pair.a.tcp(*a).info()).map(|info| info.unsent + info.unacked).collect();
    let (min, max) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    assert!(*max <= 320 << 10, "{held:?}");
    assert!(min * 2 >= *max, "{held:?}");
    let share = streams.smallest_share();
    assert!(share >= 80, "{share} % of {:?}", streams.received);
}
