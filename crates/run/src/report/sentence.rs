//! A record as one line of text, short enough for a terminal.
//!
//! ```text
//! 06:31:02 ✗ refused by the remote  10.0.2.2:5432 (db.local)  117 us  curl[123]
//! ```

use std::fmt;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use lastack_causes::{Cause, Severity};
use lastack_engine::TcpState;

use super::judge::Verdict;
use super::record::{By, Lost, Outcome, Proto, Question, Record};

const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const FAINT: Style = Style::new().dimmed();

/// The style and the mark of a severity.
pub(crate) const fn mark(severity: Severity) -> (Style, &'static str) {
    match severity {
        Severity::Harmful => (BAD, "✗"),
        Severity::Suspicious => (DOUBTFUL, "!"),
        Severity::Benign => (GOOD, "✓"),
    }
}

/// A local time of day.
pub(super) fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

impl fmt::Display for Record {
    /// The whole line, with the local port, the state and the rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.details(f, true)?;
        self.fine_print(f)
    }
}

/// A record in one line without expert details.
pub(super) struct Brief<'a>(pub &'a Record);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.head(f)?;
        self.0.details(f, false)
    }
}

impl Record {
    /// Time of day, mark, cause, destination, duration, process.
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict();
        write!(
            f,
            "{} {}  {}  {}",
            clock(self.opened),
            self.what(&verdict),
            self.whither(),
            Elapsed(self.duration())
        )?;
        self.context
            .process
            .as_ref()
            .map_or(Ok(()), |process| write!(f, "  {}[{}]", process.comm, process.pid))
    }

    /// `✗ refused by the remote`.
    pub(crate) fn what(&self, verdict: &Verdict) -> String {
        let (style, mark) = mark(verdict.severity);
        let cause = verdict.cause;
        let by = match self.by {
            // The cause already names the party.
            _ if matches!(cause, Cause::ClientCancelled | Cause::ConnectCancelled | Cause::PolicyDenied) => {
                ""
            }
            _ if matches!(cause, Cause::FaultInjected | Cause::HealthCheck | Cause::NoAnswer) => "",
            By::Program => " by the program",
            By::Remote => " by the remote",
            By::Network | By::Host if cause.is_icmp() || cause.code().starts_with('L') => "",
            By::Network => " by the network",
            By::Host => " by this host",
            By::Lastack => " by lastack",
            By::Nobody => "",
        };
        format!("{style}{mark} {cause}{style:#}{by}")
    }

    /// Why it ended, for a packet comment: `refused by the remote: rst-no-listener, SYN to ..`.
    pub fn reason(&self) -> String {
        let verdict = self.verdict();
        let what = anstream::adapter::strip_str(&self.what(&verdict)).to_string();
        let mut text = what.split_once(' ').map_or(what.as_str(), |(_mark, what)| what).to_owned();
        if let Some(rule) = self.rule {
            text += &format!(" ({}: {})", rule.name(), rule.text());
        }
        for rule in &self.context.injected {
            text += &format!("; --inject {rule}");
        }
        if let Some(option) = &self.context.denied {
            text += &format!("; {option}");
        }
        self.note.as_ref().map_or(text.clone(), |note| format!("{text}; {note}"))
    }

    /// `10.0.2.2:5432 (db.local)`; for a DNS query, the question.
    pub(crate) fn whither(&self) -> String {
        let context = &self.context;
        if !context.questions.is_empty() {
            return questions(&context.questions, context.asked.unwrap_or(self.remote));
        }
        let proto = if self.proto == Proto::Udp { "udp " } else { "" };
        let arrow = if context.inward { "from " } else { "" };
        let name = context.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let asked = context.asked.map(|asked| format!(" (asks {asked})")).unwrap_or_default();
        format!("{proto}{arrow}{}{name}{asked}", self.remote)
    }

    /// Details in addition to the cause.
    fn details(&self, f: &mut fmt::Formatter<'_>, all: bool) -> fmt::Result {
        let verdict = self.verdict();
        if let Some(said) = self.icmp {
            write!(f, "; ICMP {}", said.error)?;
            said.from.map_or(Ok(()), |from| write!(f, " from {from}"))?;
        }
        if all && (self.bytes.sent > 0 || self.bytes.received > 0) {
            write!(f, "; {} sent, {} received", Size(self.bytes.sent), Size(self.bytes.received))?;
        }
        lost(f, verdict.lost, verdict.cause)?;
        if verdict.late > 0 && (all || verdict.severity > Severity::Benign) {
            write!(f, "; {} after the close of {}", Size(verdict.late), self.closer())?;
        }
        self.context.injected.iter().try_for_each(|rule| write!(f, "; --inject {rule}"))?;
        if let Some(option) = &self.context.denied {
            write!(f, "; {option}")?;
        }
        if let Some(option) = &self.context.would_deny {
            write!(f, "; would be denied: {option}")?;
        }
        match &self.note {
            Some(note) if all || verdict.severity > Severity::Benign => write!(f, "; {note}"),
            _ => Ok(()),
        }
    }

    fn closer(&self) -> &'static str {
        if self.by == By::Remote { "the remote" } else { "the program" }
    }

    /// The local port, the path, the state and the rule.
    fn fine_print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {FAINT}[{}, port {}", self.outcome.word(), self.local.port())?;
        if let Some(connect) = self.context.connect {
            write!(f, ", connected in {}", Elapsed(connect))?;
        }
        if let Some(path) = self.context.path {
            write!(f, ", RTT {}, {} retransmitted", Elapsed(path.rtt), path.retransmitted)?;
        }
        let rates = self.context.rates;
        for (rate, direction) in [(rates.sent, "sent"), (rates.received, "received")] {
            if let Some(rate) = rate {
                write!(f, ", {direction} at {}/s", Size(rate.mean))?;
            }
        }
        // Every clean end leads to CLOSED: the state adds nothing.
        if let Some(state) =
            self.state.filter(|state| *state != TcpState::Closed && self.outcome != Outcome::Orderly)
        {
            write!(f, ", {state}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, ", {}: {}", rule.name(), rule.text())?;
        }
        write!(f, "]{FAINT:#}")
    }
}

