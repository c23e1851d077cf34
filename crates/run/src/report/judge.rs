//! Why a connection ended: the cause and its severity, derived from its course by a pure function.
//!
//! The terms are those of [`lastack_causes`], shared with `explain` and `watch`. A relay has recorded what those infer from
//! packets: which side closed first, what arrived, and what came after a close.

use std::time::Duration;

use lastack_causes::{Cause, Severity};

use super::pause::{Missing, missing};
use super::record::{By, Facts, Lost, Message, Outcome, Proto, Reached, Record};

/// Bytes after a close that do not count as a loss: a TLS closing alert, a `QUIT`, an HTTP/2 GOAWAY.
const SHORT: u64 = 64;
/// A connection without data that is aborted within this time is a probe.
const PROBE: Duration = Duration::from_secs(2);
/// An attempt that is given up sooner than this is little evidence about the remote.
const SOON: Duration = Duration::from_secs(1);
/// No round trip on a working path takes longer.
const ROUND_TRIP: Duration = Duration::from_millis(300);
/// A connection without data for this long is idle: idle timeouts are not shorter.
const IDLE: Duration = Duration::from_secs(10);
/// A server that closes after this long without a request closes due to inactivity.
const IDLE_CLOSE: Duration = Duration::from_secs(1);
/// UDP services without replies: discard, syslog, NetFlow, sFlow, StatsD, collectd.
const ONE_WAY_PORTS: [u16; 6] = [9, 514, 2055, 6343, 8125, 25826];

/// The cause of an end, and how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// The severity of this end, which may differ from the usual one of the cause.
    pub severity: Severity,
    /// The additional cause: the mechanism.
    pub also: Option<Cause>,
    /// Lost data that may be missed.
    pub lost: Lost,
    /// Bytes that arrived after the receiving side had closed, and were discarded.
    pub late: u64,
    /// The answer that was still missing.
    pub missing: Option<Missing>,
}

impl Verdict {
    fn new(record: &Record, cause: Cause) -> Self {
        Self { cause, severity: cause.severity(), also: None, lost: record.lost, late: 0, missing: None }
    }

    /// With the answer that was missing at an end that is not harmful otherwise.
    fn with_missing(self, record: &Record) -> Self {
        let closed = matches!(
            self.cause,
            Cause::Orderly
                | Cause::Open
                | Cause::Abort
                | Cause::ClientCancelled
                | Cause::DataAfterClose
                | Cause::ResetForFin
        );
        // A client that gives up sends a closing alert, too.
        let gave_up = self.cause == Cause::CloseNotifyRace && record.facts.first_fin == Some(opener(record));
        let closed = closed || gave_up;
        let found = missing(record, self.lost).filter(|_| closed && self.severity < Severity::Harmful);
        let Some(missing) = found else { return self };
        let severity = missing.severity().max(self.severity);
        let this = Self { severity, missing: Some(missing), ..self };
        match self.cause {
            // A delay, or a loss, was the reason.
            _ if !record.context.injected.is_empty() => Self {
                cause: Cause::FaultInjected,
                severity: Severity::Suspicious,
                also: Some(Cause::NoAnswer),
                ..this
            },
            _ if missing.is_truncation() => this,
            Cause::Orderly | Cause::Open => Self { cause: Cause::NoAnswer, ..this },
            mechanism => Self { cause: Cause::NoAnswer, also: Some(mechanism), ..this },
        }
    }

    fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    fn also(self, also: Cause) -> Self {
        Self { also: Some(also), ..self }
    }
}

