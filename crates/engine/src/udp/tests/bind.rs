use super::*;

#[test]
fn the_most_specific_socket_gets_the_datagram() {
    for mut bench in Bench::both() {
        let [local, remote, other] = [bench.us(9), bench.peer(5), bench.peer(6)];
        let everywhere = bench.bind(SocketAddr::new(addr(if bench.v6 { "::" } else { "0.0.0.0" }), 9));
        let here = bench.bind(local);
        assert_eq!(bench.give_datagram(remote, local, b"here"), Verdict::Accepted);
        bench.udp(here).connect(remote).unwrap();
        assert_eq!(bench.give_datagram(remote, local, b"peer"), Verdict::Accepted);
        assert_eq!(bench.give_datagram(other, local, b"everywhere"), Verdict::Accepted);
        assert_eq!(bench.payloads(here), [b"here", b"peer"]);
        assert_eq!(bench.payloads(everywhere), [b"everywhere"]);
        bench.udp(here).close();
        assert_eq!(bench.give_datagram(remote, local, b"1"), Verdict::Accepted);
        assert_eq!(bench.payloads(everywhere), [b"1"]);
        bench.udp(everywhere).close();
        assert_eq!(bench.give_datagram(remote, local, b"2"), NO_PORT);
    }
}

#[test]
fn unspecified_means_all_addresses_that_of_ipv6_of_both_families() {
    for (wildcard, hears_v4, hears_v6) in [("0.0.0.0:9", true, false), ("[::]:9", true, true)] {
        for mut bench in Bench::both() {
            let id = bench.bind(at(wildcard));
            let hears = if bench.v6 { hears_v6 } else { hears_v4 };
            let verdict = bench.give_datagram(bench.peer(5), bench.us(9), b"1");
            assert_eq!(verdict, if hears { Verdict::Accepted } else { NO_PORT });
            if hears {
                let got = bench.udp(id).receive().unwrap().unwrap();
                assert_eq!((got.local, got.remote), (bench.us(9), bench.peer(5)));
                let to = bench.peer(5);
                assert_eq!(bench.udp(id).send(b"2", Some(to)), Ok(()));
                assert_eq!(bench.take_one().udp(), (bench.us(9), to, &b"2"[..]));
            }
        }
    }
}

#[test]
fn an_address_is_had_once() {
    let mut bench = Bench::new(false);
    let mut bind = |text| bench.stack.udp_bind(at(text)).err();
    let in_use = Some(BindError::InUse);
    assert_eq!([bind("192.0.2.1:9"), bind("192.0.2.1:9")], [None, in_use]);
    assert_eq!([bind("[::]:9"), bind("[::]:9"), bind("0.0.0.0:9")], [None, in_use, in_use]);
    assert_eq!([bind("0.0.0.0:10"), bind("[::]:10"), bind("[2001:db8::1]:10")], [None, in_use, None]);
    assert_eq!(bind("[::ffff:192.0.2.1]:9"), in_use);
    for not_ours in ["192.0.2.77:9", "[2001:db8::77]:9", "224.0.0.1:9", "255.255.255.255:9"] {
        assert_eq!(bind(not_ours), Some(BindError::NotOurs));
    }
}

#[test]
fn a_connected_socket_keeps_its_address_from_others_until_it_is_closed() {
    let mut bench = Bench::new(false);
    let (id, local) = (bench.connected(), bench.us(9));
    assert_eq!(bench.stack.udp_bind(local), Err(BindError::InUse));
    bench.udp(id).close();
    assert!(bench.stack.udp(id).is_none());
    assert!(bench.stack.udp_bind(local).is_ok());
}

#[test]
fn where_every_address_is_ours_every_unicast_address_can_be_bound() {
    let mut bench = Bench::with(false, |config| config.any_address = true);
    assert!(bench.stack.udp_bind(at("198.51.100.7:53")).is_ok());
    assert_eq!(bench.stack.udp_bind(at("224.0.0.1:53")), Err(BindError::NotOurs));
}

#[test]
fn port_zero_means_an_unpredictable_free_port() {
    let mut bench = Bench::new(false);
    let mut ports = Vec::new();
    for _ in 0..16_384 {
        let id = bench.bind(at("192.0.2.1:0"));
        ports.push(bench.udp(id).local().port());
    }
    assert!(ports.iter().all(|&port| port >= 49_152));
    let ascending = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((6_000..10_000).contains(&ascending), "{ascending}");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 16_384, "all of them, each once");
    let id = bench.bind(at("[2001:db8::1]:0"));
    assert!((32_768..49_152).contains(&bench.udp(id).local().port()), "then those below");
    for _ in 0..16_383 {
        bench.bind(at("[::]:0"));
    }
    assert_eq!(bench.stack.udp_bind(at("[::]:0")), Err(BindError::NoPort));
    bench.udp(id).close();
    assert!(bench.stack.udp_bind(at("[::]:0")).is_ok(), "one is free again");
}

#[test]
fn a_closed_socket_is_another_than_the_next_at_its_address() {
    let mut bench = Bench::new(true);
    let local = bench.us(9);
    let first = bench.bind(local);
    bench.udp(first).close();
    let second = bench.bind(local);
    assert_ne!(first, second);
    assert!(bench.stack.udp(first).is_none() && bench.stack.udp(second).is_some());
}
