//! A trace as a sequence diagram for HTML pages.

use lastack_diagram::{Arrow as Drawn, Row, Sequence};
use lastack_engine::Rule;
use lastack_sim::trace::Trace;

use super::Kind;
use super::rows::{Cell, Way, rows};

/// The sequence diagram of a trace between its first two hosts, and the rules that it names, each once.
///
/// # Panics
/// If the trace has fewer than two hosts.
#[must_use]
pub fn sequence(trace: &Trace) -> (Sequence, Vec<Rule>) {
    let name = |at: usize| format!("{}\n{}", trace.hosts[at].name, trace.hosts[at].address);
    let mut sequence = Sequence::new(name(0), name(1));
    let mut rules: Vec<Rule> = Vec::new();
    let mut shown = None;
    for row in rows(trace) {
        let milliseconds = row.at.as_millis();
        let time = if shown == Some(milliseconds) {
            String::new()
        } else {
            format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
        };
        shown = Some(milliseconds);
        for rule in row.sides.iter().filter_map(|cell| cell.rule) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let [left, right] = row.sides.each_ref().map(words);
        let (arrow, label, reset, pause) = match row.middle {
            None => (Drawn::None, String::new(), false, String::new()),
            Some(middle) => {
                let lost = middle.kind == Kind::Lost;
                let arrow = match (middle.way, lost) {
                    (Way::Right, false) => Drawn::Right,
                    (Way::Left, false) => Drawn::Left,
                    (Way::Right, true) => Drawn::RightLost,
                    (Way::Left, true) => Drawn::LeftLost,
                    (Way::None, _) => Drawn::None,
                };
                let reset = middle.kind == Kind::Reset;
                // Entries that concern both sides are in the middle.
                if arrow == Drawn::None {
                    (arrow, String::new(), reset, middle.label)
                } else {
                    (arrow, middle.label, reset, String::new())
                }
            }
        };
        sequence.rows.push(Row { left, right, pause, reset, ..Row::new(time, arrow, label) });
    }
    (sequence, rules)
}

fn words(cell: &Cell) -> String {
    match cell.rule {
        Some(rule) if cell.text.is_empty() => format!("({})", rule.code()),
        Some(rule) => format!("{} ({})", cell.text, rule.code()),
        None => cell.text.clone(),
    }
}
