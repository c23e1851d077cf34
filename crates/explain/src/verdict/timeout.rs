//! Aborts by a timer of the stack, at a closed window or an unfilled gap: the segments before show them.

use super::case::{Case, SECOND, span};
use super::types::{Kind, Verdict};
use crate::track::{Reset, Shape};
use lastack_causes::Cause;

impl Case<'_> {
    /// Ends by a timer of the stack, a closed window or an unfilled gap, as the segments before show.
    pub fn gave_up(&self, reset: &Reset) -> Option<Verdict> {
        let own = usize::from(reset.pkt.side);
        let (mine, theirs) = (self.side(own), self.side(1 - own));
        let unseen = self.missing_side() == Some(1 - own);
        if mine.probes.count >= 2 && unseen && mine.probes.backs_off() {
            return Some(self.window_shut_unseen(reset));
        }
        if mine.probes.count >= 2 && theirs.shut_since.is_none() && !unseen {
            return Some(self.probes_failed(reset, true));
        }
        if self.answers_were_lost(reset) {
            return Some(self.probes_failed(reset, false));
        }
        if let Some(shut) = [own, 1 - own].into_iter().find(|&side| self.is_shut(side, reset.pkt.time)) {
            return Some(self.window_shut(reset, shut));
        }
        let wordless = theirs.bytes == 0 && !self.is_client(1 - own);
        if self.is_client(own) && wordless && self.answer_repeated() && mine.stuck.sends >= 2 {
            return Some(self.third_segment_lost());
        }
        let reported = theirs.gap_since.map_or(0, |since| reset.pkt.time - since);
        let long = (5 * self.crossing()).max(SECOND / 2);
        // At the receiver's side the repetitions are not seen: there the gap has to be open for longer.
        if theirs.sack.is_some() && reported > long && (mine.stuck.sends >= 2 || reported > 2 * long) {
            return Some(self.hole(reset, reported, 1 - own));
        }
        if mine.stuck.sends >= 3 && self.unacked(own) > 0 {
            return Some(self.delivery_failed(reset));
        }
        let unknown = !reset.covers(theirs.stuck.seq.wrapping_add(1)) && self.unacked(1 - own) > 0;
        if reset.shape == Shape::Active && theirs.stuck.sends >= 3 && unknown && self.missing_side().is_none()
        {
            return Some(self.data_never_arrived(reset));
        }
        let waited = mine.gap_since.map_or(0, |since| reset.pkt.time - since);
        if waited > (5 * self.crossing()).max(SECOND / 2) && mine.sack.is_some() {
            return Some(self.hole(reset, waited, own));
        }
        None
    }

    /// Whether this end has offered no window for long, while the other had something to send.
    pub fn is_shut(&self, index: usize, now: i64) -> bool {
        let side = self.side(index);
        side.shut_since.is_some_and(|since| {
            let long = now - since > (5 * self.crossing()).max(SECOND / 2);
            side.shut_probes >= 2 || (long && side.shut_probes + side.shut_acks >= 2)
        })
    }

    /// Keep-alive probes whose answers did not reach the end that sent them. `here`: they are not in this capture, either.
    fn probes_failed(&self, reset: &Reset, here: bool) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let probes = self.side(own).probes;
        let (prober, other) = (self.end(own).name(), self.end(1 - own).name());
        let (count, sure, text) = if here {
            let text = format!("{} keep-alive probes of the {prober} had no answer", probes.count);
            (probes.count, 0.95, text)
        } else {
            let text = format!(
                "the {prober} sent {} keep-alive probes and reset the connection when the next was due: the {other}'s answers did not reach it",
                probes.in_a_row
            );
            (probes.in_a_row, 0.75, text)
        };
        let value = format!("{count} probes, {:.2} s apart", super::seconds(probes.spacing));
        let draft = self
            .verdict(Cause::KeepaliveTimeout, sure, self.by(own))
            .decisive(probes.frame)
            .decisive(reset.pkt.frame)
            .rule("S91")
            .evidence(Kind::Probes, Some(probes.frame), value, text);
        if here {
            return draft.alternative(Cause::SilentDrop, 0.03).done();
        }
        draft
            .alternative(Cause::Abort, 0.15)
            .advice(format!("The path from the {other} to the {prober} is broken: capture at the {prober}."))
            .done()
    }

    fn window_shut(&self, reset: &Reset, shut: usize) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let since = self.side(shut).shut_since.unwrap_or(reset.pkt.time);
        let waited = reset.pkt.time - since;
        let unread = shut == own;
        self.verdict(Cause::ZeroWindow, 0.9, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Window,
                Some(reset.pkt.frame),
                format!("0 for {}", span(waited)),
                format!(
                    "the window of the {} stayed zero for {}: its program did not read; {} probes",
                    self.end(shut).name(),
                    span(waited),
                    self.side(shut).shut_probes
                ),
            )
            .alternative(Cause::CloseUnread, 0.05)
            .also_if(unread, Cause::CloseUnread, &[reset.pkt.frame])
            .done()
    }

    /// Probes at growing distances are those of a shut window. The ACKs that would say so are not in the capture.
    fn window_shut_unseen(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let probes = self.side(own).probes;
        let (prober, other) = (self.end(own).name(), self.end(1 - own).name());
        self.verdict(Cause::ZeroWindow, 0.6, self.by(own))
            .decisive(probes.frame)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Probes,
                Some(probes.frame),
                format!("{} probes over {}", probes.count, span(probes.last - probes.first)),
                format!("the {prober} probed at growing distances, as into a shut window of the {other}, and aborted"),
            )
            .alternative(Cause::KeepaliveTimeout, 0.15)
            .alternative(Cause::Abort, 0.1)
            .done()
    }

    /// Whether the end that resets had sent keep-alive probes, was answered here, and resets when its next probe is due: the
    /// answers did not reach it.
    fn answers_were_lost(&self, reset: &Reset) -> bool {
        let probes = self.side(usize::from(reset.pkt.side)).probes;
        let (since, spacing) = (reset.pkt.time - probes.last, probes.spacing);
        reset.shape == Shape::Active
            && probes.in_a_row >= 2
            && spacing >= SECOND / 2
            && (since - spacing).abs() < spacing / 10
    }

    fn delivery_failed(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let stuck = self.side(own).stuck;
        let reply = reset.shape == Shape::Reply;
        let text = if reply {
            "its data was retransmitted without an ACK, then it stopped; the later reset answers the other end: its socket was closed"
        } else {
            "its data was retransmitted without an ACK, then it gave up"
        };
        // A stack gives up when the next send would be due; a program when it likes.
        let since = reset.pkt.time - stuck.last;
        let capped = (since - stuck.spacing).abs() < stuck.spacing / 20 && stuck.spacing > 10 * SECOND;
        let due = (since >= 3 * stuck.spacing / 2 || capped) && stuck.sends >= 5;
        let by_stack = reply || due;
        let (cause, other) = if self.marks.queue_full && self.side(1 - own).bytes == 0 {
            (Cause::BacklogFull, Cause::SilentDrop)
        } else if by_stack {
            (Cause::DeliveryTimeout, Cause::SilentDrop)
        } else {
            (Cause::SilentDrop, Cause::DeliveryTimeout)
        };
        let draft = self
            .verdict(cause, 0.6, self.by(own))
            .decisive(reset.pkt.frame)
            .rule("S92")
            .evidence(
                Kind::Retransmissions,
                Some(reset.pkt.frame),
                format!("{} sends over {}", stuck.sends, span(stuck.last - stuck.first)),
                text,
            )
            .evidence(
                Kind::Unacked,
                Some(reset.pkt.frame),
                format!("{} bytes", self.unacked(own)),
                format!(
                    "{} bytes of the {} were never acknowledged",
                    self.unacked(own),
                    self.end(own).name()
                ),
            );
        draft.alternative(other, 0.3).also_if(!by_stack, Cause::Abort, &[reset.pkt.frame]).done()
    }

    /// One end sent its data again and again, and the other, which aborts, never got it.
    fn data_never_arrived(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let (sender, resetter) = (self.end(1 - own).name(), self.end(own).name());
        let stuck = self.side(1 - own).stuck;
        let (cause, other) = if self.marks.queue_full && self.side(own).bytes == 0 {
            (Cause::BacklogFull, Cause::SilentDrop)
        } else {
            (Cause::SilentDrop, Cause::Abort)
        };
        self.verdict(cause, 0.58, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Retransmissions,
                Some(reset.pkt.frame),
                format!("{} sends over {}", stuck.sends, span(stuck.last - stuck.first)),
                format!(
                    "the {sender} sent the same data {} times without an ACK, and the {resetter}'s reset does not acknowledge it: it never arrived there",
                    stuck.sends
                ),
            )
            .evidence(
                Kind::Ack,
                Some(reset.pkt.frame),
                format!("ACK {}", reset.pkt.ack),
                format!("{} bytes of the {sender} are not acknowledged", self.unacked(1 - own)),
            )
            .alternative(other, 0.3)
            .alternative(Cause::OneSided, 0.05)
            .also(Cause::Abort, &[reset.pkt.frame])
            .done()
    }

    /// One end reported a gap by SACK that was never filled.
    fn hole(&self, reset: &Reset, waited: i64, reporter: usize) -> Verdict {
        let large = self.side(1 - reporter).largest;
        self.verdict(Cause::SilentDrop, 0.85, self.by(usize::from(reset.pkt.side)))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Retransmissions,
                Some(reset.pkt.frame),
                format!("a gap for {}", span(waited)),
                format!(
                    "the {} reported a gap by SACK for {} and it was never filled: large segments (up to {large} bytes) vanish, small ones arrive",
                    self.end(reporter).name(),
                    span(waited)
                ),
            )
            .also(if reset.shape == Shape::Active { Cause::Abort } else { Cause::Echo }, &[reset.pkt.frame])
            .advice("Look for a path MTU problem: `tracepath`, clamp the MSS, let ICMP \"too big\" pass.")
            .done()
    }
}
