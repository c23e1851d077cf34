//! The rows of a timeline: which events share a line.

use super::{Kind, SIDE};
use lastack_engine::{Instant, Rule, Verdict};
use lastack_sim::decode::{Decoded, Decoder};
use lastack_sim::trace::{Entry, Fate, HostId, PacketKind, PacketRecord, Trace, What};
use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::TcpFlags;

/// A row: simultaneous events at both sides, and a packet between them.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub at: Instant,
    pub sides: [Cell; 2],
    pub middle: Option<Arrow>,
}

/// An event at one side.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub kind: Kind,
    pub text: String,
    pub rule: Option<Rule>,
}

/// A packet, or another event that concerns both sides.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub way: Way,
    pub kind: Kind,
    pub label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Right,
    Left,
    None,
}

impl From<usize> for Way {
    /// The direction of packets from this side.
    fn from(side: usize) -> Self {
        if side == 0 { Self::Right } else { Self::Left }
    }
}

impl Cell {
    const EMPTY: Self = Self { kind: Kind::Plain, text: String::new(), rule: None };

    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), rule: None }
    }

    /// Its width in columns.
    pub fn width(&self) -> usize {
        let blank = usize::from(!self.text.is_empty());
        self.text.chars().count() + self.rule.map_or(0, |rule| rule.code().len() + 2 + blank)
    }
}

/// The rows of a trace, in chronological order.
pub(super) fn rows(trace: &Trace) -> Vec<Row> {
    let mut builder = Builder { trace, decoder: Decoder::default(), rows: Vec::new() };
    for (at, entry) in trace.entries.iter().enumerate() {
        builder.add(entry, trace.entries.get(at + 1));
    }
    builder.rows
}

/// The ports of the two hosts, if all their packets use the same two.
pub(super) fn ports(trace: &Trace) -> Option<[u16; 2]> {
    let mut found = None;
    for record in &trace.packets {
        let Ok(packet) = IpPacket::parse(&record.bytes) else { continue };
        let (&[a, b, c, d, ..], ip::TCP | ip::UDP) = (packet.payload, packet.header.protocol) else {
            continue;
        };
        let mut ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        if record.from != HostId::new(0) {
            ports.reverse();
        }
        if *found.get_or_insert(ports) != ports {
            return None;
        }
    }
    found
}

struct Builder<'a> {
    trace: &'a Trace,
    decoder: Decoder,
    rows: Vec<Row>,
}

