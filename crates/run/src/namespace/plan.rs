use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use lastack_device::DeviceKind;
use serde::{Deserialize, Serialize};

/// What the guest's namespace is to look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which kind of device carries the guest's packets.
    pub device: DeviceChoice,
    /// The guest's networks, at most one of each family.
    pub networks: Vec<Network>,
    /// The device's MTU.
    pub mtu: u32,
    /// What the guest reads in /etc/resolv.conf; `None` leaves the host's.
    pub resolv_conf: Option<String>,
    /// Who the guest is.
    pub identity: Identity,
    /// The guest's processes have a namespace of their own: they see no others, and all of them end with the launcher.
    pub process_namespace: bool,
    /// What the program leaves behind is ended with it; else the guest lasts until its last process has ended.
    pub kill_rest: bool,
    /// Where in the guest's network the launcher listens.
    pub listeners: Vec<Listener>,
    /// The program that is started to become the guest: one whose `main` begins with [`intercept`](super::intercept).
    pub launcher: PathBuf,
}

/// The guest's place in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The guest's address.
    pub address: IpAddr,
    /// Bits of the address that are the network's.
    pub prefix: u8,
    /// Where everything outside of the network is sent; of the address's family.
    pub gateway: IpAddr,
    /// The largest packet that leaves this host in one piece, if that is less than the device's MTU: the guest's kernel
    /// treats what is larger as this host's would.
    pub path_mtu: Option<u32>,
}

/// Who the guest is, to itself and to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Who starts it, without rights over the outside.
    #[default]
    Same,
    /// Root in its own namespaces, whoever starts it.
    Root,
    /// If root starts it, root with all its rights over the outside, which can leave the network.
    HostRoot,
}

/// A TCP socket in the guest's network that the launcher holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address there.
    pub address: SocketAddr,
    /// It listens from the beginning; else it is bound only, and refuses until the launcher lets it listen.
    pub listening: bool,
}

/// Which kind of device to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceChoice {
    /// TUN, and a veth pair if that cannot be had.
    #[default]
    Auto,
    /// TUN or nothing.
    Tun,
    /// A veth pair or nothing.
    Veth,
}

impl Plan {
    /// A plan with these networks, an MTU of 1500 and the host's resolver, launched by this very executable.
    pub fn new(networks: Vec<Network>) -> Self {
        Self {
            device: DeviceChoice::Auto,
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
    /// May a device of this kind be made?
    pub fn allows(self, kind: DeviceKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Tun => kind == DeviceKind::Tun,
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
            other => Err(format!("unknown device {other:?}: it is auto, tun or veth")),
        }
    }
}
