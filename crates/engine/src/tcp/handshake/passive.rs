//! Passive opens: SYNs to listeners, intercepted SYNs that the application decides on, and the accept queue.

use crate::end::{Cause, EndedBy, FourTuple};
use crate::event::Event;
use crate::icmp;
use crate::ip::paths;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::closed::reset_reply;
use crate::tcp::connection::Ending;
use crate::tcp::handshake::active;
use crate::tcp::handshake::negotiate::MIN_MSS;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::segment::Arrival;
use crate::tcp::table::{Socket, TcpTable};
use crate::tcp::{Answer, BindError, ConnId, ListenerId};
use crate::{Instant, Rule, Stack, Verdict};
use alloc::vec::Vec;
use core::net::SocketAddr;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags};

/// The space that an ISS leaves to that of the connection before it on the same four-tuple.
const ISS_GAP: u32 = 1 << 16;

impl Stack {
    /// Passive OPEN: connections to `local` are taken; an unspecified address is any of ours, port 0
    /// is an ephemeral one. Of complete connections `backlog + 1` wait to be accepted (as on Linux).
    ///
    /// # Errors
    ///
    /// Another listener has the address, or it is not one of ours, or the link is too small for its family.
    pub fn tcp_listen(&mut self, local: SocketAddr, backlog: usize) -> Result<ListenerId, BindError> {
        let local = active::canonical(local);
        if !local.ip().is_unspecified() && !self.shared.is_local(local.ip()) {
            return Err(BindError::NotOurs);
        }
        let any_v6 = local.is_ipv6() && local.ip().is_unspecified();
        if !any_v6 && !paths::is_carried(local.ip(), self.shared.config.mtu) {
            return Err(BindError::LinkTooSmall);
        }
        let port = match local.port() {
            0 => self.tcp.free_port(&mut self.shared).ok_or(BindError::NoPort)?,
            port => port,
        };
        self.tcp.listeners.add(SocketAddr::new(local.ip(), port), backlog)
    }

    /// Where a listener listens.
    pub fn tcp_listener_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.tcp.listeners.get(id).map(|listener| listener.local)
    }

    /// The connection that has waited longest at a listener. `None`: there is none;
    /// [`Event::Incoming`] follows.
    pub fn tcp_accept(&mut self, id: ListenerId) -> Option<ConnId> {
        let listener = self.tcp.listeners.get_mut(id)?;
        let next = listener.queue.pop_front();
        listener.waiting = next.is_none();
        next
    }

    /// Bounds the text in a segment of a listener's later connections, either way (`TCP_MAXSEG`). Those
    /// that come by a SYN cookie are not bounded.
    pub fn tcp_set_listener_max_segment(&mut self, id: ListenerId, octets: Option<u16>) {
        if let Some(listener) = self.tcp.listeners.get_mut(id) {
            listener.max_segment = octets.map(|octets| octets.max(MIN_MSS));
        }
    }

    /// How many connections wait at a listener to be accepted.
    pub fn tcp_waiting(&self, id: ListenerId) -> usize {
        self.tcp.listeners.get(id).map_or(0, |listener| listener.queue.len())
    }

    /// Closes a listener. Connections that nobody accepted are reset (`Rule::RstListenerClosed`); embryonic ones are
    /// forgotten in silence (`Rule::EndListenerClosedInSynReceived`).
    pub fn tcp_unlisten(&mut self, id: ListenerId) {
        self.tcp.unlisten(
            &mut self.shared,
            id,
            EndedBy::Application,
            [Rule::RstListenerClosed, Rule::EndListenerClosedInSynReceived],
        );
    }

    /// Says what becomes of a SYN that [`Event::Intercepted`] told of. Accepted, its connection is
    /// established when [`Event::Connected`] comes. Otherwise it has its end; what is left of it
    /// goes with [`Tcp::close`](crate::Tcp::close).
    pub fn tcp_answer(&mut self, id: ConnId, answer: Answer) {
        self.tcp.answer(&mut self.shared, id, answer);
    }
}

