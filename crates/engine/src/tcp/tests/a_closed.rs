//! A: what is answered where there is no connection.

use crate::tcp::tests::notation::Spec;
use crate::tcp::tests::peer::{IRS, Peer, THEM, US, both};
use crate::{Config, TcpState};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use lastack_wire::ip::{self, Fragment, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};

/// What reaches a closed port, and what becomes of it (T1 to T6).
const CLOSED: [(&str, &str); 19] = [
    ("S seq=1000", "answered S1 | R. seq=0 ack=1001"),
    ("S seq=1000 len=10", "answered S1 | R. seq=0 ack=1011"),
    ("SF seq=1000", "answered S1 | R. seq=0 ack=1002"),
    (". seq=1000 ack=7000", "answered S4 | R seq=7000"),
    ("P. seq=1000 ack=7000 len=9", "answered S4 | R seq=7000"),
    ("F. seq=1000 ack=7000", "answered S4 | R seq=7000"),
    ("S. seq=1000 ack=7000", "answered S4 | R seq=7000"),
    ("U. seq=1000 ack=7000", "answered S4 | R seq=7000"),
    (". seq=1000 ack=7000 win=0", "answered S4 | R seq=7000"),
    (". seq=1000 ack=0", "answered S4 | R seq=0"),
    ("- seq=1000", "answered S5 | R. seq=0 ack=1000"),
    ("- seq=1000 len=5", "answered S5 | R. seq=0 ack=1005"),
    ("F seq=1000", "answered S5 | R. seq=0 ack=1001"),
    ("P seq=1000 len=5", "answered S5 | R. seq=0 ack=1005"),
    ("FPU seq=1000", "answered S5 | R. seq=0 ack=1001"),
    ("R seq=1000", "dropped R10"),
    ("R. seq=1000 ack=7000", "dropped R10"),
    ("SR seq=1000", "dropped R10"),
    ("FR seq=1000 len=3", "dropped R10"),
];

#[test]
fn t1_to_t6_a_closed_port_answers_by_the_ack_flag() {
    both(|v6| {
        for (segment, expected) in CLOSED {
            let mut p = Peer::new(v6);
            assert_eq!(p.on(segment), expected, "{segment}");
            p.assert_gone();
            assert_eq!(p.ends(), "");
        }
    });
}

#[test]
fn t6_a_reset_to_a_listener_is_ignored() {
    both(|v6| {
        for segment in ["R seq=1000", "R. seq=1000 ack=7000", "SR seq=1000", "SR. seq=1000 ack=7000"] {
            let mut p = Peer::listening(v6);
            assert_eq!(p.on(segment), "dropped S12", "{segment}");
            p.assert_gone();
        }
    });
}

/// S7, and E3: the attempt ended silently; a late answer is answered with RST.
#[test]
fn t7_a_late_syn_ack_for_an_attempt_that_was_given_up_is_reset() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        p.tcp().close();
        assert_eq!(p.out(), "");
        assert_eq!(p.ends(), "aborted by the local application in SYN-SENT (S27)");
        p.assert_gone();
        assert_eq!(p.on("S. seq=0 ack=1 mss=1460"), "answered S4 | R seq=1");
    });
}

#[test]
fn t8_the_ip_header_of_an_answer_copies_nothing_but_dscp() {
    both(|v6| {
        for (class, answered) in [(0xbb, 0xb8), (0x03, 0x00), (0x00, 0x00), (0xfc, 0xfc)] {
            let mut p = Peer::new(v6);
            let ip = IpHeader {
                hop_limit: 3,
                traffic_class: class,
                ident: 77,
                ..IpHeader::new(p.them, p.us, ip::TCP)
            };
            let packet = p.packet_from(ip, &Spec::parse("S seq=0 mss=1460 ws=7 sackok tsok"));
            assert_eq!(p.on_packet(&packet), "answered S1 | R. seq=0 ack=1");
            let sent = p.last();
            assert_eq!((sent.ip.hop_limit, sent.ip.traffic_class), (64, answered));
            assert_eq!((sent.ip.src, sent.ip.dst), (p.us, p.them));
            assert_eq!((sent.ip.ident, sent.ip.dont_fragment || v6), (0, true));
            let header = sent.header();
            assert_eq!((header.window, header.urgent, header.len()), (0, 0, 20));
            assert_eq!((header.src_port, header.dst_port), (US, THEM));
        }
    });
}

