//! Sockets over links in memory, in virtual time.

mod bounds;
mod driver;
mod ending;
mod errors;
mod http;
mod intercept;
mod ready;
mod shutdown;
mod socket;
mod tcp;
mod tls;
mod udp;
mod waiting;

use lastack::{Config, Host, TcpListener, TcpStream, link};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn addr(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// Two hosts on one link: a client and a server.
fn hosts() -> (Host, Host) {
    hosts_with(|_| {})
}

/// Two hosts, the server with other settings.
fn hosts_with(change: impl FnOnce(&mut Config)) -> (Host, Host) {
    let (a, b) = link::pipe(link::Capabilities::new(1500));
    let mut config = Config::new([SERVER, "fd00::2".parse().unwrap()]);
    change(&mut config);
    let client = Host::spawn(Config::new([CLIENT, "fd00::1".parse().unwrap()]), a);
    (client, Host::spawn(config, b))
}

/// A connection between the two: the client's end, the server's end, and the listener.
async fn connection(client: &Host, server: &Host) -> (TcpStream, TcpStream, TcpListener) {
    let listener = TcpListener::bind(server, (SERVER, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(client, address), listener.accept());
    (near.unwrap(), far.unwrap().0, listener)
}
