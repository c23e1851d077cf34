//! The two directions of a connection, between the program's side (our stack) and the host's socket.
//!
//! Events are relayed as what they were: FIN as FIN, for each direction separately, and half-open for as long as the
//! other side likes; a reset as a reset, after the bytes before it have been delivered. Neither side is read faster
//! than the other accepts data (backpressure).

mod carried;
mod ended;
mod running;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use lastack::{Cause, End, RelayRead, TcpState, TcpStream};
use tokio::io::Interest;
use tokio::net::TcpStream as HostStream;
use tokio::time::sleep;

use crate::acks::{Acks, Sides};
use crate::budget::Idle;
use crate::course::Course;
use crate::host::inner::{Flow, Inner};
use crate::host::scratch;
use crate::host::socket::{close_with_reset, outstanding};
use crate::host::urgent;
use crate::inject::{self, Gate, Held};
use crate::report::{By, Facts, Fins, Path, Proto};
use crate::tap::Urgent;
use crate::task::Waiting;

pub use carried::{Carried, acted};
pub use ended::{Ended, outlive};
pub(crate) use running::Boxed;
pub use running::Running;

/// Max bytes of a turn: the other connections have theirs, and the driver sends these bytes while they are in the CPU's
/// cache.
const TURN: usize = 256 * 1024;
/// After less than this, as little is expected of the next read: one piece has room for it, and the call for one takes the
/// kernel less time.
const SMALL: usize = 4096;
/// Max data of the program that the stack holds for the host's socket; more is of no use so near to the program. Without
/// this limit the program's kernel sends what its congestion windows allow, which differ by a factor of 40 after slow start,
/// and all of it waits in the device's queue, so that connections with small windows wait behind those with large ones.
const MAX_WINDOW: u32 = 1 << 20;
/// A connection that has sent this much sends bulk data: from then on the limit applies.
const BULK: u64 = 128 * 1024;
/// How long to wait without progress, once one side has ended, for the other side to take the preceding data.
const PATIENCE: Duration = Duration::from_secs(3);
/// Minimum delay of a reset after the connection is established. On a network it would arrive at least an RTT later;
/// here everything before it may have happened already, and a program that has not yet noticed that it is connected
/// would lose the bytes before the reset.
const GRACE: Duration = Duration::from_millis(20);
/// The kernel does not report when the remote has acknowledged the last byte; this is the first polling interval, which
/// backs off.
const ASK: Duration = Duration::from_millis(1);
const ASK_AT_LEAST: Duration = Duration::from_millis(100);

/// Polling interval after the program's FIN: does a process still hold the connection? First delay, and then the
/// maximum.
const LET_GO: Duration = Duration::from_secs(1);
const LET_GO_MAX: Duration = Duration::from_secs(8);

/// One of the two ends of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program.
    Program,
    /// The remote.
    Remote,
}

impl From<Side> for By {
    fn from(side: Side) -> Self {
        match side {
            Side::Program => Self::Program,
            Side::Remote => Self::Remote,
        }
    }
}

/// Why a relay has ended.
#[derive(Clone, Debug)]
pub enum Over {
    /// Both directions ended with FIN, and both FINs were acknowledged.
    Orderly,
    /// The host's connection failed, with this errno.
    Host(i32),
    /// The program's side ended, but not cleanly.
    Program(Box<End>),
    /// The program has closed and released its socket, and the remote has not closed.
    LetGo,
    /// It was idle, and closed to make room for another.
    Evicted(String),
    /// An injected fault ended it, and kept this side of it.
    Injected(Held),
}

