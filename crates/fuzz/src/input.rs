//! Bytes read as decisions.

/// The rest of an input. At its end every decision is 0.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// A whole input.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether the input is at its end.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// Two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Four bytes.
    pub fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        match n {
            0..=1 => 0,
            2..=0x100 => u32::from(self.byte()) % n,
            0x101..=0x1_0000 => u32::from(self.word()) % n,
            _ => self.long() % n,
        }
    }

    /// True once in `n`; false at the end of the input.
    pub fn once_in(&mut self, n: u32) -> bool {
        !self.is_empty() && self.below(n) == n - 1
    }

    /// One of these values.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// Up to `n` bytes, unchanged.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_all_zero() {
        let mut input = Input::new(&[7, 1, 2, 9]);
        assert_eq!((input.below(5), input.word(), input.pick(&[1, 2, 3])), (2, 0x0102, 1));
        assert!(input.is_empty() && !input.once_in(1));
        assert_eq!((input.byte(), input.long(), input.below(1 << 20), input.take(4)), (0, 0, 0, &[][..]));
    }
}
