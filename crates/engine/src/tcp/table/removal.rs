//! The end of a connection: its record, its TIME-WAIT entry, what is kept for its user, the removal of its entry.

use super::TcpTable;
use super::slot::{Slot, Socket};
use crate::Instant;
use crate::end::{ByteCounts, Ended, Origin};
use crate::event::Event;
use crate::shared::Shared;
use crate::tcp::closed::closed_socket::ClosedSocket;
use crate::tcp::closed::time_wait::TimeWait;
use crate::tcp::connection::Closing;
use crate::tcp::demux::place;
use crate::tcp::{ConnId, TcpState};
use alloc::boxed::Box;

impl TcpTable {
    /// The connection has ended: its four-tuple is freed or enters TIME-WAIT, its end is reported, and its unread data is
    /// kept for the user.
    #[inline(never)]
    pub(super) fn finish_connection(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        self.timers.remove(place(id));
        let Some(Socket::Open(connection)) = self.entries[id].slot.socket_mut() else { return };
        let mut ended = match connection.fate.take() {
            Some(Closing::TimeWait(ended)) => {
                let wait = TimeWait::new(shared, now, connection);
                if connection.pending.ack || connection.pending.pure_acks > 0 {
                    wait.acknowledge(shared, now, &connection.flow);
                }
                if self.demux.wait(&shared.config, id, connection.flow, wait).is_err() {
                    shared.counters.tcp_time_wait_overflows += 1;
                }
                ended
            }
            Some(Closing::Closed(ended) | Closing::Resetting(ended)) => {
                self.demux.remove(id);
                ended
            }
            None => return,
        };
        ended.bytes = connection.bytes;
        let open = matches!(ended.end.state, TcpState::Established | TcpState::CloseWait);
        shared.counters.tcp_established_resets += u64::from(open);
        shared.counters.ends.count(ended.end.rule);
        let over = if connection.has_user {
            Some(ClosedSocket::of_connection(shared, now, connection, ended.end.clone()))
        } else {
            self.orphans -= 1;
            None
        };
        let waits = connection.waits;
        shared.events.push(Event::Ended(ended));
        if over.is_some() {
            waits.wake(shared, id);
        }
        self.keep(shared, id, over);
    }

    pub(super) fn finish_handshake(&mut self, shared: &mut Shared, id: ConnId) {
        self.timers.remove(place(id));
        let Some(Socket::Opening(handshake)) = self.entries[id].slot.socket_mut() else { return };
        let Some(end) = handshake.end.take() else { return };
        self.embryonic -= usize::from(handshake.origin == Origin::Passive);
        shared.counters.tcp_attempt_fails += 1;
        shared.counters.ends.count(end.rule);
        shared.events.push(Event::Ended(Box::new(Ended {
            id,
            flow: handshake.flow,
            origin: handshake.origin,
            opened: handshake.opened,
            established: None,
            numbers: handshake.initial_numbers(),
            bytes: ByteCounts::default(),
            end: (*end).clone(),
        })));
        self.demux.remove(id);
        let kept = handshake.leaves_something(&end);
        if kept {
            handshake.waits.wake(shared, id);
        }
        let over = kept.then(|| ClosedSocket::of_handshake(handshake, *end));
        self.keep(shared, id, over);
    }

    /// Keeps what is left of a closed connection for its user, or removes the entry.
    fn keep(&mut self, shared: &mut Shared, id: ConnId, over: Option<ClosedSocket>) {
        match over {
            Some(over) => {
                let entry = &mut self.entries[id];
                let over = Slot::Socket(Socket::Closed(Box::new(over)));
                self.spare.keep(core::mem::replace(&mut entry.slot, over));
                entry.account(&mut shared.memory);
            }
            None => self.remove(shared, id),
        }
    }

    /// Removes the entry of a connection that has ended and has no user.
    pub fn remove(&mut self, shared: &mut Shared, id: ConnId) {
        if let Some(mut entry) = self.entries.remove(id) {
            entry.release_account(&mut shared.memory);
            self.spare.keep(entry.slot);
        }
    }
}
