//! The join of all sources: events go in with their times, ends of connections come out.
//!
//! Nothing here does IO or reads a clock. Sources report the same end at different times and in part, so a connection
//! is looked at only some time after its first sign of an end ([`SETTLE`]); what it was is then decided in
//! `kernel` from the tracepoints, or in `infer` without them, and joined over both ends in `judge`.

mod calls;
mod connection;
mod counts;
mod infer;
mod judge;
mod kernel;
mod ledger;
mod owner;
mod packets;
mod peer;
mod processes;
mod rivals;
mod sockets;
mod traces;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use crate::ended::{Ended, Totals};
use crate::event::{
    Counters, Event, Flow, IcmpReport, Process, Segment, SocketReport, Source, TcpState, Time,
};
use connection::{Actor, Connection, Side};
use ledger::Ledger;
use processes::ProcessTable;

/// After the first sign of an end, other sources have this long to report theirs, in milliseconds.
pub const SETTLE: u64 = 250;
/// A socket that is closed by the network is destroyed when its program closes it: so long is waited for what the
/// kernel reports then, in milliseconds.
const AWAIT_DESTROY: u64 = 1200;
/// A socket that only tracepoints have shown belongs to another network namespace if nothing else shows it for so long,
/// in milliseconds.
const FOREIGN_AFTER: u64 = 5000;
/// How long a connection that ended cleanly is kept, in milliseconds: late data is answered with a reset.
const REMEMBER: u64 = 60_000;

/// How the join works.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The sources that are open.
    pub sources: Vec<Source>,
    /// Connections that are known at a time, at most.
    pub max_connections: usize,
    /// All packets of TCP are given to [`Join::packet`], not only those that begin and end connections.
    pub all_packets: bool,
}

impl JoinOptions {
    /// These sources, and room for 65,536 connections.
    #[must_use]
    pub const fn new(sources: Vec<Source>) -> Self {
        Self { sources, max_connections: 1 << 16, all_packets: false }
    }
}

/// A place in the table of connections, never used twice.
type Id = u64;

/// The state machine that joins the events of all sources.
#[derive(Debug)]
pub struct Join {
    options: JoinOptions,
    connections: HashMap<Id, Connection>,
    next_id: Id,
    by_flow: HashMap<Flow, Id>,
    /// Sockets by their address in the kernel.
    by_sk: HashMap<u64, Flow>,
    by_cookie: HashMap<u64, Flow>,
    /// Sockets with the addresses of others, of which one at most is in this network namespace.
    rivals: rivals::Rivals,
    /// Sockets that connect and have no port yet.
    opening: HashMap<u64, (Time, Option<Actor>, crate::event::Trace)>,
    /// Calls of connect() whose sockets nothing else has shown yet.
    attempts: calls::Attempts,
    /// Order of creation, for eviction.
    order: VecDeque<Id>,
    due: BinaryHeap<Reverse<(Time, Id)>>,
    processes: ProcessTable,
    ledger: Ledger,
    /// Listening ports, and a listener of each: its inode and the process that holds it.
    listeners: HashMap<u16, (u32, Option<u32>)>,
    /// Listeners closed lately: when, port, thread, process.
    closed_listeners: VecDeque<(Time, u16, u32, Option<Actor>)>,
    /// Addresses of this host, as seen on its sockets.
    local: HashSet<IpAddr>,
    wanted_owners: Vec<u32>,
    /// Cookies of sockets that made room for others with the same addresses: reports about them come too late.
    past: HashSet<u64>,
    past_order: VecDeque<u64>,
    /// Reports of destroyed sockets that wait for the tracepoint that identifies the socket, by cookie.
    unclaimed: HashMap<u64, (Time, SocketReport)>,
    /// The tracepoint of destroyed sockets works on this kernel.
    traces_destroys: bool,
    /// Sockets, by their address in the kernel, that are in CLOSE and not destroyed yet.
    closed: HashSet<u64>,
    /// There were more of them than are remembered.
    closes_forgotten: bool,
    /// Judges the packets, as `lastack explain` does.
    explainer: packets::Explainer,
    /// The verdict of the packets on the connection that is judged now.
    packet_verdict: Option<packets::PacketVerdict>,
    /// The packets of that connection, as far as they were seen.
    packets_of: Option<std::sync::Arc<lastack_explain::Explained>>,
    ready: VecDeque<Ended>,
    ordinal: u64,
    totals: Totals,
}

/// Max closed listeners that are kept.
const MAX_CLOSED_LISTENERS: usize = 64;
/// Max sockets without a port that are kept.
const MAX_OPENING: usize = 1 << 14;
/// Reports that wait.
const MAX_UNCLAIMED: usize = 1 << 12;
/// Max cookies kept of sockets whose connection was dropped.
const MAX_PAST: usize = 1 << 16;
/// Sockets in CLOSE that are remembered.
const MAX_CLOSED: usize = 1 << 16;
/// Max local addresses that are kept.
const MAX_LOCAL: usize = 1 << 12;

