//! Sequence numbers: one type for each of a connection's two sequence spaces.
//!
//! Numbers that wrap have no total order, so neither type has `Ord`. With two types the compiler
//! rejects a comparison of `SEG.ACK` with `RCV.NXT`.

use core::ops::{Add, AddAssign, Sub};

macro_rules! space {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// Whether `self` comes before `other` (RFC 9293 section 3.4: modulo 2^32).
            pub const fn before(self, other: Self) -> bool {
                (self.0.wrapping_sub(other.0) as i32) < 0
            }

            /// Whether `self` comes after `other`.
            pub const fn after(self, other: Self) -> bool {
                other.before(self)
            }

            /// Whether `start <= self < start + len`.
            pub const fn within(self, start: Self, len: u32) -> bool {
                self.0.wrapping_sub(start.0) < len
            }

            /// The later of two numbers of which neither is 2^31 or more ahead of the other.
            pub const fn later(self, other: Self) -> Self {
                if self.before(other) { other } else { self }
            }

            /// The earlier of two numbers of which neither is 2^31 or more ahead of the other.
            pub const fn earlier(self, other: Self) -> Self {
                if self.before(other) { self } else { other }
            }

            /// The signed distance from `other` to `self`.
            pub const fn offset_from(self, other: Self) -> i32 {
                self.0.wrapping_sub(other.0) as i32
            }
        }

        impl Add<u32> for $name {
            type Output = Self;

            fn add(self, bytes: u32) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl AddAssign<u32> for $name {
            fn add_assign(&mut self, bytes: u32) {
                *self = *self + bytes;
            }
        }

        impl Sub<u32> for $name {
            type Output = Self;

            fn sub(self, bytes: u32) -> Self {
                Self(self.0.wrapping_sub(bytes))
            }
        }

        impl Sub for $name {
            type Output = u32;

            /// The number of bytes from `earlier` up to `self`.
            fn sub(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }
        }
    };
}

space! {
    /// A sequence number of the bytes sent: SND.UNA, SEG.ACK of a received segment.
    SndSeq
}

space! {
    /// A sequence number of the bytes received: RCV.NXT, SEG.SEQ of a received segment.
    RcvSeq
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let a = SndSeq(u32::MAX - 1);
        let b = a + 4;
        assert!(a.before(b) && b.after(a) && !a.after(b) && !a.before(a));
        assert_eq!((b - a, b.0, b.offset_from(a), a.offset_from(b)), (4, 2, 4, -4));
        assert!(b.within(a, 5) && !b.within(a, 4) && !(a - 1).within(a, 4));
        assert_eq!((a.later(b), a.earlier(b)), (b, a));
    }
}
