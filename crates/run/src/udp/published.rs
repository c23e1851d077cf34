//! Published ports of datagrams (`-p PORT/udp`): a socket of this host that stands for the program's socket on a port.
//!
//! The port receives as long as a socket inside does; at other times the host's kernel answers "port unreachable", as it
//! would without lastack. The program sees a client's own address, or its gateway's if that address is not valid on a network.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use lastack::{Datagram, IpFields};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::Flows;
use crate::flow::FlowAccount;
use crate::inward::{Pace, is_missing};

/// Max clients of a port that are accounted for at once.
const MAX_CLIENTS: usize = 4096;
/// A client that is silent for this long is removed (RFC 4787 REQ-5).
const IDLE: Duration = Duration::from_secs(300);
/// The interval of the search for those.
const SWEEP: Duration = Duration::from_secs(10);

/// A published port.
#[derive(Debug)]
pub struct PublishedPort {
    socket: Socket,
    at: SocketAddr,
    inside: u16,
}

impl PublishedPort {
    /// Binds the port of this host. It receives nothing until the program does.
    pub fn bind(at: SocketAddr, inside: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        let this = Self { socket, at, inside };
        this.refuse()?;
        Ok(this)
    }

    /// Lets the kernel refuse all clients: a socket that is connected receives from its peer only, which is itself here.
    fn refuse(&self) -> io::Result<()> {
        let own: IpAddr = match self.at.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        self.socket.connect(&SocketAddr::new(own, self.at.port()).into())
    }
}

/// A client, as the program names it.
struct Client {
    own: SocketAddr,
    account: Rc<FlowAccount>,
}

/// A port while the program receives on it.
pub(super) struct Open {
    socket: UdpSocket,
    clients: RefCell<HashMap<SocketAddr, Client>>,
    program: SocketAddr,
    closed: Cell<bool>,
}

/// Serves every port on which the program receives, if that is requested (`-p auto/udp`). Never returns.
pub(super) async fn serve_all(flows: Rc<Flows>) {
    let wanted: Vec<_> = flows.run.plan.published.iter().filter(|wanted| wanted.is_any_datagram()).collect();
    if wanted.is_empty() {
        return;
    }
    let (mut known, mut pace) = (HashSet::new(), Pace::default());
    loop {
        for inside in flows.run.ports.of_servers() {
            for at in
                wanted.iter().flat_map(|wanted| wanted.addresses()).map(|at| SocketAddr::new(at, inside))
            {
                if !known.insert(at) {
                    continue;
                }
                match PublishedPort::bind(at, inside) {
                    Ok(port) => drop(tokio::task::spawn_local(serve(flows.clone(), port))),
                    Err(error) if at.is_ipv6() && is_missing(&error) => {}
                    Err(error) => {
                        flows.run.report.warn(format!("-p auto/udp: {at} cannot be published: {error}"));
                    }
                }
            }
        }
        pace.wait(&flows.run).await;
    }
}

/// Serves a port for the whole run. Never returns.
pub async fn serve(flows: Rc<Flows>, port: PublishedPort) {
    let Some(guest) = flows.run.plan.guest(port.at.is_ipv6()) else { return };
    let program = SocketAddr::new(guest, port.inside);
    let receives = || flows.run.ports.of(guest).contains(&port.inside);
    loop {
        let mut pace = Pace::default();
        while !receives() {
            pace.wait(&flows.run).await;
        }
        let open = match Open::new(&port, program) {
            Ok(open) => Rc::new(open),
            Err(error) => {
                return flows.run.report.warn(format!("-p: {}/udp does not receive: {error}", port.at));
            }
        };
        flows.published.borrow_mut().push(open.clone());
        let registered = Registered { flows: &flows, open: &open };
        let ends = async {
            let mut pace = Pace::default();
            while receives() {
                pace.wait(&flows.run).await;
            }
        };
        let live = flows.run.live.enter_quietly();
        let over = tokio::select! {
            () = open.receive(&flows) => false,
            () = open.sweep(&flows) => false,
            () = ends => false,
            () = live.closing() => true,
        };
        drop(registered);
        if over || port.refuse().is_err() {
            return;
        }
    }
}

