//! The queue of replies that belong to no connection: resets, SYN|ACKs with cookies, ICMP errors.

use crate::ip::fragment::Fragments;
use crate::shared::Shared;
use crate::{Instant, Rule, Transmit, tcp};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::ip::IpHeader;
use lastack_wire::tcp::TcpHeader;

/// Most answers that wait. A driver that polls after each arrival never comes near it.
const MAX: usize = 4096;
/// Most octets of those that are not kept as values: echoes, ICMP errors.
const MAX_OCTETS: usize = 4 << 20;

/// Answers waiting to be sent, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    answers: VecDeque<Answer>,
    /// ByteCounts of the packets among them.
    octets: usize,
    /// The rest of a packet of which some fragments were sent.
    parts: Option<Fragments>,
}

/// One answer. Segments are kept as values: a flood of SYNs to closed ports allocates nothing.
#[derive(Debug)]
enum Answer {
    Segment { ip: IpHeader, tcp: TcpHeader, rule: Option<Rule> },
    Packet { ip: IpHeader, payload: Vec<u8>, rule: Option<Rule> },
}

impl Answer {
    fn octets(&self) -> usize {
        match self {
            Self::Segment { .. } => 0,
            Self::Packet { payload, .. } => payload.len(),
        }
    }
}

/// There is no room.
#[derive(Debug)]
pub(crate) struct Full;

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.parts.is_none()
    }

    /// Adds a segment without text.
    pub fn push_segment(&mut self, ip: IpHeader, tcp: TcpHeader, rule: Option<Rule>) -> Result<(), Full> {
        self.push(Answer::Segment { ip, tcp, rule })
    }

    /// Adds a packet of another protocol, the checksum of its payload done. If it is larger than the
    /// path's MTU it leaves in fragments.
    pub fn push_packet(&mut self, ip: IpHeader, payload: Vec<u8>, rule: Option<Rule>) -> Result<(), Full> {
        self.push(Answer::Packet { ip, payload, rule })
    }

    fn push(&mut self, answer: Answer) -> Result<(), Full> {
        let octets = answer.octets();
        if self.answers.len() >= MAX || self.octets + octets > MAX_OCTETS {
            return Err(Full);
        }
        self.octets += octets;
        self.answers.push_back(answer);
        Ok(())
    }
}

impl Shared {
    /// Puts the oldest answer into `packet`.
    pub fn pop_outbox(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(transmit) = self.pop_part(packet) {
            return Some(transmit);
        }
        let answer = self.outbox.answers.pop_front()?;
        self.outbox.octets -= answer.octets();
        match answer {
            Answer::Segment { ip, tcp, rule } => {
                Some(Transmit { rule, ..tcp::emit(&self.config, &ip, &tcp, [&[], &[]], packet) })
            }
            Answer::Packet { ip, payload, rule } => self.emit_packet(now, ip, payload, rule, packet),
        }
    }

    /// Puts a packet into `packet`, or its first fragment if the path does not carry it whole; the
    /// others follow from the outbox, which must have sent what it had.
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

    fn pop_part(&mut self, packet: &mut Vec<u8>) -> Option<Transmit> {
        let parts = self.outbox.parts.as_mut()?;
        let transmit = parts.emit_next(packet)?;
        if parts.is_done() {
            self.outbox.parts = None;
        }
        self.counters.ip_out_fragments += 1;
        Some(transmit)
    }

    /// Gives an IPv4 packet that may be fragmented its identification. One that may not needs none
    /// (RFC 6864 section 4.1).
    pub fn number(&mut self, ip: &mut IpHeader) {
        if !ip.is_v6() && !ip.dont_fragment {
            ip.ident = self.idents.next(&self.secret, false) as u16;
        }
    }
}
