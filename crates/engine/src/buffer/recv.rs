//! The receive buffer: in-order data in a ring and in the packets that brought it, out-of-order data by ranges.

use crate::Instant;
use crate::buffer::Ranges;
use crate::buffer::kept::KeptPackets;
use crate::buffer::pool::PacketPool;
use crate::buffer::ring::Ring;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

/// Unread in-order data, and out-of-order data.
///
/// In-order data is copied into a ring, or, if there is much of it in a packet, stays in the packet. Out-of-order data is
/// stored in the ring at its final position, so it is never moved. Positions are bytes from the start of the stream.
#[derive(Debug)]
pub(crate) struct RecvBuffer {
    /// In-order data that was copied, then out-of-order data.
    ring: Ring,
    /// Packets with in-order data. The memory of an empty queue is released with that of the ring.
    kept: Option<Box<KeptPackets>>,
    /// Unread bytes in packets, and the memory that counts for these.
    kept_len: usize,
    kept_capacity: usize,
    /// The position of the next byte to be read.
    read: u64,
    /// The position of the next byte expected: RCV.NXT without SYN and FIN.
    next: u64,
    /// Data received beyond `next`.
    out_of_order: Ranges,
    max_ooo: usize,
    /// The current size limit under memory pressure.
    ceiling: usize,
}

impl RecvBuffer {
    pub fn new(limit: usize, max_ooo: usize) -> Self {
        Self {
            ring: Ring::new(limit),
            kept: None,
            kept_len: 0,
            kept_capacity: 0,
            read: 0,
            next: 0,
            out_of_order: Ranges::default(),
            max_ooo,
            ceiling: usize::MAX,
        }
    }

    /// An empty buffer after `read` bytes were read.
    pub fn after(read: u64, limit: usize, max_ooo: usize) -> Self {
        Self { read, next: read, ..Self::new(limit, max_ooo) }
    }

    /// Its size limit without memory pressure.
    pub fn limit(&self) -> usize {
        self.ring.limit()
    }

    /// The max number of out-of-order ranges.
    pub fn max_ooo(&self) -> usize {
        self.max_ooo
    }

    /// The position of the next byte expected.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Bytes in order and unread.
    pub fn len(&self) -> usize {
        (self.next - self.read) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.next == self.read
    }

    /// The free space beyond `next`: the max RCV.WND that this buffer allows.
    pub fn room(&self) -> usize {
        self.bound().saturating_sub(self.len())
    }

    /// Its effective size limit: the limit, or less under memory pressure.
    pub fn bound(&self) -> usize {
        self.ring.limit().min(self.ceiling)
    }

    /// Raises the limit. It never decreases: data in the advertised window must fit.
    pub fn raise_limit(&mut self, limit: usize) {
        self.ring.set_limit(limit.max(self.ring.limit()));
    }

    /// Sets the size limit under memory pressure. Data already held is kept.
    pub fn set_ceiling(&mut self, ceiling: usize) {
        self.ceiling = ceiling;
    }

    /// Total bytes read.
    pub fn total_read(&self) -> u64 {
        self.read
    }

    /// The out-of-order ranges.
    pub fn out_of_order(&self) -> &Ranges {
        &self.out_of_order
    }

    /// Bytes in order and unread in the ring.
    #[inline]
    fn ring_len(&self) -> usize {
        self.len() - self.kept_len
    }

    /// Keeps a packet of this capacity whose new data, at `data` in it, is at position `at`; its buffer follows by
    /// [`fill`](Self::fill). `false`: it has to be written, as the data is out of order, out-of-order data may follow
    /// it, or there is no room for all of it.
    pub fn keep(&mut self, at: u64, data: Range<usize>, capacity: usize) -> bool {
        if at != self.next || !self.out_of_order.is_empty() || data.len() > self.room() {
            return false;
        }
        let (ring_len, len) = (self.ring_len(), data.len());
        self.kept_capacity += self.kept.get_or_insert_default().push(data, capacity, ring_len);
        self.kept_len += len;
        self.next += len as u64;
        true
    }

