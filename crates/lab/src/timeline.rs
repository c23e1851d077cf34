//! A trace as a timeline: time runs down, the two hosts are columns left and right, packets are
//! arrows between them.
//!
//! Plain text in [`WIDTH`] columns. The parts of a line carry their kind, for coloring.

mod picture;
mod rows;

use lastack_engine::{Instant, Rule};
use lastack_sim::trace::{HostId, Trace, What};
pub use picture::sequence;
use rows::{Arrow, Cell, Row, Way};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

/// The width of a line in columns.
pub const WIDTH: usize = 100;

const TIME: usize = 7;
const SIDE: usize = 24;
const MIDDLE: usize = WIDTH - TIME - 1 - 2 * SIDE - 2 * BAR.len();
const BAR: &str = " |";
/// The column at which the text of a rule begins in the legend.
const LEGEND: usize = 7;

/// One line of a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<Span>);

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its kind.
    pub kind: Kind,
    /// Its text.
    pub text: String,
}

/// The kind of a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Blanks, bars and words in between.
    Plain,
    /// The title, a heading, a host.
    Heading,
    /// A time.
    Time,
    /// A state of a connection.
    State,
    /// A call of an application, or its result.
    Application,
    /// An event of a host or of the path.
    Note,
    /// A packet that arrives.
    Packet,
    /// A reset, or an ICMP error.
    Reset,
    /// A packet that is lost.
    Lost,
    /// The name of a rule.
    Rule,
    /// How a connection ended.
    End,
}

/// A trace between its first two hosts, as lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The lines, from top to bottom.
    pub lines: Vec<Line>,
}

impl Timeline {
    /// Draws `trace` under this title, and a second line if there is one.
    ///
    /// # Panics
    /// If the trace has fewer than two hosts.
    pub fn new(title: &str, below: Option<&str>, trace: &Trace) -> Self {
        let rows = rows::rows(trace);
        let mut lines = vec![Line::of(Kind::Heading, title)];
        lines.extend(below.map(|text| Line::of(Kind::Plain, text)));
        lines.push(Line::default());
        lines.extend(heads(trace));
        let mut shown = None;
        for row in &rows {
            lines.push(row_line(row, &mut shown));
        }
        lines.push(Line::default());
        lines.extend(ends(trace));
        lines.extend(legend(&rows));
        Self { lines }
    }
}

