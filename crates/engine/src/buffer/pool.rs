//! Buffers of packets whose data has been read, for packets to come.

use crate::Instant;
use alloc::vec::Vec;

/// Max bytes of all buffers, about the size of a CPU's second-level cache. A buffer that is not in the cache any more is
/// no better than one of the allocator.
const MAX_BYTES: usize = 1 << 20;

/// Max number of buffers.
const MAX_BUFFERS: usize = 32;

/// Free buffers. The last one freed is the first one used, since it is most likely in the CPU's cache.
#[derive(Debug, Default)]
pub(crate) struct PacketPool {
    free: Vec<Vec<u8>>,
    bytes: usize,
    /// When the last one was freed.
    used: Instant,
    /// How many were taken.
    #[cfg(test)]
    pub taken: u64,
}

impl PacketPool {
    /// A buffer without content: a free one, or a new one without memory.
    pub fn take(&mut self) -> Vec<u8> {
        #[cfg(test)]
        {
            self.taken += 1;
        }
        let buffer = self.free.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer, if there is room.
    pub fn put(&mut self, mut buffer: Vec<u8>, now: Instant) {
        self.used = now;
        let bytes = self.bytes + buffer.capacity();
        if buffer.capacity() > 0 && bytes <= MAX_BYTES && self.free.len() < MAX_BUFFERS {
            buffer.clear();
            self.bytes = bytes;
            self.free.push(buffer);
        }
    }

    /// When all are released unless one is freed before; `idle`: after this time.
    pub fn deadline(&self, idle: core::time::Duration) -> Option<Instant> {
        (!self.free.is_empty()).then(|| self.used + idle)
    }

    /// Releases the memory of all of them.
    pub fn release(&mut self) {
        self.free = Vec::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn the_buffer_freed_last_is_used_first() {
        let mut pool = PacketPool::default();
        pool.put(alloc::vec![1; 100], Instant::ZERO);
        pool.put(alloc::vec![2; 200], Instant::ZERO);
        let (second, first, none) = (pool.take(), pool.take(), pool.take());
        assert_eq!((second.capacity(), first.capacity(), none.capacity()), (200, 100, 0));
        assert!(second.is_empty() && first.is_empty());
    }

    #[test]
    fn buffers_kept_for_packets_are_bounded_and_released() {
        let mut pool = PacketPool::default();
        for _ in 0..100 {
            pool.put(Vec::with_capacity(65_575), Instant::ZERO);
        }
        assert_eq!((pool.free.len(), pool.bytes), (15, 15 * 65_575));
        let idle = Duration::from_secs(1);
        assert_eq!(pool.deadline(idle), Some(Instant::ZERO + idle));
        pool.release();
        assert_eq!((pool.deadline(idle), pool.take().capacity()), (None, 0));
        for _ in 0..100 {
            pool.put(Vec::with_capacity(10), Instant::ZERO);
        }
        assert_eq!(pool.free.len(), 32);
    }
}
