//! Hosts, paths, programs, and their faults.

use super::application::Application;
use super::fault::{self, Fault};
use super::injected_bug::InjectedBug;
use super::invariants::InvariantChecker;
use super::udp_traffic::UdpTraffic;
use super::{settings, verdict};
use crate::net::{Network, RouterReply};
use crate::random::Random;
use crate::trace::{Fate, HostId, PacketKind, PacketRecord};
use lastack_engine::{Config, ConnId, Ended, Event, FourTuple, Instant, ListenerId, Stack};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The ports with listeners.
const PORTS: [u16; 2] = [80, 1935];
/// A port without a listener.
const CLOSED: u16 = 9;
/// The max time until everything has ended, after all programs have closed.
const AFTERWARDS: Duration = Duration::from_secs(48 * 3600);

/// A host and its programs.
#[derive(Debug)]
pub(super) struct Host {
    pub id: HostId,
    pub config: Config,
    /// The number of its restarts.
    pub life: usize,
    pub suspended: Instant,
    pub listeners: Vec<ListenerId>,
    pub udp: UdpTraffic,
}

/// The end of a connection, with its host and life.
#[derive(Clone, Debug)]
pub(super) struct EndOf {
    pub host: usize,
    pub life: usize,
    pub ended: Box<Ended>,
}

/// A scheduled action.
#[derive(Clone, Copy, Debug)]
enum Task {
    Open(Opening),
    Strike(Fault),
    Listen(usize),
    Accept(usize, ListenerId),
    Write(usize),
}

#[derive(Clone, Copy, Debug)]
enum Opening {
    /// From an ephemeral port.
    Plain,
    /// From a port that was used before.
    SamePort,
    /// To a port without a listener.
    Refused,
    /// Both ends connect at about the same time.
    Simultaneous,
    /// A port connects to itself.
    Oneself,
}

/// The whole simulated world.
#[derive(Debug)]
pub(super) struct World {
    pub net: Network,
    pub random: Random,
    pub hosts: Vec<Host>,
    pub applications: Vec<Application>,
    pub ends: Vec<EndOf>,
    pub invariants: InvariantChecker,
    /// There are no faults, and no limit is low.
    pub calm: bool,
    pub injected: Option<InjectedBug>,
    tasks: BTreeMap<(Instant, u64), Task>,
    serial: u64,
    /// When the last fault ends.
    over: Instant,
    /// When all programs close.
    curfew: Instant,
}

impl World {
    pub fn new(seed: u64, injected: Option<InjectedBug>) -> Self {
        let mut random = Random::new(seed ^ 0x7369_6d75_6c61_7465);
        let calm = random.once_in(3);
        let mut net = Network::new(seed);
        let count = 2 + random.below(3) as usize;
        let hosts: Vec<Host> = (0..count)
            .map(|n| {
                let config = settings::config(n, calm, &mut random);
                let id = net.add_host(&format!("host{n}"), config.clone());
                let (life, suspended) = (0, Instant::ZERO);
                Host { id, config, life, suspended, listeners: Vec::new(), udp: UdpTraffic::default() }
            })
            .collect();
        for a in 0..count {
            for b in a..count {
                let plan = settings::plan(random.draw(), &mut random);
                net.join(hosts[a].id, hosts[b].id, plan);
            }
        }
        let mut world = Self {
            net,
            random,
            hosts,
            applications: Vec::new(),
            ends: Vec::new(),
            invariants: InvariantChecker::new(count),
            calm,
            injected,
            tasks: BTreeMap::new(),
            serial: 0,
            over: Instant::ZERO,
            curfew: Instant::ZERO,
        };
        world.plan();
        world
    }

