use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use lastack_device::DeviceKind;
use serde::{Deserialize, Serialize};

use super::join::Join;

/// The guest's interface, unless another name is given.
pub const INTERFACE: &str = "lastack0";

/// The configuration of the guest's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The type of the guest's network device.
    pub device: DeviceChoice,
    /// The network namespace to join; `None`: a new one.
    pub join: Option<Join>,
    /// The name of the guest's interface.
    pub interface: String,
    /// The interface is brought up with addresses and routes; otherwise the caller does that.
    pub configure: bool,
    /// The guest's networks, at most one of each family.
    pub networks: Vec<Network>,
    /// The device's MTU.
    pub mtu: u32,
    /// The content of the guest's /etc/resolv.conf; `None`: the host's.
    pub resolv_conf: Option<String>,
    /// The guest's user.
    pub identity: Identity,
    /// The guest's processes have their own process namespace: they see no others, and all of them end with the
    /// launcher.
    pub process_namespace: bool,
    /// Remaining processes are killed when the program ends; otherwise the guest lasts until its last process has
    /// ended.
    pub kill_rest: bool,
    /// The addresses in the guest's network on which the launcher listens.
    pub listeners: Vec<Listener>,
    /// The executable that is started to become the guest: its `main` must begin with [`intercept`](super::intercept).
    pub launcher: PathBuf,
}

/// The guest's configuration in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The guest's address.
    pub address: IpAddr,
    /// The prefix length.
    pub prefix: u8,
    /// The default gateway; of the address's family.
    pub gateway: IpAddr,
    /// The MTU of this host's path to the outside, if less than the device's MTU: the guest's kernel treats larger
    /// packets as this host's would.
    pub path_mtu: Option<u32>,
}

/// The guest's user, inside and outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The user that starts it, without privileges outside.
    #[default]
    Same,
    /// Root in its own namespaces, whichever user starts it.
    Root,
    /// If root starts it, root with all its privileges outside, which can leave the network.
    HostRoot,
}

/// A TCP socket in the guest's network that the launcher holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address there.
    pub address: SocketAddr,
    /// It listens from the beginning; otherwise it is only bound, and refuses until the launcher makes it listen.
    pub listening: bool,
}

/// Which type of device to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceChoice {
    /// TUN, or a veth pair if TUN is unavailable.
    #[default]
    Auto,
    /// TUN only.
    Tun,
    /// A veth pair only.
    Veth,
    /// TAP: with Ethernet headers, as slirp4netns has them.
    Tap,
}

impl Plan {
    /// A plan with these networks, an MTU of 1500 and the host's resolver, launched by the current executable.
    pub fn new(networks: Vec<Network>) -> Self {
        Self {
            device: DeviceChoice::Auto,
            join: None,
            interface: INTERFACE.to_owned(),
            configure: true,
            networks,
            mtu: 1500,
            resolv_conf: None,
            identity: Identity::Same,
            process_namespace: true,
            kill_rest: false,
            listeners: Vec::new(),
            launcher: PathBuf::from("/proc/self/exe"),
        }
    }
}

impl DeviceChoice {
    /// Whether a device of this kind may be made.
    pub fn allows(self, kind: DeviceKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Tun | Self::Tap => kind == DeviceKind::Tun,
            Self::Veth => kind == DeviceKind::Veth,
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "tun" => Ok(Self::Tun),
            "veth" => Ok(Self::Veth),
            "tap" => Ok(Self::Tap),
            other => Err(format!("unknown device {other:?} (expected auto, tun, tap or veth)")),
        }
    }
}
