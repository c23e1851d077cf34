//! Options before the connection, observers, relays.

use crate::{CLIENT, SERVER, addr, connection, hosts, hosts_with};
use lastack::link::{Capabilities, pipe};
use lastack::{
    Cause, Config, EndError, EndedBy, Host, IcmpError, Keepalive, Relayed, TcpListener, TcpSocket, TcpState,
    TcpStream, UdpReport, UdpSocket, relay,
};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::time::{sleep, timeout};

#[tokio::test(start_paused = true)]
async fn options_hold_from_the_syn_on() {
    let (a, mut wire) = pipe(Capabilities::new(1500));
    let client = Host::spawn(Config::new([CLIENT]), a);
    let socket = TcpSocket::new_v4(&client).unwrap();
    socket.set_ttl(7).unwrap();
    socket.set_dscp(46).unwrap();
    socket.set_max_segment(Some(1000)).unwrap();
    socket.bind(addr(CLIENT, 4000)).unwrap();
    let _attempt = timeout(Duration::from_millis(5), socket.connect(addr(SERVER, 80))).await.unwrap_err();
    let mut syn = Vec::new();
    lastack::link::Link::recv(&mut wire, lastack::Instant::ZERO, &mut syn).expect("a SYN was sent");
    assert_eq!((syn[1], syn[8]), (46 << 2, 7), "DSCP and TTL");
    assert_eq!(u16::from_be_bytes([syn[20], syn[21]]), 4000, "source port");
    assert_eq!((&syn[40..42], u16::from_be_bytes([syn[42], syn[43]])), (&[2, 4][..], 1000), "MSS option");
}

