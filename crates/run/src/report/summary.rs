//! The summary of all connections of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use lastack_causes::{Cause, Severity};
use serde::{Serialize, Serializer};

use super::fail_on::Failures;
use super::record::{Bytes, Lost, Outcome, Proto, Record};
use super::sentence::Size;

/// Max destinations counted separately.
const MAX_REMOTES: usize = 1000;
/// Max names listed of each kind.
const MAX_NAMES: usize = 100;

/// The last line of a report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When the run began.
    #[serde(serialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// Its duration.
    pub seconds: f64,
    /// TCP connections by cause.
    pub tcp: BTreeMap<&'static str, u64>,
    /// UDP flows by cause.
    pub udp: BTreeMap<&'static str, u64>,
    /// All, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Those of the open ones that only one side had closed: that side's kernel ends them by a timeout.
    pub half_closed: u64,
    /// All, by severity.
    pub severity: Severities,
    /// Causes by destination, for the first thousand destinations.
    pub by_remote: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Connections to destinations beyond those.
    pub other_remotes: u64,
    /// DNS queries.
    pub names: Names,
    /// Echo requests.
    pub echo: Echo,
    /// The total of bytes that arrived.
    #[serde(rename = "octets")]
    pub bytes: Bytes,
    /// The total of bytes that were lost.
    pub lost: Lost,
    /// Those of them that the receiving side had asked for and did not read, as it stopped.
    pub discarded: u64,
    /// Bytes that arrived after the receiving side had closed.
    pub late: u64,
    /// Packets that lastack itself dropped between itself and the program's kernel, not the network.
    pub dropped: u64,
    /// The injected faults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<Injected>,
    /// Lines of connections omitted from this report, for lack of space on standard error.
    pub left_out: u64,
    /// What the program should have but could not be provided.
    pub warnings: Vec<String>,
    /// The connections that `--fail-on` applied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_on: Option<Failures>,
    /// How the program ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How lastack itself ends: as the program, unless a condition of `--fail-on` or a failure of its own decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lastack_exit: Option<Exit>,
}

/// Connections and flows by the severity of their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Severities {
    /// Data was lost.
    pub harmful: u64,
    /// Unusual.
    pub suspicious: u64,
    /// Normal.
    pub benign: u64,
}

/// DNS queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// The number of queries.
    pub asked: u64,
    /// Names that do not exist, the first hundred.
    pub not_found: BTreeSet<String>,
    /// Names with a failed answer.
    pub failed: BTreeSet<String>,
    /// Names without an answer.
    pub unanswered: BTreeSet<String>,
    /// Names that an option of the run denied.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<String>,
}

/// An injected fault, and its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Injected {
    /// The rule.
    pub rule: String,
    /// Connections and queries that it matched.
    pub matched: u64,
    /// Those of them that `when` and `probability` selected.
    pub selected: u64,
    /// How often it was applied: to connections, or to packets.
    pub acted: u64,
    /// Connections over `--map-localhost` or `-p` that it would have matched, and on which it cannot act.
    #[serde(skip_serializing_if = "is_none")]
    pub missed: u64,
}

/// Pings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Echo {
    /// Requests sent on to their remote.
    pub asked: u64,
    /// Replies.
    pub answered: u64,
    /// Errors.
    pub failed: u64,
    /// The requests of those that an option of the run denied, by option.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub denied: BTreeMap<String, u64>,
    /// Requests that an option would have denied without `--log-only`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub would_deny: BTreeMap<String, u64>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// Exited with this status.
    Status(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Summary {
    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        let verdict = record.verdict();
        let causes = match record.proto {
            Proto::Tcp => &mut self.tcp,
            Proto::Udp => &mut self.udp,
        };
        let cause = verdict.cause.name();
        *causes.entry(cause).or_default() += 1;
        *self.outcomes.entry(record.outcome.word()).or_default() += 1;
        *self.severity.of(verdict.severity) += 1;
        let fin = record.facts.fin;
        self.half_closed += u64::from(verdict.cause == Cause::Open && fin.program != fin.remote);
        self.count_remote(record, cause);
        self.count_names(record);
        self.bytes.sent += record.bytes.sent;
        self.bytes.received += record.bytes.received;
        self.lost.unsent += verdict.lost.unsent;
        self.lost.unacked += verdict.lost.unacked;
        self.lost.unread += verdict.lost.unread;
        if verdict.cause == Cause::ClientCancelled {
            self.discarded += verdict.lost.total();
        }
        self.late += verdict.late;
    }

    fn count_remote(&mut self, record: &Record, cause: &'static str) {
        if !record.context.questions.is_empty() {
            return;
        }
        let remote = record.remote.to_string();
        if self.by_remote.len() >= MAX_REMOTES && !self.by_remote.contains_key(&remote) {
            self.other_remotes += 1;
            return;
        }
        *self.by_remote.entry(remote).or_default().entry(cause).or_default() += 1;
    }

    fn count_names(&mut self, record: &Record) {
        for question in &record.context.questions {
            self.names.asked += u64::from(question.times);
            let names = match question.rcode.as_deref() {
                Some("REFUSED") if record.context.denied.is_some() => &mut self.names.denied,
                Some("NOERROR") => continue,
                Some("NXDOMAIN") => &mut self.names.not_found,
                Some(_) => &mut self.names.failed,
                None => &mut self.names.unanswered,
            };
            if names.len() < MAX_NAMES {
                names.insert(question.name.clone());
            }
        }
    }

    /// Whether there is nothing to report: no connection, no flow, no ping, no warning.
    pub fn is_empty(&self) -> bool {
        let counted = self.severity.total() + self.echo.asked + self.dropped;
        counted == 0 && self.warnings.is_empty() && self.injected.is_empty()
    }
}

