//! `-w`: the packets of the connections that are reported, with the verdict as a comment.
//!
//! Which connection will end badly is not known before, so the last packets of each are kept until then.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use lastack_engine::Instant;
use lastack_link::{Direction, PcapngWriter, Section};
use lastack_wire::{Quoted, TcpFlags, TcpHeader, ip};

use crate::ended::Ended;
use crate::event::Flow;
use crate::record::ended_by_words;
use crate::sources::RawPacket;

/// Bytes of packets that are kept for all connections together.
const MAX_KEPT: usize = 64 << 20;

#[derive(Debug)]
struct Kept {
    wall: u64,
    sent: bool,
    len: usize,
    bytes: Vec<u8>,
    reset: bool,
}

/// Writes the last packets of each reported connection.
#[derive(Debug)]
pub struct PacketFile<W: Write> {
    writer: PcapngWriter<W>,
    per_connection: usize,
    flows: HashMap<Flow, VecDeque<Kept>>,
    /// In the order in which they were first seen.
    order: VecDeque<Flow>,
    kept: usize,
    written: u64,
}

impl<W: Write> PacketFile<W> {
    /// Begins a file with at most this number of packets per connection.
    pub fn new(writer: W, per_connection: usize) -> Self {
        // Not written by the stack, which stands between the two ends: packets are seen at one of them.
        let application = concat!("lastack watch ", env!("CARGO_PKG_VERSION")).into();
        let section = Section { application, interface: "any".into(), ..Section::default() };
        Self {
            writer: PcapngWriter::with_section(writer, UNIX_EPOCH, &section),
            per_connection: per_connection.max(1),
            flows: HashMap::new(),
            order: VecDeque::new(),
            kept: 0,
            written: 0,
        }
    }

    /// Keeps a packet.
    pub fn keep(&mut self, packet: &RawPacket<'_>) {
        let Some((flow, reset)) = flow(packet.bytes) else { return };
        let flow = flow.undirected();
        let packets = self.flows.entry(flow).or_insert_with(|| {
            self.order.push_back(flow);
            VecDeque::new()
        });
        if packets.len() == self.per_connection
            && let Some(old) = packets.pop_front()
        {
            self.kept -= old.bytes.len();
        }
        let RawPacket { wall, sent, len, bytes } = *packet;
        packets.push_back(Kept { wall, sent, len, bytes: bytes.to_vec(), reset });
        self.kept += bytes.len();
        while self.kept > MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.drop_flow(oldest);
        }
    }

    fn drop_flow(&mut self, flow: Flow) -> VecDeque<Kept> {
        let packets = self.flows.remove(&flow).unwrap_or_default();
        self.kept -= packets.iter().map(|packet| packet.bytes.len()).sum::<usize>();
        packets
    }

    /// Writes the packets of a connection that is reported. The verdict is on its first reset, or its last packet.
    pub fn write(&mut self, ended: &Ended) {
        let packets = self.drop_flow(ended.flow.undirected());
        let decisive =
            packets.iter().position(|packet| packet.reset).unwrap_or(packets.len().saturating_sub(1));
        for (n, packet) in packets.iter().enumerate() {
            let comment = (n == decisive).then(|| comment(ended));
            let direction = if packet.sent { Direction::Sent } else { Direction::Received };
            let at = Instant::from_nanos(packet.wall);
            self.writer.record_cut(at, direction, &packet.bytes, packet.len, comment.as_deref());
            self.written += 1;
        }
        self.writer.flush();
    }

    /// Drops the packets of a connection that is not reported.
    pub fn discard(&mut self, ended: &Ended) {
        self.drop_flow(ended.flow.undirected());
        // Entries of flows that are gone pile up here.
        if self.order.len() > 2 * self.flows.len() + 1024 {
            self.order.retain(|flow| self.flows.contains_key(flow));
        }
    }

    /// Packets written so far.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first error of writing.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finish().map(drop)
    }
}

fn comment(ended: &Ended) -> String {
    let mut comment = format!("lastack: {} {} ({})", ended.cause, ended_by_words(ended), ended.cause.code());
    if !ended.detail.is_empty() {
        comment.push_str(": ");
        comment.push_str(&ended.detail);
    }
    if let Some(owner) = &ended.process {
        comment.push_str(&format!("; process {} ({})", owner.pid, owner.comm));
    }
    comment
}

/// The flow of a TCP segment, or of the one that an ICMP error quotes, and whether it is a reset.
fn flow(packet: &[u8]) -> Option<(Flow, bool)> {
    let packet = Quoted::parse(packet).ok()?;
    if matches!(packet.header.protocol, ip::ICMP | ip::ICMPV6) {
        let quoted = Quoted::parse(packet.payload.get(8..)?).ok()?;
        let (source, destination) = quoted.ports().filter(|_| quoted.header.protocol == ip::TCP)?;
        let flow = Flow::new((quoted.header.src, source).into(), (quoted.header.dst, destination).into());
        return Some((flow, false));
    }
    if packet.header.protocol != ip::TCP {
        return None;
    }
    let (tcp, _) = TcpHeader::parse(packet.payload).ok()?;
    let flow = Flow::new((packet.header.src, tcp.src_port).into(), (packet.header.dst, tcp.dst_port).into());
    Some((flow, tcp.flags.contains(TcpFlags::RST)))
}
