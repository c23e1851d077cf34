//! Echo requests from the host: through a ping socket, which needs no privilege where `net.ipv4.ping_group_range`
//! admits the user's group, else through a raw socket, which needs `CAP_NET_RAW`.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use lastack::IpFields;
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::{self, IpHeader};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::datagrams::is_dropped;
use super::error_queue::{self, QueuedError};
use super::failure::Failure;
use super::scratch;
use super::socket::{header_fields, set_dont_fragment, set_header_fields};
use super::source::Source;

/// A socket for pings to one remote.
#[derive(Debug)]
pub struct Ping {
    /// A datagram socket of another protocol; tokio only needs the descriptor.
    socket: UdpSocket,
    remote: IpAddr,
    /// The identifier in our requests, on a raw socket. A ping socket sets its own.
    raw_ident: Option<u16>,
    /// The header fields that were set last.
    fields: Cell<Option<IpFields>>,
}

/// Why a request was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSent {
    /// The error of the host's kernel.
    pub failure: Failure,
    /// The MTU that the request exceeds.
    pub mtu: Option<u32>,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to the request with this number.
    Reply {
        /// Its sequence number.
        seq: u16,
        /// The data of the request, as returned.
        data: Vec<u8>,
        /// The fields of its IP header.
        ip: IpFields,
    },
    /// The request with this number failed.
    Failed {
        /// Its sequence number, if the error quotes it.
        seq: Option<u16>,
        /// Why.
        failure: Failure,
        /// The MTU that it exceeded, if this host reports it.
        mtu: Option<u32>,
    },
}

const HEADER: usize = 8;
/// No packet carries a message of this length.
const LONGEST: usize = 65_508;

