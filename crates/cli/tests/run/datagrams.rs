//! UDP and ping.

use std::net::UdpSocket;

use crate::support::{
    AT_ONCE, FAMILIES, NETWORKS, closed_port, direct, lastack, relayed, require_all, require_namespaces,
    require_tool,
};

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_closed_port_refuses_at_once() {
    require_all();
    for (host, gateway) in FAMILIES {
        let port = closed_port(host);
        assert_eq!(direct("udp", host, port, &["x"]).end(), "ECONNREFUSED");
        let ran = relayed("udp", gateway, port, &["x"]);
        assert_eq!(ran.seen().end(), "ECONNREFUSED", "{ran:?}");
        assert!(ran.seen().seconds() < AT_ONCE, "{ran:?}");
        let flow = ran.connection();
        assert_eq!((&flow["proto"], &flow["outcome"]), (&"udp".into(), &"refused".into()), "{flow}");
        assert_eq!((&flow["by"], &flow["rule_code"]), (&"remote".into(), &"U1".into()), "{flow}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn answers_come_back() {
    require_all();
    for (host, gateway) in FAMILIES {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut payload = [0; 65_536];
            for _ in 0..2 {
                let (bytes, from) = socket.recv_from(&mut payload).unwrap();
                socket.send_to(&payload[..bytes], from).unwrap();
            }
        });
        let ran = relayed("udp", gateway, port, &["hello"]);
        assert_eq!((ran.seen().data(), ran.seen().end()), ("hello", "answered"));
        let flow = ran.connection();
        assert_eq!(
            (&flow["outcome"], &flow["octets"]["sent"], &flow["octets"]["received"]),
            (&"idle".into(), &5.into(), &5.into())
        );
        assert_eq!(relayed("udp_large", gateway, port, &[]).seen().end(), "same");
        server.join().unwrap();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_loopback_is_closed_to_datagrams_too() {
    require_all();
    for (host, gateway) in FAMILIES {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let ran = lastack(&NETWORKS, &crate::support::client("udp", gateway, port, &["x"]));
        assert_eq!(ran.seen().end(), "ECONNREFUSED", "{ran:?}");
        let flow = ran.connection();
        assert_eq!((&flow["by"], &flow["outcome"]), (&"lastack".into(), &"refused".into()), "{flow}");
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0]).is_err(), "nothing came through");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_gateway_answers_pings() {
    require_tool("ping");
    require_namespaces();
    for address in ["10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3"] {
        let ran = lastack(&NETWORKS, &["ping", "-n", "-c", "2", "-i", "0.2", "-W", "3", address]);
        assert!(ran.output.status.success(), "{address}: {ran:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_ping_to_an_absent_host_is_unreachable() {
    require_tool("ping");
    require_namespaces();
    let ran = lastack(&[], &["ping", "-n", "-c", "1", "-W", "3", "10.0.2.99"]);
    let said = String::from_utf8_lossy(&ran.output.stdout).into_owned();
    assert!(said.contains("From 10.0.2.2 icmp_seq=1 Destination Host Unreachable"), "{said}");
    assert_eq!(ran.summary()["echo"]["failed"], 1);
}
