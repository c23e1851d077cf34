//! The types and signatures of `tokio::net`, so that a program can be ported by changing its imports.
//!
//! ```diff
//! -use tokio::net::{TcpListener, TcpStream};
//! +use lastack::net::{TcpListener, TcpStream};
//! ```
//!
//! Unlike kernel sockets, sockets here need a host. These use the default host: that of [`set_host`] for the whole
//! process, or of [`with_host`] for one task and what it awaits. Every type dereferences to that of the crate's root,
//! which has additional methods, such as the reason of an end. The supported calls are listed in
//! [`docs::tokio`](crate::docs::tokio).
//!
//! ```
//! use lastack::net::{TcpListener, TcpStream};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # use lastack::{Config, Host, link};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let (a, b) = link::pipe(link::Capabilities::memory(1500));
//! # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
//! # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
//! lastack::net::with_host(server, async {
//!     let listener = TcpListener::bind("10.0.0.2:80").await?;
//!     tokio::spawn(async move {
//!         let (mut stream, _) = listener.accept().await?;
//!         stream.write_all(b"hello").await
//!     });
//!     std::io::Result::Ok(())
//! })
//! .await?;
//! lastack::net::set_host(client);
//! let mut stream = TcpStream::connect("10.0.0.2:80").await?;
//! let mut data = String::new();
//! stream.read_to_string(&mut data).await?;
//! assert_eq!(data, "hello");
//! # Ok(())
//! # }
//! ```

use crate::addr::{first, resolve};
use crate::tcp as sockets;
use crate::{Host, udp};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use crate::addr::{ToSocketAddrs, lookup_host};

/// The halves of a stream.
pub mod tcp {
    pub use crate::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
}

static PROCESS: RwLock<Option<Host>> = RwLock::new(None);

tokio::task_local! {
    static TASK: Host;
}

/// Sets the default host of all sockets of this module made from now on, except within [`with_host`]. Returns the
/// previous one.
pub fn set_host(host: Host) -> Option<Host> {
    PROCESS.write().unwrap_or_else(PoisonError::into_inner).replace(host)
}

/// Sets the default host of all sockets that `future` makes itself. Tasks that it spawns are not included.
pub fn with_host<F: Future>(host: Host, future: F) -> impl Future<Output = F::Output> {
    TASK.scope(host, future)
}

/// The current default host.
///
/// # Errors
/// `NotConnected` if there is none.
///
/// ```
/// use lastack::net::{TcpSocket, ToSocketAddrs, current_host, lookup_host, with_host};
/// # use lastack::{Config, Host, link};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
///
/// /// Listens at the first address of this name, with a larger receive buffer.
/// async fn listen(at: impl ToSocketAddrs) -> std::io::Result<lastack::net::TcpListener> {
///     let address = lookup_host(at).await?.next().expect("a name has addresses");
///     let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
///     socket.set_recv_buffer_size(1 << 20)?;
///     socket.bind(address)?;
///     socket.listen(128)
/// }
/// let (listener, host) = with_host(server, async { (listen("10.0.0.2:80").await, current_host()) }).await;
/// assert_eq!(listener?.local_addr()?.port(), 80);
/// assert_eq!(host?.config().addresses.len(), 1);
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn current_host() -> io::Result<Host> {
    if let Ok(host) = TASK.try_with(Host::clone) {
        return Ok(host);
    }
    let host = PROCESS.read().unwrap_or_else(PoisonError::into_inner).clone();
    host.ok_or_else(|| {
        let cure = "there is no host for this socket: call lastack::net::set_host first, or use with_host";
        io::Error::new(io::ErrorKind::NotConnected, cure)
    })
}

macro_rules! wrapper {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(pub $inner);

        impl Deref for $name {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }

        impl From<$name> for $inner {
            fn from(outer: $name) -> Self {
                outer.0
            }
        }
    };
}

wrapper! {
    /// A [`TcpStream`](crate::TcpStream) of the [current host](current_host).
    TcpStream(sockets::TcpStream)
}
wrapper! {
    /// A [`TcpListener`](crate::TcpListener) of the [current host](current_host).
    TcpListener(sockets::TcpListener)
}
wrapper! {
    /// A [`TcpSocket`](crate::TcpSocket) of the [current host](current_host).
    TcpSocket(sockets::TcpSocket)
}
wrapper! {
    /// A [`UdpSocket`](crate::UdpSocket) of the [current host](current_host).
    UdpSocket(udp::UdpSocket)
}

