//! A TCP/IP stack in user space, as sockets for tokio, that gives every end of a connection a
//! reason.
//!
//! A [`Host`] has addresses and a [`Link`](link::Link) to the world: a TUN device, a link in memory,
//! or packets from wherever you have them. Its sockets have the shapes of tokio's own, so what runs
//! over those (hyper, axum, rustls, h2) runs over these. It needs no privileges and no kernel but
//! for the link.
//!
//! ```
//! use lastack::{Cause, Config, EndError, Host, TcpListener, TcpStream, link};
//! use std::{io::ErrorKind, time::Duration};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two hosts on one link.
//! let (a, b) = link::pipe(link::Capabilities::memory(1500));
//! let client = Host::spawn(Config::new(["10.0.0.1".parse()?]), a);
//! let server = Host::spawn(Config::new(["10.0.0.2".parse()?]), b);
//!
//! // Nobody listens: refused, by whom, and why we think so.
//! let refused = TcpStream::connect(&client, ([10, 0, 0, 2], 1935)).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
//! println!("{}", EndError::find(&refused).unwrap());
//!
//! // Somebody listens: text in both directions, each ended by its FIN.
//! let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 7))?;
//! tokio::spawn(async move {
//!     let (mut stream, _peer) = listener.accept().await?;
//!     let (mut reader, mut writer) = stream.split();
//!     tokio::io::copy(&mut reader, &mut writer).await
//! });
//! let mut stream = TcpStream::connect(&client, ([10, 0, 0, 2], 7)).await?;
//! stream.write_all(b"echo").await?;
//! stream.shutdown().await?;
//! let mut text = String::new();
//! stream.read_to_string(&mut text).await?;
//! assert_eq!(text, "echo");
//! assert_eq!(stream.closed().await?.cause, Cause::Orderly);
//!
//! // The hosts are part of this process: what waits to be delivered is given some time.
//! client.shutdown(Duration::from_secs(5)).await;
//! server.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! The book begins at [`docs::start`]; there are [`docs::concepts`], [`docs::recipes`] and, for programs that exist,
//! [`docs::tokio`].
//!
//! # Reasons
//!
//! A connection ends exactly once, and leaves an [`End`]: how, by whom, under which [`Rule`], in which
//! state, what the peer's reset tells of its reason, and which octets were lost. Errors are
//! [`std::io::Error`] of the kind that the errno of Linux has, with the `End` inside ([`EndError`]);
//! [`TcpStream::end`] gives it at any time, [`Host::ended`] for every connection of the host.
//!
//! # Standing for others
//!
//! With [`Config::any_address`] a host takes every destination for its own, and with
//! [`Config::intercept`] it answers nothing before you do: [`Host::intercept_tcp`] gives each SYN, to
//! be accepted, refused, called unreachable or ignored; [`Host::intercept_udp`] and
//! [`Host::intercept_echo`] likewise. So a proxy can tell the truth about the far side.
//!
//! # The end of a host
//!
//! With sockets of the kernel, data that was written still leaves when the program has ended. Here the stack is part of
//! the program: end it with [`Host::shutdown`], or await [`Host::drained`], so that what is in send buffers arrives. A
//! tokio runtime that is dropped before resets the connections of hosts that [`Host::spawn`] made; a [`Driver`] that is
//! dropped is silent, as a machine without power.
//!
//! # Waiting
//!
//! Every future here may be dropped at any time without losing a connection, a datagram or an octet.
//! Any number of futures may wait for the same socket; of tasks that use a `poll_*` method, the last is
//! woken, as with tokio's sockets. The clock is `tokio::time`.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Links to what is behind a feature lead nowhere without it.
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "device",
        feature = "hyper",
        feature = "quinn",
        feature = "testing"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

mod adapters;
mod addr;
pub mod docs;
mod driver;
mod echo;
mod ended;
mod error;
mod host;
#[cfg(all(test, lastack_loom))]
mod loom_tests;
pub mod net;
mod packet_io;
mod relay;
mod shared;
mod shutdown;
mod sync;
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod udp;
mod wakers;

/// Links to the Linux kernel: TUN, and veth where there is no /dev/net/tun.
#[cfg(all(target_os = "linux", feature = "device"))]
pub mod device {
    pub use lastack_device::{Device, DeviceError, DeviceKind, Dropped, LinkSettings, Tun, Veth, tun, veth};
}

#[allow(unused_imports, reason = "each name is behind a feature")]
pub use adapters::*;
pub use driver::Driver;
pub use echo::{EchoInterceptor, Pong};
pub use ended::EndedConnections;
pub use error::{EndError, HostError, UdpReport, errno};
pub use host::Host;
pub use packet_io::PacketIo;
pub use relay::{RelayReport, Relayed, Remote, relay};
pub use tcp::{
    InterceptedTcp, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, TcpInterceptor, TcpListener,
    TcpSocket, TcpStream, Watch, WriteHalf,
};
pub use udp::{UdpInterceptor, UdpSocket};

pub use lastack_engine::{
    Algorithm, BindError, ByRule, ByteCounts, CaState, Cause, Checksums, Config, ConnId, ConnectError,
    Counters, Datagram, DatagramConfig, DropReason, EchoError, EchoRequest, Ecn, End, Ended, EndedBy,
    FourTuple, Header, InitialNumbers, Instant, Intercept, IpFields, Keepalive, LikelyCause, LostBytes,
    MtuProbing, NSTAT, Nstat, OpenConnection, Origin, PeerInfo, Received, Rule, TCP_INFO, TcpConfig,
    TcpError, TcpInfo, TcpState, TimeLimit, Transmit, TransmitChecksum, UdpError, Verdict,
};
pub use lastack_link as link;
pub use lastack_wire::Malformed;
pub use lastack_wire::icmp::IcmpError;
pub use lastack_wire::reset_reason::ResetReason;
pub use lastack_wire::tcp::TcpFlags;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
