//! The destination of a report, and its selection of lines.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::fail_on::{FailOn, Failures};
use super::group::Groups;
use super::json::line;
use super::record::{Began, Proto, Record};
use super::sentence::Brief;
use super::summary::Summary;
use crate::pipe::Output;

/// Max lines kept for the end of the run. A file has them all.
const MAX_LINES: usize = 10_000;
/// More lines than these are grouped, unless every connection is requested.
const MAX_UNGROUPED: usize = 20;

/// Settings of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The destination.
    pub to: Destination,
    /// Write JSON lines.
    pub json: bool,
    /// The level of detail.
    pub detail: Detail,
    /// In JSON, write a line for each connection when it is opened.
    pub open: bool,
    /// Which ends make the run fail.
    pub fail_on: Vec<FailOn>,
}

/// How much is reported as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// The summary only.
    Summary,
    /// Connections that did not end well.
    #[default]
    Error,
    /// Every connection, with the local port and the rule.
    Connections,
    /// Every DNS query, too.
    All,
}

/// The destination of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Nowhere,
    /// Standard error, after the program has ended: until then it is the program's.
    #[default]
    StandardError,
    /// A file, line by line as connections end.
    File(PathBuf),
}

/// Takes records, and writes the report.
#[derive(Debug)]
pub struct Reporter {
    settings: Settings,
    began: Began,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    summary: Summary,
    /// Lines for the end of the run, and the same lines grouped in case there are too many.
    kept: Vec<String>,
    groups: Groups,
    more: u64,
    hints: Vec<String>,
    failures: Failures,
    file: Option<Output>,
    /// Writing to the file failed.
    failed: Option<io::Error>,
    /// The last of the lines that it therefore lacks.
    rest: VecDeque<String>,
}

impl Reporter {
    /// Opens the file, if there is one, so that errors appear before the program runs.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let file = match &settings.to {
            Destination::File(path) => Some(Output::create(path).with_context(|| {
                format!("cannot write the report to {}: choose another place for -o", path.display())
            })?),
            _ => None,
        };
        let began = Began::now();
        let summary = Summary { began: Some(began.wall()), ..Summary::default() };
        let state = State {
            summary,
            kept: Vec::new(),
            groups: Groups::default(),
            more: 0,
            hints: Vec::new(),
            failures: Failures::default(),
            file,
            failed: None,
            rest: VecDeque::new(),
        };
        Ok(Self { settings, began, state: RefCell::new(state) })
    }

    /// When the run began.
    pub fn began(&self) -> Began {
        self.began
    }

    /// A connection has begun.
    pub fn opened(&self, record: impl FnOnce() -> Record) {
        if self.settings.open && self.settings.json && self.settings.to != Destination::Nowhere {
            self.state.borrow_mut().put(record().json_open(), MAX_LINES);
        }
    }

    /// Whether the report shows what was measured of each connection.
    pub fn shows_paths(&self) -> bool {
        let Settings { to, json, detail, .. } = &self.settings;
        *to != Destination::Nowhere && (*json || *detail >= Detail::Connections)
    }

    /// A connection or a flow is over.
    pub fn record(&self, record: &Record) {
        let state = &mut *self.state.borrow_mut();
        state.summary.add(record);
        if self.settings.fail_on.iter().any(|condition| condition.applies(record)) {
            state.failures.add(record);
        }
        let Settings { to, json: as_json, detail, .. } = &self.settings;
        if *to == Destination::Nowhere || *detail == Detail::Summary {
            return;
        }
        // JSON is for programs, which filter by themselves.
        if *as_json {
            return state.put(record.json(), MAX_LINES);
        }
        let trouble = record.is_trouble();
        let question = record.proto == Proto::Udp && !record.context.questions.is_empty();
        let wanted = if question { Detail::All } else { Detail::Connections };
        if !trouble && *detail < wanted {
            return;
        }
        if trouble
            && let Some(hint) = &record.hint
            && !state.hints.contains(hint)
        {
            state.hints.push(hint.clone());
        }
        if state.file.is_none() {
            state.groups.add(record);
        }
        match detail {
            Detail::Summary | Detail::Error => state.put(Brief(record).to_string(), MAX_UNGROUPED),
            Detail::Connections | Detail::All => state.put(record.to_string(), MAX_LINES),
        }
    }

    /// Updates the summary.
    pub fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.state.borrow_mut().summary);
    }

    /// Something that the program should have but cannot be provided. Reported once, however often it occurs.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let warnings = &mut self.state.borrow_mut().summary.warnings;
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The connections that match `--fail-on`.
    pub fn failures(&self) -> Failures {
        self.state.borrow().failures.clone()
    }

    /// Writes the rest. Errors concern the file; the summary is then written to standard error.
    pub fn finish(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.summary.seconds = self.began.clock().elapsed().as_secs_f64();
        if self.settings.to == Destination::Nowhere {
            return Ok(());
        }
        if self.settings.json {
            state.summary.left_out = state.more;
            let summary = line("summary", &state.summary);
            state.print(std::iter::once(summary));
        } else {
            let lines = state.closing_lines(self.settings.detail);
            state.print(lines.into_iter());
        }
        let finished = state.file.as_ref().map_or(Ok(()), Output::finish);
        state.failed.take().map_or(finished, Err)
    }
}

