//! Linux as the stack under test: real sockets, real time.

use std::{
    io,
    mem::MaybeUninit,
    net::Shutdown,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::{
    counters, kill,
    namespace::Network,
    notation::Call,
    numbers,
    packets::Ends,
    play::{self, Outcome, Subject},
};

/// How long is waited for what is late.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program with a listener and a connection, in the namespace of this thread.
pub struct Linux<'a> {
    network: &'a Network,
    packets: Receiver<Vec<u8>>,
    ends: Ends,
    listener: Option<Socket>,
    connection: Option<Socket>,
    /// Connections that were accepted before, and stay open.
    others: Vec<Socket>,
    /// The result of a call that blocks in a thread of its own.
    awaited: Option<Receiver<Outcome>>,
}

impl<'a> Linux<'a> {
    pub fn new(network: &'a Network, ends: Ends) -> Self {
        let packets = network.peer(ends.first_port..ends.first_port + Ends::PORTS);
        Self { network, packets, ends, listener: None, connection: None, others: Vec::new(), awaited: None }
    }

    fn socket(&self) -> Socket {
        let socket =
            Socket::new(Domain::for_address(self.ends.local), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        // The default of Linux, which a machine may have changed.
        socket.set_tcp_congestion(b"cubic").unwrap();
        socket.bind(&self.ends.local.into()).unwrap();
        socket
    }

    /// A call that may wait.
    fn begin(&mut self, call: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        let (sender, receiver) = channel();
        self.awaited = Some(receiver);
        // Nobody may ask for the outcome any more.
        std::thread::spawn(move || drop(sender.send(call())));
        Outcome::Done
    }

    fn use_connection(&mut self, call: Call) -> Outcome {
        // On a machine that is too busy the handshake may come late; the scenario is then played again.
        let Some(socket) = self.connection.as_ref() else {
            return Outcome::Errno("no connection".to_owned());
        };
        match call {
            Call::Send(len) => socket.send(&vec![b'x'; len]).map_or_else(failed, Outcome::Count),
            Call::Receive(len) => text(len, |buf| socket.recv(buf)),
            Call::Peek => text(1 << 17, |buf| socket.peek(buf)),
            Call::ReceiveWhole(len) => {
                text(len, |buf| socket.recv_with_flags(buf, libc::MSG_WAITALL | libc::MSG_DONTWAIT))
            }
            Call::Shutdown => done(socket.shutdown(Shutdown::Write)),
            Call::ShutdownRead => done(socket.shutdown(Shutdown::Read)),
            Call::ShutdownBoth => done(socket.shutdown(Shutdown::Both)),
            Call::Ready => Outcome::Said(readiness(socket)),
            Call::Connected => connected(socket),
            Call::Nodelay => done(socket.set_tcp_nodelay(true)),
            Call::Info => Outcome::Said(numbers::show(&numbers::of_linux(socket))),
            Call::PeerName => done(socket.peer_addr().map(drop)),
            Call::LocalName => done(socket.local_addr().map(drop)),
            Call::LingerFor(seconds) => done(socket.set_linger(Some(Duration::from_secs(seconds.into())))),
            Call::BeginReceive => {
                let socket = socket.try_clone().unwrap();
                self.begin(move || {
                    events(&socket, libc::POLLIN, -1);
                    text(1 << 17, |buf| socket.recv(buf))
                })
            }
            Call::BeginClose => {
                let socket = self.connection.take();
                self.begin(move || {
                    drop(socket);
                    Outcome::Done
                })
            }
            Call::Abort => done(disconnect(socket)),
            Call::Linger2(seconds) => done(set_linger2(socket, seconds)),
            Call::Linger => done(socket.set_linger(Some(Duration::ZERO))),
            Call::Keepalive(idle, interval, count) => {
                let [idle, interval] = [idle, interval].map(|s| Duration::from_secs(s.into()));
                let keepalive =
                    TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
                done(socket.set_tcp_keepalive(&keepalive))
            }
            Call::UserTimeout(millis) => {
                done(socket.set_tcp_user_timeout(Some(Duration::from_millis(millis.into()))))
            }
            Call::Error => match socket.take_error().unwrap() {
                Some(error) => failed(error),
                None => Outcome::Errno("0".to_owned()),
            },
            _ => {
                self.connection = None;
                Outcome::Done
            }
        }
    }
}

impl Subject for Linux<'_> {
    fn call(&mut self, call: Call) -> Outcome {
        match call {
            Call::Listen(backlog) => {
                let socket = self.socket();
                socket.listen(backlog as i32).unwrap();
                self.listener = Some(socket);
                Outcome::Done
            }
            Call::Unlisten => {
                self.listener = None;
                Outcome::Done
            }
            Call::Accept => match self.listener.as_ref().unwrap().accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true).unwrap();
                    self.others.extend(self.connection.replace(socket));
                    Outcome::Done
                }
                Err(error) => failed(error),
            },
            Call::Connect => {
                let socket = self.socket();
                let outcome = done(socket.connect(&self.ends.peer_at(0).into()));
                self.connection = Some(socket);
                outcome
            }
            Call::Kill => done(kill::kill(self.ends.local, self.ends.peer_at(0))),
            Call::KillListener => done(kill::kill(self.ends.local, unspecified(self.ends.local))),
            Call::Counters => Outcome::Said(counters::show(&counters::of_linux())),
            Call::Awaited => {
                let begun = self.awaited.as_ref().expect("a call waits");
                begun.try_recv().unwrap_or_else(|_| Outcome::Said("waits".to_owned()))
            }
            _ => self.use_connection(call),
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.network.send(packet);
    }

    fn collect(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = Instant::now() + time;
        let mut packets = Vec::new();
        while let Ok(packet) = self.packets.recv_timeout(end.saturating_duration_since(Instant::now())) {
            packets.push(packet);
        }
        packets
    }

    fn collect_late(&mut self) -> Vec<Vec<u8>> {
        self.packets.recv_timeout(PATIENCE).into_iter().collect()
    }
}

