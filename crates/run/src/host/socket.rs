//! What sockets are asked beyond what std and tokio ask.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Octets written to a TCP socket that have not arrived, as far as the host's kernel knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Never sent.
    pub unsent: u64,
    /// Sent and not acknowledged.
    pub unacked: u64,
}

impl Outstanding {
    /// Both.
    pub fn total(self) -> u64 {
        self.unsent + self.unacked
    }
}

/// `SIOCOUTQ` and `SIOCOUTQNSD` (tcp(7)): what is written and not acknowledged, and what of it was never sent. They
/// answer after a reset too. `fin`: our direction is shut down, and the FIN counts as one octet until it is acknowledged.
pub fn outstanding(socket: &impl AsFd, fin: bool) -> io::Result<Outstanding> {
    let unacknowledged = queued(socket, libc::TIOCOUTQ)?;
    let unsent = queued(socket, SIOCOUTQNSD)?.min(unacknowledged);
    let fin = u64::from(fin && unacknowledged > 0);
    let text_unsent = unsent.saturating_sub(fin);
    Ok(Outstanding { unsent: text_unsent, unacked: unacknowledged.saturating_sub(fin + text_unsent) })
}

/// linux/sockios.h.
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

fn queued(socket: &impl AsFd, request: libc::Ioctl) -> io::Result<u64> {
    let mut octets: libc::c_int = 0;
    // SAFETY: both requests write one int to where the pointer points, and `octets` lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut octets) };
    nix::errno::Errno::result(result)?;
    Ok(octets.try_into().unwrap_or(0))
}

/// The name of an errno, as `ECONNRESET`.
pub fn errno_name(errno: i32) -> String {
    let name = nix::errno::Errno::from_raw(errno);
    if name == nix::errno::Errno::UnknownErrno { format!("errno {errno}") } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_the_peer_has_not_taken_is_outstanding() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"12345").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        // Loopback acknowledges within the call; the FIN, which nobody delays, does too.
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert_eq!(outstanding(&near, true).unwrap(), Outstanding::default());

        near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(n) = near.write(&[0; 65536]) {
            written += n as u64;
        }
        let waiting = outstanding(&near, false).unwrap();
        assert!(waiting.unsent > 0 && waiting.total() <= written, "{waiting:?} of {written}");
        drop(far);
    }

    #[test]
    fn errnos_have_names() {
        assert_eq!(errno_name(libc::ECONNRESET), "ECONNRESET");
        assert_eq!(errno_name(4095), "errno 4095");
    }
}
