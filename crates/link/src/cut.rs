//! Segmentation of super-segments (GSO, TSO), as a device with segmentation offload does it.

use crate::checksum;
use crate::layout::{Layout, Protocol};
use lastack_engine::Transmit;
use lastack_wire::TcpFlags;
use lastack_wire::checksum::Sum;

/// The packets of a super-segment, one after another, each with its complete checksum.
///
/// Segmentation in software, for links without offload. FIN and PSH are on the last piece only, CWR on the first only
/// (RFC 3168 section 6.1.2: the receiver is notified once).
///
/// ```
/// # use lastack_engine::Transmit;
/// # use lastack_link::Cut;
/// # let (packet, transmit) = ([0x45; 40], Transmit::default());
/// let mut cut = Cut::new(&packet, &transmit);
/// let mut piece = Vec::new();
/// while let Some(transmit) = cut.next(&mut piece) {
///     // send `piece`
/// #   assert_eq!((piece.len(), transmit.segment_size), (40, None));
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    packet: &'a [u8],
    /// `None`: not TCP or UDP; the packet is the only piece.
    layout: Option<Layout>,
    transmit: Transmit,
    /// Bytes of data in each piece but the last.
    size: usize,
    /// There are no more pieces than this.
    max_pieces: u16,
    /// Bytes of data returned so far.
    done: usize,
    pieces: u16,
    finished: bool,
}

impl<'a> Cut<'a> {
    /// Segments a packet as `transmit` says. A packet that is not a super-segment is its only piece; one that is
    /// neither TCP nor UDP, or is a fragment, is returned unchanged.
    pub fn new(packet: &'a [u8], transmit: &Transmit) -> Self {
        let size = transmit.segment_size.filter(|&size| size > 0).map_or(usize::MAX, usize::from);
        let whole = Transmit { segment_size: None, partial_checksum: false, ..*transmit };
        let layout = Layout::of(packet);
        let max_pieces = u16::MAX;
        Self { packet, layout, transmit: whole, size, max_pieces, done: 0, pieces: 0, finished: false }
    }

    /// Segments a received packet that is larger than the MTU, as receive offload (GRO) delivers it. Only TCP
    /// segments are split: a datagram of this size is a single one.
    pub fn to_mtu(packet: &'a [u8], mtu: usize) -> Self {
        let size = Layout::of(packet)
            .filter(|layout| layout.protocol == Protocol::Tcp && layout.end > mtu)
            .and_then(|layout| u16::try_from(mtu.checked_sub(layout.text)?).ok());
        Self::new(packet, &Transmit { segment_size: size, ..Transmit::default() })
    }

    /// Divides a TCP segment in two: the first `bytes` bytes of its data, which must be fewer than it has, and the rest.
    pub fn at(packet: &'a [u8], bytes: usize) -> Self {
        let whole = Self::new(packet, &Transmit::default());
        Self { size: bytes, max_pieces: 2, ..whole }
    }

    /// Whether there is more than one piece.
    pub fn is_needed(&self) -> bool {
        self.layout.is_some_and(|layout| layout.end - layout.text > self.size)
    }

    /// Replaces the content of `piece` by the next piece; `None` after the last.
    pub fn next(&mut self, piece: &mut Vec<u8>) -> Option<Transmit> {
        if self.finished {
            return None;
        }
        piece.clear();
        let Some(layout) = self.layout else {
            self.finished = true;
            piece.extend_from_slice(self.packet);
            return Some(self.transmit);
        };
        let text = &self.packet[layout.text + self.done..layout.end];
        let last = self.pieces + 1 >= self.max_pieces;
        let text = if last { text } else { &text[..text.len().min(self.size)] };
        let (at, first) = (self.done, self.pieces == 0);
        self.done += text.len();
        self.finished = layout.text + self.done == layout.end;
        piece.extend_from_slice(&self.packet[..layout.text]);
        piece.extend_from_slice(text);
        if !(first && self.finished) {
            fit_ip(&layout, piece, self.pieces);
            fit_transport(&layout, piece, at, first, self.finished);
        }
        let end = piece.len();
        checksum::complete(&Layout { end, ..layout }, piece);
        self.pieces = self.pieces.saturating_add(1);
        Some(self.transmit)
    }
}

