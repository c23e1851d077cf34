//! Relaying data between a stream of this stack and another stream, for proxies.

use crate::{Cause, End, InterceptedTcp, TcpStream};
use lastack_wire::icmp::IcmpError;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// After one side has failed: how long the delivery to the other may go without progress before it is reset.
const PATIENCE: Duration = Duration::from_secs(3);
/// Min time between the handshake and a reset of the local peer: a program that has not yet seen that it is connected
/// would lose the data before the reset.
const GRACE: Duration = Duration::from_millis(20);
/// First interval at which the far side's unacknowledged data is polled, ..
const MIN_POLL: Duration = Duration::from_millis(1);
/// .. and the max interval after backing off.
const MAX_POLL: Duration = Duration::from_millis(100);
/// Buffer size of each direction.
const CHUNK: usize = 64 * 1024;

/// The far side of a [`relay`]: a stream that can be reset and reports its undelivered bytes.
///
/// ```
/// use lastack::{RelayReport, Remote, TcpStream, relay};
///
/// /// Joins a connection of a host to a stream of any kind: one of a kernel, of another host, or of a tunnel.
/// async fn carry(local: TcpStream, far: impl Remote) -> RelayReport {
///     relay(local, far).await
/// }
/// ```
pub trait Remote: AsyncRead + AsyncWrite + Unpin {
    /// Number of bytes written and not acknowledged by the peer; 0 where it is unknown.
    ///
    /// # Errors
    /// If the stream has ended.
    fn undelivered(&self) -> io::Result<usize>;

    /// Closes the stream with RST.
    fn reset(self);
}

impl Remote for TcpStream {
    fn undelivered(&self) -> io::Result<usize> {
        let info = self.info()?;
        Ok(info.unsent + info.unacked)
    }

    fn reset(self) {
        self.abort();
    }
}

#[cfg(feature = "relay")]
impl Remote for tokio::net::TcpStream {
    fn undelivered(&self) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        return lastack_device::unacknowledged(std::os::fd::AsFd::as_fd(self));
        #[cfg(not(target_os = "linux"))]
        Ok(0)
    }

    fn reset(self) {
        // Fails only if this is not a socket.
        let _never = self.set_zero_linger();
    }
}

/// How a [`relay`] ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Relayed {
    /// Both directions ended with FIN.
    Orderly,
    /// The far side failed with this error; the local peer was reset.
    RemoteFailed(io::Error),
    /// The local side did not end cleanly; the far side was reset.
    LocalEnded(Box<End>),
    /// The local host stopped; the far side was reset.
    HostStopped(io::Error),
}

/// The result of a [`relay`].
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayReport {
    /// How it ended.
    pub ended: Relayed,
    /// Bytes that were read from the local stream and written to the far side.
    pub to_remote: u64,
    /// Bytes that were read from the far side and written to the local stream.
    pub to_local: u64,
}

