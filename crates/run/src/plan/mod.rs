//! Turns the options into a plan that can be carried out, or into an error with the reason.

mod combinations;
mod faults;
mod files;
mod network;
mod route;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};

use crate::flight;
use crate::host::{self, Source, resolvers};
use crate::inject::FaultRule;
use crate::inward::Published;
use crate::live::Terminal;
use crate::namespace;
use crate::options::Options;
use crate::policy::Policy;
use crate::proxy::Proxy;
use crate::report;

pub use files::same_file;
pub use network::Network;
pub use route::Route;

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The place in which it runs, and how the run begins and ends.
    pub place: Place,
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
    /// The proxy as the way out.
    pub via: Option<Rc<Proxy>>,
    /// Where this host's sockets send from.
    pub source: Source,
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
    /// Addresses that stand for this host, but not for its loopback.
    pub host_at: Vec<IpAddr>,
    /// Addresses that stand for the name servers, outside of the program's networks or beside the usual ones.
    pub dns_at: Vec<IpAddr>,
    /// The program's user.
    pub identity: namespace::Identity,
    /// The program sees the processes of this host.
    pub host_pids: bool,
    /// The file of the capture.
    pub capture: Option<PathBuf>,
    /// The file of the HTML page.
    pub page: Option<PathBuf>,
    /// Where a table is shown while the program runs.
    pub live: Option<Terminal>,
    /// The recorder of the last packets.
    pub flight: Option<flight::Settings>,
    /// What is reported.
    pub report: report::Settings,
    /// The injected faults, and their seed.
    pub faults: (Vec<FaultRule>, u64),
    /// The destinations that the program may reach.
    pub policy: Policy,
    /// Ports of this host that are forwarded to ports on which the program listens.
    pub published: Vec<Published>,
}

/// Max ports of `--map-localhost`: their listeners are passed out of the namespace with one message.
const MAX_MAPPED: usize = 100;

/// The namespace of the program, and what tools need that start the run.
#[derive(Clone, Debug)]
pub struct Place {
    /// The network namespace to join.
    pub join: Option<namespace::Join>,
    /// The name of the program's interface.
    pub interface: String,
    /// The interface gets addresses and routes.
    pub configure: bool,
    /// The run goes on in the background.
    pub detach: bool,
    /// The descriptor that gets "1" when the network is ready.
    pub ready_fd: Option<RawFd>,
    /// The descriptor whose event ends the run.
    pub exit_fd: Option<RawFd>,
    /// The file of the process id.
    pub pid_file: Option<PathBuf>,
    /// The socket of requests to forward ports.
    pub api_socket: Option<PathBuf>,
}

impl Place {
    fn new(args: &Options) -> anyhow::Result<Self> {
        let join = args.join.as_deref().map(namespace::Join::new).transpose();
        let mut join = join.map_err(|error| anyhow::anyhow!("--join: {error}"))?;
        match (&mut join, &args.join_user) {
            (Some(join), user) => join.user = user.clone().or(join.user.take()),
            (None, Some(_)) => {
                bail!("--join-user names the user namespace of a network namespace: add --join")
            }
            (None, None) => {
                ensure!(!args.command.is_empty(), "name a program to run, or --join a network namespace")
            }
        }
        let length = args.interface.len();
        let fits = (1..=15).contains(&length) && !args.interface.contains(['/', ' ']);
        ensure!(
            fits,
            "--interface {:?} is not the name of an interface: up to 15 characters, such as tap0",
            args.interface
        );
        Ok(Self {
            join,
            interface: args.interface.clone(),
            configure: args.configure,
            detach: args.detach,
            ready_fd: args.ready_fd,
            exit_fd: args.exit_fd,
            pid_file: args.pid_file.clone(),
            api_socket: args.api_socket.clone(),
        })
    }
}

impl Plan {
    /// Whether anything that is written names processes. Without that none is looked up, which takes four system calls
    /// for each connection.
    pub fn names_processes(&self) -> bool {
        let captured =
            self.capture.is_some() || self.page.is_some() || self.flight.is_some() || self.live.is_some();
        captured || self.report.to != report::Destination::Nowhere
    }

