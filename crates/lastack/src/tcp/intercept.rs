//! Interception of SYNs: the application decides on the answer, before the handshake.

use crate::Host;
use crate::error::{intercepted_already, not_intercepted, tcp_error};
use crate::shared::Inner;
use crate::tcp::TcpStream;
use crate::wakers::{Interest, Wait, Wakers};
use lastack_engine::{Answer, ConnId, End, Ended, Stack, TcpError};
use lastack_wire::icmp::IcmpError;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

/// The queue of intercepted SYNs.
///
/// The stack bounds their number (`max_embryonic`), and those that end meanwhile are removed, so this bounds the
/// queue too.
#[derive(Debug, Default)]
pub(crate) struct Intercepted {
    /// Oldest first. May contain ended ones, which are not in `alive`.
    order: VecDeque<ConnId>,
    alive: HashSet<ConnId>,
    /// Those that the interceptor has not answered yet, with their end if they have ended.
    given: HashMap<ConnId, Option<End>>,
    claim: Claim,
}

/// The state of the interceptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    /// None yet: SYNs are queued.
    #[default]
    Open,
    /// There is one.
    Taken,
    /// It was dropped: SYNs are refused.
    Given,
}

impl Intercepted {
    pub fn push(&mut self, stack: &mut Stack, wakers: &mut Wakers, id: ConnId) {
        if self.claim == Claim::Given {
            decline(stack, id, Answer::Refuse);
        } else {
            self.order.push_back(id);
            self.alive.insert(id);
            wakers.wake(Interest::Intercepted);
        }
    }

    /// A connection has ended. If it was queued here, it needs no answer any more.
    pub fn ended(&mut self, stack: &mut Stack, ended: &Ended) {
        let id = ended.id;
        if let Some(end) = self.given.get_mut(&id) {
            *end = Some(ended.end.clone());
        }
        if !self.alive.remove(&id) {
            return;
        }
        if let Some(tcp) = stack.tcp(id) {
            tcp.close();
        }
        // Removed in bulk, for amortized constant cost.
        if self.order.len() > 2 * self.alive.len() {
            self.order.retain(|id| self.alive.contains(id));
        }
    }

    fn pop(&mut self) -> Option<ConnId> {
        std::iter::from_fn(|| self.order.pop_front()).find(|id| self.alive.remove(id))
    }

    /// Refuses all SYNs from now on, queued ones first.
    pub fn refuse_all(&mut self, stack: &mut Stack) {
        self.claim = Claim::Given;
        while let Some(id) = self.pop() {
            decline(stack, id, Answer::Refuse);
        }
    }
}

impl Host {
    /// Receives every SYN that matches no listener of this host, to be answered one by one.
    ///
    /// SYNs that arrived before this call are queued for it. Once the interceptor is dropped, SYNs are refused.
    ///
    /// # Errors
    /// `InvalidInput` if the host was made without [`Intercept::tcp`](crate::Intercept::tcp);
    /// `AddrInUse` if there is an interceptor already.
    pub fn intercept_tcp(&self) -> io::Result<TcpInterceptor> {
        self.shared().with(|inner| {
            inner.accepts_sockets()?;
            if !inner.stack.config().intercept.tcp {
                return Err(not_intercepted("connections", "tcp"));
            }
            if inner.intercepted.claim == Claim::Taken {
                return Err(intercepted_already("connections"));
            }
            inner.intercepted.claim = Claim::Taken;
            Ok(TcpInterceptor { host: self.clone() })
        })
    }
}

/// Receives the SYNs that match no listener; see [`Host::intercept_tcp`].
///
/// ```
/// use lastack::{Config, Host, IcmpError, TcpInterceptor, TcpStream, link};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// let mut config = Config::new([[10, 0, 0, 2].into()]);
/// config.any_address = true;
/// config.intercept.tcp = true;
/// let proxy = Host::spawn(config, b);
///
/// let syns: TcpInterceptor = proxy.intercept_tcp()?;
/// tokio::spawn(async move {
///     while let Ok(syn) = syns.recv().await {
///         match syn.local_addr().port() {
///             80 => drop(tokio::spawn(syn.accept())),
///             81 => syn.unreachable(IcmpError::admin_prohibited(false), None),
///             82 => syn.ignore(),
///             _ => syn.refuse(),
///         }
///     }
/// });
/// TcpStream::connect(&client, ([192, 0, 2, 7], 80)).await?;
/// let error = TcpStream::connect(&client, ([192, 0, 2, 7], 81)).await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpInterceptor {
    host: Host,
}

