//! Non-blocking calls, and readiness for custom I/O.

use super::stream::{poll_tcp, send_all};
use crate::error::would_block;
use crate::tcp::TcpStream;
use lastack_engine::Tcp;
use std::io::{self, IoSlice, IoSliceMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Poll;
use tokio::io::Interest;

impl TcpStream {
    /// As [`try_read`](Self::try_read), into several buffers, one after the other.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = |tcp: &mut Tcp<'_>| {
            let mut total = 0;
            for buf in bufs.iter_mut().filter(|buf| !buf.is_empty()) {
                match tcp.receive(buf) {
                    Poll::Ready(Ok(n)) => {
                        total += n;
                        if n < buf.len() {
                            break;
                        }
                    }
                    Poll::Pending | Poll::Ready(Err(_)) if total > 0 => break,
                    other => return other,
                }
                // After the data, the next call reports the end or the error.
                if tcp.readable()[0].is_empty() {
                    break;
                }
            }
            Poll::Ready(Ok(total))
        };
        self.host.shared().with(|inner| {
            let received = poll_tcp(inner, self.id, read);
            inner.or_would_block(received)
        })
    }

    /// As [`try_read`](Self::try_read), into the spare capacity of a [`BufMut`](bytes::BufMut).
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_buf<B: bytes::BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let mut room = buf.remaining_mut();
        if room == 0 {
            return Ok(0);
        }
        self.host.shared().with(|inner| {
            let received = poll_tcp(inner, self.id, |tcp| {
                let unread = std::task::ready!(tcp.poll_readable())?;
                let taken = unread.min(room);
                for slice in tcp.slices() {
                    let len = slice.len().min(room);
                    buf.put_slice(&slice[..len]);
                    room -= len;
                    if room == 0 {
                        break;
                    }
                }
                tcp.consume(taken);
                Poll::Ready(Ok(taken))
            });
            inner.or_would_block(received)
        })
    }

    /// As [`try_write`](Self::try_write), from several buffers, one after the other.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let sent = poll_tcp(inner, self.id, |tcp| send_all(tcp, bufs));
            inner.or_would_block(sent)
        })
    }

    /// As [`try_write`](Self::try_write), but the data is written in place, which saves a relay a copy and lets it
    /// read no more than there is room for. `fill` gets parts of the send buffer and, where that has to grow, of
    /// `spare`, and returns the number of bytes it has written there, from the start.
    ///
    /// `fill` runs under the lock of the host: it must be short, must not block, and must not use the host or its
    /// sockets.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
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
    /// # let (stream, _peer) = (near?, far?.0);
    /// let mut spare = [0; 4096];
    /// let sent = stream.try_write_with(&mut spare, |room| {
    ///     // As much of the source as fits into the first part.
    ///     let source = b"hello";
    ///     let n = source.len().min(room[0].len());
    ///     room[0][..n].copy_from_slice(&source[..n]);
    ///     n
    /// });
    /// println!("{sent:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_write_with(
        &self,
        spare: &mut [u8],
        fill: impl FnOnce([&mut [u8]; 3]) -> usize,
    ) -> io::Result<usize> {
        let mut panic = None;
        let sent = self.host.shared().with(|inner| {
            inner.running()?;
            let fill = |room: [&mut [u8]; 3]| {
                // The panic is resumed outside the lock: it has only seen borrowed memory.
                catch_unwind(AssertUnwindSafe(|| fill(room))).unwrap_or_else(|cause| {
                    panic = Some(cause);
                    0
                })
            };
            let sent = poll_tcp(inner, self.id, |tcp| tcp.send_with(spare, fill));
            inner.or_would_block(sent)
        });
        panic.map_or(sent, |panic| resume_unwind(panic))
    }

    /// Runs `call`, which uses this stream without waiting, if the stream is ready for `interest`.
    ///
    /// # Errors
    /// `WouldBlock` if it is not ready; that of `call`.
    pub fn try_io<R>(&self, interest: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if self.is_ready(interest)? { call() } else { Err(would_block()) }
    }

    /// Runs `call`, which uses this stream without waiting, each time the stream is ready for `interest`, until it
    /// returns something other than `WouldBlock`.
    ///
    /// # Errors
    /// That of `call`; the link failed or the driver was dropped.
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            self.ready(interest).await?;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                result => return result,
            }
        }
    }
}
