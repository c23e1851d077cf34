//! The network that a run serves: that of its program, or one that exists, with or without a program of this run.

use std::os::fd::OwnedFd;

use lastack_device::DeviceKind;

use crate::descriptors::Descriptors;
use crate::namespace::{self, Failure, Guest, InnerSocket, Join, Joined, LaunchError, Launched};
use crate::plan::Plan;

/// Such a network.
#[derive(Debug)]
pub struct Served {
    /// The program of this run.
    pub guest: Option<Guest>,
    /// The device of its packets.
    pub device: OwnedFd,
    /// What kind of device that is.
    pub kind: DeviceKind,
    /// Sockets in the network.
    pub sockets: Vec<(InnerSocket, OwnedFd)>,
    /// Failures that may affect programs there.
    pub warnings: Vec<Failure>,
    /// Its namespaces.
    pub namespace: Join,
}

impl Served {
    /// Makes the network, or joins it, and starts the program.
    pub fn begin(plan: &Plan, descriptors: Descriptors) -> Result<Self, LaunchError> {
        let namespace = plan.namespace();
        if let (Some(join), true) = (&plan.place.join, plan.command.is_empty()) {
            let Joined { device, kind, sockets, warnings } = namespace::join(&namespace)?;
            return Ok(Self { guest: None, device, kind, sockets, warnings, namespace: join.clone() });
        }
        let launched =
            Guest::launch_with(&namespace, &plan.command, |command| descriptors.restore_for(command))?;
        let Launched { guest, device, kind, sockets, warnings } = launched;
        let supervisor = guest.supervisor();
        let net = format!("/proc/{supervisor}/ns/net").into();
        let namespace = Join { net, user: None, process: Some(supervisor) };
        Ok(Self { guest: Some(guest), device, kind, sockets, warnings, namespace })
    }
}
