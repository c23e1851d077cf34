//! Translation between the numbers of a script and those on the wire.
//!
//! The numbers of a segment with SYN are absolute in a script; all others are relative to
//! the SYN of their direction. The runner chooses the peer's numbers, the stack its own.

use super::syntax::{IcmpMessage, Quoted, Segment, TcpOption};
use lastack_engine::FourTuple;
use lastack_wire::tcp::TcpFlags;
use std::collections::HashMap;

/// The phase of a socket in the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    New,
    Listening,
    /// The peer opened the connection.
    Passive,
    /// The socket opened the connection.
    Connecting,
}

/// The runner's record of a socket under test.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number in the script, once it has one.
    pub fd: Option<i64>,
    pub phase: Phase,
    pub flow: Option<FourTuple>,
    /// The stack's initial sequence number: in the script, on the wire; 0 and 0 until its SYN was seen.
    local: (u32, u32),
    local_known: bool,
    /// The peer's initial sequence number.
    remote: u32,
    /// The stack's timestamps: from those in the script to those on the wire.
    times: HashMap<u32, u32>,
    first_time: Option<(u32, u32)>,
}

/// How timestamps of the peer are translated to the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echoes {
    /// Unknown timestamps are counted from the first one, instead of being an error.
    pub scaled: bool,
}

impl Record {
    pub fn new(phase: Phase) -> Self {
        Self {
            fd: None,
            phase,
            flow: None,
            local: (0, 0),
            local_known: false,
            remote: 0,
            times: HashMap::new(),
            first_time: None,
        }
    }

    /// The record of a descriptor.
    pub fn of(fd: i64, phase: Phase) -> Self {
        Self { fd: Some(fd), ..Self::new(phase) }
    }

    /// The peer opens a connection with this segment.
    pub fn passive(flow: FourTuple, segment: &Segment) -> Self {
        Self { flow: Some(flow), remote: segment.seq, ..Self::new(Phase::Passive) }
    }

    /// Translates a segment of the script to what the peer sends.
    pub fn inbound(&mut self, segment: &Segment, echoes: Echoes) -> Result<Segment, String> {
        let syn = segment.flags.contains(TcpFlags::SYN);
        let acked = segment.flags.contains(TcpFlags::ACK);
        if syn && acked && self.phase == Phase::Connecting {
            self.remote = segment.seq;
        }
        let mut live = segment.clone();
        live.seq = if syn { segment.seq } else { segment.seq.wrapping_add(self.remote) };
        live.ack = segment.ack.map(|ack| if acked { self.local_to_live(ack, syn) } else { ack });
        if segment.ack.is_none() && acked {
            live.ack = Some(self.local_to_live(0, syn));
        }
        for option in live.options.iter_mut().flatten() {
            match option {
                TcpOption::Sack(blocks) => {
                    for (left, right) in blocks {
                        *left = self.local_to_live(*left, syn);
                        *right = self.local_to_live(*right, syn);
                    }
                }
                TcpOption::Timestamps { ecr, .. } if acked => *ecr = self.echo(*ecr, echoes)?,
                _ => {}
            }
        }
        Ok(live)
    }

    /// Translates a sequence number of the stack's direction to the wire.
    pub fn local_to_live(&self, number: u32, syn: bool) -> u32 {
        let (script, live) = self.local;
        if syn { number.wrapping_add(live).wrapping_sub(script) } else { number.wrapping_add(live) }
    }

    /// Translates an ICMP message that quotes a segment of the stack.
    pub fn quoted(&self, message: &IcmpMessage) -> IcmpMessage {
        let quoted = message.quoted.map(|quoted| match quoted {
            Quoted::Tcp { seq, len } => Quoted::Tcp { seq: seq.wrapping_add(self.local.1), len },
            other => other,
        });
        IcmpMessage { quoted, ..message.clone() }
    }

    fn echo(&self, ecr: u32, echoes: Echoes) -> Result<u32, String> {
        if let Some(live) = self.times.get(&ecr) {
            return Ok(*live);
        }
        match self.first_time {
            Some((script, live)) if echoes.scaled => Ok(ecr.wrapping_sub(script).wrapping_add(live)),
            _ => Err(format!("no packet of the stack had the timestamp {ecr} in this script")),
        }
    }

