//! `axum::serve` over our listener.

use crate::{TcpListener, TcpStream, Watch};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;

/// `axum::serve(listener, app)`: the listener of a host serves as tokio's does.
impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    /// Waits for ever once the host has stopped: then nothing comes, and a graceful shutdown ends it.
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

/// What a handler gets by `ConnectInfo<ConnectionInfo>`, with `into_make_service_with_connect_info`: the peer, and a
/// [`Watch`] that tells how the connection ended, for an access log.
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

/// As of tokio's listener: `ConnectInfo<SocketAddr>` is the peer's address.
impl From<ConnectionInfo> for SocketAddr {
    fn from(info: ConnectionInfo) -> Self {
        info.peer
    }
}
