//! One life of a four-tuple: what is kept of it while its packets pass.

use super::reset::{Effect, Reset};
use super::side::{Peer, Side};
use super::views::{Views, bit, is_same, same_reset};
use crate::comment::Comment;
use crate::decap::Tunnel;
use crate::http::Lacks;
use crate::icmp::IcmpSeen;
use crate::packet::{Endpoint, Frame, Pkt, ahead};
use crate::segment::Segment;
use lastack_engine::ResetEffect;
use lastack_wire::TcpFlags;

/// First packets that are kept.
const HEAD: usize = 4;
/// Packets that are kept before the end.
const BEFORE: usize = 20;
/// Packets that are kept after the first reset.
const AFTER: usize = 20;
/// Resets that are kept with all that was known when they came.
const RESETS: usize = 4096;
/// Max time between packets that pass each other in a capture.
const OVERTAKEN: i64 = 2_000_000;
/// Copies of one packet come within this time.
const COPY: i64 = 20_000_000;

/// The outcome of the earlier connection on the same tuple, where it was still open.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    /// For each side: the end of what it had sent, if known.
    pub nxt: [Option<u32>; 2],
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Its place in the order of first packets.
    pub ordinal: u64,
    /// The two ends; the first is the sender of the first packet.
    pub sides: [Side; 2],
    /// Which one opened the connection, if a SYN or SYN|ACK shows it.
    pub client: Option<u8>,
    /// Packets, copies included.
    pub packets: u64,
    /// The first packet.
    pub first: (i64, Frame),
    /// The last packet.
    pub last: (i64, Frame),
    /// The first packets.
    pub head: Vec<Pkt>,
    before: Vec<Pkt>,
    next: usize,
    /// Packets after the first reset that counted.
    pub after: Vec<Pkt>,
    /// The resets.
    pub resets: Vec<Reset>,
    /// Copies of packets.
    pub copies: u64,
    /// ICMP errors about it.
    pub icmp: Vec<IcmpSeen>,
    /// The tunnel around it.
    pub tunnel: Tunnel,
    /// It began while the earlier connection on the same tuple was still open.
    pub former: Option<Former>,
    /// The other end answered with the former life's numbers.
    pub former_answer: Option<Pkt>,
    /// A reset ended it.
    pub reset_by: Option<usize>,
    /// The two sides as they stood when that reset came.
    pub at_reset: Option<Box<[Side; 2]>>,
    /// The client completed the handshake.
    pub established: bool,
    /// A refusal came before the attempt that was accepted.
    pub refused_before: Option<Frame>,
    /// Which side sent payload last.
    pub speaker: Option<u8>,
    /// The longest pause without any packet, and the packet after it.
    pub pause: (i64, Frame),
    /// The eviction ended the observation.
    pub evicted: bool,
    /// Times went backwards within it.
    pub backwards: bool,
    /// What the stack that wrote the capture states about its packets.
    pub(crate) comments: Vec<Comment>,
    /// What each of several captures saw of it.
    pub views: Option<Box<Views>>,
    tap: u32,
}

impl Conn {
    /// A connection that begins with this segment.
    pub fn new(segment: &Segment<'_>, ordinal: u64) -> Self {
        let pkt = &segment.pkt;
        Self {
            ordinal,
            sides: [Side::new(segment.src), Side::new(segment.dst)],
            client: None,
            packets: 0,
            first: (pkt.time, pkt.frame),
            last: (pkt.time, pkt.frame),
            head: Vec::new(),
            before: Vec::new(),
            next: 0,
            after: Vec::new(),
            resets: Vec::new(),
            copies: 0,
            icmp: Vec::new(),
            tunnel: segment.tunnel,
            former: None,
            former_answer: None,
            reset_by: None,
            at_reset: None,
            established: false,
            refused_before: None,
            speaker: None,
            pause: (0, pkt.frame),
            evicted: false,
            backwards: false,
            comments: Vec::new(),
            views: None,
            tap: segment.tap,
        }
    }

