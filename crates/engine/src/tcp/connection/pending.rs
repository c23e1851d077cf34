//! What a connection has to send: recorded by arrivals, timers and calls, sent by `segmentize`.

use crate::Rule;

/// Debts of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// ACKs that must leave each as a segment of its own, without text: three duplicate ACKs must
    /// arrive as three (RFC 5681 section 3.2).
    pub pure_acks: u8,
    /// An ACK, which may ride on text.
    pub ack: bool,
    /// A challenge ACK, and the rule that asks for it.
    pub challenge: Option<Rule>,
    /// A tail loss probe: one segment, new or again (RFC 8985 section 7).
    pub tail_probe: bool,
    /// A segment that only asks for an answer: SEQ one before what the peer expects.
    pub probe: bool,
    /// Text although it fills no segment: the timer of sender SWS avoidance has expired.
    pub force: bool,
    /// Text although it fills no segment: the user will not have it wait.
    pub flush: bool,
    /// Not that text yet: the user has said that more follows.
    pub more: bool,
    /// The user timeout option, on a segment without text.
    pub user_timeout: bool,
    /// The reset that ends the connection.
    pub reset: bool,
    /// It went out with its reason, and is to go again without.
    pub repeat: bool,
}

impl Pending {
    /// Notes one more ACK that must not ride on text. As many as a window has segments is enough.
    pub fn pure_ack(&mut self) {
        self.pure_acks = self.pure_acks.saturating_add(1);
    }
}
