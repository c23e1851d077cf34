//! Finding and repairing losses: SACK (RFC 2018), RACK-TLP (RFC 8985), NewReno where the peer has no
//! SACK (RFC 6582), PRR (RFC 6937), limited transmit (RFC 3042), and the Eifel detection of timeouts
//! that were none (RFC 3522).

use super::congestion::{Acked, Congestion, Control};
use super::flight::{Delivered, Flight};
use super::prr::Prr;
use super::rack::Rack;
use crate::Instant;
use crate::seq::SndSeq;
use core::time::Duration;

/// Duplicate ACKs that show a loss where there is no SACK.
const DUP_THRESHOLD: u32 = 3;

/// Whether something is being repaired.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// Fast recovery since this time, until what was sent before it is acknowledged.
    Recovery(Instant, Prr),
    /// After a retransmission timeout at this time.
    Loss(Instant),
}

/// A tail loss probe that is on its way (RFC 8985 section 7).
#[derive(Clone, Copy, Debug)]
struct Probe {
    end: SndSeq,
    /// It sent nothing new.
    again: bool,
}

/// The scoreboard, and where a connection stands between a loss and its repair.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub flight: Flight,
    rack: Rack,
    phase: Phase,
    /// SND.NXT when the last loss was found.
    recover: SndSeq,
    /// cwnd while a recovery reduces it.
    window: u32,
    duplicates: u32,
    /// SND.UNA has moved since the repair began: only the first such ACK tells whether the repair
    /// was in vain (RFC 3522).
    answered: bool,
    sack: bool,
    probe: Option<Probe>,
}

/// An acknowledgment, for the recovery.
pub(crate) struct Ack<'a> {
    pub now: Instant,
    /// SND.UNA, already moved, and SND.NXT.
    pub una: SndSeq,
    pub nxt: SndSeq,
    /// Octets by which SND.UNA moved.
    pub advanced: u32,
    /// It is a duplicate as RFC 5681 section 2 defines it.
    pub duplicate: bool,
    /// SACK blocks, as they came.
    pub blocks: &'a [(SndSeq, SndSeq)],
    /// TSecr is older than this time: what it answers was sent before.
    pub echo_before: &'a dyn Fn(Instant) -> bool,
    pub mss: u32,
    pub srtt: Option<Duration>,
    /// Octets acknowledged in all.
    pub delivered: u64,
}

/// What an acknowledgment leads to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// A measurement of the round-trip time.
    pub rtt: Option<Duration>,
    /// When to judge again what is in flight.
    pub reorder_wait: Option<Duration>,
}

