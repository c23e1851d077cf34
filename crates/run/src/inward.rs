//! Published ports (`-p`): a port of this host that leads to a port on which the program listens.
//!
//! The port of the host listens as long as a socket inside does, so that a client is refused as it would be without
//! lastack. A listener on the program's own address gets the connection through the stack, from the client's address;
//! one on the program's loopback is reached by a socket of its network, and sees its own loopback.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use lastack::Host;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::account::ConnectionReport;
use crate::budget::Slot;
use crate::host::inner::Flow;
use crate::host::urgent;
use crate::inject::Held;
use crate::inject::{Destination, Flow as FaultFlow};
use crate::joined::{DESCRIPTORS, Joint, hinder, reset};
use crate::localhost::listens;
use crate::relay::{Carried, Ended, Over, Relay, outlive};
use crate::report::Proto;
use crate::run::Run;
use crate::udp::published::PublishedPort;

/// Polling intervals of the check for a listener inside.
const LOOK: Duration = Duration::from_millis(20);
const MAX_LOOK: Duration = Duration::from_millis(250);
/// Pauses before each look for the process that has accepted a connection.
const ACCEPTED: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(500)];
/// Backlog of pending connections.
const BACKLOG: i32 = 128;

/// Ports to publish: `[ADDRESS:]HOSTPORT[:PORT]`, each port or `FIRST-LAST`, or `[ADDRESS:]auto`, with `/udp` for
/// datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The address on which this host listens; loopback if not given.
    address: Option<IpAddr>,
    /// This host's ports and the program's, first and last; `None`: every port on which the program listens, under its
    /// own number.
    ports: Option<(Ports, Ports)>,
    proto: Proto,
}

impl Published {
    /// A port of this host's address, which leads to a port of the program.
    pub fn port(address: IpAddr, outside: u16, inside: u16, proto: Proto) -> Self {
        Self { address: Some(address), ports: Some(((outside, outside), (inside, inside))), proto }
    }

    /// The pairs of a port of this host and one of the program; none for `auto`.
    fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        let ranges = self.ports.map(|(outside, inside)| (outside.0..=outside.1).zip(inside.0..=inside.1));
        ranges.into_iter().flatten()
    }

    /// Whether a port of this host leads to this TCP port of the program.
    pub(crate) fn leads_to(&self, port: u16) -> bool {
        self.proto == Proto::Tcp
            && self.ports.is_some_and(|(_, (first, last))| (first..=last).contains(&port))
    }

    /// Whether a port of this host would be published by both.
    fn collides_with(&self, other: &Self) -> Option<u16> {
        let ((first, ..), (second, ..)) = (self.ports?, other.ports?);
        let port = first.0.max(second.0);
        let alike = self.address == other.address && self.proto == other.proto;
        (alike && port <= first.1.min(second.1)).then_some(port)
    }

    /// Whether it is every port on which the program listens.
    fn is_any_listener(&self) -> bool {
        self.proto == Proto::Tcp && self.ports.is_none()
    }

    /// Whether it is every port on which the program receives datagrams.
    pub(crate) fn is_any_datagram(&self) -> bool {
        self.proto == Proto::Udp && self.ports.is_none()
    }

    /// The addresses of this host.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        addresses(self.address)
    }
}

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a port to publish: write 8080, 8080:80, 9000-9010, 0.0.0.0:8080:80, [::1]:8080:80, 5353:53/udp, auto or auto/udp"
            )
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let range = |text: &str| match text.split_once('-') {
            Some((first, last)) => match (port(first)?, port(last)?) {
                (first, last) if first <= last => Ok((first, last)),
                _ => Err(wrong()),
            },
            None => port(text).map(|port| (port, port)),
        };
        let (ends, proto) = match text.strip_suffix("/udp") {
            Some(ends) => (ends, Proto::Udp),
            None => (text.strip_suffix("/tcp").unwrap_or(text), Proto::Tcp),
        };
        let (address, rest) = match ends.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once("]:").ok_or_else(wrong)?;
                (Some(address.parse().map_err(|_| wrong())?), rest)
            }
            None => match ends.split_once(':') {
                Some((address, rest)) if address.contains('.') => {
                    (Some(address.parse().map_err(|_| wrong())?), rest)
                }
                _ => (None, ends),
            },
        };
        let ports = match rest.split_once(':') {
            _ if rest == "auto" => None,
            Some((outside, inside)) => Some((range(outside)?, range(inside)?)),
            None => Some((range(rest)?, range(rest)?)),
        };
        if ports.is_some_and(|(outside, inside)| outside.1 - outside.0 != inside.1 - inside.0) {
            return Err(format!("{text:?} has two ranges of different length"));
        }
        Ok(Self { address, ports, proto })
    }
}

