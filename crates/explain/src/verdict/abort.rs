//! A socket existed and was aborted: by whom, and what for.

use super::case::{Case, MS, SECOND, span};
use super::types::{Kind, Verdict};
use crate::packet::ahead;
use crate::protocol::{Protocol, alert_name, is_disagreement};
use crate::timers;
use crate::track::{Reset, Shape};
use lastack_causes::{Cause, EndedBy};
use lastack_wire::TcpFlags;

/// Data sent this shortly before the same end's abort was its last word: it did not wait.
const AT_ONCE: i64 = 30 * MS;

impl Case<'_> {
    /// The two ends spoke different protocols, or TLS could not agree.
    pub fn mismatch(&self, reset: &Reset) -> Option<Verdict> {
        let own = usize::from(reset.pkt.side);
        let unread = !reset.peer_fin && !reset.own_fin && reset.shape == Shape::Active;
        let draft = |confidence, by| {
            self.verdict(Cause::ProtocolMismatch, confidence, self.by(by)).decisive(reset.pkt.frame)
        };
        if let Some((asked, answered)) = self.languages() {
            let frame = self.side(self.server()).first_data.map(|pkt| pkt.frame);
            let text = format!("the client speaks {asked}, the server {answered}");
            // The first FIN is the decision; a reset after it only follows.
            let fins = [own, 1 - own].map(|end| self.side(end).fin.map(|fin| (fin.frame, end)));
            let by = fins.into_iter().flatten().min().map_or(own, |(_, end)| end);
            let advice = format!(
                "The client speaks {asked} and the server {answered}: check the port and the scheme."
            );
            return Some(
                draft(0.93, by)
                    .evidence(Kind::Payload, frame, format!("{asked} / {answered}"), text)
                    .also_if(unread, Cause::CloseUnread, &[reset.pkt.frame])
                    .advice(advice)
                    .done(),
            );
        }
        let (end, code, frame) = [self.client, self.server()]
            .into_iter()
            .filter_map(|end| self.side(end).alert.map(|(code, frame)| (end, code, frame)))
            .find(|(_, code, _)| is_disagreement(*code))?;
        let text = format!("an unencrypted TLS alert: {} ({code})", alert_name(code));
        Some(
            draft(0.95, end)
                .decisive(frame)
                .evidence(Kind::Payload, Some(frame), format!("alert {code}"), text)
                .also_if(unread, Cause::CloseUnread, &[reset.pkt.frame])
                .done(),
        )
    }

    /// What the client and the server speak, if that is not the same.
    pub(super) fn languages(&self) -> Option<(&'static str, &'static str)> {
        let (client, server) = (self.side(self.client), self.side(self.server()));
        let asked = client.protocol?;
        if let Some(answered) = server.protocol {
            return (!asked.agrees(answered)).then_some((asked.name(), answered.name()));
        }
        // A client that begins with TLS understands nothing else.
        let (syn, answer) = (client.syn?, server.first_data?);
        let first = client.first_data?;
        let hello = asked == Protocol::Tls && first.seq == syn.end() && first.frame < answer.frame;
        let whole = server.syn.is_some_and(|syn| syn.end() == answer.seq);
        (hello && whole && server.is_unrecognized).then_some((asked.name(), "something else"))
    }

    /// An abort without a FIN and without a timer of the stack.
    pub fn abort(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        if let Some(verdict) = self.mismatch(reset) {
            return verdict;
        }
        let idle = reset.before.map_or(0, |before| (reset.pkt.time - before.time).max(0));
        if self.is_proxied(own) && idle < SECOND {
            return self.not_accepted(reset);
        }
        if let Some(gap) = self.foreign_ttl(reset).filter(|_| !is_the_hosts_own(reset)) {
            if idle >= SECOND {
                return self.idle_reset(reset, idle, Some(gap));
            }
            if gap.distance > 2
                && reset.trigger.is_some_and(|trigger| trigger.len > 0 && !self.taken_by(reset))
            {
                return self.inline(reset, gap);
            }
            if gap.distance > 2 {
                return self.foreign_abort(reset, gap);
            }
        }
        if let Some((delay, usual)) = self.too_fast(reset).filter(|_| !is_the_hosts_own(reset)) {
            return self.nearer_device(reset, idle, delay, usual);
        }
        if let Some((count, _)) = self.marks.equal_idle
            && idle >= SECOND
            && count >= 3
            && !is_the_hosts_own(reset)
        {
            return self.idle_reset(reset, idle, None);
        }
        if let Some(missing) = reset.seq_offset().filter(|offset| (1..1 << 24).contains(offset))
            && self.missing_side().is_none()
            && reset.own_nxt.is_some()
        {
            // What the other end acknowledged arrived: only the capture lacks it.
            if self.side(1 - own).has_acked(reset.pkt.seq) {
                return self.idle_abort(reset, idle);
            }
            return self.data_missing(reset, missing);
        }
        let from_the_start = self.conn.sides.iter().any(|side| side.syn.is_some());
        if self.side(own).bytes == 0 && (from_the_start || self.marks.same_instant.is_some()) {
            return self.abort_without_data(reset, idle);
        }
        if self.is_client(own) { self.client_aborts(reset, idle) } else { self.server_aborts(reset, idle) }
    }

    /// An abort in the midst of traffic that does not look like its end's other packets.
    fn foreign_abort(&self, reset: &Reset, gap: super::case::TtlGap) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let name = self.end(own).name();
        let own_choice = if self.is_client(own) { Cause::ClientCancelled } else { Cause::Abort };
        let mut draft = self
            .verdict(Cause::InlineReset, 0.5, EndedBy::Path)
            .by_confidence(0.7)
            .decisive(reset.pkt.frame)
            .foreign(reset, gap, own_choice);
        if self.side(own).timestamps && reset.pkt.tsval.is_none() {
            draft = draft.evidence(
                Kind::Timestamps,
                Some(reset.pkt.frame),
                "none",
                format!("the reset has no timestamp, the {name}'s other packets have"),
            );
        }
        draft.alternative(Cause::Injected, 0.3).alternative(own_choice, 0.15).done()
    }

    /// The reset's number is beyond all that came: what its sender sent before never arrived here.
    fn data_missing(&self, reset: &Reset, missing: i32) -> Verdict {
        let own = usize::from(reset.pkt.side);
        self.verdict(Cause::SilentDrop, 0.55, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Seq,
                Some(reset.pkt.frame),
                format!("{} ({missing:+})", reset.pkt.seq),
                format!(
                    "the {} had sent {missing} bytes that never arrived here, then it aborted",
                    self.end(own).name()
                ),
            )
            .alternative(Cause::Abort, 0.2)
            .alternative(Cause::Injected, 0.1)
            .also(Cause::Abort, &[reset.pkt.frame])
            .done()
    }

    /// Whether the resetting end had acknowledged the data that came last.
    fn taken_by(&self, reset: &Reset) -> bool {
        let own = usize::from(reset.pkt.side);
        reset.trigger.is_some_and(|trigger| self.side(own).has_acked(trigger.end()))
    }

    fn idle_reset(&self, reset: &Reset, idle: i64, gap: Option<super::case::TtlGap>) -> Verdict {
        let sure = match (gap, self.marks.equal_idle) {
            (Some(gap), _) if gap.distance > 1 => 0.85,
            (_, Some(_)) => 0.8,
            (Some(_), _) => 0.65,
            _ => 0.5,
        };
        let mut draft = self
            .verdict(Cause::IdleReset, sure, EndedBy::Path)
            .by_confidence(if gap.is_some() { sure } else { 0.6 })
            .decisive(reset.pkt.frame);
        if let Some(gap) = gap {
            draft = draft.foreign(reset, gap, Cause::Abort);
        }
        if let Some((count, seconds)) = self.marks.equal_idle {
            let text =
                format!("{count} connections to this server ended after {seconds:.1} s without traffic");
            draft = draft.evidence(Kind::Pattern, None, format!("{count} times {seconds:.1} s"), text);
        }
        // Equal times alone may be a program's timer.
        let strong = sure > 0.6 && (gap.is_some() || is_from_a_box(reset));
        draft = draft.idle(idle, reset.pkt.frame);
        // With a mark of a device it is no longer a question of the group.
        if strong {
            draft.alternative(Cause::StateExpired, 0.05).done()
        } else {
            draft.alternative(Cause::Abort, 0.35).done()
        }
    }

    /// The resetting end had never sent a byte.
    fn abort_without_data(&self, reset: &Reset, idle: i64) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = self.side(1 - own);
        let by = self.by(own);
        if self.is_client(own) {
            return self.client_without_data(reset, idle);
        }
        if let Some((count, _)) = self.marks.same_instant {
            return self
                .verdict(Cause::ListenerClosed, 0.9, by)
                .decisive(reset.pkt.frame)
                .rule("S90")
                .evidence(
                    Kind::Pattern,
                    Some(reset.pkt.frame),
                    format!("{count} at once"),
                    format!("{count} connections that the server had never answered were reset in the same instant"),
                )
                .done();
        }
        if self.said(1 - own) == 0 {
            let soon = reset.pkt.time - self.conn.first.0 < 100 * MS + 2 * self.crossing();
            let text = format!("{} after the last packet, without a packet of either end", span(idle));
            let (first, second) = if soon {
                (Cause::Abort, Cause::ListenerClosed)
            } else {
                (Cause::ListenerClosed, Cause::Abort)
            };
            return self
                .verdict(first, 0.5, by)
                .decisive(reset.pkt.frame)
                .evidence(Kind::Shape, Some(reset.pkt.frame), "RST,ACK", text)
                .idle(idle, reset.pkt.frame)
                .alternative(second, 0.3)
                .alternative(Cause::IdleReset, if idle > SECOND { 0.15 } else { 0.0 })
                .alternative(Cause::CloseUnread, 0.05)
                .done();
        }
        let seen = self.missing_side().is_none();
        let first = other.first_data.map_or(other.max, |pkt| pkt.end());
        if seen && !reset.covers(first) && !self.has_taken_data(own) {
            return self.crossed_abort(reset, idle);
        }
        if other.is_partial_request && idle >= SECOND / 2 {
            return self.request_timed_out(reset, idle);
        }
        self.verdict(Cause::CloseUnread, 0.6, by)
            .decisive(reset.pkt.frame)
            .rule("S60")
            .idle(idle, reset.pkt.frame)
            .evidence(
                Kind::Unread,
                Some(reset.pkt.frame),
                format!("at most {} bytes", reset.peer_run),
                "the server took the request and reset the connection without an answer",
            )
            .alternative(Cause::ListenerClosed, 0.25)
            .alternative(Cause::Abort, 0.1)
            .done()
    }

    /// Whether this end acknowledged any payload of the other.
    pub(super) fn has_taken_data(&self, index: usize) -> bool {
        let other = self.side(1 - index);
        other.first_data.is_some_and(|first| self.side(index).has_acked(first.seq.wrapping_add(1)))
    }

    fn client_without_data(&self, reset: &Reset, idle: i64) -> Verdict {
        let by = self.by(self.client);
        if self.said(self.server()) > 0 {
            return self
                .verdict(Cause::ClientCancelled, 0.55, by)
                .decisive(reset.pkt.frame)
                .idle(idle, reset.pkt.frame)
                .evidence(
                    Kind::Unread,
                    Some(reset.pkt.frame),
                    format!("at most {} bytes", reset.peer_run),
                    "the server sent data first, and the client reset the connection without an answer",
                )
                .alternative(Cause::CloseUnread, 0.2)
                .alternative(Cause::Abort, 0.15)
                .also(Cause::CloseUnread, &[reset.pkt.frame])
                .done();
        }
        let soon = reset.pkt.time - self.conn.first.0 < 100 * MS + 2 * self.crossing();
        let text = format!("no data; reset {} after the handshake", span(idle));
        if soon {
            return self
                .verdict(Cause::HealthCheck, 0.5, by)
                .decisive(reset.pkt.frame)
                .evidence(Kind::Handshake, Some(reset.pkt.frame), span(idle), text)
                .alternative(Cause::Scan, 0.25)
                .alternative(Cause::Abort, 0.15)
                .done();
        }
        self.verdict(Cause::Abort, 0.5, by)
            .decisive(reset.pkt.frame)
            .idle(idle, reset.pkt.frame)
            .evidence(Kind::Shape, Some(reset.pkt.frame), "RST,ACK", text)
            .alternative(Cause::ClientCancelled, 0.25)
            .alternative(Cause::IdleReset, 0.15)
            .done()
    }

    /// The abort did not know of the data that was on its way to it.
    fn crossed_abort(&self, reset: &Reset, idle: i64) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = 1 - own;
        let idle = reset.trigger.map_or(idle, |trigger| self.quiet_before(&trigger));
        let client = self.is_client(own);
        let timer = if idle >= SECOND { 0.2 } else { 0.08 };
        self.verdict(Cause::Abort, 0.5, self.by(own))
            .decisive(reset.pkt.frame)
            .idle(idle, reset.pkt.frame)
            .evidence(
                Kind::Ack,
                Some(reset.pkt.frame),
                format!("ACK {}", reset.pkt.ack),
                format!(
                    "the reset does not acknowledge the {}'s last data: they crossed",
                    self.end(other).name()
                ),
            )
            .alternative(Cause::IdleReset, timer)
            .alternative(Cause::KeepaliveRace, if idle >= SECOND && !client { 0.15 } else { 0.0 })
            .alternative(Cause::CloseUnread, if idle >= SECOND { 0.05 } else { 0.15 })
            .alternative(Cause::ClientCancelled, if client { 0.25 } else { 0.0 })
            .done()
    }

    fn server_aborts(&self, reset: &Reset, idle: i64) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = 1 - own;
        let by = self.by(own);
        if reset.own_spoke_last == Some(false) && !self.only_alerts(other) {
            let start =
                self.side(other).run_start.map_or(self.side(other).max, |pkt| pkt.seq.wrapping_add(1));
            let seen = self.missing_side().is_none();
            if seen && !reset.covers(start) && !self.side(own).has_acked(start) {
                let answered = self.side(own).last_data.map_or(idle, |pkt| reset.pkt.time - pkt.time);
                let (there, here) = (self.side(other), self.side(own));
                let upload = there.bytes > there.run + 2920 && there.bytes > here.bytes;
                if answered < AT_ONCE && (upload || here.error.is_some()) {
                    return self.answered_and_aborted(reset);
                }
                return self.crossed_abort(reset, idle);
            }
            let text = if idle < 5 * MS {
                format!("reset within {} of the client's data, which had no answer", span(idle))
            } else {
                format!("the client's last data had no answer for {}", span(idle))
            };
            if self.side(other).is_partial_request && idle >= SECOND / 2 {
                return self.request_timed_out(reset, idle);
            }
            // After a longer time the data may have been read, and an answer not have been found.
            let (sure, other) = if idle < 100 * MS { (0.8, 0.12) } else { (0.65, 0.3) };
            return self
                .verdict(Cause::CloseUnread, sure, by)
                .decisive(reset.pkt.frame)
                .rule("S60")
                .idle(idle, reset.pkt.frame)
                .evidence(
                    Kind::Unread,
                    Some(reset.pkt.frame),
                    format!("at most {} bytes", reset.peer_run),
                    text,
                )
                .alternative(Cause::Abort, other)
                .done();
        }
        let last = self.side(own).last_data.map_or(idle, |pkt| reset.pkt.time - pkt.time);
        if last < AT_ONCE {
            return self.answered_and_aborted(reset);
        }
        self.idle_abort(reset, idle)
    }

    /// The request was not complete, and the server waited for the rest until it aborted.
    fn request_timed_out(&self, reset: &Reset, idle: i64) -> Verdict {
        self.verdict(Cause::Abort, 0.55, self.by(self.server()))
            .decisive(reset.pkt.frame)
            .rule("S64")
            .idle(idle, reset.pkt.frame)
            .evidence(
                Kind::Payload,
                Some(reset.pkt.frame),
                format!("{} bytes", reset.peer_run),
                format!("the client's request is incomplete, and the server reset the connection {} later: a request timeout", span(idle)),
            )
            .alternative(Cause::CloseUnread, 0.3)
            .alternative(Cause::IdleReset, 0.1)
            .done()
    }

    /// The server's answer, and at once its abort: was there more to read?
    fn answered_and_aborted(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = self.side(1 - own);
        let upload = other.run > 1460
            || reset.own_spoke_last == Some(false)
            || other.is_cut_short()
            || self.later(1 - own, reset.pkt.frame).any(|pkt| pkt.len > 0);
        let refused = self.side(own).error.is_some();
        let pipelined = self.side(own).messages > 0 && other.messages > self.side(own).messages;
        let unread = upload || refused || pipelined || other.runs <= 1 && other.run > 600;
        let (first, second) =
            if unread { (Cause::CloseUnread, Cause::Abort) } else { (Cause::Abort, Cause::CloseUnread) };
        let text = if unread {
            "the server answered and reset at once, while the client's data was probably not all read"
        } else {
            "the server answered and reset at once"
        };
        let mut draft = self
            .verdict(first, if unread { 0.75 } else { 0.5 }, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(Kind::Unread, Some(reset.pkt.frame), format!("client sent {} bytes", other.run), text)
            .alternative(second, if unread { 0.2 } else { 0.35 });
        if unread {
            draft = draft.rule("S60");
        }
        draft.done()
    }

    fn idle_abort(&self, reset: &Reset, idle: i64) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let timer = timers::fitting(super::seconds(idle)).filter(|_| idle >= SECOND);
        let device = timer.is_some_and(|timer| timer.device) || (idle >= SECOND && is_from_a_box(reset));
        let (first, second) =
            if device { (Cause::IdleReset, Cause::Abort) } else { (Cause::Abort, Cause::IdleReset) };
        let by = if device { EndedBy::Path } else { self.by(own) };
        let client = self.is_client(own);
        // A timer needs an idle time. Without one, a close that left a rest of the request unread looks the same.
        let (second_sure, unread) = match (idle >= SECOND, client) {
            (true, false) => (0.3, 0.1),
            (true, true) => (if timer.is_some() { 0.3 } else { 0.15 }, 0.05),
            (false, _) => (0.08, if self.side(1 - own).run > 1460 { 0.25 } else { 0.15 }),
        };
        self.verdict(first, if idle >= SECOND { 0.55 } else { 0.6 }, by)
            .decisive(reset.pkt.frame)
            .rule("S64")
            .evidence(
                Kind::Shape,
                Some(reset.pkt.frame),
                "RST,ACK",
                format!(
                    "the {} aborted: the last data was answered {} before, and no unread data is seen",
                    self.end(own).name(),
                    span(idle)
                ),
            )
            .idle(idle, reset.pkt.frame)
            .alternative(second, second_sure)
            .alternative(Cause::ClientCancelled, if client { 0.25 } else { 0.03 })
            .alternative(Cause::CloseUnread, unread)
            .done()
    }

    fn client_aborts(&self, reset: &Reset, idle: i64) -> Verdict {
        let own = self.client;
        let server = self.side(self.server());
        let by = self.by(own);
        // Where the server's packets are missing, the client's ACKs show its answer.
        let answered = self.missing_side() == Some(self.server())
            && self.side(own).last_data.is_some_and(|asked| ahead(reset.pkt.ack, asked.ack) > 0);
        if reset.own_spoke_last == Some(true) && !self.only_alerts(own) && !answered {
            return self
                .verdict(Cause::ClientCancelled, 0.6, by)
                .decisive(reset.pkt.frame)
                .idle(idle, reset.pkt.frame)
                .evidence(
                    Kind::Delay,
                    Some(reset.pkt.frame),
                    span(idle),
                    format!("the client gave up {} after its last data, which had no answer", span(idle)),
                )
                .alternative(Cause::Abort, 0.3)
                .done();
        }
        let since = server.last_data.map_or(idle, |last| reset.pkt.time - last.time);
        let in_flight = reset.pkt.has(TcpFlags::ACK)
            && reset.peer_nxt.is_some_and(|nxt| ahead(nxt, reset.pkt.ack) > 0)
            || self.later(self.server(), reset.pkt.frame).any(|pkt| pkt.len > 0);
        let streaming = server.run > 8000 && since < (2 * self.crossing()).min(SECOND);
        let fallen = self.side(own).unread_by_window(server.run);
        if in_flight || server.is_cut_short() || streaming || fallen > 0 {
            return self.cancelled_midway(reset);
        }
        if server.run > 8000 && idle < 2 * SECOND && !server.is_whole() {
            return self.cancelled_at_length(reset, since);
        }
        let web = server.tls
            || self.side(own).tls
            || matches!(server.at.port, 80 | 443 | 3128 | 8000 | 8080 | 8443);
        if since < AT_ONCE || idle < SECOND || !web {
            return self.idle_abort(reset, idle);
        }
        // A client that drops an idle connection of the web does what it is free to do.
        self.verdict(Cause::ClientCancelled, 0.5, by)
            .decisive(reset.pkt.frame)
            .idle(idle, reset.pkt.frame)
            .evidence(
                Kind::Shape,
                Some(reset.pkt.frame),
                "RST,ACK",
                format!(
                    "the client dropped the connection {} after the last traffic; everything was answered",
                    span(idle)
                ),
            )
            .alternative(Cause::Abort, 0.35)
            .alternative(Cause::IdleReset, 0.1)
            .done()
    }

    fn cancelled_midway(&self, reset: &Reset) -> Verdict {
        let server = self.side(self.server());
        self.verdict(Cause::ClientCancelled, 0.8, self.by(self.client))
            .decisive(reset.pkt.frame)
            .rule("S60")
            .evidence(
                Kind::Unread,
                Some(reset.pkt.frame),
                format!("{} bytes of the answer so far", server.run),
                "the client aborted while the server's answer was still coming, or unread",
            )
            .also(Cause::CloseUnread, &[reset.pkt.frame])
            .done()
    }

    fn cancelled_at_length(&self, reset: &Reset, since: i64) -> Verdict {
        let server = self.side(self.server());
        self.verdict(Cause::ClientCancelled, 0.55, self.by(self.client))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Unread,
                Some(reset.pkt.frame),
                format!("{} bytes of the answer so far", server.run),
                format!("the client aborted {} after a long answer, whose end is not known", span(since)),
            )
            .alternative(Cause::Abort, 0.3)
            .also(Cause::CloseUnread, &[reset.pkt.frame])
            .done()
    }
}

/// Whether an abort has what only the host's own stack has: the flow's clock and its count of IP ids go on.
fn is_the_hosts_own(reset: &Reset) -> bool {
    reset.own.is_some_and(|own| {
        let clock = own.tsval.zip(reset.pkt.tsval).is_some_and(|(before, now)| ahead(now, before) >= 0);
        let count = own.ident != 0 && (1..=64).contains(&reset.pkt.ident.wrapping_sub(own.ident));
        clock && (count || reset.pkt.window != 0)
    })
}

/// Whether an abort lacks what the end's own packets have: timestamps and its count of IP ids.
fn is_from_a_box(reset: &Reset) -> bool {
    reset.own.is_some_and(|own| {
        own.tsval.is_some()
            && reset.pkt.tsval.is_none()
            && own.ident != 0
            && reset.pkt.ident == 0
            && reset.pkt.window == 0
    })
}
