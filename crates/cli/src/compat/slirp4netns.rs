//! The command line of slirp4netns.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::{Translate, option};

/// Serve a network namespace with the command line of slirp4netns
///
/// Serves until the process of the namespace, or its file, is gone. The environment variable LASTACK_OPTIONS adds options
/// of `lastack run`, for example --json -o FILE for a report.
#[derive(Debug, Parser)]
#[command(name = "slirp4netns", version)]
pub struct SlirpArgs {
    /// Bring up the interface, with addresses and routes
    #[arg(short, long)]
    configure: bool,

    /// End when this file descriptor becomes readable, or is closed at its other end
    #[arg(short, long, value_name = "FD")]
    exit_fd: Option<i32>,

    /// Write "1" to this file descriptor once the network is ready
    #[arg(short, long, value_name = "FD")]
    ready_fd: Option<i32>,

    /// MTU of the interface
    #[arg(short, long, default_value_t = 1500)]
    mtu: u32,

    /// Use IPv6 as well
    #[arg(short = '6', long)]
    enable_ipv6: bool,

    /// Listen at this UNIX socket for requests to forward ports
    #[arg(short, long, value_name = "PATH")]
    api_socket: Option<PathBuf>,

    /// The IPv4 network
    #[arg(long, default_value = "10.0.2.0/24")]
    cidr: String,

    /// Do not let programs reach this host's loopback at the gateway's address
    #[arg(long)]
    disable_host_loopback: bool,

    /// What names the network namespace
    #[arg(long, value_enum, default_value = "pid")]
    netns_type: NetnsType,

    /// The user namespace to enter before
    #[arg(long, value_name = "PATH")]
    userns_path: Option<PathBuf>,

    /// Accepted: lastack always confines itself
    #[arg(long)]
    enable_sandbox: bool,

    /// Accepted: lastack always filters its system calls
    #[arg(long)]
    enable_seccomp: bool,

    /// Send from this IPv4 address or interface of this host
    #[arg(long, value_name = "IPv4|INTERFACE")]
    outbound_addr: Option<String>,

    /// Send from this IPv6 address or interface of this host, the same interface for both families
    #[arg(long, value_name = "IPv6|INTERFACE")]
    outbound_addr6: Option<String>,

    /// Not supported: names are always answered
    #[arg(long)]
    disable_dns: bool,

    /// Not supported: the kernel chooses the address of the interface
    #[arg(long, value_name = "MAC")]
    macaddress: Option<String>,

    /// The kind of target: netns
    #[arg(long, default_value = "netns")]
    target_type: String,

    /// The network namespace: a process id, or a path
    #[arg(value_name = "PID|PATH")]
    namespace: OsString,

    /// The name of the interface
    #[arg(default_value = "tap0")]
    tapname: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetnsType {
    Pid,
    Path,
}

impl Translate for SlirpArgs {
    fn words(self) -> Result<Vec<OsString>, String> {
        if self.target_type != "netns" {
            return Err(format!("--target-type={} is not supported: only netns is", self.target_type));
        }
        for (given, option, why) in [
            (self.disable_dns, "--disable-dns", "the name server at the .3 address always answers"),
            (self.macaddress.is_some(), "--macaddress", "the kernel chooses the address of the interface"),
        ] {
            if given {
                return Err(format!("{option} is not supported, because {why}: leave it out"));
            }
        }
        if self.netns_type == NetnsType::Pid
            && self.namespace.to_str().is_none_or(|text| text.parse::<u32>().is_err())
        {
            return Err(format!("{:?} is no process id: for a path add --netns-type=path", self.namespace));
        }
        let mut line = Vec::new();
        option(&mut line, "--join", self.namespace);
        option(&mut line, "--device", "tap");
        option(&mut line, "--interface", self.tapname);
        option(&mut line, "--mtu", self.mtu.to_string());
        option(&mut line, "--net", self.cidr);
        if self.enable_ipv6 {
            option(&mut line, "--net6", "fd00::/64");
        }
        let flags = [
            (!self.configure, "--no-configure"),
            (!self.enable_ipv6, "-4"),
            (!self.disable_host_loopback, "--host-loopback"),
        ];
        line.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.into()));
        let descriptors = [("--ready-fd", self.ready_fd), ("--exit-fd", self.exit_fd)];
        for (name, fd) in descriptors {
            if let Some(fd) = fd {
                option(&mut line, name, fd.to_string());
            }
        }
        for (name, path) in [("--api-socket", self.api_socket), ("--join-user", self.userns_path)] {
            if let Some(path) = path {
                option(&mut line, name, path);
            }
        }
        let mut sources: Vec<String> = self.outbound_addr.into_iter().chain(self.outbound_addr6).collect();
        sources.dedup();
        for source in sources {
            option(&mut line, "--bind", source);
        }
        Ok(line)
    }
}
