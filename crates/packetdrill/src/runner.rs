//! Plays a script event by event, in virtual time.

mod outbound;
mod pending;
mod report;
mod sockets;

pub use report::{Report, Verdict};

use super::assertions::{self, Failure, Variables};
use super::error::{Kind, Problem};
use super::exchange::{Exchange, Passed};
use super::icmp_names;
use super::lastack::Lastack;
use super::packets;
use super::parser::parse;
use super::setup::{Settings, Setup};
use super::syntax::{Action, Body, DEEPEST, Event, Packet, Script, Time};
use super::system::System;
use super::translate::Echoes;
use super::verify::verify;
use lastack_engine::Instant;
use pending::Pending;
use std::time::Duration;

/// Checks a script without running it.
pub fn check(source: &str, settings: &Settings) -> Report {
    Report::new(prepare(source, settings).map(|_| ()), Vec::new(), Vec::new())
}

fn prepare(source: &str, settings: &Settings) -> Result<(Script, Setup), Problem> {
    let script = parse(source, &settings.definitions())?;
    let setup = Setup::of(&script, settings)?;
    verify(&script, &setup)?;
    Ok((script, setup))
}

/// Runs a script.
pub fn run(source: &str, settings: &Settings) -> Report {
    run_on(source, settings, |setup| Ok(Lastack::new(setup.clone())))
}

/// Runs a script on a system that `open` creates.
pub fn run_on<S: System>(
    source: &str,
    settings: &Settings,
    open: impl FnOnce(&Setup) -> Result<S, Problem>,
) -> Report {
    let prepared = prepare(source, settings)
        .and_then(|(script, setup)| open(&setup).map(|system| (script, setup, system)));
    match prepared {
        Ok((script, setup, system)) => {
            let mut runner = Runner::new(setup, system, source);
            let result = runner.play(&script);
            Report::new(result, runner.log, runner.exchange.passed)
        }
        Err(problem) => Report::new(Err(problem), Vec::new(), Vec::new()),
    }
}

/// When an event happens, counted from the start.
#[derive(Clone, Copy, Debug)]
struct Nominal {
    from: Duration,
    to: Duration,
    /// The event may happen at any time.
    any: bool,
}

struct Runner<'a, S: System> {
    source: &'a str,
    exchange: Exchange,
    system: S,
    pending: Option<Pending<S::Operation>>,
    variables: Variables,
    /// When the previous event should have happened, and whether it was a packet of the peer.
    before: Duration,
    after_inbound: bool,
    log: Vec<String>,
}

impl<'a, S: System> Runner<'a, S> {
    fn new(setup: Setup, system: S, source: &'a str) -> Self {
        Self {
            source,
            exchange: Exchange::new(setup),
            system,
            pending: None,
            variables: Variables::default(),
            before: Duration::ZERO,
            after_inbound: false,
            log: Vec::new(),
        }
    }

    fn play(&mut self, script: &Script) -> Result<(), Problem> {
        if let Some(init) = &script.init {
            self.system.command(&init.text, &init.span)?;
        }
        for event in &script.events {
            self.event(event)?;
        }
        self.finish_pending_at_end()
    }

    fn event(&mut self, event: &Event) -> Result<(), Problem> {
        let inbound = matches!(event.action, Action::Inbound(_));
        let base = if inbound && self.after_inbound { self.before } else { self.now() };
        let nominal = nominal(event.time, base);
        match &event.action {
            Action::Outbound(packet) => self.outbound(event, packet, nominal)?,
            action => {
                self.run_until(Instant::ZERO + nominal.from)?;
                self.act(event, action, nominal)?;
            }
        }
        self.before = nominal.from;
        self.after_inbound = inbound;
        Ok(())
    }

    fn act(&mut self, event: &Event, action: &Action, nominal: Nominal) -> Result<(), Problem> {
        match action {
            Action::Inbound(packet) => self.inbound(event, packet),
            Action::Call(call) => self.call(event, call, nominal),
            Action::Command(command) => self.system.command(command, &event.span),
            Action::Code(code) => self.code(event, code),
            Action::Outbound(_) => Ok(()),
        }
    }

