//! What a connection lacked when it was closed in order: an answer, or the rest of one.
//!
//! A timeout of a client is a close like any other: only the pause before it shows that the client waited. The side that
//! opened the connection asks, the other answers.

use std::fmt;
use std::time::Duration;

use lastack_causes::Severity;
use lastack_explain::Lacks;

use super::judge::{opener, others_data};
use super::record::{By, Lost, Message, Outcome, Proto, Record};
use super::sentence::{Elapsed, Size};

/// A client that closes sooner than this after its last data did not wait for an answer.
const WAITED: Duration = Duration::from_millis(500);
/// A client that closes this long after the last answer was idle, or waited for the rest of it.
const IDLE: Duration = Duration::from_secs(1);
/// In a protocol with frames of its own, TLS or HTTP/2, so few bytes may be an acknowledgment or a closing alert.
const FRAME: u64 = 128;
/// So few bytes after an answer may be a `QUIT`, which the server answers with its close.
const FAREWELL: u64 = 64;
/// TCP services without answers: discard, syslog (also with TLS), Graphite, Fluentd, GELF.
const ONE_WAY_PORTS: [u16; 8] = [9, 514, 601, 2003, 2004, 6514, 12201, 24224];

/// What was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    what: What,
    /// The side that closed first.
    closer: By,
    /// The side that should have answered.
    server: By,
    /// The time without data before the close.
    idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// An answer to so many bytes. `request`: they are an HTTP request.
    Answer { bytes: u64, request: bool },
    /// The rest of an answer, and what of it if that is known.
    Rest { bytes: u64, lacks: Option<Lacks> },
    /// Data of either side.
    Everything,
}

/// What the side that opened the connection still waited for. `lost`: the data that did not arrive.
pub(super) fn missing(record: &Record, lost: Lost) -> Option<Missing> {
    let facts = &record.facts;
    let (closer, talk) = match (facts.first_fin, facts.before_fin) {
        (Some(first), Some(talk)) => (first, talk),
        _ if record.outcome == Outcome::Aborted && record.by != By::Lastack => (record.by, facts.talk),
        _ => return None,
    };
    let client = opener(record);
    let server = if client == By::Program { By::Remote } else { By::Program };
    let one_way = record.proto == Proto::Udp || ONE_WAY_PORTS.contains(&record.remote.port());
    // Data that the client did not take, or that could not be delivered, is another reason.
    if !facts.established || one_way || lost.total() > 0 {
        return None;
    }
    let missing = |what| Some(Missing { what, closer, server, idle: talk.idle });
    let answer = || missing(What::Answer { bytes: talk.run, request: talk.message == Message::Request });
    let frame = (facts.tls || facts.http2) && talk.run <= FRAME;
    let rest = |bytes, lacks| missing(What::Rest { bytes, lacks: Some(lacks) });
    if closer == server {
        let farewell = talk.run <= FAREWELL && others_data(record, client) > 0;
        return match talk.message {
            Message::Cut { bytes, lacks } if talk.last == Some(server) => rest(bytes, lacks),
            _ if talk.last == Some(client) && !frame && !farewell => answer(),
            _ => None,
        };
    }
    let (open, answered_late) = match server {
        By::Remote => (!facts.fin.remote, facts.late_from_remote > 0),
        _ => (!facts.fin.program, facts.late_from_program > 0),
    };
    // After a half-close the answer follows.
    if answered_late && record.outcome == Outcome::Orderly {
        return None;
    }
    let open = open && record.outcome == Outcome::Open;
    match (talk.last, talk.message) {
        (Some(last), _) if last == client && !frame => (talk.idle >= WAITED).then(answer)?,
        (Some(_), Message::Cut { bytes, lacks }) => (talk.idle >= WAITED).then(|| rest(bytes, lacks))?,
        (Some(_), Message::Whole) => None,
        // A server that waits for the next request closes when the client does.
        (Some(_), _) if open => {
            (talk.idle >= IDLE).then(|| missing(What::Rest { bytes: talk.run, lacks: None }))?
        }
        (None, _) if open => (talk.idle >= WAITED).then(|| missing(What::Everything))?,
        _ => None,
    }
}

impl Missing {
    /// How much it matters.
    pub(super) fn severity(self) -> Severity {
        match self.what {
            // The server itself closed before it had answered.
            What::Answer { request: true, .. } | What::Rest { .. } if self.closer == self.server => {
                Severity::Harmful
            }
            _ => Severity::Suspicious,
        }
    }

