//! The loop around sources and join: reads, orders by time, and queries more where it is useful.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::calls::Calls;
use crate::ended::{Ended, Totals};
use crate::event::{Event, Process, Source, TcpState, Time, TraceKind};
use crate::join::{Join, JoinOptions};
use crate::sources::{Availability, RawPacket, SourceOptions, Sources, cpu_time, describe_process, now};

/// How long events wait, in milliseconds, for earlier ones of other sources: the ring of packets is handed
/// over with a delay.
const HOLD: u64 = 60;
/// The sources are read at least so often.
const TICK: Duration = Duration::from_millis(50);
/// At the end, sources have at most this long to complete what they reported; in milliseconds.
const FINISH: u64 = 1500;
/// The min interval of reading counters, and the interval without a reason; in milliseconds.
const COUNTERS_FASTEST: u64 = 10;
const COUNTERS_USUAL: u64 = 50;
/// The same with tracepoints, which report more.
const COUNTERS_RARELY: u64 = 500;
/// Lists of sockets: at most and at least so often, in milliseconds.
const LIST_FASTEST: u64 = 100;
const LIST_USUAL: u64 = 5000;
/// A costly job waits this multiple of its own duration before it is repeated, so that it takes at most 5 % of a CPU.
const COST_FACTOR: u64 = 20;
/// Sockets whose owners wait to be found.
const MAX_WANTED: usize = 1 << 14;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// The sources.
    pub sources: SourceOptions,
    /// Connections that are known at a time, at most.
    pub max_connections: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { sources: SourceOptions::new(), max_connections: 1 << 16 }
    }
}

/// A job that is done when there is reason to, but not too often.
#[derive(Debug, Default)]
struct Job {
    last: Time,
    cost: u64,
}

impl Job {
    /// Whether this number of milliseconds has passed, and the job has not taken too much time recently.
    fn is_due(&self, at: Time, milliseconds: u64) -> bool {
        at.since(self.last) >= (milliseconds * 1_000_000).max(self.cost * COST_FACTOR)
    }

    /// It was done; `begun` is when, by the clock of this thread.
    fn done(&mut self, begun: Time) {
        self.last = now();
        self.cost = cpu_time().since(begun);
    }
}

/// Until when all reports have reached the join.
///
/// Broadcasts of destroyed sockets carry no time, so they count as of when they are read. If this process did not run
/// for a while, what happened meanwhile is read at once, and the broadcasts come after events of the same sockets that
/// are seconds older. Nothing is decided as of a time before which broadcasts may still wait.
#[derive(Debug, Default)]
struct Horizon {
    /// When the sources were read: begin and end of each time.
    reads: VecDeque<(Time, Time)>,
    reached: Time,
}

impl Horizon {
    /// The sources were read in this time.
    fn read(&mut self, begun: Time, ended: Time) {
        self.reads.push_back((begun, ended));
    }

    /// All events up to this time are with the join. Gives the time as of which it may decide.
    fn reach(&mut self, released: Time) -> Time {
        while let Some(&(begun, ended)) = self.reads.front()
            && ended <= released
        {
            self.reached = begun;
            self.reads.pop_front();
        }
        self.reached
    }

    /// When it is worth to read again for what is due at this time.
    fn next(&self, due: Time) -> Time {
        let read = self.reads.iter().find(|(begun, _)| *begun >= due);
        read.map_or(due, |(_, ended)| ended.plus_millis(HOLD))
    }
}

/// Watches the TCP connections of this host.
///
/// ```no_run
/// use lastack_watch::{WatchOptions, Watcher};
/// use std::time::Duration;
///
/// let (mut watcher, sources) = Watcher::open(&WatchOptions::default())?;
/// for source in sources {
///     println!("{}: {:?}", source.source.name(), source.error);
/// }
/// loop {
///     for ended in watcher.turn(&[], Duration::from_millis(500), |_| ())? {
///         println!("{} {} > {}", ended.cause, ended.client(), ended.server());
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Watcher {
    sources: Sources,
    join: Join,
    /// Events that wait for earlier ones.
    pending: Vec<(Time, Event)>,
    horizon: Horizon,
    counters: Job,
    list: Job,
    owners: Job,
    /// Connections were opened or reset since the last list.
    changed: bool,
    changes: u64,
    wanted: Vec<u32>,
    /// The inodes of the last list.
    inodes: HashSet<u32>,
}

