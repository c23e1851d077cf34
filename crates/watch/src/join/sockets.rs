//! Events of sock_diag: lists of the sockets alive, and broadcasts of those destroyed.

use super::connection::Side;
use super::{Join, MAX_UNCLAIMED, SETTLE};
use crate::event::{Flow, SocketReport, Source, TcpState, Time};

impl Join {
    pub(super) fn on_listed(&mut self, at: Time, report: SocketReport) {
        self.learn_local(report.flow.local.ip());
        if report.state == TcpState::Listen {
            let listener = self.listeners.entry(report.flow.local.port()).or_default();
            if listener.0 != report.inode {
                *listener = (report.inode, None);
                self.wanted_owners.push(report.inode);
            }
            return;
        }
        if !report.flow.is_complete() {
            return;
        }
        let flow = report.flow;
        // Tracepoints show several sockets with these addresses: the end of this one will show which it is.
        if self.rivals.has(flow) && !self.by_cookie.contains_key(&report.cookie) {
            return;
        }
        let called = self.recognize(&report).map(|(_, attempt)| attempt);
        // The other end may have been destroyed already: then it is the same connection.
        let reported = || {
            let id = self.by_flow.get(&flow.undirected())?;
            self.connections.get(id)?.reported
        };
        let reported = reported().is_some();
        let fresh = self
            .side(flow)
            .map_or(reported, |side| side.cookie.is_some_and(|cookie| cookie != report.cookie));
        let id = self.connection(flow, fresh);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let place = connection.place(flow);
        let side = connection.sides[place].get_or_insert_with(|| Side::new(flow));
        let first = side.listed.is_none();
        if let Some(attempt) = called {
            side.called(&attempt);
        }
        side.cookie = Some(report.cookie);
        side.opened.get_or_insert(at);
        side.established |= report.state != TcpState::SynSent;
        if report.state == TcpState::CloseWait {
            side.fin.get_or_insert(super::connection::FirstFin::Theirs);
        } else if matches!(report.state, TcpState::FinWait1 | TcpState::FinWait2) {
            side.fin.get_or_insert(super::connection::FirstFin::Ours);
        }
        let inode_changed = side.listed.is_some_and(|(_, before)| before.inode != report.inode);
        if report.inode != 0 {
            side.held = Some(at);
        } else if side.held.is_some() {
            side.orphaned.get_or_insert(at);
        }
        side.listed = Some((at, report));
        side.used(Source::Sockets);
        self.by_cookie.insert(report.cookie, flow);
        if (first || inode_changed) && report.inode != 0 {
            self.wanted_owners.push(report.inode);
        }
    }

    /// Sockets that were known before a list and are not in it are closed, though their program may hold them still.
    pub(super) fn on_list_end(&mut self, begun: Time) {
        // With tracepoints the transition itself is known.
        if self.has(Source::Tracepoints) {
            return;
        }
        self.fail_unlisted(begun);
        let mut vanished = Vec::new();
        for connection in self.connections.values_mut() {
            for side in connection.sides.iter_mut().flatten() {
                let gone = side.listed.is_some_and(|(at, _)| at < begun);
                if gone && side.destroyed.is_none() && side.vanished.is_none() {
                    side.vanished = Some(begun);
                    vanished.push(side.flow);
                }
            }
        }
        for flow in vanished {
            self.look_at(flow, begun, SETTLE);
        }
    }

