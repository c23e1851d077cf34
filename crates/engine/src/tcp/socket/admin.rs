//! Kill by the administrator (`Rule::RstKilled` to `Rule::RstListenerKilled`). Linux: `SOCK_DESTROY` (`ss -K`).

use crate::end::{Cause, EndedBy, FourTuple, Origin};
use crate::event::Event;
use crate::shared::Shared;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::table::{Socket, TcpTable};
use crate::{Instant, Rule, Stack};
use core::net::SocketAddr;

impl Stack {
    /// Ends the connection with this four-tuple, also an orphan; `false`: there is none.
    ///
    /// In ESTABLISHED, CLOSE-WAIT, FIN-WAIT-1, FIN-WAIT-2 or, after a simultaneous open, SYN-RECEIVED, a RST is sent
    /// (`Rule::RstKilled`); in other states nothing is sent (`Rule::EndKilledSilently`,
    /// `Rule::EndKilledWithoutConnection`). The application can read the received data, then
    /// gets [`TcpError::Aborted`] once.
    ///
    /// [`TcpError::Aborted`]: crate::TcpError::Aborted
    pub fn tcp_kill(&mut self, flow: &FourTuple) -> bool {
        self.tcp.kill(&mut self.shared, flow)
    }

    /// Closes the listener that is bound to exactly this address; `false`: there is none. Connections not yet accepted
    /// are reset, those in SYN-RECEIVED are dropped silently (`Rule::RstListenerKilled`). A waiting accept call is
    /// woken by [`Event::Incoming`], and finds no listener.
    pub fn tcp_kill_listener(&mut self, local: SocketAddr) -> bool {
        let Some(id) = self.tcp.listeners.bound_to(local) else { return false };
        if self.tcp.listeners.get(id).is_some_and(|listener| listener.waiting) {
            self.shared.events.push(Event::Incoming(id));
        }
        self.tcp.unlisten(
            &mut self.shared,
            id,
            EndedBy::Administrator,
            [Rule::RstListenerKilled, Rule::EndKilledWithoutConnection],
        );
        true
    }
}

impl TcpTable {
    fn kill(&mut self, shared: &mut Shared, flow: &FourTuple) -> bool {
        let now = self.clock();
        let Some(id) = self.live(flow) else {
            let waits = self.is_in_time_wait(flow);
            self.demux.waiting.remove(self.demux.hash(flow), flow); // `Rule::EndKilledWithoutConnection`: its end was reported
            return waits;
        };
        let killed = match self.unparked_mut(id) {
            Socket::Opening(handshake) => handshake.kill(now),
            Socket::Open(connection) => connection.kill(now),
            Socket::Closed(_) => false,
        };
        self.enqueue(id);
        self.after_step(shared, now, id);
        killed
    }
}

impl Handshake {
    fn kill(&mut self, now: Instant) -> bool {
        if self.end.is_some() {
            return false;
        }
        let rule = match (self.phase, self.origin) {
            (Phase::SynSent, _) => Rule::EndKilledSilently,
            (Phase::AwaitingDecision | Phase::SynReceived, Origin::Passive) => {
                Rule::EndKilledWithoutConnection
            }
            (Phase::AwaitingDecision | Phase::SynReceived, Origin::Active) => Rule::RstKilled,
        };
        self.reset_pending = Some(rule).filter(|rule| *rule == Rule::RstKilled);
        self.finish(Cause::Aborted, EndedBy::Administrator, rule, None, now);
        true
    }
}
