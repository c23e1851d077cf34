//! The queries from one socket of the program to one name server, and their results: one record.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;

use super::message::{Asked, rcode_name};
use crate::flow::FlowAccount;
use crate::host::Failure;
use crate::report::{Outcome as End, Proto, Question, Record};
use lastack_causes::{Cause, Severity};

/// Max outcomes that a record lists.
const MAX_OUTCOMES: usize = 16;
/// The hint for a name server that does not work.
const SERVER_HINT: &str = "--dns ADDRESS (-D) asks another name server: name one that answers";

/// Such a conversation.
#[derive(Debug)]
pub struct Conversation {
    /// Its traffic and times.
    pub account: FlowAccount,
    tcp: bool,
    outcomes: RefCell<Vec<Outcome>>,
    more: Cell<usize>,
}

/// The outcome of a query.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The question; `None`: not readable.
    pub asked: Option<Asked>,
    /// The server that answered, or was queried last.
    pub server: SocketAddr,
    /// The number of queries to servers.
    pub tries: u32,
    /// The result.
    pub result: Answer,
}

/// The result of a query.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An answer with this response code.
    Code(u8),
    /// No server can be reached.
    Failed(Failure),
    /// No server answered within the timeout.
    Silence,
    /// The program did not wait for the answer.
    NotWaitedFor,
    /// The server closed its TCP connection without an answer.
    Closed,
    /// The server reset its TCP connection.
    Reset,
}

impl Conversation {
    /// Between these two.
    pub fn new(program: SocketAddr, asked: SocketAddr) -> Self {
        let account = FlowAccount::new(program, asked);
        Self { account, tcp: false, outcomes: RefCell::default(), more: Cell::new(0) }
    }

    /// The same, over TCP.
    pub fn over_tcp(program: SocketAddr, asked: SocketAddr) -> Self {
        Self { tcp: true, ..Self::new(program, asked) }
    }

