//! Each operation has its type of error inside the `io::Error`: the table at `find_error`.

use crate::{CLIENT, SERVER, addr, connection, hosts};
use lastack::{
    BindError, Cause, ConnectError, EchoError, EndError, HostError, RawError, TcpListener, TcpStream,
    UdpError, UdpReport, UdpSocket, errno, find_error,
};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The kind, the number of Linux, and the reason inside, which must be of this type.
fn inside<T: Error + Clone + 'static>(error: &io::Error) -> (ErrorKind, i32, T) {
    let reason = find_error::<T>(error).unwrap_or_else(|| panic!("no reason of this type in {error:?}"));
    (error.kind(), errno(error).expect("it has a number"), reason.clone())
}

#[tokio::test(start_paused = true)]
async fn bind_and_connect() {
    let (client, server) = hosts();
    let elsewhere = addr([192, 0, 2, 9].into(), 80);
    let error = TcpListener::bind(&client, elsewhere).unwrap_err();
    let expected = (ErrorKind::AddrNotAvailable, libc::EADDRNOTAVAIL, BindError::NotOurs);
    assert_eq!(inside(&error), expected);
    let _listener = TcpListener::bind(&client, (CLIENT, 80)).unwrap();
    let error = TcpListener::bind(&client, (CLIENT, 80)).unwrap_err();
    assert_eq!(inside(&error), (ErrorKind::AddrInUse, libc::EADDRINUSE, BindError::InUse));

    let error = TcpStream::connect(&client, ([224, 0, 0, 1], 80)).await.unwrap_err();
    let expected = (ErrorKind::NetworkUnreachable, libc::ENETUNREACH, ConnectError::NotUnicast);
    assert_eq!(inside(&error), expected);
    let error = TcpStream::connect(&client, (SERVER, 80)).await.unwrap_err();
    let (kind, number, end) = inside::<EndError>(&error);
    assert_eq!((kind, number), (ErrorKind::ConnectionRefused, libc::ECONNREFUSED));
    assert_eq!(end.end().cause, Cause::Refused);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn reading_and_writing() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    far.abort();
    let error = near.read_u8().await.unwrap_err();
    let (kind, number, end) = inside::<EndError>(&error);
    assert_eq!((kind, number, end.end().cause), (ErrorKind::ConnectionReset, libc::ECONNRESET, Cause::Reset));
    let error = near.write_all(b"1").await.unwrap_err();
    let (kind, number, end) = inside::<EndError>(&error);
    assert_eq!((kind, number, end.end().cause), (ErrorKind::BrokenPipe, libc::EPIPE, Cause::Reset));
}

#[tokio::test(start_paused = true)]
async fn datagrams_and_echo() {
    let (client, server) = hosts();
    let udp = UdpSocket::bind(&client, (CLIENT, 0)).unwrap();
    let error = udp.send_to(b"1", ([224, 0, 0, 1], 53)).await.unwrap_err();
    assert_eq!(inside(&error), (ErrorKind::InvalidInput, libc::EINVAL, UdpError::NotUnicast));
    udp.connect((SERVER, 53)).unwrap();
    udp.send(b"1").await.unwrap();
    let error = udp.recv(&mut [0; 9]).await.unwrap_err();
    let (kind, number, report) = inside::<UdpReport>(&error);
    assert_eq!((kind, number), (ErrorKind::ConnectionRefused, libc::ECONNREFUSED));
    assert_eq!((report.error, report.from), (UdpError::Refused, SERVER));

    let error = client.ping([224, 0, 0, 1].into(), b"").await.unwrap_err();
    let expected = (ErrorKind::NetworkUnreachable, libc::ENETUNREACH, EchoError::NotUnicast);
    assert_eq!(inside(&error), expected);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn packets_of_other_protocols_and_a_stopped_host() {
    let (_, server) = crate::hosts_with(|config| config.intercept.other = true);
    let raw = server.intercept_other().unwrap();
    let ip = lastack::IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: true };
    let error = raw.try_send(SERVER, CLIENT, 6, b"a TCP segment", ip).unwrap_err();
    assert_eq!(inside(&error), (ErrorKind::InvalidInput, libc::EINVAL, RawError::Protocol));
    let error = raw.try_send(SERVER, CLIENT, 47, &[0; 2000], ip).unwrap_err();
    assert_eq!(inside(&error), (ErrorKind::InvalidInput, libc::EMSGSIZE, RawError::TooLong));

    server.clone().shutdown(Duration::from_secs(1)).await;
    let error = raw.recv().await.unwrap_err();
    let (kind, number, reason) = inside::<HostError>(&error);
    assert_eq!((kind, number), (ErrorKind::NetworkDown, libc::ENETDOWN));
    assert!(matches!(reason, HostError::ShutDown));
    let error = TcpListener::bind(&server, (SERVER, 80)).unwrap_err();
    assert!(matches!(find_error(&error), Some(HostError::ShutDown)));
}
