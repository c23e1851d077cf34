//! Futures that are dropped, and tasks that are woken.

use crate::{CLIENT, SERVER, connection, hosts};
use lastack::{Config, Host, TcpListener, TcpStream, link};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time;

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, with a waker that counts.
fn poll_once<F: Future>(future: Pin<&mut F>) -> (Poll<F::Output>, Arc<Count>) {
    let count = Arc::<Count>::default();
    let waker = Waker::from(count.clone());
    (future.poll(&mut Context::from_waker(&waker)), count)
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_woken_by_data_by_a_wanted_acknowledgment_and_by_the_end() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    far.hold_acks().unwrap();
    let count = Arc::<Count>::default();
    let waker = Waker::from(count.clone());
    let look = |take: usize| far.poll_relay_read(&mut Context::from_waker(&waker), |_| take);
    let woken = || count.0.swap(0, Ordering::SeqCst);

    let nothing = look(0);
    assert!(nothing.read.is_pending() && !nothing.drained && nothing.end.is_none() && !nothing.ack_wanted);
    near.write_all(b"four").await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(woken(), 1, "data");
    let part = look(1);
    assert!(matches!(part.read, Poll::Ready(Ok(Some(1)))) && !part.drained, "more is left");
    let rest = look(3);
    assert!(matches!(rest.read, Poll::Ready(Ok(Some(3)))) && rest.drained);

    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(woken(), 1, "retransmitted, as it is not acknowledged");
    let wanted = look(0);
    assert!(wanted.read.is_pending() && wanted.ack_wanted);
    far.acknowledge(4, false).unwrap();
    assert!(!look(0).ack_wanted);

    near.write_all(b"more").await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    assert!(look(4).drained);
    assert_eq!(woken(), 1);
    near.abort();
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(woken(), 1, "one task, which waits for data and for the end");
    let reset = look(0);
    assert!(matches!(reset.read, Poll::Ready(Err(_))), "{reset:?}");
    assert!(matches!(look(0).read, Poll::Ready(Ok(None))), "the error is reported once");
    assert!(far.end().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_accept_loses_no_connection() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let count = {
        let (result, count) = poll_once(pin!(listener.accept()));
        assert!(result.is_pending());
        count
    };
    let stream = TcpStream::connect(&client, (SERVER, 80)).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, stream.local_addr().unwrap());
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "a dropped future is not woken");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_read_loses_no_data() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    far.set_nodelay(true).unwrap();
    for i in 0..20_u8 {
        let early = time::timeout(Duration::from_millis(1), near.read(&mut [0; 8])).await;
        assert!(early.is_err(), "nothing was written yet");
        far.write_all(&[i]).await.unwrap();
        near.readable().await.unwrap();
        let mut peeked = [0; 8];
        assert_eq!(near.peek(&mut peeked).await.unwrap(), 1);
        assert_eq!((near.read_u8().await.unwrap(), peeked[0]), (i, i));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connect_leaves_no_trace() {
    let (a, mut b) = link::pipe(link::Capabilities::new(1500));
    let client = Host::spawn(Config::new([CLIENT]), a);
    let mut ended = client.ended();
    let attempt = TcpStream::connect_from(&client, (CLIENT, 4000), (SERVER, 80));
    assert!(time::timeout(Duration::from_millis(100), attempt).await.is_err());
    assert_eq!(ended.recv().await.unwrap().flow.local.port(), 4000);
    // Only the SYN went out (S27), and the port is free again.
    let mut packets = 0;
    let mut packet = Vec::new();
    while link::Link::recv(&mut b, lastack::Instant::ZERO, &mut packet).is_some() {
        packets += 1;
    }
    assert_eq!(packets, 1);
    let again = TcpStream::connect_from(&client, (CLIENT, 4000), (SERVER, 80));
    assert!(time::timeout(Duration::from_millis(100), again).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reader_and_a_writer_in_two_tasks_are_both_woken() {
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    let (mut reader, mut writer) = near.into_split();
    let read = tokio::spawn(async move {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).await.unwrap();
        text.len()
    });
    let write = tokio::spawn(async move { writer.write_all(&vec![1; 4 << 20]).await });
    time::sleep(Duration::from_secs(1)).await;
    assert!(!read.is_finished() && !write.is_finished());
    far.write_all(b"word").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read.await.unwrap(), 4);
    let mut sink = Vec::new();
    far.read_to_end(&mut sink).await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(sink.len(), 4 << 20);
}

#[tokio::test(start_paused = true)]
async fn many_futures_may_wait_for_one_stream() {
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    let near = Arc::new(near);
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let near = near.clone();
            tokio::spawn(async move { near.readable().await.unwrap() })
        })
        .collect();
    let closed = tokio::spawn({
        let near = near.clone();
        async move { near.closed().await.unwrap() }
    });
    time::sleep(Duration::from_secs(1)).await;
    far.write_all(b"x").await.unwrap();
    for one in waiting {
        one.await.unwrap();
    }
    far.abort();
    assert_eq!(closed.await.unwrap().cause, lastack::Cause::Reset);
}

