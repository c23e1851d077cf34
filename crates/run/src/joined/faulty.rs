//! The same with faults: the data is read and written, so that it can be counted, delayed, and held up.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Parted, reset};
use crate::account::ConnectionReport;
use crate::closing::Live;
use crate::host::{inner, urgent};
use crate::inject::{AtSyn, Ends, Flow, OnData, Plan as Faults};
use crate::relay::{RelayStats, Side};
use crate::run::Run;

/// Max bytes of one piece of data, and max pieces of a direction that are under way.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 64;
/// At a limited rate a piece takes at most this part of a second.
const PIECES_PER_SECOND: u64 = 20;

/// Data that is under way; without bytes, the FIN.
struct Piece {
    due: Instant,
    data: Vec<u8>,
}

/// A connection that the kernel has accepted, before it is passed on: whether a fault prevents that. The connection is
/// then recorded. `gone`: its client has given up.
pub async fn hinder(
    run: &Run,
    (faults, flow): (&Faults, Flow),
    account: &ConnectionReport,
    live: &Live,
    gone: impl Future<Output = ()>,
) -> bool {
    match faults.answer_to_socket(&run.inject, &flow) {
        None => false,
        Some(AtSyn::Silence(until)) => {
            let gone = tokio::select! {
                () = sleep(until.saturating_sub(run.inject.elapsed())) => return false,
                () = gone => true,
                () = live.closing() => false,
            };
            run.record(account.held_up(gone));
            true
        }
        Some(_) => {
            run.record(account.answered_by_fault(None, true));
            true
        }
    }
}

/// Relays between both until both have closed, or a fault ends the connection.
pub async fn join(
    run: &Run,
    (faults, flow): (&Faults, Flow),
    (program, host): (&TcpStream, &TcpStream),
    ledger: &RelayStats,
) -> Result<(), Parted> {
    // Urgent data is passed on as ordinary data.
    urgent::prepare_connected(program);
    urgent::prepare_connected(host);
    let gate = &ledger.gate;
    faults.prepare(gate, run.inject.elapsed());
    let read = Default::default();
    let way = |from, to, side| Way {
        run,
        faults,
        flow,
        from,
        to,
        side,
        ledger,
        read: &read,
        written: Notify::new(),
    };
    let (up, down) = (way(program, host, Side::Program), way(host, program, Side::Remote));
    let relay = async { tokio::try_join!(up.carry(), down.carry()) };
    let passed = |side| match side {
        Side::Program => ledger.to_remote.get(),
        Side::Remote => ledger.from_remote.get(),
    };
    tokio::select! {
        biased;
        over = relay => over.map(|_| ()),
        parting = faults.parting(&run.inject, &flow, gate, passed) => Err(Parted::Injected(parting)),
    }
}

/// Waits until the program sends on a connection that its remote has lost, or acknowledges data of before. Returns whether
/// it did so before the run ended: its socket then gets a reset.
pub async fn lose_remote(acknowledges: bool, program: &TcpStream, host: TcpStream, live: &Live) -> bool {
    // The data that a remote has under way is acknowledged by the program.
    let sending = SockRef::from(&host).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|bytes| bytes > 0);
    reset(&host);
    drop(host);
    if acknowledges || sending {
        return true;
    }
    let mut byte = [0];
    tokio::select! {
        // Also when it closes: its FIN meets a host that does not know the connection.
        _ = program.peek(&mut byte) => true,
        () = live.closing() => false,
    }
}

/// Resets these ends of a connection. A side that does not notice it is open until the run ends.
pub async fn part(to: Ends, program: TcpStream, host: TcpStream, live: &Live) {
    match to {
        Ends::Both => [&program, &host].into_iter().for_each(reset),
        _ => {
            let (gone, left) = if to == Ends::Program { (program, host) } else { (host, program) };
            reset(&gone);
            drop(gone);
            let mut byte = [0];
            tokio::select! {
                // What it sends meets an end that does not know the connection.
                _ = left.peek(&mut byte) => {}
                () = live.closing() => {}
            }
            reset(&left);
        }
    }
}

/// Waits until no process has the program's end of a connection any more: nothing is read, so that neither its FIN nor its
/// RST is seen.
pub async fn gone(run: &Run, program: &TcpStream) {
    let (Ok(theirs), Ok(ours)) = (program.peer_addr(), program.local_addr()) else { return };
    let ends = inner::Flow { program: theirs, remote: ours };
    let mut pause = GONE_FIRST;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(GONE_MAX);
        match run.inner.look(ends) {
            // A connection that the program has not accepted yet has no process either.
            Ok(Some(found))
                if !found.orphan || matches!(found.state, SYN_RECV | ESTABLISHED | CLOSE_WAIT) => {}
            Ok(_) => return,
            // The system does not report it.
            Err(_) => return std::future::pending().await,
        }
    }
}

/// include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const CLOSE_WAIT: u8 = 8;

/// Polling of whether the program has its end: first delay, and interval.
const GONE_FIRST: Duration = Duration::from_millis(100);
const GONE_MAX: Duration = Duration::from_secs(1);

/// One direction.
struct Way<'a> {
    run: &'a Run,
    faults: &'a Faults,
    flow: Flow,
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// Whose data it is.
    side: Side,
    ledger: &'a RelayStats,
    /// The bytes read of the program's data, and of the remote's.
    read: &'a [Cell<u64>; 2],
    /// A piece of data was written.
    written: Notify,
}

