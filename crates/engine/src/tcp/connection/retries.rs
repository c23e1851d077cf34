//! Retry counts as time budgets (RFC 9293 section 3.8.3), as Linux computes them.

use crate::config::TcpConfig;
use core::time::Duration;

/// The time that this number of retransmissions takes, from the min RTO doubling up to the max RTO; as Linux reads
/// `tcp_retries2`: 15 is 924.6 s.
pub(crate) fn budget(config: &TcpConfig, retries: u32) -> Duration {
    let (mut step, mut sum) = (config.min_rto.min(config.max_rto), Duration::ZERO);
    // Each step doubles, so only a few are below the max RTO; all later ones are equal to it.
    for left in (0..=retries).rev() {
        if step.is_zero() || step >= config.max_rto {
            let rest = step.saturating_mul(left);
            return sum.saturating_add(step).saturating_add(rest);
        }
        sum = sum.saturating_add(step);
        step = step.saturating_mul(2).min(config.max_rto);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_retries_are_924_6_seconds_and_three_are_three() {
        let config = TcpConfig::default();
        assert_eq!(budget(&config, 15), Duration::from_millis(924_600));
        assert_eq!(budget(&config, 3), Duration::from_secs(3));
        assert_eq!(budget(&config, 0), Duration::from_millis(200));
    }

    #[test]
    fn any_number_of_retries_is_counted_at_once() {
        let budget_of = |min_rto, max_rto, retries| {
            budget(&TcpConfig { min_rto, max_rto, ..TcpConfig::default() }, retries)
        };
        let (ms, secs) = (Duration::from_millis(200), Duration::from_secs(120));
        // Ten steps below the greatest: 204.6 s.
        let max = Duration::from_millis(204_600) + secs * (u32::MAX - 9);
        assert_eq!(budget_of(ms, secs, u32::MAX), max);
        assert_eq!(budget_of(Duration::MAX, Duration::MAX, u32::MAX), Duration::MAX);
        assert_eq!(budget_of(Duration::from_nanos(1), Duration::MAX, u32::MAX), Duration::MAX);
        assert_eq!(budget_of(Duration::ZERO, secs, u32::MAX), Duration::ZERO);
    }
}
