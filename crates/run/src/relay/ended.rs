//! A connection whose relay has ended: how the end is passed on to the side that still has its connection.

use std::ops::Deref;
use std::time::Duration;

use lastack::TcpStream;
use tokio::time::{Instant, sleep};

use super::Over;
use crate::account::ConnectionReport;
use crate::closing::Live;
use crate::host::Failure;
use crate::host::inner::Flow;
use crate::host::socket::close_with_reset;
use crate::inject::{Flow as FaultFlow, Held};
use crate::report::Record;
use crate::run::Run;

/// A fault has ended the remote's side of a connection: the program learns of it when it sends something.
pub async fn outlive(
    run: &Run,
    (program, flow): (&TcpStream, &FaultFlow),
    (account, record): (&ConnectionReport, &mut Record),
    live: &Live,
) {
    let has_all = tokio::select! {
        has_all = run.inject.answered(flow) => has_all,
        _ = program.closed() => false,
        () = live.closing() => false,
    };
    account.prolong(record, program, has_all);
    sleep(crate::inject::GRACE.saturating_sub(account.ledger.course.age())).await;
    program.abort();
}

/// A connection whose relay has ended.
pub struct Ended<H> {
    /// The program's side.
    pub program: TcpStream,
    /// The host's socket.
    pub host: H,
    /// The connection as the program's kernel has it.
    pub flow: Flow,
    /// Data of the program was not acknowledged.
    pub waits: bool,
    /// The remote has closed.
    pub remote_fin: bool,
}

impl<H: Deref<Target = tokio::net::TcpStream>> Ended<H> {
    /// Passes the end on to the side that still has its connection.
    pub async fn pass_on(self, run: &Run, over: Option<Over>, live: &Live) {
        let Self { program, host, flow, waits, remote_fin } = self;
        match over {
            // The remote does not know that the program has been reset: what it sends is answered with a reset.
            Some(Over::Injected(Held::Remote)) => {
                let mut byte = [0];
                tokio::select! {
                    _ = host.peek(&mut byte) => {}
                    () = live.closing() => {}
                }
                close_with_reset(&*host);
            }
            // Reset, so that the program does not mistake the end of the run for the end of the stream: a FIN that the
            // remote has not sent would make a truncated stream look complete.
            None if !remote_fin => program.abort(),
            Some(Over::Evicted(_)) => {
                close_with_reset(&*host);
                program.abort();
            }
            // The program's kernel waits for the remote's FIN with its usual timeout. So does the host's, once its
            // socket is closed.
            Some(Over::LetGo) => drop(program.mute()),
            Some(Over::Host(errno)) => {
                drop(host);
                end_as_the_host_did(run, &program, flow, errno, waits, live).await;
            }
            _ => {}
        }
    }
}

/// The host's connection has failed; the program's fails in the same way.
async fn end_as_the_host_did(
    run: &Run,
    program: &TcpStream,
    flow: Flow,
    errno: i32,
    waits: bool,
    live: &Live,
) {
    match errno {
        // An administrator of the host ended it. Fails if the kernel does not support that, or the program is gone.
        libc::ECONNABORTED if run.inner.destroy(flow).is_ok() => {}
        // The remote no longer answered, and a router may have reported why. The program's kernel, which still waits
        // for an acknowledgment, comes to the same end by itself.
        libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH if waits => {
            if errno != libc::ETIMEDOUT {
                let v6 = flow.remote.is_ipv6();
                let error = Failure::local(&std::io::Error::from_raw_os_error(errno)).as_icmp(v6);
                let _over = program.report_error(error, run.plan.gateway(v6));
            }
            let _over = program.mute();
            tokio::select! {
                () = forgotten(run, flow) => {}
                _ = program.closed() => {}
                () = live.closing() => {}
            }
        }
        _ => program.abort(),
    }
}

/// Waits until the program's kernel no longer has the connection.
async fn forgotten(run: &Run, flow: Flow) {
    let begun = Instant::now();
    // If the kernel does not report it, its timeout is that of `tcp_retries2`, a quarter of an hour or more.
    while begun.elapsed() < FORGOTTEN && !matches!(run.inner.look(flow), Ok(None)) {
        sleep(FORGOTTEN_LOOK).await;
    }
}

const FORGOTTEN: Duration = Duration::from_secs(1800);
const FORGOTTEN_LOOK: Duration = Duration::from_secs(2);
