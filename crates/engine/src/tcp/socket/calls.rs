//! The socket calls of a connection (RFC 9293 section 3.9.1): send, receive, half-close, close (SO_LINGER), abort.
//! They change state only; segments are sent later.

use crate::end::{Cause, End, EndedBy, FourTuple, InitialNumbers};
use crate::shared::Shared;
use crate::tcp::closed::reset_reply;
use crate::tcp::connection::state::State;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::{Connection, Ending};
use crate::tcp::handshake::negotiate::MIN_MSS;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::socket::settings::{MAX_DSCP, Settings};
use crate::tcp::table::{Socket, TcpTable};
use crate::tcp::{ConnId, Keepalive, TcpError, TcpState};
use crate::{Rule, Stack};
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;
use lastack_wire::reset_reason::ResetReason;

/// Max timeout of an orphan in FIN-WAIT-2, as on Linux.
const MOST_FIN_WAIT_2: Duration = Duration::from_secs(120);

/// Min interval of a timer: a shorter one would expire all the time.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// A handle to a connection. From [`Stack::tcp`].
#[derive(Debug)]
pub struct Tcp<'a> {
    pub(in crate::tcp) table: &'a mut TcpTable,
    pub(in crate::tcp) shared: &'a mut Shared,
    id: ConnId,
}

impl Stack {
    /// The connection with this identifier; `None` if it was closed.
    pub fn tcp(&mut self, id: ConnId) -> Option<Tcp<'_>> {
        let Self { tcp, shared, .. } = self;
        if !tcp.owns(id) {
            return None;
        }
        tcp.unpark(shared, id);
        Some(Tcp { table: tcp, shared, id })
    }

    /// The state of the connection with this four-tuple, also of an orphan or one in SYN-RECEIVED or TIME-WAIT.
    /// `None`: there is none.
    pub fn tcp_state(&self, flow: &FourTuple) -> Option<TcpState> {
        self.tcp.state_of(flow)
    }
}

