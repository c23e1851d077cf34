//! Stacks behind a TUN device, as servers for the kernel's client.

pub mod bare;
pub mod free;
pub mod lastack;
pub mod smoltcp;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::process::ip;

/// The TUN interface in the namespace of the client.
pub const INTERFACE: &str = "bench0";
/// The client's address on it.
pub const CLIENT: &str = "10.97.0.2/24";
/// The stack's address.
pub const SERVER: [u8; 4] = [10, 97, 0, 1];

/// Enters a network namespace.
pub fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("open {}", namespace.display()))?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// Configures the interface, which exists, in this namespace.
fn configure(mtu: usize) -> Result<()> {
    ip(&format!("link set {INTERFACE} mtu {mtu} up"))?;
    ip(&format!("addr add {CLIENT} dev {INTERFACE}"))
}