    /// A query is complete.
    pub fn add(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.borrow_mut();
        if outcomes.len() < MAX_OUTCOMES {
            outcomes.push(outcome);
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    /// Its record.
    pub fn record(&self) -> Record {
        let outcomes = self.outcomes.borrow();
        for outcome in outcomes.iter() {
            if let Answer::Failed(failure) = &outcome.result {
                self.account.failed(failure);
            }
        }
        let mut record = self.account.record();
        if self.tcp {
            record.proto = Proto::Tcp;
        }
        record.note = None;
        record.context.asked = outcomes.last().map(|outcome| outcome.server);
        record.context.questions = outcomes.iter().filter_map(Outcome::question).collect();
        if outcomes.iter().any(|outcome| outcome.is_worth_a_note()) {
            record.note = Some(self.note(&outcomes));
        } else if self.more.get() > 0 {
            record.note = Some(format!("and {} more queries", self.more.get()));
        }
        let verdict = record.verdict();
        if self.tcp && verdict.severity == Severity::Benign {
            record.outcome = End::Orderly;
        }
        // Another server changes nothing about what the run does itself.
        let ours = record.context.denied.is_some() || !record.context.injected.is_empty();
        if verdict.severity != Severity::Benign && verdict.cause != Cause::NameNotFound && !ours {
            record.hint = Some(SERVER_HINT.to_owned());
        }
        record
    }

    /// `a.test A, AAAA: NOERROR from 192.0.2.53`, one part for each name and outcome.
    fn note(&self, outcomes: &[Outcome]) -> String {
        let mut parts: Vec<(String, Vec<String>, String)> = Vec::new();
        for outcome in outcomes {
            let (name, kind) = match &outcome.asked {
                Some(asked) => (asked.name.clone(), asked.kind.clone()),
                None => ("a message that is not a query".to_owned(), String::new()),
            };
            let said = outcome.to_string();
            match parts.iter_mut().find(|part| part.0 == name && part.2 == said) {
                Some(part) => part.1.push(kind),
                None => parts.push((name, vec![kind], said)),
            }
        }
        let mut note = String::new();
        for (name, kinds, said) in parts {
            let between = if note.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _written = write!(note, "{between}{name} {}: {said}", kinds.join(", "));
        }
        if self.more.get() > 0 {
            let _written = write!(note, "; and {} more queries", self.more.get());
        }
        note
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.server.ip();
        match &self.result {
            Answer::Code(code) => write!(f, "{} from {server}", rcode_name(*code)),
            Answer::Failed(failure) => write!(f, "{} was asked for it, {failure}", self.server),
            Answer::Silence => {
                let plural = if self.tries == 1 { "" } else { "s" };
                write!(f, "no answer from {server} (asked {} time{plural})", self.tries)
            }
            Answer::NotWaitedFor => write!(f, "the answer of {server} was not waited for"),
            Answer::Closed => write!(f, "{server} closed the connection without an answer"),
            Answer::Reset => write!(f, "{server} reset the connection"),
        }
    }
}

impl Outcome {
    /// An answer is listed with its code; other results need a note.
    fn is_worth_a_note(&self) -> bool {
        !matches!(self.result, Answer::Code(_) | Answer::Failed(_))
    }

    /// The question as listed in the report; `None` if the program did not wait, which is no evidence about the server.
    fn question(&self) -> Option<Question> {
        let rcode = match &self.result {
            Answer::Code(code) => Some(rcode_name(*code)),
            Answer::Failed(failure) => Some(failure.errno_name()),
            Answer::Silence | Answer::Closed => None,
            Answer::Reset => Some("ECONNRESET".to_owned()),
            Answer::NotWaitedFor => return None,
        };
        let asked = self.asked.as_ref();
        Some(Question {
            name: asked.map_or_else(String::new, |asked| asked.name.clone()),
            kind: asked.map_or_else(String::new, |asked| asked.kind.clone()),
            rcode,
            times: self.tries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, kind: &str, result: Answer) -> Outcome {
        let asked = Some(Asked { name: name.to_owned(), kind: kind.to_owned() });
        Outcome { asked, server: "192.0.2.53:53".parse().unwrap(), tries: 2, result }
    }

    fn record(outcomes: &[Outcome]) -> Record {
        let conversation =
            Conversation::new("10.0.2.100:5000".parse().unwrap(), "10.0.2.3:53".parse().unwrap());
        outcomes.iter().for_each(|outcome| conversation.add(outcome.clone()));
        conversation.record()
    }

    #[test]
    fn an_ordinary_answer_needs_no_note() {
        let fine =
            record(&[outcome("a.test", "A", Answer::Code(0)), outcome("a.test", "AAAA", Answer::Code(0))]);
        assert_eq!(
            (fine.verdict().cause, fine.note.as_deref(), fine.hint.as_deref()),
            (Cause::Answered, None, None)
        );
        assert_eq!(fine.context.asked.unwrap().to_string(), "192.0.2.53:53");
        let [first, second] = &fine.context.questions[..] else { panic!("{fine:?}") };
        assert_eq!((&first.name[..], &first.kind[..], &second.kind[..]), ("a.test", "A", "AAAA"));
        assert_eq!((first.rcode.as_deref(), first.times), (Some("NOERROR"), 2));
    }

    #[test]
    fn the_worst_outcome_is_the_cause_and_names_the_cure() {
        let silent =
            record(&[outcome("a.test", "A", Answer::Code(3)), outcome("a.test", "AAAA", Answer::Silence)]);
        assert_eq!(
            (silent.verdict().cause, silent.hint.as_deref()),
            (Cause::NameServerSilent, Some(SERVER_HINT))
        );
        let note = silent.note.unwrap();
        assert!(note.contains("a.test AAAA: no answer from 192.0.2.53 (asked 2 times)"), "{note}");
        let cause = |answer| record(&[outcome("a.test", "A", answer)]).verdict().cause;
        assert_eq!(cause(Answer::Code(3)), Cause::NameNotFound);
        assert_eq!(cause(Answer::Code(2)), Cause::NameServerFailed);
        for (answer, expected, told) in [
            (Answer::Closed, Cause::NameServerSilent, "closed the connection without an answer"),
            (Answer::Reset, Cause::NameServerFailed, "reset the connection"),
        ] {
            let record = record(&[outcome("a.test", "A", answer)]);
            assert_eq!(record.verdict().cause, expected);
            assert!(record.note.unwrap().ends_with(told));
        }
        let failure = Failure::local(&std::io::Error::from_raw_os_error(libc::ENETUNREACH));
        let failed = record(&[outcome("a.test", "A", Answer::Failed(failure))]);
        assert_eq!((failed.outcome, failed.hint.as_deref()), (End::Unreachable, Some(SERVER_HINT)));
    }

    #[test]
    fn questions_for_one_name_are_one_part_of_the_note() {
        let lost = [outcome("a.test", "A", Answer::Silence), outcome("a.test", "AAAA", Answer::Silence)];
        let expected = "a.test A, AAAA: no answer from 192.0.2.53 (asked 2 times)";
        assert_eq!(record(&lost).note.as_deref(), Some(expected));
    }

    #[test]
    fn a_conversation_of_many_questions_stays_short() {
        let many: Vec<Outcome> =
            (0..MAX_OUTCOMES + 5).map(|i| outcome(&format!("{i}.test"), "A", Answer::Code(0))).collect();
        let record = record(&many);
        assert!(record.note.unwrap().ends_with("and 5 more queries"));
        assert_eq!(record.context.questions.len(), MAX_OUTCOMES);
    }
}
