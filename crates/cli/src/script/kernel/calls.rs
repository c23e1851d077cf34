//! The calls of a script, prepared for the thread that makes them.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use lastack_packetdrill::{
    Call, Expr, IpVersion, Node, Problem, Setup,
    arguments::{self, Arguments, Message},
};
use libc::c_int;
use socket2::SockAddr;

use super::sys;

/// The outcome of a call.
#[derive(Debug)]
pub enum Outcome {
    Value(i64),
    Opened(OwnedFd),
    /// A value, and another difference from the script.
    Wrong(i64, String),
}

impl Outcome {
    /// A value, and a result that must match the script's.
    fn checked<T: PartialEq + std::fmt::Debug>(
        value: i64,
        what: &str,
        returned: &T,
        expected: Option<&T>,
    ) -> Self {
        match expected {
            Some(expected) if expected != returned => {
                Self::Wrong(value, format!("{what} is {returned:?}, expected {expected:?}"))
            }
            _ => Self::Value(value),
        }
    }
}

/// A prepared call.
pub type Work = Box<dyn FnOnce() -> io::Result<Outcome> + Send>;

/// A number that no descriptor has.
const NO_DESCRIPTOR: RawFd = 1 << 30;

/// Translates a call of a script to a system call.
pub fn prepare(
    call: &Call,
    fds: &BTreeMap<i64, RawFd>,
    setup: &Setup,
    default_congestion: bool,
) -> Result<Work, Problem> {
    let preparing = Preparing { arguments: Arguments::new(call), fds, setup, default_congestion };
    match call.name.as_str() {
        "socket" | "bind" | "listen" | "accept" | "accept4" | "connect" | "shutdown" | "close" => {
            preparing.opening()
        }
        "read" | "readv" | "recv" | "recvfrom" | "recvmsg" => preparing.receiving(),
        "write" | "writev" | "send" | "sendto" | "sendmsg" => preparing.sending(),
        "fcntl" | "ioctl" => preparing.control(),
        "setsockopt" => preparing.set_option(),
        "getsockopt" => preparing.option(),
        "poll" => preparing.poll(),
        "epoll_create" | "epoll_create1" | "epoll_ctl" | "epoll_wait" => preparing.epoll(),
        other => preparing.unsupported(&format!("system call {other}() is not supported against the kernel")),
    }
}

struct Preparing<'a> {
    arguments: Arguments<'a>,
    fds: &'a BTreeMap<i64, RawFd>,
    setup: &'a Setup,
    /// The script has not set the congestion control of the namespace.
    default_congestion: bool,
}

fn work(made: impl FnOnce() -> io::Result<Outcome> + Send + 'static) -> Result<Work, Problem> {
    Ok(Box::new(made))
}

/// A call whose only result is a number.
fn plain(made: impl FnOnce() -> io::Result<i64> + Send + 'static) -> Result<Work, Problem> {
    work(|| made().map(Outcome::Value))
}

