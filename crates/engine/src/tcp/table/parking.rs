//! Which connections are parked, and when.

use super::TcpTable;
use super::slot::{Slot, Socket};
use crate::Instant;
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::demux::place;
use alloc::boxed::Box;

/// Max number of connections kept unparked although they may be idle; beyond it idle connections are parked. Debug
/// builds park every idle connection, to test that parking changes no behaviour.
const MAX_WARM: usize = if cfg!(debug_assertions) { 0 } else { 64 };

/// Number of connections examined for parking each time one comes into use or a timer expires.
const LOOKS: usize = 4;

impl TcpTable {
    /// A connection is established or in use again: queues it as a candidate for parking.
    pub(super) fn watch(&mut self, shared: &Shared, now: Instant, id: ConnId) {
        let entry = &mut self.entries[id];
        entry.touched = true;
        if !core::mem::replace(&mut entry.watched, true) {
            self.watched.push_back(id);
        }
        self.park_some(shared, now);
    }

    /// Parks idle connections while more than `MAX_WARM` are unparked, the least recently examined first. Only a few are
    /// examined at a time, so that the cost per call is constant.
    pub(in crate::tcp) fn park_some(&mut self, shared: &Shared, now: Instant) {
        for _ in 0..LOOKS {
            if self.watched.len() < MAX_WARM + 1 {
                return;
            }
            let Some(id) = self.watched.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(id) else { continue };
            let Slot::Socket(Socket::Open(connection)) = &entry.slot else {
                entry.watched = false;
                continue;
            };
            let touched = core::mem::take(&mut entry.touched) || entry.queued;
            match connection.park(shared, now).filter(|_| !touched) {
                Some(parked) => {
                    entry.watched = false;
                    // What is scheduled may be left over from the handshake, and later than the deadline.
                    match parked.deadline() {
                        Some(deadline) => self.schedule(id, deadline),
                        None => self.timers.remove(place(id)),
                    }
                    self.replace(id, Slot::Parked(Box::new(parked)));
                }
                None => self.watched.push_back(id),
            }
        }
    }

    /// A connection is about to be used: unparks it if it is parked.
    pub fn unpark(&mut self, shared: &Shared, id: ConnId) {
        if let Some(entry) = self.entries.get(id)
            && matches!(entry.slot, Slot::Parked(_))
        {
            self.socket_mut(id);
            let now = self.clock;
            self.park_some(shared, now);
        }
    }
}
