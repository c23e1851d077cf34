//! What goes wrong, as [`io::Error`].

use lastack_engine::{BindError, ConnectError, EchoError, End, TcpError, UdpError};
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

/// The error of a connection that is over, with the reason: what an [`io::Error`] of a
/// [`TcpStream`](crate::TcpStream) holds.
///
/// It stays within the error wherever `?` carries it, inside the errors of other crates too:
/// [`find`](Self::find) looks for it along the chain of sources.
///
/// ```
/// use lastack::{Cause, Config, EndError, Host, Inference, Party, TcpStream, link};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new(["10.0.0.1".parse().unwrap()]), a);
/// let _server = Host::spawn(Config::new(["10.0.0.2".parse().unwrap()]), b);
///
/// let error = TcpStream::connect(&client, ([10, 0, 0, 2], 1935)).await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
///
/// let end = EndError::find(&error).expect("a refused connection has an end");
/// assert_eq!((end.cause, end.by), (Cause::Refused, Party::Peer));
/// assert_eq!(end.inferred, Some(Inference::NobodyListens));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EndError {
    error: TcpError,
    end: End,
}

impl EndError {
    /// Why the connection is over.
    pub const fn end(&self) -> &End {
        &self.end
    }

    /// What the call failed with.
    pub const fn error(&self) -> TcpError {
        self.error
    }

    /// The reason behind `error`, if somewhere in its chain of sources there is one.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a End> {
        let mut next = Some(error);
        while let Some(error) = next {
            // The source of an io::Error is the source of what it holds, which would be passed over.
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let found = held.map_or_else(|| error.downcast_ref(), |held| held.downcast_ref::<Self>());
            if let Some(found) = found {
                return Some(&found.end);
            }
            next = match held {
                Some(held) if held.is::<io::Error>() => Some(held),
                _ => error.source(),
            };
        }
        None
    }
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.end)
    }
}

impl Error for EndError {}

/// The link of a host failed, and with it everything of that host.
#[derive(Debug)]
struct LinkFailed(Arc<io::Error>);

impl fmt::Display for LinkFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the link of this host failed: {}", self.0)
    }
}

impl Error for LinkFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What sockets say once the driver has stopped.
pub(crate) fn stopped(cause: Option<&Arc<io::Error>>) -> io::Error {
    match cause {
        Some(error) => io::Error::new(error.kind(), LinkFailed(error.clone())),
        None => io::Error::new(
            ErrorKind::NetworkDown,
            "the driver of this host was dropped: keep it running as long as there are sockets",
        ),
    }
}

/// The error of a call on a connection, with its end if it has one.
pub(crate) fn tcp_error(error: TcpError, end: Option<&End>) -> io::Error {
    match end {
        Some(end) => io::Error::new(tcp_kind(error), EndError { error, end: end.clone() }),
        None => io::Error::new(tcp_kind(error), error),
    }
}

/// The kind that std gives the errno of Linux.
const fn tcp_kind(error: TcpError) -> ErrorKind {
    match error {
        TcpError::Refused => ErrorKind::ConnectionRefused,
        TcpError::Reset => ErrorKind::ConnectionReset,
        TcpError::Aborted => ErrorKind::ConnectionAborted,
        TcpError::TimedOut => ErrorKind::TimedOut,
        TcpError::HostUnreachable => ErrorKind::HostUnreachable,
        TcpError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        TcpError::Prohibited => ErrorKind::PermissionDenied,
        TcpError::BrokenPipe => ErrorKind::BrokenPipe,
        TcpError::NotConnected => ErrorKind::NotConnected,
        // ENOPROTOOPT, EPROTO: std has no kind of their own for them.
        _ => ErrorKind::Other,
    }
}

/// A socket whose connection is gone from the stack.
pub(crate) fn gone() -> io::Error {
    tcp_error(TcpError::NotConnected, None)
}

pub(crate) fn bind_error(error: BindError) -> io::Error {
    let kind = match error {
        BindError::InUse | BindError::NoPort => ErrorKind::AddrInUse,
        BindError::NotOurs | BindError::LinkTooSmall => ErrorKind::AddrNotAvailable,
    };
    io::Error::new(kind, error)
}

pub(crate) fn connect_error(error: ConnectError) -> io::Error {
    let kind = match error {
        ConnectError::Bind(error) => return bind_error(error),
        ConnectError::NoAddress | ConnectError::NotUnicast => ErrorKind::NetworkUnreachable,
        ConnectError::NoRemotePort => ErrorKind::InvalidInput,
        ConnectError::OwnAddress => ErrorKind::Unsupported,
    };
    io::Error::new(kind, error)
}

pub(crate) fn echo_error(error: EchoError) -> io::Error {
    let kind = match error {
        EchoError::Unreachable { error, .. } => tcp_kind(TcpError::from_icmp(error)),
        EchoError::NotOurs => ErrorKind::AddrNotAvailable,
        EchoError::NoAddress | EchoError::NotUnicast => ErrorKind::NetworkUnreachable,
        EchoError::TooLong => ErrorKind::InvalidInput,
        EchoError::NoSpace => ErrorKind::WouldBlock,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// A listener that is closed under its user: EINVAL, as on Linux.
pub(crate) fn listener_killed(local: SocketAddr) -> io::Error {
    let cure = format!("an administrator closed the listener at {local}: bind another one");
    io::Error::new(ErrorKind::InvalidInput, cure)
}

/// An interceptor is asked of a host that intercepts nothing of the kind.
pub(crate) fn not_intercepted(what: &str, field: &str) -> io::Error {
    let cure = format!("{what} are not intercepted here: set `intercept.{field}` in the host's `Config`");
    io::Error::new(ErrorKind::InvalidInput, cure)
}

/// A second interceptor is asked for.
pub(crate) fn intercepted_already(what: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("{what} are intercepted already, by another interceptor"))
}

pub(crate) fn udp_error(error: UdpError) -> io::Error {
    let kind = match error {
        UdpError::Refused => ErrorKind::ConnectionRefused,
        UdpError::HostUnreachable | UdpError::HostDown => ErrorKind::HostUnreachable,
        UdpError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        UdpError::Prohibited => ErrorKind::PermissionDenied,
        UdpError::NotConnected => ErrorKind::NotConnected,
        UdpError::NoAddress => ErrorKind::AddrNotAvailable,
        UdpError::InUse => ErrorKind::AddrInUse,
        UdpError::MessageTooLong | UdpError::NotUnicast => ErrorKind::InvalidInput,
        UdpError::Full => ErrorKind::WouldBlock,
        // ENOPROTOOPT, EPROTO, ENONET: std has no kind of their own for them.
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
