//! Sequence diagrams: time runs down, packets cross between two lanes, and what happens at an end stands beside it.

use std::fmt::Write as _;

use crate::escape;

/// What a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrow {
    /// A packet from the left to the right.
    Right,
    /// A packet from the right to the left.
    Left,
    /// A packet from the left that did not arrive.
    RightLost,
    /// A packet from the right that did not arrive.
    LeftLost,
    /// A packet from a device on the path to the left.
    PathLeft,
    /// A packet from a device on the path to the right.
    PathRight,
    /// No packet: something happens at the ends.
    None,
}

/// A row of a diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The time, as it is to be shown.
    pub time: String,
    /// Which way a packet goes.
    pub arrow: Arrow,
    /// The packet in short.
    pub label: String,
    /// More about it, shown when pointed at.
    pub title: String,
    /// What happens at the left end.
    pub left: String,
    /// What happens at the right end.
    pub right: String,
    /// The pause before it, as it is to be shown; empty if it is short.
    pub pause: String,
    /// It is a reset.
    pub reset: bool,
    /// It is one of the packets that decide.
    pub decisive: bool,
}

impl Row {
    /// A row with a packet and nothing else.
    pub fn new(time: impl Into<String>, arrow: Arrow, label: impl Into<String>) -> Self {
        Self {
            time: time.into(),
            arrow,
            label: label.into(),
            title: String::new(),
            left: String::new(),
            right: String::new(),
            pause: String::new(),
            reset: false,
            decisive: false,
        }
    }
}

/// A diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The names of the ends; further lines are shown smaller.
    pub left: String,
    /// As `left`.
    pub right: String,
    /// In the order of time.
    pub rows: Vec<Row>,
}

const TIME: i32 = 70;
const NOTES: i32 = 210;
const BETWEEN: i32 = 330;
const LINE: i32 = 15;
const HEAD: i32 = 46;
/// How far a packet sinks on its way.
const SLOPE: i32 = 10;
/// Characters of a note in a line.
const NOTE_WIDTH: usize = 30;

impl Sequence {
    /// A diagram of two ends, without rows.
    pub fn new(left: impl Into<String>, right: impl Into<String>) -> Self {
        Self { left: left.into(), right: right.into(), rows: Vec::new() }
    }

    fn has_path(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.arrow, Arrow::PathLeft | Arrow::PathRight))
    }

    /// The diagram as SVG. Its colours are those of the classes of [`crate::Page`].
    #[must_use]
    pub fn svg(&self) -> String {
        let notes = |of: fn(&Row) -> &String| self.rows.iter().any(|row| !of(row).is_empty());
        let left_notes = if notes(|row| &row.left) { NOTES } else { 10 };
        let right_notes = if notes(|row| &row.right) { NOTES } else { 60 };
        let left = TIME + left_notes;
        let right = left + BETWEEN;
        let width = right + right_notes;
        let mut body = String::new();
        let mut y = HEAD;
        for row in &self.rows {
            if !row.pause.is_empty() {
                y += LINE;
                let _ = write!(
                    body,
                    "<text class=\"pause\" x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                    (left + right) / 2,
                    escape(&row.pause)
                );
                y += LINE / 2;
            }
            y = draw(&mut body, row, y, left, right);
        }
        let height = y + 16;
        let mut out = format!(
            "<svg class=\"sequence\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-label=\"sequence diagram\">"
        );
        lane(&mut out, left, height, &self.left, "left");
        lane(&mut out, right, height, &self.right, "right");
        if self.has_path() {
            lane(&mut out, (left + right) / 2, height, "a device on the path", "path");
        }
        out.push_str(&body);
        out.push_str("</svg>");
        out
    }
}

fn lane(out: &mut String, x: i32, height: i32, name: &str, class: &str) {
    for (line, text) in name.lines().take(2).enumerate() {
        let class = if line == 0 { "name" } else { "address" };
        let y = 14 + line as i32 * 14;
        let _ = write!(
            out,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            escape(text)
        );
    }
    let _ =
        write!(out, "<line class=\"lane {class}\" x1=\"{x}\" y1=\"34\" x2=\"{x}\" y2=\"{}\"/>", height - 6);
}

