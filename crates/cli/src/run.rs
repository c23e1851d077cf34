//! `lastack run`: its options, and the call of the library that carries it out.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lastack_run::Options;
use lastack_run::namespace::{DeviceChoice, Identity};
use lastack_run::report::FailOn;

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

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Let the program reach this host's own 127.0.0.1 and ::1, at its gateway's addresses
    #[arg(long)]
    pub host_loopback: bool,

    /// Ask this server for names instead of the host's (repeatable)
    #[arg(short = 'D', long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,

    /// The program's IPv4 network: .2 is the gateway, .3 answers for names, .100 is the program
    #[arg(long, value_name = "NETWORK/PREFIX", default_value = "10.0.2.0/24")]
    pub net: String,

    /// The program's IPv6 network: ::2 is the gateway, ::3 answers for names, ::100 is the program
    #[arg(long, value_name = "NETWORK/PREFIX", default_value = "fd00::/64")]
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

impl From<RunArgs> for Options {
    fn from(args: RunArgs) -> Self {
        let RunArgs {
            write,
            output,
            verbose,
            json,
            summary_only,
            quiet,
            open_lines,
            fail_on,
            ipv4,
            ipv6,
            host_loopback,
            dns,
            net,
            net6,
            mtu,
            memory,
            device,
            kill_rest,
            map_root,
            host_root,
            host_pids,
            command,
        } = args;
        let identity = match (map_root, host_root) {
            (true, _) => Identity::Root,
            (_, true) => Identity::HostRoot,
            _ => Identity::Same,
        };
        Self {
            write,
            output,
            verbose,
            json,
            summary_only,
            quiet,
            open_lines,
            fail_on,
            ipv4,
            ipv6,
            host_loopback,
            dns,
            net,
            net6,
            mtu,
            memory,
            device,
            kill_rest,
            identity,
            host_pids,
            command,
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
