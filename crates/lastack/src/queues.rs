//! A host for each queue of a device, for more than one core.

use crate::driver::Driver;
use crate::host::Host;
use crate::tcp::TcpStream;
use lastack_device::{DeviceError, Tun, queue_of};
use lastack_engine::Config;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The range of local ports of connections to a remote (RFC 6335 section 6).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Hosts with the same addresses, each on a queue of the same multi-queue TUN interface: for more connections than one
/// core can carry. They share nothing: run the driver of each, and the sockets made from its host, on a thread of its own.
///
/// The kernel distributes flows by their ports ([`queue_of`]). So a server needs a listener on each host, and accepts
/// from each; a UDP socket on each host receives from a part of the remotes. Connections to remotes are opened with
/// [`connect`](Self::connect), which chooses a local port whose flow belongs to the host. Fragments, and pings, arrive at
/// the first host.
///
/// ```no_run
/// # use lastack::{Config, Queues, TcpListener};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (queues, drivers) = Queues::open("tun0", 2, &Config::new(["10.0.9.1".parse()?]))?;
/// for (host, driver) in queues.hosts().iter().cloned().zip(drivers) {
///     std::thread::spawn(move || -> std::io::Result<()> {
///         let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
///         runtime.block_on(async {
///             let driver = tokio::spawn(driver);
///             let listener = TcpListener::bind(&host, ([10, 0, 9, 1], 80))?;
///             // accept and serve
///             # drop(listener);
///             driver.await?
///         })
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queues {
    hosts: Vec<Host>,
    addresses: Vec<IpAddr>,
}

impl Queues {
    /// Opens the TUN interface `name` with this number of queues ([`Tun::open_queues`]), and makes a host on each.
    ///
    /// # Errors
    /// Those of [`Tun::open_queues`].
    ///
    /// # Panics
    /// As [`Host::new`].
    pub fn open(name: &str, queues: usize, config: &Config) -> Result<(Self, Vec<Driver<Tun>>), DeviceError> {
        let tuns = Tun::open_queues(name, queues)?;
        let (hosts, drivers) = tuns.into_iter().map(|tun| Host::new(config.clone(), tun)).unzip();
        Ok((Self { hosts, addresses: config.addresses.clone() }, drivers))
    }

    /// The hosts, one for each queue.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Opens a connection from the host of this queue, from a local port whose flow the kernel gives to it.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect_from`]; `AddrNotAvailable` if this host has no address of the family, and
    /// `AddrInUse` if every port of the queue is in use.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn connect(&self, queue: usize, remote: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let remote = remote.into();
        let local = self.addresses.iter().find(|address| address.is_ipv4() == remote.is_ipv4());
        let local = *local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let count = EPHEMERAL.len() as u16;
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let first = u16::from_ne_bytes(random);
        let ports = (0..count).map(|step| EPHEMERAL.start() + first.wrapping_add(step) % count);
        for port in ports.filter(|port| queue_of([*port, remote.port()], self.hosts.len()) == queue) {
            match TcpStream::connect_from(&self.hosts[queue], (local, port), remote).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}