    /// Draws the schedule.
    fn plan(&mut self) {
        let hosts = self.hosts.len();
        (0..hosts).for_each(|host| self.listen(host));
        let mut over = Instant::ZERO;
        let max = if self.random.once_in(12) { 30 } else { 6 };
        for _ in 0..1 + self.random.below(max) {
            let at = Instant::from_millis(self.random.below(20_000));
            let opening = match self.random.below(12) {
                0 => Opening::Refused,
                1 => Opening::Simultaneous,
                2 => Opening::Oneself,
                3..6 => Opening::SamePort,
                _ => Opening::Plain,
            };
            self.task(at, Task::Open(opening));
        }
        for _ in 0..self.random.below(8) {
            let at = Instant::from_millis(self.random.below(60_000));
            let host = self.random.below(hosts as u64) as usize;
            self.task(at, Task::Write(host));
        }
        if !self.calm {
            let (faults, all_over) = fault::schedule(hosts as u64, &mut self.random);
            over = all_over;
            faults.into_iter().for_each(|(at, fault)| self.plan_fault(at, fault));
        }
        let time = if self.calm { 3000 } else { [30, 120, 600][self.random.below(3) as usize] };
        self.over = over;
        self.curfew = over + Duration::from_secs(time);
    }

    fn task(&mut self, at: Instant, task: Task) {
        self.serial += 1;
        self.tasks.insert((at, self.serial), task);
    }

    pub fn plan_fault(&mut self, at: Instant, fault: Fault) {
        self.task(at, Task::Strike(fault));
    }

    /// Runs everything, to the last timer. `false`: an invariant is violated.
    pub fn run(&mut self) -> bool {
        while let Some(at) = self.next_action() {
            match self.net.next() {
                Some(next) if next <= at => drop(self.net.step()),
                _ => {
                    self.net.run_until(at);
                    self.act(at);
                }
            }
            if !self.look() {
                return false;
            }
        }
        self.net.run_until(self.curfew);
        self.check_for_missed_notifications();
        self.look_for_the_fooled();
        self.leave();
        let end = self.net.now() + AFTERWARDS;
        while self.invariants.is_ok() && self.net.next().is_some_and(|at| at <= end) {
            self.net.step();
            self.look();
        }
        if self.invariants.is_ok() && self.net.next().is_some() {
            self.invariants
                .report_violation("a timer runs although all connections ended long ago".to_owned());
        }
        self.invariants.is_ok()
    }

    /// When programs or tasks act next. `None`: nothing happens before all programs close.
    fn next_action(&self) -> Option<Instant> {
        let working = self.applications.iter().filter(|app| app.is_active());
        let programs = working.filter_map(|app| Some(app.next?.max(self.hosts[app.host].suspended)));
        let tasks = self.tasks.keys().map(|(at, _)| *at);
        let first = programs.chain(tasks.take(1)).min();
        let next = first.into_iter().chain(self.net.next()).min()?;
        (next <= self.curfew).then(|| first.unwrap_or(self.curfew).max(self.net.now()))
    }

    /// Runs the programs and tasks that are due.
    fn act(&mut self, now: Instant) {
        while let Some(entry) = self.tasks.first_entry()
            && entry.key().0 <= now
        {
            let task = entry.remove();
            self.perform(task, now);
        }
        for index in 0..self.applications.len() {
            let app = &mut self.applications[index];
            let host = &self.hosts[app.host];
            if app.is_active() && host.suspended <= now && app.next.is_some_and(|at| at <= now) {
                let random = &mut self.random;
                self.net.call(host.id, |stack| app.act(stack, now, random));
            }
        }
    }

    fn perform(&mut self, task: Task, now: Instant) {
        let host = match task {
            Task::Open(_) => None,
            Task::Strike(fault) => fault.host(),
            Task::Listen(host) | Task::Accept(host, _) | Task::Write(host) => Some(host),
        };
        if let Some(awake) = host.map(|host| self.hosts[host].suspended).filter(|at| *at > now) {
            return self.task(awake, task);
        }
        match task {
            Task::Open(opening) => self.open(opening, now),
            Task::Strike(fault) => fault.strike(self),
            Task::Listen(host) => self.listen(host),
            Task::Accept(host, listener) => self.accept(host, listener, now),
            Task::Write(host) => self.write(host),
        }
    }

