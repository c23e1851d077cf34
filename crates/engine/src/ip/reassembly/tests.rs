use super::*;
use crate::ip::fragment::Fragments;
use crate::testing::{Bench, datagram, icmp, packet_with};
use crate::{Event, Verdict};
use alloc::vec;
use core::time::Duration;
use lastack_wire::icmp::Icmp as Message;
use lastack_wire::ip::{self, IpHeader};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const KEPT: Verdict = Verdict::Dropped(DropReason::Incomplete);
const OVERLAP: Verdict = Verdict::Dropped(DropReason::Rule(Rule::DropOverlappingFragments));
const LENGTH: Verdict = Verdict::Dropped(DropReason::Malformed(Malformed::Length));

fn both() -> [Bench; 2] {
    Bench::both().map(|mut bench| {
        let local = bench.us(7);
        bench.stack.udp_bind(local).unwrap();
        bench
    })
}

/// The fragments of a packet, as a host would send them.
fn cut(whole: &[u8], ident: u32, mtu: usize) -> Vec<Vec<u8>> {
    let parsed = IpPacket::parse(whole).unwrap();
    let mut fragments = Fragments::new(parsed.header, ident, parsed.payload.to_vec(), mtu, None);
    let (mut part, mut parts) = (vec![], vec![]);
    while fragments.emit_next(&mut part).is_some() {
        parts.push(part.clone());
    }
    parts
}

