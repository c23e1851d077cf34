//! The memory of a connection that has ended is used again, and nothing of what was in it stays.

use crate::tcp::connection::Connection;
use crate::tcp::handshake::Handshake;
use crate::tcp::table::Slot;
use crate::tcp::tests::pair::{PORT, Pair};
use crate::{ConnId, FourTuple, Keepalive, MtuProbing};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;

/// A pair whose spare memory has seen loss, SACK, ECN, pacing, probes of the path MTU, options and an ICMP error.
fn worn(v6: bool) -> Pair {
    let mut pair = Pair::with(v6, |config| {
        config.tcp.pacing = true;
        config.tcp.ecn = crate::Ecn::Request;
        config.tcp.mtu_probing = MtuProbing::Always;
        config.tcp.advertised_user_timeout = Some(Duration::from_secs(100));
    });
    pair.delay = Duration::from_millis(5);
    pair.lose = |n| n % 23 == 22;
    let listener = pair.listen(8);
    let to = SocketAddr::new(pair.b.addr, PORT);
    let a = pair.a.stack.tcp_connect(None, to).unwrap();
    pair.run(Duration::from_secs(20));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    let mut tcp = pair.a.tcp(a);
    tcp.set_keepalive(Some(Keepalive::default()));
    tcp.set_linger(Some(Duration::from_secs(1)));
    tcp.set_user_timeout(Some(Duration::from_secs(1000)));
    tcp.set_hop_limit(Some(3));
    tcp.set_cork(true);
    let data: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    assert!(pair.transfer(a, b, &data) == data && pair.transfer(b, a, &data) == data);
    pair.a.tcp(a).abort();
    pair.b.tcp(b).abort();
    pair.run(Duration::from_secs(100));
    pair.a.tcp(a).close();
    pair.b.tcp(b).close();
    pair.b.stack.tcp_unlisten(listener);
    (pair.lose, pair.delay) = (|_| false, Duration::ZERO);
    assert_eq!(pair.a.stack.connections() + pair.b.stack.connections(), 0);
    pair
}

fn flow(pair: &Pair) -> FourTuple {
    FourTuple { local: SocketAddr::new(pair.a.addr, 1234), remote: SocketAddr::new(pair.b.addr, PORT) }
}

#[test]
fn a_reused_connection_begins_like_a_new_one() {
    for v6 in [false, true] {
        let mut pair = worn(v6);
        let (now, flow) = (pair.now, flow(&pair));
        let stack = &mut pair.a.stack;
        let (mut used, mut unused) = (stack.tcp.spare.connection(), Connection::blank());
        assert_ne!(format!("{used:?}"), format!("{unused:?}"), "it was used");
        for connection in [&mut *used, &mut unused] {
            let mut handshake = Handshake::blank();
            handshake.connect(&stack.shared, now, ConnId::default(), &flow);
            handshake.establish(&stack.shared, now, connection);
        }
        assert_eq!(format!("{used:#?}"), format!("{unused:#?}"));
    }
}

#[test]
fn a_reused_handshake_begins_like_a_new_one() {
    for v6 in [false, true] {
        let mut pair = worn(v6);
        let (now, flow) = (pair.now, flow(&pair));
        let stack = &mut pair.a.stack;
        let (mut used, mut unused) = (stack.tcp.spare.handshake(), Handshake::blank());
        assert_ne!(format!("{used:?}"), format!("{unused:?}"), "it was used");
        for handshake in [&mut *used, &mut unused] {
            handshake.connect(&stack.shared, now, ConnId::default(), &flow);
        }
        assert_eq!(format!("{used:#?}"), format!("{unused:#?}"));
    }
}

/// A parked connection is restored in used memory as in unused memory.
#[test]
fn a_connection_is_unparked_into_used_memory() {
    for v6 in [false, true] {
        let mut pair = worn(v6);
        let flow = flow(&pair);
        let (a, b) = pair.connect();
        let data = [7; 5000];
        assert_eq!(pair.transfer(a, b, &data), data);
        pair.run(Duration::from_secs(100));
        let later = pair.now + Duration::from_secs(1000);
        pair.a.stack.tcp.park_some(&pair.a.stack.shared, later);
        let tcp = &mut pair.a.stack.tcp;
        let Slot::Parked(parked) = &tcp.entries[a].slot else { panic!("it is parked") };
        let (mut used, mut unused) = (tcp.spare.connection(), Connection::blank());
        used.soft_error = Some(Box::new((IcmpError { v6, kind: 1, code: 0, info: 0 }, flow.remote.ip())));
        for connection in [&mut *used, &mut unused] {
            parked.unpark(a, connection);
        }
        assert_eq!(format!("{used:#?}"), format!("{unused:#?}"));
    }
}

/// A connection that was never used is parked, in used memory as in unused memory.
#[test]
fn an_unused_connection_in_used_memory_is_parked() {
    let mut pair = Pair::new(false);
    let listener = pair.listen(8);
    let (a, b) = pair.connect_to(listener);
    assert_eq!(pair.transfer(a, b, &[7; 5000]), [7; 5000]);
    pair.a.tcp(a).close();
    pair.b.tcp(b).close();
    pair.run(Duration::from_secs(100));
    assert!(!pair.a.stack.tcp.spare.connections.is_empty());
    let (a, _) = pair.connect_to(listener);
    pair.run(Duration::from_secs(100));
    let later = pair.now + Duration::from_secs(1000);
    pair.a.stack.tcp.park_some(&pair.a.stack.shared, later);
    assert!(matches!(pair.a.stack.tcp.entries[a].slot, Slot::Parked(_)));
}
