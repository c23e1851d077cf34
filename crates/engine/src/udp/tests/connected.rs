use super::*;

/// What an ICMP error does to a connected socket.
#[derive(Clone, Copy)]
enum Row {
    Hard(UdpError),
    Ignored,
}
use Row::{Hard, Ignored};

/// What Linux 6.18 does: kind, code, effect.
const V4: [(u8, u8, Row); 24] = [
    (3, 0, Ignored),
    (3, 1, Ignored),
    (3, 2, Hard(UdpError::ProtocolUnreachable)),
    (3, 3, Hard(UdpError::Refused)),
    (3, 4, Hard(UdpError::MessageTooLong)),
    (3, 5, Ignored),
    (3, 6, Hard(UdpError::NetworkUnreachable)),
    (3, 7, Hard(UdpError::HostDown)),
    (3, 8, Hard(UdpError::HostIsolated)),
    (3, 9, Hard(UdpError::NetworkUnreachable)),
    (3, 10, Hard(UdpError::HostUnreachable)),
    (3, 11, Ignored),
    (3, 12, Ignored),
    (3, 13, Hard(UdpError::HostUnreachable)),
    (3, 14, Hard(UdpError::HostUnreachable)),
    (3, 15, Hard(UdpError::HostUnreachable)),
    (3, 16, Ignored),
    (4, 0, Ignored),
    (5, 0, Ignored),
    (5, 1, Ignored),
    (11, 0, Ignored),
    (11, 1, Ignored),
    (12, 0, Hard(UdpError::Protocol)),
    (12, 1, Hard(UdpError::Protocol)),
];

const V6: [(u8, u8, Row); 15] = [
    (1, 0, Ignored),
    (1, 1, Hard(UdpError::Prohibited)),
    (1, 2, Ignored),
    (1, 3, Ignored),
    (1, 4, Hard(UdpError::Refused)),
    (1, 5, Hard(UdpError::Prohibited)),
    (1, 6, Hard(UdpError::Prohibited)),
    (1, 7, Hard(UdpError::Protocol)),
    (1, 99, Hard(UdpError::Protocol)),
    (2, 0, Hard(UdpError::MessageTooLong)),
    (3, 0, Ignored),
    (3, 1, Ignored),
    (4, 0, Hard(UdpError::Protocol)),
    (4, 1, Hard(UdpError::Protocol)),
    (4, 2, Hard(UdpError::Protocol)),
];

fn rows(v6: bool) -> impl Iterator<Item = (IcmpError, Row)> {
    let rows = if v6 { &V6[..] } else { &V4[..] };
    rows.iter().map(move |&(kind, code, row)| (IcmpError { v6, kind, code, info: 1300 }, row))
}

/// T188.
#[test]
fn i_icmp_errors_reach_a_connected_socket_as_in_the_table() {
    for v6 in [false, true] {
        for (error, row) in rows(v6) {
            let mut bench = Bench::new(v6);
            let id = bench.connected();
            bench.udp(id).set_dont_fragment(true);
            let ours = datagram(bench.us(9), bench.peer(5), b"1");
            let verdict = bench.give(&icmp_error(bench.router, &ours, error));
            let expected = match row {
                Hard(expected) => Some(expected),
                Ignored => None,
            };
            assert_eq!(verdict == Verdict::Accepted, expected.is_some(), "{error}");
            let expected_events = if expected.is_some() { vec![Event::UdpReadable(id)] } else { vec![] };
            assert_eq!(bench.events(), expected_events, "{error}");
            assert_eq!(bench.udp(id).take_error(), expected, "{error}");
            assert_eq!(bench.udp(id).take_error(), None);
            assert!(bench.take().is_empty());
        }
    }
}

