//! Plays a script: event after event, in virtual time.

mod outbound;
mod pending;
mod report;

pub use report::{Report, Verdict};

use super::assertions::{Failure, Variables};
use super::calls::Operation;
use super::error::{Kind, Problem};
use super::host::{Host, Passed};
use super::packets;
use super::parser::parse;
use super::setup::{Settings, Setup};
use super::syntax::{Action, Body, Event, Packet, Script, TcpOption, Time, Udp};
use super::translate::Echoes;
use super::{icmp_names, sysctl};
use lastack_engine::{FourTuple, Instant};
use lastack_wire::tcp::TcpFlags;
use pending::Pending;
use std::net::SocketAddr;
use std::time::Duration;

/// Reads a script and does not run it.
pub fn check(source: &str, settings: &Settings) -> Report {
    let parsed = parse(source, &settings.definitions()).and_then(|script| Setup::of(&script, settings));
    Report::new(parsed.map(|_| ()), Vec::new(), Vec::new())
}

/// Runs a script.
pub fn run(source: &str, settings: &Settings) -> Report {
    let prepared = parse(source, &settings.definitions())
        .and_then(|script| Setup::of(&script, settings).map(|setup| (script, setup)));
    match prepared {
        Ok((script, setup)) => {
            let mut runner = Runner::new(Host::new(setup), source);
            let result = runner.play(&script);
            Report::new(result, runner.log, runner.host.passed)
        }
        Err(problem) => Report::new(Err(problem), Vec::new(), Vec::new()),
    }
}

/// When an event happens, counted from the start.
#[derive(Clone, Copy, Debug)]
struct Nominal {
    from: Duration,
    to: Duration,
    /// At no time in particular.
    any: bool,
}

struct Runner<'a> {
    source: &'a str,
    host: Host,
    pending: Option<Pending>,
    variables: Variables,
    /// When the event before should have happened, and whether it was a packet of the peer.
    before: Duration,
    after_inbound: bool,
    log: Vec<String>,
}

impl<'a> Runner<'a> {
    fn new(host: Host, source: &'a str) -> Self {
        Self {
            source,
            host,
            pending: None,
            variables: Variables::default(),
            before: Duration::ZERO,
            after_inbound: false,
            log: Vec::new(),
        }
    }

    fn play(&mut self, script: &Script) -> Result<(), Problem> {
        script.events.iter().try_for_each(refuse_foreign)?;
        if let Some(init) = &script.init {
            sysctl::run(&init.text, &init.span, self.host.stack.tcp_config_mut())?;
        }
        for event in &script.events {
            self.event(event)?;
        }
        self.finish_pending_at_end()
    }

    fn event(&mut self, event: &Event) -> Result<(), Problem> {
        let inbound = matches!(event.action, Action::Inbound(_));
        let base = if inbound && self.after_inbound { self.before } else { self.host.clock.elapsed() };
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
        let place = || event.span.clone();
        match action {
            Action::Inbound(packet) => self.inbound(event, packet),
            Action::Call(call) => self.call(event, call, nominal),
            Action::Command(command) => sysctl::run(command, &place(), self.host.stack.tcp_config_mut()),
            Action::Code(code) => self.code(event, code),
            Action::Outbound(_) => Ok(()),
        }
    }

    fn code(&mut self, event: &Event, code: &str) -> Result<(), Problem> {
        let place = event.span.clone();
        let snapshot = self.host.snapshot(&mut self.variables);
        snapshot.map_err(|message| Problem::mismatch(place.clone(), message))?;
        self.variables.run(code).map_err(|failure| match failure {
            Failure::False { test, values } => {
                let problem = Problem::mismatch(place, format!("this does not hold: {test}"));
                if values.is_empty() { problem } else { problem.note(values.join(", ")) }
            }
            Failure::Unknown(name) => {
                Problem::unsupported(place, format!("{name} is not told by this stack"))
            }
            Failure::Foreign(text) => {
                Problem::unsupported(place, format!("this code is not understood: {text}"))
            }
        })
    }