/// The segment of a packet, to be spoiled and put back.
fn spoil(p: &Peer, text: &str, repair: bool, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let ip = IpHeader::new(p.them, p.us, ip::TCP);
    let mut segment = p.packet(text).split_off(ip.len());
    change(&mut segment);
    if repair && segment.len() >= 20 {
        tcp::fill_checksum(&ip, &mut segment);
    }
    let mut packet = Vec::new();
    ip.emit(segment.len(), &mut packet);
    packet.extend(segment);
    packet
}

#[test]
fn t9_t10_damaged_segments_are_dropped_and_counted() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        let mut errors = 0;
        for text in ["S seq=0", ". seq=0 ack=1", "P. seq=0 ack=1 len=8"] {
            let packet = spoil(&p, text, false, |segment| segment[16] ^= 0x40);
            assert_eq!(p.on_packet(&packet), "dropped N2", "{text}");
            errors += 1;
            assert_eq!(p.stack.counters().tcp_in_errors, errors);
        }
        for offset in [0x40, 0x90, 0xf0] {
            let packet = spoil(&p, "S seq=0", true, |segment| segment[12] = offset);
            assert_eq!(p.on_packet(&packet), "dropped N3", "{offset:#x}");
            errors += 1;
            assert_eq!(p.stack.counters().tcp_in_errors, errors);
        }
        p.assert_gone();
    });
}

#[test]
fn t11_t12_t19_addresses_that_cannot_be_are_dropped() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        let (no_host, no_peer): (&[&str], &[&str]) = if v6 {
            (&["ff02::1", "ff05::2", "2001:db8::7"], &["::1", "ff02::5", "::", "2001:db8::1"])
        } else {
            (
                &["255.255.255.255", "224.0.0.1", "192.0.2.7"],
                &["127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "192.0.2.1"],
            )
        };
        for dst in no_host {
            let ip = IpHeader::new(p.them, dst.parse().unwrap(), ip::TCP);
            let packet = p.packet_from(ip, &Spec::parse("S seq=0"));
            assert_eq!(p.on_packet(&packet), "dropped N4", "{dst}");
        }
        // The last of them, our own address, with our own port is LAND (D28).
        for (src, port) in no_peer.iter().flat_map(|src| [(src, THEM), (src, US)]) {
            let ip = IpHeader::new(src.parse().unwrap(), p.us, ip::TCP);
            let spec = Spec { port: Some(port), ..Spec::parse("S seq=0") };
            let packet = p.packet_from(ip, &spec);
            assert_eq!(p.on_packet(&packet), "dropped N5", "{src}");
        }
        p.assert_gone();
        assert_eq!(p.new_events(), "");
    });
}

#[test]
fn t13_a_fragment_alone_is_not_answered() {
    both(|v6| {
        let mut p = Peer::new(v6);
        let ip = IpHeader { dont_fragment: false, ..IpHeader::new(p.them, p.us, ip::TCP) };
        let segment = p.packet("P. seq=0 ack=9 len=60").split_off(ip.len());
        let fragment = |offset: usize, more: bool, part: &[u8]| {
            let mut packet = Vec::new();
            let fragment = Fragment { ident: 5, offset: offset as u32, more };
            ip.emit_fragment(fragment, part.len(), &mut packet);
            packet.extend_from_slice(part);
            packet
        };
        let (head, tail) = segment.split_at(40);
        assert_eq!(p.on_packet(&fragment(40, false, tail)), "dropped Incomplete");
        // Whole again it is a segment like any other.
        assert_eq!(p.on_packet(&fragment(0, true, head)), "answered S4 | R seq=9");
    });
}

/// Puts options that no type of ours can say into a segment.
fn with_options(p: &Peer, text: &str, options: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    spoil(p, text, true, |segment| {
        segment[12] += (options.len() as u8 / 4) << 4;
        segment.splice(20..20, options.iter().copied());
    })
}

