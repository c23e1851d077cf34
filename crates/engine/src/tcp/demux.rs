//! Demultiplexing: from a four-tuple to its connection, listener or TIME-WAIT, in constant time.

use crate::Config;
use crate::collections::hash_index::Index;
use crate::end::FourTuple;
use crate::isn::{Secret, Seeded};
use crate::tcp::ConnId;
use crate::tcp::closed::time_wait::TimeWait;
use crate::tcp::closed::waiters::Waiters;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use slotmap::Key;

/// Every four-tuple in use.
#[derive(Debug)]
pub(crate) struct Demux {
    hasher: Seeded,
    /// Live connections by the hash of their four-tuple, as places in `names`.
    live: Index,
    names: Vec<Name>,
    pub waiting: Waiters,
}

/// A live connection, and the hash of its four-tuple, which it knows itself; or nobody.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    hash: u32,
    id: ConnId,
}

/// Where the name of a connection stands.
pub(in crate::tcp) fn place(id: ConnId) -> u32 {
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
            waiting: Waiters::default(),
        }
    }

    /// Whether nothing can be found.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.waiting.is_empty()
    }

    /// The live connection whose name stands there.
    pub fn at(&self, place: u32) -> Option<ConnId> {
        self.names.get(place as usize).map(|name| name.id).filter(|id| !id.is_null())
    }

    /// How many places there are, used or not.
    pub fn places(&self) -> usize {
        self.names.len()
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
        self.waiting.remove(self.hash(flow), flow);
    }

    /// Adds an entry in TIME-WAIT, whose four-tuple is free.
    pub fn wait(&mut self, config: &Config, flow: FourTuple, entry: TimeWait) -> Result<(), NoRoom> {
        if self.waiting.len() >= config.tcp.max_time_wait {
            return Err(NoRoom);
        }
        self.waiting.insert(self.hash(&flow), flow, entry);
        Ok(())
    }
}
