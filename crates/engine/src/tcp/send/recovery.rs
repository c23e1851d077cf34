//! Loss recovery: SACK (RFC 2018), RACK and the tail loss probe, TLP (RFC 8985), fast retransmit with NewReno where the
//! peer has no SACK (RFC 6582), PRR (RFC 6937), limited transmit (RFC 3042), and detection of spurious retransmissions by
//! timestamps (Eifel, RFC 3522; in place of F-RTO, RFC 5682) and by D-SACK (RFC 2883, RFC 3708), which undoes the
//! reduction of the window. The window grows only while it limits the connection (congestion window validation, RFC 7661).

use crate::Instant;
use crate::seq::SndSeq;
use crate::tcp::CaState;
use crate::tcp::connection::stats::segments;
use crate::tcp::send::congestion::{Acked, Congestion, INITIAL_SEGMENTS};
use crate::tcp::send::prr::Prr;
use crate::tcp::send::rack::{LearnedPath, Rack};
use crate::tcp::send::scoreboard::{Delivered, Scoreboard};
use alloc::boxed::Box;
use core::ops::Range;
use core::time::Duration;

/// Number of duplicate ACKs that indicates a loss without SACK, on a path that does not reorder.
const DUP_THRESHOLD: u32 = 3;

/// The max of that number on a path that reorders.
const MAX_DUPLICATES: u32 = 300;

/// The state of loss recovery.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// The window is reduced because of ECN marks, until this position is acknowledged.
    Cwr(u64, Prr),
    /// Fast recovery since this time, until all data sent before it is acknowledged.
    Recovery(Instant, Prr),
    /// After a retransmission timeout at this time.
    Loss(Instant),
}

/// A tail loss probe in flight (RFC 8985 section 7).
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The position after it.
    end: u64,
    /// It was a retransmission.
    again: bool,
}

/// Retransmissions since the window was reduced, for an undo.
#[derive(Clone, Copy, Debug)]
struct UndoState {
    /// SND.UNA at that time, as a position.
    una: u64,
    /// Bytes retransmitted and not yet reported as duplicates by DSACK.
    again: u32,
}

/// The scoreboard, and the state of loss recovery.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub scoreboard: Scoreboard,
    rack: Rack,
    phase: Phase,
    /// SND.NXT when the last loss was detected, as a position.
    recover: u64,
    /// cwnd while a recovery reduces it.
    window: u32,
    duplicates: u32,
    /// Number of duplicate ACKs that indicates a loss.
    dup_threshold: u32,
    /// How often SND.UNA has moved since the recovery began.
    steps: u32,
    /// The last reduction of the window, as long as it may turn out to be spurious.
    doubt: Option<UndoState>,
    /// This acknowledgment has shown that the recovery was spurious.
    undone: bool,
    sack: bool,
    probe: Option<Probe>,
    /// The max flight size since the segment before this position was sent.
    max_pipe: u32,
    max_pipe_until: u64,
    /// A path MTU probe in flight: if only it is lost, that is no sign of congestion (RFC 4821 section 7.5).
    size_probe: Option<Box<Range<u64>>>,
    size_probe_lost: bool,
}

/// An acknowledgment, as input of loss recovery.
pub(crate) struct Ack<'a> {
    pub now: Instant,
    /// SND.UNA, already moved, and SND.NXT.
    pub una: SndSeq,
    pub nxt: SndSeq,
    /// Bytes by which SND.UNA moved.
    pub advanced: u32,
    /// It is a duplicate as RFC 5681 section 2 defines it.
    pub duplicate: bool,
    /// SACK blocks, as received.
    pub blocks: &'a [(SndSeq, SndSeq)],
    /// Whether TSecr is older than this time: the ACK answers a segment sent before it.
    pub echo_before: &'a dyn Fn(Instant) -> bool,
    pub mss: u32,
    pub srtt: Option<Duration>,
    /// Bytes acknowledged in all.
    pub delivered: u64,
}

/// The result of an acknowledgment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// An RTT sample in nanoseconds.
    pub rtt: Option<u64>,
    /// The time until the reordering timer has to expire.
    pub reorder_wait: Option<Duration>,
    /// Segments newly delivered.
    pub delivered: u32,
    /// More losses were detected.
    lost: bool,
}

