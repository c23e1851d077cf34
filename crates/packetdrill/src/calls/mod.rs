//! System calls on the stack: descriptors, blocking calls and Linux's error numbers.

mod descriptor;
mod epoll;
mod notices;
mod opening;
mod options;
mod polling;
mod transfer;

pub use descriptor::{Fd, Kind, StreamState};

use super::arguments::Arguments;
use super::error::Problem;
use super::lastack::Lastack;
use super::syntax::Call;
use super::system::Reply;
use epoll::EpollWait;
use lastack_engine::{Instant, TcpError, UdpError};
use polling::Polling;
use transfer::Transfer;

/// Linux's error numbers.
mod errno {
    pub const EBADF: i64 = 9;
    pub const EAGAIN: i64 = 11;
    pub const EFAULT: i64 = 14;
    pub const EEXIST: i64 = 17;
    pub const ENOENT: i64 = 2;
    pub const EINVAL: i64 = 22;
    pub const EPIPE: i64 = 32;
    pub const ENOTSOCK: i64 = 88;
    pub const EDESTADDRREQ: i64 = 89;
    pub const EPROTONOSUPPORT: i64 = 93;
    pub const EOPNOTSUPP: i64 = 95;
    pub const EADDRINUSE: i64 = 98;
    pub const EADDRNOTAVAIL: i64 = 99;
    pub const ENETUNREACH: i64 = 101;
    pub const ECONNABORTED: i64 = 103;
    pub const EISCONN: i64 = 106;
    pub const ENOTCONN: i64 = 107;
    pub const EALREADY: i64 = 114;
    pub const EINPROGRESS: i64 = 115;
}

/// A pending call.
#[derive(Debug)]
pub enum Operation {
    Done(Reply),
    Accept {
        fd: i64,
        nonblock: bool,
    },
    Connect {
        fd: i64,
    },
    Receive(Transfer),
    Send(Transfer),
    Poll(Polling),
    EpollWait(EpollWait),
    /// A `close` that lingers.
    Linger {
        fd: i64,
        deadline: Instant,
    },
}

impl Operation {
    fn value(value: i64) -> Self {
        Self::Done(Reply::Value(value))
    }

    fn errno(errno: i64) -> Self {
        Self::Done(Reply::Errno(errno))
    }

    /// The new descriptor has no number yet.
    fn opened(system: &mut Lastack, fd: Fd) -> Self {
        system.opened = Some(fd);
        Self::Done(Reply::Opened)
    }

    /// When the call has to act even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Poll(polling) => polling.deadline,
            Self::EpollWait(wait) => wait.deadline,
            Self::Linger { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }
}

/// `Some`: the call has returned.
type Attempt = Result<Option<Reply>, Problem>;

impl Lastack {
    /// Starts a call.
    pub fn begin_call(&mut self, call: &Call) -> Result<Operation, Problem> {
        let arguments = Arguments::new(call);
        match call.name.as_str() {
            "socket" => self.socket(&arguments),
            "bind" => self.bind(&arguments),
            "listen" => self.listen(&arguments),
            "accept" | "accept4" => self.accept(&arguments),
            "connect" => self.connect(&arguments),
            "shutdown" => self.shutdown(&arguments),
            "close" => self.close(&arguments),
            "read" | "readv" | "recv" | "recvfrom" | "recvmsg" => self.receive(&arguments),
            "write" | "writev" | "send" | "sendto" | "sendmsg" => self.send(&arguments),
            "fcntl" => self.fcntl(&arguments),
            "ioctl" => self.ioctl(&arguments),
            "setsockopt" => self.set_option(&arguments),
            "getsockopt" => self.get_option(&arguments),
            "poll" => self.poll(&arguments),
            "epoll_create" | "epoll_create1" => Ok(self.epoll_create()),
            "epoll_ctl" => self.epoll_ctl(&arguments),
            "epoll_wait" => self.epoll_wait(&arguments),
            other => {
                let message = format!("the system call {other}() is not supported");
                Err(Problem::unsupported(arguments.span(), message))
            }
        }
    }

    /// Continues a pending call.
    pub fn attempt_call(&mut self, operation: &mut Operation) -> Attempt {
        match operation {
            Operation::Done(reply) => Ok(Some(std::mem::replace(reply, Reply::Value(0)))),
            Operation::Accept { fd, nonblock } => Ok(self.attempt_accept(*fd, *nonblock)),
            Operation::Connect { fd } => Ok(self.attempt_connect(*fd)),
            Operation::Receive(transfer) => Ok(self.attempt_receive(transfer)),
            Operation::Send(transfer) => Ok(self.attempt_send(transfer)),
            Operation::Poll(polling) => Ok(self.attempt_poll(polling)),
            Operation::EpollWait(wait) => Ok(self.attempt_epoll(wait)),
            Operation::Linger { fd, deadline } => Ok(self.attempt_linger(*fd, *deadline)),
        }
    }
}

/// The error number of a TCP error.
const fn number(error: TcpError) -> i64 {
    match error {
        TcpError::Refused => 111,
        TcpError::Reset => 104,
        TcpError::Aborted => errno::ECONNABORTED,
        TcpError::TimedOut => 110,
        TcpError::HostUnreachable => 113,
        TcpError::NetworkUnreachable => errno::ENETUNREACH,
        TcpError::ProtocolUnreachable => 92,
        TcpError::Prohibited => 13,
        TcpError::BrokenPipe => errno::EPIPE,
        TcpError::NotConnected => errno::ENOTCONN,
        // For errors not known here, the least specific number.
        _ => 71,
    }
}

/// The error number of a UDP error.
const fn datagram_number(error: UdpError) -> i64 {
    match error {
        UdpError::Refused => 111,
        UdpError::HostUnreachable => 113,
        UdpError::NetworkUnreachable => errno::ENETUNREACH,
        UdpError::ProtocolUnreachable => 92,
        UdpError::Prohibited => 13,
        UdpError::HostDown => 112,
        UdpError::HostIsolated => 64,
        UdpError::MessageTooLong => 90,
        UdpError::NotConnected => errno::EDESTADDRREQ,
        UdpError::NoAddress => errno::EADDRNOTAVAIL,
        UdpError::NotUnicast => errno::EINVAL,
        UdpError::OwnAddress => errno::EOPNOTSUPP,
        UdpError::InUse => errno::EADDRINUSE,
        UdpError::Full => errno::EAGAIN,
        _ => 71,
    }
}
