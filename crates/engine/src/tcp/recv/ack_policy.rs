//! Delayed ACKs (RFC 9293 section 3.8.6.3) and quick ACKs, as on Linux: no delay at the start of a stream, when the
//! peer's congestion window depends on ACKs; a delay where data flows both ways and the ACK can ride on ours.

use crate::Instant;
use core::time::Duration;

/// How promptly text is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckPolicy {
    /// So many more ACKs go at once.
    quick: u32,
    /// Our text answers the peer's: an ACK will find something to ride on.
    interactive: bool,
    /// When text last arrived.
    last_text: Option<Instant>,
}

impl AckPolicy {
    /// The ACKs that go at once, whether text answers text, and when text last arrived.
    pub fn parts(&self) -> (u32, bool, Option<Instant>) {
        (self.quick, self.interactive, self.last_text)
    }

    /// Of these [`parts`](Self::parts).
    pub fn with(quick: u32, interactive: bool, last_text: Option<Instant>) -> Self {
        Self { quick, interactive, last_text }
    }

    /// Text has arrived. At the start, and after a pause in which the peer's timer can have expired, it
    /// may be in slow start.
    pub fn text_arrived(&mut self, now: Instant, rto: Duration, most_quick: u32) {
        if self.last_text.is_none_or(|last| now - last > rto) {
            self.quick = self.quick.max(most_quick);
        }
        self.last_text = Some(now);
    }

    /// New text of ours goes out: it answers what came within the time of an ACK.
    pub fn text_sent(&mut self, now: Instant, ack_delay: Duration) {
        self.interactive |= self.last_text.is_some_and(|last| now - last < ack_delay);
    }

    /// An ACK has left, on text or not.
    pub fn acknowledged(&mut self) {
        self.quick = self.quick.saturating_sub(1);
    }

    /// When text last arrived.
    pub fn last_text(&self) -> Option<Instant> {
        self.last_text
    }

    /// Whether an ACK goes at once.
    pub fn is_quick(&self) -> bool {
        self.quick > 0 && !self.interactive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: Duration = Duration::from_millis(200);
    const DELAY: Duration = Duration::from_millis(40);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_stream_begins_with_quick_acks() {
        let mut ack_policy = AckPolicy::default();
        assert!(!ack_policy.is_quick());
        for ms in 0..16 {
            ack_policy.text_arrived(at(ms), RTO, 16);
            assert!(ack_policy.is_quick(), "{ms}");
            ack_policy.acknowledged();
        }
        assert!(!ack_policy.is_quick());
        ack_policy.text_arrived(at(100), RTO, 16);
        assert!(!ack_policy.is_quick());
        ack_policy.text_arrived(at(301), RTO, 16);
        assert!(ack_policy.is_quick());
    }

    #[test]
    fn an_answer_lets_acks_wait_for_the_next() {
        let mut ack_policy = AckPolicy::default();
        ack_policy.text_arrived(at(0), RTO, 16);
        ack_policy.text_sent(at(50), DELAY);
        assert!(ack_policy.is_quick());
        ack_policy.text_arrived(at(60), RTO, 16);
        ack_policy.text_sent(at(70), DELAY);
        assert!(!ack_policy.is_quick());
    }
}
