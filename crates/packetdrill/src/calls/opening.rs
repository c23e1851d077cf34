//! socket, bind, listen, accept, connect, shutdown, close.

use super::descriptor::Stream;
use super::options::{self, apply};
use super::{Fd, Kind, Operation, StreamState, datagram_number, errno, number};
use crate::arguments::{self, AF_INET, AF_INET6, Arguments};
use crate::error::Problem;
use crate::lastack::Lastack;
use crate::setup::IpVersion;
use crate::system::Reply;
use lastack_engine::{BindError, ConnectError, Instant, TcpState, UdpId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_STREAM: i64 = 1;
const SOCK_DGRAM: i64 = 2;
const SOCK_NONBLOCK: i64 = 0o4000;
const SOCK_TYPE: i64 = 0xf;
const SOCK_CLOEXEC: i64 = 0o2_000_000;
/// One more than the largest socket type of Linux.
const SOCK_MAX: i64 = 11;
const IPPROTO_ICMP: i64 = 1;
const IPPROTO_TCP: i64 = 6;
const IPPROTO_UDP: i64 = 17;
const IPPROTO_ICMPV6: i64 = 58;
const IPPROTO_SCTP: i64 = 132;
const IPPROTO_UDPLITE: i64 = 136;
const IPPROTO_MPTCP: i64 = 262;
const IPPROTO_MAX: i64 = 263;

fn bind_errno(error: BindError) -> i64 {
    match error {
        BindError::InUse => errno::EADDRINUSE,
        _ => errno::EADDRNOTAVAIL,
    }
}

impl Lastack {
    pub(super) fn socket(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        self.verify_family(arguments)?;
        let (kind, protocol) = (arguments.number(1)?, arguments.number(2)?);
        let foreign = |what: &str| Err(Problem::unsupported(arguments.span(), what));
        // Linux's order of checks: flags, type, protocol, then whether they match.
        if kind & !(SOCK_TYPE | SOCK_NONBLOCK | SOCK_CLOEXEC) != 0
            || kind & SOCK_TYPE >= SOCK_MAX
            || !(0..IPPROTO_MAX).contains(&protocol)
        {
            return Ok(Operation::errno(errno::EINVAL));
        }
        let kind_of = match (kind & SOCK_TYPE, protocol) {
            (SOCK_STREAM, 0 | IPPROTO_TCP) => Kind::Stream(Stream::new(StreamState::Fresh)),
            (SOCK_DGRAM, 0 | IPPROTO_UDP) => Kind::Datagram(None),
            (SOCK_STREAM, IPPROTO_MPTCP) => return foreign("multipath TCP is not supported"),
            (SOCK_DGRAM, IPPROTO_ICMP | IPPROTO_ICMPV6 | IPPROTO_UDPLITE) | (SOCK_STREAM, IPPROTO_SCTP) => {
                return foreign("only TCP and UDP are supported");
            }
            (SOCK_STREAM | SOCK_DGRAM, _) => return Ok(Operation::errno(errno::EPROTONOSUPPORT)),
            _ => return foreign("only stream and datagram sockets are supported"),
        };
        Ok(Operation::opened(self, Fd::new(kind_of, kind & SOCK_NONBLOCK != 0)))
    }

    /// A socket must have the IP version that the script is run with.
    fn verify_family(&self, arguments: &Arguments<'_>) -> Result<(), Problem> {
        let expr = arguments.at(0)?;
        let of_version = if self.setup.version == IpVersion::V4 { AF_INET } else { AF_INET6 };
        if arguments::is_ellipsis(expr) || arguments::number(expr)? == of_version {
            return Ok(());
        }
        let name = self.setup.version.name();
        let message = format!("the address family {expr} is not supported in a run over {name}");
        Err(Problem::unsupported(expr.span.clone(), message))
    }

    pub(super) fn bind(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let local = self.setup.local_end();
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        match &mut found.kind {
            Kind::Stream(stream) if stream.bound || stream.state != StreamState::Fresh => {
                Ok(Operation::errno(errno::EINVAL))
            }
            Kind::Stream(stream) => {
                stream.bound = true;
                Ok(Operation::value(0))
            }
            Kind::Datagram(Some(_)) => Ok(Operation::errno(errno::EINVAL)),
            Kind::Datagram(bound) => match self.stack.udp_bind(local) {
                Ok(id) => {
                    *bound = Some(id);
                    Ok(Operation::value(0))
                }
                Err(error) => Ok(Operation::errno(bind_errno(error))),
            },
            Kind::Epoll(_) => Ok(Operation::errno(errno::ENOTSOCK)),
        }
    }

    pub(super) fn listen(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (fd, backlog) = (arguments.number(0)?, arguments.number(1)?);
        let local = self.setup.local_end();
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        let set_before = found.options.clone();
        let Some(stream) = found.stream_mut() else { return Ok(Operation::errno(errno::EOPNOTSUPP)) };
        if let StreamState::Listening(_) = stream.state {
            return Ok(Operation::value(0));
        }
        if stream.state != StreamState::Fresh {
            return Ok(Operation::errno(errno::EINVAL));
        }
        let backlog = usize::try_from(backlog).unwrap_or(4096);
        match self.stack.tcp_listen(local, backlog) {
            Ok(listener) => {
                options::apply_to_listener(&mut self.stack, &set_before, listener);
                stream.state = StreamState::Listening(listener);
                Ok(Operation::value(0))
            }
            Err(error) => Ok(Operation::errno(bind_errno(error))),
        }
    }

    pub(super) fn accept(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let nonblock = arguments.name() == "accept4" && arguments.number(3)? & SOCK_NONBLOCK != 0;
        Ok(Operation::Accept { fd: arguments.number(0)?, nonblock })
    }

    pub(super) fn attempt_accept(&mut self, fd: i64, nonblock: bool) -> Option<Reply> {
        let Some(found) = self.fds.get(&fd) else { return Some(Reply::Errno(errno::EBADF)) };
        let Some(StreamState::Listening(listener)) = found.stream().map(|stream| stream.state) else {
            return Some(Reply::Errno(errno::EINVAL));
        };
        match self.stack.tcp_accept(listener) {
            Some(id) => {
                let mut accepted = Fd::new(Kind::Stream(Stream::new(StreamState::Connected(id))), nonblock);
                accepted.options.clone_from(&found.options);
                accepted.linger = found.linger;
                apply(&mut self.stack, &accepted, id);
                self.opened = Some(accepted);
                Some(Reply::Opened)
            }
            None if found.nonblock => Some(Reply::Errno(errno::EAGAIN)),
            None => None,
        }
    }

    pub(super) fn connect(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        if arguments::is_unspecified(arguments.at(1)?) {
            return Ok(self.disconnect(fd));
        }
        let Some(found) = self.fds.get(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        match &found.kind {
            Kind::Stream(stream) if stream.state == StreamState::Fresh => Ok(self.connect_stream(fd)),
            Kind::Stream(_) => Ok(Operation::Connect { fd }),
            Kind::Datagram(_) => Ok(Operation::Done(self.connect_datagram(fd))),
            Kind::Epoll(_) => Ok(Operation::errno(errno::ENOTSOCK)),
        }
    }

    fn connect_stream(&mut self, fd: i64) -> Operation {
        let (local, remote) = (self.setup.local_end(), self.setup.remote_end());
        let Some(found) = self.fds.get_mut(&fd) else { return Operation::errno(errno::EBADF) };
        let nonblock = found.nonblock;
        let Some(stream) = found.stream_mut() else { return Operation::errno(errno::ENOTSOCK) };
        let id = match self.stack.tcp_connect(stream.bound.then_some(local), remote) {
            Ok(id) => id,
            Err(ConnectError::Bind(error)) => return Operation::errno(bind_errno(error)),
            Err(_) => return Operation::errno(errno::ENETUNREACH),
        };
        stream.state = StreamState::Connecting(id);
        if let Some(found) = self.fds.get(&fd) {
            apply(&mut self.stack, found, id);
        }
        if nonblock { Operation::errno(errno::EINPROGRESS) } else { Operation::Connect { fd } }
    }

    pub(super) fn attempt_connect(&mut self, fd: i64) -> Option<Reply> {
        let found = self.fds.get_mut(&fd)?;
        let nonblock = found.nonblock;
        let Some(stream) = found.stream_mut() else { return Some(Reply::Errno(errno::ENOTSOCK)) };
        let StreamState::Connecting(id) = stream.state else { return Some(Reply::Errno(errno::EISCONN)) };
        let Some(mut tcp) = self.stack.tcp(id) else { return Some(Reply::Errno(errno::EBADF)) };
        match tcp.state() {
            TcpState::SynSent | TcpState::SynReceived if nonblock => Some(Reply::Errno(errno::EALREADY)),
            TcpState::SynSent | TcpState::SynReceived => None,
            TcpState::Closed => {
                // Otherwise the socket was never connected.
                let error = tcp.take_error().map_or(errno::ECONNABORTED, number);
                tcp.close();
                stream.state = StreamState::Fresh;
                Some(Reply::Errno(error))
            }
            _ => {
                stream.state = StreamState::Connected(id);
                Some(Reply::Value(0))
            }
        }
    }

    /// `connect` to `AF_UNSPEC` resets the socket.
    fn disconnect(&mut self, fd: i64) -> Operation {
        let Some(found) = self.fds.get_mut(&fd) else { return Operation::errno(errno::EBADF) };
        let Some(stream) = found.stream_mut() else { return Operation::errno(errno::EINVAL) };
        match stream.state {
            StreamState::Listening(listener) => self.stack.tcp_unlisten(listener),
            StreamState::Connecting(id) | StreamState::Connected(id) => {
                if let Some(mut tcp) = self.stack.tcp(id) {
                    tcp.abort();
                    tcp.close();
                }
            }
            StreamState::Fresh => {}
        }
        stream.state = StreamState::Fresh;
        Operation::value(0)
    }

    fn connect_datagram(&mut self, fd: i64) -> Reply {
        let remote = self.setup.remote_end();
        let id = match self.bound_datagram(fd) {
            Ok(id) => id,
            Err(errno) => return Reply::Errno(errno),
        };
        let Some(mut udp) = self.stack.udp(id) else { return Reply::Errno(errno::EBADF) };
        if let Err(error) = udp.connect(remote) {
            return Reply::Errno(datagram_number(error));
        }
        Reply::Value(0)
    }

    /// The datagram socket of this descriptor, bound to an ephemeral port if it has none.
    pub(super) fn bound_datagram(&mut self, fd: i64) -> Result<UdpId, i64> {
        let found = self.fds.get_mut(&fd).ok_or(errno::EBADF)?;
        let Kind::Datagram(bound) = &mut found.kind else { return Err(errno::ENOTSOCK) };
        if let Some(id) = *bound {
            return Ok(id);
        }
        let any: IpAddr = if self.setup.local.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let id = self.stack.udp_bind(SocketAddr::new(any, 0)).map_err(bind_errno)?;
        *bound = Some(id);
        Ok(id)
    }

    pub(super) fn shutdown(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (fd, how) = (arguments.number(0)?, arguments.number(1)?);
        if !(0..=2).contains(&how) {
            return Ok(Operation::errno(errno::EINVAL));
        }
        let (read, write) = (how != 1, how != 0);
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        let stream = match &mut found.kind {
            Kind::Stream(stream) => stream,
            Kind::Datagram(bound) => {
                // As on Linux: an unconnected socket gets an error, but the shutdown takes effect.
                found.shut.reads |= read;
                found.shut.writes |= write;
                let connected =
                    bound.and_then(|id| self.stack.udp(id)).is_some_and(|udp| udp.remote().is_some());
                return Ok(if connected { Operation::value(0) } else { Operation::errno(errno::ENOTCONN) });
            }
            Kind::Epoll(_) => return Ok(Operation::errno(errno::ENOTSOCK)),
        };
        match stream.state {
            StreamState::Fresh => Ok(Operation::errno(errno::ENOTCONN)),
            StreamState::Listening(listener) => {
                if read {
                    self.stack.tcp_unlisten(listener);
                    stream.state = StreamState::Fresh;
                }
                Ok(Operation::value(0))
            }
            StreamState::Connecting(id) | StreamState::Connected(id) => {
                let Some(mut tcp) = self.stack.tcp(id) else { return Ok(Operation::errno(errno::ENOTCONN)) };
                if tcp.state() == TcpState::Closed {
                    return Ok(Operation::errno(errno::ENOTCONN));
                }
                stream.no_more_reads |= read;
                let done = if read { tcp.shutdown_read() } else { Ok(()) };
                let done = done.and_then(|()| if write { tcp.shutdown() } else { Ok(()) });
                Ok(done.map_or_else(|error| Operation::errno(number(error)), |()| Operation::value(0)))
            }
        }
    }

    pub(super) fn close(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let Some(found) = self.fds.get(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        let linger = found.linger.filter(|time| !time.is_zero() && !found.nonblock);
        let id = found.connection();
        if let (Some(linger), Some(id)) = (linger, id)
            && let Some(mut tcp) = self.stack.tcp(id)
            && tcp.info().unread == 0
            && tcp.shutdown().is_ok()
        {
            return Ok(Operation::Linger { fd, deadline: self.clock + linger });
        }
        self.close_now(fd);
        Ok(Operation::value(0))
    }

    pub(super) fn attempt_linger(&mut self, fd: i64, deadline: Instant) -> Option<Reply> {
        let id = self.fds.get(&fd).and_then(Fd::connection);
        let tcp = id.and_then(|id| self.stack.tcp(id));
        let drained = tcp.is_none_or(|mut tcp| tcp.poll_drained().is_ready());
        if !drained && self.clock < deadline {
            return None;
        }
        self.close_now(fd);
        Some(Reply::Value(0))
    }

    fn close_now(&mut self, fd: i64) {
        let Some(found) = self.fds.remove(&fd) else { return };
        match found.kind {
            Kind::Stream(stream) => match stream.state {
                StreamState::Fresh => {}
                StreamState::Listening(listener) => self.stack.tcp_unlisten(listener),
                StreamState::Connecting(id) | StreamState::Connected(id) => {
                    if let Some(tcp) = self.stack.tcp(id) {
                        tcp.close();
                    }
                }
            },
            Kind::Datagram(Some(id)) => {
                if let Some(udp) = self.stack.udp(id) {
                    udp.close();
                }
            }
            Kind::Datagram(None) | Kind::Epoll(_) => {}
        }
        for other in self.fds.values_mut() {
            if let Kind::Epoll(epoll) = &mut other.kind {
                epoll.forget(fd);
            }
        }
    }
}
