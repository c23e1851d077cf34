//! The socket between the launcher and the processes inside: one JSON message per packet, with attached descriptors.

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

/// Max descriptors attached to a message (`SCM_MAX_FD` of the kernel).
pub(super) const MAX_DESCRIPTORS: usize = 253;
/// Max length of a message.
const LONGEST: usize = 64 * 1024;

/// Messages from inside: first from the process that makes the namespaces, then from the supervisor that it leaves
/// there.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The device is made; its descriptor and that of the network namespace are the first ones attached to this message.
    Ready {
        /// It is a veth pair, not TUN.
        veth: bool,
        /// Failures of steps that only some programs need.
        warnings: Vec<Failure>,
        /// The other attached descriptors, in sequence.
        sockets: Vec<InnerSocket>,
    },
    /// The supervisor runs.
    Supervised {
        /// Its process id, as the launcher sees it.
        supervisor: i32,
        /// Failures of steps that only some programs need.
        warnings: Vec<Failure>,
    },
    /// A step failed, and no further ones follow.
    Failed(Failure),
    /// The program runs.
    Running,
    /// The program was stopped by a signal.
    Stopped,
    /// The program was continued.
    Continued,
    /// The program has ended, with this wait status.
    Ended(i32),
}

/// A socket in the guest's network that is used from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InnerSocket {
    /// Queries the guest's TCP sockets (`NETLINK_SOCK_DIAG`).
    Diagnosis,
    /// Receives the resets of the guest's own loopback.
    Refusals,
    /// Lists the guest's datagram sockets of one family (`/proc/net/udp`).
    Datagrams {
        /// IPv6.
        v6: bool,
    },
    /// Lists the guest's devices (`/proc/net/dev`).
    Devices,
    /// Listens on, or is bound to, this address.
    Listener(SocketAddr),
}

/// Requests of the launcher to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Send the program this signal.
    Signal(i32),
    /// Continue the program's process group.
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

    /// Takes the end that was inherited under this number, and sets close-on-exec.
    pub(super) fn inherited(number: RawFd) -> io::Result<Self> {
        if number <= 2 {
            return Err(Errno::EBADF.into());
        }
        // SAFETY: the borrow is only used to check that it is open, and ends with the expression.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: it is open, and no other code in this process uses it: it was inherited for this purpose.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    pub(super) fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than 64 KiB"));
        }
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Waits for the next message; `None` after the last, when the other end is closed.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::empty())
    }

    /// The next message, without descriptors. [`io::ErrorKind::WouldBlock`]: none is available yet.
    pub(super) fn try_receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        Ok(self.receive_with(MsgFlags::MSG_DONTWAIT)?.map(|(message, _)| message))
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: MsgFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let (len, fds) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
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
        Ok(Some((serde_json::from_slice(&bytes[..len])?, fds)))
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
    // SAFETY: the kernel has just created these descriptors; each is wrapped once.
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
