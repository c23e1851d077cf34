//! When the program's data is acknowledged: once the remote has shown that it is alive, so that the program's own
//! timers (retransmission, `TCP_USER_TIMEOUT`, keep-alive) notice a remote that has vanished.
//!
//! The host's kernel accepts more data than the remote has acknowledged, and more than the remote has room for. The
//! criterion is whether the remote is alive: with any progress of its own, everything written before is acknowledged.
//! While data is in flight and nothing comes back, later writes stay unacknowledged, the program's kernel retransmits
//! them, and finally gives up as it would have done without lastack.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use lastack::TcpStream;
use lastack_wire::icmp::IcmpError;
use tokio::net::TcpStream as HostStream;
use tokio::time::{Instant, sleep};

use crate::host::Failure;
use crate::host::socket::outstanding;
use crate::host::tcp_info::{Attempt, Info, Life};
use crate::relay::{Boxed, RelayStats};

/// Polling of the host's kernel for the remote's acknowledgments: first delay after a write; it backs off.
const FIRST_LOOK: Duration = Duration::from_millis(4);
/// How often the first delay doubles at most: it does each time the remote has answered with data before it is over, as
/// in an exchange of requests and responses. Linux delays its ACKs as long in such an exchange.
const MAX_DOUBLED: u8 = 4;
/// The first delay once data flows in one direction only, and the kernel reported no acknowledgment when polled: a remote
/// on this machine acknowledges as soon as it has read.
const SOON: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// After this number of writes in one direction only, the kernel is polled at once: no data will come back that implies
/// an acknowledgment.
const ONE_WAY: u32 = 2;
/// How long to wait for the answer to a probe. The program's next probe starts another wait.
const PROBE: Duration = Duration::from_secs(60);
/// After a probe, the pause before the next one is looked at.
const AFTER_PROBE: Duration = Duration::from_millis(64);
/// A remote that sent something this recently is not probed.
const FRESH: Duration = Duration::from_secs(1);
/// From this delay on ICMP errors are checked as well.
const SOFT_ERRORS: Duration = Duration::from_millis(64);

/// The two sides of a relayed connection, and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// The program's side.
    pub program: &'a TcpStream,
    /// The host's socket.
    pub host: &'a HostStream,
    /// The progress.
    pub ledger: &'a RelayStats,
}

/// The acknowledgment state of a connection's data. Each call is given the connection, which the relay has: an idle
/// connection takes less memory than with a reference here.
#[derive(Debug, Default)]
pub struct Acks {
    /// Bytes that may be acknowledged to the program, including its FIN.
    sure: Cell<u64>,
    fin_sure: Cell<bool>,
    /// What the remote had acknowledged at the last check.
    acked: Cell<u64>,
    /// Writes since the remote last sent something.
    writes: Cell<u32>,
    /// How often the remote was heard.
    answers: Cell<u32>,
    /// How often the first delay after the next write is doubled.
    doubled: Cell<u8>,
    /// Data is waiting to be acknowledged, and the host's kernel is not polled yet.
    waiting: Cell<bool>,
    /// A poll after [`SOON`] was started since the last acknowledgment: without progress polls become less frequent.
    soon: Cell<bool>,
    /// It is to be started.
    start_soon: Cell<bool>,
}

/// What a connection waits for while data is in flight, or while the program probes; nothing while it is idle.
#[derive(Default)]
pub struct Attending<'a> {
    look: Option<Boxed<'a, ()>>,
    probe: Option<Boxed<'a, ()>>,
}

impl Attending<'_> {
    fn is_empty(&self) -> bool {
        self.look.is_none() && self.probe.is_none()
    }
}

impl Acks {
    /// From now on the program's data is acknowledged by this object.
    pub fn new(program: &TcpStream) -> Self {
        // Fails only on a connection that has ended, which the relay sees.
        let _over = program.hold_acks();
        Self::default()
    }

    fn first_look(&self) -> Duration {
        FIRST_LOOK * (1 << self.doubled.get())
    }

    /// Data of the program was written to the host's socket.
    pub fn wrote(&self, on: Sides<'_>) {
        let writes = self.writes.get() + 1;
        self.writes.set(writes);
        if writes < ONE_WAY {
            self.waiting.set(true);
        } else if !self.look(on) {
            self.waiting.set(true);
            if !self.soon.replace(true) {
                self.start_soon.set(true);
            }
        }
    }

