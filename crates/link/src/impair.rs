//! A link that drops, delays, duplicates, reorders and corrupts packets, deterministically.

mod course;
mod lane;
mod plan;

use crate::{Capabilities, Cut, Direction, Link};
use lane::Lane;
use lastack_engine::{Instant, Received, Transmit, TransmitChecksum, Verdict};
use std::io;
use std::task::{Context, Poll};

pub use course::{Course, Damage, Passage};
pub use lane::LaneStats;
pub use plan::Plan;

/// A link that applies [`Plan`]s to the packets of another link.
///
/// Impairments apply to packets as they are on the wire: super-segments are segmented first, and a packet is
/// corrupted only after its checksums are complete, so that the corruption is detected. Each corruption changes one
/// byte, which the checksum of RFC 1071 always detects.
///
/// The stack's checksum settings, fixed at its start, must allow for the corruption of a later plan: a link with
/// [`TransmitChecksum::None`] cannot require the other end to verify a packet. Use [`Capabilities::memory`] where
/// packets are corrupted.
#[derive(Debug)]
pub struct Impair<L> {
    inner: L,
    up: Lane<Transmit>,
    down: Lane<Received>,
    /// A received packet before impairment, and a segment of a super-segment.
    arrival: Vec<u8>,
    piece: Vec<u8>,
    /// The number of the last packet from `inner`; `None` if it was segmented.
    last_arrival: Option<u64>,
    /// The packet returned last is unchanged: its verdict can be passed on.
    last_is_inners: bool,
}

/// Counters of an [`Impair`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImpairStats {
    /// Of sent packets.
    pub up: LaneStats,
    /// Of received packets.
    pub down: LaneStats,
}

impl<L: Link> Impair<L> {
    /// Applies the same plan to both directions, with independent random choices.
    pub fn new(inner: L, plan: Plan) -> Self {
        Self::with_plans(inner, plan, plan)
    }

    /// Applies one plan to sent (`up`) and one to received (`down`) packets.
    pub fn with_plans(inner: L, up: Plan, down: Plan) -> Self {
        Self {
            inner,
            up: Lane::new(up, Direction::Sent),
            down: Lane::new(down, Direction::Received),
            arrival: Vec::new(),
            piece: Vec::new(),
            last_arrival: None,
            last_is_inners: false,
        }
    }

    /// The inner link.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// The counters so far.
    pub fn stats(&self) -> ImpairStats {
        ImpairStats { up: self.up.stats, down: self.down.stats }
    }

    /// Sets the plan of packets sent from now on. Packets in transit are not affected.
    pub fn set_up(&mut self, plan: Plan) {
        self.up.course.plan = plan;
    }

    /// Sets the plan of packets received from now on. Packets in transit are not affected.
    pub fn set_down(&mut self, plan: Plan) {
        self.down.course.plan = plan;
    }

    fn release(&mut self, now: Instant) {
        while let Some(held) = self.up.pop(now) {
            self.inner.send(now, &held.packet, &held.meta);
            self.up.recycle(held.packet);
        }
    }

    /// Receives the next packet of the inner link.
    fn pull(&mut self, now: Instant) -> bool {
        let Some(mut received) = self.inner.recv(now, &mut self.arrival) else {
            return false;
        };
        // If the link does not verify checksums, packets count as good; but corruption must be detected.
        received.checksum_good |= !self.inner.capabilities().checksums.verify;
        let mut cut = Cut::to_mtu(&self.arrival, self.inner.capabilities().mtu);
        if cut.is_needed() {
            while cut.next(&mut self.piece).is_some() {
                self.down.push(now, &self.piece, received);
            }
            self.last_arrival = None;
        } else {
            self.down.push(now, &self.arrival, received);
            self.last_arrival = self.down.newest();
        }
        true
    }
}

impl<L: Link> Link for Impair<L> {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        let checksums = &mut capabilities.checksums;
        checksums.verify |= self.down.course.plan.corrupt > 0.0;
        if self.up.course.plan.corrupt > 0.0 && checksums.transmit == TransmitChecksum::None {
            checksums.transmit = TransmitChecksum::Partial;
        }
        capabilities
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.release(now);
        if self.up.is_transparent() {
            self.inner.send(now, packet, transmit);
            return;
        }
        let mut cut = Cut::new(packet, transmit);
        if cut.is_needed() {
            while let Some(transmit) = cut.next(&mut self.piece) {
                self.up.push(now, &self.piece, transmit);
            }
        } else {
            self.up.push(now, packet, Transmit { segment_size: None, ..*transmit });
        }
        self.release(now);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.release(now);
        if self.down.is_transparent() {
            self.last_is_inners = true;
            return self.inner.recv(now, packet);
        }
        loop {
            if let Some(held) = self.down.pop(now) {
                self.last_is_inners = held.intact && self.last_arrival == held.number;
                self.down.recycle(std::mem::replace(packet, held.packet));
                return Some(held.meta);
            }
            // Continue after a lost or delayed packet: the next may have arrived already.
            if !self.pull(now) {
                return None;
            }
        }
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        if self.last_is_inners {
            self.inner.annotate(now, verdict);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.up.next_due(), self.down.next_due(), self.inner.poll_timeout()].into_iter().flatten().min()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.release(now);
        self.inner.flush(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noop_context, partial, segment};
    use crate::{Capture, Pipe, Record, lock, pipe};
    use lastack_wire::{IpPacket, TcpHeader, tcp};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const NOW: Instant = Instant::ZERO;
    const LEFT: Transmit =
        Transmit { segment_size: None, header_len: 52, partial_checksum: true, rule: None };

