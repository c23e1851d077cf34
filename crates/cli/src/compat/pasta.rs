//! The command line of pasta.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

use super::{Translate, option};

/// Serve a network namespace, or run a program in one, with the command line of pasta
///
/// With PID, PATH or --netns it goes on in the background once the network is ready, until the process or the file is
/// gone. Addresses are those of `lastack run` unless --address names others; they are not copied from this host. The
/// environment variable LASTACK_OPTIONS adds options of `lastack run`, for example --json -o FILE for a report.
#[derive(Debug, Parser)]
#[command(name = "pasta", version, disable_help_flag = true)]
pub struct PastaArgs {
    /// Configure the interface with addresses and routes
    #[arg(long)]
    config_net: bool,

    /// Forward TCP ports of this host: none, auto, or [ADDRESS/]PORT[-LAST][:PORT[-LAST]],..
    #[arg(short = 't', long, value_name = "PORTS")]
    tcp_ports: Vec<String>,

    /// Forward UDP ports of this host, likewise
    #[arg(short = 'u', long, value_name = "PORTS")]
    udp_ports: Vec<String>,

    /// Map TCP ports of this host's loopback to the program's: none, auto (none), or PORT,..
    #[arg(short = 'T', long, value_name = "PORTS")]
    tcp_ns: Vec<String>,

    /// Map UDP ports likewise: only none and auto (none) are supported
    #[arg(short = 'U', long, value_name = "PORTS")]
    udp_ns: Vec<String>,

    /// Do not let programs reach this host's loopback at the gateway's address
    #[arg(long)]
    no_map_gw: bool,

    /// Answer DNS queries at this address
    #[arg(long, value_name = "ADDRESS")]
    dns_forward: Vec<IpAddr>,

    /// Let programs reach this host at this address, under the host's own address
    #[arg(long, value_name = "ADDRESS|none")]
    map_guest_addr: Vec<String>,

    /// The name servers to query
    #[arg(short = 'D', long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,

    /// Use IPv4 only
    #[arg(short = '4', long)]
    ipv4_only: bool,

    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6_only: bool,

    /// The program's address
    #[arg(short, long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,

    /// The length of its prefix
    #[arg(short = 'n', long, value_name = "BITS")]
    netmask: Option<u8>,

    /// The gateway
    #[arg(short, long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,

    /// MTU of the interface
    #[arg(short, long)]
    mtu: Option<u32>,

    /// The name of the interface
    #[arg(short = 'I', long, value_name = "NAME")]
    ns_ifname: Option<String>,

    /// Send from this address or interface of this host
    #[arg(short, long, value_name = "ADDRESS|INTERFACE")]
    outbound: Vec<String>,

    /// Send through this interface of this host
    #[arg(long, value_name = "INTERFACE")]
    outbound_if4: Option<String>,

    /// The network namespace
    #[arg(long, value_name = "PATH")]
    netns: Option<OsString>,

    /// The user namespace to enter before
    #[arg(long, value_name = "PATH")]
    userns: Option<PathBuf>,

    /// Accepted: the user namespace that owns the network namespace is entered if need be
    #[arg(long)]
    netns_only: bool,

    /// Write the process id to FILE
    #[arg(short = 'P', long, value_name = "FILE")]
    pid: Option<PathBuf>,

    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,

    /// Accepted: there is no output
    #[arg(short, long)]
    quiet: bool,

    /// Accepted: errors are printed
    #[arg(short = 'e', long)]
    stderr: bool,

    /// Accepted: a DHCP server, router advertisements and neighbour discovery are not needed
    #[arg(long = "no-dhcp", visible_aliases = ["no-dhcpv6", "no-ra", "no-ndp"], action = ArgAction::Count)]
    no_discovery: u8,

    /// Print help
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,

    /// A process id, the path of a network namespace, or a program and its arguments (default: a shell)
    #[arg(value_name = "PID|PATH|COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

impl Translate for PastaArgs {
    fn words(mut self) -> Result<Vec<OsString>, String> {
        let joined = match (self.netns.take(), &self.rest[..]) {
            (Some(path), []) => Some(path),
            (Some(path), _) => {
                return Err(format!("--netns {} and a program exclude each other", path.display()));
            }
            (None, [one]) if names_a_namespace(one) => Some(self.rest.remove(0)),
            (None, _) => None,
        };
        let mut line = Vec::new();
        if let Some(joined) = &joined {
            option(&mut line, "--join", joined);
        }
        self.interface(&mut line, joined.is_some());
        self.addresses(&mut line)?;
        self.ports(&mut line)?;
        if joined.is_none() {
            line.push("--".into());
            let shell = || vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
            line.extend(if self.rest.is_empty() { shell() } else { self.rest });
        }
        Ok(line)
    }
}

impl PastaArgs {
    fn interface(&self, line: &mut Vec<OsString>, joined: bool) {
        if let Some(name) = &self.ns_ifname {
            option(line, "--interface", name);
        }
        if let Some(mtu) = self.mtu {
            option(line, "--mtu", mtu.to_string());
        }
        if joined && !self.config_net {
            line.push("--no-configure".into());
        }
        if joined && !self.foreground {
            line.push("--detach".into());
        }
        for (name, path) in [("--pid", &self.pid), ("--join-user", &self.userns)] {
            if let Some(path) = path {
                option(line, name, path);
            }
        }
        if !self.no_map_gw {
            line.push("--host-loopback".into());
        }
    }