    pub(super) fn on_destroyed(&mut self, at: Time, report: SocketReport) {
        if self.past.contains(&report.cookie) {
            return;
        }
        let called = self.recognize(&report);
        if called.is_some() && report.flow.local.port() == 0 {
            // The call failed before a segment was sent.
            return;
        }
        let Some(flow) = called.as_ref().map(|(flow, _)| *flow).or_else(|| self.flow_of(&report)) else {
            // Listeners, and sockets that were never connected, are not counted by the kernel.
            if !report.flow.remote.ip().is_unspecified() {
                self.ledger.end(at);
            }
            self.on_stranger_destroyed(at, report);
            return;
        };
        self.learn_local(flow.local.ip());
        if self.is_ahead(&report, flow) {
            if self.unclaimed.len() >= MAX_UNCLAIMED {
                self.unclaimed.clear();
            }
            self.unclaimed.insert(report.cookie, (at, report));
            return;
        }
        self.ledger.unread(at, report.rqueue);
        self.promote(report.cookie);
        // Both ends of one connection are one end for the counters.
        if self.side(flow.mirrored()).is_none_or(|peer| peer.destroyed.is_none()) {
            self.ledger.end(at);
        }
        let other = self.side(flow).is_some_and(|side| {
            side.destroyed.is_some() || side.cookie.is_some_and(|cookie| cookie != report.cookie)
        });
        let id = self.connection(flow, other);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let place = connection.place(flow);
        let side = connection.sides[place].get_or_insert_with(|| Side::new(flow));
        if let Some((_, attempt)) = called {
            side.called(&attempt);
        }
        side.cookie = Some(report.cookie);
        side.destroyed = Some((at, report));
        side.used(Source::Destroyed);
        self.by_cookie.insert(report.cookie, flow);
        self.look_at(flow, at, SETTLE);
    }

    /// Whether a report may be about an earlier socket with these addresses. A socket that tracepoints show is reported as
    /// destroyed by them too, with its cookie, which identifies it.
    fn is_ahead(&self, report: &SocketReport, flow: Flow) -> bool {
        let traced = self.traces_destroys && !self.totals.lost.contains_key(&Source::Tracepoints);
        let current = |id: &super::Id| {
            let connection = self.connections.get(id)?;
            connection.sides[connection.place(flow)].as_ref()
        };
        let side = self.by_flow.get(&flow.undirected()).and_then(current);
        let open = |side: &Side| side.sk != 0 && side.cookie.is_none() && !side.is_over();
        traced
            && !self.by_cookie.contains_key(&report.cookie)
            && (side.is_some_and(open) || self.rivals.has(flow))
    }

    /// The flow of a destroyed socket. The kernel clears a part of it when a socket is disconnected (linger 0, a
    /// refused connect): then the cookie identifies it, or else the local port.
    fn flow_of(&self, report: &SocketReport) -> Option<Flow> {
        if let Some(&flow) = self.by_cookie.get(&report.cookie) {
            return Some(flow);
        }
        if report.flow.is_complete() {
            return Some(report.flow);
        }
        let fits = |side: &&Side| {
            side.flow.local.port() == report.flow.local.port()
                && (report.flow.remote.ip().is_unspecified()
                    || side.flow.remote.ip() == report.flow.remote.ip())
                && side.destroyed.is_none()
                && side.cookie.is_none()
        };
        let mut candidates = self.connections.values().flat_map(|connection| connection.sides()).filter(fits);
        match (candidates.next(), candidates.next()) {
            (Some(side), None) => Some(side.flow),
            _ => None,
        }
    }

    /// A socket that was never seen alive and whose addresses are cleared in part. One that was never connected ended
    /// nothing; of others at least the port and the peer's address are known.
    fn on_stranger_destroyed(&mut self, at: Time, report: SocketReport) {
        let port = report.flow.local.port();
        if port == 0 || report.flow.remote.ip().is_unspecified() || report.state == TcpState::Listen {
            return;
        }
        let flow = report.flow;
        let id = self.connection(flow, true);
        if let Some(connection) = self.connections.get_mut(&id) {
            let place = connection.place(flow);
            let mut side = Side::new(flow);
            side.cookie = Some(report.cookie);
            side.destroyed = Some((at, report));
            side.used(Source::Destroyed);
            connection.sides[place] = Some(side);
            self.by_cookie.insert(report.cookie, flow);
            self.look_at(flow, at, SETTLE);
        }
    }
}