    /// The packets before the end, the oldest first: the first ones, and the last ones.
    pub fn before(&self) -> impl DoubleEndedIterator<Item = &Pkt> + Clone {
        let (newer, older) = self.before.split_at(self.next.min(self.before.len()));
        self.head.iter().chain(older).chain(newer)
    }

    /// All packets that are kept, in the order of the input: the first ones, the last ones before the end, and those after.
    pub fn kept(&self) -> impl Iterator<Item = &Pkt> + Clone {
        self.before().chain(&self.after)
    }

    /// Whether both ends sent FIN and each was acknowledged.
    pub fn is_orderly(&self) -> bool {
        let acked = |side: usize| {
            let fin = self.sides[side].fin_seq();
            fin.is_some_and(|fin| self.sides[1 - side].has_acked(fin.wrapping_add(1)))
        };
        acked(0) && acked(1)
    }

    /// What the server's HTTP answer lacks, and how many bytes of it there are, if the server spoke last and closed first.
    pub fn cut_answer(&self) -> Option<(u64, Lacks)> {
        let client = usize::from(self.client?);
        let server = 1 - client;
        let fin = self.sides[server].fin?;
        let first = self.sides[client].fin.is_none_or(|other| fin.frame < other.frame);
        let spoke_last = self.speaker == Some(server as u8);
        self.sides[server].lacks().filter(|_| first && spoke_last)
    }

    /// Whether it is over for at least one end: nothing but late packets can come.
    pub fn is_over(&self) -> bool {
        self.reset_by.is_some()
            || self.is_orderly()
            || (!self.established && !self.icmp.is_empty())
            || (self.sides[0].fin.is_some() && self.sides[1].fin.is_some())
    }

    /// Whether no more resets fit into its record.
    pub fn is_full(&self) -> bool {
        self.resets.len() >= RESETS
    }

    /// Whether this SYN begins another life of the tuple.
    pub fn ends_with_syn(&self, segment: &Segment<'_>, side: usize) -> bool {
        let pkt = &segment.pkt;
        if !pkt.has(TcpFlags::SYN) || pkt.is_rst() {
            return false;
        }
        // A server does not open its clients' connections anew: a SYN in its name on a living one is only challenged.
        let by_server = self.client.is_some_and(|client| usize::from(client) != side);
        // Nor does a client whose SYN has another hop limit than all it sent: it is forged.
        let usual = self.sides[side].ttl.unwrap_or(pkt.ttl);
        let forged = !pkt.has(TcpFlags::ACK) && usual.abs_diff(pkt.ttl) > 2;
        if (by_server || forged) && self.established && !self.is_over() {
            return false;
        }
        if pkt.has(TcpFlags::ACK) {
            // A SYN|ACK belongs to the SYN it acknowledges.
            return match (&self.sides[1 - side].syn, &self.sides[side].syn) {
                (Some(_), _) => false,
                (None, Some(syn)) => syn.seq != pkt.seq && self.is_over(),
                (None, None) => self.is_over(),
            };
        }
        if self.was_overtaken(pkt, side) {
            return false;
        }
        match &self.sides[side].syn {
            Some(syn) if syn.seq == pkt.seq => {
                // The same number long after the end is a new attempt by a tool that always uses it.
                let reset = self.established && self.reset_by.is_some();
                reset || self.is_orderly() || pkt.time - self.last.0 > 60_000_000_000
            }
            // Both ends open at once: the SYNs cross (RFC 9293 figure 7).
            None if self.sides[1 - side].syn.is_some_and(|syn| !syn.has(TcpFlags::ACK))
                && self.packets <= 2 =>
            {
                false
            }
            _ => true,
        }
    }

    /// Whether this SYN was captured after what answers it.
    fn was_overtaken(&self, pkt: &Pkt, side: usize) -> bool {
        let near = |answer: &Pkt| (pkt.time - answer.time).abs() <= OVERTAKEN && answer.ack == pkt.end();
        let accepted = self.sides[1 - side].syn.is_some_and(|syn| syn.has(TcpFlags::ACK) && near(&syn));
        let only_resets = self.packets == self.resets.len() as u64;
        let refused =
            || self.resets.iter().any(|reset| usize::from(reset.pkt.side) != side && near(&reset.pkt));
        self.sides[side].syn.is_none() && (accepted || only_resets && refused())
    }

