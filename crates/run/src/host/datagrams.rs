//! Unconnected UDP sockets of the host: each stands for one socket of the program, with all its remotes. Header fields
//! that the program sets are applied to the host's packets, and vice versa.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use lastack::IpFields;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::error_queue::{self, QueuedError};
use super::joined::Joined;
use super::socket::{IpOption, dropped, header_fields, set_dont_fragment, set_option, socket_address};
use super::source::Source;

/// Requested size of the receive and of the send buffer in bytes: 3,000 datagrams of 1,000 bytes with the kernel's
/// overhead.
const BUFFER: usize = 4 << 20;
/// Max datagrams, or groups of them, read by one call.
const BATCH: usize = 32;
/// The same while few arrive: to prepare a call takes longer than the call.
const FEW: usize = 2;
/// Max bytes of one group (UDP_GRO).
const LONGEST: usize = 65_536;
/// Max datagrams in one group that the kernel segments (UDP_MAX_SEGMENTS).
pub const MAX_SEGMENTS: usize = 64;

/// Such a socket.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    v6: bool,
    /// Whether the kernel may fragment sent datagrams, as set last.
    whole: Cell<Option<bool>>,
    /// The device below does not support segmentation of groups.
    one_by_one: Cell<bool>,
    /// The number read by the next call.
    batch: Cell<usize>,
}

/// The shape of a sent datagram or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The payload consists of several datagrams of this size, the last one with the rest.
    pub segment_size: Option<u16>,
    /// The fields of the IP headers.
    pub ip: IpFields,
}

/// The result of a wait.
#[derive(Debug)]
pub enum Heard {
    /// This number of groups of datagrams was delivered.
    Datagrams(usize),
    /// An error about a sent datagram.
    Error(QueuedError),
}

impl DatagramSocket {
    /// A socket on this port of the source's address, or of every address. If the port cannot be had, on another one,
    /// with the error. `shared`: another socket of ours is on that port for a group.
    pub fn open(v6: bool, port: u16, shared: bool, source: &Source) -> io::Result<(Self, Option<io::Error>)> {
        let address = source.address(v6)?;
        let socket = Self::prepare(v6)?;
        socket.set_reuse_address(shared)?;
        source.apply_interface(&socket)?;
        let taken = match socket.bind(&SocketAddr::new(address, port).into()) {
            Ok(()) => None,
            Err(error) => {
                socket.bind(&SocketAddr::new(address, 0).into())?;
                Some(error)
            }
        };
        Ok((Self::new(socket, v6)?, taken))
    }

    /// A socket on a port of a multicast group, which other programs may share: it receives datagrams to the group
    /// only, not those to this host alone.
    pub fn open_group(group: SocketAddr, interface: u32, source: &Source) -> io::Result<Self> {
        let v6 = group.is_ipv6();
        let socket = Self::prepare(v6)?;
        socket.set_reuse_address(true)?;
        source.apply_interface(&socket)?;
        socket.bind(&group.into())?;
        match group.ip() {
            IpAddr::V4(address) => {
                let at = socket2::InterfaceIndexOrAddress::Index(interface);
                socket.join_multicast_v4_n(&address, &at)?;
            }
            IpAddr::V6(address) => socket.join_multicast_v6(&address, interface)?,
        }
        Self::new(socket, v6)
    }

