//! A link over a device that reads and writes one packet at a time.

use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Cut, Link};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Max packets queued while the device is not writable; further ones are dropped.
const QUEUE: usize = 256;

/// A [`Link`] over a device with one IP packet per read and per write: a TUN device of another crate, a datagram
/// socket in a tunnel, a file descriptor from the system's VPN service (Android, iOS).
///
/// It carries packets up to the MTU with complete checksums. Where the device also carries super-segments, the `Tun`
/// of the feature `device` is several times as fast.
///
/// ```
/// use lastack::{Config, Host, PacketIo};
/// use tokio::io::{AsyncRead, AsyncWrite};
///
/// /// A host behind a device that reads and writes one packet at a time.
/// fn host(device: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Host {
///     Host::spawn(Config::new([[10, 0, 0, 1].into()]), PacketIo::new(device, 1400))
/// }
/// ```
#[derive(Debug)]
pub struct PacketIo<T> {
    io: T,
    capabilities: Capabilities,
    /// Length of a packet that was read but not yet taken.
    arrived: Option<usize>,
    buffer: Vec<u8>,
    unsent: VecDeque<Vec<u8>>,
    piece: Vec<u8>,
    failed: Option<io::Error>,
    dropped: u64,
}

impl<T: AsyncRead + AsyncWrite + Unpin> PacketIo<T> {
    /// A link over `io`, with this MTU in bytes.
    pub fn new(io: T, mtu: usize) -> Self {
        Self {
            io,
            capabilities: Capabilities::new(mtu),
            arrived: None,
            buffer: vec![0; mtu.max(1280)],
            unsent: VecDeque::new(),
            piece: Vec::new(),
            failed: None,
            dropped: 0,
        }
    }

    /// Number of packets dropped because the device did not accept them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.arrived.is_none() {
            let mut buf = ReadBuf::new(&mut self.buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the device was closed",
                    )));
                }
                len => self.arrived = Some(len),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes queued packets, as far as the device accepts them now.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(packet) = self.unsent.front() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, packet)) {
                Ok(len) if len == packet.len() => {}
                // Written in part, or refused: lost, as on a wire.
                Ok(_) | Err(_) => self.dropped += 1,
            }
            self.unsent.pop_front();
        }
        Poll::Ready(())
    }

    fn push(&mut self, packet: Vec<u8>) {
        if self.unsent.len() >= QUEUE {
            self.dropped += 1;
        } else {
            self.unsent.push_back(packet);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Link for PacketIo<T> {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send(&mut self, _now: Instant, packet: &[u8], transmit: &Transmit) {
        if transmit.segment_size.is_some() {
            let mut piece = std::mem::take(&mut self.piece);
            let mut cut = Cut::new(packet, transmit);
            while cut.next(&mut piece).is_some() {
                self.push(piece.clone());
            }
            self.piece = piece;
        } else {
            self.push(packet.to_vec());
        }
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        // Before the driver sleeps it calls `poll_readable`, which replaces this waker by its own.
        match self.poll_fill(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                return None;
            }
            Poll::Pending => return None,
        }
        let len = self.arrived.take()?;
        packet.clear();
        packet.extend_from_slice(&self.buffer[..len]);
        Some(Received::default())
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let _pending = self.poll_drain(cx);
        self.poll_fill(cx)
    }

    fn flush(&mut self, _now: Instant) {
        let _pending = self.poll_drain(&mut Context::from_waker(Waker::noop()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Host, TcpListener, TcpStream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixDatagram;

    /// A pair of sockets that keep the bounds of packets, as a TUN device does.
    struct Datagrams(UnixDatagram);

    impl AsyncRead for Datagrams {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.poll_recv(cx, buf)
        }
    }

    impl AsyncWrite for Datagrams {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<usize>> {
            self.0.poll_send(cx, packet)
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_device_of_packets_is_a_link() {
        let (a, b) = UnixDatagram::pair().unwrap();
        let ips = [[10, 0, 0, 1], [10, 0, 0, 2]];
        let client = Host::spawn(Config::new([ips[0].into()]), PacketIo::new(Datagrams(a), 1500));
        let server = Host::spawn(Config::new([ips[1].into()]), PacketIo::new(Datagrams(b), 1500));
        let listener = TcpListener::bind(&server, (ips[1], 80)).unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i ^ i >> 9) as u8).collect();
        let expected = sent.clone();
        let send = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            stream.closed().await.unwrap();
        });
        let mut got = Vec::new();
        let mut stream = TcpStream::connect(&client, (ips[1], 80)).await.unwrap();
        stream.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
        drop(stream);
        send.await.unwrap();
    }

    #[tokio::test]
    async fn a_device_that_is_closed_fails_the_host() {
        let (near, far) = tokio::io::duplex(1500);
        let (host, driver) = Host::new(Config::new([[10, 0, 0, 1].into()]), PacketIo::new(near, 1500));
        drop(far);
        let error = driver.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(TcpListener::bind(&host, ([10, 0, 0, 1], 80)).is_err());
    }
}
