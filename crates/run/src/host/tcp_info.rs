//! Measurements of a connection by the host's kernel (`TCP_INFO`, tcp(7)): of the real path, not of the one to lastack.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::report::Path;

/// Offsets of the fields in `struct tcp_info` of linux/tcp.h, which only grows at its end.
const PROBES: usize = 3;
const OPTIONS: usize = 5;
const SND_MSS: usize = 16;
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;
const PATH_MTU: usize = 60;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const MIN_RTT: usize = 148;

struct Info([u8; MIN_RTT + 4]);

impl Info {
    fn of(socket: &impl AsFd) -> Option<Self> {
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

/// The MSS that the remote and the path allow, as the MSS option counts it: without the options of segments (RFC 6691).
pub fn max_segment(socket: &impl AsFd) -> Option<u16> {
    let info = Info::of(socket)?;
    let timestamps = if info.0[OPTIONS] & HAS_TIMESTAMPS != 0 { TIMESTAMPS } else { 0 };
    let segment = info.field(SND_MSS) + timestamps;
    // The kernel limits segments to half of the largest window that the remote has announced, which is at most 64 KiB in
    // its SYN|ACK, and grows. On a path with so large packets, such as loopback, the limit is the path's.
    let path = info.field(PATH_MTU).saturating_sub(HEADERS);
    u16::try_from(if segment >= HALF_WINDOW { segment.max(path) } else { segment }).ok()
}

/// The IP and TCP headers of the larger of both versions.
const HEADERS: u32 = 60;
/// Segments of this size are limited by a window of 64 KiB less at most two segments' headers.
const HALF_WINDOW: u32 = 32_000;

/// `TCPI_OPT_TIMESTAMPS` of linux/tcp.h, and the length of the option with its padding.
const HAS_TIMESTAMPS: u8 = 1;
const TIMESTAMPS: u32 = 12;

/// What the host's kernel knows about whether a remote is alive.
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