impl Severities {
    fn of(&mut self, severity: Severity) -> &mut u64 {
        match severity {
            Severity::Harmful => &mut self.harmful,
            Severity::Suspicious => &mut self.suspicious,
            Severity::Benign => &mut self.benign,
        }
    }

    /// The sum.
    pub fn total(self) -> u64 {
        self.harmful + self.suspicious + self.benign
    }
}

/// `3 connections: 1 refused, 2 orderly`, the most severe first. `half`: this number of the open ones is half-closed.
fn causes(f: &mut fmt::Formatter<'_>, what: &str, causes: &BTreeMap<&str, u64>, half: u64) -> fmt::Result {
    let total: u64 = causes.values().sum();
    write!(f, "{total} {what}{}", if total == 1 { "" } else { "s" })?;
    let severity = |word: &str| word.parse::<Cause>().map(|cause| cause.severity());
    let mut sorted: Vec<_> = causes.iter().collect();
    sorted.sort_by_key(|(word, _)| std::cmp::Reverse(severity(word).ok()));
    for (i, (word, count)) in sorted.into_iter().enumerate() {
        write!(f, "{} {count} {word}", if i == 0 { ":" } else { "," })?;
        if *word == Cause::Open.name() && half > 0 {
            write!(f, " ({half} half-closed)")?;
        }
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        causes(f, "TCP connection", &self.tcp, self.half_closed)?;
        if !self.udp.is_empty() {
            f.write_str("; ")?;
            causes(f, "UDP flow", &self.udp, 0)?;
        }
        let lost = self.lost.total() - self.discarded;
        if self.severity.total() > 0 && self.severity.benign == self.severity.total() && lost == 0 {
            f.write_str("; all clean")?;
        }
        self.echo.fmt(f)?;
        write!(f, "; {} sent, {} received", Size(self.bytes.sent), Size(self.bytes.received))?;
        for (bytes, what) in [(lost, "lost"), (self.discarded, "discarded")] {
            if bytes > 0 {
                write!(f, ", {} {what}", Size(bytes))?;
            }
        }
        if self.dropped > 0 {
            write!(f, "; {} packets dropped by lastack itself, not by the network", self.dropped)?;
        }
        Ok(())
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, answered, failed, denied, would_deny } = self;
        if *asked == 0 {
            return Ok(());
        }
        let plural = if *asked == 1 { "" } else { "s" };
        write!(f, "; {asked} echo request{plural}, {answered} answered, {failed} failed")?;
        for (option, count) in denied {
            write!(f, ", {count} denied by {option}")?;
        }
        for (option, count) in would_deny {
            write!(f, ", {count} would be denied by {option}")?;
        }
        Ok(())
    }
}

impl Names {
    /// The lines about names.
    pub(super) fn lines(&self) -> Vec<String> {
        let kinds = [
            ("do not exist", &self.not_found),
            ("could not be resolved", &self.failed),
            ("got no answer", &self.unanswered),
            ("were denied", &self.denied),
        ];
        let of = |(what, names): (&str, &BTreeSet<String>)| {
            let mut list: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
            if names.len() > 8 {
                list.push("..");
            }
            format!("lastack: names that {what}: {}", list.join(", "))
        };
        kinds.into_iter().filter(|(_, names)| !names.is_empty()).map(of).collect()
    }
}

impl Injected {
    /// The line about a fault.
    pub(super) fn line(&self) -> String {
        let Self { rule, matched, selected, acted, missed } = self;
        let of_them =
            if selected < matched { format!(", selected {selected} of them") } else { String::new() };
        let line = match (matched, selected, acted) {
            (0, ..) => format!("lastack: --inject {rule}: matched nothing"),
            (_, 0, _) => format!("lastack: --inject {rule}: matched {matched}, selected none of them"),
            (.., 0) => format!("lastack: --inject {rule}: matched {matched}{of_them}, and never acted"),
            (.., 1) => format!("lastack: --inject {rule}: matched {matched}{of_them}, acted once"),
            _ => format!("lastack: --inject {rule}: matched {matched}{of_them}, acted {acted} times"),
        };
        let kind = rule.split([':', '=']).next().unwrap_or(rule);
        match missed {
            0 => line,
            1 => format!("{line}; {kind} cannot act on 1 connection over --map-localhost or -p"),
            _ => format!("{line}; {kind} cannot act on {missed} connections over --map-localhost or -p"),
        }
    }
}

