//! Plays a script with two stacks in virtual time.

use super::application::Application;
use super::script::{Call, Outcome, Script, Side, Step};
use super::{Setup, forge};
use crate::net::Network;
use crate::trace::{HostId, Trace};
use lastack_engine::Config;
use lastack_link::Plan;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest that a call may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the hosts are watched after the last step: longer than TIME-WAIT.
const AFTERMATH: Duration = Duration::from_secs(150);

/// Plays `script` to its end, or to the first step whose outcome is not as stated: then says which.
pub(super) fn play(script: &Script, setup: &Setup) -> (Trace, Result<(), String>) {
    let mut player = Player::new(script, setup);
    let result = script.steps.iter().try_for_each(|step| player.step(step));
    player.net.run_until_idle(player.net.now() + AFTERMATH);
    (player.net.into_trace(), result)
}

struct Player<'a> {
    setup: &'a Setup,
    net: Network,
    hosts: [HostId; 2],
    apps: [Application; 2],
    /// The calls that were not waited for.
    begun: BTreeMap<(Side, usize), Call>,
}

impl<'a> Player<'a> {
    fn new(script: &Script, setup: &'a Setup) -> Self {
        let mut net = Network::new(setup.seed);
        let hosts = Side::BOTH.map(|side| {
            let address = setup.addresses[side.index()];
            net.add_host(script.names[side.index()], Config::new([address]))
        });
        net.join(hosts[0], hosts[1], Plan { delay: setup.latency, ..Plan::default() });
        hosts.iter().for_each(|host| net.watch(*host));
        let [a, b] = setup.addresses;
        let apps = [Application::new(a, b), Application::new(b, a)];
        Self { setup, net, hosts, apps, begun: BTreeMap::new() }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let [a, b] = self.hosts;
        match *step {
            Step::Call { side, socket, call, outcome } => return self.call(side, socket, call, outcome),
            Step::Join { side, socket, outcome } => match self.begun.remove(&(side, socket)) {
                Some(call) => return self.wait_for(side, socket, call, outcome),
                None => return Err(format!("the script waits for a call at {side} that was never made")),
            },
            Step::Wait(time) => self.net.run_for(time),
            Step::Restart => {
                self.apps[Side::A.index()].forget();
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

    fn call(&mut self, side: Side, socket: usize, call: Call, stated: Option<Outcome>) -> Result<(), String> {
        let (host, app) = (self.hosts[side.index()], &mut self.apps[side.index()]);
        if let Some(asked) = Application::asks(call) {
            self.net.say(host, asked);
        }
        let found = app.begin(self.net.stack(host), socket, call);
        if let Some(outcome) = found {
            self.net.say(host, call.said(outcome));
        }
        self.net.flush(host);
        match (found, stated) {
            (Some(found), Some(stated)) => call.verify(side, found, stated),
            (None, Some(stated)) => self.wait_for(side, socket, call, stated),
            (_, None) => {
                self.begun.insert((side, socket), call);
                Ok(())
            }
        }
    }

    fn wait_for(&mut self, side: Side, socket: usize, call: Call, stated: Outcome) -> Result<(), String> {
        let host = self.hosts[side.index()];
        let limit = self.net.now() + PATIENCE;
        loop {
            let found = self.apps[side.index()].poll(self.net.stack(host), socket, call);
            if let Some(outcome) = found {
                self.net.say(host, call.said(outcome));
            }
            self.net.flush(host);
            match found {
                Some(found) => return call.verify(side, found, stated),
                None if self.net.next().is_none_or(|at| at > limit) => {
                    return Err(format!("{side}: {} does not return; stated is: {stated}", call.name()));
                }
                None => self.net.step(),
            };
        }
    }
}
