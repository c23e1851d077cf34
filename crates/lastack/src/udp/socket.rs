//! UDP sockets.

use crate::Host;
use crate::error::{bind_error, udp_error};
use crate::shared::Inner;
use crate::tcp::options::check_ttl;
use crate::wakers::{Interest, Wait};
use lastack_engine::{Datagram, Udp, UdpError, UdpId};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// A UDP socket, with the API of tokio's.
///
/// An ICMP error about a datagram that a *connected* socket sent, such as port unreachable, is reported once, by the
/// next send, receive or [`take_error`](Self::take_error); such a send sends nothing (`docs/errors.md`). The inner
/// error has the ICMP error and its sender ([`UdpReport`](crate::UdpReport)). An unconnected socket gets no such
/// errors.
///
/// The futures are cancel safe: dropped before they are ready, they neither lose nor send a datagram.
///
/// ```
/// use lastack::{Config, Host, UdpSocket, link};
/// use tokio::io::Interest;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
/// let near = UdpSocket::bind(&client, ([10, 0, 0, 1], 0))?;
/// let far = UdpSocket::bind(&server, ([10, 0, 0, 2], 53))?;
/// near.send_to(b"query", far.local_addr()?).await?;
///
/// // Wait, look, take.
/// assert!(far.ready(Interest::READABLE).await?.is_readable());
/// let mut buf = [0; 100];
/// let (n, from) = far.try_peek_from(&mut buf)?;
/// assert_eq!(far.try_recv_from(&mut buf)?, (n, from));
/// assert_eq!(&buf[..n], b"query");
/// far.writable().await?;
/// far.try_send_to(b"answer", from)?;
///
/// // The address that a datagram was sent to, and its header fields.
/// let answer = near.recv_datagram().await?;
/// assert_eq!((answer.local, answer.ip.hop_limit), (near.local_addr()?, 64));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    pub(super) host: Host,
    pub(super) id: UdpId,
}

impl UdpSocket {
    /// Binds a socket to this address; the unspecified address means every address of the host, port 0 any free port.
    ///
    /// # Errors
    /// `AddrInUse` if there is such a socket, or no free port; `AddrNotAvailable` if the address is
    /// not the host's.
    pub fn bind(host: &Host, local: impl Into<SocketAddr>) -> io::Result<Self> {
        let local = local.into();
        host.shared().with(|inner| {
            inner.accepts_sockets()?;
            let id = inner.stack.udp_bind(local).map_err(bind_error)?;
            Ok(Self { host: host.clone(), id })
        })
    }

    /// Connects the socket: it receives only from `remote`, and [`send`](Self::send) sends to it.
    ///
    /// # Errors
    /// If `remote` is not a unicast address with a port, cannot be reached from the local address, or another socket
    /// is connected to it from the same address.
    pub fn connect(&self, remote: impl Into<SocketAddr>) -> io::Result<()> {
        let remote = remote.into();
        self.call(|udp| udp.connect(remote))
    }

    /// The local address.
    ///
    /// # Errors
    /// None: the stack keeps the socket while this exists.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.call(|udp| Ok(udp.local()))
    }

    /// The peer it is connected to.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.call(|udp| udp.remote().ok_or(UdpError::NotConnected))
    }

    /// Takes the pending error: no other call reports it afterwards.
    ///
    /// # Errors
    /// None: the stack keeps the socket while this exists.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.call(|udp| Ok(udp.take_error().map(|error| udp_error(error, udp.take_icmp()))))
    }

    /// Whether sending a datagram larger than the path MTU fails; otherwise it is fragmented.
    ///
    /// # Errors
    /// None: the stack keeps the socket while this exists.
    pub fn set_dont_fragment(&self, dont_fragment: bool) -> io::Result<()> {
        self.call(|udp| {
            udp.set_dont_fragment(dont_fragment);
            Ok(())
        })
    }

    /// Sets the hop limit (TTL) of datagrams it sends.
    ///
    /// # Errors
    /// `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = check_ttl(ttl)?;
        self.call(|udp| {
            udp.set_hop_limit(Some(ttl));
            Ok(())
        })
    }

    /// A non-blocking call.
    pub(super) fn call<T>(&self, call: impl FnOnce(&mut Udp<'_>) -> Result<T, UdpError>) -> io::Result<T> {
        self.host.shared().with(|inner| {
            let Some(mut udp) = inner.stack.udp(self.id) else { return Err(inner.gone()) };
            call(&mut udp).map_err(|error| udp_error(error, udp.take_icmp()))
        })
    }

    async fn wait<T>(
        &self,
        interest: Interest,
        mut call: impl FnMut(&mut Udp<'_>) -> Poll<Result<T, UdpError>> + Unpin,
    ) -> io::Result<T> {
        Wait::new(self.host.shared(), interest, |inner| poll_udp(inner, self.id, &mut call)).await
    }

    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        call: impl FnOnce(&mut Udp<'_>) -> Poll<Result<T, UdpError>>,
    ) -> Poll<io::Result<T>> {
        self.host.shared().poll(cx, interest, None, |inner| poll_udp(inner, self.id, call))
    }
}

/// Sending. A datagram is sent as a whole or not at all.
impl UdpSocket {
    /// Waits until there is room in the send queue, or an error. Consumes nothing.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Interest::UdpWrite(self.id), |udp| udp.poll_writable().map(Ok)).await
    }

    /// Sends a datagram to the peer that the socket is connected to.
    ///
    /// # Errors
    /// `NotConnected`; an ICMP error about an earlier datagram; if this one cannot be sent.
    pub async fn send(&self, payload: &[u8]) -> io::Result<usize> {
        self.sending(payload, None).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full; as [`send`](Self::send).
    pub fn try_send(&self, payload: &[u8]) -> io::Result<usize> {
        self.try_sending(payload, None)
    }

    /// As [`send`](Self::send), for a hand-written future.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sending(cx, payload, None)
    }

    /// Sends a datagram to `remote`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_to(&self, payload: &[u8], remote: impl Into<SocketAddr>) -> io::Result<usize> {
        self.sending(payload, Some(remote.into())).await
    }

    /// As [`send_to`](Self::send_to), without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full; as [`send`](Self::send).
    pub fn try_send_to(&self, payload: &[u8], remote: impl Into<SocketAddr>) -> io::Result<usize> {
        self.try_sending(payload, Some(remote.into()))
    }

    /// As [`send_to`](Self::send_to), for a hand-written future.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        payload: &[u8],
        remote: impl Into<SocketAddr>,
    ) -> Poll<io::Result<usize>> {
        self.poll_sending(cx, payload, Some(remote.into()))
    }

    async fn sending(&self, payload: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let sent = |inner: &mut Inner| send(inner, self.id, payload, to);
        Wait::new(self.host.shared(), Interest::UdpWrite(self.id), sent).await
    }

    fn try_sending(&self, payload: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            let sent = send(inner, self.id, payload, to);
            inner.or_would_block(sent)
        })
    }

    fn poll_sending(
        &self,
        cx: &mut Context<'_>,
        payload: &[u8],
        to: Option<SocketAddr>,
    ) -> Poll<io::Result<usize>> {
        let interest = Interest::UdpWrite(self.id);
        self.host.shared().poll(cx, interest, None, |inner| send(inner, self.id, payload, to))
    }
}

