//! From what was seen of a connection to who ended it and why.
//!
//! The order is that of the specification: injection first, then the handshake, then who decided: a FIN, an abort,
//! a reply to lost state, or silence. Each rule is one function that drafts a verdict.

mod abort;
mod case;
mod closing;
mod groups;
mod handshake;
mod injection;
mod reply;
mod silent;
mod timeout;
mod types;
mod vantage;

use crate::declared::Declared;
use crate::http::Lacks;
use crate::packet::{Frame, ahead};
use crate::pattern::Context;
use crate::protocol;
use crate::track::{Conn, Reset, Shape};
use case::{Case, SECOND};
use lastack_causes::{Cause, EndedBy, Severity};
use lastack_wire::TcpFlags;

pub(crate) use case::{hops, seconds, span};
pub(crate) use handshake::{is_near, odd_syn};
pub use types::{Also, Alternative, Device, Evidence, GroupKey, Kind, Lost, Role, Verdict};

/// Judges a connection.
pub(crate) fn judge(conn: &Conn, context: &Context) -> Verdict {
    let case = Case::new(conn, context);
    let mut verdict = case.decide();
    case.compare_captures(&mut verdict);
    case.declare(&mut verdict);
    case.count_losses(&mut verdict);
    case.assign_roles(&mut verdict);
    case.note_limits(&mut verdict);
    groups::settle(&mut verdict);
    let cause = verdict.cause;
    verdict.also.retain(|also| also.cause != cause);
    verdict
}

