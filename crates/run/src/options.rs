//! The options of a run.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::inject::FaultRule;
use crate::inward::Published;
use crate::live::Terminal;
use crate::namespace::{DeviceChoice, INTERFACE, Identity};
use crate::policy::Policy;
use crate::report::FailOn;

/// The options of a run, as [`main`](crate::main) takes them. [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write every packet to FILE (pcapng), with a comment on its outcome
    pub write: Option<PathBuf>,

    /// Write the connections with their sequence diagrams to this file, as a self-contained HTML page
    pub html: Option<PathBuf>,

    /// Keep the last packets of each connection in memory, and write a capture to this directory for each that ended
    /// badly
    pub flight_recorder: Option<PathBuf>,

    /// Limit of the packets kept for that, in MiB
    pub flight_memory: u16,

    /// Show a table of the connections on a terminal while the program runs
    pub live: Option<Terminal>,

    /// Write the report to FILE, line by line, instead of standard error
    pub output: Option<PathBuf>,

    /// 1: report every connection, not only those that ended badly; 2: DNS queries, too
    pub verbose: u8,

    /// Report as JSON lines: every connection and a summary (format: docs/report.md)
    pub json: bool,

    /// Report the summary only
    pub summary_only: bool,

    /// Do not report anything
    pub quiet: bool,

    /// In JSON, write a line for each connection when it is opened
    pub open_lines: bool,

    /// Exit with status 1, if the program exits with 0, when a connection ended like this
    pub fail_on: Vec<FailOn>,

    /// Ports of this host that are forwarded to ports on which the program listens
    pub publish: Vec<Published>,

    /// Faults to inject
    pub inject: Vec<FaultRule>,

    /// More of them, from a file
    pub inject_file: Option<PathBuf>,

    /// Seed of the random faults
    pub seed: Option<u64>,

    /// The destinations that the program may reach
    pub policy: Policy,

    /// Use IPv4 only
    pub ipv4: bool,

    /// Use IPv6 only
    pub ipv6: bool,

    /// Let the program reach this host's loopback (127.0.0.1 and ::1) at its gateway's addresses
    pub host_loopback: bool,

    /// Let the program reach these TCP ports of this host's loopback at its own 127.0.0.1, ::1 and localhost
    pub map_localhost: Vec<u16>,

    /// The proxy that carries everything except the host's loopback: socks5://, socks5h:// or http://
    pub via: Option<String>,

    /// Addresses or the interface of this host from which to send, instead of those of its routes
    pub bind: Vec<String>,

    /// Name servers to use instead of the host's
    pub dns: Vec<IpAddr>,

    /// The program's IPv4 network: .2 is the gateway, .3 the name server, .100 the program; auto is 10.0.2.0/24, or
    /// another one if that overlaps with this host's networks
    pub net: String,

    /// The program's IPv6 network: ::2 is the gateway, ::3 the name server, ::100 the program; auto is fd00::/64, or
    /// without --host-loopback another one if that overlaps with this host's networks
    pub net6: String,

    /// MTU of the program's interface; a larger one is faster
    pub mtu: u32,

    /// Limit of relay buffers in MiB, in total (plus a small minimum per connection)
    pub memory: u16,

    /// Type of the program's network device: auto, tun or veth
    pub device: DeviceChoice,

    /// Let the program reach link-local addresses, including cloud metadata services (169.254.169.254)
    pub link_local: bool,

    /// Kill the program's remaining child processes when it ends, instead of waiting for them
    pub kill_rest: bool,

    /// The program's user
    pub identity: Identity,

    /// Let the program see this host's processes, and use this host's process ids
    pub host_pids: bool,

    /// The network namespace to join, instead of a new one: a process id, or a path
    pub join: Option<String>,

    /// The user namespace to enter before; by default the one that owns the network namespace
    pub join_user: Option<PathBuf>,

    /// The name of the program's interface
    pub interface: String,

    /// Bring the interface up with addresses and routes; otherwise the caller does that
    pub configure: bool,

    /// The program's addresses, instead of the usual ones; at most one of each family
    pub address: Vec<IpAddr>,

    /// The gateway's addresses, likewise
    pub gateway: Vec<IpAddr>,

    /// Addresses at which the program reaches this host's services, except those on the loopback
    pub host_at: Vec<IpAddr>,

    /// More addresses in the program's network that stand for this host's name servers
    pub dns_at: Vec<IpAddr>,

    /// Go on in the background once the network is ready
    pub detach: bool,

    /// Write "1" to this descriptor once the network is ready
    pub ready_fd: Option<RawFd>,

    /// End when this descriptor becomes readable or is closed at its other end
    pub exit_fd: Option<RawFd>,

    /// Write the process id to this file once the network is ready
    pub pid_file: Option<PathBuf>,

    /// The socket of requests to forward ports, in the format of slirp4netns
    pub api_socket: Option<PathBuf>,

    /// The program and its arguments; may be empty if a network namespace is joined
    pub command: Vec<OsString>,
}

impl Options {
    /// Default options for this program and its arguments.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            write: None,
            html: None,
            live: None,
            flight_recorder: None,
            flight_memory: 32,
            output: None,
            verbose: 0,
            json: false,
            summary_only: false,
            quiet: false,
            open_lines: false,
            fail_on: Vec::new(),
            publish: Vec::new(),
            inject: Vec::new(),
            inject_file: None,
            seed: None,
            policy: Policy::default(),
            ipv4: false,
            ipv6: false,
            host_loopback: false,
            map_localhost: Vec::new(),
            via: None,
            bind: Vec::new(),
            dns: Vec::new(),
            net: "auto".to_owned(),
            net6: "auto".to_owned(),
            mtu: 65_520,
            memory: 256,
            device: DeviceChoice::Auto,
            link_local: false,
            kill_rest: false,
            identity: Identity::Same,
            host_pids: false,
            join: None,
            join_user: None,
            interface: INTERFACE.to_owned(),
            configure: true,
            address: Vec::new(),
            gateway: Vec::new(),
            host_at: Vec::new(),
            dns_at: Vec::new(),
            detach: false,
            ready_fd: None,
            exit_fd: None,
            pid_file: None,
            api_socket: None,
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}
