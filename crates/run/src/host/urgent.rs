//! Urgent data of the host's sockets. They deliver it in line (`SO_OOBINLINE`); a read ends before the urgent byte.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Urgent data has arrived at a socket. Until then no socket is queried for its mark before a read.
static ARRIVED: AtomicBool = AtomicBool::new(false);

extern "C" fn arrived(_: libc::c_int) {
    ARRIVED.store(true, Ordering::Relaxed);
}

/// Prepares a socket before it connects: the kernel sends `SIGURG` before urgent data can be read. If that fails, urgent
/// data is read in line.
pub fn prepare(socket: &impl AsFd) {
    /// This process, if it handles the signal. No other process of the program relays.
    static HANDLED_BY: OnceLock<Option<libc::c_int>> = OnceLock::new();
    let handled_by = HANDLED_BY.get_or_init(|| {
        let action = SigAction::new(SigHandler::Handler(arrived), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only stores to an atomic variable.
        let handled = unsafe { sigaction(Signal::SIGURG, &action) }.is_ok();
        handled.then(|| nix::unistd::getpid().as_raw())
    });
    let _in_line = socket2::SockRef::from(socket).set_out_of_band_inline(true);
    if let Some(process) = *handled_by {
        // SAFETY: the call takes numbers.
        let _in_line = unsafe { libc::fcntl(socket.as_fd().as_raw_fd(), libc::F_SETOWN, process) };
    }
}

/// Prepares a socket that is connected: urgent data may have arrived already.
pub fn prepare_connected(socket: &impl AsFd) {
    prepare(socket);
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLPRI)];
    if poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        ARRIVED.store(true, Ordering::Relaxed);
    }
}

/// Whether urgent data has arrived at any socket: a read may then end before the end of what has arrived.
pub fn has_arrived() -> bool {
    ARRIVED.load(Ordering::Relaxed)
}

/// Whether the next byte of the socket is urgent.
pub fn is_next(socket: &impl AsFd) -> bool {
    has_arrived() && at_mark(socket)
}

/// `sockatmark(3)`.
fn at_mark(socket: &impl AsFd) -> bool {
    let mut mark: libc::c_int = 0;
    // SAFETY: the request writes one int to where the pointer points, and `mark` lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCATMARK, &raw mut mark) };
    result == 0 && mark != 0
}

/// linux/sockios.h, of all architectures but MIPS, PowerPC and SPARC.
const SIOCATMARK: libc::Ioctl = 0x8905;

/// Sends a byte as urgent data.
///
/// # Errors
/// As of a write.
pub fn send(socket: &TcpStream, byte: u8) -> io::Result<usize> {
    socket.try_io(Interest::WRITABLE, || socket2::SockRef::from(socket).send_out_of_band(&[byte]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_ends_before_the_urgent_byte() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (receiver, _) = listener.accept().await.unwrap();
        sender.try_write(b"ab").unwrap();
        send(&sender, b'!').unwrap();
        sender.try_write(b"cd").unwrap();
        while !has_arrived() {
            prepare_connected(&receiver);
        }
        let mut data = [0; 9];
        let mut read = || {
            let next = is_next(&receiver);
            let length = if next { 1 } else { 9 };
            receiver.try_read(&mut data[..length]).map(|bytes| (next, data[..bytes].to_vec()))
        };
        std::thread::sleep(std::time::Duration::from_millis(50));
        receiver.readable().await.unwrap();
        assert_eq!(read().unwrap(), (false, b"ab".to_vec()));
        assert_eq!(read().unwrap(), (true, b"!".to_vec()));
        assert_eq!(read().unwrap(), (false, b"cd".to_vec()));
    }
}
