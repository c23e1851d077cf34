//! SEGMENT ARRIVES in SYN-SENT (RFC 9293 section 3.10.7.3) and SYN-RECEIVED (section 3.10.7.4), and the simultaneous open.

use crate::end::{Cause, EndedBy, LikelyCause, Origin};
use crate::seq::RcvSeq;
use crate::shared::Shared;
use crate::tcp::acceptance::{ResetEffect, ResetReceiver};
use crate::tcp::closed::reset_reply;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::segment::Arrival;
use crate::tcp::send::ecn;
use crate::{DropReason, Instant, Rule, Verdict};
use core::time::Duration;
use lastack_wire::tcp::TcpFlags;

/// The delay before a SYN is retransmitted after a reset of the peer's old connection (`Rule::RstBadAckInSynSent`).
const HURRY: Duration = Duration::from_millis(10);

/// The outcome of an arrival for a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The verdict on the segment; the handshake goes on, or has ended.
    Done(Verdict),
    /// The handshake is complete. The segment, if it is not a SYN, goes to the connection.
    Complete,
}

use Opening::{Complete, Done};

impl Handshake {
    /// A segment of this handshake has arrived.
    pub fn arrives(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Opening {
        match self.phase {
            _ if self.end.is_some() => Done(Verdict::Dropped(DropReason::Unwanted)),
            _ if !self.syn_exchanged() => Done(Self::arrives_before_syn(shared, seg)),
            Phase::SynSent => self.arrives_in_syn_sent(shared, now, seg),
            Phase::AwaitingDecision => self.arrives_while_awaiting_decision(shared, now, seg),
            Phase::SynReceived => self.arrives_in_syn_received(shared, now, seg),
        }
    }

    /// Our SYN is not sent yet, so the segment belongs to an earlier attempt: handled as in CLOSED, except that a SYN is
    /// dropped, since it will be retransmitted.
    fn arrives_before_syn(shared: &mut Shared, seg: &Arrival<'_>) -> Verdict {
        if seg.has(TcpFlags::ACK) && !seg.has(TcpFlags::RST) {
            return reset_reply::reply(shared, seg, Rule::RstNoConnection);
        }
        Verdict::Dropped(DropReason::Unwanted)
    }

    fn arrives_in_syn_sent(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Opening {
        let acked = seg.has(TcpFlags::ACK);
        // Second: RST, which needs an acceptable ACK. The first step for other segments is below.
        if seg.has(TcpFlags::RST) {
            let receiver = ResetReceiver::SynSent { iss: self.iss };
            return Done(match receiver.judge(seg.seq(), acked.then(|| seg.ack())) {
                ResetEffect::Accepted(rule) => {
                    self.ended_by(shared, now, seg, rule);
                    Verdict::Ended(rule)
                }
                ResetEffect::Challenged(rule) | ResetEffect::Ignored(rule) => Verdict::Dropped(rule.into()),
            });
        }
        // First: the ACK.
        if acked && seg.ack() != self.iss + 1 {
            self.retransmit_syn_now(now, seg);
            return Done(reset_reply::reply(shared, seg, Rule::RstBadAckInSynSent));
        }
        // Fourth: SYN.
        if !seg.has(TcpFlags::SYN) {
            return Done(Verdict::Dropped(
                if acked { Rule::DropAckWithoutSynInSynSent } else { Rule::DropNoFlagsInSynSent }.into(),
            ));
        }
        self.take_syn(shared, seg);
        if acked {
            return Complete;
        }
        // Simultaneous open (figure 7).
        self.phase = Phase::SynReceived;
        self.syn_pending = true;
        Done(Verdict::Accepted)
    }

    /// Records the peer's SYN.
    fn take_syn(&mut self, shared: &Shared, seg: &Arrival<'_>) {
        self.irs = seg.seq();
        self.peer = seg.tcp.options;
        self.peer_window = u32::from(seg.tcp.window);
        self.ecn = ecn::is_agreed(shared.config.tcp.ecn, seg);
    }

    /// The peer answered with an old connection, which is reset now: retransmit the SYN soon, once.
    fn retransmit_syn_now(&mut self, now: Instant, seg: &Arrival<'_>) {
        if !self.syn_resent_early && !seg.has(TcpFlags::SYN) {
            self.syn_resent_early = true;
            self.deadline = Some(now + HURRY);
            self.apply_user_timeout();
        }
    }

    fn ended_by(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>, rule: Rule) {
        let cause = if rule == Rule::PeerRstInSynReceived { Cause::Reset } else { Cause::Refused };
        self.finish(cause, EndedBy::Peer, rule, Some(seg.header()), now);
        if let Some(end) = &mut self.end {
            end.peer_said = reset_reply::reason(shared, seg);
            end.inferred = (rule == Rule::PeerRstRefused).then_some(LikelyCause::NoListener);
        }
    }

    /// The embedder has not decided yet, so nothing was sent to the peer.
    fn arrives_while_awaiting_decision(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
    ) -> Opening {
        if seg.has(TcpFlags::RST) {
            return Done(self.reset_in_syn_received(shared, now, seg));
        }
        if seg.has(TcpFlags::SYN) && !seg.has(TcpFlags::ACK) {
            if seg.seq() == self.irs {
                return Done(Verdict::Dropped(DropReason::Duplicate));
            }
            return Done(self.another_syn(shared, now, seg));
        }
        if !seg.has(TcpFlags::ACK) {
            return Done(Verdict::Dropped(Rule::DropNoAckInSynReceived.into()));
        }
        Done(reset_reply::reply(shared, seg, Rule::RstBadAckInSynReceived))
    }

    /// The order is that of Linux (`tcp_check_req`): the ACK before the sequence number (`Rule::RstBadAckInSynReceived`).
    fn arrives_in_syn_received(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Opening {
        if seg.has(TcpFlags::RST) {
            return Done(self.reset_in_syn_received(shared, now, seg));
        }
        if self.origin == Origin::Active {
            return self.arrives_after_simultaneous_open(shared, now, seg);
        }
        let (syn, acked) = (seg.has(TcpFlags::SYN), seg.has(TcpFlags::ACK));
        if syn && !acked && seg.seq() == self.irs {
            return Done(self.repeat_syn_ack(shared, now));
        }
        if acked && seg.ack() != self.iss + 1 {
            return Done(reset_reply::reply(shared, seg, Rule::RstBadAckInSynReceived));
        }
        if !self.is_acceptable(shared, seg) {
            return Done(self.answer_unacceptable(shared, now, seg));
        }
        if syn && seg.seq() != self.irs {
            return Done(self.another_syn(shared, now, seg));
        }
        if !acked {
            return Done(Verdict::Dropped(Rule::DropNoAckInSynReceived.into()));
        }
        Complete
    }

    /// The order is that of the synchronized states, with one exception. The SYN of the simultaneous open proved nothing:
    /// any host that has guessed the four-tuple may have sent it. A SYN|ACK that acknowledges our SYN proves that its sender
    /// received it, and replaces the other SYN.
    fn arrives_after_simultaneous_open(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seg: &Arrival<'_>,
    ) -> Opening {
        let good = seg.has(TcpFlags::ACK) && seg.ack() == self.iss + 1;
        if !seg.has(TcpFlags::ACK | TcpFlags::SYN) {
            return Done(Verdict::Dropped(Rule::DropNoAckInSynReceived.into()));
        }
        if good && seg.has(TcpFlags::SYN) && seg.seq() != self.irs {
            self.take_syn(shared, seg);
            return Complete;
        }
        if !self.is_acceptable(shared, seg) {
            return Done(self.answer_unacceptable(shared, now, seg));
        }
        if seg.has(TcpFlags::SYN) && !(good && seg.seq() == self.irs) {
            return Done(self.answer(shared, now, Rule::AckChallengeSyn));
        }
        if !good {
            return Done(reset_reply::reply(shared, seg, Rule::RstBadAckSimultaneousOpen));
        }
        Complete
    }

    /// PAWS, and Table 6 of RFC 9293. A retransmitted SYN of the peer may carry data or FIN.
    fn is_acceptable(&self, shared: &Shared, seg: &Arrival<'_>) -> bool {
        let again = u32::from(seg.has(TcpFlags::SYN) && seg.seq() == self.irs);
        let (first, len) = (seg.seq() + again, seg.len() - again);
        let inside = |seq: RcvSeq| seq.within(self.irs + 1, self.offered.window());
        !self.is_old(shared, seg) && (inside(first) || (len > 0 && inside(first + (len - 1))))
    }

    /// `Rule::AckUnacceptableInSynReceived`: answered with an ACK, rate-limited for a bare ACK or a SYN, as in the
    /// synchronized states.
    fn answer_unacceptable(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        if seg.len() == 0 || seg.has(TcpFlags::SYN) {
            return self.answer(shared, now, Rule::AckUnacceptableInSynReceived);
        }
        self.ack_pending = Some(Rule::AckUnacceptableInSynReceived);
        Verdict::Answered(Rule::AckUnacceptableInSynReceived)
    }

    /// PAWS (RFC 7323 section 5.3): whether the segment is older than the peer's SYN.
    fn is_old(&self, shared: &Shared, seg: &Arrival<'_>) -> bool {
        match (self.peer.timestamps, seg.tcp.options.timestamps) {
            (Some(syn), Some(ts)) if shared.config.tcp.timestamps => {
                (ts.val.wrapping_sub(syn.val) as i32) < 0
            }
            _ => false,
        }
    }

    /// RST (`Rule::PeerRstInSynReceived`, `Rule::PeerRstSimultaneousOpen`): at RCV.NXT it ends the handshake, elsewhere in
    /// the window it is answered with a challenge ACK, otherwise it is ignored.
    fn reset_in_syn_received(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        let receiver = ResetReceiver::SynReceived {
            irs: self.irs,
            window: self.offered.window(),
            active: self.origin == Origin::Active,
        };
        match receiver.judge(seg.seq(), None) {
            ResetEffect::Accepted(rule) => {
                self.ended_by(shared, now, seg, rule);
                Verdict::Ended(rule)
            }
            // No SYN|ACK was sent yet, so there is nothing to repeat in a challenge ACK.
            ResetEffect::Challenged(_) if self.phase != Phase::SynReceived => {
                Verdict::Dropped(Rule::DropRstOutsideWindow.into())
            }
            ResetEffect::Challenged(rule) => self.answer(shared, now, rule),
            ResetEffect::Ignored(rule) => Verdict::Dropped(rule.into()),
        }
    }

    /// `Rule::RstOtherSynInSynReceived`: the peer has abandoned its first SYN.
    fn another_syn(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        self.finish(Cause::Refused, EndedBy::Stack, Rule::RstOtherSynInSynReceived, Some(seg.header()), now);
        if shared.config.tcp.reset_on_embryonic_syn {
            // The rate limit may suppress the answer; the handshake ends all the same.
            let _ = reset_reply::reply(shared, seg, Rule::RstOtherSynInSynReceived);
        }
        Verdict::Ended(Rule::RstOtherSynInSynReceived)
    }

    /// `Rule::AckRepeatedSyn`: at most one SYN|ACK per challenge interval.
    fn repeat_syn_ack(&mut self, shared: &mut Shared, now: Instant) -> Verdict {
        if self.limited(shared, now) {
            return Verdict::Dropped(DropReason::Duplicate);
        }
        self.syn_pending = true;
        Verdict::Answered(Rule::AckRepeatedSyn)
    }

    fn answer(&mut self, shared: &mut Shared, now: Instant, rule: Rule) -> Verdict {
        if self.limited(shared, now) {
            return Verdict::Dropped(rule.into());
        }
        self.ack_pending = Some(rule);
        Verdict::Answered(rule)
    }

    fn limited(&mut self, shared: &mut Shared, now: Instant) -> bool {
        let interval = shared.config.tcp.challenge_interval;
        if self.last_answer.is_some_and(|last| now - last < interval) {
            shared.counters.tcp_suppressed_acks += 1;
            return true;
        }
        self.last_answer = Some(now);
        false
    }
}
