//! A helper process with privileges that lastack gives up once the program runs: it makes sockets in the guest's
//! network, and finds the process that a socket belongs to. It receives no data from the network, and answers only
//! these two requests.

use std::cell::Cell;
use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use socket2::{Domain, Protocol, Socket, Type};

use super::join::Join;
use crate::isolation;
use crate::owner::Owners;
use crate::report::Process;

/// The hidden first argument.
const HIDDEN: &str = "__attend";
/// The network namespace is its standard output.
const NET: &str = "/proc/self/fd/1";
/// The requests: a socket of either family; the owner of an inode, which follows.
const SOCKET_V4: u8 = b'4';
const SOCKET_V6: u8 = b'6';
const OWNER: u8 = b'o';

/// Max time for an answer. A process that does not answer is asked no more: its answer could come at any later time.
const ANSWERS: TimeVal = TimeVal::new(5, 0);

/// The helper process, and its socket. The process ends when this is dropped.
#[derive(Debug)]
pub struct Attendant {
    socket: OwnedFd,
    silent: Cell<bool>,
}

impl Attendant {
    /// Starts it, for this network namespace, and the user namespace in this file instead of the one that owns the
    /// network namespace.
    ///
    /// # Errors
    /// No process can be started.
    pub fn start(net: OwnedFd, user: Option<&Path>) -> io::Result<Self> {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&near, sockopt::ReceiveTimeout, &ANSWERS)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(HIDDEN).args(user);
        command.stdin(Stdio::from(far)).stdout(Stdio::from(net)).stderr(Stdio::null()).spawn()?;
        Ok(Self { socket: near, silent: Cell::new(false) })
    }

    /// A TCP socket of the guest's network.
    ///
    /// # Errors
    /// The guest is gone, or its namespaces cannot be entered.
    pub fn socket(&self, v6: bool) -> io::Result<OwnedFd> {
        self.ask(&[if v6 { SOCKET_V6 } else { SOCKET_V4 }])?;
        let mut errno = [0; 4];
        let mut parts = [IoSliceMut::new(&mut errno)];
        let mut control = cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let rights =
            received.inspect_err(|errno| self.failed(*errno))?.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
        // SAFETY: the kernel has just created the descriptor.
        rights.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(|| match i32::from_ne_bytes(errno) {
            0 => io::ErrorKind::UnexpectedEof.into(),
            errno => io::Error::from_raw_os_error(errno),
        })
    }

    /// The process that has the socket with this inode open.
    pub fn owner(&self, inode: u32) -> Option<Process> {
        let mut question = vec![OWNER];
        question.extend(inode.to_ne_bytes());
        self.ask(&question).ok()?;
        let mut answer = [0; 64];
        let received = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty());
        let len = received.inspect_err(|errno| self.failed(*errno)).ok()?;
        let (pid, comm) = answer[..len].split_first_chunk::<4>()?;
        let pid = u32::from_ne_bytes(*pid);
        (pid > 0).then(|| Process { pid, comm: String::from_utf8_lossy(comm).into_owned() })
    }
}

impl Attendant {
    fn ask(&self, question: &[u8]) -> io::Result<()> {
        if self.silent.get() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        send(self.socket.as_raw_fd(), question, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    fn failed(&self, errno: Errno) {
        self.silent.set(self.silent.get() || errno == Errno::EAGAIN);
    }
}

/// Answers requests until the socket is closed, and does not return, if this process was started as the helper.
pub(super) fn intercept() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != HIDDEN) {
        return;
    }
    for ours in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGTSTP] {
        // SAFETY: no handler is installed. Signals to lastack's process group do not concern this process.
        let _stays = unsafe { signal(ours, SigHandler::SigIgn) };
    }
    let _ended =
        attend(&Join { net: PathBuf::from(NET), user: arguments.next().map(PathBuf::from), process: None });
    process::exit(0)
}

fn attend(guest: &Join) -> io::Result<()> {
    let owners = Owners::default();
    owners.look_in(guest.inode()?);
    // In the guest's user namespace, root there could trace it otherwise. As it was started outside, not even root can.
    prctl::set_dumpable(false)?;
    let entered = guest.enter().map_err(|failure| failure.errno);
    // The change of credentials has set it to `fs.suid_dumpable`.
    prctl::set_dumpable(false)?;
    // It keeps capabilities that it cannot give up: it takes requests from lastack only.
    let _kept = isolation::enter_attendant();
    loop {
        let mut question = [0; 8];
        match (recv(0, &mut question, MsgFlags::empty())?, question) {
            (0, _) => return Ok(()),
            (5, [OWNER, a, b, c, d, ..]) => {
                let found = owners.of(u32::from_ne_bytes([a, b, c, d]));
                let mut answer = found.as_ref().map_or(0, |process| process.pid).to_ne_bytes().to_vec();
                answer.extend(found.iter().flat_map(|process| process.comm.bytes()).take(32));
                send(0, &answer, MsgFlags::MSG_NOSIGNAL)?;
            }
            (_, [family, ..]) => {
                let made = entered.map_err(io::Error::from_raw_os_error);
                pass_on(made.and_then(|()| make(family == SOCKET_V6)))?;
            }
        }
    }
}

fn make(v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// Sends the errno, and the attached socket.
fn pass_on(made: io::Result<Socket>) -> io::Result<()> {
    let errno =
        made.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)).to_ne_bytes();
    let rights: Vec<RawFd> = made.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&rights)];
    let control = if rights.is_empty() { &[][..] } else { &control[..] };
    sendmsg::<()>(0, &[IoSlice::new(&errno)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
