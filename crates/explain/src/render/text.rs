//! Verdicts for people: the headline, a line a connection, and one connection in full.

use super::conversation::{bytes, cause_by, count, group_phrase, in_doubt, sentence, span};
use super::sequence::sequence;
use crate::explainer::{Explained, Flow, IcmpError, Summary};
use crate::pattern::Group;
use crate::record::Writer;
use lastack_causes::{Cause, EndedBy, Severity};
use std::fmt::Write as _;

/// Groups that the headline names.
const NAMED: usize = 6;
/// Causes that a list explains.
const EXPLAINED: usize = 12;

/// The time of day of a record's time.
fn clock(time: &str) -> &str {
    time.split_once('T').map_or(time, |(_, clock)| clock.trim_end_matches('Z'))
}

fn hours(time: &str) -> &str {
    clock(time).split('.').next().unwrap_or_default()
}

/// The headline: how many ended badly, grouped by cause, server and span.
#[must_use]
pub fn headline(writer: &Writer, summary: &Summary, groups: &[Group], explained: &[Explained]) -> String {
    let known = summary.known;
    let of = |severity| summary.severities.get(&severity).copied().unwrap_or(0);
    let (harmful, suspicious) = (of(Severity::Harmful), of(Severity::Suspicious));
    let bad = (harmful + suspicious).saturating_sub(known);
    let mut out = String::new();
    if summary.connections == 0 {
        let _ = write!(out, "No TCP connections in {} packets.", count(summary.packets));
        return out;
    }
    let plural = if summary.connections == 1 { "connection" } else { "connections" };
    let new = if known > 0 { " and are not in the baseline" } else { "" };
    if bad == 0 && known > 0 {
        let _ = write!(
            out,
            "Nothing new: of {} {plural}, {} ended badly, and the baseline has all of them.",
            count(summary.connections),
            count(known)
        );
    } else if bad == 0 {
        out.push_str(&match summary.connections {
            1 => "The connection ended well or is still open.".to_owned(),
            n => format!("All of {} {plural} ended well or are still open.", count(n)),
        });
    } else {
        let _ = write!(out, "{} of {} {plural} ended badly{new}: ", count(bad), count(summary.connections));
        out.push_str(&phrases(writer, groups, explained, bad));
        out.push('.');
        if known > 0 {
            let _ = write!(out, " {} more are in the baseline.", count(known));
        }
    }
    let open = summary.causes.get(&Cause::Open).copied().unwrap_or(0);
    if open > 0 {
        let _ = write!(out, " {} still open at the end of the capture.", count(open));
    }
    let resets: u64 = explained
        .iter()
        .filter(|one| one.verdict.severity == Severity::Benign)
        .map(|one| one.conn.resets.iter().filter(|reset| !reset.copy).count() as u64)
        .sum();
    if resets > 0 {
        let word = if resets == 1 { "reset" } else { "resets" };
        let _ = write!(out, " {} harmless {word} folded.", count(resets));
    }
    out
}

/// The largest groups, and single ends, in words.
fn phrases(writer: &Writer, groups: &[Group], explained: &[Explained], bad: u64) -> String {
    let mut phrases = Vec::new();
    let mut counted = 0;
    let severe = |group: &&Group| group.cause.severity() != Severity::Benign;
    for group in groups.iter().filter(severe).take(NAMED) {
        let (first, last) = (writer.time(group.first), writer.time(group.last));
        let server = writer.endpoint(group.server);
        let phrase = group_phrase(group.cause, group.count, &server, group.ended_by);
        let when = if hours(&first) == hours(&last) {
            format!("at {}", hours(&first))
        } else {
            format!("between {} and {}", hours(&first), hours(&last))
        };
        phrases.push(format!("{phrase} {when} ({})", group.fact));
        counted += group.count;
    }
    let grouped = |one: &&Explained| {
        groups.iter().any(|group| group.cause == one.verdict.cause && group.server == one.server())
    };
    let mut singles: Vec<(String, Vec<String>)> = Vec::new();
    let bad_ones = explained.iter().filter(|one| one.verdict.severity != Severity::Benign);
    for one in bad_ones.filter(|one| !grouped(one)) {
        let (what, server) = (cause_by(writer, one), writer.endpoint(one.server()));
        match singles.iter_mut().find(|(known, _)| *known == what) {
            Some((_, servers)) => servers.push(server),
            None => singles.push((what, vec![server])),
        }
    }
    singles.sort_by_key(|(_, servers)| std::cmp::Reverse(servers.len()));
    for (what, servers) in singles.into_iter().take(NAMED.saturating_sub(phrases.len())) {
        counted += servers.len() as u64;
        phrases.push(match servers.len() {
            1 => format!("{what} ({})", servers[0]),
            n @ 2..=3 => format!("{n} {what} ({})", servers.join(", ")),
            n => format!("{} {what} ({}, {} and others)", count(n as u64), servers[0], servers[1]),
        });
    }
    if bad > counted {
        let others = if phrases.is_empty() { "of several causes" } else { "of other causes or servers" };
        phrases.push(format!("{} {others}", count(bad - counted)));
    }
    phrases.join("; ")
}

