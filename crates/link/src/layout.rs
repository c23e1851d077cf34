//! The offsets of the headers of a packet, for the functions that modify a finished packet.

use lastack_wire::{IpHeader, IpPacket, ip};

/// A transport protocol with a checksum whose data can be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The layout of a whole TCP or UDP packet, as needed for segmentation or checksums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The IP header; `protocol` is the one behind the extension headers.
    pub ip: IpHeader,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Offset of the transport header.
    pub transport: usize,
    /// Offset of the data.
    pub text: usize,
    /// Length of the packet, without link-layer padding.
    pub end: usize,
}

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

impl Layout {
    /// `None` if it is not TCP or UDP, is a fragment, or has a malformed header: such packets are left unchanged.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let parsed = IpPacket::parse(packet).ok().filter(|parsed| parsed.fragment.is_none())?;
        let (transport, segment) = (parsed.unfragmentable, parsed.payload);
        let (protocol, header_len) = match parsed.header.protocol {
            ip::TCP => (Protocol::Tcp, usize::from(segment.get(12)? >> 4) * 4),
            ip::UDP => (Protocol::Udp, UDP_HEADER),
            _ => return None,
        };
        let min = if protocol == Protocol::Tcp { TCP_HEADER } else { UDP_HEADER };
        if header_len < min || header_len > segment.len() {
            return None;
        }
        let (text, end) = (transport + header_len, transport + segment.len());
        Some(Self { ip: parsed.header, protocol, transport, text, end })
    }

    /// Offset of the checksum in the packet.
    pub fn checksum(&self) -> usize {
        self.transport
            + match self.protocol {
                Protocol::Tcp => 16,
                Protocol::Udp => 6,
            }
    }
}

/// Whether it is a datagram: datagrams in one packet must be split again.
pub(crate) fn is_udp(packet: &[u8]) -> bool {
    Layout::of(packet).is_some_and(|layout| layout.protocol == Protocol::Udp)
}
