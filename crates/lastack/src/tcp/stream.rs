//! TCP connections.

use crate::Host;
use crate::error::{connect_error, gone, tcp_error};
use crate::shared::Inner;
use crate::tcp::ends::Ends;
use crate::tcp::socket::Options;
use crate::wakers::{Interest, Wait};
use lastack_engine::{ConnId, End, Tcp, TcpError, TcpInfo, TcpState};
use std::any::Any;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TCP connection, with the API of tokio's, and the reason of its end.
///
/// Data is read by [`AsyncRead`] and written by [`AsyncWrite`]; `shutdown` sends FIN and leaves the other direction
/// open. Data that arrived before a reset is read first; then the reset is reported once, by the first call after
/// that; then reads return the end of the stream (`docs/errors.md`). [`end`](Self::end) returns the reason at any
/// time.
///
/// Dropping the stream closes the connection as closing the last file descriptor does: unread data in the receive
/// buffer resets it (`Rule::RstUnreadDataAtClose`), so does a linger time of zero (`Rule::RstAbort`); otherwise
/// written data is still delivered, then FIN. [`close`](Self::close) waits for that.
///
/// Its futures are cancel safe unless stated otherwise: if dropped before they are ready, no data is lost.
#[derive(Debug)]
pub struct TcpStream {
    pub(super) host: Host,
    pub(super) id: ConnId,
    pub(super) ends: Ends,
}

impl TcpStream {
    pub(super) fn new(host: Host, id: ConnId, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { host, id, ends: Ends::new(local, remote) }
    }

    /// Opens a connection to `remote` and waits until it is established.
    ///
    /// # Errors
    /// Immediately: `InvalidInput` for port 0, `Unsupported` for an address of this host itself (there is no
    /// loopback), `NetworkUnreachable` for an address that is not unicast or of a family in which this host has no
    /// address, `AddrNotAvailable` if the MTU of the link is too small for the family. Later the result of the
    /// attempt: `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`, `PermissionDenied`, each
    /// with its [`EndError`](crate::EndError). A connection that was established is never an error here, even if it
    /// has ended already: its first read reports the error.
    ///
    /// # Cancel safety
    /// If the future is dropped, the attempt ends silently (`Rule::EndAttemptClosed`).
    pub async fn connect(host: &Host, remote: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::open(host, None, remote.into(), &Options::default())?.established().await
    }

    /// As [`connect`](Self::connect), from this address; port 0 means any free port.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and `AddrInUse` or `AddrNotAvailable` for `local`.
    pub async fn connect_from(
        host: &Host,
        local: impl Into<SocketAddr>,
        remote: impl Into<SocketAddr>,
    ) -> io::Result<Self> {
        Self::open(host, Some(local.into()), remote.into(), &Options::default())?.established().await
    }

    /// `options` are applied before the SYN is sent.
    pub(super) fn open(
        host: &Host,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        options: &Options,
    ) -> io::Result<Self> {
        host.shared().with(|inner| {
            inner.accepts_sockets()?;
            let id = inner.stack.tcp_connect(local, remote).map_err(connect_error)?;
            let mut tcp = inner.stack.tcp(id).ok_or_else(gone)?;
            options.apply(&mut tcp);
            let (local, remote) = (tcp.local(), tcp.remote());
            inner.trace_begin(id, local, remote, "connecting");
            Ok(Self::new(host.clone(), id, local, remote))
        })
    }

    /// Waits for the handshake.
    pub(super) async fn established(self) -> io::Result<Self> {
        self.wait(Interest::Write(self.id), poll_established).await?;
        Ok(self)
    }

