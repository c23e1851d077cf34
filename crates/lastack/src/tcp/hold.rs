//! Control of acknowledgments, errors and silence for relays, so that the peer sees the state of the whole path.

use super::stream::take_with;
use crate::error::tcp_error;
use crate::shared::Inner;
use crate::tcp::TcpStream;
use crate::wakers::Interest;
use lastack_engine::{End, InitialNumbers, Tcp, TcpError};
use lastack_wire::icmp::IcmpError;
use std::io;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::task::{Context, Poll};
use tokio::task::coop;

/// What [`TcpStream::poll_relay_read`] has found.
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayRead {
    /// The result of [`TcpStream::poll_read_with`].
    pub read: Poll<io::Result<Option<usize>>>,
    /// Everything was read, and the task is woken for more: another call now would find nothing.
    pub drained: bool,
    /// How the connection has ended. It is looked at unless more can be read.
    pub end: Option<End>,
    /// The peer needs a held-back acknowledgment. It is looked at unless more can be read.
    pub ack_wanted: bool,
}

/// For relays.
impl TcpStream {
    /// Holds back acknowledgments: from now on, data is acknowledged only as far as
    /// [`acknowledge`](Self::acknowledge) says, and a keep-alive probe of the peer is answered only by that call;
    /// [`ack_wanted`](Self::ack_wanted) reports the demand. The peer's timers (retransmission, user timeout,
    /// keep-alive) then measure the path to the final reader of the stream.
    ///
    /// # Errors
    /// None: the stack keeps the connection while the stream exists.
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
    /// # let (stream, peer) = (near?, far?.0);
    /// # use lastack::IcmpError;
    /// stream.hold_acks()?;
    /// peer.try_write(b"a request")?;
    /// stream.ack_wanted().await?; // the peer has retransmitted it
    /// let forwarded = true; // the final reader has acknowledged it, or not
    /// if forwarded {
    ///     stream.acknowledge(9, false)?;
    /// } else {
    ///     stream.report_error(IcmpError::host_unreachable(false), None)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_acks(&self) -> io::Result<()> {
        self.call(|tcp| {
            tcp.hold_acks();
            Ok(())
        })
    }

    /// Acknowledges the first `bytes` bytes of the stream, counted from its start; `fin`: and the FIN, if these are
    /// all. A pending probe or retransmission of the peer is answered with the last of it.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn acknowledge(&self, bytes: u64, fin: bool) -> io::Result<()> {
        self.call(|tcp| {
            tcp.acknowledge(bytes, fin);
            Ok(())
        })
    }

    /// The initial sequence numbers of both directions: the byte at offset N of the stream has the initial number plus
    /// N + 1, modulo 2^32. Both are `None` once the connection has ended.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn initial_numbers(&self) -> io::Result<InitialNumbers> {
        self.call(|tcp| Ok(tcp.initial_numbers()))
    }

    /// Waits until the peer needs a held-back acknowledgment: it retransmitted data or sent a keep-alive probe.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn ack_wanted(&self) -> io::Result<()> {
        self.wait(Interest::Acknowledge(self.id), is_ack_wanted).await
    }

    /// As [`ack_wanted`](Self::ack_wanted), for a hand-written future.
    ///
    /// # Errors
    /// As [`ack_wanted`](Self::ack_wanted).
    pub fn poll_ack_wanted(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Interest::Acknowledge(self.id), is_ack_wanted)
    }

    /// Does at once what [`poll_read_with`](Self::poll_read_with), [`poll_closed`](Self::poll_closed) and
    /// [`poll_ack_wanted`](Self::poll_ack_wanted) do, for a relay, which waits for all three. The task is woken for each of
    /// them that is not ready, once there is nothing more to be read.
    ///
    /// `read` runs under the lock of the host, as that of `poll_read_with`.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # use std::{future::poll_fn, task::Poll};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, peer) = (near?, far?.0);
    /// stream.hold_acks()?;
    /// peer.try_write(b"hello")?;
    /// let taken = poll_fn(|cx| {
    ///     let looked = stream.poll_relay_read(cx, |[first, second]| first.len() + second.len());
    ///     if looked.ack_wanted || looked.end.is_some() {
    ///         return Poll::Ready(Ok(None));
    ///     }
    ///     looked.read
    /// });
    /// assert_eq!(taken.await?, Some(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_relay_read(&self, cx: &mut Context<'_>, read: impl FnOnce([&[u8]; 2]) -> usize) -> RelayRead {
        let mut relayed = RelayRead { read: Poll::Pending, drained: false, end: None, ack_wanted: false };
        let Poll::Ready(budget) = coop::poll_proceed(cx) else { return relayed };
        let mut panic = None;
        self.host.shared().with(|inner| {
            let Some(mut tcp) = inner.stack.tcp(self.id) else {
                relayed.read = Poll::Ready(Err(inner.gone()));
                return;
            };
            let taken = take_with(&mut tcp, read, &mut panic);
            relayed.read = taken.map_err(|error| tcp_error(error, tcp.end()));
            // To look at a connection that has ended would take its error.
            relayed.drained = matches!(relayed.read, Poll::Ready(Ok(Some(1..))))
                && tcp.end().is_none()
                && tcp.poll_readable().is_pending();
            if relayed.drained || relayed.read.is_pending() {
                self.attend(inner, cx, &mut relayed);
            }
        });
        if relayed.read.is_ready() {
            budget.made_progress();
        }
        panic.map_or(relayed, |panic| resume_unwind(panic))
    }

    /// Nothing can be read: looks at the rest, and registers the task.
    fn attend(&self, inner: &mut Inner, cx: &mut Context<'_>, relayed: &mut RelayRead) {
        if let (true, Err(error)) = (relayed.read.is_pending(), inner.running()) {
            relayed.read = Poll::Ready(Err(error));
            return;
        }
        let Some(tcp) = inner.stack.tcp(self.id) else { return };
        relayed.end = tcp.end().cloned();
        relayed.ack_wanted = tcp.ack_wanted();
        let interests = [
            Some(Interest::Read(self.id)),
            relayed.end.is_none().then_some(Interest::End(self.id)),
            (!relayed.ack_wanted).then_some(Interest::Acknowledge(self.id)),
        ];
        inner.wakers.register_poller_of(self.id, interests.into_iter().flatten(), cx.waker());
    }

    /// From now on nothing is sent to the peer, and everything that it sends is ignored except a reset, as if the
    /// path were cut.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn mute(&self) -> io::Result<()> {
        self.call(|tcp| {
            tcp.mute();
            Ok(())
        })
    }

    /// Sends the peer an ICMP error about the data it has in flight, as a router on the path would: from this
    /// address, or with `None` from our own.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn report_error(&self, error: IcmpError, from: Option<IpAddr>) -> io::Result<()> {
        self.call(|tcp| {
            tcp.report_error(error, from);
            Ok(())
        })
    }
}

fn is_ack_wanted(tcp: &mut Tcp<'_>) -> Poll<Result<(), TcpError>> {
    if tcp.ack_wanted() { Poll::Ready(Ok(())) } else { Poll::Pending }
}