/// The first and the last of a range of ports.
type Ports = (u16, u16);

/// A bound port of this host; connections are refused until it listens.
#[derive(Debug)]
pub struct Bound {
    socket: OwnedFd,
    at: SocketAddr,
    inside: u16,
}

/// Binds the ports, so that errors appear before the program runs. `auto` has none yet.
pub fn bind(published: &[Published]) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for (wanted, at, inside) in single_ports(published, Proto::Tcp) {
        match socket_at(at) {
            Ok(socket) => bound.push(Bound { socket, at, inside }),
            // A host without IPv6.
            Err(error) if at.is_ipv6() && wanted.address.is_none() && is_missing(&error) => {}
            Err(error) => {
                let cure = cure(&error);
                return Err(error).with_context(|| format!("-p: cannot listen at {at}: {cure}"));
            }
        }
    }
    Ok(bound)
}

/// Each address and port of this host to publish for this protocol, and the program's port.
fn single_ports(published: &[Published], proto: Proto) -> Vec<(&Published, SocketAddr, u16)> {
    let mut all = Vec::new();
    for wanted in published.iter().filter(|wanted| wanted.proto == proto) {
        for (outside, inside) in wanted.pairs() {
            let at = |address| (wanted, SocketAddr::new(address, outside), inside);
            all.extend(addresses(wanted.address).into_iter().map(at));
        }
    }
    all
}

/// What helps against this error of a bind.
fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => "choose an address of this host",
        Some(libc::EMFILE | libc::ENFILE) => "publish fewer ports, or raise ulimit -n",
        Some(libc::EACCES) => "choose a port from 1024 on, or run it as root",
        _ => "choose another port",
    }
}

/// Rejects a port of this host that is published twice.
pub fn reject_duplicates(published: &[Published]) -> anyhow::Result<()> {
    for (at, one) in published.iter().enumerate() {
        if let Some(port) = published[..at].iter().find_map(|other| one.collides_with(other)) {
            anyhow::bail!(
                "-p: port {port} of this host is published twice: choose another port for one of them"
            );
        }
    }
    Ok(())
}

/// Binds the ports of datagrams.
pub fn bind_datagrams(published: &[Published]) -> anyhow::Result<Vec<PublishedPort>> {
    let mut bound = Vec::new();
    for (wanted, at, inside) in single_ports(published, Proto::Udp) {
        match PublishedPort::bind(at, inside) {
            Ok(port) => bound.push(port),
            Err(error) if at.is_ipv6() && wanted.address.is_none() && is_missing(&error) => {}
            Err(error) => {
                let cure = cure(&error);
                return Err(error).with_context(|| format!("-p: cannot receive at {at}/udp: {cure}"));
            }
        }
    }
    Ok(bound)
}

fn addresses(address: Option<IpAddr>) -> Vec<IpAddr> {
    address
        .map_or_else(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], |address| vec![address])
}

pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn socket_at(at: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    // Two sockets with address reuse can both be bound; only one can listen.
    socket.listen(1)?;
    let _refuses = socket.shutdown(Shutdown::Both);
    Ok(socket.into())
}