/// Progress of a relay, for the report and for detecting that nothing moves any more.
#[derive(Debug, Default)]
pub struct RelayStats {
    /// Bytes of the program, written to the host's socket.
    pub to_remote: Cell<u64>,
    /// Bytes of the remote, read from the host's socket.
    pub from_remote: Cell<u64>,
    /// Bytes of the remote, written to our stack.
    pub to_program: Cell<u64>,
    /// The side that sent the first FIN.
    pub first_fin: Cell<Option<Side>>,
    /// The program's FIN was passed on.
    pub program_fin: Cell<bool>,
    /// The host's socket has sent it, or will: it counts as a byte until it is acknowledged.
    pub fin_sent: Cell<bool>,
    /// The remote's FIN was received.
    pub remote_fin: Cell<bool>,
    /// The program's data waits for room in the host's socket.
    pub blocked: Cell<bool>,
    /// The last read of the host's socket was a small one.
    pub small_read: Cell<bool>,
    /// How many bytes, at the last check.
    pub waiting: Cell<u64>,
    /// The remote has acknowledged all of the program's data, and its FIN.
    pub delivered: Cell<bool>,
    /// The program sends keep-alive probes, and the remote has not answered.
    pub unanswered: Cell<bool>,
    /// The task, which has to close when it is evicted, and with the run.
    pub task: Waiting,
    /// Observations for the report.
    pub course: Course,
    /// Where a fault stops it.
    pub gate: Gate,
}

impl RelayStats {
    /// A counter that grows with every byte relayed.
    pub fn moved(&self) -> u64 {
        self.to_remote.get() + self.from_remote.get() + self.to_program.get()
    }

    /// The facts for a record.
    pub fn facts(&self) -> Facts {
        let fin = Fins { program: self.program_fin.get(), remote: self.remote_fin.get() };
        Facts { fin, first_fin: self.first_fin.get().map(By::from), ..self.course.facts() }
    }

    /// This side has closed.
    pub fn closed(&self, side: Side) {
        self.fin(side);
    }

    fn fin(&self, side: Side) {
        let fin = if side == Side::Program { &self.program_fin } else { &self.remote_fin };
        fin.set(true);
        if self.first_fin.get().is_none() {
            self.first_fin.set(Some(side));
            self.course.first_fin();
        }
    }

    /// Data of this side is relayed: all of it, in pieces.
    fn data(&self, from: Side, pieces: &[&[u8]]) {
        self.course.data(from, pieces, self.is_late(from));
    }

    /// The same, of data that passes between two sockets. There are no pieces if it is not read.
    pub fn moved_between_sockets(&self, from: Side, bytes: usize, pieces: &[&[u8]]) {
        self.course.moved(from, bytes, pieces, self.is_late(from));
    }

    /// Whether data of this side comes after the other has closed.
    fn is_late(&self, from: Side) -> bool {
        if from == Side::Program { self.remote_fin.get() } else { self.program_fin.get() }
    }
}

impl Idle for RelayStats {
    fn idle(&self) -> Duration {
        self.course.idle()
    }

    fn task(&self) -> &Waiting {
        &self.task
    }
}

/// A relayed connection.
#[derive(Debug)]
pub struct Relay<'a> {
    program: &'a TcpStream,
    host: &'a HostStream,
    ledger: &'a RelayStats,
    /// The program's own socket.
    inner: &'a Inner,
    /// Which of the program's data is acknowledged.
    acks: Acks,
    /// The marks of urgent data.
    urgent: &'a Urgent,
    /// The error of the host's socket, which the kernel reports only once, to the first call that asks.
    failed: Cell<Option<i32>>,
}

impl<'a> Relay<'a> {
    /// Between these two. `reset`: the host's connection was reset before it was handed over.
    pub fn new(
        program: &'a TcpStream,
        host: &'a HostStream,
        ledger: &'a RelayStats,
        inner: &'a Inner,
        urgent: &'a Urgent,
        reset: Option<io::Error>,
    ) -> Self {
        let failed = Cell::new(reset.map(|error| errno(&error)));
        let acks = Acks::new(program);
        Self { program, host, ledger, inner, acks, urgent, failed }
    }

    /// Relays until the connection has ended, and passes the end on.
    pub fn run(&'a self) -> Running<'a> {
        Running::new(self)
    }

    /// Its progress.
    pub fn ledger(&self) -> &'a RelayStats {
        self.ledger
    }

