//! The virtio network header (virtio 1.2 section 5.1.6, linux/virtio_net.h): the metadata of a packet, in both
//! directions: partial checksums, TSO when sending, GRO when receiving. Ten bytes, numbers in host byte order.

use lastack_engine::{Received, Transmit};
use lastack_wire::ip;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of the header.
pub(super) const LEN: usize = size_of::<NetHeader>();

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Offset of the byte with CWR in a TCP header, and its bit.
const TCP_FLAGS_AT: usize = 13;
const TCP_CWR: u8 = 0x80;

/// `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct NetHeader {
    flags: u8,
    gso_type: u8,
    /// Length of all headers; a hint.
    header_len: u16,
    /// Bytes of data per segment (GSO size).
    gso_size: u16,
    /// Start of the checksummed range, from the start of the frame.
    csum_start: u16,
    /// Offset of the checksum field, from `csum_start`.
    csum_offset: u16,
}

/// The offset of the transport header in a packet, and its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    at: u16,
    protocol: u8,
    v6: bool,
}

impl NetHeader {
    /// The header for a packet of `len` bytes to be sent, which begins with the headers in `packet`; `link_header` bytes
    /// of another header are between. `None`: not expressible (a super-segment that is not TCP or UDP, or has a complete checksum).
    pub(super) fn outgoing(
        packet: &[u8],
        len: usize,
        transmit: &Transmit,
        link_header: usize,
    ) -> Option<Self> {
        let payload = len.checked_sub(usize::from(transmit.header_len))?;
        let segment_size = transmit.segment_size.filter(|&size| usize::from(size) < payload);
        if segment_size.is_none() && !transmit.partial_checksum {
            return Some(Self::default());
        }
        if !transmit.partial_checksum {
            return None;
        }
        let transport = Transport::of(packet)?;
        let link_header = u16::try_from(link_header).ok()?;
        let mut header = Self {
            flags: NEEDS_CSUM,
            gso_type: GSO_NONE,
            header_len: link_header + transmit.header_len,
            gso_size: 0,
            csum_start: link_header + transport.at,
            csum_offset: transport.checksum_offset()?,
        };
        if let Some(size) = segment_size {
            header.gso_type = transport.gso_type(packet)?;
            header.gso_size = size;
        }
        Some(header)
    }

    /// The metadata of a packet received with this header. A packet with a partial checksum originates on this
    /// machine and cannot have been corrupted on a wire.
    pub(super) fn received(&self) -> Received {
        let tcp = matches!(self.gso_type & !GSO_ECN, GSO_TCPV4 | GSO_TCPV6) && self.gso_size > 0;
        Received {
            checksum_good: self.flags & (NEEDS_CSUM | DATA_VALID) != 0,
            segment_size: tcp.then_some(self.gso_size),
        }
    }

    /// For a UDP super-segment: bytes of data in each datagram.
    pub(super) fn datagram_size(&self) -> Option<u16> {
        (self.gso_type & !GSO_ECN == GSO_UDP_L4 && self.gso_size > 0).then_some(self.gso_size)
    }
}