    fn impaired(capabilities: Capabilities, up: Plan, down: Plan) -> (Impair<Pipe>, Pipe) {
        let (near, far) = pipe(capabilities);
        (Impair::with_plans(near, up, down), far)
    }

    fn numbered(number: u8) -> Vec<u8> {
        segment("192.0.2.1", "192.0.2.2", &[number; 100])
    }

    fn received(link: &mut impl Link, now: Instant) -> Vec<(Vec<u8>, Received)> {
        let mut packet = Vec::new();
        std::iter::from_fn(|| link.recv(now, &mut packet).map(|received| (packet.clone(), received)))
            .collect()
    }

    /// Whether a stack that gets this packet drops it.
    fn is_refused(packet: &[u8], received: Received) -> bool {
        IpPacket::parse(packet).map_or(true, |parsed| {
            !received.checksum_good && !tcp::checksum_ok(&parsed.header, parsed.payload)
        })
    }

    #[test]
    fn a_perfect_plan_passes_super_segments_untouched() {
        let (mut link, mut far) = impaired(Capabilities::memory(1500), Plan::default(), Plan::default());
        let large = partial(&segment("192.0.2.1", "192.0.2.2", &[7; 9000]));
        link.send(NOW, &large, &Transmit { segment_size: Some(1448), ..LEFT });
        let merged = Received { checksum_good: true, segment_size: Some(1448) };
        assert_eq!(received(&mut far, NOW), [(large.clone(), merged)]);
        far.send(NOW, &large, &Transmit { segment_size: Some(1448), ..LEFT });
        assert_eq!(received(&mut link, NOW), [(large, merged)]);
        assert_eq!(link.stats(), ImpairStats::default());
    }

    #[test]
    fn a_lost_arrival_is_not_the_end_of_the_round() {
        let down = Plan { seed: 1, loss: 0.5, ..Plan::default() };
        let (mut link, mut far) = impaired(Capabilities::new(1500), Plan::default(), down);
        for number in 0..100 {
            far.send(NOW, &numbered(number), &Transmit::default());
        }
        let arrived = received(&mut link, NOW).len();
        assert_eq!(arrived as u64, 100 - link.stats().down.lost);
        assert!((30..70).contains(&arrived));
        assert_eq!(received(&mut far, NOW).len(), 0);
    }

    #[test]
    fn loss_hits_packets_of_the_wire_not_super_segments() {
        let plan = Plan { seed: 2, loss: 0.3, ..Plan::default() };
        let (mut link, mut far) = impaired(Capabilities::memory(1500), plan, plan);
        let large = partial(&segment("192.0.2.1", "192.0.2.2", &[7; 60_000]));
        link.send(NOW, &large, &Transmit { segment_size: Some(1448), ..LEFT });
        far.send(NOW, &large, &Transmit { segment_size: Some(1448), ..LEFT });
        let (up, down) = (received(&mut far, NOW), received(&mut link, NOW));
        for (arrived, stats) in [(up, link.stats().up), (down, link.stats().down)] {
            assert!((20..38).contains(&arrived.len()));
            assert!(arrived.iter().all(|(packet, _)| packet.len() <= 1500));
            assert!(arrived.iter().all(|(packet, received)| !is_refused(packet, *received)));
            assert_eq!((stats.packets, stats.delivered), (42, arrived.len() as u64));
        }
    }

    #[test]
    fn damage_is_always_detected_even_without_checksums() {
        let plan = Plan { seed: 3, corrupt: 1.0, ..Plan::default() };
        let (mut link, mut far) = impaired(Capabilities::memory(1500), plan, plan);
        let mut places = std::collections::HashSet::new();
        for number in 0..250 {
            let whole = numbered(number);
            link.send(NOW, &partial(&whole), &LEFT);
            far.send(NOW, &partial(&whole), &LEFT);
            for (packet, received) in [received(&mut far, NOW), received(&mut link, NOW)].concat() {
                assert!(is_refused(&packet, received), "{packet:02x?}");
                let changed: Vec<_> = (0..whole.len()).filter(|&at| packet[at] != whole[at]).collect();
                assert_eq!(changed.len(), 1);
                places.insert(changed[0]);
            }
        }
        // Headers and data.
        assert!(places.iter().any(|&at| at < 20) && places.iter().any(|&at| at > 52));
        assert_eq!((link.stats().up.corrupted, link.stats().down.corrupted), (250, 250));
    }