    /// Takes note of a segment of `side`.
    pub fn take(&mut self, segment: &Segment<'_>, side: usize) {
        let mut pkt = segment.pkt;
        pkt.side = side as u8;
        pkt.seen = bit(pkt.vantage);
        self.packets += 1;
        let copy = pkt.vantage > 0 && self.is_seen_elsewhere(&pkt) || self.is_copy(&pkt, segment);
        self.backwards |= pkt.time < self.last.0;
        if !copy && self.packets > 1 && pkt.time - self.last.0 > self.pause.0 {
            self.pause = (pkt.time - self.last.0, pkt.frame);
        }
        self.last = (self.last.0.max(pkt.time), pkt.frame);
        if pkt.is_rst() {
            self.take_reset(segment, pkt, copy);
        } else if copy {
            self.copies += 1;
            return;
        } else {
            self.take_other(segment, &pkt);
        }
        if copy {
            self.copies += 1;
        } else {
            self.keep(pkt);
        }
    }

    fn keep(&mut self, pkt: Pkt) {
        // The reset that ended it is the first of the packets after it.
        if self.is_decided() {
            if self.after.len() < AFTER {
                self.after.push(pkt);
            }
        } else if self.head.len() < HEAD {
            // Floods make connections of one packet: room for one, until there are more.
            if self.head.is_empty() {
                self.head.reserve_exact(1);
            }
            self.head.push(pkt);
        } else {
            self.push_before(pkt);
        }
    }

    /// Whether what decides was seen: packets from here on are kept as those after it.
    fn is_decided(&self) -> bool {
        self.reset_by.is_some() || self.sides.iter().any(|side| side.payloads.conflict.is_some())
    }

    fn push_before(&mut self, pkt: Pkt) {
        if self.before.len() < BEFORE {
            self.before.push(pkt);
        } else {
            let at = self.next % BEFORE;
            self.before[at] = pkt;
            self.next = (at + 1) % BEFORE;
        }
    }

    /// Whether the same packet was captured just before: on another interface, or twice on one.
    fn is_copy(&mut self, pkt: &Pkt, segment: &Segment<'_>) -> bool {
        let tap = segment.tap;
        let same = |old: &Pkt| {
            old.side == pkt.side
                && old.seq == pkt.seq
                && old.flags == pkt.flags
                && old.len == pkt.len
                && old.ack == pkt.ack
                && old.ident == pkt.ident
                && old.window == pkt.window
                && old.tsval == pkt.tsval
                && old.sack == pkt.sack
                && (pkt.time - old.time).abs() < COPY
        };
        // Copies in another capture are no copies within one.
        let several = self.views.as_deref().is_some_and(Views::are_several);
        let (tapped, known) = (tap != self.tap, self.copies > 0 && !several);
        self.tap = tap;
        let twin = |old: &Pkt| {
            let ttl = i32::from(old.ttl) - i32::from(pkt.ttl);
            same(old) && (pkt.ident != 0 || tapped || ttl == 1 || ttl == -1 || known)
        };
        if self.is_decided() {
            return self.after.iter().rev().take(6).any(twin);
        }
        self.before().rev().take(6).any(twin)
    }

    /// Whether another capture had this packet before.
    fn is_seen_elsewhere(&mut self, pkt: &Pkt) -> bool {
        if pkt.is_rst() {
            let known = same_reset(&mut self.resets, pkt);
            return known.map(|reset| reset.pkt.seen |= bit(pkt.vantage)).is_some();
        }
        let views = self.views.get_or_insert_default();
        let new = views.add(pkt);
        if !views.are_several() {
            return false;
        }
        let kept = self.after.iter_mut().rev().chain(self.before.iter_mut()).chain(&mut self.head);
        if let Some(old) = kept.filter(|old| !old.is_rst()).find(|old| is_same(old, pkt)) {
            old.seen |= bit(pkt.vantage);
            return true;
        }
        // What is no longer kept: it is new to this capture, and older than what is known.
        let side = &self.sides[usize::from(pkt.side)];
        if pkt.span() > 0 {
            new && side.started && ahead(pkt.end(), side.max) <= 0
        } else {
            pkt.has(TcpFlags::ACK) && side.ack.is_some_and(|ack| ahead(pkt.ack, ack) < 0)
        }
    }

