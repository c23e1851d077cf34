//! The packet comments of the capture: the text of the report, where lastack answers in place of a remote or router.
//!
//! To the stack a refusal that is passed on is a decision of its user. In a capture it has to be attributed to the
//! remote, as it is in the report.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lastack::link::{Direction, PcapngWriter, Sink};

use crate::pipe::Output;
use lastack_engine::Instant;
use lastack_wire::{IpPacket, Quoted, TcpFlags, TcpHeader, ip};

/// Max connections whose end is kept: the reset follows its reason at once.
const MAX_FLOWS: usize = 1024;

/// Comments for future packets. Clones share the state.
#[derive(Clone, Default)]
pub struct Comments(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// For the next packet.
    next: Option<String>,
    /// For the packet that ends a connection, by the program's end and the other.
    flows: HashMap<(SocketAddr, SocketAddr), String>,
    order: VecDeque<(SocketAddr, SocketAddr)>,
    /// Where packets are captured that the program does not receive.
    sink: Option<Box<dyn Sink + Send>>,
    /// The capture, which states how each connection ended.
    file: Option<Writer>,
}

/// The capture of all packets.
pub(crate) type Writer = Arc<Mutex<PcapngWriter<Output>>>;

impl std::fmt::Debug for Comments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comments").finish_non_exhaustive()
    }
}

impl Comments {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the sink of the capture. Without one no comments are kept.
    pub fn connect(&self, sink: Box<dyn Sink + Send>) {
        self.state().sink = Some(sink);
    }

    /// Sets the capture of all packets.
    pub fn write_to(&self, file: Writer) {
        self.state().file = Some(file);
    }

    /// States in the capture of all packets how a connection ended, which its packets need not show.
    pub fn state_end(&self, stated: impl FnOnce() -> String) {
        let Some(file) = self.state().file.clone() else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.comment(SystemTime::now(), &stated());
    }

    /// Sets the comment of the next packet.
    pub fn next(&self, comment: String) {
        let mut state = self.state();
        if state.sink.is_some() {
            state.next = Some(comment);
        }
    }

    /// Sets the comment of the packet that ends this connection.
    pub fn end(&self, local: SocketAddr, remote: SocketAddr, comment: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.sink.is_none() {
            return;
        }
        if state.order.len() >= MAX_FLOWS
            && let Some(oldest) = state.order.pop_front()
        {
            state.flows.remove(&oldest);
        }
        if state.flows.insert((local, remote), comment()).is_none() {
            state.order.push_back((local, remote));
        }
    }

    /// Captures a packet to the program that is not delivered.
    pub fn unsent(&self, now: Instant, packet: &[u8]) {
        let mut state = self.state();
        let comment = state.next.take();
        if let Some(sink) = &mut state.sink {
            sink.record(now, Direction::Sent, packet, comment.as_deref());
        }
    }

    fn of(&self, direction: Direction, packet: &[u8], comment: Option<&str>) -> Option<String> {
        let mut state = self.state();
        if let Some(next) = state.next.take() {
            return Some(next);
        }
        // Only a packet that ends a connection has a rule of the stack that names its user.
        if direction == Direction::Received || comment.is_none() || state.flows.is_empty() {
            return None;
        }
        let ended = ended_by(packet)?;
        state.flows.get(&ended).cloned()
    }
}

/// The connection that this packet to the program ends: its own end and the other.
fn ended_by(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let parsed = IpPacket::parse(packet).ok()?;
    match parsed.header.protocol {
        ip::TCP => {
            let (tcp, _) = TcpHeader::parse(parsed.payload).ok()?;
            tcp.flags
                .contains(TcpFlags::RST)
                .then(|| ((parsed.header.dst, tcp.dst_port).into(), (parsed.header.src, tcp.src_port).into()))
        }
        ip::ICMP | ip::ICMPV6 => {
            let quoted = Quoted::parse(parsed.payload.get(8..)?).ok()?;
            let (local, remote) = quoted.ports()?;
            Some((at(quoted.header.src, local), at(quoted.header.dst, remote)))
        }
        _ => None,
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    (address, port).into()
}

/// A sink that adds the text of [`Comments`].
#[derive(Debug)]
pub struct Commented<S> {
    sink: S,
    comments: Comments,
}

impl<S> Commented<S> {
    /// Around a sink.
    pub fn new(sink: S, comments: Comments) -> Self {
        Self { sink, comments }
    }
}

impl<S: Sink> Sink for Commented<S> {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        let ours = self.comments.of(direction, packet, comment);
        self.sink.record(at, direction, packet, ours.as_deref().or(comment));
    }

    fn flush(&mut self, now: Instant) {
        self.sink.flush(now);
    }
}