/// The result of poll(2) with this timeout in milliseconds; negative: without one.
fn events(socket: &Socket, wanted: i16, longest: i32) -> i16 {
    let mut fd = libc::pollfd { fd: socket.as_raw_fd(), events: wanted, revents: 0 };
    // SAFETY: poll reads and writes this one pollfd, which lives through the call.
    Errno::result(unsafe { libc::poll(&raw mut fd, 1, longest) }).unwrap();
    fd.revents
}

/// The same as tokio has it: what its epoll makes of the bits.
fn readiness(socket: &Socket) -> String {
    let events = events(socket, libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP, 0);
    let [readable, writable, error, hung_up, read_closed] =
        [libc::POLLIN, libc::POLLOUT, libc::POLLERR, libc::POLLHUP, libc::POLLRDHUP]
            .map(|bit| events & bit != 0);
    play::readiness([
        readable,
        writable,
        hung_up || readable && read_closed,
        hung_up || writable && error,
        error,
    ])
}

/// What tokio's connect does: waits until there is room, then asks for the error.
fn connected(socket: &Socket) -> Outcome {
    if events(socket, libc::POLLOUT, 0) & libc::POLLOUT == 0 {
        return Outcome::Said("waits".to_owned());
    }
    socket.take_error().unwrap().map_or(Outcome::Done, failed)
}

/// connect(AF_UNSPEC), which is ABORT (S68).
fn disconnect(socket: &Socket) -> io::Result<()> {
    // SAFETY: zeroes are a sockaddr; they say AF_UNSPEC.
    let unspecified: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = size_of_val(&unspecified) as libc::socklen_t;
    // SAFETY: connect reads one sockaddr of this length, which lives through the call.
    Errno::result(unsafe { libc::connect(socket.as_raw_fd(), &raw const unspecified, len) })?;
    Ok(())
}

/// No crate for socket options has TCP_LINGER2.
fn set_linger2(socket: &Socket, seconds: i32) -> io::Result<()> {
    let len = size_of_val(&seconds) as libc::socklen_t;
    let value = (&raw const seconds).cast();
    // SAFETY: setsockopt reads one int of this length, which lives through the call.
    Errno::result(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_LINGER2, value, len)
    })?;
    Ok(())
}

/// The peer of a listener.
fn unspecified(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(
        if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
        0,
    )
}

fn text(len: usize, receive: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>) -> Outcome {
    let mut buf = vec![MaybeUninit::new(0); len];
    match receive(&mut buf) {
        Ok(n) => {
            // SAFETY: every byte of the buffer was initialized above.
            Outcome::Text(buf[..n].iter().map(|byte| unsafe { byte.assume_init() }).collect())
        }
        Err(error) => failed(error),
    }
}

fn done(result: io::Result<()>) -> Outcome {
    result.map_or_else(failed, |()| Outcome::Done)
}

fn failed(error: io::Error) -> Outcome {
    let errno = error.raw_os_error().map(Errno::from_raw);
    Outcome::Errno(errno.map_or_else(|| error.to_string(), |errno| format!("{errno:?}")))
}
