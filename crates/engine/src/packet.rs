//! Metadata of packets, and the verdict on an arrival.

use crate::{ConnId, Rule};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use lastack_wire::Malformed;
use lastack_wire::ip::IpHeader;

/// Metadata of a packet received from the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The transport checksum is known to be good, or was never computed because the packet did not
    /// leave the machine. The stack does not verify it.
    pub checksum_good: bool,
    /// The packet is a super-segment: the link has merged segments of this many bytes of data, or the sender on this
    /// machine has left it to the link to split them.
    pub segment_size: Option<u16>,
}

/// Metadata of a packet to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transmit {
    /// The packet is a super-segment: the link splits its payload into segments of this many bytes.
    pub segment_size: Option<u16>,
    /// Length of the IP and transport headers in bytes.
    pub header_len: u16,
    /// The transport checksum field holds the sum of the pseudo-header only.
    pub partial_checksum: bool,
    /// The rule that caused this packet, if it is a reset, a challenge ACK or an ICMP error.
    pub rule: Option<Rule>,
}

/// A packet to be sent whose data is lent: from [`Stack::poll_transmit_vectored`](crate::Stack::poll_transmit_vectored).
#[derive(Clone, Copy, Debug)]
pub struct LentPacket<'a> {
    /// Its metadata.
    pub transmit: Transmit,
    /// The data behind the headers: two slices of a send buffer, which may be empty.
    pub data: [&'a [u8]; 2],
}

/// What a packet is written to.
pub(crate) trait PacketBuffer {
    /// The buffer of the headers, and of what is not data of a connection.
    fn headers(&mut self) -> &mut Vec<u8>;

    /// The data that follows: `at` in the send buffer of the connection `id`, from SND.UNA on.
    fn data(&mut self, id: ConnId, at: Range<usize>, data: [&[u8]; 2]);
}

impl PacketBuffer for Vec<u8> {
    #[inline]
    fn headers(&mut self) -> &mut Vec<u8> {
        self
    }

    /// Copies it.
    #[inline]
    fn data(&mut self, _: ConnId, _: Range<usize>, [first, second]: [&[u8]; 2]) {
        self.extend_from_slice(first);
        if !second.is_empty() {
            self.extend_from_slice(second);
        }
    }
}

/// A packet whose data stays where it is.
#[derive(Debug)]
pub(crate) struct Lending<'p> {
    pub headers: &'p mut Vec<u8>,
    pub lent: Option<(ConnId, Range<usize>)>,
}

impl PacketBuffer for Lending<'_> {
    fn headers(&mut self) -> &mut Vec<u8> {
        self.headers
    }

    /// Notes where it is.
    fn data(&mut self, id: ConnId, at: Range<usize>, _: [&[u8]; 2]) {
        self.lent = Some((id, at));
    }
}

/// A packet that arrives in a buffer that the stack may keep.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The address of its first byte, from which that of its data follows.
    address: usize,
    pub capacity: usize,
    /// The connection that keeps it.
    pub kept_by: Option<ConnId>,
}

impl Offer {
    pub fn new(packet: &Vec<u8>) -> Self {
        Self { address: packet.as_ptr().addr(), capacity: packet.capacity(), kept_by: None }
    }

    /// Where `data`, a part of the packet, is in it.
    pub fn range_of(&self, data: &[u8]) -> Range<usize> {
        let start = data.as_ptr().addr() - self.address;
        start..start + data.len()
    }
}

/// The fields of an IP header that the user of a socket sets and reads: IP_TTL, IP_TOS,
/// IP_MTU_DISCOVER and their IPv6 equivalents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpFields {
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// The DF bit. For IPv6, whose routers never fragment: the packet arrived unfragmented.
    pub dont_fragment: bool,
}

impl IpFields {
    /// The ECN field (RFC 3168): the two low bits of the traffic class. 1: ECT(1), 2: ECT(0), 3: CE.
    #[must_use]
    pub const fn ecn(self) -> u8 {
        self.traffic_class & 0b11
    }

    /// The DSCP (RFC 2474): the six high bits of the traffic class.
    #[must_use]
    pub const fn dscp(self) -> u8 {
        self.traffic_class >> 2
    }

    /// The fields of a received packet.
    pub(crate) const fn of(header: &IpHeader) -> Self {
        Self {
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            dont_fragment: header.dont_fragment,
        }
    }

    /// The header with these fields.
    pub(crate) const fn apply(self, header: IpHeader) -> IpHeader {
        let Self { hop_limit, traffic_class, dont_fragment } = self;
        IpHeader { hop_limit, traffic_class, dont_fragment, ..header }
    }
}

/// How the stack handled a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// It was delivered to a socket or connection.
    Accepted,
    /// It was answered by this rule and changed no state.
    Answered(Rule),
    /// It ended a connection.
    Ended(Rule),
    /// It was dropped: no reply, no change of state.
    Dropped(DropReason),
}

impl Verdict {
    /// The rule that was applied.
    pub const fn rule(self) -> Option<Rule> {
        match self {
            Self::Answered(rule) | Self::Ended(rule) | Self::Dropped(DropReason::Rule(rule)) => Some(rule),
            Self::Accepted | Self::Dropped(_) => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Answered(rule) => write!(f, "answered: [{rule}] {}", rule.text()),
            Self::Ended(rule) => write!(f, "closed the connection: [{rule}] {}", rule.text()),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
        }
    }
}

/// Why an arrival was dropped silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// By a rule of the catalogue.
    Rule(Rule),
    /// A header is malformed.
    Malformed(Malformed),
    /// No socket or connection matches.
    Unwanted,
    /// The receive queue or buffer is full.
    NoSpace,
    /// A duplicate of an earlier packet.
    Duplicate,
    /// A fragment, queued until the rest of the packet arrives.
    Incomplete,
}

impl From<Rule> for DropReason {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "[{rule}] {}", rule.text()),
            Self::Malformed(malformed) => write!(f, "malformed: {malformed}"),
            Self::Unwanted => f.write_str("no matching socket"),
            Self::NoSpace => f.write_str("queue full"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Incomplete => f.write_str("fragment queued for reassembly"),
        }
    }
}
