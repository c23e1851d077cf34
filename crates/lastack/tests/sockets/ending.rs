//! How connections end, as their users see it.

use crate::{SERVER, addr, connection, hosts, hosts_with};
use lastack::{
    Cause, Config, EndError, EndedBy, FourTuple, Host, Keepalive, LikelyCause, Origin, TcpListener, TcpState,
    TcpStream, TimeLimit, link,
};
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{self, Instant};

/// As on Linux: what `getsockopt(TCP_INFO)` says of a socket that is still open.
#[tokio::test(start_paused = true)]
async fn the_numbers_stay_when_the_connection_is_over() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(b"four").await.unwrap();
    far.read_exact(&mut [0; 4]).await.unwrap();
    near.drained().await.unwrap();
    far.write_all(b"unread").await.unwrap();
    far.drained().await.unwrap();
    let before = near.info().unwrap();
    assert_eq!((before.bytes_sent, before.bytes_received, before.unread), (4, 6, 6));
    let flow = FourTuple { local: near.local_addr().unwrap(), remote: near.peer_addr().unwrap() };
    assert!(client.kill(flow));
    assert_eq!((near.state(), near.info().unwrap().state), (TcpState::Closed, TcpState::Closed), "at once");
    assert!(client.connections().is_empty());
    time::sleep(Duration::from_secs(1)).await;
    let (near, far) = (near.info().unwrap(), far.info().unwrap());
    assert_eq!((near.state, far.state), (TcpState::Closed, TcpState::Closed));
    assert_eq!(near.segments_out, before.segments_out + 1, "the reset");
    assert_eq!((near.bytes_sent, near.bytes_received, near.unread), (4, 6, 6));
    assert_eq!((far.bytes_sent, far.bytes_received), (6, 4));
    assert_eq!((near.srtt, near.cwnd, near.mss), (before.srtt, before.cwnd, before.mss));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_its_sender_and_reason() {
    let (client, _server) = hosts();
    let error = TcpStream::connect(&client, (SERVER, 1935)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let held = error.get_ref().and_then(|held| held.downcast_ref::<EndError>()).unwrap();
    let end = held.end();
    assert_eq!((end.cause, end.by, end.state), (Cause::Refused, EndedBy::Peer, TcpState::SynSent));
    assert_eq!(end.inferred, Some(LikelyCause::NoListener));
    assert!(error.to_string().starts_with("connection refused: "), "{error}");

    let wrapped: Box<dyn Error> = std::io::Error::other(error).into();
    assert_eq!(EndError::find(&*wrapped).unwrap().cause, Cause::Refused);
}

#[tokio::test(start_paused = true)]
async fn silence_times_out() {
    let (a, _nobody) = link::pipe(link::Capabilities::new(1500));
    let client = Host::spawn(Config::new([crate::CLIENT]), a);
    let start = Instant::now();
    let error = TcpStream::connect(&client, (SERVER, 80)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(EndError::find(&error).unwrap().cause, Cause::TimedOut(TimeLimit::Handshake));
    assert!(start.elapsed() > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn unread_data_resets_the_peer() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    near.write_all(b"never read").await.unwrap();
    near.drained().await.unwrap();
    drop(far);
    let error = near.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let end = EndError::find(&error).unwrap();
    assert_eq!((end.by, end.inferred), (EndedBy::Peer, Some(LikelyCause::AbortedByPeer)));
    assert_eq!(near.read(&mut [0; 16]).await.unwrap(), 0, "the error comes once");
    assert_eq!(near.end().unwrap().cause, Cause::Reset, "the reason stays");
    let error = near.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(EndError::find(&error).unwrap().cause, Cause::Reset);
}

#[tokio::test(start_paused = true)]
async fn linger_zero_delivers_then_resets_once() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    far.write_all(b"hello").await.unwrap();
    far.drained().await.unwrap();
    far.set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    time::sleep(Duration::from_millis(1)).await;
    let mut buf = [0; 16];
    assert_eq!(near.read(&mut buf).await.unwrap(), 5);
    assert_eq!(&buf[..5], b"hello");
    assert_eq!(near.read(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.read(&mut buf).await.unwrap(), 0);
    assert!(near.take_error().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn looking_does_not_take_the_error_and_take_error_does() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    far.abort();
    near.readable().await.unwrap();
    near.writable().await.unwrap();
    let error = near.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(EndError::find(&error).is_some());
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(far.end().unwrap().by, EndedBy::Application);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_is_one_on_both_sides() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    assert!(near.end().is_none());
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    far.shutdown().await.unwrap();
    let (here, there) = tokio::join!(near.closed(), far.closed());
    let (here, there) = (here.unwrap(), there.unwrap());
    assert_eq!((here.cause, there.cause), (Cause::Orderly, Cause::Orderly));
    assert!(here.lost.is_nothing() && there.lost.is_nothing());
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_listener_resets_connections_not_accepted() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let mut stream = TcpStream::connect(&client, (SERVER, 80)).await.unwrap();
    time::sleep(Duration::from_millis(10)).await;
    drop(listener);
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_reset_while_waiting_to_be_accepted_is_for_the_first_read() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let mut stream = TcpStream::connect(&client, (SERVER, 80)).await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.drained().await.unwrap();
    stream.abort();
    time::sleep(Duration::from_millis(10)).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut buf = [0; 8];
    assert_eq!(accepted.read(&mut buf).await.unwrap(), 3);
    assert_eq!(accepted.read(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_power_is_found_by_keep_alive() {
    let (a, b) = link::pipe(link::Capabilities::new(1500));
    let client = Host::spawn(Config::new([crate::CLIENT]), a);
    let (server, driver) = Host::new(Config::new([SERVER]), b);
    let driver = tokio::spawn(driver);
    let (mut near, _far, _listener) = connection(&client, &server).await;
    let keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(5), count: 3 };
    near.set_keepalive(Some(keepalive)).unwrap();
    driver.abort();
    let start = Instant::now();
    let error = near.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(EndError::find(&error).unwrap().cause, Cause::TimedOut(TimeLimit::KeepAlive));
    let passed = start.elapsed();
    assert!(passed >= Duration::from_secs(74) && passed < Duration::from_secs(80), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_lingers_until_all_is_acknowledged() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let start = Instant::now();
    near.write_all(&[1; 100_000]).await.unwrap();
    near.set_linger(Some(Duration::from_secs(100))).unwrap();
    near.close().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "waited {:?}", start.elapsed());
    let mut text = Vec::new();
    far.read_to_end(&mut text).await.unwrap();
    assert_eq!(text.len(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn closing_lingers_no_longer_than_so_linger() {
    let (client, server) = hosts_with(|config| config.tcp.receive_buffer = 10_000);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(&[1; 100_000]).await.unwrap();
    near.set_linger(Some(Duration::from_secs(3))).unwrap();
    let start = Instant::now();
    near.close().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    // The rest is still delivered, by the orphan.
    let mut text = Vec::new();
    far.read_to_end(&mut text).await.unwrap();
    assert_eq!(text.len(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn closing_with_unread_data_does_not_linger() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    near.write_all(b"unread").await.unwrap();
    near.drained().await.unwrap();
    far.set_linger(Some(Duration::from_secs(60))).unwrap();
    let start = Instant::now();
    far.close().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(near.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_host_is_reported() {
    let (client, server) = hosts();
    let (mut here, mut there) = (client.ended(), server.ended());
    assert!(here.try_recv().is_none());
    let refused = TcpStream::connect(&client, (SERVER, 1)).await;
    assert!(refused.is_err());
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(b"12345").await.unwrap();
    near.shutdown().await.unwrap();
    far.read_to_end(&mut Vec::new()).await.unwrap();
    let flow = (near.local_addr().unwrap(), near.peer_addr().unwrap());
    drop((near, far));
    assert_eq!(here.recv().await.unwrap().end.cause, Cause::Refused);
    let ended = here.recv().await.unwrap();
    assert_eq!((ended.flow.local, ended.flow.remote), flow);
    assert_eq!((ended.end.cause, ended.bytes.sent), (Cause::Orderly, 5));
    assert!(ended.opened <= ended.end.at && ended.end.at <= client.now());
    assert_eq!(there.recv().await.unwrap().bytes.received, 5);
}

/// S103: what has arrived comes first, then the error, once.
#[tokio::test(start_paused = true)]
async fn an_administrator_ends_a_connection() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(b"hello").await.unwrap();
    near.drained().await.unwrap();
    let flow = FourTuple { local: far.local_addr().unwrap(), remote: far.peer_addr().unwrap() };
    assert!(!client.kill(flow), "it is the other host's");
    assert!(server.kill(flow));
    assert!(!server.kill(flow));
    let mut text = [0; 16];
    assert_eq!(far.read(&mut text).await.unwrap(), 5);
    let error = far.read(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(EndError::find(&error).unwrap().by, EndedBy::Administrator);
    assert_eq!(far.read(&mut text).await.unwrap(), 0);
    assert_eq!(near.read(&mut text).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// S104: a pending connect fails.
#[tokio::test(start_paused = true)]
async fn an_administrator_ends_an_attempt_to_connect() {
    let (a, _nobody) = link::pipe(link::Capabilities::new(1500));
    let client = Host::spawn(Config::new([crate::CLIENT]), a);
    let (local, remote) = ((crate::CLIENT, 4000).into(), (SERVER, 80).into());
    let kill = async {
        time::sleep(Duration::from_millis(500)).await;
        client.kill(FourTuple { local, remote })
    };
    let (failed, killed) = tokio::join!(TcpStream::connect_from(&client, local, remote), kill);
    assert!(killed);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

/// S106: a pending accept fails.
#[tokio::test(start_paused = true)]
async fn an_administrator_closes_a_listener() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let kill = async {
        time::sleep(Duration::from_millis(500)).await;
        server.kill_listener((SERVER, 80))
    };
    let (accepted, killed) = tokio::join!(listener.accept(), kill);
    assert!(killed);
    assert_eq!(accepted.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(listener.accept().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let error = TcpStream::connect(&client, (SERVER, 80)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    drop(listener);
    TcpListener::bind(&server, (SERVER, 80)).unwrap();
}

/// Held, half-closed, waiting to be accepted, orphaned, over: what `ss` would list.
#[tokio::test(start_paused = true)]
async fn the_open_connections_are_listed_and_no_others() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    near.write_all(b"hello").await.unwrap();
    near.drained().await.unwrap();
    let [seen] = client.connections()[..] else { panic!("{:?}", client.connections()) };
    assert_eq!((seen.state, seen.origin, seen.has_user), (TcpState::Established, Origin::Active, true));
    assert_eq!((seen.flow.local, seen.flow.remote), (near.local_addr().unwrap(), near.peer_addr().unwrap()));
    assert_eq!((seen.bytes.sent, seen.bytes.received), (5, 0));

    drop(near);
    time::sleep(Duration::from_secs(1)).await;
    let [seen] = client.connections()[..] else { panic!("{:?}", client.connections()) };
    assert_eq!((seen.state, seen.has_user), (TcpState::FinWait2, false), "an orphan");
    let [seen] = server.connections()[..] else { panic!("{:?}", server.connections()) };
    assert_eq!((seen.state, seen.origin, seen.bytes.received), (TcpState::CloseWait, Origin::Passive, 5));

    let silent: std::net::SocketAddr = "10.0.0.9:80".parse().unwrap();
    let attempt = tokio::spawn({
        let client = client.clone();
        async move { TcpStream::connect(&client, silent).await.map(drop) }
    });
    time::sleep(Duration::from_secs(1)).await;
    assert!(client.connections().iter().any(|it| it.flow.remote == silent && it.state == TcpState::SynSent));
    attempt.abort();
    drop(far);
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!((client.connections(), server.connections()), (vec![], vec![]), "TIME-WAIT is none");
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_not_fetched_are_bounded_and_counted() {
    let (client, server) = hosts();
    let (mut few, mut all) = (client.ended_with_capacity(3), client.ended());
    for port in 1..=10 {
        TcpStream::connect(&client, addr(SERVER, port)).await.unwrap_err();
    }
    drop(server);
    let ports = |ended: &mut lastack::EndedConnections| -> Vec<u16> {
        std::iter::from_fn(|| ended.try_recv()).map(|ended| ended.flow.remote.port()).collect()
    };
    assert_eq!((ports(&mut few), few.missed()), (vec![8, 9, 10], 7), "the newest are kept");
    assert_eq!((ports(&mut all).len(), all.missed()), (10, 0));
}
