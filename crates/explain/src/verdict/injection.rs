//! Resets that a third party made: injected from beside the path, or by a device in it.
//!
//! A verdict needs two strong marks, or a strong one and another that is independent of it. The rest is at most
//! an alternative: hop limits alone differ for good reasons.

use super::case::{Case, Draft, MS, SECOND, TtlGap, hops};
use super::types::{Kind, Role, Verdict};
use crate::packet::{Pkt, ahead};
use crate::track::{Reset, Shape};
use lastack_causes::{Cause, EndedBy};
use lastack_wire::TcpFlags;

/// Max time between packets that pass each other in a capture.
const REORDER: i64 = 2 * MS;

/// Data that the reset's number includes may be captured so late.
const LATE: i64 = 20 * MS;

/// A mark of injection.
struct Mark {
    strong: bool,
    /// Marks of one family are not independent of each other.
    family: u8,
    kind: Kind,
    value: String,
    text: String,
    frame: crate::packet::Frame,
}

impl Case<'_> {
    /// A verdict of injection, if the marks suffice.
    pub fn injection(&self) -> Option<Verdict> {
        let forged: Vec<_> =
            self.conn.resets.iter().filter(|reset| !reset.copy && self.may_be_forged(reset)).collect();
        let (first, marks) = forged.iter().find_map(|reset| {
            let marks = self.marks_of(reset, &forged);
            let strong: Vec<_> = marks.iter().filter(|mark| mark.strong).collect();
            let independent = strong.iter().any(|mark| marks.iter().any(|other| other.family != mark.family));
            (!strong.is_empty() && independent).then_some((*reset, marks))
        })?;
        // A reset that answers nothing after a pause is a timer's, and the end that received none may still send data.
        let waited = first.before.map_or(0, |before| first.pkt.time - before.time);
        if waited >= SECOND && !marks.iter().any(|mark| matches!(mark.family, 1 | 3)) {
            return None;
        }
        // A device in the path swallows what it answers; an injector beside the path cannot.
        if first
            .trigger
            .is_some_and(|trigger| trigger.len > 0 && first.answers && !self.arrived(first, &trigger))
            && !marks.iter().any(|mark| mark.family == 3)
        {
            return None;
        }
        let gone_on = self.later(usize::from(first.pkt.side), first.pkt.frame).next().is_some();
        let ended = first.effect.is_accepted() || self.conn.reset_by.is_some() || !gone_on;
        if !ended {
            return None;
        }
        let strong = marks.iter().filter(|mark| mark.strong).count();
        let confidence = if strong >= 2 { 0.95 } else { 0.85 };
        let mut draft = self.verdict(Cause::Injected, confidence, EndedBy::Path).decisive(first.pkt.frame);
        for mark in marks {
            draft = draft.evidence(mark.kind, Some(mark.frame), mark.value, mark.text);
        }
        draft = draft.device(first.pkt.ttl).alternative(Cause::InlineReset, 0.04);
        draft = self.fingerprint(draft, first, &forged);
        let mut verdict = draft.done();
        let injector = usize::from(first.pkt.side);
        for (reset, role) in self.conn.resets.iter().zip(&mut verdict.roles) {
            let near = (reset.pkt.time - first.pkt.time).abs() < SECOND;
            let same = reset.pkt.ttl == first.pkt.ttl || reset.pkt.ident == first.pkt.ident;
            if usize::from(reset.pkt.side) == injector && !reset.copy && near && (same || !reset.late) {
                *role = Role::Injected;
            }
        }
        Some(verdict)
    }

    /// A verdict of injected data: other bytes for numbers that the end used itself, in a packet that the end did not make.
    fn data_injection_of(&self, index: usize) -> Option<Verdict> {
        let side = &self.conn.sides[index];
        let [first, second] = *side.payloads.conflict.as_deref()?;
        let (forged, mark) =
            [first, second].iter().find_map(|pkt| Some((*pkt, self.foreign_mark(index, pkt)?)))?;
        let name = self.end(index).name();
        let text = format!(
            "two packets of the {name} have different bytes for the same sequence numbers: only one of them can be the {name}'s"
        );
        let value = format!("SEQ {}, {} and {} bytes", second.seq, first.len, second.len);
        let frames = self.conn.resets.iter().filter(|reset| !reset.copy && reset.pkt.frame > forged.frame);
        let frames: Vec<_> = frames.map(|reset| reset.pkt.frame).collect();
        let draft = self
            .verdict(Cause::Injected, 0.95, EndedBy::Path)
            .decisive(forged.frame)
            .evidence(Kind::Payload, Some(second.frame), value, text)
            .evidence(mark.kind, Some(forged.frame), mark.value, mark.text)
            .device(forged.ttl)
            .alternative(Cause::DataAfterClose, 0.02)
            .advice("A third party sends data with the address of an end: use TLS, and capture at both ends to see that only one of them has the forged packet.");
        Some(draft.also_if(!frames.is_empty(), Cause::Echo, &frames).done())
    }

    /// Injected data of either end.
    pub fn data_injection(&self) -> Option<Verdict> {
        [self.server(), self.client].into_iter().find_map(|index| self.data_injection_of(index))
    }

    /// What shows that a packet with payload was not made by the end whose address it has.
    fn foreign_mark(&self, index: usize, pkt: &Pkt) -> Option<Mark> {
        let mut others = self
            .packets()
            .filter(|other| usize::from(other.side) == index && !other.is_rst() && other.frame != pkt.frame);
        let side = &self.conn.sides[index];
        let mark = |kind, value: String, text: String| Mark {
            strong: false,
            family: 2,
            kind,
            value,
            text,
            frame: pkt.frame,
        };
        if side.timestamps && pkt.tsval.is_none() {
            let text = "the forged packet has no timestamp, the end's other packets have".into();
            return Some(mark(Kind::Timestamps, "none".into(), text));
        }
        let usual = side.syn_ttl.or_else(|| others.next().map(|other| other.ttl))?;
        let apart = (i32::from(hops(pkt.ttl)) - i32::from(hops(usual))).abs() > 2;
        // Its TTL is that of no other packet.
        let alone = others.all(|other| other.ttl != pkt.ttl);
        (apart && alone).then(|| {
            let text =
                format!("the forged packet's TTL is {}, the end's other packets have {usual}", pkt.ttl);
            mark(Kind::Ttl, pkt.ttl.to_string(), text)
        })
    }

    /// Whether the payload that a reset answers reached its receiver: it acknowledges it, before or afterwards.
    fn arrived(&self, reset: &Reset, trigger: &Pkt) -> bool {
        let side = usize::from(reset.pkt.side);
        let acks = |pkt: &Pkt| pkt.has(TcpFlags::ACK) && ahead(pkt.ack, trigger.end()) >= 0;
        self.side(side).has_acked(trigger.end()) || self.later(side, reset.pkt.frame).any(acks)
    }

    /// Whether a reset is one that its sender's own stack would not have sent: its end had not closed.
    fn may_be_forged(&self, reset: &Reset) -> bool {
        let other = 1 - usize::from(reset.pkt.side);
        // Resets that a victim sends after it accepted the forged one are its own.
        let victim = self.conn.resets.iter().any(|before| {
            before.pkt.frame < reset.pkt.frame
                && usize::from(before.pkt.side) == other
                && before.effect.is_accepted()
        });
        !reset.own_fin && !victim && self.conn.former_answer.is_none()
    }

    fn marks_of(&self, reset: &Reset, all: &[&Reset]) -> Vec<Mark> {
        let mut marks = Vec::new();
        marks.extend(self.data_after(reset));
        marks.extend(several_for_one(reset, all, self));
        marks.extend(unlike_each_other(reset, all));
        marks.extend(copied_from_trigger(reset));
        marks.extend(self.answer_after(reset));
        marks.extend(self.ttl_mark(reset));
        marks.extend(self.sooner_than_the_host(reset));
        marks.extend(self.host_still_answers(reset));
        marks.extend(odd_fields(reset, self));
        marks
    }

    /// New data, or a FIN, of the "resetting" end after its own reset, at or below the reset's number.
    fn data_after(&self, reset: &Reset) -> Option<Mark> {
        let side = usize::from(reset.pkt.side);
        let nxt = reset.own_nxt?;
        let later = self.later(side, reset.pkt.frame).find(|pkt| {
            (pkt.len > 0 || pkt.has(TcpFlags::FIN))
                && !pkt.has(TcpFlags::SYN)
                && pkt.time - reset.pkt.time > REORDER
                && ahead(pkt.seq, reset.pkt.seq) <= 0
                // The reset counts this data in: it was sent before, and captured late.
                && (ahead(pkt.end(), reset.pkt.seq) > 0 || pkt.time - reset.pkt.time > LATE)
                && ahead(pkt.end(), nxt) > 0
                && ahead(pkt.seq, nxt) >= 0
        })?;
        Some(Mark {
            strong: true,
            family: 0,
            kind: Kind::AfterReset,
            value: format!("{} bytes, SEQ {}", later.len, later.seq),
            text: format!(
                "{} after its reset the same end still sends new data at the number it had before",
                super::case::span(later.time - reset.pkt.time)
            ),
            frame: later.frame,
        })
    }

    /// A SYN|ACK that comes after the reset of the SYN, without another SYN.
    fn answer_after(&self, reset: &Reset) -> Option<Mark> {
        let side = usize::from(reset.pkt.side);
        let syn = self.side(1 - side).syn?;
        let answer = self.later(side, reset.pkt.frame).find(|pkt| pkt.has(TcpFlags::SYN | TcpFlags::ACK))?;
        let again = self.packets().any(|pkt| {
            usize::from(pkt.side) != side && pkt.has(TcpFlags::SYN) && pkt.frame > reset.pkt.frame
        });
        let first = self.side(side).syn.is_some_and(|syn| syn.frame == answer.frame);
        (first && !again && answer.ack == syn.end() && reset.effect.is_accepted()).then(|| Mark {
            strong: true,
            family: 0,
            kind: Kind::AfterReset,
            value: "SYN|ACK".into(),
            text: "the SYN|ACK comes after the reset that refused the SYN".into(),
            frame: answer.frame,
        })
    }

    fn ttl_mark(&self, reset: &Reset) -> Option<Mark> {
        let gap = self.foreign_ttl(reset).filter(|gap| gap.distance > 2)?;
        Some(Mark {
            strong: false,
            family: 2,
            kind: Kind::Ttl,
            value: gap.seen.to_string(),
            text: format!("the reset's TTL is {}, the end's other packets have {}", gap.seen, gap.usual),
            frame: reset.pkt.frame,
        })
    }

    /// The reset came sooner after what it answers than the end itself could answer.
    fn sooner_than_the_host(&self, reset: &Reset) -> Option<Mark> {
        let (delay, usual) = self.too_fast(reset)?;
        let (delay, usual) = (super::case::span(delay), super::case::span(usual));
        Some(Mark {
            strong: false,
            family: 5,
            kind: Kind::Delay,
            value: delay.clone(),
            text: format!("the reset comes {delay} after what it answers; the handshake needed {usual}"),
            frame: reset.pkt.frame,
        })
    }

    /// The "resetting" host acknowledges data after a bare reset that denies the connection.
    fn host_still_answers(&self, reset: &Reset) -> Option<Mark> {
        if reset.shape != Shape::Reply {
            return None;
        }
        let side = usize::from(reset.pkt.side);
        let trigger = reset.trigger?;
        let later = self.later(side, reset.pkt.frame).find(|pkt| {
            pkt.time - reset.pkt.time > REORDER
                && pkt.has(TcpFlags::ACK)
                && !pkt.has(TcpFlags::SYN)
                && ahead(pkt.ack, trigger.end()) >= 0
        })?;
        Some(Mark {
            strong: false,
            family: 0,
            kind: Kind::AfterReset,
            value: format!("ACK {}", later.ack),
            text: "the host later acknowledges data of a connection that, by the reset, it does not have"
                .into(),
            frame: later.frame,
        })
    }

    /// Names a known injector, and where it is.
    fn fingerprint<'a>(&self, mut draft: Draft<'a>, first: &Reset, all: &[&Reset]) -> Draft<'a> {
        for print in FINGERPRINTS {
            if (print.fits)(first, all) {
                draft = draft.evidence(Kind::Copies, Some(first.pkt.frame), print.name, print.text);
            }
        }
        let place = match first.pkt.ttl {
            64 | 128 | 255 => "on this link".into(),
            ttl => format!("about {} hops away, if it began with a usual value", hops(ttl)),
        };
        draft.evidence(
            Kind::Ttl,
            Some(first.pkt.frame),
            first.pkt.ttl.to_string(),
            format!("the sender is beside the path, {place}: the real end continues"),
        )
    }

    /// A verdict of a device in the path that swallowed data and answered it with a reset.
    pub fn inline(&self, reset: &Reset, gap: TtlGap) -> Verdict {
        let (near, far) = if gap.distance > 1 { (0.75, 0.1) } else { (0.6, 0.15) };
        // What is farther off than the end itself is not between the two ends, unless it writes another hop limit.
        let beyond = hops(gap.seen) > hops(gap.usual).saturating_add(2);
        let (near, injected) = if beyond { (0.5, 0.35) } else { (near, 0.12) };
        let trigger = reset.trigger;
        let draft = self
            .verdict(Cause::InlineReset, near, EndedBy::Path)
            .decisive(reset.pkt.frame)
            .foreign(reset, gap, Cause::LostState)
            .alternative(Cause::Injected, injected)
            .alternative(Cause::StateExpired, far)
            .alternative(Cause::LostState, 0.05);
        match trigger {
            Some(trigger) if trigger.len > 0 => draft
                .decisive(trigger.frame)
                .evidence(
                    Kind::Trigger,
                    Some(trigger.frame),
                    format!("{} bytes", trigger.len),
                    "it answers a payload that the end itself never acknowledges",
                )
                .done(),
            _ => draft.done(),
        }
    }
}

