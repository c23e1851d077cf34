//! Readiness, non-blocking calls, and the metadata of datagrams.

use super::UdpSocket;
use super::socket::{fill, poll_udp, receive};
use crate::error::{udp_error, would_block};
use crate::shared::Inner;
use crate::wakers::{self, Wait};
use lastack_engine::{Datagram, Udp, UdpError};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{Interest, ReadBuf, Ready};

/// Readiness.
impl UdpSocket {
    /// Waits for any readiness of `interest` and returns it. Consumes nothing.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let look = |inner: &mut Inner| match ready(inner, self, interest) {
            Ok(found) if found.is_empty() => Poll::Pending,
            other => Poll::Ready(other),
        };
        let reasons = [wakers::Interest::UdpRead, wakers::Interest::UdpWrite];
        let mut waits = reasons.map(|reason| Wait::new(self.host.shared(), reason(self.id), look));
        poll_fn(|cx| {
            let first = waits.iter_mut().map(|wait| Pin::new(wait).poll(cx)).find(Poll::is_ready);
            first.unwrap_or(Poll::Pending)
        })
        .await
    }

    /// As [`readable`](Self::readable), for a hand-written future.
    ///
    /// # Errors
    /// As [`readable`](Self::readable).
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, wakers::Interest::UdpRead(self.id), |udp| udp.poll_readable().map(Ok))
    }

    /// As [`writable`](Self::writable), for a hand-written future.
    ///
    /// # Errors
    /// As [`writable`](Self::writable).
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, wakers::Interest::UdpWrite(self.id), |udp| udp.poll_writable().map(Ok))
    }

    /// Runs `call`, which uses this socket without waiting, if the socket is ready for `interest`.
    ///
    /// # Errors
    /// `WouldBlock` if it is not ready; that of `call`.
    pub fn try_io<R>(&self, interest: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let found = self.host.shared().with(|inner| ready(inner, self, interest))?;
        if found.is_empty() { Err(would_block()) } else { call() }
    }

    /// Runs `call`, which uses this socket without waiting, each time the socket is ready for `interest`, until it
    /// returns something other than `WouldBlock`.
    ///
    /// # Errors
    /// That of `call`; the link failed or the driver was dropped.
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            self.ready(interest).await?;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                result => return result,
            }
        }
    }
}

fn ready(inner: &mut Inner, socket: &UdpSocket, interest: Interest) -> io::Result<Ready> {
    let Some(mut udp) = inner.stack.udp(socket.id) else { return Err(inner.gone()) };
    let mut found = Ready::EMPTY;
    if interest.is_readable() && udp.poll_readable().is_ready() {
        found |= Ready::READABLE;
    }
    if interest.is_writable() && udp.poll_writable().is_ready() {
        found |= Ready::WRITABLE;
    }
    if interest.is_error() && udp.has_error() {
        found |= Ready::ERROR;
    }
    Ok(found)
}

/// Receiving into a growable buffer.
impl UdpSocket {
    /// As [`recv`](Self::recv), into the spare capacity of a [`BufMut`](bytes::BufMut).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_buf<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.recv_buf_from(buf).await.map(|(len, _)| len)
    }

    /// As [`recv_buf`](Self::recv_buf), with the address of the sender.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_buf_from<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let datagram = self.recv_datagram().await?;
        Ok(put(buf, &datagram))
    }

    /// As [`recv_buf`](Self::recv_buf), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_recv_buf<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_recv_buf_from(buf).map(|(len, _)| len)
    }

    /// As [`recv_buf_from`](Self::recv_buf_from), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_recv_buf_from<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let datagram = self.try_recv_datagram()?;
        Ok(put(buf, &datagram))
    }
}

fn put(buf: &mut impl bytes::BufMut, datagram: &Datagram) -> (usize, SocketAddr) {
    let len = datagram.payload.len().min(buf.remaining_mut());
    buf.put_slice(&datagram.payload[..len]);
    (len, datagram.remote)
}

/// Peeking at the next datagram.
impl UdpSocket {
    /// As [`recv`](Self::recv), without consuming the datagram.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.peek_from(buf).await.map(|(len, _)| len)
    }

    /// As [`peek`](Self::peek), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_peek_from(cx, buf).map_ok(drop)
    }

    /// As [`peek`](Self::peek), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_peek_from(buf).map(|(len, _)| len)
    }

    /// As [`peek_from`](Self::peek_from), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.poll(cx, wakers::Interest::UdpRead(self.id), |udp| peek_into(udp, buf))
    }

    /// As [`peek_from`](Self::peek_from), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut buf = ReadBuf::new(buf);
        let remote = self.try_call(|udp| peek_into(udp, &mut buf))?;
        Ok((buf.filled().len(), remote))
    }

    /// The sender of the next datagram.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.peek_from(&mut []).await.map(|(_, sender)| sender)
    }

    /// As [`peek_sender`](Self::peek_sender), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.poll_peek_from(cx, &mut ReadBuf::new(&mut []))
    }

    /// As [`peek_sender`](Self::peek_sender), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.try_peek_from(&mut []).map(|(_, sender)| sender)
    }

    pub(super) fn try_call<T>(
        &self,
        call: impl FnOnce(&mut Udp<'_>) -> Poll<Result<T, UdpError>>,
    ) -> io::Result<T> {
        self.host.shared().with(|inner| {
            let result = poll_udp(inner, self.id, call);
            inner.or_would_block(result)
        })
    }
}