    #[test]
    fn a_link_without_tests_gets_them_where_arrivals_are_damaged() {
        let mut untested = Capabilities::memory(1500);
        untested.checksums.verify = false;
        let down = Plan { seed: 4, corrupt: 0.5, ..Plan::default() };
        let (mut link, mut far) = impaired(untested, Plan::default(), down);
        assert!(link.capabilities().checksums.verify);
        for number in 0..100 {
            far.send(NOW, &partial(&numbered(number)), &Transmit::default());
        }
        let arrived = received(&mut link, NOW);
        let refused = arrived.iter().filter(|(packet, received)| is_refused(packet, *received)).count();
        assert_eq!((arrived.len(), refused as u64), (100, link.stats().down.corrupted));
        assert!(refused > 30 && refused < 70);
    }

    #[test]
    fn delayed_packets_are_announced_and_leave_in_time() {
        let delay = Duration::from_millis(20);
        let plan = Plan { delay, ..Plan::default() };
        let (mut link, mut far) = impaired(Capabilities::new(1500), plan, plan);
        link.send(NOW, &numbered(1), &Transmit::default());
        far.send(NOW, &numbered(2), &Transmit::default());
        assert!(link.poll_readable(&mut noop_context()).is_ready());
        assert_eq!(received(&mut link, NOW), []);
        assert!(link.poll_readable(&mut noop_context()).is_pending());
        assert_eq!(link.poll_timeout(), Some(NOW + delay));
        link.flush(NOW + delay / 2);
        assert_eq!(received(&mut far, NOW + delay / 2), []);
        link.flush(NOW + delay);
        assert_eq!(received(&mut far, NOW + delay), [(numbered(1), Received::default())]);
        assert_eq!(received(&mut link, NOW + delay), [(numbered(2), Received::default())]);
        assert_eq!(link.poll_timeout(), None);
    }

    #[test]
    fn impairments_do_not_depend_on_the_other_direction_or_on_time() {
        let plan = Plan { seed: 11, loss: 0.3, duplicate: 0.2, corrupt: 0.2, ..Plan::default() };
        let run = |noise: bool, step: Duration| {
            let (mut link, mut far) = impaired(Capabilities::memory(1500), plan, plan);
            let (mut now, mut all) = (NOW, Vec::new());
            for number in 0..100 {
                if noise {
                    far.send(now, &numbered(0), &LEFT);
                    received(&mut link, now);
                }
                link.send(now, &numbered(number), &LEFT);
                all.extend(received(&mut far, now));
                now += step;
            }
            all
        };
        let quiet = run(false, Duration::ZERO);
        assert_eq!(quiet, run(true, Duration::from_millis(1)));
        assert!(quiet.len() > 60);
    }

    #[test]
    fn a_new_plan_holds_from_now_on() {
        let (mut link, mut far) = impaired(Capabilities::new(1500), Plan::default(), Plan::default());
        link.set_up(Plan { loss: 1.0, ..Plan::default() });
        link.send(NOW, &numbered(1), &Transmit::default());
        link.set_up(Plan::default());
        link.send(NOW, &numbered(2), &Transmit::default());
        link.set_down(Plan { delay: Duration::from_millis(1), ..Plan::default() });
        assert_eq!(received(&mut far, NOW), [(numbered(2), Received::default())]);
        far.send(NOW, &numbered(3), &Transmit::default());
        assert_eq!(received(&mut link, NOW), []);
    }

    #[test]
    fn a_verdict_is_passed_on_for_the_packet_it_is_about_only() {
        let (near, mut far) = pipe(Capabilities::new(1500));
        let records = Arc::new(Mutex::new(Vec::<Record>::new()));
        let down = Plan { seed: 8, loss: 0.3, reorder: 0.3, ..Plan::default() };
        let capture = Capture::new(near, Arc::clone(&records));
        let mut link = Impair::with_plans(capture, Plan::default(), down);
        let number = |packet: &[u8]| {
            let parsed = IpPacket::parse(packet).unwrap();
            TcpHeader::parse(parsed.payload).unwrap().1[0]
        };
        let (mut packet, mut direct) = (Vec::new(), 0);
        for sent in 0..100u8 {
            let now = Instant::from_millis(u64::from(sent));
            far.send(now, &numbered(sent), &Transmit::default());
            while link.recv(now, &mut packet).is_some() {
                direct += usize::from(number(&packet) == sent);
                // Even numbers are answered, so a comment on an odd one would be about another packet.
                if number(&packet).is_multiple_of(2) {
                    link.annotate(now, &Verdict::Answered(lastack_engine::Rule::RstNoListener));
                } else {
                    link.annotate(now, &Verdict::Accepted);
                }
            }
        }
        drop(link);
        let records = lock(&records);
        assert_eq!(records.len(), 100);
        let commented: Vec<_> = records.iter().filter(|record| record.comment.is_some()).collect();
        assert!(commented.iter().all(|record| number(&record.packet).is_multiple_of(2)));
        assert!(commented.len() > 15 && commented.len() < direct);
    }
}
