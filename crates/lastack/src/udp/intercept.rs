//! Interception of datagrams.

use super::socket::{close, poll_udp, receive};
use crate::Host;
use crate::error::{intercepted_already, not_intercepted, udp_error};
use crate::shared::Inner;
use crate::wakers::{Interest, Wait};
use lastack_engine::{Datagram, IpFields, UdpError, UdpId};
use lastack_wire::icmp::IcmpError;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

impl Host {
    /// Receives every datagram that matches no socket of this host.
    ///
    /// Datagrams that arrived before this call are queued for it, up to
    /// [`receive_queue`](crate::DatagramConfig::receive_queue). Once the interceptor is dropped, they are answered
    /// with port unreachable, as on a host without interception.
    ///
    /// # Errors
    /// `InvalidInput` if the host was made without [`Intercept::udp`](crate::Intercept::udp);
    /// `AddrInUse` if there is an interceptor already.
    pub fn intercept_udp(&self) -> io::Result<UdpInterceptor> {
        self.shared().with(|inner| {
            inner.accepts_sockets()?;
            if !inner.stack.config().intercept.udp {
                return Err(not_intercepted("datagrams", "udp"));
            }
            if inner.datagrams_intercepted {
                return Err(intercepted_already("datagrams"));
            }
            inner.datagrams_intercepted = true;
            Ok(UdpInterceptor { host: self.clone(), id: inner.stack.udp_intercept() })
        })
    }
}

/// Receives the datagrams that match no socket; see [`Host::intercept_udp`].
///
/// A datagram that is not answered is dropped silently.
///
/// ```
/// use lastack::{Config, Host, IcmpError, IpFields, UdpInterceptor, UdpSocket, link};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// let mut config = Config::new([[10, 0, 0, 2].into()]);
/// config.any_address = true;
/// config.intercept.udp = true;
/// let proxy = Host::spawn(config, b);
///
/// let datagrams: UdpInterceptor = proxy.intercept_udp()?;
/// tokio::spawn(async move {
///     while let Ok(query) = datagrams.recv().await {
///         match query.local.port() {
///             53 => datagrams.send_from(query.local, query.remote, b"answer").await?,
///             54 => {
///                 // With header fields of one's own, if there is room.
///                 datagrams.writable().await?;
///                 let ip = IpFields { hop_limit: 9, ..query.ip };
///                 datagrams.forward(query.local, query.remote, b"answer", None, ip)?;
///             }
///             _ => datagrams.reject(&query, IcmpError::port_unreachable(query.local.is_ipv6()), None)?,
///         }
///     }
///     std::io::Result::Ok(())
/// });
/// let socket = UdpSocket::bind(&client, ([10, 0, 0, 1], 0))?;
/// socket.connect(([192, 0, 2, 7], 53))?;
/// socket.send(b"query").await?;
/// let mut answer = [0; 100];
/// assert_eq!(socket.recv(&mut answer).await?, 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpInterceptor {
    host: Host,
    id: UdpId,
}

impl UdpInterceptor {
    /// Waits for the next datagram.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    ///
    /// # Cancel safety
    /// No datagram is lost when the future is dropped.
    pub async fn recv(&self) -> io::Result<Datagram> {
        let received = |inner: &mut _| poll_udp(inner, self.id, receive);
        Wait::new(self.host.shared(), Interest::UdpRead(self.id), received).await
    }

    /// Waits for a datagram and appends it and those queued behind it to `datagrams`, at most `limit`. Returns their
    /// number.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    ///
    /// # Cancel safety
    /// No datagram is lost when the future is dropped.
    pub async fn recv_many(&self, datagrams: &mut Vec<Datagram>, limit: usize) -> io::Result<usize> {
        let received = |inner: &mut _| {
            let before = datagrams.len();
            while datagrams.len() - before < limit {
                match poll_udp(inner, self.id, receive) {
                    Poll::Ready(Ok(datagram)) => datagrams.push(datagram),
                    Poll::Ready(Err(error)) if datagrams.len() == before => return Poll::Ready(Err(error)),
                    Poll::Pending if datagrams.len() == before => return Poll::Pending,
                    Poll::Ready(Err(_)) | Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(datagrams.len() - before))
        };
        Wait::new(self.host.shared(), Interest::UdpRead(self.id), received).await
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        self.host
            .shared()
            .poll(cx, Interest::UdpRead(self.id), None, |inner| poll_udp(inner, self.id, receive))
    }

    /// Sends a datagram with the source address `from`: in a reply, the [`local`](Datagram::local) address of the
    /// request. Waits while the send queue is full.
    ///
    /// # Errors
    /// `AddrNotAvailable` if `from` is neither an address of the host nor accepted as one; the error of the driver once
    /// it has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn send_from(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let sent = |inner: &mut Inner| {
            inner.running()?;
            let Some(mut udp) = inner.stack.udp(self.id) else { return Poll::Ready(Err(inner.gone())) };
            match udp.send_from(from, to, payload) {
                Err(UdpError::Full) => Poll::Pending,
                result => Poll::Ready(result.map_err(|error| udp_error(error, None))),
            }
        };
        Wait::new(self.host.shared(), Interest::UdpWrite(self.id), sent).await
    }

    /// As [`send_from`](Self::send_from), without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full; otherwise as [`send_from`](Self::send_from).
    pub fn try_send_from(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let Some(mut udp) = inner.stack.udp(self.id) else { return Err(inner.gone()) };
            udp.send_from(from, to, payload).map_err(|error| udp_error(error, None))
        })
    }

    /// Sends datagrams of one flow with these fields in their IP headers. `segment_size`: the payload is that of
    /// several datagrams of this many bytes each, the last with the rest; a link that segments super-segments takes
    /// them as one packet. The destination can be a multicast or broadcast address.
    ///
    /// # Errors
    /// As [`try_send_from`](Self::try_send_from).
    pub fn forward(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
        segment_size: Option<u16>,
        ip: IpFields,
    ) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let Some(mut udp) = inner.stack.udp(self.id) else { return Err(inner.gone()) };
            udp.forward(from, to, payload, segment_size, ip).map_err(|error| udp_error(error, None))
        })
    }

    /// Waits until there is room for a datagram to be sent.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    pub async fn writable(&self) -> io::Result<()> {
        let room = |inner: &mut Inner| {
            let Some(mut udp) = inner.stack.udp(self.id) else { return Poll::Ready(Err(inner.gone())) };
            udp.poll_writable().map(Ok)
        };
        Wait::new(self.host.shared(), Interest::UdpWrite(self.id), room).await
    }

    /// Answers a datagram with an ICMP error from this address; `None`: from its destination.
    ///
    /// # Errors
    /// If the error cannot be sent: it is of the other IP version, `from` is not a unicast address, or the send queue
    /// is full.
    pub fn reject(&self, datagram: &Datagram, error: IcmpError, from: Option<IpAddr>) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let Some(mut udp) = inner.stack.udp(self.id) else { return Err(inner.gone()) };
            udp.reject(datagram, error, from)
                .map_err(|reason| io::Error::new(ErrorKind::InvalidInput, reason.to_string()))
        })
    }
}

impl Drop for UdpInterceptor {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            close(inner, self.id);
            inner.datagrams_intercepted = false;
        });
    }
}