    fn write(&mut self, host: usize) {
        let to = self.random.below(self.hosts.len() as u64) as usize;
        let (random, net) = (&mut self.random, &mut self.net);
        let Host { id, udp, .. } = &mut self.hosts[host];
        net.call(*id, |stack| udp.send(stack, to, random));
    }

    fn listen(&mut self, host: usize) {
        let id = self.hosts[host].id;
        for port in PORTS {
            let any = SocketAddr::from(([0u16; 8], port));
            let backlog = if self.calm { 100 } else { self.random.below(4) as usize };
            if let Ok(listener) = self.net.call(id, |stack| stack.tcp_listen(any, backlog)) {
                self.hosts[host].listeners.push(listener);
                self.task(self.net.now(), Task::Accept(host, listener));
            }
        }
        let udp = &mut self.hosts[host].udp;
        self.net.call(id, |stack| udp.open(stack));
    }

    fn open(&mut self, opening: Opening, now: Instant) {
        let hosts = self.hosts.len() as u64;
        let from = self.random.below(hosts) as usize;
        let to = (from + 1 + self.random.below(hosts - 1) as usize) % hosts as usize;
        let family = self.random.below(2) as usize;
        let own = |port| SocketAddr::new(settings::addresses(from)[family], port);
        let other = |port| SocketAddr::new(settings::addresses(to)[family], port);
        let port = PORTS[self.random.below(2) as usize];
        let common = 5_000 + self.random.below(2) as u16;
        match opening {
            Opening::Plain => self.connect(from, None, other(port), now),
            Opening::SamePort => self.connect(from, Some(own(common)), other(PORTS[0]), now),
            Opening::Refused => self.connect(from, None, other(CLOSED), now),
            Opening::Simultaneous => {
                self.connect(from, Some(own(common)), other(common), now);
                self.connect(to, Some(other(common)), own(common), now);
            }
            // If refused at once, it connects to another.
            Opening::Oneself => {
                self.connect(from, Some(own(common)), own(common), now);
                self.connect(from, Some(own(common)), other(port), now);
            }
        }
    }

    fn connect(&mut self, host: usize, local: Option<SocketAddr>, remote: SocketAddr, now: Instant) {
        if self.hosts[host].suspended > now {
            return;
        }
        let id = self.hosts[host].id;
        // An address in use is not a violation: several programs may draw the same.
        let Ok(conn) = self.net.call(id, |stack| stack.tcp_connect(local, remote)) else { return };
        self.take(host, conn, now);
    }

    /// A program takes over a connection.
    fn take(&mut self, host: usize, conn: ConnId, now: Instant) {
        let Host { id, life, .. } = self.hosts[host];
        let number = self.applications.len() as u64 + 1;
        let random = &mut self.random;
        let app = self.net.call(id, |stack| {
            let flow = flow_of(stack, conn);
            let mut app = Application::new((host, life), (conn, flow), number, now, random);
            app.set_out(stack);
            app
        });
        self.applications.push(app);
    }

    fn accept(&mut self, host: usize, listener: ListenerId, now: Instant) {
        let id = self.hosts[host].id;
        if !self.hosts[host].listeners.contains(&listener) {
            return;
        }
        if let Some(conn) = self.net.call(id, |stack| stack.tcp_accept(listener)) {
            self.take(host, conn, now);
            let pause = if self.random.once_in(3) { self.random.below(3_000) } else { 0 };
            self.task(now + Duration::from_millis(pause), Task::Accept(host, listener));
        }
    }

