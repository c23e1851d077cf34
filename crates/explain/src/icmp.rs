//! ICMP errors, and the packets that they quote.

use crate::decap::Ip;
use crate::packet::{Addr, Endpoint, Frame};
use lastack_causes::Cause;

/// An ICMP error that quotes a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpSeen {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Where it stands in the input.
    pub frame: Frame,
    /// Who sent it.
    pub from: Addr,
    /// 4 or 6.
    pub version: u8,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The quoted packet.
    pub quoted: Quote,
    /// Hop limit of the error itself.
    pub ttl: u8,
    /// The MTU that it names, for "too big".
    pub mtu: u32,
}

/// The head of the packet that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its protocol.
    pub protocol: u8,
    /// Its sender.
    pub src: Endpoint,
    /// Its receiver.
    pub dst: Endpoint,
    /// Its sequence number, if it is of TCP and was captured.
    pub seq: Option<u32>,
}

impl IcmpSeen {
    /// Reads an ICMP error; `None` if it is another message.
    #[must_use]
    pub fn read(ip: &Ip<'_>, time: i64, frame: Frame) -> Option<Self> {
        let version = match ip.protocol {
            1 => 4,
            58 => 6,
            _ => return None,
        };
        let head: [u8; 8] = *ip.payload.first_chunk()?;
        let (kind, code) = (head[0], head[1]);
        let is_error = if version == 4 { matches!(kind, 3 | 4 | 11 | 12) } else { matches!(kind, 1..=4) };
        if !is_error {
            return None;
        }
        let mtu = match (version, kind) {
            (4, _) => u32::from(u16::from_be_bytes([head[6], head[7]])),
            _ => u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        };
        let quoted = Quote::read(&ip.payload[8..])?;
        Some(Self { time, frame, from: ip.src, version, kind, code, quoted, ttl: ip.ttl, mtu })
    }

    /// The cause that it states.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match (self.version, self.kind, self.code) {
            (4, 3, 3) | (6, 1, 4) => Cause::IcmpPortUnreachable,
            (4, 3, 9 | 10 | 13) | (6, 1, 1 | 5 | 6) => Cause::IcmpProhibited,
            (4, 3, 1) | (6, 1, 3) => Cause::IcmpHostUnreachable,
            (4, 3, 0) | (6, 1, 0) => Cause::IcmpNoRoute,
            (4, 3, 4) | (6, 2, _) => Cause::IcmpTooBig,
            (4, 11, _) | (6, 3, _) => Cause::IcmpTimeExceeded,
            _ => Cause::IcmpOther,
        }
    }

    /// Whether the addressed host itself sent it.
    #[must_use]
    pub fn is_from_target(&self) -> bool {
        self.from == self.quoted.dst.addr
    }

    /// The message in words.
    #[must_use]
    pub fn text(&self) -> String {
        let name = match (self.version, self.kind, self.code) {
            (4, 3, 0) => "network unreachable",
            (4, 3, 1) => "host unreachable",
            (4, 3, 2) => "protocol unreachable",
            (4, 3, 3) | (6, 1, 4) => "port unreachable",
            (4, 3, 4) => "fragmentation needed",
            (4, 3, 9) => "network administratively prohibited",
            (4, 3, 10) => "host administratively prohibited",
            (4, 3, 13) | (6, 1, 1) => "communication administratively prohibited",
            (4, 3, _) => "destination unreachable",
            (4, 4, _) => "source quench",
            (4, 11, 0) | (6, 3, 0) => "hop limit exceeded",
            (4, 11, _) | (6, 3, _) => "reassembly time exceeded",
            (4, 12, _) | (6, 4, _) => "parameter problem",
            (6, 1, 0) => "no route to destination",
            (6, 1, 3) => "address unreachable",
            (6, 1, 5) => "source address failed ingress policy",
            (6, 1, 6) => "reject route to destination",
            (6, 2, _) => "packet too big",
            _ => "error",
        };
        if self.cause() == Cause::IcmpTooBig && self.mtu > 0 {
            return format!("{name}, MTU {}", self.mtu);
        }
        name.into()
    }
}

impl Quote {
    /// The addresses, ports and sequence number of the quoted head, which may be cut off after eight bytes of its
    /// payload.
    fn read(data: &[u8]) -> Option<Self> {
        let (src, dst, protocol, payload) = match data.first()? >> 4 {
            4 => {
                let head: &[u8; 20] = data.first_chunk()?;
                let size = usize::from(head[0] & 15) * 4;
                let src = Addr::v4([head[12], head[13], head[14], head[15]]);
                let dst = Addr::v4([head[16], head[17], head[18], head[19]]);
                (src, dst, head[9], data.get(size.max(20)..)?)
            }
            6 => {
                let head: &[u8; 40] = data.first_chunk()?;
                let src = Addr::v6(*head[8..].first_chunk()?);
                let dst = Addr::v6(*head[24..].first_chunk()?);
                (src, dst, head[6], &data[40..])
            }
            _ => return None,
        };
        let ports = matches!(protocol, 6 | 17 | 132);
        let field = |at: usize| payload.get(at..).and_then(|rest| rest.first_chunk().copied());
        let port = |at| if ports { field(at).map_or(0, u16::from_be_bytes) } else { 0 };
        let seq =
            if protocol == 6 { payload.get(4..).and_then(|rest| rest.first_chunk().copied()) } else { None };
        Some(Self {
            protocol,
            src: Endpoint { addr: src, port: port(0) },
            dst: Endpoint { addr: dst, port: port(2) },
            seq: seq.map(u32::from_be_bytes),
        })
    }

    /// `tcp`, `udp`, `icmp`, or the protocol's number.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        match self.protocol {
            1 | 58 => "icmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            132 => "sctp".into(),
            other => other.to_string(),
        }
    }
}
