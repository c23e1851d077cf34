//! Invariants that hold between any two steps. Tests and simulations check them after each step.

use crate::end::Origin;
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::State;
use crate::tcp::connection::timers::Timer;
use crate::tcp::demux::place;
use crate::tcp::table::{Entry, Slot, Socket, TcpTable};

impl TcpTable {
    /// # Panics
    ///
    /// If an invariant does not hold.
    pub fn check(&self, shared: &Shared) {
        let mut weight = 0;
        let (mut embryonic, mut orphans, mut scheduled, mut live) = (0, 0, 0, 0);
        for (id, entry) in self.entries.iter() {
            match entry.slot.socket() {
                Some(Socket::Opening(handshake)) => {
                    embryonic += usize::from(handshake.origin == Origin::Passive)
                }
                Some(Socket::Open(connection)) => orphans += usize::from(!connection.has_user),
                Some(Socket::Closed(_)) | None => {}
            }
            live += usize::from(!matches!(entry.slot, Slot::Socket(Socket::Closed(_))));
            scheduled += usize::from(self.timers.get(place(id)).is_some());
            weight += entry.weight as usize;
            let accounted = entry.queued || entry.weight as usize == entry.slot.memory();
            assert!(accounted, "memory is not accounted: {entry:?}");
            self.check_entry(id, entry);
        }
        assert_eq!(
            shared.memory.held(),
            weight,
            "accounted memory differs from the sum over all connections"
        );
        assert_eq!(
            (self.embryonic, self.orphans),
            (embryonic, orphans),
            "counts of embryonic connections and of orphans"
        );
        assert_eq!(self.timers.len(), scheduled, "deadlines without a connection: {:?}", self.timers);
        assert_eq!(self.demux.live_names(), live, "four-tuples without a connection");
        for spare in &self.spare.connections {
            assert_eq!(spare.memory(), 0, "a spare allocation holds memory");
        }
    }

    fn check_entry(&self, id: ConnId, entry: &Entry) {
        let deadline = match &entry.slot {
            Slot::Parked(parked) => parked.deadline(),
            Slot::Socket(Socket::Opening(handshake)) if handshake.end.is_some() => None,
            Slot::Socket(Socket::Opening(handshake)) => handshake.deadline,
            Slot::Socket(Socket::Open(connection)) => {
                connection.check();
                if !entry.queued && connection.fate.is_none() {
                    connection.check_settled();
                }
                connection.timers.next().filter(|_| connection.fate.is_none())
            }
            Slot::Socket(Socket::Closed(_)) => None,
        };
        let scheduled = self.timers.get(place(id));
        let served = |at| scheduled.is_some_and(|served| served <= at);
        assert!(
            deadline.is_none_or(served),
            "the deadline of {id:?} is not scheduled: {deadline:?} is before {scheduled:?}"
        );
        assert!(
            !entry.queued || self.ready.contains(&id),
            "{id:?} is marked as queued and is not in the ready queue"
        );
        let over = matches!(entry.slot, Slot::Socket(Socket::Closed(_)));
        assert!(over || self.live(&entry.slot.flow()) == Some(id), "{id:?} is not found by its four-tuple");
    }
}

impl Connection {
    /// # Panics
    ///
    /// If an invariant does not hold.
    pub fn check(&self) {
        let s = &self.snd;
        assert!(!s.una.after(s.nxt), "SND.UNA <= SND.NXT: {s:?}");
        self.recovery.scoreboard.check(s.una, s.nxt);
        let timed = self.timers.is_running(Timer::Retransmission) || self.fate.is_some();
        assert!(
            s.una == s.nxt || timed,
            "data is in flight and the retransmission timer does not run: {s:?}"
        );
        let end = self.end_of_data() + u32::from(self.state.fin_pending());
        // Once the end is decided the data may be discarded, sent or not.
        let decided = self.fate.is_some();
        assert!(decided || !s.nxt.after(end), "data was sent that is not in the send buffer: {s:?}");
        assert!(self.rcv.fin.is_none() || !self.rcv.nxt.after(self.rcv.edge + 1), "{:?}", self.rcv);
    }

    /// What must hold once everything that can be sent now is sent: no output is pending, and unsent data or a FIN has a
    /// timer.
    ///
    /// # Panics
    ///
    /// If it does not hold.
    fn check_settled(&self) {
        let pending = &self.pending;
        let nothing = pending.pure_acks == 0 && pending.challenge.is_none();
        let nothing = nothing && !(pending.ack || pending.probe || pending.tail_probe || pending.reset);
        assert!(nothing, "output is pending on a connection that is not queued: {pending:?}");
        let idle = self.snd.una == self.snd.nxt;
        let end = self.end_of_data();
        let waits = end.after(self.snd.nxt) || self.state.fin_pending() && self.snd.nxt == end;
        let runs = |timer| self.timers.is_running(timer);
        let waited_for = runs(Timer::Persist) || runs(Timer::Pace);
        assert!(!(idle && waits) || waited_for, "unsent data or FIN has no timer: {:?}", self.snd);
        assert!(
            self.rcv.unacked == 0 || runs(Timer::DelayedAck),
            "received data has no delayed ACK timer: {:?}",
            self.rcv
        );
        let orphan = self.state == State::FinWait2 && !self.has_user;
        assert!(!orphan || runs(Timer::FinWait2), "an orphan in FIN-WAIT-2 has no timer");
        assert!(
            self.settings.rare().keepalive.is_none() || runs(Timer::KeepAlive),
            "the keep-alive timer does not run"
        );
        let stalled = self.settings.rare().user_timeout.is_some() && self.stalled_since.is_some();
        assert!(!stalled || runs(Timer::User), "the user timeout does not run");
        let empty =
            self.outgoing.is_empty() && self.incoming.is_empty() && self.incoming.out_of_order().is_empty();
        let memory = self.outgoing.capacity() + self.incoming.capacity();
        assert!(
            !empty || memory == 0 || runs(Timer::Idle),
            "{memory} bytes of empty buffers have no idle timer"
        );
    }
}
