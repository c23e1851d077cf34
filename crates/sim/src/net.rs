//! Hosts joined by paths, in virtual time.

mod path;

pub use path::RouterReply;

use crate::random::Random;
use crate::trace::{Entry, Fate, HostId, HostLabel, Loss, PacketKind, PacketRecord, Trace, What};
use lastack_engine::{Config, Event, FourTuple, Instant, Received, Stack, TcpState, Transmit};
use lastack_link::{Course, Damage, Direction, Passage, Plan};
use lastack_wire::ip::{IpPacket, TCP};
use lastack_wire::tcp::TcpHeader;
use path::Path;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Hosts, each with its own stack, joined by paths.
///
/// Time advances only in [`step`](Self::step) and the calls built on it, and jumps from one
/// event to the next. Simultaneous events have a fixed order (arrivals in the
/// order in which they were sent, then timers in the order of the hosts), so that a seed determines a
/// run, byte for byte.
#[derive(Debug)]
pub struct Network {
    now: Instant,
    random: Random,
    hosts: Vec<Host>,
    paths: BTreeMap<(HostId, HostId), Path>,
    in_flight: BTreeMap<(Instant, u64), usize>,
    serial: u64,
    trace: Trace,
    buffer: Vec<u8>,
}

/// An upper bound for the packets that a stack sends at one moment.
const ENDLESS: usize = 100_000;

#[derive(Debug)]
enum Host {
    Ours(Box<Ours>),
    /// A foreign stack: packets that arrive for it are queued until they are fetched.
    Foreign {
        address: IpAddr,
        arrived: VecDeque<Vec<u8>>,
    },
}

#[derive(Debug)]
struct Ours {
    config: Config,
    stack: Stack,
    events: VecDeque<Event>,
    /// The host is suspended until then: its timers do not fire and arriving packets wait.
    suspended: Instant,
    /// The connections whose states are logged, and the last state of each.
    watched: Option<BTreeMap<FourTuple, TcpState>>,
}

impl Host {
    fn has(&self, address: IpAddr) -> bool {
        match self {
            Self::Ours(ours) => ours.config.addresses.contains(&address),
            Self::Foreign { address: own, .. } => *own == address,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Ours(ours) => ours.stack.poll_timeout().map(|at| at.max(ours.suspended)),
            Self::Foreign { .. } => None,
        }
    }
}

