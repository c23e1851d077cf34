//! The rtnetlink requests needed for a device and a namespace. They apply to the network namespace of the calling
//! thread and require CAP_NET_ADMIN there.

mod message;

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType},
};

use super::{DeviceError, error::Operation};
use message::{AddressBody, LinkBody, Message, RouteBody};

/// VETH_INFO_PEER (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
/// IFLA_INET6_ADDR_GEN_MODE and its value "none" (linux/if_link.h).
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// Timeout for asynchronous operations of the kernel, and the polling interval.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);

/// The index of the loopback interface of every network namespace.
pub const LOOPBACK: u32 = 1;

/// Metrics of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteSizes {
    /// Path MTU, if less than the interface's MTU.
    pub mtu: Option<u32>,
    /// The MSS to announce, if not derived from `mtu`.
    pub advertised_mss: Option<u32>,
}

/// Settings with which a link is brought up. `None` or false leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// The MTU.
    pub mtu: Option<u32>,
    /// IFF_NOARP: no ARP, no neighbour discovery.
    pub no_arp: bool,
    /// Max length of the transmit queue in packets.
    pub tx_queue_len: Option<u32>,
    /// Do not generate an IPv6 link-local address, and so no router solicitations.
    pub no_link_local: bool,
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub address: [u8; 6],
}

