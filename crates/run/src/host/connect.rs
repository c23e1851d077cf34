//! Connecting, with the exact cause of a failure.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::error_queue;
use super::failure::{Failure, Said};
use super::socket::set_header_fields;
use super::source::Source;
use super::tcp_info::{self, Info};
use super::{spare, urgent};
use lastack::IpFields;

/// A connection of the host.
#[derive(Debug)]
pub struct Connected {
    /// The socket.
    pub stream: TcpStream,
    /// The remote has already reset the connection; data that arrived before can be read. The socket does not report
    /// the error again.
    pub reset: Option<io::Error>,
    /// The MSS that the remote and the path allow, if it was asked for when the remote had answered.
    pub max_segment: Option<u16>,
}

/// Connects. Dropping the future aborts the attempt.
///
/// Unlike in tokio's own `connect`, the socket outlives the failure: its error queue shows whether a refusal was a
/// reset, and which ICMP error from which sender made a remote unreachable.
pub async fn connect(remote: SocketAddr) -> Result<Connected, Failure> {
    connect_with(remote, None, &Source::default()).await
}

/// The same, with these fields in the IP headers of sent packets, from this end.
pub async fn connect_with(
    remote: SocketAddr,
    ip: Option<IpFields>,
    source: &Source,
) -> Result<Connected, Failure> {
    let (v6, remote) = (remote.is_ipv6(), source.scoped(remote));
    let plain = ip.is_none() && !source.applies_to(remote.ip());
    let socket = match plain.then(|| spare::take(remote.ip())).flatten() {
        Some(socket) => socket,
        None => prepared(remote, ip, source)?,
    };
    match socket.connect(&remote.into()) {
        Ok(()) => return connected(TcpStream::from_std(socket.into())?, v6, Accepted::default()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => {
            return Err(Failure::of_attempt(remote, &error, error_queue::first_with_hop_limit(&socket, v6)));
        }
    }
    // A remote on this host has answered within the call: no wait for the reactor is needed.
    match Attempt::look(SockRef::from(&socket), remote)? {
        Attempt::Pending => {}
        Attempt::Accepted(accepted) => {
            return connected(TcpStream::from_std(socket.into())?, v6, accepted);
        }
        Attempt::Refused => return Err(refused(socket, remote, plain)),
    }
    let stream = TcpStream::from_std(socket.into())?;
    loop {
        let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
        match Attempt::look(SockRef::from(&stream), remote)? {
            Attempt::Pending => {
                if let Some(failure) = ready.is_error().then(|| reported(&stream, remote)).flatten() {
                    return Err(failure);
                }
                wait_again(&stream)?;
            }
            Attempt::Accepted(accepted) => return connected(stream, v6, accepted),
            Attempt::Refused => return Err(Failure { errno: libc::ECONNREFUSED, said: Said::Reset }),
        }
    }
}

/// The failure of an attempt that the remote has refused. `plain`: the next one to this remote may use the socket.
fn refused(socket: Socket, remote: SocketAddr, plain: bool) -> Failure {
    // The call that fails with the attempt's error also resets the socket.
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
            if plain {
                spare::keep(socket, remote.ip());
            }
            Failure { errno: libc::ECONNREFUSED, said: Said::Reset }
        }
        Err(error) => Failure::of_attempt(remote, &error, None),
        Ok(()) => Failure { errno: libc::ECONNABORTED, said: Said::Host },
    }
}

/// The ICMP error about an attempt that goes on. The kernel ends an attempt at its first ICMP error, unless the error
/// arrives during a call on the socket, as from a near router: then it goes on to send SYNs, and the next error ends it.
/// The program's attempt ends at the first error in both cases.
fn reported(stream: &TcpStream, remote: SocketAddr) -> Option<Failure> {
    let queued = error_queue::first_with_hop_limit(stream, remote.is_ipv6())?;
    queued.icmp?;
    Some(Failure::new(&io::Error::from_raw_os_error(queued.errno), Some(queued)))
}

