//! Resets after a FIN: the decision was a close, and the reset is how it was completed, or answers what came too late.

use super::case::{Case, MS, SECOND, span};
use super::types::{Kind, Verdict};
use crate::packet::{Pkt, ahead};
use crate::protocol::{FAREWELL, is_farewell};
use crate::track::{Reset, Shape};
use lastack_causes::{Cause, EndedBy, Severity};
use lastack_wire::TcpFlags;

/// A reset in place of a FIN that comes later than this belongs to a socket that was not closed.
const LEAKED: i64 = 3600 * SECOND;

/// A TLS record that was sent before its sender received the FIN is no closing alert if it is larger than this.
const ALERT: u32 = 53;

impl Case<'_> {
    /// A verdict if a FIN came before the reset and has to do with it.
    pub fn closing(&self, reset: &Reset) -> Option<Verdict> {
        let own = usize::from(reset.pkt.side);
        // A FIN may stand a little behind the reset in the capture, but not decide what came long before it.
        let before = |fin: &Pkt| fin.frame < reset.pkt.frame || fin.time - reset.pkt.time <= 2 * MS;
        let mine = self.conn.sides[own].fin.filter(before);
        let theirs = self.conn.sides[1 - own].fin.filter(before);
        if let Some(fin) = mine
            && let Some(verdict) = self.after_own_fin(reset, fin)
        {
            return Some(verdict);
        }
        if self.missing_side() == Some(1 - own)
            && reset.shape == Shape::Active
            && let Some(heard) = self.side(own).heard.fin
        {
            return Some(self.after_unseen_fin(reset, heard));
        }
        let fin = theirs.filter(|fin| fin.frame < reset.pkt.frame)?;
        self.after_peer_fin(reset, fin)
    }

    /// The other end's packets are not in the capture, but this one acknowledged a single number before its reset: a FIN.
    fn after_unseen_fin(&self, reset: &Reset, heard: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        self.verdict(Cause::ResetForFin, 0.55, self.by(own))
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::PeerFin,
                Some(heard.frame),
                format!("ACK {}", heard.ack),
                format!(
                    "the {} acknowledges one number more than before: that of a FIN of the {}, which is not in the capture",
                    self.end(own).name(),
                    self.end(1 - own).name()
                ),
            )
            .alternative(Cause::Abort, 0.2)
            .alternative(Cause::CloseUnread, 0.1)
            .done()
    }

    /// The resetting end had sent FIN. `None`: the FIN has nothing to do with the reset.
    fn after_own_fin(&self, reset: &Reset, fin: Pkt) -> Option<Verdict> {
        let own = usize::from(reset.pkt.side);
        // The other end's FIN was first, and this end's FIN only answers it: the other end had closed.
        let late = self.late_data(reset, fin);
        if let Some(data) = late {
            return Some(self.mismatch(reset).unwrap_or_else(|| self.data_after_close(reset, fin, data)));
        }
        if let Some(verdict) = self.mismatch(reset) {
            return Some(verdict);
        }
        if self.conn.sides[1 - own].fin.is_some() {
            return Some(self.closed_both(reset, fin));
        }
        if let Some(missing) = self.missing_side() {
            // Its trigger is not in the capture: bare, it answers something that came after the close.
            if missing != own && reset.shape == Shape::Reply {
                return Some(self.data_after_close_unseen(reset, fin));
            }
        }
        if fin.frame > reset.pkt.frame {
            return None;
        }
        Some(self.abort_after_own_fin(reset, fin))
    }

    /// Payload of the other end that the closing end's FIN does not acknowledge, and that the reset may answer.
    fn late_data(&self, reset: &Reset, fin: Pkt) -> Option<Pkt> {
        let own = usize::from(reset.pkt.side);
        let unread = |pkt: &&Pkt| {
            usize::from(pkt.side) != own
                && pkt.len > 0
                && !pkt.is_rst()
                && ahead(pkt.end().wrapping_sub(u32::from(pkt.has(TcpFlags::FIN))), fin.ack) > 0
        };
        let found = self.packets().filter(unread).find(|pkt| pkt.time <= reset.pkt.time + 2 * MS)?;
        // A FIN that was sent in the middle of reading is followed by ACKs of data: those were taken.
        let acked = self.side(own).ack.is_some_and(|ack| ahead(ack, found.end()) >= 0);
        if acked && reset.shape == Shape::Reply {
            let later =
                self.packets().filter(unread).filter(|pkt| pkt.time <= reset.pkt.time + 2 * MS).last()?;
            let taken = self.side(own).ack.is_some_and(|ack| ahead(ack, later.end()) >= 0);
            return (!taken).then_some(*later);
        }
        if acked && self.side(1 - own).fin.is_some() {
            return None;
        }
        Some(*found)
    }

    fn data_after_close(&self, reset: &Reset, fin: Pkt, data: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = 1 - own;
        let tls = self.side(0).tls || self.side(1).tls;
        let ignorant = !(data.has(TcpFlags::ACK) && ahead(data.ack, fin.end()) >= 0);
        let alert = data.tls.is_some_and(|record| is_farewell(record, data.len))
            && self.small_rest(reset, fin)
            && (!ignorant || data.len <= ALERT);
        let by = self.by(own);
        // An abort that acknowledges the data: a socket took it, and was closed with it unread.
        let taken = reset.shape == Shape::Active && reset.covers(data.end());
        let when = match data.time - fin.time {
            late if late >= 0 => format!("{} after", span(late)),
            early => format!("{} before the capture shows", span(-early)),
        };
        let text = format!(
            "the {} sends {} bytes {when} the {}'s FIN",
            self.end(other).name(),
            data.len,
            self.end(own).name()
        );
        if taken && !(tls && alert) && data.frame > fin.frame {
            return self.closed_on_late_data(reset, fin, data, text);
        }
        if tls && alert {
            return self.close_notify_race(reset, fin, data, text);
        }
        if !self.is_client(other) {
            return self.client_closed_first(reset, fin, data, text);
        }
        let before = self.quiet_before_data(&data, &fin);
        let question = self.last_data_before_alerts(&data, &fin).is_none_or(|last| last.frame < data.frame)
            && self.starts_run(&data);
        if ignorant && question && before > (5 * self.crossing()).max(50 * MS) {
            return self.keepalive_race(reset, fin, data, before, text);
        }
        let mut draft = self
            .verdict(Cause::DataAfterClose, if ignorant { 0.75 } else { 0.95 }, by)
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .rule("S80")
            .idle(before, data.frame)
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text);
        if ignorant {
            draft = draft
                .evidence(
                    Kind::Ack,
                    Some(data.frame),
                    format!("ACK {}", data.ack),
                    "the data and the FIN crossed: its sender had not received the FIN",
                )
                .alternative(Cause::KeepaliveRace, 0.2);
        }
        draft.done()
    }

    /// The socket had sent FIN, still took data of the other end, and was then closed with it unread.
    fn closed_on_late_data(&self, reset: &Reset, fin: Pkt, data: Pkt, text: String) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let (cause, also) = if self.is_client(own) {
            (Cause::ClientCancelled, Cause::CloseUnread)
        } else {
            (Cause::CloseUnread, Cause::DataAfterClose)
        };
        self.verdict(cause, 0.75, self.by(own))
            .decisive(data.frame)
            .decisive(reset.pkt.frame)
            .rule("S60")
            .evidence(
                Kind::Unread,
                Some(reset.pkt.frame),
                format!("at most {} bytes", reset.peer_run),
                format!(
                    "the reset acknowledges the data that came after the {}'s FIN: a socket that was still open took it",
                    self.end(own).name()
                ),
            )
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text)
            .alternative(Cause::Abort, 0.1)
            .alternative(Cause::DataAfterClose, 0.1)
            .also(also, &[data.frame])
            .done()
    }

    /// Whether all that the other end sent after the close is only a closing alert.
    fn small_rest(&self, reset: &Reset, fin: Pkt) -> bool {
        let own = usize::from(reset.pkt.side);
        let late = self.packets().filter(|pkt| {
            usize::from(pkt.side) != own && pkt.len > 0 && !pkt.is_rst() && ahead(pkt.end(), fin.ack) > 0
        });
        late.map(|pkt| u64::from(pkt.len)).sum::<u64>() <= 2 * FAREWELL
    }

    fn close_notify_race(&self, reset: &Reset, fin: Pkt, data: Pkt, text: String) -> Verdict {
        self.verdict(Cause::CloseNotifyRace, 0.95, self.by(usize::from(reset.pkt.side)))
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .rule("S80")
            .evidence(
                Kind::Trigger,
                Some(data.frame),
                format!("{} bytes", data.len),
                "a closing TLS alert (by its size) reaches a closed socket; no application data was lost",
            )
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text)
            .done()
    }

    fn keepalive_race(&self, reset: &Reset, fin: Pkt, data: Pkt, before: i64, text: String) -> Verdict {
        self.verdict(Cause::KeepaliveRace, 0.9, self.by(usize::from(reset.pkt.side)))
            .decisive(fin.frame)
            .decisive(data.frame)
            .decisive(reset.pkt.frame)
            .rule("S80")
            .idle(before, data.frame)
            .evidence(
                Kind::PeerFin,
                Some(fin.frame),
                format!("ACK {}", data.ack),
                "the client sent its request before it received the server's FIN: they crossed, and the request is lost",
            )
            .evidence(Kind::Trigger, Some(data.frame), format!("{} bytes", data.len), text)
            .alternative(Cause::DataAfterClose, 0.05)
            .done()
    }

    /// The client closed, and the server's data came after.
    fn client_closed_first(&self, reset: &Reset, fin: Pkt, data: Pkt, text: String) -> Verdict {
        let server = self.server();
        let by = self.by(self.client);
        let active = self.answer_in_progress(fin, data);
        if active {
            return self
                .verdict(Cause::ClientCancelled, 0.8, by)
                .decisive(fin.frame)
                .decisive(reset.pkt.frame)
                .rule("S80")
                .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text)
                .evidence(
                    Kind::Unacked,
                    Some(data.frame),
                    format!("{} bytes", self.unacked(server)),
                    "the client closed while the server's answer was on its way",
                )
                .alternative(Cause::DataAfterClose, 0.15)
                .also(Cause::DataAfterClose, &[data.frame])
                .done();
        }
        self.verdict(Cause::DataAfterClose, 0.85, by)
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .rule("S80")
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text)
            .alternative(Cause::ClientCancelled, 0.1)
            .done()
    }

    /// Whether the server was answering when the client closed.
    fn answer_in_progress(&self, fin: Pkt, data: Pkt) -> bool {
        let (client, server) = (self.side(self.client), self.server());
        let asked = client.last_data.is_some_and(|asked| {
            // The request that has no answer before the FIN.
            !self.packets().any(|pkt| {
                usize::from(pkt.side) == server
                    && pkt.len > 0
                    && pkt.frame > asked.frame
                    && pkt.frame < fin.frame
            })
        });
        let spoke = self.packets().filter(|pkt| {
            usize::from(pkt.side) == server && pkt.len > 0 && !pkt.is_rst() && pkt.frame < fin.frame
        });
        let streaming = spoke.last().is_some_and(|last| {
            fin.time - last.time < (2 * self.crossing()).min(SECOND)
                && data.time - last.time < (3 * self.crossing()).min(SECOND)
                && self.side(server).run > 4000
        });
        let recent = data.time - fin.time < (3 * self.crossing()).max(20 * MS);
        (asked && client.bytes > 0) || (streaming && recent) || self.side(server).is_cut_short()
    }

    /// The pause before data that met a closed socket: the FIN apart, and what was sent with it and crossed the data.
    fn quiet_before_data(&self, data: &Pkt, fin: &Pkt) -> i64 {
        let last_record = |pkt: &Pkt| {
            pkt.side == fin.side
                && pkt.tls.is_some_and(|record| is_farewell(record, pkt.len))
                && pkt.end() == fin.seq
        };
        let apart = |pkt: &Pkt| {
            let repeats = pkt.seq == data.seq && pkt.len == data.len && pkt.side == data.side;
            let acks_fin = pkt.has(TcpFlags::ACK) && pkt.span() == 0 && pkt.time >= fin.time;
            let goodbye = self.is_crossed_goodbye(pkt, data, fin) || last_record(pkt);
            pkt.frame == fin.frame || pkt.is_rst() || repeats || acks_fin || goodbye
        };
        let before = self.before(data.frame).find(|pkt| !apart(pkt));
        before.map_or(0, |before| (data.time - before.time).max(0))
    }

    /// Whether a packet is a short last word that came with the FIN, such as HTTP/2's GOAWAY, and that the sender of `data`
    /// did not know of, either.
    fn is_crossed_goodbye(&self, pkt: &Pkt, data: &Pkt, fin: &Pkt) -> bool {
        pkt.side == fin.side
            && (1..=FAREWELL).contains(&u64::from(pkt.len))
            && data.has(TcpFlags::ACK)
            && ahead(pkt.end(), data.ack) > 0
            && fin.time - pkt.time < self.crossing()
    }

    /// The last data of the closing end, goodbyes apart.
    fn last_data_before_alerts(&self, data: &Pkt, fin: &Pkt) -> Option<&Pkt> {
        self.packets()
            .filter(|pkt| {
                pkt.side == fin.side
                    && pkt.len > 0
                    && !pkt.is_rst()
                    && !self.is_crossed_goodbye(pkt, data, fin)
                    && !pkt.tls.is_some_and(|record| is_farewell(record, pkt.len) && pkt.len <= ALERT)
            })
            .last()
    }

    /// Whether this packet begins a message: its sender sends after the other end has sent, or after a pause.
    fn starts_run(&self, data: &Pkt) -> bool {
        let before = self.before(data.frame).find(|pkt| pkt.len > 0 && !pkt.is_rst() && pkt.seq != data.seq);
        before.is_none_or(|before| before.side != data.side || data.time - before.time > SECOND)
    }

    /// What the bare reset answers is not in the capture. Its number is what that acknowledged: with or without the FIN.
    fn data_after_close_unseen(&self, reset: &Reset, fin: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let ignorant = ahead(fin.end(), reset.pkt.seq) > 0;
        let before = self.quiet_before(&fin);
        if ignorant && !self.is_client(own) && before > (5 * self.crossing()).max(50 * MS) {
            return self
                .verdict(Cause::KeepaliveRace, 0.5, self.by(own))
                .decisive(fin.frame)
                .decisive(reset.pkt.frame)
                .rule("S80")
                .idle(before, fin.frame)
                .evidence(
                    Kind::Seq,
                    Some(reset.pkt.frame),
                    reset.pkt.seq.to_string(),
                    "the reset answers something whose sender did not know of the server's FIN: both crossed",
                )
                .alternative(Cause::DataAfterClose, 0.25)
                .alternative(Cause::CloseNotifyRace, if self.side(own).tls { 0.15 } else { 0.0 })
                .done();
        }
        self.verdict(Cause::DataAfterClose, 0.55, self.by(own))
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Shape,
                Some(reset.pkt.frame),
                "bare RST",
                "a bare reset after the same end's FIN: it answers something that came after the close",
            )
            .alternative(Cause::ClientCancelled, 0.15)
            .alternative(Cause::CloseNotifyRace, if self.side(own).tls { 0.2 } else { 0.05 })
            .done()
    }

    /// Both FINs are there, and no payload was lost: the reset is an echo.
    fn closed_both(&self, reset: &Reset, fin: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let other = self.conn.sides[1 - own].fin.unwrap_or(fin);
        let tls = self.side(0).tls || self.side(1).tls;
        let first = if fin.frame <= other.frame { own } else { 1 - own };
        if tls && first == own {
            return self
                .verdict(Cause::CloseNotifyRace, 0.9, self.by(own))
                .decisive(fin.frame)
                .decisive(reset.pkt.frame)
                .evidence(
                    Kind::Trigger,
                    Some(other.frame),
                    "FIN",
                    "TLS: the other end's FIN reaches a socket that is already closed",
                )
                .alternative(Cause::Orderly, 0.06)
                .done();
        }
        // The peer closed, this end answered with FIN and then reset: it did not wait.
        self.verdict(Cause::Orderly, 0.9, self.by(first))
            .decisive(fin.frame.min(other.frame))
            .evidence(
                Kind::PeerFin,
                Some(other.frame),
                "both FINs",
                "both ends had sent FIN before the reset, and no payload was left",
            )
            .alternative(Cause::ResetForFin, 0.05)
            .also(Cause::Echo, &[reset.pkt.frame])
            .done()
    }

    /// The end that had closed resets, and the other end sent nothing that explains it.
    fn abort_after_own_fin(&self, reset: &Reset, fin: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        if self.side(own).fins >= 3 && !self.side(1 - own).has_acked(fin.end()) {
            return self.close_never_arrived(reset, fin);
        }
        let waited = reset.pkt.time - fin.time;
        let by = self.by(own);
        let unanswered = self.is_client(own) && self.is_unanswered(own);
        let acked = self.side(1 - own).has_acked(fin.end());
        let text =
            format!("{} after its own FIN the {} resets the connection", span(waited), self.end(own).name());
        if unanswered {
            return self
                .verdict(Cause::ClientCancelled, 0.6, by)
                .decisive(reset.pkt.frame)
                .evidence(Kind::Shape, Some(reset.pkt.frame), "RST after FIN", text)
                .alternative(Cause::Abort, 0.3)
                .done();
        }
        let severity =
            if acked && self.unacked(own) == 0 { Severity::Benign } else { Cause::Abort.severity() };
        self.verdict(Cause::Abort, 0.6, by)
            .severity(severity)
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .evidence(Kind::Shape, Some(reset.pkt.frame), "RST after FIN", text)
            .alternative(Cause::ClientCancelled, 0.2)
            .alternative(Cause::DataAfterClose, 0.1)
            .done()
    }

    /// The FIN was sent again and again without an ACK; the reset answers the other end, which does not know of the close.
    fn close_never_arrived(&self, reset: &Reset, fin: Pkt) -> Verdict {
        let own = usize::from(reset.pkt.side);
        let (closer, other) = (self.end(own).name(), self.end(1 - own).name());
        let fins = self.side(own).fins;
        self.verdict(Cause::SilentDrop, 0.58, self.by(own))
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Retransmissions,
                Some(fin.frame),
                format!("{fins} FIN"),
                format!("the {closer}'s FIN was never acknowledged, while the {other} still sends: the path from the {closer} to the {other} is broken"),
            )
            .alternative(Cause::DeliveryTimeout, 0.25)
            .also(Cause::DataAfterClose, &[reset.pkt.frame])
            .done()
    }

    /// The other end had sent FIN, and this one answers with a reset. `None`: the reset does not know of the FIN.
    fn after_peer_fin(&self, reset: &Reset, fin: Pkt) -> Option<Verdict> {
        let own = usize::from(reset.pkt.side);
        let other = 1 - own;
        let waited = (reset.pkt.time - fin.time).max(0);
        let knows = if reset.shape == Shape::Active {
            reset.covers(fin.end()) || (!reset.pkt.has(TcpFlags::ACK) && waited > self.crossing())
        } else {
            // Bare: its number is the FIN's ACK.
            reset.pkt.seq == fin.ack
        };
        if !knows {
            return None;
        }
        // What cannot be an answer to the other end's own abort.
        let unread = self.is_unanswered(other) && reset.peer_run > 0 && self.side(other).bytes > 0;
        let fin_text = format!(
            "the {} answers the {}'s FIN with a reset {} later",
            self.end(own).name(),
            self.end(other).name(),
            span(waited)
        );
        if let Some(verdict) = self.mismatch(reset) {
            return Some(verdict);
        }
        let unread = unread && !self.side(other).said_goodbye;
        if unread && self.is_client(other) && reset.shape == Shape::Active {
            return Some(self.unread_before_fin(reset, fin, fin_text));
        }
        let quiet = self.quiet_before(&fin);
        if reset.shape == Shape::Reply && quiet > SECOND {
            return Some(self.fin_met_nothing(reset, fin, quiet));
        }
        let severity = if waited > LEAKED { Severity::Suspicious } else { Severity::Benign };
        let sure = if reset.shape == Shape::Active { 0.95 } else { 0.75 };
        let mut draft = self
            .verdict(Cause::ResetForFin, sure, self.by(own))
            .by_confidence(0.8)
            .severity(severity)
            .decisive(fin.frame)
            .decisive(reset.pkt.frame)
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", fin_text);
        if reset.shape == Shape::Reply {
            draft = draft.alternative(Cause::LostState, 0.15);
        }
        Some(draft.done())
    }

    /// The client's last data and its FIN had no answer. At once, the close left the data unread; later, the end of the data
    /// was read, and the reset stands in place of a FIN.
    fn unread_before_fin(&self, reset: &Reset, fin: Pkt, text: String) -> Verdict {
        let at_once = reset.pkt.time - fin.time < self.crossing() + 100 * MS;
        let (cause, other) = if at_once {
            (Cause::CloseUnread, Cause::ResetForFin)
        } else {
            (Cause::ResetForFin, Cause::CloseUnread)
        };
        self.verdict(cause, 0.58, self.by(usize::from(reset.pkt.side)))
            .severity(Cause::CloseUnread.severity())
            .decisive(reset.pkt.frame)
            .rule("S60")
            .evidence(
                Kind::Unread,
                Some(reset.pkt.frame),
                format!("at most {} bytes", reset.peer_run),
                "the client's last bytes, and its FIN, had no answer before the reset",
            )
            .evidence(Kind::PeerFin, Some(fin.frame), "FIN", text)
            .alternative(other, 0.35)
            .also(other, &[fin.frame])
            .advice(Cause::CloseUnread.advice())
            .done()
    }

    /// A bare reset answers the FIN of a connection that was idle: its state was gone.
    fn fin_met_nothing(&self, reset: &Reset, fin: Pkt, quiet: i64) -> Verdict {
        let foreign = self.foreign_ttl(reset);
        let (cause, other, by) = match foreign {
            Some(_) => (Cause::StateExpired, Cause::LostState, EndedBy::Path),
            None => (Cause::LostState, Cause::StateExpired, self.by(usize::from(reset.pkt.side))),
        };
        self.verdict(cause, 0.55, by)
            .severity(Severity::Benign)
            .decisive(reset.pkt.frame)
            .idle(quiet, fin.frame)
            .evidence(
                Kind::Trigger,
                Some(fin.frame),
                "FIN",
                "a bare reset answers the FIN of an idle connection: the other end no longer had the connection; no data was lost",
            )
            .alternative(Cause::ResetForFin, 0.25)
            .alternative(other, 0.15)
            .done()
    }
}
