//! A connection.

use crate::Host;
use crate::error::{connect_error, gone, tcp_error};
use crate::shared::Inner;
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

/// A TCP connection, with the shape of tokio's own and the reason of its end.
///
/// Text comes through [`AsyncRead`] and goes through [`AsyncWrite`]; `shutdown` sends FIN and leaves
/// the other direction open for as long as the peer likes. What arrived before a reset is read
/// first, then the reset is reported once, by whichever call comes first, then the stream is at its
/// end (`docs/errors.md`); [`end`](Self::end) says why at any time, so no call can swallow the reason.
///
/// Dropped, the connection closes as a program's last descriptor does: text that nobody has read
/// resets it (`Rule::RstUnreadDataAtClose`), so does a linger time of zero (`Rule::RstAbort`); else what was written is still delivered,
/// then FIN. [`close`](Self::close) waits for that.
///
/// Its futures take something only when they are ready: dropped early, they lose nothing, unless
/// they say otherwise.
#[derive(Debug)]
pub struct TcpStream {
    pub(super) host: Host,
    pub(super) id: ConnId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl TcpStream {
    pub(super) fn new(host: Host, id: ConnId, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { host, id, local, remote }
    }

    /// Opens a connection to `remote` and waits until it is established.
    ///
    /// # Errors
    /// At once: `InvalidInput` for port 0, `Unsupported` for an address of this host itself (there is no
    /// loopback), `NetworkUnreachable` for what is no host's or of a family that this host has no address of,
    /// `AddrNotAvailable` if the link is too small for the family. Later
    /// what became of the attempt: `ConnectionRefused`, `TimedOut`, `HostUnreachable`,
    /// `NetworkUnreachable`, `PermissionDenied`, each with its [`EndError`](crate::EndError). A
    /// connection that was established is never an error here, however soon it ended: its first
    /// read tells.
    ///
    /// # Cancel safety
    /// Dropped, the future gives up the attempt without a word to the peer (`Rule::EndAttemptClosed`).
    pub async fn connect(host: &Host, remote: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::open(host, None, remote.into(), &Options::default())?.established().await
    }

    /// As [`connect`](Self::connect), from this address; its port may be 0 for any that is free.
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

    /// `options` are entered before the SYN leaves.
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
            Ok(Self::new(host.clone(), id, local, remote))
        })
    }

    /// The connection, once its handshake is over.
    pub(super) async fn established(self) -> io::Result<Self> {
        self.wait(Interest::Write(self.id), poll_established).await?;
        Ok(self)
    }

    /// The id of the connection on its host: that of [`Ended`](crate::Ended::id) and
    /// [`OpenConnection`](crate::OpenConnection::id), too.
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// The address of this side.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// The address of the peer, whether or not the connection still is.
    ///
    /// # Errors
    /// None.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.remote)
    }

    /// The state of RFC 9293 section 3.3.2.
    pub fn state(&self) -> TcpState {
        self.host.shared().with(|inner| inner.stack.tcp(self.id).map_or(TcpState::Closed, |tcp| tcp.state()))
    }

    /// A look at the inside of the connection.
    ///
    /// # Errors
    /// None as long as the stack knows the connection, which it does.
    pub fn info(&self) -> io::Result<TcpInfo> {
        self.call(|tcp| Ok(tcp.info()))
    }

    /// The pending error, which is thereby taken: no other call reports it.
    ///
    /// # Errors
    /// None as long as the stack knows the connection, which it does.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.call(|tcp| Ok(tcp.take_error().map(|error| tcp_error(error, tcp.end()))))
    }

    /// Why the connection is over; `None` while it is not. Asking takes nothing.
    pub fn end(&self) -> Option<End> {
        self.host.shared().with(|inner| inner.stack.tcp(self.id)?.end().cloned())
    }

    /// Waits until the connection is over, and says why.
    ///
    /// # Errors
    /// The link failed or the driver was dropped before that.
    pub async fn closed(&self) -> io::Result<End> {
        let over = |tcp: &mut Tcp<'_>| tcp.end().cloned().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)));
        self.wait(Interest::End(self.id), over).await
    }

    /// Waits until the peer has acknowledged everything written, and the FIN if the stream was shut
    /// down.
    ///
    /// # Errors
    /// The error of the connection, if it ends before.
    pub async fn drained(&self) -> io::Result<()> {
        self.wait(Interest::Write(self.id), |tcp| tcp.poll_drained()).await
    }

    /// Sends RST: the peer learns that the connection was given up (ABORT of RFC 9293). What was
    /// written and not yet acknowledged is lost, as is what was not yet read.
    pub fn abort(&self) {
        self.host.shared().with(|inner| {
            if let Some(mut tcp) = inner.stack.tcp(self.id) {
                tcp.abort();
            }
        });
    }

    /// Waits until the peer has acknowledged everything written, as long as something is acknowledged within each
    /// `patience`; then sends RST. What a proxy needs whose far side was reset: data that came before the reset arrives
    /// before it.
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

    /// Closes the connection, and waits as `SO_LINGER` says: with a linger time, until the peer has
    /// acknowledged everything or the time is over; without, not at all. Dropped early, the future
    /// closes the connection all the same.
    ///
    /// # Errors
    /// None: neither the end of the time nor a reset in it is an error of closing, as on Linux (S67);
    /// in the first case the rest is still delivered. To know that everything arrived, shut down
    /// and use [`drained`](Self::drained).
    pub async fn close(self) -> io::Result<()> {
        let linger = self.call(|tcp| {
            // The test for unread text comes first: it resets without waiting (`Rule::RstUnreadDataAtClose`, S65).
            let time = tcp.linger().filter(|time| !time.is_zero() && tcp.info().unread == 0);
            if time.is_some() {
                tcp.shutdown()?;
            }
            Ok(time)
        });
        if let Ok(Some(time)) = linger {
            // Either outcome is an end of the waiting, see above.
            let _over = tokio::time::timeout(time, self.drained()).await;
        }
        Ok(())
    }

    /// Sends FIN after what was written and leaves the other direction open, as `shutdown` of [`AsyncWrite`] does.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.host.shared().with(|inner| {
            // Without a driver the FIN would not leave.
            inner.running()?;
            let Some(mut tcp) = inner.stack.tcp(self.id) else { return Err(gone()) };
            tcp.shutdown().map_err(|error| tcp_error(error, tcp.end()))
        })
    }

    /// Waits for no more text (`SHUT_RD`): where there is none, reads end. The peer is not told. What it
    /// sends can still be read as it comes (S73), until this direction is shut down too: then new text
    /// is answered with RST (S74, `Rule::RstDataAfterClose`).
    ///
    /// # Errors
    /// If the connection is over.
    pub fn shutdown_read(&self) -> io::Result<()> {
        self.call(|tcp| tcp.shutdown_read())
    }

    /// A call on the connection that does not wait.
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
    fn poll<T>(
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
    /// Waits until there is something to read: text, the end of the stream or an error. Takes
    /// nothing.
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

    /// Reads what is there, without waiting. `Ok(0)` is the end of the stream, unless `buf` is empty.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; that of the connection.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            let received = poll_tcp(inner, self.id, |tcp| tcp.receive(buf));
            inner.or_would_block(received)
        })
    }

    /// Reads and leaves what it read to be read again.
    ///
    /// # Errors
    /// That of the connection, which is thereby reported (as `MSG_PEEK` does).
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

    /// Lends what is there to `read`, in place and in order, and takes from it as many octets as
    /// `read` returns: how a relay saves a copy. Returns that number, or `None` at the end of the
    /// stream.
    ///
    /// `read` runs under the lock of the host: it must be short, not wait, and not use the host or
    /// anything of it.
    ///
    /// # Errors
    /// That of the connection.
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
    /// That of the connection.
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
    /// Waits until there is room to write, or an error. Takes nothing.
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

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; that of the connection; `BrokenPipe` after a shutdown or a
    /// reset.
    pub fn try_write(&self, text: &[u8]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            // Without a driver there is room, but nothing would leave.
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

    /// Ready at once: what was written is on its way. [`TcpStream::drained`] waits for the peer.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends FIN after what was written, once, and is ready at once.
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

/// Whether the handshake is over. A connection that was established and is over already is no
/// failure to connect: its text and its error are for the reader.
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

/// Copies what is readable into `buf`, as far as it fits; returns how much.
fn lend(tcp: &Tcp<'_>, buf: &mut ReadBuf<'_>) -> usize {
    let before = buf.remaining();
    for text in tcp.readable() {
        buf.put_slice(&text[..text.len().min(buf.remaining())]);
    }
    before - buf.remaining()
}

/// A panic of `read` is put into `panic`, to go on outside the lock: it has only seen borrowed bytes, and the stack
/// is as it was.
fn take_with(
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

/// Sends as much as there is room for. Under one lock the connection does not change between the
/// slices, so an error can only meet the first. Nothing to send needs no room, and is told the error
/// all the same.
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

/// Whether a read would be ready. Does not ask a connection that is over: asked, it tells its error.
fn is_readable(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    if tcp.end().is_some() { Poll::Ready(Ok(())) } else { tcp.poll_readable().map_ok(drop) }
}

/// Whether a write would be ready, be it with an error.
fn is_writable(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    if tcp.end().is_some() { Poll::Ready(Ok(())) } else { tcp.poll_writable().map(|_room| Ok(())) }
}