/// Receiving. A datagram that does not fit into the buffer is truncated.
impl UdpSocket {
    /// Waits until there is a datagram or an error. Consumes nothing.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Interest::UdpRead(self.id), |udp| udp.poll_readable().map(Ok)).await
    }

    /// Receives a datagram; returns the number of bytes in `buf`.
    ///
    /// # Errors
    /// An ICMP error about a datagram that was sent.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).await.map(|(len, _)| len)
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_recv_from(buf).map(|(len, _)| len)
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(drop)
    }

    /// Receives a datagram; returns the number of bytes in `buf` and the sender.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut buf = ReadBuf::new(buf);
        let remote = self.wait(Interest::UdpRead(self.id), |udp| receive_into(udp, &mut buf)).await?;
        Ok((buf.filled().len(), remote))
    }

    /// As [`recv_from`](Self::recv_from), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut buf = ReadBuf::new(buf);
        let remote = self.host.shared().with(|inner| {
            let received = poll_udp(inner, self.id, |udp| receive_into(udp, &mut buf));
            inner.or_would_block(received)
        })?;
        Ok((buf.filled().len(), remote))
    }

    /// As [`recv_from`](Self::recv_from), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.poll(cx, Interest::UdpRead(self.id), |udp| receive_into(udp, buf))
    }

    /// Receives a whole datagram without copying, with both its addresses.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_datagram(&self) -> io::Result<Datagram> {
        self.wait(Interest::UdpRead(self.id), receive).await
    }

    /// As [`recv_from`](Self::recv_from), without consuming the datagram.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut buf = ReadBuf::new(buf);
        let peek = |udp: &mut Udp<'_>| super::nonblocking::peek_into(udp, &mut buf);
        let remote = self.wait(Interest::UdpRead(self.id), peek).await?;
        Ok((buf.filled().len(), remote))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.host.shared().with(|inner| close(inner, self.id));
    }
}

/// Closes a socket. Queued datagrams are still sent.
pub(super) fn close(inner: &mut Inner, id: UdpId) {
    if let Some(udp) = inner.stack.udp(id) {
        udp.close();
    }
    inner.wakers.forget(Interest::UdpRead(id));
    inner.wakers.forget(Interest::UdpWrite(id));
}

pub(super) fn poll_udp<T>(
    inner: &mut Inner,
    id: UdpId,
    call: impl FnOnce(&mut Udp<'_>) -> Poll<Result<T, UdpError>>,
) -> Poll<io::Result<T>> {
    let Some(mut udp) = inner.stack.udp(id) else { return Poll::Ready(Err(inner.gone())) };
    call(&mut udp).map_err(|error| udp_error(error, udp.take_icmp()))
}

fn send(inner: &mut Inner, id: UdpId, payload: &[u8], to: Option<SocketAddr>) -> Poll<io::Result<usize>> {
    // Without a driver there may be room, but nothing would be sent.
    inner.running()?;
    poll_udp(inner, id, |udp| match udp.send(payload, to) {
        Err(UdpError::Full) => Poll::Pending,
        result => Poll::Ready(result.map(|()| payload.len())),
    })
}

pub(super) fn receive(udp: &mut Udp<'_>) -> Poll<Result<Datagram, UdpError>> {
    udp.receive()?.map_or(Poll::Pending, |datagram| Poll::Ready(Ok(datagram)))
}

fn receive_into(udp: &mut Udp<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<SocketAddr, UdpError>> {
    let datagram = ready!(receive(udp))?;
    fill(buf, &datagram.payload);
    Poll::Ready(Ok(datagram.remote))
}

pub(super) fn fill(buf: &mut ReadBuf<'_>, payload: &[u8]) {
    buf.put_slice(&payload[..payload.len().min(buf.remaining())]);
}
