//! A page: the headline, a list that can be sorted, and of each connection evidence, sequence diagram and plots.

use lastack_causes::{EndedBy, Severity};
use lastack_diagram::{
    Arrow as Way, Cell, Entry, Mark, Page, Plot, Point, Row as Drawn, Section, Sequence, Tile,
};
use lastack_wire::TcpFlags;

use super::conversation::{bytes, count, sentence, span};
use super::sequence::{Arrow, Row, rows};
use super::text::{headline, in_order, not_visible};
use crate::explainer::{Explained, Summary};
use crate::packet::Pkt;
use crate::pattern::Group;
use crate::record::Writer;

/// Packets of a sequence diagram.
const ROWS: usize = 24;

/// The page of all connections, worst first, benign ones only if `all`. At most `most` of them.
#[must_use]
pub fn html(
    writer: &Writer,
    summary: &Summary,
    groups: &[Group],
    explained: &[Explained],
    all: bool,
    most: usize,
) -> String {
    let shown = in_order(explained, all);
    let mut page = Page {
        title: match summary.connections {
            1 => "How one connection ended".into(),
            n => format!("How {} connections ended", count(n)),
        },
        headline: headline(writer, summary, groups, explained),
        tiles: tiles(summary),
        columns: vec![
            "ended", "client", "server", "cause", "by", "severity", "sure", "lasted", "bytes", "resets",
        ],
        entries: shown.iter().take(most).map(|one| entry(writer, one)).collect(),
        sections: Vec::new(),
    };
    if !groups.is_empty() {
        page.sections.push(group_list(writer, groups));
    }
    let left = shown.len().saturating_sub(most);
    if left > 0 {
        let mut more = Section::new("");
        more.paragraph(&format!(
            "{} more connections are not on this page; --json lists all.",
            count(left as u64)
        ));
        page.sections.push(more);
    }
    page.html()
}

fn tiles(summary: &Summary) -> Vec<Tile> {
    let of = |severity| summary.severities.get(&severity).copied().unwrap_or(0);
    let tile = |n: u64, label: &str, class| Tile { value: count(n), label: label.into(), class };
    vec![
        tile(of(Severity::Harmful), "harmful", "harmful"),
        tile(of(Severity::Suspicious), "suspicious", "suspicious"),
        tile(of(Severity::Benign), "benign", "benign"),
        tile(summary.rst_frames, "resets", ""),
        tile(summary.packets, "packets", ""),
    ]
}

fn group_list(writer: &Writer, groups: &[Group]) -> Section {
    let mut section = Section::new("What many connections share");
    section.table(groups.iter().map(|group| {
        [
            group.cause.name().to_owned(),
            writer.endpoint(group.server),
            count(group.count),
            writer.time(group.first),
            writer.time(group.last),
            group.fact.clone(),
        ]
    }));
    section
}

fn entry(writer: &Writer, one: &Explained) -> Entry {
    let (conn, verdict) = (&one.conn, &one.verdict);
    let total = conn.sides[0].bytes + conn.sides[1].bytes;
    let lasted = conn.last.0 - conn.first.0;
    let by = match verdict.ended_by {
        EndedBy::Path => "a device",
        by => by.name(),
    };
    let cells = vec![
        Cell::text(writer.time(conn.last.0)),
        Cell::text(writer.endpoint(one.client())),
        Cell::text(writer.endpoint(one.server())),
        Cell::text(verdict.cause.name()),
        Cell::text(by),
        Cell::ranked(verdict.severity.name(), verdict.severity as i32),
        Cell::number(format!("{:.2}", verdict.confidence), f64::from(verdict.confidence)),
        Cell::number(span(lasted), lasted as f64),
        Cell::number(bytes(total), total as f64),
        Cell::number(conn.resets.len().to_string(), conn.resets.len() as f64),
    ];
    Entry { class: verdict.severity.name(), cells, body: body(writer, one) }
}

