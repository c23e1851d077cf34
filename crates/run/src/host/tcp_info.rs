//! Measurements of a connection by the host's kernel (`TCP_INFO`, tcp(7)): of the real path, not of the one to lastack.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::report::Path;

/// Offsets of the fields in `struct tcp_info` of linux/tcp.h, which only grows at its end.
const STATE: usize = 0;
const PROBES: usize = 3;
const OPTIONS: usize = 5;
const SND_MSS: usize = 16;
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;
const PATH_MTU: usize = 60;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;
const SEGS_IN: usize = 140;
const MIN_RTT: usize = 148;

/// What the kernel reports of a connection. An older kernel leaves the later fields 0.
pub struct Info([u8; MIN_RTT + 4]);

impl Info {
    /// `None` if the kernel does not report it.
    pub fn of(socket: &impl AsFd) -> Option<Self> {
        let mut info = Self([0; MIN_RTT + 4]);
        let mut len = info.0.len() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to the array, which lives until the call returns.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.0.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        nix::errno::Errno::result(result).ok()?;
        Some(info)
    }

    fn field(&self, at: usize) -> u32 {
        self.0[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// How far an attempt to connect is.
    pub fn attempt(&self) -> Attempt {
        // include/net/tcp_states.h.
        const SYN_SENT: u8 = 2;
        const SYN_RECEIVED: u8 = 3;
        const CLOSED: u8 = 7;
        match self.0[STATE] {
            SYN_SENT | SYN_RECEIVED => Attempt::Pending,
            // The acknowledgment of a SYN counts as a byte. A reset is a segment, an ICMP error is none.
            CLOSED if self.field(BYTES_ACKED) == 0 && self.field(SEGS_IN) > 0 => Attempt::ClosedByReset,
            CLOSED => Attempt::Closed,
            _ => Attempt::Connected,
        }
    }

    /// The MSS that the remote and the path allow, as the MSS option counts it: without the options of segments (RFC
    /// 6691).
    pub fn max_segment(&self) -> Option<u16> {
        let timestamps = if self.0[OPTIONS] & HAS_TIMESTAMPS != 0 { TIMESTAMPS } else { 0 };
        let segment = self.field(SND_MSS) + timestamps;
        // The kernel limits segments to half of the largest window that the remote has announced, which is at most 64
        // KiB in its SYN|ACK, and grows. On a path with so large packets, such as loopback, the limit is the path's.
        let path = self.field(PATH_MTU).saturating_sub(HEADERS);
        u16::try_from(if segment >= HALF_WINDOW { segment.max(path) } else { segment }).ok()
    }
}

/// The state of a socket that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There is no answer.
    Pending,
    /// The remote has accepted, and has not reset the connection.
    Connected,
    /// It has failed, and only the remote can be the cause: it sent a segment, and never acknowledged the SYN.
    ClosedByReset,
    /// It has failed, or the remote has accepted and reset the connection since.
    Closed,
}

/// Round-trip time and retransmissions; `None` if the kernel does not report them, or has no sample yet.
pub fn path(socket: &impl AsFd) -> Option<Path> {
    let info = Info::of(socket)?;
    let micros = |micros: u32| Duration::from_micros(micros.into());
    let rtt = info.field(RTT);
    // An older kernel does not have the minimum; without a sample the value is the maximum of its type.
    let min_rtt = Some(info.field(MIN_RTT)).filter(|least| !matches!(least, 0 | &u32::MAX));
    (rtt > 0).then(|| Path {
        rtt: micros(rtt),
        min_rtt: micros(min_rtt.unwrap_or(rtt)),
        retransmitted: info.field(TOTAL_RETRANS),
    })
}

/// [`Info::max_segment`] of a socket.
pub fn max_segment(socket: &impl AsFd) -> Option<u16> {
    Info::of(socket)?.max_segment()
}

/// The IP and TCP headers of the larger of both versions.
const HEADERS: u32 = 60;
/// Segments of this size are limited by a window of 64 KiB less at most two segments' headers.
const HALF_WINDOW: u32 = 32_000;

/// `TCPI_OPT_TIMESTAMPS` of linux/tcp.h, and the length of the option with its padding.
const HAS_TIMESTAMPS: u8 = 1;
const TIMESTAMPS: u32 = 12;

/// The host kernel's state about whether a remote is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The time since something was last received from the remote.
    pub heard: Duration,
    /// Window probes that the remote has not answered.
    pub probes: u8,
}

impl Life {
    /// `None` if the kernel does not report it.
    pub fn of(socket: &impl AsFd) -> Option<Self> {
        let info = Info::of(socket)?;
        let heard = info.field(LAST_ACK_RECV).min(info.field(LAST_DATA_RECV));
        Some(Self { heard: Duration::from_millis(heard.into()), probes: info.0[PROBES] })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, SockAddr, SockRef, Socket, Type};

    use super::*;

    #[test]
    fn a_connection_over_loopback_has_a_short_round_trip() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"hello").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        let path = path(&near).unwrap();
        assert!(path.rtt > Duration::ZERO && path.rtt < Duration::from_secs(5), "{path:?}");
        assert!(path.min_rtt <= path.rtt, "{path:?}");
        assert_eq!(path.retransmitted, 0);
    }

    #[test]
    fn an_attempt_shows_how_it_ended() {
        let attempt = |to: &SockAddr| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            let before = Info::of(&socket).unwrap().attempt();
            // Loopback answers within the call, which does not say so.
            assert_eq!(socket.connect(to).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
            (before, socket)
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap().into();
        let (before, open) = attempt(&there);
        assert_eq!((before, Info::of(&open).unwrap().attempt()), (Attempt::Closed, Attempt::Connected));
        let (far, _) = listener.accept().unwrap();
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        assert_eq!(Info::of(&open).unwrap().attempt(), Attempt::Closed, "accepted, and reset since");
        drop(listener);
        let (_, refused) = attempt(&there);
        assert_eq!(Info::of(&refused).unwrap().attempt(), Attempt::ClosedByReset);
    }

    /// Not half of the window that a SYN|ACK can announce: data would pass in packets of half the possible size.
    #[test]
    fn segments_over_loopback_are_as_large_as_its_mtu() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let segment = max_segment(&near).unwrap();
            assert!(segment >= 65_400, "{address}: {segment}");
        }
    }
}
