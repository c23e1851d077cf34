//! The errors, as [`io::Error`].

mod errno;

use lastack_engine::{BindError, ConnectError, EchoError, End, RawError, TcpError, UdpError};
use lastack_wire::icmp::IcmpError;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The error of a connection that has ended, with the reason: the inner error of an [`io::Error`] of a
/// [`TcpStream`](crate::TcpStream).
///
/// [`find`](Self::find) searches the chain of sources for it, so it is also found inside the errors of other crates.
///
/// ```
/// use lastack::{Cause, Config, EndError, Host, LikelyCause, EndedBy, TcpStream, link};
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
/// assert_eq!((end.cause, end.by), (Cause::Refused, EndedBy::Peer));
/// assert_eq!(end.inferred, Some(LikelyCause::NoListener));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EndError {
    error: TcpError,
    end: End,
}

impl EndError {
    /// Why the connection ended.
    pub const fn end(&self) -> &End {
        &self.end
    }

    /// The error of the call.
    pub const fn error(&self) -> TcpError {
        self.error
    }

    /// Linux's number of the error (`errno`); see [`errno`](fn@crate::errno).
    pub const fn errno(&self) -> i32 {
        errno::of_tcp(self.error)
    }

    /// The first error of this type in the chain of sources of `error`.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a End> {
        find_error(error).map(Self::end)
    }
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.end)
    }
}

impl Error for EndError {}

/// Why a host stopped: the error of every later call on its sockets.
///
/// The kind of the [`io::Error`] around it is that of the link's error, else [`ErrorKind::NetworkDown`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HostError {
    /// The link failed with this error.
    LinkFailed(Arc<io::Error>),
    /// The stack or the link panicked with this message: a bug in lastack or in the link. The state of the host was
    /// discarded.
    Panicked(Arc<str>),
    /// The [`Driver`](crate::Driver) was dropped: its task was aborted, or its runtime shut down.
    DriverDropped,
    /// [`Host::shutdown`](crate::Host::shutdown) was called.
    ShutDown,
}

impl HostError {
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(message.unwrap_or("without a message").into())
    }

    /// The first error of this type in the chain of sources of `error`.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_error(error)
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::LinkFailed(error) => error.kind(),
            Self::Panicked(_) | Self::DriverDropped | Self::ShutDown => ErrorKind::NetworkDown,
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkFailed(error) => write!(f, "the link of this host failed: {error}"),
            Self::Panicked(message) => {
                write!(
                    f,
                    "the stack of this host panicked and was stopped (a defect: please report it): {message}"
                )
            }
            Self::DriverDropped => f.write_str(
                "the driver of this host was dropped: its task was aborted, or its runtime shut down",
            ),
            Self::ShutDown => f.write_str("this host was shut down"),
        }
    }
}

impl Error for HostError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::LinkFailed(error) => Some(error.as_ref()),
            Self::Panicked(_) | Self::DriverDropped | Self::ShutDown => None,
        }
    }
}

impl From<HostError> for io::Error {
    fn from(error: HostError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Searches the chain of sources of `error` for an error of the type `T`: the reason inside the [`io::Error`] of a
/// call, also where another crate has wrapped that.
///
/// Each operation has its type of error:
///
/// | operation | reason inside | kinds |
/// |---|---|---|
/// | [`TcpListener::bind`](crate::TcpListener::bind), [`TcpSocket::listen`](crate::TcpSocket::listen) | [`BindError`] | `AddrInUse`, `AddrNotAvailable` |
/// | [`TcpStream::connect`](crate::TcpStream::connect), [`TcpSocket::connect`](crate::TcpSocket::connect): no SYN can be sent | [`ConnectError`] or [`BindError`] | `NetworkUnreachable`, `AddrNotAvailable`, `AddrInUse`, `InvalidInput`, `Unsupported` |
/// | `connect`: the peer or the network answered, or there was no answer | [`EndError`] | `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`, `PermissionDenied` |
/// | reading and writing a [`TcpStream`](crate::TcpStream) | [`EndError`]; [`TcpError`] before there is an end | `ConnectionReset`, `ConnectionAborted`, `BrokenPipe`, `TimedOut`, `NotConnected` and those of `connect` |
/// | a [`UdpSocket`](crate::UdpSocket) | [`UdpError`]; [`UdpReport`] with the ICMP error | `ConnectionRefused`, `AddrInUse`, `AddrNotAvailable`, `InvalidInput` and others |
/// | [`Host::ping`](crate::Host::ping) | [`EchoError`] | `HostUnreachable`, `NetworkUnreachable`, `PermissionDenied` and others |
/// | a [`RawInterceptor`](crate::RawInterceptor) | [`RawError`] | `AddrNotAvailable`, `NetworkUnreachable`, `InvalidInput`, `Unsupported` |
/// | any of these once the host has stopped | [`HostError`] | that of the link, or `NetworkDown` |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use lastack::{BindError, Config, Host, TcpListener, find_error, link};
///
/// let (link, _other_end) = link::pipe(link::Capabilities::memory(1500));
/// let host = Host::spawn(Config::new([[10, 0, 0, 1].into()]), link);
/// let error = TcpListener::bind(&host, ([10, 0, 0, 9], 80)).unwrap_err();
/// assert_eq!(find_error(&error), Some(&BindError::NotOurs));
/// # }
/// ```
pub fn find_error<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        // `io::Error::source` skips the error that it holds and returns the source of that.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = held.map_or_else(|| error.downcast_ref(), |held| held.downcast_ref::<T>());
        if found.is_some() {
            return found;
        }
        next = match held {
            Some(held) if held.is::<io::Error>() => Some(held),
            _ => error.source(),
        };
    }
    None
}

