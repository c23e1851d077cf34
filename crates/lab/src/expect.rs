//! Compares a trace with the expectations of its script.

use super::script::{Ending, Expected, Reset, Script, Side};
use lastack_engine::End;
use lastack_sim::decode::{Decoded, Decoder, Segment};
use lastack_sim::trace::{Fate, HostId, PacketKind, Trace};
use lastack_wire::tcp::TcpFlags;
use std::fmt::{Debug, Display};

/// The differences, one sentence each.
pub(super) fn differences(script: &Script, trace: &Trace) -> Vec<String> {
    let seen = Seen::new(trace);
    script.expected.iter().filter_map(|expected| seen.test(expected).err()).collect()
}

/// A trace and its decoded packets.
struct Seen<'a> {
    trace: &'a Trace,
    packets: Vec<(Side, Decoded)>,
}

impl<'a> Seen<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut decoder = Decoder::default();
        let mut packets = Vec::new();
        for record in trace.packets.iter() {
            let side = if record.from == HostId::new(0) { Side::A } else { Side::B };
            let decoded = decoder.read(record);
            if record.kind == PacketKind::Sent {
                packets.push((side, decoded));
            }
        }
        Self { trace, packets }
    }

    fn segments(&self) -> impl Iterator<Item = (Side, &Segment)> {
        self.packets.iter().filter_map(|(side, decoded)| match decoded {
            Decoded::Tcp(segment) => Some((*side, segment)),
            _ => None,
        })
    }

    fn resets(&self) -> impl Iterator<Item = Reset> {
        let resets = self.segments().filter(|(_, segment)| segment.flags.contains(TcpFlags::RST));
        resets.map(|(by, segment)| reset(by, segment))
    }

    fn ours(&self, side: Side) -> bool {
        self.trace.hosts[side.index()].ours
    }

    fn test(&self, expected: &Expected) -> Result<(), String> {
        match expected {
            Expected::Resets(stated) => same_list("the resets", &self.resets().collect::<Vec<_>>(), stated),
            Expected::FirstReset(stated) => {
                let first: Vec<Reset> = self.resets().take(1).collect();
                same_list("the first reset", &first, &[*stated])
            }
            Expected::Count { by, flags, times } => {
                let matching =
                    |(from, segment): &(Side, &Segment)| from == by && segment.flags.contains(*flags);
                same(&format!("segments {flags} from {by}"), self.segments().filter(matching).count(), *times)
            }
            Expected::ByRule { by, .. } | Expected::Ends(by, _) | Expected::Open(by, _)
                if !self.ours(*by) =>
            {
                Ok(())
            }
            Expected::ByRule { by, rule, times } => {
                let host = HostId::new(by.index());
                let sent = self.trace.packets.iter().filter(|record| record.from == host);
                let found = sent.filter(|record| record.transmit.rule == Some(*rule)).count();
                same(&format!("packets from {by} by {rule}"), found, *times)
            }
            Expected::Ends(side, stated) => {
                let ends = self.trace.ends(HostId::new(side.index()));
                let found: Vec<Ending> = ends.map(|ended| ending(&ended.end)).collect();
                same_list(&format!("the ends at {side}"), &found, stated)
            }
            Expected::Open(side, stated) => {
                let open = self.trace.open(HostId::new(side.index())).len();
                same(&format!("open connections at {side} at the end"), open, *stated)
            }
            Expected::Lost(stated) => {
                let lost = self.trace.packets.iter().filter(|record| matches!(record.fate, Fate::Lost(_)));
                same("lost packets", lost.count(), *stated)
            }
            Expected::IcmpErrors(side, stated) => {
                let errors = self
                    .packets
                    .iter()
                    .filter(|(from, decoded)| from == side && matches!(decoded, Decoded::IcmpError(_)));
                same(&format!("ICMP errors from {side}"), errors.count(), *stated)
            }
        }
    }
}

fn reset(by: Side, segment: &Segment) -> Reset {
    Reset { by, seq: segment.seq.relative, ack: segment.ack.map(|ack| ack.relative) }
}

fn ending(end: &End) -> Ending {
    Ending { cause: end.cause, by: end.by, rule: end.rule, lost: end.lost }
}

fn same<T: PartialEq + Display>(what: &str, found: T, stated: T) -> Result<(), String> {
    if found == stated { Ok(()) } else { Err(format!("{what}: {found}, expected {stated}")) }
}

fn same_list<T: PartialEq + Debug>(what: &str, found: &[T], stated: &[T]) -> Result<(), String> {
    if found == stated { Ok(()) } else { Err(format!("{what} are {found:?}, expected {stated:?}")) }
}
