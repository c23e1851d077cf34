//! All connections of a stack: dispatch of arrivals, the ready queue, timers, and the removal of connections that have
//! ended.

use crate::collections::slots::SlotMap;
use crate::collections::timer_queue::TimerQueue;
use crate::end::{ByteCounts, Ended, FourTuple, Origin};
use crate::event::Event;
use crate::packet::PacketBuffer;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::closed::closed_socket::ClosedSocket;
use crate::tcp::closed::reset_reply;
use crate::tcp::closed::time_wait::{TimeWait, Waiting};
use crate::tcp::connection::parked::Parked;
use crate::tcp::connection::{Closing, Connection};
use crate::tcp::demux::{Demux, place};
use crate::tcp::handshake::Handshake;
use crate::tcp::handshake::arrives::Opening;
use crate::tcp::handshake::cookies::Cookies;
use crate::tcp::handshake::listener::Listeners;
use crate::tcp::segment::Arrival;
use crate::tcp::{ConnId, ListenerId, TcpState};
use crate::{DropReason, Instant, Received, Rule, Transmit, Verdict};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use lastack_wire::ip::IpHeader;
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};

/// Max number of spare allocations kept for reuse, per type.
const MAX_SPARE: usize = 32;

/// Max number of connections kept unparked although they may be idle; beyond it idle connections are parked. Debug
/// builds park every idle connection, to test that parking changes no behaviour.
const MAX_WARM: usize = if cfg!(debug_assertions) { 0 } else { 64 };

/// Number of connections examined for parking each time one comes into use or a timer expires.
const LOOKS: usize = 4;

/// A connection in one of its phases, each in an allocation of its own size.
#[derive(Debug)]
pub(crate) enum Socket {
    Opening(Box<Handshake>),
    Open(Box<Connection>),
    Closed(Box<ClosedSocket>),
}

/// A connection, or an idle connection that is parked.
#[derive(Debug)]
pub(in crate::tcp) enum Slot {
    Socket(Socket),
    Parked(Box<Parked>),
}

impl Slot {
    pub fn flow(&self) -> FourTuple {
        match self {
            Self::Socket(socket) => *socket.flow(),
            Self::Parked(parked) => parked.flow(),
        }
    }

    /// Whether a segment belongs to this connection.
    fn is_of(&self, seg: &Arrival<'_>) -> bool {
        match self {
            Self::Socket(socket) => seg.is_of(socket.flow()),
            Self::Parked(parked) => seg.is_of(&parked.flow()),
        }
    }

    pub fn state(&self) -> TcpState {
        match self {
            Self::Socket(socket) => socket.state(),
            Self::Parked(_) => TcpState::Established,
        }
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        match self {
            Self::Socket(socket) => socket.memory(),
            Self::Parked(_) => 0,
        }
    }

    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Parked(_) => None,
        }
    }

    pub fn socket_mut(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Parked(_) => None,
        }
    }
}

impl Socket {
    pub fn flow(&self) -> &FourTuple {
        match self {
            Self::Opening(handshake) => &handshake.flow,
            Self::Open(connection) => &connection.flow,
            Self::Closed(over) => &over.flow,
        }
    }

    /// The state of the connection. Once its end is decided it is CLOSED or TIME-WAIT, even if its reset is not sent yet.
    pub fn state(&self) -> TcpState {
        match self {
            Self::Opening(handshake) if handshake.end.is_some() => TcpState::Closed,
            Self::Opening(handshake) => handshake.state(),
            Self::Open(connection) => match connection.fate {
                None => connection.state.public(),
                Some(Closing::TimeWait(_)) => TcpState::TimeWait,
                Some(Closing::Resetting(_) | Closing::Closed(_)) => TcpState::Closed,
            },
            Self::Closed(_) => TcpState::Closed,
        }
    }
}

#[derive(Debug)]
pub(in crate::tcp) struct Entry {
    pub slot: Slot,
    /// The memory last accounted to this entry.
    pub weight: u32,
    /// Whether it is in the queue of connections that may have something to send.
    pub queued: bool,
    /// Whether it is in the queue of candidates for parking, and whether it was used since it was last examined.
    pub watched: bool,
    pub touched: bool,
}

