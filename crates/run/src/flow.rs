//! The record of a flow of datagrams.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lastack::{IcmpError, Rule};

use super::account::LOOPBACK_HINT;
use super::plan::Place;
use crate::host::{Failure, Said};
use crate::report::{Began, By, IcmpSaid, Octets, Outcome, Proto, Record};

/// What is known of a flow while it lives.
#[derive(Debug)]
pub struct FlowAccount {
    local: SocketAddr,
    remote: SocketAddr,
    opened: Began,
    /// How long after that something was sent or said last.
    last: Cell<Duration>,
    sent: Cell<u64>,
    received: Cell<u64>,
    verdict: RefCell<Option<Verdict>>,
}

/// What was said against a flow.
#[derive(Clone, Debug)]
enum Verdict {
    /// By the network, or by this host.
    Failed(Failure),
    /// By us.
    Ours(IcmpError, Option<IpAddr>, Place),
}

impl FlowAccount {
    /// Of a flow that begins now.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local,
            remote,
            opened: Began::now(),
            last: Cell::default(),
            sent: Cell::new(0),
            received: Cell::new(0),
            verdict: RefCell::default(),
        }
    }

    /// So many octets went to the remote.
    pub fn sent(&self, octets: usize) {
        self.sent.set(self.sent.get() + octets as u64);
        self.last.set(self.opened.clock.elapsed());
    }

    /// So many octets came from the remote.
    pub fn received(&self, octets: usize) {
        self.received.set(self.received.get() + octets as u64);
        self.last.set(self.opened.clock.elapsed());
    }

    /// It was said that the remote cannot be reached.
    pub fn failed(&self, failure: &Failure) {
        self.last.set(self.opened.clock.elapsed());
        *self.verdict.borrow_mut() = Some(Verdict::Failed(failure.clone()));
    }

    /// lastack answers by itself.
    pub fn refused_here(&self, place: Place, gateway: Option<IpAddr>) {
        let v6 = self.remote.is_ipv6();
        let verdict = match place {
            Place::NobodyThere => Verdict::Ours(IcmpError::host_unreachable(v6), gateway, place),
            _ => Verdict::Ours(IcmpError::port_unreachable(v6), None, place),
        };
        *self.verdict.borrow_mut() = Some(verdict);
    }

    /// The ICMP error that says what was said against it, and its sender.
    pub fn verdict(&self, v6: bool) -> Option<(IcmpError, Option<IpAddr>)> {
        match self.verdict.borrow().as_ref()? {
            Verdict::Ours(error, from, _) => Some((*error, *from)),
            Verdict::Failed(failure) => match failure.said {
                Said::Icmp(error, from) if error.v6 == v6 => {
                    Some((error, from.filter(|from| from.is_ipv6() == v6)))
                }
                // A resolver may be asked over the other family than the program asked over.
                _ => Some((failure.as_icmp(v6), None)),
            },
        }
    }

    /// Its record.
    pub fn record(&self) -> Record {
        let mut record = Record::new(Proto::Udp, self.local, self.remote, self.opened, Outcome::Idle);
        record.octets = Octets { sent: self.sent.get(), received: self.received.get() };
        record.ended = self.opened.after(self.last.get());
        match self.verdict.borrow().as_ref() {
            None => {}
            Some(Verdict::Failed(failure)) => tell_failure(&mut record, failure),
            Some(Verdict::Ours(_, _, place)) => tell_place(&mut record, *place),
        }
        record
    }
}

fn tell_failure(record: &mut Record, failure: &Failure) {
    record.host_errno = Some(failure.errno_name());
    let refused = failure.errno == libc::ECONNREFUSED;
    record.outcome = if refused { Outcome::Refused } else { Outcome::Unreachable };
    (record.by, record.rule) = match failure.said {
        Said::Icmp(error, from) => {
            record.icmp = Some(IcmpSaid { error, from });
            // The rule of a router that finds no way is not one of ours.
            if refused { (By::Remote, Some(Rule::IcmpPortUnreachable)) } else { (By::Network, None) }
        }
        _ => (By::Host, Some(Rule::IcmpIntercepted)),
    };
}

fn tell_place(record: &mut Record, place: Place) {
    (record.by, record.rule) = (By::Lastack, Some(Rule::IcmpIntercepted));
    record.outcome = if place == Place::NobodyThere { Outcome::Unreachable } else { Outcome::Refused };
    if matches!(place, Place::ForbiddenLoopback | Place::HiddenLoopback) {
        record.hint = Some(LOOPBACK_HINT.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> FlowAccount {
        FlowAccount::new("10.0.2.100:5000".parse().unwrap(), "192.0.2.7:9".parse().unwrap())
    }

    #[test]
    fn a_flow_without_trouble_is_quiet() {
        let account = account();
        account.sent(5);
        account.received(7);
        let record = account.record();
        assert_eq!(
            (record.outcome, record.rule, record.octets),
            (Outcome::Idle, None, Octets { sent: 5, received: 7 })
        );
        assert_eq!(account.verdict(false), None);
    }

    #[test]
    fn a_closed_port_is_refused_by_the_remote() {
        let (account, error) = (account(), IcmpError::port_unreachable(false));
        let from = Some("192.0.2.7".parse().unwrap());
        account.failed(&Failure { errno: libc::ECONNREFUSED, said: Said::Icmp(error, from) });
        let record = account.record();
        assert_eq!(
            (record.outcome, record.by, record.rule),
            (Outcome::Refused, By::Remote, Some(Rule::IcmpPortUnreachable))
        );
        assert_eq!(account.verdict(false), Some((error, from)));
    }

    #[test]
    fn the_forbidden_loopback_names_the_option() {
        let account = account();
        account.refused_here(Place::ForbiddenLoopback, None);
        assert!(account.record().hint.unwrap().contains("--host-loopback"));
        assert_eq!(account.verdict(false), Some((IcmpError::port_unreachable(false), None)));
    }
}
