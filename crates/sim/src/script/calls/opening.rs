//! socket, bind, listen, accept, connect, shutdown, close.

use super::arguments::{self, Arguments};
use super::descriptor::Stream;
use super::options::{self, apply};
use super::{Fd, Kind, Operation, Reply, StreamState, datagram_number, errno, number};
use crate::script::error::Problem;
use crate::script::host::Host;
use crate::script::translate::{Phase, Record};
use lastack_engine::{BindError, ConnId, ConnectError, FourTuple, Instant, TcpState, UdpId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_STREAM: i64 = 1;
const SOCK_DGRAM: i64 = 2;
const SOCK_NONBLOCK: i64 = 0o4000;
const SOCK_TYPE: i64 = 0xf;
const IPPROTO_MPTCP: i64 = 262;
const AF_UNSPEC: i64 = 0;

fn bind_errno(error: BindError) -> i64 {
    match error {
        BindError::InUse => errno::EADDRINUSE,
        BindError::NotOurs | BindError::NoPort => errno::EADDRNOTAVAIL,
    }
}

impl Host {
    pub(super) fn socket(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let kind = arguments.number(1)?;
        if arguments.number(2)? == IPPROTO_MPTCP {
            return Err(Problem::unsupported(arguments.span(), "multipath TCP is not supported"));
        }
        let kind_of = match kind & SOCK_TYPE {
            SOCK_STREAM => Kind::Stream(Stream::new(StreamState::Fresh)),
            SOCK_DGRAM => Kind::Datagram(None),
            _ => {
                return Err(Problem::unsupported(
                    arguments.span(),
                    "only streams and datagrams are supported",
                ));
            }
        };
        self.add_record(Record::new(Phase::New));
        Ok(Operation::Done(Reply::Opened(Box::new(Fd::new(kind_of, kind & SOCK_NONBLOCK != 0)))))
    }

    pub(super) fn bind(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let local = self.local();
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
                    let flow = FourTuple { local, remote: self.remote() };
                    if let Some(record) = self.record_of(fd) {
                        record.flow = Some(flow);
                    }
                    Ok(Operation::value(0))
                }
                Err(error) => Ok(Operation::errno(bind_errno(error))),
            },
            Kind::Epoll(_) => Ok(Operation::errno(errno::ENOTSOCK)),
        }
    }

    pub(super) fn listen(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (fd, backlog) = (arguments.number(0)?, arguments.number(1)?);
        let local = self.local();
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
                let max_segment = options::max_segment(&set_before);
                self.stack.tcp_set_listener_max_segment(listener, max_segment);
                stream.state = StreamState::Listening(listener);
                if let Some(record) = self.record_of(fd) {
                    record.phase = Phase::Listening;
                }
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
                self.apply_options(&accepted, id);
                Some(Reply::Opened(Box::new(accepted)))
            }
            None if found.nonblock => Some(Reply::Errno(errno::EAGAIN)),
            None => None,
        }
    }

    /// A descriptor has its number: so has its record.
    pub fn name_record(&mut self, fd: i64) {
        let id = self.fds.get(&fd).and_then(Fd::connection);
        let remote = id.and_then(|id| self.stack.tcp(id)).map(|tcp| tcp.remote());
        let record =
            match remote {
                Some(remote) => self.records.iter_mut().rev().find(|record| {
                    record.fd.is_none() && record.flow.is_some_and(|flow| flow.remote == remote)
                }),
                None => self.record(),
            };
        if let Some(record) = record {
            record.fd = Some(fd);
        }
    }

    pub(super) fn connect(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let address = arguments.at(1)?;
        if let Ok(fields) = arguments::fields(address) {
            let family = arguments::field(fields, "sa_family").map(arguments::number).transpose()?;
            if family == Some(AF_UNSPEC) {
                return Ok(self.disconnect(fd));
            }
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
        let (local, remote) = (self.local(), self.remote());
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
        let flow = self.stack.tcp(id).map(|tcp| FourTuple { local: tcp.local(), remote: tcp.remote() });
        if let Some(record) = self.record_of(fd) {
            let mut fresh = Record::new(Phase::Connecting);
            (fresh.fd, fresh.flow) = (Some(fd), flow);
            *record = fresh;
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
                // What is left is a socket that was never connected.
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

    /// `connect` to nobody: the socket is as new.
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
        // The reset is still the old connection's: it is looked at under the record as it was.
        if let Some(record) = self.record_of(fd) {
            record.phase = Phase::New;
        }
        Operation::value(0)
    }

    fn connect_datagram(&mut self, fd: i64) -> Reply {
        let remote = self.remote();
        let id = match self.bound_datagram(fd) {
            Ok(id) => id,
            Err(errno) => return Reply::Errno(errno),
        };
        let Some(mut udp) = self.stack.udp(id) else { return Reply::Errno(errno::EBADF) };
        if let Err(error) = udp.connect(remote) {
            return Reply::Errno(datagram_number(error));
        }
        self.note_destination(fd, id);
        Reply::Value(0)
    }

    /// A datagram socket speaks to the peer from now on.
    pub(super) fn note_destination(&mut self, fd: i64, id: UdpId) {
        let Some(port) = self.stack.udp(id).map(|udp| udp.local().port()) else { return };
        let flow = FourTuple { local: SocketAddr::new(self.setup.local, port), remote: self.remote() };
        if let Some(record) = self.record_of(fd)
            && record.phase == Phase::New
        {
            record.phase = Phase::Connecting;
            record.flow = Some(flow);
        }
    }

    /// The datagram socket of this descriptor, bound to some port.
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
        let Some(stream) = found.stream_mut() else {
            return Err(Problem::unsupported(
                arguments.span(),
                "shutdown() of a datagram socket is not supported",
            ));
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
        if let Some(record) = self.record_of(fd) {
            record.fd = None;
        }
        for other in self.fds.values_mut() {
            if let Kind::Epoll(epoll) = &mut other.kind {
                epoll.forget(fd);
            }
        }
    }

    /// Gives a connection what was set before it was one.
    fn apply_options(&mut self, fd: &Fd, id: ConnId) {
        apply(&mut self.stack, fd, id);
    }
}
