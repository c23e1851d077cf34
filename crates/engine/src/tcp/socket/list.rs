//! A list of the open connections, as `ss` prints it.

use crate::end::{ByteCounts, FourTuple, Origin};
use crate::tcp::table::{Slot, Socket, TcpTable};
use crate::tcp::{ConnId, TcpState};
use crate::{Instant, Stack};

/// A connection that has not ended. From [`Stack::tcp_connections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenConnection {
    /// Its identifier; valid for [`Stack::tcp`] if the connection has a user.
    pub id: ConnId,
    /// Its two ends.
    pub flow: FourTuple,
    /// Which side opened it.
    pub origin: Origin,
    /// Its state.
    pub state: TcpState,
    /// Whether the application holds it. Orphans (closed by the application) and connections not yet accepted have
    /// no user.
    pub has_user: bool,
    /// When the first SYN was sent or received.
    pub opened: Instant,
    /// How many bytes of data it has carried.
    pub bytes: ByteCounts,
}

impl Stack {
    /// The connections that have not ended, in arbitrary order, including orphans and those in SYN-RECEIVED. TIME-WAIT
    /// is not included: its [`End`](crate::End) has been reported.
    pub fn tcp_connections(&self) -> impl Iterator<Item = OpenConnection> + '_ {
        self.tcp.open()
    }

    /// Whether the peer has acknowledged all data that was sent, and the FIN if there is one; also for an orphan.
    /// `true` if the connection has ended or is unknown.
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
            let (has_user, origin, opened, bytes) = match slot {
                _ if slot.state() == TcpState::Closed => return None,
                Slot::Parked(of) => (true, of.origin, of.opened, of.bytes),
                Slot::Socket(Socket::Opening(of)) => {
                    (of.has_user, of.origin, of.opened, ByteCounts::default())
                }
                Slot::Socket(Socket::Open(of)) => (of.has_user, of.cold.origin, of.cold.opened, of.bytes),
                Slot::Socket(Socket::Closed(_)) => return None,
            };
            let (flow, state) = (slot.flow(), slot.state());
            Some(OpenConnection { id, flow, origin, state, has_user, opened, bytes })
        })
    }
}
