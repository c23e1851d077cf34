//! Destinations of the program's packets: where each leads, and which of them lead to the host itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use std::rc::Rc;

use super::Plan;
use crate::host;
use crate::proxy::Proxy;

/// The destination of a packet of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A remote, or this host's loopback if that is allowed.
    Remote(SocketAddr),
    /// The name server.
    Resolver,
    /// The gateway, which stands for the host's loopback, if that is not allowed.
    ForbiddenLoopback,
    /// Any other address of the host's own loopback.
    HiddenLoopback,
    /// A link-local address, such as a cloud metadata service, if that is not allowed.
    LinkLocal,
    /// The name server's address, on a port other than the resolver's.
    ClosedPort,
    /// An unused address of the program's own network.
    NobodyThere,
}

impl Plan {
    /// lastack's own addresses: it answers pings to them itself.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let networks = self.networks.iter().flat_map(|network| [network.gateway, network.dns]);
        let others = self.name_servers.iter().copied().filter(|own| !self.is_first_name_server(*own));
        networks.chain(others).chain(self.dns_at.iter().copied()).collect()
    }

    /// Which of the host's name servers one of the program's corresponds to.
    pub fn resolver_number(&self, server: IpAddr) -> usize {
        // The first of each family answers whether it is listed or not.
        self.name_servers.iter().position(|own| *own == server).unwrap_or(0)
    }

    fn is_name_server(&self, address: IpAddr) -> bool {
        self.is_first_name_server(address) || self.name_servers.contains(&address)
    }

    fn is_first_name_server(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.dns == address)
    }

    /// The address under which the program sees the sender of a datagram to this host. `None`: it cannot be shown, as
    /// the program is not allowed to reach it.
    pub fn as_seen_inside(&self, from: SocketAddr) -> Option<SocketAddr> {
        if !is_the_host_itself(from.ip()) {
            // Without the scope, which is local to this host.
            return Some((from.ip(), from.port()).into());
        }
        let gateway = self.gateway(from.is_ipv6())?;
        let inside = SocketAddr::new(gateway, from.port());
        // The program can answer only if its packets to that address are routed to the sender.
        (self.place(inside) == Route::Remote((from.ip(), from.port()).into())).then_some(inside)
    }

    /// The program's address of this family.
    pub fn guest(&self, v6: bool) -> Option<IpAddr> {
        self.networks.iter().map(|network| network.guest).find(|guest| guest.is_ipv6() == v6)
    }

    /// The gateway of this family, from whose address lastack sends its own errors.
    pub fn gateway(&self, v6: bool) -> Option<IpAddr> {
        self.networks.iter().map(|network| network.gateway).find(|gateway| gateway.is_ipv6() == v6)
    }

    /// The source address for passing on an error of `from` about a packet to this address, if it is meaningful to the
    /// program: not an address that stands for another, and none on the host's loopback.
    pub fn error_source(&self, to: SocketAddr, from: Option<IpAddr>) -> Option<IpAddr> {
        let itself = matches!(self.place(to), Route::Remote(remote) if remote == to);
        from.filter(|from| itself && !is_the_host_itself(*from))
    }

    /// The destination of a packet to this address and port.
    pub fn place(&self, to: SocketAddr) -> Route {
        let loopback: IpAddr =
            if to.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let address = to.ip();
        if self.dns_at.contains(&address) {
            return if to.port() == 53 { Route::Resolver } else { Route::ClosedPort };
        }
        if self.host_at.contains(&address) {
            let own = host::interface::source(address.is_ipv6());
            return own.map_or(Route::NobodyThere, |own| Route::Remote((own, to.port()).into()));
        }
        if let Some(network) = self.networks.iter().find(|network| network.contains(address)) {
            return match address {
                _ if self.is_name_server(address) && to.port() == 53 => Route::Resolver,
                _ if self.is_name_server(address) => Route::ClosedPort,
                _ if address == network.gateway && self.host_loopback => {
                    Route::Remote((loopback, to.port()).into())
                }
                _ if address == network.gateway => Route::ForbiddenLoopback,
                _ => Route::NobodyThere,
            };
        }
        match address {
            _ if is_the_host_itself(address) => Route::HiddenLoopback,
            _ if is_link_local(address) && !self.link_local => Route::LinkLocal,
            _ => Route::Remote(to),
        }
    }

    /// The proxy that carries traffic to this remote, which has this address on the host.
    pub fn via(&self, remote: IpAddr) -> Option<&Rc<Proxy>> {
        self.via.as_ref().filter(|_| !is_the_host_itself(remote))
    }

    /// As [`place`](Self::place), of a protocol without ports.
    pub fn place_of_address(&self, to: IpAddr) -> Route {
        self.place((to, 0).into())
    }
}

/// Whether it is link-local. IPv4-mapped addresses are treated as IPv4.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local())
                || METADATA.contains(&v6)
        }
    }
}

/// Cloud metadata services outside of the link-local addresses.
const METADATA: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

