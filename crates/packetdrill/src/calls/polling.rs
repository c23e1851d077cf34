//! `poll` and the readiness of a descriptor.

use super::descriptor::Shut;
use super::{Kind, Operation, Reply, StreamState};
use crate::arguments::{self, Arguments};
use crate::error::Problem;
use crate::lastack::Lastack;
use lastack_engine::{ConnId, Instant, TcpState};
use std::time::Duration;

pub const IN: i64 = 0x1;
pub const OUT: i64 = 0x4;
pub const ERR: i64 = 0x8;
pub const HUP: i64 = 0x10;
const NVAL: i64 = 0x20;
const RDNORM: i64 = 0x40;
const WRNORM: i64 = 0x100;
const RDHUP: i64 = 0x2000;

/// A pending `poll`.
#[derive(Debug)]
pub struct Polling {
    entries: Vec<Entry>,
    /// `None`: no timeout.
    pub deadline: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    fd: i64,
    events: i64,
    expected: i64,
}

/// The deadline after this many milliseconds; none if negative.
pub fn deadline(now: Instant, milliseconds: i64) -> Option<Instant> {
    u64::try_from(milliseconds).ok().map(|ms| now + Duration::from_millis(ms))
}

impl Lastack {
    pub(super) fn poll(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let mut entries = Vec::new();
        for expr in arguments::list(arguments.at(0)?)? {
            let fields = arguments::fields(expr)?;
            entries.push(Entry {
                fd: arguments::field_number(fields, "fd")?,
                events: arguments::field_number(fields, "events")?,
                expected: arguments::field_number(fields, "revents")?,
            });
        }
        let deadline = deadline(self.clock, arguments.number(2)?);
        Ok(Operation::Poll(Polling { entries, deadline }))
    }

    pub(super) fn attempt_poll(&mut self, polling: &Polling) -> Option<Reply> {
        let mut ready = 0;
        let mut wrong = Vec::new();
        for entry in &polling.entries {
            let found = match self.fds.contains_key(&entry.fd) {
                true => self.readiness(entry.fd) & (entry.events | ERR | HUP),
                false if entry.fd < 0 => 0,
                false => NVAL,
            };
            ready += i64::from(found != 0);
            if found != entry.expected {
                wrong.push(format!(
                    "revents of {} is {}, expected {}",
                    entry.fd,
                    names(found),
                    names(entry.expected)
                ));
            }
        }
        if ready == 0 && polling.deadline.is_none_or(|deadline| self.clock < deadline) {
            return None;
        }
        Some(if wrong.is_empty() { Reply::Value(ready) } else { Reply::Wrong(ready, wrong.join("; ")) })
    }

    /// The readiness of a descriptor.
    pub(super) fn readiness(&mut self, fd: i64) -> i64 {
        let Some(found) = self.fds.get(&fd) else { return 0 };
        match &found.kind {
            Kind::Stream(stream) => match stream.state {
                StreamState::Fresh => OUT | WRNORM | HUP,
                StreamState::Listening(listener) => {
                    if self.stack.tcp_waiting(listener) > 0 {
                        IN | RDNORM
                    } else {
                        0
                    }
                }
                StreamState::Connecting(id) | StreamState::Connected(id) => {
                    let shut = stream.no_more_reads;
                    let pending = if self.has_notice(fd) { ERR } else { 0 };
                    self.readiness_of_stream(id, shut) | pending
                }
            },
            Kind::Datagram(None) => OUT | WRNORM | readiness_of_end(found.shut),
            Kind::Datagram(Some(id)) => {
                let over = readiness_of_end(found.shut);
                let Some(mut udp) = self.stack.udp(*id) else { return 0 };
                let readable = if udp.poll_readable().is_ready() { IN | RDNORM } else { 0 };
                let writable = if udp.poll_writable().is_ready() { OUT | WRNORM } else { 0 };
                let failed = if udp.has_error() { ERR } else { 0 };
                readable | writable | failed | over
            }
            Kind::Epoll(_) => 0,
        }
    }

    fn readiness_of_stream(&mut self, id: ConnId, shut: bool) -> i64 {
        let Some(mut tcp) = self.stack.tcp(id) else { return 0 };
        let state = tcp.state();
        if matches!(state, TcpState::SynSent | TcpState::SynReceived) {
            return 0;
        }
        let over = matches!(state, TcpState::Closed | TcpState::TimeWait);
        let may_send = matches!(state, TcpState::Established | TcpState::CloseWait);
        let peer_done = over || matches!(state, TcpState::CloseWait | TcpState::Closing | TcpState::LastAck);
        let mut ready = 0;
        if peer_done || shut {
            ready |= IN | RDNORM | RDHUP;
        }
        if tcp.info().unread > 0 {
            ready |= IN | RDNORM;
        }
        if !may_send || tcp.readiness().writable {
            ready |= OUT | WRNORM;
        }
        if over || (peer_done || shut) && !may_send {
            ready |= HUP;
        }
        if tcp.pending_error().is_some() {
            ready |= ERR;
        }
        ready
    }
}

/// The readiness of a datagram socket after `shutdown`.
fn readiness_of_end(shut: Shut) -> i64 {
    let reads = if shut.reads { IN | RDNORM | RDHUP } else { 0 };
    if shut.reads && shut.writes { reads | HUP } else { reads }
}

/// The bits of `revents` by name.
pub fn names(bits: i64) -> String {
    const NAMES: [(i64, &str); 9] = [
        (IN, "POLLIN"),
        (OUT, "POLLOUT"),
        (ERR, "POLLERR"),
        (HUP, "POLLHUP"),
        (NVAL, "POLLNVAL"),
        (RDNORM, "POLLRDNORM"),
        (WRNORM, "POLLWRNORM"),
        (RDHUP, "POLLRDHUP"),
        (0x2, "POLLPRI"),
    ];
    let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { bits.to_string() } else { set.join("|") }
}
