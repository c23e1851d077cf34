//! A file descriptor registered with tokio.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A non-blocking file descriptor. It is registered with tokio's reactor when it is first waited for, so it can be
/// created outside a runtime.
#[derive(Debug)]
pub(super) enum Watched {
    Idle(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    /// Registration failed; the file descriptor is closed.
    Lost,
}

impl Watched {
    /// The file descriptor has to be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self::Idle(fd)
    }

    /// Runs `read`, unless the file descriptor is known not to be readable. [`io::ErrorKind::WouldBlock`] from `read`
    /// means not readable until [`poll_readable`](Self::poll_readable) is ready.
    pub(super) fn try_read<R>(&self, mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        match self {
            Self::Idle(fd) => read(fd.as_fd()),
            Self::Registered(fd) => fd.try_io(Interest::READABLE, |fd| read(fd.as_fd())),
            Self::Lost => Err(lost()),
        }
    }

    /// Ready when a read may succeed.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Idle(_) = self {
            self.register()?;
        }
        match self {
            Self::Registered(fd) => ready!(fd.poll_read_ready(cx)).map(drop).into(),
            Self::Idle(_) | Self::Lost => Poll::Ready(Err(lost())),
        }
    }

    pub(super) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Idle(fd) => Ok(fd.as_fd()),
            Self::Registered(fd) => Ok(fd.get_ref().as_fd()),
            Self::Lost => Err(lost()),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        let Self::Idle(fd) = std::mem::replace(self, Self::Lost) else { return Err(lost()) };
        // SAFETY: the OwnedFd moves into the AsyncFd, which lends it out as a shared reference only: it stays open, and
        // names the same file, for as long as the registration lives.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        match registered {
            Ok(fd) => {
                *self = Self::Registered(fd);
                Ok(())
            }
            Err(error) => {
                let (fd, cause) = error.into_parts();
                *self = Self::Idle(fd);
                Err(cause)
            }
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("the descriptor could not be registered with the runtime")
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn read_one(fd: BorrowedFd<'_>) -> io::Result<u8> {
        let mut byte = [0];
        match nix::unistd::read(fd, &mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    #[tokio::test]
    async fn an_arrival_after_the_last_read_wakes() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut watched = Watched::new(near.into());
        for byte in 0..50 {
            assert_eq!(watched.try_read(read_one).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            far.write_all(&[byte]).unwrap();
            poll_fn(|cx| watched.poll_readable(cx)).await.unwrap();
            assert_eq!(watched.try_read(read_one).unwrap(), byte);
        }
    }

    #[tokio::test]
    async fn waiting_ends_when_data_is_written_later() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut watched = Watched::new(near.into());
        let writer = tokio::task::spawn_blocking(move || {
            far.write_all(b"x").unwrap();
            far
        });
        let byte = loop {
            match watched.try_read(read_one) {
                Ok(byte) => break byte,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            poll_fn(|cx| watched.poll_readable(cx)).await.unwrap();
        };
        assert_eq!(byte, b'x');
        let mut far = writer.await.unwrap();
        far.set_nonblocking(true).unwrap();
        assert!(far.read(&mut [0]).is_err(), "nothing was written back");
    }

    #[test]
    fn reading_needs_no_runtime() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"a").unwrap();
        let watched = Watched::new(near.into());
        assert_eq!(watched.try_read(read_one).unwrap(), b'a');
        assert!(watched.fd().is_ok());
    }
}