impl TcpStream {
    /// Connects to the first of these addresses that succeeds; see [`TcpStream::connect`](crate::TcpStream::connect).
    ///
    /// # Errors
    /// Those of the last address; `NotConnected` if there is no host.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let host = current_host()?;
        first(&addr, |remote| sockets::TcpStream::connect(&host, remote)).await.map(Self)
    }

    /// Splits the stream into owned halves, for use in two tasks.
    pub fn into_split(self) -> (sockets::OwnedReadHalf, sockets::OwnedWriteHalf) {
        self.0.into_split()
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl TcpListener {
    /// Listens on the first of these addresses that is available; see
    /// [`TcpListener::bind`](crate::TcpListener::bind).
    ///
    /// # Errors
    /// Those of the last address; `NotConnected` if there is no host.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let host = current_host()?;
        first(&addr, |local| std::future::ready(sockets::TcpListener::bind(&host, local))).await.map(Self)
    }

    /// See [`TcpListener::accept`](crate::TcpListener::accept).
    ///
    /// # Errors
    /// As there.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await.map(|(stream, peer)| (TcpStream(stream), peer))
    }

    /// See [`TcpListener::poll_accept`](crate::TcpListener::poll_accept).
    ///
    /// # Errors
    /// As there.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.0.poll_accept(cx).map_ok(|(stream, peer)| (TcpStream(stream), peer))
    }
}

impl TcpSocket {
    /// See [`TcpSocket::new_v4`](crate::TcpSocket::new_v4).
    ///
    /// # Errors
    /// `NotConnected` if there is no host.
    pub fn new_v4() -> io::Result<Self> {
        sockets::TcpSocket::new_v4(&current_host()?).map(Self)
    }

    /// See [`TcpSocket::new_v6`](crate::TcpSocket::new_v6).
    ///
    /// # Errors
    /// `NotConnected` if there is no host.
    pub fn new_v6() -> io::Result<Self> {
        sockets::TcpSocket::new_v6(&current_host()?).map(Self)
    }

    /// See [`TcpSocket::connect`](crate::TcpSocket::connect).
    ///
    /// # Errors
    /// As there.
    pub async fn connect(self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.0.connect(remote).await.map(TcpStream)
    }

    /// See [`TcpSocket::listen`](crate::TcpSocket::listen).
    ///
    /// # Errors
    /// As there.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.0.listen(backlog).map(TcpListener)
    }
}

impl UdpSocket {
    /// Binds to the first of these addresses that is available; see [`UdpSocket::bind`](crate::UdpSocket::bind).
    ///
    /// # Errors
    /// Those of the last address; `NotConnected` if there is no host.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let host = current_host()?;
        first(&addr, |local| std::future::ready(udp::UdpSocket::bind(&host, local))).await.map(Self)
    }

    /// See [`UdpSocket::connect`](crate::UdpSocket::connect).
    ///
    /// # Errors
    /// Those of the last address.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        first(&addr, |remote| std::future::ready(self.0.connect(remote))).await
    }

    /// See [`UdpSocket::send_to`](crate::UdpSocket::send_to); to the first address.
    ///
    /// # Errors
    /// As there.
    pub async fn send_to<A: ToSocketAddrs>(&self, payload: &[u8], addr: A) -> io::Result<usize> {
        let addresses = resolve(&addr).await?;
        self.0.send_to(payload, addresses[0]).await
    }

    /// See [`UdpSocket::poll_send_to`](crate::UdpSocket::poll_send_to).
    ///
    /// # Errors
    /// As there.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        payload: &[u8],
        remote: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, payload, remote)
    }

    /// See [`UdpSocket::try_send_to`](crate::UdpSocket::try_send_to).
    ///
    /// # Errors
    /// As there.
    pub fn try_send_to(&self, payload: &[u8], remote: SocketAddr) -> io::Result<usize> {
        self.0.try_send_to(payload, remote)
    }
}
