//! A client with retries, and the test that shows that it copes: refused, reset, half an answer, silence, then success.
//! 45 seconds of virtual time, milliseconds of real time.

use lastack::testing::{Behavior, Net};
use lastack::{Cause, Host, TcpStream};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// The client: five attempts, each up to 30 s, with pauses that double.
async fn fetch(host: &Host, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut pause = Duration::from_secs(1);
    for _ in 0..5 {
        match timeout(Duration::from_secs(30), attempt(host, server)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => println!("failed: {error}"),
            Err(_) => println!("no answer"),
        }
        sleep(pause).await;
        pause *= 2;
    }
    Err(ErrorKind::TimedOut.into())
}

async fn attempt(host: &Host, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(host, server).await?;
    stream.write_all(b"GET").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let net = Net::new();
    let served = net.serve(
        80,
        [
            Behavior::refuse(),
            Behavior::reset_after(3),
            Behavior::respond_then_reset(*b"half an ans"),
            Behavior::silent(),
            Behavior::respond(*b"a whole answer"),
        ],
    );
    let start = Instant::now();
    let answer = fetch(net.client(), net.addr(80)).await.expect("the fifth attempt works");
    assert_eq!(answer, b"a whole answer");
    assert_eq!(served.connections(), 5);
    assert!(
        (45..46).contains(&start.elapsed().as_secs()),
        "1 + 2 + 4 + 8 and once 30 s: {:?}",
        start.elapsed()
    );
    let causes = net.causes().await;
    assert_eq!(causes[..3], [Cause::Refused, Cause::Reset, Cause::Reset]);
    println!("{causes:?} in {:?}", start.elapsed());
}
