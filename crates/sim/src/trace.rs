//! The log of a network, in chronological order.

use lastack_engine::{Ended, FourTuple, Instant, TcpState, Transmit, Verdict};
use lastack_link::{Direction, Sink};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

/// The identifier of a host in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(crate) usize);

impl HostId {
    /// The host that was added to its network at this position, counted from 0.
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its index, in the order in which the hosts were added.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// The label of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLabel {
    /// Its name.
    pub name: String,
    /// Its first address.
    pub address: IpAddr,
    /// Whether it runs this stack: if not, only its packets and its application are known.
    pub ours: bool,
}

/// The log of a network: every packet, and the reactions of hosts and applications.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The hosts, in the order of their [`HostId`]s.
    pub hosts: Vec<HostLabel>,
    /// Every packet, in the order in which they were sent.
    pub packets: Vec<PacketRecord>,
    /// The events, in order.
    pub entries: Vec<Entry>,
    /// The original bytes of packets that arrive damaged.
    pub(crate) intact: BTreeMap<usize, Vec<u8>>,
}

/// A packet of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketRecord {
    /// When it was sent.
    pub sent: Instant,
    /// The host that sent it; for a forged packet, the host in whose name it was sent.
    pub from: HostId,
    /// The destination host, if the destination is the address of one.
    pub to: Option<HostId>,
    /// The packet as it travels, with the damage if it was damaged.
    pub bytes: Vec<u8>,
    /// The metadata that its sender gave beside the bytes.
    pub transmit: Transmit,
    /// Its origin.
    pub kind: PacketKind,
    /// Its fate.
    pub fate: Fate,
}

/// The origin of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A host sent it.
    Sent,
    /// The path damaged it.
    Damaged,
    /// The path duplicated it.
    Copy,
    /// A third party sent it in a host's name.
    Forged,
    /// A router on the path sent it in answer to a packet of the host.
    Router,
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not arrived yet.
    InFlight,
    /// It never arrives.
    Lost(Loss),
    /// It arrived.
    Delivered {
        /// When.
        at: Instant,
        /// The verdict of the receiving stack; `None` if it is a foreign one.
        verdict: Option<Verdict>,
    },
}

/// Why a packet never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The path loses some packets, and this was one.
    Chance,
    /// The queue at the bottleneck was full.
    Queue,
    /// The path is cut.
    Cut,
    /// It is larger than the path carries.
    TooBig,
    /// No path leads to its destination.
    NoRoute,
}

/// An event at a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// The host.
    pub host: HostId,
    /// The event.
    pub what: What,
}

/// The kind of an event at a host.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A packet left, or one was forged in its name: an index of [`Trace::packets`].
    Sent(usize),
    /// A packet arrived: an index of [`Trace::packets`].
    Arrived(usize),
    /// The state of a connection has changed; [`TcpState::Closed`] if it no longer exists.
    State {
        /// The connection.
        flow: FourTuple,
        /// Its new state.
        state: TcpState,
    },
    /// Its application made a call or got a result.
    Application(String),
    /// A connection has ended.
    Ended(Box<Ended>),
    /// The host lost all its state and restarted.
    Restarted,
    /// The paths between the hosts were cut, or restored.
    Path {
        /// Whether they were cut.
        cut: bool,
    },
}

impl Trace {
    /// A packet as it was sent, without later damage.
    pub(crate) fn as_sent(&self, index: usize) -> &[u8] {
        self.intact.get(&index).unwrap_or(&self.packets[index].bytes)
    }

    /// A fingerprint: two runs share it only if they sent the same packets at the same times.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for packet in &self.packets {
            hasher.write_u64(packet.sent.as_nanos());
            hasher.write_usize(packet.from.0);
            hasher.write(&packet.bytes);
        }
        hasher.finish()
    }

    /// Writes every packet to a capture, with all times shifted by `offset`; those of the first host as sent,
    /// the others as received. The comments add what the bytes do not show, the first one `title` too.
    pub fn capture(&self, sink: &mut impl Sink, offset: Duration, title: &str) {
        for (index, packet) in self.packets.iter().enumerate() {
            let direction = if packet.from == HostId(0) { Direction::Sent } else { Direction::Received };
            let title = (index == 0).then(|| title.to_owned());
            let comments: Vec<String> = title.into_iter().chain(packet.comments()).collect();
            let comment = Some(comments.join("; ")).filter(|comment| !comment.is_empty());
            sink.record(packet.sent + offset, direction, &packet.bytes, comment.as_deref());
        }
    }

    /// The time of the last entry.
    pub fn end(&self) -> Instant {
        self.entries.last().map_or(Instant::ZERO, |entry| entry.at)
    }

    /// The ends of the host's connections, in order.
    pub fn ends(&self, host: HostId) -> impl Iterator<Item = &Ended> {
        self.entries.iter().filter(move |entry| entry.host == host).filter_map(|entry| match &entry.what {
            What::Ended(ended) => Some(&**ended),
            _ => None,
        })
    }

    /// The host's connections that are not over, and the state of each.
    pub fn open(&self, host: HostId) -> BTreeMap<FourTuple, TcpState> {
        let mut open = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.host == host) {
            match entry.what {
                What::State { flow, state: TcpState::Closed } => open.remove(&flow),
                What::State { flow, state } => open.insert(flow, state),
                _ => None,
            };
        }
        open
    }
}

impl PacketRecord {
    /// The information that its bytes do not show.
    fn comments(&self) -> impl Iterator<Item = String> {
        let kind = match self.kind {
            PacketKind::Sent => None,
            PacketKind::Damaged => Some("damaged on the way".to_owned()),
            PacketKind::Copy => Some("copied on the way".to_owned()),
            PacketKind::Forged => Some("forged: not sent by its source".to_owned()),
            PacketKind::Router => Some("from a router on the path".to_owned()),
        };
        let rule = self.transmit.rule;
        let rule = rule.map(|rule| format!("sent: [{rule}] {} ({})", rule.text(), rule.section()));
        let fate = match self.fate {
            Fate::Lost(loss) => Some(loss.to_string()),
            Fate::InFlight | Fate::Delivered { verdict: None | Some(Verdict::Accepted), .. } => None,
            Fate::Delivered { verdict: Some(verdict), .. } => Some(format!("its receiver: {verdict}")),
        };
        [kind, rule, fate].into_iter().flatten()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chance => "lost on the way",
            Self::Queue => "lost: too many wait already",
            Self::Cut => "lost: the path is cut",
            Self::TooBig => "lost: larger than the path carries",
            Self::NoRoute => "lost: no path leads there",
        })
    }
}
