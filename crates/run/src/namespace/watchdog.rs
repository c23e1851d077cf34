//! The limit of this process' life after a termination signal: a timer of the kernel, which also expires while this
//! process is blocked in a system call.

use std::{
    io, ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, Ordering},
    time::Duration,
};

use libc::c_int;
use nix::{
    errno::Errno,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction},
};

/// The timer, and whether there is one: its number may be 0.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
static IS_THERE: AtomicBool = AtomicBool::new(false);
/// The time in nanoseconds from the signal to the end.
static LIMIT: AtomicI64 = AtomicI64::new(0);
/// The signal since which the timer runs; 0: it does not run.
static SINCE: AtomicI32 = AtomicI32::new(0);

/// Makes the timer.
pub(super) fn prepare(limit: Duration) -> io::Result<()> {
    // Of the signals that have no other meaning; the C library keeps the first ones for itself.
    let expires = libc::SIGRTMIN();
    // SAFETY: both structures are plain data, for which zeros are valid.
    let (mut action, mut event): (libc::sigaction, libc::sigevent) = unsafe { std::mem::zeroed() };
    action.sa_sigaction = expired as extern "C" fn(c_int) as usize;
    // SAFETY: the handler is async-signal-safe. nix has no real-time signals.
    Errno::result(unsafe { libc::sigaction(expires, &raw const action, ptr::null_mut()) })?;
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = expires;
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: the call reads the event and writes the timer, which live until it returns.
    Errno::result(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
    TIMER.store(timer, Ordering::Release);
    LIMIT.store(i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX), Ordering::Release);
    IS_THERE.store(true, Ordering::Release);
    Ok(())
}

/// Starts the timer, unless it runs. Async-signal-safe.
pub(super) fn arm(signal: c_int) {
    if SINCE.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        set(LIMIT.load(Ordering::Acquire));
    }
}

/// Stops the timer.
pub(super) fn disarm() {
    if SINCE.swap(0, Ordering::AcqRel) != 0 {
        set(0);
    }
}

/// 0: stops it.
fn set(nanoseconds: i64) {
    const SECOND: i64 = 1_000_000_000;
    if !IS_THERE.load(Ordering::Acquire) {
        return;
    }
    let time = libc::timespec { tv_sec: nanoseconds / SECOND, tv_nsec: nanoseconds % SECOND };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = libc::itimerspec { it_interval: never, it_value: time };
    // SAFETY: the call is async-signal-safe and reads the setting; the timer exists for the rest of the process' life.
    unsafe { libc::timer_settime(TIMER.load(Ordering::Acquire), 0, &raw const setting, ptr::null_mut()) };
}

/// The handler: ends this process by the signal since which the timer runs.
extern "C" fn expired(_: c_int) {
    let Ok(signal) = Signal::try_from(SINCE.load(Ordering::Acquire)) else { return };
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no handler; both calls are async-signal-safe.
    let _ends = unsafe { sigaction(signal, &action) }.and_then(|_| raise(signal));
}
