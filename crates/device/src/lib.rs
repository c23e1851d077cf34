//! Links to the Linux kernel: [`Tun`], and [`Veth`] where there is no /dev/net/tun.
//!
//! Both carry super-segments and partial checksums if the kernel supports them. Both never block: packets that the
//! kernel does not accept immediately are dropped and counted. A device can be created in one process and network
//! namespace ([`tun::create`], [`veth::create`]), passed as a file descriptor, and used in another
//! ([`Device::from_fd`]).
#![cfg(target_os = "linux")]
#![deny(missing_docs)]

mod error;
mod frames;
pub mod netlink;
mod reactor;
mod steering;
mod sys;
pub mod tun;
pub mod veth;
mod virtio;

use std::{
    fmt, io,
    os::fd::OwnedFd,
    str::FromStr,
    task::{Context, Poll},
};

use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Link};

pub use error::DeviceError;
pub use frames::Dropped;
pub use netlink::{LinkSettings, Netlink, RouteSizes};
pub use steering::queue_of;
pub use sys::unacknowledged;
pub use tun::Tun;
pub use veth::Veth;

/// The kinds of device.
///
/// ```no_run
/// use lastack_device::{Device, DeviceKind, Tun, Veth, tun};
///
/// # fn main() -> Result<(), lastack_device::DeviceError> {
/// // The interface may be made by another process, or in another network namespace.
/// let fd = tun::create("tun0")?;
/// let device = Device::from_fd(DeviceKind::Tun, fd, 1500)?;
/// // Or each kind by itself:
/// let tun: Tun = Tun::from_fd(tun::create("tun1")?, 1500)?;
/// let veth: Veth = Veth::open("near0", "far0", 1500)?;
/// let other = lastack_device::veth::create(&mut lastack_device::Netlink::open()?, "near1", "far1", 1500)?;
/// let veth = Veth::from_fd(other, 1500)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// [`Tun`].
    Tun,
    /// [`Veth`].
    Veth,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun => "tun",
            Self::Veth => "veth",
        })
    }
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "tun" => Ok(Self::Tun),
            "veth" => Ok(Self::Veth),
            other => Err(format!("unknown kind of device {other:?} (expected tun or veth)")),
        }
    }
}

/// A device of either kind.
#[derive(Debug)]
pub enum Device {
    /// A TUN or TAP interface.
    Tun(Tun),
    /// A veth pair.
    Veth(Veth),
}

impl Device {
    /// Makes a link of a file descriptor from [`tun::create`] or [`veth::create`], for an interface with this MTU.
    pub fn from_fd(kind: DeviceKind, fd: OwnedFd, mtu: usize) -> Result<Self, DeviceError> {
        match kind {
            DeviceKind::Tun => Tun::from_fd(fd, mtu).map(Self::Tun),
            DeviceKind::Veth => Veth::from_fd(fd, mtu).map(Self::Veth),
        }
    }

    /// The kind of this device.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Tun(_) => DeviceKind::Tun,
            Self::Veth(_) => DeviceKind::Veth,
        }
    }

    /// Packets lost between the stack and the kernel.
    pub fn dropped(&mut self) -> Dropped {
        match self {
            Self::Tun(tun) => tun.dropped(),
            Self::Veth(veth) => veth.dropped(),
        }
    }
}

impl Link for Device {
    fn capabilities(&self) -> Capabilities {
        match self {
            Self::Tun(tun) => tun.capabilities(),
            Self::Veth(veth) => veth.capabilities(),
        }
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        match self {
            Self::Tun(tun) => tun.send(now, packet, transmit),
            Self::Veth(veth) => veth.send(now, packet, transmit),
        }
    }

    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        match self {
            Self::Tun(tun) => tun.send_vectored(now, packet, transmit),
            Self::Veth(veth) => veth.send_vectored(now, packet, transmit),
        }
    }

    fn is_vectored(&self) -> bool {
        true
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        match self {
            Self::Tun(tun) => tun.recv(now, packet),
            Self::Veth(veth) => veth.recv(now, packet),
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tun(tun) => tun.poll_readable(cx),
            Self::Veth(veth) => veth.poll_readable(cx),
        }
    }
}
