//! How sure a verdict sounds.

/// The words that follow the confidence of a verdict, on one scale for everything that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// Below 0.4: the cause is unknown; it may be A.
    Unknown,
    /// From 0.4: the cause is either A or B.
    Either,
    /// Above 0.6: the cause is very likely A.
    VeryLikely,
    /// From 0.9: the cause is A.
    Is,
}

impl Certainty {
    /// That of a confidence from 0 to 1.
    ///
    /// ```
    /// use lastack_causes::Certainty;
    ///
    /// let words = [0.95, 0.9, 0.75, 0.6, 0.4, 0.35].map(Certainty::of);
    /// use Certainty::{Either, Is, Unknown, VeryLikely};
    /// assert_eq!(words, [Is, Is, VeryLikely, Either, Either, Unknown]);
    /// ```
    #[must_use]
    pub fn of(confidence: f32) -> Self {
        match confidence {
            sure if sure >= 0.9 => Self::Is,
            // Causes that one capture cannot tell apart have at most 0.6.
            sure if sure > 0.6 => Self::VeryLikely,
            sure if sure >= 0.4 => Self::Either,
            _ => Self::Unknown,
        }
    }
}