impl Preparing<'_> {
    fn unsupported(&self, message: &str) -> Result<Work, Problem> {
        Err(Problem::unsupported(self.arguments.span(), message))
    }

    fn int(&self, index: usize) -> Result<c_int, Problem> {
        // An unsigned 32-bit number may stand for a negative one.
        Ok(self.arguments.number(index)? as c_int)
    }

    fn real(&self, number: i64) -> RawFd {
        self.fds.get(&number).copied().unwrap_or(NO_DESCRIPTOR)
    }

    fn fd(&self, index: usize) -> Result<RawFd, Problem> {
        Ok(self.real(self.arguments.number(index)?))
    }

    fn address(&self, plain: SocketAddr) -> SockAddr {
        match (self.setup.version, plain.ip()) {
            (IpVersion::Mapped, IpAddr::V4(ip)) => {
                SockAddr::from(SocketAddr::new(ip.to_ipv6_mapped().into(), plain.port()))
            }
            _ => SockAddr::from(plain),
        }
    }

    fn message(&self) -> Result<Message, Problem> {
        let message = Message::read(self.arguments.at(1)?)?;
        match message.control.as_slice() {
            [] => Ok(message),
            _ => Err(Problem::unsupported(
                self.arguments.span(),
                "sending control messages (msg_control) is not supported",
            )),
        }
    }

    fn opening(&self) -> Result<Work, Problem> {
        let name = self.arguments.name();
        if name == "socket" {
            let family = self.arguments.at(0)?;
            let of_version = if self.setup.version == IpVersion::V4 { libc::AF_INET } else { libc::AF_INET6 };
            let domain = if arguments::is_ellipsis(family) { of_version } else { self.int(0)? };
            let (kind, protocol) = (self.int(1)?, self.int(2)?);
            let default_congestion = self.default_congestion;
            return work(move || {
                let fd = sys::socket(domain, kind, protocol)?;
                if default_congestion {
                    // A kernel without CUBIC keeps its default; a datagram socket has no congestion control.
                    let _stays =
                        sys::set_option(fd.as_raw_fd(), libc::SOL_TCP, libc::TCP_CONGESTION, b"cubic");
                }
                Ok(Outcome::Opened(fd))
            });
        }
        let fd = self.fd(0)?;
        let (local, remote) = (self.address(self.setup.local_end()), self.address(self.setup.remote_end()));
        match name {
            "bind" => plain(move || sys::bind(fd, &local)),
            "connect" => {
                let somebody = !arguments::is_unspecified(self.arguments.at(1)?);
                plain(move || sys::connect(fd, Some(&remote).filter(|_| somebody)))
            }
            "listen" => {
                let backlog = self.int(1)?;
                plain(move || sys::listen(fd, backlog))
            }
            "shutdown" => {
                let how = self.int(1)?;
                plain(move || sys::shutdown(fd, how))
            }
            "close" => plain(move || sys::close(fd)),
            _ => {
                let flags = if name == "accept4" { self.int(3)? } else { 0 };
                work(move || sys::accept(fd, flags).map(Outcome::Opened))
            }
        }
    }

    fn receiving(&self) -> Result<Work, Problem> {
        let fd = self.fd(0)?;
        match self.arguments.name() {
            "recv" | "recvfrom" => {
                let (len, flags) = (self.arguments.size(2)?, self.int(3)?);
                plain(move || sys::recv(fd, len, flags))
            }
            "recvmsg" => {
                let message = Message::read(self.arguments.at(1)?)?;
                let flags = self.int(2)?;
                work(move || {
                    let (n, returned, control) = sys::recvmsg(fd, message.len, flags)?;
                    match Outcome::checked(n, "msg_flags", &returned, Some(&(message.flags as c_int))) {
                        Outcome::Value(n) => {
                            Ok(Outcome::checked(n, "msg_control", &control, Some(&message.control)))
                        }
                        wrong => Ok(wrong),
                    }
                })
            }
            "readv" => {
                let len = arguments::vector(self.arguments.at(1)?)?;
                plain(move || sys::read(fd, len))
            }
            _ => {
                let len = self.arguments.size(2)?;
                plain(move || sys::read(fd, len))
            }
        }
    }

    fn sending(&self) -> Result<Work, Problem> {
        let fd = self.fd(0)?;
        let peer = self.address(self.setup.remote_end());
        let (len, flags, to) = match self.arguments.name() {
            "write" => (self.arguments.size(2)?, None, false),
            "writev" => (arguments::vector(self.arguments.at(1)?)?, None, false),
            "sendmsg" => {
                let message = self.message()?;
                (message.len, Some(self.int(2)?), message.name)
            }
            name => {
                let to = name == "sendto" && arguments::number(self.arguments.at(4)?) != Ok(0);
                (self.arguments.size(2)?, Some(self.int(3)?), to)
            }
        };
        // SIGPIPE would kill this program, and gives no more information than the error.
        match flags {
            None => plain(move || sys::write(fd, len)),
            Some(flags) => {
                plain(move || sys::send(fd, len, flags | libc::MSG_NOSIGNAL, Some(&peer).filter(|_| to)))
            }
        }
    }

    fn control(&self) -> Result<Work, Problem> {
        let (fd, command) = (self.fd(0)?, self.arguments.number(1)?);
        if self.arguments.name() == "fcntl" {
            let known = [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD];
            let Some(command) = known.into_iter().find(|known| i64::from(*known) == command) else {
                return self.unsupported("fcntl(): only F_GETFL and F_SETFL are supported");
            };
            let argument = if self.arguments.count() > 2 { self.int(2)? } else { 0 };
            return plain(move || sys::fcntl(fd, command, argument));
        }
        let requests = [libc::FIONREAD, libc::TIOCOUTQ, 0x894b, libc::FIONBIO];
        let Some(request) = requests.into_iter().find(|known| *known as i64 == command) else {
            return self.unsupported("unsupported ioctl() request");
        };
        let expr = self.arguments.at(2)?;
        let number =
            if arguments::is_ellipsis(expr) { None } else { Some(arguments::single(expr)? as c_int) };
        work(move || {
            let (value, returned) = sys::ioctl(fd, request, number.unwrap_or_default())?;
            Ok(Outcome::checked(value, "the number", &returned, number.as_ref()))
        })
    }

    fn set_option(&self) -> Result<Work, Problem> {
        let (fd, level, name) = (self.fd(0)?, self.int(1)?, self.int(2)?);
        let mut value = bytes(self.arguments.at(3)?)?;
        value.truncate(self.arguments.size(4)?);
        plain(move || sys::set_option(fd, level, name, &value))
    }

    fn option(&self) -> Result<Work, Problem> {
        let (fd, level, name) = (self.fd(0)?, self.int(1)?, self.int(2)?);
        let expr = self.arguments.at(3)?;
        let expected = if arguments::is_ellipsis(expr) { None } else { Some(bytes(expr)?) };
        let len = arguments::single(self.arguments.at(4)?).map_or(4, |len| len.unsigned_abs() as usize);
        let is_text = matches!(expr.node, Node::Text(_));
        let what = self.arguments.at(2)?.to_string();
        work(move || {
            let mut returned = sys::option(fd, level, name, len)?;
            if is_text {
                // Names are padded to the size of the field.
                returned.truncate(returned.iter().position(|byte| *byte == 0).unwrap_or(returned.len()));
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let expected = expected.as_deref().map(text);
                return Ok(Outcome::checked(0, &what, &text(&returned), expected.as_ref()));
            }
            if returned.len() != len {
                let message = format!("getsockopt() returned {} bytes, expected {len}", returned.len());
                return Ok(Outcome::Wrong(0, message));
            }
            let numbers = |bytes: &[u8]| -> Vec<i32> {
                bytes.as_chunks().0.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect()
            };
            let expected = expected.as_deref().map(numbers);
            Ok(Outcome::checked(0, &what, &numbers(&returned), expected.as_ref()))
        })
    }

    fn poll(&self) -> Result<Work, Problem> {
        let mut entries = Vec::new();
        let mut expected = Vec::new();
        for expr in arguments::list(self.arguments.at(0)?)? {
            let fields = arguments::fields(expr)?;
            let number = arguments::field_number(fields, "fd")?;
            let fd = if number < 0 { -1 } else { self.real(number) };
            entries.push((fd, arguments::field_number(fields, "events")? as i16));
            expected.push(arguments::field_number(fields, "revents")? as i16);
        }
        let milliseconds = self.int(2)?;
        work(move || {
            let (value, returned) = sys::poll(&entries, milliseconds)?;
            Ok(Outcome::checked(value, "revents", &returned, Some(&expected)))
        })
    }

    fn epoll(&self) -> Result<Work, Problem> {
        let name = self.arguments.name();
        if name.starts_with("epoll_create") {
            return work(|| sys::epoll_create().map(Outcome::Opened));
        }
        let epoll = self.fd(0)?;
        if name == "epoll_ctl" {
            let (operation, fd) = (self.int(1)?, self.fd(2)?);
            let deleted = operation == libc::EPOLL_CTL_DEL;
            let (events, data) = if deleted { (0, 0) } else { event(self.arguments.at(3)?)? };
            return plain(move || sys::epoll_ctl(epoll, operation, fd, events, data));
        }
        let expr = self.arguments.at(1)?;
        let expected = if arguments::is_ellipsis(expr) { None } else { Some(event(expr)?) };
        let (most, milliseconds) = (self.arguments.size(2)?, self.int(3)?);
        work(move || {
            let (value, returned) = sys::epoll_wait(epoll, most, milliseconds)?;
            Ok(Outcome::checked(value, "the event", &returned, expected.as_ref()))
        })
    }
}

/// Events and data of `{events=EPOLLIN, fd=4}`; the data are the script's numbers.
fn event(expr: &Expr) -> Result<(u32, u64), Problem> {
    let fields = arguments::fields(expr)?;
    let events = arguments::field_number(fields, "events")?;
    let data = fields.iter().find(|field| matches!(field.name.as_str(), "fd" | "ptr" | "u32" | "u64"));
    let data = data.map_or(Ok(0), |field| arguments::number(&field.value))?;
    Ok((events as u32, data.cast_unsigned()))
}

/// The value of a socket option as bytes in memory.
fn bytes(expr: &Expr) -> Result<Vec<u8>, Problem> {
    match &expr.node {
        Node::Text(text) => Ok(text.clone()),
        Node::Struct(_) => {
            let linger = arguments::linger(expr)?;
            let numbers = [c_int::from(linger.is_some()), linger.map_or(0, |time| time.as_secs() as c_int)];
            Ok(numbers.map(c_int::to_ne_bytes).concat())
        }
        _ => Ok((arguments::single(expr)? as c_int).to_ne_bytes().to_vec()),
    }
}
