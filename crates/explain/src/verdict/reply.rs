//! A reset that answers a segment without any FIN before: its sender no longer had the connection, or never had it.

use super::case::{Case, MS, SECOND, span};
use super::types::{Kind, Verdict};
use crate::timers;
use crate::track::{Reset, Shape};
use lastack_causes::{Cause, EndedBy};
use lastack_wire::TcpFlags;

impl Case<'_> {
    /// A reset of the shape of a reply.
    pub fn reply(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let prompt = (4 * self.crossing()).max(SECOND);
        let Some(trigger) =
            reset.trigger.filter(|trigger| reset.answers && reset.pkt.time - trigger.time < prompt)
        else {
            return self.without_trigger(reset);
        };
        let moved = "the first packet continues another connection to that server: a NAT had dropped its entry and assigned another port";
        let renamed = "from this packet on the capture behind the NAT has the connection with other ports: the NAT had dropped its entry";
        let places = [
            (self.marks.moved_from, moved),
            (self.conn.views.as_deref().and_then(|views| views.renamed), renamed),
        ];
        if let Some((frame, text)) = places.into_iter().find_map(|(frame, text)| Some((frame?, text))) {
            return self.moved(reset, frame, text);
        }
        // A host that acknowledged the data has the connection: an abort of a stack that omits the ACK.
        let knows = trigger.len > 0 && self.side(own).has_acked(trigger.end());
        if knows && reset.seq_offset() == Some(0) && !reset.peer_fin && self.foreign_ttl(reset).is_none() {
            return self.abort(reset);
        }
        let gap = self.quiet_before(&trigger);
        if self.is_proxied(own) && gap < SECOND {
            return self.not_accepted(reset);
        }
        if let Some(foreign) = self.foreign_ttl(reset) {
            if gap >= SECOND {
                return self.state_expired(reset, gap, Some(foreign));
            }
            if trigger.len > 0 && !self.side(own).has_acked(trigger.end()) {
                return self.inline(reset, foreign);
            }
            return self.state_expired(reset, gap, Some(foreign));
        }
        if let Some(verdict) = self.mismatch(reset) {
            return verdict;
        }
        if let Some((delay, usual)) = self.too_fast(reset) {
            return self.nearer_device(reset, gap, delay, usual);
        }
        let wordless = self.side(own).bytes == 0 && self.side(own).syn.is_some() && !self.has_taken_data(own);
        if wordless && gap < SECOND && !self.is_client(own) {
            return self.not_accepted(reset);
        }
        if gap < SECOND && self.is_client(own) && self.side(1 - own).bytes > 0 {
            return self.client_gone(reset);
        }
        self.lost_state(reset, gap)
    }

    /// The data of a connection that the server has with another port or address of the client.
    fn moved(&self, reset: &Reset, frame: crate::packet::Frame, text: &str) -> Verdict {
        let trigger = reset.trigger.map(|pkt| pkt.frame);
        self.verdict(Cause::StateExpired, 0.85, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .evidence(Kind::Pattern, Some(frame), "the same numbers", text)
            .evidence(
                Kind::Trigger,
                trigger,
                "no SYN",
                "the server had no connection with these addresses and ports",
            )
            .alternative(Cause::PortReuse, 0.03)
            .advice("Send keep-alives more often than the NAT's timer, or raise it.")
            .done()
    }

    /// A reset that came sooner than the end itself could send it, with the end's hop limit.
    pub(super) fn nearer_device(&self, reset: &Reset, gap: i64, delay: i64, usual: i64) -> Verdict {
        let trigger = reset.trigger.map(|pkt| pkt.frame);
        let idle = gap >= SECOND;
        let cause = if idle { Cause::StateExpired } else { Cause::InlineReset };
        let other = if reset.shape == Shape::Reply { Cause::LostState } else { Cause::CloseUnread };
        self.verdict(cause, 0.55, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .idle(gap, trigger.unwrap_or(reset.pkt.frame))
            .evidence(
                Kind::Delay,
                Some(reset.pkt.frame),
                span(delay),
                format!(
                    "the reset comes {} after what it answers; the handshake needed {}: a nearer device sent it",
                    span(delay),
                    span(usual)
                ),
            )
            .expected(span(usual))
            .against(other)
            .device(reset.pkt.ttl)
            .alternative(other, 0.2)
            .alternative(Cause::Injected, 0.15)
            .done()
    }

    fn state_expired(&self, reset: &Reset, gap: i64, foreign: Option<super::case::TtlGap>) -> Verdict {
        let far = foreign.is_some_and(|foreign| foreign.distance > 1);
        let sure = match (far, foreign.is_some()) {
            (true, _) => 0.85,
            (false, true) => 0.6,
            _ => 0.55,
        };
        let trigger = reset.trigger.map(|pkt| pkt.frame);
        let mut draft = self
            .verdict(Cause::StateExpired, sure, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .idle(gap, trigger.unwrap_or(reset.pkt.frame))
            .evidence(
                Kind::Trigger,
                trigger,
                "bare RST",
                format!("the first packet after {} without traffic is answered with a reset", span(gap)),
            );
        if let Some(foreign) = foreign {
            draft = draft.foreign(reset, foreign, Cause::LostState);
        }
        if far {
            draft = draft.alternative(Cause::InlineReset, 0.08);
        } else {
            draft = draft.alternative(Cause::LostState, 0.3);
        }
        draft.done()
    }

    /// Whether the server's SYN|ACK is that of a proxy of SYNs: it offers no window, and the server never sent or took data.
    pub(super) fn is_proxied(&self, own: usize) -> bool {
        let side = self.side(own);
        let shut = side.syn.is_some_and(|answer| answer.has(TcpFlags::ACK) && answer.window == 0);
        shut && side.bytes == 0 && !self.is_client(own) && !self.has_taken_data(own)
    }

    /// The handshake was done for the client, and the server resets its ACK or first data.
    pub(super) fn not_accepted(&self, reset: &Reset) -> Verdict {
        let server = self.side(self.server());
        let other_box =
            server.syn.is_some_and(|syn| syn.window == 0) || server.options.size == 0 && server.packets <= 1;
        let (first, second) = if other_box {
            (Cause::SynProxy, Cause::BacklogFull)
        } else {
            (Cause::BacklogFull, Cause::SynProxy)
        };
        let data = self.side(self.client).bytes;
        let (by, sure) = if other_box { (EndedBy::Path, 0.65) } else { (EndedBy::Server, 0.5) };
        self.verdict(first, sure, by)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Handshake,
                reset.trigger.map(|pkt| pkt.frame),
                "RST for the third segment",
                format!(
                    "the server answers the client's ACK of its SYN|ACK with a reset ({data} bytes were sent)"
                ),
            )
            .alternative(second, 0.15)
            .alternative(Cause::ListenerClosed, 0.15)
            .alternative(Cause::InlineReset, if other_box { 0.0 } else { 0.1 })
            .done()
    }

    /// The client answers the server's data with a bare reset, at once: its socket is gone.
    fn client_gone(&self, reset: &Reset) -> Verdict {
        let by = self.by(self.client);
        let server = self.side(self.server());
        let streaming = server.run > 4000 || server.is_cut_short();
        let trigger = reset.trigger.map(|pkt| pkt.frame);
        let text = "the client answers the server's data with a bare reset: it no longer has a socket for it";
        let (first, second) = if streaming {
            (Cause::ClientCancelled, Cause::LostState)
        } else {
            (Cause::LostState, Cause::ClientCancelled)
        };
        self.verdict(first, 0.5, by)
            .decisive(reset.pkt.frame)
            .evidence(Kind::Trigger, trigger, "bare RST", text)
            .alternative(second, 0.3)
            .alternative(Cause::Injected, 0.08)
            .done()
    }

    fn lost_state(&self, reset: &Reset, gap: i64) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let trigger = reset.trigger.map_or(reset.pkt.frame, |pkt| pkt.frame);
        let timer = timers::fitting(super::seconds(gap)).filter(|timer| timer.device);
        if timer.is_some() || self.marks.equal_idle.is_some_and(|(count, _)| count >= 3) {
            let mut verdict = self.state_expired(reset, gap, None);
            verdict.ended_by_confidence = 0.6;
            return verdict;
        }
        let draft = self
            .verdict(Cause::LostState, 0.55, self.by(own))
            .decisive(reset.pkt.frame)
            .rule("S4")
            .idle(gap, trigger)
            .evidence(
                Kind::Trigger,
                Some(trigger),
                "bare RST",
                format!(
                    "the {} answers {} with a bare reset, and there was no FIN: it no longer had the connection",
                    self.end(own).name(),
                    if gap >= SECOND { format!("the first packet after {}", span(gap)) } else { "a segment".into() }
                ),
            );
        let idle = gap > 50 * MS;
        // The host did not answer at first: it was starting anew, or the path was broken.
        let repeated = self.side(1 - own).stuck;
        let silent = repeated.sends >= 3 && reset.trigger.is_some_and(|pkt| pkt.seq == repeated.seq);
        draft
            .also_if(silent, Cause::SilentDrop, &[trigger])
            .alternative(Cause::SilentDrop, if silent { 0.15 } else { 0.0 })
            .alternative(Cause::StateExpired, if gap >= SECOND { 0.25 } else { 0.1 })
            .alternative(Cause::KeepaliveRace, if idle && !self.is_client(own) { 0.12 } else { 0.02 })
            .alternative(Cause::InlineReset, if gap < SECOND { 0.15 } else { 0.0 })
            .done()
    }

    /// A bare reset that answers nothing, after an idle time.
    fn timer_of_a_device(&self, reset: &Reset, idle: i64, foreign: Option<super::case::TtlGap>) -> Verdict {
        let twin = self.reset_of_the_other_end(reset);
        let sure = if foreign.is_some() || twin.is_some() { 0.7 } else { 0.45 };
        let mut draft = self
            .verdict(Cause::IdleReset, sure, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .idle(idle, reset.pkt.frame)
            .evidence(
                Kind::Trigger,
                Some(reset.pkt.frame),
                "none",
                "a bare reset that answers nothing, after an idle time: a timer",
            );
        if let Some(twin) = twin {
            let text = "both ends are reset at the same time, neither in answer to the other";
            draft = draft.evidence(Kind::Copies, Some(twin), "both directions", text);
        }
        if let Some(foreign) = foreign {
            draft = draft.foreign(reset, foreign, Cause::Abort);
        } else {
            draft = draft.alternative(Cause::Abort, 0.3);
        }
        draft.done()
    }

    /// A bare reset that answers nothing in the capture.
    fn without_trigger(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let idle = reset.before.map_or(0, |before| (reset.pkt.time - before.time).max(0));
        let foreign = self.foreign_ttl(reset);
        // What it answers may be in the direction that is missing.
        if self.missing_side() == Some(1 - own) && idle >= SECOND {
            return match foreign {
                Some(_) => self.state_expired(reset, idle, foreign),
                None => self.lost_state(reset, idle),
            };
        }
        let exact = reset.seq_offset() == Some(0);
        if idle >= SECOND && (foreign.is_some() || exact) {
            return self.timer_of_a_device(reset, idle, foreign);
        }
        if self.missing_side().is_none() && exact && !reset.peer_fin {
            // A bare reset with the exact next number: an abort of a stack that leaves out the ACK.
            return self.abort(reset);
        }
        let data = self.conn.speaker.map(usize::from);
        let last = self.side(1 - own).last.map_or(reset.pkt.frame, |pkt| pkt.frame);
        self.verdict(Cause::LostState, 0.4, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Trigger,
                Some(last),
                "not in the capture",
                "a bare reset whose trigger is not in the capture",
            )
            .alternative(Cause::DataAfterClose, 0.25)
            .alternative(
                if data == Some(self.server()) { Cause::ClientCancelled } else { Cause::Abort },
                0.15,
            )
            .done()
    }

    /// A reset of the other direction at the same time as this one, that is not its echo.
    fn reset_of_the_other_end(&self, reset: &Reset) -> Option<crate::packet::Frame> {
        let near = |other: &&Reset| {
            other.pkt.side != reset.pkt.side
                && !other.copy
                && (other.pkt.time - reset.pkt.time).abs() < self.crossing() / 2
        };
        self.conn.resets.iter().find(near).map(|other| other.pkt.frame)
    }

    /// Whether the third segment of the handshake was followed by a repeated SYN|ACK.
    pub fn answer_repeated(&self) -> bool {
        let server = self.side(self.server());
        server.syns > 1 && server.syn.is_some_and(|syn| syn.has(TcpFlags::ACK))
    }
}