/// Why this connection or flow ended.
pub fn judge(record: &Record) -> Verdict {
    let verdict = |cause| Verdict::new(record, cause);
    if record.context.denied.is_some() {
        return verdict(Cause::PolicyDenied);
    }
    if record.context.proxy_failed {
        return verdict(Cause::ProxyFailed);
    }
    if ended_by_fault(record) {
        return verdict(Cause::FaultInjected);
    }
    let verdict = match (record.outcome, record.proto) {
        (Outcome::Orderly, _) if record.lost.total() > 0 => {
            verdict(Cause::Orderly).severity(Severity::Harmful)
        }
        (Outcome::Orderly, _) if reset_came_after(record) => verdict(Cause::Orderly).also(Cause::Echo),
        (Outcome::Orderly, _) => verdict(Cause::Orderly),
        (Outcome::Idle, _) => datagrams(record),
        (Outcome::Open, _) if stopped_reading(record) => verdict(Cause::ClientCancelled).also(Cause::Open),
        (Outcome::Open, _) if record.lost.total() > 0 => verdict(Cause::Open).severity(Severity::Harmful),
        (Outcome::Open, _) if record.facts.fin.program => verdict(Cause::Open),
        (Outcome::Open, _) => verdict(Cause::Open).severity(Severity::Suspicious),
        (Outcome::Refused | Outcome::Unreachable, _) => unreachable(record),
        (Outcome::TimedOut, _) => silence(record),
        (Outcome::Aborted | Outcome::Reset, _) => match record.by {
            // Closed to stay within the limit of descriptors.
            By::Lastack if record.host_errno.is_some() => Verdict::new(record, Cause::HostResources),
            By::Host | By::Network => unreachable(record),
            By::Nobody => silence(record),
            By::Program | By::Remote | By::Lastack => aborted(record),
        },
    };
    verdict.with_missing(record)
}

/// Both sides had closed, and everything had arrived when a reset came ([`Record::end_before_reset`]).
fn reset_came_after(record: &Record) -> bool {
    use lastack_engine::Rule::{PeerRstAfterFin, PeerRstAfterFins, PeerRstExact};
    matches!(record.rule, Some(PeerRstAfterFins | PeerRstAfterFin | PeerRstExact))
}

/// The program has closed a connection of its own, and only what it did not read any more is lost.
fn stopped_reading(record: &Record) -> bool {
    let (fin, lost) = (record.facts.fin, record.lost);
    let of_program = opener(record) == By::Program && fin.program && !fin.remote;
    of_program && lost.unread > 0 && lost.unsent + lost.unacked == 0
}

/// An injected fault contributed to the end: not if both sides had closed and it was only late.
fn ended_by_fault(record: &Record) -> bool {
    let injected = &record.context.injected;
    let fins = record.facts.fin;
    let late = record.outcome == Outcome::Open && fins.program && fins.remote && record.lost.total() == 0;
    let cut = injected.iter().any(|rule| rule.starts_with("cut-fin"));
    let answered_by_us = !record.context.questions.is_empty();
    // What only takes longer is no reason why the other side has not closed, or has aborted.
    let one_sided =
        record.outcome == Outcome::Open && (fins.program || fins.remote) && record.lost.total() == 0;
    let by_remote = record.outcome == Outcome::Reset && record.by == By::Remote;
    let harmless = (one_sided || by_remote) && injected.iter().all(|rule| ends_nothing(rule));
    let silenced = record.outcome == Outcome::Idle && datagrams(record).cause == Cause::NoAnswer;
    let acted = !record.outcome.is_fine() && (cut || !late) && !harmless;
    !injected.is_empty() && (answered_by_us || silenced || acted)
}

/// Whether a rule of `--inject` delivers everything in the end: a delay, or a reset that its receiver must ignore.
fn ends_nothing(rule: &str) -> bool {
    let delays = ["delay", "rate", "reorder", "duplicate", "slow-close"];
    delays.iter().any(|kind| rule.starts_with(kind))
        || rule.starts_with("rst") && rule.contains(":seq=") && !rule.contains(":seq=exact")
}

/// The remote was reported as refusing or unreachable.
fn unreachable(record: &Record) -> Verdict {
    let cause = match (record.icmp, record.by, record.host_errno.as_deref()) {
        (Some(said), ..) => Cause::of_icmp(said.error.v6, said.error.kind, said.error.code),
        (None, By::Host, Some("EACCES" | "EPERM")) => Cause::HostForbidden,
        (None, By::Host, Some("EMFILE" | "ENFILE" | "ENOMEM" | "ENOBUFS" | "EADDRNOTAVAIL" | "EAGAIN")) => {
            Cause::HostResources
        }
        (None, By::Host, _) => Cause::HostNoRoute,
        (None, ..) if record.outcome == Outcome::Unreachable => Cause::IcmpHostUnreachable,
        (None, ..) if record.proto == Proto::Udp => Cause::IcmpPortUnreachable,
        (None, ..) => Cause::Refused,
    };
    let verdict = Verdict::new(record, cause);
    match record.proto {
        // Whatever the router reported: the connection failed.
        Proto::Tcp => verdict.severity(Severity::Harmful),
        // Nothing that was sent has arrived.
        Proto::Udp => verdict.severity(cause.severity().max(Severity::Suspicious)),
    }
}

