//! What a run records about a connection or flow beside its packets, when it begins and when it ends.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use lastack_causes::Cause;
use lastack_wire::icmp::IcmpError;

use crate::flight::SETTLED;
use crate::host::tcp_info;
use crate::inject::{AtSyn, Flow};
use crate::policy::Decision;
use crate::proxy::Destination;
use crate::report::{By, Context, Outcome, Path, Proto, Record};
use crate::run::Run;

/// The verdict of the run's options on datagrams.
#[derive(Clone, Debug)]
pub(crate) enum Screened {
    /// Relayed.
    Passes,
    /// Answered with an ICMP error; if the policy denies them, by this option.
    Answered(Option<String>, IcmpError),
    /// Dropped silently.
    Swallowed,
    /// Relayed after this time.
    Late(std::time::Duration),
}

/// Max flows of datagrams whose verdict is cached.
const MAX_SCREENED: usize = 65_536;

impl Run {
    /// The verdict on datagrams of the program: policy and faults are evaluated once for each flow.
    pub(crate) fn screen(&self, program: SocketAddr, remote: SocketAddr, actual: SocketAddr) -> Screened {
        if self.plan.policy.is_empty() && self.inject.is_empty() {
            return Screened::Passes;
        }
        let flow = Flow::new(Proto::Udp, program, remote);
        if let Some(known) = self.screened.borrow().get(&flow) {
            return known.clone();
        }
        let screened = self.screen_first(flow, actual);
        let mut all = self.screened.borrow_mut();
        if all.len() >= MAX_SCREENED {
            all.clear();
        }
        // What a black hole lets through later is decided packet by packet.
        let first_alone = matches!(screened, Screened::Swallowed | Screened::Late(_));
        let later = if first_alone { Screened::Passes } else { screened.clone() };
        all.insert(flow, later);
        screened
    }

    fn screen_first(&self, flow: Flow, actual: SocketAddr) -> Screened {
        let v6 = flow.remote.is_ipv6();
        let mut context = Context { name: self.name_of(flow.remote.ip()), ..Context::default() };
        if self.is_denied(&mut context, Proto::Udp, flow.remote, Some(actual)) {
            return Screened::Answered(context.denied, IcmpError::admin_prohibited(v6));
        }
        let faults = self.inject.connection(flow, Some(actual.ip()), context.name.as_deref());
        match faults.answer(&self.inject, &flow) {
            None => Screened::Passes,
            Some(AtSyn::Late(until)) => Screened::Late(until.saturating_sub(self.inject.elapsed())),
            Some(answer) => match answer.icmp(v6) {
                Some(error) => Screened::Answered(None, error),
                None => Screened::Swallowed,
            },
        }
    }

    /// Whether the policy denies a ping; counts it.
    pub(crate) fn denies_ping(&self, to: IpAddr) -> bool {
        if self.plan.policy.is_empty() {
            return false;
        }
        let decision = self.plan.policy.decide(None, (to, 0).into(), None, self.name_of(to).as_deref());
        let count = |option: &str, denied: bool| {
            self.report.count(|summary| {
                let echo = &mut summary.echo;
                let counts = if denied { &mut echo.denied } else { &mut echo.would_deny };
                *counts.entry(option.to_owned()).or_default() += 1;
            });
            denied
        };
        match decision {
            Decision::Allowed => false,
            Decision::Denied(option) => count(&option, true),
            Decision::WouldBeDenied(option) => count(&option, false),
        }
    }

    /// The context of a connection or flow of the program that begins now. The process is looked up at once, as it may
    /// end soon.
    pub(crate) fn context(&self, flow: &Flow) -> Context {
        let ends = crate::host::inner::Flow { program: flow.local, remote: flow.remote };
        let process = if self.plan.names_processes() { self.process(flow.proto, ends) } else { None };
        Context { name: self.name_of(flow.remote.ip()), process, ..Context::default() }
    }

    /// The process that has this end of a TCP connection.
    pub(crate) fn owner(&self, ends: crate::host::inner::Flow) -> Option<crate::report::Process> {
        if self.plan.names_processes() { self.process(Proto::Tcp, ends) } else { None }
    }

    fn process(&self, proto: Proto, ends: crate::host::inner::Flow) -> Option<crate::report::Process> {
        let found = match proto {
            Proto::Tcp => self.inner.look(ends),
            Proto::Udp => self.inner.look_datagrams(ends),
        };
        let found = found.ok().flatten().filter(|found| !found.orphan)?;
        self.attendant.as_ref()?.owner(found.inode)
    }

