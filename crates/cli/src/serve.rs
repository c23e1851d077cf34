//! `lastack serve`: a peer on a TUN link that behaves as told, for whoever wants to see what a client makes of it.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use lastack::device::{LinkSettings, Netlink, Tun};
use lastack::link::{Capabilities, Capture, Link, PcapngWriter};
use lastack::{Config, Ended, Host, Instant, Received, TcpListener, TcpStream, Transmit, Verdict};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use crate::report::Record;
use crate::units;

/// Answer on a TUN link, well or badly as told
///
/// lastack makes the interface, gives this machine's side of the link the address next to its own, and listens. Each
/// connection's end is printed. SIGINT or SIGTERM ends it, with status 0. It needs root, or CAP_NET_ADMIN.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack serve --listen 7 --behave echo
  lastack serve --listen 80 --behave rst-after=1k -w resets.pcapng
  lastack serve --listen 80 --tun peer0 --addr 192.168.77.1/24

Behaviours:
  echo         sends back what comes, and closes when the peer does
  discard      reads everything, and closes when the peer does
  rst-after=N  aborts with RST after N octets (0: after the handshake)
  never-read   accepts and never reads: the window closes
  half-open=N  after N octets (without =N: after the handshake) the whole host forgets its connections without a word,
               as if it had been switched off and on: the next segment of the peer is answered with RST")]
pub struct ServeArgs {
    /// Listen at these ports (repeatable)
    #[arg(short, long, value_name = "PORT", required = true, num_args = 1.., value_delimiter = ',')]
    listen: Vec<u16>,

    /// What to do with a connection
    #[arg(short, long, value_name = "BEHAVIOUR", default_value = "echo", value_parser = behaviour)]
    behave: Behaviour,

    /// The interface's name
    #[arg(long, value_name = "NAME", default_value = "lastack0")]
    tun: String,

    /// The address that lastack listens at, with the length of its network (repeatable)
    #[arg(long, value_name = "ADDRESS/PREFIX", default_values = ["10.0.3.1/24", "fd00:3::1/64"], value_parser = place)]
    addr: Vec<Place>,

    /// The largest packet
    #[arg(short, long, value_name = "OCTETS", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    mtu: u32,

    /// Write every packet to FILE (pcapng), each with what became of it
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    /// Write 1 to this descriptor and close it, when connections are answered
    #[arg(long, value_name = "N")]
    ready_fd: Option<RawFd>,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Echo,
    Discard,
    RstAfter(u64),
    NeverRead,
    HalfOpen(u64),
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    let (name, octets) = match text.split_once('=') {
        Some((name, octets)) => (name, Some(units::octets(octets)?)),
        None => (text, None),
    };
    match (name, octets) {
        ("echo", None) => Ok(Behaviour::Echo),
        ("discard", None) => Ok(Behaviour::Discard),
        ("rst-after", Some(octets)) => Ok(Behaviour::RstAfter(octets)),
        ("never-read", None) => Ok(Behaviour::NeverRead),
        ("half-open", octets) => Ok(Behaviour::HalfOpen(octets.unwrap_or(0))),
        _ => Err("choose echo, discard, rst-after=N, never-read, half-open or half-open=N".to_owned()),
    }
}

/// Our address on the link, and the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    ours: IpAddr,
    kernel: IpAddr,
    prefix: u8,
}

fn place(text: &str) -> Result<Place, String> {
    let malformed =
        || format!("{text:?} is not an address with its network: write 10.0.3.1/24 or fd00:3::1/64");
    let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
    let ours: IpAddr = address.parse().map_err(|_| malformed())?;
    let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
    let bits = if ours.is_ipv6() { 128 } else { 32 };
    if prefix == 0 || prefix > bits - 2 {
        return Err(format!(
            "{text}: the network has no room for two: choose a prefix from 1 to {}",
            bits - 2
        ));
    }
    if !lastack_wire::ip::unicast(ours) || ours.is_loopback() {
        return Err(format!("{text} cannot be the address of a host on a link"));
    }
    Ok(Place { ours, kernel: next_to(ours, prefix), prefix })
}

/// The address after it, or before it at the end of its network.
fn next_to(address: IpAddr, prefix: u8) -> IpAddr {
    let (number, bits) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let host = (1_u128 << (bits - prefix)) - 1;
    // The last of an IPv4 network is its broadcast address.
    let next = if (number & host) + 1 < host { number + 1 } else { number - 1 };
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::from(next as u32).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from(next).into(),
    }
}