/// Draws a row below `y`, and gives where the next one begins.
fn draw(out: &mut String, row: &Row, y: i32, left: i32, right: i32) -> i32 {
    let (left_lines, right_lines) = (wrap(&row.left), wrap(&row.right));
    let text = y + LINE;
    if !row.time.is_empty() {
        let x = TIME - 12;
        let _ = write!(
            out,
            "<text class=\"time\" x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{}</text>",
            escape(&row.time)
        );
    }
    for (line, words) in left_lines.iter().enumerate() {
        let (x, y) = (left - 10, text + line as i32 * LINE);
        let _ = write!(
            out,
            "<text class=\"note\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
            escape(words)
        );
    }
    // What happens at the right is below what arrives there.
    let sunk = if matches!(row.arrow, Arrow::Right | Arrow::PathRight) { SLOPE } else { 0 };
    for (line, words) in right_lines.iter().enumerate() {
        let (x, y) = (right + 10, text + sunk + line as i32 * LINE);
        let _ = write!(out, "<text class=\"note\" x=\"{x}\" y=\"{y}\">{}</text>", escape(words));
    }
    if row.arrow != Arrow::None {
        arrow(out, row, y + LINE - 3, left, right);
    }
    let lines = left_lines.len().max(right_lines.len()).max(1) as i32;
    y + lines * LINE + SLOPE + 2
}

fn arrow(out: &mut String, row: &Row, y: i32, left: i32, right: i32) {
    let middle = (left + right) / 2;
    let lost = |from: i32, to: i32| from + (to - from) * 3 / 4;
    let (from, to) = match row.arrow {
        Arrow::Right => (left, right),
        Arrow::Left => (right, left),
        Arrow::RightLost => (left, lost(left, right)),
        Arrow::LeftLost => (right, lost(right, left)),
        Arrow::PathLeft => (middle, left),
        Arrow::PathRight => (middle, right),
        Arrow::None => return,
    };
    let class = match (row.reset, row.decisive) {
        (true, true) => "packet reset decisive",
        (true, false) => "packet reset",
        (false, true) => "packet decisive",
        (false, false) => "packet",
    };
    let end = y + SLOPE;
    let _ = write!(out, "<g class=\"{class}\">");
    if !row.title.is_empty() {
        let _ = write!(out, "<title>{}</title>", escape(&row.title));
    }
    let _ = write!(out, "<line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{end}\"/>");
    if matches!(row.arrow, Arrow::RightLost | Arrow::LeftLost) {
        let _ = write!(out, "<path d=\"M{} {}l10 10m0 -10l-10 10\"/>", to - 5, end - 5);
    } else {
        let back = if to > from { -9 } else { 9 };
        let _ = write!(out, "<path class=\"head\" d=\"M{to} {end}l{back} -5v9z\"/>");
    }
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>",
        (from + to) / 2,
        y - 1,
        escape(&row.label)
    );
}

/// A note in lines, broken between words.
fn wrap(note: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in note.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + word.chars().count() >= NOTE_WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_below_the_one_before() {
        let mut sequence = Sequence::new("client\n10.0.0.1:5", "server");
        sequence.rows.push(Row::new("0.000", Arrow::Right, "S"));
        let noted = "a note that is much longer than what fits in one line of the diagram";
        sequence.rows.push(Row { left: noted.into(), ..Row::new("", Arrow::None, "") });
        sequence.rows.push(Row {
            pause: "9 s".into(),
            reset: true,
            ..Row::new("9.000", Arrow::PathLeft, "R")
        });
        let svg = sequence.svg();
        let place = |text: &str| svg.find(text).unwrap_or_else(|| panic!("{text}: {svg}"));
        assert!(place(">S<") < place(">a note that") && place("9 s") < place(">R<"));
        assert!(svg.contains("a device on the path") && svg.contains("packet reset"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn labels_are_escaped() {
        let mut sequence = Sequence::new("<script>", "b");
        sequence.rows.push(Row::new("0", Arrow::LeftLost, "</svg>"));
        let svg = sequence.svg();
        assert!(!svg.contains("<script>") && svg.matches("</svg>").count() == 1);
    }

    #[test]
    fn notes_are_broken_between_words() {
        assert_eq!(wrap("one two"), ["one two"]);
        assert_eq!(wrap(""), Vec::<String>::new());
        assert!(wrap(&"word ".repeat(20)).iter().all(|line| line.len() <= NOTE_WIDTH));
    }
}