    /// Takes the buffer of the packet that it keeps since the last call of [`keep`](Self::keep); returns it if it was
    /// discarded in between.
    pub fn fill(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        match &mut self.kept {
            Some(kept) => kept.fill(packet),
            None => Some(packet),
        }
    }

    /// Stores the part of `data`, whose first byte is at position `at`, that is new and fits, and
    /// returns by how much `next` advanced. `None`: nothing was new, or there was no room.
    pub fn write(&mut self, at: u64, data: &[u8]) -> Option<u64> {
        let start = at.max(self.next);
        let end = (at + data.len() as u64).min(self.next + self.room() as u64);
        if start >= end {
            return None;
        }
        let data = &data[(start - at) as usize..(end - at) as usize];
        if start == self.next && self.out_of_order.is_empty() {
            // No data lies beyond it.
            let used = self.ring_len();
            self.ring.reserve(used, used + data.len());
            self.ring.write(used, data);
            self.next = end;
            return Some(end - start);
        }
        if start > self.next
            && self.out_of_order.len() >= self.max_ooo
            && self.out_of_order.holding(start).is_none()
        {
            return None;
        }
        if start != self.next && self.out_of_order.holding(start).is_some_and(|r| r.end >= end) {
            return None;
        }
        self.store(start, data);
        self.out_of_order.insert(start..end);
        let before = self.next;
        self.next = self.out_of_order.take_front(self.next).unwrap_or(self.next);
        Some(self.next - before)
    }

    #[inline]
    fn store(&mut self, start: u64, data: &[u8]) {
        let in_order = self.ring_len();
        let at = in_order + (start - self.next) as usize;
        let used = in_order + (self.out_of_order.end().unwrap_or(self.next) - self.next) as usize;
        self.ring.reserve(used, (at + data.len()).max(used));
        self.ring.write(at, data);
    }

    /// The first unread in-order data, in place: all of it, if no packet is kept.
    pub fn readable(&self) -> [&[u8]; 2] {
        if !self.holds_packets() {
            return self.ring.slices(0..self.len());
        }
        let mut slices = self.slices();
        [slices.next().unwrap_or_default(), slices.next().unwrap_or_default()]
    }

