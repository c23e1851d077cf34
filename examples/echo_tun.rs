//! An echo server on a TUN device. Needs root, or CAP_NET_ADMIN:
//!
//! ```console
//! # cargo run -p lastack-examples --bin echo-tun &
//! # nc 10.0.9.1 7
//! ```
//!
//! With `--check` it connects to itself through the kernel, and ends.

use lastack::device::Tun;
use lastack::{Config, Host, TcpListener};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // The kernel's end of the link is 10.0.9.2, ours is 10.0.9.1.
    let tun = Tun::open("lastack-echo")?;
    ip("addr add 10.0.9.2/24 dev lastack-echo")?;
    ip("link set lastack-echo up")?;

    let host = Host::spawn(Config::new(["10.0.9.1".parse()?]), tun);
    let listener = TcpListener::bind(&host, ([10, 0, 9, 1], 7))?;
    println!("echo at 10.0.9.1:7");
    let server = tokio::spawn(serve(listener));

    if std::env::args().any(|arg| arg == "--check") {
        let mut stream = tokio::net::TcpStream::connect("10.0.9.1:7").await?;
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        drop(stream);
        host.shutdown(Duration::from_secs(2)).await;
        return Ok(());
    }
    Ok(server.await??)
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                stream.shutdown().await?;
            }
            println!("{peer}: {}", stream.closed().await?);
            std::io::Result::Ok(())
        });
    }
}

fn ip(arguments: &str) -> Result<()> {
    let status = Command::new("ip").args(arguments.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments}: {status}").into()) }
}
