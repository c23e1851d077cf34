//! How datagrams of one socket of the program leave this host.

use std::io;
use std::net::SocketAddr;

use crate::host::Source;
use crate::host::datagrams::{DatagramSocket, Heard, Shape};
use crate::host::error_queue::QueuedError;
use crate::proxy::{Association, Destination};

/// By a socket of this host, or by a proxy.
#[derive(Debug)]
pub enum Way {
    /// A socket of this host.
    Direct(DatagramSocket),
    /// A proxy (`--via`).
    Proxy(Box<Association>),
}

impl Way {
    /// Sends a datagram, or a group. [`io::ErrorKind::WouldBlock`]: there is no room at present.
    pub fn send(
        &self,
        to: SocketAddr,
        (named, seen): (&Destination, SocketAddr),
        payload: &[u8],
        shape: Shape,
    ) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.send(to, payload, shape),
            Self::Proxy(association) => association.send(named, seen, payload, shape),
        }
    }

    /// Waits for room.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.writable().await,
            Self::Proxy(association) => association.writable().await,
        }
    }

    /// Waits for the next event. Datagrams are passed to `deliver` with their sender.
    pub async fn hear(&self, deliver: impl FnMut(SocketAddr, &[u8], Shape)) -> io::Result<Heard> {
        match self {
            Self::Direct(socket) => socket.hear(deliver).await,
            Self::Proxy(association) => association.hear(deliver).await,
        }
    }

    /// An error about a datagram that was sent, if one is queued.
    pub fn queued_error(&self) -> Option<QueuedError> {
        match self {
            Self::Direct(socket) => socket.queued_error(),
            Self::Proxy(_) => None,
        }
    }

    /// The local port.
    pub fn port(&self) -> io::Result<u16> {
        match self {
            Self::Direct(socket) => socket.port(),
            Self::Proxy(association) => association.port(),
        }
    }

    /// Lets another socket of ours share the port for a group.
    pub fn share(&self) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.share(),
            Self::Proxy(_) => Ok(()),
        }
    }

    /// Prepares for multicast, which a proxy does not carry.
    pub fn prepare_for_groups(&self, source: &Source) {
        if let Self::Direct(socket) = self {
            socket.prepare_for_groups(source);
        }
    }

    /// Datagrams that were dropped on their way to the program.
    pub fn dropped(&self) -> u64 {
        match self {
            Self::Direct(socket) => socket.dropped(),
            Self::Proxy(association) => association.dropped(),
        }
    }
}
