//! Ports of this host's loopback on the program's own loopback (`--map-localhost`): listeners in the program's network,
//! a connection of this host for each of the program's, and the data of both moved by the kernel (`splice`), without
//! packets of ours.
//!
//! A port inside listens as long as the host's does, so that the program is refused as it would be outside.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::account::ConnectionReport;
use crate::budget::Slot;
use crate::closing::Live;
use crate::host::inner::{Flow, Inner};
use crate::host::urgent;
use crate::namespace::Listener;
use crate::relay::{RelayStats, Side};
use crate::run::Run;

/// Polling interval while the host does not listen.
const LOOK: Duration = Duration::from_millis(200);
/// Polling interval while it does.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Backlog of pending connections.
const BACKLOG: i32 = 512;
/// Descriptors of one connection: two sockets, and a pipe for each direction.
pub const DESCRIPTORS: usize = 6;
/// Requested pipe capacity in bytes.
const PIPE: i32 = 256 * 1024;
/// include/net/tcp_states.h.
const LISTEN: u8 = 10;

/// The listeners for these ports, of both families, which listen from the beginning if the host does.
pub fn listeners(ports: &[u16]) -> Vec<Listener> {
    let here = Inner::of_this_host();
    let addresses = ports.iter().flat_map(|&port| {
        let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        hosts.map(|host| SocketAddr::new(host, port))
    });
    addresses.map(|address| Listener { address, listening: listens(&here, address) }).collect()
}

/// Serves one of them. Never returns.
pub async fn serve(run: Rc<Run>, listener: OwnedFd, at: SocketAddr) {
    let here = Inner::of_this_host();
    loop {
        while !listens(&here, at) {
            sleep(LOOK).await;
        }
        match listen(&listener) {
            Ok(accepting) => {
                tokio::select! {
                    () = accept(&run, &accepting, at) => {}
                    () = ends(&here, at) => {}
                }
            }
            Err(error) => {
                let why = format!("cannot forward {at} of the program's network to this host: {error}");
                return run.report.warn(why);
            }
        }
        // Pending connections are reset, as by a listener that is closed; the port stays bound, and refuses.
        let _refuses = SockRef::from(&listener).shutdown(Shutdown::Read);
    }
}

/// Whether a socket of this host listens there.
pub fn listens(here: &Inner, at: SocketAddr) -> bool {
    let any = SocketAddr::new(
        if at.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() },
        0,
    );
    match here.look(Flow { program: at, remote: any }) {
        Ok(found) => found.is_some_and(|found| found.state == LISTEN),
        // The system does not report it: the connection attempt will show it.
        Err(_) => true,
    }
}

/// Waits until no socket listens there any more.
async fn ends(here: &Inner, at: SocketAddr) {
    while listens(here, at) {
        sleep(LOOK_AGAIN).await;
    }
}

fn listen(listener: &OwnedFd) -> io::Result<TcpListener> {
    SockRef::from(listener).listen(BACKLOG)?;
    TcpListener::from_std(listener.try_clone()?.into())
}

