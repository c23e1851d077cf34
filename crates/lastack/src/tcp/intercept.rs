//! Connections that the embedder answers itself, before the handshake.

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

/// SYNs that wait for an interceptor.
///
/// The stack bounds how many it holds at a time (`max_embryonic`), and one that ends meanwhile is removed, so there are
/// never more than that.
#[derive(Debug, Default)]
pub(crate) struct Intercepted {
    /// Oldest first. Some may have ended: those are not in `alive`.
    order: VecDeque<ConnId>,
    alive: HashSet<ConnId>,
    /// What the interceptor has and not answered yet: how it ended, once it has.
    given: HashMap<ConnId, Option<End>>,
    claim: Claim,
}

/// Who answers intercepted SYNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    /// Nobody has asked for them yet: they wait.
    #[default]
    Open,
    /// The interceptor.
    Taken,
    /// The interceptor is gone: they are refused.
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

    /// A connection has ended. If it waited here, nobody has to answer it any more.
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
        // Removed in bulk, so that each costs a constant.
        if self.order.len() > 2 * self.alive.len() {
            self.order.retain(|id| self.alive.contains(id));
        }
    }

    fn pop(&mut self) -> Option<ConnId> {
        std::iter::from_fn(|| self.order.pop_front()).find(|id| self.alive.remove(id))
    }

    /// From now on every SYN is refused, those that wait first.
    pub fn refuse_all(&mut self, stack: &mut Stack) {
        self.claim = Claim::Given;
        while let Some(id) = self.pop() {
            decline(stack, id, Answer::Refuse);
        }
    }
}

impl Host {
    /// Every SYN that no listener of this host is for, to be answered one by one.
    ///
    /// SYNs that arrived before this call wait for it. Once the interceptor is dropped, they are
    /// refused.
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

/// Gives every SYN that no listener is for; see [`Host::intercept_tcp`].
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
        // One that its peer gave up in the meantime needs no answer.
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

/// A peer that wants a connection and has no answer yet. It keeps asking for a while.
///
/// Dropped without an answer, it is refused.
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
    /// What the peer wants to reach.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Who wants to.
    pub const fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Waits until the peer has given up, and says why that is known. Never ready while the peer is
    /// silent: it only asks again.
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
    /// What became of the handshake.
    ///
    /// # Cancel safety
    /// The answer is given; dropped, the future closes the connection.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        self.answered = true;
        self.host.shared().with(|inner| {
            inner.stack.tcp_answer(self.id, Answer::Accept);
            match inner.intercepted.given.remove(&self.id).flatten() {
                Some(end) => Err(tcp_error(end.error().unwrap_or(TcpError::Aborted), Some(&end))),
                None => Ok(()),
            }
        })?;
        TcpStream::new(self.host.clone(), self.id, self.local, self.remote).established().await
    }

    /// Answers RST: nobody listens here.
    pub fn refuse(mut self) {
        self.decline(Answer::Refuse);
    }

    /// Answers with an ICMP error from this address; `None`: from the destination itself.
    pub fn unreachable(mut self, error: IcmpError, from: Option<IpAddr>) {
        self.decline(Answer::Unreachable { error, from });
    }

    /// Answers nothing: silence.
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

/// Answers a SYN with no connection, and lets go of what is left of it.
fn decline(stack: &mut Stack, id: ConnId, answer: Answer) {
    stack.tcp_answer(id, answer);
    if let Some(tcp) = stack.tcp(id) {
        tcp.close();
    }
}