    /// The id of the connection on its host, as in [`Ended`](crate::Ended::id) and
    /// [`OpenConnection`](crate::OpenConnection::id).
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// The local address.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends.local())
    }

    /// The address of the peer, also after the end of the connection.
    ///
    /// # Errors
    /// None.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends.remote())
    }

    /// The state of RFC 9293 section 3.3.2.
    pub fn state(&self) -> TcpState {
        self.host.shared().with(|inner| inner.stack.tcp(self.id).map_or(TcpState::Closed, |tcp| tcp.state()))
    }

    /// Statistics and parameters of the connection.
    ///
    /// # Errors
    /// None: the stack keeps the connection while the stream exists.
    pub fn info(&self) -> io::Result<TcpInfo> {
        self.call(|tcp| Ok(tcp.info()))
    }

    /// Takes the pending error: no other call reports it afterwards.
    ///
    /// # Errors
    /// None: the stack keeps the connection while the stream exists.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.call(|tcp| Ok(tcp.take_error().map(|error| tcp_error(error, tcp.end()))))
    }

    /// How the connection ended; `None` while it has not. Does not take the pending error.
    pub fn end(&self) -> Option<End> {
        self.host.shared().with(|inner| inner.stack.tcp(self.id)?.end().cloned())
    }

    /// Waits until the connection has ended and returns how.
    ///
    /// # Errors
    /// The link failed or the driver was dropped before that.
    pub async fn closed(&self) -> io::Result<End> {
        self.wait(Interest::End(self.id), has_ended).await
    }

    /// As [`closed`](Self::closed), for a hand-written future.
    ///
    /// # Errors
    /// As [`closed`](Self::closed).
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        self.poll(cx, Interest::End(self.id), has_ended)
    }

    /// Waits until the peer has acknowledged all written data, and the FIN if the stream was shut down.
    ///
    /// # Errors
    /// The error of the connection, if it ends before.
    pub async fn drained(&self) -> io::Result<()> {
        self.wait(Interest::Write(self.id), |tcp| tcp.poll_drained()).await
    }

    /// Aborts the connection with RST (ABORT of RFC 9293). Unacknowledged and unread data is lost.
    pub fn abort(&self) {
        self.host.shared().with(|inner| {
            if let Some(mut tcp) = inner.stack.tcp(self.id) {
                tcp.abort();
            }
        });
    }

    /// Waits until the peer has acknowledged all written data, as long as something is acknowledged within each
    /// `patience`; then sends RST. For a proxy whose far side was reset: data received before the reset is delivered
    /// first.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (mut stream, peer) = (near?, far?.0);
    /// # use tokio::io::AsyncReadExt;
    /// peer.try_write(b"half of an answer")?;
    /// tokio::spawn(peer.abort_when_delivered(std::time::Duration::from_secs(3)));
    ///
    /// let mut data = Vec::new();
    /// let error = stream.read_to_end(&mut data).await.unwrap_err();
    /// assert_eq!(data, b"half of an answer");
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn abort_when_delivered(self, patience: Duration) {
        let mut left = u64::MAX;
        loop {
            let waits = tokio::time::timeout(patience, self.drained()).await;
            let now = self.info().map_or(0, |info| (info.unsent + info.unacked) as u64);
            if waits.is_ok() || now >= left {
                break;
            }
            left = now;
        }
        self.abort();
    }

    /// Closes the connection and waits as `SO_LINGER` says: with a linger time, until the peer has acknowledged
    /// everything or the time has expired; without, not at all. If the future is dropped, the connection is closed as
    /// well.
    ///
    /// # Errors
    /// None: as on Linux, neither the expiry of the linger time nor a reset meanwhile is an error of closing; after
    /// the expiry the rest is still delivered. To make sure that everything arrived, shut down and use
    /// [`drained`](Self::drained).
    pub async fn close(self) -> io::Result<()> {
        let linger = self.call(|tcp| {
            // Check for unread data first: it resets without waiting (`Rule::RstUnreadDataAtClose`).
            let time = tcp.linger().filter(|time| !time.is_zero() && tcp.info().unread == 0);
            if time.is_some() {
                tcp.shutdown()?;
            }
            Ok(time)
        });
        if let Ok(Some(time)) = linger {
            // Waiting ends with either result, see above.
            let _over = tokio::time::timeout(time, self.drained()).await;
        }
        Ok(())
    }

    /// Sends FIN after the written data and leaves the other direction open, as `shutdown` of [`AsyncWrite`] does.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.host.shared().with(|inner| {
            // Without a driver the FIN would not be sent.
            inner.running()?;
            let Some(mut tcp) = inner.stack.tcp(self.id) else { return Err(gone()) };
            tcp.shutdown().map_err(|error| tcp_error(error, tcp.end()))
        })
    }

    /// Shuts down reading (`SHUT_RD`): reads no longer wait but return the end of the stream. The peer is not
    /// notified. Data that it sends can still be read when it arrives, until the write direction is shut down too:
    /// then new data is answered with RST (`Rule::RstDataAfterClose`).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn shutdown_read(&self) -> io::Result<()> {
        self.call(|tcp| tcp.shutdown_read())
    }

    /// A non-blocking call on the connection.
    pub(super) fn call<T>(&self, call: impl FnOnce(&mut Tcp<'_>) -> Result<T, TcpError>) -> io::Result<T> {
        self.host.shared().with(|inner| {
            let Some(mut tcp) = inner.stack.tcp(self.id) else { return Err(inner.gone()) };
            call(&mut tcp).map_err(|error| tcp_error(error, tcp.end()))
        })
    }

    /// A call that may have to wait, as a future.
    pub(super) async fn wait<T>(
        &self,
        interest: Interest,
        mut call: impl FnMut(&mut Tcp<'_>) -> Poll<Result<T, TcpError>> + Unpin,
    ) -> io::Result<T> {
        Wait::new(self.host.shared(), interest, |inner| poll_tcp(inner, self.id, &mut call)).await
    }

    /// A call that may have to wait, polled.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        call: impl FnOnce(&mut Tcp<'_>) -> Poll<Result<T, TcpError>>,
    ) -> Poll<io::Result<T>> {
        self.host.shared().poll(cx, interest, None, |inner| poll_tcp(inner, self.id, call))
    }
}

