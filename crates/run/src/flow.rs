//! The record of a flow of datagrams.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lastack::{IcmpError, IpFields, Rule};
use lastack_causes::Cause;

use super::account::{LOOPBACK_HINT, UNBOUND_HINT, UNBOUND_NOTE};
use super::budget::DESCRIPTORS_HINT;
use super::plan::Route;
use crate::host::{Failure, Said};
use crate::live::{Shot, Shown};
use crate::rate::Meter;
use crate::report::{Began, By, Bytes, Context, Datagrams, IcmpSaid, Outcome, Proto, Rates, Record};

/// The state of a flow while it lives.
#[derive(Debug)]
pub struct FlowAccount {
    local: SocketAddr,
    remote: SocketAddr,
    opened: Began,
    /// The time from its beginning to the last datagram or error.
    last: Cell<Duration>,
    sent: Cell<Traffic>,
    received: Cell<Traffic>,
    sending_rate: Meter,
    receiving_rate: Meter,
    /// The header fields of the program's last datagram.
    ip: Cell<IpFields>,
    verdict: RefCell<Option<Verdict>>,
    /// The last report that a datagram was too large for the path, and its sender.
    too_big: Cell<Option<(IcmpError, Option<IpAddr>)>>,
    /// Another port of the remote has answered.
    answered_elsewhere: Cell<bool>,
    note: RefCell<Option<String>>,
    /// Its process, and the options of the run that apply to it.
    pub context: RefCell<Context>,
}

/// The traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    bytes: u64,
    datagrams: u64,
}

impl Traffic {
    fn add(self, bytes: usize, datagrams: usize) -> Self {
        Self { bytes: self.bytes + bytes as u64, datagrams: self.datagrams + datagrams as u64 }
    }
}

/// An error reported about a flow.
#[derive(Clone, Debug)]
enum Verdict {
    /// By the network, or by this host.
    Failed(Failure),
    /// By lastack itself.
    Ours(IcmpError, Option<IpAddr>, Route),
    /// By an option of the run.
    Ruled(IcmpError),
}