    /// After each step: handles events, and checks the invariants.
    fn look(&mut self) -> bool {
        let now = self.net.now();
        for host in 0..self.hosts.len() {
            let Host { id, life, .. } = self.hosts[host];
            while let Some(event) = self.net.poll_event(id) {
                self.tell(host, life, event, now);
            }
        }
        if let Some(mut injected) = self.injected.take() {
            injected.strike(self);
            self.injected = Some(injected);
        }
        self.invariants.look(&mut self.net);
        self.invariants.is_ok()
    }

    fn tell(&mut self, host: usize, life: usize, event: Event, now: Instant) {
        let delay = if self.random.once_in(2) { 0 } else { self.random.below(3_000) };
        let soon = now + Duration::from_micros(delay);
        match event {
            Event::Incoming(listener) => self.task(soon, Task::Accept(host, listener)),
            Event::Connected(id) | Event::Readable(id) | Event::Writable(id) => {
                let whose = |app: &&mut Application| (app.host, app.life, app.id) == (host, life, id);
                let apps = &mut self.applications;
                if let Some(app) = apps.iter_mut().find(whose).filter(|app| app.is_active()) {
                    app.wake(soon);
                }
            }
            Event::Ended(ended) => self.ends.push(EndOf { host, life, ended }),
            Event::UdpReadable(_) | Event::EchoReply => {
                let Host { id, udp, .. } = &mut self.hosts[host];
                let answer = self.net.call(*id, |stack| udp.receive(stack));
                if let Err(violation) = answer
                    && !self.may_be_chance(host)
                {
                    self.invariants.report_violation(violation);
                }
            }
            _ => {}
        }
    }

    /// Two fragments were damaged recently: a 16-bit checksum detects all damage only if it is in one byte.
    fn may_be_chance(&self, host: usize) -> bool {
        let since = Instant::from_nanos(self.net.now().as_nanos().saturating_sub(60_000_000_000));
        let damaged = |record: &&PacketRecord| {
            let of_late = matches!(record.fate, Fate::Delivered { at, .. } if at >= since);
            of_late && record.kind == PacketKind::Damaged && record.to == Some(self.hosts[host].id)
        };
        self.net.trace().packets.iter().filter(damaged).count() > 1
    }

    fn on_host(&mut self, host: usize) -> impl Iterator<Item = &mut Application> {
        self.applications.iter_mut().filter(move |app| app.host == host && app.is_active())
    }

    /// All programs of a host die: all their sockets are closed.
    pub fn drop_programs(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let (net, apps) = (&mut self.net, &mut self.applications);
        for app in apps.iter_mut().filter(|app| app.host == host && app.is_active()) {
            net.call(id, |stack| app.drop(stack));
        }
        for listener in std::mem::take(&mut self.hosts[host].listeners) {
            self.net.call(id, |stack| stack.tcp_unlisten(listener));
        }
        let udp = &mut self.hosts[host].udp;
        self.net.call(id, |stack| udp.close(stack));
    }

    /// The settings of a host have changed, of which programs are not notified.
    pub fn look_again(&mut self, host: usize) {
        let now = self.net.now();
        self.on_host(host).for_each(|app| app.wake(now));
    }

    pub fn reboot(&mut self, host: usize) {
        self.look();
        let id = self.hosts[host].id;
        let (net, apps) = (&mut self.net, &mut self.applications);
        let (life, now) = (self.hosts[host].life, net.now());
        for app in apps.iter_mut().filter(|app| (app.host, app.life) == (host, life)) {
            if app.is_active() {
                app.note_numbers(net.stack(id));
            }
            app.vanished.get_or_insert(now);
        }
        self.hosts[host].listeners.clear();
        self.hosts[host].udp.lose();
        self.hosts[host].life += 1;
        self.net.reboot(id);
        self.invariants.forget(&settings::addresses(host));
    }

    /// The programs of a host restart soon.
    pub fn come_back(&mut self, host: usize, now: Instant) {
        let pause = self.random.below(15_000);
        self.task(now + Duration::from_millis(pause), Task::Listen(host));
    }