/// Length and, for IPv4, identification (different in each piece) and header checksum.
fn fit_ip(layout: &Layout, piece: &mut [u8], number: u16) {
    let len = piece.len();
    if layout.ip.is_v6() {
        piece[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        return;
    }
    piece[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    piece[4..6].copy_from_slice(&layout.ip.ident.wrapping_add(number).to_be_bytes());
    piece[10..12].fill(0);
    let checksum = Sum::new().add(&piece[..layout.transport]).finish();
    piece[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn fit_transport(layout: &Layout, piece: &mut [u8], at: usize, first: bool, last: bool) {
    let len = piece.len() - layout.transport;
    let header = &mut piece[layout.transport..];
    if layout.protocol == Protocol::Udp {
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        return;
    }
    let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    header[4..8].copy_from_slice(&seq.wrapping_add(at as u32).to_be_bytes());
    let mut removed = TcpFlags::empty();
    if !first {
        removed |= TcpFlags::CWR;
    }
    if !last {
        removed |= TcpFlags::FIN | TcpFlags::PSH;
    }
    header[13] &= !(removed.bits() as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{datagram, partial, segment, segment_with};
    use lastack_wire::{IpPacket, TcpHeader, UdpHeader, tcp};

    fn pieces(mut cut: Cut<'_>) -> Vec<Vec<u8>> {
        let (mut all, mut piece) = (Vec::new(), vec![0xee; 9]);
        while let Some(transmit) = cut.next(&mut piece) {
            assert_eq!((transmit.segment_size, transmit.partial_checksum), (None, false));
            all.push(piece.clone());
        }
        assert_eq!(cut.next(&mut piece), None);
        all
    }

    fn sized(size: u16) -> Transmit {
        Transmit { segment_size: Some(size), partial_checksum: true, ..Transmit::default() }
    }

    #[test]
    fn a_super_segment_becomes_equivalent_segments() {
        let text: Vec<u8> = (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let all = TcpFlags::ACK | TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR;
            let header = TcpHeader { seq: u32::MAX - 1500, flags: all, ..TcpHeader::default() };
            let packet = partial(&segment_with(src, dst, header, &text));
            let pieces = pieces(Cut::new(&packet, &sized(1448)));
            assert_eq!(pieces.len(), 7);
            let mut got = Vec::new();
            for (i, piece) in pieces.iter().enumerate() {
                let ip = IpPacket::parse(piece).unwrap();
                assert!(tcp::checksum_ok(&ip.header, ip.payload), "piece {i}");
                let (tcp, part) = TcpHeader::parse(ip.payload).unwrap();
                assert_eq!(tcp.seq, header.seq.wrapping_add(got.len() as u32));
                assert_eq!(tcp.flags.contains(TcpFlags::FIN | TcpFlags::PSH), i == 6);
                assert_eq!(tcp.flags.intersects(TcpFlags::FIN | TcpFlags::PSH), i == 6);
                assert_eq!(tcp.flags.contains(TcpFlags::CWR), i == 0);
                assert!(tcp.flags.contains(TcpFlags::ACK));
                assert_eq!(ip.header.ident, if ip.header.is_v6() { 0 } else { i as u16 });
                assert_eq!(ip.unfragmentable + ip.payload.len(), piece.len());
                assert!(part.len() == 1448 || i == 6);
                got.extend_from_slice(part);
            }
            assert_eq!(got, text);
        }
    }

    #[test]
    fn a_segment_is_divided_in_two() {
        let packet = segment("192.0.2.1", "192.0.2.2", b"one, and everything after it");
        let data =
            |packet: &[u8]| TcpHeader::parse(IpPacket::parse(packet).unwrap().payload).unwrap().1.to_vec();
        let pieces = pieces(Cut::at(&packet, 3));
        assert_eq!(
            pieces.iter().map(|piece| data(piece)).collect::<Vec<_>>(),
            [&b"one"[..], b", and everything after it"]
        );
    }

    #[test]
    fn options_are_on_every_piece() {
        let packet = segment("192.0.2.1", "192.0.2.2", &[1; 30]);
        let pieces = pieces(Cut::new(&packet, &sized(10)));
        let header = |packet: &[u8]| TcpHeader::parse(IpPacket::parse(packet).unwrap().payload).unwrap().0;
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|piece| header(piece).options == header(&packet).options));
    }

    #[test]
    fn datagrams_are_cut_at_their_boundaries() {
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let packet = datagram(src, dst, b"one two ten end");
            let payloads: Vec<_> = pieces(Cut::new(&packet, &sized(4)))
                .iter()
                .map(|piece| {
                    let ip = IpPacket::parse(piece).unwrap();
                    let (udp, payload) = UdpHeader::parse(&ip.header, ip.payload).unwrap();
                    assert_eq!((udp.src_port, udp.dst_port), (49152, 53));
                    String::from_utf8(payload.to_vec()).unwrap()
                })
                .collect();
            assert_eq!(payloads, ["one ", "two ", "ten ", "end"]);
        }
    }

    #[test]
    fn a_packet_that_fits_changes_only_its_checksum() {
        for packet in [
            segment("192.0.2.1", "192.0.2.2", &[7; 100]),
            segment("2001:db8::1", "2001:db8::2", b""),
            datagram("192.0.2.1", "192.0.2.2", b""),
        ] {
            for transmit in [sized(100), sized(0), Transmit { partial_checksum: true, ..Transmit::default() }]
            {
                let part = partial(&packet);
                let cut = Cut::new(&part, &transmit);
                assert!(!cut.is_needed());
                assert_eq!(pieces(cut), [packet.as_slice()]);
            }
        }
    }

    #[test]
    fn other_protocols_pass() {
        let mut fragment = segment("192.0.2.1", "192.0.2.2", &[7; 100]);
        fragment[6] = 0x20;
        for packet in [Vec::new(), vec![1, 2, 3], fragment] {
            assert_eq!(pieces(Cut::new(&packet, &sized(10))), [packet.as_slice()]);
        }
    }

    #[test]
    fn arrivals_are_cut_to_the_mtu_if_they_are_segments() {
        let large = segment("192.0.2.1", "192.0.2.2", &[7; 5000]);
        let sizes: Vec<_> = pieces(Cut::to_mtu(&large, 1500)).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1500, 1500, 1500, 5000 - 3 * 1448 + 52]);
        let datagram = datagram("192.0.2.1", "192.0.2.2", &[7; 5000]);
        assert_eq!(pieces(Cut::to_mtu(&datagram, 1500)), [datagram.as_slice()]);
        assert_eq!(pieces(Cut::to_mtu(&large, 40)), [large.as_slice()]);
    }
}
