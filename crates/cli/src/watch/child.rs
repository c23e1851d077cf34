//! The watched program, and signals.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;

use anyhow::Result;
use lastack_watch::Calls;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The watched program.
pub struct Child {
    pid: Pid,
    status: Option<u8>,
}

/// Why a program could not be started.
#[derive(Debug)]
pub struct StartError {
    program: OsString,
    pub(super) error: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {:?}: {}", self.program, self.error)
    }
}

impl Child {
    /// Starts the program. `observe`: its calls, too; they are given if that is possible, else the reason.
    pub fn start(
        program: &OsString,
        arguments: &[OsString],
        observe: bool,
    ) -> Result<(Self, Option<io::Result<Calls>>), StartError> {
        // Orphaned descendants are reparented to this process, so that they still count as the program's.
        let _without = set_child_subreaper(true);
        let mut command = Command::new(program);
        command.args(arguments);
        let started = if observe {
            Calls::spawn(&mut command).map(|(child, calls)| (child, Some(calls)))
        } else {
            command.spawn().map(|child| (child, None))
        };
        let (child, calls) = started.map_err(|error| StartError { program: program.clone(), error })?;
        Ok((Self { pid: Pid::from_raw(child.id() as i32), status: None }, calls))
    }

    /// Reaps all children that have ended, and returns whether the program is among them.
    pub fn has_ended(&mut self) -> bool {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(pid, code) if pid == self.pid => self.status = Some(code as u8),
                WaitStatus::Signaled(pid, signal, _) if pid == self.pid => {
                    self.status = Some(128 + signal as i32 as u8);
                }
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
        self.status.is_some()
    }

    /// Forwards a signal.
    pub fn send(&self, signal: Signal) {
        if self.status.is_none() {
            // It may have ended already.
            let _gone = kill(self.pid, signal);
        }
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        self.pid
    }

    /// Its exit status as in a shell. A program that still runs is not stopped.
    pub fn status(self) -> u8 {
        self.status.unwrap_or_default()
    }
}

/// A received signal.
pub enum Notice {
    /// Print a summary.
    Summary,
    /// A child has ended.
    Child,
    /// End.
    Stop { signal: Signal, from_terminal: bool },
}

/// Signals received from a descriptor. They are blocked otherwise.
pub struct Signals(SignalFd);

impl Signals {
    pub fn open() -> io::Result<Self> {
        let signals = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGCHLD,
        ];
        let set: SigSet = signals.into_iter().collect();
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits for a signal.
    pub fn wait(&self) -> Result<()> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All signals received since the last call.
    pub fn read(&self) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        while let Some(info) = self.0.read_signal()? {
            let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { continue };
            notices.push(match signal {
                Signal::SIGUSR1 => Notice::Summary,
                Signal::SIGCHLD => Notice::Child,
                signal => Notice::Stop { signal, from_terminal: info.ssi_code == libc::SI_KERNEL },
            });
        }
        Ok(notices)
    }
}