#[tokio::test(start_paused = true)]
async fn the_task_that_polled_last_is_woken() {
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    let (first, last) = (Arc::<Count>::default(), Arc::<Count>::default());
    for count in [&first, &last] {
        let waker = Waker::from(count.clone());
        assert!(near.poll_read_ready(&mut Context::from_waker(&waker)).is_pending());
    }
    far.write_all(b"x").await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!((first.0.load(Ordering::SeqCst), last.0.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reset_wakes_a_waiting_writer() {
    let (client, server) = hosts();
    let (mut near, far, _listener) = connection(&client, &server).await;
    let write = tokio::spawn(async move { near.write_all(&vec![1; 16 << 20]).await });
    time::sleep(Duration::from_secs(1)).await;
    assert!(!write.is_finished());
    far.abort();
    assert_eq!(write.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_closes_sockets_may_run_anywhere() {
    /// Owns a stream that is dropped with the last waker.
    struct Owner(#[expect(dead_code, reason = "held to be dropped")] TcpStream);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    let (other, _other_far, _other_listener) = connection(&client, &server).await;
    let waker = Waker::from(Arc::new(Owner(other)));
    assert!(near.poll_read_ready(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    // Replacing the waker drops it, and with it a stream of the same host.
    assert!(near.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending());
    far.write_all(b"x").await.unwrap();
    near.readable().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_greedy_writer_yields_to_others() {
    let (client, server) = hosts();
    let (mut near, _far, _listener) = connection(&client, &server).await;
    let polls = poll_fn(|cx| {
        for n in 0..10_000 {
            // Nobody sends what is written: this task does not let the driver run.
            if Pin::new(&mut near).poll_write(cx, &[]).is_pending() {
                return Poll::Ready(n);
            }
        }
        Poll::Ready(10_000)
    });
    assert!(polls.await < 10_000, "tokio's budget of a task is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_future_still_closes() {
    let (client, server) = hosts();
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    let mut ended = client.ended();
    near.write_all(b"last words").await.unwrap();
    near.set_linger(Some(Duration::from_secs(60))).unwrap();
    assert!(poll_once(pin!(near.close())).0.is_pending());
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    drop(far);
    assert_eq!(text, "last words");
    assert_eq!(ended.recv().await.unwrap().end.cause, lastack::Cause::Orderly);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_for_an_end_loses_no_end() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let mut ended = client.ended();
    assert!(poll_once(pin!(ended.recv())).0.is_pending());
    assert!(poll_once(pin!(near.closed())).0.is_pending());
    assert!(poll_once(pin!(near.drained())).0.is_ready());
    far.abort();
    assert_eq!(near.closed().await.unwrap(), ended.recv().await.unwrap().end);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_user_under_the_lock_leaves_the_host_working() {
    let (client, server) = hosts();
    let (near, mut far, _listener) = connection(&client, &server).await;
    far.write_all(b"text").await.unwrap();
    near.readable().await.unwrap();
    let reading = tokio::spawn(async move {
        let read = near.read_with(|_| panic!("a user's mistake"));
        read.await
    });
    assert!(reading.await.unwrap_err().is_panic());
    // Dropped with unread data: the peer is reset, and the host still works.
    assert_eq!(far.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (mut near, mut far, _listener) = connection(&client, &server).await;
    near.write_all(b"x").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wakeup_is_lost_between_threads() {
    let (client, server) = hosts();
    let games: Vec<_> = (0..8)
        .map(|_| {
            let (client, server) = (client.clone(), server.clone());
            tokio::spawn(async move {
                let (mut near, mut far, _listener) = connection(&client, &server).await;
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let back = tokio::spawn(async move {
                    while let Ok(ball) = far.read_u8().await {
                        far.write_u8(ball.wrapping_add(1)).await.unwrap();
                    }
                });
                for ball in 0..2000_u32 {
                    near.write_u8(ball as u8).await.unwrap();
                    assert_eq!(near.read_u8().await.unwrap(), (ball as u8).wrapping_add(1));
                }
                drop(near);
                back.await.unwrap();
            })
        })
        .collect();
    for game in games {
        game.await.unwrap();
    }
}
