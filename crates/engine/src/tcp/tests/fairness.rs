//! Several bulk streams through one bottleneck: none is starved, whatever each has done before.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::{ConnId, Received, TransmitChecksum};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::{self, IpPacket};

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
        // Only the handshakes are delayed: without that there is no RTT sample.
        pair.delay = Duration::from_micros(20);
        let listener = pair.listen(STREAMS);
        let mut ids = Vec::new();
        for n in 0..STREAMS {
            let to = SocketAddr::new(pair.b.addr, PORT);
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

impl Streams {
    /// A sends all that the windows of B allow.
    fn with_large_send_buffers(mtu: usize, step: Duration) -> Self {
        let mut streams = Self::new(Duration::ZERO, mtu, step);
        for (a, _) in &streams.ids {
            streams.pair.a.tcp(*a).set_send_buffer(Some(4 << 20));
        }
        streams
    }

    fn windows(&mut self) -> Vec<u32> {
        self.ids.iter().map(|(_, b)| self.pair.b.tcp(*b).info().rcv_wnd).collect()
    }
}

/// The same for receivers: what all windows allow waits in the queue of the bottleneck, and each gets a part of the rate in
/// proportion to its window.
#[test]
fn fast_receivers_share_the_window_that_one_could_use() {
    let mut streams = Streams::with_large_send_buffers(65_520, Duration::from_micros(200));
    streams.run(Duration::from_millis(200));
    let windows = streams.windows();
    assert!(windows.iter().all(|window| (100 << 10..320 << 10).contains(window)), "{windows:?}");
    streams.received = [0; STREAMS];
    streams.run(Duration::from_millis(200));
    let share = streams.smallest_share();
    assert!(share >= 80, "{share} % of {:?}", streams.received);
    // One that goes on alone has its whole buffer again.
    streams.ids.truncate(1);
    streams.run(Duration::from_millis(60));
    let windows = streams.windows();
    assert!(windows[0] > 512 << 10, "{windows:?}");
}

/// As `lastack run` does: a buffer that the application sets is not limited any more by the share from before.
#[test]
fn a_receive_buffer_that_is_set_ends_the_share_of_the_window() {
    let mut streams = Streams::with_large_send_buffers(65_520, Duration::from_micros(200));
    streams.run(Duration::from_millis(200));
    for (_, b) in &streams.ids {
        streams.pair.b.tcp(*b).set_receive_buffer(Some(1 << 20));
    }
    streams.run(Duration::from_millis(200));
    let windows = streams.windows();
    assert!(windows.iter().all(|window| *window > 900 << 10), "{windows:?}");
}

/// On a long path the windows have to be large, also if it was short when the connections began.
#[test]
fn receivers_on_a_long_path_are_not_limited() {
    let mut streams = Streams::with_large_send_buffers(MTU, STEP);
    streams.run(Duration::from_millis(4000));
    let windows = streams.windows();
    assert!(windows.iter().all(|window| *window > 1 << 20), "{windows:?}");
}

/// On a slower path, too, although the time that each waits for the others makes their RTT longer, with which a buffer may
/// grow.
#[test]
fn waiting_for_each_other_does_not_let_send_buffers_grow() {
    let mut streams = Streams::new(Duration::ZERO, 65_520, Duration::from_micros(200));
    for (_, b) in &streams.ids {
        streams.pair.b.tcp(*b).set_receive_buffer(Some(6 << 20));
    }
    streams.run(Duration::from_millis(200));
    let Streams { pair, ids, .. } = &mut streams;
    let held: Vec<usize> =
        ids.iter().map(|(a, _)| pair.a.tcp(*a).info()).map(|info| info.unsent + info.unacked).collect();
    assert!(held.iter().all(|held| *held <= 320 << 10), "{held:?}");
}

/// What the next packets of A are, while a bulk stream always has more, and A also has datagrams or replies to send.
fn kinds_beside_bulk(queue: impl Fn(&mut Pair)) -> Vec<u8> {
    let mut pair = Pair::with(false, |config| config.tcp.slow_start_after_idle = false);
    let (a, b) = pair.connect();
    let data = alloc::vec![7; 200_000];
    assert!(pair.transfer(a, b, &data) == data, "the windows are wide");
    assert!(matches!(pair.a.tcp(a).send(&data), Poll::Ready(Ok(100_000..))));
    queue(&mut pair);
    let mut packet = Vec::new();
    let mut kinds = Vec::new();
    while kinds.len() < 12 && pair.a.stack.poll_transmit(pair.now, &mut packet).is_some() {
        kinds.push(IpPacket::parse(&packet).unwrap().header.protocol);
    }
    kinds
}

#[test]
fn a_datagram_does_not_wait_behind_a_bulk_stream() {
    let kinds = kinds_beside_bulk(|pair| {
        let (local, remote) = (SocketAddr::new(pair.a.addr, 1000), SocketAddr::new(pair.b.addr, 2000));
        let id = pair.a.stack.udp_bind(local).unwrap();
        for _ in 0..3 {
            pair.a.stack.udp(id).unwrap().send(b"datagram", Some(remote)).unwrap();
        }
    });
    let datagrams: Vec<_> = (0..kinds.len()).filter(|n| kinds[*n] == ip::UDP).collect();
    assert_eq!(datagrams, [1, 3, 5], "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == ip::TCP).count(), 9);
}

/// Nor does a stream wait behind an endless flow of replies.
#[test]
fn a_stream_does_not_wait_behind_replies() {
    let kinds = kinds_beside_bulk(|pair| {
        for n in 0..50 {
            let request = Icmp::Echo { reply: false, ident: 1, seq: n, data: b"ping" };
            let request = crate::testing::icmp(pair.b.addr, pair.a.addr, request);
            let _ = pair.a.stack.handle_packet(pair.now, &request, Received::default());
        }
    });
    assert_eq!(kinds.iter().filter(|kind| **kind == ip::TCP).count(), 6, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == ip::ICMP).count(), 6, "{kinds:?}");
}

/// The fragments of a datagram follow each other: no other packet is cut before it is sent as a whole.
#[test]
fn the_fragments_of_a_datagram_stay_together() {
    let kinds = kinds_beside_bulk(|pair| {
        let (local, remote) = (SocketAddr::new(pair.a.addr, 1000), SocketAddr::new(pair.b.addr, 2000));
        let id = pair.a.stack.udp_bind(local).unwrap();
        for _ in 0..2 {
            pair.a.stack.udp(id).unwrap().send(&[0; 4000], Some(remote)).unwrap();
        }
    });
    let (t, u) = (ip::TCP, ip::UDP);
    assert_eq!(kinds, [t, u, u, u, t, u, u, u, t, t, t, t]);
}