/// Publishes the requested ports. Never returns.
pub async fn serve(run: Rc<Run>, host: Host, bound: Vec<Bound>) {
    for one in bound {
        tokio::task::spawn_local(publish(run.clone(), host.clone(), one));
    }
    let wanted: Vec<Published> =
        run.plan.published.iter().filter(|wanted| wanted.is_any_listener()).cloned().collect();
    if wanted.is_empty() {
        return std::future::pending().await;
    }
    let auto = Rc::new(Auto { run: run.clone(), host, wanted, known: RefCell::default() });
    let announced = Rc::downgrade(&auto);
    run.announced.set(move || {
        if let Some(auto) = announced.upgrade() {
            auto.look();
        }
    });
    let mut pace = Pace::default();
    loop {
        auto.look();
        pace.wait(&run).await;
    }
}

/// Every port on which the program listens.
struct Auto {
    run: Rc<Run>,
    host: Host,
    wanted: Vec<Published>,
    known: RefCell<HashSet<SocketAddr>>,
}

impl Auto {
    /// Publishes the ports that are new. When it returns, they listen.
    fn look(&self) {
        for wanted in &self.wanted {
            let listening = self.run.inner.listening().unwrap_or_default();
            let mapped = &self.run.plan.map_localhost;
            // A mapped port is lastack's own, and leads to this host.
            let own = |at: &&SocketAddr| at.ip().is_loopback() && mapped.contains(&at.port());
            for port in listening.iter().filter(|at| !own(at)).map(SocketAddr::port) {
                for address in addresses(wanted.address) {
                    let at = SocketAddr::new(address, port);
                    if self.known.borrow_mut().insert(at) {
                        self.publish(at);
                    }
                }
            }
        }
    }

    fn publish(&self, at: SocketAddr) {
        let listening = socket_at(at).and_then(|socket| {
            SockRef::from(&socket).listen(BACKLOG)?;
            Ok(socket)
        });
        match listening {
            Ok(socket) => {
                let bound = Bound { socket, at, inside: at.port() };
                tokio::task::spawn_local(publish(self.run.clone(), self.host.clone(), bound));
            }
            Err(error) if at.is_ipv6() && is_missing(&error) => {}
            Err(error) => self.run.report.warn(format!("-p auto: {at} cannot be published: {error}")),
        }
    }
}

/// The intervals of polling. No event of the kernel reports that a socket begins to listen, except to root's tracers; a program
/// that does so mostly sends something at that time, and one that has been quiet for a while is looked at less often.
#[derive(Default)]
pub(crate) struct Pace {
    packets: u64,
    pause: Duration,
}

impl Pace {
    pub(crate) async fn wait(&mut self, run: &Run) {
        let packets = run.seen.packets.load(std::sync::atomic::Ordering::Relaxed);
        let quiet = packets == self.packets;
        self.packets = packets;
        self.pause = if quiet { (self.pause + self.pause / 8).clamp(LOOK, MAX_LOOK) } else { LOOK };
        sleep(self.pause).await;
    }
}

/// Serves one port for the whole run.
pub async fn publish(run: Rc<Run>, host: Host, bound: Bound) {
    let begin = || Some(Vec::new());
    if let Some(waiting) = run.never_listened.borrow_mut().entry(bound.inside).or_insert_with(begin) {
        waiting.push(bound.at);
    }
    loop {
        let mut pace = Pace::default();
        while target(&run, bound.inside, bound.at.is_ipv6()).is_none() {
            pace.wait(&run).await;
        }
        run.never_listened.borrow_mut().insert(bound.inside, None);
        let listening = SockRef::from(&bound.socket)
            .listen(BACKLOG)
            .and_then(|()| TcpListener::from_std(bound.socket.try_clone()?.into()));
        match listening {
            Ok(listener) => {
                tokio::select! {
                    () = accept(&run, &host, &listener, &bound) => {}
                    () = ends(&run, &bound) => {}
                }
            }
            Err(error) => return run.report.warn(format!("-p: {} does not listen: {error}", bound.at)),
        }
        // Pending connections are reset; the port stays bound, and refuses.
        let _refuses = SockRef::from(&bound.socket).shutdown(Shutdown::Both);
    }
}

