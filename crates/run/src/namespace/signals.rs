//! Signals to this process while a guest runs, and exiting with the guest's status or signal.

use std::{
    io::{self, Read},
    os::{
        fd::{AsRawFd, IntoRawFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{self, ExitStatus},
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use libc::{c_int, c_void, siginfo_t};
use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction},
    },
};
use tokio::io::Interest;

use super::watchdog;

/// The signals by which users and supervisors control a program.
const TALK: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// The socket to which the handler writes; -1 before there is one.
static NOTES: AtomicI32 = AtomicI32::new(-1);

/// A program that ends within this time after SIGHUP ends because of it.
const HANGS_UP: Duration = Duration::from_secs(10);

/// Whether a signal asks for an end.
fn is_termination(signal: Signal) -> bool {
    matches!(signal, Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM)
}

/// The signals to this process that are forwarded to the guest.
///
/// While it exists, none of them ends this process, which has a report to write (but see
/// [`limit`](Self::limit)). One from the terminal (Ctrl-C) has
/// reached the guest already, because both are in the terminal's foreground, and is not forwarded; one from another
/// process is. A signal that was ignored when this process started stays ignored, for the guest too (`nohup`).
#[derive(Debug)]
pub struct Signals {
    notes: UnixStream,
    watched: Option<tokio::net::UnixStream>,
    /// A termination signal that no program was left to get.
    pending: Option<Signal>,
    /// The last termination signal that was forwarded, and when.
    forwarded: Option<(Signal, Instant)>,
    asked_to_end: bool,
}

impl Signals {
    /// Catches the signals from now on, for the rest of this process' life. Only one instance is possible.
    pub fn catch() -> io::Result<Self> {
        let (notes, end) = UnixStream::pair()?;
        notes.set_nonblocking(true)?;
        end.set_nonblocking(true)?;
        let taken = NOTES.compare_exchange(-1, end.as_raw_fd(), Ordering::AcqRel, Ordering::Acquire);
        taken.map_err(|_| io::Error::new(io::ErrorKind::AlreadyExists, "the signals are caught already"))?;
        // Kept open for the handler.
        let _ = end.into_raw_fd();
        let action = SigAction::new(
            SigHandler::SigAction(note),
            SaFlags::SA_RESTART | SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        for signal in TALK {
            // SAFETY: the handler is async-signal-safe: it makes system calls, and keeps errno.
            let before = unsafe { sigaction(signal, &action) }?;
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: this restores the previous action.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        Ok(Self { notes, watched: None, pending: None, forwarded: None, asked_to_end: false })
    }

    /// From now on a termination signal kills this process after this time, unless it was forwarded before: this process
    /// may be blocked (a terminal, a pipe or a disk that takes nothing), or take too long to end.
    ///
    /// # Errors
    /// The system has no timer.
    pub fn limit(&self, limit: Duration) -> io::Result<()> {
        watchdog::prepare(limit)
    }

    /// The next signal to be forwarded.
    pub async fn next(&mut self) -> io::Result<Signal> {
        loop {
            let (signal, sender) = self.noted().await?;
            watchdog::disarm();
            if let Sender::Process = sender {
                if is_termination(signal) {
                    self.forwarded = Some((signal, Instant::now()));
                }
                return Ok(signal);
            }
        }
    }

    /// The program has ended. Signals of the terminal until now were for both, and the program has got them. A
    /// termination signal of another process that was not forwarded is for this process.
    pub(super) fn program_ended(&mut self) {
        let mut notes = [0; 64];
        while let Ok(bytes @ 1..) = (&self.notes).read(&mut notes) {
            for note in notes[..bytes].chunks_exact(2) {
                match read_note([note[0], note[1]]) {
                    Ok((signal, Sender::Process)) if is_termination(signal) => self.pending = Some(signal),
                    _ => {}
                }
            }
        }
        // Programs read their configuration again at SIGHUP, and go on.
        let ends = |(signal, at): &(Signal, Instant)| *signal != Signal::SIGHUP || at.elapsed() < HANGS_UP;
        let asked = self.forwarded.take().filter(ends).map(|(signal, _)| signal);
        self.asked_to_end = asked.is_some();
        match asked {
            Some(signal) => watchdog::arm(signal as i32),
            None if self.pending.is_none() => watchdog::disarm(),
            None => {}
        }
    }

    /// Whether another process has asked for the end: with a signal that was forwarded to the program, before its end,
    /// or with one that [`another`](Self::another) has returned.
    pub fn is_asked_to_end(&self) -> bool {
        self.asked_to_end
    }

    /// The next termination signal that is not the program's, from any sender. For use after the program has ended.
    pub async fn another(&mut self) -> io::Result<Signal> {
        let signal = loop {
            if let Some(pending) = self.pending.take() {
                break pending;
            }
            let (signal, _) = self.noted().await?;
            if is_termination(signal) {
                break signal;
            }
        };
        self.asked_to_end = true;
        Ok(signal)
    }

    async fn noted(&mut self) -> io::Result<(Signal, Sender)> {
        let watched = match &mut self.watched {
            Some(watched) => watched,
            empty => empty.insert(tokio::net::UnixStream::from_std(self.notes.try_clone()?)?),
        };
        loop {
            watched.ready(Interest::READABLE).await?;
            let mut note = [0; 2];
            match watched.try_read(&mut note) {
                Ok(2) => return read_note(note),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn read_note([signal, sender]: [u8; 2]) -> io::Result<(Signal, Sender)> {
    let sender = if sender == 0 { Sender::Process } else { Sender::Terminal };
    Ok((Signal::try_from(c_int::from(signal))?, sender))
}

/// The sender of a signal.
enum Sender {
    /// The terminal, through the kernel, to all programs in its foreground.
    Terminal,
    Process,
}

/// The handler: notes the signal, and whether it came from the kernel on behalf of the terminal.
extern "C" fn note(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let from_kernel = unsafe { (*info).si_code } == libc::SI_KERNEL;
    let note = [signal as u8, u8::from(from_kernel)];
    // SAFETY: write is async-signal-safe and reads two bytes of the array. If the socket is full, enough signals are
    // pending.
    unsafe { libc::write(NOTES.load(Ordering::Acquire), note.as_ptr().cast(), note.len()) };
    if Signal::try_from(signal).is_ok_and(is_termination) {
        watchdog::arm(signal);
    }
    Errno::set_raw(errno);
}

/// Ends this process as the guest ended: with its exit status, or by its signal, without dumping core.
pub fn exit_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal().and_then(|number| Signal::try_from(number).ok()) {
        // If any call here fails, the exit below reports the status as a shell would.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action is no handler.
        let _ = unsafe { sigaction(signal, &action) };
        let _ = SigSet::from(signal).thread_unblock();
        let _ = raise(signal);
    }
    process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
