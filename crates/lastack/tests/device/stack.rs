//! The whole stack against Linux' own, over each device: both as client and as server.

use std::{
    io::{ErrorKind, Read, Write},
    net::{self, Shutdown},
    thread,
};

use lastack::{Cause, Config, EndError, EndedBy, Host, TcpListener, TcpStream, UdpSocket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::lab::{Lab, PATIENCE, Pair, pattern, with_devices};

/// Bytes in each direction: enough for windows to open and super-segments to be full.
const MUCH: usize = 8 << 20;
const PORT: u16 = 8080;

/// Runs `test` with a stack at our address of the pair, over each device and for each family.
fn with_stacks(test: impl AsyncFn(Host, Pair) + Copy + Send + 'static) {
    with_devices(move |Lab { device, runtime }, pair| {
        runtime.block_on(async {
            let host = Host::spawn(Config::new([pair.ours]), device);
            timeout(6 * PATIENCE, test(host, pair)).await.expect("it does not end");
        });
    });
}

/// Linux' side of an exchange; a thread is born into its parent's namespace.
fn exchange_by_linux(mut stream: net::TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writer.write_all(&pattern(MUCH)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    writer.join().unwrap();
    bytes
}

/// Our side of the same; it ends in an orderly release.
async fn exchange(mut stream: TcpStream) {
    let text = pattern(MUCH);
    let mut bytes = Vec::new();
    {
        let (mut reader, mut writer) = stream.split();
        let write = async {
            writer.write_all(&text).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut bytes));
        read.unwrap();
    }
    assert!(bytes == text);
    assert_eq!(stream.closed().await.unwrap().cause, Cause::Orderly);
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_linux_client_exchanges_megabytes_with_our_server() {
    with_stacks(async |host, pair| {
        let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
        let linux =
            thread::spawn(move || exchange_by_linux(net::TcpStream::connect((pair.ours, PORT)).unwrap()));
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), pair.kernel);
        exchange(stream).await;
        assert!(linux.join().unwrap() == pattern(MUCH));
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn our_client_exchanges_megabytes_with_a_linux_server() {
    with_stacks(async |host, pair| {
        let listener = net::TcpListener::bind((pair.kernel, PORT)).unwrap();
        let linux = thread::spawn(move || exchange_by_linux(listener.accept().unwrap().0));
        let stream = TcpStream::connect(&host, (pair.kernel, PORT)).await.unwrap();
        exchange(stream).await;
        assert!(linux.join().unwrap() == pattern(MUCH));
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn without_a_listener_both_are_refused_at_once() {
    with_stacks(async |host, pair| {
        let linux = thread::spawn(move || net::TcpStream::connect((pair.ours, PORT)).unwrap_err());
        let error = TcpStream::connect(&host, (pair.kernel, PORT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let end = EndError::find(&error).unwrap();
        assert_eq!((end.cause, end.by), (Cause::Refused, EndedBy::Peer));
        // The driver has to run for the other.
        let error = tokio::task::spawn_blocking(|| linux.join().unwrap()).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn datagrams_to_a_closed_port_are_refused_both_ways() {
    with_stacks(async |host, pair| {
        let linux = net::UdpSocket::bind((pair.kernel, 0)).unwrap();
        linux.connect((pair.ours, PORT)).unwrap();
        linux.set_read_timeout(Some(PATIENCE)).unwrap();
        linux.send(b"is anybody there").unwrap();
        let error = tokio::task::spawn_blocking(move || linux.recv(&mut [0; 10]).unwrap_err()).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        let ours = UdpSocket::bind(&host, (pair.ours, 0)).unwrap();
        ours.connect((pair.kernel, PORT)).unwrap();
        ours.send(b"is anybody there").await.unwrap();
        let error = ours.recv(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn an_abort_reaches_linux_after_the_bytes_before_it() {
    with_stacks(async |host, pair| {
        let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
        let linux = thread::spawn(move || {
            let mut stream = net::TcpStream::connect((pair.ours, PORT)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // Only now is it sure that connect has returned; a reset would be its result.
            stream.write_all(b"?").unwrap();
            let mut five = [0; 5];
            stream.read_exact(&mut five).unwrap();
            (five, stream.read(&mut [0; 10]).unwrap_err().kind())
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
        stream.write_all(b"five!").await.unwrap();
        stream.drained().await.unwrap();
        stream.abort();
        let read = tokio::task::spawn_blocking(|| linux.join().unwrap()).await.unwrap();
        assert_eq!(read, (*b"five!", ErrorKind::ConnectionReset));
        assert_eq!(stream.end().unwrap().cause, Cause::Aborted);
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn an_abort_by_linux_is_a_reset_by_the_peer() {
    with_stacks(async |host, pair| {
        let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
        let linux = thread::spawn(move || {
            let stream = net::TcpStream::connect((pair.ours, PORT)).unwrap();
            // Closed with a byte unread: Linux resets.
            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let error = stream.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let end = stream.end().unwrap();
        assert_eq!((end.cause, end.by), (Cause::Reset, EndedBy::Peer));
        tokio::task::spawn_blocking(|| linux.join().unwrap()).await.unwrap();
    });
}
