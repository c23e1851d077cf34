//! An in-memory link: each end receives what the other sends.

use crate::layout::is_udp;
use crate::{Capabilities, Cut, Link, lock};
use lastack_engine::{Instant, Received, Transmit};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Default max packets queued in each direction.
const QUEUE: usize = 1024;
/// Max bytes of free buffers kept for reuse in each direction.
const MAX_SPARE: usize = 1 << 20;
/// Capacity, in packets, that an empty queue keeps.
const MIN_QUEUE: usize = 64;

/// One end of an in-memory link.
///
/// It carries super-segments unchanged and computes no checksums: a packet sent with a partial checksum arrives as
/// known to be good. When one end is dropped, the other can still send, but receives nothing.
#[derive(Debug)]
pub struct Pipe {
    capabilities: Capabilities,
    limit: usize,
    stats: PipeStats,
    /// A piece of a datagram super-segment.
    piece: Vec<u8>,
    from_peer: Arc<Mutex<Queue>>,
    to_peer: Arc<Mutex<Queue>>,
}

/// Counters of the packets sent by an end of a [`Pipe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeStats {
    /// Queued.
    pub sent: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
    /// Lost because they were too large for the link.
    pub oversized: u64,
    /// Lost because the other end was dropped.
    pub unheard: u64,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<(Vec<u8>, Received)>,
    /// Free buffers for reuse, so that a pipe in use does not allocate.
    spare: Vec<Vec<u8>>,
    /// Their total capacity.
    spare_bytes: usize,
    reader: Option<Waker>,
    reader_gone: bool,
}

impl Queue {
    fn take_spare(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer.clear();
        buffer
    }

    /// Keeps a buffer for reuse, within bounds: after a burst its memory is freed.
    fn keep_spare(&mut self, buffer: Vec<u8>) {
        if self.spare_bytes + buffer.capacity() <= MAX_SPARE {
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
        if self.packets.is_empty() && self.packets.capacity() > 4 * MIN_QUEUE {
            self.packets.shrink_to(MIN_QUEUE);
        }
    }
}

/// Creates an in-memory link and returns its two ends. 1024 packets are queued in each direction; further ones are
/// lost.
pub fn pipe(capabilities: Capabilities) -> (Pipe, Pipe) {
    pipe_with_queue(capabilities, QUEUE)
}

/// As [`pipe`], with room for `packets` packets in each direction.
pub fn pipe_with_queue(capabilities: Capabilities, packets: usize) -> (Pipe, Pipe) {
    let (one, other) = (Arc::<Mutex<Queue>>::default(), Arc::<Mutex<Queue>>::default());
    let end = |from_peer: &Arc<_>, to_peer: &Arc<_>| Pipe {
        capabilities,
        limit: packets,
        stats: PipeStats::default(),
        piece: Vec::new(),
        from_peer: Arc::clone(from_peer),
        to_peer: Arc::clone(to_peer),
    };
    (end(&one, &other), end(&other, &one))
}

impl Pipe {
    /// The counters of the packets that this end sent.
    pub fn stats(&self) -> PipeStats {
        self.stats
    }

    /// Whether the link can carry the packet; a super-segment must fit once it is segmented.
    fn fits(&self, packet: &[u8], transmit: &Transmit) -> bool {
        match transmit.segment_size {
            None => packet.len() <= self.capabilities.mtu,
            Some(size) => {
                let whole = packet.len() <= self.capabilities.max_packet;
                let cut = packet.len().min(usize::from(transmit.header_len) + usize::from(size));
                whole && cut <= self.capabilities.mtu
            }
        }
    }

