//! The result of a script.

use super::{Kind, Passed, Problem};
use lastack_engine::Instant;
use lastack_link::{Direction, Sink};
use std::time::Duration;

/// The verdict on a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stack did what the script says.
    Passed,
    /// It did not, or the text is not a valid script.
    Failed(Problem),
    /// The script uses something that is not supported here.
    Skipped(Problem),
}

/// The verdict on a script, and the log of its events.
#[derive(Clone, Debug)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// A line for each event.
    pub log: Vec<String>,
    passed: Vec<Passed>,
}

impl Report {
    pub(super) fn new(result: Result<(), Problem>, log: Vec<String>, passed: Vec<Passed>) -> Self {
        let verdict = match result {
            Ok(()) => Verdict::Passed,
            Err(problem) if problem.kind == Kind::Unsupported => Verdict::Skipped(problem),
            Err(problem) => Verdict::Failed(problem),
        };
        Self { verdict, log, passed }
    }

    /// Writes every packet to a capture, with all times shifted by `offset`; the first one is commented with `title`.
    pub fn capture(&self, sink: &mut impl Sink, offset: Duration, title: &str) {
        for (index, packet) in self.passed.iter().enumerate() {
            let direction = if packet.outbound { Direction::Sent } else { Direction::Received };
            let title = (index == 0).then(|| title.to_owned());
            let comments: Vec<String> = title.into_iter().chain(packet.said.clone()).collect();
            let comment = Some(comments.join("; ")).filter(|comment| !comment.is_empty());
            sink.record(packet.at + offset, direction, &packet.bytes, comment.as_deref());
        }
    }

    /// When the last packet passed.
    pub fn end(&self) -> Duration {
        self.passed.last().map_or(Instant::ZERO, |packet| packet.at).elapsed()
    }
}