    /// Whether an answer began, and the server itself ended it.
    pub(super) fn is_truncation(self) -> bool {
        matches!(self.what, What::Rest { .. }) && self.closer == self.server
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |by| if by == By::Program { "the program" } else { "the remote" };
        let (closer, server, idle) = (name(self.closer), name(self.server), Elapsed(self.idle));
        let closed_by_server = self.closer == self.server;
        match self.what {
            What::Answer { bytes, .. } if closed_by_server => {
                write!(f, "{server} closed without an answer to the last {}", Size(bytes))
            }
            What::Answer { bytes, .. } => {
                write!(
                    f,
                    "{server} had not answered the last {} for {idle} when {closer} closed",
                    Size(bytes)
                )
            }
            What::Rest { bytes, lacks: Some(lacks) } if closed_by_server => {
                let bytes = Size(bytes);
                match lacks {
                    Lacks::Head => write!(f, "{server} closed within the head of its answer, after {bytes}"),
                    Lacks::Length(size) => {
                        write!(f, "{server} closed within its answer, after {bytes} of {}", Size(size))
                    }
                    Lacks::LastChunk => {
                        write!(
                            f,
                            "{server} closed within its answer, after {bytes} and before the last chunk"
                        )
                    }
                }
            }
            What::Rest { bytes, lacks: Some(lacks) } => {
                write!(f, "{server} had sent {}", Size(bytes))?;
                match lacks {
                    Lacks::Head => write!(f, " of the head of an answer")?,
                    Lacks::Length(size) => write!(f, " of an answer of {}", Size(size))?,
                    Lacks::LastChunk => write!(f, " of an answer without the last chunk")?,
                }
                write!(f, ", and nothing more for {idle} when {closer} closed")
            }
            What::Rest { .. } => {
                write!(f, "{server} had sent nothing for {idle} when {closer} closed, and did not close")
            }
            What::Everything => {
                write!(f, "{server} had sent nothing in {idle} when {closer} closed, and did not close")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lastack_causes::Cause;

    use super::super::record::{Facts, Fins, Talk, tests};
    use super::*;

    const SECONDS: Duration = Duration::from_secs(2);

    /// A connection that `closer` closed first, with this data before.
    fn closed(closer: By, last: Option<By>, idle: Duration, run: u64, message: Message) -> Record {
        let facts = Facts {
            established: true,
            fin: Fins { program: true, remote: true },
            first_fin: Some(closer),
            before_fin: Some(Talk { last, idle, run, message }),
            ..Facts::default()
        };
        Record { by: closer, facts, ..tests::orderly() }
    }

    /// The same, of which the other side has not closed.
    fn half(record: &Record) -> Record {
        let closer = record.facts.first_fin.unwrap();
        let fin = Fins { program: closer == By::Program, remote: closer == By::Remote };
        Record {
            outcome: Outcome::Open,
            by: By::Nobody,
            facts: Facts { fin, ..record.facts.clone() },
            ..record.clone()
        }
    }

    fn text(record: &Record) -> Option<String> {
        missing(record, Lost::default()).map(|missing| missing.to_string())
    }

    fn judged(record: &Record) -> (&'static str, &'static str) {
        let verdict = record.verdict();
        (verdict.cause.name(), verdict.severity.name())
    }

    #[test]
    fn a_client_that_closed_after_a_wait_had_no_answer() {
        let waited = closed(By::Program, Some(By::Program), SECONDS, 78, Message::Request);
        for record in [waited.clone(), half(&waited)] {
            let expected = "the remote had not answered the last 78 bytes for 2.0 s when the program closed";
            assert_eq!(text(&record).as_deref(), Some(expected));
            assert_eq!(judged(&record), ("no-answer", "suspicious"));
        }
        let mut inward = waited;
        (inward.context.inward, inward.by) = (true, By::Remote);
        inward.facts.first_fin = Some(By::Remote);
        inward.facts.before_fin = inward.facts.before_fin.map(|talk| Talk { last: Some(By::Remote), ..talk });
        assert!(text(&inward).unwrap().starts_with("the program had not answered the last 78 bytes"));
    }

    #[test]
    fn a_last_word_is_not_a_question() {
        let quick = closed(By::Program, Some(By::Program), Duration::from_millis(3), 5, Message::Unknown);
        assert_eq!(judged(&quick), ("orderly", "benign"));
        let mut frame = closed(By::Program, Some(By::Program), SECONDS, 35, Message::Unknown);
        frame.facts.tls = true;
        assert_eq!(judged(&frame), ("orderly", "benign"));
        // The server answers QUIT with its close.
        let quit = closed(By::Remote, Some(By::Program), SECONDS, 6, Message::Unknown);
        assert_eq!(judged(&quit), ("orderly", "benign"));
        let mut log = closed(By::Program, Some(By::Program), SECONDS, 700, Message::Unknown);
        log.remote.set_port(514);
        assert_eq!(judged(&log), ("orderly", "benign"));
    }

    #[test]
    fn an_answer_after_a_half_close_is_an_answer() {
        let mut record = closed(By::Program, Some(By::Program), SECONDS, 700, Message::Unknown);
        record.facts.late_from_remote = 3000;
        assert_eq!(judged(&record), ("orderly", "benign"));
    }

    #[test]
    fn an_idle_connection_is_not_alarming() {
        let idle = closed(By::Program, Some(By::Remote), SECONDS * 30, 1200, Message::Unknown);
        assert_eq!(judged(&idle), ("orderly", "benign"));
        let whole = closed(By::Program, Some(By::Remote), SECONDS * 30, 1200, Message::Whole);
        assert_eq!(judged(&half(&whole)), ("open", "benign"));
        let spare = closed(By::Program, None, SECONDS, 0, Message::Unknown);
        assert_eq!(judged(&spare), ("orderly", "benign"));
    }

    #[test]
    fn a_server_that_stops_is_noticed() {
        let cut = closed(
            By::Program,
            Some(By::Remote),
            SECONDS,
            20_000,
            Message::Cut { bytes: 20_000, lacks: Lacks::Length(100_000) },
        );
        assert_eq!(judged(&cut), ("no-answer", "suspicious"));
        let unknown = closed(By::Program, Some(By::Remote), SECONDS, 20_000, Message::Unknown);
        assert_eq!(judged(&half(&unknown)), ("no-answer", "suspicious"));
        let mute = closed(By::Program, None, SECONDS, 0, Message::Unknown);
        assert_eq!(
            text(&half(&mute)).as_deref(),
            Some("the remote had sent nothing in 2.0 s when the program closed, and did not close")
        );
    }

    #[test]
    fn a_server_that_closes_before_it_has_answered_lost_the_request() {
        let empty = closed(By::Remote, Some(By::Program), Duration::ZERO, 78, Message::Request);
        assert_eq!(judged(&empty), ("no-answer", "harmful"));
        assert_eq!(text(&empty).as_deref(), Some("the remote closed without an answer to the last 78 bytes"));
        let short = closed(
            By::Remote,
            Some(By::Remote),
            Duration::ZERO,
            20_000,
            Message::Cut { bytes: 20_000, lacks: Lacks::Length(100_000) },
        );
        assert_eq!(judged(&short), ("orderly", "harmful"));
        assert_eq!(
            text(&short).as_deref(),
            Some("the remote closed within its answer, after 19.5 KiB of 97.7 KiB")
        );
    }

    #[test]
    fn a_client_of_tls_that_gives_up_had_no_answer() {
        let given_up = |run, idle| {
            let mut record = closed(By::Program, Some(By::Program), idle, run, Message::Unknown);
            (record.outcome, record.by, record.facts.tls) = (Outcome::Aborted, By::Program, true);
            (record.facts.fin.remote, record.facts.late_alert) = (false, true);
            (record.facts.late_from_remote, record.lost.unread) = (24, 24);
            judged(&record)
        };
        assert_eq!(given_up(517, SECONDS), ("no-answer", "suspicious"));
        assert_eq!(given_up(24, SECONDS), ("close-notify-race", "benign"), "its last word is an alert");
        assert_eq!(given_up(517, Duration::from_millis(3)), ("close-notify-race", "benign"));
    }

    #[test]
    fn a_late_answer_and_a_reset_are_the_mechanism() {
        let mut record = closed(By::Program, Some(By::Program), SECONDS, 78, Message::Request);
        record.outcome = Outcome::Aborted;
        record.facts.fin.remote = false;
        (record.facts.late_from_remote, record.lost.unread) = (4000, 4000);
        let verdict = record.verdict();
        assert_eq!((verdict.cause, verdict.also), (Cause::NoAnswer, Some(Cause::ClientCancelled)));
    }
}