/// Reading.
impl TcpStream {
    /// Waits until data, the end of the stream or an error can be read. Consumes nothing.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Interest::Read(self.id), is_readable).await
    }

    /// As [`readable`](Self::readable), for a hand-written future.
    ///
    /// # Errors
    /// As [`readable`](Self::readable).
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Interest::Read(self.id), is_readable)
    }

    /// Reads available data, without waiting. `Ok(0)` is the end of the stream, unless `buf` is empty.
    ///
    /// # Errors
    /// `WouldBlock` if there is no data; the error of the connection.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, peer) = (near?, far?.0);
    /// peer.writable().await?;
    /// assert_eq!(peer.try_write(b"hello")?, 5);
    ///
    /// let mut buf = [0; 100];
    /// let n = loop {
    ///     stream.readable().await?;
    ///     match stream.try_read(&mut buf) {
    ///         Ok(n) => break n, // 0: the end of the stream
    ///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// assert_eq!(&buf[..n], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            let received = poll_tcp(inner, self.id, |tcp| tcp.receive(buf));
            inner.or_would_block(received)
        })
    }

    /// Reads without consuming the data.
    ///
    /// # Errors
    /// The error of the connection, which is thereby taken (as by `MSG_PEEK`).
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (mut stream, peer) = (near?, far?.0);
    /// # use tokio::io::AsyncReadExt;
    /// peer.try_write(b"GET /")?;
    /// let mut start = [0; 3];
    /// let n = stream.peek(&mut start).await?; // the data stays in the receive buffer
    /// assert_eq!(&start[..n], b"GET");
    /// stream.read_exact(&mut [0; 5]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let peek = |tcp: &mut Tcp<'_>| {
            ready!(tcp.poll_readable())?;
            Poll::Ready(Ok(tcp.peek(buf)))
        };
        self.wait(Interest::Read(self.id), peek).await
    }

    /// As [`peek`](Self::peek), for a hand-written future.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.poll(cx, Interest::Read(self.id), |tcp| {
            ready!(tcp.poll_readable())?;
            Poll::Ready(Ok(lend(tcp, buf)))
        })
    }

    /// Passes the available data to `read` in place and consumes as many bytes as `read` returns, which saves a relay
    /// a copy. Returns that number, or `None` at the end of the stream. If the data is in more than two pieces, it gets the
    /// first two.
    ///
    /// `read` runs under the lock of the host: it must be short, must not block, and must not use the host or its
    /// sockets.
    ///
    /// # Errors
    /// The error of the connection.
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce([&[u8]; 2]) -> usize,
    ) -> Poll<io::Result<Option<usize>>> {
        let mut panic = None;
        let taken = self.poll(cx, Interest::Read(self.id), |tcp| take_with(tcp, read, &mut panic));
        panic.map_or(taken, |panic| resume_unwind(panic))
    }

    /// As [`poll_read_with`](Self::poll_read_with), as a future.
    ///
    /// # Errors
    /// The error of the connection.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, peer) = (near?, far?.0);
    /// peer.try_write(b"hello")?;
    /// let mut copy = Vec::new();
    /// let taken = stream
    ///     .read_with(|parts| {
    ///         parts.iter().for_each(|part| copy.extend_from_slice(part));
    ///         copy.len()
    ///     })
    ///     .await?;
    /// assert_eq!((taken, &copy[..]), (Some(5), &b"hello"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_with(
        &self,
        mut read: impl FnMut([&[u8]; 2]) -> usize + Unpin,
    ) -> io::Result<Option<usize>> {
        let mut panic = None;
        let taken = self.wait(Interest::Read(self.id), |tcp| take_with(tcp, &mut read, &mut panic)).await;
        panic.map_or(taken, |panic| resume_unwind(panic))
    }

    /// Reads into `buf`, which is not empty.
    pub(crate) fn poll_read_slice(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, Interest::Read(self.id), |tcp| tcp.receive(buf))
    }

    pub(super) fn poll_read_ref(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll(cx, Interest::Read(self.id), |tcp| {
            ready!(tcp.poll_readable())?;
            let taken = lend(tcp, buf);
            tcp.consume(taken);
            Poll::Ready(Ok(()))
        })
    }
}

