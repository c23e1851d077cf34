//! A veth pair, for where there is no /dev/net/tun. Its far end is in a network namespace of its own, which only the
//! packet socket there keeps: the kernel removes both ends when lastack ends, in whatever way, also from a network that
//! existed before.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use lastack_device::{DeviceError, Netlink, netlink, veth};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Failure, Step, failure::StepResult};

/// The name of the far end, in its own namespace.
const FAR_END: &str = "lastack1";

/// The far end.
pub(super) struct FarEnd {
    netlink: Netlink,
    index: u32,
}

impl FarEnd {
    /// Waits until the far end carries packets. The near end is up.
    pub(super) fn await_running(&mut self) -> Result<(), Failure> {
        self.netlink.await_running(self.index).map_err(|error| Failure::device(Step::Network, &error))
    }
}

/// Makes the pair, with its near end in this network namespace. Returns the packet socket at its far end.
pub(super) fn create(near: &str, mtu: usize) -> Result<(OwnedFd, FarEnd), Failure> {
    let own = || "open /proc/self/ns/net".to_owned();
    let here = File::open("/proc/self/ns/net").step(Step::Veth, own)?;
    unshare(CloneFlags::CLONE_NEWNET).step(Step::Veth, || {
        "create a network namespace for the far end of a veth pair (unshare)".to_owned()
    })?;
    let created = create_there(near, mtu, &here).map_err(|error| Failure::device(Step::Veth, &error));
    setns(&here, CloneFlags::CLONE_NEWNET)
        .step(Step::Veth, || "return to the network namespace (setns)".to_owned())?;
    created
}

fn create_there(near: &str, mtu: usize, to: &File) -> Result<(OwnedFd, FarEnd), DeviceError> {
    let mut netlink = Netlink::open()?;
    let socket = veth::create(&mut netlink, near, FAR_END, mtu)?;
    let index = netlink::index_of(FAR_END)?;
    netlink.move_to(netlink::index_of(near)?, to.as_fd())?;
    Ok((socket, FarEnd { netlink, index }))
}
