//! The read and write halves of a connection, as in tokio.

use crate::tcp::TcpStream;
use lastack_engine::End;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// The reading half of a borrowed [`TcpStream`]; see [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a TcpStream);

/// The writing half of a borrowed [`TcpStream`]; see [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a TcpStream);

/// The reading half of a [`TcpStream`]; see [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf(Arc<TcpStream>);

/// The writing half of a [`TcpStream`]; see [`TcpStream::into_split`].
///
/// Dropping it shuts down the write direction: the peer sees the end of the stream. This does not happen after
/// [`forget`](Self::forget).
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<TcpStream>,
    shutdown_on_drop: bool,
}

impl TcpStream {
    /// Splits the stream into borrowed halves, for use in one task.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (_stream, mut peer) = (near?, far?.0);
    /// use lastack::{ReadHalf, WriteHalf};
    ///
    /// async fn echo((mut read, mut write): (ReadHalf<'_>, WriteHalf<'_>)) -> std::io::Result<u64> {
    ///     tokio::io::copy(&mut read, &mut write).await
    /// }
    /// # let _unused = tokio::time::timeout(std::time::Duration::from_millis(1),
    /// echo(peer.split())
    /// # ).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Splits the stream into owned halves, for use in two tasks. The connection is closed when both halves are
    /// dropped.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, mut peer) = (near?, far?.0);
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # tokio::spawn(async move { let (mut read, mut write) = peer.split(); tokio::io::copy(&mut read, &mut write).await });
    /// use lastack::{OwnedReadHalf, OwnedWriteHalf};
    ///
    /// let (mut read, mut write): (OwnedReadHalf, OwnedWriteHalf) = stream.into_split();
    /// let writer = tokio::spawn(async move {
    ///     write.write_all(b"hello").await?;
    ///     std::io::Result::Ok(write) // `write.forget()` would drop it without FIN
    /// });
    /// let mut echo = [0; 5];
    /// read.read_exact(&mut echo).await?;
    /// let stream: TcpStream = read.reunite(writer.await??).expect("they are of one stream");
    /// # drop(stream);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        (OwnedReadHalf(stream.clone()), OwnedWriteHalf { stream, shutdown_on_drop: true })
    }
}

impl OwnedReadHalf {
    /// Rejoins the halves into the stream.
    ///
    /// # Errors
    /// Both halves, if they are of two streams.
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        if !Arc::ptr_eq(&self.0, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        Ok(Arc::into_inner(self.0).expect("a stream has two halves"))
    }
}

impl OwnedWriteHalf {
    /// Rejoins the halves into the stream.
    ///
    /// # Errors
    /// Both halves, if they are of two streams.
    pub fn reunite(self, read: OwnedReadHalf) -> Result<TcpStream, ReuniteError> {
        read.reunite(self)
    }

    /// Drops this half without shutting its direction down.
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // Fails only if the connection has ended: then there is nothing to shut down.
            let _over = self.stream.shutdown_write();
        }
    }
}

/// The two halves are of different streams; returns them.
#[derive(Debug)]
pub struct ReuniteError(
    /// The reading half.
    pub OwnedReadHalf,
    /// The writing half.
    pub OwnedWriteHalf,
);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same stream")
    }
}

impl Error for ReuniteError {}

impl AsRef<TcpStream> for ReadHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}

impl AsRef<TcpStream> for WriteHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}

impl AsRef<TcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsRef<TcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

/// Methods of both halves.
macro_rules! either {
    ($half:ty) => {
        impl $half {
            /// As [`TcpStream::local_addr`].
            ///
            /// # Errors
            /// None.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.as_ref().local_addr()
            }

            /// As [`TcpStream::peer_addr`].
            ///
            /// # Errors
            /// None.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.as_ref().peer_addr()
            }

            /// As [`TcpStream::end`].
            pub fn end(&self) -> Option<End> {
                self.as_ref().end()
            }
        }
    };
}

macro_rules! reading {
    ($half:ty) => {
        either!($half);

        impl $half {
            /// As [`TcpStream::readable`].
            ///
            /// # Errors
            /// As there.
            pub async fn readable(&self) -> io::Result<()> {
                self.as_ref().readable().await
            }

            /// As [`TcpStream::try_read`].
            ///
            /// # Errors
            /// As there.
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.as_ref().try_read(buf)
            }

            /// As [`TcpStream::ready`].
            ///
            /// # Errors
            /// As there.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.as_ref().ready(interest).await
            }

            /// As [`TcpStream::try_read_buf`].
            ///
            /// # Errors
            /// As there.
            pub fn try_read_buf<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<usize> {
                self.as_ref().try_read_buf(buf)
            }

            /// As [`TcpStream::try_read_vectored`].
            ///
            /// # Errors
            /// As there.
            pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.as_ref().try_read_vectored(bufs)
            }

            /// As [`TcpStream::poll_peek`].
            ///
            /// # Errors
            /// As there.
            pub fn poll_peek(
                &mut self,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<usize>> {
                self.as_ref().poll_peek(cx, buf)
            }

            /// As [`TcpStream::peek`].
            ///
            /// # Errors
            /// As there.
            pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.as_ref().peek(buf).await
            }

            /// As [`TcpStream::poll_read_with`].
            ///
            /// # Errors
            /// As there.
            pub fn poll_read_with(
                &mut self,
                cx: &mut Context<'_>,
                read: impl FnOnce([&[u8]; 2]) -> usize,
            ) -> Poll<io::Result<Option<usize>>> {
                self.as_ref().poll_read_with(cx, read)
            }
        }

        impl AsyncRead for $half {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                (*self).as_ref().poll_read_ref(cx, buf)
            }
        }
    };
}

macro_rules! writing {
    ($half:ty) => {
        either!($half);

        impl $half {
            /// As [`TcpStream::writable`].
            ///
            /// # Errors
            /// As there.
            pub async fn writable(&self) -> io::Result<()> {
                self.as_ref().writable().await
            }

            /// As [`TcpStream::try_write`].
            ///
            /// # Errors
            /// As there.
            pub fn try_write(&self, text: &[u8]) -> io::Result<usize> {
                self.as_ref().try_write(text)
            }

            /// As [`TcpStream::ready`].
            ///
            /// # Errors
            /// As there.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.as_ref().ready(interest).await
            }

            /// As [`TcpStream::try_write_vectored`].
            ///
            /// # Errors
            /// As there.
            pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.as_ref().try_write_vectored(bufs)
            }

            /// As [`TcpStream::drained`].
            ///
            /// # Errors
            /// As there.
            pub async fn drained(&self) -> io::Result<()> {
                self.as_ref().drained().await
            }
        }

        impl AsyncWrite for $half {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                text: &[u8],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_ref(cx, &[IoSlice::new(text)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                texts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_ref(cx, texts)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready((*self).as_ref().shutdown_write())
            }
        }
    };
}

reading!(ReadHalf<'_>);
reading!(OwnedReadHalf);
writing!(WriteHalf<'_>);
writing!(OwnedWriteHalf);
