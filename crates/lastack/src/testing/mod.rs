//! Two hosts, a link between them, and fault injection, for tests of network programs.
//!
//! A [`Net`] is a client and a server on one link, in the process of the test. Under tokio's paused clock
//! (`#[tokio::test(start_paused = true)]`) it runs in virtual time: minutes of timeouts take milliseconds, and runs
//! are deterministic. The program under test connects by [`TcpStream::connect`] with [`Net::client`], by
//! [`HostConnector`](crate::HostConnector), or unchanged by [`net`](crate::net); [`Net::serve`] sets the answers, one
//! [`Behavior`] per connection.
//!
//! # Test the retry logic of a client in ten lines
//!
//! ```
//! use lastack::testing::{Behavior, Net};
//! use lastack::{Cause, TcpStream};
//! # use tokio::io::AsyncReadExt;
//! # use std::{io, net::SocketAddr, time::Duration};
//! # /// The client to be tested.
//! # async fn fetch(host: &lastack::Host, server: SocketAddr) -> io::Result<Vec<u8>> {
//! #     let mut last = Err(io::ErrorKind::NotFound.into());
//! #     for attempt in 0..4 {
//! #         last = async {
//! #             let mut data = Vec::new();
//! #             let mut stream = TcpStream::connect(host, server).await?;
//! #             tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET").await?;
//! #             stream.read_to_end(&mut data).await?;
//! #             Ok(data)
//! #         }.await;
//! #         if last.is_ok() { break }
//! #         tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(attempt)).await;
//! #     }
//! #     last
//! # }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let net = Net::new();
//! let served = net.serve(80, [
//!     Behavior::refuse(),
//!     Behavior::reset_after(3),
//!     Behavior::respond(*b"hello"),
//! ]);
//! let data = fetch(net.client(), net.addr(80)).await.unwrap();
//! assert_eq!(data, b"hello");
//! assert_eq!(served.connections(), 3);
//! assert_eq!(net.causes().await, [Cause::Refused, Cause::Reset, Cause::Orderly]);
//! # }
//! ```
//!
//! # Faults of the link
//!
//! [`Net::cut`] and [`Net::heal`] cut and restore the link, [`Net::lose`] drops selected packets, [`Builder::delay`]
//! and [`Builder::plans`] add delay and impairments, and [`Net::reboot_server`] makes the server lose the state of
//! every connection, which leaves them half-open for the client.

mod behavior;

pub use behavior::{Behavior, Served};

use crate::driver::Driver;
use crate::link::{Capabilities, Direction, Filter, Impair, Pipe, Plan, pipe};
use crate::{Cause, Config, End, Ended, EndedConnections, Host, TcpInterceptor, TcpStream};
use behavior::Ports;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The client's address.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The server's address.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// A packet filter: `false` drops the packet.
type PacketFilter = Box<dyn FnMut(Direction, &[u8]) -> bool + Send>;
type Filters = Arc<Mutex<Vec<PacketFilter>>>;

/// A client and a server on one link; see the [module](self).
///
/// Dropping it stops both hosts.
///
/// ```
/// use lastack::link::{Direction, Plan};
/// use lastack::testing::{Behavior, Net};
/// use lastack::{Cause, EndedBy};
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let bad_link = Plan { seed: 7, loss: 0.02, ..Plan::default() };
/// let net = Net::builder()
///     .delay(Duration::from_millis(40))
///     .plans(bad_link.clone(), bad_link)
///     .server(|config| config.tcp.nodelay = true)
///     .build();
/// net.serve(80, [Behavior::echo(), Behavior::echo()]);
///
/// // The SYN is lost once: the connection takes a second longer.
/// net.lose_next(Direction::Sent, 1);
/// let mut stream = net.connect(80).await.unwrap();
///
/// // A reset of the server is lost while the link is cut: the connection is half-open.
/// net.cut();
/// net.reboot_server();
/// net.heal();
/// stream.write_all(b"hello").await.unwrap();
/// stream.read_u8().await.unwrap_err();
/// let ends = net.ends().await;
/// assert_eq!((ends[0].end.cause, ends[0].end.by), (Cause::Reset, EndedBy::Peer));
///
/// // Every data segment is lost, and handshakes pass.
/// net.lose(|_, packet| packet.len() > 60);
/// # }
/// ```
#[derive(Debug)]
pub struct Net {
    client: Host,
    inner: Arc<Inner>,
    ended: Mutex<EndedConnections>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    server: Mutex<Server>,
    /// The server's end of the link, which is kept across a reboot.
    link: Arc<Mutex<Pipe>>,
    config: Config,
    ports: Mutex<Ports>,
    state: Mutex<LinkState>,
    filters: Filters,
}