/// A timeout: an answer did not come.
fn silence(record: &Record) -> Verdict {
    use lastack_engine::Rule;
    let cause = match record.rule {
        _ if !record.facts.established => unanswered(record),
        Some(Rule::RstKeepaliveTimeout) => Cause::KeepaliveTimeout,
        _ => Cause::DeliveryTimeout,
    };
    let given_up = record.outcome == Outcome::Aborted && !record.facts.established;
    let also = given_up.then_some(Cause::ConnectCancelled);
    Verdict { also, ..Verdict::new(record, cause) }
}

/// The cause of an attempt without any answer: behind a proxy, only that can have answered.
fn unanswered(record: &Record) -> Cause {
    if record.context.via.is_some() { Cause::ProxyFailed } else { Cause::SilentDrop }
}

/// Either side aborted with a reset.
fn aborted(record: &Record) -> Verdict {
    let facts = &record.facts;
    if !facts.established {
        return given_up(record);
    }
    let nothing = record.bytes.sent + record.bytes.received + record.lost.total() == 0;
    if nothing
        && !facts.fin.program
        && !facts.fin.remote
        && record.duration() < PROBE
        && record.by == opener(record)
    {
        return Verdict::new(record, Cause::HealthCheck);
    }
    let (own_fin, others_fin) = match record.by {
        By::Remote => (facts.fin.remote, facts.fin.program),
        _ => (facts.fin.program, facts.fin.remote),
    };
    match (own_fin, others_fin) {
        (true, _) => after_own_close(record),
        (false, true) if facts.order.fin == Reached::Yes => for_fin(record),
        (false, true) => beside_fin(record),
        (false, false) => in_the_middle(record),
    }
}

/// The side that opened the connection.
pub(super) fn opener(record: &Record) -> By {
    if record.context.inward { By::Remote } else { By::Program }
}

/// Bytes that arrived from the side opposite to this one.
pub(super) fn others_data(record: &Record, side: By) -> u64 {
    if side == By::Program { record.bytes.received } else { record.bytes.sent }
}

/// The program ended the attempt before the remote had answered.
fn given_up(record: &Record) -> Verdict {
    match record.duration() {
        _ if record.facts.sibling => Verdict::new(record, Cause::ConnectCancelled),
        waited if waited < SOON => {
            let cancelled = Verdict::new(record, Cause::ConnectCancelled).severity(Severity::Suspicious);
            if waited < ROUND_TRIP { cancelled } else { cancelled.also(unanswered(record)) }
        }
        _ => Verdict::new(record, unanswered(record)).also(Cause::ConnectCancelled),
    }
}

/// The side that had closed answered later data with a reset. The severity depends on that data.
fn after_own_close(record: &Record) -> Verdict {
    let (facts, mut lost) = (&record.facts, record.lost);
    let late = if record.by == By::Remote {
        let late = (lost.unsent + lost.unacked).min(facts.late_from_program);
        let unsent = late.min(lost.unsent);
        lost.unsent -= unsent;
        lost.unacked -= late - unsent;
        late
    } else {
        let late = lost.unread.min(facts.late_from_remote);
        lost.unread -= late;
        late
    };
    let closer_is_client = record.by == opener(record);
    let others_fin = if record.by == By::Remote { facts.fin.program } else { facts.fin.remote };
    // What the client had not read when it closed is no loss, but its own decision.
    let discarded = match record.by {
        _ if !closer_is_client => 0,
        By::Remote => lost.unsent + lost.unacked,
        _ => lost.unread,
    };
    let undelivered = lost.total() - discarded;
    let verdict = |cause, severity| Verdict { cause, severity, lost, late, ..Verdict::new(record, cause) };
    // The other side closed first, and this one's FIN was the answer.
    let answered_fin = others_fin && facts.first_fin.is_some_and(|first| first != record.by);
    match late + discarded {
        _ if undelivered > 0 => verdict(Cause::DataAfterClose, Severity::Harmful),
        0 if answered_fin => verdict(Cause::Orderly, Severity::Benign),
        _ if discarded == 0 && (facts.late_alert || facts.tls && late <= SHORT) => {
            verdict(Cause::CloseNotifyRace, Severity::Benign)
        }
        // The server had not closed: the reset is the answer to its data, whose amount is not known.
        0 if closer_is_client && !others_fin => {
            verdict(Cause::ClientCancelled, Severity::Benign).also(Cause::DataAfterClose)
        }
        // All data had arrived.
        0 if others_fin => verdict(Cause::Orderly, Severity::Benign),
        0 => verdict(Cause::Abort, Severity::Benign),
        // The reading side has gone away, and discards what comes.
        rest if closer_is_client && rest <= SHORT => verdict(Cause::DataAfterClose, Severity::Benign),
        _ if closer_is_client => {
            verdict(Cause::ClientCancelled, Severity::Benign).also(Cause::DataAfterClose)
        }
        // A request that crossed with the close of an idle connection.
        _ if record.bytes.received > 0 && idle_before_fin(facts) >= IDLE_CLOSE => {
            verdict(Cause::KeepaliveRace, Severity::Harmful).also(Cause::DataAfterClose)
        }
        _ => verdict(Cause::DataAfterClose, Severity::Harmful),
    }
}

