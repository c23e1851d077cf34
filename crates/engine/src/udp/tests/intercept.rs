use super::*;
use crate::{Intercept, IpFields};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::udp::UdpHeader;

fn proxy(v6: bool) -> (Bench, UdpId) {
    let mut bench = Bench::with(v6, |config| {
        config.any_address = true;
        config.intercept = Intercept { udp: true, ..Intercept::default() };
    });
    bench.us = addr(if v6 { "2001:db8:5::5" } else { "198.51.100.5" });
    let id = bench.stack.udp_intercept();
    (bench, id)
}

#[test]
fn it_receives_datagrams_without_a_socket_and_answers_from_any_address() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        assert_eq!(bench.give_datagram(remote, local, b"query"), Verdict::Accepted);
        assert_eq!(bench.events(), [Event::UdpReadable(id)]);
        let got = bench.udp(id).receive().unwrap().unwrap();
        assert_eq!((got.local, got.remote, &got.payload[..]), (local, remote, &b"query"[..]));
        assert_eq!(bench.udp(id).send_from(got.local, got.remote, b"answer"), Ok(()));
        assert_eq!(bench.take_one().udp(), (local, remote, &b"answer"[..]));
        let bound = bench.bind(local);
        assert_eq!(bench.give_datagram(remote, local, b"2"), Verdict::Accepted);
        assert_eq!((bench.payloads(bound), bench.payloads(id)), (vec![b"2".to_vec()], vec![]));
    }
}

#[test]
fn it_is_one_socket_open_from_the_start_until_it_is_closed() {
    for v6 in [false, true] {
        let mut bench = Bench::with(v6, |config| config.intercept.udp = true);
        let (local, remote) = (bench.us(53), bench.peer(5));
        assert_eq!(bench.give_datagram(remote, local, b"early"), Verdict::Accepted);
        let id = bench.stack.udp_intercept();
        assert_eq!((bench.stack.udp_intercept(), bench.payloads(id)), (id, vec![b"early".to_vec()]));
        bench.udp(id).close();
        assert_eq!(bench.give_datagram(remote, local, b"late"), NO_PORT);
        let next = bench.stack.udp_intercept();
        assert_ne!(next, id);
        assert_eq!(bench.give_datagram(remote, local, b"next"), Verdict::Accepted);
        assert_eq!(bench.payloads(next), [b"next"]);
    }
}

#[test]
fn without_it_the_port_is_unreachable() {
    for mut bench in Bench::both() {
        assert_eq!(bench.give_datagram(bench.peer(5), bench.us(53), b"1"), NO_PORT);
    }
}

#[test]
fn it_has_no_address_of_its_own() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        let multicast = SocketAddr::new(addr(if bench.v6 { "ff02::1" } else { "224.0.0.1" }), 5);
        let mut udp = bench.udp(id);
        assert_eq!(udp.send(b"1", Some(remote)), Err(UdpError::NoAddress));
        assert_eq!(udp.connect(remote), Err(UdpError::NoAddress));
        assert_eq!(udp.send_from(multicast, remote, b"1"), Err(UdpError::NoAddress));
        assert_eq!(udp.send_from(local, multicast, b"1"), Err(UdpError::NotUnicast));
    }
}

#[test]
fn another_socket_sends_only_from_where_it_hears() {
    for mut bench in Bench::both() {
        let (local, remote) = (bench.us(9), bench.peer(5));
        let [wildcard, specific] = [at("[::]:9"), bench.us(10)].map(|local| bench.bind(local));
        assert_eq!(bench.udp(wildcard).send_from(local, remote, b"1"), Ok(()));
        let other_port = bench.us(10);
        assert_eq!(bench.udp(wildcard).send_from(other_port, remote, b"1"), Err(UdpError::NoAddress));
        let foreign = SocketAddr::new(bench.router, 9);
        assert_eq!(bench.udp(wildcard).send_from(foreign, remote, b"1"), Err(UdpError::NoAddress));
        assert_eq!(bench.udp(specific).send_from(local, remote, b"1"), Err(UdpError::NoAddress));
        assert_eq!(bench.udp(specific).send_from(other_port, remote, b"1"), Ok(()));
        assert_eq!(bench.take().len(), 2);
    }
}

/// A datagram as it arrived from `remote`.
fn arrived(local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> Datagram {
    let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: true };
    Datagram { local, remote, payload: payload.to_vec(), ip }
}

#[test]
fn x2_a_datagram_is_rejected_with_the_error_that_the_embedder_orders() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote, router) = (bench.us(53), bench.peer(5), bench.router);
        let error = IcmpError::host_unreachable(bench.v6);
        for from in [Some(router), None] {
            for _ in 0..50 {
                assert_eq!(bench.udp(id).reject(&arrived(local, remote, b"query"), error, from), Ok(()));
            }
            let sent = bench.take();
            assert_eq!((sent.len(), sent[0].transmit.rule), (50, Some(Rule::IcmpIntercepted)));
            let header = sent[0].ip().header;
            assert_eq!((header.src, header.dst), (from.unwrap_or(local.ip()), remote.ip()));
            let (got, quoted) = sent[0].error();
            assert_eq!(got, error);
            assert_eq!(quoted, datagram(remote, local, b"query"));
        }
    }
}