/// The line of a connection.
#[must_use]
pub fn line(writer: &Writer, explained: &Explained) -> String {
    let (conn, verdict) = (&explained.conn, &explained.verdict);
    let started = writer.time(conn.first.0);
    let total = conn.sides[0].bytes + conn.sides[1].bytes;
    let last = verdict.decisive.last().copied().unwrap_or(conn.last.1);
    let (client, server) = (writer.endpoint(explained.client()), writer.endpoint(explained.server()));
    let mut line = format!(
        "{}  {client} > {server}  {}  {}  after {}, {}; frame {}",
        clock(&started),
        cause_by(writer, explained),
        in_doubt(verdict),
        span(conn.last.0 - conn.first.0),
        bytes(total),
        writer.frame(last),
    );
    if let Some((said, _)) = verdict.declared.iter().find(|(said, _)| said.source != "application") {
        let _ = write!(line, "; stated: {}", said.text);
    }
    line
}

/// The connections as lists show them: worst first, benign ones only if `all`.
#[must_use]
pub fn in_order(explained: &[Explained], all: bool) -> Vec<&Explained> {
    let mut shown: Vec<&Explained> =
        explained.iter().filter(|one| all || one.verdict.severity != Severity::Benign).collect();
    shown.sort_by(|a, b| {
        let key = |one: &Explained| (one.verdict.severity, (one.verdict.confidence * 100.0) as i32);
        key(b).cmp(&key(a)).then(a.conn.first.cmp(&b.conn.first))
    });
    shown
}

/// The lines of all connections, worst first; benign ends as one count unless `all`. At most `most` lines.
#[must_use]
pub fn lines(
    writer: &Writer,
    explained: &[Explained],
    icmp: &[&IcmpError],
    flows: &[&Flow],
    all: bool,
    most: usize,
) -> String {
    let shown = in_order(explained, all);
    let mut out = String::new();
    for (place, one) in shown.iter().take(most).enumerate() {
        let _ = writeln!(out, "{:>4}  {}", place + 1, line(writer, one));
    }
    if shown.len() > most {
        let _ = writeln!(out, ".. {} more; --all or --json shows them", count((shown.len() - most) as u64));
    }
    for error in icmp.iter().take(most) {
        let seen = &error.seen;
        let _ = writeln!(
            out,
            "      {}  {} {} > {}  {} by {}  {} time{}; frame {}",
            clock(&writer.time(seen.time)),
            seen.quoted.protocol_name(),
            writer.endpoint(seen.quoted.src),
            writer.endpoint(seen.quoted.dst),
            error.stated.as_ref().map_or(seen.cause(), |stated| stated.cause),
            match &error.stated {
                Some(stated) if stated.ended_by == EndedBy::Lastack => EndedBy::Lastack.noun().to_owned(),
                _ => writer.address(seen.from),
            },
            error.count,
            if error.count == 1 { "" } else { "s" },
            writer.frame(seen.frame)
        );
    }
    for flow in flows.iter().take(most) {
        let _ = writeln!(
            out,
            "      {}  udp {} > {}  {} by {}",
            clock(&writer.time(flow.time)),
            writer.endpoint(flow.client),
            writer.endpoint(flow.server),
            flow.stated.cause,
            flow.stated.ended_by.noun(),
        );
    }
    if !all {
        out.push_str(&folded(explained));
    }
    out.push_str(&legend(shown.iter().take(most).map(|one| one.verdict.cause)));
    out
}

/// What the causes of a list mean, in the order in which they stand there.
fn legend(causes: impl Iterator<Item = Cause>) -> String {
    let mut known: Vec<Cause> = Vec::new();
    for cause in causes {
        if !known.contains(&cause) && known.len() < EXPLAINED {
            known.push(cause);
        }
    }
    let width = known.iter().map(|cause| cause.name().len()).max().unwrap_or(0);
    let mut out = String::new();
    for cause in known {
        let _ = write!(
            out,
            "{}{:<width$}  {}",
            if out.is_empty() { "\n" } else { "" },
            cause.name(),
            cause.sentence()
        );
        out.push('\n');
    }
    if !out.is_empty() {
        out.push_str("--conn N shows number N in full: evidence, alternatives, what to do\n");
    }
    out
}