impl Join {
    /// An empty join.
    #[must_use]
    pub fn new(options: JoinOptions) -> Self {
        Self {
            options,
            connections: HashMap::new(),
            next_id: 0,
            by_flow: HashMap::new(),
            by_sk: HashMap::new(),
            by_cookie: HashMap::new(),
            rivals: rivals::Rivals::default(),
            opening: HashMap::new(),
            attempts: calls::Attempts::default(),
            order: VecDeque::new(),
            due: BinaryHeap::new(),
            processes: ProcessTable::default(),
            ledger: Ledger::default(),
            listeners: HashMap::new(),
            closed_listeners: VecDeque::new(),
            local: HashSet::new(),
            wanted_owners: Vec::new(),
            past: HashSet::new(),
            past_order: VecDeque::new(),
            unclaimed: HashMap::new(),
            traces_destroys: false,
            closed: HashSet::new(),
            closes_forgotten: false,
            explainer: packets::Explainer::default(),
            packet_verdict: None,
            packets_of: None,
            ready: VecDeque::new(),
            ordinal: 0,
            totals: Totals::default(),
        }
    }

    /// Takes one event. Events come in the order of their times, as far as the sources allow.
    pub fn handle(&mut self, at: Time, event: Event) {
        match event {
            Event::Destroyed(report) => self.on_destroyed(at, report),
            Event::Listed(report) => self.on_listed(at, report),
            Event::ListEnd { begun } => self.on_list_end(begun),
            Event::Owner { inode, pid } => self.on_owner(inode, pid),
            Event::Counters(counters) => self.on_counters(at, counters),
            Event::Process(process) => self.on_process(process),
            Event::Exit { pid, status, alive } => self.processes.exit((alive.unwrap_or(at), at), pid, status),
            Event::Segment(segment) => self.on_segment(at, segment),
            Event::Icmp(report) => self.on_icmp(at, report),
            Event::Trace(trace) => self.on_trace(at, trace),
            Event::Connect(call) => self.on_connect(at, call),
            Event::Lost { source, count } => *self.totals.lost.entry(source).or_default() += count,
        }
    }

    /// The next end that is decided, if there is one.
    pub fn poll(&mut self, now: Time) -> Option<Ended> {
        while self.ready.is_empty()
            && let Some(&Reverse((at, id))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            self.conclude(id, at);
        }
        self.ready.pop_front()
    }

    /// When [`Join::poll`] has something to do, if no event comes before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Decides all connections that have begun to end, without waiting for more.
    pub fn finish(&mut self) {
        // Reports that still wait for the tracepoint that identifies the socket.
        let unclaimed: Vec<_> = self.unclaimed.drain().map(|(_, waiting)| waiting).collect();
        self.traces_destroys = false;
        for (at, report) in unclaimed {
            self.on_destroyed(at, report);
        }
        let mut due: Vec<(Time, Id)> =
            self.connections.iter().filter_map(|(&id, connection)| Some((connection.due?, id))).collect();
        due.sort_unstable();
        for (at, id) in due {
            // A side that is still waited for gets no second chance.
            self.conclude(id, at.plus_millis(FOREIGN_AFTER));
        }
    }

    /// Whether connections have begun to end that are not decided yet.
    #[must_use]
    pub fn is_deciding(&self) -> bool {
        self.connections.values().any(|connection| connection.reported.is_none() && connection.due.is_some())
    }