/// Linux's number (`errno`) of an error of this crate or of the system.
///
/// An [`io::Error`] cannot hold both an inner error and an `errno`: socket errors hold the reason ([`EndError`],
/// [`HostError`]), so their `raw_os_error` is `None`. This function finds the number in either case, searching the
/// chain of sources.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use lastack::{Config, Host, TcpStream, link};
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new(["10.0.0.1".parse().unwrap()]), a);
/// let _server = Host::spawn(Config::new(["10.0.0.2".parse().unwrap()]), b);
/// let error = TcpStream::connect(&client, ([10, 0, 0, 2], 80)).await.unwrap_err();
/// assert_eq!(lastack::errno(&error), Some(111)); // ECONNREFUSED
/// # }
/// ```
pub fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        return Some(number);
    }
    find_error(error)
        .map(|end: &EndError| errno::of_tcp(end.error))
        .or_else(|| find_error(error).map(|error| errno::of_tcp(*error)))
        .or_else(|| find_error(error).map(|error| errno::of_udp(*error)))
        .or_else(|| find_error(error).map(|report: &UdpReport| errno::of_udp(report.error)))
        .or_else(|| find_error(error).map(|error| errno::of_bind(*error)))
        .or_else(|| find_error(error).map(|error| errno::of_connect(*error)))
        .or_else(|| find_error(error).map(|error| errno::of_raw(*error)))
        .or_else(|| find_error(error).map(|error| errno::of_echo(*error)))
        .or_else(|| find_error(error).map(errno::of_host))
        .or_else(|| find_error::<io::Error>(error).and_then(io::Error::raw_os_error))
        .or_else(|| error.downcast_ref::<io::Error>().and_then(|error| errno::of_kind(error.kind())))
}

/// The error of a call on a connection, with its end if it has one.
pub(crate) fn tcp_error(error: TcpError, end: Option<&End>) -> io::Error {
    match end {
        Some(end) => io::Error::new(tcp_kind(error), EndError { error, end: end.clone() }),
        None => io::Error::new(tcp_kind(error), error),
    }
}

/// The kind that std maps Linux's errno to.
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
        // ENOPROTOOPT, EPROTO: std has no kind for them.
        _ => ErrorKind::Other,
    }
}

/// A socket whose connection no longer exists in the stack.
pub(crate) fn gone() -> io::Error {
    tcp_error(TcpError::NotConnected, None)
}

/// An argument that is out of range; `cure` states the range.
pub(crate) fn invalid(cure: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, cure)
}

/// `WouldBlock` with the system's errno.
pub(crate) fn would_block() -> io::Error {
    if cfg!(target_os = "linux") {
        io::Error::from_raw_os_error(errno::EAGAIN)
    } else {
        ErrorKind::WouldBlock.into()
    }
}

pub(crate) fn bind_error(error: BindError) -> io::Error {
    let kind = match error {
        BindError::InUse | BindError::NoPort => ErrorKind::AddrInUse,
        _ => ErrorKind::AddrNotAvailable,
    };
    io::Error::new(kind, error)
}

