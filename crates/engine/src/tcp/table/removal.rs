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
    pub(super) fn finish_connection(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        self.timers.remove(place(id));
        let Some(Socket::Open(connection)) = self.entries[id].slot.socket_mut() else { return };
        let flow = connection.flow;
        let end = match connection.fate.take() {
            Some(Closing::TimeWait(end)) => {
                let wait = TimeWait::new(shared, now, connection);
                if connection.pending.ack || connection.pending.pure_acks > 0 {
                    wait.acknowledge(shared, now, &flow);
                }
                if self.demux.wait(&shared.config, id, flow, wait).is_err() {
                    shared.counters.tcp_time_wait_overflows += 1;
                }
                end
            }
            Some(Closing::Closed(end) | Closing::Resetting(end)) => {
                self.demux.remove(id);
                end
            }
            None => return,
        };
        let open = matches!(end.state, TcpState::Established | TcpState::CloseWait);
        shared.counters.tcp_established_resets += u64::from(open);
        shared.counters.ends.count(end.rule);
        shared.events.push(Event::Ended(Box::new(Ended {
            id,
            flow,
            origin: connection.origin,
            opened: connection.opened,
            established: Some(connection.established),
            numbers: connection.initial_numbers(),
            octets: connection.octets,
            end: (*end).clone(),
        })));
        if connection.has_user {
            connection.waits.wake(shared, id);
        }
        self.orphans -= usize::from(!connection.has_user);
        let over = connection.has_user.then(|| ClosedSocket::of_connection(shared, now, connection, *end));
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
            octets: ByteCounts::default(),
            end: end.clone(),
        })));
        self.demux.remove(id);
        let kept = handshake.leaves_something(&end);
        if kept {
            handshake.waits.wake(shared, id);
        }
        let over = kept.then(|| ClosedSocket::of_handshake(handshake, end));
        self.keep(shared, id, over);
    }

    /// Keeps what is left of a closed connection for its user, or removes the entry.
    fn keep(&mut self, shared: &mut Shared, id: ConnId, over: Option<ClosedSocket>) {
        match over {
            Some(over) => self.replace(id, Slot::Socket(Socket::Closed(Box::new(over)))),
            None => self.remove(shared, id),
        }
    }

    fn remove(&mut self, shared: &mut Shared, id: ConnId) {
        self.release(id);
        self.account_memory(shared, id);
        if let Some(entry) = self.entries.remove(id) {
            self.spare.keep(entry.slot);
        }
    }

    /// Frees the heap memory of a connection.
    fn release(&mut self, id: ConnId) {
        if let Some(socket) = self.entries.get_mut(id).and_then(|entry| entry.slot.socket_mut()) {
            socket.release();
        }
    }

    /// Replaces a connection's slot by that of its next phase.
    pub(super) fn replace(&mut self, id: ConnId, slot: Slot) {
        self.release(id);
        let before = core::mem::replace(&mut self.entries[id].slot, slot);
        self.spare.keep(before);
    }

    /// The user closed a connection that had ended: removes its entry.
    pub fn remove_over(&mut self, shared: &mut Shared, id: ConnId) {
        self.remove(shared, id);
    }
}