/// Guard: a port on which the program receives. Its end is the end of the flows of its clients.
struct Registered<'a> {
    flows: &'a Flows,
    open: &'a Open,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let Self { flows, open } = self;
        open.closed.set(true);
        flows.published.borrow_mut().retain(|other| !other.closed.get());
        open.clients.borrow_mut().drain().for_each(|(_, client)| flows.run.record(client.account.record()));
    }
}

impl Open {
    fn new(port: &PublishedPort, program: SocketAddr) -> io::Result<Self> {
        disconnect(&port.socket)?;
        let socket = UdpSocket::from_std(port.socket.try_clone()?.into())?;
        Ok(Self { socket, clients: RefCell::default(), program, closed: Cell::new(false) })
    }

    /// Passes datagrams of clients to the program.
    async fn receive(&self, flows: &Rc<Flows>) {
        let mut payload = vec![0; 65_536];
        loop {
            // An error is about an answer to a client that is gone.
            let Ok((length, own)) = self.socket.recv_from(&mut payload).await else {
                sleep(Duration::from_millis(1)).await;
                continue;
            };
            let Some(seen_as) = flows.run.as_client(own, self.program.is_ipv6()) else { continue };
            self.account(flows, own, seen_as).received(length, 1);
            let whole = length + 48 <= flows.run.plan.mtu as usize;
            let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: whole };
            let passed = flows.program.forward(seen_as, self.program, &payload[..length], None, ip);
            if passed.is_err() {
                flows.run.report.count(|summary| summary.dropped += 1);
            }
        }
    }

    fn account(&self, flows: &Flows, own: SocketAddr, seen_as: SocketAddr) -> Rc<FlowAccount> {
        let mut clients = self.clients.borrow_mut();
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&seen_as) {
            clients.drain().for_each(|(_, client)| flows.run.record(client.account.record()));
        }
        let new = || {
            let account = flows.run.show(FlowAccount::new(self.program, own));
            let mut context = account.context.borrow_mut();
            (context.inward, context.seen_as) = (true, Some(seen_as));
            drop(context);
            Client { own, account }
        };
        clients.entry(seen_as).or_insert_with(new).account.clone()
    }

    /// Forgets clients that have been silent for long. Never returns.
    async fn sweep(&self, flows: &Flows) {
        loop {
            sleep(SWEEP).await;
            self.clients.borrow_mut().retain(|_, client| {
                let stays = client.account.last().elapsed() < IDLE;
                if !stays {
                    flows.run.record(client.account.record());
                }
                stays
            });
        }
    }

    /// Sends the program's answer to its client. `false`: the datagrams are not for one.
    pub(super) fn answer(&self, group: &[Datagram]) -> bool {
        let first = &group[0];
        let clients = self.clients.borrow();
        let Some(client) = clients.get(&first.local).filter(|_| first.remote == self.program) else {
            return false;
        };
        for datagram in group {
            // A full queue drops it, as in a network; a client that is gone has reported that by now.
            if self.socket.try_send_to(&datagram.payload, client.own).is_ok() {
                client.account.sent(datagram.payload.len(), 1);
            }
        }
        true
    }
}

/// Ends the connection of a datagram socket, which keeps its own address and port.
fn disconnect(socket: &Socket) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(socket);
    // SAFETY: the kernel reads `length` bytes of the address, which lives until the call returns.
    let result = unsafe { libc::connect(descriptor, &raw const nobody, length) };
    nix::errno::Errno::result(result).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn a_port_refuses_until_it_is_open_and_again_afterwards() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = PublishedPort::bind(free, 53).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(free).unwrap();
        let refused = || {
            client.send(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(20));
            client.send(b"x").err().map(|error| error.kind())
        };
        assert_eq!(refused(), Some(ErrorKind::ConnectionRefused));
        let open = Open::new(&port, "10.0.2.100:53".parse().unwrap()).unwrap();
        client.send(b"hello").unwrap();
        let mut heard = [0; 8];
        let (length, from) = open.socket.recv_from(&mut heard).await.unwrap();
        assert_eq!((&heard[..length], from), (&b"hello"[..], client.local_addr().unwrap()));
        port.refuse().unwrap();
        assert_eq!(refused(), Some(ErrorKind::ConnectionRefused));
    }
}
