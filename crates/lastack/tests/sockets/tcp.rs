//! Connections that carry data.

use crate::{CLIENT, SERVER, addr, connection, hosts, hosts_with};
use lastack::{Config, Host, Keepalive, TcpListener, TcpState, TcpStream, link};
use std::io::{ErrorKind, IoSlice};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

#[tokio::test(start_paused = true)]
async fn an_echo_comes_back() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 7)).unwrap();
    tokio::spawn(async move {
        let (mut stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), CLIENT);
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let mut stream = TcpStream::connect(&client, (SERVER, 7)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr(SERVER, 7));
    assert_eq!(stream.local_addr().unwrap().ip(), CLIENT);
    stream.write_all(b"to be returned").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "to be returned");
}

#[tokio::test(start_paused = true)]
async fn ipv6_is_the_same() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, "[::]:7".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    let there: std::net::SocketAddr = "[fd00::2]:7".parse().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(&client, there), listener.accept());
    let (mut near, (mut far, peer)) = (near.unwrap(), far.unwrap());
    assert_eq!(peer, near.local_addr().unwrap());
    assert_eq!(far.local_addr().unwrap(), there);
    far.write_all(b"six").await.unwrap();
    drop(far);
    let mut text = Vec::new();
    near.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"six");
}

#[tokio::test(start_paused = true)]
async fn megabytes_pass_in_both_directions_at_once() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let text: Vec<u8> = (0..5_000_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let exchange = |stream: TcpStream, text: Vec<u8>| async move {
        let (mut reader, mut writer) = stream.into_split();
        let send = tokio::spawn(async move { writer.write_all(&text).await });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        send.await.unwrap().unwrap();
        got
    };
    let (here, there) = tokio::join!(exchange(near, text.clone()), exchange(far, text.clone()));
    assert!(here == text && there == text);
}

#[tokio::test(start_paused = true)]
async fn one_direction_may_be_closed_for_hours() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(b"the question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut question = String::new();
    far.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "the question");
    time::sleep(Duration::from_secs(5 * 3600)).await;
    assert_eq!((near.state(), far.state()), (TcpState::FinWait2, TcpState::CloseWait));
    far.write_all(b"the answer").await.unwrap();
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "the answer");
    assert_eq!(near.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// S70: the other half still holds the stream
#[tokio::test(start_paused = true)]
async fn a_dropped_write_half_ends_the_peers_stream() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let (mut reader, mut writer) = near.into_split();
    writer.write_all(b"last words").await.unwrap();
    drop(writer);
    let (mut far_reader, far_writer) = far.into_split();
    let mut text = String::new();
    far_reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
    let mut far = far_reader.reunite(far_writer).unwrap();
    far.write_all(b"still open").await.unwrap();
    far.shutdown().await.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still open");
}

