//! From a four-tuple to what it belongs to, in constant time.

use super::ConnId;
use super::time_wait::TimeWait;
use crate::end::FourTuple;
use crate::isn::{Secret, Seeded};
use crate::{Config, Instant};
use alloc::collections::{BTreeSet, VecDeque};
use core::hash::{BuildHasher, Hash};
use hashbrown::{HashMap, HashTable};

/// Every four-tuple in use.
#[derive(Debug)]
pub(crate) struct Demux {
    hasher: Seeded,
    live: HashTable<Live>,
    waiting: HashMap<FourTuple, TimeWait, Seeded>,
    /// Entries in TIME-WAIT in the order of their deadlines, all being as long.
    deadlines: VecDeque<(Instant, FourTuple)>,
    /// The deadlines that had moved when the first one came.
    moved: BTreeSet<(Instant, FourTuple)>,
}

/// A live connection. It knows its four-tuple itself, so that a table of many stays small: what an
/// arrival for nobody costs must not depend on how many there are.
#[derive(Debug)]
struct Live {
    hash: u64,
    id: ConnId,
}

/// The table of TIME-WAIT is full (S101).
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Demux {
    pub fn new(secret: &Secret) -> Self {
        Self {
            hasher: secret.table(),
            live: HashTable::new(),
            waiting: HashMap::with_hasher(secret.table()),
            deadlines: VecDeque::new(),
            moved: BTreeSet::new(),
        }
    }

    /// The live connection with the four-tuple that `flow` hashes as; `owns` says whether one has it.
    #[inline]
    pub fn live(&self, flow: &impl Hash, owns: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        if self.live.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(flow);
        self.live.find(hash, |live| live.hash == hash && owns(live.id)).map(|live| live.id)
    }

    /// The entry in TIME-WAIT with this four-tuple.
    pub fn time_wait(&mut self, flow: &FourTuple) -> Option<&mut TimeWait> {
        self.waiting.get_mut(flow)
    }

    pub fn is_in_time_wait(&self, flow: &FourTuple) -> bool {
        self.waiting.contains_key(flow)
    }

    /// Adds a connection, whose four-tuple is free.
    pub fn insert(&mut self, flow: &FourTuple, id: ConnId) {
        let hash = self.hasher.hash_one(flow);
        self.live.insert_unique(hash, Live { hash, id }, |live| live.hash);
    }

    /// Forgets a connection.
    pub fn remove(&mut self, flow: &FourTuple, id: ConnId) {
        if let Ok(found) = self.live.find_entry(self.hasher.hash_one(flow), |live| live.id == id) {
            found.remove();
        }
    }

    /// Forgets an entry in TIME-WAIT.
    pub fn remove_time_wait(&mut self, flow: &FourTuple) {
        self.waiting.remove(flow);
    }

    /// Adds an entry in TIME-WAIT, whose four-tuple is free.
    pub fn wait(&mut self, config: &Config, flow: FourTuple, entry: TimeWait) -> Result<(), NoRoom> {
        if self.waiting.len() >= config.tcp.max_time_wait {
            return Err(NoRoom);
        }
        self.deadlines.push_back((entry.deadline, flow));
        self.waiting.insert(flow, entry);
        Ok(())
    }

    /// When the next entry in TIME-WAIT may expire.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (first, moved) = (self.deadlines.front(), self.moved.first());
        first.into_iter().chain(moved).map(|(at, _)| *at).min()
    }

    /// Forgets the entries in TIME-WAIT whose time has come.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, flow)) = self.deadlines.pop_front_if(|(at, _)| *at <= now) {
            self.expire_one(now, flow);
        }
        while let Some((at, flow)) = self.moved.pop_first() {
            if at > now {
                self.moved.insert((at, flow));
                break;
            }
            self.expire_one(now, flow);
        }
    }

    fn expire_one(&mut self, now: Instant, flow: FourTuple) {
        match self.waiting.get(&flow) {
            Some(entry) if entry.deadline > now => {
                self.moved.insert((entry.deadline, flow));
            }
            Some(_) => self.remove_time_wait(&flow),
            None => {} // reopened since
        }
    }
}
