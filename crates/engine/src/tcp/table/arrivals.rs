//! The path of a segment that arrives: to its connection, a TIME-WAIT entry, a listener, or none.

use super::slot::{Slot, Socket};
use super::{TcpTable, is_settled};
use crate::end::Origin;
use crate::event::Event;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::closed::reset_reply;
use crate::tcp::closed::time_wait::Waiting;
use crate::tcp::handshake::arrives::Opening;
use crate::tcp::segment::Arrival;
use crate::{DropReason, Instant, Received, Rule, Verdict};
use alloc::vec::Vec;
use lastack_wire::ip::IpHeader;
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};

impl TcpTable {
    /// A segment has arrived: checks its form (`Rule::DropBadChecksum`, `Rule::DropBadHeader`,
    /// `Rule::DropUnverifiedSignature`), then demultiplexes it.
    pub fn arrives(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        ip: &IpHeader,
        segment: &[u8],
        received: Received,
    ) -> Verdict {
        self.clock = now;
        shared.counters.tcp_in_segments += 1;
        let verify = shared.config.checksums.verify && !received.checksum_good;
        if verify && !tcp::checksum_ok(ip, segment) {
            shared.counters.tcp_in_errors += 1;
            return Verdict::Dropped(Rule::DropBadChecksum.into());
        }
        let mut tcp = TcpHeader::default();
        let Ok(payload) = tcp.read(segment) else {
            shared.counters.tcp_in_errors += 1;
            return Verdict::Dropped(Rule::DropBadHeader.into());
        };
        if tcp.options.signed {
            return Verdict::Dropped(Rule::DropUnverifiedSignature.into());
        }
        shared.resets.arrived(now);
        // Consecutive segments often belong to the same connection, which needs no hash.
        let mut seg =
            Arrival { ip, tcp: &tcp, payload, segment_size: received.segment_size.unwrap_or(0), hash: 0 };
        let ports = (tcp.src_port, tcp.dst_port);
        if let Some((_, id)) = self.last.filter(|last| last.0 == ports)
            && let Some(verdict) = self.arrives_at_open(shared, now, id, &seg)
        {
            return verdict;
        }
        seg.hash = self.demux.hasher.hash(&ip.dst, &ip.src, (tcp.dst_port, tcp.src_port));
        self.demultiplex(shared, now, &seg)
    }

    fn demultiplex(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        if let Some(id) = self.demux.live(seg.hash, |id| self.entries[id].slot.is_of(seg)) {
            self.last = Some(((seg.tcp.src_port, seg.tcp.dst_port), id));
            return self.arrives_at(shared, now, id, seg);
        }
        shared.take_reset_token(seg);
        if self.demux.is_empty() {
            return self.arrives_in_closed(shared, now, seg, None);
        }
        match self
            .demux
            .waiting
            .get_mut(seg.hash, |flow| seg.is_of(flow))
            .map(|entry| entry.arrives(shared, now, seg))
        {
            Some(Waiting::Done(verdict)) => verdict,
            Some(Waiting::Reopen(after)) => self.reopen(shared, now, seg, after),
            None => self.arrives_in_closed(shared, now, seg, None),
        }
    }

    /// The segment arrives at this connection, if it exists, is synchronized, and owns the segment.
    #[inline(always)]
    fn arrives_at_open(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ConnId,
        seg: &Arrival<'_>,
    ) -> Option<Verdict> {
        let Self { entries, ready, .. } = self;
        let entry = entries.get_mut(id)?;
        let connection = match &mut entry.slot {
            Slot::Socket(Socket::Open(connection)) if seg.is_of(&connection.flow) => connection,
            _ => return None,
        };
        let verdict = connection.arrives(shared, now, seg);
        #[cfg(any(test, debug_assertions))]
        connection.check();
        entry.touched = true;
        if !entry.queued && connection.wants_to_send() {
            entry.queued = true;
            ready.push_back(id);
        }
        if verdict != Verdict::Accepted {
            shared.take_reset_token(seg);
        }
        if !is_settled(connection, entry.weight, shared) {
            self.follow_step(shared, now, id);
        }
        Some(verdict)
    }

    pub(in crate::tcp) fn arrives_at(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ConnId,
        seg: &Arrival<'_>,
    ) -> Verdict {
        if let Some(verdict) = self.arrives_at_open(shared, now, id, seg) {
            return verdict;
        }
        let entry = &mut self.entries[id];
        entry.touched = true;
        let verdict = match &mut entry.slot {
            Slot::Parked(_) => {
                self.unpark(id);
                return self.arrives_at(shared, now, id, seg);
            }
            Slot::Socket(Socket::Opening(handshake)) => match handshake.arrives(shared, now, seg) {
                Opening::Done(verdict) => {
                    if !entry.queued && handshake.wants_to_send() {
                        entry.queued = true;
                        self.ready.push_back(id);
                    }
                    verdict
                }
                Opening::Complete => self.complete(shared, now, id, seg),
            },
            Slot::Socket(Socket::Open(_) | Socket::Closed(_)) => Verdict::Dropped(DropReason::Unwanted),
        };
        if verdict != Verdict::Accepted {
            shared.take_reset_token(seg);
        }
        self.after_step(shared, now, id);
        verdict
    }

