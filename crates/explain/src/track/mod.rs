//! Tracks connections packet by packet, in memory bounded by the number of open connections.

mod conflict;
mod conn;
mod heard;
mod message;
mod reset;
mod side;
mod views;

use crate::packet::{End, Endpoint};
use crate::segment::Segment;
use lastack_wire::TcpFlags;
use std::collections::{HashMap, VecDeque};

pub use conn::{Conn, Former};
pub use heard::Heard;
pub use reset::{Effect, Reset, Shape};
pub use side::{Dialog, Side, SynOptions};
pub use views::{Views, bit};

/// How long a connection that has ended is kept for late packets.
const LINGER: i64 = 60_000_000_000;
/// How long an unanswered handshake is kept.
const EMBRYO: i64 = 300_000_000_000;

type Key = (Endpoint, Endpoint);

/// A connection that left the table.
pub type Finished = Box<Conn>;

/// The open connections.
pub struct Tracker {
    table: HashMap<Key, u32, foldhash::fast::RandomState>,
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<u32>,
    /// Each connection once, in the order in which it was looked at last.
    queue: VecDeque<(u32, u64, i64)>,
    most: usize,
    ordinal: u64,
    now: i64,
    evicted: u64,
    finished: Vec<Finished>,
}

fn key(a: Endpoint, b: Endpoint) -> Key {
    if a <= b { (a, b) } else { (b, a) }
}

impl Tracker {
    /// Follows at most `most` connections at a time.
    pub fn new(most: usize) -> Self {
        Self {
            table: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            most: most.max(1),
            ordinal: 0,
            now: i64::MIN,
            evicted: 0,
            finished: Vec::new(),
        }
    }

    /// Connections that had to go before their end because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Connections so far.
    pub fn seen(&self) -> u64 {
        self.ordinal
    }

