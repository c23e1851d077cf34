//! Plays a script: A runs this stack, B is played by a [`Counterpart`].

use super::application::Application;
use super::script::{Call, Outcome, Script, Side, Step};
use super::{Setup, forge};
use lastack_engine::{Config, Instant};
use lastack_link::Plan;
use lastack_sim::Network;
use lastack_sim::trace::{HostId, Trace};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The max duration of a call.
const PATIENCE: Duration = Duration::from_secs(600);

/// The implementation of the host on the right side, and of the passing of time.
///
/// The errors are those of the player, not of the played script: they end the run.
pub trait Counterpart {
    /// Adds the host to the network.
    fn enter(&mut self, net: &mut Network, name: &str, addresses: [IpAddr; 2]) -> HostId;

    /// Starts a call; `None`: it is pending, and [`poll`](Self::poll) reports when it returns.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    fn begin(&mut self, net: &mut Network, job: Job) -> Result<Option<Outcome>, String>;

    /// The outcome of a call, once it has returned.
    ///
    /// # Errors
    ///
    /// The outcome is lost.
    fn poll(&mut self, net: &mut Network, job: Job) -> Result<Option<Outcome>, String>;

    /// Processes the next event; `false`: there was none until `limit`, and that has come.
    ///
    /// # Errors
    ///
    /// The network is broken.
    fn pass(&mut self, net: &mut Network, limit: Instant) -> Result<bool, String>;
}

/// A call of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The index of the step that makes it.
    pub step: usize,
    /// The socket that it is made on, or creates.
    pub socket: usize,
    /// The call.
    pub call: Call,
}

/// Plays `script` to its end, or to the first step whose outcome is not as expected; then reports the difference.
pub(super) fn play(
    script: &Script,
    setup: &Setup,
    other: &mut impl Counterpart,
) -> (Trace, Result<(), String>) {
    let mut player = Player::new(script, setup, other);
    let result = script.steps.iter().enumerate().try_for_each(|(nth, step)| player.step(nth, step));
    let result = result.and_then(|()| player.wait(setup.aftermath));
    (player.net.into_trace(), result)
}

struct Player<'a, C> {
    setup: &'a Setup,
    net: Network,
    hosts: [HostId; 2],
    own: Application,
    other: &'a mut C,
    /// The calls that the script does not wait for.
    begun: BTreeMap<(Side, usize), Job>,
}

impl<'a, C: Counterpart> Player<'a, C> {
    fn new(script: &Script, setup: &'a Setup, other: &'a mut C) -> Self {
        let mut net = Network::new(setup.seed);
        let [a, b] = setup.addresses;
        let mut config = Config::new([a]);
        config.tcp.time_wait = setup.time_wait;
        let host = net.add_host(script.names[0], config);
        net.watch(host);
        let hosts = [host, other.enter(&mut net, script.names[1], [b, a])];
        net.join(hosts[0], hosts[1], Plan { delay: setup.latency, ..Plan::default() });
        Self { setup, net, hosts, own: Application::new(a, b), other, begun: BTreeMap::new() }
    }

    fn step(&mut self, nth: usize, step: &Step) -> Result<(), String> {
        let [a, b] = self.hosts;
        match *step {
            Step::Call { side, socket, call, outcome } => {
                return self.call(side, Job { step: nth, socket, call }, outcome);
            }
            Step::Join { side, socket, outcome } => match self.begun.remove(&(side, socket)) {
                Some(job) => return self.wait_for(side, job, outcome),
                None => return Err(format!("the script waits for a call at {side} that was never made")),
            },
            Step::Wait(time) => return self.wait(time),
            Step::Restart => {
                self.own.forget();
                self.begun.retain(|(side, _), _| *side != Side::A);
                self.net.reboot(a);
            }
            Step::Cut => self.net.set_cut(a, b, true),
            Step::Mend => self.net.set_cut(a, b, false),
            Step::ForgeReset { offset } => {
                let packet = forge::reset(self.net.trace(), self.setup.addresses, offset)?;
                self.net.forge(a, packet);
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let end = self.net.now() + time;
        while self.other.pass(&mut self.net, end)? {}
        Ok(())
    }

    fn call(&mut self, side: Side, job: Job, stated: Option<Outcome>) -> Result<(), String> {
        let host = self.hosts[side.index()];
        if let Some(asked) = job.call.asked() {
            self.net.say(host, asked);
        }
        let found = match side {
            Side::A => self.own.begin(self.net.stack(host), job.socket, job.call),
            Side::B => self.other.begin(&mut self.net, job)?,
        };
        self.log_outcome(host, job.call, found);
        match (found, stated) {
            (Some(found), Some(stated)) => job.call.verify(side, found, stated),
            (None, Some(stated)) => self.wait_for(side, job, stated),
            (_, None) => {
                self.begun.insert((side, job.socket), job);
                Ok(())
            }
        }
    }

    fn wait_for(&mut self, side: Side, job: Job, stated: Outcome) -> Result<(), String> {
        let host = self.hosts[side.index()];
        let limit = self.net.now() + PATIENCE;
        loop {
            let found = match side {
                Side::A => self.own.poll(self.net.stack(host), job.socket, job.call),
                Side::B => self.other.poll(&mut self.net, job)?,
            };
            self.log_outcome(host, job.call, found);
            match found {
                Some(found) => return job.call.verify(side, found, stated),
                None if self.other.pass(&mut self.net, limit)? => {}
                None => {
                    return Err(format!("{side}: {} does not return, expected {stated}", job.call.name()));
                }
            }
        }
    }

    /// Logs the outcome of a call, and then the packets that the stack sends for it.
    fn log_outcome(&mut self, host: HostId, call: Call, found: Option<Outcome>) {
        if let Some(outcome) = found {
            self.net.say(host, call.said(outcome));
        }
        self.net.flush(host);
    }
}

/// The other host also runs this stack, and time is virtual.
#[derive(Debug, Default)]
pub(super) struct Virtual {
    played: Option<(HostId, Application)>,
}

impl Virtual {
    fn played(&mut self) -> Result<&mut (HostId, Application), String> {
        self.played.as_mut().ok_or_else(|| "no scenario is running".to_owned())
    }
}

impl Counterpart for Virtual {
    fn enter(&mut self, net: &mut Network, name: &str, [own, other]: [IpAddr; 2]) -> HostId {
        let host = net.add_host(name, Config::new([own]));
        net.watch(host);
        self.played = Some((host, Application::new(own, other)));
        host
    }

    fn begin(&mut self, net: &mut Network, job: Job) -> Result<Option<Outcome>, String> {
        let (host, app) = self.played()?;
        Ok(app.begin(net.stack(*host), job.socket, job.call))
    }

    fn poll(&mut self, net: &mut Network, job: Job) -> Result<Option<Outcome>, String> {
        let (host, app) = self.played()?;
        Ok(app.poll(net.stack(*host), job.socket, job.call))
    }

    fn pass(&mut self, net: &mut Network, limit: Instant) -> Result<bool, String> {
        if net.next().is_some_and(|at| at <= limit) {
            return Ok(net.step());
        }
        net.run_until(limit);
        Ok(false)
    }
}