    /// A destination as a proxy gets it: the name that the program has resolved, if it is known.
    pub(crate) fn destination(&self, seen: SocketAddr, actual: SocketAddr) -> Destination {
        match self.name_of(seen.ip()) {
            Some(name) => Destination::Name(name, actual.port()),
            None => Destination::Address(actual),
        }
    }

    /// Why datagrams to this remote are not carried.
    pub(crate) fn carries_no_datagrams(&self, actual: IpAddr) -> Option<String> {
        let proxy = self.plan.via(actual)?;
        if !proxy.carries_datagrams() {
            return Some(format!("the proxy {proxy} carries TCP only"));
        }
        self.no_datagrams.borrow().clone()
    }

    /// The name that was resolved to this address for the program.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<String> {
        self.names.of(address).map(|name| name.to_string())
    }

    /// Evaluates the policy. `true`: it is denied, and the context names the option.
    pub(crate) fn is_denied(
        &self,
        context: &mut Context,
        proto: Proto,
        remote: SocketAddr,
        actual: Option<SocketAddr>,
    ) -> bool {
        if self.plan.policy.is_empty() {
            return false;
        }
        match self.plan.policy.decide(Some(proto), remote, actual, context.name.as_deref()) {
            Decision::Allowed => false,
            Decision::Denied(option) => {
                context.denied = Some(option);
                true
            }
            Decision::WouldBeDenied(option) => {
                context.would_deny = Some(option);
                false
            }
        }
    }

    /// The path as measured by the host's kernel, if anything shows it.
    pub(crate) fn path(&self, host: &impl AsFd) -> Option<Path> {
        let shown =
            self.report.shows_paths() || self.board.is_some() || self.flight.is_some() || self.page.is_some();
        shown.then(|| tcp_info::path(host)).flatten()
    }

    /// A connection or flow is over. Its last packet in the captures gets the text of the report as a comment.
    pub(crate) fn record(&self, mut record: Record) {
        if record.context.name.is_none() {
            record.context.name = self.name_of(record.remote.ip());
        }
        let flow = Flow::new(record.proto, record.local, record.remote);
        if record.proto == Proto::Udp {
            self.screened.borrow_mut().remove(&flow);
        }
        let seen_as = record.context.seen_as.unwrap_or(record.remote);
        let seen = Flow { remote: seen_as, ..flow };
        let effect = self.inject.leave(&seen);
        record.context.injected.extend(effect.rules);
        record.lose_datagrams(effect.swallowed, effect.lost);
        if record.proto == Proto::Udp {
            record.ended = record.ended.max(effect.last.unwrap_or(record.ended));
            // Without an answer, it lasted as long as one was waited for.
            let answered = record.context.datagrams.is_none_or(|datagrams| datagrams.received > 0);
            if !answered && matches!(record.verdict().cause, Cause::NoAnswer | Cause::FaultInjected) {
                record.ended = record.ended.max(jiff::Timestamp::now());
            }
        }
        if matches!(record.verdict().cause, Cause::PolicyDenied | Cause::FaultInjected) {
            record.by = By::Lastack;
        }
        match record.verdict().cause {
            Cause::SilentDrop => record.by = By::Nobody,
            Cause::ProxyFailed => record.by = By::Host,
            _ => {}
        }
        record.end_before_reset();
        record.note_what_is_known();
        self.comments.end(record.local, seen_as, || record.reason());
        // A fault may have had no effect: the packets alone do not show that.
        if record.outcome != Outcome::Orderly
            || record.verdict().cause != Cause::Orderly
            || record.verdict().also.is_some()
            || record.is_trouble()
            || !record.context.injected.is_empty()
        {
            self.comments.state_end(|| record.stated(seen_as).to_string());
        }
        self.keep_packets(seen, &mut record);
        if let Some(board) = &self.board {
            board.end(&record);
        }
        if let Some(page) = &self.page {
            page.conclude(&record, seen_as);
        }
        self.report.record(&record);
    }

    /// The flight recorder writes the packets of a connection that ended badly, once its last ones have passed.
    fn keep_packets(&self, flow: Flow, record: &mut Record) {
        let Some(flight) = &self.flight else { return };
        let Some((id, file)) = flight.end(flow, record) else { return };
        record.context.capture = file;
        let flight = flight.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(SETTLED).await;
            flight.settle(&flow, id);
        });
    }
}