    /// Takes the connections that are over.
    pub fn finished(&mut self) -> std::vec::Drain<'_, Finished> {
        self.finished.drain(..)
    }

    /// Whether there are connections to take.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Records a segment.
    pub fn segment(&mut self, segment: &Segment<'_>) {
        self.now = self.now.max(segment.pkt.time);
        let key = key(segment.src, segment.dst);
        let Some(&slot) = self.table.get(&key) else {
            let conn = self.begin(segment);
            self.insert(key, conn);
            return;
        };
        let Some(conn) = self.slots[slot as usize].as_mut() else { return };
        let side = usize::from(conn.sides[0].at != segment.src);
        if conn.ends_with_syn(segment, side) || conn.is_full() {
            let next = self.succeed(slot, segment, side);
            self.retire(slot);
            self.insert(key, next);
            return;
        }
        conn.take(segment, side);
    }

    fn begin(&mut self, segment: &Segment<'_>) -> Box<Conn> {
        self.ordinal += 1;
        let mut conn = Box::new(Conn::new(segment, self.ordinal));
        conn.take(segment, 0);
        conn
    }

    /// The next life of a tuple, whose life before may still go on at the other end.
    fn succeed(&mut self, slot: u32, segment: &Segment<'_>, side: usize) -> Box<Conn> {
        let former = self.slots[slot as usize].as_ref().and_then(|old| {
            // A life that this end ended alone may go on at the other, or be there in TIME-WAIT; an unanswered one never existed.
            let answered = old.sides[1 - side].packets > 0;
            let known = |side: usize| old.sides[side].started.then_some(old.sides[side].max);
            answered.then(|| Former { nxt: [known(side), known(1 - side)] })
        });
        self.ordinal += 1;
        let mut conn = Box::new(Conn::new(segment, self.ordinal));
        conn.former = former;
        conn.take(segment, 0);
        conn
    }

    fn insert(&mut self, key: Key, conn: Box<Conn>) {
        self.sweep();
        let ordinal = conn.ordinal;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(conn);
                slot
            }
            None => {
                self.slots.push(Some(conn));
                (self.slots.len() - 1) as u32
            }
        };
        self.table.insert(key, slot);
        self.queue.push_back((slot, ordinal, self.now));
    }

    /// Looks at the connections that were not looked at for the longest time: a few at each new one.
    fn sweep(&mut self) {
        for _ in 0..2 {
            let Some(&(slot, ordinal, looked)) = self.queue.front() else { return };
            let full = self.table.len() >= self.most;
            let Some(conn) = self.slots[slot as usize].as_ref().filter(|conn| conn.ordinal == ordinal) else {
                self.queue.pop_front();
                continue;
            };
            let last = conn.last.0;
            let idle = self.now.saturating_sub(last);
            let due = (conn.is_over() && idle > LINGER) || (!conn.established && idle > EMBRYO);
            if due {
                self.queue.pop_front();
                self.retire(slot);
            } else if full && last <= looked {
                self.queue.pop_front();
                if let Some(conn) = self.slots[slot as usize].as_mut().filter(|conn| !conn.is_over()) {
                    conn.evicted = true;
                    self.evicted += 1;
                }
                self.retire(slot);
            } else if full || self.now.saturating_sub(looked) > LINGER {
                self.queue.pop_front();
                self.queue.push_back((slot, ordinal, last.max(looked + 1)));
            } else {
                return;
            }
        }
        // Every connection is busy: the oldest look has to do.
        while self.table.len() >= self.most {
            let Some((slot, ordinal, _)) = self.queue.pop_front() else { return };
            if let Some(conn) = self.slots[slot as usize].as_mut().filter(|conn| conn.ordinal == ordinal) {
                conn.evicted = true;
                self.evicted += 1;
                self.retire(slot);
            }
        }
    }

    fn retire(&mut self, slot: u32) {
        let Some(mut conn) = self.slots[slot as usize].take() else { return };
        let key = key(conn.sides[0].at, conn.sides[1].at);
        if self.table.get(&key) == Some(&slot) {
            self.table.remove(&key);
        }
        self.free.push(slot);
        conn.shrink();
        self.finished.push(conn);
    }

    /// Whether a connection between two ends is followed.
    pub fn follows(&self, a: Endpoint, b: Endpoint) -> bool {
        self.table.contains_key(&key(a, b))
    }

    /// The connection between two ends, if it is followed.
    pub fn between(&mut self, a: Endpoint, b: Endpoint) -> Option<&mut Conn> {
        let slot = *self.table.get(&key(a, b))?;
        self.slots[slot as usize].as_deref_mut()
    }

    /// Removes the connection between two ends, if it is tracked: it has ended, as is known by other means. `initial`: a
    /// sequence number with which it began, if that is known; a later connection of the same ends stays.
    pub fn take(&mut self, a: Endpoint, b: Endpoint, initial: Option<u32>) -> Option<Box<Conn>> {
        let slot = *self.table.get(&key(a, b))?;
        let mut known =
            self.slots[slot as usize].as_ref()?.sides.iter().filter_map(|side| side.syn).peekable();
        if initial.is_some() && known.peek().is_some() && known.all(|syn| Some(syn.seq) != initial) {
            return None;
        }
        let before = self.finished.len();
        self.retire(slot);
        (self.finished.len() > before).then(|| self.finished.pop()).flatten()
    }

    /// The input has ended: all connections are.
    pub fn finish(&mut self) {
        let mut slots: Vec<(u64, u32)> =
            self.table.values().map(|&slot| (self.ordinal_of(slot), slot)).collect();
        slots.sort_unstable();
        for (_, slot) in slots {
            self.retire(slot);
        }
    }

    fn ordinal_of(&self, slot: u32) -> u64 {
        self.slots[slot as usize].as_ref().map_or(0, |conn| conn.ordinal)
    }
}

impl Conn {
    /// Which of its sides this end is.
    pub fn index(&self, client: u8, end: End) -> usize {
        match end {
            End::Client => usize::from(client),
            End::Server => 1 - usize::from(client),
        }
    }

    /// Whether nothing but a SYN of one side was seen.
    pub fn is_unanswered(&self) -> bool {
        self.sides[1].packets == 0
            && self.resets.is_empty()
            && self.sides[0].syn.is_some_and(|syn| !syn.has(TcpFlags::ACK))
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// In a flood there is a connection for each packet: what one takes is what the flood costs.
    #[test]
    fn a_connection_of_one_packet_is_small() {
        assert!(size_of::<Conn>() <= 1024, "{}", size_of::<Conn>());
        assert!(size_of::<Side>() <= 288, "{}", size_of::<Side>());
    }
}
