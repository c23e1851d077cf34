//! Job control: a shell that waits for lastack must see it stop and continue together with the program.

use std::{fs::File, io, os::fd::AsFd, thread, time::Duration};

use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask},
    unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp},
};

use super::processes::Process;

/// The min time that a program has to be stopped: the terminal stops both at once, and a shell continues both at once.
const SETTLED: Duration = Duration::from_millis(20);

/// This process and the program as one job of a shell.
#[derive(Debug)]
pub(super) struct Job {
    /// The terminal of the shell that could continue this process; without one it does not stop.
    terminal: Option<File>,
    stopped: bool,
}

impl Job {
    pub(super) fn new() -> Self {
        Self { terminal: File::options().read(true).write(true).open("/dev/tty").ok(), stopped: false }
    }

    /// Whether the last [`stop_with`](Self::stop_with) has stopped this process.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops this process, if the program is stopped and there is a shell; returns when it is continued.
    pub(super) fn stop_with(&mut self, program: Option<u32>) -> io::Result<()> {
        self.stopped = false;
        let (Some(terminal), Some(program)) = (&self.terminal, program) else { return Ok(()) };
        let program = Pid::from_raw(program.cast_signed());
        thread::sleep(SETTLED);
        if !Process::of(program).is_some_and(|process| process.is_stopped()) {
            return Ok(());
        }
        let (ours, its) = (getpgrp(), getpgid(Some(program))?);
        // A shell inside has its own process group in the foreground; the shell outside expects ours.
        let lent = ours != its && tcgetpgrp(terminal).is_ok_and(|group| group == its || group.as_raw() == 0);
        if lent {
            give(terminal, ours)?;
        }
        self.stopped = true;
        raise(Signal::SIGSTOP)?;
        if lent && tcgetpgrp(terminal).is_ok_and(|group| group == ours) {
            give(terminal, its)?;
        }
        Ok(())
    }
}

/// Makes a process group the foreground one. A background process may do so only while it ignores or blocks SIGTTOU.
fn give(terminal: &File, group: Pid) -> io::Result<()> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGTTOU)), Some(&mut before))?;
    let given = tcsetpgrp(terminal.as_fd(), group);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    // The group may have ended.
    let _gone = given;
    Ok(())
}
