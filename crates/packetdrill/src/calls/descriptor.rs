//! File descriptors.

use super::epoll::Epoll;
use super::notices::Notices;
use lastack_engine::{ConnId, ListenerId, UdpId};
use std::collections::BTreeMap;
use std::time::Duration;

/// An open descriptor.
#[derive(Debug)]
pub struct Fd {
    pub kind: Kind,
    pub nonblock: bool,
    /// Numeric options that were set, by level and name.
    pub options: BTreeMap<(i64, i64), i64>,
    pub linger: Option<Duration>,
    pub notices: Notices,
    /// The directions of a datagram socket that `shutdown` has closed.
    pub shut: Shut,
}

/// The directions that are shut down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shut {
    pub reads: bool,
    pub writes: bool,
}

impl Fd {
    pub fn new(kind: Kind, nonblock: bool) -> Self {
        Self {
            kind,
            nonblock,
            options: BTreeMap::new(),
            linger: None,
            notices: Notices::default(),
            shut: Shut::default(),
        }
    }
}

/// The object behind a descriptor.
#[derive(Debug)]
pub enum Kind {
    Stream(Stream),
    /// Bound at its first use.
    Datagram(Option<UdpId>),
    Epoll(Epoll),
}

/// A TCP socket.
#[derive(Debug)]
pub struct Stream {
    pub state: StreamState,
    pub bound: bool,
    /// After `SHUT_RD`: a read returns only what has already arrived.
    pub no_more_reads: bool,
}

/// The phase of a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Fresh,
    Listening(ListenerId),
    /// `connect` has not reported success yet.
    Connecting(ConnId),
    Connected(ConnId),
}

impl Stream {
    pub fn new(state: StreamState) -> Self {
        Self { state, bound: false, no_more_reads: false }
    }

    pub fn connection(&self) -> Option<ConnId> {
        match self.state {
            StreamState::Connecting(id) | StreamState::Connected(id) => Some(id),
            StreamState::Fresh | StreamState::Listening(_) => None,
        }
    }
}

impl Fd {
    pub fn stream(&self) -> Option<&Stream> {
        match &self.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Datagram(_) | Kind::Epoll(_) => None,
        }
    }

    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Datagram(_) | Kind::Epoll(_) => None,
        }
    }

    pub fn connection(&self) -> Option<ConnId> {
        self.stream().and_then(Stream::connection)
    }

    pub fn datagram(&self) -> Option<UdpId> {
        match self.kind {
            Kind::Datagram(id) => id,
            Kind::Stream(_) | Kind::Epoll(_) => None,
        }
    }
}
