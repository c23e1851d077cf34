//! setsockopt, getsockopt, fcntl, ioctl.

use super::descriptor::Stream;
use super::{Fd, Kind, Operation, Reply, StreamState, errno};
use crate::arguments::{self, Arguments};
use crate::error::Problem;
use crate::lastack::Lastack;
use crate::syntax::{Expr, Node};
use lastack_engine::{ConnId, Keepalive, ListenerId, Stack, Tcp};
use std::collections::BTreeMap;
use std::time::Duration;

/// The size in bytes of an int, and of a `struct linger`.
const INT: i64 = 4;
const LINGER: i64 = 8;

const SOL_IP: i64 = 0;
const SOL_SOCKET: i64 = 1;
const SOL_TCP: i64 = 6;
const SOL_IPV6: i64 = 41;

const SO_REUSEADDR: (i64, i64) = (SOL_SOCKET, 2);
const SO_TYPE: (i64, i64) = (SOL_SOCKET, 3);
const SO_ERROR: (i64, i64) = (SOL_SOCKET, 4);
const SO_KEEPALIVE: (i64, i64) = (SOL_SOCKET, 9);
const SO_PRIORITY: (i64, i64) = (SOL_SOCKET, 12);
const SO_LINGER: (i64, i64) = (SOL_SOCKET, 13);
const SO_REUSEPORT: (i64, i64) = (SOL_SOCKET, 15);
const SO_ACCEPTCONN: (i64, i64) = (SOL_SOCKET, 30);
const SO_PROTOCOL: (i64, i64) = (SOL_SOCKET, 38);
const IPV6_V6ONLY: (i64, i64) = (SOL_IPV6, 26);
const NODELAY: (i64, i64) = (SOL_TCP, 1);
const MAXSEG: (i64, i64) = (SOL_TCP, 2);
const SO_SNDBUF: (i64, i64) = (SOL_SOCKET, 7);
const SO_RCVBUF: (i64, i64) = (SOL_SOCKET, 8);
/// The initial buffers of a socket (`tcp_wmem`, `tcp_rmem`).
const FIRST_SEND_BUFFER: i64 = 262_144;
const FIRST_RECEIVE_BUFFER: i64 = 540_000;
/// The smallest buffers, after doubling: `SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`.
const MIN_SEND_BUFFER: i64 = 4608;
const MIN_RECEIVE_BUFFER: i64 = 2304;
const IP_MTU_DISCOVER: (i64, i64) = (SOL_IP, 10);
const IPV6_MTU_DISCOVER: (i64, i64) = (SOL_IPV6, 23);
const IP_PMTUDISC_DONT: i64 = 0;
const IP_PMTUDISC_WANT: i64 = 1;
const NOTSENT_LOWAT: (i64, i64) = (SOL_TCP, 25);
const IP_TOS: (i64, i64) = (0, 1);
const IPV6_TCLASS: (i64, i64) = (SOL_IPV6, 67);
const IP_FREEBIND: (i64, i64) = (0, 15);
const SO_MARK: (i64, i64) = (SOL_SOCKET, 36);
/// Zero-copy sends are reported on the error queue.
pub const SO_ZEROCOPY: (i64, i64) = (SOL_SOCKET, 60);
/// A control message reports the number of bytes ready to be read.
pub const INQ: (i64, i64) = (SOL_TCP, 36);
const CORK: (i64, i64) = (SOL_TCP, 3);
const KEEPIDLE: (i64, i64) = (SOL_TCP, 4);
const KEEPINTVL: (i64, i64) = (SOL_TCP, 5);
const KEEPCNT: (i64, i64) = (SOL_TCP, 6);
const CONGESTION: (i64, i64) = (SOL_TCP, 13);
const USER_TIMEOUT: (i64, i64) = (SOL_TCP, 18);
const LINGER2: (i64, i64) = (SOL_TCP, 8);

const F_GETFD: i64 = 1;
const F_SETFD: i64 = 2;
const F_GETFL: i64 = 3;
const F_SETFL: i64 = 4;
const O_RDWR: i64 = 2;
const O_NONBLOCK: i64 = 0o4000;

const SIOCINQ: i64 = 0x541b;
const SIOCOUTQ: i64 = 0x5411;
const SIOCOUTQNSD: i64 = 0x894b;
const FIONBIO: i64 = 0x5421;

