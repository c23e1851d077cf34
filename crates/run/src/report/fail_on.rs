//! `--fail-on`: which ends of connections make a run fail, for CI.

use std::str::FromStr;

use lastack_causes::{Cause, Severity};

use super::record::{Outcome, Record};
use super::summary::outcome;

/// A condition of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Ends of at least this severity.
    Severity(Severity),
    /// Ends with this cause.
    Cause(Cause),
    /// Ends with this outcome.
    Outcome(Outcome),
}

impl FailOn {
    /// Whether this connection makes the run fail.
    pub fn applies(self, record: &Record) -> bool {
        let verdict = record.verdict();
        match self {
            Self::Severity(severity) => verdict.severity >= severity,
            Self::Cause(cause) => verdict.cause == cause || verdict.also == Some(cause),
            // A benign end is no failure, whatever its outcome.
            Self::Outcome(outcome) => record.outcome == outcome && verdict.severity > Severity::Benign,
        }
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "harmful" => return Ok(Self::Severity(Severity::Harmful)),
            "suspicious" => return Ok(Self::Severity(Severity::Suspicious)),
            _ => {}
        }
        if let Some(outcome) = outcome(word) {
            return Ok(Self::Outcome(outcome));
        }
        word.parse().map(Self::Cause).map_err(|_| {
            format!(
                "{word:?} is neither harmful nor suspicious, nor a cause such as refused, silent-drop or close-unread, nor \
                 one of {}; docs/report.md lists all",
                Outcome::ALL.map(Outcome::word).join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests;
    use super::*;

    #[test]
    fn severities_causes_and_outcomes_are_conditions() {
        let on = |word: &str| word.parse::<FailOn>().unwrap();
        let bad = tests::unreachable();
        for word in ["harmful", "suspicious", "icmp-host-unreachable", "I03", "unreachable"] {
            assert!(on(word).applies(&bad) && !on(word).applies(&tests::orderly()), "{word}");
        }
        assert!(!on("refused").applies(&bad));
        assert!("lost".parse::<FailOn>().unwrap_err().contains("refused"));
    }
}