impl Line {
    /// Its parts, from left to right.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    fn of(kind: Kind, text: impl Into<String>) -> Self {
        let mut line = Self::default();
        line.push(kind, text);
        line
    }

    fn push(&mut self, kind: Kind, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.0.push(Span { kind, text });
        }
    }

    fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }

    /// Pads with blanks up to this column.
    fn pad(&mut self, column: usize) {
        let width = self.width();
        self.push(Kind::Plain, " ".repeat(column.saturating_sub(width)));
    }

    fn push_cell(&mut self, cell: &Cell) {
        let blank = if cell.text.is_empty() { "" } else { " " };
        self.push(cell.kind, cell.text.clone());
        if let Some(rule) = cell.rule {
            self.push(Kind::Rule, format!("{blank}({})", rule.code()));
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().map(|span| span.text.as_str()).collect();
        f.write_str(text.trim_end())
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The names of the hosts, and under them their addresses.
fn heads(trace: &Trace) -> [Line; 2] {
    let ports = rows::ports(trace);
    let time = Line::of(Kind::Time, format!("{:>TIME$}", "time"));
    let [mut names, mut addresses] = [time, Line::default()];
    for (index, host) in trace.hosts.iter().take(2).enumerate() {
        let address = match ports {
            Some(ports) => SocketAddr::new(host.address, ports[index]).to_string(),
            None => host.address.to_string(),
        };
        for (line, text) in [(&mut names, &host.name), (&mut addresses, &address)] {
            line.pad(TIME + 1 + index * SIDE);
            if index == 1 {
                line.push(Kind::Plain, format!("{BAR}{:MIDDLE$}| ", ""));
            }
            line.push(Kind::Heading, text.clone());
        }
    }
    [names, addresses]
}

/// One row; its time is shown only if it differs from the previous row's.
fn row_line(row: &Row, shown: &mut Option<u64>) -> Line {
    let mut line = Line::default();
    if shown.replace(row.at.as_millis()) != Some(row.at.as_millis()) {
        line.push(Kind::Time, format!("{:>TIME$}", seconds(row.at)));
    }
    line.pad(TIME + 1);
    line.push_cell(&row.sides[0]);
    let right = row.sides[1].width();
    match &row.middle {
        None if line.width() > TIME + 1 + SIDE => {}
        middle => {
            line.pad(TIME + 1 + SIDE);
            line.push(Kind::Plain, BAR);
            if let Some(arrow) = middle {
                push_arrow(&mut line, arrow);
            }
        }
    }
    // Text too long for its column is right-aligned, across the bar.
    if right > SIDE {
        line.pad(WIDTH.saturating_sub(right).max(line.width() + 1));
    } else {
        line.pad(WIDTH - SIDE - BAR.len());
        line.push(Kind::Plain, "| ");
    }
    line.push_cell(&row.sides[1]);
    line
}

fn seconds(at: Instant) -> String {
    format!("{}.{:03}", at.as_millis() / 1000, at.as_millis() % 1000)
}

/// An arrow across the middle.
fn push_arrow(line: &mut Line, arrow: &Arrow) {
    let room = MIDDLE - 2;
    let label: String = arrow.label.chars().take(room - 4).collect();
    let shaft = room - 1 - label.chars().count() - 1;
    let text = match (arrow.way, arrow.kind == Kind::Lost) {
        (Way::Right, false) => format!(" {label} {}> ", "-".repeat(shaft)),
        (Way::Left, false) => format!(" <{} {label} ", "-".repeat(shaft)),
        (Way::Right, true) => {
            let (dashes, blanks) = (shaft - shaft / 3, shaft / 3);
            format!(" {label} {}X{} ", "-".repeat(dashes), " ".repeat(blanks))
        }
        (Way::Left, true) => {
            let (dashes, blanks) = (shaft - shaft / 3, shaft / 3);
            format!(" {}X{} {label} ", " ".repeat(blanks), "-".repeat(dashes))
        }
        (Way::None, _) => format!("{:^MIDDLE$}", format!("- - {label} - -")),
    };
    line.push(arrow.kind, text);
}

/// The connection ends at each of the first two hosts: its name, and sentences.
#[must_use]
pub fn endings(trace: &Trace) -> Vec<(String, Vec<String>)> {
    let mut endings = Vec::new();
    for (index, host) in trace.hosts.iter().enumerate().take(2) {
        let id = HostId::new(index);
        let mut sentences = Vec::new();
        if trace.entries.iter().any(|entry| entry.host == id && entry.what == What::Restarted) {
            sentences.push("what it had before its restart ended without a record".to_owned());
        }
        sentences.extend(trace.ends(id).map(|ended| ended.end.to_string()));
        for (flow, state) in trace.open(id) {
            sentences.push(format!("still {state} at the end, with {}", flow.remote));
        }
        if !host.ours {
            sentences.push("not a lastack stack: what its application observed is above".to_owned());
        } else if sentences.is_empty() {
            sentences.push("no connection".to_owned());
        }
        endings.push((host.name.clone(), sentences));
    }
    endings
}

fn ends(trace: &Trace) -> Vec<Line> {
    let mut lines = vec![Line::of(Kind::Heading, "How it ended")];
    let indent = 2 + trace.hosts.iter().map(|host| host.name.chars().count()).max().unwrap_or(0) + 2;
    for (host, sentences) in endings(trace) {
        for (nth, sentence) in sentences.iter().enumerate() {
            for (part, text) in wrap(sentence, WIDTH - indent).into_iter().enumerate() {
                let name = if nth == 0 && part == 0 { host.as_str() } else { "" };
                let mut line = Line::of(Kind::Heading, format!("  {name}"));
                line.pad(indent);
                line.push(Kind::End, text);
                lines.push(line);
            }
        }
    }
    lines
}

/// The rules named in the rows, with their texts.
fn legend(rows: &[Row]) -> Vec<Line> {
    let rules: BTreeSet<Rule> = rows.iter().flat_map(|row| &row.sides).filter_map(|cell| cell.rule).collect();
    let mut lines = Vec::new();
    if rows.iter().filter_map(|row| row.middle.as_ref()).any(|arrow| arrow.label.contains('\'')) {
        lines.extend([
            Line::default(),
            Line::of(Kind::Plain, "A number with ' belongs to the earlier connection."),
        ]);
    }
    if !rules.is_empty() {
        lines.extend([Line::default(), Line::of(Kind::Heading, "Rules")]);
    }
    for rule in rules {
        let text = format!("{rule}: {} ({})", rule.text(), rule.section());
        for (part, text) in wrap(&text, WIDTH - LEGEND).into_iter().enumerate() {
            let mut line = Line::default();
            if part == 0 {
                line.push(Kind::Rule, format!("  {}", rule.code()));
            }
            line.pad(LEGEND);
            line.push(Kind::Plain, text);
            lines.push(line);
        }
    }
    lines
}

/// Breaks a sentence between words.
fn wrap(sentence: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
