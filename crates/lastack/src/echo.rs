//! Ping: sending echo requests, and answering intercepted ones.

use crate::Host;
use crate::error::{echo_error, intercepted_already, not_intercepted};
use crate::shared::{Inner, Shared};
use crate::wakers::{Interest, Wait, Wakers};
use lastack_engine::{EchoReply, EchoRequest, IpFields, Stack};
use lastack_wire::icmp::IcmpError;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

/// Our outstanding echo requests, by [`name`].
#[derive(Debug, Default)]
pub(crate) struct Pings {
    asked: HashMap<u32, Option<EchoReply>>,
    intercepted: bool,
}

impl Pings {
    /// Matches each reply to its request.
    pub fn collect(&mut self, stack: &mut Stack, wakers: &mut Wakers) {
        while let Some(reply) = stack.poll_echo_reply() {
            let name = name(reply.ident, reply.seq);
            // The future was dropped.
            let Some(place) = self.asked.get_mut(&name) else { continue };
            *place = Some(reply);
            wakers.wake(Interest::EchoReply(name));
        }
    }

    fn answer(&mut self, name: u32) -> Option<EchoReply> {
        self.asked.get_mut(&name)?.take()
    }
}

fn name(ident: u16, seq: u16) -> u32 {
    u32::from(ident) << 16 | u32::from(seq)
}

/// A reply to [`Host::ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pong {
    /// The data in the reply.
    pub data: Vec<u8>,
    /// Hop limit (TTL) of the reply.
    pub hop_limit: u8,
    /// Round-trip time.
    pub round_trip: Duration,
}

impl Host {
    /// Sends an ICMP echo request with this data and waits for the reply, without a time limit: wrap it in a timeout.
    ///
    /// # Errors
    /// If an ICMP error reports that the request did not arrive: `HostUnreachable`, `NetworkUnreachable`,
    /// `PermissionDenied`; or if the host cannot send it. The inner [`EchoError`] has the sender of the ICMP error.
    ///
    /// [`EchoError`]: lastack_engine::EchoError
    ///
    /// ```
    /// # use lastack::{Config, Host, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let _server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// let pong = client.ping([10, 0, 0, 2].into(), b"data").await?;
    /// assert_eq!(pong.data, b"data");
    /// println!("{:?}", pong.round_trip);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ping(&self, remote: IpAddr, data: &[u8]) -> io::Result<Pong> {
        let shared = self.shared();
        let asked = shared.with(|inner| {
            inner.running()?;
            let (ident, seq) = inner.stack.echo_name();
            let name = name(ident, seq);
            inner.stack.echo_send(None, remote, ident, seq, data).map_err(echo_error)?;
            inner.pings.asked.insert(name, None);
            io::Result::Ok(Asked { shared, name })
        })?;
        let start = tokio::time::Instant::now();
        let answered =
            |inner: &mut Inner| inner.pings.answer(asked.name).map_or(Poll::Pending, |a| Poll::Ready(Ok(a)));
        let reply = Wait::new(shared, Interest::EchoReply(asked.name), answered).await?;
        reply.result.map_err(echo_error)?;
        let EchoReply { data, hop_limit, .. } = reply;
        Ok(Pong { data, hop_limit, round_trip: start.elapsed() })
    }

    /// Receives every echo request to an address that is not in [`Config::addresses`](crate::Config), to be answered
    /// one by one.
    ///
    /// # Errors
    /// `InvalidInput` if the host was made without [`Intercept::echo`](crate::Intercept::echo);
    /// `AddrInUse` if there is an interceptor already.
    pub fn intercept_echo(&self) -> io::Result<EchoInterceptor> {
        self.shared().with(|inner| {
            inner.accepts_sockets()?;
            if !inner.stack.config().intercept.echo {
                return Err(not_intercepted("echo requests", "echo"));
            }
            if std::mem::replace(&mut inner.pings.intercepted, true) {
                return Err(intercepted_already("echo requests"));
            }
            Ok(EchoInterceptor { host: self.clone() })
        })
    }
}

/// An outstanding echo request; removed when the future is dropped.
struct Asked<'a> {
    shared: &'a Shared,
    name: u32,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.shared.with(|inner| inner.pings.asked.remove(&self.name));
    }
}

/// Receives the echo requests to other addresses; see [`Host::intercept_echo`].
///
/// A request that is not answered is dropped silently, as are all requests once this is dropped.
///
/// ```
/// use lastack::{Config, EchoInterceptor, Host, IcmpError, IpFields, link};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// let mut config = Config::new([[10, 0, 0, 2].into()]);
/// config.any_address = true;
/// config.intercept.echo = true;
/// let proxy = Host::spawn(config, b);
///
/// let requests: EchoInterceptor = proxy.intercept_echo()?;
/// tokio::spawn(async move {
///     while let Ok(request) = requests.recv().await {
///         let hop_limit = request.hop_limit;
///         let answered = match hop_limit {
///             1 => requests.unreachable(&request, IcmpError::time_exceeded(false), Some([10, 0, 0, 2].into())),
///             2 => requests.reply(&request),
///             _ => requests.forward(&request, IpFields { hop_limit: 60, traffic_class: 0, dont_fragment: false }),
///         };
///         answered.expect("it can be sent");
///     }
/// });
/// let pong = client.ping([192, 0, 2, 7].into(), b"data").await?;
/// assert_eq!(pong.hop_limit, 60);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EchoInterceptor {
    host: Host,
}

impl EchoInterceptor {
    /// Waits for the next echo request.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    ///
    /// # Cancel safety
    /// No request is lost when the future is dropped.
    pub async fn recv(&self) -> io::Result<EchoRequest> {
        Wait::new(self.host.shared(), Interest::EchoRequest, next).await
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<EchoRequest>> {
        self.host.shared().poll(cx, Interest::EchoRequest, None, next)
    }

    /// Answers with a reply that contains [`EchoRequest::data`].
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn reply(&self, request: &EchoRequest) -> io::Result<()> {
        self.host.shared().with(|inner| inner.stack.echo_reply(request)).map_err(echo_error)
    }

    /// As [`reply`](Self::reply), with these fields in the reply's IP header.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub fn forward(&self, request: &EchoRequest, ip: IpFields) -> io::Result<()> {
        self.host.shared().with(|inner| inner.stack.echo_forward(request, ip)).map_err(echo_error)
    }

    /// Answers with an ICMP error from this address; `None`: from the destination of the request.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn unreachable(
        &self,
        request: &EchoRequest,
        error: IcmpError,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        self.host
            .shared()
            .with(|inner| inner.stack.echo_unreachable(request, error, from))
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason.to_string()))
    }
}

impl Drop for EchoInterceptor {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            inner.pings.intercepted = false;
            inner.wakers.forget(Interest::EchoRequest);
        });
    }
}

fn next(inner: &mut Inner) -> Poll<io::Result<EchoRequest>> {
    inner.stack.poll_echo_request().map_or(Poll::Pending, |request| Poll::Ready(Ok(request)))
}