/// A route socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a route socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, DeviceError> {
        let open = || -> nix::Result<OwnedFd> {
            let socket = nix::sys::socket::socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )?;
            nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().operation(|| "open a netlink route socket".to_owned())?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings the link up with these settings.
    pub fn set_up(&mut self, index: u32, settings: &LinkSettings) -> Result<(), DeviceError> {
        if settings.no_link_local {
            self.call(no_link_local(index), || {
                format!("turn off IPv6 link-local addresses of interface {index}")
            })?;
        }
        self.call(up(index, settings), || format!("bring interface {index} up"))
    }

    /// Creates a veth pair.
    pub fn create_veth(&mut self, near: VethEnd<'_>, far: VethEnd<'_>) -> Result<(), DeviceError> {
        self.call(veth(near, far), || format!("create the veth pair {} and {}", near.name, far.name))
    }

    /// Moves a link to another network namespace, where it is down.
    pub fn move_to(&mut self, index: u32, namespace: BorrowedFd<'_>) -> Result<(), DeviceError> {
        let body = LinkBody { index: index as i32, ..LinkBody::default() };
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &body);
        message.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        self.call(message, || format!("move interface {index} to another network namespace"))
    }

    /// Removes a link; of a veth pair, both ends.
    pub fn remove(&mut self, index: u32) -> Result<(), DeviceError> {
        let body = LinkBody { index: index as i32, ..LinkBody::default() };
        self.call(Message::new(libc::RTM_DELLINK, 0, &body), || format!("remove interface {index}"))
    }

    /// Adds an address to the link. An IPv6 address can be used at once (no duplicate address detection).
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), DeviceError> {
        self.call(new_address(index, address, prefix), || format!("add the address {address}/{prefix}"))
    }

    /// Adds a default route of the gateway's family.
    pub fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> Result<(), DeviceError> {
        self.add_default_route_of(index, gateway, RouteSizes::default())
    }

    /// As [`add_default_route`](Self::add_default_route), with metrics.
    pub fn add_default_route_of(
        &mut self,
        index: u32,
        gateway: IpAddr,
        sizes: RouteSizes,
    ) -> Result<(), DeviceError> {
        self.call(default_route(index, gateway, sizes), || format!("add the default route via {gateway}"))
    }

    /// Excludes a network from the default route: the destination is unreachable (`ENETUNREACH`), at once.
    pub fn add_no_route(&mut self, network: IpAddr, prefix: u8) -> Result<(), DeviceError> {
        self.call(no_route(network, prefix), || format!("exclude {network}/{prefix} from the default route"))
    }

    /// Waits until packets to this local address, on a link that is up, are accepted. For IPv6 that is shortly after
    /// [`add_address`](Self::add_address), even without duplicate address detection; earlier packets are lost.
    pub fn await_address(&mut self, address: IpAddr) -> Result<(), DeviceError> {
        self.wait(|| format!("wait for the address {address}"), |netlink| netlink.is_local(address))
    }

    /// Waits until a link that is up carries packets. An end of a veth pair that was up before the other does so
    /// shortly after [`set_up`](Self::set_up) of that one; packets sent earlier are lost.
    pub fn await_running(&mut self, index: u32) -> Result<(), DeviceError> {
        self.wait(|| format!("wait for interface {index} to run"), |netlink| netlink.is_running(index))
    }

    /// The kernel performs these operations asynchronously and does not notify of their completion.
    fn wait(
        &mut self,
        operation: impl Fn() -> String,
        mut done: impl FnMut(&mut Self) -> nix::Result<bool>,
    ) -> Result<(), DeviceError> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self).operation(&operation)? {
            if Instant::now() > deadline {
                return Err(DeviceError::new(operation(), io::ErrorKind::TimedOut.into()));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether the link is up and has a carrier and a queue.
    fn is_running(&mut self, index: u32) -> nix::Result<bool> {
        let body = LinkBody { index: index as i32, ..LinkBody::default() };
        let flags = self.exchange(Message::new(libc::RTM_GETLINK, 0, &body), |reply, sequence| {
            message::link_flags(reply, sequence).map(Ok).or_else(|| refusal(reply, sequence).map(Err))
        })?;
        Ok(flags & libc::IFF_RUNNING as u32 != 0)
    }

    /// Whether a packet to this address would be delivered to this host.
    fn is_local(&mut self, address: IpAddr) -> nix::Result<bool> {
        let kind = self.exchange(route_to(address), |reply, sequence| {
            message::route_type(reply, sequence).map(Ok).or_else(|| refusal(reply, sequence).map(Err))
        });
        match kind {
            Ok(kind) => Ok(kind == libc::RTN_LOCAL),
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn call(&mut self, message: Message, operation: impl FnOnce() -> String) -> Result<(), DeviceError> {
        let acknowledged = |reply: &[u8], sequence| match message::acknowledgement(reply, sequence)? {
            0 => Some(Ok(())),
            errno => Some(Err(Errno::from_raw(errno))),
        };
        self.exchange(message, acknowledged).operation(operation)
    }

    /// Sends the request and reads until `answer` returns a result; leftovers of earlier replies are skipped.
    fn exchange<T>(
        &mut self,
        message: Message,
        answer: impl Fn(&[u8], u32) -> Option<nix::Result<T>>,
    ) -> nix::Result<T> {
        self.sequence += 1;
        nix::unistd::write(&self.socket, &message.finish(self.sequence))?;
        let mut reply = [0; 4096];
        loop {
            let len = match nix::unistd::read(&self.socket, &mut reply) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if let Some(answer) = answer(&reply[..len], self.sequence) {
                return answer;
            }
        }
    }
}

/// The errno, if the kernel rejected this request.
fn refusal(reply: &[u8], sequence: u32) -> Option<Errno> {
    message::acknowledgement(reply, sequence).filter(|&errno| errno != 0).map(Errno::from_raw)
}

/// The index of the interface with this name.
pub fn index_of(name: &str) -> Result<u32, DeviceError> {
    nix::net::if_::if_nametoindex(name).operation(|| format!("find the interface {name}"))
}

fn up(index: u32, settings: &LinkSettings) -> Message {
    let mut flags = libc::IFF_UP;
    if settings.no_arp {
        flags |= libc::IFF_NOARP;
    }
    let body =
        LinkBody { index: index as i32, flags: flags as u32, change: flags as u32, ..LinkBody::default() };
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &body);
    if let Some(mtu) = settings.mtu {
        message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(len) = settings.tx_queue_len {
        message.attribute(libc::IFLA_TXQLEN, &len.to_ne_bytes());
    }
    message
}

fn no_link_local(index: u32) -> Message {
    let body = LinkBody { index: index as i32, ..LinkBody::default() };
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &body);
    message.nest(libc::IFLA_AF_SPEC, |message| {
        message.nest(libc::AF_INET6 as u16, |message| {
            message.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    message
}

fn veth(near: VethEnd<'_>, far: VethEnd<'_>) -> Message {
    let end = |message: &mut Message, end: VethEnd<'_>| {
        message.name(libc::IFLA_IFNAME, end.name).attribute(libc::IFLA_ADDRESS, &end.address);
    };
    let mut message =
        Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &LinkBody::default());
    end(&mut message, near);
    message.nest(libc::IFLA_LINKINFO, |message| {
        message.name(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |message| {
            message.nest(VETH_INFO_PEER, |message| {
                end(message.body(&LinkBody::default()), far);
            });
        });
    });
    message
}

fn new_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let body = AddressBody { family: message::family(address), prefix, flags: 0, scope: 0, index };
    let bytes = message::bytes(address);
    let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body);
    message
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
        .attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
    message
}

/// `RTAX_MTU` and `RTAX_ADVMSS` of linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

fn default_route(index: u32, gateway: IpAddr, sizes: RouteSizes) -> Message {
    let body = RouteBody {
        family: message::family(gateway),
        destination_prefix: 0,
        source_prefix: 0,
        tos: 0,
        table: libc::RT_TABLE_MAIN,
        protocol: libc::RTPROT_STATIC,
        scope: libc::RT_SCOPE_UNIVERSE,
        kind: libc::RTN_UNICAST,
        flags: 0,
    };
    let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body);
    message
        .attribute(libc::RTA_OIF, &index.to_ne_bytes())
        .attribute(libc::RTA_GATEWAY, &message::bytes(gateway));
    let metrics = [(RTAX_MTU, sizes.mtu), (RTAX_ADVMSS, sizes.advertised_mss)];
    if metrics.iter().any(|(_, value)| value.is_some()) {
        message.nest(libc::RTA_METRICS, |message| {
            for (kind, value) in metrics {
                if let Some(value) = value {
                    message.attribute(kind, &value.to_ne_bytes());
                }
            }
        });
    }
    message
}

fn no_route(network: IpAddr, prefix: u8) -> Message {
    let body = RouteBody {
        family: message::family(network),
        destination_prefix: prefix,
        table: libc::RT_TABLE_MAIN,
        protocol: libc::RTPROT_STATIC,
        scope: libc::RT_SCOPE_UNIVERSE,
        kind: libc::RTN_THROW,
        ..RouteBody::default()
    };
    let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body);
    message.attribute(libc::RTA_DST, &message::bytes(network));
    message
}

