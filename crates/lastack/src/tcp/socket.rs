//! A socket before it connects or listens: for options that affect the SYN.

use crate::error::invalid;
use crate::tcp::listener::BACKLOG;
use crate::{Host, TcpListener, TcpStream};
use lastack_engine::{Keepalive, Tcp};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The minimum of `TCP_MAXSEG`. (A peer must accept segments of 536 bytes.)
const MIN_SEGMENT: u16 = 88;
/// As [`TcpConfig::send_buffer`](crate::TcpConfig::send_buffer) has it.
const BUFFER: std::ops::RangeInclusive<u32> = 536..=1 << 30;

/// An error if a receive buffer cannot have this size.
pub(super) fn check_recv_buffer(bytes: u32) -> io::Result<()> {
    if BUFFER.contains(&bytes) {
        Ok(())
    } else {
        Err(invalid("the receive buffer must have from 536 bytes to 1 GiB"))
    }
}

/// A TCP socket that is not connected yet, with the API of tokio's. Options set here apply from the first segment on,
/// that is, to the SYN or SYN|ACK too.
///
/// ```
/// # use lastack::{Config, Host, TcpListener, TcpSocket, link};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
/// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
/// let socket = TcpSocket::new_v4(&client)?;
/// socket.set_nodelay(true)?;
/// socket.set_ttl(3)?;
/// socket.set_max_segment(Some(1000))?;
/// let stream = socket.connect(([10, 0, 0, 2], 80).into()).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    host: Host,
    v6: bool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    local: Option<SocketAddr>,
    options: Options,
}

/// Options applied to a connection before its first segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    nodelay: Option<bool>,
    keepalive: Option<Keepalive>,
    linger: Option<Duration>,
    dscp: Option<u8>,
    pub(super) ttl: Option<u8>,
    max_segment: Option<u16>,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
    user_timeout: Option<Duration>,
    reuse: bool,
}

impl Options {
    pub(super) fn apply(&self, tcp: &mut Tcp<'_>) {
        if let Some(nodelay) = self.nodelay {
            tcp.set_nodelay(nodelay);
        }
        if let Some(dscp) = self.dscp {
            tcp.set_dscp(dscp);
        }
        if self.keepalive.is_some() {
            tcp.set_keepalive(self.keepalive);
        }
        if self.linger.is_some() {
            tcp.set_linger(self.linger);
        }
        if self.ttl.is_some() {
            tcp.set_hop_limit(self.ttl);
        }
        if self.max_segment.is_some() {
            tcp.set_max_segment(self.max_segment);
        }
        if self.send_buffer.is_some() {
            tcp.set_send_buffer(self.send_buffer);
        }
        if self.receive_buffer.is_some() {
            tcp.set_receive_buffer(self.receive_buffer);
        }
        if self.user_timeout.is_some() {
            tcp.set_user_timeout(self.user_timeout);
        }
    }
}

