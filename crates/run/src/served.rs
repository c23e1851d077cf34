//! The network that a run serves: that of its program, or one that exists, with or without a program of this run.

use std::os::fd::OwnedFd;

use lastack_device::DeviceKind;

use crate::descriptors::Descriptors;
use crate::namespace::{self, Failure, Guest, InnerSocket, Joined, LaunchError, Launched};
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
    /// Its network namespace, until the attendant has it.
    pub net: Option<OwnedFd>,
}

impl Served {
    /// Makes the network, or joins it, and starts the program.
    pub fn begin(plan: &Plan, descriptors: Descriptors) -> Result<Self, LaunchError> {
        let namespace = plan.namespace();
        if plan.place.join.is_some() && plan.command.is_empty() {
            let Joined { device, kind, net, sockets, warnings } = namespace::join(&namespace)?;
            return Ok(Self { guest: None, device, kind, sockets, warnings, net: Some(net) });
        }
        let launched =
            Guest::launch_with(&namespace, &plan.command, |command| descriptors.restore_for(command))?;
        let Launched { guest, device, kind, net, sockets, warnings } = launched;
        Ok(Self { guest: Some(guest), device, kind, sockets, warnings, net: Some(net) })
    }
}
