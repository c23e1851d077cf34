//! veth pairs with a packet socket at the far end.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll},
};

use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Link};

use super::{
    DeviceError, Dropped,
    error::Operation,
    frames::{Ethernet, Format, Frames, Offload},
    netlink::{self, LinkSettings, Netlink, VethEnd},
    sys,
};

/// The Ethernet addresses of the two ends (locally administered). They are fixed, so no ARP is needed.
const NEAR: [u8; 6] = [0x02, 0x6c, 0x61, 0x73, 0x74, 0x01];
const FAR: [u8; 6] = [0x02, 0x6c, 0x61, 0x73, 0x74, 0x02];

/// Receive buffer of the socket. It accounts memory, which is more than the packets' bytes.
const SOCKET_BUFFER: libc::c_int = 16 << 20;

/// A veth pair: the kernel uses the near end, and a packet socket of ours is bound to the far end. It carries
/// super-segments as [`Tun`](super::Tun) does and needs no device file, so it works where /dev/net/tun cannot be
/// opened.
#[derive(Debug)]
pub struct Veth {
    frames: Frames,
    lost: u64,
}

impl Veth {
    /// Creates the pair in this thread's network namespace and opens its far end. `near` is left down and without
    /// addresses, and needs IFF_NOARP when it is brought up ([`LinkSettings::no_arp`]). The pair remains when the
    /// link is dropped; it is removed with its namespace, or by [`Netlink::remove`].
    pub fn open(near: &str, far: &str, mtu: usize) -> Result<Self, DeviceError> {
        Self::from_fd(create(&mut Netlink::open()?, near, far, mtu)?, mtu)
    }

    /// Uses the file descriptor that [`create`] made, in this process or another.
    pub fn from_fd(fd: OwnedFd, mtu: usize) -> Result<Self, DeviceError> {
        let virtio = sys::has_virtio_header(fd.as_fd())
            .operation(|| "use the descriptor: it is not a packet socket (PACKET_VNET_HDR)".to_owned())?;
        sys::set_nonblocking(fd.as_fd()).operation(|| "make the packet socket nonblocking".to_owned())?;
        let format = Format {
            virtio,
            ethernet: Some(Ethernet { source: FAR, destination: NEAR }),
            offload: if virtio { Offload::TcpUdp } else { Offload::None },
        };
        Ok(Self { frames: Frames::new(fd, format, mtu), lost: 0 })
    }

    /// Packets lost between the stack and the kernel.
    pub fn dropped(&mut self) -> Dropped {
        // Reading the kernel's counter resets it.
        self.lost += self.frames.fd().and_then(sys::packet_drops).unwrap_or(0);
        Dropped { sent: self.frames.dropped(), received: self.lost }
    }
}

impl Link for Veth {
    fn capabilities(&self) -> Capabilities {
        self.frames.capabilities()
    }

    fn send(&mut self, _now: Instant, packet: &[u8], transmit: &Transmit) {
        self.frames.send([packet, &[], &[]], transmit);
    }

    fn send_vectored(&mut self, _now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        self.frames.send(packet, transmit);
    }

    fn is_vectored(&self) -> bool {
        true
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.frames.recv(packet)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_readable(cx)
    }
}

/// Creates the pair `near` and `far`, brings `far` up and opens the packet socket there. The file descriptor can be
/// passed to another process, which makes a link of it by [`Veth::from_fd`].
pub fn create(netlink: &mut Netlink, near: &str, far: &str, mtu: usize) -> Result<OwnedFd, DeviceError> {
    netlink.create_veth(VethEnd { name: near, address: NEAR }, VethEnd { name: far, address: FAR })?;
    let index = netlink::index_of(far)?;
    // The far end is not used by the kernel: no addresses, no ARP, no IPv6.
    let settings = LinkSettings {
        mtu: u32::try_from(mtu).ok(),
        no_arp: true,
        no_link_local: true,
        ..LinkSettings::default()
    };
    netlink.set_up(index, &settings)?;
    let fd = sys::packet_socket(index).operation(|| format!("open a packet socket on {far}"))?;
    sys::set_socket_buffers(fd.as_fd(), SOCKET_BUFFER)
        .operation(|| format!("set the socket buffers of {far}"))?;
    Ok(fd)
}
