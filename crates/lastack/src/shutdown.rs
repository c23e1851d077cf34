//! The end of a host: what its sockets were given is delivered, or given up.

use crate::Host;
use crate::shared::Inner;
use crate::wakers::{Interest, Wait};
use lastack_engine::{ConnId, OpenConnection};
use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use std::time::Duration;

impl Host {
    /// Waits until nothing of this host waits to be delivered: every peer has acknowledged all that was written, and
    /// the FIN of every stream that was shut down or dropped; every datagram has left. Streams may stay open, and more
    /// may be written meanwhile, which is waited for too.
    ///
    /// # Errors
    /// The driver stopped before that; why is in the [`HostError`](crate::HostError) inside.
    ///
    /// # Cancel safety
    /// Nothing changes when the future is dropped.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # tokio::spawn(async move { listener.accept().await?.0.read_to_end(&mut vec![]).await });
    /// let mut stream = TcpStream::connect(&client, ([10, 0, 0, 2], 80)).await?;
    /// stream.write_all(&[0; 100_000]).await?;
    /// drop(stream); // closes it: the rest is delivered in the background, then FIN
    /// client.drained().await?; // now the server has all of it
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drained(&self) -> io::Result<()> {
        let mut pending = VecDeque::new();
        let drained = |inner: &mut Inner| {
            if is_drained(inner, &mut pending) { Poll::Ready(Ok(())) } else { Poll::Pending }
        };
        Wait::new(self.shared(), Interest::Quiet, drained).await
    }

    /// Ends this host, whoever else holds it or a socket of it: no new connection is accepted or opened; what is open
    /// may end by itself for as long as `patience`, so that what was written arrives; then what is left is reset.
    /// Returns the connections that were reset.
    ///
    /// A connection that stays open although both sides are idle is waited for, too: a server tells its connections to
    /// close before (axum's and hyper's graceful shutdown do). Afterwards every call on the host and its sockets fails
    /// with [`HostError::ShutDown`](crate::HostError::ShutDown), but for reading what has already arrived.
    ///
    /// The driver must run, and ends with this.
    ///
    /// # Cancel safety
    /// Once polled, the host stays closed for new connections, and stops when the last one ends.
    pub async fn shutdown(self, patience: Duration) -> Vec<OpenConnection> {
        let shared = self.shared();
        shared.with(Inner::begin_shutdown);
        let stopped = || {
            let stopped = |inner: &mut Inner| {
                if inner.running().is_err() { Poll::Ready(Ok(())) } else { Poll::Pending }
            };
            Wait::new(shared, Interest::Stopped, stopped)
        };
        if tokio::time::timeout(patience, stopped()).await.is_ok() {
            return Vec::new();
        }
        let reset = shared.with(Inner::abort_all);
        // An error here says that it has stopped, which is what is waited for.
        let _stopped = stopped().await;
        reset
    }

    /// Resets every connection of this host, whoever holds it, as [`kill`](Self::kill) does for one. The host and its
    /// listeners live on.
    pub fn abort_all(&self) -> Vec<OpenConnection> {
        self.shared().with(Inner::abort_all)
    }
}

impl Inner {
    pub(crate) fn begin_shutdown(&mut self) {
        self.shutting_down = true;
        for id in std::mem::take(&mut self.listeners) {
            self.stack.tcp_unlisten(id);
            self.wakers.wake(Interest::Accept(id));
        }
        self.intercepted.refuse_all(&mut self.stack);
        // It may be done already, and has to notice.
        self.wake_driver();
    }

    /// Resets every connection, and returns what there was.
    pub fn abort_all(&mut self) -> Vec<OpenConnection> {
        let open: Vec<_> = self.stack.tcp_connections().collect();
        for connection in &open {
            self.stack.tcp_kill(&connection.flow);
        }
        self.wake_driver();
        open
    }
}

/// `pending`: connections that were seen to have something left; looked at one by one, so that waiting costs little
/// however many there are.
fn is_drained(inner: &Inner, pending: &mut VecDeque<ConnId>) -> bool {
    let drained = |id: &ConnId| inner.stack.tcp_is_drained(*id);
    while pending.front().is_some_and(drained) {
        pending.pop_front();
    }
    if pending.is_empty() {
        let ids = inner.stack.tcp_connections().map(|connection| connection.id);
        pending.extend(ids.filter(|id| !drained(id)));
    }
    pending.is_empty() && !inner.stack.has_output()
}