impl FlowAccount {
    /// Of a flow that begins now.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local,
            remote,
            opened: Began::now(),
            last: Cell::default(),
            sent: Cell::default(),
            received: Cell::default(),
            sending_rate: Meter::default(),
            receiving_rate: Meter::default(),
            ip: Cell::new(IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false }),
            verdict: RefCell::default(),
            too_big: Cell::default(),
            answered_elsewhere: Cell::new(false),
            note: RefCell::default(),
            context: RefCell::default(),
        }
    }

    /// The program sends with these header fields.
    pub fn sending(&self, ip: IpFields) {
        self.ip.set(ip);
    }

    /// The header fields of the program's last datagram.
    pub fn last_sent(&self) -> IpFields {
        self.ip.get()
    }

    /// The time of the last datagram.
    pub fn last(&self) -> Instant {
        self.opened.clock() + self.last.get()
    }

    /// Whether anything came from the remote.
    pub fn has_answered(&self) -> bool {
        self.received.get().datagrams > 0
    }

    /// Whether it is one DNS query and its answer.
    pub fn is_answered_question(&self) -> bool {
        self.remote.port() == 53 && self.sent.get().datagrams == 1 && self.received.get().datagrams == 1
    }

    /// Another port of the remote has answered, as with TFTP.
    pub fn answered_elsewhere(&self) {
        self.answered_elsewhere.set(true);
    }

    /// Sets the note of the record.
    pub fn note(&self, note: Option<String>) {
        *self.note.borrow_mut() = note;
    }

    /// Counts what was sent to the remote.
    pub fn sent(&self, bytes: usize, datagrams: usize) {
        self.sent.set(self.sent.get().add(bytes, datagrams));
        self.measure(&self.sending_rate, bytes);
    }

    /// Counts datagrams of the program that an injected fault has swallowed.
    pub fn swallowed(&self, datagrams: usize) {
        self.sent.set(self.sent.get().add(0, datagrams));
        self.last.set(self.opened.clock().elapsed());
    }

    /// Counts what was received from the remote; clears an earlier error, as the remote is reachable.
    pub fn received(&self, bytes: usize, datagrams: usize) {
        self.received.set(self.received.get().add(bytes, datagrams));
        self.measure(&self.receiving_rate, bytes);
        let mut verdict = self.verdict.borrow_mut();
        if matches!(*verdict, Some(Verdict::Failed(_))) {
            *verdict = None;
        }
    }

    fn measure(&self, meter: &Meter, bytes: usize) {
        let now = Instant::now();
        self.last.set(now - self.opened.clock());
        meter.add(bytes, now.into());
    }

    /// An error was reported: the remote cannot be reached.
    pub fn failed(&self, failure: &Failure) {
        self.last.set(self.opened.clock().elapsed());
        *self.verdict.borrow_mut() = Some(Verdict::Failed(failure.clone()));
    }

    /// A datagram was too large for the path; a smaller one gets through.
    pub fn too_big(&self, error: IcmpError, from: Option<IpAddr>) {
        self.last.set(self.opened.clock().elapsed());
        self.too_big.set(Some((error, from)));
    }

    /// lastack itself answers.
    pub fn refused_here(&self, place: Route, gateway: Option<IpAddr>) {
        let v6 = self.remote.is_ipv6();
        let verdict = match place {
            Route::NobodyThere => Verdict::Ours(IcmpError::host_unreachable(v6), gateway, place),
            Route::LinkLocal => Verdict::Ours(IcmpError::admin_prohibited(v6), gateway, place),
            _ => Verdict::Ours(IcmpError::port_unreachable(v6), None, place),
        };
        self.last.set(self.opened.clock().elapsed());
        *self.verdict.borrow_mut() = Some(verdict);
    }

    /// An option of the run answers with this error.
    pub fn ruled(&self, error: IcmpError) {
        self.last.set(self.opened.clock().elapsed());
        *self.verdict.borrow_mut() = Some(Verdict::Ruled(error));
    }

    /// The ICMP error that reports the failure, and its sender.
    pub fn verdict(&self, v6: bool) -> Option<(IcmpError, Option<IpAddr>)> {
        match self.verdict.borrow().as_ref()? {
            Verdict::Ours(error, from, _) => Some((*error, *from)),
            Verdict::Ruled(error) => Some((*error, None)),
            Verdict::Failed(failure) => match failure.said {
                Said::Icmp(error, from) if error.v6 == v6 => {
                    Some((error, from.filter(|from| from.is_ipv6() == v6)))
                }
                // A resolver may be queried over the other address family than the program used.
                _ => Some((failure.as_icmp(v6), None)),
            },
        }
    }

    /// Its record.
    pub fn record(&self) -> Record {
        let mut record = Record::new(Proto::Udp, self.local, self.remote, self.opened, Outcome::Idle);
        let (sent, received) = (self.sent.get(), self.received.get());
        record.bytes = Bytes { sent: sent.bytes, received: received.bytes };
        record.note = self.note.borrow().clone();
        record.context = self.context.borrow().clone();
        record.context.datagrams = Some(Datagrams { sent: sent.datagrams, received: received.datagrams });
        let first = self.receiving_rate.first();
        record.context.first_received = first.map(|first| first.since(self.opened.clock().into()));
        record.context.rates = Rates { sent: self.sending_rate.rate(), received: self.receiving_rate.rate() };
        record.facts.sibling = self.answered_elsewhere.get();
        record.ended = self.opened.after(self.last.get());
        match self.verdict.borrow().as_ref() {
            None => match self.too_big.get().filter(|_| !self.has_answered()) {
                Some((error, from)) => tell_too_big(&mut record, error, from),
                None => self.report_no_answer(&mut record),
            },
            Some(Verdict::Failed(failure)) => tell_failure(&mut record, failure),
            Some(Verdict::Ours(_, _, place)) => tell_place(&mut record, *place),
            Some(Verdict::Ruled(error)) => {
                (record.by, record.rule) = (By::Lastack, Some(Rule::IcmpIntercepted));
                let refused = *error == IcmpError::port_unreachable(error.v6);
                record.outcome = if refused { Outcome::Refused } else { Outcome::Unreachable };
                record.icmp = Some(IcmpSaid { error: *error, from: None });
            }
        }
        record
    }
}

impl FlowAccount {
    /// Notes that the remote never answered, and the number of attempts.
    fn report_no_answer(&self, record: &mut Record) {
        let sent = self.sent.get().datagrams;
        if sent == 0 || record.verdict().cause != Cause::NoAnswer {
            return;
        }
        let times = if sent == 1 { "1 datagram".to_owned() } else { format!("{sent} datagrams") };
        let silence = format!("no answer from {} ({times} sent)", self.remote);
        record.note = Some(record.note.take().map_or(silence.clone(), |note| format!("{silence}; {note}")));
    }
}

/// Nothing that was sent fitted the path, and nothing came back.
fn tell_too_big(record: &mut Record, error: IcmpError, from: Option<IpAddr>) {
    record.outcome = Outcome::Unreachable;
    record.by = if from.is_some() { By::Network } else { By::Host };
    record.icmp = Some(IcmpSaid { error, from });
    if let Some(mtu) = error.mtu() {
        record.note = Some(format!("a datagram was larger than the path carries ({mtu} bytes)"));
    }
}

