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
                    let entry = &mut self.entries[id];
                    let parked = Slot::Parked(Box::new(parked));
                    self.spare.keep(core::mem::replace(&mut entry.slot, parked));
                }
                None => self.watched.push_back(id),
            }
        }
    }

    /// Unparks a connection that is about to be used.
    #[cold]
    pub(super) fn unpark(&mut self, id: ConnId) {
        let Self { entries, spare, watched, ready, .. } = self;
        let entry = &mut entries[id];
        let Slot::Parked(parked) = &entry.slot else { return };
        let mut connection = spare.connection();
        parked.unpark(id, &mut connection);
        entry.slot = Slot::Socket(Socket::Open(connection));
        entry.touched = true;
        if !core::mem::replace(&mut entry.watched, true) {
            watched.push_back(id);
        }
        // Its timers are started when it is next polled for output.
        if !core::mem::replace(&mut entry.queued, true) {
            ready.push_back(id);
        }
    }
}