    /// All unread in-order data, in place.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let kept = self.kept.as_deref();
        let packets = kept.into_iter().flat_map(KeptPackets::iter).flat_map(|(before, data)| {
            let [a, b] = self.ring.slices(before);
            [a, b, data]
        });
        let rest = kept.map_or(0, KeptPackets::ring_before)..self.ring_len();
        packets.chain(self.ring.slices(rest)).filter(|slice| !slice.is_empty())
    }

    fn holds_packets(&self) -> bool {
        self.kept_len > 0
    }

    /// Removes `n` bytes from the front. The buffers of packets that were read go to the pool; `true` if there were any.
    #[inline]
    pub fn consume(&mut self, n: usize, pool: &mut PacketPool, now: Instant) -> bool {
        let n = n.min(self.len());
        self.read += n as u64;
        if self.holds_packets() {
            return self.consume_kept(n, pool, now);
        }
        self.ring.advance(n);
        false
    }

    #[inline(never)]
    fn consume_kept(&mut self, mut n: usize, pool: &mut PacketPool, now: Instant) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        // What is removed counts as read already.
        let mut ring_len = (self.next - self.read) as usize + n - self.kept_len;
        let mut freed = false;
        while n > 0 {
            let consumed = kept.consume(n, ring_len);
            self.ring.advance(consumed.ring);
            ring_len -= consumed.ring;
            self.kept_len -= consumed.kept;
            n -= consumed.ring + consumed.kept;
            if let Some((packet, capacity)) = consumed.free {
                self.kept_capacity -= capacity;
                pool.put(packet, now);
                freed = true;
            }
        }
        freed
    }

    /// Copies unread data into `buf` and returns its length.
    #[inline]
    pub fn peek(&self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len());
        if self.holds_packets() {
            self.peek_kept(&mut buf[..n]);
            return n;
        }
        let [a, b] = self.ring.slices(0..n);
        buf[..a.len()].copy_from_slice(a);
        if !b.is_empty() {
            buf[a.len()..n].copy_from_slice(b);
        }
        n
    }

    #[inline(never)]
    fn peek_kept(&self, mut buf: &mut [u8]) {
        for slice in self.slices() {
            let len = slice.len().min(buf.len());
            let (filled, rest) = buf.split_at_mut(len);
            filled.copy_from_slice(&slice[..len]);
            buf = rest;
            if buf.is_empty() {
                return;
            }
        }
    }

    /// Discards out-of-order data, and returns its length in bytes.
    pub fn drop_ooo(&mut self) -> u64 {
        let bytes = self.out_of_order.bytes();
        self.out_of_order.clear();
        bytes
    }

    /// Discards everything.
    pub fn clear(&mut self) {
        self.read = self.next;
        self.out_of_order.clear();
        self.kept = None;
        (self.kept_len, self.kept_capacity) = (0, 0);
        self.ring.release();
    }

    /// Bytes of memory allocated.
    pub fn capacity(&self) -> usize {
        self.ring.capacity() + self.kept_capacity
    }

    /// Bytes of memory that data fills or may fill: the capacity without what packets take beyond their data.
    pub fn usable(&self) -> usize {
        self.ring.capacity() + self.kept_len
    }

    /// Releases the memory if the buffer is empty; `true` if none is allocated now.
    pub fn shrink(&mut self) -> bool {
        if self.is_empty() && self.out_of_order.is_empty() {
            self.ring.release();
            self.kept = None;
            self.out_of_order.clear();
        }
        self.capacity() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    struct Random(u64);

    impl Random {
        fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }

        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// A packet with this data between headers and padding, and where the data is.
    fn packet(data: &[u8], random: &mut Random) -> (Vec<u8>, Range<usize>) {
        let start = random.below(60) as usize;
        let mut packet = alloc::vec![0xaa; start];
        packet.extend_from_slice(data);
        packet.resize(packet.len() + random.below(4) as usize, 0xbb);
        (packet, start..start + data.len())
    }

    fn consume(buffer: &mut RecvBuffer, n: usize, pool: &mut PacketPool) {
        buffer.consume(n, pool, Instant::ZERO);
    }

    /// Any arrivals, in any order, of any pieces, copied or kept in their packets: what is read is the stream, and each
    /// byte offered inside the window is kept.
    #[test]
    fn the_stream_is_read_whatever_the_order_of_arrival() {
        let mut packets_kept = [0; 2];
        for seed in 1..=400u64 {
            let mut random = Random::new(seed);
            let limit = 1 + random.below(5000) as usize;
            let owned = [0, 2, 9][seed as usize % 3];
            let stream: Vec<u8> = (0..30_000).map(|_| random.below(256) as u8).collect();
            let (mut buffer, mut pool) = (RecvBuffer::new(limit, usize::MAX), PacketPool::default());
            let mut kept = alloc::vec![false; stream.len()];
            let mut got = Vec::new();
            while got.len() < stream.len() {
                let end_of_stream = stream.len() as u64;
                let expected = random.below(10) < owned.max(3);
                let at = (buffer.next() + random.below(3000)).saturating_sub(1000);
                let at = if expected { buffer.next() } else { at }.min(end_of_stream - 1);
                let end = (at + 1 + random.below(2500)).min(end_of_stream);
                let room = got.len()..got.len() + limit;
                let (before, data) = (buffer.next(), &stream[at as usize..end as usize]);
                let (packet, range) = packet(data, &mut random);
                if random.below(10) < owned && buffer.keep(at, range, packet.capacity()) {
                    assert!(at == before && end <= room.end as u64);
                    assert_eq!(buffer.fill(packet), None);
                    assert_eq!(buffer.next(), end);
                    packets_kept[usize::from(buffer.ring.capacity() > 0)] += 1;
                } else {
                    let advanced = buffer.write(at, data);
                    assert_eq!(advanced.unwrap_or(0), buffer.next() - before);
                }
                let (first, last) = ((at as usize).max(room.start), (end as usize).min(room.end));
                if first < last {
                    kept[first..last].fill(true);
                }
                let next = buffer.next() as usize;
                assert!(kept.get(next) != Some(&true), "seed {seed}: byte {next} was kept, not counted");
                assert_eq!(buffer.len(), next - got.len());
                assert!(buffer.usable() <= buffer.capacity() && buffer.len() <= buffer.usable());
                let unread = &stream[got.len()..next];
                let lent = buffer.readable().concat();
                assert!(unread.starts_with(&lent) && lent.is_empty() == unread.is_empty(), "seed {seed}");
                assert_eq!(buffer.slices().collect::<Vec<_>>().concat(), unread, "seed {seed}");
                let mut buf = [0; 1600];
                let n = random.below(1600) as usize;
                let n = buffer.peek(&mut buf[..n]);
                assert_eq!(buf[..n], unread[..n], "seed {seed}");
                consume(&mut buffer, n, &mut pool);
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, stream, "seed {seed}");
            assert!(buffer.capacity() > 0 || buffer.ring.capacity() == 0);
            assert!(buffer.shrink() && buffer.capacity() == 0);
        }
        assert!(packets_kept.iter().all(|&n| n > 200), "{packets_kept:?}");
    }

    #[test]
    fn a_repeated_byte_is_nothing_new() {
        let mut buffer = RecvBuffer::new(100, 8);
        assert_eq!(buffer.write(0, b"abc"), Some(3));
        assert_eq!(
            (buffer.write(0, b"abc"), buffer.write(5, b"fg"), buffer.write(5, b"f")),
            (None, Some(0), None)
        );
        assert_eq!((buffer.write(3, b"de"), buffer.len()), (Some(4), 7));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut buffer = RecvBuffer::new(1000, 2);
        for at in [10, 20, 30] {
            buffer.write(at, b"x");
        }
        assert_eq!((buffer.out_of_order().len(), buffer.drop_ooo()), (2, 2));
    }

    #[test]
    fn a_packet_is_kept_if_its_data_comes_next_and_fits() {
        let mut buffer = RecvBuffer::new(10, 8);
        assert!(!buffer.keep(1, 0..5, 100), "out of order");
        assert!(!buffer.keep(0, 0..11, 100), "beyond the window");
        buffer.write(7, b"h");
        assert!(!buffer.keep(0, 0..5, 100), "before out-of-order data");
        buffer.drop_ooo();
        assert!(buffer.keep(0, 0..5, 100));
        assert_eq!((buffer.room(), buffer.next(), buffer.len()), (5, 5, 5));
        buffer.set_ceiling(9);
        assert!(!buffer.keep(5, 0..5, 100), "memory is short");
    }

    /// The window is that of the data; the memory is that of the packets.
    #[test]
    fn a_kept_packet_counts_with_its_whole_buffer_until_it_is_read() {
        let (mut buffer, mut pool) = (RecvBuffer::new(1000, 8), PacketPool::default());
        assert!(buffer.keep(0, 40..140, 2000));
        let mut packet = alloc::vec![1; 140];
        packet.reserve_exact(2000 - 140);
        assert_eq!(buffer.fill(packet), None);
        assert!(buffer.capacity() >= 2000 && buffer.usable() == 100 && buffer.room() == 900);
        consume(&mut buffer, 99, &mut pool);
        assert!(buffer.capacity() >= 2000);
        assert!(!buffer.shrink(), "there is unread data");
        assert_eq!(buffer.readable(), [&[1][..], &[]]);
        consume(&mut buffer, 1, &mut pool);
        assert_eq!((buffer.capacity(), buffer.room()), (0, 1000));
        assert_eq!(pool.deadline(Duration::ZERO), Some(Instant::ZERO), "its buffer can be used again");
        assert_eq!(pool.take().capacity(), 2000);
    }

    #[test]
    fn the_buffer_of_a_packet_that_was_discarded_is_returned() {
        let mut buffer = RecvBuffer::new(1000, 8);
        assert_eq!(buffer.fill(alloc::vec![1; 3]), Some(alloc::vec![1; 3]));
        assert!(buffer.keep(0, 0..3, 3));
        buffer.clear();
        assert_eq!(buffer.fill(alloc::vec![1; 3]), Some(alloc::vec![1; 3]));
        assert_eq!((buffer.len(), buffer.next(), buffer.capacity()), (0, 3, 0));
    }
}