/// Allocations of removed connections, for reuse. They are likely to be in the cache; a fresh allocation may not be.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "it is the boxes that are kept")]
pub(in crate::tcp) struct Spare {
    handshakes: Vec<Box<Handshake>>,
    pub connections: Vec<Box<Connection>>,
}

impl Spare {
    fn handshake(&mut self, handshake: Handshake) -> Box<Handshake> {
        fill(self.handshakes.pop(), handshake)
    }

    fn connection(&mut self, connection: Connection) -> Box<Connection> {
        fill(self.connections.pop(), connection)
    }

    /// Keeps the allocation of a removed connection that holds no other memory.
    fn keep(&mut self, slot: Slot) {
        match slot {
            Slot::Socket(Socket::Opening(spare)) if self.handshakes.len() < MAX_SPARE => {
                self.handshakes.push(spare);
            }
            Slot::Socket(Socket::Open(spare)) if self.connections.len() < MAX_SPARE => {
                self.connections.push(spare);
            }
            _ => {}
        }
    }
}

fn fill<T>(spare: Option<Box<T>>, value: T) -> Box<T> {
    match spare {
        Some(mut spare) => {
            *spare = value;
            spare
        }
        None => Box::new(value),
    }
}

/// The TCP of a stack.
#[derive(Debug)]
pub(crate) struct TcpTable {
    pub(in crate::tcp) entries: SlotMap<ConnId, Entry>,
    pub(in crate::tcp) spare: Spare,
    /// Connections that are not parked, the least recently examined first.
    pub(in crate::tcp) watched: VecDeque<ConnId>,
    pub(in crate::tcp) demux: Demux,
    /// The connection of the last segment, and the hash of its four-tuple (a one-entry cache).
    last: Option<(u32, ConnId)>,
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
fn is_settled(connection: &Connection, weight: u32, served: Option<Instant>, shared: &Shared) -> bool {
    let served = match connection.timers.next() {
        Some(deadline) => served.is_some_and(|at| at <= deadline),
        None => true,
    };
    served
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

    /// A segment has arrived: checks its form (`Rule::DropBadChecksum`, `Rule::DropBadHeader`,
    /// `Rule::DropUnverifiedSignature`), then demultiplexes it.
    pub fn arrives(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        ip: &IpHeader,
        segment: &[u8],
        received: Received,
    ) -> Verdict {
        self.clock = now;
        shared.counters.tcp_in_segments += 1;
        let verify = shared.config.checksums.verify && !received.checksum_good;
        if verify && !tcp::checksum_ok(ip, segment) {
            shared.counters.tcp_in_errors += 1;
            return Verdict::Dropped(Rule::DropBadChecksum.into());
        }
        let mut tcp = TcpHeader::default();
        let Ok(text) = tcp.read(segment) else {
            shared.counters.tcp_in_errors += 1;
            return Verdict::Dropped(Rule::DropBadHeader.into());
        };
        if tcp.options.signed {
            return Verdict::Dropped(Rule::DropUnverifiedSignature.into());
        }
        let Shared { resets, config, secret, .. } = shared;
        resets.arrived(config.tcp.reset_rate, now, secret, tcp.flags.contains(TcpFlags::RST));
        let seg = Arrival::new(ip, &tcp, text, &self.demux.hasher);
        self.demultiplex(shared, now, &seg)
    }

    fn demultiplex(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        // Consecutive segments often belong to the same connection.
        if let Some((_, id)) = self.last.filter(|last| last.0 == seg.hash && self.is_live(last.1, seg)) {
            return self.arrives_at(shared, now, id, seg);
        }
        if self.demux.is_empty() {
            return self.arrives_for_nobody(shared, now, seg, None);
        }
        if let Some(id) = self.demux.live(seg.hash, |id| self.entries[id].slot.is_of(seg)) {
            self.last = Some((seg.hash, id));
            return self.arrives_at(shared, now, id, seg);
        }
        match self
            .demux
            .waiting
            .get_mut(seg.hash, |flow| seg.is_of(flow))
            .map(|entry| entry.arrives(shared, now, seg))
        {
            Some(Waiting::Done(verdict)) => verdict,
            Some(Waiting::Reopen(after)) => self.reopen(shared, now, seg, after),
            None => self.arrives_for_nobody(shared, now, seg, None),
        }
    }

    /// Whether this connection exists, is not closed, and owns the segment.
    fn is_live(&self, id: ConnId, seg: &Arrival<'_>) -> bool {
        self.entries.get(id).is_some_and(|entry| match &entry.slot {
            Slot::Socket(Socket::Closed(_)) => false,
            slot => slot.is_of(seg),
        })
    }

    pub(in crate::tcp) fn arrives_at(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ConnId,
        seg: &Arrival<'_>,
    ) -> Verdict {
        if matches!(self.entries[id].slot, Slot::Parked(_)) {
            self.socket_mut(id);
        }
        let entry = &mut self.entries[id];
        entry.touched = true;
        let Some(socket) = entry.slot.socket_mut() else { return Verdict::Dropped(DropReason::Unwanted) };
        let verdict = match socket {
            Socket::Open(connection) => {
                let verdict = connection.arrives(shared, now, seg);
                #[cfg(any(test, debug_assertions))]
                connection.check();
                if verdict == Verdict::Accepted {
                    shared.resets.give_back();
                }
                if !entry.queued && connection.wants_to_send() {
                    entry.queued = true;
                    self.ready.push_back(id);
                }
                if !is_settled(connection, entry.weight, self.timers.get(place(id)), shared) {
                    self.after_step(shared, now, id);
                }
                return verdict;
            }
            Socket::Opening(handshake) => match handshake.arrives(shared, now, seg) {
                Opening::Done(verdict) => verdict,
                Opening::Complete => self.complete(shared, now, id, seg),
            },
            Socket::Closed(_) => Verdict::Dropped(DropReason::Unwanted),
        };
        if verdict == Verdict::Accepted {
            shared.resets.give_back();
        }
        self.enqueue(id);
        self.after_step(shared, now, id);
        verdict
    }

    /// No connection has the four-tuple: the segment goes to a listener, is intercepted, or arrives in CLOSED
    /// (RFC 9293 sections 3.10.7.1 and 3.10.7.2).
    pub(in crate::tcp) fn arrives_for_nobody(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        iss_after: Option<SndSeq>,
    ) -> Verdict {
        if let Some(listener) = self.listeners.find(seg.local()) {
            return self.arrives_at_listener(shared, now, listener, seg, iss_after);
        }
        if seg.has(TcpFlags::RST) {
            return Verdict::Dropped(Rule::DropRstNoConnection.into());
        }
        let syn_only = seg.tcp.flags & (TcpFlags::SYN | TcpFlags::ACK | TcpFlags::FIN) == TcpFlags::SYN;
        if syn_only && shared.config.intercept.tcp {
            return self.intercept(shared, now, seg, iss_after);
        }
        let rule = match (seg.has(TcpFlags::ACK), seg.has(TcpFlags::SYN)) {
            (true, _) => Rule::RstNoConnection,
            (false, true) => Rule::RstNoListener,
            (false, false) => Rule::RstNoConnectionNoAck,
        };
        reset_reply::reply(shared, seg, rule)
    }

    /// RFC 6191: a new SYN in TIME-WAIT. Without a listener it is acknowledged, not reset. The entry stays until the
    /// handshake is complete: if the SYN was an old duplicate, the connection is in TIME-WAIT as before
    /// (RFC 1122 section 4.2.2.13).
    fn reopen(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>, after: SndSeq) -> Verdict {
        if shared.config.intercept.tcp || self.listeners.find(seg.local()).is_some() {
            return self.arrives_for_nobody(shared, now, seg, Some(after));
        }
        match self.demux.waiting.get_mut(seg.hash, |flow| seg.is_of(flow)) {
            Some(entry) => entry.answer(shared, now, seg),
            None => Verdict::Dropped(Rule::DropInTimeWait.into()),
        }
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
    pub(in crate::tcp) fn insert(&mut self, hash: u32, make: impl FnOnce(ConnId) -> Handshake) -> ConnId {
        let Self { entries, spare, .. } = self;
        let id = entries.insert_with_key(|id| {
            let slot = Slot::Socket(Socket::Opening(spare.handshake(make(id))));
            Entry { slot, weight: 0, queued: false, watched: false, touched: false }
        });
        self.demux.insert(hash, id);
        self.enqueue(id);
        id
    }

    /// The handshake is complete; the segment that completed it is the connection's first.
    fn complete(&mut self, shared: &mut Shared, now: Instant, id: ConnId, seg: &Arrival<'_>) -> Verdict {
        let Socket::Opening(handshake) = self.socket_mut(id) else {
            return Verdict::Dropped(DropReason::Unwanted);
        };
        if let Some(listener) = handshake.listener
            && let Some(verdict) = self.overflow(shared, now, id, listener, seg)
        {
            return verdict;
        }
        let Socket::Opening(handshake) = self.socket_mut(id) else {
            return Verdict::Dropped(DropReason::Unwanted);
        };
        let listener = handshake.listener;
        let (has_user, reopens, flow) = (handshake.has_user, handshake.reopens, handshake.flow);
        let mut connection = handshake.establish(shared, now);
        let syn = seg.has(TcpFlags::SYN);
        let verdict = if syn {
            connection.pending.ack = true;
            Verdict::Accepted
        } else {
            connection.arrives(shared, now, seg)
        };
        shared.counters.tcp_established += 1;
        shared.counters.tcp_passive_opens += u64::from(connection.origin == Origin::Passive);
        self.embryonic -= usize::from(connection.origin == Origin::Passive);
        self.orphans += usize::from(!connection.has_user);
        let connection = self.spare.connection(connection);
        self.replace(id, Slot::Socket(Socket::Open(connection)));
        self.watch(shared, now, id);
        if reopens {
            self.demux.waiting.remove(seg.hash, &flow);
        }
        match listener {
            Some(listener) => self.offer(shared, listener, id),
            None if has_user => shared.events.push(Event::Connected(id)),
            None => {}
        }
        verdict
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
                    if !is_settled(connection, entry.weight, self.timers.get(place(id)), shared) {
                        self.after_step(shared, now, id);
                    }
                    if transmit.is_some() {
                        return transmit;
                    }
                    continue;
                }
                Slot::Socket(Socket::Opening(handshake)) => {
                    let transmit = handshake.segmentize(shared, now, packet.headers());
                    let more = transmit.is_some();
                    (transmit, more)
                }
                Slot::Socket(Socket::Closed(_)) | Slot::Parked(_) => (None, false),
            };
            entry.queued = more;
            if more {
                self.ready.push_back(id);
            }
            self.after_step(shared, now, id);
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
        [self.timers.next(), self.demux.waiting.next_deadline()].into_iter().flatten().min()
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
            match self.socket_mut(id) {
                Socket::Open(connection) => {
                    connection.arm(shared, now);
                    connection.expire(shared, now, orphans);
                }
                Socket::Opening(handshake) => handshake.expire(shared, now),
                Socket::Closed(_) => {}
            }
            self.enqueue(id);
            self.after_step(shared, now, id);
            self.park_some(shared, now);
        }
    }

    /// Updates the table after a step of a connection: its timer or its end, and its memory.
    pub(in crate::tcp) fn after_step(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        self.follow_up(shared, now, id);
        self.account_memory(shared, id);
        self.reclaim_memory(shared, now);
    }

    pub(in crate::tcp) fn follow_up(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(socket) = entry.slot.socket_mut() else { return };
        let deadline = match socket {
            Socket::Open(connection) => match &connection.fate {
                None => connection.timers.next(),
                Some(Closing::Resetting(_)) => None,
                Some(Closing::TimeWait(_) | Closing::Closed(_)) => {
                    return self.finish_connection(shared, now, id);
                }
            },
            Socket::Opening(handshake) if handshake.owes_reset.is_some() => None,
            Socket::Opening(handshake) if handshake.end.is_some() => {
                return self.finish_handshake(shared, id);
            }
            Socket::Opening(handshake) => handshake.deadline,
            Socket::Closed(_) => None,
        };
        if let Some(deadline) = deadline {
            self.schedule(id, deadline);
        }
    }

    /// Schedules the next deadline of a connection. An earlier one stays: when it expires, the later one is scheduled.
    fn schedule(&mut self, id: ConnId, deadline: Instant) {
        if self.timers.get(place(id)).is_none_or(|at| deadline < at) {
            self.timers.set(place(id), deadline);
        }
    }

    /// The connection has ended: its four-tuple is freed or enters TIME-WAIT, its end is reported, and its unread data is
    /// kept for the user.
    fn finish_connection(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        self.timers.remove(place(id));
        let Some(Socket::Open(connection)) = self.entries[id].slot.socket_mut() else { return };
        let flow = connection.flow;
        let end = match connection.fate.take() {
            Some(Closing::TimeWait(end)) => {
                let wait = TimeWait::new(shared, now, connection);
                if connection.pending.ack || connection.pending.pure_acks > 0 {
                    wait.acknowledge(shared, now, &flow);
                }
                if self.demux.wait(&shared.config, id, flow, wait).is_err() {
                    shared.counters.tcp_time_wait_overflows += 1;
                }
                end
            }
            Some(Closing::Closed(end) | Closing::Resetting(end)) => {
                self.demux.remove(id);
                end
            }
            None => return,
        };
        let open = matches!(end.state, TcpState::Established | TcpState::CloseWait);
        shared.counters.tcp_established_resets += u64::from(open);
        shared.counters.ends.count(end.rule);
        shared.events.push(Event::Ended(Box::new(Ended {
            id,
            flow,
            origin: connection.origin,
            opened: connection.opened,
            established: Some(connection.established),
            numbers: connection.initial_numbers(),
            octets: connection.octets,
            end: (*end).clone(),
        })));
        if connection.has_user {
            connection.waits.wake(shared, id);
        }
        self.orphans -= usize::from(!connection.has_user);
        let over = connection.has_user.then(|| ClosedSocket::of_connection(shared, now, connection, *end));
        self.keep(shared, id, over);
    }

    fn finish_handshake(&mut self, shared: &mut Shared, id: ConnId) {
        self.timers.remove(place(id));
        let Some(Socket::Opening(handshake)) = self.entries[id].slot.socket_mut() else { return };
        let Some(end) = handshake.end.take() else { return };
        self.embryonic -= usize::from(handshake.origin == Origin::Passive);
        shared.counters.tcp_attempt_fails += 1;
        shared.counters.ends.count(end.rule);
        shared.events.push(Event::Ended(Box::new(Ended {
            id,
            flow: handshake.flow,
            origin: handshake.origin,
            opened: handshake.opened,
            established: None,
            numbers: handshake.initial_numbers(),
            octets: ByteCounts::default(),
            end: end.clone(),
        })));
        self.demux.remove(id);
        let kept = handshake.leaves_something(&end);
        if kept {
            handshake.waits.wake(shared, id);
        }
        let over = kept.then(|| ClosedSocket::of_handshake(handshake, end));
        self.keep(shared, id, over);
    }

    /// Keeps what is left of a closed connection for its user, or removes the entry.
    fn keep(&mut self, shared: &mut Shared, id: ConnId, over: Option<ClosedSocket>) {
        match over {
            Some(over) => self.replace(id, Slot::Socket(Socket::Closed(Box::new(over)))),
            None => self.remove(shared, id),
        }
    }

    fn remove(&mut self, shared: &mut Shared, id: ConnId) {
        self.release(id);
        self.account_memory(shared, id);
        if let Some(entry) = self.entries.remove(id) {
            self.spare.keep(entry.slot);
        }
    }

    /// Frees the heap memory of a connection.
    fn release(&mut self, id: ConnId) {
        if let Some(socket) = self.entries.get_mut(id).and_then(|entry| entry.slot.socket_mut()) {
            socket.release();
        }
    }

    /// Replaces a connection's slot by that of its next phase.
    fn replace(&mut self, id: ConnId, slot: Slot) {
        self.release(id);
        let before = core::mem::replace(&mut self.entries[id].slot, slot);
        self.spare.keep(before);
    }

    /// A connection is established or in use again: queues it as a candidate for parking.
    fn watch(&mut self, shared: &Shared, now: Instant, id: ConnId) {
        let entry = &mut self.entries[id];
        entry.touched = true;
        if !core::mem::replace(&mut entry.watched, true) {
            self.watched.push_back(id);
        }
        self.park_some(shared, now);
    }

    /// Parks idle connections while more than `MAX_WARM` are unparked, the least recently examined first. Only a few are
    /// examined at a time, so that the cost per call is constant.
    pub(in crate::tcp) fn park_some(&mut self, shared: &Shared, now: Instant) {
        for _ in 0..LOOKS {
            if self.watched.len() < MAX_WARM + 1 {
                return;
            }
            let Some(id) = self.watched.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(id) else { continue };
            let Slot::Socket(Socket::Open(connection)) = &entry.slot else {
                entry.watched = false;
                continue;
            };
            let touched = core::mem::take(&mut entry.touched) || entry.queued;
            match connection.park(shared, now).filter(|_| !touched) {
                Some(parked) => {
                    entry.watched = false;
                    // What is scheduled may be left over from the handshake, and later than the deadline.
                    match parked.deadline() {
                        Some(deadline) => self.schedule(id, deadline),
                        None => self.timers.remove(place(id)),
                    }
                    self.replace(id, Slot::Parked(Box::new(parked)));
                }
                None => self.watched.push_back(id),
            }
        }
    }

    /// A connection is about to be used: unparks it if it is parked.
    pub fn unpark(&mut self, shared: &Shared, id: ConnId) {
        if let Some(entry) = self.entries.get(id)
            && matches!(entry.slot, Slot::Parked(_))
        {
            self.socket_mut(id);
            let now = self.clock;
            self.park_some(shared, now);
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

    /// Whether a user owns this id.
    pub fn owns(&self, id: ConnId) -> bool {
        self.entries.get(id).is_some_and(|entry| match &entry.slot {
            Slot::Socket(Socket::Opening(handshake)) => handshake.has_user,
            Slot::Socket(Socket::Open(connection)) => connection.has_user,
            Slot::Socket(Socket::Closed(_)) | Slot::Parked(_) => true,
        })
    }

    /// The connection with this id, which must exist and not be parked.
    pub fn socket(&self, id: ConnId) -> &Socket {
        self.entries[id].slot.socket().expect("who looks at a connection has made it whole")
    }

    /// The connection with this id, which must exist. A parked one is unparked.
    pub fn socket_mut(&mut self, id: ConnId) -> &mut Socket {
        let Self { entries, spare, watched, ready, .. } = self;
        let entry = &mut entries[id];
        entry.touched = true;
        if let Slot::Parked(parked) = &entry.slot {
            entry.slot = Slot::Socket(Socket::Open(spare.connection(parked.unpark(id))));
            if !core::mem::replace(&mut entry.watched, true) {
                watched.push_back(id);
            }
            // Its timers are started when it is next polled for output.
            if !core::mem::replace(&mut entry.queued, true) {
                ready.push_back(id);
            }
        }
        entry.slot.socket_mut().expect("it is whole")
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

    /// The user closed a connection that had ended: removes its entry.
    pub fn remove_over(&mut self, shared: &mut Shared, id: ConnId) {
        self.remove(shared, id);
    }
}