#[derive(Debug)]
struct Server {
    host: Host,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct LinkState {
    cut: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("server", &self.server).finish_non_exhaustive()
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere has failed already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builder of a [`Net`].
#[derive(Debug)]
pub struct Builder {
    up: Plan,
    down: Plan,
    client: Config,
    server: Config,
}

impl Builder {
    /// One-way delay of the link, in each direction; default one millisecond.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        (self.up.delay, self.down.delay) = (delay, delay);
        self
    }

    /// Impairments of the packets from the client (`up`) and to it (`down`).
    #[must_use]
    pub fn plans(mut self, up: Plan, down: Plan) -> Self {
        (self.up, self.down) = (up, down);
        self
    }

    /// Changes the configuration of this host.
    #[must_use]
    pub fn client(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.client);
        self
    }

    /// Changes the configuration of this host.
    #[must_use]
    pub fn server(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.server);
        self
    }

    /// Starts the two hosts.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Net {
        let Self { up, down, client, mut server } = self;
        server.intercept.tcp = true;
        let (near, far) = pipe(Capabilities::new(1500));
        let far = Arc::new(Mutex::new(far));
        let inner = Arc::new(Inner {
            server: Mutex::new(boot(&server, &far)),
            link: far,
            config: server,
            ports: Mutex::default(),
            state: Mutex::default(),
            filters: Filters::default(),
        });
        let filter = {
            let inner = Arc::downgrade(&inner);
            move |direction, packet: &[u8]| {
                let Some(inner) = inner.upgrade() else { return false };
                let cut = lock(&inner.state).cut;
                // Every filter sees every packet, so that each can count.
                let pass = |pass, filter: &mut PacketFilter| filter(direction, packet) && pass;
                !cut && lock(&inner.filters).iter_mut().fold(true, pass)
            }
        };
        let link = Impair::with_plans(Filter::new(near, filter), up, down);
        let (client, driver) = Host::with_secret(client, link, *b"a fixed secret 1");
        let ended = Mutex::new(client.ended());
        let mut net = Net { client, inner, ended, tasks: vec![spawn(driver)] };
        net.tasks.extend(net.inner.answer_syns());
        net
    }
}

fn spawn<L: crate::link::Link + Send + 'static>(driver: Driver<L>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Its result is in the error of every call on the host.
        let _ended = driver.await;
    })
}

