//! The receive buffer: in-order data in a ring, out-of-order data by ranges.

use crate::buffer::Ranges;
use crate::buffer::ring::Ring;

/// Unread in-order data, and out-of-order data.
///
/// Out-of-order data is stored at its final position, so it is never moved. Positions are bytes
/// from the start of the stream.
#[derive(Debug)]
pub(crate) struct RecvRing {
    ring: Ring,
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

impl RecvRing {
    pub fn new(limit: usize, max_ooo: usize) -> Self {
        Self {
            ring: Ring::new(limit),
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
            let (at, used) = ((start - self.read) as usize, self.len());
            self.ring.reserve(used, at + data.len());
            self.ring.write(at, data);
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
        let at = (start - self.read) as usize;
        let used = self.out_of_order.end().unwrap_or(self.next) - self.read;
        self.ring.reserve(used as usize, (at + data.len()).max(used as usize));
        self.ring.write(at, data);
    }

    /// The unread in-order data, in place.
    pub fn readable(&self) -> [&[u8]; 2] {
        self.ring.slices(0..self.len())
    }

    /// Removes `n` bytes from the front.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.len());
        self.ring.advance(n);
        self.read += n as u64;
    }

    /// Copies unread data into `buf` and returns its length.
    pub fn peek(&self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len());
        let [a, b] = self.ring.slices(0..n);
        buf[..a.len()].copy_from_slice(a);
        if !b.is_empty() {
            buf[a.len()..n].copy_from_slice(b);
        }
        n
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
        self.ring.release();
    }

    /// Bytes of memory allocated.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Releases the memory if the buffer is empty; `true` if none is allocated now.
    pub fn shrink(&mut self) -> bool {
        if self.is_empty() && self.out_of_order.is_empty() {
            self.ring.release();
            self.out_of_order.clear();
        }
        self.ring.capacity() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Any arrivals, in any order, of any pieces: what is read is the stream, and each byte
    /// offered inside the window is kept.
    #[test]
    fn the_stream_is_read_whatever_the_order_of_arrival() {
        for seed in 1..=300u64 {
            let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = |n: u64| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                rng % n
            };
            let limit = 1 + random(5000) as usize;
            let stream: Vec<u8> = (0..30_000).map(|_| random(256) as u8).collect();
            let mut ring = RecvRing::new(limit, usize::MAX);
            let mut kept = alloc::vec![false; stream.len()];
            let mut got = Vec::new();
            while got.len() < stream.len() {
                let end_of_stream = stream.len() as u64;
                let at = (ring.next() + random(3000)).saturating_sub(1000).min(end_of_stream - 1);
                let end = (at + 1 + random(2500)).min(end_of_stream);
                let room = got.len()..got.len() + limit;
                let advanced = ring.write(at, &stream[at as usize..end as usize]);
                let (first, last) = ((at as usize).max(room.start), (end as usize).min(room.end));
                if first < last {
                    kept[first..last].fill(true);
                }
                assert!(advanced.is_none_or(|n| n <= ring.next()));
                let next = ring.next() as usize;
                assert!(kept.get(next) != Some(&true), "seed {seed}: byte {next} was kept, not counted");
                let mut buf = [0; 1600];
                let n = random(1600) as usize;
                let n = ring.peek(&mut buf[..n]);
                ring.consume(n);
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, stream, "seed {seed}");
            assert!(ring.shrink());
        }
    }

    #[test]
    fn a_repeated_byte_is_nothing_new() {
        let mut ring = RecvRing::new(100, 8);
        assert_eq!(ring.write(0, b"abc"), Some(3));
        assert_eq!((ring.write(0, b"abc"), ring.write(5, b"fg"), ring.write(5, b"f")), (None, Some(0), None));
        assert_eq!((ring.write(3, b"de"), ring.len()), (Some(4), 7));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ring = RecvRing::new(1000, 2);
        for at in [10, 20, 30] {
            ring.write(at, b"x");
        }
        assert_eq!((ring.out_of_order().len(), ring.drop_ooo()), (2, 2));
    }
}