/// Waits until no socket inside listens any more.
async fn ends(run: &Run, bound: &Bound) {
    let mut pace = Pace::default();
    while target(run, bound.inside, bound.at.is_ipv6()).is_some() {
        pace.wait(run).await;
    }
}

async fn accept(run: &Rc<Run>, host: &Host, listener: &TcpListener, bound: &Bound) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                // Until there is room, no other client is accepted.
                let slot = run.budget.acquire(1).await;
                let (run, host, inside, v6) = (run.clone(), host.clone(), bound.inside, bound.at.is_ipv6());
                tokio::task::spawn_local(async move {
                    match target(&run, inside, v6) {
                        Some(to) if to.ip().is_loopback() => {
                            by_loopback(&run, (client, from), to, slot).await
                        }
                        Some(to) => by_stack(&run, &host, (client, from), to, slot).await,
                        None => reset(&client),
                    }
                });
            }
            // Too few descriptors, or a connection that is already gone.
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// The listening address inside for this port: the program's address of the client's family if there is a choice.
fn target(run: &Run, port: u16, v6: bool) -> Option<SocketAddr> {
    let mut guests: Vec<IpAddr> = run.plan.networks.iter().map(|network| network.guest).collect();
    guests.sort_by_key(|guest| guest.is_ipv6() != v6);
    let mut loopbacks: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    loopbacks.sort_by_key(|address| address.is_ipv6() != v6);
    let all = guests.into_iter().chain(loopbacks).map(|address| SocketAddr::new(address, port));
    all.into_iter().find(|at| listens(&run.inner, *at))
}

/// What faults select a connection by: the client's address, and the program's port.
fn destination(client: SocketAddr, port: u16) -> Destination<'static> {
    let remote = SocketAddr::new(client.ip().to_canonical(), port);
    Destination { proto: Proto::Tcp, remote, actual: None, name: None }
}

impl Run {
    /// How the program sees a client: by its own address, or by the gateway's if that is not valid on a network of this
    /// family.
    pub(crate) fn as_client(&self, client: SocketAddr, v6: bool) -> Option<SocketAddr> {
        let own = client.ip().to_canonical();
        let visible = own.is_ipv6() == v6 && !own.is_loopback() && !own.is_unspecified();
        let address = if visible { Some(own) } else { self.plan.gateway(v6) };
        address.map(|address| SocketAddr::new(address, client.port()))
    }
}

/// The account of a connection from outside. Its process is, for the time being, the one that listens.
fn account(run: &Run, to: SocketAddr, from: SocketAddr) -> Rc<ConnectionReport> {
    let account = run.show(ConnectionReport::new(to, from));
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let process = run.owner(Flow { program: to, remote: SocketAddr::new(any, 0) });
    account.context.change(|context| (context.inward, context.process) = (true, process));
    account
}

/// Replaces the process that listens by the one that has accepted the connection, once it has: it may be a child.
async fn find_process(run: &Run, inner: Flow, account: &ConnectionReport) -> Infallible {
    if run.plan.names_processes() {
        for pause in ACCEPTED {
            sleep(pause).await;
            if let Some(process) = run.owner(inner) {
                account.context.change(|context| context.process = Some(process));
                break;
            }
        }
    }
    std::future::pending().await
}