#[test]
fn t14_a_signed_segment_without_a_key_is_dropped() {
    both(|v6| {
        let mut md5 = [1u8; 20];
        md5[..2].copy_from_slice(&[19, 18]);
        let ao = [29, 8, 1, 1, 0xde, 0xad, 0xbe, 0xef];
        let malformed = [19, 5, 7, 7, 7, 1, 1, 1];
        for (options, expected) in [
            (&md5[..], "dropped N7"),
            (&ao[..], "dropped N7"),
            (&malformed[..], "answered S1 | R. seq=0 ack=1"),
        ] {
            let mut p = Peer::new(v6);
            let packet = with_options(&p, "S seq=0", options);
            assert_eq!(p.on_packet(&packet), expected, "{options:?}");
        }
        let mut p = Peer::listening(v6);
        let packet = with_options(&p, "S seq=0", &md5);
        assert_eq!(p.on_packet(&packet), "dropped N7");
        p.assert_gone();
    });
}

/// N11, S16, S57: bits and options that mean nothing to us change no answer.
#[test]
fn t15_unknown_options_are_skipped() {
    both(|v6| {
        let odd: [fn(&Peer) -> Vec<u8>; 7] = [
            |p| p.packet("SEW seq=0"),
            |p| p.packet("SU seq=0"),
            |p| p.packet("SP seq=0"),
            |p| spoil(p, "S seq=0", true, |segment| segment[12] |= 0x0e),
            |p| spoil(p, "S seq=0", true, |segment| segment[18] = 9),
            |p| with_options(p, "S seq=0", &[2, 0, 0, 0]),
            |p| with_options(p, "S seq=0", &[254, 4, 1, 2]),
        ];
        for (i, make) in odd.iter().enumerate() {
            let mut p = Peer::new(v6);
            let packet = make(&p);
            assert_eq!(p.on_packet(&packet), "answered S1 | R. seq=0 ack=1", "{i}");
            let mut p = Peer::listening(v6);
            let packet = make(&p);
            let ecn = if i == 0 { "E" } else { "" }; // asked for, and agreed to
            assert_eq!(p.on_packet(&packet), alloc::format!("accepted | S.{ecn} seq=0 ack=1"), "{i}");
        }
    });
}

#[test]
fn t20_the_identification_of_answers_counts_nothing() {
    let mut p = Peer::new(false);
    for n in 0..1000 {
        let text = alloc::format!("S seq={n} port={}", 6000 + n);
        assert!(p.on(&text).starts_with("answered S1"), "{text}");
    }
    assert!(p.sent.iter().all(|sent| sent.ip.ident == 0 && sent.ip.dont_fragment));
}

/// The answers of one family, as they stand on the wire, without the checksum.
fn answers(v6: bool, listen: bool) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for (segment, _) in CLOSED {
        let mut p = if listen { Peer::listening(v6) } else { Peer::new(v6) };
        p.on(segment);
        for sent in &p.sent {
            let mut header = Vec::new();
            if !sent.header().flags.contains(TcpFlags::SYN) {
                sent.header().emit(&mut header);
            }
            answers.push(header);
        }
    }
    answers
}

#[test]
fn t27_both_families_answer_with_the_same_bytes() {
    for listen in [false, true] {
        let [v4, v6] = [false, true].map(|v6| answers(v6, listen));
        assert_eq!(v4, v6);
    }
    assert_eq!(answers(false, false).len(), 15);
}

/// D9, T28: without a limit, as by default, every SYN is answered; the limit holds back all but a
/// few, counts the rest, and recovers. It never holds back the reset that ends a connection of ours
/// (T30).
#[test]
fn t28_t29_t30_the_limit_of_resets() {
    let flood = |p: &mut Peer| {
        for n in 0..2000_u16 {
            p.on_all(&[&alloc::format!("S seq={n} port={}", 6000 + n)]);
        }
        p.sent.iter().filter(|sent| sent.header().flags.contains(TcpFlags::RST)).count()
    };
    let limited = |config: &mut Config| config.tcp.reset_rate = Some(200);
    both(|v6| {
        let mut p = Peer::new(v6);
        assert_eq!((flood(&mut p), p.stack.counters().tcp_suppressed_resets), (2000, 0));

        let mut p = Peer::with(v6, limited).listen(1).establish(crate::tcp::tests::peer::Kind::Plain);
        p.stack.tcp_unlisten(p.listener.unwrap());
        let resets = flood(&mut p);
        assert!((175..=200).contains(&resets), "{resets}");
        let counters = p.stack.counters();
        assert_eq!(
            (counters.tcp_out_resets, counters.tcp_suppressed_resets),
            (resets as u64, 2000 - resets as u64)
        );
        assert_eq!(p.on("S seq=0 port=9000"), "dropped D9");
        p.on("P. len=4");
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=1 ack=5");
        p.run(1000);
        assert_eq!(p.on("S seq=0 port=9000"), "answered S1 | 9000: R. seq=0 ack=1");
    });
}