/// T188.
#[test]
fn an_error_is_reported_once_by_the_next_call() {
    for mut bench in Bench::both() {
        let (id, remote, local) = (bench.connected(), bench.peer(5), bench.us(9));
        let ours = datagram(local, remote, b"1");
        let error = icmp_error(bench.router, &ours, IcmpError::port_unreachable(bench.v6));
        let fail = |bench: &mut Bench| assert_eq!(bench.give(&error), Verdict::Accepted);

        fail(&mut bench);
        assert_eq!(bench.udp(id).send(b"lost", None), Err(UdpError::Refused));
        assert!(bench.take().is_empty(), "the send that fails sends nothing");
        assert_eq!(bench.udp(id).receive(), Ok(None));
        assert_eq!(bench.udp(id).send(b"sent", None), Ok(()));
        assert_eq!(bench.take_one().udp(), (local, remote, &b"sent"[..]));

        assert_eq!(bench.give_datagram(remote, local, b"waits"), Verdict::Accepted);
        fail(&mut bench);
        assert!(bench.udp(id).poll_readable().is_ready());
        assert_eq!(bench.udp(id).receive(), Err(UdpError::Refused));
        assert_eq!(bench.payloads(id), [b"waits"]);

        fail(&mut bench);
        assert_eq!(bench.udp(id).peek(), Err(UdpError::Refused));
        assert_eq!((bench.udp(id).take_error(), bench.udp(id).receive()), (None, Ok(None)));

        fail(&mut bench);
        assert_eq!(bench.udp(id).send(b"lost", Some(remote)), Err(UdpError::Refused));
        fail(&mut bench);
        assert_eq!(bench.udp(id).send_from(local, remote, b"lost"), Err(UdpError::Refused));
        assert!(bench.take().is_empty());
    }
}

/// T189, U9.
#[test]
fn an_error_about_another_four_tuple_is_not_reported() {
    for mut bench in Bench::both() {
        let id = bench.connected();
        let (router, v6) = (bench.router, bench.v6);
        for (local, remote) in [
            (bench.us(9), bench.peer(6)),
            (bench.us(10), bench.peer(5)),
            (bench.us(9), SocketAddr::new(router, 5)),
        ] {
            let other = datagram(local, remote, b"1");
            let error = icmp_error(router, &other, IcmpError::port_unreachable(v6));
            assert_eq!(bench.give(&error), IGNORED);
        }
        assert_eq!((bench.udp(id).take_error(), bench.events()), (None, vec![]));
    }
}

/// T189.
#[test]
fn an_unconnected_socket_hears_of_no_error() {
    for v6 in [false, true] {
        for (error, _) in rows(v6) {
            let mut bench = Bench::new(v6);
            let (local, remote) = (bench.us(9), bench.peer(5));
            let id = bench.bind(local);
            assert_eq!(bench.udp(id).send(&[1; 1400], Some(remote)), Ok(()));
            let ours = bench.take_one().bytes;
            let verdict = bench.give(&icmp_error(bench.router, &ours, error));
            assert_eq!(verdict == Verdict::Accepted, v6 && error.mtu().is_some());
            assert_eq!((bench.udp(id).take_error(), bench.events()), (None, vec![]));
        }
    }
}

#[test]
fn p1_too_big_lowers_the_path_where_a_socket_relies_on_it() {
    for (v6, dont_fragment, connected, lowered) in [
        (false, true, true, true),
        (false, true, false, true),
        (false, false, true, false),
        (false, false, false, false),
        (true, false, true, true),
        (true, false, false, true),
    ] {
        let mut bench = Bench::new(v6);
        let (local, peer) = (bench.us(9), bench.peer);
        let id = if connected { bench.connected() } else { bench.bind(local) };
        bench.udp(id).set_dont_fragment(dont_fragment);
        let ours = datagram(local, bench.peer(5), b"1");
        let forged = datagram(bench.us(11), bench.peer(5), b"1");
        let error = IcmpError::packet_too_big(v6, 1300);
        assert_eq!(bench.give(&icmp_error(bench.router, &forged, error)), IGNORED);
        if !connected {
            // All of it can be guessed: as long as nothing too big was sent there, the error cannot be genuine.
            for (to, bytes) in [(bench.peer(5), 1200), (SocketAddr::new(bench.router, 5), 1400)] {
                assert_eq!(bench.give(&icmp_error(bench.router, &ours, error)), IGNORED);
                assert_eq!(bench.udp(id).send(&vec![1; bytes], Some(to)), Ok(()));
                bench.take_one();
            }
            assert_eq!(bench.give(&icmp_error(bench.router, &ours, error)), IGNORED);
            let to = bench.peer(5);
            assert_eq!(bench.udp(id).send(&[1; 1400], Some(to)), Ok(()));
            bench.take_one();
        }
        let verdict = bench.give(&icmp_error(bench.router, &ours, error));
        assert_eq!(verdict, if lowered { Verdict::Accepted } else { IGNORED });
        let mtu = bench.stack.shared.paths.mtu(peer, 1500, bench.now);
        assert_eq!(mtu, if lowered { 1300 } else { 1500 });
        let reported = (lowered && connected).then_some(UdpError::MessageTooLong);
        assert_eq!(bench.udp(id).take_error(), reported);
    }
}

