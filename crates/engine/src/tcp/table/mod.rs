//! All connections of a stack: the ready queue, the timers, and what follows each step of a connection.

mod arrivals;
mod parking;
mod removal;
mod slot;

#[cfg(test)]
pub(in crate::tcp) use slot::MAX_SPARE;
pub(crate) use slot::Socket;
pub(in crate::tcp) use slot::{Entry, Slot, Spare};

use crate::collections::slots::SlotMap;
use crate::collections::timer_queue::TimerQueue;
use crate::end::FourTuple;
use crate::packet::PacketBuffer;
use crate::shared::Shared;
use crate::tcp::connection::{Closing, Connection};
use crate::tcp::demux::{Demux, place};
use crate::tcp::handshake::Handshake;
use crate::tcp::handshake::cookies::Cookies;
use crate::tcp::handshake::listener::Listeners;
use crate::tcp::{ConnId, ListenerId, TcpState};
use crate::{Instant, Transmit};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

/// The TCP of a stack.
#[derive(Debug)]
pub(crate) struct TcpTable {
    pub(in crate::tcp) entries: SlotMap<ConnId, Entry>,
    pub(in crate::tcp) spare: Spare,
    /// Connections that are not parked, the least recently examined first.
    pub(in crate::tcp) watched: VecDeque<ConnId>,
    pub(in crate::tcp) demux: Demux,
    /// The connection of the last segment, and its ports (a one-entry cache).
    last: Option<((u16, u16), ConnId)>,
    pub(in crate::tcp) listeners: Listeners,
    pub(in crate::tcp) ready: VecDeque<ConnId>,
    /// The next deadline of each connection, by its place. The connection's own deadline may be later, never earlier.
    pub(in crate::tcp) timers: TimerQueue,
    pub(in crate::tcp) embryonic: usize,
    pub(in crate::tcp) cookies: Cookies,
    /// Number of orphans: connections without a user.
    pub(in crate::tcp) orphans: usize,
    /// The latest time passed in, for calls without a time argument.
    clock: Instant,
}

/// Whether a step changed nothing that the table tracks, as most steps do: the connection's memory and end are the same,
/// and the table's timer expires no later than the connection's.
#[inline(always)]
fn is_settled(connection: &Connection, weight: u32, shared: &Shared) -> bool {
    connection.timers.is_scheduled()
        && connection.fate.is_none()
        && connection.memory() == weight as usize
        && !shared.memory.is_short(&shared.config.tcp)
}

impl TcpTable {
    pub fn new(shared: &Shared) -> Self {
        Self {
            entries: SlotMap::new(),
            spare: Spare::default(),
            watched: VecDeque::new(),
            demux: Demux::new(&shared.secret),
            last: None,
            listeners: Listeners::new(),
            ready: VecDeque::new(),
            timers: TimerQueue::default(),
            embryonic: 0,
            cookies: Cookies::default(),
            orphans: 0,
            clock: Instant::ZERO,
        }
    }

    pub fn clock(&self) -> Instant {
        self.clock
    }

    /// A listener's connections in SYN-RECEIVED. Closing a listener is rare enough to scan all entries.
    pub(in crate::tcp) fn embryonic_of(&self, listener: ListenerId) -> Vec<ConnId> {
        let of = |entry: &Entry| match entry.slot.socket() {
            Some(Socket::Opening(handshake)) => handshake.listener == Some(listener),
            _ => false,
        };
        self.entries.iter().filter(|(_, entry)| of(entry)).map(|(id, _)| id).collect()
    }

    /// Adds an entry and assigns its id. Its four-tuple is free and has this hash.
    #[inline]
    pub(in crate::tcp) fn insert(&mut self, hash: u32, begin: impl FnOnce(&mut Handshake, ConnId)) -> ConnId {
        let mut handshake = self.spare.handshake();
        let id = self.entries.insert_with_key(|id| {
            begin(&mut handshake, id);
            let slot = Slot::Socket(Socket::Opening(handshake));
            Entry { slot, weight: 0, queued: true, watched: false, touched: false }
        });
        self.demux.insert(hash, id);
        self.ready.push_back(id);
        id
    }

