//! The send buffer: unacknowledged and unsent data, from SND.UNA on.

use crate::buffer::ring::Ring;

/// Data from SND.UNA on: data in flight, then unsent data.
#[derive(Debug)]
pub(crate) struct SendRing {
    ring: Ring,
    len: usize,
}

impl SendRing {
    pub fn new(limit: usize) -> Self {
        Self { ring: Ring::new(limit), len: 0 }
    }

    pub fn limit(&self) -> usize {
        self.ring.limit()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The free space in bytes.
    pub fn room(&self) -> usize {
        self.ring.limit().saturating_sub(self.len)
    }

    /// Appends as much of `data` as fits, and returns the number of bytes.
    pub fn push(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.room());
        self.ring.reserve(self.len, self.len + n);
        self.ring.write(self.len, &data[..n]);
        self.len += n;
        n
    }

    /// Passes the allocated free memory to `fill`, followed by `spare`, together max `most` bytes and max the free space;
    /// appends as many bytes as `fill` returns.
    pub fn fill(
        &mut self,
        max: usize,
        spare: &mut [u8],
        fill: impl FnOnce([&mut [u8]; 3]) -> usize,
    ) -> usize {
        let max = max.min(self.room());
        let free = (self.ring.capacity().saturating_sub(self.len)).min(max);
        let rest = spare.len().min(max - free);
        let [a, b] = self.ring.slices_mut(self.len..self.len + free);
        let filled = fill([a, b, &mut spare[..rest]]).min(free + rest);
        self.len += filled.min(free);
        self.push(&spare[..filled.saturating_sub(free)]);
        filled
    }

    /// Removes `n` acknowledged bytes from the front.
    pub fn acknowledge(&mut self, n: usize) {
        let n = n.min(self.len);
        self.ring.advance(n);
        self.len -= n;
    }

    /// `len` bytes from `offset` bytes after SND.UNA, in place. `None`: they are not in the buffer.
    pub fn slices(&self, offset: usize, len: usize) -> Option<[&[u8]; 2]> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len)?;
        Some(self.ring.slices(offset..end))
    }

    /// Discards everything.
    pub fn clear(&mut self) {
        self.len = 0;
        self.ring.release();
    }

    /// Bytes of memory allocated.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Releases the memory if the buffer is empty; `true` if none is allocated now.
    pub fn shrink(&mut self) -> bool {
        if self.is_empty() {
            self.ring.release();
        }
        self.ring.capacity() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;

    #[test]
    fn data_filled_in_place_is_appended_in_order() {
        let mut ring = SendRing::new(5000);
        let mut spare = [0; 64];
        let (mut written, mut read) = (0u8, 0u8);
        // As much as there is, in pieces of every size, from any place of the ring.
        for step in 1..2000 {
            let max = step % 70;
            ring.fill(max, &mut spare, |pieces| {
                let mut filled = 0;
                for byte in pieces.into_iter().flatten() {
                    *byte = written;
                    written = written.wrapping_add(1);
                    filled += 1;
                }
                assert!(filled <= max);
                filled
            });
            let take = (step * 7 % 80).min(ring.len());
            for piece in ring.slices(0, take).unwrap() {
                for byte in piece {
                    assert_eq!(*byte, read);
                    read = read.wrapping_add(1);
                }
            }
            ring.acknowledge(take);
        }
        // A part of what was lent, and never more than fits.
        let mut ring = SendRing::new(10);
        assert_eq!(ring.fill(100, &mut spare, |pieces| pieces[2].len()), 10);
        assert_eq!(ring.fill(100, &mut spare, |pieces| pieces.map(|piece| piece.len()).iter().sum()), 0);
    }

    #[test]
    fn a_send_ring_is_a_queue() {
        let mut rng = 7u64;
        let mut random = |n: usize| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (rng >> 33) as usize % n
        };
        let (mut ring, mut model) = (SendRing::new(10_000), VecDeque::new());
        for round in 0..5000 {
            let data: Vec<u8> = (0..random(3000)).map(|i| (i + round) as u8).collect();
            let n = ring.push(&data);
            assert_eq!(n, data.len().min(10_000 - model.len()));
            model.extend(&data[..n]);
            let offset = random(model.len() + 1);
            let len = random(model.len() - offset + 1);
            let [a, b] = ring.slices(offset, len).unwrap();
            assert_eq!(ring.slices(offset, model.len() - offset + 1), None);
            assert_eq!(ring.slices(usize::MAX, 2), None);
            let expected: Vec<u8> = model.iter().skip(offset).take(len).copied().collect();
            assert_eq!([a, b].concat(), expected);
            let acked = random(model.len() + 1);
            ring.acknowledge(acked);
            model.drain(..acked);
            assert_eq!(ring.len(), model.len());
        }
    }
}
