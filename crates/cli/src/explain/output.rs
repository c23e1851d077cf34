//! The output of `lastack explain`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use lastack_explain::pattern::Group;
use lastack_explain::read::{FileFacts, Merge};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, render};

use super::Run;
use super::args::ExplainArgs;

/// Max lines of a list without `--all`.
const LINES: usize = 200;
/// Max connections on a page.
const ON_PAGE: usize = 2000;
/// Max connections that `--conn` shows in full.
const SHOWN: usize = 20;

/// The records after those of the connections.
pub fn json_tail(
    out: &mut impl Write,
    writer: &Writer,
    explainer: &Explainer,
    input: &Merge,
    groups: &[Group],
    warnings: Vec<String>,
) -> anyhow::Result<()> {
    let mut line = |record: serde_json::Result<String>| -> anyhow::Result<()> {
        writeln!(out, "{}", record?)?;
        Ok(())
    };
    for error in explainer.icmp_errors() {
        line(serde_json::to_string(&writer.icmp_error(error)))?;
    }
    for flow in explainer.flows() {
        line(serde_json::to_string(&writer.flow(flow)))?;
    }
    for group in groups {
        line(serde_json::to_string(&writer.group(group)))?;
    }
    for (facts, vantage) in input.facts().zip(input.vantages()) {
        let place = explainer.context().vantage(vantage, facts.by_lastack);
        line(serde_json::to_string(&writer.file(facts, place)))?;
    }
    line(serde_json::to_string(&writer.summary(explainer.summary(), warnings)))
}

/// Output as text, Markdown or HTML.
pub fn people(
    out: &mut impl Write,
    args: &ExplainArgs,
    writer: &Writer,
    explainer: &Explainer,
    run: &Run<'_>,
    input: &Merge,
) -> anyhow::Result<()> {
    let groups = run.groups(explainer);
    if let Some(wanted) = &args.conn {
        return one(out, wanted, writer, run);
    }
    if args.quiet {
        return Ok(());
    }
    let most = if args.all { usize::MAX } else { LINES };
    if args.markdown {
        let page = render::markdown(writer, &run.summary(explainer), &groups, &run.listed, args.all, most);
        out.write_all(page.as_bytes())?;
        return Ok(());
    }
    let headline = render::headline(writer, &run.summary(explainer), &groups, &run.listed);
    writeln!(out, "{headline}")?;
    let icmp: Vec<_> = explainer.icmp_errors().collect();
    let flows: Vec<_> = explainer.flows().collect();
    let lines = render::lines(writer, &run.listed, &icmp, &flows, args.all, most);
    if !lines.is_empty() {
        writeln!(out, "\n{}", lines.trim_end())?;
    }
    if run.unlisted > 0 {
        writeln!(out, "{} more connections were counted only; --json prints all", run.unlisted)?;
    }
    writeln!(out, "\n{}", captured(writer, explainer, input))?;
    Ok(())
}

/// Where the captures were made.
fn captured(writer: &Writer, explainer: &Explainer, input: &Merge) -> String {
    let place = |(facts, vantage): (&FileFacts, u8)| explainer.context().vantage(vantage, facts.by_lastack);
    let places: Vec<&str> = input.facts().zip(input.vantages()).map(place).collect();
    match places.first() {
        Some(&"unknown") if places.iter().all(|place| *place == "unknown") => {
            "where it was captured is not known".into()
        }
        Some(first) if places.iter().all(|place| place == first) => format!("captured {first}"),
        _ => {
            let each = writer.files.iter().zip(&places).map(|(name, place)| format!("{name}: {place}"));
            format!("captured {}", each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The page of `--html`.
pub fn page(
    path: &Path,
    args: &ExplainArgs,
    writer: &Writer,
    explainer: &Explainer,
    run: &Run<'_>,
) -> anyhow::Result<()> {
    let groups = run.groups(explainer);
    let page = render::html(writer, &run.summary(explainer), &groups, &run.listed, args.all, ON_PAGE);
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Connections in full.
fn one(out: &mut impl Write, wanted: &str, writer: &Writer, run: &Run<'_>) -> anyhow::Result<()> {
    let found = run.selected(wanted, writer)?;
    for (place, one) in found.iter().take(SHOWN).enumerate() {
        if place > 0 {
            writeln!(out, "\n{}\n", "-".repeat(78))?;
        }
        out.write_all(render::detail(writer, one, &run.kernel(one)).as_bytes())?;
    }
    if found.len() > SHOWN {
        writeln!(out, "\n.. and {} more that match", found.len() - SHOWN)?;
    }
    Ok(())
}