impl Tcp<'_> {
    pub(in crate::tcp) fn socket(&self) -> &Socket {
        self.table.socket(self.id)
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.table.socket_mut(self.id)
    }

    fn flow(&self) -> FourTuple {
        *self.socket().flow()
    }

    pub(in crate::tcp) fn settings(&self) -> &Settings {
        match self.socket() {
            Socket::Opening(handshake) => &handshake.settings,
            Socket::Open(connection) => &connection.settings,
            Socket::Closed(over) => &over.settings,
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        match self.socket_mut() {
            Socket::Opening(handshake) => change(&mut handshake.settings),
            Socket::Open(connection) => {
                let before = connection.settings;
                change(&mut connection.settings);
                connection.rearm(&before);
            }
            Socket::Closed(over) => change(&mut over.settings),
        }
        self.table.enqueue(self.id);
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.flow().local
    }

    /// The remote address.
    pub fn remote(&self) -> SocketAddr {
        self.flow().remote
    }

    /// STATUS: its state.
    pub fn state(&self) -> TcpState {
        match self.socket() {
            Socket::Closed(over) if self.table.is_in_time_wait(&over.flow) => TcpState::TimeWait,
            socket => socket.state(),
        }
    }

    /// Its initial sequence numbers. After its end they are only in [`Ended`](crate::Ended).
    pub fn initial_numbers(&self) -> InitialNumbers {
        match self.socket() {
            Socket::Opening(handshake) => handshake.initial_numbers(),
            Socket::Open(connection) => connection.initial_numbers(),
            Socket::Closed(_) => InitialNumbers::default(),
        }
    }

    /// Why it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match self.socket() {
            Socket::Opening(handshake) => handshake.end.as_ref(),
            Socket::Open(connection) => connection.decided(),
            Socket::Closed(over) => Some(&over.end),
        }
    }

    /// The pending error (`SO_ERROR`). It is returned once, by this or any other call.
    pub fn take_error(&mut self) -> Option<TcpError> {
        match self.socket_mut() {
            Socket::Opening(_) => None,
            Socket::Open(connection) => connection.soft_error.take().map(|soft| TcpError::from_icmp(soft.0)),
            Socket::Closed(over) => over.pending.take().or(over.write_error.take()),
        }
    }

    /// The error that the next call will return; it is not cleared. A soft error, from ICMP on a connection that goes
    /// on, is not included: only [`take_error`](Self::take_error) returns it.
    pub fn pending_error(&self) -> Option<TcpError> {
        match self.socket() {
            Socket::Opening(_) | Socket::Open(_) => None,
            Socket::Closed(over) => over.pending.or(over.write_error),
        }
    }

    /// SEND: copies as much of `text` as there is room for, and returns how much. `Pending`: there is no
    /// room, or no connection yet; [`Event::Writable`](crate::Event::Writable) follows.
    ///
    /// # Errors
    ///
    /// The pending error once, then [`TcpError::BrokenPipe`]; the latter also after
    /// [`shutdown`](Self::shutdown).
    pub fn send(&mut self, text: &[u8]) -> Poll<Result<usize, TcpError>> {
        self.give(text, false)
    }

    fn give(&mut self, text: &[u8], more: bool) -> Poll<Result<usize, TcpError>> {
        let Self { table, shared, id } = self;
        match table.socket_mut(*id) {
            Socket::Opening(handshake) if handshake.closing => Poll::Ready(Err(TcpError::BrokenPipe)),
            Socket::Opening(handshake) => {
                handshake.waits.write = true;
                Poll::Pending
            }
            Socket::Open(connection) => {
                let sent = connection.send(shared, text, more);
                table.enqueue(*id);
                table.account_memory(shared, *id);
                sent
            }
            Socket::Closed(over) => Poll::Ready(Err(over.write())),
        }
    }

    /// [`send`](Self::send), and more follows (`MSG_MORE`): a partial segment waits for more data, at most until the
    /// peer's next acknowledgment or the retransmission timeout.
    ///
    /// # Errors
    ///
    /// As in [`send`](Self::send).
    pub fn send_more(&mut self, text: &[u8]) -> Poll<Result<usize, TcpError>> {
        self.give(text, true)
    }

    /// As [`send`](Self::send), but the caller writes in place: `fill` gets at most as much memory as there is room,
    /// parts of the send buffer and, if that has to grow, of `spare`; it returns how many bytes it has written, from
    /// the first on.
    ///
    /// # Errors
    ///
    /// As in [`send`](Self::send).
    pub fn send_with(
        &mut self,
        spare: &mut [u8],
        fill: impl FnOnce([&mut [u8]; 3]) -> usize,
    ) -> Poll<Result<usize, TcpError>> {
        let Self { table, shared, id } = self;
        let Socket::Open(connection) = table.socket_mut(*id) else { return self.send(&[]) };
        let room = if connection.may_send() { connection.send_room(shared) } else { 0 };
        if room == 0 {
            return self.send(&[]);
        }
        let sent = connection.outgoing.fill(room, spare, fill);
        connection.pending.more = false;
        connection.pushed = connection.recovery.scoreboard.position(connection.end_of_text());
        table.enqueue(*id);
        table.account_memory(shared, *id);
        Poll::Ready(Ok(sent))
    }

    /// The room in the send buffer, in bytes; `Pending` and errors as in [`send`](Self::send).
    pub fn poll_writable(&mut self) -> Poll<Result<usize, TcpError>> {
        let room = match self.socket() {
            Socket::Open(connection) if connection.may_send() => connection.send_room(self.shared),
            _ => 0,
        };
        if room > 0 { Poll::Ready(Ok(room)) } else { self.send(&[]) }
    }

    /// Ready once all data, and the FIN if there is one, is acknowledged; `Pending`:
    /// [`Event::Writable`](crate::Event::Writable) follows.
    ///
    /// # Errors
    ///
    /// As in [`send`](Self::send), if the connection ended before; none if it was closed cleanly.
    pub fn poll_drained(&mut self) -> Poll<Result<(), TcpError>> {
        match self.socket_mut() {
            Socket::Opening(handshake) => {
                handshake.waits.drain = true;
                Poll::Pending
            }
            Socket::Open(connection) if connection.is_drained() => Poll::Ready(Ok(())),
            Socket::Open(connection) => {
                connection.waits.drain = true;
                Poll::Pending
            }
            Socket::Closed(over) if over.end.cause == Cause::Orderly => Poll::Ready(Ok(())),
            Socket::Closed(over) => Poll::Ready(Err(over.write())),
        }
    }

    /// RECEIVE: moves data into `buf` and returns how much; `Ok(0)` is the end of the stream. `Pending`:
    /// there is none yet; [`Event::Readable`](crate::Event::Readable) follows.
    ///
    /// # Errors
    ///
    /// All data is returned first; then the pending error, once; then the end of the stream (`docs/errors.md`).
    pub fn receive(&mut self, buf: &mut [u8]) -> Poll<Result<usize, TcpError>> {
        match self.poll_readable() {
            Poll::Ready(Ok(n)) if n > 0 => {
                let n = self.peek(buf);
                self.consume(n);
                Poll::Ready(Ok(n))
            }
            other => other,
        }
    }

    /// How many bytes can be received; otherwise as [`receive`](Self::receive).
    pub fn poll_readable(&mut self) -> Poll<Result<usize, TcpError>> {
        match self.socket_mut() {
            Socket::Opening(handshake) => {
                handshake.waits.read = true;
                Poll::Pending
            }
            Socket::Open(connection) => connection.poll_readable(),
            Socket::Closed(over) if over.incoming.is_empty() => Poll::Ready(over.read()),
            Socket::Closed(over) => Poll::Ready(Ok(over.incoming.len())),
        }
    }

    /// Copies data into `buf` without consuming it, and returns how much.
    pub fn peek(&self, buf: &mut [u8]) -> usize {
        match self.socket() {
            Socket::Opening(_) => 0,
            Socket::Open(connection) => connection.incoming.peek(buf),
            Socket::Closed(over) => over.incoming.peek(buf),
        }
    }

    /// The data that can be received, in place: two slices, the second of which may be empty.
    pub fn readable(&self) -> [&[u8]; 2] {
        match self.socket() {
            Socket::Opening(_) => [&[], &[]],
            Socket::Open(connection) => connection.incoming.readable(),
            Socket::Closed(over) => over.incoming.readable(),
        }
    }

    /// Removes `n` bytes of that data.
    pub fn consume(&mut self, n: usize) {
        let update = match self.socket_mut() {
            Socket::Opening(_) => false,
            Socket::Open(connection) => {
                connection.incoming.consume(n);
                let due = connection.state.may_receive()
                    && connection.rcv.update_is_due(&connection.incoming, connection.mss);
                connection.pending.ack |= due;
                due
            }
            Socket::Closed(over) => {
                over.incoming.consume(n);
                false
            }
        };
        if update {
            self.table.enqueue(self.id);
        }
    }

    /// From now on the stream is acknowledged only as far as [`acknowledge`](Self::acknowledge) says, and a keep-alive
    /// probe is answered only by that call; [`Event::AckWanted`](crate::Event::AckWanted) reports it. For relays: the
    /// peer's timers then measure the whole path. No effect before the connection is established.
    pub fn hold_acks(&mut self) {
        if let Socket::Open(connection) = self.socket_mut() {
            connection.hold_acks();
        }
    }

    /// Acknowledges the first `octets` bytes of the stream, counted from its start; `fin`: and the FIN, if these are
    /// all. The acknowledgment of all received data also answers any pending probe.
    pub fn acknowledge(&mut self, octets: u64, fin: bool) {
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        if let Socket::Open(connection) = table.socket_mut(*id) {
            connection.acknowledge(shared, now, octets, fin);
            table.enqueue(*id);
        }
    }

    /// Whether an answer to the peer is pending because it is held back.
    pub fn ack_wanted(&self) -> bool {
        match self.socket() {
            Socket::Open(connection) => connection.rcv.hold.is_some_and(|hold| hold.asked),
            _ => false,
        }
    }

    /// From now on nothing is sent to the peer, and nothing from it is processed but a RST, as if the path were cut.
    pub fn mute(&mut self) {
        self.set(|settings| settings.muted = true);
    }

    /// Sends the peer an ICMP error about its data in flight, from this address or, with `None`, from our own.
    pub fn report_error(&mut self, error: IcmpError, from: Option<IpAddr>) {
        let Self { table, shared, id } = self;
        if let Socket::Open(connection) = table.socket_mut(*id) {
            connection.report_error(shared, error, from);
        }
    }

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
            Socket::Opening(handshake) if handshake.phase == Phase::SynReceived => handshake.closing = true,
            Socket::Opening(handshake) => abort_handshake(shared, handshake, now),
            Socket::Open(connection) if connection.fate.is_some() => return Err(TcpError::NotConnected),
            Socket::Open(connection) => connection.state = connection.state.close(),
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
        if let Socket::Open(connection) = self.socket_mut()
            && connection.settings.muted
            && connection.fate.is_none()
        {
            connection.finish(Ending::new(Cause::Aborted, EndedBy::Application, Rule::DropIntercepted), now);
        }
        let rule = match self.socket_mut() {
            Socket::Opening(handshake) if handshake.may_finish() => {
                handshake.closing = true;
                None
            }
            Socket::Opening(_) => Some(Rule::RstAbort),
            Socket::Open(connection) => connection.close(),
            Socket::Closed(_) => None,
        };
        let mut crowded = self.table.orphans >= self.shared.config.tcp.max_orphans;
        let rule = match self.table.socket_mut(self.id) {
            Socket::Opening(handshake) => {
                handshake.has_user = false;
                rule
            }
            Socket::Open(connection) => {
                connection.has_user = false;
                let alive = connection.fate.is_none();
                crowded |= connection.exceeds_memory_share(self.shared);
                self.table.orphans += 1;
                self.shared.counters.tcp_orphan_overflows += u64::from(crowded && rule.is_none() && alive);
                rule.or((crowded && alive).then_some(Rule::LimitOrphansAtClose))
            }
            Socket::Closed(_) => return self.table.remove_over(self.shared, self.id),
        };
        match rule {
            Some(rule) => self.abort_by(rule),
            None => self.follow_up(),
        }
    }

    /// `SO_LINGER`: `None`: off; zero: a close aborts; else how long a close waits, which the caller implements
    /// ([`poll_drained`](Self::poll_drained)).
    pub fn set_linger(&mut self, linger: Option<Duration>) {
        self.set(|settings| settings.linger = linger);
    }

    /// See [`set_linger`](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        self.settings().linger
    }

    /// `TCP_NODELAY`: a partial segment is sent at once even if others are in flight. Setting it also flushes data that
    /// is waiting.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        if let Socket::Open(connection) = self.socket_mut() {
            let waits = connection.end_of_text().after(connection.snd.nxt);
            connection.pending.flush = nodelay && waits;
        }
        self.set(|settings| settings.nodelay = nodelay);
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> bool {
        self.settings().nodelay
    }

    /// `TCP_CORK`: a partial segment waits until the option is cleared or the retransmission timeout has passed.
    pub fn set_cork(&mut self, cork: bool) {
        self.set(|settings| settings.cork = cork);
    }

    /// See [`set_cork`](Self::set_cork).
    pub fn cork(&self) -> bool {
        self.settings().cork
    }

    /// `TCP_MAXSEG`: max data in a segment, in both directions; no effect after the SYNs are exchanged.
    pub fn set_max_segment(&mut self, octets: Option<u16>) {
        self.set(|settings| settings.max_segment = octets.map(|octets| octets.max(MIN_MSS)));
    }

    /// `SO_SNDBUF`: size of the send buffer, sent data included, up to the stack's limit; `None`: auto-tuning.
    pub fn set_send_buffer(&mut self, octets: Option<usize>) {
        self.set(|settings| settings.send_buffer = octets);
        if let Socket::Open(connection) = self.table.socket_mut(self.id) {
            connection.wake_writer(self.shared);
        }
    }

    /// `SO_KEEPALIVE`: its times are at least a millisecond, its count at least one; `None`: off.
    pub fn set_keepalive(&mut self, keepalive: Option<Keepalive>) {
        let keepalive = keepalive.map(|times| Keepalive {
            idle: times.idle.max(MIN_INTERVAL),
            interval: times.interval.max(MIN_INTERVAL),
            count: times.count.max(1),
        });
        self.set(|settings| settings.keepalive = keepalive);
    }

    /// See [`set_keepalive`](Self::set_keepalive).
    pub fn keepalive(&self) -> Option<Keepalive> {
        self.settings().keepalive
    }

    /// `TCP_LINGER2`: the timeout in FIN-WAIT-2 after [`close`](Self::close), at most two minutes; `None`: the stack's
    /// (`Rule::EndFinWait2Timeout`). Zero (on Linux a negative value): no wait, a RST as soon as our FIN is
    /// acknowledged (`Rule::RstFinWait2Refused`).
    pub fn set_fin_wait_2(&mut self, limit: Option<Duration>) {
        self.set(|settings| settings.fin_wait_2 = limit.map(|limit| limit.min(MOST_FIN_WAIT_2)));
    }

    /// See [`set_fin_wait_2`](Self::set_fin_wait_2).
    pub fn fin_wait_2(&self) -> Option<Duration> {
        self.settings().fin_wait_2
    }

    /// The reason declared in the RST of an [`abort`](Self::abort), or of a [`close`](Self::close) that resets
    /// (draft-ietf-tcpm-rst-diagnostic-payload), even if the stack does not declare reasons: a proxy forwards the
    /// reason it has received. `None`: the reason of the rule, if the stack declares reasons.
    pub fn set_reset_reason(&mut self, reason: Option<ResetReason>) {
        self.set(|settings| settings.reset_reason = reason);
    }

    /// See [`set_reset_reason`](Self::set_reset_reason).
    pub fn reset_reason(&self) -> Option<ResetReason> {
        self.settings().reset_reason
    }

    /// DSCP of segments sent from now on: the low six bits (RFC 9293 section 3.9.1.9).
    pub fn set_dscp(&mut self, dscp: u8) {
        self.set(|settings| settings.dscp = dscp & MAX_DSCP);
    }

    /// See [`set_dscp`](Self::set_dscp).
    pub fn dscp(&self) -> u8 {
        self.settings().dscp
    }

    /// `IP_TTL`, `IPV6_UNICAST_HOPS`: the hop limit of segments sent from now on; `None`: the stack's (RFC 9293
    /// section 3.9.1.9). TIME-WAIT uses the stack's.
    pub fn set_hop_limit(&mut self, hop_limit: Option<u8>) {
        self.set(|settings| settings.hop_limit = hop_limit);
    }

    /// See [`set_hop_limit`](Self::set_hop_limit).
    pub fn hop_limit(&self) -> u8 {
        self.settings().hop_limit.unwrap_or(self.shared.config.hop_limit)
    }

    /// See [`set_max_segment`](Self::set_max_segment).
    pub fn max_segment(&self) -> Option<u16> {
        self.settings().max_segment
    }

    /// Size of the send buffer: the value set, or the stack's limit.
    pub fn send_buffer(&self) -> usize {
        let limit = self.shared.config.tcp.send_buffer;
        self.settings().send_buffer.map_or(limit, |bytes| bytes.min(limit))
    }

    /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged; `None` or zero: the retry limit applies.
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.set(|settings| settings.user_timeout = limit.filter(|limit| !limit.is_zero()));
    }

    /// Advertises a USER TIMEOUT to the peer, and applies the one that the peer advertises (RFC 5482): data may stay
    /// unacknowledged for the longer of both, within the limits of
    /// [`TcpConfig`](crate::TcpConfig::min_user_timeout). A value set by
    /// [`set_user_timeout`](Self::set_user_timeout) takes precedence. `None`: the option is neither sent nor applied.
    pub fn set_advertised_user_timeout(&mut self, limit: Option<Duration>) {
        let limit = limit.filter(|limit| !limit.is_zero());
        let news = limit.is_some() && limit != self.settings().advertised_user_timeout;
        self.set(|settings| settings.advertised_user_timeout = limit);
        if let Socket::Open(connection) = self.socket_mut()
            && connection.fate.is_none()
        {
            connection.pending.user_timeout = news;
            if news {
                connection.pending.pure_ack();
            }
        }
    }

    /// See [`set_advertised_user_timeout`](Self::set_advertised_user_timeout).
    pub fn advertised_user_timeout(&self) -> Option<Duration> {
        self.settings().advertised_user_timeout
    }

    /// See [`set_user_timeout`](Self::set_user_timeout).
    pub fn user_timeout(&self) -> Option<Duration> {
        self.settings().user_timeout
    }
}

