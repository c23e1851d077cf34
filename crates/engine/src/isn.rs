//! Numbers that an outsider must not be able to predict: initial sequence numbers, ISN (RFC 6528), ephemeral
//! ports (RFC 6056), timestamp offsets, IPv4 identifications, and the keys of hash tables.

use crate::Instant;
use crate::end::FourTuple;
use crate::seq::SndSeq;
use core::hash::{BuildHasher, Hash, Hasher};
use core::net::IpAddr;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use siphasher::sip::{SipHasher13, SipHasher24};

/// The key of a stack, its only source of randomness.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    keys: (u64, u64),
    drawn: u64,
}

impl Secret {
    pub fn new(key: [u8; 16]) -> Self {
        let (low, high) = key.split_at(8);
        let word = |half: &[u8]| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self { keys: (word(low), word(high)), drawn: 0 }
    }

    /// The numbers of a four-tuple: the two halves of one hash.
    pub fn of_flow(&self, flow: &FourTuple) -> FlowNumbers {
        let hash = self.hash(b'i', flow);
        FlowNumbers { sequence: hash as u32, timestamp_offset: (hash >> 32) as u32 }
    }

    /// A keyed permutation of the numbers of `bits` bits, different in each `epoch`: a Feistel network
    /// of four rounds.
    pub fn shuffled(&self, epoch: u64, n: u32, bits: u32) -> u32 {
        let low = bits / 2;
        let masks = [(1 << (bits - low)) - 1, (1 << low) - 1];
        let mut halves = [n >> low & masks[0], n & masks[1]];
        for round in 0..4u8 {
            let to = usize::from(round % 2);
            halves[to] ^= self.hash(b'f', &(epoch, round, halves[1 - to])) as u32 & masks[to];
        }
        halves[0] << low | halves[1]
    }

    /// The unique identifier and sequence number of the `n`th echo request.
    pub fn echo_name(&self, n: u32) -> u32 {
        self.shuffled(u64::MAX, n, u32::BITS)
    }

    /// A hash of the peer's address, and its index in a table of `places` entries.
    pub fn place(&self, remote: IpAddr, places: usize) -> (u32, usize) {
        let hash = self.hash(b'p', &remote);
        ((hash >> 32) as u32, hash as u32 as usize % places)
    }

    /// The secret part of a SYN cookie.
    pub fn cookie(&self, flow: &FourTuple, irs: u32, minute: u64, class: u8) -> u32 {
        self.hash(b'c', &(flow, irs, minute, class)) as u32
    }

    /// The next pseudorandom number; the sequence depends on the key alone.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.hash(b'd', &self.drawn)
    }

    /// The hasher of a table whose keys are chosen by peers.
    pub fn table(&self) -> Seeded {
        Seeded { keys: self.keys }
    }

    /// The hasher of the table of connections.
    pub fn flow_hasher(&self) -> FlowHasher {
        let seeds = [0u8, 1].map(|n| self.hash(b'h', &n));
        FlowHasher { seed: seeds[0], shared: SharedSeed::from_u64(seeds[1]) }
    }

    /// The purpose is hashed last, as 32 bits, to keep the words of a four-tuple aligned.
    #[inline(always)]
    fn hash(&self, purpose: u8, value: &impl Hash) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        value.hash(&mut hasher);
        hasher.write_u32(u32::from(purpose));
        hasher.finish()
    }
}

/// A keyed hasher, resistant to chosen collisions and deterministic for a given key.
#[derive(Clone, Debug)]
pub(crate) struct Seeded {
    keys: (u64, u64),
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.keys.0, self.keys.1)
    }
}

/// The numbers of a connection that depend on its four-tuple and the secret alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlowNumbers {
    sequence: u32,
    /// The offset of TSval from the clock, so that TSval does not reveal the uptime or other connections
    /// (RFC 7323 section 5.4).
    pub timestamp_offset: u32,
}