fn lost(f: &mut fmt::Formatter<'_>, lost: Lost, cause: Cause) -> fmt::Result {
    // Data that a program does not read because it has gone away is not a loss.
    let unread = if cause == Cause::ClientCancelled { "discarded" } else { "unread" };
    let parts = [(lost.unsent, "unsent"), (lost.unacked, "unacknowledged"), (lost.unread, unread)];
    for (i, (bytes, what)) in parts.into_iter().filter(|(bytes, _)| *bytes > 0).enumerate() {
        write!(f, "{} {} {what}", if i > 0 { "," } else { ";" }, Size(bytes))?;
    }
    Ok(())
}

fn questions(questions: &[Question], asked: std::net::SocketAddr) -> String {
    let mut text = String::new();
    for (i, question) in questions.iter().enumerate().take(4) {
        let comma = if i > 0 { ", " } else { "" };
        let answer = match (&question.rcode, question.times) {
            (Some(rcode), _) => format!(" {rcode}"),
            (None, 1) => String::new(),
            (None, times) => format!(" (asked {times} times)"),
        };
        text += &format!("{comma}{} {}{answer}", question.name, question.kind);
    }
    if questions.len() > 4 {
        text += &format!(" and {} more", questions.len() - 4);
    }
    format!("{text} from {asked}")
}

/// A duration, with suitable precision.
pub(super) struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "{micros} us"),
            1_000..10_000 => write!(f, "{:.1} ms", micros as f64 / 1e3),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            _ => write!(f, "{:.1} s", micros as f64 / 1e6),
        }
    }
}

