//! The handle to a connection, its state, and the calls that move data (RFC 9293 section 3.9.1). Calls change state only;
//! segments are sent later.

use crate::Stack;
use crate::end::{Cause, End, FourTuple, InitialNumbers};
use crate::shared::Shared;
use crate::tcp::connection::Consumed;
use crate::tcp::socket::settings::Settings;
use crate::tcp::table::{Socket, TcpTable};
use crate::tcp::{ConnId, TcpError, TcpState};
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use lastack_wire::icmp::IcmpError;

/// A handle to a connection. From [`Stack::tcp`].
#[derive(Debug)]
pub struct Tcp<'a> {
    pub(in crate::tcp) table: &'a mut TcpTable,
    pub(in crate::tcp) shared: &'a mut Shared,
    pub(super) id: ConnId,
}

impl Stack {
    /// The connection with this identifier; `None` if it was closed.
    #[inline]
    pub fn tcp(&mut self, id: ConnId) -> Option<Tcp<'_>> {
        let Self { tcp, shared, .. } = self;
        tcp.take_up(shared, id).then_some(Tcp { table: tcp, shared, id })
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

    #[inline]
    pub(super) fn socket_mut(&mut self) -> &mut Socket {
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
            Socket::Opening(handshake) => handshake.end.as_deref(),
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

    /// SEND: copies as much of `data` as there is room for, and returns how much. `Pending`: there is no
    /// room, or no connection yet; [`Event::Writable`](crate::Event::Writable) follows.
    ///
    /// # Errors
    ///
    /// The pending error once, then [`TcpError::BrokenPipe`]; the latter also after
    /// [`shutdown`](Self::shutdown).
    pub fn send(&mut self, data: &[u8]) -> Poll<Result<usize, TcpError>> {
        self.give(data, false)
    }

    fn give(&mut self, data: &[u8], more: bool) -> Poll<Result<usize, TcpError>> {
        let Self { table, shared, id } = self;
        let (entry, ready) = table.entry_mut(*id);
        match entry.slot.unparked_mut() {
            Socket::Opening(handshake) if handshake.closing => Poll::Ready(Err(TcpError::BrokenPipe)),
            Socket::Opening(handshake) => {
                handshake.waits.write = true;
                handshake.waits.blocked = true;
                Poll::Pending
            }
            Socket::Open(connection) => {
                let sent = connection.send(shared, data, more);
                entry.after_call(&mut shared.memory, ready, *id);
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
    pub fn send_more(&mut self, data: &[u8]) -> Poll<Result<usize, TcpError>> {
        self.give(data, true)
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
        let (entry, ready) = table.entry_mut(*id);
        let Socket::Open(connection) = entry.slot.unparked_mut() else { return self.send(&[]) };
        let Some(sent) = connection.send_with(shared, spare, fill) else { return self.send(&[]) };
        entry.after_call(&mut shared.memory, ready, *id);
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
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        if let Socket::Open(connection) = table.socket_mut(*id)
            && !connection.incoming.is_empty()
        {
            let n = connection.incoming.peek(buf);
            let consumed = connection.consume(n, &mut shared.pool, now);
            self.after_read(consumed);
            return Poll::Ready(Ok(n));
        }
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

    /// The first data that can be received, in place: two slices, the second of which may be empty. It is all of it
    /// unless [packets are kept](crate::Stack::handle_owned_packet); then [`slices`](Self::slices) has the rest.
    pub fn readable(&self) -> [&[u8]; 2] {
        match self.socket() {
            Socket::Opening(_) => [&[], &[]],
            Socket::Open(connection) => connection.incoming.readable(),
            Socket::Closed(over) => over.incoming.readable(),
        }
    }

    /// All data that can be received, in place: slices that are not empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let incoming = match self.socket() {
            Socket::Opening(_) => None,
            Socket::Open(connection) => Some(&connection.incoming),
            Socket::Closed(over) => Some(&over.incoming),
        };
        incoming.into_iter().flat_map(|incoming| incoming.slices())
    }

    /// Removes `n` bytes of that data.
    pub fn consume(&mut self, n: usize) {
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        let consumed = match table.socket_mut(*id) {
            Socket::Opening(_) => Consumed::default(),
            Socket::Open(connection) => connection.consume(n, &mut shared.pool, now),
            Socket::Closed(over) => {
                let freed = over.incoming.consume(n, &mut shared.pool, now);
                Consumed { update: false, freed }
            }
        };
        self.after_read(consumed);
    }

    #[inline]
    fn after_read(&mut self, consumed: Consumed) {
        if consumed.update {
            self.table.enqueue(self.id);
        }
        if consumed.freed {
            self.table.account_memory(self.shared, self.id);
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
    pub fn acknowledge(&mut self, bytes: u64, fin: bool) {
        let now = self.table.clock();
        let Self { table, shared, id } = self;
        if let Socket::Open(connection) = table.socket_mut(*id) {
            connection.acknowledge(shared, now, bytes, fin);
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
}
