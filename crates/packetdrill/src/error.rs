//! Errors in a script, shown with their position in its text.

use super::syntax::Span;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;

/// The kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text is not a script.
    Syntax,
    /// The stack did not do what the script says.
    Mismatch,
    /// The script uses something that the runner or the stack does not support.
    Unsupported,
}

/// A problem that stopped a script, and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// Its range of bytes in the text.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// The message at the position itself.
    pub label: String,
    /// Additional lines.
    pub notes: Vec<String>,
}

impl Problem {
    fn new(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self { kind, span, message: message.into(), label: String::new(), notes: Vec::new() }
    }

    /// A syntax error.
    pub fn syntax(span: Span, message: impl Into<String>) -> Self {
        Self::new(Kind::Syntax, span, message)
    }

    /// The stack did something other than expected.
    pub fn mismatch(span: Span, message: impl Into<String>) -> Self {
        Self::new(Kind::Mismatch, span, message)
    }

    /// The runner or the stack does not support it.
    pub fn unsupported(span: Span, message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, span, message)
    }

    /// Adds a message at the position itself.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a line.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The line number, from 1.
    pub fn line(&self, source: &str) -> usize {
        1 + source.as_bytes()[..self.span.start.min(source.len())].iter().filter(|&&b| b == b'\n').count()
    }

    /// One line: `FILE:LINE: message`.
    pub fn brief(&self, path: &str, source: &str) -> String {
        format!("{path}:{}: {}", self.line(source), self.message)
    }

    /// The source lines, with carets below the position.
    pub fn draw(&self, path: &str, source: &str, color: bool) -> String {
        let level = match self.kind {
            Kind::Syntax | Kind::Mismatch => Level::ERROR,
            Kind::Unsupported => Level::NOTE,
        };
        // A range of bytes may begin or end within a character.
        let span = whole_characters(source, self.span.start, self.span.end);
        let mut place = AnnotationKind::Primary.span(span);
        if !self.label.is_empty() {
            place = place.label(self.label.as_str());
        }
        let snippet = Snippet::source(source).path(path).annotation(place);
        let mut group = level.primary_title(self.message.as_str()).element(snippet);
        for note in &self.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The range from `start` to `end`, widened to whole characters. (`str::floor_char_boundary` is newer than the oldest
/// compiler that is supported.)
fn whole_characters(source: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let is_boundary = |at: &usize| source.is_char_boundary(*at);
    let start = (0..=start.min(source.len())).rev().find(is_boundary).unwrap_or(0);
    let end = (end.min(source.len())..=source.len()).find(is_boundary).unwrap_or(source.len());
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_shown_with_carets() {
        let source = "0 socket(1) = 3\n+0 > R 0:0(0)\n";
        let problem = Problem::mismatch(21..29, "SEG.SEQ is 5, expected 0").label("sent: `R 5:5(0)`");
        assert_eq!(problem.brief("t.pkt", source), "t.pkt:2: SEG.SEQ is 5, expected 0");
        let drawn = problem.draw("t.pkt", source, false);
        assert!(drawn.contains("t.pkt:2:6") && drawn.contains("^^^^^^^^ sent: "), "{drawn}");
    }

    #[test]
    fn a_place_inside_a_character_is_that_character() {
        let problem = Problem::syntax(4..5, "this is no time");
        assert!(problem.draw("t.pkt", "+0 \u{fffd}1", false).contains("t.pkt:1:4"));
        assert!(Problem::syntax(99..100, "no event").draw("t.pkt", "+0", false).contains("t.pkt"));
    }
}