/// A number of bytes with a unit: `812 bytes`, `1.5 MiB`.
pub(crate) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        if self.0 < 10_000 {
            return write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" });
        }
        for unit in ["KiB", "MiB", "GiB"] {
            size /= 1024.0;
            if size < 1000.0 {
                return write!(f, "{size:.1} {unit}");
            }
        }
        write!(f, "{:.1} TiB", size / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use lastack_engine::TcpState;

    use super::super::record::{Bytes, Facts, Fins, Order, Process, Reached, Talk, tests};
    use super::*;

    /// The line without its time of day, which depends on where it is printed.
    fn plain(line: &impl fmt::Display) -> String {
        let line = anstream::adapter::strip_str(&line.to_string()).to_string();
        line.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn a_line_names_cause_destination_time_and_process() {
        let mut record = tests::unreachable();
        record.context.name = Some("db.local".to_owned());
        record.context.process = Some(Process { pid: 123, comm: "curl".to_owned() });
        assert_eq!(
            plain(&Brief(&record)),
            "✗ icmp-host-unreachable  192.0.2.7:80 (db.local)  500 ms  curl[123]; ICMP host unreachable (3/1) from 192.0.2.1"
        );
        let line = plain(&record);
        assert!(line.contains("[unreachable, port 40000, SYN-SENT, icmp-ends-attempt: "), "{line}");
    }

    #[test]
    fn an_orderly_end_names_who_closed_first() {
        assert_eq!(plain(&Brief(&tests::orderly())), "✓ orderly by the remote  192.0.2.7:80  500 ms");
        let line = plain(&tests::orderly());
        assert!(
            line.contains("75 bytes sent, 1200 bytes received [orderly, port 40000, end-orderly: "),
            "{line}"
        );
    }

    #[test]
    fn a_reset_counts_what_it_cost() {
        let record = Record {
            outcome: Outcome::Reset,
            state: Some(TcpState::Established),
            lost: Lost { unsent: 0, unacked: 812, unread: 3 },
            bytes: Bytes { sent: 5, received: 0 },
            facts: Facts {
                established: true,
                talk: Talk { last: Some(By::Program), ..Talk::default() },
                order: Order { data: Reached::Yes, ..Order::default() },
                ..Facts::default()
            },
            ..tests::orderly()
        };
        assert_eq!(
            plain(&Brief(&record)),
            "✗ close-unread by the remote  192.0.2.7:80  500 ms; 812 bytes unacknowledged, 3 bytes unread"
        );
    }

    #[test]
    fn late_data_is_not_counted_as_lost() {
        let facts = Facts {
            established: true,
            fin: Fins { program: true, remote: false },
            tls: true,
            late_from_remote: 24,
            ..Facts::default()
        };
        let lost = Lost { unread: 24, ..Lost::default() };
        let record = Record { outcome: Outcome::Aborted, by: By::Program, lost, facts, ..tests::orderly() };
        assert_eq!(plain(&Brief(&record)), "✓ close-notify-race by the program  192.0.2.7:80  500 ms");
        assert!(plain(&record).contains("; 24 bytes after the close of the program"), "{}", plain(&record));
    }

    #[test]
    fn a_question_shows_its_name() {
        let mut record = Record {
            proto: Proto::Udp,
            outcome: Outcome::Idle,
            by: By::Nobody,
            rule: None,
            ..tests::orderly()
        };
        record.context.asked = Some("198.51.100.1:53".parse().unwrap());
        record.context.questions =
            vec![Question { name: "one.test".to_owned(), kind: "A".to_owned(), rcode: None, times: 2 }];
        assert_eq!(
            plain(&Brief(&record)),
            "✗ name-server-silent  one.test A (asked 2 times) from 198.51.100.1:53  500 ms"
        );
    }

    #[test]
    fn figures_are_short() {
        let elapsed = |micros| Elapsed(Duration::from_micros(micros)).to_string();
        assert_eq!(
            [elapsed(0), elapsed(250), elapsed(1_250), elapsed(90_000), elapsed(3_000_000)],
            ["0 us", "250 us", "1.2 ms", "90 ms", "3.0 s"]
        );
        assert_eq!([Size(1).to_string(), Size(9_999).to_string()], ["1 byte", "9999 bytes"]);
        assert_eq!(Size(64 << 20).to_string(), "64.0 MiB");
        assert_eq!(Size(3 << 40).to_string(), "3.0 TiB");
    }
}
