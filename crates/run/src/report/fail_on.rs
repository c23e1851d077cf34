//! `--fail-on`: which ends of connections make a run fail, for CI.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use lastack_causes::{Cause, Severity};
use serde::Serialize;

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
    /// Ends with this cause, or with this outcome of the same name.
    CauseOrOutcome(Cause, Outcome),
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
            Self::CauseOrOutcome(cause, outcome) => {
                Self::Cause(cause).applies(record) || Self::Outcome(outcome).applies(record)
            }
        }
    }
}

/// The connections that a condition applied to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// Their number.
    pub matched: u64,
    /// Cause and destination of the first ones, and how many there are of each.
    pub connections: BTreeMap<String, u64>,
}

/// Max pairs of cause and destination that are named.
const MAX_NAMED: usize = 8;

impl Failures {
    pub(super) fn add(&mut self, record: &Record) {
        self.matched += 1;
        let name = format!("{} {}", record.verdict().cause, record.whither());
        if self.connections.len() < MAX_NAMED || self.connections.contains_key(&name) {
            *self.connections.entry(name).or_default() += 1;
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.matched == 1 { "" } else { "s" };
        write!(f, "{} connection{plural} matched --fail-on:", self.matched)?;
        for (number, (name, count)) in self.connections.iter().enumerate() {
            f.write_str(if number > 0 { ", " } else { " " })?;
            if *count > 1 {
                write!(f, "{count} x ")?;
            }
            f.write_str(name)?;
        }
        match self.matched - self.connections.values().sum::<u64>() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        // Codes are in capitals, names are not: either may be written as the other.
        let (given, lower) = (word, word.to_ascii_lowercase());
        let word = lower.as_str();
        match word {
            "harmful" => return Ok(Self::Severity(Severity::Harmful)),
            "suspicious" => return Ok(Self::Severity(Severity::Suspicious)),
            _ => {}
        }
        let cause = word.parse().or_else(|_| word.to_ascii_uppercase().parse()).ok();
        match (cause, outcome(word)) {
            (Some(cause), Some(outcome)) => Ok(Self::CauseOrOutcome(cause, outcome)),
            (Some(cause), None) => Ok(Self::Cause(cause)),
            (None, Some(outcome)) => Ok(Self::Outcome(outcome)),
            (None, None) => Err(format!(
                "{given:?} is neither harmful nor suspicious, nor a cause such as refused, silent-drop or close-unread, nor \
                 one of {}; docs/report.md lists all",
                Outcome::ALL.map(Outcome::word).join(", ")
            )),
        }
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
        for word in ["harmful", "suspicious", "icmp-host-unreachable", "I03", "i03", "unreachable", "Harmful"]
        {
            assert!(on(word).applies(&bad) && !on(word).applies(&tests::orderly()), "{word}");
        }
        assert!(!on("refused").applies(&bad));
        for word in ["orderly", "C00", "Orderly"] {
            assert!(on(word).applies(&tests::orderly()) && !on(word).applies(&bad), "{word}");
        }
        assert!("lost".parse::<FailOn>().unwrap_err().contains("refused"));
    }
}
