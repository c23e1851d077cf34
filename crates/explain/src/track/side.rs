//! One direction of a connection: what its sender has sent so far.

use super::message::Followed;
use crate::http::{Asked, HttpMessage, Lacks};
use crate::packet::{Endpoint, Frame, Pkt, ahead};
use crate::protocol::{self, Protocol};
use crate::segment::Segment;
use lastack_wire::TcpFlags;
use std::ops::{Deref, DerefMut};

/// Ranges that are kept of data that came out of order.
const RANGES: usize = 16;

/// The options of a SYN, and its window: they distinguish stacks, and tools that forge packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Bytes of options.
    pub size: u8,
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale.
    pub scale: Option<u8>,
    /// Timestamps.
    pub timestamps: bool,
    /// SACK permitted.
    pub sack: bool,
}

/// Unacknowledged segments of one byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stuck {
    /// The first byte that is not acknowledged.
    pub seq: u32,
    /// How often it was sent since the last progress.
    pub sends: u32,
    /// When it was sent first.
    pub first: i64,
    /// When it was sent last.
    pub last: i64,
    /// The pause before the last send.
    pub spacing: i64,
}

/// Unanswered keep-alive or window probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probes {
    /// How many since the peer's last packet.
    pub count: u32,
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
    /// The pause before the last one.
    pub spacing: i64,
    /// The last one's place.
    pub frame: Frame,
    /// How many since the last data of either end, answered or not.
    pub in_a_row: u32,
}

/// One end, as far as its packets show. The fields of an end that sent data or closed are behind a pointer ([`Dialog`]): in a flood
/// nearly every connection is one packet.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Its address and port.
    pub at: Endpoint,
    /// Packets, copies apart.
    pub packets: u64,
    /// Bytes of payload, repetitions apart.
    pub bytes: u64,
    /// Its first SYN or SYN|ACK.
    pub syn: Option<Pkt>,
    /// SYNs it sent.
    pub syns: u32,
    /// The last SYN.
    pub last_syn: i64,
    /// The properties of its SYN.
    pub options: SynOptions,
    /// Whether `nxt` and `max` mean something.
    pub started: bool,
    /// The end of what it sent without a gap, as seen here.
    pub nxt: u32,
    /// The end of all that it sent.
    pub max: u32,
    /// The highest number it acknowledged.
    pub ack: Option<u32>,
    /// The last window it offered, scaled if the scale is known.
    pub window: Option<u32>,
    /// Its last packet that is no RST.
    pub last: Option<Pkt>,
    /// Hop limit of its SYN.
    pub syn_ttl: Option<u8>,
    /// Hop limit of its last packet that is no RST.
    pub ttl: Option<u8>,
    /// The lowest and the highest hop limit of packets that are no RST.
    pub ttl_range: (u8, u8),
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The connection has timestamps on this side.
    pub timestamps: bool,
    /// The largest window it offered since the peer began its run of payload.
    pub window_peak: u32,
    dialog: Option<Box<Dialog>>,
}

/// What an end has that sent data, closed, or was probed. An end that did nothing of it has the default.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Its first FIN.
    pub fin: Option<Pkt>,
    /// FINs it sent.
    pub fins: u32,
    /// The last FIN.
    pub last_fin: i64,
    pub(super) ranges: Vec<(u32, u32)>,
    /// Since when it has offered no window.
    pub shut_since: Option<i64>,
    /// ACKs with a shut window since then.
    pub shut_acks: u32,
    /// The peer sent probes into the shut window.
    pub shut_probes: u32,
    /// The end of what it reported by SACK last.
    pub sack: Option<u32>,
    /// Since when it has reported a gap without progress.
    pub gap_since: Option<i64>,
    /// What it acknowledged of a direction that is not in the capture.
    pub heard: super::Heard,
    /// Its first packet with payload.
    pub first_data: Option<Pkt>,
    /// Its last packet with payload.
    pub last_data: Option<Pkt>,
    /// Retransmissions without progress.
    pub stuck: Stuck,
    /// The highest number of sends of one byte.
    pub max_sends: u32,
    /// Repeated sends altogether.
    pub repeats: u32,
    /// Keep-alive probes without answer.
    pub probes: Probes,
    /// The protocol of its first bytes.
    pub protocol: Option<Protocol>,
    /// Its first bytes were captured, and are typical of no protocol.
    pub is_unrecognized: bool,
    /// Bytes since the peer's last payload.
    pub run: u64,
    /// The first packet of them.
    pub run_start: Option<Pkt>,
    /// The HTTP message that it sent last.
    pub(super) http: Option<Box<Followed>>,
    /// What its last HTTP request asked for.
    pub(super) asked: Asked,
    /// Its run begins an HTTP request whose head is not complete in its first packet, and nothing followed.
    pub is_partial_request: bool,
    /// Segments of the run that begin an HTTP request, or a final answer to one.
    pub messages: u32,
    /// Runs of payload: questions or answers.
    pub runs: u32,
    /// A fatal TLS alert in clear.
    pub alert: Option<(u8, Frame)>,
    /// The last line that reports an error.
    pub error: Option<(Box<str>, Frame)>,
    /// What it sent last, and whether that contradicts itself.
    pub payloads: super::conflict::Payloads,
    /// It sent TLS records.
    pub tls: bool,
    /// What it sent last is the closing message of its protocol, which needs no answer.
    pub said_goodbye: bool,
    /// Bytes that the peer acknowledged and that are not in the capture.
    pub unseen: u32,
    /// The last of these bytes, from where to where.
    pub(super) skipped: (u32, u32),
    /// The most payload that one packet had.
    pub largest: u32,
}

