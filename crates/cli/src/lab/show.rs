//! The text output of `lastack lab`.

use anstyle::{AnsiColor, Style};
use lastack_lab::timeline::{Kind, Line};
use lastack_lab::{Played, SCENARIOS};
use std::io::{self, Write};

const HEADING: Style = Style::new().bold();
const FAILED: Style = AnsiColor::Red.on_default().bold();

/// All scenarios, under the headings of their topics.
pub(super) fn list(out: &mut impl Write) -> io::Result<()> {
    let width = SCENARIOS.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    let mut topic = None;
    for scenario in SCENARIOS {
        if topic.replace(scenario.topic) != Some(scenario.topic) {
            writeln!(out, "{HEADING}{}{HEADING:#}", scenario.topic.heading())?;
        }
        writeln!(out, "  {:width$}  {}", scenario.name, scenario.summary)?;
    }
    Ok(())
}

/// A scenario as a timeline, and the differences from the expected result.
pub(super) fn played(out: &mut impl Write, played: &Played, separate: bool) -> io::Result<()> {
    if separate {
        writeln!(out, "\n")?;
    }
    for line in &played.timeline().lines {
        write_line(out, line)?;
    }
    if !played.as_stated() {
        writeln!(out, "\n{FAILED}Not as expected{FAILED:#}")?;
    }
    for difference in &played.differences {
        writeln!(out, "  {difference}")?;
    }
    Ok(())
}

/// The number of scenarios with the expected result.
pub(super) fn count(out: &mut impl Write, scenarios: usize, failed: usize) -> io::Result<()> {
    match failed {
        0 => writeln!(out, "\n{scenarios} scenarios, all as expected"),
        failed => writeln!(out, "\n{scenarios} scenarios, {FAILED}{failed} not as expected{FAILED:#}"),
    }
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    let trailing = line.spans().iter().rposition(|span| !span.text.trim().is_empty());
    for (index, span) in line.spans().iter().enumerate().take(trailing.map_or(0, |last| last + 1)) {
        let last = Some(index) == trailing;
        let text = if last { span.text.trim_end() } else { &span.text };
        let style = style(span.kind);
        write!(out, "{style}{text}{style:#}")?;
    }
    writeln!(out)
}

fn style(kind: Kind) -> Style {
    match kind {
        Kind::Plain | Kind::Packet => Style::new(),
        Kind::Heading => HEADING,
        Kind::Time => Style::new().dimmed(),
        Kind::State => AnsiColor::Cyan.on_default(),
        Kind::Application => AnsiColor::Green.on_default(),
        Kind::Note => AnsiColor::Yellow.on_default(),
        Kind::Reset => AnsiColor::Red.on_default().bold(),
        Kind::Lost => AnsiColor::Red.on_default().dimmed(),
        Kind::Rule => AnsiColor::Magenta.on_default(),
        Kind::End => Style::new(),
    }
}
