//! A RST as it stood when it came: its shape, whether it counted, what it may answer.

use super::conn::Conn;
use super::side::Side;
use crate::declared::{self, Declared};
use crate::packet::{Pkt, ahead};
use crate::segment::Segment;
use lastack_engine::{RcvSeq, ResetEffect, ResetReceiver, Rule, SndSeq, TcpState};
use lastack_wire::TcpFlags;

/// A reset that answers a packet comes so soon after it, in nanoseconds.
const PROMPT: i64 = 1_000_000_000;

/// The two shapes of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Sent for a socket that existed: numbers of the connection, ACK set.
    Active,
    /// Sent in answer to a segment that met nothing usable.
    Reply,
}

/// Its effect on the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Judged by the stack's own rules.
    Judged(ResetEffect),
    /// What the receiver expects is not in the capture.
    Unseen,
}

impl Effect {
    /// Whether it ended the connection for its receiver.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Judged(ResetEffect::Accepted(_)))
    }

    /// The rule that decided.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Self::Judged(
                ResetEffect::Accepted(rule) | ResetEffect::Challenged(rule) | ResetEffect::Ignored(rule),
            ) => Some(rule),
            Self::Unseen => None,
        }
    }

    /// As users see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Judged(ResetEffect::Accepted(_)) => "accepted",
            Self::Judged(ResetEffect::Challenged(_)) => "challenged",
            Self::Judged(ResetEffect::Ignored(_)) => "ignored",
            Self::Unseen => "unseen",
        }
    }
}

/// A reset, with what was known when it came.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The packet; `side` is its sender.
    pub pkt: Pkt,
    /// Its shape.
    pub shape: Shape,
    /// Its effect.
    pub effect: Effect,
    /// The same packet was captured before.
    pub copy: bool,
    /// The connection had its end already.
    pub late: bool,
    /// What it states.
    pub declared: Vec<Declared>,
    /// Bytes of payload.
    pub payload: u32,
    /// Whether its checksum is wrong.
    pub bad_checksum: bool,
    /// It has an MD5 or AO option.
    pub signed: bool,
    /// The hardware address it came from.
    pub mac: [u8; 6],
    /// The packet of the other end that it answers, or the last one.
    pub trigger: Option<Pkt>,
    /// Whether its numbers are those of an answer to that packet.
    pub answers: bool,
    /// The sender's packet before it.
    pub own: Option<Pkt>,
    /// The end of what its sender had sent (SND.NXT), if known.
    pub own_nxt: Option<u32>,
    /// The end of what the other end had sent.
    pub peer_nxt: Option<u32>,
    /// Hop limit of the sender's other packets.
    pub ttl_usual: Option<u8>,
    /// With several captures: the lowest and the highest hop limit of the sender's other packets in the one that has the reset first;
    /// 0 if there are none.
    pub ttl_there: Option<(u8, u8)>,
    /// The packet before it in the connection.
    pub before: Option<Pkt>,
    /// The sender's bytes since the other end's last payload.
    pub own_run: u64,
    /// The other end's bytes since the sender's last payload.
    pub peer_run: u64,
    /// Who sent payload last: the sender of the reset?
    pub own_spoke_last: Option<bool>,
    /// The sender's FIN came before.
    pub own_fin: bool,
    /// The other end's FIN came before.
    pub peer_fin: bool,
}

impl Reset {
    /// Distance from the number it should have.
    pub fn seq_offset(&self) -> Option<i32> {
        self.own_nxt.map(|nxt| ahead(self.pkt.seq, nxt))
    }

    /// Whether its ACK number covers `number`.
    pub fn covers(&self, number: u32) -> bool {
        self.pkt.has(TcpFlags::ACK) && ahead(self.pkt.ack, number) >= 0
    }
}

impl Conn {
    /// Takes note of a RST.
    pub(super) fn take_reset(&mut self, segment: &Segment<'_>, pkt: Pkt, copy: bool) {
        let (own, peer) = (usize::from(pkt.side), 1 - usize::from(pkt.side));
        let (trigger, answers) = self.trigger(&pkt);
        let effect = if copy { Effect::Unseen } else { self.effect(&pkt) };
        let prompt = trigger.filter(|trigger| answers && pkt.time - trigger.time < PROMPT).is_some();
        let shape = self.shape(&pkt, answers, prompt);
        let known = |side: &Side| side.started.then_some(side.max);
        if pkt.has(TcpFlags::ACK) && !copy {
            self.hear(&pkt, self.sides[own].ack);
        }
        let reset = Reset {
            pkt,
            shape,
            effect,
            copy,
            late: self.reset_by.is_some(),
            declared: declared::of_reset(segment),
            payload: pkt.len,
            bad_checksum: segment.has_bad_checksum() == Some(true),
            signed: segment.header.options.signed,
            mac: segment.mac,
            trigger,
            answers,
            own: self.sides[own].last,
            own_nxt: known(&self.sides[own]),
            peer_nxt: known(&self.sides[peer]),
            ttl_usual: self.sides[own].ttl,
            ttl_there: self
                .views
                .as_ref()
                .filter(|views| views.are_several())
                .map(|views| views.ttl(pkt.vantage, pkt.side).unwrap_or_default()),
            before: self.before().next_back().copied(),
            own_run: self.sides[own].run,
            peer_run: self.sides[peer].run.max(self.sides[own].heard.run),
            own_spoke_last: self.speaker.map(|speaker| usize::from(speaker) == own),
            own_fin: self.sides[own].fin.is_some(),
            peer_fin: self.sides[peer].fin.is_some(),
        };
        let ends = self.reset_by.is_none() && !copy && effect.is_accepted();
        if self.resets.is_empty() {
            self.resets.reserve_exact(1);
        }
        self.resets.push(reset);
        if ends {
            self.reset_by = Some(self.resets.len() - 1);
            // A refused SYN leaves nothing that later packets could change.
            self.at_reset = self.established.then(|| Box::new(self.sides.clone()));
        }
    }

