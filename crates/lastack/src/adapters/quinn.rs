//! QUIC by quinn over the UDP sockets of a host.

use crate::UdpSocket;
use crate::error::would_block;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};
use std::future::Future;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// Max datagrams of one flow sent with one call.
const SEGMENTS: usize = 10;
/// A QUIC peer sends bursts of this many datagrams or more.
const RECEIVE_QUEUE: usize = 4096;

/// A QUIC endpoint over a socket of a host; `server`: the configuration to accept connections.
///
/// The socket reports the destination address and the ECN field of datagrams, sends from the requested source
/// address, and sends up to ten datagrams with one call.
///
/// # Errors
/// As of [`quinn::Endpoint`].
pub fn quic_endpoint(
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
    socket: UdpSocket,
) -> io::Result<quinn::Endpoint> {
    // QUIC discovers the MTU itself (RFC 9000 section 14: UDP datagrams must not be fragmented).
    socket.set_dont_fragment(true)?;
    socket.set_receive_queue(Some(RECEIVE_QUEUE))?;
    quinn::Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), Arc::new(QuicRuntime))
}

/// quinn's runtime on tokio, with tokio's clock, so that QUIC runs in virtual time too.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuicRuntime;

impl Runtime for QuicRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let cure = "a kernel socket is not a socket of this host: use quic_endpoint";
        Err(io::Error::new(ErrorKind::Unsupported, cure))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), cx)
    }
}

#[derive(Debug)]
struct Poller(Arc<UdpSocket>);

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let from = match transmit.src_ip {
            Some(ip) => Some(SocketAddr::new(ip, Self::local_addr(self)?.port())),
            None => None,
        };
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
        let size = transmit.segment_size.map(|size| size as u16);
        match self.try_send_segments(from, transmit.destination, transmit.contents, size, ecn) {
            // An ICMP error about an earlier datagram is ignored: QUIC has its own timers (RFC 9000 section 14.2.1).
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(would_block()),
            _ => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let max = bufs.len().min(meta.len());
        let mut received = 0;
        while received < max {
            let datagram = if received == 0 {
                match std::task::ready!(self.poll_recv_datagram(cx)) {
                    Ok(datagram) => datagram,
                    Err(error) if crate::HostError::find(&error).is_some() => return Poll::Ready(Err(error)),
                    Err(_reported) => continue,
                }
            } else {
                let Ok(datagram) = self.try_recv_datagram() else { break };
                datagram
            };
            let len = datagram.payload.len().min(bufs[received].len());
            bufs[received][..len].copy_from_slice(&datagram.payload[..len]);
            let ecn = EcnCodepoint::from_bits(datagram.ip.traffic_class & 0b11);
            let (addr, dst_ip) = (datagram.remote, Some(datagram.local.ip()));
            meta[received] = RecvMeta { addr, len, stride: len, ecn, dst_ip };
            received += 1;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
