//! Beginning and end of a run for the tools that start it: in the background, with a sign that the network is ready, and
//! until the namespace that it serves is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::namespace::Join;

/// What is done when the network works.
#[derive(Debug, Default)]
pub struct Ready {
    /// Gets "1", and is closed, as with slirp4netns.
    fd: Option<OwnedFd>,
    /// Gets the process id.
    pid_file: Option<(File, PathBuf)>,
    /// The process that waits in the foreground, which then ends.
    foreground: Option<io::PipeWriter>,
}

impl Ready {
    /// Opens what is written to later, so that errors appear at once.
    pub fn prepare(fd: Option<RawFd>, pid_file: Option<&Path>) -> anyhow::Result<Self> {
        let fd = fd.map(|fd| inherited(fd).context("--ready-fd")).transpose()?;
        let pid_file = pid_file.map(|path| {
            let file = File::create(path).with_context(|| format!("--pid: cannot write {}", path.display()));
            file.map(|file| (file, path.to_owned()))
        });
        Ok(Self { fd, pid_file: pid_file.transpose()?, foreground: None })
    }

    /// Goes on in the background. The process in the foreground ends with status 0 once the network is ready, or with
    /// the status of this process if that ends before.
    pub fn detach(&mut self) -> anyhow::Result<()> {
        let (mut reader, writer) = io::pipe().context("--detach")?;
        // SAFETY: this process has one thread, so its copy may do everything.
        match unsafe { fork() }.context("--detach")? {
            ForkResult::Parent { child } => {
                drop(writer);
                if reader.read(&mut [0]).is_ok_and(|bytes| bytes == 1) {
                    process::exit(0);
                }
                let status = match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, status)) => status,
                    _ => i32::from(crate::EXIT_INTERNAL),
                };
                process::exit(status)
            }
            ForkResult::Child => {
                // Fails only for the leader of a process group, which a new process is not.
                let _never = setsid();
                self.foreground = Some(writer);
                Ok(())
            }
        }
    }

    /// Tells those who wait.
    ///
    /// # Errors
    /// The pid file cannot be written.
    pub fn announce(self) -> anyhow::Result<()> {
        if let Some((mut file, path)) = self.pid_file {
            writeln!(file, "{}", process::id())
                .with_context(|| format!("--pid: cannot write {}", path.display()))?;
        }
        if let Some(fd) = self.fd {
            // A reader that has gone does not wait.
            let _gone = File::from(fd).write_all(b"1");
        }
        if let Some(mut foreground) = self.foreground {
            let null = File::options().read(true).write(true).open("/dev/null").context("--detach")?;
            let _never = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
            let _gone = foreground.write_all(&[1]);
        }
        Ok(())
    }
}

/// Takes a descriptor that the caller has passed under this number; programs that are started do not get it.
fn inherited(fd: RawFd) -> anyhow::Result<OwnedFd> {
    if (0..=2).contains(&fd) {
        bail!("descriptor {fd} is the program's own: pass another one, as in `3>FILE`");
    }
    if fd > 2 {
        // SAFETY: the borrow is only used to check that it is open, and ends with the expression.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        if fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok() {
            // SAFETY: it is open, and no other code in this process uses it: the caller names it for this purpose.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    bail!("descriptor {fd} is not open: the caller has to pass one, as in `3>FILE`")
}

/// Waits for the removal of a file.
#[derive(Debug)]
struct Removal {
    inotify: Inotify,
    /// The same.
    watched: AsyncFd<OwnedFd>,
    name: OsString,
}

/// What ends a run without a program of its own.
#[derive(Debug, Default)]
pub struct Until {
    watched: Vec<AsyncFd<OwnedFd>>,
    /// The removal of the namespace's file.
    removal: Option<Removal>,
}

impl Until {
    /// The end of the process whose namespace it is, the removal of its file, or an event on this descriptor.
    pub fn new(join: Option<&Join>, exit_fd: Option<RawFd>) -> anyhow::Result<Self> {
        let mut until = Self::default();
        if let Some(fd) = exit_fd {
            let fd = inherited(fd).context("--exit-fd")?;
            until
                .watch(fd)
                .context("--exit-fd: the descriptor cannot be waited for: pass a pipe or a socket")?;
        }
        let Some(join) = join else { return Ok(until) };
        match join.process {
            Some(process) => {
                let fd =
                    pidfd(process).with_context(|| format!("--join: cannot wait for process {process}"))?;
                until.watch(fd).context("--join")?;
            }
            None => until.removal = Some(removal_of(&join.net).context("--join: cannot watch the file")?),
        }
        Ok(until)
    }

    fn watch(&mut self, fd: OwnedFd) -> io::Result<()> {
        // SAFETY: the descriptor moves into the AsyncFd, which lends it out as a shared reference only.
        self.watched.push(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?);
        Ok(())
    }

    /// Waits for the first of them.
    pub async fn over(&self) {
        let watched = self.watched.iter().map(|fd| Box::pin(async { drop(fd.readable().await) }));
        let mut watched: Vec<_> = watched.collect();
        let any =
            std::future::poll_fn(|cx| match watched.iter_mut().any(|one| one.as_mut().poll(cx).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            });
        tokio::select! {
            () = any => {}
            () = self.removed() => {}
        }
    }

    async fn removed(&self) {
        let Some(removal) = &self.removal else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = removal.watched.readable().await else { return };
            match removal.inotify.read_events() {
                Ok(events) if events.iter().any(|event| event.name.as_ref() == Some(&removal.name)) => return,
                Ok(_) => {}
                Err(_) => ready.clear_ready(),
            }
        }
    }
}

fn pidfd(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers.
    let fd = nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the kernel has just created the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn removal_of(file: &Path) -> anyhow::Result<Removal> {
    let file = std::path::absolute(file)?;
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        bail!("{} has no directory", file.display())
    };
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(directory, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)?;
    let copy = inotify.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor moves into the AsyncFd, which lends it out as a shared reference only.
    let watched = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }?;
    Ok(Removal { inotify, watched, name: name.to_owned() })
}
