//! What several captures of one connection prove: a packet that one of them has and another does not.

use super::case::{Case, SECOND, span};
use super::types::{Also, Evidence, Kind, Role, Verdict};
use crate::packet::{Frame, Pkt};
use crate::track::{Reset, bit};
use lastack_causes::{Cause, EndedBy};

impl Case<'_> {
    /// A reset that a capture nearer to its sender does not have: a device between the two made it.
    pub fn made_between(&self) -> Option<Verdict> {
        let views = self.conn.views.as_deref().filter(|views| views.are_several())?;
        let (index, reset) = self.effective_reset().filter(|(_, reset)| !reset.copy)?;
        let (side, seen) = (reset.pkt.side, reset.pkt.vantage);
        // Nearer to its sender, or, if that sent nothing else, farther from the other end.
        let near = views.nearer(side, seen).or_else(|| {
            let alone = self.conn.sides[usize::from(side)].packets == 0;
            views.farther(1 - side, seen).filter(|_| alone)
        })?;
        if reset.pkt.seen & bit(near) != 0 || !views.is_complete(side, near, seen) {
            return None;
        }
        // The nearer capture has one like it with another number: a device chooses new ones, and its SYN is in no capture.
        let like = |other: &Reset| {
            let pkt = &other.pkt;
            pkt.side == side && pkt.vantage == near && pkt.flags == reset.pkt.flags && !other.copy
        };
        let soon = |other: &Reset| (other.pkt.time - reset.pkt.time).abs() < SECOND;
        if self.conn.resets.iter().any(|other| like(other) && soon(other)) {
            return None;
        }
        let name = self.end(usize::from(side)).name();
        let trigger = reset.trigger.filter(|_| reset.answers || reset.shape == crate::track::Shape::Active);
        let swallowed = trigger.is_some_and(|trigger| trigger.span() > 0 && !self.was_seen(&trigger, near));
        let idle = reset.before.map_or(0, |before| reset.pkt.time - before.time);
        let quiet = trigger.filter(|_| reset.answers).map_or(0, |trigger| self.quiet_before(&trigger));
        let refused = self.conn.sides[usize::from(side)].packets == 0;
        let cause = match () {
            () if refused => Cause::FirewallReject,
            () if quiet >= SECOND => Cause::StateExpired,
            () if idle >= SECOND => Cause::IdleReset,
            () if swallowed => Cause::InlineReset,
            () => Cause::Injected,
        };
        let text = format!(
            "one capture has the reset, and the one nearer to the {name}, which has the {name}'s other packets, does not: the {name} did not send it"
        );
        let mut draft = self
            .verdict(cause, 0.95, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .idle(idle.max(quiet), reset.pkt.frame)
            .evidence(Kind::Vantage, Some(reset.pkt.frame), "one capture of two", text)
            .device(reset.pkt.ttl);
        if let Some(gap) = self.foreign_ttl(reset) {
            draft = draft.foreign(reset, gap, Cause::Abort);
        }
        if let Some(trigger) = trigger.filter(|trigger| trigger.len > 0 && !refused) {
            let what = if swallowed { "does not reach" } else { "reaches" };
            let text = format!("the data that it answers {what} the capture nearer to the {name}");
            draft =
                draft.evidence(Kind::Trigger, Some(trigger.frame), format!("{} bytes", trigger.len), text);
        }
        let mut verdict = draft.done();
        if cause == Cause::Injected {
            verdict.roles[index] = Role::Injected;
        }
        Some(verdict)
    }

    /// Whether a capture has this packet.
    fn was_seen(&self, pkt: &Pkt, vantage: u8) -> bool {
        self.packets().find(|kept| kept.frame == pkt.frame).is_some_and(|kept| kept.seen & bit(vantage) != 0)
    }

    /// Adds the result of the comparison of several captures to a verdict that is based on one.
    pub fn compare_captures(&self, verdict: &mut Verdict) {
        let Some(views) = self.conn.views.as_deref().filter(|views| views.are_several()) else { return };
        if views.renumbered {
            verdict.evidence.push(Evidence {
                kind: Kind::Vantage,
                frame: None,
                value: "other numbers".into(),
                expected: None,
                speaks_for: None,
                against: None,
                text: "the captures have different sequence numbers: a device between them chooses new ones"
                    .into(),
            });
        }
        if matches!(verdict.cause, Cause::SilentDrop | Cause::DeliveryTimeout) {
            self.where_data_is_lost(verdict);
        }
        let decisive = |reset: &&Reset| verdict.decisive.contains(&reset.pkt.frame) && !reset.copy;
        if let Some(reset) = self.conn.resets.iter().find(decisive)
            && self.is_lost_between(&reset.pkt)
        {
            let name = self.end(1 - usize::from(reset.pkt.side)).name();
            verdict.evidence.push(Evidence {
                kind: Kind::Vantage,
                frame: Some(reset.pkt.frame),
                value: "one capture of two".into(),
                expected: None,
                speaks_for: Some(Cause::SilentDrop),
                against: None,
                text: format!(
                    "the reset is not in the capture nearer to the {name}: it was lost between the two, and the {name} was not informed of the end"
                ),
            });
            also_lost(verdict, reset.pkt.frame);
        }
    }

    /// Whether a packet passed one capture, and not the one farther on, which has others of its sender.
    fn is_lost_between(&self, pkt: &Pkt) -> bool {
        let Some(views) = self.conn.views.as_deref() else { return false };
        views.farther(pkt.side, pkt.vantage).is_some_and(|far| pkt.seen & bit(far) == 0)
    }

    /// Where data is lost that was sent again and again.
    fn where_data_is_lost(&self, verdict: &mut Verdict) {
        let sender =
            [self.client, self.server()].into_iter().find(|&index| self.side(index).stuck.sends >= 2);
        let Some(sender) = sender else { return };
        let stuck = self.side(sender).stuck;
        let sent = || {
            self.packets().filter(|pkt| {
                usize::from(pkt.side) == sender && pkt.seq == stuck.seq && pkt.span() > 0 && !pkt.is_rst()
            })
        };
        let Some(first) = sent().next() else { return };
        let (from, to) = (self.end(sender).name(), self.end(1 - sender).name());
        let Some(views) = self.conn.views.as_deref() else { return };
        if views.farther(first.side, first.vantage).is_none() {
            return;
        }
        let between = sent().all(|pkt| self.is_lost_between(pkt));
        let text = if between {
            format!(
                "the {from}'s data passes the capture nearer to the {from}, and not the other one: it is lost between the two"
            )
        } else {
            format!(
                "the {from}'s data is in both captures: it is lost behind them, on the side of the {to}, or the {to} does not answer"
            )
        };
        verdict.evidence.insert(
            0,
            Evidence {
                kind: Kind::Vantage,
                frame: Some(first.frame),
                value: format!("{} sends over {}", stuck.sends, span(stuck.last - stuck.first)),
                expected: None,
                speaks_for: Some(Cause::SilentDrop),
                against: None,
                text,
            },
        );
        if between {
            // The comparison settles what one capture cannot.
            also_lost(verdict, first.frame);
            verdict.alternatives.clear();
            verdict.confidence = 0.9;
        }
    }
}

/// Segments were lost, in addition to the cause.
fn also_lost(verdict: &mut Verdict, frame: Frame) {
    let known = verdict.also.iter().any(|also| also.cause == Cause::SilentDrop);
    if verdict.cause != Cause::SilentDrop && !known {
        verdict.also.push(Also { cause: Cause::SilentDrop, frames: vec![frame] });
    }
}
