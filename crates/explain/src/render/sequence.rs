//! A connection's last packets as a sequence diagram of text.

use super::conversation::span;
use crate::explainer::Explained;
use crate::packet::Pkt;
use crate::verdict::Role;
use lastack_causes::{Cause, EndedBy};
use lastack_wire::TcpFlags;
use std::fmt::Write as _;

/// A pause longer than this is drawn.
const PAUSE: i64 = 500_000_000;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrow {
    /// From the client to the server.
    Right,
    /// From the server to the client.
    Left,
    /// From a device on the path to the client.
    PathLeft,
    /// From a device on the path to the server.
    PathRight,
}

/// A row of a diagram.
#[derive(Clone, Debug)]
pub struct Row {
    /// Nanoseconds since the connection began.
    pub at: i64,
    /// The pause before, if it is long.
    pub pause: Option<i64>,
    /// Which way.
    pub arrow: Arrow,
    /// Flags and numbers, relative to the initial ones.
    pub label: String,
    /// It is a reset.
    pub reset: bool,
    /// It is one of the packets that decide.
    pub decisive: bool,
    /// What a reset did: its role.
    pub note: Option<String>,
    /// The packet.
    pub pkt: Pkt,
}

/// The rows of at most `most` packets around what ended a connection.
#[must_use]
pub fn rows(explained: &Explained, most: usize) -> Vec<Row> {
    let (conn, verdict) = (&explained.conn, &explained.verdict);
    let client = verdict.client;
    // Relative to the initial numbers, or to the first ones seen.
    let base = |side: usize| {
        let first = conn.kept().find(|pkt| usize::from(pkt.side) == side && !pkt.is_rst());
        conn.sides[side].syn.or(first.copied()).map(|pkt| pkt.seq)
    };
    let bases = [base(0), base(1)];
    let mut rows: Vec<Row> = Vec::new();
    let mut last = conn.first.0;
    for pkt in conn.kept() {
        let reset = conn.resets.iter().zip(&verdict.roles).find(|(reset, _)| reset.pkt.frame == pkt.frame);
        let forged = reset.is_some_and(|(_, role)| *role == Role::Injected)
            || (verdict.cause == Cause::Injected && verdict.decisive.contains(&pkt.frame))
            || (verdict.ended_by == EndedBy::Path
                && verdict.device.is_some()
                && reset.is_some_and(|_| verdict.decisive.contains(&pkt.frame)));
        let from_client = pkt.side == client;
        let arrow = match (from_client, forged) {
            (true, false) => Arrow::Right,
            (false, false) => Arrow::Left,
            (true, true) => Arrow::PathRight,
            (false, true) => Arrow::PathLeft,
        };
        let waited = pkt.time - last;
        last = pkt.time;
        rows.push(Row {
            at: pkt.time - conn.first.0,
            pause: (waited > PAUSE).then_some(waited),
            arrow,
            label: label(pkt, &bases),
            reset: pkt.is_rst(),
            decisive: verdict.decisive.contains(&pkt.frame),
            note: reset.map(|(reset, role)| format!("{}, {}", role.name(), reset.effect.name())),
            pkt: *pkt,
        });
    }
    let mut shown = rows.split_off(start(&rows, most));
    shown.truncate(most);
    shown
}

/// Where to begin if only `most` rows are shown: the last ones, or those around the packets that decide.
fn start(rows: &[Row], most: usize) -> usize {
    let tail = rows.len().saturating_sub(most);
    let first = rows.iter().position(|row| row.decisive);
    let last = rows.iter().rposition(|row| row.decisive);
    let Some((first, last)) = first.zip(last) else { return tail };
    first.saturating_sub(3).max((last + 3).saturating_sub(most)).min(tail)
}

fn label(pkt: &Pkt, bases: &[Option<u32>; 2]) -> String {
    let side = usize::from(pkt.side);
    let relative = |number: u32, base: Option<u32>| base.map_or(number, |base| number.wrapping_sub(base));
    let mut label = format!("{} seq={}", pkt.flags, relative(pkt.seq, bases[side]));
    if pkt.has(TcpFlags::ACK) {
        let _ = write!(label, " ack={}", relative(pkt.ack, bases[1 - side]));
    }
    if pkt.len > 0 {
        let _ = write!(label, " len={}", pkt.len);
    }
    if pkt.window == 0 && !pkt.is_rst() {
        label.push_str(" win=0");
    }
    label
}

/// The diagram: a line a packet, pauses drawn, resets marked, a lane for a device on the path.
#[must_use]
pub fn sequence(explained: &Explained, most: usize) -> String {
    const WIDTH: usize = 44;
    let rows = rows(explained, most);
    let path = rows.iter().any(|row| matches!(row.arrow, Arrow::PathLeft | Arrow::PathRight));
    let mut out = String::new();
    let lane = if path { format!("{:^WIDTH$}", "path") } else { " ".repeat(WIDTH) };
    let _ = writeln!(out, "{:>12} {:>8}  client |{lane}| server", "time", "frame");
    for row in &rows {
        if let Some(pause) = row.pause {
            let text = format!(" {} ", span(pause));
            let _ = writeln!(out, "{:>12} {:>8}         :{text:^WIDTH$}:", "", "");
        }
        let arrow = draw(row, WIDTH);
        let mark = match (&row.note, row.decisive) {
            (Some(note), _) => format!("  RST: {note}"),
            (None, true) => "  <".to_owned(),
            (None, false) => String::new(),
        };
        let time = format!("{:.6}", row.at as f64 / 1e9);
        let _ = writeln!(out, "{time:>12} {:>8}         |{arrow}|{mark}", row.pkt.frame.number());
    }
    out
}

fn draw(row: &Row, width: usize) -> String {
    let half = width / 2;
    let dashes = |text: &str, width: usize, left: bool| {
        let text: String = text.chars().take(width.saturating_sub(4)).collect();
        let fill = width - text.len() - 3;
        if left { format!("<{} {text} ", "-".repeat(fill)) } else { format!(" {text} {}>", "-".repeat(fill)) }
    };
    match row.arrow {
        Arrow::Right => dashes(&row.label, width, false),
        Arrow::Left => dashes(&row.label, width, true),
        Arrow::PathLeft => format!("{}+{}", dashes(&row.label, half + 8, true), " ".repeat(width - half - 9)),
        Arrow::PathRight => {
            format!("{}+{}", " ".repeat(width - half - 9), dashes(&row.label, half + 8, false))
        }
    }
}
