//! TUN and TAP interfaces.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Link};

use super::{
    DeviceError, Dropped,
    error::Operation,
    frames::{Ethernet, Format, Frames, Offload},
    steering, sys, virtio,
};

/// The offloads to request, best first: TCP super-segments (with ECN), and UDP's since Linux 6.2.
const OFFLOADS: [(libc::c_uint, Offload); 2] = {
    const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    [(TCP | libc::TUN_F_USO4 | libc::TUN_F_USO6, Offload::TcpUdp), (TCP, Offload::Tcp)]
};

/// A TUN interface: the kernel routes IP packets to us and receives ours. If the kernel supports it, packets are
/// passed as super-segments of up to 64 KiB, with partial checksums.
#[derive(Debug)]
pub struct Tun {
    frames: Frames,
    name: String,
}

impl Tun {
    /// Attaches to the TUN interface `name` of this thread's network namespace, creating it if needed. The interface
    /// is not configured: bring it up and add addresses with [`Netlink`](super::Netlink) or `ip`.
    pub fn open(name: &str) -> Result<Self, DeviceError> {
        let fd = create(name)?;
        let name = sys::tun_attachment(fd.as_fd()).operation(|| format!("read the name of {name}"))?.name;
        let mtu = sys::interface_mtu(&name).operation(|| format!("read the MTU of {name} (SIOCGIFMTU)"))?;
        Self::from_fd(fd, mtu)
    }

    /// Attaches to the TUN interface `name` with several queues, each a link of its own, for a stack in each of several
    /// threads that share nothing. The interface must be new, or have been made with queues.
    ///
    /// The kernel gives the packets of a flow to the queue that [`queue_of`](super::queue_of) computes from its ports, and
    /// ICMP errors about it, too; fragments, and what has no ports, to the first. Packets may be sent over any queue.
    ///
    /// # Errors
    /// As [`open`](Self::open); `EPERM` also without `CAP_BPF` (a namespace's root does not have it), `EINVAL` for an
    /// interface without queues, `E2BIG` for more than the kernel supports (256).
    pub fn open_queues(name: &str, queues: usize) -> Result<Vec<Self>, DeviceError> {
        let first = create_with(name, libc::IFF_TUN | libc::IFF_MULTI_QUEUE)?;
        let name = sys::tun_attachment(first.as_fd()).operation(|| format!("read the name of {name}"))?.name;
        let mtu = sys::interface_mtu(&name).operation(|| format!("read the MTU of {name} (SIOCGIFMTU)"))?;
        let filter = sys::load_filter(&steering::program())
            .operation(|| "load the filter that chooses the queue (BPF_PROG_LOAD)".to_owned())?;
        sys::set_tun_steering(first.as_fd(), filter.as_fd())
            .operation(|| format!("set the filter of {name} (TUNSETSTEERINGEBPF)"))?;
        let mut fds = vec![first];
        while fds.len() < queues {
            fds.push(create_with(&name, libc::IFF_TUN | libc::IFF_MULTI_QUEUE)?);
        }
        fds.into_iter().map(|fd| Self::from_fd(fd, mtu)).collect()
    }

    /// Uses a file descriptor that is attached to a TUN interface, of this namespace or another. `mtu` is the
    /// interface's. A TAP interface ([`create_tap`]) is used in the same way: its Ethernet headers have its own address
    /// on both sides, so it needs IFF_NOARP ([`LinkSettings::no_arp`](super::LinkSettings::no_arp)).
    pub fn from_fd(fd: OwnedFd, mtu: usize) -> Result<Self, DeviceError> {
        let attachment = sys::tun_attachment(fd.as_fd()).operation(|| {
            "use the descriptor: it is not attached to a TUN interface (TUNGETIFF)".to_owned()
        })?;
        let name = attachment.name;
        if attachment.flags & libc::IFF_NO_PI == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it needs IFF_NO_PI");
            return Err(DeviceError::new(format!("use the interface {name}"), error));
        }
        let ethernet = match attachment.flags & libc::IFF_TAP {
            0 => None,
            _ => {
                let own = sys::tap_address(fd.as_fd())
                    .operation(|| format!("read the address of {name} (SIOCGIFHWADDR)"))?;
                Some(Ethernet { source: PEER, destination: own })
            }
        };
        let virtio = attachment.flags & libc::IFF_VNET_HDR != 0;
        let offload = if virtio { negotiate(fd.as_fd(), &name)? } else { Offload::None };
        sys::set_nonblocking(fd.as_fd()).operation(|| format!("make {name} nonblocking"))?;
        let format = Format { virtio, ethernet, offload };
        Ok(Self { frames: Frames::new(fd, format, mtu), name })
    }

    /// The interface's name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packets lost between the stack and the kernel.
    pub fn dropped(&self) -> Dropped {
        Dropped { sent: self.frames.dropped(), received: 0 }
    }
}

impl Link for Tun {
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

/// The Ethernet address of the other side of a TAP interface: locally administered.
const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// Opens /dev/net/tun and attaches it to the TUN interface `name`, with virtio headers if the kernel supports them.
/// The file descriptor can be passed to another process, which makes a link of it by [`Tun::from_fd`].
pub fn create(name: &str) -> Result<OwnedFd, DeviceError> {
    create_with(name, libc::IFF_TUN)
}

/// As [`create`], a TAP interface: with Ethernet headers, for callers that expect them or have made it themselves.
pub fn create_tap(name: &str) -> Result<OwnedFd, DeviceError> {
    create_with(name, libc::IFF_TAP)
}

fn create_with(name: &str, mode: libc::c_int) -> Result<OwnedFd, DeviceError> {
    let fd = sys::open_tun_device().operation(|| "open /dev/net/tun".to_owned())?;
    let flags = mode | libc::IFF_NO_PI;
    let attach = |flags| sys::attach_tun(fd.as_fd(), name, flags);
    match attach(flags | libc::IFF_VNET_HDR) {
        // An interface that exists without virtio headers, or a kernel without them.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => attach(flags),
        other => other,
    }
    .operation(|| {
        let kind = if mode == libc::IFF_TAP { "TAP" } else { "TUN" };
        format!("attach to the {kind} interface {name} (TUNSETIFF)")
    })?;
    Ok(fd)
}

fn negotiate(fd: BorrowedFd<'_>, name: &str) -> Result<Offload, DeviceError> {
    sys::set_tun_header_len(fd, virtio::LEN)
        .operation(|| format!("set the header length of {name} (TUNSETVNETHDRSZ)"))?;
    let taken = OFFLOADS.iter().find(|(features, _)| sys::set_tun_offload(fd, *features).is_ok());
    Ok(taken.map_or(Offload::None, |&(_, offload)| offload))
}