#[test]
fn x2_a_datagram_that_cannot_be_rejected_is_an_error() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        let other = SocketAddr::new(addr(if bench.v6 { "192.0.2.2" } else { "2001:db8::2" }), 5);
        let error = IcmpError::host_unreachable(bench.v6);
        let wrong = IcmpError::host_unreachable(!bench.v6);
        let mut udp = bench.udp(id);
        let forbidden = Err(Rule::IcmpNotAllowed.into());
        assert_eq!(udp.reject(&arrived(local, remote, b"1"), wrong, None), forbidden);
        assert_eq!(udp.reject(&arrived(local, remote, b"1"), error, Some(other.ip())), forbidden);
        assert!(udp.reject(&arrived(local, other, b"1"), error, None).is_err());
        assert!(udp.reject(&arrived(local, remote, &vec![0; 65_536]), error, None).is_err());
        assert_eq!(udp.reject(&arrived(local, remote, &vec![0; 60_000]), error, None), Ok(()));
        let len = bench.take_one().bytes.len();
        assert_eq!(len, if bench.v6 { 1280 } else { 576 });
    }
}

/// Fields that are not the stack's own.
const FIELDS: IpFields = IpFields { hop_limit: 3, traffic_class: 0xb9, dont_fragment: true };

#[test]
fn header_fields_reach_the_embedder_and_are_quoted() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        let header = FIELDS.apply(IpHeader::new(remote.ip(), local.ip(), ip::UDP));
        let mut packet = Vec::new();
        header.emit(UdpHeader::LEN + 5, &mut packet);
        UdpHeader { src_port: 5, dst_port: 53 }.emit(&header, b"query", &mut packet);
        assert_eq!(bench.give(&packet), Verdict::Accepted);
        let got = bench.udp(id).receive().unwrap().unwrap();
        assert_eq!(got.ip, FIELDS);
        let error = IcmpError::time_exceeded(bench.v6);
        assert_eq!(bench.udp(id).reject(&got, error, None), Ok(()));
        assert_eq!(bench.take_one().error().1, packet);
    }
}

#[test]
fn forwarded_datagrams_have_the_requested_header() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        assert_eq!(bench.udp(id).forward(local, remote, b"answer", None, FIELDS), Ok(()));
        let sent = bench.take_one();
        assert_eq!(IpFields::of(&sent.ip().header), FIELDS);
        assert_eq!(sent.udp(), (local, remote, &b"answer"[..]));
        let group = SocketAddr::new(addr(if bench.v6 { "ff02::fb" } else { "224.0.0.251" }), 5353);
        assert_eq!(bench.udp(id).forward(local, group, b"all", None, FIELDS), Ok(()));
        assert_eq!(bench.take_one().udp().1, group);
        let bound = bench.bind(local);
        let refused = bench.udp(bound).forward(local, remote, b"1", None, FIELDS);
        assert_eq!(refused, Err(UdpError::NoAddress));
    }
}

#[test]
fn datagrams_of_one_size_leave_as_one_packet_where_the_link_cuts() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        assert_eq!(bench.udp(id).forward(local, remote, &[7; 250], Some(100), FIELDS), Ok(()));
        let sizes: Vec<usize> = bench.take().iter().map(|sent| sent.udp().2.len()).collect();
        assert_eq!(sizes, [100, 100, 50], "this link does not cut");
        let mut bench = Bench::with(bench.v6, |config| {
            config.any_address = true;
            config.max_packet = 65_535;
            config.checksums.transmit = crate::TransmitChecksum::Partial;
        });
        let id = bench.stack.udp_intercept();
        assert_eq!(bench.udp(id).forward(local, remote, &[7; 250], Some(100), FIELDS), Ok(()));
        let sent = bench.take_one();
        assert_eq!((sent.transmit.segment_size, sent.bytes.len()), (Some(100), headers(bench.v6) + 250));
        // A datagram that is too large for the link leaves in fragments, and is no part of another packet.
        let (size, whole) = (2000, IpFields { dont_fragment: false, ..FIELDS });
        assert_eq!(bench.udp(id).forward(local, remote, &[7; 4000], Some(size), whole), Ok(()));
        assert!(
            bench.take().iter().all(|sent| sent.bytes.len() <= 1500 && sent.transmit.segment_size.is_none())
        );
    }
}

fn headers(v6: bool) -> usize {
    UdpHeader::LEN + if v6 { 40 } else { 20 }
}

#[test]
fn groups_are_heard_where_they_are_intercepted() {
    for v6 in [false, true] {
        let group = SocketAddr::new(addr(if v6 { "ff02::fb" } else { "224.0.0.251" }), 5353);
        for groups in [false, true] {
            let mut bench = Bench::with(v6, |config| {
                config.intercept = Intercept { udp: true, groups, ..Intercept::default() };
            });
            let remote = bench.peer(5353);
            let verdict = bench.give_datagram(remote, group, b"who is there");
            let id = bench.stack.udp_intercept();
            if groups {
                assert_eq!(verdict, Verdict::Accepted);
                assert_eq!(bench.udp(id).receive().unwrap().unwrap().local, group);
            } else {
                assert_eq!(verdict, Verdict::Dropped(Rule::DropBadDestination.into()));
            }
        }
    }
}