impl State {
    /// Writes a line to the file, or keeps it for the end, up to `most` lines.
    fn put(&mut self, line: String, most: usize) {
        if self.file.is_some() {
            self.write(&line);
        } else if self.kept.len() < most {
            self.kept.push(line);
        } else {
            self.more += 1;
        }
    }

    fn write(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        let line = anstream::adapter::strip_str(line).to_string();
        if self.failed.is_none()
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
        {
            self.failed = Some(error);
        }
        // The rest follows on standard error at the end.
        if self.failed.is_some() {
            if self.rest.len() >= MAX_LINES {
                self.rest.pop_front();
            }
            self.rest.push_back(line);
        }
    }

    /// The lines after those of connections.
    fn closing_lines(&mut self, detail: Detail) -> Vec<String> {
        let mut lines = Vec::new();
        if detail > Detail::Summary {
            lines.extend(self.hints.iter().map(|hint| format!("lastack: {hint}")));
            lines.extend(self.summary.names.lines());
        }
        lines.extend(self.summary.injected.iter().map(super::summary::Injected::line));
        lines.extend(self.summary.warnings.iter().map(|warning| format!("lastack: warning: {warning}")));
        // A program without network activity gets no line in its output.
        if detail != Detail::Error || self.file.is_some() || !self.summary.is_empty() {
            lines.push(format!("lastack: {}", self.summary));
        }
        lines
    }

