//! Connections between two sockets, one of them in the program's network: the kernel moves the data of both
//! (`splice`), without packets of ours. Faults of `--inject` act on the data instead.

mod faulty;

pub use faulty::{gone, hinder};

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::account::ConnectionReport;
use crate::budget::Slot;
use crate::closing::Live;
use crate::host::socket::outstanding;
use crate::host::urgent;
use crate::inject::{Flow, Parting, Plan as Faults};
use crate::relay::{RelayStats, Side};
use crate::run::Run;

/// Descriptors of one connection: two sockets, and a pipe for each direction.
pub const DESCRIPTORS: usize = 6;
/// Requested pipe capacity in bytes.
const PIPE: i32 = 256 * 1024;

/// Two sockets, whose data is passed on in both directions.
#[derive(Debug)]
pub struct Joint {
    /// The program's side.
    pub program: TcpStream,
    /// This host's side.
    pub host: TcpStream,
    /// The connection, for faults.
    pub flow: Flow,
    /// Its faults.
    pub faults: Faults,
}

/// Why a connection ended before both sides had closed.
#[derive(Debug)]
pub enum Parted {
    /// A socket failed.
    Failed {
        /// Whose.
        side: Side,
        /// How.
        errno: i32,
    },
    /// lastack closes it, to make room for another.
    Evicted,
    /// An injected fault ended it.
    Injected(Parting),
    /// The program has closed and released its socket, or reset it, while a fault holds everything up: the remote does
    /// not notice, until this time since the run began.
    Gone(Duration),
}