/// The command cannot do what it is asked for.
const TROUBLE: u8 = 2;

/// Runs the command.
pub fn main(args: ServeArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            anstream::eprintln!("lastack serve: {error:#}");
            TROUBLE.into()
        }
    }
}

type Device = Arc<Mutex<Tun>>;
type Writer = Arc<Mutex<PcapngWriter<File>>>;

fn run(mut args: ServeArgs) -> anyhow::Result<()> {
    args.listen.sort_unstable();
    args.listen.dedup();
    ensure!(args.listen.iter().all(|port| *port > 0), "port 0 is no port: choose from 1 to 65535");
    let ready = args.ready_fd.map(take_descriptor).transpose()?;
    let writer = args.write.as_ref().map(|path| {
        let cannot =
            || format!("cannot write the capture to {}: choose another place for -w", path.display());
        let file = File::create(path).with_context(cannot)?;
        anyhow::Ok(Arc::new(Mutex::new(PcapngWriter::new(file, SystemTime::now()))))
    });
    let writer = writer.transpose()?;
    let device = open(&args).context("cannot make the link (it needs root, or CAP_NET_ADMIN: try sudo)")?;
    let server =
        Rc::new(Server { args, device, writer, reboot: Notify::new(), begun: std::time::Instant::now() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = LocalSet::new().block_on(&runtime, server.serve(ready));
    if let Some(writer) = &server.writer {
        let mut writer = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writer.flush();
        if let Some(error) = writer.error() {
            bail!(crate::run::incomplete(writer.unwritten(), &error));
        }
    }
    result
}

/// Makes the interface, and brings up the kernel's side of it.
fn open(args: &ServeArgs) -> anyhow::Result<Device> {
    let fd = lastack::device::tun::create(&args.tun)?;
    let mut netlink = Netlink::open()?;
    let index = nix::net::if_::if_nametoindex(args.tun.as_str())?;
    let settings = LinkSettings { mtu: Some(args.mtu), no_link_local: true, ..LinkSettings::default() };
    netlink.set_up(index, &settings)?;
    for place in &args.addr {
        netlink.add_address(index, place.kernel, place.prefix)?;
        netlink.await_address(place.kernel)?;
    }
    Ok(Arc::new(Mutex::new(Tun::from_fd(fd, args.mtu as usize)?)))
}

/// A descriptor that whoever started us left open for us.
fn take_descriptor(number: RawFd) -> anyhow::Result<File> {
    let open = std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    ensure!(
        number > 2 && open,
        "--ready-fd {number}: no such descriptor is open, or it is a standard stream"
    );
    // SAFETY: it is open, not one of the standard streams, and nothing of ours has been opened yet: it was inherited,
    // and the option gives it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) }.into())
}

struct Server {
    args: ServeArgs,
    device: Device,
    writer: Option<Writer>,
    reboot: Notify,
    begun: std::time::Instant,
}

/// What is printed first.
#[derive(Serialize)]
struct Listening<'a> {
    v: u8,
    r#type: &'static str,
    tun: &'a str,
    listening: Vec<SocketAddr>,
}

impl Server {
    /// Serves until a signal.
    async fn serve(self: &Rc<Self>, mut ready: Option<File>) -> anyhow::Result<()> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        self.announce()?;
        loop {
            let life = self.live(&mut ready);
            tokio::select! {
                result = life => result?,
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            }
        }
    }

    fn announce(&self) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.args.json {
            let line = Listening {
                v: 1,
                r#type: "listening",
                tun: &self.args.tun,
                listening: self.addresses().collect(),
            };
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        let addresses: Vec<String> = self.addresses().map(|address| address.to_string()).collect();
        writeln!(out, "listening on {} ({}), {}", addresses.join(", "), self.args.tun, self.args.behave)
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = &self.args.listen;
        self.args.addr.iter().flat_map(move |place| ports.iter().map(|&port| (place.ours, port).into()))
    }

    /// From one start of the host to the next: what it knew of connections goes with it.
    async fn live(self: &Rc<Self>, ready: &mut Option<File>) -> anyhow::Result<()> {
        let mut config = Config::new(self.args.addr.iter().map(|place| place.ours));
        config.mtu = self.args.mtu as usize;
        let (host, driver) = Host::new(config, self.link());
        let start = host.now();
        let zero = Timestamp::now() - jiff::SignedDuration::try_from(start.elapsed()).unwrap_or_default();
        let mut ended = host.ended();
        // All that lives in this set dies with it, the driver too: nothing says goodbye.
        let tasks = LocalSet::new();
        for address in self.addresses() {
            let listener = TcpListener::bind(&host, address)?;
            tasks.spawn_local(self.clone().accept(listener));
        }
        if let Some(mut ready) = ready.take() {
            ready.write_all(b"1").context("--ready-fd")?;
        }
        let print = async {
            while let Some(end) = ended.recv().await {
                self.print(&end, zero)?;
            }
            anyhow::Ok(())
        };
        let work = tasks.run_until(async {
            tokio::select! {
                result = driver => result.context("the link failed"),
                result = print => result,
                () = self.reboot.notified() => Ok(()),
            }
        });
        work.await
    }

    fn link(&self) -> Box<dyn Link> {
        match &self.writer {
            Some(writer) => Box::new(Later {
                link: Capture::new(self.device.clone(), writer.clone()),
                by: self.begun.elapsed(),
            }),
            None => Box::new(self.device.clone()),
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        // An error is the end of the link, which the driver tells.
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            spawn_local(async move {
                // What goes wrong with a connection is its end, and printed as that.
                let _end = server.behave(stream).await;
            });
        }
    }

    async fn behave(&self, mut stream: TcpStream) -> io::Result<()> {
        match self.args.behave {
            Behaviour::Echo => {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                stream.shutdown().await?;
                stream.closed().await?;
            }
            Behaviour::Discard => {
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                stream.shutdown().await?;
                stream.closed().await?;
            }
            Behaviour::RstAfter(octets) => {
                read_so_many(&mut stream, octets).await?;
                stream.abort();
            }
            Behaviour::NeverRead => {
                stream.closed().await?;
            }
            Behaviour::HalfOpen(octets) => {
                read_so_many(&mut stream, octets).await?;
                self.forget(&stream)?;
                self.reboot.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    fn forget(&self, stream: &TcpStream) -> io::Result<()> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let mut out = anstream::stdout().lock();
        if self.args.json {
            let line = Forgotten { v: 1, r#type: "forgotten", local, remote };
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        writeln!(out, "tcp {local} > {remote}: forgotten without a word, with all other connections")
    }

    fn print(&self, ended: &Ended, zero: Timestamp) -> io::Result<()> {
        let record = Record::of_ours(ended, zero);
        let mut out = anstream::stdout().lock();
        if self.args.json { writeln!(out, "{}", record.json()) } else { writeln!(out, "{record}") }
    }
}

/// A link whose clock began before that of the host on it: a host that starts again starts at zero, a capture does not.
struct Later<L> {
    link: L,
    by: Duration,
}

impl<L: Link> Link for Later<L> {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.link.send(now + self.by, packet, transmit);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.link.recv(now + self.by, packet)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        self.link.annotate(now + self.by, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let at = self.link.poll_timeout()?;
        Some(Instant::since_start(at.elapsed().saturating_sub(self.by)))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.link.flush(now + self.by);
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Forgotten {
    v: u8,
    r#type: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Reads so many octets, or up to the end of the stream.
async fn read_so_many(stream: &mut TcpStream, octets: u64) -> io::Result<()> {
    tokio::io::copy(&mut stream.take(octets), &mut tokio::io::sink()).await.map(drop)
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::Discard => f.write_str("discard"),
            Self::RstAfter(octets) => write!(f, "rst-after={octets}"),
            Self::NeverRead => f.write_str("never-read"),
            Self::HalfOpen(octets) => write!(f, "half-open={octets}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours() {
        for text in ["echo", "discard", "rst-after=5", "never-read", "half-open=0"] {
            assert_eq!(behaviour(text).unwrap().to_string(), text);
        }
        assert_eq!(behaviour("half-open"), Ok(Behaviour::HalfOpen(0)));
        assert_eq!(behaviour("rst-after=4k"), Ok(Behaviour::RstAfter(4096)));
        for wrong in ["rst-after", "echo=5", "rst-after=x", "sulk"] {
            assert!(behaviour(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernel_lives_next_door() {
        let kernel = |text| place(text).unwrap().kernel.to_string();
        assert_eq!(kernel("10.0.3.1/24"), "10.0.3.2");
        assert_eq!(kernel("10.0.3.254/24"), "10.0.3.253");
        assert_eq!(kernel("fd00:3::1/64"), "fd00:3::2");
        assert_eq!(kernel("192.0.2.1/30"), "192.0.2.2");
        for wrong in ["10.0.3.1", "10.0.3.1/31", "10.0.3.1/0", "224.0.0.1/4", "127.0.0.1/8", "x/8"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