/// D10: the limit does not tell whether there is a connection. Segments that its connection does not accept take tokens
/// like those without a connection, answered or not; accepted ones and resets take none.
#[test]
fn t30_what_a_connection_does_not_accept_takes_tokens_too() {
    both(|v6| {
        for (text, verdict, takes) in [
            (".", "accepted", false),
            ("R at=100000", "dropped R4", false),
            ("S", "", true),
            (". at=100000", "", true),
            ("P. at=100000 len=5", "", true),
            ("", "dropped S54", true),
        ] {
            let mut p = Peer::with(v6, |config| config.tcp.reset_rate = Some(200)).listen(1);
            p = p.establish(crate::tcp::tests::peer::Kind::Plain);
            p.stack.tcp_unlisten(p.listener.unwrap());
            p.pass(2000);
            for _ in 0..150 {
                let shown = p.on(text);
                assert!(shown.starts_with(verdict), "{text}: {shown}");
            }
            let granted = (0..400_u16)
                .filter(|n| p.on(&alloc::format!("S seq=0 port={}", 9000 + n)).contains("R."))
                .count();
            let expected = if takes { 25..=50 } else { 175..=200 };
            assert!(expected.contains(&granted), "{text}: {granted}");
        }
    });
}

/// D10: what the limit leaves for one asker after others have asked is not the same each time, so that
/// the others cannot be counted by it.
#[test]
fn t31_the_remaining_challenge_acks_are_unpredictable() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.tcp.reset_rate = Some(200));
        let mut left = alloc::collections::BTreeSet::new();
        for _ in 0..100 {
            for n in 0..150_u16 {
                p.on(&alloc::format!("S seq=0 port={}", 6000 + n));
            }
            let answers = (0..100)
                .filter(|n| p.on(&alloc::format!("S seq=0 port={}", 9000 + n)).contains("R."))
                .count();
            assert!((25..=50).contains(&answers), "{answers}");
            left.insert(answers);
            p.run(1000);
        }
        assert!(left.len() > 10, "{left:?}");
    });
}

/// Every unicast destination is ours in any-address mode, and answered as ours.
#[test]
fn any_address_answers_for_every_host() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.any_address = true);
        let far = if v6 { "2001:db8:1::7" } else { "198.51.100.7" }.parse().unwrap();
        let packet = p.packet_from(IpHeader::new(p.them, far, ip::TCP), &Spec::parse("S seq=0"));
        assert_eq!(p.on_packet(&packet), "answered S1 | R. seq=0 ack=1");
        assert_eq!(p.last().ip.src, far);
        let unspecified = if v6 { "::" } else { "0.0.0.0" }.parse().unwrap();
        p.stack.tcp_listen(SocketAddr::new(unspecified, US), 1).unwrap();
        assert_eq!(p.on_packet(&packet), "accepted | S. seq=0 ack=1");
        assert_eq!(p.last().ip.src, far);
    });
}

/// What the segment parser reads is what was meant: the tests stand on it.
#[test]
fn the_notation_is_parsed() {
    let p = Peer::new(false);
    let packet = p.packet("P. seq=5 ack=7 win=100 len=3");
    let (header, data) = TcpHeader::parse(&packet[20..]).unwrap();
    assert_eq!((header.seq, header.ack, header.window), (IRS.wrapping_add(5), 7, 100));
    assert_eq!((header.flags, data.len()), (TcpFlags::PSH | TcpFlags::ACK, 3));
    let state: String = alloc::string::ToString::to_string(&TcpState::SynReceived);
    assert_eq!(state, "SYN-RECEIVED");
}
