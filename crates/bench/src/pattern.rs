//! The data of a transfer: a function of its position, so that lost, doubled, reordered and corrupt bytes show.

use std::sync::LazyLock;

/// Bytes written or read at once.
pub const CHUNK: usize = 256 * 1024;
/// After this many bytes the data repeats. A prime, so that no buffer size divides it.
const PERIOD: usize = 1_048_573;
/// Bytes compared at each end of a read while time is measured.
const SAMPLE: usize = 64;
/// The end of a stream: the number of bytes before it, and its complement.
pub const TRAILER: usize = 16;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(PERIOD)
    .collect();
    bytes.extend_from_within(..CHUNK);
    bytes
});

/// The data at this position, up to a chunk.
pub fn at(position: u64) -> &'static [u8] {
    let start = (position % PERIOD as u64) as usize;
    &PATTERN[start..start + CHUNK]
}

/// The end of a stream of this length.
pub fn trailer(length: u64) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(&length.to_le_bytes());
    trailer[8..].copy_from_slice(&(!length).to_le_bytes());
    trailer
}

/// Compares received data, and separates the trailer from it.
#[derive(Debug)]
pub struct Checker {
    /// Every byte, not only the ends of each read.
    thorough: bool,
    at: u64,
    /// The last bytes received: the trailer, if nothing follows.
    held: Vec<u8>,
    wrong: bool,
}

impl Checker {
    pub fn new(thorough: bool) -> Self {
        Self { thorough, at: 0, held: Vec::with_capacity(4 * TRAILER), wrong: false }
    }

    pub fn receive(&mut self, data: &[u8]) {
        let keep = data.len().min(TRAILER);
        let (now, last) = data.split_at(data.len() - keep);
        // What was held back, and is no trailer because more follows it.
        let release = (self.held.len() + keep).saturating_sub(TRAILER);
        if release > 0 {
            let held = std::mem::take(&mut self.held);
            self.compare(&held[..release]);
            self.held.extend_from_slice(&held[release..]);
        }
        self.compare(now);
        self.held.extend_from_slice(last);
    }

    fn compare(&mut self, data: &[u8]) {
        for piece in data.chunks(CHUNK) {
            let expected = &at(self.at)[..piece.len()];
            let sample = if self.thorough { piece.len() } else { piece.len().min(SAMPLE) };
            let rest = piece.len() - sample;
            self.wrong |= piece[..sample] != expected[..sample] || piece[rest..] != expected[rest..];
            self.at += piece.len() as u64;
        }
    }

    /// The number of bytes compared so far.
    pub fn compared(&self) -> u64 {
        self.at
    }

    /// Whether one of them was wrong.
    pub fn is_wrong(&self) -> bool {
        self.wrong
    }

    /// The length of the stream, or what is wrong with it.
    pub fn finish(&self) -> Result<u64, String> {
        if self.wrong {
            return Err(format!("wrong data within the first {} bytes", self.at));
        }
        if self.held != trailer(self.at) {
            return Err(format!("the stream ended after {} bytes, before its end", self.at));
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(length: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        while stream.len() < length {
            let piece = at(stream.len() as u64);
            stream.extend_from_slice(&piece[..piece.len().min(length - stream.len())]);
        }
        stream.extend_from_slice(&trailer(length as u64));
        stream
    }

    fn check(stream: &[u8], size: usize) -> Result<u64, String> {
        let mut checker = Checker::new(true);
        stream.chunks(size).for_each(|piece| checker.receive(piece));
        checker.finish()
    }

    #[test]
    fn a_whole_stream_in_pieces_of_any_size() {
        for size in [1, 7, 16, 17, 1000, CHUNK] {
            assert_eq!(check(&stream(3000), size), Ok(3000), "pieces of {size}");
        }
        assert_eq!(check(&stream(2_500_000), CHUNK), Ok(2_500_000));
    }

    #[test]
    fn truncated_doubled_and_corrupt_streams_are_detected() {
        let whole = stream(5000);
        assert!(check(&whole[..4000], 100).unwrap_err().contains("before its end"));
        assert!(check(&whole[..5000 + TRAILER - 1], 100).is_err());
        let doubled = [&whole[..2000], &whole[1000..]].concat();
        assert!(check(&doubled, 100).unwrap_err().contains("wrong data"));
        let mut corrupt = whole.clone();
        corrupt[2500] ^= 1;
        assert!(check(&corrupt, 1000).unwrap_err().contains("wrong data"));
        assert!(check(&[], 1).is_err());
    }
}
