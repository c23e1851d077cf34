//! RFC 3168: what is agreed, and what a mark does.

use crate::tcp::Ecn;
use crate::tcp::tests::pair::Pair;
use crate::{Received, Verdict};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::Poll;
use lastack_wire::ip::IpPacket;
use lastack_wire::tcp::TcpHeader;

/// Flags and ECN bits of what the next poll sends, one by one.
fn sent(stack: &mut crate::Stack, now: crate::Instant) -> Vec<(String, u8, Vec<u8>)> {
    let (mut all, mut packet) = (Vec::new(), Vec::new());
    while stack.poll_transmit(now, &mut packet).is_some() {
        let ip = IpPacket::parse(&packet).unwrap();
        let (tcp, _) = TcpHeader::parse(ip.payload).unwrap();
        all.push((tcp.flags.to_string(), ip.header.traffic_class & 3, packet.clone()));
    }
    all
}

#[test]
fn both_have_to_agree() {
    for (ours, theirs, syn, syn_ack, codepoint) in [
        (Ecn::Request, Ecn::Accept, "SEW", "S.E", 2),
        (Ecn::Request, Ecn::Off, "SEW", "S.", 0),
        (Ecn::Accept, Ecn::Request, "S", "S.", 0),
        (Ecn::Off, Ecn::Request, "S", "S.", 0),
    ] {
        let mut pair = Pair::new(true);
        pair.a.stack.shared.config.tcp.ecn = ours;
        pair.b.stack.shared.config.tcp.ecn = theirs;
        let (a, _) = pair.connect();
        let flags = |packet: &[u8]| {
            let ip = IpPacket::parse(packet).unwrap();
            let mut flags: Vec<char> =
                TcpHeader::parse(ip.payload).unwrap().0.flags.to_string().chars().collect();
            flags.sort_unstable();
            flags.into_iter().collect::<String>()
        };
        let sorted = |text: &str| {
            let mut text: Vec<char> = text.chars().collect();
            text.sort_unstable();
            text.into_iter().collect::<String>()
        };
        assert_eq!(flags(&pair.a.sent[0].1), sorted(syn), "{ours:?} {theirs:?}");
        assert_eq!(flags(&pair.b.sent[0].1), sorted(syn_ack), "{ours:?} {theirs:?}");
        assert_eq!(pair.a.tcp(a).send(b"text"), Poll::Ready(Ok(4)));
        let text = sent(&mut pair.a.stack, pair.now);
        assert_eq!(text[0].1, codepoint, "{ours:?} {theirs:?}");
    }
}

#[test]
fn an_ecn_mark_reduces_the_window_once_and_is_echoed_until_cwr() {
    let mut pair = Pair::with(true, |config| config.tcp.ecn = Ecn::Request);
    let (a, b) = pair.connect();
    let before = pair.a.tcp(a).info().cwnd;
    assert!(pair.a.tcp(a).send(&[7; 20_000]).is_ready());
    let mut marked = 0;
    for (_, codepoint, mut packet) in sent(&mut pair.a.stack, pair.now) {
        assert_eq!(codepoint, 2);
        if marked < 2 {
            packet[1] |= 0x30; // a router marks it: CE
            marked += 1;
        }
        assert_eq!(pair.b.stack.handle_packet(pair.now, &packet, Received::default()), Verdict::Accepted);
    }
    let acks = sent(&mut pair.b.stack, pair.now);
    assert!(acks.iter().all(|(flags, codepoint, _)| flags.contains('E') && *codepoint == 0), "{acks:?}");
    for (_, _, ack) in &acks {
        assert_eq!(pair.a.stack.handle_packet(pair.now, ack, Received::default()), Verdict::Accepted);
    }
    let after = pair.a.tcp(a).info();
    assert!(after.cwnd < before && after.cwnd >= before / 2 && after.retransmissions == 0, "{after:?}");
    let text = sent(&mut pair.a.stack, pair.now);
    assert!(text[0].0.contains('W') && text[1..].iter().all(|(flags, ..)| !flags.contains('W')));
    for (_, _, packet) in &text {
        assert_eq!(pair.b.stack.handle_packet(pair.now, packet, Received::default()), Verdict::Accepted);
    }
    assert!(pair.b.tcp(b).send(b"answer").is_ready());
    assert!(sent(&mut pair.b.stack, pair.now).iter().all(|(flags, ..)| !flags.contains('E')));
}