impl Ping {
    /// A socket for echoes of `remote`, bound to this end. [`io::ErrorKind::PermissionDenied`]: the host permits neither kind.
    pub fn open(remote: IpAddr, source: &Source) -> io::Result<Self> {
        let at = source.scoped(SocketAddr::new(remote, 0));
        let (domain, protocol) = match remote {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, raw_ident) = match Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol)) {
            Ok(socket) => (socket, None),
            Err(denied) => match Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)) {
                Ok(socket) => (socket, Some(next_ident())),
                Err(_) => return Err(denied),
            },
        };
        source.apply(&socket, remote)?;
        error_queue::enable(&socket, remote.is_ipv6(), true)?;
        if remote.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::IpRecvTos, &true)?;
        }
        socket.connect(&at.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, remote, raw_ident, fields: Cell::new(None) })
    }

    /// Sends a request with these fields in its IP header. If the queue is full the request is dropped, as in a
    /// network.
    pub fn request(&self, seq: u16, data: &[u8], ip: IpFields) -> Result<(), NotSent> {
        let ident = self.raw_ident.unwrap_or(0);
        let protocol = if self.remote.is_ipv6() { ip::ICMPV6 } else { ip::ICMP };
        let mut message = Vec::with_capacity(HEADER + data.len());
        // The checksum is right for IPv4; for IPv6 the kernel, which chooses the source address, computes it.
        Icmp::Echo { reply: false, ident, seq, data }
            .emit(&IpHeader::new(self.remote, self.remote, protocol), &mut message);
        self.set(ip).map_err(|error| NotSent { failure: Failure::local(&error), mtu: None })?;
        // Calls the kernel directly: tokio returns "would block" until its reactor has polled the socket once.
        let socket = SockRef::from(&self.socket);
        // The first failure may be the error of an earlier request, which is also in the error queue.
        match socket.send(&message).or_else(|_| socket.send(&message)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_dropped(&error) => Ok(()),
            // The error queue has the MTU, and identifies the request.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) && message.len() < LONGEST => Ok(()),
            Err(error) => Err(NotSent { failure: Failure::local(&error), mtu: None }),
        }
    }

    /// Sets the fields for the next request.
    fn set(&self, ip: IpFields) -> io::Result<()> {
        if self.fields.get() == Some(ip) {
            return Ok(());
        }
        set_header_fields(&self.socket, self.remote.is_ipv6(), ip)?;
        set_dont_fragment(&self.socket, self.remote.is_ipv6(), ip.dont_fragment)?;
        self.fields.set(Some(ip));
        Ok(())
    }

    /// Waits for the next event.
    pub async fn hear(&self) -> io::Result<Heard> {
        loop {
            self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            match self.socket.try_io(Interest::ERROR, || error_queue::take(&self.socket)) {
                Ok(queued) => match self.failed(&queued) {
                    Some(heard) => return Ok(heard),
                    None => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            // Errors that recv reports once are also in the error queue.
            let reply = scratch::with(|packet| {
                let (length, ip) = self.socket.try_io(Interest::READABLE, || self.receive(packet)).ok()?;
                self.reply(&packet[..length], ip)
            });
            if let Some(heard) = reply {
                return Ok(heard);
            }
        }
    }

    /// The number of received bytes, and the fields of the IP header.
    fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, IpFields)> {
        let mut control = nix::cmsg_space!(i32, i32);
        let mut buffers = [IoSliceMut::new(packet)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut buffers, Some(&mut control), flags)?;
        Ok((message.bytes, header_fields(message.cmsgs()?)))
    }

    fn reply(&self, packet: &[u8], ip: IpFields) -> Option<Heard> {
        // IPv4 raw sockets include the IP header (raw(7)).
        let skip = match (self.raw_ident, self.remote) {
            (Some(_), IpAddr::V4(_)) => usize::from(packet.first()? & 0x0f) * 4,
            _ => 0,
        };
        let echo = Echo::read(packet.get(skip..)?)?;
        let kind = if self.remote.is_ipv6() { 129 } else { 0 };
        (echo.kind == kind && self.is_ours(&echo)).then(|| Heard::Reply {
            seq: echo.seq,
            data: echo.data.to_vec(),
            ip,
        })
    }

    /// `None`: about a request of another process, which raw sockets receive too.
    fn failed(&self, queued: &QueuedError) -> Option<Heard> {
        let echo = Echo::read(&queued.payload);
        if self.raw_ident.is_some() && !echo.as_ref().is_some_and(|echo| self.is_ours(echo)) {
            return None;
        }
        let failure = Failure::new(&io::Error::from_raw_os_error(queued.errno), Some(queued.clone()));
        Some(Heard::Failed { seq: echo.map(|echo| echo.seq), failure, mtu: queued.mtu })
    }

    fn is_ours(&self, echo: &Echo<'_>) -> bool {
        self.raw_ident.is_none_or(|ident| ident == echo.ident)
    }
}

/// An echo message, of either IP version; its checksum was verified by the kernel.
struct Echo<'a> {
    kind: u8,
    ident: u16,
    seq: u16,
    data: &'a [u8],
}

impl<'a> Echo<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let (header, data) = message.split_at_checked(HEADER)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self { kind: header[0], ident: word(4), seq: word(6), data })
    }
}

fn next_ident() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    (std::process::id() as u16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[ignore = "needs ping or raw sockets"]
    async fn the_host_itself_answers() {
        for remote in ["127.0.0.1", "::1"] {
            let ping = match Ping::open(remote.parse().unwrap(), &Source::default()) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    panic!(
                        "cannot run here: this host allows neither ping sockets nor raw sockets to this user"
                    );
                }
                other => other.unwrap(),
            };
            let ip = IpFields { hop_limit: 9, traffic_class: 0xb8, dont_fragment: true };
            ping.request(7, b"are you there", ip).unwrap();
            let Heard::Reply { seq, data, ip } = ping.hear().await.unwrap() else { panic!("no reply") };
            assert_eq!((seq, &data[..]), (7, &b"are you there"[..]));
            // A reply has the traffic class of its request (RFC 1122 section 3.2.2.6).
            assert_eq!((ip.hop_limit, ip.traffic_class), (64, 0xb8));
        }
    }

    #[test]
    fn short_messages_are_no_echo() {
        assert!(Echo::read(&[0; 7]).is_none());
        let echo = Echo::read(&[8, 0, 0, 0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!((echo.kind, echo.ident, echo.seq, echo.data), (8, 0x0102, 0x0304, &[5][..]));
    }
}
