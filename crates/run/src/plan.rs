//! Turns the options into a plan that can be carried out, or into an error with the reason.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::host::networks::HostNetwork;
use crate::host::{self, resolvers};
use crate::inject::{self, FaultRule};
use crate::inward::Published;
use crate::namespace;
use crate::options::Options;
use crate::policy::Policy;
use crate::report;

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The program's networks, at most one of each family, at least one.
    pub networks: Vec<Network>,
    /// The name servers, in this order, at the beginning of the run.
    pub resolvers: Vec<SocketAddr>,
    /// They were set by an option: later changes of the host's resolv.conf do not matter.
    pub resolvers_fixed: bool,
    /// The program's name servers: one for each of the host's, up to three (resolv.conf(5)).
    pub name_servers: Vec<IpAddr>,
    /// The gateway stands for the host's loopback.
    pub host_loopback: bool,
    /// Ports of the host's loopback that are mapped to the program's.
    pub map_localhost: Vec<u16>,
    /// The device's MTU.
    pub mtu: u32,
    /// Max MiB in the buffers of all connections.
    pub memory: u16,
    /// The kind of device.
    pub device: namespace::DeviceChoice,
    /// The program reaches link-local addresses.
    pub link_local: bool,
    /// Processes that the program leaves running are killed.
    pub kill_rest: bool,
    /// The program's user.
    pub identity: namespace::Identity,
    /// The program sees the processes of this host.
    pub host_pids: bool,
    /// The file of the capture.
    pub capture: Option<PathBuf>,
    /// The file of the HTML page.
    pub page: Option<PathBuf>,
    /// What is reported.
    pub report: report::Settings,
    /// The injected faults, and their seed.
    pub faults: (Vec<FaultRule>, u64),
    /// The destinations that the program may reach.
    pub policy: Policy,
    /// Ports of this host that are forwarded to ports on which the program listens.
    pub published: Vec<Published>,
}

/// One of the program's networks, with the host numbers of slirp4netns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The network itself.
    base: IpAddr,
    /// Its length.
    pub prefix: u8,
    /// The program's address.
    pub guest: IpAddr,
    /// The gateway.
    pub gateway: IpAddr,
    /// The name server.
    pub dns: IpAddr,
}

/// The numbers of hosts in a network.
const GATEWAY: u128 = 2;
const DNS: u128 = 3;
/// `MAXNS` of resolv.h.
const MAX_NAME_SERVERS: usize = 3;
/// The program's number has the same notation in both families: `.100` and `::100`.
const GUEST_V4: u128 = 100;
const GUEST_V6: u128 = 0x100;

