//! Which addresses a host can be at, and which it never speaks to: nothing may leave for the host itself, in
//! whatever protocol.

use crate::icmp::EchoError;
use crate::tcp::tests::peer::Peer;
use crate::udp::UdpError;
use crate::{BindError, ConnectError};
use core::net::{IpAddr, SocketAddr};

fn at(addr: &str, port: u16) -> SocketAddr {
    SocketAddr::new(addr.parse().unwrap(), port)
}

fn remote(p: &Peer) -> SocketAddr {
    SocketAddr::new(p.them, 80)
}

/// RFC 1122 section 3.2.1.3: multicast, broadcast, class E, loopback and the unspecified address are no host's.
#[test]
fn with_any_address_a_non_unicast_address_is_not_local() {
    for local in [
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "240.0.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "ff02::1",
        "ff0e::9",
        "::1",
        "::10.0.0.1",
    ] {
        let v6 = local.contains(':');
        let mut p = Peer::with(v6, |config| config.any_address = true);
        let to = remote(&p);
        let not_ours = Err(ConnectError::Bind(BindError::NotOurs));
        assert_eq!(p.stack.tcp_connect(Some(at(local, 1000)), to), not_ours, "{local}");
        assert_eq!(p.stack.tcp_listen(at(local, 81), 1), Err(BindError::NotOurs), "{local}");
        assert_eq!(p.stack.udp_bind(at(local, 82)), Err(BindError::NotOurs), "{local}");
        let asked = p.stack.echo_send(Some(local.parse().unwrap()), to.ip(), 1, 1, b"");
        assert_eq!(asked, Err(EchoError::NotOurs), "{local}");
        assert_eq!(p.out(), "", "{local}");
    }
}

/// RFC 1122 section 3.2.1.3 (g), and no loopback: nothing is sent to the host itself, and each protocol returns an error.
#[test]
fn nothing_leaves_for_the_host_itself() {
    for any_address in [false, true] {
        for to in ["127.0.0.1", "127.255.255.254", "::1", "own"] {
            let v6 = to == "::1";
            for v6 in if to == "own" { [false, true] } else { [v6; 2] } {
                let mut p = Peer::with(v6, |config| config.any_address = any_address);
                let to: IpAddr = if to == "own" { p.us } else { to.parse().unwrap() };
                if any_address && to == p.us {
                    continue; // it may be at the far end of one of all addresses
                }
                let connected = p.stack.tcp_connect(None, SocketAddr::new(to, 80));
                assert_eq!(connected, Err(ConnectError::OwnAddress), "{to}");
                let id = p.stack.udp_bind(SocketAddr::new(p.us, 9)).unwrap();
                let mut udp = p.stack.udp(id).unwrap();
                assert_eq!(udp.send(b"1", Some(SocketAddr::new(to, 80))), Err(UdpError::OwnAddress), "{to}");
                assert_eq!(udp.connect(SocketAddr::new(to, 80)), Err(UdpError::OwnAddress), "{to}");
                assert_eq!(p.stack.echo_send(None, to, 1, 1, b""), Err(EchoError::OwnAddress), "{to}");
                assert_eq!(p.out(), "", "{to}");
            }
        }
    }
}

/// A host with a loopback address on a loopback link sends to other loopback addresses only.
#[test]
fn a_loopback_link_is_a_link() {
    let mut p = Peer::with(false, |config| config.addresses = alloc::vec!["127.0.0.1".parse().unwrap()]);
    assert!(p.stack.tcp_connect(None, at("127.0.0.2", 80)).is_ok());
    assert_eq!(p.stack.tcp_connect(None, at("127.0.0.1", 80)), Err(ConnectError::OwnAddress));
    let to = remote(&p);
    assert_eq!(p.stack.tcp_connect(None, to), Err(ConnectError::NoAddress));
    let id = p.stack.udp_bind(at("127.0.0.1", 9)).unwrap();
    assert_eq!(p.stack.udp(id).unwrap().send(b"1", Some(to)), Err(UdpError::NoAddress));
    assert_eq!(p.stack.udp(id).unwrap().send(b"1", Some(at("127.0.0.2", 9))), Ok(()));

    // Of several addresses, that is chosen which can speak to the remote.
    let both = ["127.0.0.1", "192.0.2.1"].map(|addr| addr.parse().unwrap());
    let mut p = Peer::with(false, |config| config.addresses = both.to_vec());
    for (to, from) in [("192.0.2.9", both[1]), ("127.0.0.9", both[0])] {
        let id = p.stack.tcp_connect(None, at(to, 80)).unwrap();
        assert_eq!(p.stack.tcp(id).unwrap().local().ip(), from);
    }
}

/// Who does not see our echo requests cannot guess their names; and no two have the same.
#[test]
fn the_name_of_an_echo_request_cannot_be_guessed() {
    let mut p = Peer::new(false);
    let names: alloc::vec::Vec<_> = (0..1000).map(|_| p.stack.echo_name()).collect();
    let distinct: alloc::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), 1000);
    let word = |name: (u16, u16)| u32::from(name.0) << 16 | u32::from(name.1);
    let steps = names.windows(2).map(|two| word(two[1]).wrapping_sub(word(two[0])));
    let steps: alloc::collections::BTreeSet<_> = steps.collect();
    assert!(steps.len() > 990, "{}", steps.len());
    assert!(names.iter().filter(|name| name.0 == names[0].0).count() < 10);
}