    /// Prints the kept lines, and the closing ones. Errors are ignored: if standard error is closed, there is no
    /// reader.
    fn print(&mut self, closing: impl Iterator<Item = String>) {
        let mut lines = std::mem::take(&mut self.kept);
        let groups = std::mem::take(&mut self.groups);
        if self.more > 0 && self.summary.left_out == 0 {
            lines = groups.lines();
            lines.push("lastack: lines are grouped; -o FILE has every one".to_owned());
        }
        lines.extend(closing);
        let to_file = self.file.is_some();
        if to_file {
            lines.iter().for_each(|line| self.write(line));
        }
        if to_file {
            lines = std::mem::take(&mut self.rest).into();
        }
        if !lines.is_empty() {
            let mut out = anstream::stderr().lock();
            for line in lines {
                let _unread = writeln!(out, "{line}");
            }
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
    fn clean_ends_are_listed_only_on_request() {
        let records = [tests::orderly(), tests::unreachable()];
        let brief = written(Settings::default(), &records);
        assert_eq!(brief.lines().count(), 3, "{brief}");
        assert!(brief.contains(" ✗ icmp-host-unreachable  192.0.2.7:80"), "{brief}");
        assert!(brief.contains("\nlastack: warning: no ping\nlastack: 2 TCP connections"), "{brief}");
        let all = written(Settings { detail: Detail::Connections, ..Settings::default() }, &records);
        assert_eq!(all.lines().count(), 4, "{all}");
        let summary = written(Settings { detail: Detail::Summary, ..Settings::default() }, &records);
        assert_eq!(summary.lines().count(), 2, "{summary}");
    }

    #[test]
    fn an_orderly_end_that_lost_bytes_is_reported() {
        let record = Record { lost: Lost { unacked: 1, ..Lost::default() }, ..tests::orderly() };
        assert_eq!(written(Settings::default(), &[record]).lines().count(), 3);
    }

    #[test]
    fn a_hint_is_printed_once() {
        let record = Record { hint: Some("try --dns".to_owned()), ..tests::unreachable() };
        let text = written(Settings::default(), &[record.clone(), record]);
        assert_eq!(text.matches("lastack: try --dns\n").count(), 1, "{text}");
    }

    #[test]
    fn json_is_a_line_each() {
        let text = written(Settings { json: true, ..Settings::default() }, &[tests::orderly()]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(text.starts_with(r#"{"v":2,"type":"connection","proto":"tcp""#), "{text}");
        assert_eq!((&lines[1]["type"], &lines[1]["tcp"]["orderly"]), (&"summary".into(), &1.into()));
        assert_eq!(lines[1]["warnings"][0], "no ping");
    }

    #[test]
    fn too_many_lines_are_grouped_and_never_cost_the_summary() {
        for (settings, count) in [
            (Settings::default(), 30),
            (Settings { detail: Detail::Connections, ..Settings::default() }, MAX_LINES + 5),
            (Settings { json: true, ..Settings::default() }, MAX_LINES + 5),
        ] {
            let reporter = Reporter::new(settings.clone()).unwrap();
            (0..count).for_each(|_| reporter.record(&tests::unreachable()));
            let mut state = reporter.state.borrow_mut();
            assert!(state.more > 0 && state.kept.len() <= MAX_LINES, "{settings:?}");
            let groups = std::mem::take(&mut state.groups).lines();
            if !settings.json {
                assert_eq!(groups.len(), 1, "{groups:?}");
                assert!(groups[0].contains(&format!("{count} x ")), "{groups:?}");
            }
        }
    }

    #[test]
    fn what_a_full_disk_lacks_is_kept_for_standard_error() {
        let to = Destination::File("/dev/full".into());
        let reporter = Reporter::new(Settings { to, ..Settings::default() }).unwrap();
        (0..30).for_each(|_| reporter.record(&tests::unreachable()));
        assert_eq!(reporter.state.borrow().rest.len(), 30);
        assert!(reporter.finish().is_err());
        assert!(reporter.state.borrow().rest.is_empty());
    }

    #[test]
    fn an_unwritable_file_is_an_error_at_once() {
        let to = Destination::File("/nowhere/report".into());
        let error = Reporter::new(Settings { to, ..Settings::default() }).unwrap_err();
        assert!(error.to_string().contains("cannot write the report to /nowhere/report"));
    }

    #[test]
    fn failures_are_counted() {
        let settings = Settings { fail_on: vec!["harmful".parse().unwrap()], ..Settings::default() };
        let reporter = Reporter::new(settings).unwrap();
        reporter.record(&tests::orderly());
        assert_eq!(reporter.failures(), Failures::default());
        reporter.record(&tests::unreachable());
        reporter.record(&tests::unreachable());
        assert_eq!(
            reporter.failures().to_string(),
            "2 connections matched --fail-on: 2 x icmp-host-unreachable 192.0.2.7:80"
        );
    }
}
