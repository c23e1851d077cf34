//! Two WireGuard endpoints (boringtun), each with a TCP/IP stack of its own inside the tunnel. Their UDP is the kernel's.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use lastack::link::{Capabilities, channel};
use lastack::{Config, Host, TcpListener, TcpStream};
use std::{net::IpAddr, net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A host whose link is a WireGuard tunnel over `socket` to `peer`.
fn endpoint(ip: IpAddr, key: [u8; 32], peer_key: [u8; 32], socket: UdpSocket, peer: SocketAddr) -> Host {
    let peer_public = PublicKey::from(&StaticSecret::from(peer_key));
    let mut tunnel = Tunn::new(StaticSecret::from(key), peer_public, None, None, 0, None);
    let (link, to_stack, mut from_stack) = channel(Capabilities::new(1420), 1024);
    let host = Host::spawn(Config::new([ip]), link);
    tokio::spawn(async move {
        let (mut datagram, mut out) = ([0; 2048], [0; 2048]);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            let mut result = tokio::select! {
                packet = from_stack.recv() => match packet {
                    Some(packet) => tunnel.encapsulate(&packet, &mut out),
                    None => return, // the host has ended
                },
                Ok(len) = socket.recv(&mut datagram) => tunnel.decapsulate(None, &datagram[..len], &mut out),
                _ = tick.tick() => tunnel.update_timers(&mut out),
            };
            loop {
                match result {
                    TunnResult::WriteToNetwork(packet) => drop(socket.send_to(packet, peer).await),
                    // A full queue loses the packet, as a wire does.
                    TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                        drop(to_stack.try_send(packet.to_vec()));
                        break;
                    }
                    TunnResult::Done | TunnResult::Err(_) => break,
                }
                result = tunnel.decapsulate(None, &[], &mut out); // what waited for the handshake
            }
        }
    });
    host
}

#[tokio::main]
async fn main() -> Result<()> {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    let (at_a, at_b) = (a.local_addr()?, b.local_addr()?);
    let (near, far) = ([10, 7, 0, 1].into(), [10, 7, 0, 2].into());
    let client = endpoint(near, [1; 32], [2; 32], a, at_b);
    let server = endpoint(far, [2; 32], [1; 32], b, at_a);

    let listener = TcpListener::bind(&server, (far, 80))?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(&vec![7; 5_000_000]).await?;
        stream.shutdown().await
    });
    let mut data = Vec::new();
    TcpStream::connect(&client, (far, 80)).await?.read_to_end(&mut data).await?;
    assert_eq!(data.len(), 5_000_000);
    println!("{} bytes through the tunnel", data.len());
    client.shutdown(Duration::from_secs(2)).await;
    server.shutdown(Duration::from_secs(2)).await;
    Ok(())
}