impl TcpTable {
    /// A segment for a listener (RFC 9293 section 3.10.7.2).
    pub(in crate::tcp) fn arrives_at_listener(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        listener: ListenerId,
        seg: &Arrival<'_>,
        iss_after: Option<SndSeq>,
    ) -> Verdict {
        if seg.has(TcpFlags::RST) {
            return Verdict::Dropped(Rule::DropResetToListener.into()); // first
        }
        if seg.has(TcpFlags::ACK) {
            return self.ack_at_listener(shared, now, listener, seg); // second
        }
        if !seg.has(TcpFlags::SYN) {
            return Verdict::Dropped(Rule::DropNoSynToListener.into()); // fourth
        }
        if seg.has(TcpFlags::FIN) {
            return Verdict::Dropped(Rule::DropSynFinToListener.into());
        }
        let full =
            self.listeners.get(listener).is_none_or(crate::tcp::handshake::listener::Listener::is_full);
        if full {
            shared.counters.tcp_listen_drops += 1;
            shared.counters.tcp_listen_overflows += 1;
            return Verdict::Dropped(Rule::DropSynAcceptQueueFull.into());
        }
        // Who comes out of TIME-WAIT is real, and is let in whatever the limit (as Linux). The answer to a
        // cookie would meet the entry, which stays until the handshake is complete, and not the listener.
        if iss_after.is_none() && self.embryonic >= shared.config.tcp.max_embryonic {
            if shared.config.tcp.syn_cookies {
                return self.cookies.answer(shared, now, seg);
            }
            shared.counters.tcp_listen_drops += 1;
            return Verdict::Dropped(Rule::LimitSynQueue.into());
        }
        let id = self.receive_syn(shared, now, seg, iss_after);
        let max_segment = self.listeners.get(listener).and_then(|listener| listener.max_segment);
        if let Socket::Opening(handshake) = self.socket_mut(id) {
            handshake.listener = Some(listener);
            handshake.settings.max_segment = max_segment;
            handshake.owes_syn = true;
        }
        Verdict::Accepted
    }

    /// An ACK at a listener: the answer to a cookie, or a stranger's (`Rule::RstAckToListener`).
    fn ack_at_listener(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        listener: ListenerId,
        seg: &Arrival<'_>,
    ) -> Verdict {
        if !self.cookies.are_out(now) || seg.has(TcpFlags::SYN) {
            return reset_reply::reply(shared, seg, Rule::RstAckToListener);
        }
        let Some((iss, options)) = self.cookies.check(shared, now, seg) else {
            shared.counters.tcp_cookies_failed += 1;
            return reset_reply::reply(shared, seg, Rule::RstBadCookie);
        };
        if self.listeners.get(listener).is_none_or(crate::tcp::handshake::listener::Listener::is_full) {
            // Nothing of it is kept: the peer sends text, or asks again, and its cookie is still good (`Rule::DropAckAcceptQueueFull`).
            shared.counters.tcp_listen_overflows += 1;
            if shared.config.tcp.abort_on_overflow {
                return reset_reply::reply(shared, seg, Rule::DropAckAcceptQueueFull);
            }
            return Verdict::Dropped(Rule::DropAckAcceptQueueFull.into());
        }
        shared.counters.tcp_cookies_received += 1;
        self.cookies.spend(now, seg, iss);
        self.embryonic += 1;
        let id = self.insert(seg.flow(), |id| Handshake::of_cookie(shared, now, id, seg, iss, options));
        if let Socket::Opening(handshake) = self.socket_mut(id) {
            handshake.listener = Some(listener);
        }
        self.arrives_at(shared, now, id, seg)
    }

    /// A SYN that the embedder answers.
    pub(in crate::tcp) fn intercept(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        iss_after: Option<SndSeq>,
    ) -> Verdict {
        if self.embryonic >= shared.config.tcp.max_embryonic {
            shared.counters.tcp_listen_drops += 1;
            return Verdict::Dropped(Rule::LimitSynQueue.into());
        }
        let id = self.receive_syn(shared, now, seg, iss_after);
        if let Socket::Opening(handshake) = self.socket_mut(id) {
            handshake.phase = Phase::AwaitingDecision;
            handshake.has_user = true;
            handshake.deadline = Some(now + shared.config.tcp.intercept_timeout);
        }
        self.after_step(shared, now, id);
        shared.events.push(Event::Intercepted(id));
        Verdict::Accepted
    }

    fn receive_syn(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        iss_after: Option<SndSeq>,
    ) -> ConnId {
        let flow = seg.flow();
        let mut iss = SndSeq(shared.secret.initial_sequence_number(now, &flow));
        if let Some(last) = iss_after
            && !iss.after(last)
        {
            // RFC 6191: larger than what the last connection used, by an amount nobody can guess.
            iss = last + ISS_GAP + (shared.secret.draw() as u32 >> 8);
        }
        self.embryonic += 1;
        self.insert(flow, |id| {
            let mut handshake = Handshake::passive(shared, now, id, seg, iss);
            handshake.reopens = iss_after.is_some();
            handshake
        })
    }