fn body(writer: &Writer, one: &Explained) -> Section {
    let verdict = &one.verdict;
    let mut body = Section::new("");
    body.paragraph(&sentence(writer, one));
    let advice = verdict.advice.as_deref().unwrap_or_else(|| verdict.cause.advice());
    if !advice.is_empty() {
        body.paragraph(&format!("What to do: {advice}"));
    }
    body.picture(&diagram(writer, one).svg());
    if !verdict.evidence.is_empty() {
        body.heading("Evidence").table(verdict.evidence.iter().map(|evidence| {
            let frame =
                evidence.frame.map_or_else(String::new, |frame| format!("frame {}", writer.frame(frame)));
            [
                evidence.kind.name().to_owned(),
                frame,
                writer.hide_addresses(&evidence.text),
                evidence.value.clone(),
            ]
        }));
    }
    if !verdict.alternatives.is_empty() {
        body.heading("Alternatives").table(verdict.alternatives.iter().map(|other| {
            let settle = format!("would be settled by: {}", other.settle);
            [other.cause.name().to_owned(), format!("{:.2}", other.confidence), settle]
        }));
    }
    if !verdict.also.is_empty() {
        body.heading("Also observed").list(verdict.also.iter().map(|also| also.cause.sentence()));
    }
    if one.conn.sides.iter().any(|side| side.bytes > 0) {
        body.heading("Sequence numbers over time");
        for side in [usize::from(verdict.client), 1 - usize::from(verdict.client)] {
            let name = if side == usize::from(verdict.client) { "client" } else { "server" };
            body.picture(&plot(one, side, name).svg());
        }
    }
    body.paragraph(&format!("Not visible: {}", not_visible(one)));
    body.verbatim(&writer.id(one));
    body
}

fn diagram(writer: &Writer, one: &Explained) -> Sequence {
    let name = |role: &str, endpoint: String| format!("{role}\n{endpoint}");
    let mut sequence = Sequence::new(
        name("client", writer.endpoint(one.client())),
        name("server", writer.endpoint(one.server())),
    );
    sequence.rows = rows(one, ROWS).iter().map(|row| drawn(writer, row)).collect();
    sequence
}

fn drawn(writer: &Writer, row: &Row) -> Drawn {
    let arrow = match row.arrow {
        Arrow::Right => Way::Right,
        Arrow::Left => Way::Left,
        Arrow::PathLeft => Way::PathLeft,
        Arrow::PathRight => Way::PathRight,
    };
    let note = row.note.clone().unwrap_or_default();
    // The effect of a reset is shown where it arrives.
    let to_right = matches!(row.arrow, Arrow::Right | Arrow::PathRight);
    let (left, right) = if to_right { (String::new(), note) } else { (note, String::new()) };
    let pkt = &row.pkt;
    Drawn {
        left,
        right,
        title: format!(
            "frame {}, TTL {}, id {}, window {}",
            writer.frame(pkt.frame),
            pkt.ttl,
            pkt.ident,
            pkt.window
        ),
        pause: row.pause.map_or_else(String::new, |pause| format!("{} later", span(pause))),
        reset: row.reset,
        decisive: row.decisive,
        ..Drawn::new(format!("{:.6}", row.at as f64 / 1e9), arrow, row.label.clone())
    }
}

/// What one end sent, and what the other acknowledged of it.
fn plot(one: &Explained, side: usize, name: &str) -> Plot {
    let conn = &one.conn;
    let sent = |pkt: &&Pkt| usize::from(pkt.side) == side && !pkt.is_rst();
    let base = conn.sides[side].syn.or(conn.kept().find(sent).copied()).map_or(0, |pkt| pkt.seq);
    let relative = |number: u32| {
        // A number before the first one seen is not far away.
        let distance = number.wrapping_sub(base);
        (distance < 1 << 31).then_some(f64::from(distance))
    };
    let time = |pkt: &Pkt| ((pkt.time - conn.first.0) as f64 / 1e9).max(0.0);
    let points = conn.kept().filter_map(|pkt| {
        let own = usize::from(pkt.side) == side;
        let (seq, mark) = match own {
            true if pkt.is_rst() => (relative(pkt.seq)?, Mark::Reset),
            true if pkt.len > 0 => (relative(pkt.seq)?, Mark::Data),
            true => (relative(pkt.seq)?, Mark::Bare),
            false if pkt.has(TcpFlags::ACK) && !pkt.is_rst() => (relative(pkt.ack)?, Mark::Acknowledgment),
            false => return None,
        };
        let len = if mark == Mark::Data { f64::from(pkt.len) } else { 0.0 };
        Some(Point { time: time(pkt), seq, len, mark })
    });
    Plot { title: format!("bytes of the {name}, and their acknowledgments"), points: points.collect() }
}