/// A fragment by itself.
fn piece(bench: &Bench, ident: u32, offset: u32, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = IpHeader::new(bench.peer, bench.us, ip::UDP);
    header.emit_fragment(Fragment { ident, offset, more }, payload.len(), &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn received(bench: &mut Bench) -> Option<Vec<u8>> {
    let Some(Event::UdpReadable(id)) = bench.stack.poll_event() else { return None };
    let mut udp = bench.stack.udp(id).unwrap();
    let payload = udp.receive().unwrap().map(|datagram| datagram.payload);
    assert_eq!(udp.receive(), Ok(None));
    payload
}

#[test]
fn n6_a_fragment_alone_is_never_answered() {
    for mut bench in Bench::both() {
        let whole = datagram(bench.peer(5), bench.us(9), &[1; 3000]);
        for part in &cut(&whole, 1, 1280)[..2] {
            assert_eq!(bench.give(part), KEPT);
        }
        assert!(bench.take().is_empty());
    }
}

#[test]
fn fragments_in_any_order_make_the_packet() {
    for mut bench in both() {
        let payload: Vec<u8> = (0..4000).map(|i| (i / 3) as u8).collect();
        let whole = datagram(bench.peer(5), bench.us(7), &payload);
        let mut reassembled = 0;
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let parts = cut(&whole, 1, 1280);
            assert_eq!(parts.len(), 4);
            for i in &order[..3] {
                assert_eq!(bench.give(&parts[*i]), KEPT);
            }
            assert_eq!(bench.give(&parts[order[3]]), Verdict::Accepted);
            assert_eq!(received(&mut bench).as_ref(), Some(&payload));
            reassembled += 1;
            assert_eq!(bench.stack.counters().ip_reassembled, reassembled);
        }
        assert_eq!(bench.stack.counters().ip_reassembled, 4);
        assert_eq!(bench.stack.poll_timeout(), None);
    }
}

#[test]
fn packets_are_distinguished_by_ident_source_and_protocol() {
    for mut bench in both() {
        let a = cut(&datagram(bench.peer(5), bench.us(7), &[1; 2000]), 1, 1280);
        let b = cut(&datagram(bench.peer(5), bench.us(7), &[2; 2000]), 2, 1280);
        let c = cut(&datagram((bench.router, 5).into(), bench.us(7), &[3; 2000]), 1, 1280);
        for part in [&a[0], &b[0], &c[0]] {
            assert_eq!(bench.give(part), KEPT);
        }
        for (part, byte) in [(&b[1], 2), (&c[1], 3), (&a[1], 1)] {
            assert_eq!(bench.give(part), Verdict::Accepted);
            assert_eq!(received(&mut bench), Some(vec![byte; 2000]));
        }
    }
}

#[test]
fn an_exact_copy_is_dropped_alone() {
    for mut bench in both() {
        let whole = datagram(bench.peer(5), bench.us(7), &[1; 3000]);
        let parts = cut(&whole, 1, 1280);
        for i in [0, 2] {
            assert_eq!(bench.give(&parts[i]), KEPT);
            assert_eq!(bench.give(&parts[i]), Verdict::Dropped(DropReason::Duplicate));
        }
        assert_eq!(bench.give(&parts[1]), Verdict::Accepted);
        assert_eq!(received(&mut bench), Some(vec![1; 3000]));
    }
}

#[test]
fn n6a_fragments_that_overlap_end_their_packet() {
    // What is there, and what contradicts it: (offset, more, bytes, their value).
    let first = (0, true, 64, 1);
    let last = (64, false, 16, 1);
    let cases = [
        (first, (56, false, 24, 1)),
        (first, (0, true, 64, 2)),
        (first, (0, true, 56, 1)),
        (first, (8, true, 8, 1)),
        (last, (0, true, 72, 1)),
        (last, (64, true, 16, 1)),
        (last, (80, true, 8, 1)),
        (last, (80, false, 8, 1)),
        (last, (48, false, 8, 1)),
        ((64, true, 16, 1), (8, false, 64, 1)),
    ];
    for (had, came) in cases {
        for mut bench in both() {
            let give = |bench: &mut Bench, (offset, more, len, byte): (u32, bool, usize, u8)| {
                let part = piece(bench, 1, offset, more, &vec![byte; len]);
                bench.give(&part)
            };
            assert_eq!(give(&mut bench, had), KEPT);
            assert_eq!(give(&mut bench, came), OVERLAP, "{had:?} {came:?}");
            assert_eq!(give(&mut bench, first), OVERLAP, "what comes later is dropped too");
            assert_eq!(give(&mut bench, last), OVERLAP);
            bench.pass(30 * SECOND);
            assert!(bench.take().is_empty(), "and no ICMP error is sent");
            assert_eq!(bench.stack.poll_timeout(), None);
            assert_eq!(bench.stack.counters().ip_reassembly_failed, 1);
            assert_eq!(bench.stack.reassembly.held, 0);
        }
    }
}

#[test]
fn u7_a_packet_that_stays_incomplete_is_answered_if_its_first_fragment_came() {
    for mut bench in both() {
        let whole = datagram(bench.peer(5), bench.us(7), &[1; 3000]);
        let parts = cut(&whole, 1, 1280);
        assert_eq!((bench.give(&parts[0]), bench.give(&parts[2])), (KEPT, KEPT));
        assert_eq!(bench.stack.poll_timeout(), Some(bench.now + 30 * SECOND));
        bench.pass(29 * SECOND);
        assert!(bench.take().is_empty());
        bench.pass(SECOND);
        let sent = bench.take_one();
        let (error, quoted) = sent.error();
        let (kind, code) = if bench.v6 { (3, 1) } else { (11, 1) };
        assert_eq!(
            (error.kind, error.code, sent.transmit.rule),
            (kind, code, Some(Rule::IcmpReassemblyTimeout))
        );
        assert_eq!(quoted, error.quote(&parts[0]));
        assert_eq!((sent.ip().header.src, sent.ip().header.dst), (bench.us, bench.peer));
        assert_eq!((bench.stack.poll_timeout(), bench.stack.reassembly.held), (None, 0));
        assert_eq!(bench.give(&parts[1]), KEPT, "a new packet begins");
    }
}

#[test]
fn u7_without_the_first_fragment_no_error_is_sent() {
    for mut bench in both() {
        let whole = datagram(bench.peer(5), bench.us(7), &[1; 3000]);
        for part in &cut(&whole, 1, 1280)[1..] {
            assert_eq!(bench.give(part), KEPT);
        }
        bench.pass(30 * SECOND);
        assert!(bench.take().is_empty());
        assert_eq!(bench.stack.counters().ip_reassembly_failed, 1);
    }
}

#[test]
fn u7_about_an_icmp_error_nothing_is_sent() {
    for mut bench in both() {
        let quoted = vec![0x45; 2000];
        let error = IcmpError::host_unreachable(bench.v6);
        let whole = icmp(bench.peer, bench.us, Message::Error { error, quoted: &quoted });
        assert_eq!(bench.give(&cut(&whole, 1, 1280)[0]), KEPT);
        bench.pass(30 * SECOND);
        assert!(bench.take().is_empty());
    }
}

#[test]
fn invalid_fragments_are_dropped() {
    for mut bench in both() {
        for (offset, more, len) in [(0, true, 0), (8, false, 0), (0, true, 12), (65_528, false, 8)] {
            let part = piece(&bench, 1, offset, more, &vec![0; len]);
            assert_eq!(bench.give(&part), LENGTH, "{offset} {more} {len}");
        }
        assert_eq!(bench.stack.poll_timeout(), None);
    }
}

#[test]
fn the_largest_packet_can_be_put_together() {
    for mut bench in both() {
        let max = if bench.v6 { 65_535 - 8 } else { 65_535 - 28 };
        let whole = datagram(bench.peer(5), bench.us(7), &vec![5; max]);
        let mut last = KEPT;
        for part in cut(&whole, 1, 1500) {
            last = bench.give(&part);
        }
        assert_eq!(last, Verdict::Accepted);
        assert_eq!(received(&mut bench), Some(vec![5; max]));
    }
}

#[test]
fn the_room_is_bounded_and_the_oldest_make_place() {
    for v6 in [false, true] {
        let room = 20_000;
        let mut bench = Bench::with(v6, |config| config.datagrams.reassembly_bytes = room);
        let (local, remote) = (bench.us(7), bench.peer(5));
        bench.stack.udp_bind(local).unwrap();
        let parts: Vec<_> =
            (0..100).map(|ident| cut(&datagram(remote, local, &[1; 2000]), ident, 1280)).collect();
        for parts in &parts {
            assert_eq!(bench.give(&parts[0]), KEPT);
            assert!(bench.stack.reassembly.held <= room);
        }
        assert_eq!(bench.give(&parts[0][1]), KEPT, "the first is forgotten");
        assert_eq!(bench.give(&parts[99][1]), Verdict::Accepted, "the last is not");
        let mut small = Bench::with(v6, |config| config.datagrams.reassembly_bytes = 1000);
        assert_eq!(small.give(&parts[0][0]), Verdict::Dropped(DropReason::NoSpace));
    }
}

#[test]
fn the_headers_are_those_of_the_first_fragment() {
    let mut bench = Bench::new(true);
    let (local, remote) = (bench.us(7), bench.peer(5));
    bench.stack.udp_bind(local).unwrap();
    let whole = datagram(remote, local, &[1; 1500]);
    for (ident, part) in cut(&whole, 1, 1280).iter().enumerate() {
        // Hop-by-hop options before the fragment header.
        let mut with_options = part.clone();
        with_options.splice(40..40, [44, 0, 1, 4, 0, 0, 0, 0]);
        with_options[6] = 0;
        let len = (with_options.len() - 40) as u16;
        with_options[4..6].copy_from_slice(&len.to_be_bytes());
        assert_eq!(bench.give(&with_options), [KEPT, Verdict::Accepted][ident]);
    }
    assert_eq!(received(&mut bench), Some(vec![1; 1500]));
}

#[test]
fn an_unknown_protocol_is_answered_once_the_packet_is_whole() {
    for mut bench in Bench::both() {
        let whole = packet_with(IpHeader::new(bench.peer, bench.us, 200), &[3; 2000]);
        let parts = cut(&whole, 1, 1280);
        assert_eq!((bench.give(&parts[0]), bench.take().len()), (KEPT, 0));
        assert_eq!(bench.give(&parts[1]), Verdict::Answered(Rule::IcmpProtocolUnreachable));
        let sent = bench.take_one();
        let (error, quoted) = sent.error();
        assert_eq!(error.info, if bench.v6 { 6 } else { 0 });
        // Identification and DF of an IPv4 packet differ from those of the uncut one.
        assert_eq!(quoted[40..], error.quote(&whole)[40..]);
    }
}

proptest! {
    #[test]
    fn however_cut_and_ordered_the_packet_comes_out_whole(
        v6: bool,
        mut cuts in proptest::collection::btree_set(1usize..250, 0..12),
        last in 1usize..9,
        keys in proptest::collection::vec(any::<u32>(), 13),
        copies in proptest::collection::vec(0usize..13, 0..6),
    ) {
        let mut bench = Bench::new(v6);
        let local = bench.us(7);
        bench.stack.udp_bind(local).unwrap();
        let payload: Vec<u8> = (0..250 * 8 + last - 8).map(|i| (i * 7) as u8).collect();
        let whole = datagram(bench.peer(5), local, &payload);
        let text = IpPacket::parse(&whole).unwrap().payload;
        cuts.insert(0);
        let starts: Vec<_> = cuts.iter().map(|cut| cut * 8).collect();
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let mut parts: Vec<_> = starts.iter().zip(ends).zip(&keys).map(|((&start, end), key)| {
            (*key, piece(&bench, 9, start as u32, end < text.len(), &text[start..end]))
        }).collect();
        parts.sort();
        let (done, rest) = parts.split_last().unwrap();
        for (_, part) in rest {
            prop_assert_eq!(bench.give(part), KEPT);
        }
        for copy in copies {
            if let Some((_, part)) = rest.get(copy) {
                prop_assert_eq!(bench.give(part), Verdict::Dropped(DropReason::Duplicate));
            }
        }
        if parts.len() > 1 {
            prop_assert_eq!(bench.give(&done.1), Verdict::Accepted);
            prop_assert_eq!(received(&mut bench), Some(payload));
            prop_assert_eq!(bench.stack.reassembly.held, 0);
        }
    }
}

/// Fragments cost a bounded number of steps each: those of many packets, which evict each other, those of one packet
/// in any order, and overlapping ones.
#[test]
fn work_is_linear_in_fragments() {
    const N: u32 = 8000;
    for mut bench in both() {
        let scattered = |i: u32| i * 4999 % N;
        for (what, parts) in [
            ("a packet each", (0..N).map(|i| piece(&bench, i, 8, true, &[1; 1000])).collect::<Vec<_>>()),
            ("one packet", (0..N).map(|i| piece(&bench, N, 8 + 8 * scattered(i), true, &[1; 8])).collect()),
            ("twice", (0..N).map(|i| piece(&bench, N + 1, 8 * (i / 2), true, &[1; 8])).collect()),
            ("overlapping", (0..N).map(|i| piece(&bench, N + 2, 8 * i, true, &[1; 16])).collect()),
        ] {
            let steps = crate::steps::of(|| {
                for part in &parts {
                    let _ = bench.give(part);
                }
            });
            assert!(steps <= 16 * u64::from(N), "{what}: {steps} steps for {N} fragments");
        }
    }
}
