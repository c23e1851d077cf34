//! Datagrams and echo.

use crate::{CLIENT, SERVER, addr, hosts, hosts_with};
use lastack::{EchoError, IcmpError, UdpSocket};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time;

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[tokio::test(start_paused = true)]
async fn datagrams_go_and_come() {
    let (client, server) = hosts();
    let server = UdpSocket::bind(&server, (SERVER, 53)).unwrap();
    let client = UdpSocket::bind(&client, (CLIENT, 0)).unwrap();
    assert_ne!(client.local_addr().unwrap().port(), 0);
    assert_eq!(client.send_to(b"question", (SERVER, 53)).await.unwrap(), 8);
    let mut buf = [0; 64];
    let (len, peer) = server.recv_from(&mut buf).await.unwrap();
    assert_eq!((&buf[..len], peer), (&b"question"[..], client.local_addr().unwrap()));
    server.send_to(b"", peer).await.unwrap();
    server.send_to(b"answer", peer).await.unwrap();
    assert_eq!(client.recv_from(&mut buf).await.unwrap(), (0, addr(SERVER, 53)));
    let datagram = client.recv_datagram().await.unwrap();
    assert_eq!((&datagram.payload[..], datagram.remote), (&b"answer"[..], addr(SERVER, 53)));
}

#[tokio::test(start_paused = true)]
async fn a_connected_socket_receives_from_its_peer_only() {
    let (client_host, server_host) = hosts();
    let server = UdpSocket::bind(&server_host, (SERVER, 53)).unwrap();
    let stranger = UdpSocket::bind(&server_host, (SERVER, 54)).unwrap();
    let client = UdpSocket::bind(&client_host, (CLIENT, 4000)).unwrap();
    assert_eq!(client.send(b"x").await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(client.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    client.connect((SERVER, 53)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr(SERVER, 53));
    client.send(b"question").await.unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).await.unwrap();
    stranger.send_to(b"forged", peer).await.unwrap();
    server.send_to(b"answer", peer).await.unwrap();
    let mut buf = [0; 4];
    assert_eq!(client.recv(&mut buf).await.unwrap(), 4, "what does not fit is cut");
    assert_eq!(&buf, b"answ");
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_refuses_a_connected_socket_once() {
    let (client_host, _server_host) = hosts();
    let client = UdpSocket::bind(&client_host, (CLIENT, 0)).unwrap();
    client.connect((SERVER, 9)).unwrap();
    client.send(b"anybody?").await.unwrap();
    let error = client.recv(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let silence = time::timeout(Duration::from_secs(5), client.recv(&mut [0; 8])).await;
    assert!(silence.is_err(), "the error comes once");
    client.send(b"anybody?").await.unwrap();
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(client.send(b"hello?").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.send(b"anybody?").await.unwrap();
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(client.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    assert!(client.take_error().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unconnected_socket_reports_no_error() {
    let (client_host, _server_host) = hosts();
    let client = UdpSocket::bind(&client_host, (CLIENT, 0)).unwrap();
    client.send_to(b"anybody?", (SERVER, 9)).await.unwrap();
    let silence = time::timeout(Duration::from_secs(5), client.recv_from(&mut [0; 8])).await;
    assert!(silence.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receive_loses_no_datagram() {
    let (client_host, server_host) = hosts();
    let server = UdpSocket::bind(&server_host, (SERVER, 53)).unwrap();
    let client = UdpSocket::bind(&client_host, (CLIENT, 0)).unwrap();
    for n in 0..10_u8 {
        let mut buf = [0; 8];
        let early = time::timeout(Duration::from_millis(1), server.recv_from(&mut buf)).await;
        assert!(early.is_err());
        client.send_to(&[n], (SERVER, 53)).await.unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.try_recv_from(&mut buf).unwrap().0, 1);
        assert_eq!(buf[0], n);
        assert_eq!(server.try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_are_had_once() {
    let (client, _server) = hosts();
    let first = UdpSocket::bind(&client, (CLIENT, 53)).unwrap();
    assert_eq!(UdpSocket::bind(&client, (CLIENT, 53)).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(UdpSocket::bind(&client, (SERVER, 53)).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    drop(first);
    let again = UdpSocket::bind(&client, (CLIENT, 53)).unwrap();
    let mut buf = [0; 8];
    let polled = std::future::poll_fn(|cx| {
        let mut buf = ReadBuf::new(&mut buf);
        std::task::Poll::Ready(again.poll_recv_from(cx, &mut buf).is_pending())
    });
    assert!(polled.await);
}

#[tokio::test(start_paused = true)]
async fn intercepted_datagrams_are_answered_from_where_they_went() {
    let (client_host, server_host) = hosts_with(|config| {
        config.any_address = true;
        config.intercept.udp = true;
    });
    let interceptor = server_host.intercept_udp().unwrap();
    let client = UdpSocket::bind(&client_host, (CLIENT, 0)).unwrap();
    client.connect((ELSEWHERE, 53)).unwrap();
    client.send(b"question").await.unwrap();
    let datagram = interceptor.recv().await.unwrap();
    assert_eq!((datagram.local, &datagram.payload[..]), (addr(ELSEWHERE, 53), &b"question"[..]));
    interceptor.send_from(datagram.local, datagram.remote, b"answer").await.unwrap();
    let mut buf = [0; 64];
    assert_eq!(client.recv(&mut buf).await.unwrap(), 6);

    client.send(b"again").await.unwrap();
    let datagram = interceptor.recv().await.unwrap();
    interceptor.reject(&datagram, IcmpError::port_unreachable(false), None).unwrap();
    assert_eq!(client.recv(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_waits_for_room_in_the_send_queue() {
    let (client_host, server_host) = hosts_with(|config| {
        config.local_prefixes = vec!["10.99.0.0/16".parse().unwrap()];
        config.intercept.udp = true;
        config.datagrams.send_queue = 2;
        config.datagrams.receive_queue = 1000;
    });
    let interceptor = server_host.intercept_udp().unwrap();
    let client = UdpSocket::bind(&client_host, (CLIENT, 5000)).unwrap();
    let (from, to) = (SocketAddr::from(([10, 99, 1, 2], 53)), addr(CLIENT, 5000));
    interceptor.try_send_from(from, to, b"0").unwrap();
    interceptor.try_send_from(from, to, b"1").unwrap();
    assert_eq!(interceptor.try_send_from(from, to, b"2").unwrap_err().kind(), ErrorKind::WouldBlock);
    for n in 2..100 {
        interceptor.send_from(from, to, n.to_string().as_bytes()).await.unwrap();
    }
    let outside = interceptor.send_from(([10, 98, 1, 2], 53).into(), to, b"").await.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::AddrNotAvailable, "not in the prefix");
    for n in 0..100 {
        let mut buf = [0; 8];
        let (len, source) = client.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..len], source), (n.to_string().as_bytes(), from));
    }
}

#[tokio::test(start_paused = true)]
async fn ping_measures_the_way() {
    let (client, _server) = hosts();
    let pong = client.ping(SERVER, b"payload").await.unwrap();
    assert_eq!((&pong.data[..], pong.hop_limit), (&b"payload"[..], 64));
    let pong = client.ping("fd00::2".parse().unwrap(), b"").await.unwrap();
    assert!(pong.data.is_empty() && pong.round_trip < Duration::from_secs(1));
    let pings = (0..20_u8).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.ping(SERVER, &[n]).await.unwrap().data == [n] })
    });
    for ping in pings.collect::<Vec<_>>() {
        assert!(ping.await.unwrap());
    }
    let silence = time::timeout(Duration::from_secs(5), client.ping(ELSEWHERE, b"")).await;
    assert!(silence.is_err());
}

#[tokio::test(start_paused = true)]
async fn intercepted_echo_requests_are_answered_for_others() {
    let (client, server) = hosts_with(|config| {
        config.any_address = true;
        config.intercept.echo = true;
    });
    let interceptor = server.intercept_echo().unwrap();
    tokio::spawn(async move {
        let request = interceptor.recv().await.unwrap();
        interceptor.reply(&request).unwrap();
        let request = interceptor.recv().await.unwrap();
        interceptor.unreachable(&request, IcmpError::host_unreachable(false), Some(SERVER)).unwrap();
    });
    let pong = client.ping(ELSEWHERE, b"over there").await.unwrap();
    assert_eq!(pong.data, b"over there");
    let error = client.ping(ELSEWHERE, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    let inside = error.get_ref().and_then(|e| e.downcast_ref::<EchoError>());
    assert!(matches!(inside, Some(EchoError::Unreachable { from: SERVER, .. })), "{inside:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_blocks_and_a_dropped_send_sends_nothing() {
    let (client_host, server_host) = hosts();
    let server = UdpSocket::bind(&server_host, (SERVER, 53)).unwrap();
    let client = UdpSocket::bind(&client_host, (CLIENT, 0)).unwrap();
    let mut sent = 0_u32;
    let full = loop {
        match client.try_send_to(&sent.to_be_bytes(), (SERVER, 53)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    {
        let mut waiting = std::pin::pin!(client.send_to(b"never", (SERVER, 53)));
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(poll.await);
    }
    assert_eq!(client.send_to(b"last", (SERVER, 53)).await.unwrap(), 4);
    for n in 0..sent {
        assert_eq!(server.recv_datagram().await.unwrap().payload, n.to_be_bytes());
    }
    assert_eq!(server.recv_datagram().await.unwrap().payload, b"last");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_ping_is_removed_and_a_dropped_recv_loses_no_request() {
    let (client, server) = hosts_with(|config| {
        config.any_address = true;
        config.intercept.echo = true;
        config.intercept.tcp = true;
    });
    let echo = server.intercept_echo().unwrap();
    let tcp = server.intercept_tcp().unwrap();
    assert!(time::timeout(Duration::from_millis(1), echo.recv()).await.is_err());
    assert!(time::timeout(Duration::from_millis(1), tcp.recv()).await.is_err());
    assert!(time::timeout(Duration::from_millis(1), client.ping(ELSEWHERE, b"one")).await.is_err());
    let late = echo.recv().await.unwrap();
    echo.reply(&late).unwrap();
    let (pong, connected) = tokio::join!(client.ping(ELSEWHERE, b"two"), async {
        let request = echo.recv().await.unwrap();
        echo.reply(&request).unwrap();
        tokio::join!(lastack::TcpStream::connect(&client, (ELSEWHERE, 80)), async {
            tcp.recv().await.unwrap().accept().await
        })
    });
    assert_eq!(pong.unwrap().data, b"two");
    assert!(connected.0.is_ok() && connected.1.is_ok());
}
