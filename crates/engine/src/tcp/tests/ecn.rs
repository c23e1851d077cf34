//! RFC 3168: what is agreed, and what a mark does.

use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Peer, both};
use crate::tcp::{CaState, Ecn};
use crate::{Received, Verdict};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;
use lastack_wire::ip::IpPacket;
use lastack_wire::tcp::{TcpFlags, TcpHeader};

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
        let data = sent(&mut pair.a.stack, pair.now);
        assert_eq!(data[0].1, codepoint, "{ours:?} {theirs:?}");
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
    let data = sent(&mut pair.a.stack, pair.now);
    assert!(data[0].0.contains('W') && data[1..].iter().all(|(flags, ..)| !flags.contains('W')));
    for (_, _, packet) in &data {
        assert_eq!(pair.b.stack.handle_packet(pair.now, packet, Received::default()), Verdict::Accepted);
    }
    assert!(pair.b.tcp(b).send(b"answer").is_ready());
    assert!(sent(&mut pair.b.stack, pair.now).iter().all(|(flags, ..)| !flags.contains('E')));
}

/// A connection with ECN and SACK, or without SACK, of which ten segments are in flight and more data waits. Returns
/// the MSS as well.
fn ten_in_flight(v6: bool, sack: bool, waiting: usize) -> (Peer, i64) {
    let mut p = Peer::listening(v6);
    let syn = if sack { "SEW seq=0 mss=1460 sackok" } else { "SEW seq=0 mss=1460" };
    assert_eq!(p.on(syn), "accepted | S.E seq=0 ack=1");
    (p.seq, p.ack) = (1, 1);
    assert_eq!(p.on("."), "accepted");
    p.accept();
    let mss = p.tcp().info().mss as usize;
    p.send(10 * mss + waiting);
    p.out();
    assert_eq!(p.sent.iter().filter(|sent| !sent.data().is_empty()).count(), 10);
    p.now += Duration::from_millis(100);
    (p, mss as i64)
}

/// What the peer's segment causes: whether something has CWR, and how many segments have data.
fn caused(p: &mut Peer, text: &str) -> (bool, usize) {
    let from = p.sent.len();
    p.on(text);
    let sent = &p.sent[from..];
    let cwr = sent.iter().any(|sent| sent.header().flags.contains(TcpFlags::CWR));
    (cwr, sent.iter().filter(|sent| !sent.data().is_empty()).count())
}

/// RFC 6937: while the ten segments in flight are acknowledged seven are sent, at most one for each ACK.
#[test]
fn ecn_reduces_the_window_over_a_round_trip() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, true, 100_000);
        let mut sent = 0;
        for n in 1..=10 {
            p.ack = 1 + n * mss;
            let (cwr, count) = caused(&mut p, if n <= 3 { "E." } else { "." });
            assert_eq!(cwr, n == 1, "CWR in the first segment after the mark");
            assert!(count <= 1, "{count} segments for the ACK {n}");
            sent += count;
            let state = if n < 10 { CaState::Cwr } else { CaState::Open };
            let info = p.tcp().info();
            assert_eq!((info.ca_state, i64::from(info.ssthresh)), (state, 7 * mss));
        }
        let info = p.tcp().info();
        assert_eq!((sent, i64::from(info.cwnd) / mss, info.unacked as i64), (7, 7, 7 * mss));
        // The next mark is for data that was sent with the reduced window.
        p.ack += mss;
        caused(&mut p, "E.");
        let info = p.tcp().info();
        assert!(info.ca_state == CaState::Cwr && i64::from(info.ssthresh) < 6 * mss);
    });
}

/// A loss among the data of the same round trip is the same congestion; a later one is not.
#[test]
fn a_loss_while_ecn_reduces_the_window_reduces_it_no_further() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, true, 100_000);
        p.ack = 1 + mss;
        caused(&mut p, "E.");
        assert_eq!(p.on(&format!(". sack={}-{}", 1 + 2 * mss, 1 + 4 * mss)).matches("len=").count(), 1);
        let retransmitted = p.on(&format!(". sack={}-{}", 1 + 2 * mss, 1 + 5 * mss));
        assert!(retransmitted.contains(&format!("seq={} ", 1 + mss)), "{retransmitted}");
        let info = p.tcp().info();
        assert_eq!((info.ca_state, i64::from(info.ssthresh)), (CaState::Recovery, 7 * mss));
        p.ack = 1 + 10 * mss;
        p.on(".");
        let info = p.tcp().info();
        assert_eq!((info.ca_state, i64::from(info.ssthresh)), (CaState::Open, 7 * mss));
        let (from, to) = (p.ack + mss, p.ack + 4 * mss);
        p.on(&format!(". sack={from}-{to}"));
        let info = p.tcp().info();
        assert!(info.ca_state == CaState::Recovery && i64::from(info.ssthresh) < 6 * mss, "{info:?}");
    });
}

/// RFC 5681 section 3.1: a timeout restarts from one segment; the threshold is that of the mark.
#[test]
fn a_timeout_while_ecn_reduces_the_window_keeps_the_threshold() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, false, 0);
        p.ack = 1 + mss;
        assert_eq!(caused(&mut p, "E."), (false, 0));
        let out = p.run(400);
        assert!(out.contains(&format!("seq={} ", 1 + mss)), "{out}");
        let info = p.tcp().info();
        assert_eq!((info.ca_state, i64::from(info.cwnd)), (CaState::Loss, mss));
        assert_eq!(i64::from(info.ssthresh), 7 * mss);
    });
}

/// Three duplicate ACKs retransmit without SACK as well, and each stands for a delivered segment.
#[test]
fn duplicate_acks_while_ecn_reduces_the_window() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, false, 100_000);
        p.ack = 1 + mss;
        let mut sent = caused(&mut p, "E.").1;
        for _ in 0..2 {
            sent += caused(&mut p, ".").1;
            assert_eq!(p.tcp().info().ca_state, CaState::Cwr);
        }
        assert!((2..=3).contains(&sent), "PRR lets {sent} segments follow");
        let out = p.on(".");
        assert!(out.contains(&format!("seq={} ", 1 + mss)), "{out}");
        let info = p.tcp().info();
        assert_eq!((info.ca_state, i64::from(info.ssthresh)), (CaState::Recovery, 7 * mss));
    });
}

/// RFC 8985 section 7: the last segments are probed for, as without a mark.
#[test]
fn the_tail_is_probed_while_ecn_reduces_the_window() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, true, 0);
        p.ack = 1 + mss;
        assert_eq!(caused(&mut p, "E."), (false, 0));
        let probe = p.tcp().info().srtt.unwrap() * 2;
        let out = p.run(probe.as_millis() as u64 + 10);
        assert!(out.contains(&format!("P. seq={} ", 1 + 9 * mss)), "{out}");
        assert_eq!((out.matches("len=").count(), p.tcp().info().ca_state), (1, CaState::Cwr));
    });
}

/// A mark for data that is acknowledged as a whole: nothing is left to shrink.
#[test]
fn ecn_reduces_the_window_at_once_if_nothing_is_in_flight() {
    both(|v6| {
        let (mut p, mss) = ten_in_flight(v6, true, 0);
        p.ack = 1 + 10 * mss;
        assert_eq!(caused(&mut p, "E."), (false, 0));
        let info = p.tcp().info();
        assert_eq!((info.ca_state, i64::from(info.cwnd) / mss), (CaState::Open, 7));
        p.send(20 * mss as usize);
        assert_eq!(p.out().matches("len=").count(), 7);
    });
}
