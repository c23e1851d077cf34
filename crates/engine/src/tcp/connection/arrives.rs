//! SEGMENT ARRIVES in a synchronized state (RFC 9293 section 3.10.7.4): one function per step, in the order of the RFC.
//! The sequence check includes PAWS (RFC 7323) and challenge ACKs (RFC 5961). Step three (security compartments) and
//! step six (URG, the urgent pointer) are omitted by decision: urgent data is treated as ordinary data (docs/rfc9293.md).

use crate::end::{Cause, EndedBy, LikelyCause};
use crate::seq::RcvSeq;
use crate::shared::Shared;
use crate::tcp::acceptance::{ResetEffect, ResetReceiver};
use crate::tcp::closed::reset_reply;
use crate::tcp::connection::state::State;
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::{Connection, Ending};
use crate::tcp::segment::Arrival;
use crate::{DropReason, Instant, Rule, Verdict};
use lastack_wire::tcp::TcpFlags;

/// `Ok`: go on with the next step. `Err`: the verdict on the segment.
pub(super) type Step = Result<(), Verdict>;

impl Connection {
    /// A segment of this connection has arrived.
    #[inline]
    pub fn arrives(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        if self.fate.is_some() {
            return Verdict::Dropped(DropReason::Unwanted);
        }
        if self.settings.muted && !seg.has(TcpFlags::RST) {
            return Verdict::Dropped(DropReason::Unwanted);
        }
        self.stats.arrived(seg);
        let is_predicted = self.is_predicted(seg);
        #[cfg(test)]
        let is_predicted = is_predicted && !shared.prediction.is_off;
        #[cfg(test)]
        {
            shared.prediction.segments += u64::from(is_predicted);
        }
        let result = if is_predicted {
            self.process_predicted(shared, now, seg)
        } else {
            self.steps(shared, now, seg)
        };
        result.err().unwrap_or(Verdict::Accepted)
    }

    #[inline(never)]
    fn steps(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        self.check_sequence(shared, now, seg)?; // first
        self.check_reset(shared, now, seg)?; // second
        self.check_syn(shared, now, seg)?; // fourth
        self.process_ack(shared, now, seg)?; // fifth
        self.pending.ack |= self.marks.arrived(seg);
        if self.fate.is_some() {
            return Ok(()); // our FIN is acknowledged and both directions are closed
        }
        self.check_user(shared, now, seg)?;
        self.process_payload(shared, now, seg)?; // seventh
        self.process_fin(shared, now, seg) // eighth
    }