/// Through the stack, from the client's own address, if that is valid on a network.
async fn by_stack(
    run: &Run,
    host: &Host,
    (client, from): (TcpStream, SocketAddr),
    to: SocketAddr,
    slot: Slot,
) {
    let source = run.as_client((from.ip(), 0).into(), to.is_ipv6());
    let account = account(run, to, from);
    let live = run.live.enter();
    let flow = FaultFlow::new(Proto::Tcp, to, from);
    let faults = run.inject.inward(flow, &destination(from, to.port()));
    if hinder(run, (&faults, flow), &account, &live, failed(&client)).await {
        return reset(&client);
    }
    let connecting = async {
        match source {
            Some(source) => lastack::TcpStream::connect_from(host, source, to).await,
            None => lastack::TcpStream::connect(host, to).await,
        }
    };
    let program = match live.unless_closing(connecting).await.unwrap_or_else(not_answered) {
        Ok(program) => program,
        Err(error) => {
            reset(&client);
            return run.record(account.not_taken(&error));
        }
    };
    let inner = Flow { program: to, remote: program.local_addr().unwrap_or(from) };
    account.context.change(|context| context.seen_as = Some(inner.remote));
    account.context.pack(None);
    let _over = (program.set_nodelay(true), client.set_nodelay(true));
    urgent::prepare_connected(&client);
    let relay = Relay::new(&program, &client, &account.ledger, &run.inner, &run.seen.urgent, None);
    account.may_be_evicted(&slot);
    run.inject.move_to(&flow, relay.faulty());
    faults.prepare(&account.ledger.gate, run.inject.elapsed());
    let acted = crate::relay::acted(run, &faults, &account, &program, &relay);
    let over = tokio::select! {
        over = Carried::new(&relay, &account, acted, &slot, &live) => over,
        never = Box::pin(find_process(run, inner, &account)) => match never {},
    };
    faults.count_at_end(&run.inject, &relay.faulty(), &account.ledger.gate, true);
    let mut record = account.relayed(over.as_ref(), &program, &client, run.path(&client));
    if matches!(over, Some(Over::Injected(Held::Program))) {
        let faulty = relay.faulty();
        drop(client);
        outlive(run, (&program, &faulty), (&account, &mut record), &live).await;
        run.record(record);
        return run.seen.urgent.forget(&inner.into());
    }
    run.record(record);
    run.seen.urgent.forget(&inner.into());
    if over.is_none() {
        // The client does not mistake the end of the run for the end of the stream.
        relay.reset_remote();
        return program.abort();
    }
    let (waits, remote_fin) = (relay.is_waiting(), account.ledger.remote_fin.get());
    Ended { program, host: Box::new(client), flow: inner, waits, remote_fin }.pass_on(run, over, &live).await;
}

/// By a socket of the program's network, to its loopback.
async fn by_loopback(run: &Run, (client, from): (TcpStream, SocketAddr), to: SocketAddr, slot: Slot) {
    let account = account(run, to, from);
    let live = run.live.enter();
    let flow = FaultFlow::new(Proto::Tcp, to, from);
    let faults = run.inject.between_sockets(flow, &destination(from, to.port()));
    if hinder(run, (&faults, flow), &account, &live, failed(&client)).await {
        return reset(&client);
    }
    let program = match live.unless_closing(connect_inside(run, to)).await.unwrap_or_else(not_answered) {
        Ok(program) => program,
        Err(error) => {
            reset(&client);
            run.report.warn(format!("-p: {to} of the program cannot be reached: {error}"));
            return run.record(account.not_taken(&error));
        }
    };
    let inner = Flow { program: to, remote: program.local_addr().unwrap_or(from) };
    // The client has one already.
    let Some(more) = live.unless_closing(run.budget.acquire(DESCRIPTORS - 1)).await else {
        [&program, &client].into_iter().for_each(reset);
        return run.record(account.joined(None, None));
    };
    let slot = (slot, more).1;
    let joint = Joint { program, host: client, flow, faults };
    tokio::select! {
        () = joint.run(run, &account, &live, &slot) => {}
        never = find_process(run, inner, &account) => match never {},
    }
}

