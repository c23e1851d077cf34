//! Pictures of connections for pages: sequence diagrams and time-sequence plots as SVG, and the page around them.
//!
//! Everything is a function from values to text. A [`Page`] is one file that needs no network: its style follows the
//! reader's choice of dark or light, and its tables can be sorted.
//!
//! ```
//! use lastack_diagram::{Arrow, Row, Sequence};
//!
//! let mut sequence = Sequence::new("client", "server");
//! sequence.rows.push(Row::new("0.000", Arrow::Right, "S seq=0"));
//! sequence.rows.push(Row { reset: true, ..Row::new("0.001", Arrow::Left, "R. seq=0 ack=1") });
//! let svg = sequence.svg();
//! assert!(svg.starts_with("<svg") && svg.contains("R. seq=0 ack=1"));
//! ```
#![forbid(unsafe_code)]

mod page;
mod plot;
mod sequence;

pub use page::{Cell, Entry, Page, Section, Tile};
pub use plot::{Mark, Plot, Point};
pub use sequence::{Arrow, Row, Sequence};

/// Text as it stands in HTML, SVG and their attributes. What could control anything is shown as a question mark.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(
            escape("<b a='1' b=\"2\">&\u{1b}[2J"),
            "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;\u{fffd}[2J"
        );
    }
}