    /// First: the sequence number, preceded by the timestamp (RFC 7323 section 5.3). RST and SYN have sequence checks of
    /// their own, in the second and fourth step (RFC 5961).
    fn check_sequence(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if seg.has(TcpFlags::RST | TcpFlags::SYN) {
            return Ok(());
        }
        if !seg.has(TcpFlags::ACK) {
            // No conforming sender omits ACK here, so no answer is useful; Linux sends none either.
            return Err(Verdict::Dropped(Rule::DropNoAck.into()));
        }
        if let Some(timestamps) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps)
            && self.rcv.is_old(timestamps, now)
        {
            return Err(self.answer_unacceptable(shared, now, seg, Rule::AckOldTimestamp));
        }
        if self.is_acceptable(seg) {
            return Ok(());
        }
        if self.is_recent(seg) {
            self.process_ack(shared, now, seg)?;
            if self.fate.is_some() {
                return Err(Verdict::Accepted); // our FIN is acknowledged and the connection has ended
            }
        }
        if self.is_keep_alive_probe(seg) {
            self.last_received = now;
        }
        Err(self.answer_unacceptable(shared, now, seg, Rule::AckOutsideWindow))
    }

    /// A keep-alive probe: SEQ one before RCV.NXT, and at most one byte (RFC 9293 section 3.8.4). It is not acceptable,
    /// but its SEQ and ACK prove that it comes from the peer.
    fn is_keep_alive_probe(&self, seg: &Arrival<'_>) -> bool {
        seg.seq() + 1 == self.rcv.nxt && seg.len() <= 1 && seg.ack() == self.snd.nxt
    }

    /// A segment already received that does not end before our last ACK: the peer may have sent it before our ACK
    /// arrived, so its ACK field is processed, as on Linux (RFC 9293 appendix A.2).
    fn is_recent(&self, seg: &Arrival<'_>) -> bool {
        let end = seg.seq() + seg.len();
        seg.seq().before(self.rcv.nxt) && !end.before(self.rcv.last_ack) && !end.after(self.rcv.nxt)
    }

    /// Table 6 of RFC 9293, with two extensions: at a zero window, data at RCV.NXT is dropped but its ACK is processed;
    /// and an empty segment may have SEQ at the right edge, as sent by a sender that has filled the window.
    fn is_acceptable(&self, seg: &Arrival<'_>) -> bool {
        let (seq, len) = (seg.seq(), seg.len());
        let first_in = !seq.before(self.rcv.nxt) && !seq.after(self.rcv.edge);
        if len == 0 || seq == self.rcv.nxt {
            return first_in;
        }
        let inside = |seq: RcvSeq| seq.within(self.rcv.nxt, self.rcv.wnd());
        inside(seq) || inside(seq + (len - 1))
    }

    /// Answers an unacceptable segment with an ACK, rate-limited if the segment is a bare ACK. (A segment that occupies
    /// sequence numbers comes from a sender that waits, not from an ACK loop.)
    fn answer_unacceptable(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        rule: Rule,
    ) -> Verdict {
        if self.leaves_answer_to_user(shared, seg) {
            return Verdict::Dropped(rule.into());
        }
        if seg.len() == 0 {
            return self.challenge(shared, now, rule);
        }
        // Also for a segment dropped by PAWS: it shows the sender that the retransmission was spurious.
        let end = (seg.seq() + seg.payload.len() as u32).earlier(self.rcv.nxt);
        if seg.seq().before(end) {
            self.rcv.duplicate = Some((seg.seq(), end));
        }
        self.pending.pure_ack();
        Verdict::Answered(rule)
    }

    /// Queues a challenge ACK, at most one per configured interval (RFC 5961 section 7).
    pub fn challenge(&mut self, shared: &mut Shared, now: Instant, rule: Rule) -> Verdict {
        let interval = shared.config.tcp.challenge_interval;
        if self.cold.last_challenge.is_some_and(|last| now - last < interval) {
            shared.counters.tcp_suppressed_acks += 1;
            return Verdict::Dropped(rule.into());
        }
        self.cold.last_challenge = Some(now);
        self.pending.challenge = Some(rule);
        Verdict::Answered(rule)
    }

    /// Second: RST (RFC 5961 section 3.2; RFC 9293 section 3.10.7.4). Only its SEQ is checked, not its ACK, timestamp
    /// or data.
    fn check_reset(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if !seg.has(TcpFlags::RST) {
            return Ok(());
        }
        Err(match self.as_reset_receiver(shared).judge(seg.seq(), None) {
            ResetEffect::Accepted(rule) => self.reset_by(shared, now, seg, rule),
            ResetEffect::Challenged(rule) => self.challenge(shared, now, rule),
            ResetEffect::Ignored(rule) => Verdict::Dropped(rule.into()),
        })
    }

    fn as_reset_receiver(&self, shared: &Shared) -> ResetReceiver {
        let lenient = shared.config.tcp.lenient_resets;
        let reports = lenient && self.negotiated.sack;
        ResetReceiver::Synchronized {
            state: self.state.public(),
            nxt: self.rcv.nxt,
            window: self.rcv.wnd(),
            reported: if reports { self.rcv.end_of_sack(&self.incoming) } else { None },
            lenient,
        }
    }

    fn reset_by(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>, rule: Rule) -> Verdict {
        let said = reset_reply::reason(shared, seg);
        let aborted = seg.has(TcpFlags::ACK);
        let shape = if aborted { LikelyCause::AbortedByPeer } else { LikelyCause::UnknownConnection };
        let ending = Ending {
            peer_said: said,
            inferred: Some(shape),
            ..Ending::new(Cause::Reset, EndedBy::Peer, rule)
        };
        self.finish(ending.by_segment(seg.header()), now);
        Verdict::Ended(rule)
    }

    /// Fourth: SYN (RFC 5961 section 4.2): answered with a challenge ACK, whatever its SEQ (`Rule::AckChallengeSyn`).
    fn check_syn(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if seg.has(TcpFlags::SYN) {
            return Err(self.challenge(shared, now, Rule::AckChallengeSyn));
        }
        Ok(())
    }

    /// Seventh: the data.
    fn process_payload(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if seg.payload.is_empty() {
            return Ok(());
        }
        if !self.state.may_receive() {
            return Err(Verdict::Dropped(Rule::DropDataAfterFin.into()));
        }
        let old = if seg.seq().before(self.rcv.nxt) { self.rcv.nxt - seg.seq() } else { 0 };
        let payload = self.fitting(seg.seq(), seg.payload);
        if payload.is_empty() {
            self.pending.pure_ack();
            return Err(Verdict::Dropped(DropReason::NoSpace));
        }
        let Some(payload) = payload.get(old as usize..).filter(|payload| !payload.is_empty()) else {
            self.pending.pure_ack();
            return Ok(());
        };
        let unwanted = self.settings.read_shutdown && !self.state.may_send();
        if !self.has_user || unwanted {
            return Err(self.refuse(shared, now, seg, Rule::RstDataAfterClose));
        }
        let seq = seg.seq() + old;
        let at = self.rcv.position(&self.incoming, seq);
        if old > 0 {
            self.rcv.duplicate = Some((seg.seq(), self.rcv.nxt));
        } else if let Some(twice) = self.incoming.out_of_order().meeting(at..at + payload.len() as u64) {
            self.rcv.duplicate = Some((seq + (twice.start - at) as u32, seq + (twice.end - at) as u32));
        }
        self.store_data(shared, now, seg, at, payload)
    }

    /// Stores data that is new, in the window, and not discarded by SHUT_RD. `at`: its position in the stream.
    pub(super) fn store_data(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
        at: u64,
        payload: &[u8],
    ) -> Step {
        self.touch_buffers(shared, now);
        self.measure_rcv_rtt(now, seg);
        self.rcv.measure_segment(seg);
        let gap = !self.incoming.out_of_order().is_empty();
        self.cap_receive_buffer(shared);
        let stored = if self.keep_packet(shared, at, payload) {
            Some(payload.len() as u64)
        } else {
            self.incoming.write(at, payload)
        };
        match stored {
            Some(0) => {
                self.count_ooo(shared);
                self.rcv.note_out_of_order(&self.incoming, at);
                self.pending.pure_ack();
            }
            Some(advanced) => self.advance_rcv(shared, now, advanced as u32, gap),
            None => {
                self.pending.pure_ack();
                if self.incoming.out_of_order().holding(at).is_some() {
                    self.count_ooo(shared); // counted even if it is a duplicate, as on Linux
                    // A FIN after it may be new.
                    let fin = seg.has(TcpFlags::FIN);
                    return if fin { Ok(()) } else { Err(Verdict::Dropped(DropReason::Duplicate)) };
                }
                return Err(Verdict::Dropped(DropReason::NoSpace));
            }
        }
        Ok(())
    }

    /// Counts a segment with out-of-order data.
    fn count_ooo(&mut self, shared: &mut Shared) {
        self.cold.losses.ooo_in = self.cold.losses.ooo_in.wrapping_add(1);
        shared.counters.tcp_ofo_segments += 1;
    }

    /// The part of `payload` left of the right edge of the window.
    fn fitting<'a>(&self, seq: RcvSeq, payload: &'a [u8]) -> &'a [u8] {
        let room = self.rcv.edge.offset_from(seq).max(0) as usize;
        &payload[..payload.len().min(room)]
    }

    /// RCV.NXT advances by `advanced` bytes; `gap`: there was out-of-order data beyond it.
    fn advance_rcv(&mut self, shared: &mut Shared, now: Instant, advanced: u32, gap: bool) {
        self.rcv.nxt += advanced;
        self.bytes.received += u64::from(advanced);
        self.tune_receive_buffer(shared, now);
        let rto = self.rtt.rto_nanos(&shared.config.tcp);
        let full = self.rcv.full_segment(self.mss);
        // Each acknowledges two segments in the long run, so more than the window holds are of no use.
        let max_quick_acks = || shared.config.tcp.quick_acks.min((self.rcv.wnd() / (2 * full)).max(2));
        self.ack_policy.data_arrived(now, rto, max_quick_acks);
        // Data that fills all or part of a gap is acknowledged at once (RFC 5681 section 4.2), as is more than one full
        // segment (SHLD-18: every second segment, whatever its size).
        if self.rcv.hold.is_some() {
            self.wake_reader(shared);
            return;
        }
        self.rcv.unacked += advanced;
        if gap || self.ack_policy.is_quick() || self.rcv.unacked > full {
            self.pending.ack = true;
        } else if !self.timers.is_running(Timer::DelayedAck) {
            self.timers.set(Timer::DelayedAck, now + shared.config.tcp.ack_delay);
        }
        self.wake_reader(shared);
    }

    /// `Rule::RstFinWait2Refused`: our FIN is acknowledged, and the application has closed without waiting for the
    /// peer's FIN.
    fn check_user(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if self.has_user || self.state != State::FinWait2 || self.waits_for_fin() {
            return Ok(());
        }
        Err(self.refuse(shared, now, seg, Rule::RstFinWait2Refused))
    }

    /// Answers with RST and ends the connection: the peer's data can no longer be read (`Rule::RstDataAfterClose`), or
    /// its FIN is not waited for (`Rule::RstFinWait2Refused`).
    fn refuse(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>, rule: Rule) -> Verdict {
        // The rate limit may suppress the answer; the connection ends all the same.
        let _ = reset_reply::reply(shared, seg, rule);
        let ending = Ending::new(Cause::Aborted, EndedBy::Application, rule);
        self.finish(ending.by_segment(seg.header()), now);
        if let Some(crate::tcp::connection::Closing::Closed(ended)) = &mut self.fate {
            ended.end.lost.unread += seg.payload.len() as u64;
        }
        Verdict::Ended(rule)
    }

    /// Eighth: FIN, in order or recorded from an out-of-order segment.
    ///
    /// A FIN takes effect when RCV.NXT reaches it: of several the first, and none that in-order data has passed, since
    /// in-order data certainly comes from the peer (as on Linux).
    fn process_fin(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Step {
        if !self.state.may_receive() {
            return Ok(()); // beyond the peer's FIN (`Rule::DropDataAfterFin`); that FIN retransmitted is unacceptable
        }
        self.rcv.fin = self.rcv.fin.filter(|fin| !fin.before(self.rcv.nxt));
        if seg.has(TcpFlags::FIN) {
            let fin = seg.seq() + seg.payload.len() as u32;
            if fin.after(self.rcv.nxt) && seg.payload.is_empty() {
                if !self.has_user {
                    // The data missing before it can no longer be read.
                    return Err(self.refuse(shared, now, seg, Rule::RstDataAfterClose));
                }
                self.pending.pure_ack();
            }
            self.pending.ack = true;
            // A FIN at the right edge is accepted: it needs no buffer space.
            if !fin.before(self.rcv.nxt) && !fin.after(self.rcv.edge) {
                self.rcv.fin = Some(self.rcv.fin.map_or(fin, |known| known.earlier(fin)));
            }
        }
        if self.rcv.fin != Some(self.rcv.nxt) || self.fate.is_some() {
            return Ok(());
        }
        // Out-of-order data beyond the FIN is not part of the stream.
        self.incoming.drop_ooo();
        self.rcv.nxt += 1;
        self.rcv.edge = self.rcv.edge.later(self.rcv.nxt);
        // The application is likely to respond to earlier data, if only with a FIN: piggyback the ACK, as on Linux.
        let bare = seg.tcp.flags.contains(TcpFlags::FIN) && seg.payload.is_empty();
        let answer = bare && self.state == State::Established && self.has_user;
        let answer = answer && self.ack_policy.last_data().is_some() && self.pending.pure_acks == 0;
        if self.rcv.hold.is_some() {
            self.pending.ack = false;
        } else if answer && self.rcv.unacked <= self.rcv.full_segment(self.mss) {
            self.pending.ack = false;
            self.timers.set(Timer::DelayedAck, now + shared.config.tcp.ack_delay);
        } else {
            self.pending.ack = true;
        }
        self.go(self.state.peer_fin(), now);
        self.wake_reader(shared);
        Ok(())
    }
}