/// Relays data between a stream of this stack and another until both have ended. FIN is passed on as FIN, for each
/// direction separately (half-close); a reset is passed on as a reset, after the data before it was delivered.
/// Backpressure is applied: neither side is read faster than the other accepts data.
///
/// For a proxy with an accepted [`InterceptedTcp`] and its connection to the original destination; for a connection
/// attempt that fails see [`InterceptedTcp::fail`]. The far side is a [`tokio::net::TcpStream`] (feature `relay`), a
/// stream of another host, or any other type that implements [`Remote`].
///
/// # Cancel safety
/// If the future is dropped, both streams are dropped, which closes each by a reset or a FIN.
///
/// ```
/// # use lastack::{Config, Host, TcpListener, TcpStream, link, relay};
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let (c, d) = link::pipe(link::Capabilities::memory(1500));
/// # let server = Host::spawn(Config::new([[192, 0, 2, 1].into()]), d);
/// # let outside = Host::spawn(Config::new([[192, 0, 2, 2].into()]), c);
/// # let mut config = Config::new([[10, 0, 0, 2].into()]);
/// # config.any_address = true;
/// # config.intercept.tcp = true;
/// # let proxy = Host::spawn(config, b);
/// # let listener = TcpListener::bind(&server, ([192, 0, 2, 1], 80))?;
/// # tokio::spawn(async move {
/// #     let mut stream = listener.accept().await?.0;
/// #     stream.write_all(b"hello").await?;
/// #     stream.shutdown().await
/// # });
/// let syns = proxy.intercept_tcp()?;
/// tokio::spawn(async move {
///     while let Ok(syn) = syns.recv().await {
///         let outside = outside.clone();
///         tokio::spawn(async move {
///             match TcpStream::connect(&outside, syn.local_addr()).await {
///                 Ok(remote) => drop(relay(syn.accept().await?, remote).await),
///                 Err(error) => syn.fail(&error).await,
///             }
///             std::io::Result::Ok(())
///         });
///     }
/// });
/// let mut stream = TcpStream::connect(&client, ([192, 0, 2, 1], 80)).await?;
/// let mut data = String::new();
/// stream.read_to_string(&mut data).await?;
/// assert_eq!(data, "hello");
/// let refused = TcpStream::connect(&client, ([192, 0, 2, 1], 81)).await.unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok(())
/// # }
/// ```
pub async fn relay<R: Remote>(local: TcpStream, remote: R) -> RelayReport {
    let established = Instant::now();
    let (mut from_remote, mut to_remote) = tokio::io::split(remote);
    let moved = Moved::default();
    let ended = {
        let up = pin!(up(&local, &mut to_remote, &moved));
        let down = pin!(down(&mut from_remote, &local, &moved));
        carry(&local, up, down, &moved).await
    };
    let remote = from_remote.unsplit(to_remote);
    match &ended {
        Relayed::Orderly => {}
        Relayed::RemoteFailed(_) => {
            sleep_until(established + GRACE).await;
            local.abort_when_delivered(PATIENCE).await;
        }
        Relayed::LocalEnded(_) | Relayed::HostStopped(_) => {
            delivered(&remote).await;
            remote.reset();
        }
    }
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    RelayReport { ended, to_remote: load(&moved.to_remote), to_local: load(&moved.to_local) }
}

#[derive(Debug, Default)]
struct Moved {
    to_remote: AtomicU64,
    to_local: AtomicU64,
}

impl Moved {
    fn sum(&self) -> u64 {
        self.to_remote.load(Ordering::Relaxed) + self.to_local.load(Ordering::Relaxed)
    }
}

/// Runs both directions to their ends. If one fails, the other may still deliver earlier data.
async fn carry(
    local: &TcpStream,
    mut up: impl Future<Output = Result<(), Relayed>> + Unpin,
    mut down: impl Future<Output = Result<(), Relayed>> + Unpin,
    moved: &Moved,
) -> Relayed {
    let (mut up_done, mut down_done) = (false, false);
    let failed = loop {
        let result = tokio::select! {
            result = &mut up, if !up_done => { up_done = true; result }
            result = &mut down, if !down_done => { down_done = true; result }
            // Detects a reset of the local side even while the far side accepts no data.
            result = local.closed() => match result {
                Ok(end) if end.cause == Cause::Orderly => Ok(()),
                Ok(end) => Err(Relayed::LocalEnded(end.into())),
                Err(error) => Err(Relayed::HostStopped(error)),
            },
        };
        match result {
            Err(failed) => break failed,
            Ok(()) if up_done && down_done => return Relayed::Orderly,
            Ok(()) => {}
        }
    };
    match &failed {
        Relayed::RemoteFailed(_) if !down_done => patiently(&mut down, moved).await,
        Relayed::LocalEnded(_) if !up_done => patiently(&mut up, moved).await,
        _ => {}
    }
    failed
}

