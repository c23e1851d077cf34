//! A monitored stack: its packets, the state transitions of its connections, and their ends.

use crate::oracle::{Step, may_go};
use lastack_engine::{
    Cause, ConnId, Ended, Event, FourTuple, Instant, Received, Rule, Stack, TcpState, Transmit, Verdict,
};
use lastack_wire::{Icmp, IcmpError, IpPacket, Quoted, TcpFlags, TcpHeader, UdpHeader, ip, tcp};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// An upper bound for the packets that a stack sends without new input.
const MAX_AT_ONCE: usize = 20_000;

/// The byte that an application writes at this place of a stream.
pub fn byte(at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// The data of one of its connections.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub written: u32,
    pub read: Vec<u8>,
    pub end_of_stream: bool,
    /// An error was reported, or the application aborted: a later end of the stream does not count.
    pub failed: bool,
    pub closed: bool,
    pub end: Option<Ended>,
}

#[derive(Debug)]
pub struct Host {
    pub stack: Stack,
    pub now: Instant,
    /// Connections that an application has, or had.
    pub named: BTreeMap<ConnId, Named>,
    /// The initial sequence numbers of SYNs that the stack sent, by flow.
    isns: BTreeMap<FourTuple, Vec<u32>>,
    states: BTreeMap<FourTuple, TcpState>,
    ends: BTreeMap<ConnId, Ended>,
}

impl Host {
    pub fn new(stack: Stack, now: Instant) -> Self {
        let (named, isns, states, ends) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { stack, now, named, isns, states, ends }
    }

    /// Delivers a packet to the stack.
    pub fn arrival(&mut self, packet: &[u8]) -> Verdict {
        let verdict = self.stack.handle_owned_packet(self.now, &mut packet.to_vec(), Received::default());
        if let Some(flow) = flow_of(packet) {
            self.states.entry(flow).or_insert(TcpState::Closed);
        }
        self.look(Step::Arrival);
        verdict
    }

    /// Makes a call of the application.
    pub fn call<R>(&mut self, call: impl FnOnce(&mut Stack) -> R) -> R {
        let result = call(&mut self.stack);
        self.look(Step::Call);
        result
    }

    /// Registers a connection that the application now has.
    pub fn name(&mut self, id: ConnId) {
        if let Some(tcp) = self.stack.tcp(id) {
            let flow = FourTuple { local: tcp.local(), remote: tcp.remote() };
            let state = self.stack.tcp_state(&flow).unwrap_or(TcpState::Closed);
            self.states.insert(flow, state);
        }
        let end = self.ends.get(&id).cloned();
        let before = self.named.insert(id, Named { end, ..Named::default() });
        assert!(before.is_none(), "a name is given twice: {id:?}");
    }

