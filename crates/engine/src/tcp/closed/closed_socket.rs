//! A closed connection that the application has not closed yet.

use crate::buffer::RecvBuffer;
use crate::end::{Cause, End, EndedBy, FourTuple};
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::Handshake;
use crate::tcp::socket::settings::Settings;
use crate::tcp::{TcpError, TcpInfo, TcpState};
use crate::{Instant, Rule};
use alloc::boxed::Box;

/// What is left for the application: unread data, an error to be reported once, and the reason.
#[derive(Debug)]
pub(crate) struct ClosedSocket {
    pub flow: FourTuple,
    pub incoming: RecvBuffer,
    /// The error that the first call returns, whichever it is (`docs/errors.md`).
    pub pending: Option<TcpError>,
    /// The error that the first write returns, if it differs.
    pub write_error: Option<TcpError>,
    pub settings: Settings,
    pub end: End,
    /// Its `TCP_INFO` at the end, if it was established.
    pub numbers: Option<Box<TcpInfo>>,
}

impl ClosedSocket {
    pub fn of_connection(shared: &Shared, now: Instant, connection: &mut Connection, end: End) -> Self {
        let numbers = connection.last_info(shared, now, &end);
        let flow = connection.flow;
        let settings = core::mem::replace(&mut connection.settings, Settings::plain());
        let mut incoming = core::mem::replace(&mut connection.incoming, RecvBuffer::new(0, 0));
        incoming.drop_ooo();
        if end.rule == Rule::RstAbort {
            incoming.clear();
        }
        // After the peer's FIN reads return end of stream; only writes return the error (`Rule::PeerRstAfterFin`).
        let error = error(&end);
        let broken_pipe = shared.config.tcp.broken_pipe_in_close_wait;
        let (pending, write_error) = match (end.state, end.cause) {
            (TcpState::CloseWait, Cause::Reset) if broken_pipe => (None, Some(TcpError::BrokenPipe)),
            (TcpState::CloseWait | TcpState::Closing | TcpState::LastAck, _) => (None, error),
            _ => (error, None),
        };
        Self { flow, incoming, pending, write_error, settings, end, numbers: Some(Box::new(numbers)) }
    }

    pub fn of_handshake(handshake: &mut Handshake, end: End) -> Self {
        Self {
            flow: handshake.flow,
            incoming: RecvBuffer::new(0, 0),
            pending: error(&end),
            write_error: None,
            settings: core::mem::replace(&mut handshake.settings, Settings::plain()),
            end,
            numbers: None,
        }
    }

    /// The error of a write: the pending one once, then EPIPE.
    pub fn write(&mut self) -> TcpError {
        self.pending.take().or(self.write_error.take()).unwrap_or(TcpError::BrokenPipe)
    }

    /// The result of a read once the data is read: the pending error once, then the end of the stream.
    pub fn read(&mut self) -> Result<usize, TcpError> {
        self.pending.take().map_or(Ok(0), Err)
    }
}

/// The error for an end. A user that aborted a connection and goes on using it gets `Aborted`.
fn error(end: &End) -> Option<TcpError> {
    match (end.cause, end.by) {
        // The connection was reset because data arrived that could no longer be read.
        _ if end.rule == Rule::RstDataAfterClose => Some(TcpError::Reset),
        (Cause::Aborted, EndedBy::Application) => Some(TcpError::Aborted),
        _ => end.error(),
    }
}
