//! Connections answered by the embedder.

use crate::{CLIENT, SERVER, addr, hosts, hosts_with};
use lastack::{Config, EndError, EndedBy, Host, IcmpError, TcpListener, TcpStream};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A client, and a host that stands for the rest of the world.
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
    // The SYN|ACK meets nobody: the reset that answers it ends the handshake.
    let error = intercepted.accept().await.unwrap_err();
    assert_eq!(EndError::find(&error).unwrap().by, EndedBy::Peer);
}