#[test]
fn only_the_peer_is_heard() {
    for mut bench in Bench::both() {
        let id = bench.connected();
        let (local, peer) = (bench.us(9), bench.peer(5));
        for other in [bench.peer(6), SocketAddr::new(bench.router, 5)] {
            assert_eq!(bench.give_datagram(other, local, b"other"), NO_PORT);
        }
        assert_eq!(bench.give_datagram(peer, local, b"peer"), Verdict::Accepted);
        assert_eq!(bench.payloads(id), [b"peer"]);
        assert_eq!((bench.udp(id).local(), bench.udp(id).remote()), (local, Some(peer)));
        let next = bench.peer(6);
        assert_eq!(bench.udp(id).connect(next), Ok(()));
        assert_eq!(bench.give_datagram(peer, local, b"peer"), NO_PORT);
        assert_eq!(bench.give_datagram(next, local, b"next"), Verdict::Accepted);
        assert_eq!(bench.payloads(id), [b"next"]);
    }
}

#[test]
fn connecting_gives_a_wildcard_socket_an_address() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let id = bench.bind(at("[::]:9"));
        assert_eq!(bench.udp(id).connect(remote), Ok(()));
        assert_eq!(bench.udp(id).local(), local);
        assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
        assert_eq!(bench.take_one().udp(), (local, remote, &b"1"[..]));
        let second = bench.bind(local);
        assert_eq!(bench.udp(second).connect(remote), Err(UdpError::InUse));
        assert_eq!(bench.udp(id).connect(remote), Ok(()), "again is not by another");
    }
}

#[test]
fn an_address_that_cannot_be_a_peer_is_refused() {
    for mut bench in Bench::both() {
        let local = bench.us(9);
        let id = bench.bind(local);
        let [multicast, other] =
            if bench.v6 { ["[ff02::1]:5", "192.0.2.2:5"] } else { ["224.0.0.1:5", "[2001:db8::2]:5"] }
                .map(at);
        let port_zero = bench.peer(0);
        let mut udp = bench.udp(id);
        for (remote, error) in [
            (multicast, UdpError::NotUnicast),
            (port_zero, UdpError::NotUnicast),
            (other, UdpError::NoAddress),
        ] {
            assert_eq!(udp.connect(remote), Err(error));
            assert_eq!(udp.send(b"1", Some(remote)), Err(error));
        }
        assert_eq!(udp.send(b"1", None), Err(UdpError::NotConnected));
        assert!(bench.take().is_empty());
    }
}

#[test]
fn a_host_without_an_address_of_the_family_cannot_send_in_it() {
    let mut stack = Stack::new(crate::Config::new([addr("192.0.2.1")]), [1; 16]);
    let id = stack.udp_bind(at("[::]:9")).unwrap();
    let mut udp = stack.udp(id).unwrap();
    assert_eq!(udp.send(b"1", Some(at("[2001:db8::2]:5"))), Err(UdpError::NoAddress));
    assert_eq!(udp.send(b"1", Some(at("[::ffff:192.0.2.2]:5"))), Ok(()), "this is IPv4");
}
