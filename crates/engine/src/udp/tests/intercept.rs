use super::*;
use crate::Intercept;

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
fn it_takes_what_no_socket_wants_and_answers_from_anywhere() {
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

#[test]
fn x2_a_datagram_is_rejected_with_the_error_that_the_embedder_orders() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote, router) = (bench.us(53), bench.peer(5), bench.router);
        let error = IcmpError::host_unreachable(bench.v6);
        for from in [Some(router), None] {
            for _ in 0..50 {
                assert_eq!(bench.udp(id).reject(local, remote, b"query", error, from), Ok(()));
            }
            let sent = bench.take();
            assert_eq!((sent.len(), sent[0].transmit.rule), (50, Some(Rule::X2)));
            let header = sent[0].ip().header;
            assert_eq!((header.src, header.dst), (from.unwrap_or(local.ip()), remote.ip()));
            let (told, quoted) = sent[0].error();
            assert_eq!(told, error);
            assert_eq!(quoted, datagram(remote, local, b"query"));
        }
    }
}

#[test]
fn x2_what_cannot_be_rejected_is_an_error() {
    for (mut bench, id) in [false, true].map(proxy) {
        let (local, remote) = (bench.us(53), bench.peer(5));
        let other = SocketAddr::new(addr(if bench.v6 { "192.0.2.2" } else { "2001:db8::2" }), 5);
        let error = IcmpError::host_unreachable(bench.v6);
        let wrong = IcmpError::host_unreachable(!bench.v6);
        let mut udp = bench.udp(id);
        let forbidden = Err(Rule::I0.into());
        assert_eq!(udp.reject(local, remote, b"1", wrong, None), forbidden);
        assert_eq!(udp.reject(local, remote, b"1", error, Some(other.ip())), forbidden);
        assert!(udp.reject(local, other, b"1", error, None).is_err());
        assert!(udp.reject(local, remote, &vec![0; 65_536], error, None).is_err());
        assert_eq!(udp.reject(local, remote, &vec![0; 60_000], error, None), Ok(()));
        let len = bench.take_one().bytes.len();
        assert_eq!(len, if bench.v6 { 1280 } else { 576 });
    }
}