impl FlowNumbers {
    /// ISN = M + F(four-tuple, secret), where M is a timer with 4 µs ticks (RFC 6528 section 3).
    pub fn initial_sequence_number(&self, now: Instant) -> SndSeq {
        SndSeq(((now.as_micros() / 4) as u32).wrapping_add(self.sequence))
    }
}

/// The keyed hash of four-tuples in the tables of connections, computed for every segment that arrives. No reply depends
/// on it, so a fast hash suffices: without the key, which cannot be observed, no peer can choose four-tuples that collide.
#[derive(Clone, Debug)]
pub(crate) struct FlowHasher {
    seed: u64,
    shared: SharedSeed,
}

impl FlowHasher {
    /// The hash of a four-tuple: local and remote address, local and remote port.
    #[inline]
    pub fn hash(&self, local: &IpAddr, remote: &IpAddr, ports: (u16, u16)) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        FourTuple::hash_ends(local, remote, ports, &mut hasher);
        hasher.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::net::SocketAddr;

    fn flow(port: u16) -> FourTuple {
        let local: SocketAddr = "10.0.0.1:80".parse().unwrap();
        FourTuple { local, remote: SocketAddr::new("10.0.0.2".parse().unwrap(), port) }
    }

    #[test]
    fn the_same_flow_counts_up_with_the_clock_and_another_flow_is_unrelated() {
        let secret = Secret::new([7; 16]);
        let isn_of = |secret: &Secret, ms, port| {
            secret.of_flow(&flow(port)).initial_sequence_number(Instant::from_millis(ms)).0
        };
        let isn = |ms, port| isn_of(&secret, ms, port);
        assert_eq!(isn(1000, 5).wrapping_sub(isn(0, 5)), 250_000);
        assert_ne!(isn(0, 5).wrapping_sub(isn(0, 6)), isn(0, 6).wrapping_sub(isn(0, 7)));
        assert_ne!(isn_of(&Secret::new([8; 16]), 0, 5), isn(0, 5));
    }

    #[test]
    fn shuffled_numbers_are_all_there_in_another_order_each_time() {
        let secret = Secret::new([7; 16]);
        let of = |epoch| (0..1 << 11).map(|n| secret.shuffled(epoch, n, 11)).collect::<Vec<_>>();
        let (first, second) = (of(0), of(1));
        assert_ne!(first, second);
        for mut numbers in [first, second] {
            assert!(numbers.windows(2).filter(|w| w[1] == w[0].wrapping_add(1)).count() < 10);
            numbers.sort_unstable();
            assert!((0..1 << 11).eq(numbers));
        }
    }

    /// Every bit of a four-tuple changes the hash, both families alike, and another key changes all.
    #[test]
    fn flow_hashes_are_spread() {
        let hashers = [7, 8].map(|key| Secret::new([key; 16]).flow_hasher());
        let mut seen = alloc::collections::BTreeSet::new();
        let (v4, v6) = (|n: u32| IpAddr::from(n.to_be_bytes()), |n: u128| IpAddr::from(n.to_be_bytes()));
        let mut count = 0;
        for hasher in &hashers {
            for bit in 0..32 {
                seen.insert(hasher.hash(&v4(1 << bit), &v4(0), (0, 0)));
                seen.insert(hasher.hash(&v4(0), &v4(1 << bit), (0, 0)));
                count += 2;
            }
            for bit in 0..16 {
                seen.insert(hasher.hash(&v4(0), &v4(0), (1 << bit, 0)));
                seen.insert(hasher.hash(&v4(0), &v4(0), (0, 1 << bit)));
                count += 2;
            }
            for bit in 0..128 {
                seen.insert(hasher.hash(&v6(1 << bit), &v6(0), (1, 1)));
                seen.insert(hasher.hash(&v6(0), &v6(1 << bit), (1, 1)));
                count += 2;
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn isns_do_not_repeat() {
        let (mut a, mut b) = (Secret::new([7; 16]), Secret::new([7; 16]));
        let drawn = [a.draw(), a.draw(), a.draw()];
        assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2]);
        assert_eq!(drawn, [b.draw(), b.draw(), b.draw()]);
    }
}
