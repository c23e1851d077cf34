//! Interception of packets of other protocols than TCP, UDP and ICMP.

use crate::Host;
use crate::error::{intercepted_already, not_intercepted, raw_error};
use crate::shared::Inner;
use crate::wakers::{Interest, Wait};
use lastack_engine::{IpFields, RawError, RawPacket};
use lastack_wire::icmp::IcmpError;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::task::{Context, Poll};

impl Host {
    /// Receives every packet of a protocol other than TCP, UDP and ICMP: GRE, ESP, SCTP, IGMP and so on.
    ///
    /// Packets that arrived before this call are queued for it, 256 at most. Once the interceptor is dropped, such
    /// packets are answered with protocol unreachable, as on a host without interception.
    ///
    /// # Errors
    /// `InvalidInput` if the host was made without [`Intercept::other`](crate::Intercept::other);
    /// `AddrInUse` if there is an interceptor already.
    ///
    /// ```
    /// use lastack::{Config, Host, IpFields, RawInterceptor, link};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// let settings = |last| {
    ///     let mut config = Config::new([[10, 0, 0, last].into()]);
    ///     config.intercept.other = true;
    ///     config
    /// };
    /// let (near, far) = (Host::spawn(settings(1), a), Host::spawn(settings(2), b));
    ///
    /// const GRE: u8 = 47;
    /// let near: RawInterceptor = near.intercept_other()?;
    /// let far = far.intercept_other()?;
    /// let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
    /// near.send([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), GRE, b"a GRE packet", ip).await?;
    ///
    /// let packet = far.recv().await?;
    /// assert_eq!((packet.protocol, &packet.payload[..]), (GRE, &b"a GRE packet"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn intercept_other(&self) -> io::Result<RawInterceptor> {
        self.shared().with(|inner| {
            inner.accepts_sockets()?;
            if !inner.stack.config().intercept.other {
                return Err(not_intercepted("packets of other protocols", "other"));
            }
            if std::mem::replace(&mut inner.raw_intercepted, true) {
                return Err(intercepted_already("packets of other protocols"));
            }
            inner.stack.set_raw_interception(true);
            Ok(RawInterceptor { host: self.clone() })
        })
    }
}

/// Receives and sends packets of other protocols than TCP, UDP and ICMP; see [`Host::intercept_other`].
///
/// A packet that is not answered is dropped silently.
#[derive(Debug)]
pub struct RawInterceptor {
    host: Host,
}

impl RawInterceptor {
    /// Waits for the next packet.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    ///
    /// # Cancel safety
    /// No packet is lost when the future is dropped.
    pub async fn recv(&self) -> io::Result<RawPacket> {
        Wait::new(self.host.shared(), Interest::RawPacket, next).await
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<RawPacket>> {
        self.host.shared().poll(cx, Interest::RawPacket, None, next)
    }

    /// Sends a packet with the source address `from`: in a reply, the [`local`](RawPacket::local) address of the packet
    /// received. A packet larger than the path MTU is fragmented, unless `ip` has `dont_fragment`. The checksum of the
    /// protocol, if it has one, is part of `payload`. Waits while the send queue is full.
    ///
    /// # Errors
    /// The inner [`RawError`] has the reason: `InvalidInput` for a protocol that this stack implements
    /// or a payload that is too long; `AddrNotAvailable` if `from` is not an address of this host; `NetworkUnreachable`
    /// if packets cannot be sent to `to`; the error of the driver once it has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn send(
        &self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        payload: &[u8],
        ip: IpFields,
    ) -> io::Result<()> {
        let sent = |inner: &mut Inner| {
            inner.running()?;
            match inner.stack.raw_send(from, to, protocol, payload, ip) {
                Err(RawError::NoSpace) => Poll::Pending,
                result => Poll::Ready(result.map_err(raw_error)),
            }
        };
        Wait::new(self.host.shared(), Interest::RawWrite, sent).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full; otherwise as [`send`](Self::send).
    pub fn try_send(
        &self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        payload: &[u8],
        ip: IpFields,
    ) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            inner.stack.raw_send(from, to, protocol, payload, ip).map_err(raw_error)
        })
    }

    /// Answers a packet with an ICMP error from this address; `None`: from its destination.
    ///
    /// # Errors
    /// If the error cannot be sent: it is of the other IP version, `from` is not a unicast address, or the send queue
    /// is full.
    pub fn reject(&self, packet: &RawPacket, error: IcmpError, from: Option<IpAddr>) -> io::Result<()> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let rejected = inner.stack.raw_reject(packet, error, from);
            rejected.map_err(|reason| io::Error::new(ErrorKind::InvalidInput, reason.to_string()))
        })
    }
}

impl Drop for RawInterceptor {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            inner.raw_intercepted = false;
            inner.stack.set_raw_interception(false);
            inner.wakers.forget(Interest::RawPacket);
            inner.wakers.forget(Interest::RawWrite);
        });
    }
}

fn next(inner: &mut Inner) -> Poll<io::Result<RawPacket>> {
    inner.stack.poll_raw_packet().map_or(Poll::Pending, |packet| Poll::Ready(Ok(packet)))
}
