//! A list of the open connections, as `ss` prints it.

use crate::end::{ByteCounts, FourTuple, Origin};
use crate::tcp::table::{Slot, Socket, TcpTable};
use crate::tcp::{ConnId, TcpState};
use crate::{Instant, Stack};

/// A connection that has not ended. From [`Stack::tcp_connections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenConnection {
    /// Its name; [`Stack::tcp`] knows it if the connection has a user.
    pub id: ConnId,
    /// Its two ends.
    pub flow: FourTuple,
    /// Who opened it.
    pub origin: Origin,
    /// Its state.
    pub state: TcpState,
    /// Whether somebody holds it. An orphan, which its user has closed, and what waits to be accepted
    /// belong to nobody.
    pub has_user: bool,
    /// When the first SYN was sent or received.
    pub opened: Instant,
    /// How much text it has carried.
    pub octets: ByteCounts,
}

impl Stack {
    /// The connections that have not ended, in no order. Those of nobody, orphans and the embryonic, are
    /// among them. TIME-WAIT is none: its [`End`](crate::End) has been told.
    pub fn tcp_connections(&self) -> impl Iterator<Item = OpenConnection> + '_ {
        self.tcp.open()
    }

    /// Whether the peer of this connection has acknowledged all data that was sent, and the FIN if there is one: also of
    /// one that its user has closed. `true` if the connection is over or unknown.
    pub fn tcp_is_drained(&self, id: ConnId) -> bool {
        self.tcp.is_drained(id)
    }
}

impl TcpTable {
    fn is_drained(&self, id: ConnId) -> bool {
        match self.get(id) {
            Some(Socket::Opening(handshake)) => handshake.end.is_some() || !handshake.closing,
            Some(Socket::Open(connection)) => connection.decided().is_some() || connection.is_drained(),
            Some(Socket::Closed(_)) | None => true,
        }
    }

    fn open(&self) -> impl Iterator<Item = OpenConnection> + '_ {
        self.slots().filter_map(|(id, slot)| {
            let (has_user, origin, opened, octets) = match slot {
                _ if slot.state() == TcpState::Closed => return None,
                Slot::Parked(of) => (true, of.origin, of.opened, of.octets),
                Slot::Socket(Socket::Opening(of)) => {
                    (of.has_user, of.origin, of.opened, ByteCounts::default())
                }
                Slot::Socket(Socket::Open(of)) => (of.has_user, of.origin, of.opened, of.octets),
                Slot::Socket(Socket::Closed(_)) => return None,
            };
            let (flow, state) = (slot.flow(), slot.state());
            Some(OpenConnection { id, flow, origin, state, has_user, opened, octets })
        })
    }
}
