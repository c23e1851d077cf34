//! Spans and events for `tracing`: a span for each connection with its four-tuple, and in it an event when it begins and
//! one that reports how it ended, by which rule.
//!
//! Records are made under the lock of the stack and emitted after it, one at a time and in order: a subscriber may use
//! sockets of the same host.

use lastack_engine::{ConnId, Ended, FourTuple, Verdict};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{Span, debug, error, info, info_span, trace};

const CONNECTION: &str = "lastack::connection";
const PACKET: &str = "lastack::packet";
const HOST: &str = "lastack::host";

/// The records of one host that are not emitted yet, and the spans of its open connections.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Record>,
    open: HashMap<ConnId, Span>,
    /// A thread is emitting, until the queue is empty.
    emitting: bool,
}

#[derive(Debug)]
enum Record {
    Began(ConnId, FourTuple, &'static str),
    Ended(Box<Ended>),
}

impl Traces {
    /// A connect call, or a connection that was accepted.
    pub fn began(&self, id: ConnId, flow: FourTuple, how: &'static str) {
        self.state().queue.push_back(Record::Began(id, flow, how));
    }

    /// A connection has ended, whether the application had it or not.
    pub fn ended(&self, ended: &Ended) {
        self.state().queue.push_back(Record::Ended(Box::new(ended.clone())));
    }

    /// Emits the records. Call it without the lock of the stack.
    pub fn emit(&self) {
        if self.state().queue.is_empty() || std::mem::replace(&mut self.state().emitting, true) {
            return;
        }
        let done = Emitting(self);
        loop {
            let mut state = self.state();
            match state.queue.pop_front() {
                None => break,
                Some(Record::Began(id, flow, how)) => {
                    drop(state);
                    let span = span(&flow);
                    span.in_scope(|| debug!(target: CONNECTION, "{how}"));
                    self.state().open.insert(id, span);
                }
                Some(Record::Ended(ended)) => {
                    let span = state.open.remove(&ended.id);
                    drop(state);
                    span.unwrap_or_else(|| span_of(&ended)).in_scope(|| report(&ended));
                }
            }
        }
        drop(done);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the emission, also if the subscriber panics.
struct Emitting<'a>(&'a Traces);

impl Drop for Emitting<'_> {
    fn drop(&mut self) {
        self.0.state().emitting = false;
    }
}

fn span(flow: &FourTuple) -> Span {
    info_span!(target: CONNECTION, "tcp", local = %flow.local, remote = %flow.remote)
}

fn span_of(ended: &Ended) -> Span {
    span(&ended.flow)
}

/// An orderly end at the level `DEBUG`, any other at `INFO`.
fn report(ended: &Ended) {
    let end = &ended.end;
    macro_rules! event {
        ($level:ident) => {
            $level!(
                target: CONNECTION,
                rule = end.rule.name(),
                rule_code = end.rule.code(),
                by = %end.by,
                state = %end.state,
                bytes_sent = ended.bytes.sent,
                bytes_received = ended.bytes.received,
                "{end}"
            )
        };
    }
    if end.cause == lastack_engine::Cause::Orderly { event!(debug) } else { event!(info) }
}

/// The verdict on a packet that arrived, if a rule decided it.
pub(crate) fn verdict(verdict: &Verdict) {
    if let Some(rule) = verdict.rule() {
        trace!(target: PACKET, rule = rule.name(), rule_code = rule.code(), "{verdict}");
    }
}

/// The link of a host has failed.
pub(crate) fn link_failed(error: &std::io::Error) {
    error!(target: HOST, %error, "the link failed: every call on a socket of this host fails");
}
