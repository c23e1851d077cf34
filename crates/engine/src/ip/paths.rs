//! Path MTU discovery (PMTUD): the path MTU to each host (RFC 1191, RFC 8201), and MTU black holes.

use crate::Instant;
use crate::collections::lru::Aging;
use core::net::IpAddr;
use core::time::Duration;

/// Min path MTU accepted from an IPv4 router.
const FLOOR_V4: usize = 552;
/// Min MTU of an IPv4 link (RFC 791 section 3.2).
const MIN_V4: usize = 68;
/// Min MTU of an IPv6 link (RFC 8200 section 5); smaller reported MTUs are ignored (`Rule::IcmpMtuTooSmall`).
pub(crate) const MIN_V6: usize = 1280;
/// Lifetime of an entry. RFC 1191 section 6.3 recommends ten minutes.
const LIFETIME: Duration = Duration::from_secs(600);
/// Max entries; above it the entry that expires first is evicted.
const MAX: usize = 4096;
/// The plateau table of RFC 1191 section 7, for routers that do not report the MTU, without the
/// entries below the floor.
const PLATEAUS: [usize; 8] = [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

/// Whether a link of this MTU supports the address family of `addr`.
pub(crate) fn is_carried(addr: IpAddr, link_mtu: usize) -> bool {
    link_mtu >= if addr.is_ipv4() { MIN_V4 } else { MIN_V6 }
}

/// The min path MTU accepted from a router.
pub(crate) const fn floor(addr: IpAddr) -> usize {
    if addr.is_ipv4() { FLOOR_V4 } else { MIN_V6 }
}

/// The paths whose MTU is lower than the link's.
#[derive(Debug, Default)]
pub(crate) struct Paths(Aging<IpAddr, Path>);

#[derive(Debug)]
struct Path {
    mtu: usize,
    /// An MTU black hole, detected by loss; the path MTU is found by probing.
    silent: bool,
    expires: Instant,
}

impl Paths {
    /// The path MTU to `remote`.
    pub fn mtu(&self, remote: IpAddr, link_mtu: usize, now: Instant) -> usize {
        match self.0.get(&remote) {
            Some(path) if path.expires > now => link_mtu.min(path.mtu),
            _ => link_mtu,
        }
    }

    /// Lowers the path MTU to `remote` to `mtu` bytes. `false`: it is ignored, or was known. This never
    /// raises the MTU.
    pub fn lower(&mut self, remote: IpAddr, mtu: usize, now: Instant) -> bool {
        self.note(remote, mtu, false, now)
    }

    /// Records that packets larger than `mtu` bytes are lost silently (RFC 4821 section 7.7).
    pub fn mark_black_hole(&mut self, remote: IpAddr, mtu: usize, now: Instant) -> bool {
        self.note(remote, mtu, true, now)
    }

    /// Whether the path is an MTU black hole.
    pub fn is_black_hole(&self, remote: IpAddr, now: Instant) -> bool {
        self.0.get(&remote).is_some_and(|path| path.silent && path.expires > now)
    }

    /// A probe of `mtu` bytes was acknowledged.
    pub fn raise(&mut self, remote: IpAddr, mtu: usize, now: Instant) {
        if self.mtu(remote, usize::MAX, now) < mtu
            && let Some(path) = self.0.remove(&remote)
        {
            self.0.insert(remote, Path { mtu, expires: now + LIFETIME, ..path });
        }
    }

    fn note(&mut self, remote: IpAddr, mtu: usize, silent: bool, now: Instant) -> bool {
        if remote.is_ipv6() && mtu < MIN_V6 {
            return false;
        }
        let mtu = mtu.max(FLOOR_V4);
        let known = self.mtu(remote, usize::MAX, now);
        if mtu > known {
            return false;
        }
        self.0.remove(&remote);
        while self.0.oldest().is_some_and(|path| path.expires <= now) || self.0.len() >= MAX {
            self.0.pop_oldest();
        }
        self.0.insert(remote, Path { mtu, silent, expires: now + LIFETIME });
        mtu < known
    }
}

/// The next MTU to try after a packet of `total_len` bytes was too big for a router that does not
/// report its MTU.
pub(crate) fn plateau_below(total_len: usize) -> usize {
    PLATEAUS.into_iter().find(|&plateau| plateau < total_len).unwrap_or(FLOOR_V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
    const LINK: usize = 1500;

    #[test]
    fn p1_ipv4_has_a_floor() {
        let mut paths = Paths::default();
        let now = Instant::ZERO;
        assert_eq!(paths.mtu(V4, LINK, now), LINK);
        assert!(paths.lower(V4, 1300, now) && paths.mtu(V4, LINK, now) == 1300);
        assert!(paths.lower(V4, 100, now) && paths.mtu(V4, LINK, now) == 552);
        assert_eq!(paths.mtu(V4, 500, now), 500, "the link's own limit stands");
    }

    #[test]
    fn p1_an_entry_expires() {
        let mut paths = Paths::default();
        assert!(paths.lower(V4, 1300, Instant::ZERO));
        assert_eq!(paths.mtu(V4, LINK, Instant::from_millis(599_999)), 1300);
        assert_eq!(paths.mtu(V4, LINK, Instant::from_millis(600_000)), LINK);
        assert!(paths.lower(V4, 1400, Instant::from_millis(600_000)));
        assert_eq!(paths.0.len(), 1);
    }

    #[test]
    fn p1_a_router_that_names_no_mtu_means_the_next_plateau() {
        assert_eq!([1500, 1492, 1006, 300].map(plateau_below), [1492, 1006, 552, 552]);
    }

    #[test]
    fn p2_ipv6_mtu_below_1280_is_ignored() {
        let mut paths = Paths::default();
        for mtu in [0, 100, 1279] {
            assert!(!paths.lower(V6, mtu, Instant::ZERO));
            assert_eq!(paths.mtu(V6, LINK, Instant::ZERO), LINK);
        }
        assert!(paths.lower(V6, 1280, Instant::ZERO));
        assert_eq!(paths.mtu(V6, LINK, Instant::ZERO), 1280);
    }

    #[test]
    fn p3_the_mtu_never_grows() {
        let mut paths = Paths::default();
        for remote in [V4, V6] {
            assert!(paths.lower(remote, 1300, Instant::ZERO));
            assert!(!paths.lower(remote, 1400, Instant::ZERO));
            assert!(!paths.lower(remote, 1300, Instant::ZERO));
            assert_eq!(paths.mtu(remote, LINK, Instant::ZERO), 1300);
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut paths = Paths::default();
        for i in 0..MAX as u32 + 10 {
            assert!(paths.lower(Ipv4Addr::from(0x0a00_0000 + i).into(), 1300, Instant::ZERO));
        }
        assert_eq!(paths.0.len(), MAX);
        assert_eq!(paths.mtu(Ipv4Addr::from(0x0a00_0000).into(), LINK, Instant::ZERO), LINK);
    }
}