/// Max ports of `--map-localhost`: their listeners are passed out of the namespace with one message.
const MAX_MAPPED: usize = 100;

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
    /// Makes the plan. `Err` says what is wrong with the options, and what would be right.
    pub fn new(args: Options) -> anyhow::Result<Self> {
        ensure!(!(args.ipv4 && args.ipv6), "IPv4 only and IPv6 only exclude each other: choose one");
        let mut networks = Vec::new();
        if !args.ipv6 {
            networks.push(Network::chosen(&args.net, false).context("--net")?);
        }
        if !args.ipv4 {
            networks.push(Network::chosen(&args.net6, true).context("--net6")?);
        }
        let least = if args.ipv4 { 576 } else { 1280 };
        ensure!(
            (least..=65_535).contains(&args.mtu),
            "--mtu {} is out of range: choose from {least} to 65535",
            args.mtu
        );
        let resolvers = whom_to_ask(&args.dns);
        let name_servers = name_servers(&networks, resolvers.len());
        let map_localhost = mapped_ports(args.map_localhost)?;
        let output = args.output;
        let to = match output.clone() {
            _ if args.quiet => report::Destination::Nowhere,
            Some(file) => report::Destination::File(file),
            None => report::Destination::StandardError,
        };
        for (option, file) in [("-w", &args.write), ("-o", &output)] {
            let taken = file.as_ref().is_some_and(|file| file.as_os_str() == "-");
            ensure!(!taken, "{option} -: standard output is the program's; name a file");
        }
        if let (Some(write), Some(output)) = (&args.write, &output) {
            ensure_apart(write, output)?;
        }
        let detail = match args.verbose {
            _ if args.summary_only => report::Detail::Summary,
            0 => report::Detail::Error,
            1 => report::Detail::Connections,
            _ => report::Detail::All,
        };
        let report =
            report::Settings { to, json: args.json, detail, open: args.open_lines, fail_on: args.fail_on };
        Ok(Self {
            command: args.command,
            networks,
            resolvers,
            resolvers_fixed: !args.dns.is_empty(),
            name_servers,
            host_loopback: args.host_loopback,
            map_localhost,
            mtu: args.mtu,
            memory: args.memory,
            device: args.device,
            link_local: args.link_local,
            kill_rest: args.kill_rest,
            identity: args.identity,
            host_pids: args.host_pids,
            capture: args.write,
            page: args.html,
            report,
            faults: faults(args.inject, args.inject_file.as_deref(), args.seed)?,
            policy: args.policy,
            published: args.publish,
        })
    }

    /// The part of the plan that concerns the namespace.
    pub fn namespace(&self) -> namespace::Plan {
        let networks = self.networks.iter().map(|network| namespace::Network {
            address: network.guest,
            prefix: network.prefix,
            gateway: network.gateway,
            path_mtu: host::path_mtu(network.gateway.is_ipv6()),
        });
        let mut plan = namespace::Plan::new(networks.collect());
        plan.device = self.device;
        plan.identity = self.identity;
        plan.process_namespace = !self.host_pids;
        plan.kill_rest = self.kill_rest;
        plan.listeners = crate::localhost::listeners(&self.map_localhost);
        plan.mtu = self.mtu;
        plan.resolv_conf = Some(namespace::resolv_conf(&self.name_servers));
        plan
    }

    /// lastack's own addresses: it answers pings to them itself.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let networks = self.networks.iter().flat_map(|network| [network.gateway, network.dns]);
        let others = self.name_servers.iter().copied().filter(|own| !self.is_first_name_server(*own));
        networks.chain(others).collect()
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
    pub fn speaker(&self, to: SocketAddr, from: Option<IpAddr>) -> Option<IpAddr> {
        let itself = matches!(self.place(to), Route::Remote(remote) if remote == to);
        from.filter(|from| itself && !is_the_host_itself(*from))
    }

    /// The destination of a packet to this address and port.
    pub fn place(&self, to: SocketAddr) -> Route {
        let loopback: IpAddr =
            if to.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let address = to.ip();
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

    /// As [`place`](Self::place), of a protocol without ports.
    pub fn place_of_address(&self, to: IpAddr) -> Route {
        self.place((to, 0).into())
    }
}