/// A reset came instead of a FIN: the other side had closed already.
fn for_fin(record: &Record) -> Verdict {
    let answered = record.by != By::Remote || record.bytes.received > 0 || record.bytes.sent == 0;
    match record.lost.total() {
        0 if answered => Verdict::new(record, Cause::ResetForFin),
        0 => Verdict::new(record, Cause::CloseUnread),
        _ if record.by == opener(record) => {
            Verdict::new(record, Cause::ClientCancelled).also(Cause::CloseUnread)
        }
        _ => Verdict::new(record, Cause::CloseUnread),
    }
}

/// A reset that did not come for the other side's FIN, as far as is known: that had closed without knowledge of it.
fn beside_fin(record: &Record) -> Verdict {
    let verdict = in_the_middle(record);
    let answered = record.facts.talk.last == Some(record.by);
    match record.lost.total() {
        0 if answered => verdict.severity(Severity::Benign),
        0 => verdict.severity(verdict.severity.min(Severity::Suspicious)),
        _ => verdict,
    }
}

/// A reset while both directions were open.
fn in_the_middle(record: &Record) -> Verdict {
    let (facts, lost) = (&record.facts, record.lost);
    let verdict = |cause| Verdict::new(record, cause);
    let (own, others) = match record.by {
        By::Remote => (lost.unread, lost.unsent + lost.unacked),
        _ => (lost.unsent + lost.unacked, lost.unread),
    };
    if record.by == opener(record) {
        // The opener may abort its own connection; was the other side still sending?
        return match facts.talk.last {
            _ if others > 0 => verdict(Cause::ClientCancelled).also(Cause::CloseUnread),
            _ if own > 0 => verdict(Cause::Abort).severity(Severity::Harmful),
            Some(last) if last != record.by => verdict(Cause::ClientCancelled),
            _ => verdict(Cause::Abort),
        };
    }
    let unanswered = facts.talk.last == Some(opener(record));
    let whole = facts.talk.message == Message::Whole;
    let cut = matches!(facts.talk.message, Message::Cut { .. });
    match () {
        () if (unanswered || others > 0) && facts.order.data == Reached::Yes => verdict(Cause::CloseUnread),
        () if facts.talk.idle >= IDLE && own == 0 && !cut => verdict(Cause::IdleReset),
        () if own == 0 && whole => verdict(Cause::Abort),
        // In the middle of an answer, or of a stream: the rest of it is lost.
        () => verdict(Cause::Abort).severity(Severity::Harmful),
    }
}

fn idle_before_fin(facts: &Facts) -> Duration {
    facts.before_fin.map_or(Duration::ZERO, |talk| talk.idle)
}

