//! Rate limits of ICMP errors (RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8).

use crate::isn::Secret;
use crate::{DatagramConfig, Instant};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// Max buckets of destinations. A secret hash selects the bucket; a new destination evicts the previous one.
const PLACES: usize = 4096;

/// A token bucket for each destination, and a global one. An error needs a token of both.
///
/// An attacker can send with spoofed sources and observe the remaining tokens for itself. So no
/// shared state may depend on whether a packet *was* answered, which reveals whether a port is open
/// (CVE-2020-25705): every packet that could be answered takes tokens of the global bucket and takes
/// over the bucket of its source, delivered or not. Only a destination's own tokens depend on the
/// errors sent.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    places: Vec<Place>,
    all: Option<Bucket>,
    /// The global bucket allows an answer to the last packet received.
    granted: bool,
}

/// A bucket and its owner, identified by a hash.
#[derive(Clone, Debug)]
struct Place {
    owner: u32,
    bucket: Bucket,
}

impl Limiter {
    /// A packet from `remote` was received that may have to be answered with an error.
    pub fn arrived(&mut self, config: &DatagramConfig, secret: &mut Secret, remote: IpAddr, now: Instant) {
        if config.unlimited_errors {
            return;
        }
        let (owner, place) = secret.place(remote, PLACES);
        let full = Bucket::full(max_burst(config), now);
        if self.places.is_empty() {
            self.places.resize(PLACES, Place { owner: !owner, bucket: full.clone() });
        }
        if self.places[place].owner != owner {
            self.places[place] = Place { owner, bucket: full };
        }
        self.granted = self.all_grants(config, secret, now);
    }

    /// Whether that packet may be answered. If so, a token is taken.
    pub fn admit(&mut self, config: &DatagramConfig, secret: &Secret, remote: IpAddr, now: Instant) -> bool {
        if config.unlimited_errors {
            return true;
        }
        let granted = core::mem::take(&mut self.granted);
        let (_, place) = secret.place(remote, PLACES);
        let Some(Place { bucket, .. }) = self.places.get_mut(place).filter(|_| granted) else { return false };
        bucket.refill(max_burst(config), now);
        bucket.take(config.error_interval, config.error_interval)
    }

    /// Takes 0 to 2 tokens at random, 1 on average: an exact count would reveal how many packets arrive
    /// from others.
    fn all_grants(&mut self, config: &DatagramConfig, secret: &mut Secret, now: Instant) -> bool {
        let Some(price) = Duration::from_secs(1).checked_div(config.error_rate) else { return false };
        let max = price.saturating_mul(config.error_rate_burst);
        let bucket = self.all.get_or_insert_with(|| Bucket::full(max, now));
        bucket.refill(max, now);
        bucket.take(price, price * (secret.draw() % 3) as u32)
    }
}

fn max_burst(config: &DatagramConfig) -> Duration {
    config.error_interval.saturating_mul(config.error_burst)
}

/// A token bucket that measures its tokens as time.
#[derive(Clone, Debug)]
struct Bucket {
    credit: Duration,
    /// When it was last filled; in the future if future tokens were taken.
    at: Instant,
}

impl Bucket {
    const fn full(max: Duration, now: Instant) -> Self {
        Self { credit: max, at: now }
    }

    fn refill(&mut self, max: Duration, now: Instant) {
        self.credit = self.credit.saturating_add(now - self.at).min(max);
        self.at = self.at.max(now);
    }

    /// Takes `price` if the credit is at least `needed`. A deficit is taken from future tokens.
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
        let mut ask = |i, now| {
            limiter.arrived(&config, &mut secret, host(i), now);
            limiter.admit(&config, &secret, host(i), now)
        };
        asks.filter(|&(i, ms)| ask(i, Instant::from_millis(ms))).count()
    }

    #[test]
    fn d9_a_destination_gets_six_at_once_and_one_each_second() {
        let mut limiter = Limiter::default();
        let mut fifty_at = |ms| admitted(&mut limiter, (0..30).map(|_| (1, ms)), 1);
        assert_eq!([fifty_at(0), fifty_at(1_100), fifty_at(4_300)], [6, 1, 3]);
        assert_eq!(fifty_at(100_000), 6);
    }

    #[test]
    fn d9_each_destination_has_its_own_limit() {
        let mut limiter = Limiter::default();
        assert_eq!(admitted(&mut limiter, (0..10_000).map(|n| (1, n / 100)), 1), 6);
        assert_eq!(admitted(&mut limiter, (0..6).map(|_| (2, 1000)), 2), 6);
    }

    /// T183, D22.
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
        let all = |limiter: &mut Limiter, secret: &mut Secret, config: &DatagramConfig| {
            limiter.arrived(config, secret, host(1), Instant::ZERO);
            limiter.admit(config, secret, host(1), Instant::ZERO)
        };
        let unlimited = DatagramConfig { unlimited_errors: true, ..Default::default() };
        let none = DatagramConfig { error_rate: 0, ..Default::default() };
        assert!((0..1000).all(|_| all(&mut limiter, &mut secret, &unlimited)));
        assert!(!all(&mut limiter, &mut secret, &none));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut limiter = Limiter::default();
        admitted(&mut limiter, (0..3 * PLACES as u32).map(|i| (i, 0)), 1);
        assert_eq!((limiter.places.len(), limiter.places.capacity()), (PLACES, PLACES));
    }
}
