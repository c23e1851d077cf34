//! What the rest of the capture shows about hosts, routers and listeners.

use super::marks::Marks;
use super::{HashMap, HashSet};
use crate::packet::{Addr, Endpoint};
use crate::track::Conn;
use crate::verdict::is_near;
use lastack_wire::TcpFlags;

/// Max hosts, routers and listeners that are kept; verdicts do not need more.
const MOST: usize = 1 << 16;
/// Max times kept for one listener.
const TIMES: usize = 512;

/// Hop limits of one host.
#[derive(Clone, Copy, Debug, Default)]
struct HostTtl {
    values: [(u8, u32); 3],
}

/// Facts from several connections.
#[derive(Debug, Default)]
pub struct Context {
    hosts: HashMap<Addr, HostTtl>,
    /// Hardware addresses: the first IP address behind each, and whether there are several.
    cards: HashMap<[u8; 6], (Addr, bool)>,
    accepted: HashMap<Endpoint, Vec<i64>>,
    /// Ports that accepted a connection over IPv4 (true) or IPv6.
    open: HashSet<(u16, bool)>,
    marks: HashMap<u64, Marks>,
    /// A server of another network accepted a connection with a hop limit that no router had lowered.
    renews_ttl: bool,
    /// Connections with packets of both ends, and those of which the packets of one end are missing.
    directions: (u64, u64),
    /// The first and the last time of the input.
    pub start: i64,
    /// The last time of the input.
    pub end: i64,
    /// By capture ([`crate::RawPacket::vantage`]): what hop limits show about its place.
    places: [Place; PLACES],
}

/// Captures that were made at the same time.
const PLACES: usize = 8;

/// What hop limits show about where a capture was made.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Connections of which it has packets of the client, and of the server.
    looked: [u64; 2],
    /// Those whose packets have an untouched hop limit there.
    untouched: [u64; 2],
}

impl Place {
    fn add(&mut self, end: usize, ttl: u8) {
        self.looked[end] += 1;
        self.untouched[end] += u64::from(matches!(ttl, 64 | 128 | 255));
    }
}

impl Context {
    /// Records a connection that has ended.
    pub(crate) fn observe(&mut self, conn: &Conn) {
        let [a, b] = conn.sides.each_ref().map(|side| side.packets > 0);
        let answered = conn.sides.iter().any(|side| side.ack.is_some());
        self.directions.0 += u64::from(a && b);
        self.directions.1 += u64::from(
            a != b && answered && conn.resets.iter().all(|r| r.pkt.side == 0 && a || r.pkt.side == 1 && b),
        );
        for (index, side) in conn.sides.iter().enumerate() {
            let Some(ttl) = side.ttl else { continue };
            if self.hosts.len() < MOST || self.hosts.contains_key(&side.at.addr) {
                self.hosts.entry(side.at.addr).or_default().add(ttl);
            }
            if side.mac != [0; 6] && (self.cards.len() < MOST || self.cards.contains_key(&side.mac)) {
                let card = self.cards.entry(side.mac).or_insert((side.at.addr, false));
                card.1 |= card.0 != side.at.addr;
            }
            if let Some(client) = conn.client.filter(|_| conn.views.is_none()) {
                self.places[0].add(usize::from(index != usize::from(client)), ttl);
            }
            let opened = side.syn.filter(|syn| syn.has(TcpFlags::SYN | TcpFlags::ACK));
            let peer = &conn.sides[1 - index];
            self.renews_ttl |= opened.is_some_and(|answer| {
                let untouched = |ttl: u8| matches!(ttl, 64 | 128 | 255);
                let syn = peer.syn.filter(|syn| syn.vantage == answer.vantage);
                untouched(answer.ttl)
                    && syn.is_some_and(|syn| untouched(syn.ttl))
                    && !is_near(side.at.addr, peer.at.addr)
            });
            if let Some(answer) = opened
                && (self.accepted.len() < MOST || self.accepted.contains_key(&side.at))
            {
                self.open.insert((side.at.port, side.at.addr.is_v4()));
                let times = self.accepted.entry(side.at).or_default();
                if times.len() < TIMES {
                    times.push(answer.time);
                } else if let Some(last) = times.last_mut() {
                    // The first ones and the last one are enough to bound an outage.
                    *last = (*last).max(answer.time);
                }
            }
        }
        for (vantage, side, ttl) in conn.views.iter().flat_map(|views| views.ttls()) {
            if let (Some(client), Some(place)) = (conn.client, self.places.get_mut(usize::from(vantage))) {
                place.add(usize::from(side != client), ttl);
            }
        }
    }

