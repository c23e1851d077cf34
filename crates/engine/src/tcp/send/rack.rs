//! RACK, loss detection by time (RFC 8985): a segment is lost if another one, sent sufficiently later, was delivered. The
//! reordering window is that tolerance.

use super::min_rtt::MinRtt;
use crate::Instant;
use crate::tcp::send::scoreboard::{Arrived, Delivered, Scoreboard};
use core::time::Duration;

/// Number of SACKed segments that indicates a loss without a reordering window (DupThresh).
const DUP_THRESHOLD: u32 = 3;

/// Number of loss recoveries after which a reordering window widened by DSACKs is reset.
const PERSIST: u8 = 16;

/// The state of RACK for a connection.
#[derive(Debug)]
pub(crate) struct Rack {
    /// The most recently sent segment among those delivered, and its RTT in nanoseconds.
    newest: Option<(Arrived, u64)>,
    min_rtt: MinRtt,
    reordering_seen: bool,
    /// ACKs that showed reordering, and segments that arrived twice: for statistics.
    reorderings: u32,
    dsacks: u32,
    /// The reordering window, in quarters of the minimum RTT.
    window_steps: u32,
    persist: u8,
    /// Until this position is acknowledged, another DSACK belongs to the same round trip.
    dsack_round: u64,
}

/// Parameters of loss detection that were measured on a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LearnedPath {
    min_rtt: MinRtt,
    reorderings: u32,
    dsacks: u32,
    /// Number of duplicate ACKs that indicates a loss without SACK.
    pub dup_threshold: u16,
    window_steps: u8,
    persist: u8,
    reordering_seen: bool,
}

impl Rack {
    pub fn new() -> Self {
        Self {
            newest: None,
            min_rtt: MinRtt::new(),
            reordering_seen: false,
            reorderings: 0,
            dsacks: 0,
            window_steps: 1,
            persist: PERSIST,
            dsack_round: 0,
        }
    }

    /// The parameters measured on the path. The segment delivered last is not kept.
    pub fn learned(&self, dup_threshold: u32) -> LearnedPath {
        LearnedPath {
            min_rtt: self.min_rtt,
            reorderings: self.reorderings,
            dsacks: self.dsacks,
            window_steps: self.window_steps.min(u32::from(u8::MAX)) as u8,
            persist: self.persist,
            reordering_seen: self.reordering_seen,
            dup_threshold: dup_threshold.min(u32::from(u16::MAX)) as u16,
        }
    }

    /// Loss detection with parameters measured earlier on the path.
    pub fn with(path: &LearnedPath) -> Self {
        Self {
            min_rtt: path.min_rtt,
            reordering_seen: path.reordering_seen,
            reorderings: path.reorderings,
            dsacks: path.dsacks,
            window_steps: path.window_steps.into(),
            persist: path.persist,
            ..Self::new()
        }
    }

