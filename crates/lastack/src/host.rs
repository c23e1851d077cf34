//! A host: the way to its sockets.

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

/// A host of its own on a [`Link`]: addresses, a TCP/IP stack, and the way to its sockets.
///
/// Cheap to clone; all clones are the same host. Every socket holds one, so a host lives as long as
/// anything of it does.
#[derive(Clone)]
pub struct Host(Arc<User>);

/// The users of a host, taken together.
struct User(Arc<Shared>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.with(crate::shared::Inner::abandon);
    }
}

impl Host {
    /// A host on `link`, and the future that drives it.
    ///
    /// The link's capabilities decide on MTU, largest packet and checksums, whatever `config` says.
    ///
    /// # Panics
    /// If the system has no random numbers to give; see [`with_secret`](Self::with_secret).
    pub fn new<L: Link>(config: Config, link: L) -> (Self, Driver<L>) {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).expect("the system gives random numbers");
        Self::with_secret(config, link, secret)
    }

    /// As [`new`](Self::new), with the secret from which all that outsiders must not guess derives.
    /// For tests, where a secret fixes a run.
    pub fn with_secret<L: Link>(mut config: Config, link: L, secret: [u8; 16]) -> (Self, Driver<L>) {
        link.capabilities().apply(&mut config);
        let shared = Arc::new(Shared::new(Stack::new(config, secret)));
        (Self(Arc::new(User(shared.clone()))), Driver::new(shared, link))
    }

    /// A host on `link` whose driver is spawned on the current tokio runtime.
    ///
    /// It stops with the last handle or socket, as [`Driver`] says. If the link fails, every call on a socket fails with
    /// that ([`HostError`](crate::HostError)).
    ///
    /// Closing a stream does not wait for its peer: data that was written may still be in a buffer of this host, which
    /// is part of this process. End a program with [`shutdown`](Self::shutdown) (or await [`drained`](Self::drained)), so
    /// that it arrives; a runtime that is dropped before resets what is still open.
    ///
    /// # Panics
    /// As [`new`](Self::new), and outside a tokio runtime.
    pub fn spawn<L: Link + Send + 'static>(config: Config, link: L) -> Self {
        let (host, driver) = Self::new(config, link);
        tokio::spawn(Spawned(driver));
        host
    }

    /// The stack's time: that of an [`End`](crate::End), say, is in the past of this one.
    pub fn now(&self) -> Instant {
        self.shared().now()
    }

    /// The settings the stack runs with.
    pub fn config(&self) -> Config {
        self.shared().with(|inner| inner.stack.config().clone())
    }

    /// Replaces the addresses of this host, as when a VPN is given others. A connection from an address that is not among
    /// them ends as by [`kill`](Self::kill); sockets that are bound to such an address stay, and receive nothing.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        self.shared().with(|inner| inner.stack.set_addresses(addresses));
    }

    /// Tells the host that its link has another MTU now. Connections send smaller segments at once if they must.
    ///
    /// # Errors
    /// `InvalidInput` below 68 bytes.
    pub fn set_mtu(&self, mtu: usize) -> io::Result<()> {
        self.shared().with(|inner| {
            let config = inner.stack.config();
            // A link that cuts super-segments goes on to do so.
            let max_packet = if config.max_packet > config.mtu { config.max_packet } else { mtu };
            let changed = inner.stack.set_mtu(mtu, max_packet);
            changed.map_err(|_| invalid("an MTU has 68 bytes at least (RFC 791)"))
        })
    }

    /// What happened how often since the start.
    pub fn counters(&self) -> Counters {
        self.shared().with(|inner| *inner.stack.counters())
    }

    /// From now on, the end of every connection of this host, whoever holds it or held it.
    pub fn ended(&self) -> EndedConnections {
        self.ended_with_capacity(ended::CAPACITY)
    }

    /// As [`ended`](Self::ended), holding up to `capacity` ends (at least one) that were not fetched.
    pub fn ended_with_capacity(&self, capacity: usize) -> EndedConnections {
        EndedConnections::new(&self.0.0, capacity)
    }

    /// Ends the connection between these two ends as an administrator does (`ss -K`), whoever holds it:
    /// RST where the peer has a connection (`Rule::RstKilled`), silence where it has none (`Rule::EndKilledSilently`, `Rule::EndKilledWithoutConnection`). Its user
    /// reads what has arrived, then is told `ConnectionAborted` once. `false`: there is none.
    pub fn kill(&self, flow: FourTuple) -> bool {
        self.shared().with(|inner| inner.stack.tcp_kill(&flow))
    }

    /// Closes the listener that is bound to exactly this address, whoever holds it, and resets the
    /// connections that nobody has accepted (`Rule::RstListenerKilled`). Its [`accept`](crate::TcpListener::accept) fails
    /// with `InvalidInput`. `false`: there is none.
    pub fn kill_listener(&self, local: impl Into<SocketAddr>) -> bool {
        let local = local.into();
        self.shared().with(|inner| inner.stack.tcp_kill_listener(local))
    }

    /// The connections that have not ended, whoever holds them, as `ss` lists them; in no order.
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
