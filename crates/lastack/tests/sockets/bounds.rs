//! What a program sees at a bound: no free port, too many unanswered SYNs, a setting out of its bounds; and that the
//! types may be sent to other threads and shared with them.

use crate::{CLIENT, SERVER, addr, hosts, hosts_with};
use lastack::{Config, Host, TcpStream, link};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time;

/// connect(2): EADDRNOTAVAIL, where bind(2) has EADDRINUSE.
#[tokio::test(start_paused = true)]
async fn without_a_free_ephemeral_port_connect_has_no_address() {
    let (client, server) = hosts();
    let listener = lastack::TcpListener::bind(&server, (SERVER, 80)).unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let mut streams = Vec::new();
    let error = loop {
        match TcpStream::connect(&client, (SERVER, 80)).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.kind(), lastack::errno(&error)),
        (ErrorKind::AddrNotAvailable, Some(libc::EADDRNOTAVAIL))
    );
    assert_eq!(error.to_string(), "no ephemeral port is free");
    // The range of Linux, 32768 to 60999.
    assert!((28_000..=28_232).contains(&streams.len()), "{}", streams.len());
    drop(streams.pop());
    time::sleep(Duration::from_secs(70)).await; // TIME-WAIT
    assert!(TcpStream::connect(&client, (SERVER, 80)).await.is_ok(), "a port is free again");
}

/// SYNs that the application does not answer are bounded in number and time, and interception continues after them.
#[tokio::test(start_paused = true)]
async fn syns_that_wait_for_an_answer_are_bounded() {
    let (client, server) = hosts_with(|config| {
        config.intercept.tcp = true;
        config.tcp.max_embryonic = 4;
        config.tcp.intercept_timeout = Duration::from_secs(5);
    });
    let interceptor = server.intercept_tcp().unwrap();
    let attempts: Vec<_> = (1..=10)
        .map(|port| {
            let client = client.clone();
            tokio::spawn(async move {
                time::timeout(Duration::from_secs(3), TcpStream::connect(&client, (SERVER, port))).await
            })
        })
        .collect();
    time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.connections().len(), 4, "the others were dropped");
    let held = [interceptor.recv().await.unwrap(), interceptor.recv().await.unwrap()];
    for attempt in attempts {
        assert!(attempt.await.unwrap().is_err(), "without an answer nothing is connected");
    }
    time::sleep(Duration::from_secs(6)).await;
    assert_eq!(server.connections().len(), 0, "those without an answer are dropped after the timeout");
    drop(held);

    let attempt = tokio::spawn(async move { TcpStream::connect(&client, (SERVER, 80)).await });
    let syn = interceptor.recv().await.unwrap();
    assert_eq!(syn.local_addr(), addr(SERVER, 80));
    let _stream = syn.accept().await.unwrap();
    assert!(attempt.await.unwrap().is_ok());
}

#[tokio::test]
#[should_panic = "`tcp.send_buffer` is 100, but the min is 536"]
async fn a_host_refuses_a_setting_out_of_its_bounds() {
    let mut config = Config::new([CLIENT]);
    config.tcp.send_buffer = 100;
    let (link, _far) = link::pipe(link::Capabilities::memory(1500));
    let _host = Host::spawn(config, link);
}

#[test]
fn the_types_are_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send>(_: T) {}
    shared::<Host>();
    shared::<lastack::Driver<link::Pipe>>();
    shared::<lastack::TcpSocket>();
    shared::<TcpStream>();
    shared::<lastack::OwnedReadHalf>();
    shared::<lastack::OwnedWriteHalf>();
    shared::<lastack::TcpListener>();
    shared::<lastack::TcpInterceptor>();
    shared::<lastack::InterceptedTcp>();
    shared::<lastack::UdpSocket>();
    shared::<lastack::UdpInterceptor>();
    shared::<lastack::EchoInterceptor>();
    shared::<lastack::EndedConnections>();
    shared::<lastack::Watch>();
    shared::<lastack::EndError>();
    shared::<lastack::HostError>();
    shared::<Config>();
    shared::<lastack::End>();
    #[allow(unused, reason = "it only has to compile")]
    fn futures(host: &Host, stream: TcpStream, listener: &lastack::TcpListener, udp: &lastack::UdpSocket) {
        sent(TcpStream::connect(host, (SERVER, 80)));
        sent(listener.accept());
        sent(udp.recv_datagram());
        sent(stream.closed());
        sent(host.clone().shutdown(Duration::ZERO));
        sent(host.drained());
    }
}