/// Datagrams without a reported error.
fn datagrams(record: &Record) -> Verdict {
    let verdict = |cause| Verdict::new(record, cause);
    let questions = &record.context.questions;
    if !questions.is_empty() {
        let any = |test: fn(&str) -> bool| {
            questions.iter().any(|question| question.rcode.as_deref().is_some_and(test))
        };
        return match () {
            () if questions.iter().any(|question| question.rcode.is_none()) => {
                verdict(Cause::NameServerSilent)
            }
            () if any(|rcode| !matches!(rcode, "NOERROR" | "NXDOMAIN")) => verdict(Cause::NameServerFailed),
            () if any(|rcode| rcode == "NXDOMAIN") => verdict(Cause::NameNotFound),
            () => verdict(Cause::Answered),
        };
    }
    let received = record.context.datagrams.map_or(0, |datagrams| datagrams.received);
    match record.bytes.received {
        _ if received > 0 => verdict(Cause::Answered),
        1.. => verdict(Cause::Answered),
        // From another port, as with TFTP.
        _ if record.facts.sibling => verdict(Cause::Answered),
        // A multicast or broadcast destination.
        _ if !lastack_wire::ip::unicast(record.remote.ip()) => verdict(Cause::OneWay),
        _ if ONE_WAY_PORTS.contains(&record.remote.port()) => verdict(Cause::OneWay),
        _ => verdict(Cause::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use lastack_explain::Lacks;

    use super::super::record::{Bytes, Datagrams, Fins, Order, Question, Talk, tests};
    use super::*;

    fn facts() -> Facts {
        Facts { established: true, talk: last(By::Remote, Duration::ZERO), ..Facts::default() }
    }

    /// This side sent last, so long ago.
    fn last(by: By, idle: Duration) -> Talk {
        Talk { last: Some(by), idle, run: 300, ..Talk::default() }
    }

    /// A connection that ended with a reset after some data in both directions.
    fn reset(by: By, facts: Facts) -> Record {
        let outcome = if by == By::Remote { Outcome::Reset } else { Outcome::Aborted };
        Record { outcome, by, facts, ..tests::orderly() }
    }

    fn cause(record: &Record) -> (&'static str, &'static str) {
        let verdict = record.verdict();
        (verdict.cause.name(), verdict.severity.name())
    }

    #[test]
    fn a_closing_alert_after_the_close_is_benign_in_both_directions() {
        let closed = Fins { program: true, remote: false };
        let late = Facts { fin: closed, tls: true, late_from_remote: 24, ..facts() };
        let mut record = reset(By::Program, late);
        record.lost.unread = 24;
        assert_eq!(cause(&record), ("close-notify-race", "benign"));
        assert_eq!((record.verdict().late, record.verdict().lost), (24, Lost::default()));

        let late = Facts {
            fin: Fins { program: false, remote: true },
            late_alert: true,
            late_from_program: 30,
            ..facts()
        };
        let mut mirror = reset(By::Remote, late);
        mirror.lost.unacked = 30;
        assert_eq!(cause(&mirror), ("close-notify-race", "benign"));
        assert_eq!((mirror.verdict().late, mirror.verdict().lost), (30, Lost::default()));
    }

    #[test]
    fn a_reset_of_a_client_that_had_closed_is_orderly_only_if_the_server_had_closed_too() {
        for by in [By::Program, By::Remote] {
            let closed = Fins { program: by == By::Program, remote: by == By::Remote };
            let mut record = reset(by, Facts { fin: closed, ..facts() });
            record.context.inward = by == By::Remote;
            let injected = vec!["rate=500k".to_owned()];
            record.context.injected = if by == By::Remote { injected } else { Vec::new() };
            assert_eq!(cause(&record), ("client-cancelled", "benign"), "{by:?}");
            record.facts.fin = Fins { program: true, remote: true };
            assert_eq!(cause(&record), ("orderly", "benign"), "{by:?}");
            record.context.inward = !record.context.inward;
            (record.facts.fin, record.facts.talk) = (closed, last(by, Duration::ZERO));
            assert_eq!(cause(&record), ("abort", "benign"), "the server: {by:?}");
        }
    }

    #[test]
    fn a_connection_that_both_had_closed_is_orderly_though_a_reset_came() {
        for first in [By::Program, By::Remote] {
            let fin = Fins { program: true, remote: true };
            let facts = Facts { fin, first_fin: Some(first), tls: first == By::Program, ..facts() };
            let rule = Some(lastack_engine::Rule::PeerRstAfterFins);
            let mut record = Record { rule, ..reset(By::Remote, facts) };
            record.end_before_reset();
            assert_eq!((record.outcome, record.by), (Outcome::Orderly, first));
            let verdict = record.verdict();
            assert_eq!((verdict.cause, verdict.also), (Cause::Orderly, Some(Cause::Echo)));
            assert_eq!(verdict.severity, Severity::Benign);
            // With data that was lost it is a reset.
            let mut lossy = Record { rule, ..reset(By::Remote, record.facts.clone()) };
            (lossy.lost.unacked, lossy.facts.late_from_program) = (500, 500);
            lossy.end_before_reset();
            assert_eq!((lossy.outcome, lossy.verdict().cause), (Outcome::Reset, Cause::DataAfterClose));
        }
    }

    #[test]
    fn data_lost_before_the_close_is_not_an_alert() {
        let late =
            Facts { fin: Fins { program: true, remote: false }, tls: true, late_from_remote: 24, ..facts() };
        let mut record = reset(By::Program, late);
        record.lost = Lost { unread: 24, unacked: 500, ..Lost::default() };
        assert_eq!(cause(&record), ("data-after-close", "harmful"));
        assert_eq!(record.verdict().lost, Lost { unacked: 500, ..Lost::default() });
    }

    #[test]
    fn a_cancelled_download_is_the_programs_own_decision() {
        let closed =
            Facts { fin: Fins { program: true, remote: false }, late_from_remote: 1 << 20, ..facts() };
        let mut by_fin = reset(By::Program, closed);
        by_fin.lost.unread = 1 << 20;
        assert_eq!(cause(&by_fin), ("client-cancelled", "benign"));
        // A part of it had come before the close, and was not read.
        by_fin.lost.unread = 2 << 20;
        assert_eq!(cause(&by_fin), ("client-cancelled", "benign"));
        by_fin.facts.tls = true;
        (by_fin.facts.late_from_remote, by_fin.lost.unread) = (24, 4000);
        assert_eq!(cause(&by_fin), ("client-cancelled", "benign"));
        let mut by_reset = reset(By::Program, facts());
        by_reset.lost.unread = 4 << 20;
        assert_eq!(cause(&by_reset), ("client-cancelled", "benign"));
        assert_eq!(by_reset.verdict().also, Some(Cause::CloseUnread));
    }

    #[test]
    fn a_download_that_the_program_closed_before_its_end_is_cancelled() {
        let fin = Fins { program: true, remote: false };
        let mut record = Record { outcome: Outcome::Open, by: By::Nobody, ..reset(By::Program, facts()) };
        (record.facts.fin, record.lost.unread) = (fin, 1 << 20);
        assert_eq!(cause(&record), ("client-cancelled", "benign"));
        record.lost.unacked = 1;
        assert_eq!(cause(&record), ("open", "harmful"), "data of the program is lost, too");
        record.lost.unacked = 0;
        record.context.inward = true;
        assert_eq!(cause(&record), ("open", "harmful"), "a server that does not read is no client");
    }

    #[test]
    fn a_request_to_an_idle_connection_that_the_server_closes_is_lost() {
        let idle = Facts {
            fin: Fins { program: false, remote: true },
            before_fin: Some(last(By::Remote, Duration::from_secs(5))),
            late_from_program: 300,
            ..facts()
        };
        let mut record = reset(By::Remote, idle.clone());
        record.lost.unacked = 300;
        assert_eq!(cause(&record), ("keepalive-race", "harmful"));
        record.facts.before_fin = None;
        assert_eq!(cause(&record), ("data-after-close", "harmful"));
    }

    #[test]
    fn a_probe_carries_nothing_and_is_short() {
        let probe = Facts { established: true, ..Facts::default() };
        let mut record = reset(By::Program, probe);
        record.bytes = Bytes::default();
        assert_eq!(cause(&record), ("health-check", "benign"));
        record.ended = record.opened + 1.minute();
        assert_eq!(cause(&record), ("abort", "suspicious"), "an hour of nothing is no probe");
        // The remote's abort of an empty connection is none either.
        record.by = By::Remote;
        record.ended = record.opened;
        assert_eq!(cause(&record).0, "abort");
    }

    #[test]
    fn an_abandoned_attempt_differs_from_a_remote_that_does_not_answer() {
        let mut record = reset(By::Program, Facts { sibling: true, ..Facts::default() });
        assert_eq!(cause(&record), ("connect-cancelled", "benign"));
        record.facts.sibling = false;
        record.ended = record.opened + 204.milliseconds();
        assert_eq!(cause(&record), ("connect-cancelled", "suspicious"));
        assert_eq!(record.verdict().also, None);
        record.ended = record.opened + 700.milliseconds();
        assert_eq!(cause(&record), ("connect-cancelled", "suspicious"), "it was killed early");
        assert_eq!(record.verdict().also, Some(Cause::SilentDrop));
        record.ended = record.opened + 5.seconds();
        assert_eq!(cause(&record), ("silent-drop", "harmful"));
        record.by = By::Nobody;
        assert_eq!(cause(&record), ("silent-drop", "harmful"));
        record.context.via = Some("socks5://192.0.2.9:1080".to_owned());
        assert_eq!(cause(&record), ("proxy-failed", "harmful"));
        record.context.via = None;
        assert_eq!(record.verdict().also, Some(Cause::ConnectCancelled));
    }

    #[test]
    fn a_remote_that_resets_a_request_has_not_answered_it() {
        let order = Order { data: Reached::Yes, ..Order::default() };
        let record = reset(By::Remote, Facts { talk: last(By::Program, Duration::ZERO), order, ..facts() });
        assert_eq!(cause(&record), ("close-unread", "harmful"));
        let idle = reset(By::Remote, Facts { talk: last(By::Remote, Duration::from_secs(350)), ..facts() });
        assert_eq!(cause(&idle), ("idle-reset", "suspicious"));
    }

    #[test]
    fn a_reset_of_the_remote_in_the_middle_of_its_data_is_harmful() {
        assert_eq!(cause(&reset(By::Remote, facts())), ("abort", "harmful"));
        let of = |message, idle| {
            let talk = Talk { message, ..last(By::Remote, Duration::from_secs(idle)) };
            cause(&reset(By::Remote, Facts { talk, ..facts() }))
        };
        assert_eq!(of(Message::Cut { bytes: 300, lacks: Lacks::Length(500) }, 0), ("abort", "harmful"));
        assert_eq!(
            of(Message::Cut { bytes: 300, lacks: Lacks::Length(500) }, 60),
            ("abort", "harmful"),
            "a stalled download"
        );
        assert_eq!(of(Message::Whole, 0), ("abort", "suspicious"), "everything had arrived");
        // The program's own abort is its decision, unless it cost the remote data of the program.
        let mut own = reset(By::Program, Facts { talk: last(By::Program, Duration::ZERO), ..facts() });
        assert_eq!(cause(&own), ("abort", "suspicious"));
        own.lost.unacked = 10;
        assert_eq!(cause(&own), ("abort", "harmful"));
    }

    #[test]
    fn roles_are_swapped_for_a_connection_from_outside() {
        let mut record = reset(By::Remote, Facts { talk: last(By::Program, Duration::ZERO), ..facts() });
        record.context.inward = true;
        record.lost.unacked = 9000;
        assert_eq!(cause(&record), ("client-cancelled", "benign"), "the client outside stopped the download");
    }

    #[test]
    fn a_reset_in_place_of_a_fin_lost_nothing() {
        let order = Order { fin: Reached::Yes, ..Order::default() };
        let facts = Facts { fin: Fins { program: true, remote: false }, order, ..facts() };
        let mut record = reset(By::Remote, facts);
        assert_eq!(cause(&record), ("reset-for-fin", "benign"));
        // Where the reset may have come first, it is only an abort of a connection that the program had closed.
        record.facts.order.fin = Reached::Unknown;
        assert_eq!(cause(&record), ("abort", "benign"));
        (record.facts.talk, record.bytes) = (Talk::default(), Bytes::default());
        assert_eq!(cause(&record), ("abort", "suspicious"), "a reset at once, of a connection without data");
    }

    #[test]
    fn a_connection_that_a_router_ends_is_lost() {
        let mut record = tests::unreachable();
        let error =
            lastack_wire::icmp::IcmpError { v6: false, kind: 11, code: 0, ..record.icmp.unwrap().error };
        record.icmp = record.icmp.map(|said| super::super::record::IcmpSaid { error, ..said });
        assert_eq!(cause(&record), ("icmp-time-exceeded", "harmful"));
        record.proto = Proto::Udp;
        assert_eq!(cause(&record), ("icmp-time-exceeded", "suspicious"), "traceroute");
    }

    #[test]
    fn icmp_and_this_host_are_distinguished() {
        let mut record = tests::unreachable();
        assert_eq!(cause(&record), ("icmp-host-unreachable", "harmful"));
        (record.icmp, record.by) = (None, By::Host);
        assert_eq!(cause(&record), ("host-no-route", "harmful"));
        record.host_errno = Some("EPERM".to_owned());
        assert_eq!(cause(&record), ("host-forbidden", "harmful"));
        record.host_errno = Some("EMFILE".to_owned());
        assert_eq!(cause(&record), ("host-resources", "harmful"));
    }

    #[test]
    fn datagrams_without_an_answer_are_not_fine() {
        let flow = |sent, received, port| Record {
            proto: Proto::Udp,
            outcome: Outcome::Idle,
            by: By::Nobody,
            bytes: Bytes { sent, received },
            remote: ([192, 0, 2, 7], port).into(),
            ..tests::orderly()
        };
        assert_eq!(cause(&flow(5, 7, 123)), ("answered", "benign"));
        assert_eq!(cause(&flow(5, 0, 123)), ("no-answer", "suspicious"));
        assert_eq!(cause(&flow(5, 0, 514)), ("one-way", "benign"), "syslog has no answers");
        let mut cut = flow(5, 7, 123);
        cut.context.datagrams = Some(Datagrams { sent: 1, received: 1 });
        cut.context.injected = vec!["loss=100%".to_owned()];
        assert_eq!(cause(&cut).0, "answered");
        cut.lose_datagrams(0, 1);
        assert_eq!(cause(&cut), ("fault-injected", "suspicious"), "the answer did not reach the program");
        let mut empty = flow(0, 0, 123);
        for (received, expected) in [(0, "no-answer"), (1, "answered")] {
            empty.context.datagrams = Some(Datagrams { sent: 1, received });
            assert_eq!(cause(&empty).0, expected, "empty datagrams count, too");
        }
        let mut names = flow(30, 30, 53);
        let question = |rcode: Option<&str>| Question {
            name: "a.example".to_owned(),
            kind: "A".to_owned(),
            rcode: rcode.map(str::to_owned),
            times: 1,
        };
        for (rcode, expected) in [
            (Some("NOERROR"), "answered"),
            (Some("NXDOMAIN"), "name-not-found"),
            (Some("SERVFAIL"), "name-server-failed"),
            (None, "name-server-silent"),
        ] {
            names.context.questions = vec![question(Some("NOERROR")), question(rcode)];
            assert_eq!(cause(&names).0, expected);
        }
    }

    #[test]
    fn effects_of_options_are_attributed_to_lastack() {
        let mut record = reset(By::Remote, facts());
        record.context.injected = vec!["rst:after=4k".to_owned()];
        assert_eq!(cause(&record).0, "fault-injected");
        // A connection whose ends have closed and whose last packets are on a slow way is not ended by that.
        record.outcome = Outcome::Open;
        record.facts.fin = Fins { program: true, remote: false };
        assert_eq!(cause(&record).0, "fault-injected");
        // The remote's own reset is not an effect of a delay.
        let mut own = reset(By::Remote, facts());
        own.context.injected = vec!["delay=1s".to_owned(), "rst=program:seq=window".to_owned()];
        assert_eq!(cause(&own), ("abort", "harmful"));
        // A delay beyond the patience of the program is the reason why it closed without an answer.
        own = Record { outcome: Outcome::Orderly, by: By::Program, ..own };
        (own.facts.first_fin, own.facts.fin.program) = (Some(By::Program), true);
        own.facts.before_fin = Some(last(By::Program, Duration::from_secs(2)));
        assert_eq!(cause(&own), ("fault-injected", "suspicious"));
        let slow = vec!["delay=1s".to_owned(), "rate=9k".to_owned()];
        let reset = std::mem::replace(&mut record.context.injected, slow);
        assert_eq!(cause(&record), ("open", "benign"), "a delay is no reason not to close");
        record.context.injected = reset;
        record.facts.fin = Fins { program: true, remote: true };
        assert_eq!(cause(&record), ("open", "benign"));
        // A fault that the connection survives is not its end.
        record.outcome = Outcome::Orderly;
        assert_eq!(cause(&record).0, "orderly");
        record.context.denied = Some("--offline".to_owned());
        assert_eq!(cause(&record).0, "policy-denied");
    }
}
