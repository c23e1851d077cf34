//! Connections answered by the embedder.

use crate::{CLIENT, SERVER, addr, hosts, hosts_with};
use lastack::{Config, EndError, EndedBy, Host, IcmpError, IpFields, TcpListener, TcpStream};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A client, and a host that accepts packets to any address.
fn world() -> (Host, Host) {
    hosts_with(everything)
}

fn everything(config: &mut Config) {
    config.any_address = true;
    config.intercept.tcp = true;
}

#[tokio::test(start_paused = true)]
async fn an_accepted_one_has_the_requested_address() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    let connect = tokio::spawn({
        let client = client.clone();
        async move { TcpStream::connect(&client, (ELSEWHERE, 443)).await }
    });
    let intercepted = interceptor.recv().await.unwrap();
    assert_eq!((intercepted.local_addr(), intercepted.peer_addr().ip()), (addr(ELSEWHERE, 443), CLIENT));
    time::sleep(Duration::from_secs(2)).await;
    assert!(!connect.is_finished(), "nothing is answered before the embedder answers");
    let mut far = intercepted.accept().await.unwrap();
    let mut near = connect.await.unwrap().unwrap();
    near.write_all(b"hello").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), far.local_addr().unwrap()), ("hello", addr(ELSEWHERE, 443)));
}

