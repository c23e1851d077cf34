//! The helper process in the namespace: makes the calls of the right side on the kernel's sockets.
//!
//! It reads the index of a step of the script from its standard input, makes that step's call in a
//! separate thread, and writes the outcome to its standard output ([`message`]).

use super::{message, states};
use lastack_engine::FourTuple;
use lastack_lab::{self as lab, Call, FROM, Outcome, PORT, Step};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The hidden first argument.
pub(super) const HIDDEN: &str = "__lab-kernel";
/// A call that has not returned after this time is taken to block.
pub(super) const SOON: Duration = Duration::from_millis(5);

/// Runs the helper and does not return, if this process was started as one. Call it first in `main`.
pub fn intercept() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [hidden, name, own, other] = &words[..] else { return };
    if hidden != HIDDEN {
        return;
    }
    let (Some(scenario), Ok(own), Ok(other)) = (lab::find(name), own.parse(), other.parse()) else {
        eprintln!("lastack: {HIDDEN} is internal");
        process::exit(2);
    };
    let agent = Arc::new(Agent { own, other, sockets: Mutex::default() });
    let flow = FourTuple { local: SocketAddr::new(own, PORT), remote: SocketAddr::new(other, FROM) };
    thread::spawn(move || states::watch(flow, say));
    agent.obey((scenario.script)().steps);
    process::exit(0)
}

/// Sends a line to the parent process, and exits if the pipe is closed.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        process::exit(0);
    }
}

struct Agent {
    own: IpAddr,
    other: IpAddr,
    sockets: Mutex<BTreeMap<usize, Arc<Socket>>>,
}

impl Agent {
    /// Makes the requested calls, until the input ends.
    fn obey(self: Arc<Self>, steps: Vec<Step>) {
        for line in io::stdin().lines().map_while(Result::ok) {
            let Ok(nth) = line.trim().parse::<usize>() else { continue };
            let Some(&Step::Call { socket, call, .. }) = steps.get(nth) else { continue };
            let agent = Arc::clone(&self);
            thread::spawn(move || say(&message::outcome(nth, &agent.make(socket, call))));
        }
    }

    fn make(&self, number: usize, call: Call) -> io::Result<Outcome> {
        let done = |socket: Socket| {
            self.sockets().insert(number, Arc::new(socket));
            Ok(Outcome::Done)
        };
        match call {
            Call::Listen(port) => {
                let socket = self.bound(Type::STREAM, port)?;
                socket.listen(8)?;
                done(socket)
            }
            Call::Accept(listener) => done(self.socket(listener)?.accept()?.0),
            Call::Connect { from, to } => done(self.connected(Type::STREAM, from, to)?),
            Call::ConnectUdp { from, to } => done(self.connected(Type::DGRAM, from, to)?),
            Call::Close | Call::Abort => {
                let socket = self.sockets().remove(&number).ok_or(io::ErrorKind::NotConnected)?;
                if call == Call::Abort {
                    socket.set_linger(Some(Duration::ZERO))?;
                }
                Ok(Outcome::Done)
            }
            _ => on(&*self.socket(number)?, call),
        }
    }

    fn bound(&self, kind: Type, port: u16) -> io::Result<Socket> {
        let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
        let socket = Socket::new(Domain::for_address(SocketAddr::new(self.own, port)), kind, Some(protocol))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(self.own, port)))?;
        Ok(socket)
    }

    fn connected(&self, kind: Type, from: u16, to: u16) -> io::Result<Socket> {
        let socket = self.bound(kind, from)?;
        socket.connect(&SockAddr::from(SocketAddr::new(self.other, to)))?;
        Ok(socket)
    }

    fn socket(&self, number: usize) -> io::Result<Arc<Socket>> {
        self.sockets().get(&number).cloned().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on an existing socket.
fn on(mut socket: &Socket, call: Call) -> io::Result<Outcome> {
    match call {
        Call::Send(text) | Call::SendDatagram(text) => socket.write(text.as_bytes()).map(Outcome::Bytes),
        Call::Read(most) => Ok(match socket.read(&mut vec![0; most])? {
            0 => Outcome::EndOfStream,
            n => Outcome::Bytes(n),
        }),
        Call::ReadDatagram => socket.read(&mut [0; 65_536]).map(Outcome::Bytes),
        Call::Shutdown => socket.shutdown(Shutdown::Write).map(|()| Outcome::Done),
        Call::KeepAlive { idle, interval, count } => {
            let times = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
            socket.set_tcp_keepalive(&times).map(|()| Outcome::Done)
        }
        Call::UserTimeout(limit) => socket.set_tcp_user_timeout(Some(limit)).map(|()| Outcome::Done),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