/// Several resets with different numbers for one trigger.
fn several_for_one(reset: &Reset, all: &[&Reset], case: &Case<'_>) -> Option<Mark> {
    let near: Vec<&&Reset> = all
        .iter()
        .filter(|other| {
            other.pkt.side == reset.pkt.side
                && other.pkt.flags == reset.pkt.flags
                && (other.pkt.time - reset.pkt.time).abs() < 50 * MS
        })
        .collect();
    let different = near.iter().any(|other| other.pkt.seq != reset.pkt.seq);
    if near.len() < 2 || !different {
        return None;
    }
    // Answers to several packets have these packets' own numbers.
    let answers = |seq: u32| {
        case.packets().any(|pkt| {
            pkt.side != reset.pkt.side && pkt.has(TcpFlags::ACK) && (pkt.ack == seq || pkt.end() == seq)
        })
    };
    let own = |seq: u32| reset.own_nxt.is_some_and(|nxt| (0..=1).contains(&ahead(seq, nxt)));
    let guessed = near.iter().find(|other| !answers(other.pkt.seq) && !own(other.pkt.seq))?;
    let offset = reset.own_nxt.map_or(0, |nxt| ahead(guessed.pkt.seq, nxt));
    Some(Mark {
        strong: true,
        family: 1,
        kind: Kind::Copies,
        value: format!("{} resets, SEQ +{offset}", near.len()),
        text: format!("{} resets for one packet with different numbers: the sender guesses", near.len()),
        frame: guessed.pkt.frame,
    })
}