    /// The hop limit that a host's packets have most often.
    #[must_use]
    pub fn host_ttl(&self, addr: Addr) -> Option<u8> {
        let host = self.hosts.get(&addr)?;
        host.values
            .iter()
            .filter(|(_, count)| *count > 0)
            .max_by_key(|(_, count)| *count)
            .map(|(ttl, _)| *ttl)
    }

    /// Whether the capture has one direction only, of all connections.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.directions.0 == 0 && self.directions.1 > 0
    }

    /// Whether hop limits are set anew on this link: by a stack in user space, a proxy or a tunnel.
    #[must_use]
    pub fn renews_ttl(&self) -> bool {
        self.renews_ttl
    }

    /// Whether packets of several hosts come from this hardware address.
    #[must_use]
    pub fn is_gateway(&self, mac: [u8; 6]) -> bool {
        self.cards.get(&mac).is_some_and(|(_, several)| *several)
    }

    /// Whether a connection to this endpoint was accepted.
    #[must_use]
    pub fn listens(&self, at: Endpoint) -> bool {
        self.accepted.contains_key(&at)
    }

    /// Whether this endpoint accepted connections before and after a time; `None` if never.
    #[must_use]
    pub fn accepted_around(&self, at: Endpoint, time: i64) -> Option<(bool, bool)> {
        let times = self.accepted.get(&at)?;
        Some((times.iter().any(|&accepted| accepted < time), times.iter().any(|&accepted| accepted > time)))
    }

    /// When this endpoint accepted connections.
    pub(crate) fn accepted(&self, at: Endpoint) -> &[i64] {
        self.accepted.get(&at).map_or(&[], Vec::as_slice)
    }

    /// Whether the same port was accepted on an address of the other family.
    #[must_use]
    pub fn open_on_other_family(&self, at: Endpoint) -> bool {
        self.open.contains(&(at.port, !at.addr.is_v4()))
    }

    pub(crate) fn marks(&self, ordinal: u64) -> Marks {
        self.marks.get(&ordinal).copied().unwrap_or_default()
    }

    pub(crate) fn set_marks(&mut self, marks: HashMap<u64, Marks>) {
        self.marks = marks;
    }

    /// Where a capture was made, as far as hop limits show it: `vantage` is its place among several
    /// ([`crate::RawPacket::vantage`]). `by_lastack`: lastack wrote it, and stands between the ends.
    #[must_use]
    pub fn vantage(&self, vantage: u8, by_lastack: bool) -> &'static str {
        if by_lastack {
            return "by lastack itself, between the two ends";
        }
        let place = self.places.get(usize::from(vantage)).copied().unwrap_or_default();
        let near = |end: usize| place.looked[end] > 0 && place.untouched[end] * 10 > place.looked[end] * 9;
        match (near(0), near(1)) {
            (true, false) => "near the client",
            (false, true) => "near the server",
            (true, true) => {
                "on the link that both ends share, or at a proxy that terminates both connections"
            }
            _ if place.looked == [0, 0] => "unknown",
            _ => "in the middle",
        }
    }
}

impl HostTtl {
    fn add(&mut self, ttl: u8) {
        if let Some(known) = self.values.iter_mut().find(|(value, count)| *value == ttl || *count == 0) {
            *known = (ttl, known.1.saturating_add(1));
        }
    }
}