impl Lastack {
    pub(super) fn fcntl(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (fd, command) = (arguments.number(0)?, arguments.number(1)?);
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        match command {
            F_GETFL => Ok(Operation::value(O_RDWR | if found.nonblock { O_NONBLOCK } else { 0 })),
            F_SETFL => {
                found.nonblock = arguments.number(2)? & O_NONBLOCK != 0;
                Ok(Operation::value(0))
            }
            F_GETFD | F_SETFD => Ok(Operation::value(0)),
            _ => {
                Err(Problem::unsupported(arguments.span(), "fcntl(): only F_GETFL and F_SETFL are supported"))
            }
        }
    }

    pub(super) fn ioctl(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let (fd, request) = (arguments.number(0)?, arguments.number(1)?);
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        if request == FIONBIO {
            found.nonblock = arguments::single(arguments.at(2)?)? != 0;
            return Ok(Operation::value(0));
        }
        let Some(id) = found.connection() else {
            return match &found.kind {
                Kind::Stream(Stream { state: StreamState::Listening(_), .. }) => {
                    Ok(Operation::errno(errno::EINVAL))
                }
                Kind::Stream(_) => self.compare_number(arguments, 2, 0),
                _ => {
                    Err(Problem::unsupported(arguments.span(), "ioctl(): only stream sockets are supported"))
                }
            };
        };
        let Some(info) = self.stack.tcp(id).map(|tcp| tcp.info()) else {
            return Ok(Operation::errno(errno::EBADF));
        };
        let value = match request {
            SIOCINQ => info.unread,
            SIOCOUTQ => info.unacked + info.unsent,
            SIOCOUTQNSD => info.unsent,
            _ => {
                return Err(Problem::unsupported(arguments.span(), "unsupported ioctl() request"));
            }
        };
        self.compare_number(arguments, 2, value as i64)
    }

    /// Compares a number that the call returns with the list in the script.
    fn compare_number(
        &self,
        arguments: &Arguments<'_>,
        index: usize,
        value: i64,
    ) -> Result<Operation, Problem> {
        let expr = arguments.at(index)?;
        if arguments::is_ellipsis(expr) {
            return Ok(Operation::value(0));
        }
        let expected = int(arguments::single(expr)?);
        if value == expected {
            return Ok(Operation::value(0));
        }
        Ok(Operation::Done(Reply::Wrong(
            0,
            format!("{}() returned {value}, expected {expected}", arguments.name()),
        )))
    }

