//! The driver: its ends, its clock.

use crate::{CLIENT, SERVER, connection, hosts};
use lastack::link::{Capabilities, Impair, Link, Pipe, Plan, pipe};
use lastack::{Config, Host, Instant, Received, TcpListener, TcpStream, Transmit, UdpSocket};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

/// A link that fails at the next arrival after a signal.
struct Fragile {
    link: Pipe,
    broken: Arc<AtomicBool>,
}

impl Link for Fragile {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.link.send(now, packet, transmit);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.link.recv(now, packet)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::Error::new(ErrorKind::NotFound, "the cable was pulled")));
        }
        self.link.poll_readable(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_fails_is_reported_to_every_socket() {
    let (a, b) = pipe(Capabilities::new(1500));
    let broken = Arc::<AtomicBool>::default();
    let (client, driver) = Host::new(Config::new([CLIENT]), Fragile { link: a, broken: broken.clone() });
    let driver = tokio::spawn(driver);
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let listener = TcpListener::bind(&client, (CLIENT, 80)).unwrap();
    let socket = UdpSocket::bind(&client, (CLIENT, 53)).unwrap();
    let mut ended = client.ended();

    let accept = tokio::spawn(async move { listener.accept().await.map(drop) });
    let receive = tokio::spawn(async move { socket.recv_from(&mut [0; 1]).await.map(drop) });
    time::sleep(Duration::from_millis(1)).await;
    far.write_all(b"last").await.unwrap();
    broken.store(true, Ordering::SeqCst);

    assert_eq!(driver.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    for error in [accept.await.unwrap().unwrap_err(), receive.await.unwrap().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "the link of this host failed: the cable was pulled");
    }
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(near.closed().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(TcpStream::connect(&client, (SERVER, 1)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(ended.recv().await.is_none());
    // What arrived before is read first.
    let mut text = Vec::new();
    let error = near.read_to_end(&mut text).await.unwrap_err();
    assert_eq!((error.kind(), &text[..]), (ErrorKind::NotFound, &b"last"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_dropped_leaves_no_one_waiting() {
    let (a, _b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), a);
    let driver = tokio::spawn(driver);
    let connect = tokio::spawn({
        let client = client.clone();
        async move { TcpStream::connect(&client, (SERVER, 1)).await }
    });
    time::sleep(Duration::from_millis(1)).await;
    driver.abort();
    let error = connect.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    assert!(error.to_string().contains("driver"), "{error}");
    assert_eq!(TcpListener::bind(&client, (CLIENT, 1)).unwrap_err().kind(), ErrorKind::NetworkDown);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_panics_is_named_as_what_stopped_the_host() {
    struct Faulty(Pipe);

    impl Link for Faulty {
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }

        fn send(&mut self, _now: Instant, _packet: &[u8], _transmit: &Transmit) {
            panic!("no such descriptor");
        }

        fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
            self.0.recv(now, packet)
        }

        fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.poll_readable(cx)
        }
    }
    let (a, _b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), Faulty(a));
    let driver = tokio::spawn(driver);
    let error = TcpStream::connect(&client, (SERVER, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    assert!(
        error.to_string().contains("panicked") && error.to_string().contains("no such descriptor"),
        "{error}"
    );
    assert_eq!(lastack::errno(&error), Some(libc::ENETDOWN));
    assert!(driver.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn a_write_after_the_driver_ended_is_an_error() {
    let (a, b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), a);
    let driver = tokio::spawn(driver);
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, _far, _listener) = connection(&client, &server).await;
    driver.abort();
    assert!(driver.await.unwrap_err().is_cancelled());
    let results = [near.write(b"x").await.map(drop), near.shutdown().await, near.shutdown_write()];
    for error in results.map(Result::unwrap_err) {
        assert!(
            matches!(lastack::HostError::find(&error), Some(lastack::HostError::DriverDropped)),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_reader_is_its_own() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    far.write_all(b"data").await.unwrap();
    near.readable().await.unwrap();
    let near = tokio::spawn(async move {
        let read = std::panic::AssertUnwindSafe(near.read_with(|_| panic!("a defect of the reader")));
        let panic = futures_util::FutureExt::catch_unwind(read).await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a defect of the reader"));
        let mut data = [0; 4];
        near.read_exact(&mut data).await.unwrap();
        assert_eq!(&data, b"data", "nothing was taken");
    });
    near.await.unwrap();
    far.write_all(b"more").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_driver_ends_after_the_last_user_and_all_output() {
    let (a, b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), a);
    let driver = tokio::spawn(driver);
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let mut ended = client.ended();
    drop(client);
    near.write_all(&[7; 200_000]).await.unwrap();
    time::sleep(Duration::from_secs(1)).await;
    assert!(!driver.is_finished(), "a socket is still there");
    drop(near);
    time::sleep(Duration::from_secs(1)).await;
    assert!(!driver.is_finished(), "the FIN is not answered");
    let mut text = Vec::new();
    far.read_to_end(&mut text).await.unwrap();
    assert_eq!(text.len(), 200_000);
    drop(far);
    driver.await.unwrap().unwrap();
    assert_eq!(ended.recv().await.unwrap().end.cause, lastack::Cause::Orderly);
    assert!(ended.recv().await.is_none(), "no more will end");
}

#[tokio::test(start_paused = true)]
async fn an_idle_driver_ends_at_once() {
    let (a, _b) = pipe(Capabilities::new(1500));
    let (client, driver) = Host::new(Config::new([CLIENT]), a);
    drop(client);
    time::timeout(Duration::from_millis(1), driver).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_takes_its_time_and_no_more() {
    let (a, b) = pipe(Capabilities::new(1500));
    let plan = Plan { seed: 1, delay: Duration::from_millis(50), ..Plan::default() };
    let client = Host::spawn(Config::new([CLIENT]), Impair::new(a, plan));
    let server = Host::spawn(Config::new([SERVER]), b);
    let _listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let start = time::Instant::now();
    let near = TcpStream::connect(&client, (SERVER, 80)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(100), "there and back");
    near.info().unwrap().srtt.expect("the handshake measures");
}

#[tokio::test(start_paused = true)]
async fn data_arrives_whole_over_a_bad_link() {
    for seed in 0..10 {
        let (a, b) = pipe(Capabilities::new(1500));
        let plan = Plan { seed, loss: 0.03, duplicate: 0.02, corrupt: 0.02, ..Plan::default() };
        let client = Host::spawn(Config::new([CLIENT]), Impair::new(a, plan));
        let server = Host::spawn(Config::new([SERVER]), b);
        let (mut near, mut far, _listener) = connection(&client, &server).await;
        let text: Vec<u8> = (0..400_000_u32).map(|i| (i ^ i >> 7) as u8).collect();
        let sent = text.clone();
        let write = tokio::spawn(async move {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
            near.closed().await.unwrap()
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        assert!(got == text, "seed {seed}: {} of {} bytes", got.len(), text.len());
        assert_eq!(write.await.unwrap().cause, lastack::Cause::Orderly, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_stack_sees_tokios_clock() {
    let (client, _server) = hosts();
    let start = client.now();
    time::sleep(Duration::from_secs(7)).await;
    assert_eq!(client.now() - start, Duration::from_secs(7));
}

/// A link that takes slices, and counts the bytes of data in them.
struct Vectored {
    link: Pipe,
    lent: Arc<AtomicUsize>,
}

impl Link for Vectored {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.link.send(now, packet, transmit);
    }

    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        self.lent.fetch_add(packet[1].len() + packet[2].len(), Ordering::Relaxed);
        self.link.send(now, &packet.concat(), transmit);
    }

    fn is_vectored(&self) -> bool {
        true
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.link.recv(now, packet)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_readable(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_takes_slices_gets_all_data_from_the_send_buffer() {
    let (a, b) = pipe(Capabilities::memory(1500));
    let lent = Arc::<AtomicUsize>::default();
    let client = Host::spawn(Config::new([CLIENT]), Vectored { link: a, lent: lent.clone() });
    let server = Host::spawn(Config::new([SERVER]), b);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    // More than the buffer holds, so that data is lent from its end and its beginning together.
    let data: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = data.clone();
    let write = tokio::spawn(async move {
        near.write_all(&sent).await.unwrap();
        near.close().await.unwrap();
    });
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    drop(far);
    assert!(received == data);
    write.await.unwrap();
    assert_eq!(lent.load(Ordering::Relaxed), data.len(), "none was copied, and none sent twice");
}

/// The server's task reads before the driver sends: its response and its FIN carry the acknowledgments.
#[tokio::test(start_paused = true)]
async fn an_answer_carries_the_acknowledgment_of_what_was_read() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 7];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"response").await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        request
    });
    let mut stream = TcpStream::connect(&client, (SERVER, 80)).await.unwrap();
    stream.write_all(b"request").await.unwrap();
    let mut response = [0; 8];
    stream.read_exact(&mut response).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!((served.await.unwrap(), response), (*b"request", *b"response"));
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.counters().tcp_out_segments, 3, "SYN|ACK, the response, FIN");
}

/// As on Linux, where the application runs after the kernel has sent the ACK.
#[tokio::test(start_paused = true)]
async fn a_handshake_is_completed_before_the_task_that_aborts_it_runs() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    TcpStream::connect(&client, (SERVER, 80)).await.unwrap().abort();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A link of packets that all are there at once, and of what is sent.
struct Recorded {
    arrivals: std::collections::VecDeque<Vec<u8>>,
    /// How many packets were read before each one that was sent.
    read: usize,
    sent: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Link for Recorded {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(1500)
    }

    fn send(&mut self, _: Instant, _: &[u8], _: &Transmit) {
        self.sent.lock().unwrap().push(self.read);
    }

    fn recv(&mut self, _: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        *packet = self.arrivals.pop_front()?;
        self.read += 1;
        Some(Received::default())
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.arrivals.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

/// SYNs to a closed port: the first are answered one by one, since the answer may bring the next; when more and more are
/// there at once, they are read in growing bursts.
#[tokio::test(start_paused = true)]
async fn small_packets_are_answered_at_once_until_many_are_there() {
    use lastack::wire::ip::{self, IpHeader};
    use lastack::wire::tcp::{self, Checksum, TcpFlags, TcpHeader};
    let ip = IpHeader::new(CLIENT, SERVER, ip::TCP);
    let syn = |src_port| {
        let header = TcpHeader { src_port, dst_port: 9, flags: TcpFlags::SYN, ..TcpHeader::default() };
        let mut packet = Vec::new();
        tcp::emit_packet(&ip, &header, [&[], &[]], Checksum::Full, &mut packet);
        packet
    };
    let sent = Arc::<std::sync::Mutex<Vec<usize>>>::default();
    let link = Recorded { arrivals: (1..=500).map(syn).collect(), read: 0, sent: sent.clone() };
    let _host = Host::spawn(Config::new([SERVER]), link);
    time::sleep(Duration::from_millis(1)).await;
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 500);
    assert_eq!(sent[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    let mut bursts = sent.clone();
    bursts.dedup();
    let largest = bursts.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(largest > Some(30), "{bursts:?}");
}
