//! Demultiplexing: finds the connection or TIME-WAIT entry of a four-tuple in constant time.

use crate::Config;
use crate::collections::hash_index::Index;
use crate::collections::slots::Id;
use crate::end::FourTuple;
use crate::isn::{FlowHasher, Secret};
use crate::tcp::ConnId;
use crate::tcp::closed::time_wait::TimeWait;
use crate::tcp::closed::waiters::Waiters;
use alloc::vec::Vec;

/// Every four-tuple in use.
#[derive(Debug)]
pub(crate) struct Demux {
    pub hasher: FlowHasher,
    /// Live connections by the hash of their four-tuple, as indices into `names`.
    live: Index,
    names: Vec<Name>,
    pub waiting: Waiters,
}

/// A live connection and the hash of its four-tuple; the null id if the place is free.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    hash: u32,
    id: ConnId,
}

/// The index of a connection in `names`.
pub(in crate::tcp) fn place(id: ConnId) -> u32 {
    Id::slot(id)
}

/// The TIME-WAIT table is full.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Demux {
    pub fn new(secret: &Secret) -> Self {
        Self {
            hasher: secret.flow_hasher(),
            live: Index::default(),
            names: Vec::new(),
            waiting: Waiters::default(),
        }
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.waiting.is_empty()
    }

    /// The live connection at this index.
    pub fn at(&self, place: u32) -> Option<ConnId> {
        self.names.get(place as usize).map(|name| name.id).filter(|id| !id.is_null())
    }

    /// Number of places, used or free.
    pub fn places(&self) -> usize {
        self.names.len()
    }

    /// Number of live connections.
    pub fn live_names(&self) -> usize {
        self.names.iter().filter(|name| !name.id.is_null()).count()
    }

    /// The hash of a four-tuple, as `live` and `Waiters` take it.
    #[inline]
    pub fn hash(&self, flow: &FourTuple) -> u32 {
        let ports = (flow.local.port(), flow.remote.port());
        self.hasher.hash(&flow.local.ip(), &flow.remote.ip(), ports)
    }

    /// The live connection with a four-tuple of this hash; `owns` tests whether a connection has that four-tuple.
    #[inline]
    pub fn live(&self, hash: u32, owns: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let is_it = |name: &Name| name.hash == hash && owns(name.id);
        let place = self.live.find(hash, |place| is_it(&self.names[place as usize]))?;
        Some(self.names[place as usize].id)
    }

    /// Adds a connection, whose four-tuple is free and has this hash.
    pub fn insert(&mut self, hash: u32, id: ConnId) {
        let place = place(id);
        if self.names.len() <= place as usize {
            self.names.resize(place as usize + 1, Name::default());
        }
        let kept = (0..).zip(&self.names).filter(|(_, name)| !name.id.is_null());
        self.live.insert(hash, place, kept.map(|(place, name)| (name.hash, place)));
        self.names[place as usize] = Name { hash, id };
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnId) {
        self.take(id);
    }

    /// Removes a connection, and returns the hash of its four-tuple.
    fn take(&mut self, id: ConnId) -> Option<u32> {
        let place = place(id);
        let name = self.names.get_mut(place as usize).filter(|name| name.id == id)?;
        let Name { hash, .. } = core::mem::take(name);
        self.live.remove(hash, place);
        Some(hash)
    }

    /// Replaces a connection by a TIME-WAIT entry.
    pub fn wait(
        &mut self,
        config: &Config,
        id: ConnId,
        flow: FourTuple,
        entry: TimeWait,
    ) -> Result<(), NoRoom> {
        let hash = self.take(id);
        if self.waiting.len() >= config.tcp.max_time_wait {
            return Err(NoRoom);
        }
        self.waiting.insert(hash.unwrap_or_else(|| self.hash(&flow)), flow, entry);
        Ok(())
    }
}