#[tokio::test(start_paused = true)]
async fn options_are_kept_and_bad_ones_refused() {
    let (client, server) = hosts();
    let socket = TcpSocket::new_v4(&client).unwrap();
    for error in [
        socket.set_ttl(0).unwrap_err(),
        socket.set_ttl(256).unwrap_err(),
        socket.set_dscp(64).unwrap_err(),
        socket.set_max_segment(Some(10)).unwrap_err(),
        socket.set_send_buffer_size(1).unwrap_err(),
        socket.set_keepalive_times(Some(Keepalive { count: 0, ..Keepalive::default() })).unwrap_err(),
        socket.bind("[fd00::1]:1".parse().unwrap()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(lastack::errno(&error), Some(libc::EINVAL));
    }
    socket.set_nodelay(true).unwrap();
    socket.set_keepalive(true).unwrap();
    socket.set_linger(Some(Duration::from_secs(3))).unwrap();
    socket.set_send_buffer_size(10_000).unwrap();
    let listener = TcpListener::bind(&server, addr(SERVER, 80)).unwrap();
    listener.set_ttl(9).unwrap();
    let (near, far) = tokio::join!(socket.connect(addr(SERVER, 80)), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    assert!(near.nodelay().unwrap());
    assert_eq!(near.keepalive().unwrap(), Some(Keepalive::default()));
    assert_eq!(near.linger().unwrap(), Some(Duration::from_secs(3)));
    assert_eq!((near.ttl().unwrap(), far.ttl().unwrap(), listener.ttl().unwrap()), (64, 9, 9));
    assert_eq!(near.try_write(&[0; 50_000]).unwrap(), 10_000, "the send buffer");
}

#[tokio::test(start_paused = true)]
async fn a_socket_listens_with_its_options() {
    let (client, server) = hosts();
    let socket = TcpSocket::new_v4(&server).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_max_segment(Some(700)).unwrap();
    socket.bind(addr(SERVER, 81)).unwrap();
    assert_eq!(socket.bind(addr(SERVER, 82)).unwrap_err().kind(), ErrorKind::InvalidInput);
    let listener = socket.listen(16).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(&client, addr(SERVER, 81)), listener.accept());
    assert!(far.unwrap().0.nodelay().unwrap());
    assert!(near.unwrap().info().unwrap().mss <= 700);
}

#[tokio::test(start_paused = true)]
async fn several_buffers_are_read_and_written_at_once() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    assert_eq!(
        near.try_read_vectored(&mut [IoSliceMut::new(&mut [0])]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(near.try_io(Interest::READABLE, || Ok(())).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    let written =
        far.try_write_vectored(&[IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")]).unwrap();
    assert_eq!(written, 6);
    near.readable().await.unwrap();
    let (mut a, mut b, mut rest) = ([0; 2], [0; 3], Vec::new());
    let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(near.try_read_vectored(bufs).unwrap(), 5);
    assert_eq!((&a, &b), (b"on", b"etw"));
    assert_eq!(near.try_read_buf(&mut rest).unwrap(), 1);
    assert_eq!(rest, b"o");
    far.shutdown_write().unwrap();
    near.readable().await.unwrap();
    assert_eq!(near.try_read_buf(&mut rest).unwrap(), 0, "the end of the stream");
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_the_stream() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    let (watch, id) = (near.watch(), near.id());
    let clone = watch.clone();
    assert_eq!((watch.id(), watch.end(), watch.state()), (id, None, TcpState::Established));
    near.write_all(b"12345").await.unwrap();
    near.drained().await.unwrap();
    drop(near);
    let wait = tokio::spawn(async move { clone.closed().await.unwrap() });
    drop(far);
    let end = wait.await.unwrap();
    assert_eq!(end.cause, Cause::Reset, "the peer closed with unread data");
    assert_eq!(watch.end(), Some(end));
    let ended = watch.ended().unwrap();
    assert_eq!((ended.id, ended.bytes.sent), (id, 5));
    assert_eq!(watch.state(), TcpState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_an_ended_connection_returns_its_end() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    far.abort();
    near.closed().await.unwrap();
    let watch = near.watch();
    drop(near);
    assert_eq!(watch.closed().await.unwrap().cause, Cause::Reset);
}

#[tokio::test(start_paused = true)]
async fn a_refused_datagram_names_the_icmp_error_and_its_sender() {
    let (client, _server) = hosts();
    let socket = UdpSocket::bind(&client, (CLIENT, 0)).unwrap();
    socket.connect((SERVER, 9)).unwrap();
    socket.send(b"x").await.unwrap();
    let error = socket.recv(&mut [0; 1]).await.unwrap_err();
    assert_eq!(
        (error.kind(), lastack::errno(&error)),
        (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED))
    );
    let report = UdpReport::find(&error).unwrap();
    assert_eq!((report.icmp, report.from), (IcmpError::port_unreachable(false), SERVER));
    assert!(error.to_string().contains("from 10.0.0.2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn datagrams_are_cut_and_carry_their_ecn_bits() {
    let (client, server) = hosts();
    let near = UdpSocket::bind(&client, (CLIENT, 0)).unwrap();
    let far = UdpSocket::bind(&server, "0.0.0.0:53".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    near.try_send_segments(None, addr(SERVER, 53), &[7; 2500], Some(1000), 2).unwrap();
    let mut lens = Vec::new();
    for _ in 0..3 {
        let datagram = far.recv_datagram().await.unwrap();
        assert_eq!((datagram.local, datagram.ip.traffic_class & 3), (addr(SERVER, 53), 2));
        lens.push(datagram.payload.len());
    }
    assert_eq!(lens, [1000, 1000, 500]);
    assert_eq!(far.try_recv_datagram().unwrap_err().kind(), ErrorKind::WouldBlock);
    far.send_from(addr(SERVER, 53), near.local_addr().unwrap(), b"answer").await.unwrap();
    let ready = near.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable());
    assert_eq!(near.peek_sender().await.unwrap(), addr(SERVER, 53));
    let mut data = Vec::new();
    assert_eq!(near.try_recv_buf_from(&mut data).unwrap(), (6, addr(SERVER, 53)));
}

#[tokio::test(start_paused = true)]
async fn a_socket_has_a_receive_queue_of_its_own() {
    let (client, server) = hosts();
    let near = UdpSocket::bind(&client, (CLIENT, 0)).unwrap();
    let (few, many) =
        (UdpSocket::bind(&server, (SERVER, 1)).unwrap(), UdpSocket::bind(&server, (SERVER, 2)).unwrap());
    few.set_receive_queue(Some(3)).unwrap();
    many.set_receive_queue(Some(1000)).unwrap();
    assert_eq!(few.set_receive_queue(Some(0)).unwrap_err().kind(), ErrorKind::InvalidInput);
    for port in [1, 2] {
        for _ in 0..500 {
            near.send_to(b"x", (SERVER, port)).await.unwrap();
        }
    }
    sleep(Duration::from_millis(1)).await;
    let count = |socket: &UdpSocket| std::iter::from_fn(|| socket.try_recv_datagram().ok()).count();
    assert_eq!((count(&few), count(&many)), (3, 500));
}

/// A program, a proxy that relays over a second link, and a server behind it.
async fn proxied(
    server: impl AsyncFnOnce(TcpListener) + 'static,
) -> (Host, tokio::task::JoinHandle<Relayed>) {
    let (client, proxy) = hosts_with(|config| {
        config.any_address = true;
        config.intercept.tcp = true;
    });
    let (a, b) = pipe(Capabilities::new(1500));
    let outside = Host::spawn(Config::new([[198, 51, 100, 1].into()]), a);
    let far = Host::spawn(Config::new([FAR]), b);
    let listener = TcpListener::bind(&far, (FAR, 80)).unwrap();
    tokio::task::spawn_local(async move {
        let _far = far;
        server(listener).await;
        std::future::pending::<()>().await;
    });
    let syns = proxy.intercept_tcp().unwrap();
    let relayed = tokio::task::spawn_local(async move {
        let _proxy = proxy;
        let syn = syns.recv().await.unwrap();
        let remote = TcpStream::connect(&outside, syn.local_addr()).await.unwrap();
        let report = relay(syn.accept().await.unwrap(), remote).await;
        sleep(Duration::from_millis(10)).await;
        report.ended
    });
    (client, relayed)
}

const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2));

#[tokio::test(start_paused = true, flavor = "local")]
async fn a_relay_passes_each_fin_on_by_itself() {
    let (client, relayed) = proxied(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.closed().await.unwrap();
    })
    .await;
    let mut near = TcpStream::connect(&client, (FAR, 80)).await.unwrap();
    let (mut read, mut write) = near.split();
    let sent = vec![3; 500_000];
    let (mut got, write) = (Vec::new(), async { write.write_all(&sent).await.and(write.shutdown().await) });
    let (written, read) = tokio::join!(write, read.read_to_end(&mut got));
    written.unwrap();
    read.unwrap();
    assert!(got == sent, "{} bytes", got.len());
    assert_eq!(near.closed().await.unwrap().cause, Cause::Orderly);
    assert!(matches!(relayed.await.unwrap(), Relayed::Orderly));
}

#[tokio::test(start_paused = true, flavor = "local")]
async fn a_relay_delivers_data_before_a_reset() {
    let (client, relayed) = proxied(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[5; 200_000]).await.unwrap();
        stream.drained().await.unwrap();
        stream.abort();
        stream.closed().await.unwrap();
    })
    .await;
    let mut near = TcpStream::connect(&client, (FAR, 80)).await.unwrap();
    let mut got = Vec::new();
    let error = near.read_to_end(&mut got).await.unwrap_err();
    assert_eq!((error.kind(), got.len()), (ErrorKind::ConnectionReset, 200_000));
    assert!(matches!(relayed.await.unwrap(), Relayed::RemoteFailed(_)));
}

#[tokio::test(start_paused = true, flavor = "local")]
async fn a_relay_resets_the_far_side_if_the_program_aborts() {
    let (seen, result) = tokio::sync::oneshot::channel();
    let (client, relayed) = proxied(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut data = Vec::new();
        let error = stream.read_to_end(&mut data).await.unwrap_err();
        seen.send((data, error.kind())).unwrap();
    })
    .await;
    let mut near = TcpStream::connect(&client, (FAR, 80)).await.unwrap();
    near.write_all(b"before").await.unwrap();
    near.drained().await.unwrap();
    near.abort();
    assert_eq!(result.await.unwrap(), (b"before".to_vec(), ErrorKind::ConnectionReset));
    assert!(matches!(relayed.await.unwrap(), Relayed::LocalEnded(_)));
}

/// What a program sees if its SYN is answered with this error of an attempt to connect.
async fn answered(error: std::io::Error) -> std::io::Result<TcpStream> {
    let (client, proxy) = hosts_with(|config| {
        config.any_address = true;
        config.intercept.tcp = true;
    });
    let syns = proxy.intercept_tcp().unwrap();
    let answer = tokio::spawn(async move {
        syns.recv().await.unwrap().fail(&error).await;
        sleep(Duration::from_secs(3)).await;
        drop((syns, proxy));
    });
    let result = timeout(Duration::from_secs(2), TcpStream::connect(&client, (FAR, 80))).await;
    let result = result.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    if let Ok(stream) = &result {
        stream.closed().await.unwrap();
    }
    answer.abort();
    result
}

#[tokio::test(start_paused = true)]
async fn each_failure_to_connect_has_its_answer() {
    for (errno, seen) in [
        (libc::ECONNREFUSED, ErrorKind::ConnectionRefused),
        (libc::ETIMEDOUT, ErrorKind::TimedOut),
        (libc::EHOSTUNREACH, ErrorKind::HostUnreachable),
        (libc::ENETUNREACH, ErrorKind::NetworkUnreachable),
        (libc::EADDRNOTAVAIL, ErrorKind::NetworkUnreachable),
        (libc::EACCES, ErrorKind::HostUnreachable),
    ] {
        let error = answered(std::io::Error::from_raw_os_error(errno)).await.unwrap_err();
        assert_eq!(error.kind(), seen, "errno {errno}");
    }
    let stream = answered(std::io::Error::from_raw_os_error(libc::ECONNRESET)).await.unwrap();
    let end = stream.end().unwrap();
    assert_eq!((end.cause, end.by), (Cause::Reset, EndedBy::Peer), "established, then reset");
    let inner = answered(std::io::Error::from_raw_os_error(libc::EHOSTUNREACH)).await.unwrap_err();
    let Cause::Unreachable(icmp) = EndError::find(&inner).unwrap().cause else { panic!("{inner}") };
    assert_eq!(icmp, IcmpError::host_unreachable(false));
    let again = answered(inner).await.unwrap_err();
    assert_eq!(EndError::find(&again).unwrap().cause, Cause::Unreachable(icmp), "the same ICMP error");
}

/// The receive buffer bounds what a sender can have in flight, on either side of a connection.
#[tokio::test(start_paused = true)]
async fn a_receive_buffer_bounds_the_window() {
    let (client, server) = hosts();
    let listener = TcpSocket::new_v4(&server).unwrap();
    assert_eq!(listener.set_recv_buffer_size(500).unwrap_err().kind(), ErrorKind::InvalidInput);
    listener.set_recv_buffer_size(10_000).unwrap();
    assert_eq!(listener.recv_buffer_size().unwrap(), 10_000);
    listener.bind(addr(SERVER, 80)).unwrap();
    let listener = listener.listen(1).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(&client, addr(SERVER, 80)), listener.accept());
    let (near, (mut far, _)) = (near.unwrap(), far.unwrap());
    near.try_write(&[7; 50_000]).unwrap();
    sleep(Duration::from_secs(5)).await;
    let unread = far.info().unwrap().unread;
    assert!((8_000..=10_000).contains(&unread), "{unread}");
    let mut all = vec![0; 50_000];
    far.read_exact(&mut all).await.unwrap();
    // And of a connection that exists.
    assert_eq!(far.set_recv_buffer_size(500).unwrap_err().kind(), ErrorKind::InvalidInput);
    far.set_recv_buffer_size(20_000).unwrap();
    assert_eq!(far.recv_buffer_size().unwrap(), 20_000);
    near.try_write(&[7; 50_000]).unwrap();
    sleep(Duration::from_secs(5)).await;
    let unread = far.info().unwrap().unread;
    assert!((18_000..=20_000).contains(&unread), "{unread}");
}

#[tokio::test(start_paused = true)]
async fn unsent_data_is_limited_and_records_have_ends() {
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    near.set_not_sent_low_water(Some(3000)).unwrap();
    assert_eq!(near.not_sent_low_water().unwrap(), Some(3000));
    near.set_path_mtu_discovery(false).unwrap();
    assert!(!near.path_mtu_discovery().unwrap());
    // The initial window of ten segments, and the limit.
    let taken = near.try_write_record(&[7; 100_000]).unwrap();
    assert!((10_000..20_000).contains(&taken), "{taken}");
    assert_eq!(near.try_write(&[7; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut all = vec![0; taken];
    let (read, ready) = tokio::join!(far.read_exact(&mut all), near.writable());
    assert_eq!((read.unwrap(), ready.is_ok()), (taken, true));
    assert_eq!(near.try_write_record(&[7; 1000]).unwrap(), 1000);
    far.read_exact(&mut all[..1000]).await.unwrap();
}
