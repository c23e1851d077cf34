//! Where a report goes, and which of it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::record::Record;
use super::summary::Summary;

/// Most lines kept for the end of the run. A file has them all.
const MOST_LINES: usize = 10_000;

/// What is reported, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where to.
    pub to: Destination,
    /// JSON lines.
    pub json: bool,
    /// Connections that ended in order too.
    pub all: bool,
    /// The summary only.
    pub summary_only: bool,
}

/// Where a report goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Nowhere,
    /// Standard error, when the program has ended: until then it is the program's.
    #[default]
    StandardError,
    /// A file, line by line as it happens.
    File(PathBuf),
}

/// Takes in records, and writes the report.
#[derive(Debug)]
pub struct Reporter {
    settings: Settings,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    summary: Summary,
    kept: Vec<String>,
    more: u64,
    file: Option<File>,
    /// The file could not be written to.
    failed: Option<io::Error>,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u8,
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

pub(super) fn json(kind: &str, body: &impl Serialize) -> String {
    // Our own types: text keys, no maps that could fail.
    serde_json::to_string(&Line { v: 1, r#type: kind, body })
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

impl Reporter {
    /// Opens the file, if there is one to open: better now than when the program has run.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let file = match &settings.to {
            Destination::File(path) => Some(File::create(path).with_context(|| {
                format!("cannot write the report to {}: choose another place for -o", path.display())
            })?),
            _ => None,
        };
        let state = State { summary: Summary::default(), kept: Vec::new(), more: 0, file, failed: None };
        Ok(Self { settings, state: RefCell::new(state) })
    }

    /// A connection or a flow is over.
    pub fn record(&self, record: &Record) {
        let state = &mut *self.state.borrow_mut();
        state.summary.add(record);
        let Settings { to, json: as_json, all, summary_only } = &self.settings;
        // JSON is for programs, which filter by themselves.
        let wanted = *all || *as_json || !record.cause.is_fine() || record.lost.total() > 0;
        if *to == Destination::Nowhere || *summary_only || !wanted {
            return;
        }
        let line = if *as_json { record.json() } else { record.to_string() };
        state.put(line);
    }

    /// Changes what the summary says.
    pub fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.state.borrow_mut().summary);
    }

    /// Something that the program should have and cannot be given. Said once, however often it is noticed.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let warnings = &mut self.state.borrow_mut().summary.warnings;
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Writes what is left. Errors are about the file.
    pub fn finish(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        if self.settings.to != Destination::Nowhere {
            let lines = if self.settings.json {
                vec![json("summary", &state.summary)]
            } else {
                state.closing_lines()
            };
            lines.iter().for_each(|line| state.put(line.clone()));
            if state.failed.is_some() {
                // What the file could not take in is shown at least in short.
                state.kept.extend(lines);
            }
            state.print(self.settings.json);
        }
        state.failed.take().map_or(Ok(()), Err)
    }
}

impl State {
    fn put(&mut self, line: String) {
        match &mut self.file {
            Some(file) => {
                let line = anstream::adapter::strip_str(&line).to_string();
                if let Err(error) = writeln!(file, "{line}") {
                    self.failed.get_or_insert(error);
                }
            }
            None if self.kept.len() < MOST_LINES => self.kept.push(line),
            None => self.more += 1,
        }
    }

    fn closing_lines(&self) -> Vec<String> {
        let warnings = self.summary.warnings.iter().map(|warning| format!("lastack: warning: {warning}"));
        warnings.chain([format!("lastack: {}", self.summary)]).collect()
    }

    /// What was kept, to standard error. If nobody reads that, nobody is to be told.
    fn print(&mut self, json: bool) {
        let mut out = anstream::stderr().lock();
        for line in self.kept.drain(..) {
            let _unread = writeln!(out, "{line}");
        }
        if self.more > 0 && !json {
            let _unread =
                writeln!(out, "lastack: {} more lines are left out: -o FILE has them all", self.more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Lost, tests};
    use super::*;

    fn written(settings: Settings, records: &[Record]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let to = Destination::File(file.path().to_owned());
        let reporter = Reporter::new(Settings { to, ..settings }).unwrap();
        records.iter().for_each(|record| reporter.record(record));
        reporter.warn("no ping");
        reporter.warn("no ping");
        reporter.finish().unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn what_ended_well_is_told_only_when_asked_for() {
        let records = [tests::orderly(), tests::unreachable()];
        let brief = written(Settings::default(), &records);
        assert_eq!(brief.lines().count(), 3, "{brief}");
        assert!(brief.starts_with("tcp 10.0.2.100:40000 > 192.0.2.7:80: unreachable"), "{brief}");
        assert!(brief.contains("\nlastack: warning: no ping\nlastack: 2 TCP connections"), "{brief}");
        let all = written(Settings { all: true, ..Settings::default() }, &records);
        assert_eq!(all.lines().count(), 4, "{all}");
        let summary = written(Settings { summary_only: true, ..Settings::default() }, &records);
        assert_eq!(summary.lines().count(), 2, "{summary}");
    }

    #[test]
    fn an_orderly_end_that_lost_octets_is_told() {
        let record = Record { lost: Lost { unacked: 1, ..Lost::default() }, ..tests::orderly() };
        assert_eq!(written(Settings::default(), &[record]).lines().count(), 3);
    }

    #[test]
    fn json_is_a_line_each() {
        let text = written(Settings { json: true, ..Settings::default() }, &[tests::orderly()]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(text.starts_with(r#"{"v":1,"type":"connection","proto":"tcp""#), "{text}");
        assert_eq!((&lines[1]["type"], &lines[1]["tcp"]["orderly"]), (&"summary".into(), &1.into()));
        assert_eq!(lines[1]["warnings"][0], "no ping");
    }

    #[test]
    fn an_unwritable_file_is_an_error_at_once() {
        let to = Destination::File("/nowhere/report".into());
        let error = Reporter::new(Settings { to, ..Settings::default() }).unwrap_err();
        assert!(error.to_string().contains("cannot write the report to /nowhere/report"));
    }
}