impl TcpInterceptor {
    /// Waits for the next SYN.
    ///
    /// # Errors
    /// Only once the driver has stopped.
    ///
    /// # Cancel safety
    /// No SYN is lost when the future is dropped.
    pub async fn recv(&self) -> io::Result<InterceptedTcp> {
        let host = &self.host;
        Wait::new(host.shared(), Interest::Intercepted, |inner| next(host, inner)).await
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<InterceptedTcp>> {
        self.host.shared().poll(cx, Interest::Intercepted, None, |inner| next(&self.host, inner))
    }
}

fn next(host: &Host, inner: &mut Inner) -> Poll<io::Result<InterceptedTcp>> {
    while let Some(id) = inner.intercepted.pop() {
        // The attempt has ended in the meantime: no answer is needed.
        let Some(tcp) = inner.stack.tcp(id) else { continue };
        let (local, remote) = (tcp.local(), tcp.remote());
        inner.intercepted.given.insert(id, None);
        return Poll::Ready(Ok(InterceptedTcp { host: host.clone(), id, local, remote, answered: false }));
    }
    Poll::Pending
}

impl Drop for TcpInterceptor {
    fn drop(&mut self) {
        self.host.shared().with(|inner| {
            let Inner { intercepted, stack, .. } = inner;
            intercepted.refuse_all(stack);
            inner.wakers.forget(Interest::Intercepted);
        });
    }
}

/// A SYN that is not answered yet. The peer retransmits it for a while.
///
/// If dropped without an answer, it is refused.
#[derive(Debug)]
#[must_use = "dropped, the connection is refused"]
pub struct InterceptedTcp {
    host: Host,
    id: ConnId,
    local: SocketAddr,
    remote: SocketAddr,
    answered: bool,
}

impl InterceptedTcp {
    /// The destination address of the SYN.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The source address of the SYN.
    pub const fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The sequence number of the SYN: a SYN with the same addresses and number is a retransmission of this one. `None`
    /// if the attempt has ended.
    pub fn initial_number(&self) -> Option<u32> {
        self.host.shared().with(|inner| inner.stack.tcp(self.id)?.initial_numbers().peers)
    }

    /// Waits until the attempt has ended and returns how. Never ready while the peer is silent or retransmits the
    /// SYN.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn closed(&self) -> io::Result<End> {
        let id = self.id;
        let over = move |inner: &mut Inner| {
            let end = inner.intercepted.given.get(&id).ok_or_else(|| inner.gone())?;
            end.clone().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
        };
        Wait::new(self.host.shared(), Interest::End(id), over).await
    }

    /// Answers SYN|ACK, and waits until the connection is established.
    ///
    /// # Errors
    /// If the handshake fails.
    ///
    /// # Cancel safety
    /// The SYN|ACK is sent in any case; dropping the future closes the connection.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        self.answered = true;
        self.host.shared().with(|inner| {
            inner.stack.tcp_answer(self.id, Answer::Accept);
            inner.trace_begin(self.id, self.local, self.remote, "accepted by the interceptor");
            match inner.intercepted.given.remove(&self.id).flatten() {
                Some(end) => Err(tcp_error(end.error().unwrap_or(TcpError::Aborted), Some(&end))),
                None => Ok(()),
            }
        })?;
        TcpStream::new(self.host.clone(), self.id, self.local, self.remote).established().await
    }

    /// Limits the segments of both directions to this many bytes (`TCP_MAXSEG`); the MSS option of the SYN|ACK announces
    /// it. The limit is at least 88.
    pub fn set_max_segment(&self, bytes: u16) {
        self.host.shared().with(|inner| {
            if let Some(mut tcp) = inner.stack.tcp(self.id) {
                tcp.set_max_segment(Some(bytes));
            }
        });
    }

    /// Answers with RST, as for a port with no listener.
    pub fn refuse(mut self) {
        self.decline(Answer::Refuse);
    }

    /// Answers with an ICMP error from this address; `None`: from the destination.
    pub fn unreachable(mut self, error: IcmpError, from: Option<IpAddr>) {
        self.decline(Answer::Unreachable { error, from });
    }

    /// Drops the SYN silently.
    pub fn ignore(mut self) {
        self.decline(Answer::Drop);
    }

    fn decline(&mut self, answer: Answer) {
        self.answered = true;
        self.host.shared().with(|inner| {
            decline(&mut inner.stack, self.id, answer);
            inner.intercepted.given.remove(&self.id);
            inner.wakers.forget(Interest::End(self.id));
        });
    }
}

impl Drop for InterceptedTcp {
    fn drop(&mut self) {
        if !self.answered {
            self.decline(Answer::Refuse);
        }
    }
}

/// Answers a SYN without establishing a connection, and releases its state.
fn decline(stack: &mut Stack, id: ConnId, answer: Answer) {
    stack.tcp_answer(id, answer);
    if let Some(tcp) = stack.tcp(id) {
        tcp.close();
    }
}