impl Recovery {
    pub fn new(una: SndSeq, sack: bool) -> Self {
        Self {
            scoreboard: Scoreboard::new(una),
            rack: Rack::new(),
            phase: Phase::Open,
            recover: 0,
            window: 0,
            duplicates: 0,
            dup_threshold: DUP_THRESHOLD,
            steps: 0,
            doubt: None,
            undone: false,
            sack,
            probe: None,
            max_pipe: 0,
            max_pipe_until: 0,
            size_probe: None,
            size_probe_lost: false,
        }
    }

    /// The state of a new connection, of which `una` is sent next, in the memory of another.
    #[inline]
    pub fn restart(&mut self, una: SndSeq, sack: bool) {
        self.scoreboard.restart(una);
        self.rack = Rack::new();
        self.phase = Phase::Open;
        self.recover = 0;
        self.window = 0;
        self.duplicates = 0;
        self.dup_threshold = DUP_THRESHOLD;
        self.steps = 0;
        self.doubt = None;
        self.undone = false;
        self.sack = sack;
        self.probe = None;
        self.max_pipe = 0;
        self.max_pipe_until = 0;
        self.size_probe = None;
        self.size_probe_lost = false;
    }

    /// The parameters measured on the path.
    pub fn learned(&self) -> LearnedPath {
        self.rack.learned(self.dup_threshold)
    }

    /// Starts with nothing in flight, and with parameters measured earlier on the path.
    pub fn with(una: SndSeq, sack: bool, path: &LearnedPath) -> Self {
        Self { rack: Rack::with(path), dup_threshold: path.dup_threshold.into(), ..Self::new(una, sack) }
    }