/// S107.
#[tokio::test(start_paused = true)]
async fn refused_and_dropped_are_refused() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    tokio::spawn(async move {
        interceptor.recv().await.unwrap().refuse();
        drop(interceptor.recv().await.unwrap());
    });
    for _ in 0..2 {
        let error = TcpStream::connect(&client, (ELSEWHERE, 443)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(EndError::find(&error).unwrap().by, EndedBy::Peer);
    }
    // The interceptor is gone: refused by its absence.
    let error = TcpStream::connect(&client, (ELSEWHERE, 443)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// S107.
#[tokio::test(start_paused = true)]
async fn an_icmp_error_keeps_its_code_and_source() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    let router = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    tokio::spawn(async move {
        interceptor.recv().await.unwrap().unreachable(IcmpError::net_unreachable(false), Some(router));
        interceptor.recv().await.unwrap().unreachable(IcmpError::host_unreachable(false), None);
    });
    for (kind, from) in [(ErrorKind::NetworkUnreachable, router), (ErrorKind::HostUnreachable, ELSEWHERE)] {
        let error = TcpStream::connect(&client, (ELSEWHERE, 443)).await.unwrap_err();
        assert_eq!((error.kind(), EndError::find(&error).unwrap().by), (kind, EndedBy::Network(from)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_syn_gets_no_answer() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    tokio::spawn(async move {
        while let Ok(intercepted) = interceptor.recv().await {
            intercepted.ignore();
        }
    });
    let attempt = TcpStream::connect(&client, (ELSEWHERE, 443));
    assert!(time::timeout(Duration::from_secs(10), attempt).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_retransmitted_syn_has_the_number_of_the_first() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    let attempt = tokio::spawn(async move { TcpStream::connect(&client, (ELSEWHERE, 443)).await });
    let first = interceptor.recv().await.unwrap();
    let (number, from) = (first.initial_number(), first.peer_addr());
    first.ignore();
    let again = interceptor.recv().await.unwrap();
    assert_eq!((again.initial_number(), again.peer_addr()), (number, from));
    let accepted = again.accept().await.unwrap();
    assert!(number.is_some() && accepted.initial_numbers().unwrap().peers == number);
    let _connected = attempt.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn listeners_have_precedence_and_first_syns_wait_for_the_interceptor() {
    let (client, server) = world();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(&client, (SERVER, 80)), listener.accept());
    assert!(near.is_ok() && far.is_ok());

    let early = tokio::spawn({
        let client = client.clone();
        async move { TcpStream::connect(&client, (ELSEWHERE, 443)).await }
    });
    time::sleep(Duration::from_millis(10)).await;
    let interceptor = server.intercept_tcp().unwrap();
    let _far = interceptor.recv().await.unwrap().accept().await.unwrap();
    early.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn there_is_one_interceptor_and_it_must_be_enabled() {
    let (_client, plain) = hosts();
    let error = plain.intercept_tcp().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("intercept.tcp"), "{error}");
    let (_client, server) = world();
    let first = server.intercept_tcp().unwrap();
    assert_eq!(server.intercept_tcp().unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(first);
    let _second = server.intercept_tcp().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_gives_up_is_detected() {
    let (client, server) = world();
    let interceptor = server.intercept_tcp().unwrap();
    let connect = tokio::spawn({
        let client = client.clone();
        async move { TcpStream::connect(&client, (ELSEWHERE, 443)).await }
    });
    let intercepted = interceptor.recv().await.unwrap();
    connect.abort();
    let _gone = connect.await;
    // The SYN|ACK finds no connection: the reset that answers it ends the handshake.
    let error = intercepted.accept().await.unwrap_err();
    assert_eq!(EndError::find(&error).unwrap().by, EndedBy::Peer);
}

/// GRE, which the stack does not implement.
const GRE: u8 = 47;
const PLAIN: IpFields = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };

fn other_protocols(config: &mut Config) {
    config.any_address = true;
    config.intercept.other = true;
}

/// A client that sends packets of other protocols, and a host that intercepts those to any address.
fn raw_world() -> (Host, Host) {
    let (a, b) = lastack::link::pipe(lastack::link::Capabilities::new(1500));
    let [mut client, mut server] = [CLIENT, SERVER].map(|address| Config::new([address]));
    client.intercept.other = true;
    other_protocols(&mut server);
    (Host::spawn(client, a), Host::spawn(server, b))
}

#[tokio::test(start_paused = true)]
async fn packets_of_other_protocols_are_received_answered_and_rejected() {
    let (client, server) = raw_world();
    let (near, far) = (client.intercept_other().unwrap(), server.intercept_other().unwrap());
    near.send(CLIENT, ELSEWHERE, GRE, &[7; 5000], PLAIN).await.unwrap();
    let packet = far.recv().await.unwrap();
    assert_eq!((packet.local, packet.remote, packet.protocol), (ELSEWHERE, CLIENT, GRE));
    assert_eq!(packet.payload, [7; 5000], "its fragments were reassembled");
    let ip = IpFields { hop_limit: 5, traffic_class: 0x20, dont_fragment: true };
    far.send(packet.local, packet.remote, GRE, b"answer", ip).await.unwrap();
    let answer = near.recv().await.unwrap();
    assert_eq!((answer.remote, &answer.payload[..], answer.ip), (ELSEWHERE, &b"answer"[..], ip));
    far.reject(&packet, IcmpError::host_unreachable(false), Some(SERVER)).unwrap();
    let wrong = far.reject(&packet, IcmpError::host_unreachable(true), None).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_interceptor_of_other_protocols_and_without_it_they_are_unreachable() {
    let (client, server) = raw_world();
    assert_eq!(hosts().0.intercept_other().unwrap_err().kind(), ErrorKind::InvalidInput);
    let far = server.intercept_other().unwrap();
    assert_eq!(server.intercept_other().unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(far);
    let near = client.intercept_other().unwrap();
    near.send(CLIENT, ELSEWHERE, GRE, b"12345678", PLAIN).await.unwrap();
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(server.counters().icmp_out_errors, 1);
    let far = server.intercept_other().unwrap();
    near.send(CLIENT, ELSEWHERE, GRE, b"next", PLAIN).await.unwrap();
    assert_eq!(far.recv().await.unwrap().payload, b"next");
}

#[tokio::test(start_paused = true)]
async fn a_packet_waits_for_room_in_the_send_queue() {
    let (client, _server) = raw_world();
    let near = client.intercept_other().unwrap();
    let large = vec![1; 1400];
    let mut sent = 0;
    let full = loop {
        match near.try_send(CLIENT, ELSEWHERE, GRE, &large, PLAIN) {
            Ok(()) => sent += 1,
            Err(full) => break full,
        }
    };
    assert_eq!((full.kind(), lastack::errno(&full)), (ErrorKind::WouldBlock, Some(11)));
    near.send(CLIENT, ELSEWHERE, GRE, b"last", PLAIN).await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.counters().ip_out_requests, sent + 1);
    let refused = near.send(SERVER, ELSEWHERE, GRE, b"1", PLAIN).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
    assert!(refused.get_ref().is_some_and(|inner| inner.is::<lastack::RawError>()));
}
