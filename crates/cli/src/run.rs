//! `lastack run`: its options, and the call of the library that implements it.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lastack_run::inject::{self, FaultRule};
use lastack_run::namespace::{DeviceChoice, INTERFACE, Identity};
use lastack_run::report::FailOn;
use lastack_run::{Destinations, Options, Policy, Published, Terminal};

/// Run a program in its own network namespace, and report how each of its connections ended
///
/// The program runs unmodified and without root; lastack relays its packets.
///
/// TCP, UDP, ping and name resolution work over IPv4 and IPv6. The program sees what the remote or the network reports:
/// a refusal as a refusal, an unreachable destination as unreachable, a FIN as a FIN, a RST as a RST, and no answer as
/// no answer.
///
/// The program's addresses are 10.0.2.100 and fd00::100, its gateway is 10.0.2.2 and fd00::2, its name server is
/// 10.0.2.3 and fd00::3.
///
/// The report is written to standard error when the program has ended. The exit status is the program's; if a signal
/// killed the program, lastack dies of the same signal. Status 125: lastack failed; 126: the program cannot be run;
/// 127: the program does not exist.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// Write every packet to FILE (pcapng), with a comment on its outcome
    #[arg(short, long, value_name = "FILE", visible_alias = "pcap", help_heading = "Report")]
    pub write: Option<PathBuf>,

    /// Write the connections with their sequence diagrams to FILE, as a self-contained HTML page
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub html: Option<PathBuf>,

    /// Keep the last packets of each connection in memory, and write a capture (pcapng) to DIR for each that ended badly,
    /// with the cause in its name and comments
    #[arg(long, value_name = "DIR", help_heading = "Report")]
    pub flight_recorder: Option<PathBuf>,

    /// Limit the packets that --flight-recorder keeps in memory to MIB
    #[arg(long, value_name = "MIB", default_value_t = 32, requires = "flight_recorder", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Report")]
    pub flight_memory: u16,

    /// Show a table of the connections while the program runs, on the terminal that lastack was started from if the
    /// program's output is redirected, or on another one
    #[arg(long, value_name = "TERMINAL", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Report")]
    pub live: Option<OsString>,

    /// Write the report to FILE, line by line, instead of standard error
    #[arg(short, long, value_name = "FILE", help_heading = "Report")]
    pub output: Option<PathBuf>,

    /// Report every connection, not only those that ended badly, with its local port, path and rule; twice: DNS
    /// queries, too
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Report")]
    pub verbose: u8,

    /// Report as JSON lines: every connection and a summary (format: docs/report.md)
    #[arg(long, help_heading = "Report")]
    pub json: bool,

    /// Report the summary only
    #[arg(short = 'c', long, conflicts_with = "verbose", help_heading = "Report")]
    pub summary_only: bool,

    /// Do not report anything
    #[arg(short, long, visible_alias = "no-report", conflicts_with_all = ["output", "verbose", "json", "summary_only"], help_heading = "Report")]
    pub quiet: bool,

    /// With --json, also write a line for each connection when it is opened
    #[arg(long, requires = "json", help_heading = "Report")]
    pub open_lines: bool,

    /// Exit with status 1 if a connection ended like this: harmful (a request, data or a connection was lost), suspicious
    /// (or worse), or a cause or outcome such as refused, no-answer, reset (repeatable, or comma-separated). The exit
    /// status of a program that fails itself takes precedence
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', help_heading = "Report")]
    pub fail_on: Vec<FailOn>,

    /// Forward a port of this host to a port on which the program listens: [ADDRESS:]HOSTPORT[:PORT], on this host's
    /// loopback without ADDRESS; 9000-9010: a range; PORT/udp: datagrams; auto, auto/udp: every port on which the program listens (repeatable)
    #[arg(short, long, value_name = "PORT", help_heading = "Ports and destinations")]
    pub publish: Vec<Published>,

    /// Inject a fault into connections: KIND[=VALUE][:KEY=VALUE..] (repeatable); "help" lists the faults
    #[arg(long, value_name = "FAULT", value_parser = fault, help_heading = "Faults on demand")]
    pub inject: Vec<FaultRule>,

    /// Read more faults from FILE (TOML)
    #[arg(long, value_name = "FILE", help_heading = "Faults on demand")]
    pub inject_file: Option<PathBuf>,

    /// Seed of the random faults: the same seed hits the same packets
    #[arg(long, value_name = "NUMBER", value_parser = seed, help_heading = "Faults on demand")]
    pub seed: Option<u64>,

    /// Allow this destination, and only allowed destinations unless something is denied: TARGET[:PORT,..][/tcp|/udp],
    /// where TARGET is an address, a network, a name, *.NAME or all (repeatable)
    #[arg(long, value_name = "DESTINATION", help_heading = "Policy")]
    pub allow: Vec<Destinations>,

    /// Deny this destination with ICMP "administratively prohibited"; the more specific rule applies (repeatable)
    #[arg(long, value_name = "DESTINATION", help_heading = "Policy")]
    pub deny: Vec<Destinations>,

    /// Deny everything that is not allowed, including DNS names
    #[arg(long, help_heading = "Policy")]
    pub offline: bool,

    /// Deny nothing, but report what would be denied
    #[arg(long, help_heading = "Policy")]
    pub log_only: bool,

    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Ports and destinations")]
    pub ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long, help_heading = "Ports and destinations")]
    pub ipv6: bool,

    /// Let the program reach this host's loopback (127.0.0.1 and ::1) at its gateway's addresses
    #[arg(long, help_heading = "Ports and destinations")]
    pub host_loopback: bool,

    /// Let the program reach these TCP ports of this host's loopback at its own 127.0.0.1, ::1 and localhost, also with
    /// --offline
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = port, help_heading = "Ports and destinations")]
    pub map_localhost: Vec<u16>,

    /// Connect through this proxy: socks5://[USER:PASSWORD@]HOST:PORT, socks5h:// (the proxy resolves names), or http://
    /// (CONNECT; the proxy resolves names). Datagrams need SOCKS5. This host's loopback is reached directly
    #[arg(long, value_name = "PROXY", help_heading = "Ports and destinations")]
    pub via: Option<String>,

    /// Send from this address of this host, or through this interface only (repeatable: one address of each family, one
    /// interface); a family without an address is unreachable if another has one
    #[arg(long, value_name = "ADDRESS|INTERFACE", help_heading = "Ports and destinations")]
    pub bind: Vec<String>,

    /// Use this name server instead of the host's (repeatable)
    #[arg(short = 'D', long, value_name = "ADDRESS", help_heading = "Ports and destinations")]
    pub dns: Vec<IpAddr>,

    /// The program's IPv4 network: .2 is the gateway, .3 the name server, .100 the program; auto is 10.0.2.0/24, or
    /// another one if that overlaps with this host's networks
    #[arg(
        long,
        value_name = "NETWORK/PREFIX",
        default_value = "auto",
        help_heading = "Network of the program"
    )]
    pub net: String,

    /// The program's IPv6 network: ::2 is the gateway, ::3 the name server, ::100 the program; auto is fd00::/64, or
    /// without --host-loopback another one if that overlaps with this host's networks
    #[arg(
        long,
        value_name = "NETWORK/PREFIX",
        default_value = "auto",
        help_heading = "Network of the program"
    )]
    pub net6: String,

    /// MTU of the program's interface; a larger one is faster
    #[arg(
        short,
        long,
        value_name = "BYTES",
        default_value_t = 65520,
        help_heading = "Network of the program"
    )]
    pub mtu: u32,

    /// Limit relay buffers to MIB in total (plus a small minimum per connection)
    #[arg(long, value_name = "MIB", default_value_t = 256, help_heading = "Network of the program")]
    pub memory: u16,

    /// Type of the program's network device: auto, tun, veth, or tap (with Ethernet headers)
    #[arg(long, value_name = "DEVICE", default_value = "auto", help_heading = "Network of the program")]
    pub device: DeviceChoice,

    /// Let the program reach link-local addresses, including cloud metadata services (169.254.169.254)
    #[arg(long, help_heading = "Ports and destinations")]
    pub link_local: bool,

    /// Kill the program's remaining child processes when it ends, instead of waiting for them
    #[arg(long, help_heading = "Processes of the program")]
    pub kill_rest: bool,

    /// Make the program root in its own namespaces, even if started by a user; other users are mapped as /etc/subuid allows
    #[arg(long, help_heading = "Processes of the program")]
    pub map_root: bool,

    /// If started by root, keep root's privileges over this host; the program can then leave its network
    #[arg(long, conflicts_with = "map_root", help_heading = "Processes of the program")]
    pub host_root: bool,

    /// Let the program see this host's processes, and use this host's process ids
    #[arg(long, help_heading = "Processes of the program")]
    pub host_pids: bool,

    /// Join the network namespace of this process, or in this file (/proc/PID/ns/net, /run/netns/NAME), instead of making
    /// one; without COMMAND, serve it until it ends. The PID of another `lastack run` stands for its program
    #[arg(long, value_name = "PID|PATH", help_heading = "Namespace")]
    pub join: Option<String>,

    /// Enter this user namespace first (default: the one that owns the network namespace)
    #[arg(long, value_name = "PATH", requires = "join", help_heading = "Namespace")]
    pub join_user: Option<PathBuf>,

    /// Name of the program's interface
    #[arg(long, value_name = "NAME", default_value = INTERFACE, help_heading = "Namespace")]
    pub interface: String,

    /// Leave addresses, routes and MTU of the interface to the caller
    #[arg(long, requires = "join", help_heading = "Namespace")]
    pub no_configure: bool,

    /// The program's address, in the network of --net or --net6 (repeatable: one of each family)
    #[arg(long, value_name = "ADDRESS", help_heading = "Namespace")]
    pub address: Vec<IpAddr>,

    /// The gateway's address there (repeatable: one of each family)
    #[arg(long, value_name = "ADDRESS", help_heading = "Namespace")]
    pub gateway: Vec<IpAddr>,

    /// Let the program reach this host's services, except those on the loopback, at this address (repeatable)
    #[arg(long, value_name = "ADDRESS", help_heading = "Namespace")]
    pub host_at: Vec<IpAddr>,

    /// Answer the program's DNS queries at this address, too (repeatable)
    #[arg(long, value_name = "ADDRESS", help_heading = "Namespace")]
    pub dns_at: Vec<IpAddr>,

    /// Continue in the background once the network is ready; the report then needs --output
    #[arg(long, help_heading = "Namespace")]
    pub detach: bool,

    /// Write "1" to this file descriptor once the network is ready, and close it
    #[arg(long, value_name = "FD", help_heading = "Namespace")]
    pub ready_fd: Option<RawFd>,

    /// Without COMMAND: end when this file descriptor becomes readable, or is closed at its other end
    #[arg(
        long,
        value_name = "FD",
        requires = "join",
        conflicts_with = "command",
        help_heading = "Namespace"
    )]
    pub exit_fd: Option<RawFd>,

    /// Write the process id to FILE once the network is ready
    #[arg(long = "pid", value_name = "FILE", help_heading = "Namespace")]
    pub pid_file: Option<PathBuf>,

    /// Listen at this UNIX socket for requests to forward ports: the JSON of slirp4netns (add_hostfwd, list_hostfwd,
    /// remove_hostfwd)
    #[arg(long, value_name = "PATH", help_heading = "Namespace")]
    pub api_socket: Option<PathBuf>,

    /// The program and its arguments
    #[arg(required_unless_present = "join", trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the program, and exits as it does.
