//! Events of tracepoints.
//!
//! The process of an event is its owner only in process context; an interrupt runs in any process. Tracepoints know
//! no network namespace: a socket counts once a source that does has seen it (its cookie in sock_diag, or a packet).

use super::connection::{ActiveReset, Actor, Close, FirstFin, Reply, Side};
use super::{Join, MAX_CLOSED, MAX_CLOSED_LISTENERS, MAX_OPENING, SETTLE, is_synchronized};
use crate::event::{Flow, Source, TcpState, Time, Trace, TraceKind};

impl Join {
    pub(super) fn on_trace(&mut self, at: Time, trace: Trace) {
        match &trace.kind {
            &TraceKind::SetState { sk, flow, old, new } => self.on_state(at, &trace, sk, flow, old, new),
            TraceKind::SendReset { .. } => self.on_send_reset(at, &trace),
            &TraceKind::ReceiveReset { sk, flow, cookie } => {
                if let Some(side) = self.traced(at, flow, sk) {
                    side.received_reset.get_or_insert(at);
                    side.line(at, &trace);
                    side.cookie.get_or_insert(cookie);
                    self.by_cookie.entry(cookie).or_insert(flow);
                    self.look_at(flow, at, SETTLE);
                }
            }
            &TraceKind::ErrorReport { flow, errno } => {
                // 0 is an error that does not end anything; after a disconnect the addresses are gone.
                if errno != 0
                    && let Some(side) = self.concerned(flow, &trace)
                {
                    side.errno.get_or_insert((at, errno));
                    side.line(at, &trace);
                    self.look_at(flow, at, SETTLE);
                }
            }
            &TraceKind::DestroySock { sk, flow, cookie } => {
                self.traces_destroys = true;
                if !self.closed.remove(&sk) && self.was_alive(sk, flow) {
                    *self.totals.lost.entry(Source::Tracepoints).or_default() += 1;
                }
                self.opening.remove(&sk);
                if let Some(flow) = self.rivals.destroy(sk, cookie) {
                    self.by_cookie.entry(cookie).or_insert(flow);
                } else if let Some(flow) = self.by_sk.remove(&sk) {
                    if let Some(side) = self.side(flow).filter(|side| side.sk == sk) {
                        side.cookie.get_or_insert(cookie);
                        // The same address may be given to another socket from now on.
                        side.sk = u64::MAX;
                    }
                    self.by_cookie.entry(cookie).or_insert(flow);
                }
                if let Some((at, report)) = self.unclaimed.remove(&cookie) {
                    self.on_destroyed(at, report);
                }
            }
        }
    }

    /// Whether a socket that is destroyed was seen alive by other sources. If its transition to CLOSE was not reported,
    /// that was withheld: the kernel does so while a BPF program is attached to the same tracepoint, and does not count
    /// it as lost.
    fn was_alive(&mut self, sk: u64, flow: Flow) -> bool {
        let flow = self.by_sk.get(&sk).copied().unwrap_or(flow);
        if self.closes_forgotten || self.rivals.get(sk, flow).is_some() || !flow.is_complete() {
            return false;
        }
        let connection = self.by_flow.get(&flow.undirected()).and_then(|id| self.connections.get(id));
        connection.filter(|connection| connection.reported.is_none()).is_some_and(|connection| {
            let side = connection.sides[connection.place(flow)].as_ref();
            connection.wire.syn.is_some() || side.is_some_and(|side| side.listed.is_some())
        })
    }

    /// Remembers whether the socket at this address is in CLOSE, until it is destroyed.
    fn remember_close(&mut self, sk: u64, new: TcpState) {
        if new != TcpState::Close {
            self.closed.remove(&sk);
        } else if self.closed.len() < MAX_CLOSED {
            self.closed.insert(sk);
        } else {
            self.closes_forgotten = true;
        }
    }

    /// The socket with this flow and address, made known if it was not.
    fn traced(&mut self, at: Time, flow: Flow, sk: u64) -> Option<&mut Side> {
        if self.rivals.get(sk, flow).is_some() {
            return self.rivals.get(sk, flow);
        }
        // A disconnect clears addresses: the kernel address identifies the socket.
        let flow = if flow.is_complete() { flow } else { *self.by_sk.get(&sk)? };
        let other = self.side(flow).filter(|side| side.sk != sk).map(|side| (side.sk, side.is_over()));
        let over = other.is_some_and(|(_, over)| over);
        if let Some((other, over)) = other
            && other != 0
            && !(over && self.is_confirmed(flow))
        {
            return self.add_rival(at, flow, sk);
        }
        let id = self.connection(flow, over);
        let connection = self.connections.get_mut(&id)?;
        let place = connection.place(flow);
        let side = connection.sides[place].get_or_insert_with(|| Side::new(flow));
        if side.sk == 0 {
            side.sk = sk;
        }
        self.by_sk.insert(sk, flow);
        Some(side)
    }