    pub(super) fn set_option(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let option = (arguments.number(1)?, arguments.number(2)?);
        let expr = arguments.at(3)?;
        if !self.fds.contains_key(&fd) {
            return Ok(Operation::errno(errno::EBADF));
        }
        if option == CONGESTION {
            return self.set_congestion(arguments, fd, expr);
        }
        let linger = if option == SO_LINGER { Some(arguments::linger(expr)?) } else { None };
        if linger.is_none() && !can_be_set(option) {
            return Err(unknown(arguments, expr));
        }
        // Wrapped to a 32-bit int, as on Linux.
        let value = if linger.is_some() { 0 } else { int(arguments::single(expr)?) };
        // Only options of IP may be shorter.
        let min = if linger.is_some() { LINGER } else { INT };
        let short = option.0 != SOL_IP && arguments.number(4)? < min;
        if short || linger.is_none() && !is_legal(option, value) {
            return Ok(Operation::errno(errno::EINVAL));
        }
        let Some(found) = self.fds.get_mut(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        match linger {
            Some(linger) => found.linger = linger,
            None => {
                found.options.insert(option, value);
            }
        }
        match found.stream().map(|stream| stream.state) {
            Some(StreamState::Listening(listener)) => {
                apply_to_listener(&mut self.stack, &found.options, listener);
            }
            Some(StreamState::Connecting(id) | StreamState::Connected(id)) => {
                apply(&mut self.stack, found, id);
                // Setting this option sends pending data each time.
                if let Some(mut tcp) = self.stack.tcp(id).filter(|_| option == NODELAY) {
                    tcp.set_nodelay(value != 0);
                }
            }
            _ => {}
        }
        Ok(Operation::value(0))
    }

    /// The stack uses one congestion control for all connections: only that one can be set.
    fn set_congestion(
        &mut self,
        arguments: &Arguments<'_>,
        fd: i64,
        expr: &Expr,
    ) -> Result<Operation, Problem> {
        let ours = self.stack.config().tcp.congestion.to_string();
        match &expr.node {
            Node::Text(name) if name.as_slice() == ours.as_bytes() => {
                debug_assert!(self.fds.contains_key(&fd));
                Ok(Operation::value(0))
            }
            _ => {
                Err(Problem::unsupported(arguments.span(), "congestion control per socket is not supported"))
            }
        }
    }

    pub(super) fn get_option(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let fd = arguments.number(0)?;
        let option = (arguments.number(1)?, arguments.number(2)?);
        let expr = arguments.at(3)?;
        let Some(found) = self.fds.get(&fd) else { return Ok(Operation::errno(errno::EBADF)) };
        if option == SO_LINGER {
            let same = arguments::linger(expr)? == found.linger;
            let wrong = || Reply::Wrong(0, format!("SO_LINGER is {:?}", found.linger));
            return Ok(Operation::Done(if same { Reply::Value(0) } else { wrong() }));
        }
        if option == CONGESTION {
            let ours = self.stack.config().tcp.congestion.to_string();
            let same = matches!(&expr.node, Node::Text(name) if name.as_slice() == ours.as_bytes());
            let wrong = || Reply::Wrong(0, format!("TCP_CONGESTION is {ours}"));
            return Ok(Operation::Done(if same { Reply::Value(0) } else { wrong() }));
        }
        let value = match option {
            SO_ERROR => self.take_error(fd),
            SO_TYPE => {
                if found.stream().is_some() {
                    1
                } else {
                    2
                }
            }
            SO_PROTOCOL => {
                if found.stream().is_some() {
                    6
                } else {
                    17
                }
            }
            SO_ACCEPTCONN => {
                i64::from(matches!(found.stream().map(|s| s.state), Some(StreamState::Listening(_))))
            }
            MAXSEG => self.segment_size(fd),
            // Linux doubles the requested size and reports the double.
            SO_SNDBUF => {
                found.options.get(&option).map_or(FIRST_SEND_BUFFER, |set| doubled(*set, MIN_SEND_BUFFER))
            }
            SO_RCVBUF => found
                .options
                .get(&option)
                .map_or(FIRST_RECEIVE_BUFFER, |set| doubled(*set, MIN_RECEIVE_BUFFER)),
            _ if can_be_set(option) => found.options.get(&option).copied().unwrap_or(default_of(option)),
            _ => return Err(unknown(arguments, expr)),
        };
        let room = arguments.at(4)?;
        match arguments::single(room) {
            Ok(len) if len < INT => {
                let message = "a buffer smaller than an int is not supported";
                Err(Problem::unsupported(room.span.clone(), message))
            }
            Ok(len) if len > INT => Ok(Operation::Done(Reply::Wrong(
                0,
                format!("getsockopt() returned {INT} bytes, expected {len}"),
            ))),
            _ => self.compare_number(arguments, 3, value),
        }
    }

    /// The value that `TCP_MAXSEG` reads: the size of the segments sent.
    fn segment_size(&mut self, fd: i64) -> i64 {
        let found = self.fds.get(&fd);
        let wanted = found.and_then(|found| found.options.get(&MAXSEG)).copied();
        let id = found.and_then(Fd::connection);
        match id.and_then(|id| self.stack.tcp(id)).map(|tcp| tcp.info().mss) {
            Some(mss) if mss > 0 => i64::from(mss),
            _ => wanted.unwrap_or(536),
        }
    }
}

/// An unsigned 32-bit number may represent a negative one.
fn int(number: i64) -> i64 {
    i64::from(number as i32)
}

fn unknown(arguments: &Arguments<'_>, _value: &Expr) -> Problem {
    let name = arguments.at(2).map(Expr::to_string).unwrap_or_default();
    Problem::unsupported(arguments.span(), format!("the socket option {name} is not supported"))
}

fn can_be_set(option: (i64, i64)) -> bool {
    matches!(
        option,
        SO_REUSEADDR
            | SO_REUSEPORT
            | SO_KEEPALIVE
            | SO_PRIORITY
            | IPV6_V6ONLY
            | SO_SNDBUF
            | SO_RCVBUF
            | IP_MTU_DISCOVER
            | IPV6_MTU_DISCOVER
            | NOTSENT_LOWAT
            | IP_TOS
            | IPV6_TCLASS
            | IP_FREEBIND
            | SO_MARK
            | SO_ZEROCOPY
            | INQ
            | MAXSEG
            | NODELAY
            | CORK
            | KEEPIDLE
            | KEEPINTVL
            | KEEPCNT
            | USER_TIMEOUT
            | LINGER2
    )
}

fn is_legal(option: (i64, i64), value: i64) -> bool {
    match option {
        KEEPIDLE | KEEPINTVL => (1..=32_767).contains(&value),
        KEEPCNT => (1..=127).contains(&value),
        USER_TIMEOUT => value >= 0,
        MAXSEG => (88..=32_767).contains(&value),
        // From IP_PMTUDISC_DONT to IP_PMTUDISC_OMIT.
        IP_MTU_DISCOVER | IPV6_MTU_DISCOVER => (0..=5).contains(&value),
        _ => true,
    }
}

fn default_of(option: (i64, i64)) -> i64 {
    match option {
        KEEPIDLE => 7200,
        KEEPINTVL => 75,
        KEEPCNT => 9,
        LINGER2 => 60,
        IP_MTU_DISCOVER | IPV6_MTU_DISCOVER => IP_PMTUDISC_WANT,
        _ => 0,
    }
}

/// The size of a buffer as Linux reports it: the double of what was set, for its own overhead.
fn doubled(set: i64, min: i64) -> i64 {
    // A negative number is a large unsigned one.
    let max = i64::from(i32::MAX / 2);
    (if set < 0 { max } else { set.min(max) } * 2).max(min)
}

/// The receive buffer, if it was set: half of what Linux reports is for data.
fn receive_buffer(options: &BTreeMap<(i64, i64), i64>) -> Option<usize> {
    let set = *options.get(&SO_RCVBUF)?;
    usize::try_from(doubled(set, MIN_RECEIVE_BUFFER) / 2).ok()
}

/// Applies the options of a listening descriptor.
pub fn apply_to_listener(stack: &mut Stack, options: &BTreeMap<(i64, i64), i64>, listener: ListenerId) {
    stack.tcp_set_listener_max_segment(listener, max_segment(options));
    stack.tcp_set_listener_receive_buffer(listener, receive_buffer(options));
}

/// `TCP_MAXSEG`, if it was set.
fn max_segment(options: &BTreeMap<(i64, i64), i64>) -> Option<u16> {
    options.get(&MAXSEG).and_then(|bytes| u16::try_from(*bytes).ok())
}

/// Applies the options of a descriptor to its connection.
pub fn apply(stack: &mut Stack, fd: &Fd, id: ConnId) {
    let Some(mut tcp) = stack.tcp(id) else { return };
    let set = |option: (i64, i64)| fd.options.get(&option).copied();
    tcp.set_linger(fd.linger);
    if let Some(on) = set(NODELAY)
        && tcp.nodelay() != (on != 0)
    {
        tcp.set_nodelay(on != 0);
    }
    if let Some(on) = set(CORK)
        && tcp.cork() != (on != 0)
    {
        tcp.set_cork(on != 0);
    }
    if let Some(bytes) = max_segment(&fd.options) {
        tcp.set_max_segment(Some(bytes));
    }
    if let Some(bytes) = set(SO_SNDBUF).and_then(|bytes| usize::try_from(bytes).ok()) {
        tcp.set_send_buffer(Some(doubled(bytes as i64, MIN_SEND_BUFFER) as usize));
    }
    if let Some(bytes) = receive_buffer(&fd.options) {
        tcp.set_receive_buffer(Some(bytes));
    }
    if let Some(bytes) = set(NOTSENT_LOWAT) {
        // An unsigned number; zero means the default, which is no limit.
        tcp.set_not_sent_low_water(Some(bytes as u32).filter(|bytes| *bytes != 0));
    }
    if let Some(mode) = set(IP_MTU_DISCOVER) {
        tcp.set_path_mtu_discovery(mode != IP_PMTUDISC_DONT);
    }
    if let Some(tos) = set(IP_TOS).or(set(IPV6_TCLASS)) {
        tcp.set_dscp((tos >> 2) as u8);
    }
    if let Some(milliseconds) = set(USER_TIMEOUT) {
        let limit = Duration::from_millis(milliseconds.unsigned_abs());
        if tcp.user_timeout().unwrap_or_default() != limit {
            tcp.set_user_timeout(Some(limit));
        }
    }
    if let Some(seconds) = set(LINGER2) {
        // Below zero: no wait in FIN-WAIT-2; zero: the default.
        let limit = (seconds != 0).then(|| Duration::from_secs(seconds.max(0).unsigned_abs()));
        if tcp.fin_wait_2() != limit {
            tcp.set_fin_wait_2(limit);
        }
    }
    apply_keepalive(&mut tcp, &set);
}

fn apply_keepalive(tcp: &mut Tcp<'_>, set: &impl Fn((i64, i64)) -> Option<i64>) {
    let seconds = |option| set(option).map(|value| Duration::from_secs(value.unsigned_abs()));
    let default = Keepalive::default();
    let keepalive = set(SO_KEEPALIVE).is_some_and(|on| on != 0).then(|| Keepalive {
        idle: seconds(KEEPIDLE).unwrap_or(default.idle),
        interval: seconds(KEEPINTVL).unwrap_or(default.interval),
        count: set(KEEPCNT).map_or(default.count, |count| count.unsigned_abs() as u32),
    });
    if tcp.keepalive() != keepalive {
        tcp.set_keepalive(keepalive);
    }
}
