//! An entry of the table: a connection in one of its phases, and spare allocations for the phases.

use crate::end::FourTuple;
use crate::tcp::closed::closed_socket::ClosedSocket;
use crate::tcp::connection::parked::Parked;
use crate::tcp::connection::{Closing, Connection};
use crate::tcp::handshake::Handshake;
use crate::tcp::memory::Memory;
use crate::tcp::segment::Arrival;
use crate::tcp::{ConnId, TcpState};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Max number of spare allocations kept for reuse, per type.
pub(in crate::tcp) const MAX_SPARE: usize = 32;

/// A connection in one of its phases, each in an allocation of its own size.
#[derive(Debug)]
pub(crate) enum Socket {
    Opening(Box<Handshake>),
    Open(Box<Connection>),
    Closed(Box<ClosedSocket>),
}

/// A connection, or an idle connection that is parked.
#[derive(Debug)]
pub(in crate::tcp) enum Slot {
    Socket(Socket),
    Parked(Box<Parked>),
}

impl Slot {
    pub fn flow(&self) -> FourTuple {
        match self {
            Self::Socket(socket) => *socket.flow(),
            Self::Parked(parked) => parked.flow(),
        }
    }

    /// Whether a segment belongs to this connection.
    pub fn is_of(&self, seg: &Arrival<'_>) -> bool {
        match self {
            Self::Socket(socket) => seg.is_of(socket.flow()),
            Self::Parked(parked) => seg.is_of(&parked.flow()),
        }
    }

    pub fn state(&self) -> TcpState {
        match self {
            Self::Socket(socket) => socket.state(),
            Self::Parked(_) => TcpState::Established,
        }
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        match self {
            Self::Socket(socket) => socket.memory(),
            Self::Parked(_) => 0,
        }
    }

    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Parked(_) => None,
        }
    }

    /// The connection, which must not be parked.
    #[inline]
    pub fn unparked_mut(&mut self) -> &mut Socket {
        self.socket_mut().expect("a connection is unparked before it is used")
    }

    pub fn socket_mut(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Parked(_) => None,
        }
    }
}

impl Socket {
    /// Whether a user owns it.
    #[inline]
    pub fn has_user(&self) -> bool {
        match self {
            Self::Opening(handshake) => handshake.has_user,
            Self::Open(connection) => connection.has_user,
            Self::Closed(_) => true,
        }
    }

    pub fn flow(&self) -> &FourTuple {
        match self {
            Self::Opening(handshake) => &handshake.flow,
            Self::Open(connection) => &connection.flow,
            Self::Closed(over) => &over.flow,
        }
    }

    /// The state of the connection. Once its end is decided it is CLOSED or TIME-WAIT, even if its reset is not sent yet.
    pub fn state(&self) -> TcpState {
        match self {
            Self::Opening(handshake) if handshake.end.is_some() => TcpState::Closed,
            Self::Opening(handshake) => handshake.state(),
            Self::Open(connection) => match connection.fate {
                None => connection.state.public(),
                Some(Closing::TimeWait(_)) => TcpState::TimeWait,
                Some(Closing::Resetting(_) | Closing::Closed(_)) => TcpState::Closed,
            },
            Self::Closed(_) => TcpState::Closed,
        }
    }
}

#[derive(Debug)]
pub(in crate::tcp) struct Entry {
    pub slot: Slot,
    /// The memory last accounted to this entry.
    pub weight: u32,
    /// Whether it is in the queue of connections that may have something to send.
    pub queued: bool,
    /// Whether it is in the queue of candidates for parking, and whether it was used since it was last examined.
    pub watched: bool,
    pub touched: bool,
}

impl Entry {
    /// After a call of the user, who may have something to send now, and may have changed the memory.
    #[inline]
    pub fn after_call(&mut self, memory: &mut Memory, ready: &mut VecDeque<ConnId>, id: ConnId) {
        if !core::mem::replace(&mut self.queued, true) {
            ready.push_back(id);
        }
        if self.slot.memory() != self.weight as usize {
            self.account(memory);
        }
    }
}

/// Allocations of removed connections, for reuse. They are likely to be in the cache; a fresh allocation may not be.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "it is the boxes that are kept")]
pub(in crate::tcp) struct Spare {
    handshakes: Vec<Box<Handshake>>,
    pub connections: Vec<Box<Connection>>,
}

impl Spare {
    /// How many are kept, of handshakes and of connections.
    #[cfg(test)]
    pub fn kept(&self) -> [usize; 2] {
        [self.handshakes.len(), self.connections.len()]
    }

    /// An allocation for a handshake, with what was in it before.
    #[inline]
    pub fn handshake(&mut self) -> Box<Handshake> {
        self.handshakes.pop().unwrap_or_else(|| Box::new(Handshake::blank()))
    }

    /// An allocation for a connection, with what was in it before.
    #[inline]
    pub fn connection(&mut self) -> Box<Connection> {
        self.connections.pop().unwrap_or_else(|| Box::new(Connection::blank()))
    }

    /// Keeps the allocation of a connection that is removed or enters its next phase, and frees what else it holds.
    pub fn keep(&mut self, mut slot: Slot) {
        if let Some(socket) = slot.socket_mut() {
            socket.release();
        }
        match slot {
            Slot::Socket(Socket::Opening(spare)) if self.handshakes.len() < MAX_SPARE => {
                self.handshakes.push(spare);
            }
            Slot::Socket(Socket::Open(spare)) if self.connections.len() < MAX_SPARE => {
                self.connections.push(spare);
            }
            _ => {}
        }
    }
}