    /// The socket that an event is about which has only its addresses. Of several the one whose last event happened in the
    /// same thread.
    fn concerned(&mut self, flow: Flow, trace: &Trace) -> Option<&mut Side> {
        let tid = trace.context.tid;
        let rank = |side: &Side| side.last_line.map(|(at, last)| (last == tid, at));
        let best = self.side(flow).filter(|side| side.sk != 0).map(|side| rank(side));
        let is_rival = self.rivals.with(flow).map(|side| rank(side)).max() > best;
        if is_rival {
            return self.rivals.with(flow).max_by_key(|side| rank(side));
        }
        self.side(flow).filter(|side| side.sk != 0)
    }

    fn on_state(&mut self, at: Time, trace: &Trace, sk: u64, flow: Flow, old: TcpState, new: TcpState) {
        self.remember_close(sk, new);
        if new == TcpState::SynSent {
            if self.opening.len() >= MAX_OPENING {
                self.opening.clear();
            }
            self.opening.insert(sk, (at, Actor::of(trace), trace.clone()));
            return;
        }
        if old == TcpState::Listen {
            if new == TcpState::Close {
                if self.closed_listeners.len() == MAX_CLOSED_LISTENERS {
                    self.closed_listeners.pop_front();
                }
                let port = flow.local.port();
                self.closed_listeners.push_back((at, port, trace.context.tid, Actor::of(trace)));
            }
            return;
        }
        // A second attempt of the same socket, or the first: it is not any more what was known by this address.
        let opening = self.opening.remove(&sk);
        if opening.is_some() || old == TcpState::SynRecv && new == TcpState::Established {
            self.begin(flow, sk);
        }
        let Some(side) = self.traced(at, flow, sk) else { return };
        if let Some((begun, opener, line)) = opening {
            side.client = Some(true);
            side.opened = Some(begun);
            side.opener = opener;
            side.line(begun, &line);
        }
        side.line_of_state(at, trace, old, new);
        if new == TcpState::Close {
            self.look_at(flow, at, SETTLE);
        }
    }

    /// A new connection begins on this flow: an earlier one of the same socket is closed.
    fn begin(&mut self, flow: Flow, sk: u64) {
        let other = self.side(flow).map(|side| (side.sk, side.is_over()));
        if other.is_none_or(|(other, _)| other == sk || other == 0) {
            self.connection(flow, other.is_some_and(|(other, over)| other != 0 || over));
        }
    }

    fn on_send_reset(&mut self, at: Time, trace: &Trace) {
        let TraceKind::SendReset { reply, sk, flow, state, ref reason } = trace.kind else { return };
        if !reply {
            let listener = self.closed_listener(flow.local.port(), at, Some(trace.context.tid));
            let Some(side) = self.traced(at, flow, sk) else { return };
            let reason = reason.clone();
            side.active_reset.get_or_insert(ActiveReset { state, reason, actor: Actor::of(trace) });
            side.line(at, trace);
            if let Some(owner) = listener {
                side.listener_closed = Some(owner);
            } else if state.is_some_and(|state| state == TcpState::Close) && side.closer.is_none() {
                side.closer = Actor::of(trace);
            }
            self.look_at(flow, at, SETTLE);
            return;
        }
        let id = self.connection(flow, false);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.replies.len() < 4 {
            connection.replies.push(Reply { at, flow, state, reason: reason.clone() });
        }
        connection.line(at, trace);
        self.look_at(flow, at, SETTLE);
    }
}

impl Side {
    /// Takes a transition of the socket in.
    fn line_of_state(&mut self, at: Time, trace: &Trace, old: TcpState, new: TcpState) {
        let actor = Actor::of(trace);
        if matches!(new, TcpState::FinWait1 | TcpState::LastAck | TcpState::Close) && actor.is_some() {
            self.released.get_or_insert(at);
        }
        match new {
            TcpState::Established => {
                self.established = true;
                self.opened.get_or_insert(at);
                if old == TcpState::SynRecv {
                    self.client = Some(false);
                }
                return;
            }
            TcpState::FinWait1 => {
                self.fin.get_or_insert(FirstFin::Ours);
                self.closer = actor.or(self.closer.take());
            }
            TcpState::CloseWait => drop(self.fin.get_or_insert(FirstFin::Theirs)),
            TcpState::LastAck => self.closer = actor.or(self.closer.take()),
            TcpState::Close => {
                self.close.get_or_insert(Close { at, from: old });
                self.established |= is_synchronized(old);
                let by_administrator = self.active_reset.as_ref().is_some_and(ActiveReset::is_administrative);
                if !by_administrator && self.closer.is_none() && self.listener_closed.is_none() {
                    self.closer = actor;
                }
            }
            _ => return,
        }
        self.line(at, trace);
    }
}

impl ActiveReset {
    /// Sent while the socket was in a state of a connection, by a process: `ss -K` and its like. A close leaves the
    /// state before it sends.
    pub(super) fn is_administrative(&self) -> bool {
        self.reason.as_deref() == Some("TCP_STATE")
            && self.state.is_some_and(is_synchronized)
            && self.actor.is_some()
    }
}