    /// Makes the plan. `Err` names what is wrong with the options, and the cure.
    pub fn new(args: Options) -> anyhow::Result<Self> {
        let networks = networks(&args)?;
        let place = Place::new(&args)?;
        let least = if args.ipv4 { 576 } else { 1280 };
        ensure!(
            (least..=65_535).contains(&args.mtu),
            "--mtu {} is out of range: choose from {least} to 65535",
            args.mtu
        );
        let resolvers = whom_to_ask(&args.dns);
        let name_servers = network::name_servers(&networks, resolvers.len());
        let source = Source::new(&args.bind).map_err(|error| anyhow::anyhow!("--bind: {error}"))?;
        let via = args.via.as_deref().map(|text| Proxy::new(text).map(Rc::new)).transpose();
        let via = via.map_err(|error| anyhow::anyhow!("--via: {error}"))?;
        combinations::reject(&args, via.as_deref())?;
        let map_localhost = mapped_ports(args.map_localhost.clone())?;
        let report = report_settings(&args)?;
        let plan = Self {
            command: args.command,
            place,
            dns_at: args.dns_at,
            host_at: args.host_at,
            networks,
            resolvers,
            resolvers_fixed: !args.dns.is_empty(),
            name_servers,
            host_loopback: args.host_loopback,
            map_localhost,
            source,
            via,
            mtu: args.mtu,
            memory: args.memory,
            device: args.device,
            link_local: args.link_local,
            kill_rest: args.kill_rest,
            identity: args.identity,
            host_pids: args.host_pids,
            capture: args.write,
            page: args.html,
            live: args.live,
            flight: args
                .flight_recorder
                .map(|directory| flight::Settings { directory, memory: args.flight_memory }),
            report,
            faults: faults::all(args.inject, args.inject_file.as_deref(), args.seed)?,
            policy: args.policy,
            published: args.publish,
        };
        faults::reject_ineffective(&plan)?;
        Ok(plan)
    }

    /// The directories in which files are made or removed while the program runs.
    pub fn writes_in(&self) -> Vec<PathBuf> {
        let flight = self.flight.as_ref().map(|flight| flight.directory.clone());
        let api = self.place.api_socket.as_deref().and_then(|path| Some(path.parent()?.to_owned()));
        flight.into_iter().chain(api).collect()
    }

    /// The part of the plan that concerns the namespace.
    pub fn namespace(&self) -> namespace::Plan {
        let networks = self.networks.iter().map(|network| namespace::Network {
            address: network.guest,
            prefix: network.prefix,
            gateway: network.gateway,
            path_mtu: host::path_mtu(network.gateway.is_ipv6(), &self.source),
        });
        let mut plan = namespace::Plan::new(networks.collect());
        plan.device = self.device;
        plan.join = self.place.join.clone();
        plan.interface = self.place.interface.clone();
        plan.configure = self.place.configure;
        plan.identity = self.identity;
        plan.process_namespace = !self.host_pids;
        plan.kill_rest = self.kill_rest;
        plan.listeners = crate::localhost::listeners(&self.map_localhost);
        plan.mtu = self.mtu;
        plan.resolv_conf = Some(namespace::resolv_conf(&self.name_servers));
        plan
    }
}

/// The program's networks.
fn networks(args: &Options) -> anyhow::Result<Vec<Network>> {
    ensure!(!(args.ipv4 && args.ipv6), "IPv4 only and IPv6 only exclude each other: choose one");
    let mut networks = Vec::new();
    if !args.ipv6 {
        networks.push(Network::chosen(&args.net, false, args.host_loopback).context("--net")?);
    }
    if !args.ipv4 {
        networks.push(Network::chosen(&args.net6, true, args.host_loopback).context("--net6")?);
    }
    for (option, addresses, gateway) in
        [("--address", &args.address, false), ("--gateway", &args.gateway, true)]
    {
        for &address in addresses {
            let network = networks.iter_mut().find(|network| network.contains(address));
            let outside = || {
                format!("{option} {address} is not in the program's network: --net and --net6 choose that")
            };
            let network = network.with_context(outside)?;
            *(if gateway { &mut network.gateway } else { &mut network.guest }) = address;
        }
    }
    combinations::reject_shared_addresses(args, &networks)?;
    Ok(networks)
}

/// What is reported, and where.
fn report_settings(args: &Options) -> anyhow::Result<report::Settings> {
    let output = &args.output;
    let to = match output.clone() {
        _ if args.quiet => report::Destination::Nowhere,
        Some(file) => report::Destination::File(file),
        None => report::Destination::StandardError,
    };
    for (option, file) in [("-w", &args.write), ("-o", output)] {
        let taken = file.as_ref().is_some_and(|file| file.as_os_str() == "-");
        ensure!(!taken, "{option} -: standard output is the program's; name a file");
    }
    let detail = match args.verbose {
        _ if args.summary_only => report::Detail::Summary,
        0 => report::Detail::Error,
        1 => report::Detail::Connections,
        _ => report::Detail::All,
    };
    let fail_on = args.fail_on.clone();
    Ok(report::Settings { to, json: args.json, detail, open: args.open_lines, fail_on })
}

