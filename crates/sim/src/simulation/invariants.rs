//! Invariants checked after every step: of the stacks, and of the packets that they send.

use crate::net::Network;
use crate::trace::{PacketKind, PacketRecord, What};
use lastack_engine::Instant;
use lastack_wire::ip::{IpPacket, TCP};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Max bare ACKs caused by one arrival.
const MAX_ACKS: usize = 4;
/// Max bare ACKs in a row each of which answers the previous one.
const LONGEST_TALK: u32 = 4;
/// Max steps in a minute in which nothing is sent and nothing arrives.
const IDLEST: u32 = 3_000;
/// Max trace entries that follow at once from one arrival, timer or call: programs write little.
const LARGEST_BURST: usize = 4_000;
/// Max packets of a run.
const STORM: usize = 400_000;

/// Source and destination.
type Way = (SocketAddr, SocketAddr);

/// What one end has sent to the other.
#[derive(Clone, Debug, Default)]
struct Said {
    /// The window scale it offered, if it did.
    scale: Option<u8>,
    /// The highest right window edge that it announced.
    edge: Option<u32>,
    /// The next sequence number after everything that it sent.
    end: Option<u32>,
    /// The same for earlier connections, whose packets the peer may still acknowledge.
    before: Vec<u32>,
    /// The highest right window edge that it has received from its peer.
    known_edge: Option<u32>,
}

/// Checks every packet and event.
#[derive(Debug)]
pub(super) struct InvariantChecker {
    hosts: usize,
    /// The number of entries of the trace already checked.
    entries: usize,
    packets: usize,
    said: BTreeMap<Way, Said>,
    /// For each packet, the number of bare ACKs in a row that led to it.
    talk: Vec<u32>,
    /// The number of steps in a row in which nothing happened, and when they began.
    idle: (u32, Instant),
    pub accusations: Vec<String>,
}

fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

fn later(a: Option<u32>, b: u32) -> Option<u32> {
    Some(a.filter(|a| after(*a, b)).unwrap_or(b))
}

/// A segment, with its source and destination.
struct Segment {
    way: Way,
    tcp: TcpHeader,
    len: u32,
}

impl Segment {
    fn of(bytes: &[u8]) -> Option<Self> {
        let packet = IpPacket::parse(bytes).ok()?;
        if packet.header.protocol != TCP || packet.fragment.is_some() {
            return None;
        }
        let (tcp, text) = TcpHeader::parse(packet.payload).ok()?;
        let src = SocketAddr::new(packet.header.src, tcp.src_port);
        let dst = SocketAddr::new(packet.header.dst, tcp.dst_port);
        Some(Self { way: (src, dst), tcp, len: text.len() as u32 })
    }

    fn is_bare_ack(&self) -> bool {
        let controls = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        self.len == 0 && !self.tcp.flags.intersects(controls)
    }

    fn end(&self) -> u32 {
        let controls = [TcpFlags::SYN, TcpFlags::FIN].map(|flag| u32::from(self.tcp.flags.contains(flag)));
        self.tcp.seq.wrapping_add(self.len + controls[0] + controls[1])
    }
}

impl InvariantChecker {
    pub fn new(hosts: usize) -> Self {
        Self {
            hosts,
            entries: 0,
            packets: 0,
            said: BTreeMap::new(),
            talk: Vec::new(),
            idle: (0, Instant::ZERO),
            accusations: Vec::new(),
        }
    }

    pub fn report_violation(&mut self, what: String) {
        self.accusations.push(what);
    }

    pub fn is_ok(&self) -> bool {
        self.accusations.is_empty()
    }

    /// The number of packets checked.
    pub fn seen_packets(&self) -> usize {
        self.packets
    }

    /// A host has lost all its state: what it announced no longer counts.
    pub fn forget(&mut self, addresses: &[IpAddr]) {
        for ((src, _), said) in &mut self.said {
            if addresses.contains(&src.ip()) {
                let before = said.before.iter().copied().chain(said.end).collect();
                *said = Said { scale: said.scale, before, ..Said::default() };
            }
        }
    }

    /// Checks everything since the last call.
    pub fn look(&mut self, net: &mut Network) {
        for host in 0..self.hosts {
            net.stack(crate::HostId(host)).check();
        }
        let trace = net.trace();
        self.talk.resize(trace.packets.len(), 0);
        let (mut arrived, mut acks, mut sent) = (None, 0, false);
        let burst = trace.entries.len() - self.entries;
        for entry in &trace.entries[self.entries..] {
            match entry.what {
                What::Arrived(index) => {
                    (arrived, acks) = (Some(index), 0);
                    self.arrived(&trace.packets[index]);
                }
                What::Sent(index) => {
                    sent = true;
                    let record = &trace.packets[index];
                    let forged = record.kind == PacketKind::Forged;
                    let bytes = trace.as_sent(index);
                    let Some(segment) = Segment::of(bytes).filter(|_| !forged) else { continue };
                    if segment.is_bare_ack() {
                        acks += usize::from(arrived.is_some());
                        self.talk[index] = arrived.map_or(0, |cause: usize| self.talk[cause] + 1);
                    }
                    if acks > MAX_ACKS || self.talk[index] > LONGEST_TALK {
                        let what = format!("{acks} ACKs for one arrival, or {} in a row", self.talk[index]);
                        self.report_violation(format!("{what}: {}", describe(&segment)));
                    }
                    self.sent(&segment, bytes);
                }
                _ => {}
            }
        }
        let new = &trace.entries[self.entries..];
        if burst > LARGEST_BURST {
            self.accusations.push(format!("{burst} things happen in one step"));
        }
        let quiet = !sent && arrived.is_none() && new.is_empty();
        (self.entries, self.packets) = (trace.entries.len(), trace.packets.len());
        self.count_idle(quiet, net);
    }