    /// Records the retransmission of `len` bytes from `seq` on.
    pub fn on_retransmit(&mut self, seq: SndSeq, len: u32, now: Instant) {
        self.scoreboard.on_retransmit(seq, len, now, self.rack.newest());
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether lost data is being retransmitted.
    fn is_repairing(&self) -> bool {
        matches!(self.phase, Phase::Recovery(..) | Phase::Loss(_))
    }

    /// The state of RACK.
    pub fn rack(&self) -> &Rack {
        &self.rack
    }

    /// Number of duplicate ACKs that indicates a loss without SACK.
    pub fn dup_threshold(&self) -> u32 {
        self.dup_threshold
    }

    /// The state as in `tcpi_ca_state`.
    pub fn ca_state(&self) -> CaState {
        match self.phase {
            Phase::Open if !self.sack && self.duplicates > 0 || self.scoreboard.sacked() > 0 => {
                CaState::Disorder
            }
            Phase::Open => CaState::Open,
            Phase::Cwr(..) => CaState::Cwr,
            Phase::Recovery(..) => CaState::Recovery,
            Phase::Loss(_) => CaState::Loss,
        }
    }

    /// Max bytes in flight.
    #[inline]
    pub fn window(&self, congestion: &Congestion, mss: u32) -> u32 {
        if self.sack && self.is_open() { congestion.window() } else { self.window_of_phase(congestion, mss) }
    }

    #[inline(never)]
    fn window_of_phase(&self, congestion: &Congestion, mss: u32) -> u32 {
        match self.phase {
            Phase::Cwr(..) | Phase::Recovery(..) => self.window,
            // Limited transmit: a segment for each duplicate ACK below the threshold.
            Phase::Open if !self.sack => {
                congestion.window().saturating_add(self.duplicates.min(self.dup_threshold - 1) * mss)
            }
            Phase::Open | Phase::Loss(_) => congestion.window(),
        }
    }

    /// The estimate of bytes in flight; without SACK each duplicate ACK stands for a delivered segment
    /// (RFC 5681 section 3.2 step 4).
    pub fn pipe(&self, mss: u32) -> u32 {
        // After a timeout they are the answers to spurious retransmissions.
        let counted = !self.sack && matches!(self.phase, Phase::Cwr(..) | Phase::Recovery(..));
        self.scoreboard.pipe().saturating_sub(if counted { self.duplicates.saturating_mul(mss) } else { 0 })
    }

    /// Whether nothing is lost or SACKed and no probe is in flight: then an acknowledgment of new data takes the fast
    /// path.
    pub fn is_undisturbed(&self) -> bool {
        self.is_open() && self.duplicates == 0 && self.probe.is_none() && self.scoreboard.is_unmarked()
    }

    /// The fast path of [`Self::acknowledged`] for an acknowledgment of new data without SACK blocks, if
    /// `is_undisturbed`. The window grows if [`Self::uses_window`].
    #[inline(always)]
    pub fn acknowledged_undisturbed(&mut self, now: Instant, advanced: u32, mss: u32) -> Outcome {
        let end = self.scoreboard.una() + u64::from(advanced.min(self.scoreboard.total()));
        let mut outcome = Outcome::default();
        if let Some((newest, segments)) = self.scoreboard.acknowledge_unmarked(end, mss) {
            let rtt = now.nanos_since(newest.at);
            if newest.timed {
                self.rack.measured(now, rtt);
                outcome.rtt = Some(rtt);
            }
            self.rack.arrived_in_order(newest, rtt);
            outcome.delivered = segments;
        }
        self.steps = self.steps.saturating_add(1);
        outcome
    }

    /// Processes an acknowledgment.
    pub fn acknowledged(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) -> Outcome {
        let (pipe_before, repairing) = (self.pipe(ack.mss), self.phase);
        let doubted = self.doubt.map_or(0, |doubt| doubt.again);
        let delivered = self.book(ack);
        if doubted > 0 && self.doubt.is_some_and(|doubt| doubt.again == 0) {
            self.undo(congestion); // every retransmission was a duplicate
        }
        let mut outcome = Outcome { delivered: delivered.segments, ..Outcome::default() };
        outcome.rtt = self.measure(ack.now, &delivered);
        let echo_is_older = delivered.newest.is_some_and(|s| (ack.echo_before)(s.at));
        self.rack.arrived(ack.now, &delivered, echo_is_older);
        if ack.advanced > 0 {
            self.progress(ack, congestion);
        } else if ack.duplicate {
            self.duplicates += 1;
        }
        self.end_probe(ack, &delivered, congestion);
        let lost_before = self.scoreboard.lost();
        outcome.reorder_wait = self.find_losses(ack, congestion);
        outcome.lost = self.scoreboard.lost() > lost_before;
        let bytes = self.newly_arrived(ack, &delivered, repairing, congestion);
        self.regulate(ack, bytes, &delivered, &outcome, pipe_before, congestion);
        outcome
    }

    /// Bytes newly delivered by this acknowledgment, for the congestion window. Data acknowledged by a retransmission
    /// may have arrived long ago: counted at once in slow start, it would cause a burst (RFC 3465 section 2.3).
    fn newly_arrived(
        &mut self,
        ack: &Ack<'_>,
        delivered: &Delivered,
        before: Phase,
        congestion: &Congestion,
    ) -> u32 {
        let undone = core::mem::take(&mut self.undone);
        let slow_start = congestion.window() < congestion.threshold();
        let repaired = !undone && slow_start && matches!(before, Phase::Recovery(..) | Phase::Loss(_));
        if repaired && self.is_open() && matches!(before, Phase::Recovery(..)) {
            return 0; // `progress` has set the window already
        }
        match (self.sack, repaired) {
            (true, _) => delivered.bytes,
            (false, true) => ack.advanced.min(2 * ack.mss),
            (false, false) => ack.advanced,
        }
    }

    /// The RTT sample of delivered data in nanoseconds, if it was sent once.
    fn measure(&mut self, now: Instant, delivered: &Delivered) -> Option<u64> {
        let rtt = delivered.newest.filter(|s| s.timed).map(|s| now.nanos_since(s.at))?;
        self.rack.measured(now, rtt);
        Some(rtt)
    }

    /// Updates the scoreboard by ACK and SACK.
    fn book(&mut self, ack: &Ack<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        if ack.advanced > 0 {
            self.scoreboard.acknowledge(ack.una, ack.mss, &mut delivered);
        }
        let acknowledged = delivered.last;
        for (i, &(start, end)) in ack.blocks.iter().enumerate() {
            let inside_next = ack.blocks.get(i + 1).is_some_and(|&(s, e)| !start.before(s) && !end.after(e));
            if i == 0 && (start.before(ack.una) || inside_next) {
                let again = segments(end.offset_from(start).max(0) as u32, ack.mss);
                delivered.segments += again; // duplicates
                self.rack.dsack(self.scoreboard.una(), self.scoreboard.nxt(), again); // RFC 2883
                let start_of_block = self.scoreboard.position(start);
                if let Some(doubt) = self.doubt.as_mut().filter(|doubt| start_of_block >= doubt.una) {
                    doubt.again = doubt.again.saturating_sub(end.offset_from(start).max(0) as u32);
                }
            } else if start.before(end) && !start.before(ack.una) && !end.after(ack.nxt) {
                self.scoreboard.sack(start, end, ack.mss, &mut delivered);
            }
        }
        delivered.last = acknowledged.or(delivered.last);
        // The reordering distance in segments.
        let distance = delivered.reordering.div_ceil(ack.mss.max(1));
        self.dup_threshold = self.dup_threshold.max(distance.min(MAX_DUPLICATES));
        delivered
    }

    /// The recovery was spurious: restores the window before it, and removes the loss marks.
    fn undo(&mut self, congestion: &mut Congestion) {
        congestion.undo();
        self.scoreboard.unmark_all_lost();
        self.rack.reordered();
        if !self.sack {
            self.dup_threshold = (self.duplicates + 1).clamp(self.dup_threshold, MAX_DUPLICATES);
        }
        self.phase = Phase::Open;
        self.duplicates = 0;
        self.doubt = None;
        self.undone = true;
    }

    /// Eifel: the recovery was spurious if the first acknowledgment after its start answers a segment sent before it.
    fn detect_spurious_timeout(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) {
        let (Phase::Loss(at) | Phase::Recovery(at, _)) = self.phase else { return };
        if self.doubt.is_none() || !(ack.echo_before)(at) {
            return;
        }
        if self.scoreboard.was_resent_since(at) {
            // Only this segment was late. Others may be lost; loss detection starts over for those not yet
            // retransmitted, with a reordering window.
            self.scoreboard.unmark_all_lost();
            self.rack.reordered();
        } else {
            self.undo(congestion);
        }
    }

    /// As Linux: also later in the recovery, with SACK, it is undone if a late original filled the hole and nothing that
    /// was retransmitted is unacknowledged.
    fn detect_late_original(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) {
        let Phase::Recovery(at, _) = self.phase else { return };
        let is_late_original = self.sack && self.doubt.is_some() && (ack.echo_before)(at);
        if is_late_original && !self.scoreboard.was_resent_since(at) {
            self.undo(congestion);
        }
    }

    /// SND.UNA moved.
    fn progress(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) {
        if self.steps == 0 {
            self.detect_spurious_timeout(ack, congestion);
        } else {
            self.detect_late_original(ack, congestion);
        }
        self.steps = self.steps.saturating_add(1);
        let complete = self.scoreboard.una() >= self.recover;
        match self.phase {
            Phase::Open => self.duplicates = 0,
            Phase::Cwr(end, _) => {
                self.duplicates = 0;
                if self.scoreboard.una() >= end {
                    self.phase = Phase::Open;
                }
            }
            _ if complete => {
                self.phase = Phase::Open;
                self.duplicates = 0;
                self.rack.recovered();
                // The ACK that ends a recovery may open a whole window; sent as one burst, it could be lost
                // again (RFC 6582 section 3.2, step 3). Half of it is a burst as in slow start.
                let burst = (congestion.window() / 2).max(INITIAL_SEGMENTS * ack.mss);
                congestion.limit_window(self.scoreboard.pipe() + burst);
            }
            Phase::Recovery(..) if !self.sack => {
                // NewReno: a partial ACK shows the next hole.
                self.duplicates = self.duplicates.saturating_sub(ack.advanced.div_ceil(ack.mss));
                self.scoreboard.mark_front_lost(ack.mss);
            }
            Phase::Recovery(..) | Phase::Loss(_) => {}
        }
    }

    /// Whether an acknowledgment of new data restarts the retransmission timer. NewReno retransmits one segment per
    /// round trip; if many are lost it is better to let the timer expire (the "impatient" variant of RFC 6582
    /// section 4).
    pub fn restarts_timer(&self) -> bool {
        self.sack || self.steps <= 1 || !matches!(self.phase, Phase::Recovery(..))
    }

    fn find_losses(&mut self, ack: &Ack<'_>, congestion: &mut Congestion) -> Option<Duration> {
        let mut wait = None;
        if !self.sack {
            // A small flight yields few duplicate ACKs.
            let max = ((ack.nxt - ack.una) / ack.mss).saturating_sub(1).max(DUP_THRESHOLD);
            let enough = self.duplicates >= self.dup_threshold.min(max);
            let shown = enough && !self.is_repairing() && self.scoreboard.una() > self.recover;
            if shown {
                self.scoreboard.mark_front_lost(ack.mss);
            }
        } else if self.scoreboard.sacked() > 0 || !self.is_open() {
            wait = self.detect_losses(ack.now, ack.mss, ack.srtt);
        }
        self.begin_if_lost(ack.now, ack.mss, congestion);
        wait
    }

    fn detect_losses(&mut self, now: Instant, mss: u32, srtt: Option<Duration>) -> Option<Duration> {
        let recovering = self.is_repairing();
        self.rack.detect_losses(now, &mut self.scoreboard, mss, recovering, srtt.unwrap_or_default())
    }

    /// The network reports congestion by ECN, without a loss (RFC 3168 section 6.1.2). The flight shrinks over a round
    /// trip, by PRR as in a recovery: an abrupt reduction would stop transmission until a third of it has been
    /// acknowledged. During a reduction nothing is reduced further.
    pub fn marked(&mut self, now: Instant, mss: u32, congestion: &mut Congestion) {
        if !self.is_open() {
            return;
        }
        congestion.on_loss(now, congestion.window(), mss);
        self.doubt = None;
        if !self.scoreboard.is_empty() {
            self.phase = Phase::Cwr(self.scoreboard.nxt(), Prr::begin(self.scoreboard.total()));
            self.window = congestion.window().max(self.pipe(mss));
        }
    }

    fn begin_if_lost(&mut self, now: Instant, mss: u32, congestion: &mut Congestion) {
        if self.scoreboard.lost() == 0 || self.is_repairing() {
            return;
        }
        if self.size_probe.as_ref().is_some_and(|probe| self.scoreboard.lost_only(probe)) {
            self.size_probe_lost = true;
            return;
        }
        let flight = self.scoreboard.total();
        if let Phase::Cwr(end, _) = self.phase {
            // The window is reduced once for the data of a round trip, and a reduction for marks is not undone.
            self.recover = end;
        } else {
            congestion.on_loss(now, flight, mss);
            self.recover = self.scoreboard.nxt();
            self.doubt = Some(UndoState { una: self.scoreboard.una(), again: 0 });
        }
        self.phase = Phase::Recovery(now, Prr::begin(flight));
        self.steps = 0;
        self.window = self.pipe(mss) + mss;
    }

    /// Updates the window: by congestion control, or by PRR.
    fn regulate(
        &mut self,
        ack: &Ack<'_>,
        bytes: u32,
        delivered: &Delivered,
        outcome: &Outcome,
        pipe_before: u32,
        congestion: &mut Congestion,
    ) {
        let pipe = self.pipe(ack.mss);
        let repairing = self.is_repairing();
        if let Phase::Cwr(_, prr) | Phase::Recovery(_, prr) = &mut self.phase {
            let arrived = if self.sack { delivered.bytes } else { ack.mss.max(delivered.bytes) };
            let progress = ack.advanced > 0 && !outcome.lost;
            self.window = prr.window(arrived, pipe, congestion.threshold(), ack.mss, progress);
            if repairing && !self.sack && ack.advanced > 0 {
                // The next hole is retransmitted regardless of the window (RFC 6582 section 3.2 step 3).
                self.window = self.window.max(pipe + ack.mss);
            }
            return;
        }
        self.widen(ack, bytes, outcome.rtt, pipe_before, congestion);
    }

    /// Whether the window may grow when data is acknowledged, `pipe_before` bytes having been in flight. An unused window
    /// does not grow (RFC 7661): in slow start, use of more than half of it at some time in the last round trip is enough.
    #[inline]
    pub fn uses_window(&self, pipe_before: u32, mss: u32, congestion: &Congestion) -> bool {
        let window = congestion.window();
        pipe_before.saturating_add(mss) >= window
            || pipe_before.max(self.max_pipe) > window / 2 && window < congestion.threshold()
    }

    /// Grows the window by the bytes acknowledged, if it was used.
    fn widen(
        &self,
        ack: &Ack<'_>,
        bytes: u32,
        rtt: Option<u64>,
        pipe_before: u32,
        congestion: &mut Congestion,
    ) {
        // On a path that reorders, SACKed data is progress as well.
        let progress = ack.advanced > 0 || self.sack && bytes > 0 && self.dup_threshold > DUP_THRESHOLD;
        if progress && self.uses_window(pipe_before, ack.mss, congestion) {
            congestion.on_ack(&Acked {
                now: ack.now,
                bytes,
                mss: ack.mss,
                rtt: rtt.map(Duration::from_nanos),
                srtt: ack.srtt,
                delivered: ack.delivered,
                sent: ack.delivered + u64::from(ack.nxt - ack.una),
            });
        }
    }

    /// The reordering timer expired: data not yet delivered is lost. Returns the time until the next expiry.
    pub fn reorder_timeout(
        &mut self,
        now: Instant,
        mss: u32,
        srtt: Option<Duration>,
        congestion: &mut Congestion,
    ) -> Option<Duration> {
        let wait = self.detect_losses(now, mss, srtt);
        self.begin_if_lost(now, mss, congestion);
        wait
    }

    /// The retransmission timer expired: everything is lost (RFC 6298 section 5.4, RFC 8985 6.3).
    pub fn timeout(&mut self, now: Instant, mss: u32, congestion: &mut Congestion) {
        // Repeated timeouts are one loss event: ssthresh is kept. Nor is a timeout in a recovery another
        // loss event, and not all its retransmissions were spurious. But each timeout restarts from one
        // segment (RFC 5681 section 3.1), however far the recovery before it had come.
        match self.phase {
            Phase::Open => {
                let flight = self.scoreboard.total();
                congestion.on_timeout(now, flight, mss);
                self.doubt = Some(UndoState { una: self.scoreboard.una(), again: 0 });
            }
            Phase::Cwr(..) | Phase::Recovery(..) => {
                congestion.on_repeated_timeout(mss);
                self.doubt = None;
            }
            Phase::Loss(_) => congestion.on_repeated_timeout(mss),
        }
        if !matches!(self.phase, Phase::Loss(_)) {
            self.phase = Phase::Loss(now);
            self.steps = 0;
        }
        let reneged = self.scoreboard.first_is_sacked();
        self.scoreboard.mark_all_lost(reneged);
        self.recover = self.scoreboard.nxt();
        self.duplicates = 0;
        self.probe = None;
        self.size_probe = None;
    }

    /// Everything in flight is to be retransmitted, without a congestion response: the path MTU was reduced.
    pub fn resegment(&mut self) {
        self.scoreboard.mark_all_lost(false);
    }

    /// Whether a tail loss probe may be scheduled (RFC 8985 section 7.2).
    #[inline(always)]
    pub fn may_probe(&self) -> bool {
        !self.is_repairing()
            && self.sack
            && self.probe.is_none()
            && self.scoreboard.sacked() == 0
            && !self.scoreboard.is_empty()
    }

    /// A probe was sent.
    pub fn probed(&mut self, again: bool) {
        self.probe = Some(Probe { end: self.scoreboard.nxt(), again });
    }

    /// RFC 8985 section 7.4: evaluates the answer to a probe.
    fn end_probe(&mut self, ack: &Ack<'_>, delivered: &Delivered, congestion: &mut Congestion) {
        let Some(probe) = self.probe.filter(|probe| self.scoreboard.una() >= probe.end) else { return };
        let dsack = ack.blocks.first().is_some_and(|(start, _)| start.before(ack.una));
        let beyond = self.scoreboard.una() > probe.end;
        if probe.again && !dsack && !beyond {
            return; // a later ACK may still show that both copies arrived
        }
        self.probe = None;
        if probe.again && !dsack && self.is_open() {
            // The probe has repaired a loss without a recovery: the window is reduced all the same.
            congestion.on_loss(ack.now, delivered.bytes, ack.mss);
            self.doubt = None;
        }
    }

    /// A duplicate pure ACK has arrived: the probe and the original segment were both received (RFC 8985
    /// section 7.4.2).
    pub fn on_duplicate_pure_ack(&mut self) {
        let una = self.scoreboard.una();
        self.probe = self.probe.filter(|probe| probe.end != una);
    }

    /// These bytes are sent as one segment, as a path MTU probe.
    pub fn probes_size(&mut self, bytes: Range<u64>) {
        self.size_probe = Some(Box::new(bytes));
        self.size_probe_lost = false;
    }

    /// Whether only that segment was lost. Reported once per probe.
    pub fn take_size_probe_lost(&mut self) -> bool {
        core::mem::take(&mut self.size_probe_lost)
    }

    /// Makes the last reduction of the window final: no undo.
    pub fn trust(&mut self) {
        self.doubt = None;
    }

    /// Records the flight size, after new data was sent.
    #[inline(always)]
    pub fn note_use(&mut self) {
        let pipe = self.scoreboard.pipe();
        if self.scoreboard.una() >= self.max_pipe_until || pipe > self.max_pipe {
            (self.max_pipe, self.max_pipe_until) = (pipe, self.scoreboard.nxt());
        }
    }

    /// Accounts data that was sent, for the first time or `again` (retransmitted).
    pub fn sent(&mut self, bytes: u32, again: bool) {
        if let Phase::Cwr(_, prr) | Phase::Recovery(_, prr) = &mut self.phase {
            prr.sent(bytes);
        }
        if let Some(doubt) = self.doubt.as_mut().filter(|_| again) {
            doubt.again = doubt.again.saturating_add(bytes);
        }
    }
}