/// Starts the server, without state from a previous run on this link.
fn boot(config: &Config, link: &Arc<Mutex<Pipe>>) -> Server {
    let (host, driver) = Host::with_secret(config.clone(), link.clone(), *b"a fixed secret 2");
    Server { host, tasks: vec![spawn(driver)] }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Net {
    /// A client at `192.0.2.1` and a server at `192.0.2.2`, with a one-way delay of one millisecond.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A builder, to change the defaults.
    pub fn builder() -> Builder {
        let plan = |seed| Plan { seed, delay: Duration::from_millis(1), ..Plan::default() };
        Builder { up: plan(1), down: plan(2), client: Config::new([CLIENT]), server: Config::new([SERVER]) }
    }

    /// The host of the program under test.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// The server's host, for custom listeners and sockets. A reboot replaces it.
    pub fn server(&self) -> Host {
        lock(&self.inner.server).host.clone()
    }

    /// The server's address with this port.
    pub fn addr(&self, port: u16) -> SocketAddr {
        (SERVER, port).into()
    }

    /// Connects from the client host, independently of the program under test.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect(&self.client, self.addr(port)).await
    }

    /// Answers successive connections to this port of the server with these behaviors; further connections are
    /// refused, as on other ports. Replaces the earlier behaviors of the port.
    pub fn serve(&self, port: u16, behaviors: impl IntoIterator<Item = Behavior>) -> Served {
        lock(&self.inner.ports).serve(port, behaviors)
    }

    /// Cuts the link: every packet is lost.
    pub fn cut(&self) {
        lock(&self.inner.state).cut = true;
    }

    /// Restores the link.
    pub fn heal(&self) {
        lock(&self.inner.state).cut = false;
        lock(&self.inner.filters).clear();
    }

    /// Drops the packets for which `lost` returns `true`, until [`heal`](Self::heal). `Direction::Sent` is from the
    /// client.
    pub fn lose(&self, mut lost: impl FnMut(Direction, &[u8]) -> bool + Send + 'static) {
        lock(&self.inner.filters).push(Box::new(move |direction, packet| !lost(direction, packet)));
    }

    /// Drops the next `n` packets in this direction.
    pub fn lose_next(&self, direction: Direction, n: u32) {
        let mut left = n;
        self.lose(move |of, _| {
            let lost = of == direction && left > 0;
            left -= u32::from(lost);
            lost
        });
    }

    /// Power-cycles the server: it loses the state of every connection without sending a packet, and answers the next
    /// segment of each with RST. The behaviors of [`serve`](Self::serve) are kept.
    pub fn reboot_server(&self) {
        self.inner.reboot();
    }

    /// The client's connections that have ended since the last call, in the order in which they ended, which can differ
    /// from that in which they were opened. First waits some round trips, so that connections can finish closing; one
    /// that the server does not close ([`Behavior::silent`], [`Behavior::respond_then_stall`]) has not ended by then.
    pub async fn ends(&self) -> Vec<Ended> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut ended = lock(&self.ended);
        std::iter::from_fn(|| ended.try_recv()).collect()
    }

    /// As [`ends`](Self::ends), but only the causes.
    pub async fn causes(&self) -> Vec<Cause> {
        self.ends().await.into_iter().map(|ended| ended.end.cause).collect()
    }

    /// The end of the only connection that has ended since the last call.
    ///
    /// # Panics
    /// If none or more than one has ended.
    #[track_caller]
    pub fn one_end(&self) -> impl Future<Output = End> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let ends = self.ends().await;
            match <[Ended; 1]>::try_from(ends) {
                Ok([ended]) => ended.end,
                Err(ends) => {
                    let ends: Vec<String> =
                        ends.iter().map(|ended| format!("{}: {}", ended.flow, ended.end)).collect();
                    panic!("{caller}: one connection was to end, but {} have: {ends:#?}", ends.len())
                }
            }
        }
    }
}

impl Inner {
    /// Answers SYNs that arrive at the server.
    fn answer_syns(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let syns: TcpInterceptor = lock(&self.server).host.intercept_tcp().ok()?;
        let inner = self.clone();
        Some(tokio::spawn(async move {
            while let Ok(syn) = syns.recv().await {
                let (behavior, record) = lock(&inner.ports).next(syn.local_addr().port(), syn.peer_addr());
                let task = tokio::spawn(behavior.answer(syn, record, Arc::downgrade(&inner)));
                lock(&inner.server).tasks.push(task);
            }
        }))
    }

    pub(crate) fn reboot(self: &Arc<Self>) {
        let new = {
            let mut server = lock(&self.server);
            // A dropped driver sends nothing, so drop it first.
            server.tasks.drain(..).for_each(|task| task.abort());
            self.config.clone()
        };
        // The abort takes effect once the tasks of this thread have been polled.
        let inner = self.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            *lock(&inner.server) = boot(&new, &inner.link);
            inner.answer_syns();
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        lock(&self.inner.server).tasks.drain(..).for_each(|task| task.abort());
    }
}