    /// The minimum RTT over a recent window.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.get()
    }

    /// The most recently sent segment among those delivered.
    pub fn newest(&self) -> Option<Arrived> {
        self.newest.map(|(newest, _)| newest)
    }

    /// How many ACKs have shown reordering, and how many segments have arrived twice.
    pub fn seen(&self) -> (u32, u32) {
        (self.reorderings, self.dsacks)
    }

    /// Adds an RTT sample of a segment sent once, in nanoseconds.
    pub fn measured(&mut self, now: Instant, rtt: u64) {
        self.min_rtt.measured(now, rtt);
    }

    /// Steps 1 to 3 of section 6.2: takes in delivered segments. A retransmitted segment counts as delivered by
    /// its last copy only if the minimum RTT has passed since, and the echoed timestamp is not older than that copy.
    pub fn arrived(&mut self, now: Instant, delivered: &Delivered, echo_is_older: bool) {
        self.reordering_seen |= delivered.reordering > 0;
        self.reorderings += u32::from(delivered.reordering > 0);
        let (Some(newest), Some(last)) = (delivered.newest, delivered.last) else { return };
        let is_copy = |segment: &Arrived| {
            let early = || self.min_rtt().is_some_and(|min| now - segment.at < min);
            !segment.resent || !(echo_is_older || early())
        };
        // RACK.rtt is that of the segment processed last, not necessarily of the one sent last.
        let rtt = Some(last).filter(is_copy).map(|last| now.nanos_since(last.at));
        let newest = Some(newest).filter(is_copy);
        self.newest = match (self.newest, newest) {
            (Some((known, _)), Some(newest)) if newest.sent_after(known.at, known.end) => {
                Some((newest, rtt.unwrap_or(now.nanos_since(newest.at))))
            }
            (None, Some(newest)) => Some((newest, rtt.unwrap_or(now.nanos_since(newest.at)))),
            (known, _) => known.map(|(known, before)| (known, rtt.unwrap_or(before))),
        };
    }

    /// The same if nothing was retransmitted or reordered: `newest` is the only segment to consider. `rtt`: the time
    /// since it was sent, in nanoseconds.
    pub fn arrived_in_order(&mut self, newest: Arrived, rtt: u64) {
        match &mut self.newest {
            Some((known, known_rtt)) => {
                if newest.sent_after(known.at, known.end) {
                    *known = newest;
                }
                *known_rtt = rtt;
            }
            None => self.newest = Some((newest, rtt)),
        }
    }

    /// Step 4: the reordering window.
    fn window(&self, sacked_segments: u32, recovering: bool, srtt: Duration) -> Duration {
        if !self.reordering_seen && (recovering || sacked_segments >= DUP_THRESHOLD) {
            return Duration::ZERO;
        }
        let min = self.min_rtt().unwrap_or(srtt);
        (min / 4 * self.window_steps).min(srtt)
    }

    /// A DSACK: a retransmission was spurious, so the window is widened, once per round trip.
    /// `una` and `nxt` are positions.
    pub fn dsack(&mut self, una: u64, nxt: u64, segments: u32) {
        self.dsacks = self.dsacks.saturating_add(segments);
        if una >= self.dsack_round {
            self.dsack_round = nxt;
            self.window_steps = (self.window_steps + 1).min(64);
            self.persist = PERSIST;
        }
    }

    #[cfg(test)]
    pub fn steps(&self) -> u32 {
        self.window_steps
    }

    /// The path reorders: segments marked lost were only late.
    pub fn reordered(&mut self) {
        self.reordering_seen = true;
    }

    /// A recovery has ended.
    pub fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.window_steps = 1;
        }
    }

    /// Step 5: marks segments lost that were sent before the newest delivered one, and at least its RTT plus the
    /// reordering window ago. Returns how long to wait until the rest is due.
    pub fn detect_losses(
        &self,
        now: Instant,
        scoreboard: &mut Scoreboard,
        mss: u32,
        recovering: bool,
        srtt: Duration,
    ) -> Option<Duration> {
        let (newest, rtt) = self.newest?;
        let window = self.window(scoreboard.sacked() / mss.max(1), recovering, srtt);
        scoreboard.detect_losses(now, newest, Duration::from_nanos(rtt) + window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seq::SndSeq;

    const MSS: u32 = 100;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Ten segments a millisecond apart, of which those in `arrived` are SACKed at 110 ms.
    fn judged(arrived: &[u32], seen: bool) -> (u32, Option<Duration>) {
        let mut flight = Scoreboard::new(SndSeq(0));
        (0..10).for_each(|i| flight.push(MSS, 1, at(i), false));
        let mut rack = Rack { reordering_seen: seen, ..Rack::new() };
        rack.measured(at(100), 100_000_000);
        for i in arrived {
            let mut delivered = Delivered::default();
            flight.sack(SndSeq(i * MSS), SndSeq((i + 1) * MSS), MSS, &mut delivered);
            rack.arrived(at(110), &Delivered { reordering: 0, ..delivered }, false);
        }
        let wait = rack.detect_losses(at(110), &mut flight, MSS, false, ms(100));
        (flight.lost(), wait)
    }

    #[test]
    fn three_sacked_segments_show_that_all_before_are_lost() {
        assert_eq!(judged(&[5, 6, 7], false), (500, None));
    }

    #[test]
    fn fewer_duplicates_or_reordering_wait_a_quarter_of_the_rtt() {
        assert_eq!(judged(&[5], false), (0, Some(ms(4 + 105 + 25 - 110))));
        assert_eq!(judged(&[5, 6, 7], true), (0, Some(ms(4 + 103 + 25 - 110))));
    }

    /// Of equal times the sequence number decides. It must not decide about a retransmission that was sent after the delivery.
    #[test]
    fn a_retransmission_is_not_lost_because_of_a_segment_delivered_before_it() {
        let mut flight = Scoreboard::new(SndSeq(0));
        (0..5).for_each(|_| flight.push(MSS, 1, at(10), false));
        let mut rack = Rack::new();
        let detect = |rack: &mut Rack, flight: &mut Scoreboard, sacked: u32| {
            let mut delivered = Delivered::default();
            flight.sack(SndSeq(MSS), SndSeq(sacked), MSS, &mut delivered);
            rack.arrived(at(10), &delivered, false);
            rack.detect_losses(at(10), flight, MSS, true, ms(0));
            flight.lost()
        };
        assert_eq!(detect(&mut rack, &mut flight, 4 * MSS), MSS);
        flight.on_retransmit(SndSeq(0), MSS, at(10), rack.newest());
        assert_eq!(detect(&mut rack, &mut flight, 4 * MSS), 0, "the duplicate ACK reports nothing new");
        assert_eq!(
            detect(&mut rack, &mut flight, 5 * MSS),
            MSS,
            "the last segment was delivered after the retransmission"
        );
    }

    #[test]
    fn an_ack_sooner_than_min_rtt_is_for_the_original() {
        let mut rack = Rack::new();
        rack.measured(at(100), 100_000_000);
        let copy = Arrived { at: at(200), end: 1, resent: true, timed: false };
        let delivered = Delivered { newest: Some(copy), last: Some(copy), ..Delivered::default() };
        rack.arrived(at(210), &delivered, false);
        assert!(rack.newest.is_none());
        rack.arrived(at(300), &delivered, true);
        assert!(rack.newest.is_none());
        rack.arrived(at(300), &delivered, false);
        assert!(rack.newest.is_some());
    }
}