/// Several aborts with the same number, with other hop limits or windows: a host aborts a connection once.
fn unlike_each_other(reset: &Reset, all: &[&Reset]) -> Option<Mark> {
    let other = all.iter().find(|other| {
        let (one, two) = (&reset.pkt, &other.pkt);
        let apart = (i32::from(hops(one.ttl)) - i32::from(hops(two.ttl))).abs() > 2;
        other.shape == Shape::Active
            && (one.side, one.seq, one.ack) == (two.side, two.seq, two.ack)
            && one.ident != two.ident
            && (two.time - one.time).abs() < 50 * MS
            && (apart || one.window != two.window)
    })?;
    (reset.shape == Shape::Active).then(|| Mark {
        strong: true,
        family: 1,
        kind: Kind::Copies,
        value: format!(
            "TTL {} and {}, window {} and {}",
            reset.pkt.ttl, other.pkt.ttl, reset.pkt.window, other.pkt.window
        ),
        text: "several resets with the same numbers, whose TTL or window differ: one host sends one".into(),
        frame: other.pkt.frame,
    })
}

/// IP id, and window or TTL, copied from the packet that the reset answers.
fn copied_from_trigger(reset: &Reset) -> Option<Mark> {
    let trigger: Pkt = reset.trigger?;
    let same_id = trigger.ident != 0 && trigger.ident == reset.pkt.ident;
    let window = trigger.window == reset.pkt.window && trigger.window != 0;
    let ttl = trigger.ttl == reset.pkt.ttl && reset.ttl_usual.is_some_and(|usual| usual != reset.pkt.ttl);
    (same_id && (window || ttl)).then(|| Mark {
        strong: true,
        family: 3,
        kind: Kind::IpId,
        value: format!("IP id {}, window {}, TTL {}", reset.pkt.ident, reset.pkt.window, reset.pkt.ttl),
        text: "IP id and window or TTL are those of the packet that it answers".into(),
        frame: reset.pkt.frame,
    })
}

