//! The first process of the guest's own process namespace: it starts the program, adopts orphaned processes, and ends
//! when the last of them has ended. When it ends, for whatever reason, the kernel kills all the others; and it ends
//! with the launcher.
//!
//! If a process namespace is unavailable it does the same as a subreaper, and kills the others itself.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{self, Command},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpgid},
};

use super::{
    Failure, Step,
    channel::{Channel, Order, Report},
    failure::StepResult,
    inside::{FAILED, exists},
    plan::Plan,
    processes,
};
use crate::isolation;

/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);
/// Interval for killing processes that were started meanwhile.
const AGAIN: Duration = Duration::from_millis(10);

/// Starts the supervisor beside this process, as a child of the launcher, and notifies the launcher.
pub(super) fn start(channel: &Channel, plan: &Plan, command: &[std::ffi::OsString]) -> Result<(), Failure> {
    // Processes inside cannot inspect the supervisor, whose memory is the launcher's, take its descriptors or enter its
    // namespaces: as it was started outside, not even root can. A new process inherits this, so that there is no time at
    // which a program runs and the supervisor is not protected; `execve` ends it for the program (prctl(2)).
    prctl::set_dumpable(false).step(Step::Spawn, || {
        "keep the program from inspecting its supervisor (PR_SET_DUMPABLE)".to_owned()
    })?;
    let mut warnings = Vec::new();
    let wanted: &[bool] = if plan.process_namespace { &[true, false] } else { &[false] };
    let mut last = None;
    for &own in wanted {
        match fork_beside(channel, plan, command, own) {
            Ok((supervisor, mut go)) => {
                let report = Report::Supervised { supervisor, warnings };
                channel.send(&report, &[]).step(Step::Spawn, || "report the supervisor".to_owned())?;
                // Without it the supervisor ends, and the launcher is notified.
                return go.write_all(&[1]).step(Step::Spawn, || "release the program".to_owned());
            }
            Err(failure) => {
                warnings.push(failure.clone());
                last = Some(failure);
            }
        }
    }
    Err(last.expect("it was tried"))
}

/// `own`: in its own process namespace. Returns its process id outside, and the stream that lets it continue.
fn fork_beside(
    channel: &Channel,
    plan: &Plan,
    command: &[std::ffi::OsString],
    own: bool,
) -> Result<(i32, UnixStream), Failure> {
    let operation = || "start the supervisor of the program's processes".to_owned();
    let (mut near, far) = UnixStream::pair().step(Step::Processes, operation)?;
    let namespace = if own { libc::CLONE_NEWPID } else { 0 };
    let flags = libc::c_long::from(namespace | libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: as fork(2), except for the parent: no stack is given, and this process has one thread.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let child = Errno::result(child).step(Step::Processes, operation)?;
    if child == 0 {
        drop(near);
        Supervisor::new(channel, plan, own).run(far, command)
    }
    drop(far);
    let mut answer = [0; 4];
    near.read_exact(&mut answer).step(Step::Processes, operation)?;
    match i32::from_ne_bytes(answer) {
        0 => Ok((child as i32, near)),
        errno => Err(Errno::from_raw(errno))
            .step(Step::Processes, || "show the program its own processes in /proc (mount proc)".to_owned()),
    }
}

struct Supervisor<'a> {
    channel: &'a Channel,
    /// It is the first of a process namespace.
    own: bool,
    /// Remaining processes are killed when the program ends.
    kill_rest: bool,
    program: Pid,
    /// The program has been reaped: its process id may be reused.
    reaped: bool,
    /// When to kill the processes that got SIGTERM.
    deadline: Option<Instant>,
}

impl<'a> Supervisor<'a> {
    fn new(channel: &'a Channel, plan: &Plan, own: bool) -> Self {
        let kill_rest = plan.kill_rest;
        Self { channel, own, kill_rest, program: Pid::from_raw(0), reaped: false, deadline: None }
    }

