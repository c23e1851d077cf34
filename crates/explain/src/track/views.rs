//! Several captures of one connection: what each of them saw.

use super::reset::Reset;
use crate::packet::{Endpoint, Frame, Pkt, ahead};
use lastack_wire::TcpFlags;

/// Max time of a packet from one capture to the next.
const JOURNEY: i64 = 3_000_000_000;

/// What one capture saw of one direction.
#[derive(Clone, Copy, Debug)]
struct View {
    vantage: u8,
    side: u8,
    /// The end of all data that it saw.
    max: Option<u32>,
    /// The lowest and the highest hop limit of packets that are no RST.
    ttl: (u8, u8),
    packets: u64,
}

/// What the captures saw, if there are several.
#[derive(Clone, Debug, Default)]
pub struct Views {
    list: Vec<View>,
    /// Its ends as another capture has them, behind a NAT.
    pub translated: Option<(Endpoint, Endpoint)>,
    /// The packet from which on that capture has it with other ends than before.
    pub renamed: Option<Frame>,
    /// A device between the captures chooses other sequence numbers.
    pub renumbered: bool,
}

impl Views {
    /// Whether more than one capture has packets of the connection.
    pub fn are_several(&self) -> bool {
        self.list.iter().any(|view| view.vantage != self.list[0].vantage)
    }

    /// The captures and sides, with the lowest hop limit of each.
    pub fn ttls(&self) -> impl Iterator<Item = (u8, u8, u8)> + '_ {
        self.list.iter().map(|view| (view.vantage, view.side, view.ttl.0))
    }

    /// Records a packet that is no RST. Whether its data was new to this capture.
    pub(super) fn add(&mut self, pkt: &Pkt) -> bool {
        let known = self.list.iter_mut().find(|view| view.vantage == pkt.vantage && view.side == pkt.side);
        let end = (pkt.span() > 0).then(|| pkt.end());
        let Some(view) = known else {
            let ttl = (pkt.ttl, pkt.ttl);
            self.list.push(View { vantage: pkt.vantage, side: pkt.side, max: end, ttl, packets: 1 });
            return true;
        };
        view.packets += 1;
        view.ttl = (view.ttl.0.min(pkt.ttl), view.ttl.1.max(pkt.ttl));
        let new = end.is_some_and(|end| view.max.is_none_or(|max| ahead(end, max) > 0));
        if new {
            view.max = end;
        }
        new
    }

    /// The hop limits that packets of this side have in this capture.
    pub fn ttl(&self, vantage: u8, side: u8) -> Option<(u8, u8)> {
        let view = self.list.iter().find(|view| view.vantage == vantage && view.side == side)?;
        Some(view.ttl)
    }

    /// A capture that is nearer to the end `side` than `vantage` is, and has packets of both directions: its packets have made fewer hops
    /// there.
    pub fn nearer(&self, side: u8, vantage: u8) -> Option<u8> {
        let own = self.ttl(vantage, side)?;
        let both = |vantage: u8| self.list.iter().filter(|view| view.vantage == vantage).count() == 2;
        let found = self.list.iter().filter(|view| {
            view.side == side && view.vantage != vantage && view.ttl.0 > own.1 && both(view.vantage)
        });
        found.max_by_key(|view| view.ttl.0).map(|view| view.vantage)
    }

    /// A capture has this packet with the ends `ends`, the first side's first.
    pub(super) fn translate(&mut self, ends: (Endpoint, Endpoint), pkt: &Pkt) {
        if self.translated.replace(ends) != Some(ends) && self.has(pkt.vantage) {
            self.renamed.get_or_insert(pkt.frame);
        }
    }

    /// Whether this capture has packets of it.
    pub fn has(&self, vantage: u8) -> bool {
        self.list.iter().any(|view| view.vantage == vantage)
    }

    /// Whether the capture `near` has all that `far` has of this side: it did not miss packets.
    pub fn is_complete(&self, side: u8, near: u8, far: u8) -> bool {
        let packets = |vantage: u8| {
            let view = self.list.iter().find(|view| view.vantage == vantage && view.side == side);
            view.map_or(0, |view| view.packets)
        };
        packets(near) >= packets(far)
    }

    /// A capture that is farther from the end `side` than `vantage` is, and has packets of it.
    pub fn farther(&self, side: u8, vantage: u8) -> Option<u8> {
        let own = self.ttl(vantage, side)?;
        let found = self
            .list
            .iter()
            .filter(|view| view.side == side && view.vantage != vantage && view.ttl.1 < own.0);
        found.min_by_key(|view| view.ttl.1).map(|view| view.vantage)
    }
}

/// The bit of a capture among those that saw a packet.
pub const fn bit(vantage: u8) -> u8 {
    1 << if vantage > 7 { 7 } else { vantage }
}

/// Whether `new` is the packet `old` as another capture saw it, and that capture is not yet counted.
pub(super) fn is_same(old: &Pkt, new: &Pkt) -> bool {
    old.side == new.side
        && old.seq == new.seq
        && old.flags == new.flags
        && old.len == new.len
        && old.tsval == new.tsval
        && (old.ack == new.ack || !new.has(TcpFlags::ACK))
        && old.seen & bit(new.vantage) == 0
        && (new.time - old.time).abs() < JOURNEY
}

/// The reset that this one is, as another capture saw it.
pub(super) fn same_reset<'a>(resets: &'a mut [Reset], pkt: &Pkt) -> Option<&'a mut Reset> {
    resets.iter_mut().rev().find(|reset| !reset.copy && is_same(&reset.pkt, pkt))
}
