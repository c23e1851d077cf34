//! Clocks of several captures: by how much one differs from another, computed from the packets that both have.

use super::Capture;
use crate::decap;
use crate::segment::Segment;
use lastack_wire::TcpFlags;
use std::collections::HashMap;

/// Packets of each capture that are looked at.
const LOOKED: usize = 200_000;
/// Packets that both captures need in common before a difference is used.
const SHARED: usize = 3;

/// What tells a packet from others: two numbers of it, its length and its flags.
type Key = (u32, u32, u32, u16);
/// Packets that are in no capture twice: when, and whether they go to the lower port.
type Seen = HashMap<Key, Option<(i64, bool)>, foldhash::fast::RandomState>;

/// The packets of one capture.
#[derive(Default)]
struct Looks {
    /// By sequence numbers.
    by_numbers: Seen,
    /// By timestamps: a firewall may choose other sequence numbers.
    by_clocks: Seen,
}

/// What to add to the times of each capture so that they agree with those of the first one that has the same packets. A difference
/// that the way between the two explains is none.
#[must_use]
pub fn offsets(mut captures: Vec<Capture>) -> Vec<i64> {
    let seen: Vec<Looks> = captures.iter_mut().map(look).collect();
    let mut offsets: Vec<i64> = Vec::with_capacity(seen.len());
    for (index, own) in seen.iter().enumerate() {
        let known = seen[..index].iter().zip(&offsets);
        let apart = |other: &Looks| {
            difference(&other.by_numbers, &own.by_numbers)
                .or_else(|| difference(&other.by_clocks, &own.by_clocks))
        };
        let found = known.filter_map(|(other, offset)| Some(apart(other)? + offset)).next();
        offsets.push(found.unwrap_or(0));
    }
    offsets
}

/// The packets of a capture that can be found again in another one: SYNs and payload. Addresses and ports may be translated between.
fn look(capture: &mut Capture) -> Looks {
    let mut looks = Looks::default();
    for _ in 0..LOOKED {
        let Some(packet) = capture.next_packet() else { break };
        if !packet.timed {
            continue;
        }
        let ip = decap::dissect(packet.link, packet.data, packet.length, packet.interface);
        let Some(segment) = ip.and_then(|ip| Segment::read(&ip, packet.time, packet.frame)) else { continue };
        let pkt = &segment.pkt;
        if pkt.len > 0 || pkt.has(TcpFlags::SYN) {
            let known = Some((pkt.time, segment.dst.port < segment.src.port));
            // A packet that is there twice is no evidence.
            let note = |seen: &mut Seen, a: u32, b: u32| {
                let key = (a, b, pkt.len, pkt.flags.bits());
                seen.entry(key).and_modify(|known| *known = None).or_insert(known);
            };
            note(&mut looks.by_numbers, pkt.seq, pkt.ack);
            if let Some(clock) = segment.header.options.timestamps {
                note(&mut looks.by_clocks, clock.val, clock.ecr);
            }
        }
    }
    looks
}

/// What to add to the times of `own`: half way between the delays that packets of the two directions seem to have, if both have the
/// same sign, which no path makes.
fn difference(other: &Seen, own: &Seen) -> Option<i64> {
    let mut delays: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
    for (key, here) in own {
        if let (Some((here, down)), Some(Some((there, _)))) = (here, other.get(key)) {
            delays[usize::from(*down)].push(here - there);
        }
    }
    if delays.iter().map(Vec::len).sum::<usize>() < SHARED {
        return None;
    }
    let [Some(up), Some(down)] = delays.map(middle) else { return Some(0) };
    let apart = (up > 0) == (down > 0) && up != 0 && down != 0;
    Some(if apart { -(up / 2 + down / 2) } else { 0 })
}

fn middle(mut delays: Vec<i64>) -> Option<i64> {
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(times: &[(u32, i64, bool)]) -> Seen {
        times.iter().map(|&(seq, time, down)| ((seq, 0, 1, 0), Some((time, down)))).collect()
    }

    #[test]
    fn a_clock_that_is_ahead_is_found_and_a_long_way_is_not_taken_for_one() {
        let here = seen(&[(1, 0, true), (2, 50, false), (3, 100, true), (4, 150, false)]);
        // 10 there, 10 back.
        let far = seen(&[(1, 10, true), (2, 40, false), (3, 110, true), (4, 140, false)]);
        assert_eq!(difference(&here, &far), Some(0));
        let ahead = seen(&[(1, 1010, true), (2, 1040, false), (3, 1110, true), (4, 1140, false)]);
        assert_eq!(difference(&here, &ahead), Some(-1000));
        assert_eq!(difference(&here, &seen(&[(9, 5, true)])), None);
    }
}
