//! `lastack run`: its options, and the call of the library that carries it out.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lastack_run::inject::{self, FaultRule};
use lastack_run::namespace::{DeviceChoice, Identity};
use lastack_run::report::FailOn;
use lastack_run::{Destinations, Options, Policy, Published};

/// Run a program in a network of its own, and see how each of its connections ended
///
/// The program is unmodified and needs no root; lastack carries its packets.
///
/// TCP, UDP and ping to anywhere work over IPv4 and IPv6, and names resolve. What the remote or the network says reaches
/// the program as it was said: refused is refused, unreachable is unreachable, silence is silence, FIN is FIN and RST is
/// RST.
///
/// Inside, the program is 10.0.2.100 and fd00::100; 10.0.2.2 and fd00::2 are its gateway, 10.0.2.3 and fd00::3 answer
/// for names.
///
/// The report comes on standard error when the program has ended. The exit status is the program's, and a signal that
/// ended it is raised again; 125 is a failure of lastack, 126 a program that cannot be run, 127 one that does not exist.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// Write every packet to FILE (pcapng), with a comment on its outcome
    #[arg(short, long, value_name = "FILE", visible_alias = "pcap")]
    pub write: Option<PathBuf>,

    /// Write the connections with their sequence diagrams to FILE, as a page of HTML that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write the report to FILE, line by line, instead of standard error
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Report every connection, with its local port, path and rule; twice: questions for names, too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Report as JSON lines, every connection and a summary; docs/report.md says what they hold
    #[arg(long)]
    pub json: bool,

    /// Report the summary only
    #[arg(short = 'c', long)]
    pub summary_only: bool,

    /// No report at all
    #[arg(short, long, visible_alias = "no-report", conflicts_with_all = ["output", "verbose", "json", "summary_only"])]
    pub quiet: bool,

    /// With --json, a line for each connection that begins, too
    #[arg(long, requires = "json")]
    pub open_lines: bool,

    /// End with status 1 (unless the program fails by itself) when a connection ended like this: harmful, suspicious, or
    /// a cause or outcome such as refused, reset, timed-out (repeatable, or with commas)
    #[arg(long, value_name = "CAUSE", value_delimiter = ',')]
    pub fail_on: Vec<FailOn>,

    /// Let a port of this host lead to one at which the program listens: [ADDRESS:]HOSTPORT[:PORT], at this host's loopback
    /// without ADDRESS; "auto": every port at which the program listens (repeatable)
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<Published>,

    /// Make a fault happen to connections: KIND[=VALUE][:KEY=VALUE..], repeatable; "help" explains them
    #[arg(long, value_name = "FAULT", value_parser = fault, help_heading = "Faults on demand")]
    pub inject: Vec<FaultRule>,

    /// More faults, in a file (TOML)
    #[arg(long, value_name = "FILE", help_heading = "Faults on demand")]
    pub inject_file: Option<PathBuf>,

    /// Where the chance of faults begins: the same seed hits the same packets
    #[arg(long, value_name = "NUMBER", help_heading = "Faults on demand")]
    pub seed: Option<u64>,

    /// Let the program reach this, and nothing else unless it is allowed too or something is denied:
    /// TARGET[:PORT,..][/tcp|/udp], where TARGET is an address, a network, a name, *.NAME or all (repeatable)
    #[arg(long, value_name = "DESTINATION", help_heading = "Policy")]
    pub allow: Vec<Destinations>,

    /// Deny this with ICMP "administratively prohibited"; of two rules the narrower one counts (repeatable)
    #[arg(long, value_name = "DESTINATION", help_heading = "Policy")]
    pub deny: Vec<Destinations>,

    /// Deny everything that is not allowed, names too
    #[arg(long, help_heading = "Policy")]
    pub offline: bool,

    /// Deny nothing, and report what would be denied
    #[arg(long, help_heading = "Policy")]
    pub log_only: bool,

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Let the program reach this host's own 127.0.0.1 and ::1, at its gateway's addresses
    #[arg(long)]
    pub host_loopback: bool,

    /// Let the program reach these TCP ports of this host's loopback under their own name: 127.0.0.1, ::1 and localhost
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub map_localhost: Vec<u16>,

    /// Ask this server for names instead of the host's (repeatable)
    #[arg(short = 'D', long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,

    /// The program's IPv4 network: .2 is the gateway, .3 answers for names, .100 is the program; auto is 10.0.2.0/24, or
    /// another where this host's own networks overlap
    #[arg(long, value_name = "NETWORK/PREFIX", default_value = "auto")]
    pub net: String,

    /// The program's IPv6 network: ::2 is the gateway, ::3 answers for names, ::100 is the program; auto is fd00::/64
    #[arg(long, value_name = "NETWORK/PREFIX", default_value = "auto")]
    pub net6: String,

    /// The largest packet between the program and lastack; the largest is the fastest
    #[arg(short, long, value_name = "OCTETS", default_value_t = 65520)]
    pub mtu: u32,

    /// Hold no more MIB than this for all connections that wait for one side to read, but for a little for each
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub memory: u16,

    /// Carry the packets by this kind of device: auto, tun or veth
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,

    /// Let the program reach link-local addresses, and with them the metadata service of a cloud (169.254.169.254)
    #[arg(long)]
    pub link_local: bool,

    /// End what the program leaves running when it ends, instead of waiting for it
    #[arg(long)]
    pub kill_rest: bool,

    /// Make the program root in its own namespaces, also for a user; other users exist as /etc/subuid allows
    #[arg(long)]
    pub map_root: bool,

    /// If root runs it, leave the program root's rights over this host; it can leave its network then
    #[arg(long, conflicts_with = "map_root")]
    pub host_root: bool,

    /// Let the program see this host's processes, and have process ids of this host
    #[arg(long)]
    pub host_pids: bool,

    /// The program, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the program, and ends as it does.
pub fn main(args: RunArgs) -> ExitCode {
    lastack_run::main(args.into())
}

/// A fault; `help` explains them all, and that is all that is asked for.
fn fault(text: &str) -> Result<FaultRule, String> {
    if text == "help" {
        anstream::print!("{}", inject::help());
        std::process::exit(0);
    }
    text.parse()
}

impl From<RunArgs> for Options {
    fn from(args: RunArgs) -> Self {
        let identity = match (args.map_root, args.host_root) {
            (true, _) => Identity::Root,
            (_, true) => Identity::HostRoot,
            _ => Identity::Same,
        };
        Self {
            write: args.write,
            html: args.html,
            output: args.output,
            verbose: args.verbose,
            json: args.json,
            summary_only: args.summary_only,
            quiet: args.quiet,
            open_lines: args.open_lines,
            fail_on: args.fail_on,
            publish: args.publish,
            inject: args.inject,
            inject_file: args.inject_file,
            seed: args.seed,
            policy: Policy::new(args.allow, args.deny, args.offline, args.log_only),
            ipv4: args.ipv4,
            ipv6: args.ipv6,
            host_loopback: args.host_loopback,
            map_localhost: args.map_localhost,
            dns: args.dns,
            net: args.net,
            net6: args.net6,
            mtu: args.mtu,
            memory: args.memory,
            device: args.device,
            link_local: args.link_local,
            kill_rest: args.kill_rest,
            identity,
            host_pids: args.host_pids,
            command: args.command,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  lastack run curl https://example.org/      what became of curl's connections
  lastack run -v -w out.pcapng -- make test  every connection, and a capture
  lastack run --json -o ends.jsonl ./server  one JSON object a line
  lastack run --host-loopback -- curl http://10.0.2.2:8080/
                                             a server on this host's loopback";
