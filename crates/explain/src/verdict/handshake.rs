//! Ends during the handshake, and of probes that never meant to carry data.

use super::case::{Case, Draft, MS, SECOND, span};
use super::types::{Kind, Verdict};
use crate::packet::Pkt;
use crate::track::{Reset, Shape, Side};
use lastack_causes::{Cause, EndedBy, Severity};
use lastack_wire::TcpFlags;

/// A SYN|ACK that takes longer than this may have found a client that had given up.
const SLOW: i64 = 200 * MS;

impl Case<'_> {
    /// What other connections show this one to be: a probe of a scan, or a health check.
    pub fn scan_or_check(&self) -> Option<Verdict> {
        let reset = self.conn.resets.iter().find(|reset| !reset.copy);
        if let Some((count, period)) = self.marks.health_check {
            let reset = reset?;
            let draft =
                self.verdict(Cause::HealthCheck, 0.9, EndedBy::Client).decisive(reset.pkt.frame).evidence(
                    Kind::Pattern,
                    None,
                    format!("{count} every {period:.2} s"),
                    format!(
                        "{count} connections without data, one every {period:.2} s, each reset by the client"
                    ),
                );
            return Some(draft.done());
        }
        let (ports, hosts) = self.marks.scan?;
        let refused: Vec<_> = self
            .conn
            .resets
            .iter()
            .filter(|reset| usize::from(reset.pkt.side) == self.server() && !reset.copy)
            .map(|reset| reset.pkt.frame)
            .collect();
        let mut draft = self.verdict(Cause::Scan, 0.95, EndedBy::Client).evidence(
            Kind::Pattern,
            None,
            format!("{ports} ports, {hosts} hosts"),
            format!("the same client tried {ports} ports of {hosts} hosts and sent no data"),
        );
        if let Some(text) = odd_syn(self.side(self.client)) {
            draft =
                draft.evidence(Kind::Handshake, Some(self.conn.first.1), text, format!("its SYN: {text}"));
        }
        if let Some(reset) = reset {
            draft = draft.decisive(reset.pkt.frame);
        }
        Some(draft.also_if(!refused.is_empty(), Cause::Refused, &refused).done())
    }

    /// A reset before the handshake was complete.
    pub fn handshake(&self, reset: &Reset) -> Option<Verdict> {
        let from = usize::from(reset.pkt.side);
        let (client, server) = (self.side(self.client), self.side(self.server()));
        if let Some(former) = self.conn.former_answer {
            let alive = self.conn.established;
            if !alive {
                return Some(self.port_reuse(former, 0.95, Severity::Harmful));
            }
        }
        match (client.syn, server.syn) {
            (Some(_), None) if from == self.server() => Some(self.refused(reset)),
            (Some(_), None) if self.conn.established => None,
            (Some(_), None) => Some(self.cancelled_before_answer(reset)),
            (Some(syn), Some(answer)) if !self.conn.established => {
                if from == self.client {
                    Some(self.probe_or_cancelled(reset, &syn, &answer))
                } else {
                    Some(self.server_reset_embryo(reset))
                }
            }
            (None, Some(answer)) if from == self.client && !self.conn.established => {
                Some(self.stray(reset, Some(answer.frame)))
            }
            (None, None) => self.stray_reply(reset),
            _ => None,
        }
    }

    pub fn port_reuse(&self, former: Pkt, confidence: f32, severity: Severity) -> Verdict {
        self.verdict(Cause::PortReuse, confidence, EndedBy::Client)
            .severity(severity)
            .decisive(former.frame)
            .evidence(
                Kind::Handshake,
                Some(former.frame),
                format!("ACK {}", former.ack),
                "the SYN was answered with the numbers of the tuple's earlier connection, which the server still had",
            )
            .rule("S50")
            .rule("S20")
            .done()
    }

    fn refused(&self, reset: &Reset) -> Verdict {
        let (client, server) = (self.side(self.client), self.side(self.server()));
        let attempts = client.syns;
        let syn = client.syn.map_or(self.conn.first.1, |syn| syn.frame);
        let waited = client.syn.map_or(0, |syn| reset.pkt.time - syn.time);
        if let Some(syn) = client.syn
            && syn.has(TcpFlags::FIN)
        {
            return self.lone_probe(reset, "SYN and FIN together");
        }
        let text = if attempts > 1 {
            format!("refused {} after the first of {attempts} SYNs", span(waited))
        } else {
            format!("refused {} after the SYN", span(waited))
        };
        if let Some(verdict) = self.rejected_on_the_way(reset, &text) {
            return verdict;
        }
        if self.marks.queue_full && attempts > 1 {
            return self
                .verdict(Cause::BacklogFull, 0.6, EndedBy::Server)
                .decisive(syn)
                .evidence(
                    Kind::Pattern,
                    Some(syn),
                    format!("{attempts} SYN"),
                    "SYNs were dropped while the server had connections that it never answered: its queue was full",
                )
                .alternative(Cause::SilentDrop, 0.25)
                .also(Cause::Refused, &[reset.pkt.frame])
                .done();
        }
        let known = server.ttl.or_else(|| self.context.host_ttl(server.at.addr)).is_some();
        let mut draft = self
            .verdict(Cause::Refused, if known { 0.6 } else { 0.58 }, EndedBy::Server)
            .by_confidence(0.75)
            .decisive(reset.pkt.frame)
            .rule("S1")
            .rule("R11")
            .evidence(Kind::Shape, Some(reset.pkt.frame), "RST,ACK, SEQ 0, ACK ISN+1", text)
            .alternative(Cause::FirewallReject, if known { 0.3 } else { 0.35 });
        if attempts > 1 && waited > SECOND / 2 && self.unanswered_before(reset) {
            draft = draft.also(Cause::SilentDrop, &[syn]).alternative(Cause::BacklogFull, 0.05);
        }
        self.with_refusal_context(draft).done()
    }

    /// A refusal that the addressed host did not make.
    fn rejected_on_the_way(&self, reset: &Reset, text: &str) -> Option<Verdict> {
        let syn = self.side(self.client).syn.map_or(self.conn.first.1, |syn| syn.frame);
        let draft = |sure| self.verdict(Cause::FirewallReject, sure, EndedBy::Path).decisive(reset.pkt.frame);
        let draft = if let Some(gap) = self.foreign_ttl(reset) {
            let text =
                format!("the refusal's TTL is {}, the host's other packets have {}", gap.seen, gap.usual);
            draft(if gap.distance >= 2 { 0.9 } else { 0.75 })
                .evidence(Kind::Ttl, Some(reset.pkt.frame), gap.seen.to_string(), text)
                .expected(gap.usual.to_string())
        } else {
            if let Some(odd) = self.odd_refusal(reset) {
                draft(0.8).evidence(Kind::Shape, Some(reset.pkt.frame), odd, odd)
            } else {
                let near = self.is_gateways_own(reset)?;
                draft(0.55)
                    .evidence(Kind::Ttl, Some(reset.pkt.frame), reset.pkt.ttl.to_string(), near)
                    .alternative(Cause::Refused, 0.4)
            }
        };
        let draft = draft.against(Cause::Refused).device(reset.pkt.ttl);
        Some(draft.evidence(Kind::Handshake, Some(syn), "SYN", text).done())
    }

    /// Whether SYNs before the refusal had no answer for longer than the answer took.
    fn unanswered_before(&self, reset: &Reset) -> bool {
        let last = self.side(self.client).last_syn;
        let first_reset = self.conn.resets.first().is_some_and(|first| first.pkt.frame == reset.pkt.frame);
        first_reset && reset.pkt.time - last < SECOND && self.side(self.client).syns > 1
    }

    /// What other connections to the same port show about a refusal.
    fn with_refusal_context<'a>(&self, mut draft: Draft<'a>) -> Draft<'a> {
        let server = self.side(self.server()).at;
        if let Some((before, after)) = self.context.accepted_around(server, self.conn.first.0) {
            let text = match (before, after) {
                (true, true) => "the same port accepted connections before and after: it was down in between",
                (true, false) => "the same port accepted connections before: the service stopped or crashed",
                _ => "the same port accepted connections later: the service was not up yet",
            };
            draft = draft.evidence(Kind::Pattern, None, text, text);
        }
        if self.context.open_on_other_family(server) {
            let text =
                "the same port is open on another address: the service is bound to one address or family";
            draft = draft.evidence(Kind::Pattern, None, text, text);
        }
        draft
    }

    /// What no host's own refusal has.
    fn odd_refusal(&self, reset: &Reset) -> Option<&'static str> {
        let rst = &reset.pkt;
        let syn = self.side(self.client).syn?;
        if rst.has(TcpFlags::ACK) && rst.seq != 0 && rst.ack == syn.end() {
            return Some("the refusal's SEQ is not 0: no host's stack answers a SYN like this");
        }
        if rst.window != 0 && rst.window == syn.window && rst.has(TcpFlags::ACK) {
            return Some("the refusal's window is copied from the SYN");
        }
        if rst.ident != 0 && rst.ident == syn.ident && rst.ident != 54_321 {
            return Some("the refusal's IP id is copied from the SYN");
        }
        None
    }

    /// A refusal made on this link in the name of a host that is probably not on it.
    fn is_gateways_own(&self, reset: &Reset) -> Option<&'static str> {
        let untouched = |ttl: u8| matches!(ttl, 64 | 128 | 255);
        let syn = self.side(self.client).syn?;
        let one_place = reset.pkt.vantage == syn.vantage;
        if !one_place
            || !untouched(reset.pkt.ttl)
            || !untouched(syn.ttl)
            || self.side(self.server()).ttl.is_some()
        {
            return None;
        }
        let (client, server) = (self.side(self.client).at.addr, self.side(self.server()).at.addr);
        // Where hosts of other networks have untouched hop limits, too, something on this link sets them anew.
        let says_nothing = reset.mac == [0; 6] || self.context.renews_ttl();
        if says_nothing || self.context.host_ttl(server).is_some() || is_near(client, server) {
            return None;
        }
        Some(if self.context.is_gateway(reset.mac) {
            "the router on this link sent the refusal: its TTL was not decremented, and its source is the router"
        } else {
            "the refusal was made on this link, as its TTL shows, with the source address of a host in another network"
        })
    }

    /// The client reset its own attempt before any answer.
    fn cancelled_before_answer(&self, reset: &Reset) -> Verdict {
        let client = self.side(self.client);
        // It acknowledges a SYN|ACK that is not in the capture.
        if reset.pkt.has(TcpFlags::ACK) && reset.pkt.ack != 0 {
            return self.silent_check(
                reset,
                "the client acknowledges an answer that is not in the capture, and resets at once",
            );
        }
        if client.syns >= 3 {
            let over = client.last_syn - self.conn.first.0;
            return self
                .verdict(Cause::SilentDrop, 0.75, EndedBy::Client)
                .decisive(reset.pkt.frame)
                .evidence(
                    Kind::Handshake,
                    Some(self.conn.first.1),
                    format!("{} SYN", client.syns),
                    format!(
                        "{} SYN over {} without any answer; then the client gave up",
                        client.syns,
                        span(over)
                    ),
                )
                .alternative(Cause::ConnectCancelled, 0.1)
                .also(Cause::ConnectCancelled, &[reset.pkt.frame])
                .done();
        }
        self.verdict(Cause::ConnectCancelled, 0.6, EndedBy::Client)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Shape,
                Some(reset.pkt.frame),
                "RST",
                "the client reset its own SYN, which had no answer",
            )
            .alternative(Cause::Scan, 0.2)
            .done()
    }

    /// A connection of the client that it only opened to reset it.
    fn silent_check(&self, reset: &Reset, text: &str) -> Verdict {
        self.verdict(Cause::HealthCheck, 0.5, EndedBy::Client)
            .decisive(reset.pkt.frame)
            .evidence(Kind::Shape, Some(reset.pkt.frame), "RST,ACK", text)
            .alternative(Cause::Scan, 0.25)
            .alternative(Cause::ConnectCancelled, 0.15)
            .done()
    }

    /// The client answered the SYN|ACK with a reset.
    fn probe_or_cancelled(&self, reset: &Reset, syn: &Pkt, answer: &Pkt) -> Verdict {
        let client = self.side(self.client);
        let waited = answer.time - syn.time;
        let late = reset.trigger.map_or(waited, |trigger| trigger.time - syn.time).max(waited);
        let text =
            format!("the client answers the SYN|ACK, which came {} after the SYN, with a reset", span(late));
        if let Some(odd) = odd_syn(client) {
            return self
                .verdict(Cause::Scan, 0.6, EndedBy::Client)
                .decisive(reset.pkt.frame)
                .evidence(Kind::Handshake, Some(syn.frame), odd, format!("its SYN: {odd}"))
                .evidence(Kind::Shape, Some(reset.pkt.frame), "RST", text)
                .alternative(Cause::ConnectCancelled, 0.2)
                .alternative(Cause::HealthCheck, 0.1)
                .done();
        }
        if reset.shape == Shape::Active {
            let text =
                "the client completes the handshake with a reset in place of its ACK, and sends no data";
            return self.silent_check(reset, text);
        }
        let slow = late > SLOW || client.syns > 1;
        let mut draft = self
            .verdict(Cause::ConnectCancelled, if slow { 0.85 } else { 0.6 }, EndedBy::Client)
            .decisive(reset.pkt.frame)
            .rule("S20")
            .evidence(Kind::Trigger, Some(answer.frame), span(late), text);
        if self.marks.sibling_won {
            draft = draft.evidence(
                Kind::Pattern,
                None,
                "another connection won",
                "the client's other connection to that port was established first",
            );
        } else if !slow {
            draft = draft.alternative(Cause::Scan, 0.25).alternative(Cause::HealthCheck, 0.1);
        }
        draft.done()
    }

    /// The server sent SYN|ACK and then a reset, before the client's ACK was seen.
    fn server_reset_embryo(&self, reset: &Reset) -> Verdict {
        self.verdict(Cause::ListenerClosed, 0.5, EndedBy::Server)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Handshake,
                Some(reset.pkt.frame),
                "RST after SYN|ACK",
                "the server reset the connection after its SYN|ACK, before the handshake was complete",
            )
            .alternative(Cause::SynProxy, 0.2)
            .alternative(Cause::BacklogFull, 0.15)
            .done()
    }

    /// An unsolicited SYN|ACK or ACK.
    fn stray(&self, reset: &Reset, trigger: Option<crate::packet::Frame>) -> Verdict {
        let draft = self
            .verdict(Cause::Stray, 0.6, EndedBy::Unknown)
            .decisive(reset.pkt.frame)
            .evidence(
                Kind::Trigger,
                trigger,
                "no SYN",
                "a segment arrives for which the capture has no SYN, and its receiver has no such connection",
            )
            .alternative(Cause::ConnectCancelled, 0.15)
            .alternative(Cause::Scan, 0.1);
        draft.done()
    }

    /// Without any SYN: a probe without ACK, a single ACK, or a reset alone.
    fn stray_reply(&self, reset: &Reset) -> Option<Verdict> {
        let others =
            self.conn.packets - self.conn.copies - self.conn.resets.iter().filter(|r| !r.copy).count() as u64;
        if others == 0 && reset.pkt.has(TcpFlags::ACK) && reset.pkt.seq == 0 && reset.pkt.window == 0 {
            return Some(self.refused_unseen(reset));
        }
        if others == 0 {
            return Some(
                self.verdict(Cause::Echo, 0.6, EndedBy::Unknown)
                    .decisive(reset.pkt.frame)
                    .evidence(
                        Kind::Shape,
                        Some(reset.pkt.frame),
                        "RST",
                        "nothing but resets is in the capture: they end, or echo, what came before it",
                    )
                    .alternative(Cause::Abort, 0.15)
                    .alternative(Cause::LostState, 0.1)
                    .done(),
            );
        }
        let trigger = reset.trigger?;
        if !trigger.has(TcpFlags::ACK) {
            return Some(self.lone_probe(reset, probe_name(&trigger)));
        }
        let data: u64 = self.conn.sides.iter().map(|side| side.bytes).sum();
        let silent = self.side(usize::from(reset.pkt.side)).packets == 0;
        if reset.shape == Shape::Reply
            && reset.answers
            && silent
            && data == 0
            && others == 1
            && !trigger.has(TcpFlags::FIN)
        {
            return Some(self.stray(reset, Some(trigger.frame)));
        }
        None
    }

    /// A RST,ACK with SEQ 0 answers a segment without ACK: a SYN, which is not in the capture.
    fn refused_unseen(&self, reset: &Reset) -> Verdict {
        let own = usize::from(reset.pkt.side);
        self.verdict(Cause::Refused, 0.55, self.by(own))
            .decisive(reset.pkt.frame)
            .rule("S1")
            .evidence(
                Kind::Shape,
                Some(reset.pkt.frame),
                "RST,ACK, SEQ 0, window 0",
                "such a reset answers a SYN; the SYN is not in the capture",
            )
            .alternative(Cause::FirewallReject, 0.25)
            .alternative(Cause::Scan, 0.1)
            .done()
    }

    /// A segment without ACK and SYN that only a probe has.
    fn lone_probe(&self, reset: &Reset, what: &'static str) -> Verdict {
        self.verdict(Cause::Scan, 0.6, EndedBy::Client)
            .decisive(reset.pkt.frame)
            .evidence(Kind::Trigger, reset.trigger.map(|pkt| pkt.frame), what, format!("a probe: {what}"))
            .alternative(Cause::Stray, 0.2)
            .done()
    }
}

