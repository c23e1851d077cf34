//! The test kit, used as its users do: each fault seen by a client.
#![cfg(feature = "testing")]

use lastack::link::{Direction, Plan};
use lastack::testing::{Behavior, Net, SERVER};
use lastack::{Cause, EndError, IcmpError, Keepalive, LikelyCause, TcpStream, TimeLimit};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// Sends a request and reads the answer.
async fn ask(net: &Net) -> io::Result<Vec<u8>> {
    let mut stream = net.connect(80).await?;
    stream.write_all(b"request").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn faults_before_the_connection() {
    let net = Net::new();
    let served = net.serve(
        80,
        [Behavior::refuse(), Behavior::ignore(), Behavior::unreachable(IcmpError::host_unreachable(false))],
    );
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::HostUnreachable);
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "after the last");
    assert_eq!(net.connect(81).await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "another port");
    assert_eq!(served.connections(), 4, "a SYN that is sent again is none");
    let causes = net.causes().await;
    assert_eq!(causes[0], Cause::Refused);
    assert_eq!(causes[1], Cause::TimedOut(TimeLimit::Handshake));
    assert_eq!(causes[2], Cause::Unreachable(IcmpError::host_unreachable(false)));
    assert_eq!(net.causes().await, [], "each once");
}

#[tokio::test(start_paused = true)]
async fn faults_after_the_connection() {
    let net = Net::new();
    let served = net.serve(
        80,
        [
            Behavior::reset_after(0),
            Behavior::reset_after(3),
            Behavior::respond(*b"whole"),
            Behavior::respond_then_reset(*b"half"),
            Behavior::echo(),
        ],
    );
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ask(&net).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ask(&net).await.unwrap(), b"whole");
    let mut stream = net.connect(80).await.unwrap();
    stream.write_all(b"request").await.unwrap();
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!((error.kind(), &answer[..]), (ErrorKind::ConnectionReset, &b"half"[..]));
    assert_eq!(EndError::find(&error).unwrap().inferred, Some(LikelyCause::AbortedByPeer));
    drop(stream);
    let mut stream = net.connect(80).await.unwrap();
    stream.write_all(b"back").await.unwrap();
    stream.shutdown().await.unwrap();
    answer.clear();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"back");
    drop(stream);
    let resets = [Cause::Reset; 2];
    assert_eq!(net.causes().await, [&resets[..], &[Cause::Orderly, Cause::Reset, Cause::Orderly]].concat());
    assert_eq!(served.received(), [&b""[..], b"req", b"request", b"r", b""].map(<[u8]>::to_vec));
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_takes_its_time() {
    let net = Net::new();
    net.serve(80, [Behavior::respond_slowly([7; 100], 10, Duration::from_secs(3))]);
    let start = Instant::now();
    assert_eq!(ask(&net).await.unwrap(), [7; 100]);
    assert!((30..31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_answer_and_a_server_that_does_not_read() {
    let net = Net::new();
    net.serve(80, [Behavior::silent(), Behavior::respond_then_stall(*b"half"), Behavior::never_read()]);
    assert!(timeout(Duration::from_secs(60), ask(&net)).await.is_err());
    assert!(timeout(Duration::from_secs(60), ask(&net)).await.is_err());
    let mut stream = net.connect(80).await.unwrap();
    let written = timeout(Duration::from_secs(60), stream.write_all(&vec![0; 50 << 20])).await;
    assert!(written.is_err(), "the window is closed");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_detected_when_used() {
    let net = Net::new();
    net.serve(80, [Behavior::half_open(7), Behavior::respond(*b"again")]);
    let mut stream = net.connect(80).await.unwrap();
    stream.write_all(b"request").await.unwrap();
    assert!(timeout(Duration::from_secs(60), stream.readable()).await.is_err(), "it does not know");
    stream.write_all(b"more").await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(EndError::find(&error).unwrap().inferred, Some(LikelyCause::UnknownConnection));
    drop(stream);
    assert_eq!(ask(&net).await.unwrap(), b"again", "the server is back");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_cut_ends_what_it_carries_by_keepalive() {
    let net = Net::new();
    net.serve(80, [Behavior::silent()]);
    let stream = net.connect(80).await.unwrap();
    let probes = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(1), count: 3 };
    stream.set_keepalive(Some(probes)).unwrap();
    net.cut();
    let start = Instant::now();
    assert_eq!(stream.closed().await.unwrap().cause, Cause::TimedOut(TimeLimit::KeepAlive));
    assert!((12..15).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_comes_back_delivers() {
    let net = Net::new();
    net.serve(80, [Behavior::respond(*b"late")]);
    net.cut();
    let client = net.client().clone();
    let attempt = tokio::spawn(async move { TcpStream::connect(&client, (SERVER, 80)).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    net.heal();
    let mut stream = attempt.await.unwrap().unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"late");
}

#[tokio::test(start_paused = true)]
async fn selected_packets_are_lost_and_retransmitted() {
    let net = Net::new();
    net.serve(80, [Behavior::respond(*b"answer")]);
    net.lose_next(Direction::Sent, 2);
    let start = Instant::now();
    assert_eq!(ask(&net).await.unwrap(), b"answer");
    assert!((3000..3500).contains(&start.elapsed().as_millis()), "two SYNs were lost: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_bad_link_is_the_same_each_time() {
    let plan = |seed| Plan { seed, delay: Duration::from_millis(20), loss: 0.1, ..Plan::default() };
    let mut times = Vec::new();
    for _ in 0..2 {
        let net = Net::builder().plans(plan(5), plan(6)).build();
        net.serve(80, [Behavior::respond(vec![1; 300_000])]);
        let start = Instant::now();
        assert_eq!(ask(&net).await.unwrap().len(), 300_000);
        times.push(start.elapsed());
    }
    assert_eq!(times[0], times[1]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_ones_own() {
    let net =
        Net::builder().delay(Duration::from_millis(50)).server(|config| config.tcp.nodelay = true).build();
    net.serve(
        80,
        [Behavior::run(|mut stream| async move {
            let mut request = [0; 7];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&request.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
        })],
    );
    assert_eq!(ask(&net).await.unwrap(), b"REQUEST");
    assert_eq!(net.one_end().await.cause, Cause::Orderly);
}
