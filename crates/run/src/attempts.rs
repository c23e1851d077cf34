//! Connection attempts that were answered, and may go on: the program's kernel ignores some answers, and others are lost. The
//! SYN that it then retransmits belongs to the same attempt, which is reported once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use lastack::InterceptedTcp;
use lastack_wire::icmp::IcmpError;
use tokio::sync::Notify;

use super::Run;
use super::account::ConnectionReport;
use super::closing::Live;
use super::tcp::abandoned;
use crate::ends::Ends;
use crate::host::inner::Flow;
use crate::inject::Plan as Faults;
use crate::report::Record;

/// Max attempts that are kept.
const MAX: usize = 64;

/// Attempts that were answered lately, other than by accepting them.
#[derive(Debug, Default)]
pub struct Attempts(RefCell<VecDeque<Rc<Attempt>>>);

/// A connection attempt: what is known of it, and the faults for it.
#[derive(Debug)]
pub struct Attempt {
    syn: Syn,
    pub account: Rc<ConnectionReport>,
    pub faults: Faults,
    recorded: Cell<bool>,
    /// The SYN was retransmitted.
    again: Notify,
}

/// What a retransmitted SYN has in common with the first: the addresses and the initial sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syn {
    ends: Ends,
    number: Option<u32>,
}

impl Syn {
    /// Of this one.
    pub fn of(syn: &InterceptedTcp) -> Self {
        Self { ends: Ends::new(syn.peer_addr(), syn.local_addr()), number: syn.initial_number() }
    }
}

impl Attempts {
    /// The attempt to which a retransmitted SYN belongs.
    pub fn earlier(&self, syn: &Syn) -> Option<Rc<Attempt>> {
        let mut kept = self.0.borrow_mut();
        let at = kept.iter().position(|attempt| attempt.syn == *syn && syn.number.is_some())?;
        let attempt = kept.remove(at)?;
        attempt.again.notify_waiters();
        Some(attempt)
    }

    /// It was answered.
    pub fn keep(&self, attempt: Rc<Attempt>) {
        let mut kept = self.0.borrow_mut();
        if kept.iter().any(|other| Rc::ptr_eq(other, &attempt)) {
            return;
        }
        if kept.len() >= MAX {
            kept.pop_front();
        }
        kept.push_back(attempt);
    }
}

impl Attempt {
    /// One that begins.
    pub fn new(syn: Syn, account: Rc<ConnectionReport>, faults: Faults) -> Self {
        Self { syn, account, faults, recorded: Cell::new(false), again: Notify::new() }
    }

    /// Records that it has failed, unless it was recorded already.
    pub fn failed(&self, run: &Run, record: Record) {
        if !self.recorded.replace(true) {
            run.record(record);
        }
    }

    /// It was answered, and its program's kernel still waits: it is recorded when that no longer does. If the SYN is
    /// retransmitted, that decides.
    pub async fn goes_on(self: &Rc<Self>, run: &Run, live: &Live, record: impl FnOnce() -> Record) {
        let (program, remote) = self.syn.ends.both();
        run.attempts.keep(self.clone());
        tokio::select! {
            () = self.again.notified() => return,
            () = abandoned(run, Flow { program, remote }) => {}
            () = live.closing() => {}
        }
        self.failed(run, record());
    }
}

/// Whether the program's kernel ignores an ICMP error about its SYN (Linux, `tcp_v4_err` and `tcp_v6_err`): it takes that for
/// "packet too big", whatever the MTU. All others of "destination unreachable" end the attempt.
pub fn is_ignored(error: IcmpError) -> bool {
    error.mtu().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(port: u16, number: Option<u32>) -> Syn {
        Syn { ends: Ends::new(([10, 0, 2, 100], port).into(), ([192, 0, 2, 7], 80).into()), number }
    }

    fn attempt(syn: Syn) -> Rc<Attempt> {
        let (local, remote) = syn.ends.both();
        let account = Rc::new(ConnectionReport::new(local, remote));
        Rc::new(Attempt::new(syn, account, Faults::default()))
    }

    #[test]
    fn a_retransmitted_syn_belongs_to_its_attempt() {
        let attempts = Attempts::default();
        let first = attempt(syn(40_000, Some(7)));
        attempts.keep(first.clone());
        attempts.keep(first.clone());
        for other in [syn(40_000, Some(8)), syn(40_001, Some(7)), syn(40_000, None)] {
            assert!(attempts.earlier(&other).is_none(), "{other:?}");
        }
        assert!(attempts.earlier(&syn(40_000, Some(7))).is_some_and(|found| Rc::ptr_eq(&found, &first)));
        assert!(attempts.earlier(&syn(40_000, Some(7))).is_none(), "it was kept twice");
        attempts.keep(attempt(syn(40_000, None)));
        assert!(attempts.earlier(&syn(40_000, None)).is_none(), "its number is not known");
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for port in 0..1000 {
            attempts.keep(attempt(syn(port, Some(1))));
        }
        assert_eq!(attempts.0.borrow().len(), MAX);
        assert!(
            attempts.earlier(&syn(999, Some(1))).is_some() && attempts.earlier(&syn(0, Some(1))).is_none()
        );
    }

    #[test]
    fn the_kernel_takes_some_errors_for_packet_too_big() {
        let unreachable = |v6, code| IcmpError { code, ..IcmpError::net_unreachable(v6) };
        let ignored = |v6| (0..16).filter(move |code| is_ignored(unreachable(v6, *code))).collect::<Vec<_>>();
        assert_eq!((ignored(false), ignored(true)), (vec![4], vec![]));
    }
}
