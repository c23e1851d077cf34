//! `axum::serve` with a listener of a host.

use crate::{TcpListener, TcpStream, Watch};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;

/// For `axum::serve(listener, app)`, as with tokio's listener.
impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    /// Never returns once the host has stopped; a graceful shutdown ends the server then.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match Self::accept(self).await {
            Ok(accepted) => accepted,
            Err(_stopped) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// The value that a handler extracts by `ConnectInfo<ConnectionInfo>`, with `into_make_service_with_connect_info`:
/// the peer, and a [`Watch`] that reports how the connection ended, for an access log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The peer's address.
    pub peer: SocketAddr,
    /// An observer of the connection.
    pub watch: Watch,
}

impl Connected<IncomingStream<'_, TcpListener>> for ConnectionInfo {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { peer: *stream.remote_addr(), watch: stream.io().watch() }
    }
}

/// As with tokio's listener: `ConnectInfo<SocketAddr>` is the peer's address.
impl From<ConnectionInfo> for SocketAddr {
    fn from(info: ConnectionInfo) -> Self {
        info.peer
    }
}
