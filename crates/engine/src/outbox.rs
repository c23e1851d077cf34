//! The queue of replies that belong to no connection: resets, SYN|ACKs with cookies, ICMP errors.

use crate::ip::fragment::Fragments;
use crate::shared::Shared;
use crate::{Event, Instant, Rule, Transmit, tcp};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::ip::IpHeader;
use lastack_wire::tcp::{TcpFlags, TcpHeader};

/// Max queued replies. A driver that polls after each arrival never comes near it.
const MAX: usize = 4096;
/// Max bytes of the replies that are queued as packets: echo replies, ICMP errors.
const MAX_OCTETS: usize = 4 << 20;

/// Replies to be sent, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    answers: VecDeque<Answer>,
    /// Bytes of the queued packets.
    bytes: usize,
    /// The remaining fragments of a packet that is partly sent.
    parts: Option<Fragments>,
    /// A user waits for room ([`Event::RawWritable`]).
    pub blocked: bool,
}

/// One reply. Segments are stored as values: a flood of SYNs to closed ports allocates nothing.
#[derive(Debug)]
enum Answer {
    /// A reset without data: no options, window 0.
    Reset {
        ip: IpHeader,
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        flags: TcpFlags,
        rule: Rule,
    },
    Segment {
        ip: IpHeader,
        tcp: TcpHeader,
        rule: Option<Rule>,
    },
    Packet {
        ip: IpHeader,
        payload: Vec<u8>,
        rule: Option<Rule>,
    },
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Self::Reset { .. } | Self::Segment { .. } => 0,
            Self::Packet { payload, .. } => payload.len(),
        }
    }
}

/// The queue is full.
#[derive(Debug)]
pub(crate) struct Full;

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.parts.is_none()
    }

    /// Adds a reset without options and data.
    #[inline]
    pub fn push_reset(&mut self, ip: IpHeader, tcp: &TcpHeader, rule: Rule) -> Result<(), Full> {
        let &TcpHeader { src_port, dst_port, seq, ack, flags, .. } = tcp;
        self.push(Answer::Reset { ip, ports: (src_port, dst_port), seq, ack, flags, rule })
    }

    /// Adds a segment without data.
    pub fn push_segment(&mut self, ip: IpHeader, tcp: TcpHeader, rule: Option<Rule>) -> Result<(), Full> {
        self.push(Answer::Segment { ip, tcp, rule })
    }

    /// Adds a packet of another protocol, with the checksum of its payload computed. It is fragmented
    /// if it exceeds the path MTU.
    pub fn push_packet(&mut self, ip: IpHeader, payload: Vec<u8>, rule: Option<Rule>) -> Result<(), Full> {
        self.push(Answer::Packet { ip, payload, rule })
    }

    #[inline]
    fn push(&mut self, answer: Answer) -> Result<(), Full> {
        let bytes = answer.bytes();
        if self.answers.len() >= MAX || self.bytes + bytes > MAX_OCTETS {
            return Err(Full);
        }
        self.bytes += bytes;
        self.answers.push_back(answer);
        Ok(())
    }
}

impl Shared {
    /// Writes the oldest reply into `packet`. No packet may be partly sent.
    #[inline]
    pub fn pop_outbox(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        if self.outbox.answers.is_empty() {
            return None;
        }
        self.pop_reply(now, packet)
    }

    #[inline(never)]
    fn pop_reply(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        // A segment is written from its place in the queue: to move it first would copy its headers.
        let segment = match self.outbox.answers.front()? {
            &Answer::Reset { ref ip, ports: (src_port, dst_port), seq, ack, flags, rule } => {
                let tcp = TcpHeader { src_port, dst_port, seq, ack, flags, ..TcpHeader::default() };
                Transmit { rule: Some(rule), ..tcp::emit(&self.config, ip, &tcp, [&[], &[]], packet) }
            }
            Answer::Segment { ip, tcp, rule } => {
                Transmit { rule: *rule, ..tcp::emit_control(&self.config, ip, tcp, packet) }
            }
            Answer::Packet { .. } => return self.pop_packet(now, packet),
        };
        self.outbox.answers.pop_front();
        self.notify_room();
        Some(segment)
    }

    #[inline(never)]
    fn pop_packet(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        let answer = self.outbox.answers.pop_front()?;
        self.outbox.bytes -= answer.bytes();
        self.notify_room();
        match answer {
            Answer::Packet { ip, payload, rule } => self.emit_packet(now, ip, payload, rule, packet),
            Answer::Reset { .. } | Answer::Segment { .. } => None,
        }
    }

    /// Tells the user that waits for it that the outbox is empty.
    fn notify_room(&mut self) {
        if self.outbox.blocked && self.outbox.answers.is_empty() {
            self.outbox.blocked = false;
            self.events.push(Event::RawWritable);
        }
    }

    /// Writes a packet into `packet`, or its first fragment if it exceeds the path MTU; the others
    /// follow from the outbox, which must have no fragments pending.
    pub fn emit_packet(
        &mut self,
        now: Instant,
        mut ip: IpHeader,
        payload: Vec<u8>,
        rule: Option<Rule>,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let mtu = self.paths.mtu(ip.dst, self.config.mtu, now);
        self.number(&mut ip);
        if ip.len() + payload.len() <= mtu {
            packet.clear();
            ip.emit(payload.len(), packet);
            packet.extend_from_slice(&payload);
            return Some(Transmit { header_len: ip.len() as u16, rule, ..Transmit::default() });
        }
        let ident = match ip.src {
            IpAddr::V4(_) => u32::from(ip.ident),
            IpAddr::V6(_) => self.idents.next(&self.secret, true),
        };
        self.outbox.parts = Some(Fragments::new(ip, ident, payload, mtu, rule));
        self.pop_part(packet)
    }

    /// Writes the next fragment of a packet that is partly sent.
    #[inline]
    pub fn pop_part(&mut self, packet: &mut Vec<u8>) -> Option<Transmit> {
        if self.outbox.parts.is_none() { None } else { self.pop_next_part(packet) }
    }

    fn pop_next_part(&mut self, packet: &mut Vec<u8>) -> Option<Transmit> {
        let parts = self.outbox.parts.as_mut()?;
        let transmit = parts.emit_next(packet)?;
        if parts.is_done() {
            self.outbox.parts = None;
        }
        self.counters.ip_out_fragments += 1;
        Some(transmit)
    }

    /// Sets the identification of an IPv4 packet without DF. A packet with DF needs none
    /// (RFC 6864 section 4.1).
    pub fn number(&mut self, ip: &mut IpHeader) {
        if !ip.is_v6() && !ip.dont_fragment {
            ip.ident = self.idents.next(&self.secret, false) as u16;
        }
    }
}
