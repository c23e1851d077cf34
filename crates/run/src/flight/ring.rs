//! The packets that are kept, within a limit.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lastack::link::Direction;
use lastack_engine::Instant;

use crate::inject::Flow;

/// Packets kept from the beginning of a connection: the handshake with its options, and the first data.
pub const HEAD: usize = 4;
/// Packets kept before the end of a connection.
pub const TAIL: usize = 60;
/// Max bytes kept of a packet; its length on the link is recorded.
pub const SNAP: usize = 2048;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 160;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The time of capture.
    pub at: Instant,
    /// To or from the program.
    pub direction: Direction,
    /// Its first bytes.
    pub data: Box<[u8]>,
    /// Its length.
    pub len: usize,
    /// Its comment.
    pub comment: Option<Box<str>>,
}

impl Packet {
    fn cost(&self) -> usize {
        OVERHEAD + self.data.len() + self.comment.as_ref().map_or(0, |comment| comment.len())
    }
}

/// The packets of one connection.
#[derive(Debug, Default)]
pub struct Packets {
    /// The first.
    pub head: Vec<Packet>,
    /// How many came in between and are not kept.
    pub missing: u64,
    /// The last, each with the number under which it is in the order of age.
    tail: VecDeque<(u64, Packet)>,
    /// The number of the last packet of the head.
    stamp: u64,
}

impl Packets {
    /// The last packets.
    pub fn tail(&self) -> impl DoubleEndedIterator<Item = &Packet> {
        self.tail.iter().map(|(_, packet)| packet)
    }

    /// The number of the last packet.
    pub fn last(&self) -> u64 {
        self.tail.back().map_or(self.stamp, |(stamp, _)| *stamp)
    }

    /// Its place in the order of age: that of the packet that is removed next.
    fn age(&self) -> u64 {
        self.tail.front().map_or(self.stamp, |(stamp, _)| *stamp)
    }

    fn cost(&self) -> usize {
        self.head.iter().chain(self.tail()).map(Packet::cost).sum()
    }
}

/// The last packets of all connections.
#[derive(Debug)]
pub struct Ring {
    flows: HashMap<Flow, Packets>,
    /// Which connection has the oldest packet.
    ages: BTreeMap<u64, Flow>,
    stamps: u64,
    used: usize,
    limit: usize,
    /// Connections of which nothing is kept any more.
    pub forgotten: u64,
}

impl Ring {
    /// For this number of bytes, with all that an entry costs.
    pub fn new(limit: usize) -> Self {
        Self { flows: HashMap::new(), ages: BTreeMap::new(), stamps: 0, used: 0, limit, forgotten: 0 }
    }

    /// Whether packets of this connection are kept.
    pub fn has(&self, flow: &Flow) -> bool {
        self.flows.contains_key(flow)
    }

    /// The packets of this connection.
    pub fn get(&self, flow: &Flow) -> Option<&Packets> {
        self.flows.get(flow)
    }

    /// Keeps a packet. Makes room by removing the oldest packet of all connections.
    pub fn push(&mut self, flow: Flow, packet: Packet) {
        self.stamps += 1;
        let stamp = self.stamps;
        self.used += packet.cost();
        let packets = self.flows.entry(flow).or_default();
        self.ages.remove(&packets.age());
        if packets.head.len() < HEAD && packets.tail.is_empty() && packets.missing == 0 {
            packets.head.push(packet);
            packets.stamp = stamp;
        } else {
            packets.tail.push_back((stamp, packet));
            if packets.tail.len() > TAIL
                && let Some((_, oldest)) = packets.tail.pop_front()
            {
                packets.missing += 1;
                self.used -= oldest.cost();
            }
        }
        self.ages.insert(packets.age(), flow);
        while self.used > self.limit && self.remove_oldest() {}
    }

    /// Removes the oldest packet; of a connection of which only the beginning is left, all. `false`: there is none.
    fn remove_oldest(&mut self) -> bool {
        let Some((_, flow)) = self.ages.pop_first() else { return false };
        let Some(packets) = self.flows.get_mut(&flow) else { return true };
        if let Some((_, oldest)) = packets.tail.pop_front() {
            packets.missing += 1;
            self.used -= oldest.cost();
            self.ages.insert(packets.age(), flow);
        } else {
            self.used -= packets.cost();
            self.flows.remove(&flow);
            self.forgotten += 1;
        }
        true
    }

    /// Removes all packets of a connection.
    pub fn take(&mut self, flow: &Flow) -> Option<Packets> {
        let packets = self.flows.remove(flow)?;
        self.ages.remove(&packets.age());
        self.used -= packets.cost();
        Some(packets)
    }

    #[cfg(test)]
    fn check(&self) {
        assert!(self.used <= self.limit);
        assert_eq!(self.used, self.flows.values().map(Packets::cost).sum::<usize>());
        assert_eq!(self.ages.len(), self.flows.len());
        for (age, flow) in &self.ages {
            assert_eq!(self.flows[flow].age(), *age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Proto;

    fn flow(port: u16) -> Flow {
        Flow::new(Proto::Tcp, ([10, 0, 2, 100], port).into(), ([192, 0, 2, 7], 80).into())
    }

    fn packet(number: u64) -> Packet {
        let data = number.to_be_bytes().into();
        Packet { at: Instant::ZERO, direction: Direction::Received, data, len: 8, comment: None }
    }

    fn numbers<'a>(packets: impl Iterator<Item = &'a Packet>) -> Vec<u64> {
        packets.map(|packet| u64::from_be_bytes((*packet.data).try_into().unwrap())).collect()
    }

    #[test]
    fn the_first_and_the_last_packets_are_kept() {
        let mut ring = Ring::new(1 << 20);
        (0..200).for_each(|number| ring.push(flow(1), packet(number)));
        ring.check();
        let kept = ring.take(&flow(1)).unwrap();
        assert_eq!(numbers(kept.head.iter()), [0, 1, 2, 3]);
        assert_eq!(numbers(kept.tail()), (140..200).collect::<Vec<_>>());
        assert_eq!(kept.missing, 136);
        ring.check();
        assert!(!ring.has(&flow(1)) && ring.used == 0);
    }

    #[test]
    fn the_limit_holds_and_the_oldest_packets_go_first() {
        let mut ring = Ring::new(100 * packet(0).cost());
        (0..20).for_each(|number| ring.push(flow(1), packet(number)));
        for port in 2..12 {
            (0..9).for_each(|number| ring.push(flow(port), packet(number)));
            ring.check();
        }
        // 110 packets came. The oldest connection keeps its beginning, and its last six.
        let oldest = ring.take(&flow(1)).unwrap();
        assert_eq!((oldest.head.len(), numbers(oldest.tail())), (4, (14..20).collect()));
        assert_eq!((oldest.missing, ring.forgotten), (10, 0));
    }

    #[test]
    fn many_connections_with_few_packets_each_are_evicted_in_order() {
        let mut ring = Ring::new(100 * packet(0).cost());
        for port in 0..1000 {
            (0..2).for_each(|number| ring.push(flow(port), packet(number)));
            ring.check();
        }
        assert_eq!((ring.flows.len(), ring.forgotten), (50, 950));
        assert!(ring.has(&flow(999)) && ring.has(&flow(950)) && !ring.has(&flow(949)));
    }
}