impl Dialog {
    const NOTHING: Self = Self {
        fin: None,
        fins: 0,
        last_fin: 0,
        ranges: Vec::new(),
        shut_since: None,
        shut_acks: 0,
        shut_probes: 0,
        sack: None,
        gap_since: None,
        first_data: None,
        last_data: None,
        stuck: Stuck { seq: 0, sends: 0, first: 0, last: 0, spacing: 0 },
        heard: super::Heard::NONE,
        max_sends: 0,
        repeats: 0,
        probes: Probes { count: 0, first: 0, last: 0, spacing: 0, frame: Frame::new(0, 0), in_a_row: 0 },
        protocol: None,
        is_unrecognized: false,
        run: 0,
        run_start: None,
        http: None,
        asked: Asked::Other,
        is_partial_request: false,
        messages: 0,
        runs: 0,
        alert: None,
        error: None,
        payloads: super::conflict::Payloads::NONE,
        tls: false,
        said_goodbye: false,
        unseen: 0,
        skipped: (0, 0),
        largest: 0,
    };
}

impl Deref for Side {
    type Target = Dialog;

    fn deref(&self) -> &Dialog {
        static NOTHING: Dialog = Dialog::NOTHING;
        self.dialog.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Side {
    fn deref_mut(&mut self) -> &mut Dialog {
        self.dialog.get_or_insert_with(|| Box::new(Dialog::NOTHING))
    }
}

impl Probes {
    /// Whether the distances between them grow: so a sender probes a shut window, and not an idle connection.
    pub fn backs_off(&self) -> bool {
        let even = self.spacing * i64::from(self.count.saturating_sub(1));
        self.count >= 3 && (self.last - self.first) * 5 < even * 4
    }
}

/// What is known of the peer when an end sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The highest number that it has acknowledged.
    pub answered: Option<u32>,
    /// None of its packets is in the capture so far.
    pub is_unseen: bool,
}

impl Side {
    /// An end that has sent nothing yet.
    pub(super) fn new(at: Endpoint) -> Self {
        Self { at, ..Self::default() }
    }

    /// Gives back the memory of what is needed only while packets come.
    pub(super) fn shrink(&mut self) {
        if let Some(dialog) = &mut self.dialog {
            dialog.payloads.shrink();
        }
    }

    /// Whether it acknowledges `number`, as far as is known.
    pub fn has_acked(&self, number: u32) -> bool {
        self.ack.is_some_and(|ack| ahead(ack, number) >= 0)
    }

    /// Its FIN's number, which an ACK of `+1` acknowledges.
    pub fn fin_seq(&self) -> Option<u32> {
        self.fin.map(|fin| fin.seq.wrapping_add(fin.len))
    }

    /// Takes note of a packet that is neither a RST nor a copy. Returns the bytes of payload that are new.
    pub(super) fn sends(&mut self, segment: &Segment<'_>, pkt: &Pkt, peer: Peer) -> u32 {
        let first = self.packets == 0;
        self.packets += 1;
        self.mac = segment.mac;
        self.ttl = Some(pkt.ttl);
        self.ttl_range = if first {
            (pkt.ttl, pkt.ttl)
        } else {
            (self.ttl_range.0.min(pkt.ttl), self.ttl_range.1.max(pkt.ttl))
        };
        self.timestamps |= pkt.tsval.is_some();
        if pkt.has(TcpFlags::SYN) {
            self.opens(segment, pkt);
        }
        if pkt.has(TcpFlags::FIN) {
            self.fins += 1;
            self.last_fin = pkt.time;
            self.fin.get_or_insert(*pkt);
        }
        if pkt.has(TcpFlags::ACK) {
            self.acknowledges(pkt);
        }
        let new = self.advance(pkt, peer);
        self.last = Some(*pkt);
        new
    }