impl Parted {
    fn failed(side: Side, error: &io::Error) -> Self {
        Self::Failed { side, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Closes a socket, once it is dropped, with RST.
pub fn reset(socket: &TcpStream) {
    // Fails only on a descriptor that is not a socket.
    let _never = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

impl Joint {
    /// Relays until the end, and records it.
    pub async fn run(self, run: &Run, account: &ConnectionReport, live: &Live, slot: &Slot) {
        let Self { program, host, flow, faults } = self;
        run.count_between_sockets();
        live.watch(&account.ledger);
        account.may_be_evicted(slot);
        let joined = async {
            match faults.is_empty() {
                true => join(&program, &host, &account.ledger).await,
                // On the heap, as few connections have faults.
                false => {
                    Box::pin(faulty::join(run, (&faults, flow), (&program, &host), &account.ledger)).await
                }
            }
        };
        let over = tokio::select! {
            over = joined => Some(over),
            () = slot.evicted() => Some(Err(Parted::Evicted)),
            () = live.closing() => None,
        };
        let over = match over {
            Some(Ok(())) => settle(&program, &host, live, slot).await,
            other => other,
        };
        faults.count_at_end(&run.inject, &flow, &account.ledger.gate, false);
        if let Some(Err(Parted::Injected(Parting::HalfOpen { acknowledges }))) = over {
            let met = Box::pin(faulty::lose_remote(acknowledges, &program, host, live)).await;
            // A program that has sent nothing since does not know: its connection is open.
            run.record(account.joined(over.as_ref().filter(|_| met), None));
            return reset(&program);
        }
        run.record(account.joined(over.as_ref(), Some((&program, &host))));
        match over {
            Some(Ok(())) => {}
            // The kernel completes the close alone.
            None if account.ledger.program_fin.get() && account.ledger.remote_fin.get() => {}
            Some(Err(Parted::Injected(Parting::Reset(to)))) => {
                Box::pin(faulty::part(to, program, host, live)).await
            }
            Some(Err(Parted::Gone(until))) => {
                drop(program);
                tokio::select! {
                    () = sleep(until.saturating_sub(run.inject.elapsed())) => {}
                    () = slot.evicted() => {}
                    () = live.closing() => {}
                }
                reset(&host);
            }
            // A reset of either side, or an unfinished stream, is a reset for both.
            _ => [&program, &host].into_iter().for_each(reset),
        }
    }
}

/// Relays between both until both have closed.
async fn join(program: &TcpStream, host: &TcpStream, ledger: &RelayStats) -> Result<(), Parted> {
    urgent::prepare_connected(program);
    urgent::prepare_connected(host);
    let up = async {
        carry((program, Side::Program), (host, Side::Remote), ledger, &[&ledger.to_remote]).await?;
        ledger.closed(Side::Program);
        Ok(())
    };
    let down = async {
        let counters = [&ledger.from_remote, &ledger.to_program];
        carry((host, Side::Remote), (program, Side::Program), ledger, &counters).await?;
        ledger.closed(Side::Remote);
        Ok(())
    };
    let (mut up, mut down) = (pin!(up), pin!(down));
    // Of a side that has closed nothing is read any more: only its error shows that it refuses the other's data.
    tokio::select! {
        over = &mut up => {
            over?;
            tokio::select! { over = down => over, failed = trouble(program, Side::Program) => Err(failed) }
        }
        over = &mut down => {
            over?;
            tokio::select! { over = up => over, failed = trouble(host, Side::Remote) => Err(failed) }
        }
    }
}

/// Waits until a socket has an error.
async fn trouble(socket: &TcpStream, side: Side) -> Parted {
    loop {
        if socket.ready(Interest::ERROR).await.is_err() {
            return pending().await;
        }
        if let Ok(Some(error)) = socket.take_error() {
            return Parted::failed(side, &error);
        }
        // It was reported to another call.
        let _forgotten = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// Both FINs were passed on: waits until all data is acknowledged, or refused. `None`: it is not, and lastack waits no longer.
async fn settle(
    program: &TcpStream,
    host: &TcpStream,
    live: &Live,
    slot: &Slot,
) -> Option<Result<(), Parted>> {
    let mut pause = SETTLE_FIRST;
    loop {
        for (socket, side) in [(host, Side::Remote), (program, Side::Program)] {
            if let Ok(Some(error)) = socket.take_error() {
                return Some(Err(Parted::failed(side, &error)));
            }
        }
        let left = |socket| outstanding(socket, false).map_or(0, |left| left.total());
        if left(program) + left(host) == 0 {
            return Some(Ok(()));
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(SETTLE_MAX),
            () = slot.evicted() => return None,
            () = live.closing() => return None,
        }
    }
}

/// Polling of whether the data has arrived: first delay, and maximum.
const SETTLE_FIRST: Duration = Duration::from_millis(1);
const SETTLE_MAX: Duration = Duration::from_millis(100);

/// Passes the urgent byte on. Returns how many bytes were passed; `None`: it has not arrived yet. 0: the stream has ended
/// before it.
async fn pass_urgent(from: &TcpStream, to: &TcpStream) -> io::Result<Option<u64>> {
    let mut byte = [0];
    match from.try_read(&mut byte) {
        Ok(0) => return Ok(Some(0)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    }
    loop {
        match urgent::send(to, byte[0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            other => return other.map(|_| Some(1)),
        }
    }
}

/// From one to the other, up to the FIN, which is passed on.
async fn carry(
    (from, source): (&TcpStream, Side),
    (to, sink): (&TcpStream, Side),
    ledger: &RelayStats,
    counters: &[&Cell<u64>],
) -> Result<(), Parted> {
    let failed = |side| move |error: io::Error| Parted::failed(side, &error);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|errno| match errno {
        Errno::EMFILE | Errno::ENFILE => Parted::Evicted,
        other => Parted::Failed { side: sink, errno: other as i32 },
    })?;
    // SAFETY: the call takes numbers. If the user has many pipes already, the capacity stays as it is.
    let _smaller = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
    loop {
        from.readable().await.map_err(failed(source))?;
        // `splice` never passes an urgent byte.
        if urgent::is_next(from) {
            match pass_urgent(from, to).await.map_err(failed(source))? {
                Some(0) => {
                    finish(to);
                    return Ok(());
                }
                passed => {
                    counters.iter().for_each(|counter| counter.set(counter.get() + passed.unwrap_or(0)))
                }
            }
            continue;
        }
        let taken = match from.try_io(Interest::READABLE, || splice(from, &writer, PIPE as usize)) {
            Ok(0) => {
                finish(to);
                return Ok(());
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(failed(source)(error)),
        };
        ledger.moved_between_sockets(source, taken, &[]);
        let mut left = taken;
        while left > 0 {
            match to.try_io(Interest::WRITABLE, || splice(&reader, to, left)) {
                Ok(bytes) => {
                    left -= bytes;
                    counters.iter().for_each(|counter| counter.set(counter.get() + bytes as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.writable().await.map_err(failed(sink))?;
                }
                Err(error) => return Err(failed(sink)(error)),
            }
        }
    }
}

/// Passes the FIN on.
fn finish(to: &TcpStream) {
    // Fails on a connection that was reset, which its reader sees.
    let _reset = SockRef::from(to).shutdown(Shutdown::Write);
}

fn splice(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let nowhere = std::ptr::null_mut();
    // SAFETY: both descriptors are open for as long as the call lasts, and neither has an offset.
    let bytes = unsafe { libc::splice(from, nowhere, to, nowhere, most, flags) };
    Ok(Errno::result(bytes)?.cast_unsigned())
}