/// Whether a socket of the host reaches the host's own loopback by it.
pub(super) fn is_the_host_itself(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => {
            // ::/96 contains ::, ::1 and the IPv4-compatible addresses; the IPv4-mapped ones reach IPv4.
            let [.., g, h] = v6.segments();
            let embedded = Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
            match v6.segments() {
                [0, 0, 0, 0, 0, 0, _, _] => true,
                [0, 0, 0, 0, 0, 0xffff, _, _] => is_the_host_itself(embedded.into()),
                _ => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn links_of_the_host_are_reached_only_where_that_is_allowed() {
        for to in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80"]
        {
            let to: SocketAddr = to.parse().unwrap();
            assert_eq!(plan(|_| {}).unwrap().place(to), Route::LinkLocal, "{to}");
            assert_eq!(
                plan(|options| options.link_local = true).unwrap().place(to),
                Route::Remote(to),
                "{to}"
            );
        }
    }

    fn places(host_loopback: bool, rows: &[(&str, Route)]) {
        let plan = plan(|o| o.host_loopback = host_loopback).unwrap();
        for (to, place) in rows {
            assert_eq!(plan.place(to.parse().unwrap()), *place, "{host_loopback} {to}");
        }
    }

    #[test]
    fn the_hosts_loopback_has_one_door() {
        let rest = [
            ("127.0.0.1:80", Route::HiddenLoopback),
            ("127.9.9.9:80", Route::HiddenLoopback),
            ("0.0.0.0:80", Route::HiddenLoopback),
            ("[::1]:80", Route::HiddenLoopback),
            ("[::]:80", Route::HiddenLoopback),
            ("[::ffff:127.0.0.1]:80", Route::HiddenLoopback),
            ("[::127.0.0.1]:80", Route::HiddenLoopback),
            ("192.0.2.7:80", Route::Remote("192.0.2.7:80".parse().unwrap())),
        ];
        for host_loopback in [false, true] {
            places(host_loopback, &rest);
        }
        places(
            false,
            &[("10.0.2.2:80", Route::ForbiddenLoopback), ("[fd00::2]:80", Route::ForbiddenLoopback)],
        );
        places(
            true,
            &[
                ("10.0.2.2:80", Route::Remote("127.0.0.1:80".parse().unwrap())),
                ("[fd00::2]:80", Route::Remote("[::1]:80".parse().unwrap())),
            ],
        );
    }

    #[test]
    fn the_programs_own_network_is_empty_but_for_us() {
        places(
            false,
            &[
                ("10.0.2.3:53", Route::Resolver),
                ("[fd00::3]:53", Route::Resolver),
                ("10.0.2.3:80", Route::ClosedPort),
                ("10.0.2.99:80", Route::NobodyThere),
                ("[fd00::99]:80", Route::NobodyThere),
                ("[fd00:0:0:1::99]:80", Route::Remote("[fd00:0:0:1::99]:80".parse().unwrap())),
            ],
        );
    }

    #[test]
    fn lastack_does_not_use_addresses_of_the_program() {
        let plan = plan(|o| o.host_loopback = true).unwrap();
        let error_source =
            |to: &str, from: &str| plan.error_source(to.parse().unwrap(), Some(from.parse().unwrap()));
        assert_eq!(error_source("192.0.2.7:80", "192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(error_source("192.0.2.7:80", "127.0.0.1"), None);
        assert_eq!(error_source("10.0.2.2:80", "127.0.0.1"), None);
        assert_eq!(error_source("10.0.2.3:53", "192.0.2.53"), None);
    }

    #[test]
    fn each_name_server_of_the_host_has_its_own_address_inside() {
        let servers = |count: u8, ipv6: bool| {
            let plan = plan(|options| {
                options.dns = (1..=count).map(|i| IpAddr::from([192, 0, 2, i])).collect();
                options.ipv4 = !ipv6;
            });
            let plan = plan.unwrap();
            let numbers: Vec<usize> =
                plan.name_servers.iter().map(|own| plan.resolver_number(*own)).collect();
            assert_eq!(numbers, (0..plan.name_servers.len()).collect::<Vec<_>>());
            for &own in &plan.name_servers {
                assert_eq!(plan.place((own, 53).into()), Route::Resolver);
                assert_eq!(plan.place((own, 80).into()), Route::ClosedPort);
                assert!(plan.own_addresses().contains(&own));
            }
            plan.name_servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(servers(1, true), ["10.0.2.3"]);
        assert_eq!(servers(2, true), ["10.0.2.3", "fd00::3"]);
        assert_eq!(servers(4, true), ["10.0.2.3", "fd00::3", "10.0.2.4"]);
        assert_eq!(servers(2, false), ["10.0.2.3", "10.0.2.4"]);
    }

    #[test]
    fn the_hosts_loopback_is_seen_as_the_gateway_or_not_at_all() {
        let inside = |host_loopback: bool, from: &str| {
            let plan = plan(|options| options.host_loopback = host_loopback).unwrap();
            plan.as_seen_inside(from.parse().unwrap()).map(|seen| seen.to_string())
        };
        assert_eq!(inside(true, "127.0.0.1:9").as_deref(), Some("10.0.2.2:9"));
        assert_eq!(inside(true, "[::1]:9").as_deref(), Some("[fd00::2]:9"));
        assert_eq!(inside(true, "127.0.0.2:9"), None);
        assert_eq!(inside(false, "127.0.0.1:9"), None);
        assert_eq!(inside(false, "192.0.2.1:9").as_deref(), Some("192.0.2.1:9"));
    }
}