    /// A capture has this packet with the ends `ends`, the first side's first.
    pub(crate) fn is_translated(&mut self, ends: (Endpoint, Endpoint), pkt: &Pkt) {
        self.views.get_or_insert_default().translate(ends, pkt);
    }

    /// A capture has it with other sequence numbers.
    pub(crate) fn is_renumbered(&mut self) {
        self.views.get_or_insert_default().renumbered = true;
    }

    fn take_other(&mut self, segment: &Segment<'_>, pkt: &Pkt) {
        let side = usize::from(pkt.side);
        let peer = 1 - side;
        if pkt.has(TcpFlags::SYN) && self.client.is_none() {
            self.client = Some(if pkt.has(TcpFlags::ACK) { peer } else { side } as u8);
        }
        if let Some(former) = self.former
            && !pkt.has(TcpFlags::SYN)
            && self.sides[side].syn.is_none()
            && self.former_answer.is_none()
        {
            let expected = former.nxt[peer];
            let foreign = self.sides[peer].syn.is_some_and(|syn| pkt.ack != syn.seq.wrapping_add(1));
            if pkt.has(TcpFlags::ACK) && foreign {
                self.former_answer = Some(*pkt);
                // Numbers of the former life must not be taken for this one's.
                if expected.is_none_or(|nxt| ahead(pkt.ack, nxt).unsigned_abs() < 1 << 20) {
                    self.sides[side].packets += 1;
                    self.sides[side].ttl = Some(pkt.ttl);
                    return;
                }
            }
        }
        let known =
            self.sides[side].syn.is_some_and(|syn| syn.seq == pkt.seq) || self.was_overtaken(pkt, side);
        if pkt.has(TcpFlags::SYN) && !pkt.has(TcpFlags::ACK) && self.established && !known {
            return; // its numbers are not those of the connection
        }
        self.accepted_after_all(pkt);
        self.note_probe(pkt);
        let (answered, acked) = (self.sides[peer].ack, self.sides[side].ack);
        self.sides[side].compare(segment, pkt);
        let is_unseen = self.sides[peer].packets == 0;
        let new = self.sides[side].sends(segment, pkt, Peer { answered, is_unseen });
        if pkt.has(TcpFlags::ACK) {
            self.hear(pkt, acked);
            self.sides[peer].acked_by_peer(pkt.ack);
            let opened = self.sides[peer].syn.is_some_and(|syn| syn.has(TcpFlags::ACK));
            if opened && !pkt.has(TcpFlags::SYN) && self.client == Some(pkt.side) {
                self.established = true;
            }
            // Without a SYN it was established before; without the server's packets, the client's ACK shows it.
            let no_syn = self.sides[0].syn.is_none() && self.sides[1].syn.is_none();
            let one_sided = self.sides[peer].packets == 0 && self.client == Some(pkt.side);
            if no_syn || (one_sided && !pkt.has(TcpFlags::SYN)) {
                self.established = true;
            }
        }
        self.overtaken_by_reset(pkt);
        self.sides[peer].is_answered();
        if new > 0 {
            for side in self.sides.iter_mut().filter(|side| side.probes.in_a_row > 0) {
                side.probes.in_a_row = 0;
            }
        }
        if pkt.len > 0 && !pkt.has(TcpFlags::SYN) {
            self.take_payload(segment, pkt, new);
        }
    }

