//! Scripted behavior of the test server.

use super::{Inner, lock};
use crate::{IcmpError, InterceptedTcp, TcpStream};
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Handler = Box<dyn FnOnce(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The server's behavior for one connection.
///
/// ```
/// use lastack::testing::{Behavior, Net, Served};
/// use lastack::{Cause, IcmpError};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let net = Net::new();
/// let served: Served = net.serve(
///     80,
///     [
///         Behavior::ignore(),
///         Behavior::unreachable(IcmpError::host_unreachable(false)),
///         Behavior::respond_then_stall(*b"half of an ans"),
///         Behavior::half_open(4),
///         Behavior::never_read(),
///         Behavior::echo(),
///         Behavior::run(|mut stream| async move { drop(stream.write_all(b"220 ready\r\n").await) }),
///         Behavior::greet(*b"220 ready\r\n"),
///     ],
/// );
/// let mut kinds = Vec::new();
/// for _ in 0..8 {
///     let attempt = async {
///         let mut stream = net.connect(80).await?;
///         stream.write_all(b"ping").await?;
///         stream.write_all(b"again").await?;
///         stream.read_exact(&mut [0; 9]).await
///     };
///     let limited = tokio::time::timeout(std::time::Duration::from_secs(300), attempt).await;
///     kinds.push(limited.map(|result| result.map_err(|error| error.kind())));
/// }
/// assert!(matches!(kinds[0], Ok(Err(std::io::ErrorKind::TimedOut))));
/// assert!(matches!(kinds[1], Ok(Err(std::io::ErrorKind::HostUnreachable))));
/// assert!(kinds[4].is_err(), "the time limit has passed");
/// assert!(kinds[5].is_ok());
/// assert!(kinds[7].is_ok());
/// assert_eq!(served.connections(), 8);
/// assert!(net.causes().await.contains(&Cause::Reset));
/// # }
/// ```
pub struct Behavior(Kind);

enum Kind {
    Refuse,
    Ignore,
    Unreachable(IcmpError),
    ResetAfter(usize),
    Greet(Vec<u8>),
    Respond { data: Vec<u8>, then: Then, pace: Option<(usize, Duration)> },
    Echo,
    Silent,
    NeverRead,
    HalfOpen(usize),
    Run(Handler),
}

/// What follows a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Reset,
    Stall,
}

impl std::fmt::Debug for Behavior {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Kind::Refuse => "refuse",
            Kind::Ignore => "ignore",
            Kind::Unreachable(_) => "unreachable",
            Kind::ResetAfter(_) => "reset_after",
            Kind::Greet(_) => "greet",
            Kind::Respond { then: Then::Close, pace: None, .. } => "respond",
            Kind::Respond { then: Then::Close, .. } => "respond_slowly",
            Kind::Respond { then: Then::Reset, .. } => "respond_then_reset",
            Kind::Respond { then: Then::Stall, .. } => "respond_then_stall",
            Kind::Echo => "echo",
            Kind::Silent => "silent",
            Kind::NeverRead => "never_read",
            Kind::HalfOpen(_) => "half_open",
            Kind::Run(_) => "run",
        })
    }
}

/// Before a connection is established.
impl Behavior {
    /// Answers the SYN with RST: no listener.
    pub const fn refuse() -> Self {
        Self(Kind::Refuse)
    }

    /// Does not answer the SYN or its retransmissions: the attempt times out.
    pub const fn ignore() -> Self {
        Self(Kind::Ignore)
    }

    /// Answers the SYN with this ICMP error.
    pub const fn unreachable(error: IcmpError) -> Self {
        Self(Kind::Unreachable(error))
    }
}

/// Once it is established.
impl Behavior {
    /// Sends RST after this number of bytes was read; 0: at once.
    pub const fn reset_after(bytes: usize) -> Self {
        Self(Kind::ResetAfter(bytes))
    }

    /// Sends this data at once, as a server that speaks first (SSH, SMTP), then FIN, and reads to the end.
    pub fn greet(data: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Greet(data.into()))
    }

    /// Sends this data when the first bytes (a request) have arrived, then FIN, and reads to the end.
    pub fn respond(data: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Respond { data: data.into(), then: Then::Close, pace: None })
    }

    /// As [`respond`](Self::respond), `bytes` bytes at a time, with this pause before each.
    pub fn respond_slowly(data: impl Into<Vec<u8>>, bytes: usize, pause: Duration) -> Self {
        Self(Kind::Respond { data: data.into(), then: Then::Close, pace: Some((bytes.max(1), pause)) })
    }

    /// Sends this data when the first bytes have arrived, and RST once it is acknowledged: a truncated response.
    pub fn respond_then_reset(data: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Respond { data: data.into(), then: Then::Reset, pace: None })
    }

    /// Sends this data when the first bytes have arrived, then nothing more, and keeps the connection open.
    pub fn respond_then_stall(data: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Respond { data: data.into(), then: Then::Stall, pace: None })
    }

    /// Echoes received data, and closes when the client does.
    pub const fn echo() -> Self {
        Self(Kind::Echo)
    }

    /// Reads everything, and never answers or closes. A client that closes such a connection stays in FIN-WAIT-2 for a
    /// minute ([`TcpConfig::fin_wait_2`](crate::TcpConfig::fin_wait_2)): only then is it among
    /// [`Net::ends`](super::Net::ends).
    pub const fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Never reads: its receive window closes.
    pub const fn never_read() -> Self {
        Self(Kind::NeverRead)
    }

    /// After this number of bytes the server loses the state of all connections, as if power-cycled: the client's
    /// next segment is answered with RST.
    pub const fn half_open(bytes: usize) -> Self {
        Self(Kind::HalfOpen(bytes))
    }

    /// Calls `handler` with the stream.
    pub fn run<F, Fut>(handler: F) -> Self
    where
        F: FnOnce(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Kind::Run(Box::new(|stream| Box::pin(handler(stream)))))
    }

    pub(super) async fn answer(
        self,
        syn: InterceptedTcp,
        (record, number): (Record, usize),
        net: Weak<Inner>,
    ) {
        match self.0 {
            Kind::Refuse => syn.refuse(),
            Kind::Ignore => syn.ignore(),
            Kind::Unreachable(error) => syn.unreachable(error, None),
            Kind::Run(handler) => {
                if let Ok(stream) = syn.accept().await {
                    handler(stream).await;
                }
            }
            kind => {
                // The client has given up: nothing to serve.
                let Ok(stream) = syn.accept().await else { return };
                let mut stream = Counted { stream, record, number };
                // Errors are visible to the test as the end of the connection.
                let _end = serve(kind, &mut stream, &net).await;
            }
        }
    }
}

