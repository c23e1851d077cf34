//! `lastack probe`: is this port open, refused (by which host), unreachable (why, reported by which host), or silent?
//!
//! The probe uses the host's own kernel; its error queue gives more detail than an errno.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use lastack_run::host::{self, Failure, Said, error_queue};
use lastack_run::report::IcmpSaid;
use lastack_run::units;

/// Probe a port: open, refused, unreachable or filtered, and who answered
///
/// The exit status is 0 if the port is open, 1 if it is not, and 2 if the probe could not be sent.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack probe example.org:443
  lastack probe -c 5 [2001:db8::7]:22
  lastack probe -u 192.0.2.7:53

What the answers mean:
  open                          the handshake succeeded (UDP: an answer arrived)
  refused (RST)                 the host answers; no socket listens at that port
  refused (ICMP ..)             the host, or a firewall before it, rejects the packet
  unreachable (ICMP ..)         a router reports why it cannot forward the packet
  no answer                     a firewall drops the packets, or there is no such host")]
pub struct ProbeArgs {
    /// A host and a port: example.org:443, 192.0.2.7:22, [2001:db8::7]:22
    #[arg(value_name = "HOST:PORT")]
    target: String,

    /// Probe by UDP
    #[arg(short, long)]
    udp: bool,

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,

    /// How long to wait for an answer
    #[arg(short, long, value_name = "TIME", default_value = "3s", value_parser = units::time)]
    timeout: Duration,

    /// Number of probes
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Interval between probes
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    interval: Duration,

    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// The port is not open.
const NOT_OPEN: u8 = 1;
/// The probe could not be sent.
const TROUBLE: u8 = 2;

/// Runs the command.
pub fn main(args: &ProbeArgs) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => NOT_OPEN.into(),
        // The reader has closed the pipe.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            lastack_run::message(format_args!("lastack probe: {error:#}"));
            TROUBLE.into()
        }
    }
}

/// Whether the port was open each time.
fn run(args: &ProbeArgs) -> anyhow::Result<bool> {
    let (host, port) = target(&args.target)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let remote = resolve(host, port, args).await?;
        let mut open = true;
        for round in 0..args.count {
            if round > 0 {
                sleep(args.interval).await;
            }
            let probed = probe(args, remote).await?;
            open &= probed.answer == Answer::Open;
            print(args, &probed)?;
        }
        Ok(open)
    })
}

