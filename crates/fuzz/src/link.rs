//! The functions of a link: segmentation, checksums, capture. The bytes may come from
//! any program at the other end of a TUN device.

use crate::Input;
use crate::repair::repair;
use lastack_engine::{Instant, Transmit, Verdict};
use lastack_link::{Capabilities, Capture, Cut, Link, PcapngWriter, complete_checksum, pipe};
use lastack_wire::{IpPacket, TcpHeader, UdpHeader, ip, tcp};
use std::time::SystemTime;

/// Reads how to segment, and a packet.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = input.pick(&[0, 1, 8, 100, 536, 1400, 65_535]);
    let (mtu, fixed) = (input.pick(&[0, 68, 576, 1280, 1500, 65_535]), input.byte() & 1 == 1);
    let mut packet = input.take(usize::MAX).to_vec();
    if fixed {
        repair(&mut packet);
    }
    let transmit = Transmit { segment_size: Some(size), ..Transmit::default() };
    cut(&packet, Cut::new(&packet, &transmit));
    cut(&packet, Cut::to_mtu(&packet, mtu));
    complete(&packet);
    capture(&packet, &transmit);
}

/// The segments hold the data of the whole packet, once and in sequence.
fn cut(packet: &[u8], mut cut: Cut<'_>) {
    let (mut piece, mut texts, mut pieces) = (Vec::new(), Vec::new(), 0);
    let needed = cut.is_needed();
    while let Some(transmit) = cut.next(&mut piece) {
        pieces += 1;
        assert!(transmit.segment_size.is_none() && !transmit.partial_checksum);
        assert!(piece.len() <= packet.len());
        match text(&piece) {
            Some(text) => texts.extend_from_slice(text),
            None => assert!(!needed && piece == packet, "what cannot be cut is left as it is"),
        }
    }
    assert_eq!(needed, pieces > 1);
    if let Some(whole) = text(packet) {
        assert_eq!(texts, whole);
    }
}

/// The data of a complete TCP or UDP packet.
fn text(packet: &[u8]) -> Option<&[u8]> {
    let parsed = IpPacket::parse(packet).ok().filter(|parsed| parsed.fragment.is_none())?;
    match parsed.header.protocol {
        ip::TCP => Some(TcpHeader::parse(parsed.payload).ok()?.1),
        ip::UDP => parsed.payload.get(8..),
        _ => None,
    }
}

fn complete(packet: &[u8]) {
    let mut completed = packet.to_vec();
    complete_checksum(&mut completed);
    if text(packet).is_none() {
        assert_eq!(completed, packet);
        return;
    }
    let parsed = IpPacket::parse(&completed).expect("it was a packet");
    match parsed.header.protocol {
        ip::TCP => assert!(tcp::checksum_ok(&parsed.header, parsed.payload)),
        // The length field may differ from IP's length, and takes precedence.
        _ if UdpHeader::parse_unchecked(parsed.payload)
            .is_ok_and(|(_, text)| text.len() + 8 == parsed.payload.len()) =>
        {
            assert!(UdpHeader::parse(&parsed.header, parsed.payload).is_ok());
        }
        _ => {}
    }
}

/// A capture accepts any packet.
fn capture(packet: &[u8], transmit: &Transmit) {
    let (near, mut far) = pipe(Capabilities::memory(1500));
    let mut link = Capture::new(near, PcapngWriter::new(Vec::new(), SystemTime::UNIX_EPOCH));
    link.send(Instant::ZERO, packet, transmit);
    far.send(Instant::ZERO, packet, &Transmit::default());
    far.flush(Instant::ZERO);
    let mut got = Vec::new();
    if link.recv(Instant::ZERO, &mut got).is_some() {
        link.annotate(Instant::ZERO, &Verdict::Accepted);
    }
    assert!(link.sink().error().is_none());
}
