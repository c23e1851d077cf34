//! Everything that is routed into a TUN device goes through a SOCKS5 proxy, and what the proxy answers reaches the
//! program as what it is: refused is refused, and a reset is a reset, after the data before it.
//!
//! ```console
//! # cargo run -p lastack-examples --bin tun2socks 127.0.0.1:1080 &
//! # ip addr add 10.0.8.1/24 dev lastack-socks; ip link set lastack-socks up; ip route add default dev lastack-socks
//! ```

use lastack::{Config, Host, InterceptedTcp, device::Tun, relay};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proxy: SocketAddr = std::env::args().nth(1).ok_or("usage: tun2socks PROXY:PORT")?.parse()?;
    let mut config = Config::new(["10.0.8.2".parse()?]);
    config.any_address = true; // it answers for every destination ..
    config.intercept.tcp = true; // .. once it knows what to answer
    let host = Host::spawn(config, Tun::open("lastack-socks")?);
    let syns = host.intercept_tcp()?;
    println!("ready");
    loop {
        tokio::spawn(connection(syns.recv().await?, proxy));
    }
}

async fn connection(syn: InterceptedTcp, proxy: SocketAddr) -> io::Result<()> {
    let target = syn.local_addr();
    tokio::select! {
        end = syn.closed() => println!("{target}: given up: {}", end?),
        connected = connect(proxy, target) => match connected {
            Ok(remote) => println!("{target}: {:?}", relay(syn.accept().await?, remote).await.ended),
            Err(error) => { println!("{target}: {error}"); syn.fail(&error).await }
        }
    }
    Ok(())
}

/// CONNECT of RFC 1928.
async fn connect(proxy: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(&[5, 1, 0]).await?;
    stream.read_exact(&mut [0; 2]).await?;
    let mut request = vec![5, 1, 0];
    match target.ip() {
        IpAddr::V4(ip) => request.extend([1].into_iter().chain(ip.octets())),
        IpAddr::V6(ip) => request.extend([4].into_iter().chain(ip.octets())),
    }
    request.extend(target.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    stream.read_exact(&mut vec![0; if reply[3] == 4 { 18 } else { 6 }]).await?;
    Err(match reply[1] {
        0 => return Ok(stream),
        2 => ErrorKind::PermissionDenied,
        3 => ErrorKind::NetworkUnreachable,
        4 => ErrorKind::HostUnreachable,
        5 => ErrorKind::ConnectionRefused,
        6 => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    }
    .into())
}
