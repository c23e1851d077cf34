//! Listening sockets.

use crate::Host;
use crate::error::{bind_error, listener_killed};
use crate::shared::Inner;
use crate::tcp::TcpStream;
use crate::tcp::socket::Options;
use crate::wakers::{Interest, Wait};
use lastack_engine::{ConnId, ListenerId};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Default max length of the accept queue, as in tokio.
pub(super) const BACKLOG: usize = 1024;

/// A TCP socket that listens for connections.
///
/// Dropping it resets the connections in its accept queue (`Rule::RstListenerClosed`); accepted connections stay
/// open.
#[derive(Debug)]
pub struct TcpListener {
    host: Host,
    id: ListenerId,
    local: SocketAddr,
    options: Mutex<Options>,
}

impl TcpListener {
    /// Listens on `local`, with an accept queue of up to 1024 connections. The unspecified address means every
    /// address of the host, port 0 any free port.
    /// # Errors
    /// `AddrInUse` if there is such a listener, or no free port; `AddrNotAvailable` if the address
    /// is not the host's.
    pub fn bind(host: &Host, local: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::bind_with_backlog(host, local, BACKLOG)
    }

    /// As [`bind`](Self::bind), with this max length of the accept queue. While `backlog` connections wait, further
    /// handshakes are not completed.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with_backlog(host: &Host, local: impl Into<SocketAddr>, backlog: usize) -> io::Result<Self> {
        Self::listen(host, local.into(), backlog, Options::default())
    }

    pub(super) fn listen(
        host: &Host,
        local: SocketAddr,
        backlog: usize,
        options: Options,
    ) -> io::Result<Self> {
        host.shared().with(|inner| {
            inner.accepts_sockets()?;
            let id = inner.stack.tcp_listen(local, backlog).map_err(bind_error)?;
            inner.stack.tcp_set_listener_max_segment(id, options.max_segment());
            inner.stack.tcp_set_listener_receive_buffer(id, options.receive_buffer());
            inner.listeners.insert(id);
            let local = inner.stack.tcp_listener_addr(id).unwrap_or(local);
            Ok(Self { host: host.clone(), id, local, options: Mutex::new(options) })
        })
    }

    /// Waits for a connection and returns it with the address of its peer.
    ///
    /// # Errors
    /// Once the driver has stopped; `InvalidInput` once the listener was killed
    /// ([`Host::kill_listener`](crate::Host::kill_listener)). A connection that ended in the accept queue is still
    /// returned: its first read reports the error.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = |inner: &mut Inner| self.take(inner);
        Wait::new(self.host.shared(), Interest::Accept(self.id), accepted).await
    }

    /// As [`accept`](Self::accept), for a hand-written future. Only the task of the last call is
    /// woken.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.host.shared().poll(cx, Interest::Accept(self.id), None, |inner| self.take(inner))
    }

    /// The local address, with the port that was chosen if none was given.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// The hop limit (TTL) of the connections it accepts.
    ///
    /// # Errors
    /// None.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = self.host.config().hop_limit;
        Ok(self.options().ttl.unwrap_or(default).into())
    }

    /// Sets the hop limit (TTL) of the connections that it accepts from now on.
    ///
    /// # Errors
    /// `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options().ttl = Some(super::options::check_ttl(ttl)?);
        Ok(())
    }

    fn options(&self) -> MutexGuard<'_, Options> {
        // Plain values: a panic cannot leave them inconsistent.
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, inner: &mut Inner) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let options = *self.options();
        match next_of(inner, self.id, &options) {
            Some((id, local, remote)) => {
                Poll::Ready(Ok((TcpStream::new(self.host.clone(), id, local, remote), remote)))
            }
            None if inner.stack.tcp_listener_addr(self.id).is_none() => {
                Poll::Ready(Err(inner.accepts_sockets().err().unwrap_or_else(|| listener_killed(self.local))))
            }
            None => Poll::Pending,
        }
    }
}

fn next_of(
    inner: &mut Inner,
    listener: ListenerId,
    options: &Options,
) -> Option<(ConnId, SocketAddr, SocketAddr)> {
    let id = inner.stack.tcp_accept(listener)?;
    let mut tcp = inner.stack.tcp(id)?;
    options.apply(&mut tcp);
    let (local, remote) = (tcp.local(), tcp.remote());
    inner.trace_begin(id, local, remote, "accepted");
    Some((id, local, remote))
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            inner.stack.tcp_unlisten(self.id);
            inner.listeners.remove(&self.id);
            inner.wakers.forget(Interest::Accept(self.id));
        });
    }
}