/// From the local stream to the far side, up to the local FIN.
async fn up<R: Remote>(local: &TcpStream, remote: &mut WriteHalf<R>, moved: &Moved) -> Result<(), Relayed> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = poll_fn(|cx| local.poll_read_slice(cx, &mut chunk))
            .await
            .map_err(|error| local_failure(local, error))?;
        if n == 0 {
            return remote.shutdown().await.map_err(Relayed::RemoteFailed);
        }
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            let written = remote.write(rest).await.map_err(Relayed::RemoteFailed)?;
            moved.to_remote.fetch_add(written as u64, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }
}

/// From the far side to the local stream, up to the far side's FIN.
async fn down<R: Remote>(remote: &mut ReadHalf<R>, local: &TcpStream, moved: &Moved) -> Result<(), Relayed> {
    let mut chunk = vec![0; CHUNK];
    loop {
        // Backpressure: reads the far side only when the local side has room.
        local.writable().await.map_err(|error| local_failure(local, error))?;
        let n = remote.read(&mut chunk).await.map_err(Relayed::RemoteFailed)?;
        if n == 0 {
            return local.shutdown_write().map_err(|error| local_failure(local, error));
        }
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            let slices = [io::IoSlice::new(rest)];
            let written = poll_fn(|cx| local.poll_write_ref(cx, &slices)).await;
            let written = written.map_err(|error| local_failure(local, error))?;
            moved.to_local.fetch_add(written as u64, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }
}

fn local_failure(local: &TcpStream, error: io::Error) -> Relayed {
    match local.end() {
        Some(end) => Relayed::LocalEnded(end.into()),
        None => Relayed::HostStopped(error),
    }
}

/// Continues one direction as long as there is progress. Its result is ignored.
async fn patiently(direction: &mut (impl Future<Output = Result<(), Relayed>> + Unpin), moved: &Moved) {
    loop {
        let before = moved.sum();
        if timeout(PATIENCE, &mut *direction).await.is_ok() || moved.sum() == before {
            return;
        }
    }
}

/// Waits until the far side's peer has acknowledged all written data, as long as there is progress.
async fn delivered(remote: &impl Remote) {
    let (mut pause, mut left, mut since) = (MIN_POLL, usize::MAX, Instant::now());
    while let Ok(now @ 1..) = remote.undelivered() {
        if now < left {
            (left, since) = (now, Instant::now());
        } else if since.elapsed() >= PATIENCE {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_POLL);
    }
}

impl InterceptedTcp {
    /// Answers with the result of the failed attempt to reach the original destination, as the peer would have seen
    /// it on a direct connection:
    ///
    /// | error of the attempt | answer |
    /// |---|---|
    /// | `ConnectionRefused` | RST ([`refuse`](Self::refuse)) |
    /// | `ConnectionReset`: established, and reset at once | the connection is accepted, then reset |
    /// | `TimedOut` | none ([`ignore`](Self::ignore)) |
    /// | an ICMP error that is in its [`EndError`](crate::EndError) | the same ICMP error |
    /// | `HostUnreachable` | ICMP host unreachable, from the destination |
    /// | `NetworkUnreachable`, `AddrNotAvailable`, `NetworkDown` | ICMP network unreachable |
    /// | `PermissionDenied` | ICMP administratively prohibited |
    /// | others | ICMP host unreachable |
    ///
    /// # Cancel safety
    /// The answer is sent once the future is polled.
    pub async fn fail(self, error: &io::Error) {
        let v6 = self.local_addr().is_ipv6();
        if let Some(Cause::Unreachable(icmp)) = crate::EndError::find(error).map(|end| end.cause)
            && icmp.v6 == v6
        {
            return self.unreachable(icmp, None);
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => self.refuse(),
            ErrorKind::TimedOut => self.ignore(),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                if let Ok(stream) = self.accept().await {
                    sleep(GRACE).await;
                    stream.abort();
                }
            }
            ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable | ErrorKind::NetworkDown => {
                self.unreachable(IcmpError::net_unreachable(v6), None);
            }
            ErrorKind::PermissionDenied => self.unreachable(IcmpError::admin_prohibited(v6), None),
            _ => self.unreachable(IcmpError::host_unreachable(v6), None),
        }
    }
}
