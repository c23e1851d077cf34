//! What happened in a network, in the order in which it happened.

use lastack_engine::{Ended, FourTuple, Instant, TcpState, Transmit, Verdict};
use lastack_link::{Direction, Sink};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

/// The name of a host in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(crate) usize);

impl HostId {
    /// The host that was added to its network at this position, counted from 0.
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place among the hosts, in the order in which they were added.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// How a host is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLabel {
    /// Its name.
    pub name: String,
    /// Its first address.
    pub address: IpAddr,
    /// Whether it is one of our stacks: if not, only its packets and its application are known.
    pub ours: bool,
}

/// The log of a network: every packet, and what hosts and applications did about it.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The hosts, in the order of their [`HostId`]s.
    pub hosts: Vec<HostLabel>,
    /// Every packet, in the order in which they were sent.
    pub packets: Vec<PacketRecord>,
    /// What happened, in order.
    pub entries: Vec<Entry>,
    /// What was sent in the place of the packets that arrive damaged.
    pub(crate) intact: BTreeMap<usize, Vec<u8>>,
}

/// A packet on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketRecord {
    /// When it was sent.
    pub sent: Instant,
    /// The host that sent it; for a forged packet, the host in whose name it was sent.
    pub from: HostId,
    /// The host it goes to, if its destination is the address of one.
    pub to: Option<HostId>,
    /// The packet as it travels: damaged, if it was damaged.
    pub bytes: Vec<u8>,
    /// What its sender said beside the bytes.
    pub transmit: Transmit,
    /// How it came into being.
    pub kind: PacketKind,
    /// What became of it.
    pub fate: Fate,
}

/// How a packet came into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A host sent it.
    Sent,
    /// The path damaged it.
    Damaged,
    /// The path made a second one of it.
    Copy,
    /// Somebody else sent it in a host's name.
    Forged,
    /// A router on the path answers a packet of the host's with it.
    Router,
}

/// What became of a packet.
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
        /// What the stack that received it says; `None` if that stack is not one of ours.
        verdict: Option<Verdict>,
    },
}

/// Why a packet never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The path loses some packets, and this was one.
    Chance,
    /// Too many waited already where the path is narrow.
    Queue,
    /// The path is cut.
    Cut,
    /// It is larger than the path carries.
    TooBig,
    /// No path leads to its destination.
    NoRoute,
}

/// Something that happened at a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Where.
    pub host: HostId,
    /// What.
    pub what: What,
}

/// What happened at a host.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A packet left, or one was forged in its name: an index of [`Trace::packets`].
    Sent(usize),
    /// A packet arrived: an index of [`Trace::packets`].
    Arrived(usize),
    /// A connection is in another state than before; [`TcpState::Closed`] if there is none any more.
    State {
        /// Which connection.
        flow: FourTuple,
        /// The state it is in now.
        state: TcpState,
    },
    /// Its application called or was answered.
    Application(String),
    /// A connection is over.
    Ended(Box<Ended>),
    /// The host lost all its state and began again.
    Restarted,
    /// The paths between the hosts were cut, or mended.
    Path {
        /// Nothing arrives any more.
        cut: bool,
    },
}

impl Trace {
    /// A packet as it was sent, whatever befell it later.
    pub(crate) fn as_sent(&self, index: usize) -> &[u8] {
        self.intact.get(&index).unwrap_or(&self.packets[index].bytes)
    }

    /// A number that two runs share only if they sent the same packets at the same times.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for packet in &self.packets {
            hasher.write_u64(packet.sent.as_nanos());
            hasher.write_usize(packet.from.0);
            hasher.write(&packet.bytes);
        }
        hasher.finish()
    }

    /// Shows every packet to a capture, all times later by `offset`; those of the first host as sent,
    /// the others as received. The comments say what the bytes do not, the first one `title` too.
    pub fn capture(&self, sink: &mut impl Sink, offset: Duration, title: &str) {
        for (index, packet) in self.packets.iter().enumerate() {
            let direction = if packet.from == HostId(0) { Direction::Sent } else { Direction::Received };
            let title = (index == 0).then(|| title.to_owned());
            let comments: Vec<String> = title.into_iter().chain(packet.comments()).collect();
            let comment = Some(comments.join("; ")).filter(|comment| !comment.is_empty());
            sink.record(packet.sent + offset, direction, &packet.bytes, comment.as_deref());
        }
    }

    /// The time of the last thing that happened.
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
    /// What its bytes do not say.
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
