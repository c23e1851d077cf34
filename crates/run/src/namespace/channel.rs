//! The socket between the launcher and the process that becomes the guest: one message a packet, as JSON, with at most
//! one descriptor beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
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

/// The longest message.
const LONGEST: usize = 64 * 1024;

/// What the process that becomes the guest says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The device is made; its descriptor is beside this message.
    Ready {
        /// It is a veth pair, not TUN.
        veth: bool,
        /// What could not be done and is not needed by every program.
        warnings: Vec<Failure>,
    },
    /// It went no further.
    Failed(Failure),
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

    pub(super) fn send<T: Serialize>(&self, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let octets = serde_json::to_vec(message)?;
        if octets.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than 64 KiB"));
        }
        let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&octets)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message; `None` after the last, when the other end is closed.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut octets = vec![0; LONGEST];
        let mut control = cmsg_space!(RawFd);
        let (len, fd) = loop {
            let mut parts = [IoSliceMut::new(&mut octets)];
            match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Err(Errno::EINTR) => {}
                // It was closed before our message was read.
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
                Ok(message) => break (message.bytes, descriptor(message.cmsgs()?)),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&octets[..len])?, fd)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn descriptor(messages: impl Iterator<Item = ControlMessageOwned>) -> Option<OwnedFd> {
    let numbers = messages.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(numbers) => Some(numbers),
        _ => None,
    });
    // SAFETY: the kernel has just made these descriptors for us; each is wrapped once, and the first is kept.
    let mut fds = numbers.flatten().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    let first = fds.next();
    fds.for_each(drop);
    first
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
        far.send(&Report::Ready { veth: true, warnings: vec![failure.clone()] }, Some(writer.as_fd()))
            .unwrap();
        far.send(&Report::Failed(failure.clone()), None).unwrap();
        drop((far, writer));

        let (ready, fd) = near.receive::<Report>().unwrap().unwrap();
        assert_eq!(ready, Report::Ready { veth: true, warnings: vec![failure.clone()] });
        File::from(fd.unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        let (failed, fd) = near.receive::<Report>().unwrap().unwrap();
        assert_eq!(failed, Report::Failed(failure));
        assert!(fd.is_none());
        assert!(near.receive::<Report>().unwrap().is_none());
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert!(Channel::inherited(1).is_err());
        assert!(Channel::inherited(1_000_000).is_err());
    }
}
