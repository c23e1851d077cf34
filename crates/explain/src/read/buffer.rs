//! A window over a source of bytes that grows to hold the block that is being read.

use std::io::{self, Read};

const CHUNK: usize = 1 << 18;

/// Bytes read and not yet consumed.
pub(super) struct Buffer {
    source: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What to consume before the next read: the packet that was handed out.
    taken: usize,
    consumed: u64,
    pub error: Option<io::Error>,
}

impl Buffer {
    pub fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, bytes: vec![0; CHUNK], start: 0, end: 0, taken: 0, consumed: 0, error: None }
    }

    /// What is there, from the first byte that was not consumed.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Bytes consumed since the start.
    pub fn position(&self) -> u64 {
        self.consumed
    }

    /// Makes sure that at least `len` bytes are there; `false` at the end of the source.
    #[inline]
    pub fn fill(&mut self, len: usize) -> bool {
        self.end - self.start >= len || self.read_more(len)
    }

    #[cold]
    fn read_more(&mut self, len: usize) -> bool {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < len {
            if self.end == self.bytes.len() || self.bytes.len() - self.end < CHUNK / 4 {
                let more = self.bytes.len().clamp(CHUNK, 1 << 24);
                self.bytes.resize(self.bytes.len() + more, 0);
            }
            match self.source.read(&mut self.bytes[self.end..]) {
                Ok(0) => return false,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            }
        }
        true
    }

    /// Drops `len` bytes now.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.consumed += len as u64;
    }

    /// Records that `len` bytes are consumed when the next packet is read.
    #[inline]
    pub fn take(&mut self, len: usize) {
        self.taken = len;
    }

    /// Drops what was handed out.
    #[inline]
    pub fn release(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.consume(taken);
    }
}
