//! The sources of events, and which of them this process may use.
//!
//! All of them are read by one thread: nothing here waits but [`Sources::wait`].

mod counters;
mod decode;
mod diag;
mod packets;
mod processes;
mod sys;
mod tracefs;
mod tracepoints;

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use crate::calls::Calls;
use crate::event::{Event, Process, Source, Time};
use counters::CounterFiles;
use diag::{Broadcasts, Lists};
use packets::{Packets, Selection};
pub(crate) use processes::describe as describe_process;
use processes::{Connector, Descriptors};
use tracepoints::Tracepoints;

/// Which sources to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// Do not open these.
    pub without: Vec<Source>,
    /// Take all packets of TCP, not only those that begin and end connections.
    pub all_packets: bool,
    /// A network namespace to watch, as a file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub namespace: Option<std::path::PathBuf>,
}

impl SourceOptions {
    /// All sources, of the network namespace of this process.
    #[must_use]
    pub const fn new() -> Self {
        Self { without: Vec::new(), all_packets: false, namespace: None }
    }
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of the attempt to open a source.
#[derive(Debug)]
pub struct Availability {
    /// The source.
    pub source: Source,
    /// Why it is not there.
    pub error: Option<io::Error>,
    /// It is open but incomplete: what it lacks.
    pub limit: Option<String>,
}

/// A packet, for consumers that need more than the segments that begin and end a connection.
#[derive(Debug)]
pub struct RawPacket<'a> {
    /// Nanoseconds since 1970.
    pub wall: u64,
    /// Sent by this host; else received.
    pub sent: bool,
    /// The length of the packet on the link.
    pub len: usize,
    /// The packet from its IP header on, cut short.
    pub bytes: &'a [u8],
}

/// The open sources.
#[derive(Debug)]
pub struct Sources {
    broadcasts: Option<Broadcasts>,
    counters: Option<CounterFiles>,
    connector: Option<Connector>,
    descriptors: Descriptors,
    /// When the descriptors were read last.
    descriptors_read: Time,
    lists: Option<Lists>,
    packets: Option<Packets>,
    tracepoints: Option<Tracepoints>,
    calls: Option<Calls>,
    /// Processes already described.
    described: HashSet<u32>,
}

/// The time on the clock of all events.
#[must_use]
pub fn now() -> Time {
    Time(nanoseconds(ClockId::CLOCK_MONOTONIC))
}

/// CPU time of this thread.
pub(crate) fn cpu_time() -> Time {
    Time(nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID))
}

/// Nanoseconds since 1970.
#[must_use]
pub fn wall_now() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// By how much the clock of packets is ahead of that of all other events, in nanoseconds.
///
/// This thread may be suspended between two readings. Of several attempts that of the shortest duration counts.
fn wall_ahead() -> u64 {
    let attempt = || {
        let (before, wall, after) = (now(), wall_now(), now());
        let duration = after.since(before);
        (duration, wall.saturating_sub(before.0 + duration / 2))
    };
    (0..4).map(|_| attempt()).min().map_or(0, |(_, ahead)| ahead)
}