/// Splits `HOST:PORT`.
fn target(text: &str) -> anyhow::Result<(&str, u16)> {
    const CURE: &str = "write HOST:PORT, such as example.org:443 or [2001:db8::7]:22";
    let (host, port) = text.rsplit_once(':').with_context(|| format!("{text:?} has no port: {CURE}"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    ensure!(
        bare.is_some() || !host.contains(':'),
        "{text:?} is ambiguous: put the IPv6 address in brackets; {CURE}"
    );
    let host = bare.unwrap_or(host);
    ensure!(!host.is_empty(), "{text:?} has no host: {CURE}");
    match port.parse::<u32>() {
        Ok(number @ 1..=65_535) => Ok((host, number as u16)),
        Ok(number) => bail!("port {number} is out of range: choose from 1 to 65535"),
        Err(_) => bail!("{port:?} is not a port: {CURE}"),
    }
}

async fn resolve(host: &str, port: u16, args: &ProbeArgs) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found =
        found.with_context(|| format!("unknown host {host:?}: check the name and this host's resolver"))?;
    let mut wanted = found.filter(|remote| match remote.ip() {
        IpAddr::V4(_) => !args.ipv6,
        IpAddr::V6(_) => !args.ipv4,
    });
    let family = if args.ipv4 {
        " of IPv4 (-4)"
    } else if args.ipv6 {
        " of IPv6 (-6)"
    } else {
        ""
    };
    wanted
        .next()
        .with_context(|| format!("{host} has no address{family}: drop -4 and -6, or choose another host"))
}

/// The result of a probe.
struct Probed {
    proto: &'static str,
    remote: SocketAddr,
    answer: Answer,
    took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Open,
    Failed(Failure),
    /// No answer within the timeout.
    Silence,
}

async fn probe(args: &ProbeArgs, remote: SocketAddr) -> anyhow::Result<Probed> {
    let begun = Instant::now();
    let asked =
        async { if args.udp { ask_udp(remote).await } else { host::connect(remote).await.map(drop) } };
    let answer = match timeout(args.timeout, asked).await {
        Ok(Ok(())) => Answer::Open,
        Ok(Err(Failure { said: Said::Nothing, .. })) | Err(_) => Answer::Silence,
        Ok(Err(failure)) if matches!(failure.said, Said::Host | Said::NoPort) => {
            bail!("cannot probe {remote}: {}", io::Error::from_raw_os_error(failure.errno))
        }
        Ok(Err(failure)) => Answer::Failed(failure),
    };
    let proto = if args.udp { "udp" } else { "tcp" };
    Ok(Probed { proto, remote, answer, took: begun.elapsed() })
}

/// Sends an empty datagram and waits for any answer.
async fn ask_udp(remote: SocketAddr) -> Result<(), Failure> {
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    error_queue::enable(&socket, remote.is_ipv6(), true)?;
    socket.connect(&remote.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    SockRef::from(&socket).send(&[])?;
    loop {
        socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if let Ok(queued) = error_queue::take(&socket) {
            let error = io::Error::from_raw_os_error(queued.errno);
            return Err(Failure::new(&error, Some(queued)));
        }
        match socket.try_recv(&mut [0; 1]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn print(args: &ProbeArgs, probed: &Probed) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Line::new(args, probed))?;
        return writeln!(out);
    }
    let Probed { proto, remote, answer, took } = probed;
    let name =
        if args.target.contains(&remote.ip().to_string()) { String::new() } else { format!(" ({remote})") };
    let what = match answer {
        // The duration of the silence is that of the timeout.
        Answer::Silence if args.udp => {
            format!("no answer after {}: open, filtered, or no such host", Seconds(args.timeout))
        }
        Answer::Silence => format!("no answer after {}: filtered, or no such host", Seconds(args.timeout)),
        Answer::Open => format!("open, {:.3} ms", took.as_secs_f64() * 1e3),
        Answer::Failed(failure) => format!("{failure}, {:.3} ms", took.as_secs_f64() * 1e3),
    };
    writeln!(out, "{}{name}/{proto}: {what}", args.target)
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    r#type: &'static str,
    target: &'a str,
    proto: &'static str,
    remote: SocketAddr,
    answer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpSaid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<String>,
    milliseconds: f64,
}

impl<'a> Line<'a> {
    fn new(args: &'a ProbeArgs, probed: &Probed) -> Self {
        let mut line = Self {
            v: 1,
            r#type: "probe",
            target: &args.target,
            proto: probed.proto,
            remote: probed.remote,
            answer: "open",
            by: None,
            icmp: None,
            errno: None,
            milliseconds: probed.took.as_secs_f64() * 1e3,
        };
        match &probed.answer {
            Answer::Open => {}
            Answer::Silence => line.answer = "no-answer",
            Answer::Failed(failure) => {
                line.answer = if failure.errno == libc::ECONNREFUSED { "refused" } else { "unreachable" };
                line.errno = Some(failure.errno_name());
                line.by = Some(match failure.said {
                    Said::Reset => "rst",
                    Said::Icmp(error, from) => {
                        line.icmp = Some(IcmpSaid { error, from });
                        "icmp"
                    }
                    _ => "host",
                });
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(target("example.org:443").unwrap(), ("example.org", 443));
        assert_eq!(target("[2001:db8::7]:22").unwrap(), ("2001:db8::7", 22));
        for (wrong, cure) in [
            ("example.org", "has no port"),
            ("example.org:0", "choose from 1 to 65535"),
            ("example.org:70000", "choose from 1 to 65535"),
            ("example.org:http", "is not a port"),
            ("2001:db8::7:22", "brackets"),
            (":80", "has no host"),
        ] {
            let error = target(wrong).unwrap_err().to_string();
            assert!(error.contains(cure), "{wrong}: {error}");
        }
    }
}