    /// Inodes of sockets whose owner is to be looked up, each once.
    pub fn take_wanted_owners(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.wanted_owners)
    }

    /// Whether a process is this one or descends from it, as far as is known.
    #[must_use]
    pub fn descends(&self, pid: u32, ancestor: u32) -> bool {
        self.processes.descends(pid, ancestor)
    }

    /// Whether calls of this process were observed: it belongs to the program that [`Calls`](crate::Calls) started.
    #[must_use]
    pub fn is_of_program(&self, pid: u32) -> bool {
        self.processes.is_of_program(pid)
    }

    /// Counts so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Connections that are known and not over.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let ours = |connection: &&Connection| connection.sides().any(|side| side.listed.is_some());
        self.connections.values().filter(|connection| !connection.is_over()).filter(ours).count()
    }

    fn has(&self, source: Source) -> bool {
        self.options.sources.contains(&source)
    }

    fn on_counters(&mut self, at: Time, counters: Counters) {
        let added = self.ledger.read(at, counters);
        self.totals.listen_overflows += added.listen_overflows;
        self.totals.resets_sent += added.out_resets;
    }

    fn on_process(&mut self, process: Process) {
        self.processes.add(process);
    }

    /// The connection of this flow. A new one takes the place of one that is over.
    fn connection(&mut self, flow: Flow, fresh: bool) -> Id {
        let key = flow.undirected();
        if let Some(&id) = self.by_flow.get(&key) {
            let over = self.connections.get(&id).is_none_or(Connection::is_over);
            if !(fresh && over) {
                return id;
            }
            self.forget(id);
        }
        while self.connections.len() >= self.options.max_connections
            && let Some(oldest) = self.order.pop_front()
        {
            if self.connections.get(&oldest).is_some_and(|oldest| oldest.reported.is_none()) {
                self.totals.evicted += 1;
            }
            self.forget(oldest);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.connections.insert(id, Connection::new(flow));
        self.by_flow.insert(key, id);
        self.order.push_back(id);
        // Ids of connections that were removed long ago accumulate here.
        if self.order.len() > 2 * self.options.max_connections {
            let connections = &self.connections;
            self.order.retain(|id| connections.contains_key(id));
        }
        id
    }

    /// Concludes what can still be concluded, and drops the connection.
    fn forget(&mut self, id: Id) {
        if let Some(due) = self.connections.get(&id).and_then(|connection| connection.due) {
            self.conclude(id, due.plus_millis(FOREIGN_AFTER));
        }
        let Some(connection) = self.connections.remove(&id) else { return };
        if self.by_flow.get(&connection.key) == Some(&id) {
            self.by_flow.remove(&connection.key);
        }
        for side in connection.sides() {
            if self.by_sk.get(&side.sk) == Some(&side.flow) {
                self.by_sk.remove(&side.sk);
            }
            if let Some(cookie) = side.cookie {
                if self.by_cookie.get(&cookie) == Some(&side.flow) {
                    self.by_cookie.remove(&cookie);
                }
                if side.destroyed.is_none() && self.past.insert(cookie) {
                    self.past_order.push_back(cookie);
                }
            }
        }
        while self.past_order.len() > MAX_PAST
            && let Some(oldest) = self.past_order.pop_front()
        {
            self.past.remove(&oldest);
        }
    }

    /// The socket with this flow, as far as it is known.
    fn side(&mut self, flow: Flow) -> Option<&mut Side> {
        let id = *self.by_flow.get(&flow.undirected())?;
        let connection = self.connections.get_mut(&id)?;
        let place = connection.place(flow);
        connection.sides[place].as_mut()
    }

    /// Schedules a check of the connection of this flow after this number of milliseconds.
    fn look_at(&mut self, flow: Flow, at: Time, after: u64) {
        if let Some(&id) = self.by_flow.get(&flow.undirected())
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let at = at.plus_millis(after);
            connection.look_at(at);
            self.due.push(Reverse((at, id)));
        }
    }

    fn on_segment(&mut self, at: Time, segment: Segment) {
        use lastack_wire::TcpFlags;
        let fresh = segment.flags.contains(TcpFlags::SYN) && !segment.flags.contains(TcpFlags::ACK);
        let known = self.by_flow.get(&segment.flow.undirected()).and_then(|id| self.connections.get(id));
        // A SYN that is repeated belongs to the attempt it repeats.
        let repeated = known
            .and_then(|connection| connection.wire.syn)
            .is_some_and(|(_, syn)| syn.seq == segment.seq && syn.flow == segment.flow);
        let begun_before = known.is_some_and(|connection| {
            connection.wire.syn.is_none() && connection.sides().all(|side| !side.is_over())
        });
        // A SYN that is read late.
        let ended_after = known.and_then(Connection::last_sign).is_some_and(|last| at < last);
        // The packets of the connection before on the same ports are read late.
        let traced = |side: &Side| side.opened.filter(|_| side.sk != 0);
        let opened = known.and_then(|connection| connection.sides().filter_map(traced).min());
        if opened.is_some_and(|opened| at < opened) && !segment.flags.contains(TcpFlags::SYN) {
            return;
        }
        let id = self.connection(segment.flow, fresh && !repeated && !begun_before && !ended_after);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.wire.add(at, segment);
        if segment.flags.contains(TcpFlags::RST) {
            self.look_at(segment.flow, at, SETTLE);
        }
    }

    fn on_icmp(&mut self, at: Time, report: IcmpReport) {
        if let Some(id) = self.by_flow.get(&report.quoted.undirected())
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.wire.icmp.get_or_insert((at, report));
        }
    }

    fn on_owner(&mut self, inode: u32, pid: u32) {
        for (_, holder) in self.listeners.values_mut().filter(|(listener, _)| *listener == inode) {
            *holder = Some(pid);
        }
        for connection in self.connections.values_mut() {
            for side in connection.sides.iter_mut().flatten() {
                if side.listed.is_some_and(|(_, report)| report.inode == inode) {
                    side.holder = Some(pid);
                    side.used(Source::Sockets);
                }
            }
        }
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }

    fn learn_local(&mut self, ip: IpAddr) {
        if !ip.is_unspecified() && self.local.len() < MAX_LOCAL {
            self.local.insert(ip);
        }
    }

    /// A listener of this port was closed a moment ago, by the same thread if one is given.
    fn closed_listener(&self, port: u16, at: Time, tid: Option<u32>) -> Option<Actor> {
        let found = self.closed_listeners.iter().rev().find(|(when, closed, by, _)| {
            *closed == port && at.since(*when) < 1_000_000_000 && tid.is_none_or(|tid| tid == *by)
        });
        found.and_then(|(_, _, _, actor)| actor.clone())
    }
}

/// States in which a connection exists.
const fn is_synchronized(state: TcpState) -> bool {
    !matches!(
        state,
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv | TcpState::Close | TcpState::Listen
    )
}