    fn code(&mut self, event: &Event, code: &str) -> Result<(), Problem> {
        let place = event.span.clone();
        let fd = self.exchange.record().and_then(|record| record.fd);
        let found = fd.ok_or_else(|| "the socket under test is not open".to_owned());
        let found = found.and_then(|fd| self.system.snapshot(fd));
        let found = found.map_err(|message| Problem::mismatch(place.clone(), message))?;
        for (name, value) in assertions::CONSTANTS.into_iter().chain(found) {
            self.variables.set(name, value);
        }
        self.variables.run(code).map_err(|failure| match failure {
            Failure::False { test, values } => {
                let problem = Problem::mismatch(place, format!("assertion failed: {test}"));
                if values.is_empty() { problem } else { problem.note(values.join(", ")) }
            }
            Failure::Unknown(name) => {
                Problem::unsupported(place, format!("{name} is not available in this stack"))
            }
            Failure::Deep => Problem::syntax(place, format!("code nested more than {DEEPEST} levels deep")),
            Failure::Foreign(text) => Problem::unsupported(place, format!("cannot parse this code: {text}")),
        })
    }

    /// The peer sends a packet.
    fn inbound(&mut self, event: &Event, packet: &Packet) -> Result<(), Problem> {
        let bytes = match &packet.body {
            Body::Tcp(segment) => {
                let echoes = Echoes { scaled: self.exchange.setup.scaled_echoes };
                let live = self.exchange.record_for(segment).inbound(segment, echoes);
                let live = live.map_err(|message| Problem::mismatch(event.span.clone(), message))?;
                packets::write_segment(&packet.ip, &live, &self.exchange.flow(&mut self.system))
            }
            Body::Udp(udp) => packets::write_datagram(&packet.ip, udp, &self.exchange.flow(&mut self.system)),
            Body::Icmp(message) => {
                let v6 = self.exchange.setup.v6();
                let error = icmp_names::error(v6, message);
                let error = error.map_err(|message| Problem::unsupported(event.span.clone(), message))?;
                let flow = self.exchange.flow(&mut self.system);
                let mut message = match self.exchange.record() {
                    Some(record) => record.quoted(message),
                    None => message.clone(),
                };
                message.ident = None;
                packets::write_icmp(&packet.ip, &message, error, &flow)
            }
        };
        self.say(&format!("< {packet}"));
        self.exchange.deliver(&mut self.system, bytes);
        self.check_pending()
    }

    /// The max deviation of an event from its time.
    fn tolerance(&self, from: Duration, before: Duration) -> Duration {
        let setup = &self.exchange.setup;
        let part = from.saturating_sub(before).mul_f64(setup.tolerance_percent / 100.0);
        setup.tolerance.max(part)
    }

    /// Advances time up to `limit`, or until something happened. `false`: nothing did.
    fn step(&mut self, limit: Instant) -> Result<bool, Problem> {
        let going_on = self.pending.as_ref().map(|pending| &pending.operation);
        let happened = self.system.step(limit, going_on);
        if happened {
            self.check_pending()?;
        }
        Ok(happened)
    }

    fn run_until(&mut self, at: Instant) -> Result<(), Problem> {
        while self.step(at)? {}
        Ok(())
    }

    fn now(&self) -> Duration {
        self.system.now().elapsed()
    }

    /// Adds a line to the log.
    fn say(&mut self, what: &str) {
        self.log.push(format!("{:11.6} {what}", self.now().as_secs_f64()));
    }
}

fn nominal(time: Time, base: Duration) -> Nominal {
    let (from, to, any) = match time {
        Time::At(at) => (at, at, false),
        Time::After(after) => (base + after, base + after, false),
        Time::AtRange(from, to) => (from, to, false),
        Time::AfterRange(from, to) => (base + from, base + to, false),
        Time::Any => (base, base, true),
    };
    Nominal { from, to, any }
}

/// The source text of an event, on one line.
fn excerpt(source: &str, event: &Event) -> String {
    let text = source.get(event.span.clone()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