/// Writing.
impl TcpStream {
    /// Waits until there is room in the send buffer, or an error. Consumes nothing.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Interest::Write(self.id), is_writable).await
    }

    /// As [`writable`](Self::writable), for a hand-written future.
    ///
    /// # Errors
    /// As [`writable`](Self::writable).
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Interest::Write(self.id), is_writable)
    }

    /// Writes as much as there is room for, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; the error of the connection; `BrokenPipe` after a shutdown or a reset.
    pub fn try_write(&self, text: &[u8]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            // Without a driver there may be room, but nothing would be sent.
            inner.running()?;
            let sent = poll_tcp(inner, self.id, |tcp| send_all(tcp, &[IoSlice::new(text)]));
            inner.or_would_block(sent)
        })
    }

    pub(crate) fn poll_write_ref(
        &self,
        cx: &mut Context<'_>,
        texts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.host.shared().poll(cx, Interest::Write(self.id), None, |inner| {
            inner.running()?;
            poll_tcp(inner, self.id, |tcp| send_all(tcp, texts))
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            if let Some(tcp) = inner.stack.tcp(self.id) {
                tcp.close();
            }
            for interest in [Interest::Read, Interest::Write, Interest::End, Interest::Acknowledge] {
                inner.wakers.forget(interest(self.id));
            }
        });
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ref(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_ref(cx, &[IoSlice::new(text)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        texts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_ref(cx, texts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: written data is sent without flushing. [`TcpStream::drained`] waits for the peer.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends FIN after the written data, once, and is ready at once.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

pub(super) fn poll_tcp<T>(
    inner: &mut Inner,
    id: ConnId,
    call: impl FnOnce(&mut Tcp<'_>) -> Poll<Result<T, TcpError>>,
) -> Poll<io::Result<T>> {
    let Some(mut tcp) = inner.stack.tcp(id) else { return Poll::Ready(Err(inner.gone())) };
    call(&mut tcp).map_err(|error| tcp_error(error, tcp.end()))
}

/// Whether the handshake is complete. A connection that was established and has ended already is not a failed
/// attempt: its data and its error are left for the reader.
fn poll_established(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    const fn is_embryonic(state: TcpState) -> bool {
        matches!(state, TcpState::SynSent | TcpState::SynReceived)
    }
    if is_embryonic(tcp.state()) {
        return Poll::Pending;
    }
    let failure = tcp.end().filter(|end| is_embryonic(end.state)).map(|end| end.error());
    Poll::Ready(match failure {
        Some(error) => Err(tcp.take_error().or(error).unwrap_or(TcpError::Aborted)),
        None => Ok(()),
    })
}

/// Copies readable data into `buf`, as much as fits; returns the number of bytes.
fn lend(tcp: &Tcp<'_>, buf: &mut ReadBuf<'_>) -> usize {
    let before = buf.remaining();
    for text in tcp.slices() {
        buf.put_slice(&text[..text.len().min(buf.remaining())]);
        if buf.remaining() == 0 {
            break;
        }
    }
    before - buf.remaining()
}

/// A panic of `read` is stored in `panic`, to be resumed outside the lock: `read` has only seen borrowed bytes, and
/// the stack is unchanged.
pub(super) fn take_with(
    tcp: &mut Tcp<'_>,
    read: impl FnOnce([&[u8]; 2]) -> usize,
    panic: &mut Option<Box<dyn Any + Send>>,
) -> Poll<Result<Option<usize>, TcpError>> {
    let unread = ready!(tcp.poll_readable())?;
    if unread == 0 {
        return Poll::Ready(Ok(None));
    }
    let taken = catch_unwind(AssertUnwindSafe(|| read(tcp.readable())));
    let taken = taken.unwrap_or_else(|cause| {
        *panic = Some(cause);
        0
    });
    let taken = taken.min(unread);
    tcp.consume(taken);
    Poll::Ready(Ok(Some(taken)))
}

/// Sends as much as there is room for. The connection does not change between the slices under one lock, so only the
/// first can return an error. An empty write needs no room, and returns the error all the same.
pub(super) fn send_all(tcp: &mut Tcp<'_>, texts: &[IoSlice<'_>]) -> Poll<Result<usize, TcpError>> {
    if texts.iter().all(|text| text.is_empty()) {
        return Poll::Ready(match tcp.send(&[]) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(0),
        });
    }
    let mut sent = 0;
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match tcp.send(text) {
            Poll::Ready(Ok(n)) => {
                sent += n;
                if n < text.len() {
                    break;
                }
            }
            Poll::Pending | Poll::Ready(Err(_)) if sent > 0 => break,
            other => return other,
        }
    }
    Poll::Ready(Ok(sent))
}

/// How the connection ended, once it has.
fn has_ended(tcp: &mut Tcp<'_>) -> Poll<Result<End, TcpError>> {
    tcp.end().cloned().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
}

/// Whether a read would be ready. Does not poll a connection that has ended: that would take its error.
fn is_readable(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    if tcp.end().is_some() { Poll::Ready(Ok(())) } else { tcp.poll_readable().map_ok(drop) }
}

/// Whether a write would be ready, including with an error.
fn is_writable(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    if tcp.end().is_some() { Poll::Ready(Ok(())) } else { tcp.poll_writable().map(|_room| Ok(())) }
}
