//! The local end of this host's sockets: any, or as `--bind` says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use super::interface::{self, Interface, Which};
use super::socket::{IpOption, set_option};

/// The addresses and the interface from which this host's sockets send. The default leaves both to the kernel.
///
/// Remotes on this host's loopback are reached from any address: other addresses and interfaces do not lead there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    interface: Option<String>,
}

impl Source {
    /// From addresses of this host, one of each family at most, and names of interfaces, one at most. Checks that
    /// sockets can be bound to them.
    ///
    /// # Errors
    /// The cause, and how to avoid it.
    pub fn new(named: &[String]) -> Result<Self, String> {
        let mut source = Self::default();
        for text in named {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            let taken = match bare.parse() {
                Ok(IpAddr::V4(address)) => source.v4.replace(address).is_some(),
                Ok(IpAddr::V6(address)) => source.v6.replace(address).is_some(),
                Err(_) => source.interface.replace(text.clone()).is_some(),
            };
            if taken {
                return Err(format!(
                    "{text} is one too many: name one IPv4 address, one IPv6 address and one interface at most"
                ));
            }
        }
        source.check()?;
        Ok(source)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(name) = &self.interface
            && if_nametoindex(name.as_str()).is_err()
        {
            return Err(format!(
                "{name:?} is neither an address nor an interface of this host: ip -brief address lists both"
            ));
        }
        for v6 in [false, true] {
            let address: Option<IpAddr> = if v6 { self.v6.map(Into::into) } else { self.v4.map(Into::into) };
            let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
            if address.is_none() && (v6 || self.interface.is_none()) {
                continue;
            }
            let socket =
                Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(|error| error.to_string())?;
            if let Some(name) = &self.interface {
                socket.bind_device(Some(name.as_bytes())).map_err(|error| {
                    format!(
                        "this process may not use the interface {name} alone (SO_BINDTODEVICE: {error}): before Linux \
                         5.7 only root may"
                    )
                })?;
            }
            if let Some(address) = address {
                socket.bind(&SocketAddr::new(address, 0).into()).map_err(|error| {
                    format!("{address} cannot be a source address ({error}): name an address of this host")
                })?;
            }
        }
        Ok(())
    }

    /// Whether nothing is bound.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this kernel requires `CAP_NET_RAW` for it: `SO_BINDTODEVICE` before Linux 5.7.
    pub fn needs_privilege(&self) -> bool {
        self.interface.is_some() && !interface_is_free()
    }

    /// Whether packets to this remote are sent from it.
    pub fn applies_to(&self, remote: IpAddr) -> bool {
        !self.is_any() && !remote.to_canonical().is_loopback()
    }

    /// Binds a socket that is to reach this remote, without choosing a port.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`: addresses were named, and none of the remote's family.
    pub fn apply(&self, socket: &Socket, remote: IpAddr) -> io::Result<()> {
        if !self.applies_to(remote) {
            return Ok(());
        }
        self.apply_interface(socket)?;
        match self.address(remote.is_ipv6())? {
            address if address.is_unspecified() => Ok(()),
            address => {
                // With the connection, the kernel finds a port that is free for its destination. Only TCP supports it.
                let _later = set_option(&socket.as_fd(), IpOption::BindAddressNoPort, 1);
                socket.bind(&SocketAddr::new(address, 0).into())
            }
        }
    }

    /// Binds a socket to the interface.
    pub fn apply_interface(&self, socket: &Socket) -> io::Result<()> {
        self.interface.as_ref().map_or(Ok(()), |name| socket.bind_device(Some(name.as_bytes())))
    }

    /// The address of this family to bind to: unspecified if any will do.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`, as [`apply`](Self::apply).
    pub fn address(&self, v6: bool) -> io::Result<IpAddr> {
        match (v6, self.v4, self.v6) {
            (false, Some(address), _) => Ok(address.into()),
            (true, _, Some(address)) => Ok(address.into()),
            (false, None, None) => Ok(Ipv4Addr::UNSPECIFIED.into()),
            (true, None, None) => Ok(Ipv6Addr::UNSPECIFIED.into()),
            _ => Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
        }
    }

    /// Whether this family is excluded: addresses were named, and none of it.
    pub fn excludes(&self, remote: IpAddr) -> bool {
        self.applies_to(remote) && self.address(remote.is_ipv6()).is_err()
    }

    /// A destination with the scope that this host needs: link-local addresses need an interface.
    pub fn scoped(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V6(v6) if needs_scope(v6.ip()) => {
                let scope = self.multicast().map_or(0, |interface| interface.index);
                SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
            }
            other => other,
        }
    }

    /// The interface that carries multicast, and what is sent to link-local addresses.
    pub fn multicast(&self) -> Option<Interface> {
        let address = self.v4.map(Into::into).or(self.v6.map(Into::into));
        let named = self.interface.clone().map(Which::Named);
        interface::find(&named.or(address.map(Which::With)).unwrap_or(Which::Default))
    }
}

fn needs_scope(address: &Ipv6Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_unicast_link_local() || a == 0xff && b & 0x0f == 2
}

/// Whether any user may bind a socket to an interface: since Linux 5.7.
fn interface_is_free() -> bool {
    let release = nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned());
    let mut numbers = release.unwrap_or_default();
    numbers.retain(|c| c.is_ascii_digit() || c == '.');
    let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(named: &[&str]) -> Result<Source, String> {
        Source::new(&named.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_and_interfaces_are_distinguished() {
        assert!(source(&[]).unwrap().is_any());
        assert_eq!(source(&["127.0.0.9"]).unwrap().v4, Some([127, 0, 0, 9].into()));
        assert_eq!(source(&["[::1]"]).unwrap().v6, Some(Ipv6Addr::LOCALHOST));
        assert_eq!(source(&["lo"]).unwrap().interface.as_deref(), Some("lo"));
        assert_eq!(source(&["127.0.0.1", "lo"]).unwrap().multicast().unwrap().index, 1);
    }

    #[test]
    fn impossible_sources_name_the_cure() {
        for (named, cure) in [
            (&["192.0.2.77"][..], "name an address of this host"),
            (&["nonsense0"], "ip -brief address"),
            (&["127.0.0.1", "127.0.0.2"], "one IPv4 address"),
            (&["lo", "eth0"], "one interface at most"),
        ] {
            let error = source(named).unwrap_err();
            assert!(error.contains(cure), "{named:?}: {error}");
        }
    }

    #[test]
    fn link_local_destinations_name_an_interface() {
        assert!(needs_scope(&"fe80::1".parse().unwrap()) && needs_scope(&"ff02::fb".parse().unwrap()));
        assert!(!needs_scope(&"ff05::c".parse().unwrap()) && !needs_scope(&"2001:db8::1".parse().unwrap()));
        let of_loopback = source(&["lo"]).unwrap();
        let scoped = |text: &str| of_loopback.scoped(text.parse().unwrap()).to_string();
        assert_eq!(scoped("[fe80::1]:53"), "[fe80::1%1]:53");
        assert_eq!(scoped("[2001:db8::1]:53"), "[2001:db8::1]:53");
        assert_eq!(scoped("169.254.1.1:53"), "169.254.1.1:53");
    }

    #[test]
    fn a_family_without_an_address_is_excluded() {
        let source = source(&["127.0.0.9"]).unwrap();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(source.excludes(at("2001:db8::1")) && !source.excludes(at("192.0.2.1")));
        // The loopback is reached from its own addresses.
        assert!(!source.excludes(at("::1")) && !source.applies_to(at("127.0.0.1")));
        assert!(!source.applies_to(at("::ffff:127.0.0.1")));
    }
}
