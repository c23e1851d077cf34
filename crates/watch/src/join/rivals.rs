//! Sockets that tracepoints show with the addresses of another socket.
//!
//! Tracepoints know no network namespace, and containers often use the same addresses: each has its own 127.0.0.1. Of
//! two sockets with the same addresses at most one is in the namespace that is watched. Their cookies show which: that of
//! a destroyed socket is in its tracepoint and, in this namespace alone, in the report of sock_diag.

use std::collections::HashMap;

use super::connection::Side;
use super::{FOREIGN_AFTER, Join};
use crate::event::{Flow, Time};

/// Max sockets that are kept.
const MAX: usize = 1 << 12;

#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// By their address in the kernel.
    alive: HashMap<u64, Side>,
    /// By their cookies.
    destroyed: HashMap<u64, Side>,
}

impl Rivals {
    /// The socket at this address, if it is one of these. One with other addresses has taken its place.
    pub(super) fn get(&mut self, sk: u64, flow: Flow) -> Option<&mut Side> {
        if self.alive.get(&sk).is_some_and(|side| flow.is_complete() && side.flow != flow) {
            self.alive.remove(&sk);
        }
        self.alive.get_mut(&sk)
    }

    /// Those with this flow.
    pub(super) fn with(&mut self, flow: Flow) -> impl Iterator<Item = &mut Side> {
        self.alive.values_mut().chain(self.destroyed.values_mut()).filter(move |side| side.flow == flow)
    }

    /// Whether one of those alive has this flow.
    pub(super) fn has(&self, flow: Flow) -> bool {
        self.alive.values().any(|side| side.flow == flow)
    }

    /// Adds a socket. Returns how many others are dropped.
    fn add(&mut self, sk: u64, flow: Flow, at: Time) -> u64 {
        let count = self.alive.len() + self.destroyed.len();
        let over =
            |side: &Side| side.over_at().is_some_and(|over| at.since(over) > FOREIGN_AFTER * 1_000_000);
        self.alive.retain(|_, side| !over(side));
        self.destroyed.retain(|_, side| !over(side));
        if self.alive.len() + self.destroyed.len() >= MAX {
            self.alive.clear();
            self.destroyed.clear();
        }
        let dropped = count - self.alive.len() - self.destroyed.len();
        self.alive.insert(sk, Side { sk, ..Side::new(flow) });
        dropped as u64
    }

    /// The socket at this address is destroyed. Returns its flow.
    pub(super) fn destroy(&mut self, sk: u64, cookie: u64) -> Option<Flow> {
        let mut side = self.alive.remove(&sk)?;
        side.cookie = Some(cookie);
        // The same address may be given to another socket from now on.
        side.sk = u64::MAX;
        let flow = side.flow;
        self.destroyed.insert(cookie, side);
        Some(flow)
    }
}

impl Join {
    /// Adds a socket whose addresses are those of another.
    pub(super) fn add_rival(&mut self, at: Time, flow: Flow, sk: u64) -> Option<&mut Side> {
        self.totals.foreign += self.rivals.add(sk, flow, at);
        self.rivals.get(sk, flow)
    }

    /// A socket of this namespace with this cookie was destroyed. If it is a rival it takes the place of the socket that
    /// was taken for it, or begins a new connection if that is known to be of this namespace, too.
    pub(super) fn promote(&mut self, cookie: u64) {
        let Some(side) = self.rivals.destroyed.remove(&cookie) else { return };
        let flow = side.flow;
        let confirmed = self.is_confirmed(flow);
        let id = self.connection(flow, confirmed);
        self.by_cookie.insert(cookie, flow);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let place = connection.place(flow);
        if connection.sides[place].replace(side).is_some() {
            self.totals.foreign += 1;
        }
    }

    /// Whether the socket with this flow is known to be of this namespace, or was reported.
    pub(super) fn is_confirmed(&self, flow: Flow) -> bool {
        let connection = self.by_flow.get(&flow.undirected()).and_then(|id| self.connections.get(id));
        connection.is_some_and(|connection| {
            let side = connection.sides[connection.place(flow)].as_ref();
            connection.reported.is_some() || side.is_some_and(|side| self.has_cookie(side))
        })
    }
}
