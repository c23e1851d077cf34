//! What the table shows: the connections that are open, and those that ended a short time ago.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use lastack_causes::Severity;

use crate::report::{Path, Process, Proto, Record};

/// How long a connection is shown after its end, and how many at most.
const SHOWN: Duration = Duration::from_secs(10);
const MAX_SHOWN: usize = 100;

/// A connection or flow that can be shown.
pub trait Shown {
    /// Starts measuring what is only needed for the table.
    fn observe(&self) {}

    /// Its current state.
    fn shot(&self) -> Shot;
}

/// The state of a connection or flow.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The protocol.
    pub proto: Proto,
    /// Opened from outside.
    pub inward: bool,
    /// The other end.
    pub remote: SocketAddr,
    /// Its name.
    pub name: Option<String>,
    /// The process that has the socket.
    pub process: Option<Process>,
    /// The TCP state of the program's end, or what a flow of datagrams does.
    pub state: String,
    /// Bytes so far.
    pub sent: u64,
    /// The same, of the remote.
    pub received: u64,
    /// The path, as measured by the host's kernel.
    pub path: Option<Path>,
    /// When it began.
    pub opened: Instant,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The state.
    pub shot: Shot,
    /// Bytes per second since the last table.
    pub sending: u64,
    /// The same, of the remote.
    pub receiving: u64,
}

/// A connection that has ended.
#[derive(Clone, Debug)]
pub struct EndedRow {
    /// When.
    pub at: Instant,
    /// How bad that is.
    pub severity: Severity,
    /// `✗ refused by the remote`.
    pub what: String,
    /// `10.0.2.2:5432 (db.local)`.
    pub whither: String,
    /// Bytes that were delivered.
    pub sent: u64,
    /// The same, of the remote.
    pub received: u64,
    /// Its duration.
    pub duration: Duration,
    /// The process that had the socket.
    pub process: Option<Process>,
}

/// All of it at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Open connections, the busiest first.
    pub open: Vec<Row>,
    /// Those that have ended, the last first.
    pub ended: Vec<EndedRow>,
    /// How many have ended, by severity: benign, suspicious, harmful.
    pub ends: [u64; 3],
    /// The time since the beginning.
    pub elapsed: Duration,
}

/// What is shown.
#[derive(Debug)]
pub struct Board {
    began: Instant,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Entry>,
    ended: VecDeque<EndedRow>,
    ends: [u64; 3],
    looked: Option<Instant>,
}

struct Entry {
    source: Weak<dyn Shown>,
    sent: u64,
    received: u64,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Board {
    /// Of a run that begins now.
    pub fn new() -> Self {
        Self { began: Instant::now(), state: RefCell::default() }
    }

    /// Shows a connection for as long as it lives.
    pub fn enter(&self, source: Rc<impl Shown + 'static>) {
        let source: Rc<dyn Shown> = source;
        let mut state = self.state.borrow_mut();
        // Removes dead entries from time to time, at amortized constant cost.
        if state.open.len() == state.open.capacity() {
            state.open.retain(|entry| entry.source.strong_count() > 0);
        }
        state.open.push(Entry { source: Rc::downgrade(&source), sent: 0, received: 0 });
    }

    /// One has ended.
    pub fn end(&self, record: &Record) {
        let verdict = record.verdict();
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        let mut state = self.state.borrow_mut();
        state.ends[verdict.severity as usize] += 1;
        if state.ended.len() == MAX_SHOWN {
            state.ended.pop_back();
        }
        state.ended.push_front(EndedRow {
            at: Instant::now(),
            severity: verdict.severity,
            what: plain(record.what(&verdict)),
            whither: record.whither(),
            sent: record.bytes.sent,
            received: record.bytes.received,
            duration: record.duration(),
            process: record.context.process.clone(),
        });
    }

    /// The current view. Rates are those since the last one.
    pub fn look(&self) -> View {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        let since = state.looked.replace(now).map_or(Duration::ZERO, |looked| now - looked);
        let rate = |bytes: u64| match since.as_micros() {
            0 => 0,
            micros => u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX),
        };
        let mut open = Vec::new();
        state.open.retain_mut(|entry| {
            let Some(source) = entry.source.upgrade() else { return false };
            let shot = source.shot();
            let (sending, receiving) = (
                rate(shot.sent.saturating_sub(entry.sent)),
                rate(shot.received.saturating_sub(entry.received)),
            );
            (entry.sent, entry.received) = (shot.sent, shot.received);
            open.push(Row { shot, sending, receiving });
            true
        });
        open.sort_by_key(|row| (std::cmp::Reverse(row.sending + row.receiving), row.shot.opened));
        state.ended.retain(|row| now - row.at < SHOWN);
        let ended = state.ended.iter().cloned().collect();
        View { open, ended, ends: state.ends, elapsed: now - self.began }
    }
}