// The signature is that of serde's attribute.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u64) -> bool {
    *count == 0
}

fn time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(super::json::time).serialize(serializer)
}

/// An outcome by its word, which `--fail-on` accepts in addition to causes.
pub(super) fn outcome(word: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.word() == word)
}

#[cfg(test)]
mod tests {
    use super::super::record::{By, Question, tests};
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let mut summary = Summary::default();
        for record in [tests::orderly(), tests::unreachable(), tests::orderly()] {
            summary.add(&record);
        }
        summary.add(&Record {
            proto: Proto::Udp,
            outcome: Outcome::Idle,
            by: By::Nobody,
            ..tests::orderly()
        });
        assert_eq!(
            summary.to_string(),
            "3 TCP connections: 1 icmp-host-unreachable, 2 orderly; 1 UDP flow: 1 answered; \
             225 bytes sent, 3600 bytes received"
        );
        assert_eq!((summary.severity.harmful, summary.severity.benign), (1, 3));
        assert_eq!(summary.by_remote["192.0.2.7:80"]["orderly"], 2);
        summary.dropped = 2;
        assert!(summary.to_string().ends_with("; 2 packets dropped by lastack itself, not by the network"));
    }

    #[test]
    fn a_run_without_trouble_is_clean() {
        let mut summary = Summary::default();
        assert!(summary.is_empty());
        summary.add(&tests::orderly());
        assert!(!summary.is_empty());
        assert_eq!(
            summary.to_string(),
            "1 TCP connection: 1 orderly; all clean; 75 bytes sent, 1200 bytes received"
        );
    }

    #[test]
    fn a_loss_is_not_clean() {
        let mut summary = Summary::default();
        summary.add(&tests::orderly());
        summary.lost.unread = 32_768;
        assert!(
            summary.to_string().ends_with("1 orderly; 75 bytes sent, 1200 bytes received, 32.0 KiB lost")
        );
        summary.discarded = 32_768;
        assert!(summary.to_string().contains("; all clean; "), "it was not wanted");
    }

    #[test]
    fn a_connection_that_only_one_side_closed_is_called_so() {
        let mut summary = Summary::default();
        let mut record = Record { outcome: Outcome::Open, by: By::Nobody, ..tests::orderly() };
        record.facts.fin.program = true;
        summary.add(&record);
        record.facts.fin.remote = true;
        summary.add(&record);
        assert!(summary.to_string().starts_with("2 TCP connections: 2 open (1 half-closed); "), "{summary}");
    }

    #[test]
    fn destinations_are_bounded() {
        let mut summary = Summary::default();
        for port in 1..=1500 {
            summary.add(&Record { remote: ([192, 0, 2, 7], port).into(), ..tests::orderly() });
        }
        assert_eq!((summary.by_remote.len(), summary.other_remotes), (1000, 500));
    }

    #[test]
    fn names_without_an_answer_are_listed() {
        let mut record = Record { proto: Proto::Udp, outcome: Outcome::Idle, ..tests::orderly() };
        let question = |name: &str, rcode: Option<&str>| Question {
            name: name.to_owned(),
            kind: "A".to_owned(),
            rcode: rcode.map(str::to_owned),
            times: 2,
        };
        record.context.questions = vec![question("a.test", Some("NXDOMAIN")), question("b.test", None)];
        let mut summary = Summary::default();
        summary.add(&record);
        assert_eq!(summary.names.asked, 4);
        assert_eq!(
            summary.names.lines(),
            ["lastack: names that do not exist: a.test", "lastack: names that got no answer: b.test"]
        );
    }

    #[test]
    fn an_unmatched_fault_is_reported() {
        let line = |matched, selected, acted| {
            Injected { rule: "rst:port=1".to_owned(), matched, selected, acted, missed: 0 }.line()
        };
        assert!(line(4, 1, 1).ends_with(": matched 4, selected 1 of them, acted once"));
        assert!(line(4, 0, 0).ends_with(": matched 4, selected none of them"));
        assert!(line(4, 4, 0).ends_with(": matched 4, and never acted"));
        let rule = "rst:port=1".to_owned();
        let injected = Injected { rule, matched: 0, selected: 0, acted: 0, missed: 0 };
        assert_eq!(injected.line(), "lastack: --inject rst:port=1: matched nothing");
        let injected = Injected { rule: "corrupt=1%:port=1".to_owned(), missed: 2, ..injected };
        assert_eq!(
            injected.line(),
            "lastack: --inject corrupt=1%:port=1: matched nothing; corrupt cannot act on 2 connections over --map-localhost or -p"
        );
    }

    #[test]
    fn json_has_the_exit_status_of_the_program() {
        let began = Some("2026-11-22T10:00:00.5Z".parse().unwrap());
        let summary = Summary { exit: Some(Exit::Signal(9)), began, ..Summary::default() };
        let json = serde_json::to_value(summary).unwrap();
        assert_eq!(json["exit"], serde_json::json!({"signal": 9}));
        assert_eq!(json["began"], "2026-11-22T10:00:00.500000000Z");
    }
}