    /// Passes the packet that arrived last to the connection that keeps it; returns it if its data is not wanted any more.
    pub fn fill_kept(&mut self, id: ConnId, packet: Vec<u8>) -> Option<Vec<u8>> {
        match self.entries.get_mut(id).and_then(|entry| entry.slot.socket_mut()) {
            Some(Socket::Open(connection)) => connection.incoming.fill(packet),
            Some(Socket::Closed(over)) => over.incoming.fill(packet),
            Some(Socket::Opening(_)) | None => Some(packet),
        }
    }

    /// No connection has the four-tuple: the segment goes to a listener, is intercepted, or arrives in CLOSED
    /// (RFC 9293 sections 3.10.7.1 and 3.10.7.2).
    pub(in crate::tcp) fn arrives_in_closed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        iss_after: Option<SndSeq>,
    ) -> Verdict {
        if let Some(listener) = self.listeners.find(seg.local()) {
            return self.arrives_at_listener(shared, now, listener, seg, iss_after);
        }
        if seg.has(TcpFlags::RST) {
            return Verdict::Dropped(Rule::DropRstNoConnection.into());
        }
        let syn_only = seg.tcp.flags & (TcpFlags::SYN | TcpFlags::ACK | TcpFlags::FIN) == TcpFlags::SYN;
        if syn_only && shared.config.intercept.tcp {
            return self.intercept(shared, now, seg, iss_after);
        }
        let rule = match (seg.has(TcpFlags::ACK), seg.has(TcpFlags::SYN)) {
            (true, _) => Rule::RstNoConnection,
            (false, true) => Rule::RstNoListener,
            (false, false) => Rule::RstNoConnectionNoAck,
        };
        reset_reply::reply(shared, seg, rule)
    }

    /// RFC 6191: a new SYN in TIME-WAIT. Without a listener it is acknowledged, not reset. The entry stays until the
    /// handshake is complete: if the SYN was an old duplicate, the connection is in TIME-WAIT as before
    /// (RFC 1122 section 4.2.2.13).
    fn reopen(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>, after: SndSeq) -> Verdict {
        if shared.config.intercept.tcp || self.listeners.find(seg.local()).is_some() {
            return self.arrives_in_closed(shared, now, seg, Some(after));
        }
        match self.demux.waiting.get_mut(seg.hash, |flow| seg.is_of(flow)) {
            Some(entry) => entry.answer(shared, now, seg),
            None => Verdict::Dropped(Rule::DropInTimeWait.into()),
        }
    }

    /// The handshake is complete; the segment that completed it is the connection's first.
    fn complete(&mut self, shared: &mut Shared, now: Instant, id: ConnId, seg: &Arrival<'_>) -> Verdict {
        if let Slot::Socket(Socket::Opening(handshake)) = &self.entries[id].slot
            && let Some(listener) = handshake.listener
            && let Some(verdict) = self.overflow(shared, now, id, listener, seg)
        {
            return verdict;
        }
        let Self { entries, spare, watched, .. } = self;
        let entry = &mut entries[id];
        let Slot::Socket(Socket::Opening(handshake)) = &mut entry.slot else {
            return Verdict::Dropped(DropReason::Unwanted);
        };
        let (listener, has_user, reopens) = (handshake.listener, handshake.has_user, handshake.reopens);
        let mut connection = spare.connection();
        handshake.establish(shared, now, &mut connection);
        let syn = seg.has(TcpFlags::SYN);
        let verdict = if syn {
            connection.pending.ack = true;
            Verdict::Accepted
        } else {
            connection.arrives(shared, now, seg)
        };
        let passive = connection.cold.origin == Origin::Passive;
        let orphan = !connection.has_user;
        let before = core::mem::replace(&mut entry.slot, Slot::Socket(Socket::Open(connection)));
        spare.keep(before);
        if !core::mem::replace(&mut entry.watched, true) {
            watched.push_back(id);
        }
        shared.counters.tcp_established += 1;
        shared.counters.tcp_passive_opens += u64::from(passive);
        self.embryonic -= usize::from(passive);
        self.orphans += usize::from(orphan);
        self.park_some(shared, now);
        // Its timers are started when it is polled for output.
        self.enqueue(id);
        if reopens {
            self.demux.waiting.remove(seg.hash, &seg.flow());
        }
        match listener {
            Some(listener) => self.offer(shared, listener, id),
            None if has_user => shared.events.push(Event::Connected(id)),
            None => {}
        }
        verdict
    }
}