/// Fields that a host's own reset would not have.
fn odd_fields(reset: &Reset, case: &Case<'_>) -> Option<Mark> {
    let side = case.side(usize::from(reset.pkt.side));
    let mut odd = Vec::new();
    if reset.shape == Shape::Reply && reset.pkt.window != 0 {
        odd.push(format!("a bare reset with window {}", reset.pkt.window));
    }
    if reset.pkt.reserved != 0 || reset.pkt.has(TcpFlags::URG) {
        odd.push("reserved bits or URG".into());
    }
    if reset.signed && !side.options.timestamps && reset.own.is_some() {
        odd.push("a signature on a connection without".into());
    }
    let clock = reset.own.and_then(|own| own.tsval).zip(reset.pkt.tsval);
    if clock.is_some_and(|(before, now)| ahead(now, before) < 0 || ahead(now, before) > 1 << 28) {
        odd.push("a timestamp that does not continue the end's clock".into());
    }
    if reset.shape == Shape::Active && side.timestamps && reset.pkt.tsval.is_none() && reset.own.is_some() {
        odd.push("no timestamp, though the end's other packets have them".into());
    }
    if odd.is_empty() {
        return None;
    }
    let text = odd.join(", ");
    Some(Mark {
        strong: false,
        family: 4,
        kind: Kind::Window,
        value: text.clone(),
        text: format!("{text}: Linux never sends that"),
        frame: reset.pkt.frame,
    })
}

