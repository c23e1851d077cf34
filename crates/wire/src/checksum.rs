//! The internet checksum (RFC 1071).
//!
//! The sum is computed over words in native byte order and converted to network byte order once, at the end: RFC 1071
//! section 2 (B) shows that it does not depend on the byte order. Since 2^16 is 1 modulo 2^16 - 1, words of 32 bits
//! may be added and folded afterwards.

/// A partial one's complement sum of 16-bit words.
///
/// Only the last of the byte strings added may have an odd length.
///
/// ```
/// use lastack_wire::checksum::Sum;
/// let stored = Sum::new().add(&[0x45, 0x00, 0x00, 0x1d]).finish();
/// assert!(Sum::new().add(&[0x45, 0x00, 0x00, 0x1d]).add_u16(stored).is_valid());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

/// Bytes per iteration of the wide loop.
const WIDE: usize = 128;

/// Min length for which the wide loop is faster.
const SHORT: usize = 64;

/// The low half of a 64-bit word.
const LOW: u64 = 0xffff_ffff;

impl Sum {
    /// The empty sum.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes; an odd length is padded with a zero byte.
    #[inline]
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "a sum plus bytes is no sum plus sum")]
    pub fn add(self, bytes: &[u8]) -> Self {
        let sum = if bytes.len() < SHORT { narrow(bytes) } else { wide(bytes) };
        // Each addition is below 2^33, so 2^31 of them fit before the accumulator could overflow.
        Self(self.0 + fold32(sum))
    }

    /// Adds an array whose length is a multiple of four: of a length known when it is compiled.
    #[inline(always)]
    #[must_use]
    pub(crate) fn add_array<const N: usize>(self, bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4)) };
        let words = bytes.as_chunks::<4>().0.iter();
        Self(words.fold(self.0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word))))
    }

    /// Adds two strings as if they were one; the first may have an odd length.
    #[inline(always)]
    #[must_use]
    pub fn add_both(self, data: [&[u8]; 2]) -> Self {
        // Inlined: segments without data are known to have none where they are built.
        if data[0].is_empty() && data[1].is_empty() { self } else { self.add_data(data) }
    }

    #[inline]
    fn add_data(self, [first, second]: [&[u8]; 2]) -> Self {
        let sum = if first.is_empty() { self } else { self.add(first) };
        match second {
            [] => sum,
            [odd, rest @ ..] if first.len() % 2 == 1 => {
                // The first byte completes the last word.
                Self(sum.0 + u64::from(u16::from_ne_bytes([0, *odd]))).add(rest)
            }
            _ => sum.add(second),
        }
    }

    /// Adds a 16-bit number, as in a header.
    #[inline]
    #[must_use]
    pub const fn add_u16(self, v: u16) -> Self {
        Self(self.0 + v.to_be() as u64)
    }

    /// Adds a 32-bit number, as in a header.
    #[inline]
    #[must_use]
    pub const fn add_u32(self, v: u32) -> Self {
        Self(self.0 + v.to_be() as u64)
    }

    /// The uncomplemented sum: the checksum field of a packet for checksum offload.
    #[inline]
    #[must_use]
    pub const fn folded(self) -> u16 {
        u16::from_be(fold16(self.0))
    }

    /// The complement of the sum, as stored in a header.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !self.folded()
    }

    /// Whether the sum of a whole packet, with its stored checksum, is valid.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        fold16(self.0) == 0xffff
    }
}

/// Long strings: words of 64 bits with end-around carry, since 2^64 too is 1 modulo 2^16 - 1. The carry of each addition
/// is an input of the next, which takes one instruction a word; two independent sums, so that they overlap.
fn wide(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 2];
    let (blocks, rest) = bytes.as_chunks::<WIDE>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let (first, second) = words.split_at(WIDE / 16);
        sums[0] = add_words(sums[0], first);
        sums[1] = add_words(sums[1], second);
    }
    let (blocks, rest) = rest.as_chunks::<32>();
    for block in blocks {
        sums[0] = add_words(sums[0], block.as_chunks::<8>().0);
    }
    sums.into_iter().map(fold32).sum::<u64>() + narrow(rest)
}

/// Adds words with end-around carry.
#[inline(always)]
fn add_words(mut sum: u64, words: &[[u8; 8]]) -> u64 {
    let mut carry = false;
    for word in words {
        let (partial, first) = sum.overflowing_add(u64::from_ne_bytes(*word));
        let (total, second) = partial.overflowing_add(u64::from(carry));
        (sum, carry) = (total, first | second);
    }
    let (sum, carry) = sum.overflowing_add(u64::from(carry));
    sum + u64::from(carry)
}

/// Short strings, and the rest of the wide loop.
#[inline]
fn narrow(bytes: &[u8]) -> u64 {
    let (words, mut rest) = bytes.as_chunks::<8>();
    let mut sum = 0u64;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        sum += (word & LOW) + (word >> 32);
    }
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        sum += u64::from(u32::from_ne_bytes(*word));
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<2>() {
        sum += u64::from(u16::from_ne_bytes(*word));
        rest = tail;
    }
    if let [last] = rest {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// Folds to less than 2^33.
#[inline]
const fn fold32(sum: u64) -> u64 {
    (sum & LOW) + (sum >> 32)
}

/// Folds to 16 bits; only a sum of zeros is 0.
#[inline]
const fn fold16(sum: u64) -> u16 {
    // At most 2^33 after the first step, 2^32 after the second, 2^17 - 2 after the third.
    let sum = fold32(fold32(sum));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