impl Case<'_> {
    fn decide(&self) -> Verdict {
        if let Some(verdict) = self.scan_or_check() {
            return verdict;
        }
        if let Some(verdict) = self.made_between() {
            return verdict;
        }
        if let Some(verdict) = self.injection() {
            return verdict;
        }
        if let Some(verdict) = self.data_injection() {
            return verdict;
        }
        let Some((index, reset)) = self.effective_reset() else {
            return self.without_reset();
        };
        if let Some(verdict) = self.handshake(reset) {
            return verdict;
        }
        let mut verdict = if let Some(verdict) = self.closing(reset) {
            verdict
        } else if let Some(verdict) = self.gave_up(reset) {
            verdict
        } else if reset.shape == Shape::Active {
            self.abort(reset)
        } else {
            self.reply(reset)
        };
        if let Some(rule) = reset.effect.rule() {
            verdict.rules.push(rule.code());
        }
        let _ = index;
        verdict
    }

    /// The reset that ended the connection: the first that counted, or one whose effect cannot be judged but after
    /// which nothing follows.
    fn effective_reset(&self) -> Option<(usize, &Reset)> {
        let resets = &self.conn.resets;
        if let Some(index) = self.conn.reset_by {
            // An abort that was challenged, and then the exact reset that answers the challenge: the abort decided.
            let side = resets[index].pkt.side;
            let abort = resets[..index].iter().position(|before| {
                before.pkt.side == side
                    && !before.copy
                    && before.shape == Shape::Active
                    && resets[index].shape == Shape::Reply
                    && resets[index].pkt.time - before.pkt.time < SECOND
                    && self.foreign_ttl(before).is_none()
                    && self.later(usize::from(side), before.pkt.frame).next().is_none()
            });
            let index = abort.unwrap_or(index);
            return Some((index, &resets[index]));
        }
        if self.conn.is_orderly() {
            return None;
        }
        let last = |index: usize| self.side(index).last.map(|pkt| pkt.frame);
        let nothing_follows = |reset: &Reset| {
            let own = usize::from(reset.pkt.side);
            let goes_on = |index: usize| last(index).is_some_and(|frame| frame > reset.pkt.frame);
            let answered =
                self.later(1 - own, reset.pkt.frame).any(|pkt| pkt.len > 0 || pkt.has(TcpFlags::FIN));
            !goes_on(own) && !answered
        };
        let unseen = |reset: &Reset| reset.effect.rule().is_none();
        let found = resets.iter().enumerate().find(|(_, reset)| {
            !reset.copy && nothing_follows(reset) && (unseen(reset) || !self.is_answered_challenge(reset))
        })?;
        Some(found)
    }

    /// Whether the receiver answered the reset with an ACK: it was challenged, and the connection continues.
    fn is_answered_challenge(&self, reset: &Reset) -> bool {
        self.later(1 - usize::from(reset.pkt.side), reset.pkt.frame).any(|pkt| pkt.has(TcpFlags::ACK))
    }

    fn without_reset(&self) -> Verdict {
        let mut verdict = match self.orderly() {
            Some(verdict) => self.disagreement(&verdict).unwrap_or(verdict),
            None => self.silent(),
        };
        let refused: Vec<&Reset> =
            self.conn.resets.iter().filter(|reset| !reset.copy && self.conn.was_refused(reset)).collect();
        let went_on = |reset: &&Reset| {
            !(reset.late || reset.own_fin && reset.peer_fin)
                && self.conn.refused_before.is_none_or(|frame| reset.pkt.frame > frame)
                && self.packets().any(|pkt| pkt.frame > reset.pkt.frame && !pkt.is_rst())
        };
        let Some(reset) = refused.iter().copied().find(|reset| went_on(reset)) else {
            return verdict;
        };
        if self.conn.former_answer.is_some()
            || self.side(1 - usize::from(reset.pkt.side)).fin.is_some() && reset.answers
        {
            return verdict;
        }
        if matches!(verdict.cause, Cause::Orderly | Cause::Open) {
            let (by, sure) = (verdict.ended_by, verdict.ended_by_confidence);
            verdict = self.ignored_reset(reset, by);
            verdict.ended_by_confidence = sure;
        } else {
            let frames = refused.iter().map(|reset| reset.pkt.frame).collect();
            verdict.also.push(Also { cause: Cause::ResetIgnored, frames });
        }
        verdict
    }

    /// Ends that spoke different protocols and then closed cleanly: nothing was achieved all the same.
    fn disagreement(&self, orderly: &Verdict) -> Option<Verdict> {
        let alert = |end: usize| self.side(end).alert.filter(|(code, _)| protocol::is_disagreement(*code));
        let refused = [self.server(), self.client].into_iter().find_map(|end| Some((end, alert(end)?)));
        let by = refused.map_or(orderly.ended_by, |(end, _)| self.by(end));
        let (frame, value, text) = match refused {
            Some((_, (code, frame))) => {
                let text = format!("an unencrypted TLS alert: {} ({code})", protocol::alert_name(code));
                (frame, format!("alert {code}"), text)
            }
            None => {
                let (asked, answered) = self.languages()?;
                let text = format!("the client speaks {asked}, the server {answered}");
                (self.side(self.server()).first_data?.frame, format!("{asked} / {answered}"), text)
            }
        };
        let draft = self.verdict(Cause::ProtocolMismatch, 0.85, by).decisive(frame);
        Some(
            draft
                .evidence(Kind::Payload, Some(frame), value, text)
                .also(Cause::Orderly, &orderly.decisive)
                .done(),
        )
    }

    fn ignored_reset(&self, reset: &Reset, by: EndedBy) -> Verdict {
        let rule = reset.effect.rule().map_or("R4", |rule| rule.code());
        let offset = reset.seq_offset().unwrap_or(0);
        let mut draft = self
            .verdict(Cause::ResetIgnored, 0.95, by)
            .decisive(reset.pkt.frame)
            .rule(rule)
            .evidence(
                Kind::Seq,
                Some(reset.pkt.frame),
                format!("{} ({offset:+})", reset.pkt.seq),
                format!(
                    "the reset was {}: its sequence number is off by {offset:+}, and the connection continued",
                    reset.effect.name()
                ),
            )
            .expected(reset.own_nxt.map_or_else(String::new, |nxt| nxt.to_string()));
        if let Some(gap) = self.foreign_ttl(reset) {
            draft = draft.foreign(reset, gap, Cause::Orderly);
        }
        draft.alternative(Cause::Injected, 0.04).done()
    }

    /// What resets, TLS and programs stated.
    fn declare(&self, verdict: &mut Verdict) {
        let decisive = verdict.decisive.first().copied();
        for reset in self.conn.resets.iter().filter(|reset| !reset.copy) {
            for said in &reset.declared {
                if said.doubtful && self.foreign_ttl(reset).is_none() {
                    continue;
                }
                verdict.declared.push((said.clone(), reset.pkt.frame));
                let first =
                    decisive.is_none_or(|frame| frame == reset.pkt.frame) || verdict.declared.len() == 1;
                if first && !reset.late {
                    self.apply_stated_reason(verdict, said, reset);
                }
            }
        }
        for side in &self.conn.sides {
            if let Some((code, frame)) = side.alert {
                let text = format!("TLS alert {} ({code})", protocol::alert_name(code));
                verdict.declared.push((plain("tls", text, Some(code.to_string())), frame));
            } else if let Some(last) = side.last_data
                && side.tls
                && last.tls.is_some_and(|(kind, _)| kind == 21)
                && verdict.cause != Cause::Orderly
            {
                let text = "a TLS alert, encrypted, probably close_notify".to_owned();
                verdict.declared.push((plain("tls", text, None), last.frame));
            }
            if let Some((line, frame)) = &side.error
                && !matches!(verdict.cause, Cause::Orderly | Cause::Open)
            {
                verdict.declared.push((plain("application", line.to_string(), None), *frame));
            }
        }
        let stated =
            verdict.declared.iter().filter(|(said, _)| !matches!(said.source, "tls" | "application"));
        let frames: Vec<Frame> = stated.map(|(_, frame)| *frame).collect();
        if !frames.is_empty() {
            verdict.also.push(Also { cause: Cause::Declared, frames });
        }
    }

    /// Lets a stated reason decide between causes that the packets leave open. It is a hint: it moves a verdict among
    /// those of resets that an end or a device sent, and never makes one harmless.
    fn apply_stated_reason(&self, verdict: &mut Verdict, said: &Declared, reset: &Reset) {
        let Some(cause) = said.cause else { return };
        let foreign = self.foreign_ttl(reset);
        let open = matches!(
            verdict.cause,
            Cause::Abort
                | Cause::IdleReset
                | Cause::ClientCancelled
                | Cause::LostState
                | Cause::StateExpired
                | Cause::InlineReset
                | Cause::ListenerClosed
                | Cause::CloseUnread
                | Cause::Mptcp
                | Cause::Refused
                | Cause::FirewallReject
        );
        // A stated idle timeout without idle time, or a stated refusal of an established connection, is ignored.
        let plausible = match cause {
            Cause::IdleReset => verdict.idle >= 1.0 && !matches!(verdict.cause, Cause::Refused),
            Cause::Refused | Cause::FirewallReject => {
                matches!(verdict.cause, Cause::Refused | Cause::FirewallReject)
            }
            Cause::CloseUnread => verdict.cause != Cause::Refused,
            _ => true,
        };
        if !open || !plausible {
            return;
        }
        if verdict.cause != cause {
            verdict.alternatives.insert(0, Alternative { cause: verdict.cause, confidence: 0.2, settle: "" });
        }
        verdict.cause = cause;
        verdict.severity = cause.severity();
        verdict.confidence = if cause == Cause::Mptcp { 0.99 } else { 0.75 };
        let device = matches!(cause, Cause::IdleReset | Cause::StateExpired | Cause::FirewallReject)
            || (said.by_device && foreign.is_some());
        if device {
            verdict.ended_by = EndedBy::Path;
            verdict.device =
                Some(Device { ttl: Some(reset.pkt.ttl), hops: Some(hops(reset.pkt.ttl)), address: None });
        }
        verdict.evidence.insert(
            0,
            Evidence {
                kind: Kind::Payload,
                frame: Some(reset.pkt.frame),
                value: said.text.clone(),
                expected: None,
                speaks_for: Some(cause),
                against: None,
                text: format!("the reset states its reason ({}): {}", said.source, said.text),
            },
        );
    }

    fn count_losses(&self, verdict: &mut Verdict) {
        let reset = self.effective_reset().map(|(_, reset)| reset);
        for end in [self.client, self.server()] {
            let place = usize::from(end != self.client);
            let lost = &mut verdict.lost[place];
            if !self.conn.is_orderly() {
                lost.unacked = self.unacked(end);
            }
            let unread = matches!(
                verdict.cause,
                Cause::CloseUnread | Cause::ListenerClosed | Cause::ProtocolMismatch | Cause::ZeroWindow
            ) || verdict.also.iter().any(|also| also.cause == Cause::CloseUnread)
                || verdict.alternatives.iter().any(|other| other.cause == Cause::CloseUnread);
            if unread && reset.is_some_and(|reset| usize::from(reset.pkt.side) == end) {
                lost.unread_max = reset.map_or(0, |reset| reset.peer_run);
            }
        }
        let ended_badly = verdict.severity != Severity::Benign || reset.is_some();
        if ended_badly && self.conn.speaker == Some(self.client as u8) {
            verdict.lost[0].request_unanswered = self.is_unanswered(self.client);
        }
        if verdict.cause == Cause::Abort && verdict.lost.iter().any(|lost| lost.unacked > 0) {
            verdict.severity = Severity::Harmful;
        }
    }

    fn assign_roles(&self, verdict: &mut Verdict) {
        let decided = self.effective_reset().map(|(index, _)| index);
        for (index, reset) in self.conn.resets.iter().enumerate() {
            let role = &mut verdict.roles[index];
            *role = match () {
                () if reset.copy => Role::Copy,
                () if *role == Role::Injected => Role::Injected,
                () if Some(index) == decided && reset.shape == Shape::Active => Role::Decision,
                () if Some(index) == decided => Role::Reply,
                () if reset.late || decided.is_some_and(|decided| index > decided) => Role::Echo,
                () if reset.shape == Shape::Reply => Role::Reply,
                () => Role::Decision,
            };
        }
    }

    fn note_limits(&self, verdict: &mut Verdict) {
        if let Some(missing) = self.missing_side() {
            let name = self.end(missing).name();
            verdict.limits.push(format!(
                "no packets of the {name} in the capture: TTL, data that was not read, and what its resets answer cannot be tested"
            ));
            if verdict.cause != Cause::OneSided {
                verdict.also.push(Also { cause: Cause::OneSided, frames: Vec::new() });
            }
        }
        if self.conn.sides.iter().all(|side| side.syn.is_none()) {
            verdict.limits.push("the capture has no SYN of this connection: roles are guessed".into());
        }
        if self.conn.sides.iter().any(|side| side.unseen > 0) {
            verdict.limits.push("some data was acknowledged that the capture does not hold".into());
        }
        if self.conn.backwards {
            verdict.limits.push("times run backwards within the connection".into());
        }
        if self.conn.evicted {
            verdict.limits.push("too many connections at once: this one was tracked only up to here".into());
        }
        if let Some(frame) = self.conn.refused_before {
            verdict.also.push(Also { cause: Cause::Refused, frames: vec![frame] });
        }
        for icmp in &self.conn.icmp {
            let cause = icmp.cause();
            if verdict.cause != cause && !verdict.also.iter().any(|also| also.cause == cause) {
                verdict.also.push(Also { cause, frames: vec![icmp.frame] });
            }
        }
    }

    /// An orderly end: both FINs.
    fn orderly(&self) -> Option<Verdict> {
        let fins = (self.side(self.client).fin, self.side(self.server()).fin);
        let (Some(client), Some(server)) = fins else { return None };
        let (first, second, index) = if client.frame < server.frame {
            (client, server, self.client)
        } else {
            (server, client, self.server())
        };
        let by = if first.time == second.time { EndedBy::Both } else { self.by(index) };
        // Neither knew of the other's FIN: which was sent first is only known where both clocks are.
        let crossed = second.has(TcpFlags::ACK)
            && ahead(first.end(), second.ack) > 0
            && second.time - first.time < 2 * self.crossing();
        let frames = [first.frame, second.frame];
        if let Some(former) = self.conn.former_answer {
            return Some(self.port_reuse(former, 0.95, Severity::Benign));
        }
        let draft = self.verdict(Cause::Orderly, 0.99, by).decisive(frames[0]).decisive(frames[1]).evidence(
            Kind::PeerFin,
            Some(first.frame),
            "FIN",
            format!(
                "the {} closed first{}; both FINs are in the capture",
                self.end(index).name(),
                if crossed { ", as seen here (the FINs crossed)" } else { "" }
            ),
        );
        let late: Vec<Frame> =
            self.conn.resets.iter().filter(|r| !r.copy).map(|reset| reset.pkt.frame).collect();
        let draft = if crossed { draft.by_confidence(0.6) } else { draft };
        let draft = match self.cut_answer() {
            Some((frame, value, text)) => draft.severity(Severity::Harmful).decisive(frame).evidence(
                Kind::Payload,
                Some(frame),
                value,
                text,
            ),
            None => draft,
        };
        Some(draft.also_if(!late.is_empty(), Cause::Echo, &late).done())
    }

    /// The server closed first, within its answer: what that lacks.
    fn cut_answer(&self) -> Option<(Frame, String, String)> {
        let server = self.server();
        let (bytes, lacks) = self.conn.cut_answer()?;
        let (value, lacks) = match lacks {
            Lacks::Head => (format!("{bytes} bytes"), "the end of its head".to_owned()),
            Lacks::Length(size) => {
                (format!("{bytes} of {size} bytes"), format!("{} bytes of it", size - bytes))
            }
            Lacks::LastChunk => (format!("{bytes} bytes"), "its last chunk".to_owned()),
        };
        let last = self.side(server).last_data?;
        Some((last.frame, value, format!("the server closed within its HTTP answer: {lacks} never came")))
    }

    /// Whether much time passed in the capture after this.
    fn seen_after(&self, time: i64) -> i64 {
        self.context.end.saturating_sub(time).min(1_000_000 * SECOND)
    }
}

fn plain(source: &'static str, text: String, code: Option<String>) -> Declared {
    Declared { source, text, code, cause: None, by_device: false, doubtful: false }
}

/// The time without traffic before the reset that ended a connection, or before what it answers.
pub(crate) fn idle_before(conn: &Conn, context: &Context) -> i64 {
    let case = Case::new(conn, context);
    let Some((_, reset)) = case.effective_reset() else { return 0 };
    match reset.trigger.filter(|_| reset.answers && reset.shape == Shape::Reply) {
        Some(trigger) => case.quiet_before(&trigger),
        None => reset.before.map_or(0, |before| (reset.pkt.time - before.time).max(0)),
    }
}
