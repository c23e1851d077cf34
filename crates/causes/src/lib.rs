//! The causes for which connections end: one vocabulary for `lastack explain`, `lastack watch` and
//! `lastack run`.
//!
//! A [`Cause`] has a stable name (what users see), a stable code (for filters and joins), a usual
//! [`Severity`], one sentence, and advice. Names and codes are never renamed or removed.
//!
//! ```
//! use lastack_causes::{Cause, Severity};
//!
//! let cause: Cause = "close-unread".parse().unwrap();
//! assert_eq!((cause.code(), cause.severity()), ("C06", Severity::Harmful));
//! assert_eq!("C06".parse(), Ok(cause));
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod certainty;
mod party;
mod table;

use core::fmt;
use core::str::FromStr;

pub use certainty::Certainty;
pub use party::{EndedBy, Severity};
pub use table::Cause;

/// The description of a cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The cause.
    pub cause: Cause,
    /// The stable code, such as `C06`.
    pub code: &'static str,
    /// The stable name, such as `close-unread`.
    pub name: &'static str,
    /// How much such an end usually matters.
    pub severity: Severity,
    /// The highest confidence that one capture alone can give.
    pub cap: f32,
    /// What happened, as one sentence about "an end", "the peer", "the path".
    pub sentence: &'static str,
    /// What to do about it; may be empty.
    pub advice: &'static str,
}

impl Cause {
    /// The whole entry of the vocabulary.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        &table::ENTRIES[self as usize]
    }

    /// All causes, in the order of their codes' groups.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        table::ENTRIES.iter().map(|entry| entry.cause)
    }

    /// The stable name, such as `close-unread`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The stable code, such as `C06`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// How much such an end usually matters; a single verdict may differ.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// The highest confidence that one capture alone can give.
    #[must_use]
    pub fn cap(self) -> f32 {
        self.entry().cap
    }

    /// What happened, as one sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        self.entry().sentence
    }

    /// What to do about it; empty where there is nothing to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        self.entry().advice
    }

    /// Whether an ICMP error, not a TCP segment, states this cause.
    #[must_use]
    pub fn is_icmp(self) -> bool {
        self.code().starts_with('I')
    }

    /// The cause that an ICMP error of this version, type and code states.
    ///
    /// ```
    /// use lastack_causes::Cause;
    ///
    /// assert_eq!(Cause::of_icmp(false, 3, 13), Cause::IcmpProhibited);
    /// assert_eq!(Cause::of_icmp(true, 1, 4), Cause::IcmpPortUnreachable);
    /// ```
    #[must_use]
    pub const fn of_icmp(v6: bool, kind: u8, code: u8) -> Self {
        match (v6, kind, code) {
            (false, 3, 3) | (true, 1, 4) => Self::IcmpPortUnreachable,
            (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => Self::IcmpProhibited,
            (false, 3, 1 | 5 | 7 | 8 | 12) | (true, 1, 2 | 3) => Self::IcmpHostUnreachable,
            (false, 3, 0 | 6 | 11) | (true, 1, 0) => Self::IcmpNoRoute,
            (false, 3, 4) | (true, 2, _) => Self::IcmpTooBig,
            (false, 11, _) | (true, 3, _) => Self::IcmpTimeExceeded,
            _ => Self::IcmpOther,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is neither the name nor the code of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCause;

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the name or the code of a cause")
    }
}

impl core::error::Error for UnknownCause {}

impl FromStr for Cause {
    type Err = UnknownCause;

    /// Reads a name (`close-unread`) or a code (`C06`).
    fn from_str(word: &str) -> Result<Self, UnknownCause> {
        let entry = table::ENTRIES.iter().find(|entry| entry.name == word || entry.code == word);
        entry.map(|entry| entry.cause).ok_or(UnknownCause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_stands_at_the_place_of_its_cause() {
        for (place, entry) in table::ENTRIES.iter().enumerate() {
            assert_eq!(entry.cause as usize, place, "{}", entry.name);
        }
    }

    #[test]
    fn names_and_codes_are_unique_and_are_read_back() {
        for entry in table::ENTRIES {
            assert_eq!(entry.name.parse(), Ok(entry.cause));
            assert_eq!(entry.code.parse(), Ok(entry.cause));
            assert!(
                entry.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{}",
                entry.name
            );
        }
        assert_eq!("C99".parse::<Cause>(), Err(UnknownCause));
    }

    #[test]
    fn every_cause_has_a_sentence_and_a_possible_cap() {
        for entry in table::ENTRIES {
            assert!(entry.sentence.ends_with('.'), "{}", entry.name);
            assert!(entry.cap > 0.0 && entry.cap < 1.0, "{}", entry.name);
            assert!(entry.severity != Severity::Harmful || !entry.advice.is_empty(), "{}", entry.name);
        }
    }
}
