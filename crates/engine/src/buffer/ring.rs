//! A ring of bytes that grows up to a limit.

use alloc::vec::Vec;
use core::ops::Range;

/// The min allocation of a ring that is not empty.
const MIN: usize = 2048;

/// Memory for bytes at positions `0..limit`, relative to a front that moves forward.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    /// The index of position 0.
    front: usize,
    limit: usize,
}

impl Ring {
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), front: 0, limit }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes of memory allocated.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Allocates memory for the positions below `end`, of which the first `used` are in use.
    #[inline]
    pub fn reserve(&mut self, used: usize, end: usize) {
        debug_assert!(used <= end);
        if end > self.bytes.len() {
            self.grow(used, end);
        }
    }

    #[cold]
    fn grow(&mut self, used: usize, end: usize) {
        let size = end.next_power_of_two().max(MIN).min(self.limit.max(end));
        let mut grown = Vec::with_capacity(size);
        let [a, b] = self.slices(0..used);
        grown.extend_from_slice(a);
        grown.extend_from_slice(b);
        grown.resize(size, 0);
        self.bytes = grown;
        self.front = 0;
    }

    /// Moves the front forward: position `n` becomes position 0.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.front += n;
        if self.front >= self.bytes.len() {
            self.front -= self.bytes.len();
        }
    }

    /// Releases all memory. The ring must be empty.
    pub fn release(&mut self) {
        self.bytes = Vec::new();
        self.front = 0;
    }

    /// The bytes at these positions, in two slices if they wrap around.
    pub fn slices(&self, at: Range<usize>) -> [&[u8]; 2] {
        let [a, b] = self.pieces(at);
        [&self.bytes[a], &self.bytes[b]]
    }

    /// The memory at these positions, in two slices if they wrap around.
    pub fn slices_mut(&mut self, at: Range<usize>) -> [&mut [u8]; 2] {
        let [a, b] = self.pieces(at);
        // The second slice, if not empty, is at the beginning of the memory, before the first.
        let (low, high) = self.bytes.split_at_mut(a.start);
        [&mut high[..a.end - a.start], &mut low[b]]
    }

    /// Writes `data` at position `at`.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        let [a, b] = self.pieces(at..at + data.len());
        let (left, right) = data.split_at(a.len());
        self.bytes[a].copy_from_slice(left);
        if !right.is_empty() {
            self.bytes[b].copy_from_slice(right);
        }
    }

    #[inline]
    fn pieces(&self, at: Range<usize>) -> [Range<usize>; 2] {
        let size = self.bytes.len();
        debug_assert!(at.end <= size);
        let start = if self.front + at.start >= size && size > 0 {
            self.front + at.start - size
        } else {
            self.front + at.start
        };
        let len = at.end - at.start;
        let first = len.min(size - start);
        [start..start + first, 0..len - first]
    }
}
