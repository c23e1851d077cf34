//! The application of a host in virtual time: the calls of a script on a stack.

use super::script::{Call, Outcome};
use lastack_engine::{
    BindError, ConnId, ConnectError, Keepalive, ListenerId, Stack, TcpError, TcpState, UdpError, UdpId,
};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

/// An application and its sockets, which the script refers to by number.
#[derive(Debug)]
pub(super) struct Application {
    own: IpAddr,
    other: IpAddr,
    sockets: BTreeMap<usize, Socket>,
}

#[derive(Clone, Copy, Debug)]
enum Socket {
    Listener(ListenerId),
    Tcp(ConnId),
    Udp(UdpId),
}

impl Application {
    pub fn new(own: IpAddr, other: IpAddr) -> Self {
        Self { own, other, sockets: BTreeMap::new() }
    }

    /// The host has lost all its state, including the sockets.
    pub fn forget(&mut self) {
        self.sockets.clear();
    }

    /// Starts a call; `None`: it is pending, and [`poll`](Self::poll) reports when it returns.
    pub fn begin(&mut self, stack: &mut Stack, socket: usize, call: Call) -> Option<Outcome> {
        let made = match call {
            Call::Listen(port) => {
                stack.tcp_listen(SocketAddr::new(self.own, port), 8).map(Socket::Listener).map_err(bind_kind)
            }
            Call::Connect { from, to } => {
                let [local, remote] = self.ends(from, to);
                stack.tcp_connect(Some(local), remote).map(Socket::Tcp).map_err(|error| match error {
                    ConnectError::Bind(error) => bind_kind(error),
                    _ => ErrorKind::AddrNotAvailable,
                })
            }
            Call::ConnectUdp { from, to } => self.connect_udp(stack, from, to),
            _ => return self.poll(stack, socket, call),
        };
        match made {
            Ok(made) => self.sockets.insert(socket, made),
            Err(kind) => return Some(Outcome::Failed(kind)),
        };
        (!matches!(call, Call::Connect { .. })).then_some(Outcome::Done)
    }

    fn connect_udp(&self, stack: &mut Stack, from: u16, to: u16) -> Result<Socket, ErrorKind> {
        let [local, remote] = self.ends(from, to);
        let id = stack.udp_bind(local).map_err(bind_kind)?;
        let mut udp = stack.udp(id).ok_or(ErrorKind::NotConnected)?;
        udp.connect(remote).map_err(udp_kind)?;
        Ok(Socket::Udp(id))
    }

    fn ends(&self, from: u16, to: u16) -> [SocketAddr; 2] {
        [SocketAddr::new(self.own, from), SocketAddr::new(self.other, to)]
    }

    /// The outcome of a call, once it has returned.
    pub fn poll(&mut self, stack: &mut Stack, socket: usize, call: Call) -> Option<Outcome> {
        let on = if let Call::Accept(listener) = call { listener } else { socket };
        match self.sockets.get(&on) {
            Some(Socket::Listener(id)) => {
                let accepted = stack.tcp_accept(*id)?;
                self.sockets.insert(socket, Socket::Tcp(accepted));
                Some(Outcome::Done)
            }
            Some(Socket::Tcp(id)) => poll_tcp(stack, *id, call),
            Some(Socket::Udp(id)) => poll_udp(stack, *id, call),
            None => Some(Outcome::Failed(ErrorKind::NotConnected)),
        }
    }
}

fn poll_tcp(stack: &mut Stack, id: ConnId, call: Call) -> Option<Outcome> {
    let Some(mut tcp) = stack.tcp(id) else { return Some(Outcome::Failed(ErrorKind::NotConnected)) };
    let result = match call {
        Call::Connect { .. } => match (tcp.take_error(), tcp.state()) {
            (Some(error), _) => Err(error),
            (None, TcpState::SynSent | TcpState::SynReceived) => return None,
            (None, _) => Ok(Outcome::Done),
        },
        Call::Send(text) => return bytes(tcp.send(text.as_bytes())),
        Call::Read(max) => return bytes(tcp.receive(&mut vec![0; max])),
        Call::Shutdown => tcp.shutdown().map(|()| Outcome::Done),
        Call::Close => {
            tcp.close();
            Ok(Outcome::Done)
        }
        Call::Abort => {
            tcp.set_linger(Some(Duration::ZERO));
            tcp.close();
            Ok(Outcome::Done)
        }
        Call::KeepAlive { idle, interval, count } => {
            tcp.set_keepalive(Some(Keepalive { idle, interval, count }));
            Ok(Outcome::Done)
        }
        Call::UserTimeout(limit) => {
            tcp.set_user_timeout(Some(limit));
            Ok(Outcome::Done)
        }
        _ => return Some(Outcome::Failed(ErrorKind::InvalidInput)),
    };
    Some(result.unwrap_or_else(|error| Outcome::Failed(kind(error))))
}

fn bytes(result: Poll<Result<usize, TcpError>>) -> Option<Outcome> {
    match result {
        Poll::Pending => None,
        Poll::Ready(Ok(0)) => Some(Outcome::EndOfStream),
        Poll::Ready(Ok(n)) => Some(Outcome::Bytes(n)),
        Poll::Ready(Err(error)) => Some(Outcome::Failed(kind(error))),
    }
}

fn poll_udp(stack: &mut Stack, id: UdpId, call: Call) -> Option<Outcome> {
    let Some(mut udp) = stack.udp(id) else { return Some(Outcome::Failed(ErrorKind::NotConnected)) };
    let result = match call {
        Call::SendDatagram(payload) => udp.send(payload.as_bytes(), None).map(|()| payload.len()),
        Call::ReadDatagram => match udp.receive() {
            Ok(None) => return None,
            Ok(Some(datagram)) => Ok(datagram.payload.len()),
            Err(error) => Err(error),
        },
        _ => return Some(Outcome::Failed(ErrorKind::InvalidInput)),
    };
    Some(match result {
        Ok(n) => Outcome::Bytes(n),
        Err(error) => Outcome::Failed(udp_kind(error)),
    })
}

fn bind_kind(error: BindError) -> ErrorKind {
    match error {
        BindError::InUse | BindError::NoPort => ErrorKind::AddrInUse,
        _ => ErrorKind::AddrNotAvailable,
    }
}

fn udp_kind(error: UdpError) -> ErrorKind {
    match error {
        UdpError::Refused => ErrorKind::ConnectionRefused,
        UdpError::HostUnreachable => ErrorKind::HostUnreachable,
        UdpError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        _ => ErrorKind::Other,
    }
}

/// The error kind as in the standard library.
fn kind(error: TcpError) -> ErrorKind {
    match error {
        TcpError::Refused => ErrorKind::ConnectionRefused,
        TcpError::Reset => ErrorKind::ConnectionReset,
        TcpError::Aborted => ErrorKind::ConnectionAborted,
        TcpError::TimedOut => ErrorKind::TimedOut,
        TcpError::HostUnreachable => ErrorKind::HostUnreachable,
        TcpError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        TcpError::BrokenPipe => ErrorKind::BrokenPipe,
        TcpError::NotConnected => ErrorKind::NotConnected,
        TcpError::Prohibited => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    }
}