    fn sides(&self) -> Sides<'a> {
        Sides { program: self.program, host: self.host, ledger: self.ledger }
    }

    /// The connection as the program sees it.
    fn flow(&self) -> Flow {
        let known = "a stream has its addresses";
        Flow {
            program: self.program.peer_addr().expect(known),
            remote: self.program.local_addr().expect(known),
        }
    }

    /// The state of our end, and the path as measured by the host's kernel.
    pub fn state(&self) -> (TcpState, Option<Path>) {
        (self.program.state(), crate::host::tcp_info::path(self.host))
    }

    /// The connection, for faults.
    pub fn faulty(&self) -> inject::Flow {
        let Flow { program, remote } = self.flow();
        inject::Flow::new(Proto::Tcp, program, remote)
    }

    /// Whether data of the program is not yet acknowledged by the remote.
    pub fn is_waiting(&self) -> bool {
        self.acks.is_waiting(self.ledger)
    }

    /// Closes the host's socket, once it is dropped, with RST (`Rule::RstAbort`).
    pub fn reset_remote(&self) {
        close_with_reset(self.host);
    }

    /// Data of the program was written to the host's socket.
    fn passed_up(&self, bytes: usize) {
        let before = self.ledger.to_remote.get();
        add(&self.ledger.to_remote, bytes);
        if before < BULK && self.ledger.to_remote.get() >= BULK {
            // Fails only on a connection that has ended, which the next poll sees.
            let _over = self.program.set_recv_buffer_size(MAX_WINDOW);
        }
        self.acks.wrote(self.sides());
    }

    /// Whether the end of the program's stream is its FIN: a reset that was reported to another call shows as one.
    fn is_end_of_stream(&self) -> Result<(), Over> {
        match self.program.end().filter(|end| end.cause != Cause::Orderly) {
            Some(end) => Err(Over::Program(Box::new(end))),
            None => Ok(()),
        }
    }

    /// Passes the program's FIN on.
    fn finish_up(&self) {
        // Fails on a connection that was reset, which the next poll sees; no FIN is sent then.
        let sent = socket2::SockRef::from(self.host).shutdown(std::net::Shutdown::Write).is_ok();
        self.ledger.fin_sent.set(sent);
        self.ledger.fin(Side::Program);
        self.acks.finished(self.sides());
    }

    /// Passes the remote's FIN on.
    fn finish_down(&self) {
        self.ledger.fin(Side::Remote);
        self.acks.heard(self.sides());
        // Fails on a connection that has ended, which the next poll sees.
        let _over = self.program.shutdown_write();
    }

    /// Writes what is readable, and may pass the gate, to the host's socket, in place. 0: there is no room. Looks at the
    /// program's side otherwise as well once there is nothing more to be read.
    fn poll_up(&self, cx: &mut Context<'_>, seen: &mut Seen) -> Poll<Result<Option<usize>, Over>> {
        let left = self.ledger.gate.room(Side::Program, self.ledger.to_remote.get());
        let mark = self.next_mark();
        let mut failed = None;
        let mut relayed = self.program.poll_relay_read(cx, |texts| {
            // A write that ends with an urgent byte is one of that byte alone: a part of it could be written otherwise.
            let texts = first(texts, left.min(mark.map_or(usize::MAX, |mark| mark.max(1))));
            self.ledger.course.before(texts[0]);
            let written = match texts.iter().find_map(|text| text.first()) {
                Some(&byte) if mark == Some(0) => urgent::send(self.host, byte),
                // The call for one piece takes the kernel less time.
                _ if texts[1].is_empty() => self.host.try_write(texts[0]),
                _ => self.host.try_write_vectored(&texts.map(IoSlice::new)),
            };
            match written {
                Ok(bytes) => {
                    self.ledger.data(Side::Program, &first(texts, bytes));
                    bytes
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ledger.waiting.set(texts.iter().map(|text| text.len() as u64).sum());
                    0
                }
                Err(error) => {
                    failed = Some(error);
                    0
                }
            }
        });
        *seen = Seen::from(&mut relayed);
        match (failed, relayed.read) {
            (Some(error), _) => Poll::Ready(Err(self.host_failed(&error))),
            (None, Poll::Ready(Err(error))) => Poll::Ready(Err(self.program_failed(&error))),
            (None, Poll::Ready(Ok(bytes))) => Poll::Ready(Ok(bytes)),
            (None, Poll::Pending) => Poll::Pending,
        }
    }

    /// The distance to the next urgent byte of the program.
    fn next_mark(&self) -> Option<usize> {
        if !self.urgent.is_used() {
            return None;
        }
        let begin = self.program.initial_numbers().ok()?.peers?.wrapping_add(1);
        self.urgent.next(self.flow().into(), begin.wrapping_add(self.ledger.to_remote.get() as u32))
    }

    /// The next byte for the program is urgent.
    fn mark_next(&self) {
        if let Some(initial) = self.program.initial_numbers().ok().and_then(|numbers| numbers.ours) {
            let next = initial.wrapping_add(1).wrapping_add(self.ledger.to_program.get() as u32);
            self.urgent.mark(self.flow().into(), next);
        }
    }

    /// Reads once, up to `left` bytes, into the free space of the program's side. `None`: there is none, or the side
    /// has ended, which the next wait for room reports.
    fn pass_down(&self, mut left: usize) -> io::Result<Option<usize>> {
        if urgent::is_next(self.host) {
            self.mark_next();
            left = 1;
        } else if self.ledger.small_read.get() {
            left = left.min(SMALL);
        }
        let mut read = Ok(None);
        let mut drained = false;
        let written = scratch::with(|spare| {
            self.program.try_write_with(spare, |room| {
                let mut room = first_room(room, left).map(IoSliceMut::new);
                let fits: usize = room.iter().map(|piece| piece.len()).sum();
                let result = match &mut room {
                    [only, second, third] if second.is_empty() && third.is_empty() => {
                        self.host.try_read(only)
                    }
                    room => self.host.try_read_vectored(room),
                };
                match result {
                    Ok(bytes) => {
                        read = Ok(Some(bytes));
                        self.ledger.small_read.set(bytes < SMALL);
                        // A read also ends before an urgent byte.
                        drained = bytes < fits && !urgent::is_next(self.host);
                        self.ledger.data(Side::Remote, &read_pieces(&room, bytes));
                        bytes
                    }
                    Err(error) => {
                        read = Err(error);
                        0
                    }
                }
            })
        });
        if let Ok(Some(bytes @ 1..)) = read {
            add(&self.ledger.from_remote, bytes);
            add(&self.ledger.to_program, written.unwrap_or(0));
            self.acks.heard(self.sides());
            if drained {
                // Nothing is left: another read would only return `WouldBlock`.
                let _forgotten =
                    self.host.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
            }
        }
        read
    }

    /// The host's connection can fail while neither direction waits for it: after the remote's FIN, or while the
    /// program does not read.
    async fn host_trouble(&self) -> Over {
        loop {
            if let Some(errno) = self.failed.get() {
                return Over::Host(errno);
            }
            if self.host.ready(Interest::ERROR).await.is_err() {
                return pending().await;
            }
            match self.host.take_error() {
                Ok(Some(error)) => return self.host_failed(&error),
                // The error was reported to another call.
                Ok(None) => match self.failed.get() {
                    Some(errno) => return Over::Host(errno),
                    None => self.forget_error_readiness(),
                },
                Err(_) => return pending().await,
            }
        }
    }

    fn forget_error_readiness(&self) {
        let _forgotten = self.host.try_io(Interest::ERROR, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    }

    /// Waits until no process of the program holds the connection; its kernel then ends it after a while.
    async fn abandoned(&self) {
        let flow = self.flow();
        let mut pause = LET_GO;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LET_GO_MAX);
            match self.inner.look(flow) {
                Ok(Some(found)) if !found.orphan => {}
                Ok(_) => return,
                // The system does not report it.
                Err(_) => return pending().await,
            }
        }
    }

    /// Both FINs were relayed: waits until both are acknowledged.
    async fn settle(&self) -> Over {
        self.acks.closed(self.sides());
        let arrived = async {
            let ended = self.program.closed().await;
            if !self.ledger.delivered.get() {
                self.acknowledged(None).await;
            }
            match ended {
                Ok(end) if end.cause != Cause::Orderly => Over::Program(Box::new(end)),
                _ => Over::Orderly,
            }
        };
        tokio::select! {
            over = arrived => over,
            over = self.host_trouble() => over,
        }
    }

    /// Waits until the program's side has acknowledged everything sent to it.
    async fn deliver_to_program(&self) {
        let left = || self.program.info().map_or(0, |info| (info.unsent + info.unacked) as u64);
        self.while_moving(pin!(async { self.program.drained().await.is_ok() }), left).await;
    }

    /// Waits until the remote has acknowledged everything sent to it.
    async fn deliver_to_remote(&self) {
        self.acknowledged(Some(PATIENCE)).await;
    }

    /// Waits until the remote has acknowledged everything, or until `patience` has passed without progress.
    async fn acknowledged(&self, patience: Option<Duration>) {
        let (mut left, mut quiet, mut pause) = (u64::MAX, Duration::ZERO, ASK);
        while self.failed.get().is_none() && patience.is_none_or(|patience| quiet < patience) {
            let Ok(now) = outstanding(self.host, false) else { return };
            if now.total() == 0 {
                return;
            }
            if now.total() < left {
                (left, quiet) = (now.total(), Duration::ZERO);
            }
            sleep(pause).await;
            quiet += pause;
            pause = (pause * 2).min(ASK_AT_LEAST);
        }
    }

    /// Runs a direction for as long as it makes progress.
    async fn patiently(&self, direction: impl FnMut(&mut Context<'_>) -> Poll<Result<(), Over>>) {
        self.while_moving(pin!(poll_fn(direction)), || u64::MAX - self.ledger.moved()).await;
    }

    /// Waits for `future` for as long as `left` keeps decreasing.
    async fn while_moving<F: Future>(&self, mut future: Pin<&mut F>, left: impl Fn() -> u64) {
        loop {
            let before = left();
            tokio::select! {
                _ = &mut future => return,
                () = sleep(PATIENCE) => if left() >= before { return },
            }
        }
    }

    fn host_failed(&self, error: &io::Error) -> Over {
        let errno = self.failed.get().unwrap_or_else(|| errno(error));
        self.failed.set(Some(errno));
        Over::Host(errno)
    }

    fn program_failed(&self, error: &io::Error) -> Over {
        match self.program.end().or_else(|| lastack::EndError::find(error).cloned()) {
            Some(end) => Over::Program(Box::new(end)),
            // The link is gone, because the program's namespace is.
            None => Over::Host(errno(error)),
        }
    }
}