/// A socket for an attempt.
fn prepared(remote: SocketAddr, ip: Option<IpFields>, source: &Source) -> Result<Socket, Failure> {
    let v6 = remote.is_ipv6();
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if source.excludes(remote.ip()) {
        return Err(Failure { errno: libc::ENETUNREACH, said: Said::Unbound });
    }
    source.apply(&socket, remote.ip())?;
    urgent::prepare(&socket);
    if let Some(ip) = ip {
        set_header_fields(&socket, v6, ip)?;
    }
    // IPv4 queues the errors of an attempt by default.
    if v6 {
        error_queue::enable(&socket, v6, true)?;
    }
    Ok(socket)
}

/// The state of an attempt.
enum Attempt {
    Pending,
    Accepted(Accepted),
    /// The remote has answered the SYN with a reset. The error is still in the socket.
    Refused,
}

/// The remote has accepted.
#[derive(Debug, Default)]
struct Accepted {
    /// It has reset the connection since.
    reset: Option<io::Error>,
    max_segment: Option<u16>,
}

impl Attempt {
    /// One system call, unless the attempt has failed in another way than by a reset.
    fn look(socket: SockRef<'_>, remote: SocketAddr) -> Result<Self, Failure> {
        let info = Info::of(&*socket);
        match info.as_ref().map(Info::attempt) {
            Some(tcp_info::Attempt::Pending) => return Ok(Self::Pending),
            Some(tcp_info::Attempt::Connected) => {
                let max_segment = info.and_then(|info| info.max_segment());
                return Ok(Self::Accepted(Accepted { reset: None, max_segment }));
            }
            Some(tcp_info::Attempt::ClosedByReset) => return Ok(Self::Refused),
            Some(tcp_info::Attempt::Closed) | None => {}
        }
        match socket.take_error()? {
            // An answer to our SYN gives ECONNREFUSED; these two need a connection (`docs/resets.md` 2.4).
            Some(error) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
                return Ok(Self::Accepted(Accepted { reset: Some(error), max_segment: None }));
            }
            Some(error) => {
                let queued = error_queue::first_with_hop_limit(&*socket, remote.is_ipv6());
                return Err(Failure::of_attempt(remote, &error, queued));
            }
            None => {}
        }
        match socket.peer_addr() {
            Ok(_) => Ok(Self::Accepted(Accepted::default())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Self::Pending),
            Err(error) => Err(error.into()),
        }
    }
}

/// An established connection ignores ICMP errors (`docs/resets.md` 4.5), unless the error queue is enabled.
fn connected(stream: TcpStream, v6: bool, accepted: Accepted) -> Result<Connected, Failure> {
    if v6 {
        error_queue::enable(&stream, v6, false)?;
    }
    Ok(Connected { stream, reset: accepted.reset, max_segment: accepted.max_segment })
}

/// A spurious wakeup: clears readiness, so that the next wait waits.
fn wait_again(stream: &TcpStream) -> io::Result<()> {
    for readiness in [Interest::WRITABLE, Interest::ERROR] {
        match stream.try_io(readiness, || Err::<(), _>(io::ErrorKind::WouldBlock.into())) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn open_and_refused_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let there = listener.local_addr().unwrap();
            assert_eq!(connect(there).await.unwrap().stream.peer_addr().unwrap(), there);
            drop(listener);
            let failure = connect(there).await.unwrap_err();
            assert_eq!(failure, Failure { errno: libc::ECONNREFUSED, said: Said::Reset });
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_before_we_look_is_no_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        // Loopback connects within the call, which does not report it.
        assert_eq!(socket.connect(&there.into()).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(b"hello").unwrap();
        SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(far);
        let Attempt::Accepted(accepted) = Attempt::look(SockRef::from(&socket), there).unwrap() else {
            panic!("it has connected");
        };
        assert_eq!(accepted.reset.as_ref().unwrap().kind(), io::ErrorKind::ConnectionReset);
        let stream = TcpStream::from_std(socket.into()).unwrap();
        let mut stream = connected(stream, false, accepted).unwrap().stream;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.unwrap();
        assert_eq!(text, b"hello");
    }

    #[tokio::test]
    async fn failures_of_this_host_are_distinguished() {
        // A group is no remote of a connection: the host refuses by itself.
        let failure = connect("[ff05::1]:9".parse().unwrap()).await.unwrap_err();
        assert_eq!(failure.said, Said::NoRoute, "{failure}");
    }
}