    /// Takes the stack's initial sequence numbers from the expected SYN and the one that was sent.
    pub fn note_syn(&mut self, expected: &Segment, live: &Segment) {
        let both = expected.flags & live.flags;
        let begins = match self.phase {
            Phase::Passive => both.contains(TcpFlags::SYN | TcpFlags::ACK),
            Phase::Connecting => both.contains(TcpFlags::SYN),
            Phase::New | Phase::Listening => false,
        };
        if begins && !self.local_known {
            self.local = (expected.seq, live.seq);
            self.local_known = true;
        }
    }

    /// Maps the timestamps of an expected packet to those of the one that was sent.
    pub fn note_timestamps(&mut self, expected: &Segment, live: &Segment) {
        let val = |segment: &Segment| {
            segment.options.iter().flatten().find_map(|option| match option {
                TcpOption::Timestamps { val, .. } => Some(*val),
                _ => None,
            })
        };
        if let (Some(script), Some(live)) = (val(expected), val(live)) {
            self.times.insert(script, live);
            self.first_time.get_or_insert((script, live));
        }
    }

    /// Translates a segment of the stack to the numbers of the script.
    pub fn outbound(&self, live: &Segment) -> Segment {
        let syn = live.flags.contains(TcpFlags::SYN);
        let acked = live.flags.contains(TcpFlags::ACK);
        let (script_local, live_local) = self.local;
        let relative = live.seq.wrapping_sub(live_local);
        let remote = |number: u32| if syn { number } else { number.wrapping_sub(self.remote) };
        let mut segment = live.clone();
        segment.seq = if syn { relative.wrapping_add(script_local) } else { relative };
        segment.ack = live.ack.map(|ack| if acked { remote(ack) } else { ack });
        for option in segment.options.iter_mut().flatten() {
            match option {
                TcpOption::Sack(blocks) => {
                    for (left, right) in blocks {
                        (*left, *right) = (remote(*left), remote(*right));
                    }
                }
                TcpOption::Timestamps { val, .. } => {
                    if let Some((script, first)) = self.first_time {
                        *val = val.wrapping_sub(first).wrapping_add(script);
                    }
                }
                _ => {}
            }
        }
        segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: TcpFlags, seq: u32, ack: u32) -> Segment {
        Segment { flags, seq, ack: Some(ack), ..Segment::default() }
    }

    const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);

    #[test]
    fn numbers_count_from_the_syn_of_their_direction() {
        let flow = FourTuple { local: "1.2.3.4:1".parse().unwrap(), remote: "1.2.3.5:2".parse().unwrap() };
        let mut record = Record::passive(flow, &segment(TcpFlags::SYN, 7000, 0));
        record.note_syn(&segment(SYN_ACK, 50, 7001), &segment(SYN_ACK, 1_000, 7001));
        // Absolute beside SYN.
        let seen = record.outbound(&segment(SYN_ACK, 1_000, 7001));
        assert_eq!((seen.seq, seen.ack), (50, Some(7001)));
        // Relative otherwise, both ways.
        let seen = record.outbound(&segment(TcpFlags::ACK, 1_001, 7011));
        assert_eq!((seen.seq, seen.ack), (1, Some(11)));
        let sent = record.inbound(&segment(TcpFlags::ACK, 11, 1), Echoes::default()).unwrap();
        assert_eq!((sent.seq, sent.ack), (7011, Some(1_001)));
        // Without the flag the field is what it is.
        let seen = record.outbound(&segment(TcpFlags::RST, 1_001, 0));
        assert_eq!((seen.seq, seen.ack), (1, Some(0)));
    }

    #[test]
    fn an_echo_names_a_timestamp_seen_before() {
        let mut record = Record::new(Phase::Connecting);
        let with = |val, ecr| Segment {
            options: Some(vec![TcpOption::Timestamps { val, ecr }]),
            ..segment(TcpFlags::ACK, 1, 1)
        };
        assert!(record.inbound(&with(9, 100), Echoes::default()).is_err());
        record.note_timestamps(&with(100, 0), &with(555_000, 0));
        let sent = record.inbound(&with(9, 100), Echoes::default()).unwrap();
        assert_eq!(sent.options, with(9, 555_000).options);
        assert!(record.inbound(&with(9, 103), Echoes::default()).is_err());
        let sent = record.inbound(&with(9, 103), Echoes { scaled: true }).unwrap();
        assert_eq!(sent.options, with(9, 555_003).options);
        assert_eq!(record.outbound(&with(555_007, 0)).options, with(107, 0).options);
    }
}