pub fn main(args: RunArgs) -> ExitCode {
    lastack_run::main(args.into())
}

/// The terminal of the table.
fn terminal(path: OsString) -> Terminal {
    if path.is_empty() { Terminal::Own } else { Terminal::Other(path.into()) }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is not a port: write 5432, or 5432,6379"))
}

/// Prints the list of faults, and gives the exit status.
fn print_faults() -> i32 {
    let mut out = anstream::stdout();
    match out.write_all(inject::help().as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            lastack_run::message(format_args!("lastack run: cannot print the list of faults: {error}"));
            1
        }
        _ => 0,
    }
}

/// Parses a fault; `help` prints the list of faults and exits.
fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("write a whole number from 0 to {}", u64::MAX))
}

fn fault(text: &str) -> Result<FaultRule, String> {
    if text == "help" {
        std::process::exit(print_faults());
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
            live: args.live.map(terminal),
            flight_recorder: args.flight_recorder,
            flight_memory: args.flight_memory,
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
            via: args.via,
            bind: args.bind,
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
            join: args.join,
            join_user: args.join_user,
            interface: args.interface,
            configure: !args.no_configure,
            address: args.address,
            gateway: args.gateway,
            host_at: args.host_at,
            dns_at: args.dns_at,
            detach: args.detach,
            ready_fd: args.ready_fd,
            exit_fd: args.exit_fd,
            pid_file: args.pid_file,
            api_socket: args.api_socket,
            command: args.command,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  lastack run curl https://example.org/      how curl's connections ended
  lastack run -v -w out.pcapng -- make test  every connection, and a capture
  lastack run --json -o ends.jsonl ./server  one JSON object per line
  lastack run -p 8080 -- npm start           a server of the program, at this host's port 8080
  lastack run --map-localhost 5432 -- ./app  localhost:5432 of the program is this host's
  lastack run --offline -- make test         nothing is reached, and what was tried is reported
  lastack run --inject rst:port=5432:when=3:after=4k -- ./app
                                             the third connection to port 5432 is reset after 4 KiB
  lastack run --fail-on harmful -- make test
                                             status 1 if a connection failed";
