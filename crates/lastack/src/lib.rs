//! A user-space TCP/IP stack with sockets for tokio that reports a reason for the end of every connection.
//!
//! A [`Host`] has addresses and a [`Link`](link::Link) to the network: a TUN device, an in-memory link, or packets
//! from any other source. Its sockets have the API of tokio's sockets, so hyper, axum, rustls and h2 run over them.
//! It needs no privileges; only a TUN link needs the kernel.
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
//! // No listener: the connection is refused. The error reports by whom, and the inferred reason.
//! let refused = TcpStream::connect(&client, ([10, 0, 0, 2], 1935)).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
//! println!("{}", EndError::find(&refused).unwrap());
//!
//! // With a listener: data in both directions, each ended by its FIN.
//! let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 7))?;
//! tokio::spawn(async move {
//!     let (mut stream, _peer) = listener.accept().await?;
//!     let (mut reader, mut writer) = stream.split();
//!     tokio::io::copy(&mut reader, &mut writer).await
//! });
//! let mut stream = TcpStream::connect(&client, ([10, 0, 0, 2], 7)).await?;
//! stream.write_all(b"echo").await?;
//! stream.shutdown().await?;
//! let mut data = String::new();
//! stream.read_to_string(&mut data).await?;
//! assert_eq!(data, "echo");
//! assert_eq!(stream.closed().await?.cause, Cause::Orderly);
//!
//! // The hosts are part of this process: pending data is given some time to be delivered.
//! client.shutdown(Duration::from_secs(5)).await;
//! server.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! The guide starts at [`docs::start`]; see also [`docs::concepts`], [`docs::recipes`] and, for porting existing
//! programs, [`docs::tokio`].
//!
//! # Reasons
//!
//! Every connection leaves exactly one [`End`]: how it ended, by which side, under which [`Rule`], in which state,
//! the reason in the peer's reset, and which bytes were lost. Errors are [`std::io::Error`]s of the kind that
//! corresponds to Linux's errno, with the `End` inside ([`EndError`]); [`TcpStream::end`] returns it at any time,
//! [`Host::ended`] for every connection of the host.
//!
//! # Interception
//!
//! With [`Config::any_address`] a host accepts packets to any destination, and with [`Config::intercept`] it leaves
//! the answer to the application: [`Host::intercept_tcp`] returns each SYN, to be accepted, refused, answered with an
//! ICMP error or ignored; [`Host::intercept_udp`], [`Host::intercept_echo`] and [`Host::intercept_other`] do the same for
//! datagrams, echo requests, and packets of other protocols (GRE, ESP, IGMP). So a proxy can pass on the actual result of its outgoing connection.
//!
//! # Shutting down a host
//!
//! With kernel sockets, written data is still sent after the program has exited. Here the stack is part of the
//! program: call [`Host::shutdown`] or await [`Host::drained`] before exiting, so that the data in send buffers is
//! delivered. If a tokio runtime is dropped before that, the connections of hosts made by [`Host::spawn`] are reset;
//! a [`Driver`] that is dropped sends nothing.
//!
//! # Features
//!
//! `tokio` (default) is all of the above. Without it the crate is the [`engine`] (a [`Stack`](engine::Stack) without I/O)
//! and the [links](link). `device` adds TUN, `pcap` captures, `tracing` spans and events, `testing` the test kit;
//! [`docs::recipes`] lists all of them with their dependencies.
//!
//! # Cancellation and wakers
//!
//! Every future here may be dropped at any time without losing a connection, a datagram or a byte. Any number of
//! futures may wait for the same socket; of the tasks that use a `poll_*` method, only the last is woken, as with
//! tokio's sockets. The clock is `tokio::time`.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Links to items behind a disabled feature are broken.
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

#[cfg(feature = "tokio")]
mod adapters;
#[cfg(feature = "tokio")]
mod addr;
pub mod docs;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod echo;
#[cfg(feature = "tokio")]
mod ended;
#[cfg(feature = "tokio")]
mod error;
#[cfg(feature = "tokio")]
mod host;
#[cfg(all(test, lastack_loom))]
mod loom_tests;
#[cfg(feature = "tokio")]
pub mod net;
#[cfg(feature = "tokio")]
mod packet_io;
#[cfg(all(target_os = "linux", feature = "device"))]
mod queues;
#[cfg(feature = "tokio")]
mod raw;
#[cfg(feature = "tokio")]
mod relay;
#[cfg(feature = "tokio")]
mod shared;
#[cfg(feature = "tokio")]
mod shutdown;
#[cfg(feature = "tokio")]
mod sync;
#[cfg(feature = "tokio")]
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tracing")]
mod trace;
#[cfg(feature = "tokio")]
mod udp;
#[cfg(feature = "tokio")]
mod wakers;

/// Links to the Linux kernel: TUN, and veth where there is no /dev/net/tun.
#[cfg(all(target_os = "linux", feature = "device"))]
pub mod device {
    pub use lastack_device::{
        Device, DeviceError, DeviceKind, Dropped, LinkSettings, Tun, Veth, queue_of, tun, veth,
    };
}

#[allow(unused_imports, reason = "each name is behind a feature")]
#[cfg(feature = "tokio")]
pub use adapters::*;
#[cfg(feature = "tokio")]
pub use driver::Driver;
#[cfg(feature = "tokio")]
pub use echo::{EchoInterceptor, Pong};
#[cfg(feature = "tokio")]
pub use ended::EndedConnections;
#[cfg(feature = "tokio")]
pub use error::{EndError, HostError, UdpReport, errno, find_error};
#[cfg(feature = "tokio")]
pub use host::Host;
#[cfg(feature = "tokio")]
pub use packet_io::PacketIo;
#[cfg(all(target_os = "linux", feature = "device"))]
pub use queues::Queues;
#[cfg(feature = "tokio")]
pub use raw::RawInterceptor;
#[cfg(feature = "tokio")]
pub use relay::{RelayReport, Relayed, Remote, relay};
#[cfg(feature = "tokio")]
pub use tcp::{
    InterceptedTcp, OwnedReadHalf, OwnedWriteHalf, ReadHalf, RelayRead, ReuniteError, TcpInterceptor,
    TcpListener, TcpSocket, TcpStream, Watch, WriteHalf,
};
#[cfg(feature = "tokio")]
pub use udp::{UdpInterceptor, UdpSocket};

pub use lastack_engine as engine;
pub use lastack_engine::congestion;
pub use lastack_engine::{
    Algorithm, BindError, ByRule, ByteCounts, CaState, Cause, Checksums, Config, ConfigError, ConnId,
    ConnectError, Counters, Datagram, DatagramConfig, DropReason, EchoError, EchoRequest, Ecn, End, Ended,
    EndedBy, FourTuple, Header, InitialNumbers, Instant, Intercept, InvalidPrefix, IpFields, Keepalive,
    LikelyCause, LostBytes, MtuProbing, NSTAT, Nstat, OpenConnection, Origin, PeerInfo, Prefix, RawError,
    RawPacket, Received, Rule, SlowStartExit, TCP_INFO, TcpConfig, TcpError, TcpInfo, TcpState, TimeLimit,
    Transmit, TransmitChecksum, UdpError, Verdict,
};
pub use lastack_link as link;
pub use lastack_wire as wire;
pub use lastack_wire::Malformed;
pub use lastack_wire::icmp::IcmpError;
pub use lastack_wire::reset_reason::ResetReason;
pub use lastack_wire::tcp::TcpFlags;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