    /// `Rule::DropAckAcceptQueueFull`: whether a complete handshake finds no room in the accept queue, and what becomes of the
    /// segment that completes it.
    pub(in crate::tcp) fn overflow(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ConnId,
        listener: ListenerId,
        seg: &Arrival<'_>,
    ) -> Option<Verdict> {
        if !self.listeners.get(listener)?.is_full() {
            return None;
        }
        shared.counters.tcp_listen_overflows += 1;
        if !shared.config.tcp.abort_on_overflow {
            return Some(Verdict::Dropped(Rule::DropAckAcceptQueueFull.into()));
        }
        if let Socket::Opening(handshake) = self.socket_mut(id) {
            handshake.finish(
                Cause::Refused,
                EndedBy::Stack,
                Rule::DropAckAcceptQueueFull,
                Some(seg.header()),
                now,
            );
        }
        Some(reset_reply::reply(shared, seg, Rule::DropAckAcceptQueueFull))
    }

    /// A connection is complete and waits to be accepted.
    pub(in crate::tcp) fn offer(&mut self, shared: &mut Shared, listener: ListenerId, id: ConnId) {
        if let Some(waiting) = self.listeners.get_mut(listener) {
            waiting.queue.push_back(id);
            if core::mem::take(&mut waiting.waiting) {
                shared.events.push(Event::Incoming(listener));
            }
        }
    }

    /// Closes a listener; `rules`: of connections that nobody accepted, and of embryonic ones.
    pub(in crate::tcp) fn unlisten(
        &mut self,
        shared: &mut Shared,
        id: ListenerId,
        by: EndedBy,
        rules: [Rule; 2],
    ) {
        let Some(listener) = self.listeners.remove(id) else { return };
        let now = self.clock();
        for child in listener.queue {
            match self.socket_mut(child) {
                Socket::Open(connection) => {
                    connection.has_user = false;
                    if connection.fate.is_none() {
                        connection.abort(Ending::new(Cause::Aborted, by, rules[0]), now);
                    }
                    self.orphans += 1;
                    self.enqueue(child);
                    self.after_step(shared, now, child);
                }
                Socket::Opening(_) | Socket::Closed(_) => self.remove_over(shared, child),
            }
        }
        for embryo in self.embryonic_of(id) {
            if let Socket::Opening(handshake) = self.socket_mut(embryo) {
                handshake.finish(Cause::Aborted, by, rules[1], None, now);
            }
            self.after_step(shared, now, embryo);
        }
    }

    fn answer(&mut self, shared: &mut Shared, id: ConnId, answer: Answer) {
        if !self.owns(id) {
            return;
        }
        let now = self.clock();
        let Socket::Opening(handshake) = self.socket_mut(id) else { return };
        if handshake.phase != Phase::AwaitingDecision || handshake.end.is_some() {
            return;
        }
        match answer {
            Answer::Accept => {
                handshake.phase = Phase::SynReceived;
                handshake.deadline = None;
                handshake.owes_syn = true;
            }
            Answer::Refuse => {
                reset_reply::push(shared, &handshake.flow, handshake.refusal_header(), Rule::RstIntercepted);
                handshake.finish(Cause::Refused, EndedBy::Application, Rule::RstIntercepted, None, now);
            }
            Answer::Unreachable { error, from } => {
                let syn = syn_packet(handshake);
                // An error that may not be sent (another family, a source that is no host) is none;
                // the peer then sees silence.
                let _ = icmp::order_error(shared, &syn, error, from, Rule::IcmpIntercepted);
                handshake.finish(
                    Cause::Unreachable(error),
                    EndedBy::Application,
                    Rule::IcmpIntercepted,
                    None,
                    now,
                );
            }
            Answer::Drop => {
                handshake.finish(Cause::Refused, EndedBy::Application, Rule::DropIntercepted, None, now);
            }
        }
        self.enqueue(id);
        self.after_step(shared, now, id);
    }

    /// A port that no listener has, above the well-known ones (RFC 6056 algorithm 1).
    fn free_port(&self, shared: &mut Shared) -> Option<u16> {
        let start = shared.secret.draw() as u16;
        (0..=u16::MAX).map(|n| start.wrapping_add(n)).find(|p| *p >= 32_768 && !self.listeners.has_port(*p))
    }
}

/// The peer's SYN again, as far as it is remembered.
fn syn_packet(handshake: &Handshake) -> Vec<u8> {
    let FourTuple { local, remote } = handshake.flow;
    let ip = IpHeader {
        traffic_class: handshake.traffic_class,
        ..IpHeader::new(remote.ip(), local.ip(), ip::TCP)
    };
    let header = handshake.syn_header();
    let mut packet = Vec::new();
    ip.emit(header.len(), &mut packet);
    header.emit(&mut packet);
    tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
    packet
}