/// What was left out, by cause.
fn folded(explained: &[Explained]) -> String {
    let mut causes = std::collections::BTreeMap::<Cause, u64>::new();
    for one in explained.iter().filter(|one| one.verdict.severity == Severity::Benign) {
        *causes.entry(one.verdict.cause).or_default() += 1;
    }
    if causes.is_empty() {
        return String::new();
    }
    let list: Vec<String> = causes.iter().map(|(cause, n)| format!("{} {cause}", count(*n))).collect();
    format!("benign: {} (--all shows them)\n", list.join(", "))
}

/// One connection in full: the sentence, evidence, alternatives, advice, limits, and its last packets.
#[must_use]
pub fn detail(writer: &Writer, explained: &Explained, kernel: &[String]) -> String {
    let (conn, verdict) = (&explained.conn, &explained.verdict);
    let mut out = String::new();
    let roles = if verdict.roles_known { "" } else { " (roles guessed)" };
    let _ = writeln!(
        out,
        "{} > {}{roles}",
        writer.endpoint(explained.client()),
        writer.endpoint(explained.server())
    );
    let _ = writeln!(out, "{}", writer.id(explained));
    let _ = writeln!(
        out,
        "{} to {}, {} packets, {} and {} bytes",
        writer.time(conn.first.0),
        writer.time(conn.last.0),
        count(conn.packets),
        count(conn.sides[usize::from(verdict.client)].bytes),
        count(conn.sides[1 - usize::from(verdict.client)].bytes),
    );
    if let Some((client, server)) = explained.translated() {
        let _ = writeln!(
            out,
            "behind a NAT, in another capture: {} > {}",
            writer.endpoint(client),
            writer.endpoint(server)
        );
    }
    if conn.tunnel.is_some() && !writer.anonymize {
        let _ = writeln!(out, "inside {}", conn.tunnel);
    }
    let _ = writeln!(out, "\n{}", sentence(writer, explained));
    for also in &verdict.also {
        let frames: Vec<String> =
            also.frames.iter().take(4).map(|frame| writer.frame(*frame).to_string()).collect();
        let place = if frames.is_empty() { String::new() } else { format!(" (frame {})", frames.join(", ")) };
        let _ = writeln!(out, "Also {}{place}: {}", also.cause, also.cause.sentence());
    }
    reasons(&mut out, writer, explained);
    for line in kernel {
        let _ = writeln!(out, "  kernel: {line}");
    }
    let advice = verdict.advice.as_deref().unwrap_or_else(|| verdict.cause.advice());
    if !advice.is_empty() {
        let _ = writeln!(out, "\nWhat to do: {advice}");
    }
    let _ = writeln!(out, "\nNot visible: {}", not_visible(explained));
    let _ = write!(out, "\n{}", sequence(explained, 12));
    out
}

fn reasons(out: &mut String, writer: &Writer, explained: &Explained) {
    let verdict = &explained.verdict;
    if !verdict.evidence.is_empty() {
        let _ = writeln!(out, "\nEvidence");
    }
    for evidence in &verdict.evidence {
        let frame = evidence.frame.map_or_else(String::new, |frame| format!("frame {}", writer.frame(frame)));
        let expected = match evidence.expected.as_deref() {
            Some(expected) if !expected.is_empty() => format!(", expected {expected}"),
            _ => String::new(),
        };
        // Some evidence has no value besides its text.
        let value = match evidence.value == evidence.text {
            true => String::new(),
            false => format!(" [{}{expected}]", evidence.value),
        };
        let text = writer.hide_addresses(&evidence.text);
        let _ = writeln!(out, "  {:<16} {frame:<14} {text}{value}", evidence.kind.name());
    }
    for (said, frame) in &verdict.declared {
        let text = if writer.redact && matches!(said.source, "application" | "text") {
            "(left out)"
        } else {
            &said.text
        };
        let _ = writeln!(out, "  stated           frame {:<8} {}: {text}", writer.frame(*frame), said.source);
    }
    if !verdict.alternatives.is_empty() {
        let _ = writeln!(out, "\nAlternatives");
    }
    for alternative in &verdict.alternatives {
        let _ = writeln!(
            out,
            "  {:<16} {:.2}  would be settled by: {}",
            alternative.cause.name(),
            alternative.confidence,
            alternative.settle
        );
    }
}

/// What the capture does not show, of this connection or of any.
pub(super) fn not_visible(explained: &Explained) -> String {
    let mut limits = explained.verdict.limits.clone();
    if matches!(explained.verdict.cause, Cause::CloseUnread | Cause::ClientCancelled | Cause::ListenerClosed)
    {
        limits.push("whether data that was acknowledged was read by the program".into());
    }
    if limits.is_empty() {
        limits.push("what the programs decided, and packets that passed elsewhere".into());
    }
    limits.join("; ")
}