    fn push(&mut self, packet: &[u8], received: Received) {
        let reader = {
            let mut queue = lock(&self.to_peer);
            if queue.reader_gone {
                self.stats.unheard += 1;
                return;
            }
            if queue.packets.len() >= self.limit {
                self.stats.overflowed += 1;
                return;
            }
            let mut buffer = queue.take_spare();
            buffer.extend_from_slice(packet);
            queue.packets.push_back((buffer, received));
            queue.reader.take()
        };
        self.stats.sent += 1;
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn push_datagrams(&mut self, packet: &[u8], transmit: &Transmit) {
        let mut piece = std::mem::take(&mut self.piece);
        let mut cut = Cut::new(packet, transmit);
        while cut.next(&mut piece).is_some() {
            self.push(&piece, Received { checksum_good: true, ..Received::default() });
        }
        self.piece = piece;
    }
}

impl Link for Pipe {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send(&mut self, _now: Instant, packet: &[u8], transmit: &Transmit) {
        if !self.fits(packet, transmit) {
            self.stats.oversized += 1;
        } else if transmit.segment_size.is_some() && is_udp(packet) {
            // TCP data may arrive as one super-segment; datagrams must arrive one by one.
            self.push_datagrams(packet, transmit);
        } else {
            let Transmit { partial_checksum: checksum_good, segment_size, .. } = *transmit;
            self.push(packet, Received { checksum_good, segment_size });
        }
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        let mut queue = lock(&self.from_peer);
        let (mut arrival, received) = queue.packets.pop_front()?;
        std::mem::swap(packet, &mut arrival);
        queue.keep_spare(arrival);
        Some(received)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = lock(&self.from_peer);
        if !queue.packets.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut queue.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut queue = lock(&self.from_peer);
        queue.reader_gone = true;
        queue.packets = VecDeque::new();
        queue.spare = Vec::new();
        queue.spare_bytes = 0;
        queue.reader = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{datagram, noop_context, partial, segment};
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    const NOW: Instant = Instant::ZERO;