    /// Takes all packets that the stack has to send, and checks each.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let (mut sent, mut bytes) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.poll_transmit(sent.len(), &mut bytes) {
            self.look_at(&bytes, transmit);
            sent.push(std::mem::take(&mut bytes));
            assert!(sent.len() < MAX_AT_ONCE, "it does not stop sending");
        }
        assert!(!self.stack.has_output(), "nothing is owed once poll_transmit said so");
        self.look(Step::Time);
        sent
    }

    /// Takes every other packet with its data lent.
    fn poll_transmit(&mut self, number: usize, bytes: &mut Vec<u8>) -> Option<Transmit> {
        if number.is_multiple_of(2) {
            return self.stack.poll_transmit(self.now, bytes);
        }
        let packet = self.stack.poll_transmit_vectored(self.now, bytes)?;
        bytes.extend(packet.data.concat());
        Some(packet.transmit)
    }

    /// Advances time to `end`, timer by timer. After each, no timer may be due that was due before.
    pub fn pass(&mut self, end: Instant, mut give: impl FnMut(Vec<Vec<u8>>)) {
        give(self.drain());
        while let Some(due) = self.stack.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.stack.handle_timeout(self.now);
            self.look(Step::Time);
            give(self.drain());
            let next = self.stack.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer that never rests: {next:?}");
        }
        self.now = self.now.max(end);
    }

    /// Checks the result of a step.
    fn look(&mut self, step: Step) {
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::Ended(ended) => self.end(*ended),
                Event::Intercepted(id) => self.name(id),
                _ => {}
            }
        }
        self.stack.check();
        for (flow, state) in &mut self.states {
            let now = self.stack.tcp_state(flow).unwrap_or(TcpState::Closed);
            assert!(may_go(step, *state, now), "{flow}: {step:?} took it from {state} to {now}");
            *state = now;
        }
    }

    fn end(&mut self, ended: Ended) {
        if let Some(named) = self.named.get_mut(&ended.id) {
            named.end = Some(ended.clone());
            // An intercepted SYN that ended before it was answered leaves nothing.
            named.closed |= self.stack.tcp(ended.id).is_none();
        }
        let flow = ended.flow;
        assert!(ended.end.at >= ended.opened, "it ends before it begins: {ended:?}");
        assert!(!ended.end.to_string().is_empty());
        let before = self.ends.insert(ended.id, ended);
        assert!(before.is_none(), "{flow} ends twice: {before:?}");
    }

    /// Every connection that an application had has ended.
    pub fn assert_over(&self) {
        for (id, named) in &self.named {
            assert!(named.end.is_some(), "{id:?} has no end");
        }
        assert_eq!(self.stack.connections(), 0, "nothing is left");
        assert_eq!(self.stack.poll_timeout(), None, "no timer is left");
    }

    /// The byte counts of each end agree with what its application did.
    pub fn assert_accounted(&self) {
        for named in self.named.values() {
            let ended = named.end.as_ref().expect("it is over");
            let (bytes, lost) = (ended.bytes, ended.end.lost);
            assert_eq!(bytes.sent + lost.unacked + lost.unsent, u64::from(named.written), "{ended:?}");
            assert!(named.read.len() as u64 <= bytes.received, "{ended:?}");
            if ended.end.cause == Cause::Orderly {
                assert_eq!((lost.unsent, lost.unacked), (0, 0), "an orderly end loses nothing: {ended:?}");
            }
            if named.end_of_stream {
                assert_eq!(named.read.len() as u64, bytes.received, "it ends before its bytes: {ended:?}");
            }
        }
    }

    fn look_at(&mut self, bytes: &[u8], transmit: Transmit) {
        let config = self.stack.config();
        let max = if transmit.segment_size.is_some() { config.max_packet } else { config.mtu };
        assert!(bytes.len() <= max, "{} bytes leave, {max} fit", bytes.len());
        let parsed = IpPacket::parse(bytes).expect("what is sent is a packet");
        let header = parsed.header;
        assert!(ip::unicast(header.src) && ip::unicast(header.dst), "{header:?}");
        // If every address is the stack's own, so is the peer's.
        let itself = !config.any_address && config.addresses.contains(&header.dst);
        assert!(!itself, "it speaks to itself: {header:?}");
        if parsed.fragment.is_some() {
            return;
        }
        match header.protocol {
            ip::TCP => {
                assert!(tcp::checksum_ok(&header, parsed.payload), "{header:?}");
                let (segment, text) = TcpHeader::parse(parsed.payload).expect("what is sent is a segment");
                self.look_at_segment([header.src, header.dst], &segment, text, transmit);
            }
            ip::UDP => drop(UdpHeader::parse(&header, parsed.payload).expect("what is sent is a datagram")),
            protocol if protocol == if header.is_v6() { ip::ICMPV6 } else { ip::ICMP } => {
                look_at_message(&parsed, transmit);
            }
            // The application sends the packets of other protocols.
            _ => assert!(transmit.rule.is_none(), "{header:?}"),
        }
    }

    fn look_at_segment(
        &mut self,
        [src, dst]: [IpAddr; 2],
        segment: &TcpHeader,
        text: &[u8],
        transmit: Transmit,
    ) {
        let flow = FourTuple {
            local: SocketAddr::new(src, segment.src_port),
            remote: SocketAddr::new(dst, segment.dst_port),
        };
        let has = |flag| segment.flags.contains(flag);
        if has(TcpFlags::RST) {
            assert!(transmit.rule.is_some_and(may_reset), "a reset without a rule: {:?}", transmit.rule);
            assert!(text.is_empty() && !has(TcpFlags::SYN) && !has(TcpFlags::FIN), "{segment:?}");
        } else {
            assert!(has(TcpFlags::SYN) || has(TcpFlags::ACK), "{segment:?}");
            assert!(!(has(TcpFlags::SYN) && has(TcpFlags::FIN)), "{segment:?}");
        }
        if has(TcpFlags::SYN) {
            let isns = self.isns.entry(flow).or_default();
            if !isns.contains(&segment.seq) {
                isns.push(segment.seq);
            }
            self.states.entry(flow).or_insert(TcpState::Closed);
        }
        if !text.is_empty() {
            let isns = self.isns.get(&flow).map_or(&[][..], Vec::as_slice);
            let written = |iss: u32| {
                let first = segment.seq.wrapping_sub(iss).wrapping_sub(1);
                text.iter().enumerate().all(|(i, sent)| byte(first.wrapping_add(i as u32)) == *sent)
            };
            assert!(isns.iter().any(|iss| written(*iss)), "{flow} sends what nobody wrote: {segment:?}");
        }
    }
}

/// ICMP: an error has its rule, and none is sent about an error (RFC 1122 section 3.2.2).
fn look_at_message(parsed: &IpPacket<'_>, transmit: Transmit) {
    let message = Icmp::parse(&parsed.header, parsed.payload).expect("what is sent is a message");
    let Icmp::Error { quoted, .. } = message else { return };
    assert!(transmit.rule.is_some(), "an error without a rule: {message:?}");
    let about = Quoted::parse(quoted).expect("it quotes what arrived");
    let v6 = about.header.is_v6();
    // The ICMP of the other IP version is an unknown protocol.
    let icmp = about.header.protocol == if v6 { ip::ICMPV6 } else { ip::ICMP };
    if icmp && about.fragment.is_none_or(|fragment| fragment.offset == 0) {
        let is_error = |kind: &u8| IcmpError::is_error_kind(v6, *kind);
        assert!(!about.payload.first().is_some_and(is_error), "an error about an error: {about:?}");
    }
}

/// Whether a reset may be sent by this rule.
fn may_reset(rule: Rule) -> bool {
    rule.rst_reason().is_some()
}

/// The four-tuple of an arriving segment, from its receiver's side.
pub fn flow_of(packet: &[u8]) -> Option<FourTuple> {
    let parsed = IpPacket::parse(packet).ok()?;
    if parsed.header.protocol != ip::TCP || parsed.fragment.is_some() {
        return None;
    }
    let (segment, _) = TcpHeader::parse(parsed.payload).ok()?;
    Some(FourTuple {
        local: SocketAddr::new(parsed.header.dst, segment.dst_port),
        remote: SocketAddr::new(parsed.header.src, segment.src_port),
    })
}