/// The faults of the command line and of the file. The seed of the command line takes precedence.
fn faults(
    mut rules: Vec<FaultRule>,
    file: Option<&Path>,
    seed: Option<u64>,
) -> anyhow::Result<(Vec<FaultRule>, u64)> {
    let mut of_file = None;
    if let Some(path) = file {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--inject-file: cannot read {shown}"))?;
        let (more, seed) =
            inject::read_file(&text).map_err(|error| anyhow::anyhow!("--inject-file {shown}: {error}"))?;
        rules.extend(more);
        of_file = seed;
    }
    Ok((rules, seed.or(of_file).unwrap_or(1)))
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
fn is_the_host_itself(address: IpAddr) -> bool {
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

/// The default networks of a program: the first that does not overlap with this host's. Private IPv4 networks are few,
/// and collide; IPv6 ones are chosen at random, and the well-known default stays.
const NETWORKS: [&str; 6] =
    ["10.0.2.0/24", "10.0.3.0/24", "10.171.2.0/24", "172.29.2.0/24", "192.168.202.0/24", "198.18.2.0/24"];
const NETWORK_V6: &str = "fd00::/64";

impl Network {
    /// The given network, or with `auto` one that does not overlap with a network of this host.
    fn chosen(text: &str, v6: bool) -> anyhow::Result<Self> {
        match text {
            "auto" if v6 => Self::parse(NETWORK_V6, v6),
            "auto" => Self::first_free(&NETWORKS, &host::networks::of_host()),
            named => Self::parse(named, v6),
        }
    }

    /// The first candidate that overlaps with none of `taken`; the first of all if each does.
    fn first_free(candidates: &[&str], taken: &[HostNetwork]) -> anyhow::Result<Self> {
        let mut networks =
            candidates.iter().map(|text| Self::parse(text, false)).collect::<Result<Vec<_>, _>>()?;
        let is_free = |network: &Self| {
            let own = HostNetwork { address: network.base, prefix: network.prefix };
            !taken.iter().any(|other| other.overlaps(&own))
        };
        let at = networks.iter().position(is_free).unwrap_or(0);
        Ok(networks.swap_remove(at))
    }

    /// Reads `10.0.2.0/24`, of this family.
    fn parse(text: &str, v6: bool) -> anyhow::Result<Self> {
        let example = if v6 { "fd00::/64" } else { "10.0.2.0/24" };
        let malformed =
            || format!("{text:?} is not a network of IPv{}, such as {example}", if v6 { 6 } else { 4 });
        let (address, prefix) = text.split_once('/').with_context(malformed)?;
        let address: IpAddr = address.parse().ok().with_context(malformed)?;
        let prefix: u8 = prefix.parse().ok().with_context(malformed)?;
        ensure!(address.is_ipv6() == v6, malformed());
        // Leaves room for the program's host number.
        let longest = if v6 { 119 } else { 25 };
        if prefix > longest || prefix < 8 {
            bail!("{text}: the prefix is out of range: choose from 8 to {longest}");
        }
        let at = |number| host_number(address, prefix, number);
        let network = Self {
            base: at(0),
            prefix,
            guest: at(if v6 { GUEST_V6 } else { GUEST_V4 }),
            gateway: at(GATEWAY),
            dns: at(DNS),
        };
        let usable = lastack_wire::ip::unicast(network.guest) && !is_the_host_itself(network.guest);
        ensure!(
            usable,
            "{text}: programs cannot have addresses there: choose a private network, such as {example}"
        );
        Ok(network)
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.base.is_ipv6() && host_number(address, self.prefix, 0) == self.base
    }
}

/// The name servers given by options, otherwise the host's.
fn whom_to_ask(named: &[IpAddr]) -> Vec<SocketAddr> {
    if named.is_empty() {
        return resolvers::of_host();
    }
    named.iter().map(|&address| (address, 53).into()).collect()
}

/// The addresses of `count` name servers, up to libc's maximum: the families alternate.
fn name_servers(networks: &[Network], count: usize) -> Vec<IpAddr> {
    let at = |number: usize| {
        let network = networks[number % networks.len()];
        host_number(network.base, network.prefix, DNS + (number / networks.len()) as u128)
    };
    (0..count.clamp(1, MAX_NAME_SERVERS)).map(at).collect()
}

/// The ports of `--map-localhost`, without duplicates.
fn mapped_ports(mut ports: Vec<u16>) -> anyhow::Result<Vec<u16>> {
    ports.sort_unstable();
    ports.dedup();
    let count = ports.len();
    ensure!(count <= MAX_MAPPED, "--map-localhost takes at most {MAX_MAPPED} ports, and there are {count}");
    Ok(ports)
}

/// Ensures that `-w` and `-o` name different files.
fn ensure_apart(write: &Path, output: &Path) -> anyhow::Result<()> {
    ensure!(
        !same_file(write, output),
        "-w and -o name the same file, {}: the capture and the report need one each",
        write.display()
    );
    Ok(())
}

/// Whether two paths lead to the same regular file, which exists or would be created, in any spelling or by links. A
/// device or a pipe may have several writers.
fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => match (place_of(one), place_of(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        _ => false,
    }
}

/// The location of a file that does not exist: its directory, with links resolved, and its name there.
fn place_of(path: &Path) -> Option<PathBuf> {
    // A dangling link: the file is created at its target.
    let path = match fs::read_link(path) {
        Ok(target) => path.parent()?.join(target),
        Err(_) => path.to_owned(),
    };
    let directory = match path.parent()? {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        directory => directory,
    };
    Some(directory.canonicalize().ok()?.join(path.file_name()?))
}

/// The address with this host number in the network of `address`.
fn host_number(address: IpAddr, prefix: u8, number: u128) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from((u32::from(v4) & mask) + number as u32).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from((u128::from(v6) & mask) + number).into()
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The plan of default options that `change` changes.
    pub fn plan(change: impl FnOnce(&mut Options)) -> anyhow::Result<Plan> {
        let mut options = Options::new(["true"]);
        change(&mut options);
        Plan::new(options)
    }

    #[test]
    fn the_addresses_are_the_ones_people_know() {
        let plan = plan(|_| {}).unwrap();
        let [v4, v6] = plan.networks[..] else { panic!("{plan:?}") };
        assert_eq!(
            [v4.guest, v4.gateway, v4.dns].map(|a| a.to_string()),
            ["10.0.2.100", "10.0.2.2", "10.0.2.3"]
        );
        assert_eq!(
            [v6.guest, v6.gateway, v6.dns].map(|a| a.to_string()),
            ["fd00::100", "fd00::2", "fd00::3"]
        );
        assert_eq!((v4.prefix, v6.prefix, plan.mtu), (24, 64, 65520));
    }

    #[test]
    fn a_network_of_the_host_is_none_of_the_programs() {
        let network = |address: &str, prefix| HostNetwork { address: address.parse().unwrap(), prefix };
        let first = |taken: &[HostNetwork]| Network::first_free(&NETWORKS, taken).unwrap().guest.to_string();
        assert_eq!(first(&[network("192.168.1.7", 24), network("fd00::7", 64)]), "10.0.2.100");
        assert_eq!(first(&[network("10.0.2.15", 24)]), "10.0.3.100");
        assert_eq!(first(&[network("10.0.0.0", 8)]), "172.29.2.100");
        // Nothing is free: what people know.
        assert_eq!(first(&[network("0.0.0.0", 1), network("128.0.0.0", 1)]), "10.0.2.100");
    }

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

    #[test]
    fn they_can_be_changed() {
        let plan = plan(|o| (o.net, o.ipv4) = ("192.168.77.9/24".to_owned(), true)).unwrap();
        let [network] = plan.networks[..] else { panic!("{plan:?}") };
        assert_eq!(
            (network.guest.to_string(), network.gateway.to_string()),
            ("192.168.77.100".to_owned(), "192.168.77.2".to_owned())
        );
        assert_eq!(plan.gateway(true), None);
    }

    #[test]
    fn impossible_plans_name_the_cure() {
        let fails = |change: fn(&mut Options), cure: &str| {
            let error = format!("{:#}", plan(change).unwrap_err());
            assert!(error.contains(cure), "{error}");
        };
        fails(|o| o.net = "10.0.2.0".to_owned(), "such as 10.0.2.0/24");
        fails(|o| o.net = "fd00::/64".to_owned(), "is not a network of IPv4");
        fails(|o| o.net = "10.0.2.0/30".to_owned(), "choose from 8 to 25");
        fails(|o| o.net = "127.0.0.0/8".to_owned(), "choose a private network");
        fails(|o| o.net6 = "ff02::/64".to_owned(), "choose a private network");
        fails(|o| o.mtu = 100, "choose from 1280 to 65535");
        fails(|o| o.write = Some("-".into()), "name a file");
        fails(|o| (o.write, o.output) = (Some("x".into()), Some("./x".into())), "the same file");
        fails(|o| (o.ipv4, o.ipv6) = (true, true), "IPv4 only and IPv6 only");
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
    fn who_means_nothing_to_the_program_does_not_speak() {
        let plan = plan(|o| o.host_loopback = true).unwrap();
        let speaker = |to: &str, from: &str| plan.speaker(to.parse().unwrap(), Some(from.parse().unwrap()));
        assert_eq!(speaker("192.0.2.7:80", "192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(speaker("192.0.2.7:80", "127.0.0.1"), None);
        assert_eq!(speaker("10.0.2.2:80", "127.0.0.1"), None);
        assert_eq!(speaker("10.0.2.3:53", "192.0.2.53"), None);
    }

    #[test]
    fn one_file_is_one_file_however_it_is_spelt() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        assert!(same_file(&at("x"), &at("./x")) && !same_file(&at("x"), &at("y")));
        fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink(at("x"), at("link")).unwrap();
        assert!(same_file(&at("x"), &at("d/../x")) && same_file(&at("x"), &at("link")));
        fs::write(at("x"), "").unwrap();
        fs::hard_link(at("x"), at("y")).unwrap();
        assert!(same_file(&at("x"), &at("link")) && same_file(&at("x"), &at("y")));
        assert!(!same_file(&at("x"), &at("z")) && !same_file(Path::new("/dev/null"), Path::new("/dev/null")));
        let error = plan(|options| {
            options.write = Some(at("x"));
            options.output = Some(at("./x"));
        });
        assert!(error.unwrap_err().to_string().contains("name the same file"));
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

    #[test]
    fn other_resolvers_replace_the_hosts() {
        let plan =
            plan(|o| o.dns = ["192.0.2.53", "2001:db8::53"].map(|a| a.parse().unwrap()).to_vec()).unwrap();
        assert_eq!(plan.resolvers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
    }
}
