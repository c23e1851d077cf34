//! From a four-tuple to what it belongs to, in constant time.

use super::time_wait::TimeWait;
use super::{ConnId, TcpError};
use crate::end::FourTuple;
use crate::isn::{Secret, Seeded};
use crate::{Config, Instant};
use alloc::collections::VecDeque;
use hashbrown::HashMap;

/// What a four-tuple names.
#[derive(Debug)]
pub(crate) enum Slot {
    Live(ConnId),
    TimeWait(TimeWait),
}

/// Every four-tuple in use.
#[derive(Debug)]
pub(crate) struct Demux {
    slots: HashMap<FourTuple, Slot, Seeded>,
    /// Entries in TIME-WAIT in the order of their deadlines. A deadline that moved is found out when
    /// the old one has come.
    waiting: VecDeque<(Instant, FourTuple)>,
    in_time_wait: usize,
}

/// The table of TIME-WAIT is full (S101).
#[derive(Debug)]
pub(crate) struct NoRoom;

impl From<NoRoom> for TcpError {
    fn from(_: NoRoom) -> Self {
        Self::Aborted
    }
}

impl Demux {
    pub fn new(secret: &Secret) -> Self {
        Self { slots: HashMap::with_hasher(secret.table()), waiting: VecDeque::new(), in_time_wait: 0 }
    }

    pub fn slot(&mut self, flow: &FourTuple) -> Option<&mut Slot> {
        self.slots.get_mut(flow)
    }

    pub fn look(&self, flow: &FourTuple) -> Option<&Slot> {
        self.slots.get(flow)
    }

    pub fn contains(&self, flow: &FourTuple) -> bool {
        self.slots.contains_key(flow)
    }

    pub fn is_in_time_wait(&self, flow: &FourTuple) -> bool {
        matches!(self.slots.get(flow), Some(Slot::TimeWait(_)))
    }

    pub fn insert(&mut self, flow: FourTuple, id: ConnId) {
        self.slots.insert(flow, Slot::Live(id));
    }

    /// Forgets a connection, or an entry in TIME-WAIT.
    pub fn remove(&mut self, flow: &FourTuple) {
        if let Some(Slot::TimeWait(_)) = self.slots.remove(flow) {
            self.in_time_wait -= 1;
        }
    }

    /// Replaces a connection by its entry in TIME-WAIT.
    pub fn wait(&mut self, config: &Config, flow: FourTuple, entry: TimeWait) -> Result<(), NoRoom> {
        if self.in_time_wait >= config.tcp.max_time_wait {
            self.remove(&flow);
            return Err(NoRoom);
        }
        self.waiting.push_back((entry.deadline, flow));
        self.slots.insert(flow, Slot::TimeWait(entry));
        self.in_time_wait += 1;
        Ok(())
    }

    /// When the next entry in TIME-WAIT may expire.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// Forgets the entries in TIME-WAIT whose time has come.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, flow)) = self.waiting.pop_front_if(|(at, _)| *at <= now) {
            match self.slots.get(&flow) {
                Some(Slot::TimeWait(entry)) if entry.deadline > now => {
                    self.waiting.push_back((entry.deadline, flow));
                }
                Some(Slot::TimeWait(_)) => self.remove(&flow),
                Some(Slot::Live(_)) | None => {} // reopened since
            }
        }
    }
}