#[tokio::test(start_paused = true)]
async fn halves_of_two_streams_do_not_fit() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let (read, _write) = near.into_split();
    let (_read, write) = far.into_split();
    let error = read.reunite(write).unwrap_err();
    assert!(error.to_string().contains("not from the same stream"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn slices_are_written_in_order_and_data_is_read_in_place() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let slices = [&b"one "[..], b"", b"two ", b"three"].map(IoSlice::new);
    assert_eq!(near.write_vectored(&slices).await.unwrap(), 13);
    near.shutdown().await.unwrap();
    time::sleep(Duration::from_millis(1)).await;

    let mut peeked = [0; 5];
    assert_eq!(far.peek(&mut peeked).await.unwrap(), 5);
    assert_eq!(&peeked, b"one t");
    let mut seen = Vec::new();
    let taken = far.read_with(|[a, b]| {
        seen.extend_from_slice(a);
        seen.extend_from_slice(b);
        4
    });
    assert_eq!(taken.await.unwrap(), Some(4));
    assert_eq!(seen, b"one two three");
    let mut rest = [0; 9];
    far.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"two three");
    assert_eq!(far.read_with(|_| unreachable!("there is nothing to lend")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_must_wait_would_block() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    assert_eq!(far.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut written = 0;
    let full = loop {
        match near.try_write(&[7; 10_000]) {
            Ok(n) => written += n,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    far.readable().await.unwrap();
    let mut buf = vec![0; 65_536];
    let mut read = 0;
    while read < written {
        far.readable().await.unwrap();
        match far.try_read(&mut buf) {
            Ok(n) => read += n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(read, written);
    near.writable().await.unwrap();
    near.drained().await.unwrap();
    assert_eq!((near.info().unwrap().unacked, near.info().unwrap().unsent), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn three_hundred_connections_at_once() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 7)).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            });
        }
    });
    let clients = (0..300_u32).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(&client, (SERVER, 7)).await.unwrap();
            let text = i.to_be_bytes().repeat(1000);
            stream.write_all(&text).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            back == text
        })
    });
    for done in clients.collect::<Vec<_>>() {
        assert!(done.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_lets_connections_wait() {
    let (client, server) = hosts();
    let listener = TcpListener::bind_with_backlog(&server, (SERVER, 7), 2).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        // As on Linux, one more than the backlog.
        waiting.push(TcpStream::connect(&client, (SERVER, 7)).await.unwrap());
        time::sleep(Duration::from_millis(10)).await;
    }
    let late = tokio::spawn(async move { TcpStream::connect(&client, (SERVER, 7)).await });
    time::sleep(Duration::from_millis(500)).await;
    assert!(!late.is_finished(), "more than the backlog were let in");
    for stream in &waiting {
        assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
    }
    let late = late.await.unwrap().unwrap();
    assert_eq!(listener.accept().await.unwrap().1, late.local_addr().unwrap());
}

#[tokio::test(start_paused = true)]
async fn options_are_kept() {
    let (client, server) = hosts_with(|config| config.tcp.nodelay = true);
    let (near, far, _listener) = connection(&client, &server).await;
    assert_eq!((near.nodelay().unwrap(), far.nodelay().unwrap()), (false, true));
    near.set_nodelay(true).unwrap();
    let keepalive = Keepalive { idle: Duration::from_secs(5), ..Keepalive::default() };
    near.set_keepalive(Some(keepalive)).unwrap();
    near.set_user_timeout(Some(Duration::from_secs(9))).unwrap();
    near.set_linger(Some(Duration::from_secs(3))).unwrap();
    near.set_dscp(46).unwrap();
    let nothing = [
        Keepalive { count: 0, ..keepalive },
        Keepalive { idle: Duration::ZERO, ..keepalive },
        Keepalive { interval: Duration::ZERO, ..keepalive },
    ];
    for nothing in nothing {
        assert_eq!(near.set_keepalive(Some(nothing)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(near.set_dscp(64).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!((near.dscp().unwrap(), far.dscp().unwrap()), (46, 0));
    assert!(near.nodelay().unwrap());
    assert_eq!(near.keepalive().unwrap(), Some(keepalive));
    assert_eq!(near.user_timeout().unwrap(), Some(Duration::from_secs(9)));
    assert_eq!(near.linger().unwrap(), Some(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn addresses_are_had_once_and_only_if_they_are_ours() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    assert_eq!(TcpListener::bind(&server, (SERVER, 80)).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(TcpListener::bind(&server, (CLIENT, 80)).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    drop(listener);
    let _again = TcpListener::bind(&server, (SERVER, 80)).unwrap();

    let stream = TcpStream::connect_from(&client, (CLIENT, 4000), (SERVER, 80)).await.unwrap();
    assert_eq!(stream.local_addr().unwrap(), addr(CLIENT, 4000));
    let error = TcpStream::connect_from(&client, (CLIENT, 4000), (SERVER, 80)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let error = TcpStream::connect_from(&client, (SERVER, 0), (SERVER, 80)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    let error = TcpStream::connect(&client, ([255, 255, 255, 255], 80)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let error = TcpStream::connect(&client, (SERVER, 0)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("port is 0")), (ErrorKind::InvalidInput, true));
    let error = TcpStream::connect(&client, (CLIENT, 80)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("loopback")), (ErrorKind::Unsupported, true));
}

/// As on Linux, where a socket of IPv6 reaches an IPv4 host so.
#[tokio::test(start_paused = true)]
async fn an_ipv4_address_in_the_form_of_ipv6_is_that_ipv4_address() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, addr("::ffff:10.0.0.2".parse().unwrap(), 80)).unwrap();
    assert_eq!(listener.local_addr().unwrap(), addr(SERVER, 80));
    let stream = TcpStream::connect(&client, addr("::ffff:10.0.0.2".parse().unwrap(), 80)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr(SERVER, 80));
}

#[tokio::test(start_paused = true)]
async fn a_link_too_small_for_a_family_is_named() {
    let (a, _b) = link::pipe(link::Capabilities::new(1000));
    let host = Host::spawn(Config::new([CLIENT, "fd00::1".parse().unwrap()]), a);
    let small = |error: std::io::Error| (error.kind(), error.to_string().contains("MTU"));
    let expected = (ErrorKind::AddrNotAvailable, true);
    let remote = addr("fd00::2".parse().unwrap(), 80);
    assert_eq!(small(TcpStream::connect(&host, remote).await.unwrap_err()), expected);
    let local = addr("fd00::1".parse().unwrap(), 80);
    assert_eq!(small(TcpListener::bind(&host, local).unwrap_err()), expected);
    assert!(TcpListener::bind(&host, (CLIENT, 80)).is_ok());
}
