//! The words of the packets: where one stands in the input, addresses, and what is kept of a segment.

use lastack_wire::TcpFlags;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The place of a packet in the input: the file, and the number within it, which begins with 1. Frames are ordered as the
/// packets are in the input, of whatever file they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// The place in the whole input.
    place: u64,
    /// File and number.
    id: u64,
}

impl Frame {
    /// Packet `number` of the file at this place among several.
    #[must_use]
    pub const fn new(file: u16, number: u64) -> Self {
        Self { place: number, id: (file as u64) << 48 | number & ((1 << 48) - 1) }
    }

    /// The same packet as the `place`-th of an input of several files.
    #[must_use]
    pub const fn placed(self, place: u64) -> Self {
        Self { place, ..self }
    }

    /// The place of the file among several.
    #[must_use]
    pub const fn file(self) -> u16 {
        (self.id >> 48) as u16
    }

    /// The number within the file, from 1 on.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.id & ((1 << 48) - 1)
    }
}

/// An IP address of either version; IPv4 is kept as IPv4-mapped IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub u128);

impl Addr {
    /// Of four bytes.
    #[inline]
    pub(crate) const fn v4(bytes: [u8; 4]) -> Self {
        Self(0xffff_0000_0000 | u32::from_be_bytes(bytes) as u128)
    }

    /// Of sixteen bytes.
    #[inline]
    pub(crate) const fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Whether it is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    /// As the standard library's address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        if self.is_v4() { Ipv4Addr::from(self.0 as u32).into() } else { Ipv6Addr::from(self.0).into() }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// An address and a port: `10.0.0.1:80`, `[2001:db8::1]:80`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port.
    pub port: u16,
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(at: std::net::SocketAddr) -> Self {
        let addr = match at.ip() {
            IpAddr::V4(ip) => Addr::v4(ip.octets()),
            IpAddr::V6(ip) => Addr::v6(ip.octets()),
        };
        Self { addr, port: at.port() }
    }
}

impl From<Endpoint> for std::net::SocketAddr {
    fn from(end: Endpoint) -> Self {
        Self::new(end.addr.ip(), end.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addr.is_v4() {
            write!(f, "{}:{}", self.addr, self.port)
        } else {
            write!(f, "[{}]:{}", self.addr, self.port)
        }
    }
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The end that opened it.
    Client,
    /// The end that accepted it.
    Server,
}

impl End {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// `client` or `server`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What is kept of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pkt {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Where it stands in the input.
    pub frame: Frame,
    /// Its sender: 0 is the end that the tracker met first, 1 the other.
    pub side: u8,
    /// The place of its capture among several ([`crate::RawPacket::vantage`]).
    pub vantage: u8,
    /// A bit for each capture that has it.
    pub seen: u8,
    /// Control bits.
    pub flags: TcpFlags,
    /// The reserved bits of the header.
    pub reserved: u8,
    /// Hop limit.
    pub ttl: u8,
    /// IP identification; 0 for IPv6.
    pub ident: u16,
    /// The window field, not scaled.
    pub window: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, also where the flag is clear.
    pub ack: u32,
    /// Bytes of payload on the wire.
    pub len: u32,
    /// TSval, if there are timestamps.
    pub tsval: Option<u32>,
    /// Right edge of the first SACK block.
    pub sack: Option<u32>,
    /// Bytes that look like the beginning of a TLS record: its type and length.
    pub tls: Option<(u8, u16)>,
}

impl Pkt {
    /// Whether all of these flags are set.
    #[inline]
    #[must_use]
    pub fn has(&self, flags: TcpFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Whether it is a RST.
    #[inline]
    #[must_use]
    pub fn is_rst(&self) -> bool {
        self.has(TcpFlags::RST)
    }

    /// Sequence numbers that it takes.
    #[inline]
    #[must_use]
    pub fn span(&self) -> u32 {
        self.len
            .wrapping_add(u32::from(self.has(TcpFlags::SYN)))
            .wrapping_add(u32::from(self.has(TcpFlags::FIN)))
    }

    /// The sequence number behind it.
    #[inline]
    #[must_use]
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.span())
    }
}

/// The signed distance from `b` to `a` in sequence numbers.
#[inline]
pub(crate) const fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}
