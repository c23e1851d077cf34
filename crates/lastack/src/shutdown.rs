//! Shutting down a host: pending data is delivered or, after a time limit, discarded.

use crate::Host;
use crate::shared::Inner;
use crate::wakers::{Interest, Wait};
use lastack_engine::{ConnId, OpenConnection};
use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use std::time::Duration;

impl Host {
    /// Waits until all send queues of this host are empty: every peer has acknowledged all written data, and the FIN
    /// of every stream that was shut down or dropped; every datagram was sent. Streams may stay open; data written
    /// meanwhile is waited for too.
    ///
    /// # Errors
    /// If the driver stops before that; the reason is in the inner [`HostError`](crate::HostError).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
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

    /// Shuts this host down, even if there are other handles or sockets: no new connection is accepted or opened;
    /// open connections may end by themselves within `patience`, so that written data is delivered; the rest is
    /// reset. Returns the connections that were reset.
    ///
    /// Idle connections are waited for too: a server should first close its connections (as the graceful shutdown of
    /// axum and hyper does). Afterwards every call on the host and its sockets fails with
    /// [`HostError::ShutDown`](crate::HostError::ShutDown), except reading data that has already arrived.
    ///
    /// The driver must be running, and completes with this.
    ///
    /// # Cancel safety
    /// Once polled, the host accepts no new connections, and stops when the last one ends.
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
        // An error means that the host has stopped, as intended.
        let _stopped = stopped().await;
        reset
    }

    /// Resets every connection of this host, as [`kill`](Self::kill) does for one. The host and its listeners
    /// continue.
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
        // It may be finished already: wake the driver to check.
        self.wake_driver();
    }

    /// Resets every connection, and returns those that were open.
    pub fn abort_all(&mut self) -> Vec<OpenConnection> {
        let open: Vec<_> = self.stack.tcp_connections().collect();
        for connection in &open {
            self.stack.tcp_kill(&connection.flow);
        }
        self.wake_driver();
        open
    }
}

/// `pending`: connections seen with undelivered data; checked one by one, so that waiting is cheap for any number of
/// connections.
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