    /// The packet of the other end that a reset answers, by its numbers; else the last one.
    fn trigger(&self, rst: &Pkt) -> (Option<Pkt>, bool) {
        let peer = |pkt: &&Pkt| pkt.side != rst.side && !pkt.is_rst();
        let recent = || self.after.iter().rev().chain(self.before().rev()).filter(peer);
        let fits = |pkt: &&Pkt| {
            if rst.has(TcpFlags::ACK) {
                !pkt.has(TcpFlags::ACK) && rst.seq == 0 && rst.ack == pkt.end()
            } else {
                pkt.has(TcpFlags::ACK) && pkt.ack == rst.seq
            }
        };
        match recent().find(fits) {
            Some(pkt) => (Some(*pkt), true),
            None => (recent().next().copied(), false),
        }
    }

    fn shape(&self, rst: &Pkt, answers: bool, prompt: bool) -> Shape {
        if rst.has(TcpFlags::ACK) {
            return if answers && rst.seq == 0 { Shape::Reply } else { Shape::Active };
        }
        // Old Windows leaves a number in the ACK field of an abort without the flag.
        if rst.ack != 0 && !prompt { Shape::Active } else { Shape::Reply }
    }

    /// What the reset does to the other end, by the stack's own rules.
    pub(super) fn effect(&self, rst: &Pkt) -> Effect {
        let (sender, receiver) = (&self.sides[usize::from(rst.side)], &self.sides[1 - usize::from(rst.side)]);
        let Some(known) = self.receiver(sender, receiver, rst) else {
            return Effect::Unseen;
        };
        let ack = rst.has(TcpFlags::ACK).then(|| match (known, receiver.syn) {
            // Data in the SYN is acknowledged with it.
            (ResetReceiver::SynSent { iss }, Some(syn))
                if ahead(rst.ack, syn.seq) > 0 && ahead(rst.ack, syn.end()) <= 0 =>
            {
                iss + 1
            }
            _ => SndSeq(rst.ack),
        });
        Effect::Judged(known.judge(RcvSeq(rst.seq), ack))
    }

    /// The state of the receiver of a reset, as far as its packets show.
    fn receiver(&self, sender: &Side, receiver: &Side, rst: &Pkt) -> Option<ResetReceiver> {
        if self.reset_by.is_some() {
            return Some(ResetReceiver::Closed);
        }
        if self.is_orderly() {
            let first = match (sender.fin, receiver.fin) {
                (Some(theirs), Some(ours)) => ours.frame < theirs.frame,
                _ => false,
            };
            return Some(if first { ResetReceiver::TimeWait } else { ResetReceiver::Closed });
        }
        if let Some(syn) = receiver.syn
            && sender.syn.is_none()
            && !syn.has(TcpFlags::ACK)
            && !self.established
        {
            return Some(ResetReceiver::SynSent { iss: SndSeq(syn.seq) });
        }
        let window = receiver.window.unwrap_or(65_535);
        if let (Some(theirs), Some(ours)) = (sender.syn, receiver.syn)
            && ours.has(TcpFlags::ACK)
            && !self.established
        {
            return Some(ResetReceiver::SynReceived { irs: RcvSeq(theirs.seq), window, active: false });
        }
        let nxt = match (sender.started, receiver.ack) {
            (true, Some(ack)) if ahead(ack, sender.nxt) > 0 => ack,
            (true, _) => sender.nxt,
            (false, Some(ack)) => ack,
            (false, None) => return None,
        };
        let edge = receiver.ack.unwrap_or(nxt).wrapping_add(window);
        Some(ResetReceiver::Synchronized {
            state: self.state(sender, receiver),
            nxt: RcvSeq(nxt),
            window: ahead(edge, nxt).max(0).unsigned_abs(),
            reported: receiver
                .sack
                .or_else(|| (sender.max == rst.seq && receiver.sack.is_some()).then_some(rst.seq))
                .map(RcvSeq),
            lenient: true,
        })
    }

    /// The state of `receiver`, in the words of RFC 9293.
    fn state(&self, sender: &Side, receiver: &Side) -> TcpState {
        let acked = receiver.fin_seq().is_some_and(|fin| sender.has_acked(fin.wrapping_add(1)));
        match (receiver.fin.is_some(), sender.fin.is_some()) {
            (false, false) => TcpState::Established,
            (false, true) => TcpState::CloseWait,
            (true, false) if acked => TcpState::FinWait2,
            (true, false) => TcpState::FinWait1,
            (true, true) if acked => TcpState::LastAck,
            (true, true) => TcpState::Closing,
        }
    }
}