    fn addresses(&self, line: &mut Vec<OsString>) -> Result<(), String> {
        for v6 in [false, true] {
            let of_family =
                |all: &[IpAddr]| all.iter().copied().filter(|a| a.is_ipv6() == v6).collect::<Vec<_>>();
            let (addresses, gateways) = (of_family(&self.address), of_family(&self.gateway));
            if addresses.len() > 1 || gateways.len() > 1 {
                return Err("--address and --gateway: one of each family is supported".to_owned());
            }
            if let Some(address) = addresses.first() {
                let prefix = self.netmask.filter(|_| !v6).unwrap_or(if v6 { 64 } else { 24 });
                option(line, if v6 { "--net6" } else { "--net" }, format!("{address}/{prefix}"));
                option(line, "--address", address.to_string());
            }
            if let Some(gateway) = gateways.first() {
                option(line, "--gateway", gateway.to_string());
            }
        }
        let flags = [(self.ipv4_only, "-4"), (self.ipv6_only, "-6")];
        line.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.into()));
        for address in &self.dns_forward {
            option(line, "--dns-at", address.to_string());
        }
        for address in self.map_guest_addr.iter().filter(|address| *address != "none") {
            option(line, "--host-at", address);
        }
        for address in &self.dns {
            option(line, "--dns", address.to_string());
        }
        for source in self.outbound.iter().chain(&self.outbound_if4) {
            option(line, "--bind", source);
        }
        Ok(())
    }

    fn ports(&self, line: &mut Vec<OsString>) -> Result<(), String> {
        for (protocol, specifications) in [("", &self.tcp_ports), ("/udp", &self.udp_ports)] {
            for published in specifications.iter().map(|text| published(text)) {
                for port in published? {
                    option(line, "-p", format!("{port}{protocol}"));
                }
            }
        }
        if let Some(other) = self.udp_ns.iter().find(|ports| !matches!(ports.as_str(), "none" | "auto")) {
            return Err(format!(
                "-U {other}: UDP ports of this host's loopback are not mapped: leave it out"
            ));
        }
        for ports in self.tcp_ns.iter().filter(|ports| !matches!(ports.as_str(), "none" | "auto")) {
            option(line, "--map-localhost", ports);
        }
        Ok(())
    }
}

fn names_a_namespace(word: &OsString) -> bool {
    word.to_str().is_some_and(|text| {
        text.parse::<u32>().is_ok()
            || text.starts_with("/proc/")
            || text.starts_with("/run/netns/")
            || text.starts_with("/var/run/netns/")
    })
}

/// The ports of `-t` or `-u` in the words of `-p`.
fn published(text: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        format!(
            "{text:?} is not supported: the ports are none, auto, or [ADDRESS/]PORT[-LAST][:PORT[-LAST]],.."
        )
    };
    let (address, ports) = match text.split_once('/') {
        Some((address, ports)) => {
            let address = address.split('%').next().unwrap_or(address);
            (address.parse::<IpAddr>().map_err(|_| wrong())?, ports)
        }
        // pasta listens on all addresses.
        None => (IpAddr::from([0, 0, 0, 0]), text),
    };
    let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    match ports {
        "none" => return Ok(Vec::new()),
        "auto" => return Ok(vec![format!("{address}:auto")]),
        _ => {}
    }
    let range = |text: &str| -> Result<(u16, u16), String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last { Err(wrong()) } else { Ok((first, last)) }
    };
    let mut all = Vec::new();
    for one in ports.split(',') {
        let (outside, inside) = one.split_once(':').unwrap_or((one, one));
        let (outside, inside) = (range(outside)?, range(inside)?);
        if outside.1 - outside.0 != inside.1 - inside.0 {
            return Err(wrong());
        }
        let pairs = (outside.0..=outside.1).zip(inside.0..=inside.1);
        all.extend(pairs.map(|(outside, inside)| format!("{address}:{outside}:{inside}")));
    }
    Ok(all)
}
