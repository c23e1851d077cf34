//! How many ICMP errors we send (RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8).

use crate::aging::Aging;
use crate::isn::Secret;
use crate::{DatagramConfig, Instant};
use core::net::IpAddr;
use core::time::Duration;

/// Most destinations whose buckets are kept; the one that was answered longest ago goes first.
const MOST: usize = 4096;

/// A token bucket for each destination, and behind them one for all. In this order no destination can
/// use up what belongs to the others.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    destinations: Aging<IpAddr, Bucket>,
    all: Option<Bucket>,
}

impl Limiter {
    /// Whether an error may be sent to `remote` now. If so, it is counted.
    pub fn admit(
        &mut self,
        config: &DatagramConfig,
        secret: &mut Secret,
        remote: IpAddr,
        now: Instant,
    ) -> bool {
        config.unlimited_errors
            || self.destination_admits(config, remote, now) && self.all_admit(config, secret, now)
    }

    fn destination_admits(&mut self, config: &DatagramConfig, remote: IpAddr, now: Instant) -> bool {
        let price = config.error_interval;
        let most = price.saturating_mul(config.error_burst);
        if self.destinations.len() >= MOST && self.destinations.get(&remote).is_none() {
            self.destinations.pop_oldest();
        }
        self.destinations.refresh(&remote);
        let bucket = self.destinations.get_or_insert_with(remote, || Bucket::full(most, now));
        bucket.refill(most, now);
        bucket.take(price, price)
    }

    /// One credit on average, at random 0 to 2: a count that is exact would tell anybody who can make
    /// us send errors how many others made us send (CVE-2020-25705).
    fn all_admit(&mut self, config: &DatagramConfig, secret: &mut Secret, now: Instant) -> bool {
        let Some(price) = Duration::from_secs(1).checked_div(config.error_rate) else { return false };
        let most = price.saturating_mul(config.error_rate_burst);
        let bucket = self.all.get_or_insert_with(|| Bucket::full(most, now));
        bucket.refill(most, now);
        bucket.take(price, price * (secret.draw() % 3) as u32)
    }
}

/// A token bucket that counts its tokens as the time in which they came.
#[derive(Debug)]
struct Bucket {
    credit: Duration,
    /// Up to when it was filled; ahead of now if it gave what was still to come.
    at: Instant,
}

impl Bucket {
    const fn full(most: Duration, now: Instant) -> Self {
        Self { credit: most, at: now }
    }

    fn refill(&mut self, most: Duration, now: Instant) {
        self.credit = self.credit.saturating_add(now - self.at).min(most);
        self.at = self.at.max(now);
    }

    /// Takes `price` if there is at least `needed`. What is missing is taken from what is to come.
    fn take(&mut self, needed: Duration, price: Duration) -> bool {
        let enough = self.credit >= needed;
        if enough {
            self.at += price.saturating_sub(self.credit);
            self.credit = self.credit.saturating_sub(price);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn host(i: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + i).into()
    }

    fn admitted(limiter: &mut Limiter, asks: impl Iterator<Item = (u32, u64)>, key: u8) -> usize {
        let config = DatagramConfig::default();
        let mut secret = Secret::new([key; 16]);
        asks.filter(|&(i, ms)| limiter.admit(&config, &mut secret, host(i), Instant::from_millis(ms))).count()
    }

    #[test]
    fn d9_a_destination_gets_six_at_once_and_one_each_second() {
        let mut limiter = Limiter::default();
        let mut fifty_at = |ms| admitted(&mut limiter, (0..50).map(|_| (1, ms)), 1);
        assert_eq!([fifty_at(0), fifty_at(1_100), fifty_at(4_300)], [6, 1, 3]);
        assert_eq!(fifty_at(100_000), 6);
    }

    #[test]
    fn d9_one_destination_does_not_use_up_what_belongs_to_another() {
        let mut limiter = Limiter::default();
        assert_eq!(admitted(&mut limiter, (0..10_000).map(|_| (1, 0)), 1), 6);
        assert_eq!(admitted(&mut limiter, (0..6).map(|_| (2, 0)), 2), 6);
    }

    #[test]
    fn d9_all_together_are_limited_but_not_to_an_exact_count() {
        let count = |key| admitted(&mut Limiter::default(), (0..400).map(|i| (i / 2, 0)), key);
        let counts: alloc::collections::BTreeSet<_> = (0..16).map(count).collect();
        assert!(counts.iter().all(|count| (25..=100).contains(count)), "{counts:?}");
        assert!(counts.len() > 4, "{counts:?}");
        let in_a_second = admitted(&mut Limiter::default(), (0..10_000).map(|i| (i, u64::from(i / 10))), 1);
        assert!((900..1200).contains(&in_a_second), "{in_a_second}");
    }

    #[test]
    fn d9_a_loopback_like_link_is_exempt_and_rate_zero_means_none() {
        let (mut limiter, mut secret) = (Limiter::default(), Secret::new([0; 16]));
        let unlimited = DatagramConfig { unlimited_errors: true, ..Default::default() };
        let none = DatagramConfig { error_rate: 0, ..Default::default() };
        assert!((0..1000).all(|_| limiter.admit(&unlimited, &mut secret, host(1), Instant::ZERO)));
        assert!(!limiter.admit(&none, &mut secret, host(1), Instant::ZERO));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut limiter = Limiter::default();
        admitted(&mut limiter, (0..MOST as u32 + 100).map(|i| (i, 0)), 1);
        assert_eq!(limiter.destinations.len(), MOST);
    }
}