    /// Takes note of payload, of which `new` bytes are new.
    fn take_payload(&mut self, segment: &Segment<'_>, pkt: &Pkt, new: u32) {
        let (side, peer) = (usize::from(pkt.side), 1 - usize::from(pkt.side));
        let turn = self.speaker.is_some_and(|speaker| speaker != pkt.side);
        if turn {
            self.sides[peer].window_peak = self.sides[peer].window.unwrap_or(0);
        }
        let asked = self.sides[peer].asked;
        self.sides[side].says(segment, pkt, new, turn, asked);
        if new > 0 {
            self.speaker = Some(pkt.side);
        }
    }

    /// A reset was captured before the data that its sender sent before it: with that, it is what its receiver expects.
    fn overtaken_by_reset(&mut self, pkt: &Pkt) {
        let Some(index) = self.resets.iter().rposition(|reset| !reset.copy) else { return };
        let reset = &self.resets[index];
        let fits = reset.pkt.side == pkt.side
            && reset.pkt.seq == pkt.end()
            && (pkt.time - reset.pkt.time).abs() <= OVERTAKEN
            && self.was_refused(reset);
        if self.reset_by.is_some() || !fits {
            return;
        }
        let effect = self.effect(&reset.pkt);
        if effect.is_accepted() {
            self.resets[index].effect = effect;
            self.resets[index].own_nxt = Some(pkt.end());
            self.reset_by = Some(index);
            self.at_reset = self.established.then(|| Box::new(self.sides.clone()));
        }
    }

    /// A SYN that was refused was sent again with the same number, and now it is accepted: the refusal was a stage.
    fn accepted_after_all(&mut self, pkt: &Pkt) {
        let peer = &self.sides[1 - usize::from(pkt.side)];
        let again = self.after.iter().any(|old| old.side != pkt.side && old.has(TcpFlags::SYN));
        let answers = peer.syn.is_some_and(|syn| pkt.ack == syn.end());
        if let Some(index) = self.reset_by
            && !self.established
            && again
            && answers
            && pkt.has(TcpFlags::SYN | TcpFlags::ACK)
        {
            self.refused_before = Some(self.resets[index].pkt.frame);
            (self.reset_by, self.at_reset) = (None, None);
            for kept in std::mem::take(&mut self.after) {
                self.push_before(kept);
            }
        }
    }

    /// Keep-alive probes and window probes.
    fn note_probe(&mut self, pkt: &Pkt) {
        let peer = 1 - usize::from(pkt.side);
        let shut = self.sides[peer].shut_since.is_some();
        let side = &mut self.sides[usize::from(pkt.side)];
        if pkt.flags.intersects(TcpFlags::SYN | TcpFlags::FIN) || !side.started {
            return;
        }
        let behind = ahead(pkt.seq, side.max) == -1 && pkt.len <= 1;
        if shut && (behind || (pkt.len > 0 && ahead(pkt.end(), side.max) >= 0)) {
            self.sides[peer].shut_probes += 1;
        } else if behind && self.established {
            let side = &mut self.sides[usize::from(pkt.side)];
            let probes = &mut side.probes;
            probes.spacing = if probes.in_a_row == 0 { 0 } else { pkt.time - probes.last };
            probes.in_a_row += 1;
            if probes.count == 0 {
                probes.first = pkt.time;
            }
            probes.count += 1;
            probes.last = pkt.time;
            probes.frame = pkt.frame;
        }
    }

    /// Whether the reset at this place was challenged or ignored.
    pub fn was_refused(&self, reset: &Reset) -> bool {
        matches!(reset.effect, Effect::Judged(ResetEffect::Challenged(_) | ResetEffect::Ignored(_)))
    }

    /// Gives back memory that a connection that is over does not need.
    pub fn shrink(&mut self) {
        let oldest = self.next.min(self.before.len());
        self.before.rotate_left(oldest);
        self.before.shrink_to_fit();
        self.next = 0;
        for side in self.sides.iter_mut().chain(self.at_reset.as_deref_mut().into_iter().flatten()) {
            side.shrink();
        }
        self.head.shrink_to_fit();
        self.after.shrink_to_fit();
        self.resets.shrink_to_fit();
    }
}
