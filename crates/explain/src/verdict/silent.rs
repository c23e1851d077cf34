//! Ends without a reset: ICMP errors, silence, and connections that are simply still open.

use super::case::{Case, SECOND, span};
use super::types::{Device, Kind, Verdict};
use crate::icmp::IcmpSeen;
use crate::packet::ahead;
use lastack_causes::{Cause, EndedBy, Severity};
use lastack_wire::TcpFlags;

impl Case<'_> {
    /// A connection without a reset that counted and without both FINs. A FIN before the silence was a decision.
    pub fn silent(&self) -> Verdict {
        let mut verdict = self.silence();
        let fins = [0, 1].map(|index| self.side(index).fin.map(|fin| (fin.frame, index)));
        if verdict.ended_by == EndedBy::Nobody
            && let Some((_, closer)) = fins.into_iter().flatten().min()
        {
            verdict.ended_by = self.by(closer);
            verdict.ended_by_confidence = 0.7;
        }
        verdict
    }

    fn silence(&self) -> Verdict {
        let (client, server) = (self.side(self.client), self.side(self.server()));
        if let Some(icmp) = self.fatal_icmp() {
            return self.unreachable(icmp);
        }
        if client.syn.is_some_and(|syn| !syn.has(TcpFlags::ACK)) && server.packets == 0 && client.bytes == 0 {
            return if self.context.is_one_way() { self.unseen_answer() } else { self.no_answer() };
        }
        if let Some(former) = self.conn.former_answer {
            return self.port_reuse(
                former,
                0.9,
                if self.conn.established { Cause::PortReuse.severity() } else { Severity::Harmful },
            );
        }
        let unheard =
            server.syns >= 3 || (client.bytes > 0 && client.stuck.sends >= 2) || !self.conn.established;
        if self.answer_repeated() && server.bytes == 0 && unheard {
            return self.third_segment_lost();
        }
        for index in [self.client, self.server()] {
            if self.is_shut(index, self.context.end.min(self.conn.last.0)) {
                return self.still_shut(index);
            }
        }
        for index in [self.client, self.server()] {
            let side = self.side(index);
            let unheard = self.unacked(index) > 0 || self.side(1 - index).packets == 0;
            if side.stuck.sends >= 3 && unheard {
                return self.undelivered(index);
            }
            if side.fins >= 3 && !self.side(1 - index).has_acked(side.max) && self.missing_side().is_none() {
                return self.fin_unanswered(index);
            }
            if side.probes.count >= 3 && self.missing_side().is_none() {
                return self.probes_unanswered(index);
            }
        }
        if let Some(missing) = self.missing_side() {
            return self.one_sided(missing);
        }
        for index in [self.client, self.server()] {
            if let Some(since) = self.gap_at_the_end(index) {
                return self.never_filled(index, since);
            }
        }
        if let Some(frames) = self.marks.superseded {
            return self.superseded(frames);
        }
        let answers = |index: usize| {
            let alone = self.side(1 - index).packets == 0 && self.conn.packets == self.side(index).packets;
            alone && self.side(index).syn.is_some_and(|syn| syn.has(TcpFlags::ACK))
        };
        if let Some(index) = [0, 1].into_iter().find(|&index| answers(index)) {
            return self.lone_answer(index);
        }
        self.still_open()
    }

    /// An ICMP error that ended the attempt: it quotes the SYN, and the SYN got no answer.
    fn fatal_icmp(&self) -> Option<&IcmpSeen> {
        if self.conn.established || self.side(self.server()).packets > 0 {
            return None;
        }
        let syn = self.side(self.client).syn?;
        self.conn.icmp.iter().find(|icmp| {
            icmp.quoted.seq.is_none_or(|seq| matches!(ahead(seq, syn.seq), 0 | 1))
                && icmp.cause() != Cause::IcmpTooBig
        })
    }

    fn unreachable(&self, icmp: &IcmpSeen) -> Verdict {
        let by = if icmp.is_from_target() { EndedBy::Server } else { EndedBy::Path };
        let mut verdict = self
            .verdict(icmp.cause(), 0.95, by)
            .decisive(icmp.frame)
            .rule("I1")
            .evidence(
                Kind::Icmp,
                Some(icmp.frame),
                format!("{}/{}", icmp.kind, icmp.code),
                format!("{} says: {}", icmp.from, icmp.text()),
            )
            .done();
        if by == EndedBy::Path {
            verdict.device = Some(Device {
                ttl: Some(icmp.ttl),
                hops: Some(super::hops(icmp.ttl)),
                address: Some(icmp.from.to_string()),
            });
        }
        verdict
    }

    fn no_answer(&self) -> Verdict {
        let client = self.side(self.client);
        let syn = client.syn.map_or(self.conn.first, |syn| (syn.time, syn.frame));
        let sends = client.syns;
        let observed = self.seen_after(syn.0);
        let text = format!("{sends} SYN over {} without any answer", span(client.last_syn - syn.0));
        if self.marks.queue_full || (self.marks.answered_meanwhile && sends > 1) {
            let why = if self.marks.queue_full {
                "other connections to that port were accepted by the kernel and never answered: its queue is full"
            } else {
                "other SYNs to that port were answered in the same seconds"
            };
            return self
                .verdict(Cause::BacklogFull, if self.marks.queue_full { 0.6 } else { 0.5 }, EndedBy::Server)
                .decisive(syn.1)
                .evidence(Kind::Handshake, Some(syn.1), format!("{sends} SYN"), text)
                .evidence(Kind::Pattern, None, "answered SYNs", why)
                .alternative(Cause::SilentDrop, 0.3)
                .done();
        }
        if sends < 2 {
            if observed < 3 * SECOND {
                return self
                    .verdict(Cause::Open, 0.6, EndedBy::Nobody)
                    .evidence(
                        Kind::Handshake,
                        Some(syn.1),
                        "1 SYN",
                        "the capture ends before an answer could come",
                    )
                    .alternative(Cause::SilentDrop, 0.3)
                    .done();
            }
            return self
                .verdict(Cause::SilentDrop, 0.5, EndedBy::Nobody)
                .decisive(syn.1)
                .evidence(Kind::Handshake, Some(syn.1), "1 SYN", text)
                .alternative(Cause::ConnectCancelled, 0.15)
                .alternative(Cause::BacklogFull, 0.15)
                .alternative(Cause::Scan, 0.1)
                .done();
        }
        self.verdict(Cause::SilentDrop, 0.6, EndedBy::Nobody)
            .by_confidence(0.85)
            .decisive(syn.1)
            .evidence(Kind::Handshake, Some(syn.1), format!("{sends} SYN"), text)
            .alternative(Cause::BacklogFull, 0.2)
            .alternative(Cause::ConnectCancelled, 0.05)
            .done()
    }

    /// The server repeats its SYN|ACK: the third segment of the handshake does not reach it.
    pub fn third_segment_lost(&self) -> Verdict {
        let (client, server) = (self.side(self.client), self.side(self.server()));
        let syn = server.syn.map_or(self.conn.first.1, |syn| syn.frame);
        let data = client.bytes > 0;
        let value = format!("{} SYN|ACK", server.syns);
        if data || self.conn.established {
            let text = format!(
                "the server repeats its SYN|ACK although the client sent its ACK{}: the ACK is dropped at the server or before it",
                if data { " and data" } else { "" }
            );
            // A full queue has others in it; a firewall that misses one direction stops every connection.
            if self.marks.queue_full {
                return self
                    .verdict(Cause::BacklogFull, 0.58, EndedBy::Server)
                    .decisive(syn)
                    .evidence(Kind::Handshake, Some(syn), value, text)
                    .alternative(Cause::SilentDrop, 0.2)
                    .alternative(Cause::OneSided, 0.1)
                    .done();
            }
            let severity = if data { Severity::Harmful } else { Cause::OneSided.severity() };
            return self
                .verdict(Cause::OneSided, 0.5, EndedBy::Path)
                .severity(severity)
                .by_confidence(0.5)
                .decisive(syn)
                .evidence(Kind::Handshake, Some(syn), value, text)
                .evidence(
                    Kind::Pattern,
                    None,
                    "no other connection",
                    "no other connection to that port waits to be accepted: rather a firewall that does not see the SYN|ACK drops what answers it than a full queue",
                )
                .alternative(Cause::BacklogFull, 0.3)
                .alternative(Cause::SilentDrop, 0.15)
                .advice("Check whether both directions pass the same firewall (asymmetric routing), and look at the server's `nstat -az TcpExtListenOverflows TcpExtListenDrops`.")
                .done();
        }
        self.verdict(Cause::SilentDrop, 0.5, EndedBy::Nobody)
            .decisive(syn)
            .evidence(Kind::Handshake, Some(syn), value, "the server's SYN|ACK, repeated, has no answer")
            .alternative(Cause::Scan, 0.25)
            .alternative(Cause::OneSided, 0.1)
            .done()
    }

    fn still_shut(&self, index: usize) -> Verdict {
        let side = self.side(index);
        let since = side.shut_since.unwrap_or(self.conn.last.0);
        self.verdict(Cause::ZeroWindow, 0.85, EndedBy::Nobody)
            .by_confidence(0.7)
            .decisive(self.conn.last.1)
            .evidence(
                Kind::Window,
                Some(self.conn.last.1),
                format!("0 for {}", span(self.conn.last.0 - since)),
                format!(
                    "the window of the {} stays zero to the end of the capture; {} probes",
                    self.end(index).name(),
                    side.shut_probes
                ),
            )
            .alternative(Cause::Open, 0.1)
            .done()
    }

    fn undelivered(&self, index: usize) -> Verdict {
        let side = self.side(index);
        let other = self.side(1 - index);
        let stuck = side.stuck;
        let value = format!("{} sends over {}", stuck.sends, span(stuck.last - stuck.first));
        if other.sack.is_some() && other.gap_since.is_some() {
            return self
                .verdict(Cause::SilentDrop, 0.8, EndedBy::Nobody)
                .decisive(self.conn.last.1)
                .evidence(
                    Kind::Retransmissions,
                    Some(self.conn.last.1),
                    value,
                    format!(
                        "large segments (up to {} bytes) vanish, small ones arrive and are reported by SACK",
                        side.largest
                    ),
                )
                .advice("Look for a path MTU problem: `tracepath`, clamp the MSS, let ICMP \"too big\" pass.")
                .done();
        }
        // The next send would have come after twice the last pause.
        let waited = self.seen_after(stuck.last);
        let gave_up = waited > 3 * stuck.spacing + SECOND;
        let first = side.first_data.is_some_and(|first| first.seq == stuck.seq);
        let (cause, by, second) = if gave_up && !first {
            (Cause::DeliveryTimeout, self.by(index), Cause::SilentDrop)
        } else {
            (Cause::SilentDrop, EndedBy::Nobody, Cause::DeliveryTimeout)
        };
        if first && self.marks.queue_full {
            return self.not_taken_in(index, value);
        }
        let what =
            if first { "the first data was never acknowledged" } else { "data was never acknowledged" };
        let end = if gave_up { "; then the sender stopped" } else { "" };
        self.verdict(cause, 0.58, by)
            .decisive(self.conn.last.1)
            .evidence(Kind::Retransmissions, Some(self.conn.last.1), value, format!("{what}{end}"))
            .evidence(
                Kind::Unacked,
                None,
                format!("{} bytes", self.unacked(index)),
                format!(
                    "{} bytes of the {} are not acknowledged",
                    self.unacked(index),
                    self.end(index).name()
                ),
            )
            .alternative(second, 0.35)
            .done()
    }

    /// The first data was never acknowledged, while the server had connections that wait to be accepted.
    fn not_taken_in(&self, index: usize, value: String) -> Verdict {
        self.verdict(Cause::BacklogFull, 0.55, EndedBy::Server)
            .decisive(self.conn.last.1)
            .evidence(
                Kind::Retransmissions,
                Some(self.conn.last.1),
                value,
                "the server answered the SYN, and acknowledges no data: it dropped the ACK that completes the handshake",
            )
            .evidence(
                Kind::Pattern,
                None,
                "others wait",
                "other connections to that port were accepted by the kernel and never answered: its queue is full",
            )
            .evidence(
                Kind::Unacked,
                None,
                format!("{} bytes", self.unacked(index)),
                format!("{} bytes of the {} are not acknowledged", self.unacked(index), self.end(index).name()),
            )
            .alternative(Cause::SilentDrop, 0.3)
            .alternative(Cause::OneSided, 0.05)
            .done()
    }

    /// Since when an end has reported a gap by SACK, that was not filled although there was time for it.
    fn gap_at_the_end(&self, index: usize) -> Option<i64> {
        let side = self.side(index);
        let since = side.gap_since.filter(|_| side.sack.is_some())?;
        (self.seen_after(since) > (10 * self.crossing()).max(3 * SECOND)).then_some(since)
    }

    /// Data is missing at the end that was to receive it, and the repetitions do not come, either.
    fn never_filled(&self, index: usize, since: i64) -> Verdict {
        let waited = span(self.seen_after(since));
        let (receiver, sender) = (self.end(index).name(), self.end(1 - index).name());
        self.verdict(Cause::SilentDrop, 0.75, EndedBy::Nobody)
            .decisive(self.conn.last.1)
            .evidence(
                Kind::Retransmissions,
                Some(self.conn.last.1),
                format!("a gap for {waited}"),
                format!(
                    "the {receiver} reported a gap by SACK, and nothing of the {sender} filled it in {waited}: its segments, or the {receiver}'s ACKs, vanish"
                ),
            )
            .alternative(Cause::Open, 0.2)
            .advice("Look for a path MTU problem: `tracepath`, clamp the MSS, let ICMP \"too big\" pass.")
            .done()
    }

    fn fin_unanswered(&self, index: usize) -> Verdict {
        let side = self.side(index);
        let fin = side.fin.map_or(self.conn.last.1, |fin| fin.frame);
        self.verdict(Cause::SilentDrop, 0.58, self.by(index))
            .decisive(fin)
            .evidence(
                Kind::Retransmissions,
                Some(fin),
                format!("{} FIN", side.fins),
                format!("the {}'s FIN was never acknowledged", self.end(index).name()),
            )
            .alternative(Cause::DeliveryTimeout, 0.25)
            .alternative(Cause::Open, 0.1)
            .done()
    }

    fn probes_unanswered(&self, index: usize) -> Verdict {
        let probes = self.side(index).probes;
        let gave_up = self.seen_after(probes.last) > 2 * probes.spacing + SECOND;
        let (cause, by) = if gave_up {
            (Cause::KeepaliveTimeout, self.by(index))
        } else {
            (Cause::SilentDrop, EndedBy::Nobody)
        };
        let other = if gave_up { Cause::SilentDrop } else { Cause::KeepaliveTimeout };
        self.verdict(cause, 0.6, by)
            .decisive(probes.frame)
            .evidence(
                Kind::Probes,
                Some(probes.frame),
                format!("{} probes", probes.count),
                format!(
                    "{} keep-alive probes of the {} have no answer",
                    probes.count,
                    self.end(index).name()
                ),
            )
            .alternative(other, 0.3)
            .done()
    }

    /// One direction is not in the capture. What the other's ACKs say of it tells who closed.
    fn one_sided(&self, missing: usize) -> Verdict {
        let side = self.side(1 - missing);
        let (seen, unseen) = (self.end(1 - missing).name(), self.end(missing).name());
        let heard = &side.heard;
        let first = self.conn.first.1;
        let draft = |sure| {
            self.verdict(Cause::OneSided, sure, EndedBy::Unknown).decisive(first).evidence(
                Kind::Handshake,
                Some(first),
                "0 packets",
                format!("no packet of the {unseen} is in the capture, though the {seen} answers it"),
            )
        };
        let answered = |fin: &crate::packet::Pkt| heard.last.is_some_and(|last| last.frame > fin.frame);
        let (by, orderly, text) = match (side.fin, heard.fin) {
            (Some(fin), Some(theirs)) if theirs.frame <= fin.frame => {
                (missing, true, format!("the {unseen} closed, as the {seen}'s ACK tells, then the {seen}"))
            }
            (Some(fin), theirs) if theirs.is_some() || answered(&fin) => {
                (1 - missing, true, format!("the {seen} closed, and acknowledged what came after: a FIN"))
            }
            (Some(_), _) => (1 - missing, false, format!("the {seen} closed")),
            (None, Some(_)) => (missing, false, format!("the {unseen} closed, as the {seen}'s ACK tells")),
            (None, None) => {
                return draft(0.6).alternative(Cause::Open, 0.15).alternative(Cause::Abort, 0.1).done();
            }
        };
        let mut verdict = draft(0.85)
            .evidence(Kind::PeerFin, side.fin.or(heard.fin).map(|pkt| pkt.frame), "FIN", text)
            .by_confidence(0.7)
            .alternative(if orderly { Cause::Orderly } else { Cause::Open }, 0.1)
            .done();
        verdict.ended_by = self.by(by);
        if orderly {
            verdict.severity = Severity::Benign;
        }
        verdict
    }

    /// A capture that has no packets of any server tells nothing of an attempt.
    fn unseen_answer(&self) -> Verdict {
        let syn = self.side(self.client).syn.map_or(self.conn.first.1, |syn| syn.frame);
        let text = "the capture has no packets of any server, and so not its answer, if there was one";
        self.verdict(Cause::OneSided, 0.5, EndedBy::Unknown)
            .by_confidence(0.4)
            .decisive(syn)
            .evidence(Kind::Handshake, Some(syn), "SYN", text)
            .alternative(Cause::SilentDrop, 0.2)
            .alternative(Cause::Refused, 0.15)
            .done()
    }

    /// Nothing but a SYN|ACK: the SYN before it is not in the capture.
    fn lone_answer(&self, index: usize) -> Verdict {
        let first = self.conn.first.1;
        let text = format!(
            "nothing but a SYN|ACK of the {}: the SYN that it answers is not in the capture",
            self.end(index).name()
        );
        self.verdict(Cause::OneSided, 0.6, EndedBy::Unknown)
            .by_confidence(0.4)
            .decisive(first)
            .evidence(Kind::Handshake, Some(first), "SYN|ACK", text)
            .alternative(Cause::Stray, 0.15)
            .alternative(Cause::HealthCheck, 0.1)
            .done()
    }

    /// The client no longer had the connection: it began another one with the same ports, and reset the server's answer.
    fn superseded(&self, [syn, reset]: [crate::packet::Frame; 2]) -> Verdict {
        self.verdict(Cause::PortReuse, 0.9, self.by(self.client))
            .decisive(syn)
            .decisive(reset)
            .rule("S50")
            .rule("S20")
            .evidence(
                Kind::Handshake,
                Some(reset),
                "SYN, ACK, RST",
                "the client began a new connection with the same ports while the server still had this one, and reset it with the number that the server answered",
            )
            .also(Cause::LostState, &[reset])
            .done()
    }

    fn still_open(&self) -> Verdict {
        let idle = self.seen_after(self.conn.last.0);
        let half = [self.client, self.server()].into_iter().find(|&index| self.side(index).fin.is_some());
        let (by, text) = match half {
            Some(index) => {
                (self.by(index), format!("the {} has closed, the other end has not", self.end(index).name()))
            }
            None => (EndedBy::Nobody, "the capture ends first".to_owned()),
        };
        let mut verdict = self
            .verdict(Cause::Open, 0.95, by)
            .evidence(
                Kind::Idle,
                Some(self.conn.last.1),
                span(idle),
                format!("{text}; idle for {} then", span(idle)),
            )
            .done();
        verdict.idle = super::seconds(idle);
        verdict
    }
}
