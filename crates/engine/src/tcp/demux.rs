//! From a four-tuple to what it belongs to, in constant time.

use crate::collections::hash_index::Index;
use crate::end::FourTuple;
use crate::isn::{Secret, Seeded};
use crate::tcp::ConnId;
use crate::tcp::closed::time_wait::TimeWait;
use crate::{Config, Instant};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use hashbrown::HashTable;
use slotmap::Key;

/// Every four-tuple in use.
#[derive(Debug)]
pub(crate) struct Demux {
    hasher: Seeded,
    /// Live connections by the hash of their four-tuple, as places in `names`.
    live: Index,
    names: Vec<Name>,
    waiting: HashTable<Waiter>,
    /// Entries in TIME-WAIT in the order of their deadlines, all being as long.
    deadlines: VecDeque<(Instant, FourTuple)>,
    /// The deadlines that had moved when the first one came.
    moved: BTreeSet<(Instant, FourTuple)>,
}

/// A live connection, and the hash of its four-tuple, which it knows itself; or nobody.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    hash: u32,
    id: ConnId,
}

/// An entry in TIME-WAIT.
#[derive(Debug)]
struct Waiter {
    hash: u32,
    flow: FourTuple,
    entry: TimeWait,
}

/// The hash as the table of those in TIME-WAIT wants it, which uses the highest bits and the lowest:
/// all that is kept stands in both halves.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Where the name of a connection stands.
fn place(id: ConnId) -> u32 {
    id.data().as_ffi() as u32
}

/// The table of TIME-WAIT is full (S101).
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Demux {
    pub fn new(secret: &Secret) -> Self {
        Self {
            hasher: secret.table(),
            live: Index::default(),
            names: Vec::new(),
            waiting: HashTable::new(),
            deadlines: VecDeque::new(),
            moved: BTreeSet::new(),
        }
    }

    /// Whether nothing can be found.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.waiting.is_empty()
    }

    /// How many connections are live.
    pub fn live_names(&self) -> usize {
        self.names.iter().filter(|name| !name.id.is_null()).count()
    }

    /// What `live` and the others want of a four-tuple.
    #[inline]
    pub fn hash(&self, flow: &impl Hash) -> u32 {
        self.hasher.hash_one(flow) as u32
    }

    /// The live connection with the four-tuple of this hash; `owns` says whether one has it.
    #[inline]
    pub fn live(&self, hash: u32, owns: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let is_it = |name: &Name| name.hash == hash && owns(name.id);
        let place = self.live.find(hash, |place| is_it(&self.names[place as usize]))?;
        Some(self.names[place as usize].id)
    }

    /// The entry in TIME-WAIT with the four-tuple of this hash.
    #[inline]
    pub fn time_wait(&mut self, hash: u32, is_it: impl Fn(&FourTuple) -> bool) -> Option<&mut TimeWait> {
        self.waiting.find_mut(spread(hash), |waiter| is_it(&waiter.flow)).map(|waiter| &mut waiter.entry)
    }

    pub fn is_in_time_wait(&self, hash: u32, flow: &FourTuple) -> bool {
        self.waiting.find(spread(hash), |waiter| waiter.flow == *flow).is_some()
    }

    /// Adds a connection, whose four-tuple is free.
    pub fn insert(&mut self, flow: &FourTuple, id: ConnId) {
        let (hash, place) = (self.hash(flow), place(id));
        if self.names.len() <= place as usize {
            self.names.resize(place as usize + 1, Name::default());
        }
        let kept = (0..).zip(&self.names).filter(|(_, name)| !name.id.is_null());
        self.live.insert(hash, place, kept.map(|(place, name)| (name.hash, place)));
        self.names[place as usize] = Name { hash, id };
    }

    /// Forgets a connection.
    pub fn remove(&mut self, id: ConnId) {
        let place = place(id);
        if let Some(name) = self.names.get_mut(place as usize).filter(|name| name.id == id) {
            self.live.remove(name.hash, place);
            *name = Name::default();
        }
    }

    /// Forgets an entry in TIME-WAIT.
    pub fn remove_time_wait(&mut self, flow: &FourTuple) {
        let hash = spread(self.hash(flow));
        if let Ok(found) = self.waiting.find_entry(hash, |waiter| waiter.flow == *flow) {
            found.remove();
        }
    }

    /// Adds an entry in TIME-WAIT, whose four-tuple is free.
    pub fn wait(&mut self, config: &Config, flow: FourTuple, entry: TimeWait) -> Result<(), NoRoom> {
        if self.waiting.len() >= config.tcp.max_time_wait {
            return Err(NoRoom);
        }
        self.deadlines.push_back((entry.deadline, flow));
        let hash = self.hash(&flow);
        self.waiting.insert_unique(spread(hash), Waiter { hash, flow, entry }, |waiter| spread(waiter.hash));
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
        match self.time_wait(self.hash(&flow), |other| *other == flow) {
            Some(entry) if entry.deadline > now => {
                let deadline = entry.deadline;
                self.moved.insert((deadline, flow));
            }
            Some(_) => self.remove_time_wait(&flow),
            None => {} // reopened since
        }
    }
}
