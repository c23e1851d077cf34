//! What the host's kernel has measured of a connection (`TCP_INFO`, tcp(7)): the real path, not the one to lastack.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::report::Path;

/// Where the fields stand in `struct tcp_info` of linux/tcp.h, which only grows at its end.
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const MIN_RTT: usize = 148;

/// Round-trip time and retransmissions; `None` if the kernel does not say, or has no sample yet.
pub fn path(socket: &impl AsFd) -> Option<Path> {
    let mut info = [0u8; MIN_RTT + 4];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to the array, which lives until the call returns.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    nix::errno::Errno::result(result).ok()?;
    let field = |at: usize| info[at..].first_chunk().map_or(0, |octets| u32::from_ne_bytes(*octets));
    let micros = |micros: u32| Duration::from_micros(micros.into());
    let rtt = field(RTT);
    // An older kernel does not know the least; one without a sample says the greatest number.
    let min_rtt = Some(field(MIN_RTT)).filter(|least| !matches!(least, 0 | &u32::MAX));
    (rtt > 0).then(|| Path {
        rtt: micros(rtt),
        min_rtt: micros(min_rtt.unwrap_or(rtt)),
        retransmitted: field(TOTAL_RETRANS),
    })
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
}