impl Recovery {
    pub fn new(iss: SndSeq, sack: bool) -> Self {
        Self {
            flight: Flight::default(),
            rack: Rack::new(),
            phase: Phase::Open,
            recover: iss,
            window: 0,
            duplicates: 0,
            answered: false,
            sack,
            probe: None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// How much may be in flight.
    pub fn window(&self, congestion: &Congestion, mss: u32) -> u32 {
        match self.phase {
            Phase::Recovery(..) => self.window,
            // Limited transmit: two segments for the first two duplicate ACKs.
            Phase::Open if !self.sack => {
                congestion.window().saturating_add(self.duplicates.min(DUP_THRESHOLD - 1) * mss)
            }
            Phase::Open | Phase::Loss(_) => congestion.window(),
        }
    }

    /// What is in flight as far as we know; without SACK each duplicate ACK is a segment that has
    /// arrived (RFC 5681 section 3.2 step 4).
    pub fn pipe(&self, mss: u32) -> u32 {
        // After a timeout they are the answers to what was sent again in vain.
        let counted = matches!(self.phase, Phase::Recovery(..)) && !self.sack;
        self.flight.pipe().saturating_sub(if counted { self.duplicates.saturating_mul(mss) } else { 0 })
    }

    /// Takes in an acknowledgment.
    pub fn acknowledged(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) -> Outcome {
        let pipe_before = self.pipe(ack.mss);
        let delivered = self.book(ack);
        let mut outcome = Outcome::default();
        if let Some(newest) = delivered.newest.filter(|s| !s.again) {
            let rtt = ack.now - newest.at;
            self.rack.measured(rtt);
            outcome.rtt = Some(rtt);
        }
        let echo_is_older = delivered.newest.is_some_and(|s| (ack.echo_before)(s.at));
        self.rack.arrived(ack.now, &delivered, echo_is_older);
        if ack.advanced > 0 {
            self.progress(ack, congestion);
        } else if ack.duplicate {
            self.duplicates += 1;
        }
        self.end_probe(ack, &delivered, congestion);
        outcome.reorder_wait = self.find_losses(ack, congestion);
        self.regulate(ack, &delivered, &outcome, pipe_before, congestion);
        outcome
    }

    /// Notes in the scoreboard what has arrived.
    fn book(&mut self, ack: &Ack<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        if ack.advanced > 0 {
            self.flight.acknowledge(ack.una, &mut delivered);
        }
        for (i, &(start, end)) in ack.blocks.iter().enumerate() {
            let inside_next = ack.blocks.get(i + 1).is_some_and(|&(s, e)| !start.before(s) && !end.after(e));
            if i == 0 && (start.before(ack.una) || inside_next) {
                self.rack.dsack(ack.una, ack.nxt); // RFC 2883
            } else if start.before(end) && !start.before(ack.una) && !end.after(ack.nxt) {
                self.flight.sack(start, end, &mut delivered);
            }
        }
        delivered
    }

    /// SND.UNA moved.
    fn progress(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) {
        if let Phase::Loss(at) | Phase::Recovery(at, _) = self.phase
            && (ack.echo_before)(at)
            && !core::mem::replace(&mut self.answered, true)
        {
            // Eifel: this answers what was sent before the repair began. Nothing was lost.
            congestion.undo();
            self.flight.find_all();
            self.phase = Phase::Open;
            self.duplicates = 0;
        }
        self.answered = true;
        let complete = !ack.una.before(self.recover);
        match self.phase {
            Phase::Open => self.duplicates = 0,
            _ if complete => {
                self.phase = Phase::Open;
                self.duplicates = 0;
                self.rack.recovered();
            }
            Phase::Recovery(..) if !self.sack => {
                // NewReno: a partial ACK shows the next hole.
                self.duplicates = self.duplicates.saturating_sub(ack.advanced.div_ceil(ack.mss));
                self.flight.lose_front(ack.mss);
            }
            Phase::Recovery(..) | Phase::Loss(_) => {}
        }
    }

    fn find_losses(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) -> Option<Duration> {
        let mut wait = None;
        if !self.sack {
            let shown = self.duplicates >= DUP_THRESHOLD && self.is_open() && ack.una.after(self.recover);
            if shown {
                self.flight.lose_front(ack.mss);
            }
        } else if self.flight.sacked() > 0 || !self.is_open() {
            wait = self.judge(ack.now, ack.mss, ack.srtt);
        }
        self.begin_if_lost(ack.now, ack.nxt, ack.mss, congestion);
        wait
    }

    fn judge(&mut self, now: Instant, mss: u32, srtt: Option<Duration>) -> Option<Duration> {
        let recovering = !self.is_open();
        self.rack.judge(now, &mut self.flight, mss, recovering, srtt.unwrap_or_default())
    }

    fn begin_if_lost(&mut self, now: Instant, nxt: SndSeq, mss: u32, congestion: &mut Congestion) {
        if self.flight.lost() == 0 || !self.is_open() {
            return;
        }
        let flight = self.flight.pipe() + self.flight.lost() + self.flight.sacked();
        congestion.on_loss(now, flight, mss);
        self.recover = nxt;
        self.phase = Phase::Recovery(now, Prr::begin(flight));
        self.answered = false;
        self.window = self.pipe(mss) + mss;
    }

    /// Moves the window: by the congestion control, or by PRR.
    fn regulate(
        &mut self,
        ack: &Ack<'_>,
        delivered: &Delivered,
        outcome: &Outcome,
        pipe_before: u32,
        congestion: &mut Congestion,
    ) {
        let pipe = self.pipe(ack.mss);
        if let Phase::Recovery(_, prr) = &mut self.phase {
            let arrived = if self.sack { delivered.octets } else { ack.mss.max(delivered.octets) };
            let progress = ack.advanced > 0 && self.flight.lost() == 0;
            self.window = prr.window(arrived, pipe, congestion.threshold(), ack.mss, progress);
            return;
        }
        // A window that was not used is not widened (RFC 7661): in slow start half of it is enough.
        let slow_start = congestion.window() < congestion.threshold();
        let used = pipe_before.saturating_add(ack.mss);
        let limited = used >= congestion.window() || (slow_start && used >= congestion.window() / 2);
        if ack.advanced > 0 && limited {
            congestion.on_ack(&Acked {
                now: ack.now,
                octets: ack.advanced,
                mss: ack.mss,
                rtt: outcome.rtt,
                srtt: ack.srtt,
                delivered: ack.delivered,
                sent: ack.delivered + u64::from(ack.nxt - ack.una),
            });
        }
    }

    /// The reordering timer: what still has not arrived is lost. Returns how long to wait for more.
    pub fn reorder_timeout(
        &mut self,
        now: Instant,
        nxt: SndSeq,
        mss: u32,
        srtt: Option<Duration>,
        congestion: &mut Congestion,
    ) -> Option<Duration> {
        let wait = self.judge(now, mss, srtt);
        self.begin_if_lost(now, nxt, mss, congestion);
        wait
    }

    /// The retransmission timer expired: everything is lost (RFC 6298 section 5.4, RFC 8985 6.3).
    pub fn timeout(&mut self, now: Instant, nxt: SndSeq, mss: u32, congestion: &mut Congestion) {
        // One timeout is one loss; what follows it backs off the timer, not the window again.
        if !matches!(self.phase, Phase::Loss(_)) {
            congestion.on_timeout(now, self.flight.pipe() + self.flight.sacked() + self.flight.lost(), mss);
            self.phase = Phase::Loss(now);
            self.answered = false;
        }
        let reneged = self.flight.first_is_sacked();
        self.flight.lose_all(reneged);
        self.recover = nxt;
        self.duplicates = 0;
        self.probe = None;
    }

    /// Everything in flight is to be sent again, and nobody is to blame: the path takes smaller
    /// packets only.
    pub fn resegment(&mut self) {
        self.flight.lose_all(false);
    }

    /// Whether a tail loss probe may be scheduled (RFC 8985 section 7.2).
    pub fn may_probe(&self) -> bool {
        self.is_open()
            && self.sack
            && self.probe.is_none()
            && self.flight.sacked() == 0
            && self.flight.len() > 0
    }

    /// A probe goes out; SND.NXT after it is `end`.
    pub fn probed(&mut self, end: SndSeq, again: bool) {
        self.probe = Some(Probe { end, again });
    }

    /// RFC 8985 section 7.4: what the answer to a probe tells.
    fn end_probe(&mut self, ack: &Ack<'_>, delivered: &Delivered, congestion: &mut Congestion) {
        let Some(probe) = self.probe else { return };
        if ack.una.before(probe.end) {
            return;
        }
        self.probe = None;
        let dsack = ack.blocks.first().is_some_and(|(start, _)| start.before(ack.una));
        let repaired = probe.again && !dsack && delivered.octets > 0 && !delivered.original;
        if repaired && self.is_open() {
            // The probe has repaired a loss without a recovery: the window pays for it all the same.
            congestion.on_loss(ack.now, delivered.octets, ack.mss);
        }
    }

    /// Books what was sent.
    pub fn sent(&mut self, octets: u32) {
        if let Phase::Recovery(_, prr) = &mut self.phase {
            prr.sent(octets);
        }
    }
}
