//! Calls of connect() by the watched program: whose a socket is, and where it connects.
//!
//! The call comes before the socket has a port. Its number identifies it later: in a list of sockets, or when it is
//! destroyed, perhaps with its addresses cleared.

use std::collections::{HashMap, VecDeque};

use super::connection::{Actor, Side};
use super::{Join, SETTLE};
use crate::event::{ConnectCall, Flow, SocketReport, Source, Time};

/// Max attempts that are kept.
const MAX_ATTEMPTS: usize = 1 << 14;
/// The time after a call after which a socket that no list has shown counts as not connected; in milliseconds.
const KEPT: u64 = 1000;

/// A call whose socket nothing else has shown yet.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    at: Time,
    caller: Actor,
    flow: Flow,
}

impl Attempt {
    /// The flow, as far as a report leaves it open.
    fn completed(&self, reported: Flow) -> Flow {
        let mut local = reported.local;
        if local.ip().is_unspecified() {
            local.set_ip(self.flow.local.ip());
        }
        Flow::new(local, self.flow.remote)
    }
}

#[derive(Debug, Default)]
pub(super) struct Attempts {
    by_cookie: HashMap<u64, Attempt>,
    order: VecDeque<u64>,
}

impl Attempts {
    fn add(&mut self, cookie: u64, attempt: Attempt) -> Option<Attempt> {
        self.order.push_back(cookie);
        while self.order.len() > MAX_ATTEMPTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_cookie.remove(&oldest);
        }
        self.by_cookie.insert(cookie, attempt)
    }

    fn take(&mut self, cookie: u64) -> Option<Attempt> {
        self.by_cookie.remove(&cookie)
    }

    /// Those that were made before this time.
    fn take_older(&mut self, than: Time) -> Vec<(u64, Attempt)> {
        let old: Vec<u64> = self
            .by_cookie
            .iter()
            .filter(|(_, attempt)| attempt.at < than)
            .map(|(&cookie, _)| cookie)
            .collect();
        old.into_iter().filter_map(|cookie| Some((cookie, self.take(cookie)?))).collect()
    }
}

impl Join {
    /// Uses another source from now on.
    pub fn add_source(&mut self, source: Source) {
        if !self.has(source) {
            self.options.sources.push(source);
        }
    }

    pub(super) fn on_connect(&mut self, at: Time, call: ConnectCall) {
        self.processes.join_program(call.pid);
        let comm = self.processes.get(call.pid).map_or_else(|| "".into(), |known| known.process.comm.clone());
        let attempt = Attempt { at, caller: Actor { pid: call.pid, comm }, flow: call.flow };
        // A second call for a socket that is not connected: the first has failed. To the same address it may only be the
        // question what became of the first.
        if let Some(failed) = self.attempts.add(call.cookie, attempt)
            && failed.flow.remote != call.flow.remote
        {
            self.fail(failed, at);
        }
    }

    /// Calls whose sockets no other source has shown yet: sockets have to be listed.
    #[must_use]
    pub(crate) fn has_attempts(&self) -> bool {
        !self.attempts.by_cookie.is_empty()
    }

    /// What is known by the call of a socket that is reported now: whose it is. Returns the flow with what the kernel has
    /// cleared filled in.
    pub(super) fn recognize(&mut self, report: &SocketReport) -> Option<(Flow, Attempt)> {
        let attempt = self.attempts.take(report.cookie)?;
        Some((attempt.completed(report.flow), attempt))
    }

    /// A list of the sockets alive has ended that began at this time.
    pub(super) fn fail_unlisted(&mut self, begun: Time) {
        let than = Time(begun.0.saturating_sub(KEPT * 1_000_000));
        for (cookie, attempt) in self.attempts.take_older(than) {
            self.past.insert(cookie);
            self.past_order.push_back(cookie);
            self.fail(attempt, begun);
        }
    }

    /// An attempt that failed while its program keeps the socket: the port it had is not known.
    fn fail(&mut self, attempt: Attempt, at: Time) {
        if !self.attempt_failed(attempt.at, at) {
            return;
        }
        let flow = attempt.flow;
        let id = self.connection(flow, true);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let place = connection.place(flow);
        let mut side = Side::new(flow);
        side.called(&attempt);
        side.vanished = Some(at);
        connection.sides[place] = Some(side);
        self.look_at(flow, at, SETTLE);
    }
}

impl Side {
    /// The socket connects by this call.
    pub(super) fn called(&mut self, attempt: &Attempt) {
        self.client = Some(true);
        self.opened = Some(attempt.at);
        self.opener = Some(attempt.caller.clone());
        self.used(Source::Calls);
    }
}