    /// The program's FIN was passed on.
    pub fn finished(&self, on: Sides<'_>) {
        if !self.look(on) {
            self.waiting.set(true);
        }
    }

    /// Both sides have closed.
    pub fn closed(&self, on: Sides<'_>) {
        self.fin_sure.set(true);
        self.sure.set(on.ledger.to_remote.get());
        self.acknowledge(on);
    }

    /// Data or a FIN of the remote has arrived: it is alive.
    pub fn heard(&self, on: Sides<'_>) {
        on.ledger.unanswered.set(false);
        self.writes.set(0);
        self.answers.set(self.answers.get().wrapping_add(1));
        self.sure_of_all_data(on);
    }

    /// Whether data or the FIN of the program waits to be acknowledged.
    pub fn is_waiting(&self, ledger: &RelayStats) -> bool {
        self.sure.get() < ledger.to_remote.get() || ledger.program_fin.get() && !self.fin_sure.get()
    }

    fn sure_of_all_data(&self, on: Sides<'_>) {
        let written = on.ledger.to_remote.get();
        if self.sure.replace(written) < written {
            self.acknowledge(on);
        }
    }

    fn acknowledge(&self, on: Sides<'_>) {
        self.soon.set(false);
        let _over = on.program.acknowledge(self.sure.get(), self.fin_sure.get());
    }

    /// Polls the host's kernel, and acknowledges what the result allows. Returns whether nothing is left to poll for.
    fn look(&self, on: Sides<'_>) -> bool {
        let (written, fin) = (on.ledger.to_remote.get(), on.ledger.fin_sent.get());
        // Fails only on a descriptor that is not a socket.
        let Ok(left) = outstanding(on.host, fin) else { return true };
        let acked = written.saturating_sub(left.total());
        let progress = acked > self.acked.replace(acked);
        if left.is_empty() {
            on.ledger.delivered.set(fin);
            self.fin_sure.set(fin);
            self.sure.set(written);
            self.acknowledge(on);
        } else if progress || left.unacked == 0 {
            // A closed window of the remote is no sign that it has vanished.
            self.sure_of_all_data(on);
        }
        !self.is_waiting(on.ledger)
    }

