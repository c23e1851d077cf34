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

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::event::{Event, Time};

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
        let (ours, theirs) = sys::channel()?;
        let filter = match filter::program().and_then(|filter| sys::check_sizes().map(|()| filter)) {
            Ok(filter) => filter,
            Err(error) => return Ok((command.spawn()?, Err(error))),
        };
        sys::before_exec(command, theirs, filter);
        let mut child = command.spawn()?;
        match sys::receive_listener(&ours) {
            Ok(listener) => match Self::observe(listener) {
                Ok(calls) => Ok((child, Ok(calls))),
                Err(error) => {
                    // Nobody answers its calls.
                    child.kill()?;
                    child.wait()?;
                    Err(error)
                }
            },
            Err(error) => Ok((child, Err(error))),
        }
    }

    fn observe(listener: OwnedFd) -> io::Result<Self> {
        let current = Arc::new(sys::SharedWord::new()?);
        // Held by the thread alone: when it ends, for whatever reason, the guard takes over.
        let alive = guard::start(&listener, &current)?;
        let (stopped, stop) = sys::pipe()?;
        let (sender, events) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let supervisor =
            supervisor::Supervisor::new(listener, current, alive, stopped, sender, Arc::clone(&lost));
        let thread = thread::Builder::new().name("calls".into()).spawn(move || supervisor.run())?;
        Ok(Self { events, lost, thread: Some(thread), stop: Some(stop) })
    }

    /// Gives what was observed since the last call, with its times, and how many calls could not be looked at.
    pub(crate) fn read(&self, events: &mut Vec<(Time, Event)>) -> u64 {
        events.extend(self.events.try_iter());
        self.lost.swap(0, Ordering::Relaxed)
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
