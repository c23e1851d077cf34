//! What a descriptor is.

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
    /// Options with numbers that were set: level and name.
    pub options: BTreeMap<(i64, i64), i64>,
    pub linger: Option<Duration>,
    pub notices: Notices,
    /// What `shutdown` has ended on a datagram socket.
    pub shut: Shut,
}

/// Directions that have an end.
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

/// What it stands for.
#[derive(Debug)]
pub enum Kind {
    Stream(Stream),
    /// Bound at the first use.
    Datagram(Option<UdpId>),
    Epoll(Epoll),
}

/// A TCP socket.
#[derive(Debug)]
pub struct Stream {
    pub state: StreamState,
    pub bound: bool,
    /// `SHUT_RD`: what is read is what has arrived.
    pub no_more_reads: bool,
}

/// How far a TCP socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Fresh,
    Listening(ListenerId),
    /// `connect` has not said yet that it succeeded.
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