    /// Polls while data waits to be acknowledged, and answers probes. `ack_wanted`: whether there is one, if that was
    /// looked at just now, and the task is woken by one. `failed`: takes the error of the host's socket, which
    /// the kernel reports only once.
    pub fn poll<'a>(
        &'a self,
        on: Sides<'a>,
        attending: &mut Option<Box<Attending<'a>>>,
        mut ack_wanted: Option<bool>,
        failed: &'a Cell<Option<i32>>,
        cx: &mut Context<'_>,
    ) {
        let mut is_wanted = |cx: &mut Context<'_>| match ack_wanted.take() {
            Some(known) => known,
            None => on.program.poll_ack_wanted(cx).map(|wanted| wanted.is_ok()) == Poll::Ready(true),
        };
        while !attending.as_mut().is_some_and(|attending| is_pending(&mut attending.probe, cx))
            && is_wanted(cx)
        {
            attending.get_or_insert_default().probe = Some(Box::pin(self.answer_probe(on)));
        }
        if self.start_soon.take() {
            attending.get_or_insert_default().look = Some(Box::pin(self.look_again(on, failed, SOON)));
        }
        while !attending.as_mut().is_some_and(|attending| is_pending(&mut attending.look, cx))
            && self.waiting.take()
            && self.is_waiting(on.ledger)
        {
            let look = self.look_again(on, failed, self.first_look());
            attending.get_or_insert_default().look = Some(Box::pin(look));
        }
        attending.take_if(|attending| attending.is_empty());
    }

    /// Polls until nothing waits any more.
    async fn look_again(&self, on: Sides<'_>, failed: &Cell<Option<i32>>, mut pause: Duration) {
        while self.is_waiting(on.ledger) {
            let answers = self.answers.get();
            sleep(pause).await;
            if self.answers.get() != answers {
                self.doubled.set((self.doubled.get() + 1).min(MAX_DOUBLED));
                pause = self.first_look();
                continue;
            }
            self.doubled.set(0);
            if self.look(on) {
                break;
            }
            if pause >= SOFT_ERRORS {
                self.pass_on_errors(on, failed);
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Passes a router's error about data in flight on to the program, which may give up on it later, as the host's
    /// kernel does.
    pub fn pass_on_errors(&self, on: Sides<'_>, failed: &Cell<Option<i32>>) {
        match pending_error(on.host) {
            Some(Pending::Soft(error)) => report(on.program, &error),
            Some(Pending::Ended(errno)) => failed.set(failed.get().or(Some(errno))),
            None => {}
        }
    }

    /// A keep-alive probe of the program is relayed to the remote, whose answer is relayed back.
    async fn answer_probe(&self, on: Sides<'_>) {
        // While data is in flight, its acknowledgment is the answer.
        if self.is_waiting(on.ledger) {
            self.waiting.set(true);
            return sleep(FIRST_LOOK).await;
        }
        on.ledger.unanswered.set(true);
        if self.remote_lives(on).await {
            on.ledger.unanswered.set(false);
            self.acknowledge(on);
            if window_is_closed(on.host) {
                // The program retransmits what the host's socket has no room for. A kernel acknowledges what it has received,
                // too, and closes its window.
                let _over = on.program.acknowledge(u64::MAX, self.fin_sure.get());
            }
        }
        // An answer stays wanted where something is still not acknowledged: data that is written soon, a FIN behind data
        // that waits. After a remote that does not answer the next probe tries again.
        sleep(AFTER_PROBE).await;
    }

    async fn remote_lives(&self, on: Sides<'_>) -> bool {
        let begun = Instant::now();
        let mut asked = false;
        let mut pause = FIRST_LOOK / 4;
        while begun.elapsed() < PROBE && !self.is_waiting(on.ledger) {
            let Some(life) = Life::of(on.host) else { return true };
            // The remote has sent something since the probe or just before it. With a closed window the kernel itself sends probes.
            if life.heard < begun.elapsed().max(FRESH) || window_is_closed(on.host) && life.probes <= 1 {
                return true;
            }
            if !asked {
                asked = true;
                // Fails on a connection that has ended, which the relay sees.
                let _over = ask(on.host);
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        false
    }
}

fn window_is_closed(host: &HostStream) -> bool {
    outstanding(host, false).is_ok_and(|left| left.unsent > 0 && left.unacked == 0)
}

/// Reports this error of the host's socket to the program's kernel as a router would.
fn report(program: &TcpStream, error: &io::Error) {
    let v6 = program.peer_addr().is_ok_and(|peer| peer.is_ipv6());
    let error: IcmpError = Failure::local(error).as_icmp(v6);
    let _over = program.report_error(error, None);
}

/// Polls the future if there is one, and drops it when it is ready.
fn is_pending(future: &mut Option<Boxed<'_, ()>>, cx: &mut Context<'_>) -> bool {
    if future.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
        *future = None;
    }
    future.is_some()
}

/// Makes the host's kernel send a keep-alive probe now: setting the idle time does, if it has expired. The program
/// decides on interval and count, so the host's own timeout is set to its maximum.
fn ask(host: &HostStream) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(FRESH)
        .with_interval(Duration::from_secs(75))
        .with_retries(127);
    socket2::SockRef::from(host).set_tcp_keepalive(&keepalive)
}

/// An error of the host's socket that no call has reported yet.
enum Pending {
    /// An ICMP error, and the connection goes on.
    Soft(io::Error),
    /// The connection has ended with this errno.
    Ended(i32),
}

/// Takes the error, as reading `SO_ERROR` clears it.
fn pending_error(host: &HostStream) -> Option<Pending> {
    let error = host.take_error().ok().flatten()?;
    let errno = error.raw_os_error()?;
    let soft = matches!(errno, libc::EHOSTUNREACH | libc::ENETUNREACH);
    // A timeout reports the ICMP error that came before it.
    let lives = || Info::of(host).is_none_or(|info| info.attempt() == Attempt::Connected);
    Some(if soft && lives() { Pending::Soft(error) } else { Pending::Ended(errno) })
}
