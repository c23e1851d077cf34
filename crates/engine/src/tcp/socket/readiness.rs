//! Readiness of a connection, as poll(2) would report it.

use crate::tcp::table::Socket;
use crate::tcp::{Tcp, TcpState};

/// Which calls would not block, and why: the events of poll(2), as on Linux for a TCP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// `POLLIN`: there is data, the end of the stream or an error to receive.
    pub readable: bool,
    /// `POLLOUT`: a third of the send buffer is free, or there is an error to report.
    pub writable: bool,
    /// `POLLERR`: an error is pending; the first call returns it.
    pub error: bool,
    /// `POLLRDHUP`: no data follows what can be received now.
    pub read_closed: bool,
    /// `POLLHUP`: both directions are closed.
    pub hung_up: bool,
}

impl Tcp<'_> {
    /// What poll(2) would report. The call consumes nothing; an event follows for what is not ready.
    pub fn readiness(&mut self) -> Readiness {
        let state = self.state();
        let over = self.end().is_some();
        if !over && matches!(state, TcpState::SynSent | TcpState::SynReceived) {
            return Readiness::default();
        }
        let peer_finished = matches!(state, TcpState::CloseWait | TcpState::Closing | TcpState::LastAck);
        let finished = over || !matches!(state, TcpState::Established | TcpState::CloseWait);
        let read_closed = over || peer_finished || self.settings().read_shutdown;
        Readiness {
            readable: read_closed || self.poll_readable().is_ready(),
            writable: finished || self.has_ample_room(),
            error: self.pending_error().is_some(),
            read_closed,
            hung_up: read_closed && finished,
        }
    }

    fn has_ample_room(&mut self) -> bool {
        match self.table.socket_mut(self.id) {
            Socket::Open(connection) if connection.may_send() => connection.poll_ample_room(self.shared),
            _ => self.poll_writable().is_ready(),
        }
    }
}
