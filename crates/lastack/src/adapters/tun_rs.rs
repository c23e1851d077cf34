//! A link over a tun-rs device.

use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Cut, Link};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tun_rs::AsyncDevice;

type Arrival = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)> + Send>>;

/// A [`Link`] over a TUN device of the crate tun-rs, which supports macOS, Windows, the BSDs, Linux, and the file
/// descriptors of Android and iOS. Create the device without offload: packets are passed one by one, with complete
/// checksums.
///
/// ```no_run
/// use lastack::{Config, Host, TunRs};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let device = tun_rs::DeviceBuilder::new().ipv4("10.0.9.2", 24, None).mtu(1400).build_async()?;
/// let host = Host::spawn(Config::new([[10, 0, 9, 1].into()]), TunRs::new(device, 1400));
/// # drop(host);
/// # Ok(())
/// # }
/// ```
pub struct TunRs {
    device: Arc<AsyncDevice>,
    capabilities: Capabilities,
    arrival: Option<Arrival>,
    arrived: Option<Vec<u8>>,
    spare: Vec<u8>,
    piece: Vec<u8>,
    dropped: u64,
}

impl std::fmt::Debug for TunRs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunRs").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl TunRs {
    /// A link over `device`, with this MTU.
    pub fn new(device: AsyncDevice, mtu: usize) -> Self {
        Self {
            device: Arc::new(device),
            capabilities: Capabilities::new(mtu),
            arrival: None,
            arrived: None,
            spare: Vec::new(),
            piece: Vec::new(),
            dropped: 0,
        }
    }

    /// Number of packets that the device did not accept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn write(&mut self, packet: &[u8]) {
        if self.device.try_send(packet).is_err() {
            self.dropped += 1;
        }
    }
}

impl Link for TunRs {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send(&mut self, _now: Instant, packet: &[u8], transmit: &Transmit) {
        if transmit.segment_size.is_none() {
            return self.write(packet);
        }
        let mut piece = std::mem::take(&mut self.piece);
        let mut cut = Cut::new(packet, transmit);
        while cut.next(&mut piece).is_some() {
            self.write(&piece);
        }
        self.piece = piece;
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        if let Some(arrived) = self.arrived.take() {
            self.spare = std::mem::replace(packet, arrived);
            return Some(Received::default());
        }
        if self.arrival.is_some() {
            return None;
        }
        packet.resize(self.capabilities.mtu, 0);
        let len = self.device.try_recv(packet).ok()?;
        packet.truncate(len);
        Some(Received::default())
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.arrived.is_some() {
            return Poll::Ready(Ok(()));
        }
        let (device, mtu, spare) = (&self.device, self.capabilities.mtu, &mut self.spare);
        let arrival = self.arrival.get_or_insert_with(|| {
            let (device, mut buffer) = (device.clone(), std::mem::take(spare));
            Box::pin(async move {
                buffer.resize(mtu, 0);
                let len = device.recv(&mut buffer).await;
                (len, buffer)
            })
        });
        let (len, mut buffer) = ready!(arrival.as_mut().poll(cx));
        self.arrival = None;
        buffer.truncate(len?);
        self.arrived = Some(buffer);
        Poll::Ready(Ok(()))
    }
}
