use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus},
};

use lastack_device::DeviceKind;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Failure, LaunchError, Plan, Signals, Step,
    channel::{Channel, Report},
    failure::StepResult,
    inside::HIDDEN,
};

/// A program that runs in namespaces of its own.
///
/// It is killed when the thread that launched it ends, however that happens: launch it from the main thread.
#[derive(Debug)]
pub struct Guest {
    child: Child,
}

/// A guest, and what came out of its namespace.
#[derive(Debug)]
pub struct Launched {
    /// The program. It runs.
    pub guest: Guest,
    /// The device that carries its packets, for [`Device::from_fd`](lastack_device::Device::from_fd).
    pub device: OwnedFd,
    /// What kind of device that is.
    pub kind: DeviceKind,
    /// What could not be done, and the program may miss: kernel settings, IPv6, /etc/resolv.conf.
    pub warnings: Vec<Failure>,
}

impl Guest {
    /// Runs `command`, a program and its arguments, as the plan says. Standard input, output and error, the working
    /// directory and the environment are this process'. Blocks for the few milliseconds until the program runs.
    pub fn launch(plan: &Plan, command: &[OsString]) -> Result<Launched, LaunchError> {
        Self::launch_with(plan, command, |_| {})
    }

    /// As [`launch`](Self::launch); `adjust` can change environment, directory and standard streams.
    pub fn launch_with(
        plan: &Plan,
        command: &[OsString],
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Launched, LaunchError> {
        let (near, far) = Channel::pair().step(Step::Spawn, || "make a socket pair".to_owned())?;
        near.send(plan, None).step(Step::Spawn, || "pass the plan on".to_owned())?;
        let mut launcher = Command::new(&plan.launcher);
        launcher.arg0("lastack").arg(HIDDEN);
        launcher.arg(far.as_fd().as_raw_fd().to_string()).arg(std::process::id().to_string()).args(command);
        adjust(&mut launcher);
        let child = spawn_inheriting(&mut launcher, far.as_fd())
            .step(Step::Spawn, || format!("start {}", plan.launcher.display()))?;
        drop(far);
        let mut guest = Self { child };
        match guest.await_exec(&near) {
            Ok((device, kind, warnings)) => Ok(Launched { guest, device, kind, warnings }),
            Err(failure) => {
                guest.abandon();
                Err(failure.into())
            }
        }
    }

    /// The program's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program's end as `std` sees it, for its standard streams if [`launch_with`](Self::launch_with) made pipes.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Once it is reaped its id may be another's.
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Waits for the program's end, and passes on the signals that are meant for it. Can be dropped and called again.
    pub async fn wait(&mut self, signals: &mut Signals) -> io::Result<ExitStatus> {
        let mut somebody_ended = signal(SignalKind::child())?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::select! {
                _ = somebody_ended.recv() => {}
                caught = signals.next() => self.signal(caught?)?,
            }
        }
    }

    /// The messages up to the exec, which closes the other end.
    fn await_exec(&mut self, channel: &Channel) -> Result<(OwnedFd, DeviceKind, Vec<Failure>), Failure> {
        let receive =
            || channel.receive::<Report>().step(Step::Spawn, || "read from the new process".to_owned());
        let (veth, warnings, device) = match receive()? {
            Some((Report::Ready { veth, warnings }, Some(device))) => (veth, warnings, device),
            Some((Report::Failed(failure), _)) => return Err(failure),
            Some((Report::Ready { .. }, None)) => {
                return Err(io::Error::other("no descriptor came with it"))
                    .step(Step::Spawn, || "receive the device".to_owned());
            }
            None => return Err(self.silent_end()),
        };
        match receive()? {
            None => Ok((device, if veth { DeviceKind::Veth } else { DeviceKind::Tun }, warnings)),
            Some((Report::Failed(failure), _)) => Err(failure),
            Some((Report::Ready { .. }, _)) => Err(io::Error::other("it said so twice"))
                .step(Step::Spawn, || "understand the new process".to_owned()),
        }
    }

    fn silent_end(&mut self) -> Failure {
        let end = match self.child.wait() {
            Ok(status) => io::Error::other(format!("it ended by itself: {status}")),
            Err(error) => error,
        };
        Failure::new(Step::Spawn, "start the process that becomes the guest", &end)
    }

    /// Leaves no process behind after a failure. What fails here changes nothing about that failure.
    fn abandon(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Spawns it with one more descriptor open.
fn spawn_inheriting(command: &mut Command, fd: BorrowedFd<'_>) -> io::Result<Child> {
    let number = fd.as_raw_fd();
    let inherit = move || {
        // SAFETY: the child has a copy of every descriptor, and `fd` is borrowed until the spawn is over.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
    unsafe { command.pre_exec(inherit) };
    command.spawn()
}