fn tell_failure(record: &mut Record, failure: &Failure) {
    record.host_errno = Some(failure.errno_name());
    let refused = failure.errno == libc::ECONNREFUSED;
    record.outcome = if refused { Outcome::Refused } else { Outcome::Unreachable };
    (record.by, record.rule) = match failure.said {
        Said::Icmp(error, from) => {
            record.icmp = Some(IcmpSaid { error, from });
            // The rule of a router without a route is not one of ours.
            if refused { (By::Remote, Some(Rule::IcmpPortUnreachable)) } else { (By::Network, None) }
        }
        _ => (By::Host, Some(Rule::IcmpIntercepted)),
    };
    if matches!(failure.errno, libc::EMFILE | libc::ENFILE) {
        record.note = Some("every descriptor of lastack is in use".to_owned());
        record.hint = Some(DESCRIPTORS_HINT.to_owned());
    }
    if failure.said == Said::Unbound {
        record.note = Some(UNBOUND_NOTE.to_owned());
        record.hint = Some(UNBOUND_HINT.to_owned());
    }
}

fn tell_place(record: &mut Record, place: Route) {
    (record.by, record.rule) = (By::Lastack, Some(Rule::IcmpIntercepted));
    let unreachable = matches!(place, Route::NobodyThere | Route::LinkLocal);
    record.outcome = if unreachable { Outcome::Unreachable } else { Outcome::Refused };
    if matches!(place, Route::ForbiddenLoopback | Route::HiddenLoopback) {
        record.hint = Some(LOOPBACK_HINT.to_owned());
    }
}

impl Shown for FlowAccount {
    fn shot(&self) -> Shot {
        let (sent, received, context) = (self.sent.get(), self.received.get(), self.context.borrow());
        let state = match &*self.verdict.borrow() {
            Some(Verdict::Failed(_)) => "unreachable",
            Some(_) => "refused",
            None if received.datagrams > 0 => "answered",
            None => "sent",
        };
        Shot {
            proto: Proto::Udp,
            inward: context.inward,
            remote: self.remote,
            name: context.name.clone(),
            process: context.process.clone(),
            state: state.to_owned(),
            sent: sent.bytes,
            received: received.bytes,
            path: None,
            opened: self.opened.clock(),
        }
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
        account.sent(5, 1);
        account.received(7, 1);
        let record = account.record();
        assert_eq!(
            (record.outcome, record.rule, record.bytes),
            (Outcome::Idle, None, Bytes { sent: 5, received: 7 })
        );
        assert_eq!(account.verdict(false), None);
    }

    #[test]
    fn a_missing_answer_is_reported() {
        let account = |remote: &str| {
            let account = FlowAccount::new("10.0.2.100:5000".parse().unwrap(), remote.parse().unwrap());
            account.sent(48, 1);
            account.sent(48, 1);
            account
        };
        let cause = |remote| account(remote).record().verdict().cause;
        assert_eq!(cause("192.0.2.7:123"), Cause::NoAnswer);
        let note = account("192.0.2.7:123").record().note;
        assert_eq!(note.as_deref(), Some("no answer from 192.0.2.7:123 (2 datagrams sent)"));
        for one_way in ["192.0.2.7:514", "224.0.0.251:5353", "255.255.255.255:67", "[ff02::fb]:5353"] {
            assert_eq!(cause(one_way), Cause::OneWay, "{one_way}");
        }
        let elsewhere = account("192.0.2.7:69");
        elsewhere.answered_elsewhere();
        assert_eq!(elsewhere.record().verdict().cause, Cause::Answered);
    }

    #[test]
    fn a_datagram_too_large_for_the_path_is_why_nothing_came_back() {
        let account = account();
        account.too_big(IcmpError::packet_too_big(false, 1400), Some("192.0.2.1".parse().unwrap()));
        let record = account.record();
        assert_eq!((record.verdict().cause, record.by), (Cause::IcmpTooBig, By::Network));
        assert_eq!(record.verdict().severity, lastack_causes::Severity::Suspicious);
        assert!(record.note.unwrap().contains("1400"));
        account.sent(1300, 1);
        account.received(5, 1);
        assert_eq!(account.record().verdict().cause, Cause::Answered);
    }

    #[test]
    fn an_answer_after_an_error_clears_the_error() {
        let account = account();
        account.failed(&Failure { errno: libc::EHOSTUNREACH, said: Said::NoRoute });
        assert_eq!(account.record().outcome, Outcome::Unreachable);
        account.received(5, 1);
        assert_eq!(account.record().outcome, Outcome::Idle);
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
        account.refused_here(Route::ForbiddenLoopback, None);
        assert!(account.record().hint.unwrap().contains("--host-loopback"));
        assert_eq!(account.verdict(false), Some((IcmpError::port_unreachable(false), None)));
    }
}