    pub fn suspend(&mut self, host: usize, until: Instant) {
        self.hosts[host].suspended = until;
        self.net.suspend(self.hosts[host].id, until);
    }

    pub fn cut(&mut self, a: usize, b: usize, word: Option<RouterReply>) {
        self.net.set_route(self.hosts[a].id, self.hosts[b].id, word);
    }

    pub fn change_path(&mut self, a: usize, b: usize) {
        let plan = settings::plan(self.random.draw(), &mut self.random);
        let [a, b] = [a, b].map(|host| self.hosts[host].id);
        self.net.set_plan(a, b, plan);
        self.net.set_plan(b, a, plan);
    }

    /// An administrator ends a connection of a program, or a listener.
    pub fn kill(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let flows: Vec<_> = self.on_host(host).map(|app| app.flow).collect();
        match self.random.below(flows.len() as u64 + 1) as usize {
            0 => {
                let any = SocketAddr::from(([0u16; 8], PORTS[0]));
                let _there = self.net.call(id, |stack| stack.tcp_kill_listener(any));
            }
            at => {
                let _there = self.net.call(id, |stack| stack.tcp_kill(&flows[at - 1]));
            }
        }
    }

    /// No program may have missed a notification when all programs close.
    fn check_for_missed_notifications(&mut self) {
        let now = self.net.now();
        for app in &self.applications {
            let host = &self.hosts[app.host];
            if host.suspended <= now
                && let Some(what) = app.waits_without_success(self.net.stack(host.id))
            {
                self.invariants.report_violation(format!("no reader reports {what}: {app:?}"));
            }
        }
        for host in 0..self.hosts.len() {
            for listener in self.hosts[host].listeners.clone() {
                let asked = |task: &Task| matches!(task, Task::Accept(_, other) if *other == listener);
                let waiting = self.net.stack(self.hosts[host].id).tcp_waiting(listener);
                if waiting > 0 && !self.tasks.values().any(asked) {
                    self.invariants
                        .report_violation(format!("no reader reports {waiting} at a listener of host{host}"));
                }
            }
        }
    }

    /// Keep-alive must have detected every peer that is gone.
    fn look_for_the_fooled(&mut self) {
        let now = self.net.now();
        for app in self.applications.iter().filter(|app| app.is_active()) {
            let host = &self.hosts[app.host];
            if let Some(gone) = self.peer_gone(app)
                && host.suspended <= now
                && app.is_fooled(self.net.stack(host.id), now, gone, self.over)
            {
                self.invariants
                    .report_violation(format!("half-open since {gone:?} and not detected: {app:?}"));
            }
        }
    }

    /// Since when the peer has no state for this connection.
    fn peer_gone(&self, app: &Application) -> Option<Instant> {
        let flow = FourTuple { local: app.flow.remote, remote: app.flow.local };
        let mut vanished = self.applications.iter().filter(|other| other.flow == flow);
        let vanished = vanished.find(|other| verdict::mirrored(app.numbers, other.numbers));
        let mut ended = self.ends.iter().map(|end| &end.ended).filter(|ended| ended.flow == flow);
        let ended = ended.find(|ended| verdict::mirrored(app.numbers, ended.numbers));
        vanished.and_then(|other| other.vanished).or(ended.map(|ended| ended.end.at))
    }

    /// All programs close.
    fn leave(&mut self) {
        self.tasks.clear();
        let (kept, now) = (matches!(self.injected, Some(InjectedBug::KeepOne)), self.net.now());
        for host in 0..self.hosts.len() {
            if let Some(app) = self.on_host(host).next().filter(|_| kept) {
                app.vanished = Some(now);
            }
            self.drop_programs(host);
        }
        self.look();
    }
}

fn flow_of(stack: &mut Stack, id: ConnId) -> FourTuple {
    let tcp = stack.tcp(id).expect("it was made or accepted now");
    FourTuple { local: tcp.local(), remote: tcp.remote() }
}
