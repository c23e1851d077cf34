//! Delayed ACKs (RFC 9293 section 3.8.6.3) and quick ACKs, as on Linux: no delay at the start of a stream, when the
//! peer is in slow start; a delay where data flows both ways and the ACK can be piggybacked.

use crate::Instant;
use crate::time::nanos;
use core::time::Duration;

/// Decides how promptly data is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckPolicy {
    /// Remaining number of quick ACKs.
    quick: u32,
    /// Data is sent in reply to the peer's: an ACK can be piggybacked.
    interactive: bool,
    /// When data last arrived.
    last_data: Option<Instant>,
}

impl AckPolicy {
    /// The remaining quick ACKs, whether data flows both ways, and when data last arrived.
    pub fn parts(&self) -> (u32, bool, Option<Instant>) {
        (self.quick, self.interactive, self.last_data)
    }

    /// Restores a policy from its [`parts`](Self::parts).
    pub fn with(quick: u32, interactive: bool, last_data: Option<Instant>) -> Self {
        Self { quick, interactive, last_data }
    }

    /// Data has arrived. At the start, and after a pause longer than the RTO (in nanoseconds), the peer may be in slow
    /// start.
    pub fn data_arrived(&mut self, now: Instant, rto: u64, max_quick_acks: impl FnOnce() -> u32) {
        if self.last_data.is_none_or(|last| now.nanos_since(last) > rto) {
            self.quick = self.quick.max(max_quick_acks());
        }
        self.last_data = Some(now);
    }

    /// New data is sent: it is a reply to data that arrived within the ACK delay.
    pub fn data_sent(&mut self, now: Instant, ack_delay: Duration) {
        if !self.interactive {
            self.interactive = self.last_data.is_some_and(|last| now.nanos_since(last) < nanos(ack_delay));
        }
    }

    /// An ACK was sent, with data or without.
    pub fn acknowledged(&mut self) {
        self.quick = self.quick.saturating_sub(1);
    }

    /// When data last arrived.
    pub fn last_data(&self) -> Option<Instant> {
        self.last_data
    }

    /// Whether an ACK is sent at once.
    pub fn is_quick(&self) -> bool {
        self.quick > 0 && !self.interactive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: u64 = 200_000_000;
    const DELAY: Duration = Duration::from_millis(40);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_stream_begins_with_quick_acks() {
        let mut ack_policy = AckPolicy::default();
        assert!(!ack_policy.is_quick());
        for ms in 0..16 {
            ack_policy.data_arrived(at(ms), RTO, || 16);
            assert!(ack_policy.is_quick(), "{ms}");
            ack_policy.acknowledged();
        }
        assert!(!ack_policy.is_quick());
        ack_policy.data_arrived(at(100), RTO, || 16);
        assert!(!ack_policy.is_quick());
        ack_policy.data_arrived(at(301), RTO, || 16);
        assert!(ack_policy.is_quick());
    }

    #[test]
    fn an_answer_lets_acks_wait_for_the_next() {
        let mut ack_policy = AckPolicy::default();
        ack_policy.data_arrived(at(0), RTO, || 16);
        ack_policy.data_sent(at(50), DELAY);
        assert!(ack_policy.is_quick());
        ack_policy.data_arrived(at(60), RTO, || 16);
        ack_policy.data_sent(at(70), DELAY);
        assert!(!ack_policy.is_quick());
    }
}
