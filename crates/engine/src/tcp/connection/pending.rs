//! Pending output of a connection: recorded by arrivals, timers and calls, sent by `segmentize`.

use crate::Rule;

/// Pending output of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// ACKs that must each be sent as a segment of their own, without data: three duplicate ACKs must arrive as
    /// three (RFC 5681 section 3.2).
    pub pure_acks: u8,
    /// An ACK, which may be piggybacked on data.
    pub ack: bool,
    /// A challenge ACK, and the rule that requires it.
    pub challenge: Option<Rule>,
    /// A tail loss probe: one segment, new or retransmitted (RFC 8985 section 7).
    pub tail_probe: bool,
    /// A window or keep-alive probe: SEQ is one before what the peer expects.
    pub probe: bool,
    /// Send less than a full segment: the timer of sender SWS avoidance has expired.
    pub force: bool,
    /// Send less than a full segment: the application requires it not to wait.
    pub flush: bool,
    /// Hold back less than a full segment: the application has announced more data.
    pub more: bool,
    /// The user timeout option, on a segment without data.
    pub user_timeout: bool,
    /// The reset that ends the connection.
    pub reset: bool,
    /// The reset was sent with its reason, and is to be repeated without.
    pub repeat: bool,
}

impl Pending {
    /// Whether nothing is pending. Without branches: every segment sent and received asks.
    #[inline]
    pub fn is_empty(&self) -> bool {
        let Self {
            pure_acks,
            ack,
            challenge,
            tail_probe,
            probe,
            force,
            flush,
            more,
            user_timeout,
            reset,
            repeat,
        } = self;
        let flags = ack | tail_probe | probe | force | flush | more | user_timeout | reset | repeat;
        !(flags | challenge.is_some() | (*pure_acks > 0))
    }

    /// Adds an ACK that must not be piggybacked on data. The counter saturates: no more are needed than a window has
    /// segments.
    pub fn pure_ack(&mut self) {
        self.pure_acks = self.pure_acks.saturating_add(1);
    }
}
