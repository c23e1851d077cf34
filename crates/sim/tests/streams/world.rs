//! Two hosts, the path between them, and the applications on them.

use crate::application::Application;
use lastack_engine::{Config, Event, FourTuple, Instant, ListenerId};
use lastack_link::Plan;
use lastack_sim::{HostId, Network, Random};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 1935;
/// The local port of the first connection of a host.
const FIRST: u16 = 10_000;
/// No application works longer.
const DAY: Instant = Instant::from_millis(24 * 3600 * 1000);

pub struct World {
    pub seed: u64,
    pub net: Network,
    pub hosts: [HostId; 2],
    pub addresses: [IpAddr; 2],
    pub plan: Plan,
    /// By the flow as its host sees it.
    pub applications: BTreeMap<FourTuple, Application>,
    listeners: [ListenerId; 2],
    /// When the next connections are opened, and by which host.
    openings: Vec<(Instant, usize)>,
    random: Random,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6c61_7374_6163_6b00);
        let mut net = Network::new(seed);
        let v6 = random.once_in(2);
        let addresses = [1, 2].map(|host| match v6 {
            true => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]),
            false => IpAddr::from([192, 0, 2, host as u8]),
        });
        let hosts = addresses.map(|address| net.add_host(&address.to_string(), config(address, &mut random)));
        let plan = plan(seed, &mut random);
        net.join(hosts[0], hosts[1], plan);
        let listeners = [0, 1].map(|side| {
            let local = SocketAddr::new(addresses[side], PORT);
            net.call(hosts[side], |stack| stack.tcp_listen(local, 8)).expect("the port is free")
        });
        let count = 1 + random.below(3);
        let openings =
            (0..count).map(|_| (Instant::from_millis(random.below(300)), random.below(2) as usize)).collect();
        let applications = BTreeMap::new();
        Self { seed, net, hosts, addresses, plan, applications, listeners, openings, random }
    }

    /// Lets everything happen, to the last timer.
    pub fn run(&mut self) {
        while let Some(at) = self.next_action() {
            assert!(at < DAY, "an application never finishes: {:?}", self.applications);
            self.net.run_until(at);
            self.open_due();
            self.accept();
            self.act();
        }
        // A connection that is not accepted stays in the queue of its listener, until that closes (S90).
        for side in [0, 1] {
            let listener = self.listeners[side];
            self.net.call(self.hosts[side], |stack| stack.tcp_unlisten(listener));
        }
        assert!(self.net.run_until_idle(DAY), "a timer runs for ever");
    }

    /// The next time at which an application does something, or may have a connection to accept.
    fn next_action(&self) -> Option<Instant> {
        let working = self.applications.values().filter(|app| !app.closed).map(|app| app.next);
        let opening = self.openings.iter().map(|(at, _)| *at);
        let step = self.net.now() + Duration::from_millis(5);
        // While packets move, a connection may come to be accepted.
        let waiting = (self.net.now() < Instant::from_millis(200_000)).then_some(step);
        let arriving = self.net.next().and(waiting);
        working.chain(opening).chain(arriving).min().map(|at| at.max(self.net.now()))
    }

    fn open_due(&mut self) {
        let now = self.net.now();
        for (_, side) in self.openings.extract_if(.., |(at, _)| *at <= now) {
            let number = self.applications.len() as u64;
            let local = SocketAddr::new(self.addresses[side], FIRST + number as u16);
            let remote = SocketAddr::new(self.addresses[1 - side], PORT);
            let host = self.hosts[side];
            let id = self.net.call(host, |stack| stack.tcp_connect(Some(local), remote));
            let id = id.expect("the port is free");
            let app = Application::new(host, id, u64::from(local.port()), true, &mut self.random);
            self.net.call(host, |stack| app.keep_alive(stack));
            self.applications.insert(FourTuple { local, remote }, app);
        }
    }

    fn accept(&mut self) {
        for side in [0, 1] {
            let (host, listener) = (self.hosts[side], self.listeners[side]);
            while let Some(id) = self.net.call(host, |stack| stack.tcp_accept(listener)) {
                let flow = self.net.call(host, |stack| {
                    let tcp = stack.tcp(id).expect("it was accepted now");
                    FourTuple { local: tcp.local(), remote: tcp.remote() }
                });
                let number = u64::from(flow.remote.port());
                let app = Application::new(host, id, number, false, &mut self.random);
                self.net.call(host, |stack| app.keep_alive(stack));
                assert!(self.applications.insert(flow, app).is_none(), "{flow} is accepted twice");
            }
            while let Some(event) = self.net.poll_event(host) {
                // The applications look by themselves; the ends stand in the trace.
                assert!(!matches!(event, Event::Intercepted(_)), "{event:?}");
            }
        }
    }

    fn act(&mut self) {
        let now = self.net.now();
        for app in self.applications.values_mut().filter(|app| !app.closed && app.next <= now) {
            self.net.call(app.host, |stack| app.act(stack, now, &mut self.random));
        }
    }

    /// A log, to be read when one seed is played.
    pub fn summary(&self) -> String {
        let mut lines = vec![format!("seed {}: {:?}", self.seed, self.plan)];
        for (flow, app) in &self.applications {
            lines.push(format!("{flow}: {app:?}"));
        }
        for host in self.hosts {
            lines.extend(self.net.trace().ends(host).map(|ended| format!("{}: {}", ended.flow, ended.end)));
        }
        lines.push(format!("{} packets", self.net.trace().packets.len()));
        lines.join("\n")
    }
}

fn config(address: IpAddr, random: &mut Random) -> Config {
    let mut config = Config::new([address]);
    let min = if address.is_ipv6() { 1280 } else { 576 };
    config.mtu = if random.once_in(2) { 1500 } else { min + random.below(3000) as usize };
    config.max_packet = config.mtu;
    config.tcp.timestamps = !random.once_in(4);
    config.tcp.sack = !random.once_in(4);
    config.tcp.window_scaling = !random.once_in(4);
    config.tcp.nodelay = random.once_in(3);
    config.tcp.pacing = random.once_in(3);
    if random.once_in(2) {
        config.tcp.send_buffer = 1 + random.below(30_000) as usize;
        config.tcp.receive_buffer = 2_000 + random.below(70_000) as usize;
    }
    config
}

fn plan(seed: u64, random: &mut Random) -> Plan {
    let mut up_to = |max: f64| if random.once_in(3) { 0.0 } else { random.below(1000) as f64 / 1000.0 * max };
    Plan {
        seed,
        loss: up_to(0.10),
        duplicate: up_to(0.10),
        reorder: up_to(0.20),
        corrupt: up_to(0.05),
        delay: Duration::from_micros((up_to(1.0) * 60_000.0) as u64),
        jitter: Duration::from_micros((up_to(1.0) * 20_000.0) as u64),
        reorder_by: Duration::from_millis(30),
        ..Plan::default()
    }
}