pub(super) fn peek_into(udp: &mut Udp<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<SocketAddr, UdpError>> {
    match udp.peek()? {
        Some(datagram) => {
            fill(buf, &datagram.payload);
            Poll::Ready(Ok(datagram.remote))
        }
        None => Poll::Pending,
    }
}

/// Whole datagrams with their destination address and the fields of their IP header, for QUIC and proxies.
impl UdpSocket {
    /// As [`recv_datagram`](Self::recv_datagram), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv_datagram(&self, cx: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        self.poll(cx, wakers::Interest::UdpRead(self.id), receive)
    }

    /// As [`recv_datagram`](Self::recv_datagram), without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; as [`recv`](Self::recv).
    pub fn try_recv_datagram(&self) -> io::Result<Datagram> {
        self.try_call(receive)
    }

    /// Sends a datagram from this address of the host: in a reply, the destination of the request. The socket has to
    /// be bound to it or to the unspecified address.
    ///
    /// # Errors
    /// As [`send`](Self::send); `AddrNotAvailable` if the socket does not receive at `from`.
    pub async fn send_from(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<usize> {
        let sent = |inner: &mut Inner| {
            inner.running()?;
            poll_udp(inner, self.id, |udp| match udp.send_from(from, to, payload) {
                Err(UdpError::Full) => Poll::Pending,
                result => Poll::Ready(result.map(|()| payload.len())),
            })
        };
        Wait::new(self.host.shared(), wakers::Interest::UdpWrite(self.id), sent).await
    }

    /// Sends several datagrams of one flow with one call, without waiting: `payload` is cut after each `segment`
    /// bytes (`UDP_SEGMENT`); `ecn` is the ECN field of their IP headers. `from` as in
    /// [`send_from`](Self::send_from).
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full (some of these may have been queued); as
    /// [`send_from`](Self::send_from).
    ///
    /// ```
    /// use lastack::{Config, Host, UdpSocket, link};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// let from = UdpSocket::bind(&client, ([10, 0, 0, 1], 0))?;
    /// let to = UdpSocket::bind(&server, ([10, 0, 0, 2], 443))?;
    ///
    /// // Three datagrams, of 1000, 1000 and 500 bytes, marked ECT(0).
    /// from.try_send_segments(None, to.local_addr()?, &[0; 2500], Some(1000), 0b10)?;
    /// to.readable().await?;
    /// let first = to.recv_datagram().await?;
    /// assert_eq!((first.payload.len(), first.ip.ecn()), (1000, 0b10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_send_segments(
        &self,
        from: Option<SocketAddr>,
        to: SocketAddr,
        payload: &[u8],
        segment: Option<u16>,
        ecn: u8,
    ) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let Some(mut udp) = inner.stack.udp(self.id) else { return Err(inner.gone()) };
            let sent = udp.send_segments(from, Some(to), payload, segment, ecn & 0b11);
            sent.map_err(|error| udp_error(error, udp.take_icmp()))
        })
    }

    /// Max length of the receive queue in datagrams; further ones are dropped and counted by the host. `None`: the
    /// value of [`DatagramConfig::receive_queue`](crate::DatagramConfig::receive_queue).
    ///
    /// # Errors
    /// `InvalidInput` for 0.
    pub fn set_receive_queue(&self, datagrams: Option<usize>) -> io::Result<()> {
        if datagrams == Some(0) {
            return Err(crate::error::invalid("the receive queue must hold at least one datagram"));
        }
        self.call(|udp| {
            udp.set_receive_queue(datagrams);
            Ok(())
        })
    }

    /// The hop limit (TTL) of datagrams it sends.
    ///
    /// # Errors
    /// None: the stack keeps the socket while this exists.
    pub fn ttl(&self) -> io::Result<u32> {
        self.call(|udp| Ok(udp.hop_limit().into()))
    }

    /// Whether it may send to broadcast addresses: always `false`, since a host has no prefix length and cannot
    /// recognize them.
    ///
    /// # Errors
    /// None.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Only `false` is possible, see [`broadcast`](Self::broadcast).
    ///
    /// # Errors
    /// `Unsupported` for `true`.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        if !broadcast {
            return Ok(());
        }
        let cure = "broadcasts cannot be sent: the destination must be unicast (a proxy receives broadcasts with Host::intercept_udp)";
        Err(io::Error::new(io::ErrorKind::Unsupported, cure))
    }
}