    fn received(pipe: &mut Pipe) -> Vec<Vec<u8>> {
        let mut packet = Vec::new();
        std::iter::from_fn(|| pipe.recv(NOW, &mut packet).map(|_| packet.clone())).collect()
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn packets_arrive_in_order_and_wake_the_reader_once() {
        let (mut near, mut far) = pipe(Capabilities::new(1500));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(far.poll_readable(&mut cx).is_pending());
        assert!(far.poll_readable(&mut cx).is_pending());
        let sent = [segment("192.0.2.1", "192.0.2.2", b"a"), segment("192.0.2.1", "192.0.2.2", b"b")];
        for packet in &sent {
            near.send(NOW, packet, &Transmit::default());
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(far.poll_readable(&mut cx).is_ready());
        assert_eq!(received(&mut far), sent);
        assert!(far.poll_readable(&mut noop_context()).is_pending());
        assert_eq!(received(&mut near), [[0u8; 0]; 0]);
    }

    #[test]
    fn after_a_burst_the_memory_of_its_packets_is_released() {
        let (mut near, mut far) = pipe_with_queue(Capabilities::memory(65_535), 1024);
        let packet = segment("192.0.2.1", "192.0.2.2", &[0; 60_000]);
        for _ in 0..1024 {
            near.send(NOW, &packet, &Transmit::default());
        }
        assert_eq!(near.stats().sent, 1024);
        let mut got = Vec::new();
        while far.recv(NOW, &mut got).is_some() {}
        let queue = lock(&far.from_peer);
        let kept: usize = queue.spare.iter().map(Vec::capacity).sum();
        assert!(kept == queue.spare_bytes && kept <= MAX_SPARE, "{kept} of {}", 1024 * packet.len());
        assert!(queue.packets.capacity() <= 4 * MIN_QUEUE, "{}", queue.packets.capacity());
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut near, mut far) = pipe_with_queue(Capabilities::new(1500), 2);
        for text in [b"1", b"2", b"3"] {
            near.send(NOW, text, &Transmit::default());
        }
        assert_eq!(received(&mut far), [b"1", b"2"]);
        near.send(NOW, b"4", &Transmit::default());
        assert_eq!(received(&mut far), [b"4"]);
        assert_eq!(near.stats(), PipeStats { sent: 3, overflowed: 1, ..PipeStats::default() });
    }

    #[test]
    fn only_complete_checksums_are_verified() {
        let (mut near, mut far) = pipe(Capabilities::memory(1500));
        let whole = segment("192.0.2.1", "192.0.2.2", b"text");
        near.send(NOW, &whole, &Transmit::default());
        near.send(NOW, &partial(&whole), &Transmit { partial_checksum: true, ..Transmit::default() });
        let mut packet = Vec::new();
        assert_eq!(
            far.recv(NOW, &mut packet),
            Some(Received { checksum_good: false, ..Received::default() })
        );
        assert_eq!(far.recv(NOW, &mut packet), Some(Received { checksum_good: true, ..Received::default() }));
        assert_eq!(packet, partial(&whole));
    }

    #[test]
    fn super_segments_go_through_whole_and_datagrams_one_by_one() {
        let (mut near, mut far) = pipe(Capabilities::memory(1500));
        let large = segment("192.0.2.1", "192.0.2.2", &[7; 60_000]);
        let transmit = Transmit { segment_size: Some(1448), header_len: 52, ..Transmit::default() };
        near.send(NOW, &large, &transmit);
        assert_eq!(received(&mut far), [large]);
        let batch = datagram("2001:db8::1", "2001:db8::2", &[7; 2500]);
        let transmit = Transmit { segment_size: Some(1000), header_len: 48, ..Transmit::default() };
        near.send(NOW, &batch, &transmit);
        let lens: Vec<_> = received(&mut far).iter().map(Vec::len).collect();
        assert_eq!(lens, [1048, 1048, 548]);
    }

    #[test]
    fn packets_the_link_does_not_carry_are_lost() {
        let cut = |size| Transmit { segment_size: Some(size), header_len: 40, ..Transmit::default() };
        let (mut near, mut far) = pipe(Capabilities::new(1500));
        near.send(NOW, &[0x45; 1501], &Transmit::default());
        near.send(NOW, &[0x45; 1501], &cut(1000));
        near.send(NOW, &[0x45; 1500], &cut(1460));
        assert_eq!((near.stats().oversized, received(&mut far).len()), (2, 1));
        let (mut near, mut far) = pipe(Capabilities::memory(1500));
        near.send(NOW, &[0x45; 1501], &Transmit::default());
        near.send(NOW, &[0x45; 3000], &cut(1461));
        near.send(NOW, &[0x45; 3000], &cut(1460));
        assert_eq!((near.stats().oversized, received(&mut far).len()), (2, 1));
    }

    #[test]
    fn a_dropped_end_receives_nothing() {
        let (mut near, far) = pipe(Capabilities::new(1500));
        drop(far);
        near.send(NOW, b"anybody?", &Transmit::default());
        assert!(near.poll_readable(&mut noop_context()).is_pending());
        assert_eq!(near.stats(), PipeStats { unheard: 1, ..PipeStats::default() });
    }

    #[test]
    fn buffers_are_reused() {
        let (mut near, mut far) = pipe(Capabilities::new(1500));
        let (sent, mut packet) = ([7; 1500], Vec::with_capacity(1500));
        let mut round = |seen: &mut HashSet<*const u8>| {
            for _ in 0..8 {
                near.send(NOW, &sent, &Transmit::default());
            }
            while far.recv(NOW, &mut packet).is_some() {
                seen.insert(packet.as_ptr());
            }
        };
        let mut seen = HashSet::new();
        round(&mut seen);
        round(&mut seen);
        let warm = seen.len();
        assert!(warm <= 9);
        for _ in 0..100 {
            round(&mut seen);
        }
        assert_eq!(seen.len(), warm);
    }

    #[test]
    fn an_end_can_move_to_another_thread() {
        let (mut near, mut far) = pipe(Capabilities::new(1500));
        std::thread::spawn(move || near.send(NOW, b"text", &Transmit::default())).join().unwrap();
        assert_eq!(received(&mut far), [b"text"]);
    }
}
