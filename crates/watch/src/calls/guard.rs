//! A process that lets calls continue once they are no longer observed.
//!
//! While a filter is in force the kernel holds each call until an answer comes. If the thread that answers is gone, because
//! the watch has ended before the program's last child or was killed, this process answers in its place: it lets every
//! call continue, and ends with the last process under the filter.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::sys;

/// Starts it, before the program, which sends it the listener. It takes over when the returned descriptor is closed.
pub(super) fn start(channel: &OwnedFd, current: &Arc<sys::SharedWord>) -> io::Result<OwnedFd> {
    let (observed, alive) = sys::pipe()?;
    sys::fork(|| {
        // The output of the watch is not held open, and the signals of the terminal are not for this process.
        sys::detach(&[channel, &observed]);
        // Without a program, or if it has no filter, there is nothing to guard.
        if let Ok(listener) = sys::receive_listener(channel, true) {
            guard(&listener, &observed, current);
        }
    })?;
    Ok(alive)
}

fn guard(listener: &OwnedFd, observed: &OwnedFd, current: &sys::SharedWord) {
    while wait(listener, Some(observed)) == Some(Ready::TakeOver) {
        // The call that was being looked at when the observer ended.
        let _answered = sys::resume(listener, current.load());
        while wait(listener, None) == Some(Ready::Call) {
            if let Ok(call) = sys::receive(listener) {
                let _gone = sys::resume(listener, call.id);
            }
        }
    }
}

#[derive(PartialEq)]
enum Ready {
    /// A call waits.
    Call,
    /// The observer has ended.
    TakeOver,
}

/// Waits for a call, or if there is an observer for its end. `None` if no process is under the filter any more.
fn wait(listener: &OwnedFd, observed: Option<&OwnedFd>) -> Option<Ready> {
    loop {
        // The calls are the observer's as long as there is one.
        let events = if observed.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds = vec![PollFd::new(listener.as_fd(), events)];
        fds.extend(observed.map(|observed| PollFd::new(observed.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let found = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if found(0).contains(PollFlags::POLLIN) {
            return Some(Ready::Call);
        }
        if found(0).intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return None;
        }
        if !found(1).is_empty() {
            return Some(Ready::TakeOver);
        }
    }
}