/// What a look at the program's side has found beside data.
#[derive(Debug, Default)]
struct Seen {
    /// It has been looked at, and the task is woken by what was not found.
    looked: bool,
    /// There is nothing more to be read, and the task is woken by data.
    drained: bool,
    /// How it has ended.
    end: Option<End>,
    /// The program's kernel waits for an acknowledgment.
    ack_wanted: bool,
}

impl From<&mut RelayRead> for Seen {
    fn from(relayed: &mut RelayRead) -> Self {
        let RelayRead { drained, ack_wanted, .. } = *relayed;
        Self { looked: drained || relayed.read.is_pending(), drained, end: relayed.end.take(), ack_wanted }
    }
}

/// The first `left` bytes of these.
fn first([front, back]: [&[u8]; 2], left: usize) -> [&[u8]; 2] {
    let front = &front[..front.len().min(left)];
    [front, &back[..back.len().min(left - front.len())]]
}

/// What was read: this number of bytes, in the order of the pieces.
fn read_pieces<'a, const N: usize>(room: &'a [IoSliceMut<'_>; N], mut bytes: usize) -> [&'a [u8]; N] {
    room.each_ref().map(|room| {
        let piece = &room[..bytes.min(room.len())];
        bytes -= piece.len();
        piece
    })
}

/// Like [`first`], for buffers to write to.
fn first_room<const N: usize>(room: [&mut [u8]; N], mut left: usize) -> [&mut [u8]; N] {
    room.map(|piece| {
        let len = piece.len().min(left);
        left -= len;
        &mut piece[..len]
    })
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn add(to: &Cell<u64>, bytes: usize) {
    to.set(to.get() + bytes as u64);
}

#[cfg(test)]
mod tests;
