use super::*;
use crate::Received;
use core::task::Poll;
use lastack_wire::ip::IpPacket;

/// Offsets in a datagram of its length and its checksum.
const LENGTH: usize = 4;
const CHECKSUM: usize = 6;

#[test]
fn u8_a_wrong_checksum_or_length_is_dropped_silently() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        let closed = bench.us(10);
        for dst in [local, closed] {
            let good = datagram(remote, dst, b"abcd");
            let udp_at = IpPacket::parse(&good).unwrap().unfragmentable;
            for (at, bytes) in
                [(udp_at + CHECKSUM, [1, 2]), (udp_at + LENGTH, [0, 7]), (udp_at + LENGTH, [0, 13])]
            {
                let mut bad = good.clone();
                bad[at..at + 2].copy_from_slice(&bytes);
                assert_eq!(bench.give(&bad), Verdict::Dropped(Rule::DropBadDatagram.into()));
            }
        }
        assert!(bench.take().is_empty() && bench.payloads(id).is_empty());
        assert_eq!(bench.stack.counters().udp_in_errors, 6);
    }
}

/// T186.
#[test]
fn u8_checksum_zero_means_none_for_ipv4_and_is_illegal_for_ipv6() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        let (dropped, payloads) = (Verdict::Dropped(Rule::DropBadDatagram.into()), bench.v6);
        for (dst, verdict) in [(local, Verdict::Accepted), (bench.us(10), NO_PORT)] {
            let mut bytes = datagram(remote, dst, b"abcd");
            let udp_at = IpPacket::parse(&bytes).unwrap().unfragmentable;
            bytes[udp_at + CHECKSUM..][..2].fill(0);
            assert_eq!(bench.give(&bytes), if bench.v6 { dropped } else { verdict });
        }
        assert_eq!(bench.payloads(id).is_empty(), payloads);
    }
}

#[test]
fn a_checksum_known_to_be_good_is_not_tested() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        let mut bytes = datagram(remote, local, b"abcd");
        *bytes.last_mut().unwrap() = b'e';
        let verdict = bench.stack.handle_packet(
            bench.now,
            &bytes,
            Received { checksum_good: true, ..Received::default() },
        );
        assert_eq!((verdict, bench.payloads(id)), (Verdict::Accepted, vec![b"abce".to_vec()]));
    }
}

#[test]
fn n4_n5_packets_from_or_to_no_host_are_dropped_silently() {
    let mut bench = Bench::new(false);
    let id = bench.bind(at("[::]:9"));
    for (src, dst, rule) in [
        ("192.0.2.2:5", "255.255.255.255:9", Rule::DropBadDestination),
        ("192.0.2.2:5", "224.0.0.1:9", Rule::DropBadDestination),
        ("192.0.2.2:5", "192.0.2.7:9", Rule::DropBadDestination),
        ("[2001:db8::2]:5", "[ff02::1]:9", Rule::DropBadDestination),
        ("0.0.0.0:5", "192.0.2.1:9", Rule::DropBadSource),
        ("192.0.2.1:5", "192.0.2.1:9", Rule::DropBadSource),
        ("127.0.0.1:5", "192.0.2.1:9", Rule::DropBadSource),
        ("224.0.0.5:5", "192.0.2.1:9", Rule::DropBadSource),
        ("[::]:5", "[2001:db8::1]:9", Rule::DropBadSource),
        ("[ff02::5]:5", "[2001:db8::1]:9", Rule::DropBadSource),
        ("[::1]:5", "[2001:db8::1]:9", Rule::DropBadSource),
        ("[::ffff:192.0.2.2]:5", "[2001:db8::1]:9", Rule::DropBadSource),
    ] {
        assert_eq!(bench.give_datagram(at(src), at(dst), b"1"), Verdict::Dropped(rule.into()), "{src} {dst}");
    }
    assert!(bench.take().is_empty() && bench.payloads(id).is_empty());
}

#[test]
fn an_empty_datagram_is_one() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        assert_eq!(bench.give_datagram(remote, local, b""), Verdict::Accepted);
        assert_eq!(bench.payloads(id), [b""]);
        assert_eq!(bench.udp(id).send(b"", Some(remote)), Ok(()));
        assert_eq!(bench.take_one().udp(), (local, remote, &b""[..]));
    }
}

#[test]
fn the_user_is_notified_of_the_first_datagram_and_after_an_empty_receive() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        let readable = [Event::UdpReadable(id)];
        assert_eq!(bench.give_datagram(remote, local, b"1"), Verdict::Accepted);
        assert_eq!(bench.give_datagram(remote, local, b"2"), Verdict::Accepted);
        assert_eq!(bench.events(), readable);
        assert!(bench.udp(id).receive().unwrap().is_some());
        assert_eq!(bench.give_datagram(remote, local, b"3"), Verdict::Accepted);
        assert_eq!(bench.events(), [], "it has not found the queue empty");
        assert_eq!(bench.payloads(id), [b"2", b"3"]);
        assert_eq!(bench.give_datagram(remote, local, b"4"), Verdict::Accepted);
        assert_eq!(bench.events(), readable);
        assert_eq!(bench.udp(id).poll_readable(), Poll::Ready(()));
        let peeked = bench.udp(id).peek().unwrap().cloned();
        assert_eq!(Ok(peeked), bench.udp(id).receive());
        assert_eq!(bench.udp(id).poll_readable(), Poll::Pending);
        assert_eq!(bench.give_datagram(remote, local, b"5"), Verdict::Accepted);
        assert_eq!(bench.events(), readable);
    }
}

#[test]
fn datagrams_beyond_the_queue_are_dropped() {
    for v6 in [false, true] {
        let mut bench = Bench::with(v6, |config| config.datagrams.receive_queue = 2);
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(local);
        assert_eq!(bench.give_datagram(remote, local, b"1"), Verdict::Accepted);
        assert_eq!(bench.give_datagram(remote, local, b"2"), Verdict::Accepted);
        let full = Verdict::Dropped(DropReason::NoSpace);
        assert_eq!(bench.give_datagram(remote, local, b"3"), full);
        assert_eq!(bench.payloads(id), [b"1", b"2"]);
        let counters = bench.stack.counters();
        assert_eq!((counters.udp_in_datagrams, counters.udp_receive_overflows), (2, 1));
        assert!(bench.take().is_empty());
    }
}
