//! Ports of this host's loopback on the program's own loopback (`--map-localhost`): listeners in the program's network,
//! and a connection of this host for each of the program's.
//!
//! A port inside listens as long as the host's does, so that the program is refused as it would be outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::account::ConnectionReport;
use crate::budget::Slot;
use crate::host::inner::{Flow, Inner};
use crate::inject::{Destination, Flow as FaultFlow};
use crate::joined::{DESCRIPTORS, Joint, gone, hinder, reset};
use crate::namespace::Listener;
use crate::report::Proto;
use crate::run::Run;

/// Polling interval while the host does not listen.
const LOOK: Duration = Duration::from_millis(200);
/// Polling interval while it does.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Backlog of pending connections.
const BACKLOG: i32 = 512;
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
    // At once, as the program may close its socket soon.
    let process = run.owner(Flow { program: from, remote: at });
    account.context.change(|context| context.process = process);
    let live = run.live.enter();
    let flow = FaultFlow::new(Proto::Tcp, from, at);
    let to = Destination { proto: Proto::Tcp, remote: at, actual: None, name: Some("localhost") };
    let faults = run.inject.between_sockets(flow, &to);
    if hinder(run, (&faults, flow), &account, &live, gone(run, &program)).await {
        reset(&program);
        return true;
    }
    let host = match live.unless_closing(crate::host::connect(at)).await {
        Some(Ok(connected)) => connected.stream,
        None => {
            reset(&program);
            run.record(account.abandoned());
            return true;
        }
        Some(Err(failure)) => {
            reset(&program);
            run.record(account.failed(&failure));
            return false;
        }
    };
    let _fails_on_no_socket = (program.set_nodelay(true), host.set_nodelay(true));
    Joint { program, host, flow, faults }.run(run, &account, &live, &slot).await;
    true
}