/// Whether two addresses are probably on one link.
pub(crate) fn is_near(a: crate::packet::Addr, b: crate::packet::Addr) -> bool {
    let bits = if a.is_v4() { 8 } else { 64 };
    let loopback = |addr: crate::packet::Addr| addr.ip().is_loopback();
    a.is_v4() != b.is_v4() || a.0 >> bits == b.0 >> bits || loopback(a) || loopback(b)
}

fn probe_name(pkt: &Pkt) -> &'static str {
    let flags = pkt.flags & (TcpFlags::FIN | TcpFlags::PSH | TcpFlags::URG);
    if flags.is_empty() {
        "no flags at all (NULL)"
    } else if flags == TcpFlags::FIN {
        "FIN without ACK"
    } else if flags.contains(TcpFlags::FIN | TcpFlags::URG) {
        "FIN, PSH and URG (Xmas)"
    } else {
        "a segment without ACK"
    }
}

/// What a SYN has that no usual stack sends.
pub(crate) fn odd_syn(side: &Side) -> Option<&'static str> {
    let syn = side.syn?;
    if syn.has(TcpFlags::ACK) {
        return None;
    }
    if syn.ident == 54_321 {
        return Some("IP id 54321, as of zmap");
    }
    if syn.tsval == Some(u32::MAX) {
        return Some("a timestamp of 4294967295, as of nmap's OS detection");
    }
    if (1..64).contains(&syn.window) {
        return Some("a window that no host offers, as of nmap's OS detection");
    }
    let options = &side.options;
    let tiny = options.size <= 4 && !options.sack && !options.timestamps && options.scale.is_none();
    if tiny && matches!(syn.window, 1024 | 2048 | 3072 | 4096) {
        return Some("few options and a window of 1024 to 4096, as of nmap");
    }
    if options.size == 0 && syn.window <= 1024 {
        return Some("no options at all");
    }
    None
}
