//! The socket between the launcher and the processes inside: one message a packet, as JSON, with descriptors beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
        socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Failure;

/// Most descriptors beside a message (`SCM_MAX_FD` of the kernel).
pub(super) const MAX_DESCRIPTORS: usize = 253;
/// The longest message.
const LONGEST: usize = 64 * 1024;

/// What the inside says: first the process that makes the namespaces, then the supervisor it leaves there.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The device is made; its descriptor is the first beside this message.
    Ready {
        /// It is a veth pair, not TUN.
        veth: bool,
        /// What could not be done and is not needed by every program.
        warnings: Vec<Failure>,
        /// What the other descriptors are, in order.
        sockets: Vec<InnerSocket>,
    },
    /// The supervisor runs.
    Supervised {
        /// Its process id, as the launcher sees it.
        supervisor: i32,
        /// What could not be done and is not needed by every program.
        warnings: Vec<Failure>,
    },
    /// It went no further.
    Failed(Failure),
    /// The program runs.
    Running,
    /// The program was stopped by a signal.
    Stopped,
    /// The program goes on.
    Continued,
    /// The program has ended, with this wait status.
    Ended(i32),
}

/// A socket that belongs to the guest's network and is used from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InnerSocket {
    /// Asks about the guest's TCP sockets (`NETLINK_SOCK_DIAG`).
    Diagnosis,
    /// Shows what the guest's own loopback refuses.
    Refusals,
    /// Listens there, or is bound to it.
    Listener(SocketAddr),
}

/// What the launcher asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Send the program this signal.
    Signal(i32),
    /// Let the program's process group go on.
    Continue,
    /// End all processes.
    End,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(near), Self(far)))
    }

    /// Takes the end that was inherited under this number; it is not inherited further.
    pub(super) fn inherited(number: RawFd) -> io::Result<Self> {
        if number <= 2 {
            return Err(Errno::EBADF.into());
        }
        // SAFETY: only asked whether it is open; the borrow ends with the expression.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: it is open, and nobody in this process but the caller knows of it: it was inherited for this.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    pub(super) fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let octets = serde_json::to_vec(message)?;
        if octets.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than 64 KiB"));
        }
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&octets)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message, waited for; `None` after the last, when the other end is closed.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::empty())
    }

    /// The next message, without descriptors. [`io::ErrorKind::WouldBlock`]: there is none yet.
    pub(super) fn try_receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        Ok(self.receive_with(MsgFlags::MSG_DONTWAIT)?.map(|(message, _)| message))
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: MsgFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut octets = vec![0; LONGEST];
        let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let (len, fds) = loop {
            let mut parts = [IoSliceMut::new(&mut octets)];
            let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Err(Errno::EINTR) => {}
                // It was closed before our message was read.
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
                Ok(message) => break (message.bytes, descriptors(message.cmsgs()?)),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&octets[..len])?, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn descriptors(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    let numbers = messages.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(numbers) => Some(numbers),
        _ => None,
    });
    // SAFETY: the kernel has just made these descriptors for us; each is wrapped once.
    numbers.flatten().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;
    use crate::namespace::Step;

    #[test]
    fn messages_keep_their_bounds_and_carry_a_descriptor() {
        let (near, far) = Channel::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let failure = Failure { step: Step::Exec, operation: "run x".to_owned(), errno: 2, before: None };
        let ready = |failure: &Failure| Report::Ready {
            veth: true,
            warnings: vec![failure.clone()],
            sockets: vec![InnerSocket::Listener("[::1]:80".parse().unwrap())],
        };
        far.send(&ready(&failure), &[writer.as_fd()]).unwrap();
        far.send(&Report::Failed(failure.clone()), &[]).unwrap();
        drop((far, writer));

        let (message, mut fds) = near.receive::<Report>().unwrap().unwrap();
        assert_eq!(message, ready(&failure));
        File::from(fds.pop().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        let (failed, fds) = near.receive::<Report>().unwrap().unwrap();
        assert_eq!(failed, Report::Failed(failure));
        assert!(fds.is_empty());
        assert!(near.receive::<Report>().unwrap().is_none());
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert!(Channel::inherited(1).is_err());
        assert!(Channel::inherited(1_000_000).is_err());
    }
}
