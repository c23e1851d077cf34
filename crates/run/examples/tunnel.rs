//! The endpoint of a tunnel: packets come in and go out over a channel of any kind, and the connections in them are
//! accepted only when an upstream of one's own has connected. A policy decides what may be reached; a failure of the
//! upstream reaches the other side of the tunnel as what it was.
//!
//! `cargo run -p lastack-run --example tunnel` plays both sides: a client behind the tunnel reaches a server of this host,
//! is refused by a closed port, and is denied a third destination.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use lastack::link::{self, Capabilities, PacketReceiver, PacketSender};
use lastack::{Config, Host, IcmpError, InterceptedTcp, TcpStream, relay};
use lastack_run::host::{self, Connected, Failure, Said};
use lastack_run::report::Proto;
use lastack_run::{Decision, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// Packets that wait in each direction.
const QUEUE: usize = 1024;

/// Where connections really go. Here a table; a proxy, another network or a name service would be as good.
struct Upstream {
    routes: HashMap<SocketAddr, SocketAddr>,
}

impl Upstream {
    async fn connect(&self, to: SocketAddr) -> Result<Connected, Failure> {
        // Reports the exact cause of a failure, unlike the connect of tokio.
        host::connect(self.routes.get(&to).copied().unwrap_or(to)).await
    }
}

/// Serves one end of the tunnel: `sender` takes packets that came from the other end, `receiver` has those for it.
fn endpoint(policy: Policy, upstream: Upstream) -> (PacketSender, PacketReceiver) {
    let (link, sender, receiver) = link::channel(Capabilities::new(1400), QUEUE);
    let mut config = Config::new([[10, 0, 0, 1].into()]);
    config.any_address = true;
    config.intercept.tcp = true;
    let stack = Host::spawn(config, link);
    let shared = Rc::new((policy, upstream));
    tokio::task::spawn_local(async move {
        let syns = stack.intercept_tcp()?;
        loop {
            let syn = syns.recv().await?;
            let shared = shared.clone();
            tokio::task::spawn_local(async move { connection(&shared.0, &shared.1, syn).await });
        }
        #[expect(unreachable_code, reason = "the type of the result")]
        io::Result::Ok(())
    });
    (sender, receiver)
}

async fn connection(policy: &Policy, upstream: &Upstream, syn: InterceptedTcp) {
    let (to, v6) = (syn.local_addr(), syn.local_addr().is_ipv6());
    if let Decision::Denied(rule) = policy.decide(Some(Proto::Tcp), to, None, None) {
        println!("{to}: denied by {rule}");
        return syn.unreachable(IcmpError::admin_prohibited(v6), None);
    }
    match upstream.connect(to).await {
        Ok(Connected { stream, .. }) => {
            let Ok(accepted) = syn.accept().await else { return };
            let report = relay(accepted, stream).await;
            println!("{to}: {:?}, {} bytes up, {} down", report.ended, report.to_remote, report.to_local);
        }
        Err(failure) => {
            println!("{to}: {failure}");
            match failure.said {
                Said::Reset => syn.refuse(),
                Said::Nothing => syn.ignore(),
                _ => syn.unreachable(failure.as_icmp(v6), None),
            }
        }
    }
}

/// Carries packets between two ends. A tunnel would encrypt them and send them over a socket.
async fn carry(mut from: PacketReceiver, to: PacketSender) {
    while let Some(packet) = from.recv().await {
        if to.send(packet).await.is_err() {
            return;
        }
    }
}

async fn play() -> io::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let [open_at, closed_at, denied_at] = [80, 81, 82].map(|port| SocketAddr::from(([192, 0, 2, 7], port)));
    let routes = HashMap::from([(open_at, server.local_addr()?), (closed_at, closed)]);
    tokio::task::spawn_local(async move {
        let (mut stream, _) = server.accept().await?;
        stream.write_all(b"hello through the tunnel").await
    });

    let deny = vec!["192.0.2.7:82".parse().map_err(io::Error::other)?];
    let (sender, receiver) = endpoint(Policy::new(Vec::new(), deny, false, false), Upstream { routes });
    let (link, client_sender, client_receiver) = link::channel(Capabilities::new(1400), QUEUE);
    tokio::task::spawn_local(carry(client_receiver, sender));
    tokio::task::spawn_local(carry(receiver, client_sender));
    let client = Host::spawn(Config::new([[10, 0, 0, 2].into()]), link);

    let mut stream = TcpStream::connect(&client, open_at).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    stream.shutdown().await?;
    assert_eq!(text, "hello through the tunnel");
    let refused = TcpStream::connect(&client, closed_at).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let denied = TcpStream::connect(&client, denied_at).await.unwrap_err();
    assert!(denied.to_string().contains("prohibited"), "{denied}");
    println!("the client got {text:?}, then: {refused}; {denied}");
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, play())
}

#[test]
fn both_ends_of_the_tunnel_agree() {
    main().unwrap();
}