impl Builder<'_> {
    fn add(&mut self, entry: &Entry, next: Option<&Entry>) {
        let &Entry { at, host, ref what } = entry;
        let side = host.index();
        if side > 1 {
            return;
        }
        match what {
            What::Sent(packet) => self.sent(at, side, &self.trace.packets[*packet], next),
            What::Arrived(packet) => self.arrived(at, side, &self.trace.packets[*packet], next),
            What::State { state, .. } => self.state(at, side, Cell::new(Kind::State, state.to_string())),
            What::Application(text) => self.application(at, side, text),
            What::Restarted => {
                self.cell(at, side, Cell::new(Kind::Note, "** restarts: all state is lost **"))
            }
            What::Path { cut } => {
                let label = if *cut { "the path is cut" } else { "the path is mended" }.to_owned();
                let middle = Some(Arrow { way: Way::None, kind: Kind::Note, label });
                self.rows.push(Row { at, sides: [Cell::EMPTY, Cell::EMPTY], middle });
            }
            What::Ended(_) => {}
        }
    }

    fn cell(&mut self, at: Instant, side: usize, cell: Cell) {
        let mut sides = [Cell::EMPTY, Cell::EMPTY];
        sides[side] = cell;
        self.rows.push(Row { at, sides, middle: None });
    }

    /// The last row, if it is of the same time at the displayed resolution, and shows only
    /// one side.
    fn last(&mut self, at: Instant, side: usize) -> Option<&mut Row> {
        let same = |row: &&mut Row| row.at.as_millis() == at.as_millis() && row.sides[1 - side].width() == 0;
        self.rows.last_mut().filter(same)
    }

    /// A call that is logged after its packet shares the packet's row.
    fn application(&mut self, at: Instant, side: usize, text: &str) {
        let cell = Cell::new(Kind::Application, format!("\"{text}\""));
        let own = Way::from(side);
        let joins = |row: &&mut Row| {
            let sent = row.middle.as_ref().is_some_and(|arrow| arrow.way == own);
            sent && row.sides[side].width() == 0 && cell.width() <= SIDE
        };
        match self.last(at, side).filter(joins) {
            Some(row) => row.sides[side] = cell,
            None => self.cell(at, side, cell),
        }
    }

    /// A state shares the row of its packet, and is shown beside the rule that caused it.
    fn state(&mut self, at: Instant, side: usize, cell: Cell) {
        let own = Way::from(side);
        let joins = |row: &&mut Row| {
            let with_packet = row.middle.as_ref().is_some_and(|arrow| arrow.way == own);
            row.sides[side].text.is_empty() && (with_packet || row.sides[side].rule.is_some())
        };
        match self.last(at, side).filter(joins) {
            Some(row) => row.sides[side] = Cell { rule: row.sides[side].rule, ..cell },
            None => self.cell(at, side, cell),
        }
    }

    /// A packet shares the row of its cause: a state, a rule, or else a call.
    fn sent(&mut self, at: Instant, side: usize, record: &PacketRecord, next: Option<&Entry>) {
        let decoded = self.decoder.read(record);
        let way = Way::from(side);
        let kind = match (&decoded, record.fate) {
            (_, Fate::Lost(_)) => Kind::Lost,
            (Decoded::Tcp(segment), _) if segment.flags.contains(TcpFlags::RST) => Kind::Reset,
            (Decoded::IcmpError(_), _) => Kind::Reset,
            _ => Kind::Packet,
        };
        let damaged = if record.kind == PacketKind::Damaged { " damaged" } else { "" };
        let arrow = Arrow { way, kind, label: format!("{decoded}{damaged}") };
        let state_follows = next.is_some_and(|entry| {
            entry.at.as_millis() == at.as_millis()
                && entry.host.index() == side
                && matches!(entry.what, What::State { .. })
        });
        let joins = |row: &&mut Row| {
            let cell = &row.sides[side];
            let call = cell.kind == Kind::Application && cell.width() <= SIDE && !state_follows;
            row.middle.is_none() && cell.rule.is_none() && (cell.kind == Kind::State || call)
        };
        match self.last(at, side).filter(joins).filter(|_| record.kind == PacketKind::Sent) {
            Some(row) => {
                row.sides[side].rule = record.transmit.rule;
                row.middle = Some(arrow);
            }
            None => {
                let forged = if record.kind == PacketKind::Forged { "forged by an attacker:" } else { "" };
                self.cell(at, side, Cell { rule: record.transmit.rule, ..Cell::new(Kind::Note, forged) });
                if let Some(row) = self.rows.last_mut() {
                    row.middle = Some(arrow);
                }
            }
        }
    }

    /// The verdict of the receiver, where the following packets and states do not show it.
    fn arrived(&mut self, at: Instant, side: usize, record: &PacketRecord, next: Option<&Entry>) {
        let Fate::Delivered { verdict: Some(verdict), .. } = record.fate else { return };
        let answer = next.and_then(|entry| match entry.what {
            What::Sent(packet) if entry.host == HostId::new(side) => self.trace.packets[packet].transmit.rule,
            _ => None,
        });
        let cell = match verdict {
            Verdict::Accepted => return,
            Verdict::Answered(rule) if answer == Some(rule) => return,
            Verdict::Answered(rule) => Cell { rule: Some(rule), ..Cell::new(Kind::Plain, "noted") },
            Verdict::Ended(rule) => Cell { rule: Some(rule), ..Cell::EMPTY },
            _ => Cell { rule: verdict.rule(), ..Cell::new(Kind::Plain, "dropped") },
        };
        self.cell(at, side, cell);
    }
}