    fn prepare(v6: bool) -> io::Result<Socket> {
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        error_queue::enable(&socket, v6, true)?;
        if v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::IpRecvTos, &true)?;
            socket.set_broadcast(true)?;
        }
        // Excludes groups that other sockets of this host have joined. Old kernels do not support it for IPv6.
        let all = if v6 { IpOption::MulticastAllV6 } else { IpOption::MulticastAllV4 };
        let _old = set_option(&socket, all, 0);
        // Beyond the host's limit if permitted, else up to it. Options that the kernel does not support are skipped.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER)?;
        }
        socket.set_send_buffer_size(BUFFER)?;
        let _without = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        Ok(socket)
    }

    fn new(socket: Socket, v6: bool) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, v6, whole: Cell::new(None), one_by_one: Cell::new(false), batch: Cell::new(FEW) })
    }

    /// Lets another socket of ours share the port for a group.
    pub fn share(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_reuse_address(true)
    }

    /// Sends multicast by the source's interface, or by that of the default route, even if the host has no route for it.
    /// Failures are ignored here: the send then reports an error.
    pub fn prepare_for_groups(&self, source: &Source) {
        let (Some(outside), socket) = (source.multicast(), SockRef::from(&self.socket)) else { return };
        let v4 = outside.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let _without = match v4 {
            _ if self.v6 => socket.set_multicast_if_v6(outside.index),
            Some(v4) => socket.set_multicast_if_v4(&v4),
            None => Ok(()),
        };
    }

    /// The local port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends a datagram, or a group. [`ErrorKind::WouldBlock`]: the host's queue is full. An error about an earlier
    /// datagram is not reported here, but by the error queue.
    pub fn send(&self, to: SocketAddr, payload: &[u8], shape: Shape) -> io::Result<()> {
        self.set_dont_fragment(shape.ip.dont_fragment)?;
        let size = shape.segment_size.filter(|&size| usize::from(size) < payload.len());
        let Some(size) = size else { return self.send_one(to, payload, None, shape.ip) };
        if !self.one_by_one.get() {
            match self.send_one(to, payload, Some(size), shape.ip) {
                // If the device or the path does not accept a group, it may accept single datagrams.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)) =>
                {
                    self.one_by_one.set(error.raw_os_error() == Some(libc::EIO));
                }
                other => return other,
            }
        }
        for piece in payload.chunks(size.into()) {
            self.send_one(to, piece, None, shape.ip)?;
        }
        Ok(())
    }

    fn send_one(&self, to: SocketAddr, payload: &[u8], size: Option<u16>, ip: IpFields) -> io::Result<()> {
        let (hops, class) = (i32::from(ip.hop_limit), i32::from(ip.traffic_class));
        let mut control = Vec::with_capacity(3);
        if self.v6 {
            control.extend([ControlMessage::Ipv6HopLimit(&hops), ControlMessage::Ipv6TClass(&class)]);
        } else {
            control.extend([ControlMessage::Ipv4Ttl(&hops), ControlMessage::Ipv4Tos(&ip.traffic_class)]);
        }
        control.extend(size.as_ref().map(ControlMessage::UdpGsoSegments));
        let (bytes, to) = ([IoSlice::new(payload)], SockaddrStorage::from(to));
        let send = || sendmsg(self.fd(), &bytes, &control, MsgFlags::MSG_DONTWAIT, Some(&to));
        // The first failure may be the error of an earlier datagram, which is also in the error queue; not that of a full
        // queue, which may have taken a part of a group.
        match send().or_else(|errno| if is_full(errno) { Err(errno) } else { send() }) {
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether sent datagrams must not be fragmented (DF, IPV6_MTU_DISCOVER).
    fn set_dont_fragment(&self, whole: bool) -> io::Result<()> {
        if self.whole.get() == Some(whole) {
            return Ok(());
        }
        set_dont_fragment(&self.socket, self.v6, whole)?;
        self.whole.set(Some(whole));
        Ok(())
    }

    /// Waits for room in the send buffer.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await?;
        // Only tokio's own calls clear readiness, but these calls go to the kernel directly.
        let full = || Err::<(), _>(ErrorKind::WouldBlock.into());
        let _forgotten: io::Result<()> = self.socket.try_io(Interest::WRITABLE, full);
        Ok(())
    }

    /// Waits for the next event. Datagrams are passed to `deliver` with their sender.
    pub async fn hear(&self, mut deliver: impl FnMut(SocketAddr, &[u8], Shape)) -> io::Result<Heard> {
        loop {
            let ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            if ready.is_error() {
                match self.socket.try_io(Interest::ERROR, || error_queue::take(&self.socket)) {
                    Ok(queued) => return Ok(Heard::Error(queued)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            // An error that a read reports once is also in the error queue.
            if let Ok(groups) = self.socket.try_io(Interest::READABLE, || self.receive(&mut deliver)) {
                return Ok(Heard::Datagrams(groups));
            }
        }
    }

    /// The next error of the queue, without waiting for one.
    pub fn queued_error(&self) -> Option<QueuedError> {
        error_queue::take(&self.socket).ok()
    }

    fn receive(&self, deliver: &mut impl FnMut(SocketAddr, &[u8], Shape)) -> io::Result<usize> {
        BUFFERS.with_borrow_mut(|(buffers, joined)| {
            let space = nix::cmsg_space!(i32, i32, i32, i32);
            let batch = self.batch.get();
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(batch, Some(space));
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                buffers.chunks_mut(LONGEST).take(batch).map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let results = recvmmsg(self.fd(), &mut headers, slices.iter_mut(), flags, None)?;
            let groups: Vec<_> = results.map(|message| read(&message)).collect();
            match groups.len() {
                // More may be there.
                len if len == batch => self.batch.set(BATCH),
                ..=FEW => self.batch.set(FEW),
                _ => {}
            }
            let mut joined = Joined::new(joined, deliver);
            for (group, bytes) in groups.iter().zip(buffers.chunks(LONGEST)) {
                let (length, from, shape) = *group;
                if let Some(from) = from {
                    joined.push(from, &bytes[..length], shape);
                }
            }
            joined.finish();
            Ok(groups.len())
        })
    }

    /// Datagrams that the kernel dropped because this socket's buffer was full.
    pub fn dropped(&self) -> u64 {
        dropped(&self.socket)
    }

    fn fd(&self) -> libc::c_int {
        self.socket.as_raw_fd()
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

thread_local! {
    /// For what is read, and for groups of it. Shared by all sockets, because each use ends before another begins.
    static BUFFERS: RefCell<(Box<[u8]>, Vec<u8>)> = RefCell::new((vec![0; BATCH * LONGEST].into(), Vec::new()));
}

fn read(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (usize, Option<SocketAddr>, Shape) {
    let controls = || message.cmsgs().into_iter().flatten();
    let size = controls().find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(size) => size.try_into().ok(),
        _ => None,
    });
    let shape = Shape { segment_size: size, ip: header_fields(controls()) };
    (message.bytes, message.address.as_ref().and_then(socket_address), shape)
}

/// Whether the queue of this host's device has dropped what was sent, or there was no memory for it. The kernel
/// reports it only to sockets with an error queue (udp_send_skb): a loss as in any network.
pub fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::ENOBUFS | Errno::ENOMEM)
}

/// As [`is_full`], of the error of a call.
pub fn is_dropped(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| is_full(Errno::from_raw(errno)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    const FIELDS: IpFields = IpFields { hop_limit: 9, traffic_class: 0xb8, dont_fragment: true };

    fn loopback(v6: bool, port: u16) -> SocketAddr {
        let ip: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        SocketAddr::new(ip, port)
    }

    /// What comes next, within the time that a test may take.
    async fn next(socket: &DatagramSocket) -> Vec<(SocketAddr, Vec<u8>, Shape)> {
        let mut got = Vec::new();
        let heard = socket.hear(|from, payload, shape| got.push((from, payload.to_vec(), shape)));
        let heard = tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap().unwrap();
        assert!(matches!(heard, Heard::Datagrams(_)), "{heard:?}");
        got
    }

    #[tokio::test]
    async fn header_fields_pass_both_ways() {
        for v6 in [false, true] {
            let [near, far] =
                [(); 2].map(|()| DatagramSocket::open(v6, 0, false, &Source::default()).unwrap().0);
            let shape = Shape { segment_size: None, ip: FIELDS };
            near.send(loopback(v6, far.port().unwrap()), b"hello", shape).unwrap();
            let [(from, payload, got)] = &next(&far).await[..] else { panic!("one datagram") };
            assert_eq!((*from, &payload[..]), (loopback(v6, near.port().unwrap()), &b"hello"[..]));
            assert_eq!((got.ip.hop_limit, got.ip.traffic_class), (9, 0xb8));
        }
    }

    #[tokio::test]
    async fn a_group_arrives_as_its_datagrams() {
        for v6 in [false, true] {
            let [near, far] =
                [(); 2].map(|()| DatagramSocket::open(v6, 0, false, &Source::default()).unwrap().0);
            let shape = Shape { segment_size: Some(100), ip: FIELDS };
            near.send(loopback(v6, far.port().unwrap()), &[7; 250], shape).unwrap();
            let mut sizes = Vec::new();
            while sizes.iter().sum::<usize>() < 250 {
                for (_, payload, shape) in next(&far).await {
                    let size = shape.segment_size.map_or(payload.len(), usize::from);
                    sizes.extend(payload.chunks(size).map(<[u8]>::len));
                }
            }
            assert_eq!(sizes, [100, 100, 50]);
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_replaced_and_named() {
        let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (socket, why) = DatagramSocket::open(false, port, false, &Source::default()).unwrap();
        assert_ne!(socket.port().unwrap(), port);
        assert_eq!(why.unwrap().kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_error_names_the_destination_that_it_is_about() {
        for v6 in [false, true] {
            let closed: Vec<u16> = (0..2)
                .map(|_| std::net::UdpSocket::bind(loopback(v6, 0)).unwrap().local_addr().unwrap().port())
                .collect();
            let (socket, _) = DatagramSocket::open(v6, 0, false, &Source::default()).unwrap();
            for &port in &closed {
                socket.send(loopback(v6, port), b"?", Shape { segment_size: None, ip: FIELDS }).unwrap();
            }
            for &port in &closed {
                let heard = tokio::time::timeout(Duration::from_secs(10), socket.hear(|_, _, _| {})).await;
                let Ok(Ok(Heard::Error(queued))) = heard else { panic!("{heard:?}") };
                assert_eq!((queued.errno, queued.to), (libc::ECONNREFUSED, Some(loopback(v6, port))));
            }
        }
    }

    #[tokio::test]
    async fn datagrams_dropped_by_a_full_buffer_are_counted() {
        let (near, far) = (
            DatagramSocket::open(false, 0, false, &Source::default()).unwrap().0,
            DatagramSocket::open(false, 0, false, &Source::default()).unwrap().0,
        );
        socket2::SockRef::from(&far.socket).set_recv_buffer_size(4096).unwrap();
        let (to, shape) = (loopback(false, far.port().unwrap()), Shape { segment_size: None, ip: FIELDS });
        for _ in 0..100 {
            near.send(to, &[0; 1000], shape).unwrap();
        }
        let mut heard = 0;
        while heard + far.dropped() < 100 {
            heard += next(&far).await.iter().map(|(_, payload, _)| payload.len() as u64 / 1000).sum::<u64>();
        }
        assert!(far.dropped() > 0 && heard > 0);
    }
}