    /// The state of the connection with this four-tuple.
    pub fn state_of(&self, flow: &FourTuple) -> Option<TcpState> {
        let live = self.live(flow).map(|id| self.entries[id].slot.state());
        // A failed attempt to reopen leaves the TIME-WAIT entry in place.
        let waits = live.is_none_or(|state| state == TcpState::Closed) && self.is_in_time_wait(flow);
        if waits { Some(TcpState::TimeWait) } else { live }
    }

    /// Queues a connection that may have something to send.
    pub fn enqueue(&mut self, id: ConnId) {
        if let Some(entry) = self.entries.get_mut(id)
            && !core::mem::replace(&mut entry.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    /// An entry for a call of its user, and the ready queue. The connection must not be parked.
    #[inline]
    pub(in crate::tcp) fn entry_mut(&mut self, id: ConnId) -> (&mut Entry, &mut VecDeque<ConnId>) {
        let Self { entries, ready, .. } = self;
        let entry = &mut entries[id];
        entry.touched = true;
        (entry, ready)
    }

    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Writes the next segment of the next connection in the ready queue.
    pub fn poll_transmit(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut impl PacketBuffer,
    ) -> Option<Transmit> {
        self.clock = self.clock.max(now);
        while let Some(id) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            let (transmit, more) = match &mut entry.slot {
                Slot::Socket(Socket::Open(connection)) => {
                    let transmit = connection.segmentize(shared, now, packet);
                    #[cfg(any(test, debug_assertions))]
                    connection.check();
                    entry.queued = transmit.is_some() && connection.wants_to_send();
                    if entry.queued {
                        self.ready.push_back(id);
                    }
                    if !is_settled(connection, entry.weight, shared) {
                        self.follow_step(shared, now, id);
                    }
                    if transmit.is_some() {
                        return transmit;
                    }
                    continue;
                }
                Slot::Socket(Socket::Opening(handshake)) => {
                    let transmit = handshake.segmentize(shared, now, packet.headers());
                    let more = transmit.is_some() && handshake.wants_to_send();
                    (transmit, more)
                }
                Slot::Socket(Socket::Closed(_)) | Slot::Parked(_) => (None, false),
            };
            entry.queued = more;
            if more {
                self.ready.push_back(id);
            }
            self.follow_step(shared, now, id);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Data in the send buffer of a connection, from SND.UNA on; `None` if it is not there any more.
    pub fn sent_data(&self, id: ConnId, at: Range<usize>) -> Option<[&[u8]; 2]> {
        match self.get(id)? {
            Socket::Open(connection) => connection.outgoing.slices(at.start, at.len()),
            Socket::Opening(_) | Socket::Closed(_) => None,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest(self.timers.next(), self.demux.waiting.next_deadline())
    }

    pub fn handle_timeout(&mut self, shared: &mut Shared, now: Instant) {
        self.clock = now;
        self.demux.waiting.expire(now);
        while let Some(place) = self.timers.take_expired(now) {
            let Some(id) = self.demux.at(place) else { continue };
            if !self.entries.contains_key(id) {
                continue;
            }
            let orphans = self.orphans;
            match self.unparked_mut(id) {
                Socket::Open(connection) => {
                    connection.arm(shared, now);
                    connection.expire(shared, now, orphans);
                }
                Socket::Opening(handshake) => handshake.expire(shared, now),
                Socket::Closed(_) => {}
            }
            self.enqueue(id);
            self.follow_step(shared, now, id);
            self.park_some(shared, now);
        }
    }

    /// Updates the table after a step of a connection: its timer or its end, and its memory.
    pub(in crate::tcp) fn after_step(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        if let Some(Entry { slot: Slot::Socket(Socket::Open(connection)), weight, .. }) = self.entries.get(id)
            && is_settled(connection, *weight, shared)
        {
            return;
        }
        self.follow_step(shared, now, id);
    }

    /// The same if the connection is not settled.
    #[inline(never)]
    fn follow_step(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        self.follow_up(shared, now, id);
        if shared.memory.is_short(&shared.config.tcp) {
            self.reclaim_memory(shared, now);
        }
    }

    /// [`after_step`](Self::after_step) for this connection alone.
    #[inline(always)]
    pub(in crate::tcp) fn follow_up(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let deadline = match &mut entry.slot {
            Slot::Socket(Socket::Open(connection)) => match &connection.fate {
                None => {
                    connection.timers.schedule();
                    connection.timers.next()
                }
                Some(Closing::Resetting(_)) => None,
                Some(Closing::TimeWait(_) | Closing::Closed(_)) => {
                    return self.finish_connection(shared, now, id);
                }
            },
            Slot::Socket(Socket::Opening(handshake)) if handshake.reset_pending.is_some() => None,
            Slot::Socket(Socket::Opening(handshake)) if handshake.end.is_some() => {
                return self.finish_handshake(shared, id);
            }
            Slot::Socket(Socket::Opening(handshake)) => handshake.deadline,
            Slot::Socket(Socket::Closed(_)) | Slot::Parked(_) => None,
        };
        entry.account(&mut shared.memory);
        if let Some(deadline) = deadline {
            self.schedule(id, deadline);
        }
    }

    /// Schedules the next deadline of a connection. An earlier one stays: when it expires, the later one is scheduled.
    #[inline]
    fn schedule(&mut self, id: ConnId, deadline: Instant) {
        if self.timers.get(place(id)).is_none_or(|at| deadline < at) {
            self.timers.set(place(id), deadline);
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, including ended connections that the user has not closed yet.
    pub(in crate::tcp) fn slots(&self) -> impl Iterator<Item = (ConnId, &Slot)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.slot))
    }

    /// The connection with this id, if there is one and it is not parked.
    pub fn get(&self, id: ConnId) -> Option<&Socket> {
        self.entries.get(id)?.slot.socket()
    }

    /// Whether a user owns this id. A parked connection is unparked.
    #[inline]
    pub fn take_up(&mut self, shared: &Shared, id: ConnId) -> bool {
        match self.entries.get(id).map(|entry| &entry.slot) {
            None => false,
            Some(Slot::Socket(socket)) => socket.has_user(),
            Some(Slot::Parked(_)) => {
                self.unpark(id);
                let now = self.clock;
                self.park_some(shared, now);
                true
            }
        }
    }

    /// Whether a user owns this id.
    pub fn owns(&self, id: ConnId) -> bool {
        self.entries.get(id).is_some_and(|entry| match &entry.slot {
            Slot::Socket(socket) => socket.has_user(),
            Slot::Parked(_) => true,
        })
    }

    /// The connection with this id, which must exist and not be parked.
    pub fn socket(&self, id: ConnId) -> &Socket {
        self.entries[id].slot.socket().expect("a connection is unparked before it is read")
    }

    /// The connection with this id, which must exist and not be parked.
    #[inline]
    pub fn socket_mut(&mut self, id: ConnId) -> &mut Socket {
        self.entry_mut(id).0.slot.unparked_mut()
    }

    /// The connection with this id, which must exist. A parked one is unparked.
    #[inline]
    pub fn unparked_mut(&mut self, id: ConnId) -> &mut Socket {
        if matches!(self.entries[id].slot, Slot::Parked(_)) {
            self.unpark(id);
        }
        self.socket_mut(id)
    }

    /// The id of the connection with this four-tuple, unless it is in TIME-WAIT.
    pub fn live(&self, flow: &FourTuple) -> Option<ConnId> {
        self.live_at(self.demux.hash(flow), flow)
    }

    /// Whether the four-tuple with this hash is in use, TIME-WAIT included.
    pub fn is_taken(&self, hash: u32, flow: &FourTuple) -> bool {
        self.live_at(hash, flow).is_some() || self.demux.waiting.contains(hash, flow)
    }

    fn live_at(&self, hash: u32, flow: &FourTuple) -> Option<ConnId> {
        self.demux.live(hash, |id| self.entries[id].slot.flow() == *flow)
    }

    pub fn is_in_time_wait(&self, flow: &FourTuple) -> bool {
        self.demux.waiting.contains(self.demux.hash(flow), flow)
    }
}
