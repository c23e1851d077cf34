//! Readiness of a connection, as poll(2) would report it.

use crate::tcp::{Tcp, TcpState};

/// Which calls would not wait, and why: the events of poll(2), as Linux gives them for a TCP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// `POLLIN`: there is text, the end of the stream or an error to receive.
    pub readable: bool,
    /// `POLLOUT`: there is room to send into, or an error to be told.
    pub writable: bool,
    /// `POLLERR`: an error is pending, for whichever call comes first.
    pub error: bool,
    /// `POLLRDHUP`: no text follows what can be received now.
    pub read_closed: bool,
    /// `POLLHUP`: both directions are closed.
    pub hung_up: bool,
}

impl Tcp<'_> {
    /// What poll(2) would say. Asking takes nothing; what is not ready is told by an event once it is.
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
            writable: finished || self.poll_writable().is_ready(),
            error: self.pending_error().is_some(),
            read_closed,
            hung_up: read_closed && finished,
        }
    }
}
