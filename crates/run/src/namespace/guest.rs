use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use lastack_device::DeviceKind;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        signal::Signal,
        socket::{Shutdown, shutdown},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Failure, LaunchError, Plan, Signals, Step,
    channel::{Channel, InnerSocket, Order, Report},
    failure::StepResult,
    inside::HIDDEN,
    job::Job,
    processes::{self, Process},
};

/// A program that runs in its own namespaces, and all its descendants.
///
/// They are killed when the thread that launched it ends, for whatever reason, and when this is dropped: launch it from
/// the main thread.
#[derive(Debug)]
pub struct Guest {
    /// The parent of the program's processes, which ends after the last of them.
    supervisor: Pid,
    channel: Channel,
    /// The same, once it is polled.
    watched: Option<AsyncFd<OwnedFd>>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    status: Option<ExitStatus>,
    /// The last process has ended.
    over: bool,
    job: Job,
}

/// A guest, and the resources from its namespace.
#[derive(Debug)]
pub struct Launched {
    /// The running program.
    pub guest: Guest,
    /// The device of its packets, for [`Device::from_fd`](lastack_device::Device::from_fd).
    pub device: OwnedFd,
    /// What kind of device that is.
    pub kind: DeviceKind,
    /// The network namespace. Without root its file in `/proc` cannot be opened: processes may not inspect the supervisor.
    pub net: OwnedFd,
    /// Sockets in the guest's network.
    pub sockets: Vec<(InnerSocket, OwnedFd)>,
    /// Failures that may affect the program: sysctls, IPv6, /etc/resolv.conf.
    pub warnings: Vec<Failure>,
}

/// The namespace, before the program runs in it.
struct Made {
    device: OwnedFd,
    kind: DeviceKind,
    net: OwnedFd,
    sockets: Vec<(InnerSocket, OwnedFd)>,
    warnings: Vec<Failure>,
    supervisor: Pid,
}

impl Guest {
    /// Runs `command`, a program and its arguments, as planned. Standard input, output and error, the working directory
    /// and the environment are inherited from this process. Blocks for the few milliseconds until the program runs.
    pub fn launch(plan: &Plan, command: &[OsString]) -> Result<Launched, LaunchError> {
        Self::launch_with(plan, command, |_| {})
    }

    /// As [`launch`](Self::launch); `adjust` can change environment, directory and standard streams.
    pub fn launch_with(
        plan: &Plan,
        command: &[OsString],
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Launched, LaunchError> {
        let (near, mut child) = start_maker(plan, command, adjust)?;
        let made = await_made(&near, &mut child);
        // Waiting for it would close its standard input.
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if made.is_err() {
            let _ended = child.kill();
        }
        let _reaped = child.wait();
        let Made { device, kind, net, sockets, warnings, supervisor } = made?;
        let job = Job::new();
        let guest =
            Self { supervisor, channel: near, watched: None, stdin, stdout, status: None, over: false, job };
        match guest.channel.receive::<Report>().step(Step::Spawn, || "read from the supervisor".to_owned())? {
            Some((Report::Running, _)) => Ok(Launched { guest, device, kind, net, sockets, warnings }),
            Some((Report::Failed(failure), _)) => Err(failure.into()),
            Some((other, _)) => Err(nonsense(&other).into()),
            None => {
                let end = io::Error::other("its supervisor ended");
                Err(Failure::new(Step::Spawn, "start the program", &end).into())
            }
        }
    }

    /// The program's process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        // The first that the supervisor started: process ids increase, except for a wrap-around.
        let first = processes::children(self.supervisor).into_iter().next();
        first.filter(|_| self.status.is_none()).map(|process| process.id.as_raw().cast_unsigned())
    }