/// The name servers given by options, otherwise the host's.
fn whom_to_ask(named: &[IpAddr]) -> Vec<SocketAddr> {
    if named.is_empty() {
        return resolvers::of_host();
    }
    named.iter().map(|&address| (address, 53).into()).collect()
}

/// The ports of `--map-localhost`, without duplicates.
fn mapped_ports(mut ports: Vec<u16>) -> anyhow::Result<Vec<u16>> {
    ports.sort_unstable();
    ports.dedup();
    let count = ports.len();
    ensure!(count <= MAX_MAPPED, "--map-localhost takes at most {MAX_MAPPED} ports, got {count}");
    Ok(ports)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The plan of default options that `change` changes, on a host whose networks do not overlap with the program's.
    pub fn plan(change: impl FnOnce(&mut Options)) -> anyhow::Result<Plan> {
        let mut options = Options::new(["true"]);
        change(&mut options);
        let usual = |set: &mut String, network: &str| *set = set.replace("auto", network);
        if !options.ipv6 {
            usual(&mut options.net, "10.0.2.0/24");
        }
        if !options.ipv4 {
            usual(&mut options.net6, "fd00::/64");
        }
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

    #[test]
    fn a_fault_that_cannot_act_names_the_cure() {
        let with = |faults: &[&str], change: &dyn Fn(&mut Options)| {
            plan(|o| {
                o.inject = faults.iter().map(|fault| fault.parse().unwrap()).collect();
                change(o);
            })
            .map_err(|error| format!("{error:#}"))
        };
        let mapped = |o: &mut Options| o.map_localhost = vec![5432];
        type Change<'a> = &'a dyn Fn(&mut Options);
        let cases: [(&str, Change<'_>, &str); 13] = [
            ("refuse:to=[2001:db8::1]", &|o| o.ipv4 = true, "the program has IPv4 only"),
            ("refuse:to=192.0.2.0/24", &|o| o.ipv6 = true, "the program has IPv6 only"),
            ("blackhole:to=10.0.2.3", &|_| {}, "the kind dns acts on queries"),
            ("blackhole:to=10.0.2.3:port=53", &|_| {}, "the kind dns acts on queries"),
            ("blackhole:to=10.0.2.2,10.0.2.9", &|_| {}, "--net and --net6 choose another"),
            ("blackhole:to=10.0.2.2", &|_| {}, "--host-loopback"),
            ("rst:to=127.0.0.1", &|_| {}, "--map-localhost PORT maps"),
            ("rst:to=[::1]:port=80", &mapped, "at a port without --map-localhost"),
            ("corrupt=1%:to=127.0.0.1:port=5432", &mapped, "relayed between sockets"),
            ("rst:to=169.254.169.254", &|_| {}, "--link-local"),
            ("mtu-hole=1500", &|o| o.mtu = 1500, "choose fewer bytes"),
            ("rst", &|o| o.policy = Policy::new(vec![], vec![], true, false), "add --allow"),
            ("dns=timeout", &|o| o.policy = Policy::new(vec![], vec![], true, false), "add --allow"),
        ];
        for (fault, change, cure) in cases {
            let error = with(&[fault], change).unwrap_err();
            assert!(error.starts_with(&format!("--inject {fault} can never act: ")), "{error}");
            assert!(error.contains(cure), "{error}");
        }
        for fault in ["rst:to=127.0.0.1", "blackhole:to=127.0.0.1,192.0.2.7:port=5432", "rst:to=localhost"] {
            with(&[fault], &mapped).unwrap();
        }
        with(&["corrupt=1%:to=127.0.0.1"], &|o| o.host_loopback = true).unwrap();
        with(&["rst:to=127.0.0.1"], &|o| o.publish = vec!["8080".parse().unwrap()]).unwrap();
        with(&["rst", "blackhole:to=10.0.2.2,192.0.2.7"], &|_| {}).unwrap();
        with(&["rst"], &|o| o.policy = Policy::new(vec![], vec![], true, true)).unwrap();
        let error = with(&[], &|o| o.seed = Some(3)).unwrap_err();
        assert!(error.contains("--seed") && error.contains("add a fault"), "{error}");
    }

    #[test]
    fn other_resolvers_replace_the_hosts() {
        let plan =
            plan(|o| o.dns = ["192.0.2.53", "2001:db8::53"].map(|a| a.parse().unwrap()).to_vec()).unwrap();
        assert_eq!(plan.resolvers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
    }
}
