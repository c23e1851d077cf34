//! Readiness, and reads of a fixed number of bytes.

use crate::{connection, hosts, hosts_with};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::time;

#[tokio::test(start_paused = true)]
async fn ready_waits_for_any_requested_interest_and_consumes_nothing() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    assert_eq!(near.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap(), Ready::WRITABLE);
    for interest in [Interest::READABLE, Interest::ERROR] {
        assert!(time::timeout(Duration::from_millis(10), near.ready(interest)).await.is_err());
    }
    let (found, written) = tokio::join!(near.ready(Interest::READABLE), far.write(b"word"));
    assert_eq!((found.unwrap(), written.unwrap()), (Ready::READABLE, 4));
    assert_eq!(near.ready(Interest::READABLE).await.unwrap(), Ready::READABLE);
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 4);
    let (found, ()) = tokio::join!(near.ready(Interest::ERROR), async { far.abort() });
    assert_eq!(found.unwrap(), Ready::ERROR);
    let error = near.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let rest = near.ready(Interest::READABLE | Interest::WRITABLE | Interest::ERROR).await.unwrap();
    assert_eq!(rest, Ready::ALL - Ready::ERROR - Ready::PRIORITY);
}

#[tokio::test(start_paused = true)]
async fn ready_wakes_waiting_writers() {
    let (client, server) = hosts_with(|config| config.tcp.receive_buffer = 10_000);
    let (near, mut far, _listener) = connection(&client, &server).await;
    while time::timeout(Duration::from_secs(5), near.ready(Interest::WRITABLE)).await.is_ok() {
        while near.try_write(&[1; 10_000]).is_ok() {}
    }
    let mut text = vec![0; 100_000];
    let (found, text) = tokio::join!(near.ready(Interest::WRITABLE), far.read_exact(&mut text));
    assert_eq!((found.unwrap(), text.unwrap()), (Ready::WRITABLE, 100_000));
}

/// T82: `read_exact` has no way to tell of the bytes that came before the error; `read_to_end` leaves them.
#[tokio::test(start_paused = true)]
async fn t82_a_read_of_a_fixed_size_gives_the_error_and_leaves_what_came() {
    let (client, server) = hosts();
    for exact in [true, false] {
        let (mut near, mut far, _listener) = connection(&client, &server).await;
        far.write_all(b"hello").await.unwrap();
        far.drained().await.unwrap();
        far.abort();
        near.ready(Interest::ERROR).await.unwrap();
        let mut buf = Vec::from([0; 10]);
        let error = if exact {
            near.read_exact(&mut buf).await.unwrap_err()
        } else {
            buf.clear();
            (&mut near).take(10).read_to_end(&mut buf).await.unwrap_err()
        };
        assert_eq!((error.kind(), &buf[..5]), (ErrorKind::ConnectionReset, &b"hello"[..]));
        assert_eq!(near.read(&mut buf).await.unwrap(), 0, "the error was reported");
    }
}
