//! A host: the handle from which sockets are made.

use crate::driver::{Driver, Spawned};
use crate::ended::{self, EndedConnections};
use crate::error::invalid;
use crate::shared::Shared;
use lastack_engine::{Config, Counters, FourTuple, Instant, OpenConnection, Stack};
use lastack_link::Link;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A host on a [`Link`]: addresses, a TCP/IP stack and the handle from which sockets are made.
///
/// Cheap to clone; all clones are the same host. Every socket holds one, so a host lives as long as any handle or
/// socket of it.
#[derive(Clone)]
pub struct Host(Arc<User>);

/// Shared by all clones of a host; dropped with the last of them.
struct User(Arc<Shared>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.with(crate::shared::Inner::abandon);
    }
}

impl Host {
    /// A host on `link`, and the future that drives it.
    ///
    /// The link's capabilities determine MTU, max packet size and checksum offload, overriding `config`.
    ///
    /// # Panics
    /// If [`Config::check`] refuses the configuration, with its text, and if the system provides no random numbers; see
    /// [`with_secret`](Self::with_secret).
    pub fn new<L: Link>(config: Config, link: L) -> (Self, Driver<L>) {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).expect("the system gives random numbers");
        Self::with_secret(config, link, secret)
    }

    /// As [`new`](Self::new), with the secret from which all unpredictable values (initial sequence numbers, ports,
    /// SYN cookies and others) are derived. For tests, where a fixed secret makes runs reproducible.
    ///
    /// # Panics
    /// If [`Config::check`] refuses the configuration, with its text.
    pub fn with_secret<L: Link>(mut config: Config, link: L, secret: [u8; 16]) -> (Self, Driver<L>) {
        if let Err(refused) = config.check() {
            panic!("{refused}");
        }
        link.capabilities().apply(&mut config);
        let shared = Arc::new(Shared::new(Stack::new(config, secret)));
        (Self(Arc::new(User(shared.clone()))), Driver::new(shared, link))
    }

    /// A host on `link` whose driver is spawned on the current tokio runtime.
    ///
    /// It stops when the last handle and socket are dropped, see [`Driver`]. If the link fails, every call on a
    /// socket fails with that error ([`HostError`](crate::HostError)).
    ///
    /// Closing a stream does not wait for its peer: written data may still be in a buffer of this host, which is part
    /// of this process. Call [`shutdown`](Self::shutdown) (or await [`drained`](Self::drained)) before the program
    /// exits, so that the data is delivered; a runtime that is dropped before that resets open connections.
    ///
    /// # Panics
    /// As [`new`](Self::new), and outside a tokio runtime.
    pub fn spawn<L: Link + Send + 'static>(config: Config, link: L) -> Self {
        let (host, driver) = Self::new(config, link);
        tokio::spawn(Spawned(driver));
        host
    }

    /// The current time of the stack's clock, which the times in an [`End`](crate::End) refer to.
    pub fn now(&self) -> Instant {
        self.shared().now()
    }

    /// The configuration in use.
    pub fn config(&self) -> Config {
        self.shared().with(|inner| inner.stack.config().clone())
    }

    /// Replaces the addresses of this host, for example when a VPN assigns new ones. A connection from an address
    /// that is not among them ends as by [`kill`](Self::kill); sockets bound to such an address stay open and receive
    /// nothing.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        self.shared().with(|inner| inner.stack.set_addresses(addresses));
    }

    /// Sets a new MTU of the link. Connections reduce their segment size at once if necessary.
    ///
    /// # Errors
    /// `InvalidInput` below 68 bytes.
    pub fn set_mtu(&self, mtu: usize) -> io::Result<()> {
        self.shared().with(|inner| {
            let config = inner.stack.config();
            // A link that segments super-segments continues to do so.
            let max_packet = if config.max_packet > config.mtu { config.max_packet } else { mtu };
            let changed = inner.stack.set_mtu(mtu, max_packet);
            changed.map_err(|_| invalid("the MTU must be at least 68 bytes (RFC 791)"))
        })
    }

    /// The counters since the host was created.
    pub fn counters(&self) -> Counters {
        self.shared().with(|inner| *inner.stack.counters())
    }

    /// Subscribes to the end of every connection of this host from now on, including those whose socket is closed.
    pub fn ended(&self) -> EndedConnections {
        self.ended_with_capacity(ended::CAPACITY)
    }

    /// As [`ended`](Self::ended), with a queue of `capacity` ends (at least one).
    pub fn ended_with_capacity(&self, capacity: usize) -> EndedConnections {
        EndedConnections::new(&self.0.0, capacity)
    }

    /// Ends the connection with this four-tuple, as an administrator does with `ss -K`: with RST where the peer has a
    /// connection (`Rule::RstKilled`), silently where it has none (`Rule::EndKilledSilently`,
    /// `Rule::EndKilledWithoutConnection`). Its socket can still read received data, then gets `ConnectionAborted`
    /// once. `false`: no such connection.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (_stream, _peer) = (near?, far?.0);
    /// for open in client.connections() {
    ///     println!("{}: {:?}", open.flow, open.state);
    ///     assert!(client.kill(open.flow));
    /// }
    /// assert!(client.connections().is_empty());
    /// assert!(server.kill_listener(([10, 0, 0, 2], 80)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill(&self, flow: FourTuple) -> bool {
        self.shared().with(|inner| inner.stack.tcp_kill(&flow))
    }

    /// Closes the listener that is bound to exactly this address and resets the connections in its accept queue
    /// (`Rule::RstListenerKilled`). Its [`accept`](crate::TcpListener::accept) fails with `InvalidInput`. `false`: no
    /// such listener.
    pub fn kill_listener(&self, local: impl Into<SocketAddr>) -> bool {
        let local = local.into();
        self.shared().with(|inner| inner.stack.tcp_kill_listener(local))
    }

    /// The connections that have not ended, as `ss` lists them, in no particular order.
    pub fn connections(&self) -> Vec<OpenConnection> {
        self.shared().with(|inner| inner.stack.tcp_connections().collect())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.0
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