/// Options. A getter returns the value that was set, or the host's default.
impl TcpSocket {
    /// A socket for IPv4 on this host.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn new_v4(host: &Host) -> io::Result<Self> {
        Self::new(host, false)
    }

    /// A socket for IPv6 on this host; one that listens at `[::]` accepts IPv4 too.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn new_v6(host: &Host) -> io::Result<Self> {
        Self::new(host, true)
    }

    fn new(host: &Host, v6: bool) -> io::Result<Self> {
        host.shared().with(|inner| inner.accepts_sockets())?;
        let state = State { local: None, options: Options::default() };
        Ok(Self { host: host.clone(), v6, state: Mutex::new(state) })
    }

    fn with<R>(&self, call: impl FnOnce(&mut State) -> R) -> R {
        // The setters below do not panic.
        call(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, set: impl FnOnce(&mut Options)) -> io::Result<()> {
        self.with(|state| set(&mut state.options));
        Ok(())
    }

    fn get<R>(&self, get: impl FnOnce(&Options) -> R) -> R {
        self.with(|state| get(&state.options))
    }

    /// See [`TcpStream::set_nodelay`].
    ///
    /// # Errors
    /// None.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set(|options| options.nodelay = Some(nodelay))
    }

    /// See [`TcpStream::set_nodelay`].
    ///
    /// # Errors
    /// None.
    pub fn nodelay(&self) -> io::Result<bool> {
        let default = || self.host.config().tcp.nodelay;
        Ok(self.get(|options| options.nodelay).unwrap_or_else(default))
    }

    /// Whether keep-alive probes are sent, with the times of [`Keepalive::default`]; see
    /// [`set_keepalive_times`](Self::set_keepalive_times).
    ///
    /// # Errors
    /// None.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set(|options| options.keepalive = keepalive.then(Keepalive::default))
    }

    /// Whether keep-alive probes are sent.
    ///
    /// # Errors
    /// None.
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.get(|options| options.keepalive.is_some()))
    }

    /// See [`TcpStream::set_keepalive`].
    ///
    /// # Errors
    /// `InvalidInput` if a time or the count is zero.
    pub fn set_keepalive_times(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        super::options::check_keepalive(keepalive)?;
        self.set(|options| options.keepalive = keepalive)
    }

    /// See [`TcpStream::set_linger`].
    ///
    /// # Errors
    /// None.
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|options| options.linger = time)
    }

    /// Closing sends RST and discards undelivered data: [`set_linger`](Self::set_linger) with zero.
    ///
    /// # Errors
    /// None.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// See [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    /// None.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.get(|options| options.linger))
    }

    /// Hop limit (TTL) of all segments, the SYN included.
    ///
    /// # Errors
    /// `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = super::options::check_ttl(ttl)?;
        self.set(|options| options.ttl = Some(ttl))
    }

    /// See [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    /// None.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = || self.host.config().hop_limit;
        Ok(self.get(|options| options.ttl).unwrap_or_else(default).into())
    }

    /// See [`TcpStream::set_dscp`]; the SYN has it too.
    ///
    /// # Errors
    /// `InvalidInput` above 63.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        super::options::check_dscp(dscp)?;
        self.set(|options| options.dscp = Some(dscp))
    }

    /// The byte of `IP_TOS`: its upper six bits are the DSCP; the others are used by TCP (ECN) and ignored here, as
    /// on Linux.
    ///
    /// # Errors
    /// `InvalidInput` above 255.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        let tos = u8::try_from(tos).map_err(|_| invalid("IP_TOS must be at most 255"))?;
        self.set_dscp(tos >> 2)
    }

    /// See [`set_tos_v4`](Self::set_tos_v4).
    ///
    /// # Errors
    /// None.
    pub fn tos_v4(&self) -> io::Result<u32> {
        let default = || self.host.config().tcp.dscp;
        Ok(u32::from(self.get(|options| options.dscp).unwrap_or_else(default)) << 2)
    }

    /// As [`set_tos_v4`](Self::set_tos_v4), for the traffic class of IPv6.
    ///
    /// # Errors
    /// As [`set_tos_v4`](Self::set_tos_v4).
    pub fn set_tclass_v6(&self, class: u32) -> io::Result<()> {
        self.set_tos_v4(class)
    }

    /// See [`set_tclass_v6`](Self::set_tclass_v6).
    ///
    /// # Errors
    /// None.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// Max data in a segment, in both directions (`TCP_MAXSEG`): announced in the SYN. `None`: as the link and the
    /// path allow.
    ///
    /// # Errors
    /// `InvalidInput` below 88.
    pub fn set_max_segment(&self, bytes: Option<u16>) -> io::Result<()> {
        if bytes.is_some_and(|bytes| bytes < MIN_SEGMENT) {
            return Err(invalid("TCP_MAXSEG must be at least 88 bytes"));
        }
        self.set(|options| options.max_segment = bytes)
    }

    /// Max size of the send buffer (`SO_SNDBUF`), up to the host's [`send_buffer`](crate::TcpConfig::send_buffer); if
    /// not set, it is tuned automatically.
    ///
    /// # Errors
    /// `InvalidInput` below 536 or above 1 GiB.
    pub fn set_send_buffer_size(&self, bytes: u32) -> io::Result<()> {
        if !BUFFER.contains(&bytes) {
            return Err(invalid("the send buffer must have from 536 bytes to 1 GiB"));
        }
        self.set(|options| options.send_buffer = Some(bytes as usize))
    }

    /// See [`set_send_buffer_size`](Self::set_send_buffer_size).
    ///
    /// # Errors
    /// None.
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        let default = || self.host.config().tcp.send_buffer;
        Ok(self.get(|options| options.send_buffer).unwrap_or_else(default) as u32)
    }

    /// Size of the receive buffer (`SO_RCVBUF`), up to the host's
    /// [`receive_buffer`](crate::TcpConfig::receive_buffer); if not set, it is tuned automatically. The window never
    /// exceeds it.
    ///
    /// # Errors
    /// `InvalidInput` below 536 or above 1 GiB.
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        check_recv_buffer(bytes)?;
        self.set(|options| options.receive_buffer = Some(bytes as usize))
    }

    /// See [`set_recv_buffer_size`](Self::set_recv_buffer_size).
    ///
    /// # Errors
    /// None.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        let default = || self.host.config().tcp.receive_buffer;
        Ok(self.get(|options| options.receive_buffer).unwrap_or_else(default) as u32)
    }

    /// See [`TcpStream::set_user_timeout`].
    ///
    /// # Errors
    /// None.
    pub fn set_user_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|options| options.user_timeout = time)
    }

    /// Accepted for compatibility (`SO_REUSEADDR`), without effect: here an address is free as soon as its listener
    /// is closed, and TIME-WAIT does not block it.
    ///
    /// # Errors
    /// None.
    pub fn set_reuseaddr(&self, reuse: bool) -> io::Result<()> {
        self.set(|options| options.reuse = reuse)
    }

    /// See [`set_reuseaddr`](Self::set_reuseaddr).
    ///
    /// # Errors
    /// None.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.get(|options| options.reuse))
    }

    /// The pending error: there is none before a socket connects.
    ///
    /// # Errors
    /// None.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