impl Transport {
    fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self { at: u16::from(packet[0] & 0xf) * 4, protocol: *packet.get(9)?, v6: false }),
            6 => Some(Self { at: 40, protocol: *packet.get(6)?, v6: true }),
            _ => None,
        }
    }

    fn checksum_offset(self) -> Option<u16> {
        match self.protocol {
            ip::TCP => Some(16),
            ip::UDP => Some(6),
            ip::ICMPV6 => Some(2),
            _ => None,
        }
    }

    fn gso_type(self, packet: &[u8]) -> Option<u8> {
        match (self.protocol, self.v6) {
            (ip::UDP, _) => Some(GSO_UDP_L4),
            (ip::TCP, v6) => {
                let flags = packet.get(usize::from(self.at) + TCP_FLAGS_AT)?;
                // CWR is in the first segment only (RFC 3168 section 6.1.2); this bit makes the kernel segment
                // accordingly.
                let ecn = if flags & TCP_CWR != 0 { GSO_ECN } else { 0 };
                Some(if v6 { GSO_TCPV6 } else { GSO_TCPV4 } | ecn)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lastack_wire::{ip::IpHeader, tcp::TcpFlags, tcp::TcpHeader, udp::UdpHeader};

    use super::*;

    fn addresses(v6: bool) -> (IpAddr, IpAddr) {
        if v6 {
            ("fd00::100".parse().unwrap(), "fd00::2".parse().unwrap())
        } else {
            ("10.0.2.100".parse().unwrap(), "10.0.2.2".parse().unwrap())
        }
    }

    fn tcp(v6: bool, flags: TcpFlags, text: usize) -> Vec<u8> {
        let (src, dst) = addresses(v6);
        let header = TcpHeader { src_port: 80, dst_port: 5000, flags, ..TcpHeader::default() };
        let mut packet = Vec::new();
        IpHeader::new(src, dst, ip::TCP).emit(header.len() + text, &mut packet);
        header.emit(&mut packet);
        packet.resize(packet.len() + text, 7);
        packet
    }

    fn udp(v6: bool, payload: usize) -> Vec<u8> {
        let (src, dst) = addresses(v6);
        let ip = IpHeader::new(src, dst, ip::UDP);
        let mut packet = Vec::new();
        ip.emit(8 + payload, &mut packet);
        UdpHeader { src_port: 53, dst_port: 5000 }.emit(&ip, &vec![7; payload], &mut packet);
        packet
    }

    fn super_segment(header_len: u16, size: u16) -> Transmit {
        Transmit { segment_size: Some(size), header_len, partial_checksum: true, ..Transmit::default() }
    }

    fn outgoing(packet: &[u8], transmit: &Transmit, link_header: usize) -> Option<NetHeader> {
        NetHeader::outgoing(packet, packet.len(), transmit, link_header)
    }

    #[test]
    fn the_bytes_are_those_of_the_kernel() {
        let header = outgoing(&tcp(false, TcpFlags::ACK, 3000), &super_segment(40, 1400), 0).unwrap();
        let mut bytes = vec![1, 1];
        for number in [40u16, 1400, 20, 16] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        assert_eq!(header.as_bytes(), bytes);
        assert_eq!(LEN, 10);
    }

    #[test]
    fn super_segments_have_the_type_of_their_transport() {
        let cases = [
            (tcp(false, TcpFlags::ACK, 3000), 40, GSO_TCPV4, 20, 16),
            (tcp(true, TcpFlags::ACK, 3000), 60, GSO_TCPV6, 40, 16),
            (tcp(false, TcpFlags::ACK | TcpFlags::CWR, 3000), 40, GSO_TCPV4 | GSO_ECN, 20, 16),
            (tcp(true, TcpFlags::ACK | TcpFlags::CWR, 3000), 60, GSO_TCPV6 | GSO_ECN, 40, 16),
            (udp(false, 3000), 28, GSO_UDP_L4, 20, 6),
            (udp(true, 3000), 48, GSO_UDP_L4, 40, 6),
        ];
        for (packet, header_len, gso_type, csum_start, csum_offset) in cases {
            for link_header in [0, 14] {
                let header = outgoing(&packet, &super_segment(header_len, 1200), link_header).unwrap();
                let link_header = link_header as u16;
                let expected = NetHeader {
                    flags: NEEDS_CSUM,
                    gso_type,
                    header_len: header_len + link_header,
                    gso_size: 1200,
                    csum_start: csum_start + link_header,
                    csum_offset,
                };
                assert_eq!(header, expected);
            }
        }
    }

    #[test]
    fn a_segment_that_fits_is_not_cut() {
        let header = outgoing(&tcp(false, TcpFlags::ACK, 1400), &super_segment(40, 1400), 0).unwrap();
        assert_eq!((header.gso_type, header.gso_size, header.flags), (GSO_NONE, 0, NEEDS_CSUM));
    }

    #[test]
    fn a_packet_with_its_own_checksum_needs_nothing() {
        let transmit = Transmit { header_len: 40, ..Transmit::default() };
        assert_eq!(outgoing(&tcp(false, TcpFlags::ACK, 9), &transmit, 14), Some(NetHeader::default()));
    }

    #[test]
    fn values_that_do_not_fit_the_header_are_refused() {
        let whole = Transmit { segment_size: Some(1000), header_len: 40, ..Transmit::default() };
        assert_eq!(outgoing(&tcp(false, TcpFlags::ACK, 3000), &whole, 0), None);
        let (src, dst) = addresses(false);
        let mut icmp = Vec::new();
        IpHeader::new(src, dst, ip::ICMP).emit(3000, &mut icmp);
        icmp.resize(3020, 0);
        assert_eq!(outgoing(&icmp, &super_segment(28, 1000), 0), None);
        assert_eq!(outgoing(&[], &super_segment(0, 1000), 0), None);
        assert_eq!(outgoing(&[0x45], &super_segment(40, 1000), 0), None);
    }

    #[test]
    fn partial_and_tested_checksums_are_good() {
        let received = |flags| NetHeader { flags, ..NetHeader::default() }.received();
        assert!(!received(0).checksum_good);
        assert!(received(NEEDS_CSUM).checksum_good);
        assert!(received(DATA_VALID).checksum_good);
    }

    #[test]
    fn the_segments_of_a_tcp_super_segment_have_a_size() {
        let size = |gso_type, gso_size| {
            NetHeader { gso_type, gso_size, ..NetHeader::default() }.received().segment_size
        };
        assert_eq!(size(GSO_TCPV4, 1448), Some(1448));
        assert_eq!(size(GSO_TCPV6 | GSO_ECN, 1428), Some(1428));
        assert_eq!((size(GSO_NONE, 0), size(GSO_TCPV4, 0), size(GSO_UDP_L4, 1200)), (None, None, None));
    }

    #[test]
    fn only_udp_super_segments_are_datagrams() {
        let size =
            |gso_type, gso_size| NetHeader { gso_type, gso_size, ..NetHeader::default() }.datagram_size();
        assert_eq!(size(GSO_UDP_L4, 1200), Some(1200));
        assert_eq!(size(GSO_UDP_L4, 0), None);
        assert_eq!(size(GSO_TCPV4, 1448), None);
        assert_eq!(size(GSO_NONE, 0), None);
    }
}
