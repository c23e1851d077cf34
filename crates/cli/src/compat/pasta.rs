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

    /// Map TCP ports of this host's loopback to the program's: none, auto (those that listen now), or PORT[-LAST],..
    #[arg(short = 'T', long, value_name = "PORTS")]
    tcp_ns: Vec<String>,

    /// Map UDP ports likewise: only none and auto (none) are supported
    #[arg(short = 'U', long, value_name = "PORTS")]
    udp_ns: Vec<String>,

    /// Do not let programs reach this host's loopback at the gateway's address
    #[arg(long)]
    no_map_gw: bool,

    /// Let programs reach this host's loopback at the gateway's address (gateway), or not (none)
    #[arg(long, value_name = "gateway|none")]
    map_host_loopback: Option<String>,

    /// Deny TCP
    #[arg(long)]
    no_tcp: bool,

    /// Deny UDP
    #[arg(long)]
    no_udp: bool,

    /// Not supported: pings are always answered
    #[arg(long)]
    no_icmp: bool,

    /// Answer DNS queries at this address
    #[arg(long, value_name = "ADDRESS")]
    dns_forward: Vec<IpAddr>,

    /// Let programs reach this host at this address, under the host's own address
    #[arg(long, value_name = "ADDRESS|none")]
    map_guest_addr: Vec<String>,

    /// The name servers to query
    #[arg(short = 'D', long, value_name = "ADDRESS|none")]
    dns: Vec<String>,

    /// Use IPv4 only
    #[arg(short = '4', long)]
    ipv4_only: bool,

    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6_only: bool,

    /// The program's address
    #[arg(short, long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,

    /// The length of its prefix, or its mask
    #[arg(short = 'n', long, value_name = "BITS|MASK", value_parser = prefix)]
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

    /// Send through this interface of this host, the same one for both families
    #[arg(long, value_name = "INTERFACE")]
    outbound_if6: Option<String>,

    /// Write every packet to FILE, as pcapng
    #[arg(short = 'p', long, value_name = "FILE")]
    pcap: Option<PathBuf>,

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

    /// Accepted: names of a DHCP server, which is not needed
    #[arg(long, visible_aliases = ["no-dhcp-dns", "dhcp-search", "no-dhcp-search"], action = ArgAction::Count)]
    dhcp_dns: u8,

    /// Accepted: addresses and routes are never copied from this host
    #[arg(long, visible_alias = "no-copy-addrs", action = ArgAction::Count)]
    no_copy_routes: u8,

    /// Accepted: addresses and routes are not those of an interface of this host
    #[arg(short = 'i', long, value_name = "NAME")]
    interface: Option<String>,

    /// Accepted: packets have no Ethernet headers
    #[arg(short = 'M', long, visible_alias = "ns-mac-addr", value_name = "MAC", action = ArgAction::Append)]
    mac_addr: Vec<String>,

    /// Accepted: a search list is that of this host's resolv.conf
    #[arg(short = 'S', long, value_name = "LIST", action = ArgAction::Append)]
    search: Vec<String>,

    /// Accepted: lastack gives up its rights, and stays the user that started it
    #[arg(long, value_name = "UID[:GID]")]
    runas: Option<String>,

    /// Accepted: errors are printed on standard error, others go to the report (LASTACK_OPTIONS)
    #[arg(short, long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Accepted: there is no log
    #[arg(long, value_name = "BYTES")]
    log_size: Option<u64>,

    /// Accepted: there is no log
    #[arg(short, long, visible_alias = "trace", action = ArgAction::Count)]
    debug: u8,

    /// Not supported: the end of the namespace's file ends the service
    #[arg(long)]
    no_netns_quit: bool,

    /// Not supported: lastack opens the interface itself
    #[arg(short = 'F', long, value_name = "FD")]
    fd: Option<i32>,

    /// Print help
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,

    /// A process id, the path of a network namespace, or a program and its arguments (default: a shell)
    #[arg(value_name = "PID|PATH|COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