    /// Compares its payload with what it sent before.
    pub(super) fn compare(&mut self, segment: &Segment<'_>, pkt: &Pkt) {
        if pkt.len > 0 {
            let max = self.started.then_some(self.max);
            self.payloads.add(segment, pkt, max);
        }
    }

    fn opens(&mut self, segment: &Segment<'_>, pkt: &Pkt) {
        self.syns += 1;
        self.last_syn = pkt.time;
        if self.syn.is_none() {
            let options = &segment.header.options;
            self.syn = Some(*pkt);
            self.syn_ttl = Some(pkt.ttl);
            self.options = SynOptions {
                size: segment.options_size,
                mss: options.mss,
                scale: options.window_scale,
                timestamps: options.timestamps.is_some(),
                sack: options.sack_permitted,
            };
        }
    }

    fn acknowledges(&mut self, pkt: &Pkt) {
        // An ACK that was overtaken says what was true before: neither its SACK nor its window counts.
        if self.ack.is_some_and(|ack| ahead(pkt.ack, ack) < 0) && !pkt.has(TcpFlags::SYN) {
            return;
        }
        let progress = self.ack.is_none_or(|ack| ahead(pkt.ack, ack) > 0);
        if progress {
            self.ack = Some(pkt.ack);
        }
        match pkt.sack {
            Some(end) if ahead(end, pkt.ack) > 0 => {
                self.sack = Some(end);
                if progress || self.gap_since.is_none() {
                    self.gap_since = Some(pkt.time);
                }
            }
            _ if progress && self.sack.is_some() => (self.sack, self.gap_since) = (None, None),
            _ => {}
        }
        let shift = if pkt.has(TcpFlags::SYN) { 0 } else { self.options.scale.unwrap_or(0).min(14) };
        let window = u32::from(pkt.window) << shift;
        self.window = Some(window);
        self.window_peak = self.window_peak.max(window);
        if window > 0 {
            if self.shut_since.is_some() || self.shut_probes > 0 {
                (self.shut_since, self.shut_acks, self.shut_probes) = (None, 0, 0);
            }
        } else if !pkt.has(TcpFlags::SYN) {
            self.shut_since.get_or_insert(pkt.time);
            self.shut_acks += 1;
        }
    }

    fn advance(&mut self, pkt: &Pkt, peer: Peer) -> u32 {
        let (seq, end) = (pkt.seq, pkt.end());
        if !self.started {
            (self.started, self.nxt, self.max) = (true, end, end);
            if pkt.len > 0 {
                self.stuck = Stuck { seq, sends: 1, first: pkt.time, last: pkt.time, spacing: 0 };
            }
            return pkt.len;
        }
        // The peer acknowledged what was not seen here: capture loss, or a capture of one direction.
        if let Some(answered) = peer.answered
            && ahead(answered, self.nxt) > 0
        {
            self.unseen = self.unseen.saturating_add(ahead(answered, self.nxt).unsigned_abs());
            self.skipped = (self.nxt, answered);
            self.nxt = answered;
            self.join();
            if ahead(self.nxt, self.max) > 0 {
                self.max = self.nxt;
            }
        }
        if pkt.span() == 0 {
            return 0;
        }
        // Its acknowledgment was captured before it.
        if pkt.len > 0 && ahead(seq, self.skipped.0) >= 0 && ahead(end, self.skipped.1) <= 0 {
            self.unseen = self.unseen.saturating_sub(pkt.span());
            self.skipped.0 = end;
            return pkt.len;
        }
        let new = if ahead(end, self.max) > 0 {
            let fresh = ahead(end, self.max).unsigned_abs().min(pkt.span());
            self.max = end;
            fresh
        } else {
            0
        };
        if ahead(seq, self.nxt) <= 0 {
            if ahead(end, self.nxt) > 0 {
                self.nxt = end;
                self.join();
            }
        } else if self.ranges.len() < RANGES {
            self.ranges.push((seq, end));
        }
        // Where the peer's ACKs are not in the capture, new data says that the old arrived.
        if peer.is_unseen && new > 0 {
            self.stuck.sends = 0;
        }
        self.count_sends(pkt, new);
        new.min(pkt.len)
    }

    /// Takes over the ranges that are without a gap now.
    fn join(&mut self) {
        while let Some(at) = self.ranges.iter().position(|&(start, _)| ahead(start, self.nxt) <= 0) {
            let (_, end) = self.ranges.swap_remove(at);
            if ahead(end, self.nxt) > 0 {
                self.nxt = end;
            }
        }
    }