impl Way<'_> {
    /// Up to the FIN, which is passed on.
    async fn carry(&self) -> Result<(), Parted> {
        let (queue, pieces) = mpsc::channel(PIECES);
        tokio::try_join!(self.read(queue), self.write(pieces))?;
        self.ledger.closed(self.side);
        Ok(())
    }

    /// The number of bytes read.
    fn own(&self) -> &Cell<u64> {
        &self.read[usize::from(self.side == Side::Remote)]
    }

    fn failed(&self, side: Side) -> impl Fn(io::Error) -> Parted {
        move |error| Parted::failed(side, &error)
    }

    fn effect(&self, turn: u64) -> OnData {
        let bytes = [self.read[0].get(), self.read[1].get()];
        self.faults.on_data(&self.run.inject, self.side, bytes, turn)
    }

    /// Waits until this time since the run began, by this rule.
    async fn wait(&self, (rule, until): (usize, Duration)) {
        self.run.inject.acted(&self.flow, rule);
        // The time that ends a fault belongs to it.
        let rest = until.saturating_sub(self.run.inject.elapsed());
        sleep(rest.saturating_add(Duration::from_millis(1))).await;
    }

    /// As [`wait`](Self::wait), for a direction in which nothing passes, unless the program is gone before.
    async fn hold(&self, stalled: (usize, Duration)) -> Result<(), Parted> {
        let program = if self.side == Side::Program { self.from } else { self.to };
        tokio::select! {
            () = self.wait(stalled) => Ok(()),
            () = gone(self.run, program) => Err(Parted::Gone(stalled.1)),
        }
    }

    /// Waits until all that was read is written.
    async fn drained(&self) {
        let written = || match self.side {
            Side::Program => self.ledger.to_remote.get(),
            Side::Remote => self.ledger.to_program.get(),
        };
        while written() < self.own().get() {
            self.written.notified().await;
        }
    }

    async fn read(&self, queue: mpsc::Sender<Piece>) -> Result<(), Parted> {
        let gate = &self.ledger.gate;
        let (mut turn, mut last, mut free) = (0, Instant::now(), Instant::now());
        loop {
            let own = self.own().get();
            if gate.room(self.side, own) == 0 {
                self.drained().await;
                gate.left(self.side, own).await;
                continue;
            }
            self.from.readable().await.map_err(self.failed(self.side))?;
            let effect = self.effect(turn);
            turn += 1;
            if let Some(stalled) = effect.stalled {
                self.hold(stalled).await?;
                continue;
            }
            // A fault has closed the gate meanwhile if there is no room.
            let room = effect.room.unwrap_or(u64::MAX).min(gate.room(self.side, own) as u64);
            let even = effect.rate.map_or(u64::MAX, |rate| (rate / PIECES_PER_SECOND).max(1));
            let mut data = vec![0; room.min(even).min(PIECE as u64) as usize];
            if data.is_empty() {
                continue;
            }
            match self.from.try_read(&mut data) {
                Ok(bytes) => data.truncate(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(self.failed(self.side)(error)),
            }
            if data.is_empty() {
                self.finish(turn).await;
            }
            self.ledger.moved_between_sockets(self.side, data.len(), &[&data]);
            self.own().set(own + data.len() as u64);
            let time = |rate| Duration::from_secs_f64(data.len() as f64 / rate as f64);
            free = free.max(Instant::now()) + effect.rate.map_or(Duration::ZERO, time);
            last = last.max(free + effect.delay);
            effect.late.iter().for_each(|rule| self.run.inject.acted(&self.flow, *rule));
            let is_fin = data.is_empty();
            // Fails when the other end has failed, which the writer reports.
            let _reported = queue.send(Piece { due: last, data }).await;
            if is_fin {
                return Ok(());
            }
        }
    }

    /// Waits until the FIN may pass.
    async fn finish(&self, turn: u64) {
        loop {
            let effect = self.effect(turn);
            let Some(held_up) = effect.cut.or(effect.stalled) else { break };
            self.wait(held_up).await;
        }
        if self.ledger.gate.holds_fin(self.side) {
            self.drained().await;
            self.ledger.gate.fin(self.side).await;
        }
    }

    async fn write(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), Parted> {
        let ledger = self.ledger;
        let (other, counters): (Side, &[&Cell<u64>]) = match self.side {
            Side::Program => (Side::Remote, &[&ledger.to_remote]),
            Side::Remote => (Side::Program, &[&ledger.from_remote, &ledger.to_program]),
        };
        while let Some(Piece { due, data }) = pieces.recv().await {
            sleep_until(due).await;
            if data.is_empty() {
                // Fails on a connection that was reset, which its reader sees.
                let _reset = SockRef::from(self.to).shutdown(Shutdown::Write);
            }
            let mut left = &data[..];
            while !left.is_empty() {
                match self.to.try_write(left) {
                    Ok(bytes) => {
                        left = &left[bytes..];
                        counters.iter().for_each(|counter| counter.set(counter.get() + bytes as u64));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.to.writable().await.map_err(self.failed(other))?;
                    }
                    Err(error) => return Err(self.failed(other)(error)),
                }
            }
            self.written.notify_one();
        }
        Ok(())
    }
}
