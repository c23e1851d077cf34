//! The end of a whole host.

use crate::{CLIENT, SERVER, addr, connection, hosts};
use lastack::link::{Capabilities, Impair, Plan, pipe};
use lastack::{Cause, Config, EndedBy, Host, HostError, TcpListener, TcpState, TcpStream, UdpSocket};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// Two hosts 50 ms apart.
fn distant_hosts() -> (Host, Host) {
    let (a, b) = pipe(Capabilities::new(1500));
    let plan = Plan { seed: 1, delay: Duration::from_millis(50), ..Plan::default() };
    (Host::spawn(Config::new([CLIENT]), Impair::new(a, plan)), Host::spawn(Config::new([SERVER]), b))
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_data_of_a_dropped_stream() {
    let (client, server) = distant_hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(&[7; 100_000]).await.unwrap();
    drop(near);
    assert!(timeout(Duration::from_millis(20), client.drained()).await.is_err(), "nothing has arrived yet");
    client.drained().await.unwrap();
    // Its FIN is acknowledged, so all of it is in the other host, though it has not been read.
    assert_eq!(far.state(), TcpState::CloseWait);
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [7; 100_000]);
    client.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drained_of_a_host_without_connections_is_ready() {
    let (client, _server) = hosts();
    timeout(Duration::from_millis(1), client.drained()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_written_data_and_ends_the_driver() {
    let (a, b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), a);
    let driver = tokio::spawn(driver);
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let clone = client.clone();
    let read = tokio::spawn(async move {
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        got.len()
    });
    near.write_all(&[7; 300_000]).await.unwrap();
    drop(near);
    assert_eq!(client.shutdown(Duration::from_secs(60)).await, []);
    assert_eq!(read.await.unwrap(), 300_000);
    driver.await.unwrap().unwrap();
    // A clone neither holds it up nor revives it.
    let error = TcpStream::connect(&clone, (SERVER, 1)).await.unwrap_err();
    assert!(matches!(HostError::find(&error), Some(HostError::ShutDown)), "{error}");
    assert_eq!(error.to_string(), "this host was shut down");
}

#[tokio::test(start_paused = true)]
async fn shutdown_resets_connections_that_do_not_end_in_time() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&client, (CLIENT, 80)).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(&server, (CLIENT, 80)), listener.accept());
    let (near, mut far) = (near.unwrap(), far.unwrap().0);
    let accept = tokio::spawn(async move { listener.accept().await.map(drop) });
    let socket = UdpSocket::bind(&client, (CLIENT, 53)).unwrap();
    let receive = tokio::spawn(async move { socket.recv_from(&mut [0; 1]).await.map(drop) });
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let reset = client.shutdown(Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(reset.iter().map(|open| open.flow.remote).collect::<Vec<_>>(), [near.local_addr().unwrap()]);
    let end = near.closed().await.unwrap();
    assert_eq!((end.cause, end.by), (Cause::Reset, EndedBy::Peer), "the peer knows");
    assert_eq!(far.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    for error in [accept.await.unwrap().unwrap_err(), receive.await.unwrap().unwrap_err()] {
        assert!(matches!(HostError::find(&error), Some(HostError::ShutDown)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn during_shutdown_nothing_new_begins() {
    let (client, server) = hosts();
    let (_near, _far, listener) = connection(&client, &server).await;
    let address = listener.local_addr().unwrap();
    let stop = tokio::spawn(server.clone().shutdown(Duration::from_secs(5)));
    sleep(Duration::from_millis(1)).await;
    let refused = TcpStream::connect(&client, address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let error = TcpListener::bind(&server, (SERVER, 0)).unwrap_err();
    assert!(matches!(HostError::find(&error), Some(HostError::ShutDown)), "{error}");
    assert!(!stop.is_finished());
    assert_eq!(stop.await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn abort_all_resets_every_connection_and_the_host_lives_on() {
    let (client, server) = hosts();
    let (near, far, listener) = connection(&client, &server).await;
    assert_eq!(server.abort_all().len(), 1);
    assert_eq!(near.closed().await.unwrap().cause, Cause::Reset);
    assert_eq!(far.closed().await.unwrap().by, EndedBy::Administrator);
    let (again, _) =
        tokio::join!(TcpStream::connect(&client, listener.local_addr().unwrap()), listener.accept());
    again.unwrap();
}

#[test]
fn a_dropped_runtime_resets_open_connections() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (a, b) = pipe(Capabilities::new(1500));
    let server = second.block_on(async { Host::spawn(Config::new([SERVER]), b) });
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let (opened, held) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        first.block_on(async {
            let client = Host::spawn(Config::new([CLIENT]), a);
            opened.send(TcpStream::connect(&client, addr(SERVER, 80)).await.unwrap()).unwrap();
        });
        drop(first);
    });
    second.block_on(async {
        let (far, _) = listener.accept().await.unwrap();
        let end = timeout(Duration::from_secs(10), far.closed()).await.expect("the end is reported").unwrap();
        assert_eq!(end.cause, Cause::Reset);
    });
    client.join().unwrap();
    let error = held.recv().unwrap().try_write(b"x").unwrap_err();
    assert!(matches!(HostError::find(&error), Some(HostError::DriverDropped)), "{error}");
}

/// S109.
#[tokio::test(start_paused = true)]
async fn a_connection_of_an_address_that_went_ends_and_the_others_go_on() {
    let second = std::net::IpAddr::from([10, 0, 0, 7]);
    let (client, server) = crate::hosts_with(|config| config.addresses.push(second));
    let listener = TcpListener::bind(&server, ([0, 0, 0, 0], 80)).unwrap();
    let mut pairs = Vec::new();
    for ip in [SERVER, second] {
        let (near, far) = tokio::join!(TcpStream::connect(&client, (ip, 80)), listener.accept());
        pairs.push((near.unwrap(), far.unwrap().0));
    }
    let third = std::net::IpAddr::from([10, 0, 0, 8]);
    server.set_addresses([SERVER, third]);
    let (near, far) = pairs.pop().unwrap();
    assert_eq!(near.closed().await.unwrap().cause, Cause::Reset, "the peer knows");
    assert_eq!(far.closed().await.unwrap().by, EndedBy::Administrator);
    let (mut near, mut far) = pairs.pop().unwrap();
    near.write_all(b"on").await.unwrap();
    far.read_exact(&mut [0; 2]).await.unwrap();
    let attempt = timeout(Duration::from_millis(100), TcpStream::connect(&client, (second, 80))).await;
    assert!(attempt.is_err(), "nobody is there any more");
    let (third, _) = tokio::join!(TcpStream::connect(&client, (third, 80)), listener.accept());
    third.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_smaller_mtu_applies_at_once() {
    use lastack::link::{Direction, Filter};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (a, b) = pipe(Capabilities::new(1500));
    let (limit, largest) = (Arc::new(AtomicUsize::new(1500)), Arc::<AtomicUsize>::default());
    let filter = Filter::new(a, {
        let (limit, largest) = (limit.clone(), largest.clone());
        move |direction, packet: &[u8]| {
            if direction == Direction::Sent {
                largest.fetch_max(packet.len(), Ordering::Relaxed);
            }
            direction == Direction::Received || packet.len() <= limit.load(Ordering::Relaxed)
        }
    });
    let client = Host::spawn(Config::new([CLIENT]), filter);
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(&[1; 50_000]).await.unwrap();
    far.read_exact(&mut vec![0; 50_000]).await.unwrap();
    assert_eq!(largest.swap(0, Ordering::Relaxed), 1500);
    limit.store(600, Ordering::Relaxed);
    client.set_mtu(600).unwrap();
    assert_eq!(client.set_mtu(60).unwrap_err().kind(), ErrorKind::InvalidInput);
    let start = Instant::now();
    near.write_all(&[2; 50_000]).await.unwrap();
    far.read_exact(&mut vec![0; 50_000]).await.unwrap();
    assert_eq!(largest.load(Ordering::Relaxed), 600);
    assert!(start.elapsed() < Duration::from_millis(100), "nothing was lost: {:?}", start.elapsed());
}