    fn count_idle(&mut self, quiet: bool, net: &Network) {
        let now = net.now();
        self.idle = if quiet { (self.idle.0 + 1, self.idle.1) } else { (0, now) };
        let (steps, since) = self.idle;
        if steps > IDLEST && now - since < Duration::from_secs(60) {
            self.report_violation(format!("{steps} steps since {since:?} in which nothing happens: {now:?}"));
        }
        if net.trace().packets.len() > STORM {
            self.report_violation(format!("more than {STORM} packets"));
        }
    }

    /// The window scale in this direction.
    fn shift(&self, (src, dst): Way) -> u8 {
        let offer = |way| self.said.get(&way).and_then(|said: &Said| said.scale);
        if offer((dst, src)).is_some() { offer((src, dst)).unwrap_or(0) } else { 0 }
    }

    fn arrived(&mut self, record: &PacketRecord) {
        let Some(segment) = Segment::of(&record.bytes).filter(|_| !damaged(record)) else { return };
        if segment.tcp.flags.contains(TcpFlags::ACK) && !segment.tcp.flags.contains(TcpFlags::RST) {
            let edge = self.edge(&segment);
            let (src, dst) = segment.way;
            let said = self.said.entry((dst, src)).or_default();
            // A late segment of another connection does not count.
            if said.end.is_some_and(|end| end.wrapping_sub(segment.tcp.ack) < 1 << 24) {
                said.known_edge = later(said.known_edge, edge);
            }
        }
    }

    /// The right window edge that a segment announces.
    fn edge(&self, segment: &Segment) -> u32 {
        let syn = segment.tcp.flags.contains(TcpFlags::SYN);
        let shift = if syn { 0 } else { self.shift(segment.way) };
        segment.tcp.ack.wrapping_add(u32::from(segment.tcp.window) << shift)
    }

    /// A SYN with another sequence number begins another connection.
    fn syn_sent(&mut self, segment: &Segment) {
        let (src, dst) = segment.way;
        let said = self.said.entry(segment.way).or_default();
        let is_new = said.end != Some(segment.end());
        if is_new {
            let scale = segment.tcp.options.window_scale.map(|shift| shift.min(14));
            let before = said.before.iter().copied().chain(said.end).collect();
            *said = Said { scale, before, end: Some(segment.end()), ..Said::default() };
        }
        if segment.tcp.flags.contains(TcpFlags::ACK) {
            said.edge = later(said.edge, segment.tcp.ack.wrapping_add(u32::from(segment.tcp.window)));
        } else if is_new && let Some(peer) = self.said.get_mut(&(dst, src)) {
            // Packets of its old connection may still be sent, with other numbers.
            (peer.edge, peer.known_edge) = (None, None);
        }
    }

    fn sent(&mut self, segment: &Segment, bytes: &[u8]) {
        if !checksum_ok(bytes) {
            self.report_violation(format!("a wrong checksum: {}", describe(segment)));
        }
        let flags = segment.tcp.flags;
        if flags.contains(TcpFlags::RST) {
            return;
        }
        let (src, dst) = segment.way;
        if flags.contains(TcpFlags::SYN) {
            return self.syn_sent(segment);
        }
        let (edge, shift) = (self.edge(segment), self.shift(segment.way));
        let ack = segment.tcp.ack;
        let beyond = |said: &Said| said.end.iter().chain(&said.before).all(|end| after(ack, *end));
        let unknown = self.said.get(&(dst, src)).is_some_and(|said| said.end.is_some() && beyond(said));
        let said = self.said.entry(segment.way).or_default();
        let known_edge = said.known_edge;
        let left = said.edge.filter(|before| after(*before, edge.wrapping_add((1 << shift) - 1)));
        said.edge = later(said.edge, edge);
        said.end = later(said.end, segment.end());
        if let Some(before) = left {
            let by = before.wrapping_sub(edge);
            self.report_violation(format!("the right edge moves left by {by}: {}", describe(segment)));
        }
        if known_edge.is_some_and(|known_edge| segment.len > 0 && after(segment.end(), known_edge)) {
            self.report_violation(format!(
                "text beyond the window, which ends at {known_edge:?}: {}",
                describe(segment)
            ));
        }
        if unknown {
            self.report_violation(format!("it acknowledges what was never sent: {}", describe(segment)));
        }
    }
}

/// The window field of a segment.
pub(super) fn window(record: &PacketRecord) -> Option<u16> {
    Segment::of(&record.bytes).map(|segment| segment.tcp.window)
}

fn damaged(record: &PacketRecord) -> bool {
    record.kind == PacketKind::Damaged && !checksum_ok(&record.bytes)
}

fn checksum_ok(bytes: &[u8]) -> bool {
    IpPacket::parse(bytes).is_ok_and(|packet| tcp::checksum_ok(&packet.header, packet.payload))
}

fn describe(segment: &Segment) -> String {
    let (src, dst) = segment.way;
    let TcpHeader { flags, seq, ack, window, .. } = segment.tcp;
    format!("{src} > {dst} {flags} seq={seq} ack={ack} len={} win={window}", segment.len)
}
