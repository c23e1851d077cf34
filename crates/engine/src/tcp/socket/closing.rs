//! The calls that end a connection or one of its directions (RFC 9293 section 3.9.1): half-close, CLOSE (SO_LINGER), ABORT.

use crate::end::{Cause, EndedBy};
use crate::shared::Shared;
use crate::tcp::TcpError;
use crate::tcp::closed::reset_reply;
use crate::tcp::connection::Ending;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::socket::calls::Tcp;
use crate::tcp::table::Socket;
use crate::{Instant, Rule};

impl Tcp<'_> {
    /// CLOSE of our direction: FIN after all data. Data from the peer can still be received. A second call has no
    /// effect.
    ///
    /// # Errors
    ///
    /// [`TcpError::NotConnected`] after the connection's end. In SYN-SENT the attempt ends (`Rule::EndAttemptClosed`);
    /// in SYN-RECEIVED the FIN follows the handshake.
    pub fn shutdown(&mut self) -> Result<(), TcpError> {
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        match table.socket_mut(*id) {
            Socket::Opening(handshake) if handshake.phase == Phase::SynReceived => {
                handshake.closing = true;
                handshake.waits.fail_writer(shared, *id);
            }
            Socket::Opening(handshake) => abort_handshake(shared, handshake, now),
            Socket::Open(connection) if connection.fate.is_some() => return Err(TcpError::NotConnected),
            Socket::Open(connection) => {
                connection.state = connection.state.close();
                connection.waits.fail_writer(shared, *id);
            }
            Socket::Closed(_) => return Err(TcpError::NotConnected),
        }
        self.follow_up();
        Ok(())
    }

    /// `SHUT_RD`: without data to receive, a receive call returns the end of the stream. The peer is not notified; its
    /// data is accepted and can be received as before, until our direction is closed too: then new data is answered
    /// with RST (`Rule::RstDataAfterClose`).
    ///
    /// # Errors
    ///
    /// [`TcpError::NotConnected`] after the connection's end.
    pub fn shutdown_read(&mut self) -> Result<(), TcpError> {
        if self.end().is_some() {
            return Err(TcpError::NotConnected);
        }
        self.set(|settings| settings.read_shutdown = true);
        if let Socket::Open(connection) = self.table.socket_mut(self.id) {
            connection.wake_reader(self.shared);
        }
        Ok(())
    }

    /// ABORT: sends a RST at once; unsent and unread data is discarded (`Rule::RstAbort`). The identifier stays valid
    /// until [`close`](Self::close).
    pub fn abort(&mut self) {
        self.abort_by(Rule::RstAbort);
    }

    fn abort_by(&mut self, rule: Rule) {
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        match table.socket_mut(*id) {
            Socket::Opening(handshake) => abort_handshake(shared, handshake, now),
            Socket::Open(connection) if connection.fate.is_none() => {
                connection.abort(Ending::new(Cause::Aborted, EndedBy::Application, rule), now);
            }
            Socket::Open(_) | Socket::Closed(_) => {}
        }
        self.follow_up();
    }

    /// The connection may have something to send, or may have ended: then its four-tuple is free at once, and
    /// segments that arrive for it match no socket.
    fn follow_up(&mut self) {
        let now = self.table.clock();
        self.table.enqueue(self.id);
        self.table.after_step(self.shared, now, self.id);
    }

    /// Closes the connection and invalidates its identifier. With unread data: RST (`Rule::RstUnreadDataAtClose`).
    /// Linger zero: RST (`Rule::RstAbort`). Else a clean close, which continues as an orphan.
    pub fn close(mut self) {
        let now = self.table.clock();
        let mut crowded = self.table.orphans >= self.shared.config.tcp.max_orphans;
        let rule = match self.table.socket_mut(self.id) {
            Socket::Opening(handshake) => {
                handshake.has_user = false;
                handshake.closing |= handshake.may_finish();
                (!handshake.may_finish()).then_some(Rule::RstAbort)
            }
            Socket::Open(connection) => {
                if connection.settings.muted && connection.fate.is_none() {
                    let ending = Ending::new(Cause::Aborted, EndedBy::Application, Rule::DropIntercepted);
                    connection.finish(ending, now);
                }
                let rule = connection.close();
                connection.has_user = false;
                let alive = connection.fate.is_none();
                crowded |= connection.exceeds_memory_share(self.shared);
                self.table.orphans += 1;
                self.shared.counters.tcp_orphan_overflows += u64::from(crowded && rule.is_none() && alive);
                rule.or((crowded && alive).then_some(Rule::LimitOrphansAtClose))
            }
            Socket::Closed(_) => return self.table.remove(self.shared, self.id),
        };
        match rule {
            Some(rule) => self.abort_by(rule),
            None => self.follow_up(),
        }
    }
}

/// The application aborts a handshake: silently in SYN-SENT (`Rule::EndAttemptClosed`), with RST in SYN-RECEIVED
/// (`Rule::RstCloseInSynReceived`) or if an intercepted SYN is unanswered (`Rule::RstIntercepted`).
fn abort_handshake(shared: &mut Shared, handshake: &mut Handshake, now: Instant) {
    if handshake.end.is_some() {
        return;
    }
    let rule = match handshake.phase {
        Phase::SynSent => Rule::EndAttemptClosed,
        Phase::AwaitingDecision => Rule::RstIntercepted,
        Phase::SynReceived => Rule::RstCloseInSynReceived,
    };
    match handshake.phase {
        Phase::SynSent => {}
        Phase::AwaitingDecision => {
            reset_reply::push(shared, &handshake.flow, handshake.refusal_header(), rule)
        }
        Phase::SynReceived => handshake.reset_pending = Some(rule),
    }
    handshake.finish(Cause::Aborted, EndedBy::Application, rule, None, now);
}

impl Handshake {
    /// Whether a CLOSE waits for the end of the handshake instead of aborting it.
    fn may_finish(&self) -> bool {
        let aborts = self.settings.rare().linger.is_some_and(|time| time.is_zero());
        self.phase == Phase::SynReceived && self.end.is_none() && !aborts
    }
}