pub(crate) fn connect_error(error: ConnectError) -> io::Error {
    let kind = match error {
        // When connect chooses the port, as on Linux.
        ConnectError::Bind(BindError::NoPort) => ErrorKind::AddrNotAvailable,
        ConnectError::Bind(error) => return bind_error(error),
        ConnectError::NoAddress | ConnectError::NotUnicast => ErrorKind::NetworkUnreachable,
        ConnectError::NoRemotePort => ErrorKind::InvalidInput,
        ConnectError::OwnAddress => ErrorKind::Unsupported,
        _ => ErrorKind::InvalidInput,
    };
    io::Error::new(kind, error)
}

pub(crate) fn echo_error(error: EchoError) -> io::Error {
    let kind = match error {
        EchoError::Unreachable { error, .. } => tcp_kind(TcpError::from_icmp(error)),
        EchoError::NotOurs => ErrorKind::AddrNotAvailable,
        EchoError::NoAddress | EchoError::NotUnicast => ErrorKind::NetworkUnreachable,
        EchoError::OwnAddress => ErrorKind::Unsupported,
        EchoError::TooLong => ErrorKind::InvalidInput,
        EchoError::NoSpace => ErrorKind::WouldBlock,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

pub(crate) fn raw_error(error: RawError) -> io::Error {
    let kind = match error {
        RawError::NotOurs => ErrorKind::AddrNotAvailable,
        RawError::BadDestination => ErrorKind::NetworkUnreachable,
        RawError::OwnAddress => ErrorKind::Unsupported,
        RawError::NoSpace => ErrorKind::WouldBlock,
        _ => ErrorKind::InvalidInput,
    };
    io::Error::new(kind, error)
}

/// A listener that was killed: EINVAL, as on Linux.
pub(crate) fn listener_killed(local: SocketAddr) -> io::Error {
    let cure = format!("the listener at {local} was closed by an administrator");
    io::Error::new(ErrorKind::InvalidInput, cure)
}

/// Interception is not enabled in the configuration of the host.
pub(crate) fn not_intercepted(what: &str, field: &str) -> io::Error {
    let cure = format!("{what} are not intercepted here: set `intercept.{field}` in the host's `Config`");
    io::Error::new(ErrorKind::InvalidInput, cure)
}

/// There is an interceptor already.
pub(crate) fn intercepted_already(what: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("{what} are intercepted already, by another interceptor"))
}

/// `icmp`: the ICMP error that caused it, and its sender.
pub(crate) fn udp_error(error: UdpError, icmp: Option<(IcmpError, IpAddr)>) -> io::Error {
    let kind = match error {
        UdpError::Refused => ErrorKind::ConnectionRefused,
        UdpError::HostUnreachable | UdpError::HostDown => ErrorKind::HostUnreachable,
        UdpError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        UdpError::Prohibited => ErrorKind::PermissionDenied,
        UdpError::NotConnected => ErrorKind::NotConnected,
        UdpError::NoAddress => ErrorKind::AddrNotAvailable,
        UdpError::OwnAddress => ErrorKind::Unsupported,
        UdpError::InUse => ErrorKind::AddrInUse,
        UdpError::MessageTooLong | UdpError::NotUnicast => ErrorKind::InvalidInput,
        UdpError::Full => ErrorKind::WouldBlock,
        // ENOPROTOOPT, EPROTO, ENONET: std has no kind for them.
        _ => ErrorKind::Other,
    };
    match icmp {
        Some((icmp, from)) if UdpError::from_icmp(icmp) == Some(error) => {
            io::Error::new(kind, UdpReport { error, icmp, from })
        }
        _ => io::Error::new(kind, error),
    }
}

/// An ICMP error about a datagram that a connected [`UdpSocket`](crate::UdpSocket) sent: the inner error of the
/// [`io::Error`] that reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpReport {
    /// The resulting socket error.
    pub error: UdpError,
    /// The ICMP error.
    pub icmp: IcmpError,
    /// Its sender: the peer or a router on the path.
    pub from: IpAddr,
}

impl UdpReport {
    /// The first report in the chain of sources of `error`.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_error(error)
    }
}

impl fmt::Display for UdpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (ICMP {} from {})", self.error, self.icmp, self.from)
    }
}

impl Error for UdpReport {}