/// Accepts until the host refuses.
async fn accept(run: &Rc<Run>, listener: &TcpListener, at: SocketAddr) {
    let refused = Rc::new(tokio::sync::Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = refused.notified() => return,
        };
        match accepted {
            Ok((program, from)) => {
                // Until there is room, no other connection is accepted.
                let slot = run.budget.acquire(DESCRIPTORS).await;
                let (run, refused) = (run.clone(), refused.clone());
                tokio::task::spawn_local(async move {
                    if !connection(&run, program, (from, at), slot).await {
                        refused.notify_one();
                    }
                });
            }
            // Too few descriptors, or a connection that is already gone.
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Returns whether the host accepted.
async fn connection(run: &Run, program: TcpStream, (from, at): (SocketAddr, SocketAddr), slot: Slot) -> bool {
    let account = run.show(ConnectionReport::new(from, at));
    let live = run.live.enter();
    let host = match crate::host::connect(at).await {
        Ok(connected) => connected.stream,
        Err(failure) => {
            let _never = SockRef::from(&program).set_linger(Some(Duration::ZERO));
            run.record(account.failed(&failure));
            return false;
        }
    };
    let _fails_on_no_socket = (program.set_nodelay(true), host.set_nodelay(true));
    live.watch(&account.ledger);
    account.may_be_evicted(&slot);
    let over = tokio::select! {
        over = join(&program, &host, &account.ledger) => Some(over),
        () = slot.evicted() => Some(Err(Failed::evicted())),
        () = closing(&live) => None,
    };
    if !matches!(over, Some(Ok(()))) {
        // A reset of either side, or an unfinished stream, is a reset for both.
        for side in [&program, &host] {
            let _never = SockRef::from(side).set_linger(Some(Duration::ZERO));
        }
    }
    run.record(account.joined(over.as_ref()));
    true
}

async fn closing(live: &Live) {
    live.closing().await;
}

/// The failure of a joined connection.
#[derive(Debug)]
pub struct Failed {
    /// Whose socket failed.
    pub side: Side,
    /// How.
    pub errno: i32,
}

impl Failed {
    /// lastack closes it, to make room for another.
    pub fn evicted() -> Self {
        Self { side: Side::Program, errno: libc::EMFILE }
    }
}

/// Relays between both until both have closed.
pub async fn join(program: &TcpStream, host: &TcpStream, ledger: &RelayStats) -> Result<(), Failed> {
    urgent::prepare_connected(program);
    urgent::prepare_connected(host);
    let up = async {
        carry((program, Side::Program), (host, Side::Remote), ledger, &[&ledger.to_remote]).await?;
        ledger.closed(Side::Program);
        Ok(())
    };
    let down = async {
        carry(
            (host, Side::Remote),
            (program, Side::Program),
            ledger,
            &[&ledger.from_remote, &ledger.to_program],
        )
        .await?;
        ledger.closed(Side::Remote);
        Ok(())
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// Passes the urgent byte on. `false`: it has not arrived yet.
async fn pass_urgent(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let mut byte = [0];
    match from.try_read(&mut byte) {
        Ok(0) => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error),
    }
    loop {
        match urgent::send(to, byte[0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            other => return other.map(|_| true),
        }
    }
}

/// From one to the other, up to the FIN, which is passed on.
async fn carry(
    (from, source): (&TcpStream, Side),
    (to, sink): (&TcpStream, Side),
    ledger: &RelayStats,
    counters: &[&Cell<u64>],
) -> Result<(), Failed> {
    let failed =
        |side| move |error: io::Error| Failed { side, errno: error.raw_os_error().unwrap_or(libc::EIO) };
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| Failed { side: sink, errno: errno as i32 })?;
    // SAFETY: the call takes numbers. If the user has many pipes already, the capacity stays as it is.
    let _smaller = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
    loop {
        from.readable().await.map_err(failed(source))?;
        // `splice` never passes an urgent byte.
        if urgent::is_next(from) {
            if pass_urgent(from, to).await.map_err(failed(source))? {
                counters.iter().for_each(|counter| counter.set(counter.get() + 1));
            }
            continue;
        }
        let taken = match from.try_io(Interest::READABLE, || splice(from, &writer, PIPE as usize)) {
            Ok(0) => {
                // Fails on a connection that was reset, which its reader sees.
                let _reset = SockRef::from(to).shutdown(Shutdown::Write);
                return Ok(());
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(failed(source)(error)),
        };
        ledger.course.moved(source);
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

fn splice(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let nowhere = std::ptr::null_mut();
    // SAFETY: both descriptors are open for as long as the call lasts, and neither has an offset.
    let bytes = unsafe { libc::splice(from, nowhere, to, nowhere, most, flags) };
    Ok(Errno::result(bytes)?.cast_unsigned())
}
