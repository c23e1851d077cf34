//! epoll: level-triggered and edge-triggered.

use super::polling::{self, ERR, HUP};
use super::{Fd, Kind, Operation, Reply, errno};
use crate::arguments::{self, Arguments};
use crate::error::Problem;
use crate::lastack::Lastack;
use crate::syntax::Expr;
use lastack_engine::Instant;
use std::collections::BTreeMap;

const CTL_ADD: i64 = 1;
const CTL_DEL: i64 = 2;
const CTL_MOD: i64 = 3;
const ONESHOT: i64 = 1 << 30;
const EDGE: i64 = 1 << 31;
const EXCLUSIVE: i64 = 1 << 28;
/// Flags in the event mask that are not events.
const MODES: i64 = ONESHOT | EDGE | EXCLUSIVE;

/// What an epoll descriptor watches.
#[derive(Debug, Default)]
pub struct Epoll {
    watched: BTreeMap<i64, Watch>,
}

#[derive(Debug)]
struct Watch {
    events: i64,
    data: i64,
    /// The state last reported, if it has not changed since.
    reported: Option<Seen>,
    /// One-shot: the event was reported and the entry is disabled.
    spent: bool,
}

/// The state in which an edge is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    ready: i64,
    received: u64,
    notices: u64,
}

/// A pending wait.
#[derive(Debug)]
pub struct EpollWait {
    fd: i64,
    max: usize,
    expected: Option<(i64, i64)>,
    /// `None`: no timeout.
    pub deadline: Option<Instant>,
}

impl Epoll {
    /// A descriptor was closed.
    pub fn forget(&mut self, fd: i64) {
        self.watched.remove(&fd);
    }
}

/// Events and data of `{events=EPOLLIN, fd=4}`.
fn event(expr: &Expr) -> Result<(i64, i64), Problem> {
    let fields = arguments::fields(expr)?;
    let events = arguments::field_number(fields, "events")?;
    let data = fields.iter().find(|field| matches!(field.name.as_str(), "fd" | "ptr" | "u32" | "u64"));
    Ok((events, data.map_or(Ok(0), |field| arguments::number(&field.value))?))
}

impl Lastack {
    pub(super) fn epoll_create(&mut self) -> Operation {
        Operation::opened(self, Fd::new(Kind::Epoll(Epoll::default()), false))
    }

    pub(super) fn epoll_ctl(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (epoll, op, fd) = (arguments.number(0)?, arguments.number(1)?, arguments.number(2)?);
        let known = self.fds.contains_key(&fd);
        let Some(Fd { kind: Kind::Epoll(epoll), .. }) = self.fds.get_mut(&epoll).filter(|_| known) else {
            return Ok(Operation::errno(errno::EBADF));
        };
        let watched = epoll.watched.contains_key(&fd);
        match (op, watched) {
            (CTL_ADD, true) => return Ok(Operation::errno(errno::EEXIST)),
            (CTL_DEL | CTL_MOD, false) => return Ok(Operation::errno(errno::ENOENT)),
            (CTL_DEL, true) => epoll.forget(fd),
            (CTL_ADD | CTL_MOD, _) => {
                let (events, data) = event(arguments.at(3)?)?;
                epoll.watched.insert(fd, Watch { events, data, reported: None, spent: false });
            }
            _ => return Ok(Operation::errno(errno::EINVAL)),
        }
        Ok(Operation::value(0))
    }

    pub(super) fn epoll_wait(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let expr = arguments.at(1)?;
        let expected = if arguments::is_ellipsis(expr) { None } else { Some(event(expr)?) };
        Ok(Operation::EpollWait(EpollWait {
            fd: arguments.number(0)?,
            max: arguments.size(2)?,
            expected,
            deadline: polling::deadline(self.clock, arguments.number(3)?),
        }))
    }

    pub(super) fn attempt_epoll(&mut self, wait: &EpollWait) -> Option<Reply> {
        let Some(Fd { kind: Kind::Epoll(epoll), .. }) = self.fds.get(&wait.fd) else {
            return Some(Reply::Errno(errno::EBADF));
        };
        let fds: Vec<i64> = epoll.watched.keys().copied().collect();
        let seen: Vec<(i64, Seen)> = fds.into_iter().map(|fd| (fd, self.seen(fd))).collect();
        let Some(Fd { kind: Kind::Epoll(epoll), .. }) = self.fds.get_mut(&wait.fd) else { return None };
        let mut reported = Vec::new();
        for (fd, seen) in seen {
            let Some(watch) = epoll.watched.get_mut(&fd) else { continue };
            if reported.len() < wait.max
                && let Some(events) = watch.look(seen)
            {
                reported.push((events, watch.data));
            }
        }
        if reported.is_empty() && wait.deadline.is_none_or(|deadline| self.clock < deadline) {
            return None;
        }
        let first = reported.first().copied().unwrap_or((0, 0));
        let count = reported.len() as i64;
        Some(match wait.expected {
            Some(expected) if expected != first => {
                let shown = |(events, data): (i64, i64)| format!("{} with {data}", polling::names(events));
                Reply::Wrong(count, format!("event is {}, expected {}", shown(first), shown(expected)))
            }
            _ => Reply::Value(count),
        })
    }

    fn seen(&mut self, fd: i64) -> Seen {
        let id = self.fds.get(&fd).and_then(Fd::connection);
        let received = id.and_then(|id| self.stack.tcp(id)).map_or(0, |tcp| tcp.info().bytes_received);
        let notices = self.notices_total(fd);
        Seen { ready: self.readiness(fd), received, notices }
    }
}

impl Watch {
    /// The events to report now.
    fn look(&mut self, seen: Seen) -> Option<i64> {
        let events = seen.ready & ((self.events & !MODES) | ERR | HUP);
        let repeated = self.events & EDGE != 0 && self.reported == Some(seen);
        if self.spent || events == 0 || repeated {
            if events == 0 {
                self.reported = None;
            }
            return None;
        }
        self.reported = Some(seen);
        self.spent = self.events & ONESHOT != 0;
        Some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(events: i64) -> Watch {
        Watch { events, data: 0, reported: None, spent: false }
    }

    #[test]
    fn an_edge_is_reported_once_until_new_readiness() {
        let mut edge = watch(polling::IN | EDGE);
        let seen = |ready, received| Seen { ready, received, notices: 0 };
        assert_eq!(edge.look(seen(polling::IN, 1)), Some(polling::IN));
        assert_eq!(edge.look(seen(polling::IN, 1)), None);
        assert_eq!(edge.look(seen(polling::IN, 2)), Some(polling::IN));
        assert_eq!(edge.look(seen(0, 2)), None);
        assert_eq!(edge.look(seen(polling::IN, 2)), Some(polling::IN));
    }

    #[test]
    fn one_shot_is_one() {
        let mut once = watch(polling::OUT | ONESHOT);
        let seen = Seen { ready: polling::OUT, received: 0, notices: 0 };
        assert_eq!((once.look(seen), once.look(seen)), (Some(polling::OUT), None));
        let mut level = watch(polling::OUT);
        assert_eq!((level.look(seen), level.look(seen)), (Some(polling::OUT), Some(polling::OUT)));
    }
}