impl Watcher {
    /// Opens the sources, lists the existing sockets, and returns which sources could be opened.
    ///
    /// # Errors
    /// If the network namespace cannot be entered, or no source can be used at all.
    pub fn open(options: &WatchOptions) -> io::Result<(Self, Vec<Availability>)> {
        let (sources, report) = Sources::open(&options.sources)?;
        let open: Vec<Source> = Source::ALL.into_iter().filter(|&source| sources.has(source)).collect();
        if !sources.has(Source::Destroyed)
            && !sources.has(Source::Packets)
            && !sources.has(Source::Tracepoints)
        {
            let text = "none of the sources that show the end of a connection can be opened";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let join = Join::new(JoinOptions {
            max_connections: options.max_connections.max(1),
            all_packets: options.sources.all_packets,
            ..JoinOptions::new(open)
        });
        let mut this = Self {
            sources,
            join,
            pending: Vec::new(),
            horizon: Horizon::default(),
            counters: Job::default(),
            list: Job::default(),
            owners: Job::default(),
            changed: true,
            changes: 0,
            wanted: Vec::new(),
            inodes: HashSet::new(),
        };
        this.read_counters()?;
        this.list_sockets();
        Ok((this, report))
    }

    /// Watches the calls of a program, too.
    pub fn attach(&mut self, calls: Calls) {
        self.sources.attach(calls);
        self.join.add_source(Source::Calls);
    }

    /// Looks up a process that was just started, and that may end at once: its parent, its user and its control group. Its
    /// name is still that of this process until the kernel has begun the program; others report it.
    pub fn describe(&mut self, pid: u32) {
        let known =
            describe_process(pid).map(|process| Process { comm: "".into(), command: "".into(), ..process });
        self.pending.extend(known.map(|process| (now(), Event::Process(process))));
    }

    /// Waits until there is something to read, a descriptor of `wake` is readable, or the time has passed; reads, and
    /// gives the ends that are decided. `packet` is given every packet that is seen.
    ///
    /// # Errors
    /// If a source breaks.
    pub fn turn(
        &mut self,
        wake: &[BorrowedFd<'_>],
        timeout: Duration,
        mut packet: impl FnMut(&RawPacket<'_>),
    ) -> io::Result<Vec<Ended>> {
        let timeout = self.time_left(timeout.min(TICK));
        self.sources.wait(wake, timeout)?;
        // What happened before this time is read by the end of this turn, however late this process runs. What comes in
        // while sources are read one after the other may be read in part: an end without what led to it.
        let begun = now();
        let complete = Time(begun.0.saturating_sub(HOLD * 1_000_000));
        let first = self.pending.len();
        self.read(&mut packet)?;
        self.horizon.read(begun, now());
        self.describe_actors(first);
        let at = now();
        self.changed |= self.pending[first..].iter().any(|(_, event)| is_open(event));
        let destroyed = self.pending[first..].iter().any(|(_, event)| matches!(event, Event::Destroyed(_)));
        let usual = if self.sources.has(Source::Tracepoints) { COUNTERS_RARELY } else { COUNTERS_USUAL };
        if self.counters.is_due(at, if destroyed { COUNTERS_FASTEST } else { usual }) {
            self.read_counters()?;
        }
        let changed = self.changed || self.join.has_attempts();
        if self.list.is_due(at, if changed { LIST_FASTEST } else { LIST_USUAL }) {
            self.list_sockets();
        }
        self.release(complete);
        self.find_owners(at);
        // Nothing is decided by what is not known yet.
        let decide = self.horizon.reach(complete);
        Ok(self.collect(decide))
    }

    fn read(&mut self, mut packet: impl FnMut(&RawPacket<'_>)) -> io::Result<()> {
        let join = &mut self.join;
        self.sources.read(&mut self.pending, |raw| {
            join.packet(raw);
            packet(raw);
        })
    }

    /// Takes late reports about connections that have begun to end, and decides them. Returns within two
    /// seconds.
    ///
    /// # Errors
    /// If a source breaks.
    pub fn finish(&mut self, mut packet: impl FnMut(&RawPacket<'_>)) -> io::Result<Vec<Ended>> {
        let mut ended = Vec::new();
        let begun = now();
        while now() < begun.plus_millis(2 * HOLD)
            || self.join.is_deciding() && now() < begun.plus_millis(FINISH)
        {
            ended.append(&mut self.turn(&[], TICK, &mut packet)?);
        }
        self.read(&mut packet)?;
        self.read_counters()?;
        let complete = now();
        self.read(&mut packet)?;
        self.describe_actors(0);
        self.release(complete);
        self.join.finish();
        ended.append(&mut self.collect(now()));
        Ok(ended)
    }

    /// Counts so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        self.join.totals()
    }

    /// The join, with its processes and connections.
    #[must_use]
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// Not longer than until a connection is to be looked at.
    fn time_left(&self, timeout: Duration) -> Duration {
        let next =
            self.join.next_timeout().map(|due| Duration::from_nanos(self.horizon.next(due).since(now())));
        next.map_or(timeout, |next| next.min(timeout))
    }

    fn read_counters(&mut self) -> io::Result<()> {
        let begun = cpu_time();
        let first = self.pending.len();
        self.sources.read_counters(&mut self.pending)?;
        if let Some((_, Event::Counters(counters))) = self.pending.get(first) {
            let opens = counters.active_opens + counters.passive_opens;
            // A socket that was reset may be held by its program for long: that it vanished from the lists shows its end.
            let changes = opens + counters.estab_resets;
            self.changed |= changes != self.changes;
            self.changes = changes;
        }
        self.counters.done(begun);
        Ok(())
    }

    /// A list that fails is only late: the next one comes. Counters come first: they show why a socket is not in it.
    fn list_sockets(&mut self) {
        let _late = self.read_counters();
        let begun = cpu_time();
        let mut listed = Vec::new();
        let _late = self.sources.list(&mut listed);
        // At once: the owners of short-lived sockets are to be looked up while they are there. The list itself waits
        // for events from before it: the port may have been another connection's.
        let sockets = listed.iter().filter_map(|(_, event)| match event {
            Event::Listed(report) if report.inode != 0 => Some(report.inode),
            _ => None,
        });
        let inodes: HashSet<u32> = sockets.collect();
        self.wanted.extend(inodes.difference(&self.inodes));
        self.inodes = inodes;
        self.pending.append(&mut listed);
        self.changed = false;
        self.list.done(begun);
    }

    /// Looks up the processes that act, while they are alive.
    fn describe_actors(&mut self, first: usize) {
        let mut found = Vec::new();
        for (at, event) in &self.pending[first..] {
            let Event::Trace(trace) = event else { continue };
            let acts = match &trace.kind {
                TraceKind::SetState { new, .. } => {
                    *new != TcpState::Established && *new != TcpState::CloseWait
                }
                TraceKind::SendReset { reply, .. } => !reply,
                _ => false,
            };
            if acts && trace.context.is_process() {
                let processes = self.sources.describe(trace.context.pid);
                found.extend(processes.into_iter().map(|process| (*at, Event::Process(process))));
            }
        }
        self.pending.append(&mut found);
    }

    /// Hands all events up to this time to the join, in their order.
    fn release(&mut self, until: Time) {
        self.pending.sort_by_key(|(at, _)| *at);
        let count = self.pending.partition_point(|(at, _)| *at <= until);
        for (at, event) in self.pending.drain(..count) {
            self.join.handle(at, event);
        }
    }

    fn find_owners(&mut self, at: Time) {
        self.wanted.append(&mut self.join.take_wanted_owners());
        self.wanted.truncate(MAX_WANTED);
        if !self.wanted.is_empty() && self.owners.is_due(at, LIST_FASTEST) {
            let begun = cpu_time();
            self.sources.find_owners(&self.wanted, &mut self.pending);
            self.wanted.clear();
            self.owners.done(begun);
        }
    }

    fn collect(&mut self, at: Time) -> Vec<Ended> {
        std::iter::from_fn(|| self.join.poll(at)).collect()
    }
}

/// A connection was established.
fn is_open(event: &Event) -> bool {
    let Event::Trace(trace) = event else { return false };
    matches!(trace.kind, TraceKind::SetState { new: TcpState::Established, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_decided_while_what_was_read_late_waits() {
        let at = Time::from_millis;
        let mut horizon = Horizon::default();
        horizon.read(at(1000), at(1001));
        assert_eq!(horizon.reach(at(940)), Time(0));
        // This process did not run for four seconds. What was broadcast meanwhile is read at 5000 and counts as of then.
        horizon.read(at(5000), at(5030));
        assert_eq!(horizon.reach(at(4940)), at(1000));
        assert_eq!(horizon.next(at(1300)), at(5090), "as soon as those broadcasts are with the join");
        assert_eq!(horizon.next(at(6000)), at(6000));
        horizon.read(at(5040), at(5041));
        assert_eq!(horizon.reach(at(4980)), at(1000));
        horizon.read(at(5090), at(5091));
        assert_eq!(horizon.reach(at(5030)), at(5000));
        assert_eq!(horizon.reach(at(5091)), at(5090));
    }
}