/// Binding, connecting and listening.
impl TcpSocket {
    /// The address it is bound to, or the unspecified address.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let any: IpAddr = if self.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Ok(self.with(|state| state.local).unwrap_or(SocketAddr::new(any, 0)))
    }

    /// Sets the local address. Whether it is free is checked by `connect` or `listen`.
    ///
    /// # Errors
    /// `InvalidInput` if it is bound already, or the address is of the other family.
    pub fn bind(&self, local: SocketAddr) -> io::Result<()> {
        if local.is_ipv6() != self.v6 {
            return Err(invalid(
                "the address is not of the socket's family: make the socket with new_v4 or new_v6",
            ));
        }
        self.with(|state| match state.local.replace(local) {
            None => Ok(()),
            Some(before) => {
                state.local = Some(before);
                Err(invalid("the socket is already bound"))
            }
        })
    }

    /// Connects to `remote`; see [`TcpStream::connect`].
    ///
    /// # Errors
    /// As [`TcpStream::connect_from`].
    ///
    /// # Cancel safety
    /// As [`TcpStream::connect`].
    pub async fn connect(self, remote: SocketAddr) -> io::Result<TcpStream> {
        let State { local, options } = self.with(|state| *state);
        TcpStream::open(&self.host, local, remote, &options)?.established().await
    }

    /// Listens; `backlog` as in [`TcpListener::bind_with_backlog`]. Accepted connections inherit the options that
    /// were set: the max segment size from the SYN|ACK on, the others when they are accepted.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let State { options, .. } = self.with(|state| *state);
        TcpListener::listen(
            &self.host,
            self.local_addr()?,
            backlog.min(BACKLOG as u32 * 64) as usize,
            options,
        )
    }
}

impl Options {
    pub(super) const fn receive_buffer(&self) -> Option<usize> {
        self.receive_buffer
    }

    pub(super) const fn max_segment(&self) -> Option<u16> {
        self.max_segment
    }
}