    fn count_sends(&mut self, pkt: &Pkt, new: u32) {
        if pkt.has(TcpFlags::SYN) {
            return;
        }
        if new == 0 && self.stuck.sends > 0 && pkt.seq == self.stuck.seq {
            self.stuck.sends += 1;
            self.repeats += 1;
            self.stuck.spacing = pkt.time - self.stuck.last;
            self.stuck.last = pkt.time;
            self.max_sends = self.max_sends.max(self.stuck.sends);
        } else if self.stuck.sends == 0 || (new == 0 && ahead(pkt.seq, self.stuck.seq) < 0) {
            self.stuck = Stuck { seq: pkt.seq, sends: 1, first: pkt.time, last: pkt.time, spacing: 0 };
        }
    }

    /// The peer acknowledged up to `ack`: what it acknowledges is not stuck.
    pub(super) fn acked_by_peer(&mut self, ack: u32) {
        self.is_answered();
        if self.stuck.sends > 0 && ahead(ack, self.stuck.seq) > 0 {
            self.stuck.sends = 0;
        }
    }

    /// The peer sent something: its probes are answered.
    pub(super) fn is_answered(&mut self) {
        if self.probes.count > 0 {
            self.probes.count = 0;
        }
    }

    /// Takes note of payload: `new` bytes of it. `turn`: the peer was the last to send payload. `asked`: what its last request
    /// was.
    pub(super) fn says(&mut self, segment: &Segment<'_>, pkt: &Pkt, new: u32, turn: bool, asked: Asked) {
        if new > 0 {
            self.bytes += u64::from(new);
            self.follow(segment, pkt, turn || self.run_start.is_none(), asked);
            if turn || self.run_start.is_none() {
                self.run = 0;
                self.messages = 0;
                self.runs += 1;
                self.run_start = Some(*pkt);
                self.is_partial_request = protocol::is_partial_request(segment.payload, pkt.len);
            }
            self.is_partial_request &= self.run == 0;
            self.run += u64::from(new);
            self.messages += u32::from(protocol::begins_http(segment.payload));
        }
        self.largest = self.largest.max(pkt.len);
        if self.first_data.is_none() {
            self.first_data = Some(*pkt);
            self.protocol = protocol::recognize_cut(segment.payload, pkt.len);
            self.is_unrecognized = self.protocol.is_none() && segment.payload.len() >= 5;
        }
        self.last_data = Some(*pkt);
        self.said_goodbye = protocol::is_goodbye(segment.payload);
        self.tls |= pkt.tls.is_some();
        if let Some(code) = protocol::clear_alert(segment.payload)
            && (self.tls || self.protocol == Some(Protocol::TlsAlert) || self.protocol.is_none())
        {
            self.alert = Some((code, pkt.frame));
        }
        if pkt.tls.is_none() && new > 0 {
            match protocol::error_line(segment.payload) {
                Some(line) => self.error = Some((line.into(), pkt.frame)),
                None if turn => self.error = None,
                None => {}
            }
        }
    }

    /// Bytes by which its window fell below what it was while the peer sent `run` bytes: it does not read them.
    pub fn unread_by_window(&self, run: u64) -> u64 {
        let fallen = u64::from(self.window_peak.saturating_sub(self.window.unwrap_or(0)));
        if fallen >= 2000 && fallen * 4 >= run { fallen } else { 0 }
    }

    /// Follows the HTTP message that begins with this payload, or has begun. `turn`: the peer was the last to send payload.
    fn follow(&mut self, segment: &Segment<'_>, pkt: &Pkt, turn: bool, asked: Asked) {
        if turn && protocol::http_begins(segment.payload) {
            self.asked = Asked::of(segment.payload);
            self.http = Some(Box::new(Followed::new(HttpMessage::new(asked), pkt.seq)));
        } else if turn && self.http.as_ref().is_some_and(|http| http.lacks(pkt.seq).is_none()) {
            self.http = None;
        }
        if let Some(http) = &mut self.http {
            http.read(segment.payload, pkt.seq, pkt.len);
        }
    }

    /// The end of the data that it sent without a gap.
    fn data_end(&self) -> u32 {
        self.fin_seq().filter(|fin| ahead(self.nxt, *fin) > 0).unwrap_or(self.nxt)
    }

    /// What the HTTP message lacks that it sent last, and how many bytes of it there are.
    pub fn lacks(&self) -> Option<(u64, Lacks)> {
        self.http.as_ref()?.lacks(self.data_end())
    }

    /// Whether the message that it sent last is not complete, by what its head promised.
    pub fn is_cut_short(&self) -> bool {
        self.lacks().is_some()
    }

    /// Whether it is known to be complete.
    pub fn is_whole(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.is_whole(self.data_end()))
    }
}