fn route_to(address: IpAddr) -> Message {
    let bytes = message::bytes(address);
    let prefix = bytes.len() as u8 * 8;
    let body =
        RouteBody { family: message::family(address), destination_prefix: prefix, ..RouteBody::default() };
    let mut message = Message::new(libc::RTM_GETROUTE, 0, &body);
    message.attribute(libc::RTA_DST, &bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ip link set dev IF up mtu 1500 arp off` sends: the golden bytes after the header, from linux/if_link.h.
    #[test]
    fn up_carries_the_flags_and_the_mtu() {
        let settings = LinkSettings { mtu: Some(1500), no_arp: true, ..LinkSettings::default() };
        let bytes = up(9, &settings).finish(1);
        let flags = 0x81u32.to_ne_bytes();
        assert_eq!(bytes[20..24], 9i32.to_ne_bytes());
        assert_eq!(bytes[24..28], flags);
        assert_eq!(bytes[28..32], flags, "only these flags change");
        let mut mtu = vec![];
        mtu.extend_from_slice(&8u16.to_ne_bytes());
        mtu.extend_from_slice(&4u16.to_ne_bytes());
        mtu.extend_from_slice(&1500u32.to_ne_bytes());
        assert_eq!(bytes[32..], mtu);
    }

    #[test]
    fn an_address_skips_duplicate_detection() {
        let bytes = new_address(3, "fd00::100".parse().unwrap(), 64).finish(1);
        assert_eq!(bytes[16..20], [10, 64, 0, 0]);
        assert_eq!(bytes[20..24], 3u32.to_ne_bytes());
        assert_eq!(bytes.len(), 24 + 20 + 20 + 8);
        assert_eq!(bytes[bytes.len() - 4..], 2u32.to_ne_bytes(), "IFA_F_NODAD");
    }

    #[test]
    fn a_default_route_has_no_destination() {
        let bytes = default_route(3, "10.0.2.2".parse().unwrap(), RouteSizes::default()).finish(1);
        assert_eq!(bytes[16..24], [2, 0, 0, 0, 254, 4, 0, 1]);
        assert_eq!(bytes[28..32], [8, 0, 4, 0], "RTA_OIF");
        assert_eq!(bytes[bytes.len() - 4..], [10, 0, 2, 2]);
    }

    #[test]
    fn a_veth_names_both_ends() {
        let near = VethEnd { name: "tun0", address: [2, 0, 0, 0, 0, 1] };
        let far = VethEnd { name: "far0", address: [2, 0, 0, 0, 0, 2] };
        let bytes = veth(near, far).finish(1);
        let at = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle);
        let (kind, name) = (at(b"veth\0").unwrap(), at(b"far0\0").unwrap());
        assert!(at(b"tun0\0").unwrap() < kind && kind < name);
        assert!(at(&far.address).unwrap() > name);
        assert_eq!(bytes[0..4], (bytes.len() as u32).to_ne_bytes());
    }
}
