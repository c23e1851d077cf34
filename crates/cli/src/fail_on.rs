//! The condition of `--fail-on`, under which the exit status is 1.

use std::str::FromStr;

use lastack_causes::{Cause, Severity};

/// How a connection must have ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FailOn {
    severity: Option<Severity>,
    causes: Vec<Cause>,
    confidence: f32,
}

impl FailOn {
    /// Whether an end meets the condition: at least as severe, or of one of the causes.
    pub fn is_met(&self, cause: Cause, severity: Severity, confidence: f32) -> bool {
        let severe = self.severity.is_some_and(|wanted| severity >= wanted);
        confidence >= self.confidence && (severe || self.causes.contains(&cause))
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (words, confidence) = match text.rsplit_once(':') {
            Some((words, number)) => (words, confidence(number)?),
            None => (text, 0.0),
        };
        let mut this = Self { severity: None, causes: Vec::new(), confidence };
        for word in words.split(',').map(str::trim) {
            let severity = Severity::ALL.into_iter().find(|severity| severity.name() == word);
            match severity {
                Some(severity) => {
                    this.severity = Some(this.severity.map_or(severity, |known| known.min(severity)));
                }
                None => this.causes.push(word.parse().map_err(|_| unknown(word))?),
            }
        }
        Ok(this)
    }
}

fn confidence(number: &str) -> Result<f32, String> {
    let parsed = number.parse().ok().filter(|confidence| (0.0..=1.0).contains(confidence));
    parsed.ok_or_else(|| format!("{number:?} is not a confidence: write a number from 0 to 1, such as :0.8"))
}

fn unknown(word: &str) -> String {
    let names: Vec<&str> = Cause::all().map(Cause::name).collect();
    format!(
        "{word:?} is neither a severity nor a cause. Severities: harmful, suspicious, benign. Causes: {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_and_causes_are_parsed() {
        let parse = |text: &str| text.parse::<FailOn>();
        let expected = FailOn { severity: Some(Severity::Harmful), causes: vec![], confidence: 0.0 };
        assert_eq!(parse("harmful"), Ok(expected));
        let expected =
            FailOn { severity: None, causes: vec![Cause::Refused, Cause::CloseUnread], confidence: 0.8 };
        assert_eq!(parse("refused,C06:0.8"), Ok(expected));
        let mixed = parse("harmful,suspicious, refused").unwrap();
        assert_eq!((mixed.severity, mixed.causes), (Some(Severity::Suspicious), vec![Cause::Refused]));
        for bad in ["", "bad", "refused:2", "refused:x", "refused:NaN", "refused,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_word_is_an_error_that_lists_the_known_ones() {
        let error = "refuse".parse::<FailOn>().unwrap_err();
        assert!(error.starts_with("\"refuse\" is neither"), "{error}");
        for known in ["suspicious", "refused", "close-unread", "icmp-prohibited"] {
            assert!(error.contains(known), "{known}: {error}");
        }
    }

    #[test]
    fn a_condition_is_met_by_severity_or_cause() {
        let met = |text: &str, cause: Cause, confidence| {
            text.parse::<FailOn>().unwrap().is_met(cause, cause.severity(), confidence)
        };
        assert!(met("harmful", Cause::Refused, 0.1) && !met("harmful", Cause::Orderly, 1.0));
        assert!(met("suspicious", Cause::Refused, 0.1));
        assert!(met("close-unread,refused:0.5", Cause::Refused, 0.5));
        assert!(!met("refused:0.5", Cause::Refused, 0.4) && !met("close-unread", Cause::Refused, 1.0));
    }
}