    /// The parent of the program's processes, in the same namespaces, which outlives them.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.as_raw().cast_unsigned()
    }

    /// The live processes: the program, and its descendants.
    pub fn processes(&self) -> Vec<Process> {
        if self.over { Vec::new() } else { processes::descendants(self.supervisor) }
    }

    /// The program's standard input, if [`launch_with`](Self::launch_with) made it a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The program's standard output, if [`launch_with`](Self::launch_with) made it a pipe. It reaches its end when the
    /// last process that holds it ends.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let order = if signal == Signal::SIGCONT { Order::Continue } else { Order::Signal(signal as i32) };
        self.order(order)
    }

    /// Ends all processes: SIGTERM, and SIGKILL a second later.
    pub fn end(&mut self) -> io::Result<()> {
        self.order(Order::End)
    }

    fn order(&self, order: Order) -> io::Result<()> {
        match self.channel.send(&order, &[]) {
            // It has already ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            other => other,
        }
    }

    /// Waits for the program's end, and forwards signals to it. Cancel-safe.
    pub async fn wait(&mut self, signals: &mut Signals) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                signals.program_ended();
                return Ok(status);
            }
            tokio::select! {
                report = self.report() => self.handle_report(report?)?,
                caught = signals.next() => self.signal(caught?)?,
            }
        }
    }

    /// Waits for the program's end, without a runtime.
    pub fn wait_blocking(&mut self) -> io::Result<ExitStatus> {
        while self.status.is_none() {
            let report = self.channel.receive()?.map(|(report, _)| report);
            self.handle_report(report)?;
        }
        Ok(self.status.unwrap_or_default())
    }

    /// Waits until the last process has ended. Cancel-safe.
    pub async fn rest(&mut self) -> io::Result<()> {
        while !self.over {
            let report = self.report().await?;
            self.handle_report(report)?;
        }
        Ok(())
    }

    async fn report(&mut self) -> io::Result<Option<Report>> {
        let watched = match &mut self.watched {
            Some(watched) => watched,
            empty => {
                let copy = self.channel.as_fd().try_clone_to_owned()?;
                // SAFETY: the descriptor moves into the AsyncFd, which lends it out as a shared reference only.
                empty.insert(unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }?)
            }
        };
        loop {
            let mut ready = watched.readable().await?;
            match self.channel.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                other => return other,
            }
        }
    }

    fn handle_report(&mut self, report: Option<Report>) -> io::Result<()> {
        match report {
            Some(Report::Ended(status)) => self.status = Some(ExitStatus::from_raw(status)),
            Some(Report::Stopped) => {
                let program = self.id();
                self.job.stop_with(program)?;
                // This process was continued, and so is the program.
                if self.job.has_stopped() {
                    self.order(Order::Continue)?;
                }
            }
            Some(_) => {}
            None => {
                self.over = true;
                reap(self.supervisor);
                // If the supervisor was killed, the program was killed too.
                self.status.get_or_insert(ExitStatus::from_raw(Signal::SIGKILL as i32));
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // The supervisor sees the end of the channel, kills all processes and ends.
        let _gone = shutdown(self.channel.as_fd().as_raw_fd(), Shutdown::Both);
        reap(self.supervisor);
    }
}

/// Waits for the end of the supervisor, which was asked to end, or has closed its channel. It cannot end before the
/// last process of its namespace has been reaped, possibly by a parent outside, or has come back from a device: it is
/// then left to this process' parent.
fn reap(supervisor: Pid) {
    let begun = Instant::now();
    while begun.elapsed() < REAPED {
        match waitpid(supervisor, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => thread::sleep(REAPED_LOOK),
            Err(Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// Max time for the end of the supervisor, and polling interval.
const REAPED: Duration = Duration::from_secs(3);
const REAPED_LOOK: Duration = Duration::from_millis(1);

/// An interface in a network namespace that exists, without a program of ours, and the resources from there.
#[derive(Debug)]
pub struct Joined {
    /// The device of its packets, for [`Device::from_fd`](lastack_device::Device::from_fd).
    pub device: OwnedFd,
    /// What kind of device that is.
    pub kind: DeviceKind,
    /// The network namespace.
    pub net: OwnedFd,
    /// Sockets in that network.
    pub sockets: Vec<(InnerSocket, OwnedFd)>,
    /// Failures that may affect programs there.
    pub warnings: Vec<Failure>,
}

/// Makes the interface in the namespace that the plan names ([`Plan::join`]). It exists as long as the device is open.
///
/// # Errors
/// The step that failed, and why.
pub fn join(plan: &Plan) -> Result<Joined, LaunchError> {
    let (channel, mut child) = start_maker(plan, &[], |_| {})?;
    let ready = await_ready(&channel, &mut child);
    if ready.is_err() {
        let _ended = child.kill();
    }
    let _reaped = child.wait();
    Ok(ready?)
}

/// Starts the process that makes the namespaces.
fn start_maker(
    plan: &Plan,
    command: &[OsString],
    adjust: impl FnOnce(&mut Command),
) -> Result<(Channel, Child), Failure> {
    let (near, far) = Channel::pair().step(Step::Spawn, || "make a socket pair".to_owned())?;
    near.send(plan, &[]).step(Step::Spawn, || "send the plan to the new process".to_owned())?;
    let mut maker = Command::new(&plan.launcher);
    maker.arg0("lastack").arg(HIDDEN);
    maker.arg(far.as_fd().as_raw_fd().to_string()).arg(std::process::id().to_string()).args(command);
    adjust(&mut maker);
    let child = spawn_inheriting(&mut maker, far.as_fd())
        .step(Step::Spawn, || format!("start {}", plan.launcher.display()))?;
    Ok((near, child))
}

fn receive(channel: &Channel) -> Result<Option<(Report, Vec<OwnedFd>)>, Failure> {
    channel.receive::<Report>().step(Step::Spawn, || "read from the new process".to_owned())
}

/// The device and the sockets, from the process that makes the namespaces.
fn await_ready(channel: &Channel, child: &mut Child) -> Result<Joined, Failure> {
    match receive(channel)? {
        Some((Report::Ready { veth, warnings, sockets }, fds)) => {
            let mut fds = fds.into_iter();
            let missing = || {
                Failure::new(
                    Step::Spawn,
                    "receive the device",
                    &io::Error::other("no file descriptor was received"),
                )
            };
            let device = fds.next().ok_or_else(missing)?;
            let net = fds.next().ok_or_else(missing)?;
            let kind = if veth { DeviceKind::Veth } else { DeviceKind::Tun };
            Ok(Joined { device, kind, net, sockets: sockets.into_iter().zip(fds).collect(), warnings })
        }
        Some((Report::Failed(failure), _)) => Err(failure),
        Some((other, _)) => Err(nonsense(&other)),
        None => Err(silent_end(child)),
    }
}

/// The messages of the process that makes the namespaces.
fn await_made(channel: &Channel, child: &mut Child) -> Result<Made, Failure> {
    let Joined { device, kind, net, sockets, mut warnings } = await_ready(channel, child)?;
    match receive(channel)? {
        Some((Report::Supervised { supervisor, warnings: more }, _)) => {
            warnings.extend(more);
            Ok(Made { device, kind, net, sockets, warnings, supervisor: Pid::from_raw(supervisor) })
        }
        Some((Report::Failed(failure), _)) => Err(failure),
        Some((other, _)) => Err(nonsense(&other)),
        None => Err(silent_end(child)),
    }
}

fn nonsense(report: &Report) -> Failure {
    let what = io::Error::other(format!("unexpected report {report:?}"));
    Failure::new(Step::Spawn, "read the report of the new process", &what)
}

fn silent_end(child: &mut Child) -> Failure {
    let end = match child.wait() {
        Ok(status) => io::Error::other(format!("it exited: {status}")),
        Err(error) => error,
    };
    Failure::new(Step::Spawn, "start the process that becomes the guest", &end)
}

/// Spawns the command with one more inherited descriptor.
fn spawn_inheriting(command: &mut Command, fd: BorrowedFd<'_>) -> io::Result<Child> {
    let number = fd.as_raw_fd();
    let inherit = move || {
        // SAFETY: the child has a copy of every descriptor, and `fd` is borrowed until the spawn returns.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
    unsafe { command.pre_exec(inherit) };
    command.spawn()
}