impl Network {
    /// A network without hosts. `seed` determines everything random in it.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            random: Random::new(seed),
            hosts: Vec::new(),
            paths: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            serial: 0,
            trace: Trace::default(),
            buffer: Vec::new(),
        }
    }

    /// Adds a host without paths. It must have an address.
    pub fn add_host(&mut self, name: &str, config: Config) -> HostId {
        let id = HostId(self.hosts.len());
        let address = *config.addresses.first().expect("a host has an address");
        self.trace.hosts.push(HostLabel { name: name.to_owned(), address, ours: true });
        let stack = Stack::new(config.clone(), self.random.secret());
        let ours = Ours { config, stack, events: VecDeque::new(), suspended: Instant::ZERO, watched: None };
        self.hosts.push(Host::Ours(Box::new(ours)));
        id
    }

    /// Adds a host with a foreign stack: packets that arrive for it are fetched with
    /// [`fetch`](Self::fetch), and packets that it sends are passed to [`relay`](Self::relay).
    pub fn add_foreign(&mut self, name: &str, address: IpAddr) -> HostId {
        let id = HostId(self.hosts.len());
        self.trace.hosts.push(HostLabel { name: name.to_owned(), address, ours: false });
        self.hosts.push(Host::Foreign { address, arrived: VecDeque::new() });
        id
    }

    /// The oldest packet that has arrived at a foreign host.
    pub fn fetch(&mut self, host: HostId) -> Option<Vec<u8>> {
        match &mut self.hosts[host.0] {
            Host::Ours(_) => None,
            Host::Foreign { arrived, .. } => arrived.pop_front(),
        }
    }

    /// A foreign host has sent this packet.
    pub fn relay(&mut self, host: HostId, packet: Vec<u8>) {
        self.send(host, packet, Transmit::default(), PacketKind::Sent);
    }

    /// Logs the state of a connection at a foreign host, as observed by the caller.
    pub fn note_state(&mut self, host: HostId, flow: FourTuple, state: TcpState) {
        self.log(host, What::State { flow, state });
    }

    /// Joins two hosts by a path each way, both of which treat packets as `plan` says.
    pub fn join(&mut self, a: HostId, b: HostId, plan: Plan) {
        for (ends, direction) in [((a, b), Direction::Sent), ((b, a), Direction::Received)] {
            self.paths.insert(ends, Path { course: Course::new(plan, direction), cut: None, mtu: None });
        }
    }

    /// Changes the plan for packets from one host to another. Packets in flight are not affected.
    pub fn set_plan(&mut self, from: HostId, to: HostId, plan: Plan) {
        if let Some(path) = self.paths.get_mut(&(from, to)) {
            path.course.plan = plan;
        }
    }

    /// Logs the states of every TCP connection of this host from now on.
    pub fn watch(&mut self, host: HostId) {
        self.ours(host).watched.get_or_insert_default();
    }

    fn ours(&mut self, host: HostId) -> &mut Ours {
        match &mut self.hosts[host.0] {
            Host::Ours(ours) => ours,
            Host::Foreign { .. } => panic!("{host:?} has no stack of ours"),
        }
    }

    /// The current virtual time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The log so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The complete log.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// Calls a host's stack: performs `calls` now and sends the resulting packets.
    pub fn call<R>(&mut self, host: HostId, calls: impl FnOnce(&mut Stack) -> R) -> R {
        let result = calls(self.stack(host));
        self.flush(host);
        result
    }

    /// A host's stack. What is called on it takes effect with [`flush`](Self::flush).
    ///
    /// # Panics
    ///
    /// If the host was added by [`add_foreign`](Self::add_foreign).
    pub fn stack(&mut self, host: HostId) -> &mut Stack {
        &mut self.ours(host).stack
    }

    /// Read access to a host's stack.
    ///
    /// # Panics
    ///
    /// As [`stack`](Self::stack).
    pub fn stack_of(&self, host: HostId) -> &Stack {
        match &self.hosts[host.0] {
            Host::Ours(ours) => &ours.stack,
            Host::Foreign { .. } => panic!("{host:?} has no stack of ours"),
        }
    }

    /// The oldest event of a host that has not been polled.
    pub fn poll_event(&mut self, host: HostId) -> Option<Event> {
        self.ours(host).events.pop_front()
    }

    /// Logs what an application of the host does or observes.
    pub fn say(&mut self, host: HostId, text: impl Into<String>) {
        self.log(host, What::Application(text.into()));
    }

    /// The host silently loses all its state and starts again: a new stack with
    /// another secret, under the same addresses. What it sent before still arrives.
    pub fn reboot(&mut self, host: HostId) {
        let secret = self.random.secret();
        let this = self.ours(host);
        this.stack = Stack::new(this.config.clone(), secret);
        this.events.clear();
        let watched = this.watched.as_mut().map(std::mem::take).unwrap_or_default();
        self.log(host, What::Restarted);
        for (flow, _) in watched.into_iter().filter(|(_, state)| *state != TcpState::Closed) {
            self.log(host, What::State { flow, state: TcpState::Closed });
        }
    }

    /// Cuts or restores the paths between two hosts, both ways. Packets are dropped silently.
    pub fn set_cut(&mut self, a: HostId, b: HostId, cut: bool) {
        self.set_route(a, b, cut.then_some(RouterReply::Silence));
    }

    /// Cuts the paths between two hosts, both ways, and sets what routers report to the senders; or restores
    /// them (`None`).
    pub fn set_route(&mut self, a: HostId, b: HostId, cut: Option<RouterReply>) {
        for pair in [(a, b), (b, a)] {
            if let Some(path) = self.paths.get_mut(&pair) {
                path.cut = cut;
            }
        }
        self.log(a, What::Path { cut: cut.is_some() });
    }

    /// Limits the packets from one host to another to this many bytes from now on, and sets what routers report
    /// to the senders of larger ones. Routers do not fragment.
    pub fn set_mtu(&mut self, from: HostId, to: HostId, mtu: Option<(usize, RouterReply)>) {
        if let Some(path) = self.paths.get_mut(&(from, to)) {
            path.mtu = mtu;
        }
    }

    /// The host is suspended until then: its timers do not fire, and arriving packets wait for it.
    /// Its applications must not call.
    pub fn suspend(&mut self, host: HostId, until: Instant) {
        self.ours(host).suspended = until;
        let millis = (until - self.now).as_millis();
        self.say(host, format!("suspended for {millis} ms"));
    }

    /// The bytes of a packet in flight, for tampering with it.
    pub(crate) fn packet_in_flight(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        let record = self.trace.packets.get_mut(index)?;
        (record.fate == Fate::InFlight).then_some(&mut record.bytes)
    }

    /// A third party sends a packet in the name of host `from`.
    pub fn forge(&mut self, from: HostId, bytes: Vec<u8>) {
        self.send(from, bytes, Transmit::default(), PacketKind::Forged);
    }

    /// The time of the next event.
    pub fn next(&self) -> Option<Instant> {
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        let timers = self.hosts.iter().filter_map(Host::deadline);
        timers.chain(arrival).min().map(|at| at.max(self.now))
    }

    /// Processes the next event. `false`: there is none.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next() else { return false };
        self.now = at;
        match self.in_flight.first_entry() {
            Some(entry) if entry.key().0 <= at => {
                let packet = entry.remove();
                self.arrive(packet);
            }
            _ => self.expire(),
        }
        true
    }

    /// Processes all events until `end`; then it is `end`.
    pub fn run_until(&mut self, end: Instant) {
        while self.next().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Advances time by this much.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Processes events until there are none, or it is `limit`. `true`: there are none left.
    pub fn run_until_idle(&mut self, limit: Instant) -> bool {
        loop {
            match self.next() {
                None => return true,
                Some(at) if at > limit => return false,
                Some(_) => self.step(),
            };
        }
    }

    /// The first host with a timer due.
    fn expire(&mut self) {
        let due = |host: &Host| host.deadline().is_some_and(|at| at <= self.now);
        let Some(host) = self.hosts.iter().position(due).map(HostId) else { return };
        let now = self.now;
        self.stack(host).handle_timeout(now);
        self.flush(host);
        let next = self.hosts[host.0].deadline();
        assert!(next.is_none_or(|at| at > now), "a timer that was served at {now:?} is due again");
    }

    fn arrive(&mut self, packet: usize) {
        let now = self.now;
        let record = &mut self.trace.packets[packet];
        let Some(host) = record.to else { return };
        if let Host::Ours(ours) = &self.hosts[host.0]
            && ours.suspended > now
        {
            let until = ours.suspended;
            return self.post(until, packet);
        }
        let verdict = match &mut self.hosts[host.0] {
            // A packet that has left its host is verified again, even if its sender left out the checksum.
            Host::Ours(ours) => {
                let mut packet = record.bytes.clone();
                Some(ours.stack.handle_owned_packet(now, &mut packet, Received::default()))
            }
            Host::Foreign { arrived, .. } => {
                arrived.push_back(record.bytes.clone());
                None
            }
        };
        record.fate = Fate::Delivered { at: now, verdict };
        self.log(host, What::Arrived(packet));
        self.flush(host);
    }

    /// Sends all packets that a host has pending, and takes its events.
    pub fn flush(&mut self, host: HostId) {
        if matches!(self.hosts[host.0], Host::Foreign { .. }) {
            return;
        }
        self.look_at_states(host);
        let (now, mut bytes) = (self.now, std::mem::take(&mut self.buffer));
        let before = self.trace.packets.len();
        while let Some(transmit) = self.stack(host).poll_transmit(now, &mut bytes) {
            assert!(self.trace.packets.len() - before < ENDLESS, "{host:?} never stops sending at {now:?}");
            self.send(host, bytes.clone(), transmit, PacketKind::Sent);
            self.look_at_states(host);
        }
        self.buffer = bytes;
        while let Some(event) = self.stack(host).poll_event() {
            if let Event::Ended(ended) = &event {
                self.log(host, What::Ended(ended.clone()));
            }
            self.ours(host).events.push_back(event);
        }
        self.look_at_states(host);
    }

    fn send(&mut self, from: HostId, bytes: Vec<u8>, transmit: Transmit, kind: PacketKind) {
        let to = destination(&bytes).and_then(|address| self.owner(address));
        if let Some(flow) = tcp_flow(&bytes).filter(|_| kind == PacketKind::Sent)
            && let Host::Ours(ours) = &mut self.hosts[from.0]
            && let Some(watched) = &mut ours.watched
        {
            watched.entry(flow).or_insert(TcpState::Closed);
        }
        let path = to.and_then(|to| self.paths.get_mut(&(from, to)));
        let mut record =
            PacketRecord { sent: self.now, from, to, bytes, transmit, kind, fate: Fate::Lost(Loss::NoRoute) };
        let Some(path) = path else {
            self.record(record, true);
            return;
        };
        let outcome = path.pass(self.now, &record.bytes, &record.transmit);
        let back = path.course.plan.delay;
        record.fate = match outcome.passage {
            Err(loss) => Fate::Lost(loss),
            Ok(Passage::Overflowed) => Fate::Lost(Loss::Queue),
            Ok(Passage::Arrives { .. }) => Fate::InFlight,
            Ok(_) => Fate::Lost(Loss::Chance),
        };
        if let Ok(Passage::Arrives { due, copy, damage, .. }) = outcome.passage {
            return self.carry(record, due, copy, damage);
        }
        let report = outcome.error.and_then(|error| path::report(&record.bytes, error));
        self.record(record, true);
        if let Some(bytes) = report {
            self.report(from, bytes, back);
        }
    }

    /// A router reports to a host that its packet was dropped.
    fn report(&mut self, host: HostId, bytes: Vec<u8>, delay: Duration) {
        let index = self.trace.packets.len();
        self.trace.packets.push(PacketRecord {
            sent: self.now,
            from: host,
            to: Some(host),
            bytes,
            transmit: Transmit::default(),
            kind: PacketKind::Router,
            fate: Fate::InFlight,
        });
        self.post(self.now + delay, index);
    }

    /// Puts a packet, and its copy if there is one, in flight.
    fn carry(
        &mut self,
        mut record: PacketRecord,
        due: Instant,
        copy: Option<Instant>,
        damage: Option<Damage>,
    ) {
        if let Some(damage) = damage {
            self.trace.intact.insert(self.trace.packets.len(), record.bytes.clone());
            damage.apply(&mut record.bytes);
            record.kind = PacketKind::Damaged;
        }
        let second = copy.map(|due| (due, PacketRecord { kind: PacketKind::Copy, ..record.clone() }));
        let index = self.record(record, true);
        self.post(due, index);
        if let Some((due, record)) = second {
            let index = self.record(record, false);
            self.post(due, index);
        }
    }

    fn post(&mut self, at: Instant, packet: usize) {
        self.serial += 1;
        self.in_flight.insert((at, self.serial), packet);
    }

    fn record(&mut self, record: PacketRecord, sent: bool) -> usize {
        let (index, from) = (self.trace.packets.len(), record.from);
        self.trace.packets.push(record);
        if sent {
            self.log(from, What::Sent(index));
        }
        index
    }

    fn owner(&self, address: IpAddr) -> Option<HostId> {
        self.hosts.iter().position(|host| host.has(address)).map(HostId)
    }

    fn look_at_states(&mut self, host: HostId) {
        let Ours { stack, watched, .. } = self.ours(host);
        let Some(watched) = watched else { return };
        let mut changes = Vec::new();
        for (flow, last) in watched {
            let state = stack.tcp_state(flow).unwrap_or(TcpState::Closed);
            if state != *last {
                *last = state;
                changes.push(What::State { flow: *flow, state });
            }
        }
        for change in changes {
            self.log(host, change);
        }
    }

    fn log(&mut self, host: HostId, what: What) {
        self.trace.entries.push(Entry { at: self.now, host, what });
    }
}

/// The destination of a packet, damaged or not.
fn destination(bytes: &[u8]) -> Option<IpAddr> {
    IpPacket::parse(bytes).ok().map(|packet| packet.header.dst)
}

/// The connection a segment belongs to, as its sender sees it.
pub(crate) fn tcp_flow(bytes: &[u8]) -> Option<FourTuple> {
    let packet = IpPacket::parse(bytes).ok().filter(|packet| packet.header.protocol == TCP)?;
    let (tcp, _) = TcpHeader::parse(packet.payload).ok()?;
    Some(FourTuple {
        local: SocketAddr::new(packet.header.src, tcp.src_port),
        remote: SocketAddr::new(packet.header.dst, tcp.dst_port),
    })
}

#[cfg(test)]
mod tests;
