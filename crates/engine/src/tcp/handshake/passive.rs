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

/// Min distance of an ISS from the last sequence number of the previous connection on the same four-tuple.
const ISS_GAP: u32 = 1 << 16;

impl Stack {
    /// Passive OPEN: accepts connections to `local`; an unspecified address stands for all local addresses, port 0 for
    /// an ephemeral port. The accept queue holds `backlog + 1` connections (as on Linux).
    ///
    /// # Errors
    ///
    /// Another listener has the address, or it is not a local address, or the MTU is too small for its family.
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

    /// The local address of a listener.
    pub fn tcp_listener_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.tcp.listeners.get(id).map(|listener| listener.local)
    }

    /// Takes the oldest connection from a listener's accept queue. If it is empty, [`Event::Incoming`] follows.
    pub fn tcp_accept(&mut self, id: ListenerId) -> Option<ConnId> {
        let listener = self.tcp.listeners.get_mut(id)?;
        let next = listener.queue.pop_front();
        listener.waiting = next.is_none();
        next
    }

    /// Limits the data in a segment of a listener's later connections, in both directions (`TCP_MAXSEG`). Connections
    /// opened by a SYN cookie are not limited.
    pub fn tcp_set_listener_max_segment(&mut self, id: ListenerId, bytes: Option<u16>) {
        if let Some(listener) = self.tcp.listeners.get_mut(id) {
            listener.max_segment = bytes.map(|bytes| bytes.max(MIN_MSS));
        }
    }

    /// Number of connections in a listener's accept queue.
    pub fn tcp_waiting(&self, id: ListenerId) -> usize {
        self.tcp.listeners.get(id).map_or(0, |listener| listener.queue.len())
    }

    /// Closes a listener. Connections in its accept queue are reset (`Rule::RstListenerClosed`); connections in
    /// SYN-RECEIVED are dropped silently (`Rule::EndListenerClosedInSynReceived`).
    pub fn tcp_unlisten(&mut self, id: ListenerId) {
        self.tcp.unlisten(
            &mut self.shared,
            id,
            EndedBy::Application,
            [Rule::RstListenerClosed, Rule::EndListenerClosedInSynReceived],
        );
    }

    /// Decides on a SYN reported by [`Event::Intercepted`]. If it is accepted, [`Event::Connected`] reports when the
    /// connection is established. Otherwise the connection ends, and [`Tcp::close`](crate::Tcp::close) frees its id.
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
        // A SYN that reopens a connection in TIME-WAIT is genuine, and exempt from the limit (as on Linux). The ACK of a
        // cookie would reach the TIME-WAIT entry, which stays until the handshake is complete, not the listener.
        if iss_after.is_none() && self.embryonic >= shared.config.tcp.max_embryonic {
            if shared.config.tcp.syn_cookies {
                return self.cookies.answer(shared, now, seg);
            }
            shared.counters.tcp_listen_drops += 1;
            return Verdict::Dropped(Rule::LimitSynQueue.into());
        }
        let options =
            self.listeners.get(listener).map(|options| (options.max_segment, options.receive_buffer));
        self.receive_syn(shared, now, seg, iss_after, |handshake| {
            handshake.listener = Some(listener);
            let (max_segment, receive_buffer) = options.unwrap_or_default();
            handshake.settings.receive_buffer = receive_buffer;
            handshake.settings.max_segment = max_segment;
            handshake.syn_pending = true;
        });
        Verdict::Accepted
    }

    /// An ACK to a listener: it answers a cookie, or belongs to no connection (`Rule::RstAckToListener`).
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
            // No state is kept: when the peer sends data or retransmits, its cookie is still valid
            // (`Rule::DropAckAcceptQueueFull`).
            shared.counters.tcp_listen_overflows += 1;
            if shared.config.tcp.abort_on_overflow {
                return reset_reply::reply(shared, seg, Rule::DropAckAcceptQueueFull);
            }
            return Verdict::Dropped(Rule::DropAckAcceptQueueFull.into());
        }
        shared.counters.tcp_cookies_received += 1;
        self.cookies.spend(now, seg, iss);
        self.embryonic += 1;
        let id = self.insert(seg.hash, |handshake, id| {
            handshake.of_cookie(shared, now, id, seg, (iss, options));
        });
        if let Socket::Opening(handshake) = self.unparked_mut(id) {
            handshake.listener = Some(listener);
        }
        self.arrives_at(shared, now, id, seg)
    }

    /// Intercepts a SYN, for the embedder to decide on.
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
        let deadline = now + shared.config.tcp.intercept_timeout;
        let id = self.receive_syn(shared, now, seg, iss_after, |handshake| {
            handshake.phase = Phase::AwaitingDecision;
            handshake.has_user = true;
            handshake.deadline = Some(deadline);
        });
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
        prepare: impl FnOnce(&mut Handshake),
    ) -> ConnId {
        self.embryonic += 1;
        self.insert(seg.hash, |handshake, id| {
            handshake.passive(shared, now, id, seg);
            prepare(handshake);
            handshake.fit_receive_buffer(shared);
            handshake.reopens = iss_after.is_some();
            if let Some(last) = iss_after
                && !handshake.iss.after(last)
            {
                // RFC 6191: larger than the last sequence number of the previous connection, by an unpredictable amount.
                handshake.iss = last + ISS_GAP + (shared.secret.draw() as u32 >> 8);
            }
        })
    }

    /// `Rule::DropAckAcceptQueueFull`: if the accept queue is full, the verdict on the segment that would complete the
    /// handshake.
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
        if let Socket::Opening(handshake) = self.unparked_mut(id) {
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

    /// Adds an established connection to the accept queue.
    pub(in crate::tcp) fn offer(&mut self, shared: &mut Shared, listener: ListenerId, id: ConnId) {
        if let Some(waiting) = self.listeners.get_mut(listener) {
            waiting.queue.push_back(id);
            if core::mem::take(&mut waiting.waiting) {
                shared.events.push(Event::Incoming(listener));
            }
        }
    }

    /// Closes a listener; `rules`: for connections in the accept queue, and for those in SYN-RECEIVED.
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
            match self.unparked_mut(child) {
                Socket::Open(connection) => {
                    connection.has_user = false;
                    if connection.fate.is_none() {
                        connection.abort(Ending::new(Cause::Aborted, by, rules[0]), now);
                    }
                    self.orphans += 1;
                    self.enqueue(child);
                    self.after_step(shared, now, child);
                }
                Socket::Opening(_) | Socket::Closed(_) => self.remove(shared, child),
            }
        }
        for embryo in self.embryonic_of(id) {
            if let Socket::Opening(handshake) = self.unparked_mut(embryo) {
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
        let Socket::Opening(handshake) = self.unparked_mut(id) else { return };
        if handshake.phase != Phase::AwaitingDecision || handshake.end.is_some() {
            return;
        }
        match answer {
            Answer::Accept => {
                handshake.phase = Phase::SynReceived;
                handshake.deadline = None;
                handshake.syn_pending = true;
            }
            Answer::Refuse => {
                reset_reply::push(shared, &handshake.flow, handshake.refusal_header(), Rule::RstIntercepted);
                handshake.finish(Cause::Refused, EndedBy::Application, Rule::RstIntercepted, None, now);
            }
            Answer::Unreachable { error, from } => {
                let syn = syn_packet(handshake);
                // An error that may not be sent (another family, a source that is not a host) is omitted; the peer then gets no
                // answer.
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

    /// A port from 32768 up that no listener has (RFC 6056 algorithm 1).
    fn free_port(&self, shared: &mut Shared) -> Option<u16> {
        let start = shared.secret.draw() as u16;
        (0..=u16::MAX).map(|n| start.wrapping_add(n)).find(|p| *p >= 32_768 && !self.listeners.has_port(*p))
    }
}

/// Rebuilds the peer's SYN, as far as it is kept.
fn syn_packet(handshake: &Handshake) -> Vec<u8> {
    let FourTuple { local, remote } = handshake.flow;
    let ip = IpHeader {
        traffic_class: handshake.traffic_class,
        ..IpHeader::new(remote.ip(), local.ip(), ip::TCP)
    };
    let header = handshake.peers_syn_header();
    let mut packet = Vec::new();
    ip.emit(header.len(), &mut packet);
    header.emit(&mut packet);
    tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
    packet
}