/// A stream whose received data is recorded.
struct Counted {
    stream: TcpStream,
    record: Record,
    /// The index of the connection among those of the port.
    number: usize,
}

impl Counted {
    /// Reads this number of bytes, or to the end of the stream.
    async fn read(&mut self, bytes: usize) -> io::Result<usize> {
        let mut read = 0;
        let mut buf = [0; 4096];
        while read < bytes {
            let room = buf.len().min(bytes - read);
            let n = self.stream.read(&mut buf[..room]).await?;
            if n == 0 {
                break;
            }
            read += n;
            if let Some(data) = lock(&self.record).get_mut(self.number) {
                data.extend_from_slice(&buf[..n]);
            }
        }
        Ok(read)
    }
}

async fn serve(kind: Kind, stream: &mut Counted, net: &Weak<Inner>) -> io::Result<()> {
    match kind {
        Kind::Refuse | Kind::Ignore | Kind::Unreachable(_) | Kind::Run(_) => {}
        Kind::ResetAfter(bytes) => {
            stream.read(bytes).await?;
            stream.stream.abort();
        }
        Kind::Greet(data) => {
            stream.stream.write_all(&data).await?;
            close(stream).await?;
        }
        Kind::Respond { data, then, pace } => {
            stream.read(1).await?;
            let (bytes, pause) = pace.unwrap_or((data.len().max(1), Duration::ZERO));
            for piece in data.chunks(bytes) {
                tokio::time::sleep(pause).await;
                stream.stream.write_all(piece).await?;
            }
            match then {
                Then::Close => close(stream).await?,
                Then::Reset => {
                    stream.stream.drained().await?;
                    stream.stream.abort();
                }
                Then::Stall => std::future::pending().await,
            }
        }
        Kind::Echo => {
            let (mut read, mut write) = stream.stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            stream.stream.shutdown().await?;
            stream.stream.closed().await?;
        }
        Kind::Silent => {
            stream.read(usize::MAX).await?;
            std::future::pending::<()>().await;
        }
        Kind::NeverRead => std::future::pending().await,
        Kind::HalfOpen(bytes) => {
            stream.read(bytes).await?;
            // The driver sends after the tasks have run. Data that was read is acknowledged before the server forgets it.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(net) = net.upgrade() {
                net.reboot();
            }
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// Sends FIN, reads to the end, and waits until the connection has ended.
async fn close(stream: &mut Counted) -> io::Result<()> {
    stream.stream.shutdown().await?;
    stream.read(usize::MAX).await?;
    stream.stream.closed().await.map(drop)
}

/// The data received by each connection to a port.
pub(super) type Record = Arc<Mutex<Vec<Vec<u8>>>>;

/// A record of the connections to a port.
#[derive(Clone, Debug)]
pub struct Served(Record);

impl Served {
    /// Number of connection attempts.
    pub fn connections(&self) -> usize {
        lock(&self.0).len()
    }

    /// The data that the server has read from each. Nothing is recorded for [`Behavior::echo`] and [`Behavior::run`].
    pub fn received(&self) -> Vec<Vec<u8>> {
        lock(&self.0).clone()
    }
}

/// The behaviors by port.
#[derive(Debug, Default)]
pub(super) struct Ports {
    behaviors: HashMap<u16, (VecDeque<Behavior>, Record)>,
    /// Clients whose SYNs are ignored, including retransmissions.
    ignored: HashSet<SocketAddr>,
}

impl Ports {
    pub(super) fn serve(&mut self, port: u16, behaviors: impl IntoIterator<Item = Behavior>) -> Served {
        let record = Record::default();
        self.behaviors.insert(port, (behaviors.into_iter().collect(), record.clone()));
        Served(record)
    }

    /// The behavior for the next connection to this port.
    pub(super) fn next(&mut self, port: u16, peer: SocketAddr) -> (Behavior, (Record, usize)) {
        if self.ignored.contains(&peer) {
            return (Behavior::ignore(), (Record::default(), 0));
        }
        let Some((behaviors, record)) = self.behaviors.get_mut(&port) else {
            return (Behavior::refuse(), (Record::default(), 0));
        };
        let number = {
            let mut record = lock(record);
            record.push(Vec::new());
            record.len() - 1
        };
        let behavior = behaviors.pop_front().unwrap_or_else(Behavior::refuse);
        if let Kind::Ignore = behavior.0 {
            self.ignored.insert(peer);
        }
        (behavior, (record.clone(), number))
    }
}