/// Waits until a client, which is not read, has reset its connection.
async fn failed(client: &TcpStream) {
    let _failed = client.ready(tokio::io::Interest::ERROR).await;
}

/// The run ends before.
fn not_answered<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::TimedOut, "the run ended before the program had answered"))
}

async fn connect_inside(run: &Run, to: SocketAddr) -> io::Result<TcpStream> {
    let attendant = run.attendant.as_ref().ok_or(io::ErrorKind::Unsupported)?;
    let socket = attendant.socket(to.is_ipv6())?;
    tokio::net::TcpSocket::from_std_stream(socket.into()).connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_container_tools_write_them() {
        let of = |text: &str| {
            let Published { address, ports, proto } = text.parse().unwrap();
            assert_eq!(proto == Proto::Udp, text.ends_with("/udp"), "{text}");
            let single = |(first, last): Ports| if first == last { first } else { panic!("{text}") };
            let ports = ports.map(|(outside, inside)| (single(outside), single(inside)));
            (address.map(|address| address.to_string()), ports)
        };
        assert_eq!(of("8080"), (None, Some((8080, 8080))));
        assert_eq!(of("8080:80/tcp"), (None, Some((8080, 80))));
        assert_eq!(of("5353:53/udp"), (None, Some((5353, 53))));
        assert_eq!(of("auto/udp"), (None, None));
        assert_eq!(of("0.0.0.0:8080:80"), (Some("0.0.0.0".to_owned()), Some((8080, 80))));
        assert_eq!(of("127.0.0.1:8080"), (Some("127.0.0.1".to_owned()), Some((8080, 8080))));
        assert_eq!(of("[::1]:8080:80"), (Some("::1".to_owned()), Some((8080, 80))));
        assert_eq!(of("auto"), (None, None));
        assert_eq!(of("0.0.0.0:auto"), (Some("0.0.0.0".to_owned()), None));
        for wrong in ["", "http", "0", "80:", ":80", "1.2.3:80", "[::1]", "80:x", "70000"] {
            assert!(wrong.parse::<Published>().unwrap_err().contains("0.0.0.0:8080:80"), "{wrong}");
        }
    }

    #[test]
    fn ranges_of_ports_are_published_one_by_one() {
        let pairs = |text: &str| text.parse::<Published>().unwrap().pairs().collect::<Vec<_>>();
        assert_eq!(pairs("9000-9002"), [(9000, 9000), (9001, 9001), (9002, 9002)]);
        assert_eq!(pairs("[::1]:9000-9001:80-81/udp"), [(9000, 80), (9001, 81)]);
        assert_eq!(pairs("auto"), []);
        for wrong in ["9002-9000", "9000-", "-9000", "9000-9001:80"] {
            assert!(wrong.parse::<Published>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_published_once() {
        let duplicate = |published: &[&str]| {
            let published: Vec<Published> = published.iter().map(|text| text.parse().unwrap()).collect();
            reject_duplicates(&published).map_err(|error| error.to_string())
        };
        assert_eq!(duplicate(&["8080", "8080/udp", "0.0.0.0:8080", "auto", "auto", "8081-8090"]), Ok(()));
        assert!(duplicate(&["8080:80", "8080:81"]).unwrap_err().contains("port 8080"));
        assert!(duplicate(&["8080-8085", "8083-8090"]).unwrap_err().contains("port 8083"));
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&[format!("127.0.0.1:{port}").parse().unwrap()]).unwrap_err();
        assert!(format!("{error:#}").contains(&format!("cannot listen at 127.0.0.1:{port}")), "{error:#}");
    }

    #[test]
    fn a_bound_port_refuses_until_it_listens() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bound = bind(&[format!("127.0.0.1:{port}").parse().unwrap()]).unwrap();
        let refused = std::net::TcpStream::connect(bound[0].at).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        SockRef::from(&bound[0].socket).listen(1).unwrap();
        assert!(std::net::TcpStream::connect(bound[0].at).is_ok());
    }
}
