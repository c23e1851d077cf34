//! The order of a reset and of what the other side had sent: only what had arrived can be the reason of a reset.

use lastack_causes::Cause;

use super::judge::{Verdict, opener};
use super::record::{By, Record};
use super::sentence::Size;

/// What had reached the side that sent a reset when it sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The last data of the other side, or any that was not answered.
    pub data: Reached,
    /// Its FIN.
    pub fin: Reached,
}

/// Whether something arrived before an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reached {
    /// It did.
    Yes,
    /// It did not: it was sent later, or crossed the event on its way.
    No,
    /// Either may have come first.
    #[default]
    Unknown,
}

/// What is known about the order, of an abort by the side that was asked.
pub(super) fn note(record: &Record, verdict: Verdict) -> Option<String> {
    let client = opener(record);
    let aborted = verdict.cause == Cause::Abort && matches!(record.by, By::Program | By::Remote);
    if !aborted || record.by == client {
        return None;
    }
    let (server, client_name) =
        if client == By::Program { ("the remote", "the program") } else { ("the program", "the remote") };
    let talk = record.facts.talk;
    match (talk.last, record.facts.order.data) {
        (None, _) => Some(format!("the reset came before {client_name} had sent data")),
        (Some(last), Reached::No) if last == client => {
            Some(format!("{server} had sent the reset before it could have the last {}", Size(talk.run)))
        }
        (Some(last), Reached::Unknown) if last == client => Some(format!(
            "whether {server} had the last {} when it sent the reset is not known",
            Size(talk.run)
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Facts, Outcome, Talk, tests};
    use super::*;

    fn reset(last: Option<By>, data: Reached) -> Record {
        let facts = Facts {
            established: true,
            talk: Talk { last, run: 18, ..Talk::default() },
            order: Order { data, fin: Reached::No },
            ..Facts::default()
        };
        let mut record = Record { outcome: Outcome::Reset, by: By::Remote, facts, ..tests::orderly() };
        record.note_what_is_known();
        record
    }

    #[test]
    fn only_data_that_had_arrived_is_called_unread() {
        let cause = |data| reset(Some(By::Program), data).verdict().cause.name();
        assert_eq!(cause(Reached::Yes), "close-unread");
        assert_eq!((cause(Reached::No), cause(Reached::Unknown)), ("abort", "abort"));
    }

    #[test]
    fn the_order_is_in_the_note() {
        let note = |last, data| reset(last, data).note;
        let no = note(Some(By::Program), Reached::No).unwrap();
        assert_eq!(no, "the remote had sent the reset before it could have the last 18 bytes");
        let unknown = note(Some(By::Program), Reached::Unknown).unwrap();
        assert_eq!(unknown, "whether the remote had the last 18 bytes when it sent the reset is not known");
        assert_eq!(note(None, Reached::No).unwrap(), "the reset came before the program had sent data");
        assert_eq!(note(Some(By::Program), Reached::Yes), None);
        assert_eq!(note(Some(By::Remote), Reached::No), None);
    }
}