/// The application aborts a handshake: silently in SYN-SENT (`Rule::EndAttemptClosed`), with RST in SYN-RECEIVED
/// (`Rule::RstCloseInSynReceived`) or if an intercepted SYN is unanswered (`Rule::RstIntercepted`).
fn abort_handshake(shared: &mut Shared, handshake: &mut Handshake, now: crate::Instant) {
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
        Phase::SynReceived => handshake.owes_reset = Some(rule),
    }
    handshake.finish(Cause::Aborted, EndedBy::Application, rule, None, now);
}

impl Handshake {
    /// Whether a CLOSE waits for the end of the handshake instead of aborting it.
    fn may_finish(&self) -> bool {
        let aborts = self.settings.linger.is_some_and(|time| time.is_zero());
        self.phase == Phase::SynReceived && self.end.is_none() && !aborts
    }
}

impl Connection {
    /// Whether the application may send.
    pub fn may_send(&self) -> bool {
        self.state.may_send() && self.fate.is_none()
    }

    fn send(&mut self, shared: &Shared, text: &[u8], more: bool) -> Poll<Result<usize, TcpError>> {
        if !self.may_send() {
            return Poll::Ready(Err(TcpError::BrokenPipe));
        }
        let room = self.send_room(shared);
        if room == 0 {
            self.waits.write = true;
            self.waits.blocked = true;
            return Poll::Pending;
        }
        let taken = self.outgoing.push(&text[..text.len().min(room)]);
        self.pending.more = more;
        if !more {
            self.pushed = self.recovery.scoreboard.position(self.end_of_text());
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_readable(&mut self) -> Poll<Result<usize, TcpError>> {
        if !self.incoming.is_empty() {
            return Poll::Ready(Ok(self.incoming.len()));
        }
        if !self.state.may_receive() || self.settings.read_shutdown {
            return Poll::Ready(Ok(0));
        }
        self.waits.read = true;
        Poll::Pending
    }

    /// Stops the timers whose settings differ from those `before`, so that they are restarted. Protocol counters, such
    /// as that of unanswered probes, are not reset.
    fn rearm(&mut self, before: &Settings) {
        let settings = &self.settings;
        let idle = |settings: &Settings| settings.keepalive.map(|keepalive| keepalive.idle);
        if idle(settings) != idle(before) {
            self.timers.stop(Timer::KeepAlive);
        }
        let limits = |settings: &Settings| (settings.user_timeout, settings.advertised_user_timeout);
        if limits(settings) != limits(before) {
            self.timers.stop(Timer::User);
        }
    }

    /// Whether an orphan waits for the peer's FIN (`Rule::RstFinWait2Refused`).
    pub fn waits_for_fin(&self) -> bool {
        self.settings.fin_wait_2.is_none_or(|limit| !limit.is_zero())
    }

    /// CLOSE of both directions: returns the rule if it is an abort (in this order: `Rule::RstUnreadDataAtClose`,
    /// `Rule::RstAbort`, `Rule::RstFinWait2Refused`).
    fn close(&mut self) -> Option<Rule> {
        if self.fate.is_some() {
            return None;
        }
        // No application is left to control acknowledgment.
        self.release_acks();
        if !self.incoming.is_empty() {
            return Some(Rule::RstUnreadDataAtClose);
        }
        if self.settings.linger.is_some_and(|time| time.is_zero()) {
            return Some(Rule::RstAbort);
        }
        self.state = self.state.close();
        (self.state == State::FinWait2 && !self.waits_for_fin()).then_some(Rule::RstFinWait2Refused)
    }
}
