//! What a run is asked to be.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::inject::FaultRule;
use crate::inward::Published;
use crate::namespace::{DeviceChoice, Identity};
use crate::policy::Policy;
use crate::report::FailOn;

/// The options of a run, as [`main`](crate::main) takes them. [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write every packet to FILE (pcapng), each with what became of it
    pub write: Option<PathBuf>,

    /// Write the connections with their sequence diagrams to this file, as a page of HTML
    pub html: Option<PathBuf>,

    /// Write the report to FILE, line by line, instead of standard error
    pub output: Option<PathBuf>,

    /// 1: report every connection, not only those that somebody may want to know of; 2: questions for names, too
    pub verbose: u8,

    /// Report as JSON lines, every connection and a summary; docs/report.md says what they hold
    pub json: bool,

    /// Report the summary only
    pub summary_only: bool,

    /// No report at all
    pub quiet: bool,

    /// In JSON, a line for each connection that begins
    pub open_lines: bool,

    /// End with status 1, if the program ends with 0, when a connection ended like this
    pub fail_on: Vec<FailOn>,

    /// Ports of this host that lead to ports at which the program listens
    pub publish: Vec<Published>,

    /// Faults that happen to connections
    pub inject: Vec<FaultRule>,

    /// More of them, in a file
    pub inject_file: Option<PathBuf>,

    /// Where the chance of faults begins
    pub seed: Option<u64>,

    /// What the program may reach
    pub policy: Policy,

    /// IPv4 only
    pub ipv4: bool,

    /// IPv6 only
    pub ipv6: bool,

    /// Let the program reach this host's own 127.0.0.1 and ::1, at its gateway's addresses
    pub host_loopback: bool,

    /// Let the program reach these ports of this host's loopback under their own name: 127.0.0.1, ::1 and localhost
    pub map_localhost: Vec<u16>,

    /// Ask this server for names instead of the host's (repeatable)
    pub dns: Vec<IpAddr>,

    /// The program's IPv4 network: .2 is the gateway, .3 answers for names, .100 is the program; auto is 10.0.2.0/24, or
    /// another where this host's own networks overlap
    pub net: String,

    /// The program's IPv6 network: ::2 is the gateway, ::3 answers for names, ::100 is the program; auto is fd00::/64
    pub net6: String,

    /// The largest packet between the program and lastack; the largest is the fastest
    pub mtu: u32,

    /// Hold no more MIB than this for all connections that wait for one side to read, but for a little for each
    pub memory: u16,

    /// Carry the packets by this kind of device: auto, tun or veth
    pub device: DeviceChoice,

    /// Let the program reach link-local addresses, and with them the metadata service of a cloud (169.254.169.254)
    pub link_local: bool,

    /// End what the program leaves running when it ends, instead of waiting for it
    pub kill_rest: bool,

    /// Who the program is
    pub identity: Identity,

    /// Let the program see this host's processes, and have process ids of this host
    pub host_pids: bool,

    /// The program, and its arguments
    pub command: Vec<OsString>,
}

impl Options {
    /// Defaults, for this program and its arguments.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            write: None,
            html: None,
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
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}