impl Translate for PastaArgs {
    fn words(mut self) -> Result<Vec<OsString>, String> {
        self.check()?;
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
    /// Rejects what would have no effect, or another one.
    fn check(&self) -> Result<(), String> {
        let unsupported = [
            (self.no_icmp, "--no-icmp"),
            (self.no_netns_quit, "--no-netns-quit"),
            (self.fd.is_some(), "--fd"),
        ];
        if let Some((_, option)) = unsupported.into_iter().find(|(set, _)| *set) {
            return Err(format!("{option} is not supported: leave it out"));
        }
        match self.map_host_loopback.as_deref() {
            None | Some("none" | "gateway") => Ok(()),
            Some(address) => Err(format!(
                "--map-host-loopback {address}: this host's loopback is at the gateway's address, or nowhere: write gateway or none"
            )),
        }
    }

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
        if let Some(file) = &self.pcap {
            option(line, "--write", file);
        }
        for (_, all) in
            [(self.no_tcp, "all/tcp"), (self.no_udp, "all/udp")].into_iter().filter(|(set, _)| *set)
        {
            option(line, "--deny", all);
        }
        let to_gateway = match self.map_host_loopback.as_deref() {
            Some(to) => to == "gateway",
            None => !self.no_map_gw,
        };
        if to_gateway {
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
        for address in self.dns.iter().filter(|address| *address != "none") {
            option(line, "--dns", address);
        }
        let mut sources: Vec<&String> =
            self.outbound.iter().chain(&self.outbound_if4).chain(&self.outbound_if6).collect();
        sources.dedup();
        for source in sources {
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
        for ports in self.tcp_ns.iter().filter(|ports| *ports != "none") {
            let ports = if ports == "auto" { listening() } else { mapped(ports)? };
            if !ports.is_empty() {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                option(line, "--map-localhost", ports.join(","));
            }
        }
        Ok(())
    }
}

/// The ports of `-T`.
fn mapped(text: &str) -> Result<Vec<u16>, String> {
    let wrong = || {
        format!(
            "-T {text:?} is not supported: the ports are none, auto, or PORT[-LAST],.. under the same number"
        )
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let mut all = Vec::new();
    for one in text.split(',') {
        let (first, last) = one.split_once('-').unwrap_or((one, one));
        let range = port(first)?..=port(last)?;
        if range.is_empty() {
            return Err(wrong());
        }
        all.extend(range);
    }
    Ok(all)
}

/// The ports at which this host listens on its loopback, at 127.0.0.1, ::1 or all addresses.
fn listening() -> Vec<u16> {
    let lists = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|list| std::fs::read_to_string(list).unwrap_or_default());
    let mut ports: Vec<u16> = lists.iter().flat_map(|list| list.lines()).filter_map(listening_port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The port of a line of /proc/net/tcp, if the socket listens (state 0A) on the loopback or on all addresses.
fn listening_port(line: &str) -> Option<u16> {
    const LISTEN: &str = "0A";
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let loopback = [u32::from_ne_bytes([127, 0, 0, 1]), u32::from_ne_bytes([0, 0, 0, 1])];
    let loopback = [format!("{:08X}", loopback[0]), format!("{:024}{:08X}", 0, loopback[1])];
    let here = address.bytes().all(|digit| digit == b'0') || loopback.iter().any(|known| known == address);
    (words.nth(1)? == LISTEN && here).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

/// `24` or `255.255.255.0`.
fn prefix(text: &str) -> Result<u8, String> {
    let wrong = || format!("{text:?} is neither a length such as 24 nor a mask such as 255.255.255.0");
    if let Ok(bits) = text.parse::<u8>() {
        return if bits <= 128 { Ok(bits) } else { Err(wrong()) };
    }
    let mask = u32::from(text.parse::<std::net::Ipv4Addr>().map_err(|_| wrong())?);
    let bits = mask.leading_ones();
    if mask.count_ones() == bits { Ok(bits as u8) } else { Err(wrong()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_listen_on_the_loopback_are_found() {
        let socket = |at: &str| std::net::TcpListener::bind(at).unwrap();
        let (here, everywhere, six) = (socket("127.0.0.1:0"), socket("0.0.0.0:0"), socket("[::1]:0"));
        let connected = std::net::TcpStream::connect(here.local_addr().unwrap()).unwrap();
        let ports = listening();
        let found = |at: std::net::SocketAddr| ports.contains(&at.port());
        for listener in [here, everywhere, six] {
            assert!(found(listener.local_addr().unwrap()), "{listener:?} {ports:?}");
        }
        assert!(!found(connected.local_addr().unwrap()), "{ports:?}");
    }

    #[test]
    fn masks_are_lengths() {
        assert_eq!((prefix("24"), prefix("255.255.240.0")), (Ok(24), Ok(20)));
        for wrong in ["255.0.255.0", "129", "x"] {
            assert!(prefix(wrong).unwrap_err().contains("255.255.255.0"), "{wrong}");
        }
    }
}