fn nanoseconds(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Processes whose description is kept as known.
const MAX_DESCRIBED: usize = 1 << 16;
/// Ancestors that are looked up.
pub(crate) const MAX_ANCESTORS: usize = 32;

impl Sources {
    /// Opens every source that this process may use, and reports whether each is open.
    ///
    /// # Errors
    /// If the network namespace cannot be entered.
    pub fn open(options: &SourceOptions) -> io::Result<(Self, Vec<Availability>)> {
        let mut report = Vec::new();
        // The proc connector exists in the initial network namespace only, so it comes before another is entered.
        let connector = open(&mut report, options, Source::Processes, Connector::open);
        if let Some(path) = &options.namespace {
            enter(path)?;
        }
        let selection = if options.all_packets { Selection::All } else { Selection::Ends };
        let broadcasts = open(&mut report, options, Source::Destroyed, Broadcasts::open);
        let counters = open(&mut report, options, Source::Counters, CounterFiles::open);
        let lists = open(&mut report, options, Source::Sockets, Lists::open);
        // A connection whose SYN is seen is one whose end the tracepoints will show, so these are open first.
        let tracepoints = open(&mut report, options, Source::Tracepoints, Tracepoints::open);
        let packets = open(&mut report, options, Source::Packets, || Packets::open(selection));
        for availability in &mut report {
            availability.limit = match availability.source {
                Source::Tracepoints => tracepoints.as_ref().and_then(|tracepoints| {
                    let missing = tracepoints.missing.join(", ");
                    (!missing.is_empty()).then(|| format!("this kernel lacks {missing}"))
                }),
                Source::Processes if availability.error.is_some() => {
                    Some("except for processes that owned a socket when sockets were listed".into())
                }
                Source::Sockets if !nix::unistd::geteuid().is_root() => {
                    Some("owners are found among the processes of this user".into())
                }
                _ => None,
            };
        }
        report.sort_by_key(|availability| availability.source);
        let this = Self {
            broadcasts,
            counters,
            connector,
            descriptors: Descriptors::default(),
            descriptors_read: now(),
            lists,
            packets,
            tracepoints,
            calls: None,
            described: HashSet::new(),
        };
        Ok((this, report))
    }

    /// Adds the calls of a program that was started.
    pub(crate) fn attach(&mut self, calls: Calls) {
        self.calls = Some(calls);
    }

    /// Whether this source is open.
    #[must_use]
    pub fn has(&self, source: Source) -> bool {
        match source {
            Source::Destroyed => self.broadcasts.is_some(),
            Source::Counters => self.counters.is_some(),
            Source::Processes => self.connector.is_some(),
            Source::Sockets => self.lists.is_some(),
            Source::Packets => self.packets.is_some(),
            Source::Tracepoints => self.tracepoints.is_some(),
            Source::Calls => self.calls.is_some(),
        }
    }

    /// Waits until a source or `other` has something, or the time has passed.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub fn wait(&self, other: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut add = |fd| fds.push(PollFd::new(fd, PollFlags::POLLIN));
        self.broadcasts.iter().for_each(|source| add(source.fd()));
        self.connector.iter().for_each(|source| add(source.fd()));
        self.packets.iter().for_each(|source| add(source.fd()));
        self.tracepoints.iter().flat_map(Tracepoints::fds).for_each(&mut add);
        other.iter().copied().for_each(&mut add);
        // At least a millisecond: what comes in bursts is read together.
        let timeout =
            PollTimeout::try_from(timeout.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds everything that waits to `events`, with the time of each; not in the order of time. `packet` is given the
    /// packets as they are.
    ///
    /// # Errors
    /// If a source breaks.
    pub fn read(
        &mut self,
        events: &mut Vec<(Time, Event)>,
        mut packet: impl FnMut(&RawPacket<'_>),
    ) -> io::Result<()> {
        let lost = |events: &mut Vec<_>, source, count| {
            if count > 0 {
                events.push((now(), Event::Lost { source, count }));
            }
        };
        if let Some(tracepoints) = &mut self.tracepoints {
            let count = tracepoints.read(|at, trace| events.push((at, Event::Trace(trace))));
            lost(events, Source::Tracepoints, count);
        }
        if let Some(packets) = &mut self.packets {
            let ahead = wall_ahead();
            let count = packets.read(|captured| {
                let packets::Captured { wall, sent, len, bytes } = captured;
                packet(&RawPacket { wall, sent, len, bytes });
                if let Some(event) = decode::decode(bytes, sent) {
                    events.push((Time(wall.saturating_sub(ahead)), event));
                }
            })?;
            lost(events, Source::Packets, count);
        }
        if let Some(broadcasts) = &mut self.broadcasts {
            let at = now();
            let count = broadcasts.read(|report| events.push((at, Event::Destroyed(report))))?;
            lost(events, Source::Destroyed, count);
        }
        if let Some(calls) = &self.calls {
            let count = calls.read(events);
            lost(events, Source::Calls, count);
        }
        let described = &mut self.described;
        match &mut self.connector {
            Some(connector) => {
                let count = connector.read(|at, event| {
                    match &event {
                        Event::Process(process) => drop(described.insert(process.pid)),
                        Event::Exit { pid, .. } => drop(described.remove(pid)),
                        _ => {}
                    }
                    events.push((at, event));
                })?;
                lost(events, Source::Processes, count);
            }
            None => {
                let read = now();
                let alive = Some(self.descriptors_read);
                self.descriptors.read(|pid, status| {
                    described.remove(&pid);
                    events.push((now(), Event::Exit { pid, status, alive }));
                });
                self.descriptors_read = read;
            }
        }
        Ok(())
    }

    /// Adds the counters as they are now.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read_counters(&mut self, events: &mut Vec<(Time, Event)>) -> io::Result<()> {
        if let Some(counters) = &mut self.counters {
            let counters = counters.read()?;
            events.push((now(), Event::Counters(counters)));
        }
        Ok(())
    }

    /// Adds all sockets that are alive.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn list(&mut self, events: &mut Vec<(Time, Event)>) -> io::Result<()> {
        if let Some(lists) = &mut self.lists {
            let begun = now();
            lists.read(|report| events.push((now(), Event::Listed(report))))?;
            events.push((now(), Event::ListEnd { begun }));
        }
        Ok(())
    }

    /// Adds the owners of sockets with these inodes, as far as they are visible.
    pub fn find_owners(&mut self, inodes: &[u32], events: &mut Vec<(Time, Event)>) {
        let mut found = Vec::new();
        processes::owners(inodes, |inode, pid| {
            events.push((now(), Event::Owner { inode, pid }));
            found.push(pid);
        });
        for pid in found {
            if self.connector.is_none() {
                self.descriptors.add(pid);
            }
            events.extend(self.describe(pid).into_iter().map(|process| (now(), Event::Process(process))));
        }
    }

    /// The descriptions of a process and its ancestors in /proc, each once.
    pub fn describe(&mut self, pid: u32) -> Vec<Process> {
        let mut found = Vec::new();
        let mut next = pid;
        while next > 1 && found.len() < MAX_ANCESTORS && !self.described.contains(&next) {
            if self.described.len() >= MAX_DESCRIBED {
                self.described.clear();
            }
            let Some(process) = processes::describe(next) else { break };
            self.described.insert(next);
            if self.connector.is_none() && next == pid {
                self.descriptors.add(pid);
            }
            next = process.parent;
            found.push(process);
        }
        found
    }
}

fn open<T>(
    report: &mut Vec<Availability>,
    options: &SourceOptions,
    source: Source,
    open: impl FnOnce() -> io::Result<T>,
) -> Option<T> {
    let opened = if options.without.contains(&source) {
        Err(io::Error::other("left out by --without"))
    } else {
        open()
    };
    let (opened, error) = match opened {
        Ok(opened) => (Some(opened), None),
        Err(error) => (None, Some(error)),
    };
    report.push(Availability { source, error, limit: None });
    opened
}

/// Enters a network namespace, with this thread.
fn enter(path: &std::path::Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
    Ok(())
}
