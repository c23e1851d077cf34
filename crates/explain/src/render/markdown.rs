//! Verdicts for tickets.

use super::conversation::cause_by;
use super::text::headline;
use crate::explainer::{Explained, Summary};
use crate::pattern::Group;
use crate::record::Writer;
use lastack_causes::Severity;
use std::fmt::Write as _;

/// A page of Markdown: headline, groups, and a table of the connections that did not end well.
#[must_use]
pub fn markdown(
    writer: &Writer,
    summary: &Summary,
    groups: &[Group],
    explained: &[Explained],
    all: bool,
    most: usize,
) -> String {
    let mut out =
        format!("# How the connections ended\n\n{}\n", headline(writer, summary, groups, explained));
    if !groups.is_empty() {
        out.push_str("\n| count | cause | server | first | last | fact |\n|---:|---|---|---|---|---|\n");
        for group in groups.iter().take(most) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                group.count,
                group.cause,
                writer.endpoint(group.server),
                writer.time(group.first),
                writer.time(group.last),
                cell(&group.fact)
            );
        }
    }
    let shown: Vec<&Explained> =
        explained.iter().filter(|one| all || one.verdict.severity != Severity::Benign).take(most).collect();
    if !shown.is_empty() {
        out.push_str("\n| started | client | server | cause | severity | confidence | frame | why |\n|---|---|---|---|---|---:|---:|---|\n");
    }
    for one in shown {
        let verdict = &one.verdict;
        let why =
            verdict.evidence.first().map_or(verdict.cause.sentence(), |evidence| evidence.text.as_str());
        let frame = verdict.decisive.last().copied().unwrap_or(one.conn.last.1);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.2} | {} | {} |",
            writer.time(one.conn.first.0),
            writer.endpoint(one.client()),
            writer.endpoint(one.server()),
            cause_by(writer, one),
            verdict.severity,
            verdict.confidence,
            writer.frame(frame),
            cell(&writer.hide_addresses(why))
        );
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