/// An injector that is known by its pattern.
struct Fingerprint {
    name: &'static str,
    text: &'static str,
    fits: fn(&Reset, &[&Reset]) -> bool,
}

fn offsets(first: &Reset, all: &[&Reset]) -> Vec<i32> {
    all.iter()
        .filter(|other| other.pkt.side == first.pkt.side && (other.pkt.time - first.pkt.time).abs() < 50 * MS)
        .map(|other| ahead(other.pkt.seq, first.pkt.seq))
        .collect()
}

const FINGERPRINTS: &[Fingerprint] = &[
    Fingerprint {
        name: "GFW, 2006",
        text: "three RST,ACK with SEQ +0, +1460, +4380: the Great Firewall's pattern of 2006",
        fits: |first, all| first.shape == Shape::Active && offsets(first, all) == [0, 1460, 4380],
    },
    Fingerprint {
        name: "GFW, 2023",
        text: "three RST,ACK with the same SEQ: the Great Firewall's pattern since 2023",
        fits: |first, all| first.shape == Shape::Active && offsets(first, all) == [0, 0, 0],
    },
    Fingerprint {
        name: "traffic shaper, 2007",
        text: "a pair of bare resets, the second SEQ +12503: an ISP's traffic shaper of 2007",
        fits: |first, all| first.shape == Shape::Reply && offsets(first, all) == [0, 12503],
    },
];