    /// The peer sends a packet.
    fn inbound(&mut self, event: &Event, packet: &Packet) -> Result<(), Problem> {
        let bytes = match &packet.body {
            Body::Tcp(segment) => {
                let echoes = Echoes { scaled: self.host.setup.scaled_echoes };
                let record = self.host.record_for(segment);
                let live = record.inbound(segment, echoes);
                let flow = record.flow;
                let live = live.map_err(|message| Problem::mismatch(event.span.clone(), message))?;
                packets::write_segment(&packet.ip, &live, &flow.unwrap_or_else(|| self.nobody()))
            }
            Body::Udp(udp) => self.datagram(packet, udp),
            Body::Icmp(message) => {
                let v6 = self.host.setup.v6();
                let error = icmp_names::error(v6, message);
                let error = error.map_err(|message| Problem::unsupported(event.span.clone(), message))?;
                let nobody = self.nobody();
                let (flow, mut message) = match self.host.record() {
                    Some(record) => (record.flow.unwrap_or(nobody), record.quoted(message)),
                    None => (nobody, message.clone()),
                };
                message.ident = None;
                packets::write_icmp(&packet.ip, &message, error, &flow)
            }
        };
        self.say(&format!("< {packet}"));
        self.host.deliver(bytes);
        self.check_pending()
    }

    fn datagram(&mut self, packet: &Packet, udp: &Udp) -> Vec<u8> {
        let nobody = self.nobody();
        let flow = self.host.record().and_then(|record| record.flow).unwrap_or(nobody);
        packets::write_datagram(&packet.ip, udp, &flow)
    }

    /// The ends of what no socket is concerned with.
    fn nobody(&self) -> FourTuple {
        let remote = SocketAddr::new(self.host.setup.remote, self.host.setup.connect_port);
        FourTuple { local: self.host.local(), remote }
    }

    /// How far from its time an event may be.
    fn tolerance(&self, from: Duration, before: Duration) -> Duration {
        let setup = &self.host.setup;
        let part = from.saturating_sub(before).mul_f64(setup.tolerance_percent / 100.0);
        setup.tolerance.max(part)
    }

    /// Lets time pass up to `limit`, or until something was due. `false`: nothing was.
    fn step(&mut self, limit: Instant) -> Result<bool, Problem> {
        let timer = self.host.stack.poll_timeout();
        let call = self.pending.as_ref().and_then(|pending| pending.operation.deadline());
        let next = timer.into_iter().chain(call).min().filter(|at| *at <= limit);
        match next {
            Some(at) => {
                self.host.tick(at);
                self.check_pending()?;
                Ok(true)
            }
            None => {
                self.host.clock = self.host.clock.max(limit);
                Ok(false)
            }
        }
    }

    fn run_until(&mut self, at: Instant) -> Result<(), Problem> {
        while self.step(at)? {}
        Ok(())
    }

    /// Notes a line of what happened.
    fn say(&mut self, what: &str) {
        self.log.push(format!("{:11.6} {what}", self.host.clock.elapsed().as_secs_f64()));
    }
}

/// Refuses packets of extensions that the stack does not have: what it did would say nothing of them.
fn refuse_foreign(event: &Event) -> Result<(), Problem> {
    let (Action::Inbound(packet) | Action::Outbound(packet)) = &event.action else { return Ok(()) };
    let Body::Tcp(segment) = &packet.body else { return Ok(()) };
    let foreign = segment.options.iter().flatten().find_map(|option| match option {
        TcpOption::FastOpen(_) | TcpOption::ExperimentalFastOpen(_) => Some("TCP Fast Open (RFC 7413)"),
        TcpOption::AccurateEcn { .. } => Some("Accurate ECN (RFC 9768)"),
        _ => None,
    });
    let accurate = segment.ace.is_some() || segment.flags.contains(TcpFlags::AE);
    match foreign.or(accurate.then_some("Accurate ECN (RFC 9768)")) {
        Some(what) => {
            Err(Problem::unsupported(event.span.clone(), format!("{what} is not supported by this stack")))
        }
        None => Ok(()),
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

/// The text of a place, on one line.
fn excerpt(source: &str, event: &Event) -> String {
    let text = source.get(event.span.clone()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
