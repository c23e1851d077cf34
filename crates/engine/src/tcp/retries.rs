//! How long is too long: retry counts as time budgets (RFC 9293 section 3.8.3), as Linux counts them.

use crate::config::TcpConfig;
use core::time::Duration;

/// The time that this many retransmissions take from the least RTO on, doubling up to the greatest;
/// as Linux reads `tcp_retries2`: 15 is 924.6 s.
pub(crate) fn budget(config: &TcpConfig, retries: u32) -> Duration {
    let step = |n: u32| config.min_rto.saturating_mul(1 << n.min(20)).min(config.max_rto);
    (0..=retries).map(step).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_retries_are_924_6_seconds_and_three_are_three() {
        let config = TcpConfig::default();
        assert_eq!(budget(&config, 15), Duration::from_millis(924_600));
        assert_eq!(budget(&config, 3), Duration::from_secs(3));
    }
}
