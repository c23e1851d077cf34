//! Source G: the calls of connect() of one program and its children.
//!
//! A seccomp filter of the program stops each connect() until a thread of this process has looked at its socket; then the
//! call continues in the kernel as if nothing had happened (SECCOMP_USER_NOTIF_FLAG_CONTINUE). Nothing is decided from
//! what is read, so it does not matter that the program could change it meanwhile. This needs no privilege, and reports
//! which process connects which socket to which address: without tracepoints nothing else does if the connection is
//! refused at once.
//!
//! The program must never wait for an answer that does not come. [`guard`] describes what happens if this process ends
//! before the program.

mod filter;
mod guard;
mod supervisor;
mod sys;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::event::{Event, Time};
use supervisor::Supervisor;

/// How long the end of the thread is waited for. It may wait in the kernel for a call that was cancelled; then it has
/// none to answer.
const STOP: Duration = Duration::from_millis(100);

/// Calls of a program and its children by which connections begin.
#[derive(Debug)]
pub struct Calls {
    events: Receiver<(Time, Event)>,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    /// The thread ends when this is closed.
    stop: Option<OwnedFd>,
}

impl Calls {
    /// Starts a program and observes its calls. If they cannot be observed the program runs all the same, and the
    /// second value gives the reason.
    ///
    /// Without CAP_SYS_ADMIN the program and its children cannot gain privileges (`no_new_privs`): set-user-ID programs
    /// run with the rights of this user.
    ///
    /// Call this before other threads are started: it forks.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<(Child, io::Result<Self>)> {
        match Self::prepare(command) {
            Ok(prepared) => {
                let child = command.spawn()?;
                Ok((child, prepared.observe()))
            }
            Err(error) => Ok((command.spawn()?, Err(error))),
        }
    }

    /// Everything that can fail comes before the program is started, and so does the guard.
    fn prepare(command: &mut Command) -> io::Result<Prepared> {
        let filter = filter::program()?;
        sys::check_sizes()?;
        let current = Arc::new(sys::SharedWord::new()?);
        let (stopped, stop) = sys::pipe()?;
        let (ours, theirs) = sys::channel()?;
        let (guards, guards_theirs) = sys::channel()?;
        let alive = guard::start(&guards, &current)?;
        sys::before_exec(command, [theirs, guards_theirs], filter);
        Ok(Prepared { current, stopped, stop, channel: ours, alive })
    }

    /// Returns what was observed since the last call, with its times, and how many calls could not be looked at.
    pub(crate) fn read(&self, events: &mut Vec<(Time, Event)>) -> u64 {
        events.extend(self.events.try_iter());
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// What is ready before the program is started.
struct Prepared {
    current: Arc<sys::SharedWord>,
    stopped: OwnedFd,
    stop: OwnedFd,
    channel: OwnedFd,
    /// Closed when calls are no longer observed: the guard takes over then.
    alive: OwnedFd,
}

impl Prepared {
    fn observe(self) -> io::Result<Calls> {
        let Self { current, stopped, stop, channel, alive } = self;
        let listener = sys::receive_listener(&channel, false)?;
        let (sender, events) = mpsc::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let supervisor = Supervisor {
            listener,
            current,
            _alive: alive,
            stopped,
            events: sender,
            lost: Arc::clone(&lost),
            namespace: supervisor::namespace(),
            known: HashMap::new(),
        };
        let thread = thread::Builder::new().name("calls".into()).spawn(move || supervisor.run())?;
        Ok(Calls { events, lost, thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Calls {
    /// Waits until no call is being looked at.
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        let mut left = STOP;
        while !thread.is_finished() && !left.is_zero() {
            let step = Duration::from_millis(1);
            thread::sleep(step);
            left = left.saturating_sub(step);
        }
        if thread.is_finished() {
            // A panic was reported by its hook, and the guard has taken over.
            let _ended = thread.join();
        }
    }
}
