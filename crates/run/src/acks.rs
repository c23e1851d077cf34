//! When the program's data is acknowledged: once the remote has answered for it, so that the program's own timers
//! (retransmission, `TCP_USER_TIMEOUT`, keep-alive) notice a remote that has vanished.
//!
//! The host's kernel takes more data than the remote has acknowledged, and more than the remote has room for. What
//! counts is whether the remote lives: with any progress of its own, all that was written before is acknowledged. While
//! data is on its way and nothing comes back, what was written since waits, the program's kernel sends it again, and in
//! the end gives up as it would have done without lastack.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::time::Duration;

use lastack::TcpStream;
use lastack_wire::icmp::IcmpError;
use tokio::net::TcpStream as HostStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::host::Failure;
use crate::host::socket::outstanding;
use crate::host::tcp_info::Life;
use crate::relay::RelayStats;

/// How long after a write the host's kernel is asked first what the remote has acknowledged, and then ever less often.
const FIRST_LOOK: Duration = Duration::from_millis(4);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// Writes in one direction only after which it is asked at once: nothing will come back that could carry an answer.
const ONE_WAY: u32 = 2;
/// How long the answer to a probe is looked for. The program's own next probe starts another look.
const PROBE: Duration = Duration::from_secs(60);
/// Who was heard this shortly ago need not be asked.
const FRESH: Duration = Duration::from_secs(1);
/// From this pause on ICMP errors are looked for as well.
const SOFT_ERRORS: Duration = Duration::from_millis(64);

/// What is acknowledged of a connection's data.
#[derive(Debug)]
pub struct Acks<'a> {
    program: &'a TcpStream,
    host: &'a HostStream,
    ledger: &'a RelayStats,
    /// Octets that may be acknowledged to the program, and its FIN.
    sure: Cell<u64>,
    fin_sure: Cell<bool>,
    /// What the remote had acknowledged at the last look.
    acked: Cell<u64>,
    /// Writes since the remote was heard.
    writes: Cell<u32>,
    /// Something waits to be acknowledged.
    waiting: Notify,
}

impl<'a> Acks<'a> {
    /// From now on the program's data is acknowledged by this.
    pub fn new(program: &'a TcpStream, host: &'a HostStream, ledger: &'a RelayStats) -> Self {
        // It fails only on a connection that is over, which the relay sees.
        let _over = program.hold_acks();
        let (sure, acked) = (Cell::new(0), Cell::new(0));
        let (fin_sure, writes) = (Cell::new(false), Cell::new(0));
        Self { program, host, ledger, sure, fin_sure, acked, writes, waiting: Notify::new() }
    }

    /// Data of the program was written to the host's socket.
    pub fn wrote(&self) {
        let writes = self.writes.get() + 1;
        self.writes.set(writes);
        if writes < ONE_WAY || !self.look() {
            self.waiting.notify_one();
        }
    }

    /// The program's FIN was passed on.
    pub fn finished(&self) {
        if !self.look() {
            self.waiting.notify_one();
        }
    }

    /// Both sides have closed.
    pub fn closed(&self) {
        self.fin_sure.set(true);
        self.sure.set(self.ledger.to_remote.get());
        self.acknowledge();
    }

    /// Data or a FIN of the remote has come: it lives.
    pub fn heard(&self) {
        self.ledger.unanswered.set(false);
        self.writes.set(0);
        self.sure_of_all_data();
    }

    /// Whether data or the FIN of the program waits to be acknowledged.
    pub fn is_waiting(&self) -> bool {
        self.sure.get() < self.ledger.to_remote.get() || self.ledger.program_fin.get() && !self.fin_sure.get()
    }

    fn sure_of_all_data(&self) {
        let written = self.ledger.to_remote.get();
        if self.sure.replace(written) < written {
            self.acknowledge();
        }
    }

    fn acknowledge(&self) {
        let _over = self.program.acknowledge(self.sure.get(), self.fin_sure.get());
    }