    fn run(mut self, mut starter: UnixStream, command: &[std::ffi::OsString]) -> ! {
        let mut before = SigSet::empty();
        // Signals from the terminal are the program's. Fails only on an invalid set of signals.
        let _never = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before));
        let prepared = self.prepare();
        let answer = prepared.err().map_or(0, |errno| errno as i32);
        let sent = starter.write_all(&answer.to_ne_bytes()).is_ok();
        if answer != 0 || !sent || starter.read_exact(&mut [0]).is_err() {
            process::exit(FAILED);
        }
        drop(starter);
        match self.start_program(&before, command) {
            Ok(()) => {}
            Err(failure) => {
                // If the launcher is gone, no process is left to notify.
                let _ = self.channel.send(&Report::Failed(failure), &[]);
                process::exit(FAILED);
            }
        }
        self.stand_aside();
        let _gone = self.channel.send(&Report::Running, &[]);
        self.attend()
    }

    fn prepare(&self) -> Result<(), Errno> {
        if !self.own {
            return prctl::set_child_subreaper(true);
        }
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
    }

    /// Returns once the program runs, or with the reason why it does not.
    fn start_program(&mut self, mask: &SigSet, command: &[std::ffi::OsString]) -> Result<(), Failure> {
        let spawn = || "start the program's process".to_owned();
        let (mut reader, mut writer) = io::pipe().step(Step::Spawn, spawn)?;
        // SAFETY: this process has one thread, so its copy may do everything.
        match unsafe { fork() }.step(Step::Spawn, spawn)? {
            ForkResult::Child => {
                drop(reader);
                let failure = execute(mask, command);
                let text = serde_json::to_vec(&failure).unwrap_or_default();
                // If the supervisor is gone, no process is left to notify.
                let _ = writer.write_all(&text);
                process::exit(FAILED)
            }
            ForkResult::Parent { child } => {
                drop(writer);
                self.program = child;
                let mut text = Vec::new();
                reader.read_to_end(&mut text).step(Step::Spawn, spawn)?;
                if text.is_empty() { Ok(()) } else { Err(read_failure(&text)) }
            }
        }
    }

    /// Releases the program's resources: streams on whose end others wait, a directory, privileges.
    fn stand_aside(&self) {
        if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
            for stream in 0..=2 {
                // SAFETY: both descriptors are open, or are opened; this process does not use the streams.
                unsafe { libc::dup2(null.as_raw_fd(), stream) };
            }
        }
        let channel = self.channel.as_fd().as_raw_fd().cast_unsigned();
        for (first, last) in [(3, channel - 1), (channel + 1, u32::MAX)] {
            // SAFETY: this process uses no inherited descriptor except the channel. A kernel before 5.9 does not
            // support the call.
            let _stay = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        let _stays = std::env::set_current_dir("/");
        // The program may have changed its user.
        let _kept = isolation::drop_capabilities(&[isolation::CAP_KILL]);
        let _kept = prctl::set_no_new_privs();
    }

    fn attend(mut self) -> ! {
        // Both fail only for lack of memory or descriptors; without them nothing can be handled.
        let Ok(ends) = SignalFd::with_flags(
            &SigSet::from(Signal::SIGCHLD),
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        ) else {
            process::exit(FAILED)
        };
        let mut launcher_lives = true;
        loop {
            self.reap();
            let timeout = match self.deadline {
                None => PollTimeout::NONE,
                Some(at) if at <= Instant::now() => {
                    self.send_all(Signal::SIGKILL);
                    PollTimeout::try_from(AGAIN).unwrap_or(PollTimeout::ZERO)
                }
                Some(at) => PollTimeout::try_from(at - Instant::now()).unwrap_or(PollTimeout::ZERO),
            };
            let mut watched = vec![PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
            if launcher_lives {
                watched.push(PollFd::new(self.channel.as_fd(), PollFlags::POLLIN));
            }
            // After an interrupted call, too, everything is checked.
            let _looked = poll(&mut watched, timeout);
            while ends.read_signal().is_ok_and(|signal| signal.is_some()) {}
            while launcher_lives {
                match self.channel.try_receive::<Order>() {
                    Ok(Some(order)) => self.obey(order),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(None) | Err(_) => {
                        launcher_lives = false;
                        self.deadline = Some(Instant::now());
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        // Each fails only if the processes have ended.
        match order {
            Order::Signal(number) if !self.reaped => {
                let _ended = Signal::try_from(number).map(|signal| kill(self.program, signal));
            }
            Order::Continue if !self.reaped => {
                let own_group = getpgid(Some(self.program)).ok().filter(|group| group.as_raw() > 0);
                let _ended = own_group.map_or(Err(Errno::ESRCH), |group| killpg(group, Signal::SIGCONT));
                let _ended = kill(self.program, Signal::SIGCONT);
            }
            Order::Signal(_) | Order::Continue => {}
            Order::End => self.end_all(),
        }
    }

    /// Sends SIGTERM to all processes, and SIGKILL after the deadline.
    fn end_all(&mut self) {
        if self.deadline.is_none() {
            self.send_all(Signal::SIGTERM);
            self.send_all(Signal::SIGCONT);
            self.deadline = Some(Instant::now() + GRACE);
        }
    }

    fn send_all(&self, signal: Signal) {
        if self.own {
            // All processes of the namespace except this one.
            let _none = kill(Pid::from_raw(-1), signal);
            return;
        }
        for process in processes::descendants(Pid::this()) {
            let _ended = kill(process.id, signal);
        }
    }

    /// Reaps ended processes; exits after the last.
    fn reap(&mut self) {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(WaitStatus::Exited(process, status)) => self.ended(process, status << 8),
                Ok(WaitStatus::Signaled(process, signal, core)) => {
                    self.ended(process, signal as i32 | if core { 0x80 } else { 0 });
                }
                Ok(WaitStatus::Stopped(process, _)) => self.tell(process, &Report::Stopped),
                Ok(WaitStatus::Continued(process)) => self.tell(process, &Report::Continued),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => process::exit(0),
            }
        }
    }

    fn ended(&mut self, process: Pid, status: i32) {
        self.tell(process, &Report::Ended(status));
        if process == self.program {
            self.reaped = true;
            if self.kill_rest {
                self.end_all();
            }
        }
    }

    fn tell(&self, process: Pid, report: &Report) {
        if process == self.program && !self.reaped {
            // If the launcher is gone, the channel reports it.
            let _gone = self.channel.send(report, &[]);
        }
    }
}

/// Executes the program; returns the reason of a failure.
fn execute(mask: &SigSet, command: &[std::ffi::OsString]) -> Failure {
    // In case the supervisor is killed when it is not the first process of a namespace.
    let _unbound = prctl::set_pdeathsig(Signal::SIGKILL);
    let _never = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
    let program = &command[0];
    let mut error = Command::new(program).args(&command[1..]).exec();
    if error.kind() == io::ErrorKind::PermissionDenied && !exists(program) {
        // A directory of PATH that may not be entered is reported as "not found", as in shells.
        error = Errno::ENOENT.into();
    }
    Failure::new(Step::Exec, format!("run {}", program.display()), &error)
}

fn read_failure(text: &[u8]) -> Failure {
    serde_json::from_slice(text).unwrap_or_else(|error| {
        Failure::new(Step::Exec, "read why the program could not be started", &error.into())
    })
}
