//! What a program that uses `tracing` gets: a span for each connection, and in it how it ended.
#![cfg(feature = "tracing")]

use lastack::{Config, Host, TcpListener, TcpStream, link};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::fmt::MakeWriter;

/// Where the subscriber of the test writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn each_connection_has_a_span_and_its_end_is_an_event_in_it() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(lines.clone())
        .without_time()
        .with_ansi(false)
        .finish();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tracing::subscriber::with_default(subscriber, || runtime.block_on(two_connections()));

    let lines = lines.all();
    let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    let client = "tcp{local=10.0.0.1:40001 remote=10.0.0.2:80}: lastack::connection";
    assert!(has(&["DEBUG", client, "connecting"]), "{lines:#?}");
    assert!(has(&["DEBUG", "tcp{local=10.0.0.2:80 remote=10.0.0.1:40001}", "accepted"]), "{lines:#?}");
    assert!(
        has(&[
            "DEBUG",
            client,
            "orderly, started by the peer in LAST-ACK",
            "rule=\"end-orderly\"",
            "bytes_received=5"
        ]),
        "{lines:#?}"
    );
    let refused = "tcp{local=10.0.0.1:40002 remote=10.0.0.2:81}: lastack::connection";
    assert!(
        has(&["INFO", refused, "refused by the peer in SYN-SENT", "rule=\"peer-rst-refused\""]),
        "{lines:#?}"
    );
    assert!(has(&["TRACE", "lastack::packet", "rule=\"rst-no-listener\"", "rule_code=\"S1\""]), "{lines:#?}");
}

async fn two_connections() {
    let (a, b) = link::pipe(link::Capabilities::memory(1500));
    let client = Host::spawn(Config::new(["10.0.0.1".parse().unwrap()]), a);
    let server = Host::spawn(Config::new(["10.0.0.2".parse().unwrap()]), b);
    let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80)).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let _end = stream.closed().await;
    });
    let from = |port| ([10, 0, 0, 1], port);
    let mut stream = TcpStream::connect_from(&client, from(40001), ([10, 0, 0, 2], 80)).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    stream.shutdown().await.unwrap();
    TcpStream::connect_from(&client, from(40002), ([10, 0, 0, 2], 81)).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(120)).await;
}

/// A subscriber that uses a socket of the same host does not block on its lock.
#[test]
fn a_subscriber_may_use_the_host() {
    #[derive(Clone)]
    struct Asks(Arc<Mutex<Option<Host>>>, Arc<Mutex<usize>>);
    impl Write for Asks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let host = self.0.lock().unwrap().clone();
            *self.1.lock().unwrap() += host.map_or(0, |host| host.connections().len() + 1);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let asks = Asks(Arc::default(), Arc::default());
    let made = asks.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || made.clone()).finish();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let (a, b) = link::pipe(link::Capabilities::memory(1500));
            let client = Host::spawn(Config::new(["10.0.0.1".parse().unwrap()]), a);
            let _server = Host::spawn(Config::new(["10.0.0.2".parse().unwrap()]), b);
            *asks.0.lock().unwrap() = Some(client.clone());
            TcpStream::connect(&client, ([10, 0, 0, 2], 81)).await.unwrap_err();
        });
    });
    assert!(*asks.1.lock().unwrap() > 0, "the subscriber was called, and called the host");
    *asks.0.lock().unwrap() = None;
}