    /// Asks the host's kernel, and acknowledges what the answer allows. Gives whether nothing is left to ask for.
    fn look(&self) -> bool {
        let (written, fin) = (self.ledger.to_remote.get(), self.ledger.program_fin.get());
        // It fails only on what is no socket.
        let Ok(left) = outstanding(self.host, fin) else { return true };
        let acked = written.saturating_sub(left.total());
        let progress = acked > self.acked.replace(acked);
        if left.is_empty() {
            self.ledger.delivered.set(fin);
            self.fin_sure.set(fin);
            self.sure.set(written);
            self.acknowledge();
        } else if progress || left.unacked == 0 {
            // What the remote has no room for is none of its silence.
            self.sure_of_all_data();
        }
        !self.is_waiting()
    }

    /// Looks after what waits. Never ends.
    pub async fn attend(&self) {
        tokio::join!(self.look_again(), self.answer_probes());
    }

    async fn look_again(&self) {
        loop {
            self.waiting.notified().await;
            let mut pause = FIRST_LOOK;
            while self.is_waiting() {
                sleep(pause).await;
                if self.is_waiting() && self.look() {
                    break;
                }
                if pause >= SOFT_ERRORS {
                    self.pass_on_errors();
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }

    /// What a router said of data on its way is told to the program, which may give up for it later, as the host's
    /// kernel does.
    fn pass_on_errors(&self) {
        if let Some(error) = soft_error(self.host) {
            self.report(&error);
        }
    }

    /// Tells the program's kernel, as a router would, what this error of the host's socket means.
    pub fn report(&self, error: &io::Error) {
        let v6 = self.program.peer_addr().is_ok_and(|peer| peer.is_ipv6());
        let error: IcmpError = Failure::local(error).as_icmp(v6);
        let _over = self.program.report_error(error, None);
    }

    /// A keep-alive probe of the program becomes one of the remote, whose answer is the program's.
    async fn answer_probes(&self) {
        loop {
            if self.program.ack_wanted().await.is_err() {
                return pending().await;
            }
            // Where data is on its way its acknowledgment is the answer.
            if self.is_waiting() {
                self.waiting.notify_one();
                sleep(FIRST_LOOK).await;
                continue;
            }
            self.ledger.unanswered.set(true);
            if self.remote_lives().await {
                self.ledger.unanswered.set(false);
                self.acknowledge();
            } else {
                // The next probe asks again.
                sleep(FIRST_LOOK).await;
            }
        }
    }

    fn window_is_closed(&self) -> bool {
        outstanding(self.host, false).is_ok_and(|left| left.unsent > 0 && left.unacked == 0)
    }

    async fn remote_lives(&self) -> bool {
        let begun = Instant::now();
        let mut asked = false;
        let mut pause = FIRST_LOOK / 4;
        while begun.elapsed() < PROBE && !self.is_waiting() {
            let Some(life) = Life::of(self.host) else { return true };
            // It was heard since it was asked, or had been just before. To a closed window the kernel itself sends
            // probes.
            if life.heard < begun.elapsed().max(FRESH) || self.window_is_closed() && life.probes <= 1 {
                return true;
            }
            if !asked {
                asked = true;
                // It fails on a connection that is over, which the relay sees.
                let _over = ask(self.host);
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        false
    }
}

/// Has the host's kernel send a keep-alive probe now: setting the time of idleness does, if that is over. How often and
/// how long it is asked is up to the program, so the host's own end of patience is put far away.
fn ask(host: &HostStream) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(FRESH)
        .with_interval(Duration::from_secs(75))
        .with_retries(127);
    socket2::SockRef::from(host).set_tcp_keepalive(&keepalive)
}

/// An ICMP error that has not ended the connection (`SO_ERROR` tells of it once, and takes it).
fn soft_error(host: &HostStream) -> Option<io::Error> {
    let error = host.take_error().ok().flatten()?;
    matches!(error.raw_os_error(), Some(libc::EHOSTUNREACH | libc::ENETUNREACH)).then_some(error)
}
