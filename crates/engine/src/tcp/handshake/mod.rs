//! The three-way handshake (RFC 9293 section 3.5): a connection in SYN-SENT or SYN-RECEIVED (the SYN queue). It has no
//! buffers.

pub(super) mod active;
pub(super) mod arrives;
pub(super) mod cookies;
pub(super) mod listener;
pub(super) mod negotiate;
pub(super) mod passive;
mod syn;

use crate::counters::TcpSent;
use crate::end::{Cause, End, EndedBy, Header, InitialNumbers, LostBytes, Origin, TimeLimit};
use crate::isn::FlowNumbers;
use crate::seq::{RcvSeq, SndSeq};
use crate::shared::Shared;
use crate::tcp::connection::rcv::Rcv;
use crate::tcp::connection::snd::Snd;
use crate::tcp::connection::user_timeout;
use crate::tcp::connection::{Connection, Opened};
use crate::tcp::handshake::negotiate::Offered;
use crate::tcp::handshake::syn::Syn;
use crate::tcp::segment::{self, Arrival};
use crate::tcp::send::congestion::INITIAL_SEGMENTS;
use crate::tcp::send::ecn::{self, Ecn};
use crate::tcp::send::rtt::Rtt;
use crate::tcp::socket::settings::{Settings, UserInterest};
use crate::tcp::{ConnId, ListenerId, TcpState};
use crate::{FourTuple, Instant, Rule, Transmit};
use alloc::boxed::Box;
use alloc::vec::Vec;
use lastack_wire::ip::IpHeader;
use lastack_wire::tcp::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// The phase of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A SYN was intercepted and the embedder has not decided on it yet.
    AwaitingDecision,
    SynSent,
    SynReceived,
}

/// A connection in SYN-RECEIVED or SYN-SENT.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Handshake {
    pub id: ConnId,
    pub flow: FourTuple,
    pub origin: Origin,
    pub opened: Instant,
    pub phase: Phase,
    /// The listener that the SYN was for.
    pub listener: Option<ListenerId>,
    pub has_user: bool,
    pub settings: Settings,
    pub offered: Offered,
    pub waits: UserInterest,
    pub iss: SndSeq,
    pub irs: RcvSeq,
    /// The peer's SYN: its options and its window.
    pub peer: TcpOptions,
    pub peer_window: u32,
    /// ECN is negotiated.
    pub ecn: bool,
    /// Traffic class of the peer's SYN, for an ICMP error to quote.
    pub traffic_class: u8,
    numbers: FlowNumbers,
    /// When our SYN was first sent.
    first_sent: Option<Instant>,
    retransmissions: u32,
    rtt: Rtt,
    pub deadline: Option<Instant>,
    pub syn_pending: bool,
    pub ack_pending: Option<Rule>,
    /// The reset to be sent before the handshake ends from our side (`Rule::RstCloseInSynReceived`).
    pub reset_pending: Option<Rule>,
    /// The previous connection on the four-tuple is still in TIME-WAIT.
    pub reopens: bool,
    /// The application has closed: a FIN follows the handshake.
    pub closing: bool,
    pub last_answer: Option<Instant>,
    /// The SYN was retransmitted early once already (`Rule::RstBadAckInSynSent`).
    pub syn_resent_early: bool,
    pub end: Option<Box<End>>,
}

impl Handshake {
    /// A handshake that has not begun: an allocation for the next one.
    #[cold]
    pub fn blank() -> Self {
        Self {
            id: ConnId::default(),
            flow: FourTuple::NOWHERE,
            origin: Origin::Active,
            opened: Instant::ZERO,
            phase: Phase::SynSent,
            listener: None,
            has_user: false,
            settings: Settings::plain(),
            offered: Offered::default(),
            waits: UserInterest::default(),
            iss: SndSeq(0),
            irs: RcvSeq(0),
            peer: TcpOptions::default(),
            peer_window: 0,
            ecn: false,
            traffic_class: 0,
            numbers: FlowNumbers::default(),
            first_sent: None,
            retransmissions: 0,
            rtt: Rtt::with([0; 3]),
            deadline: None,
            syn_pending: false,
            ack_pending: None,
            reset_pending: None,
            reopens: false,
            closing: false,
            last_answer: None,
            syn_resent_early: false,
            end: None,
        }
    }

    /// An active open. Every variable gets its first value, in place.
    #[inline]
    pub fn connect(&mut self, shared: &Shared, now: Instant, id: ConnId, flow: &FourTuple) {
        self.begin_as(Origin::Active, shared, now, id, flow);
        self.phase = Phase::SynSent;
        self.has_user = true;
        self.iss = SndSeq(0);
        self.irs = RcvSeq(0);
        self.peer = TcpOptions::default();
        self.peer_window = 0;
        self.ecn = false;
        self.traffic_class = 0;
    }

    /// A passive open: a SYN has arrived. Every variable gets its first value, in place.
    #[inline]
    pub fn passive(&mut self, shared: &Shared, now: Instant, id: ConnId, seg: &Arrival<'_>) {
        self.begin_as(Origin::Passive, shared, now, id, &seg.flow());
        self.phase = Phase::SynReceived;
        self.has_user = false;
        self.iss = self.numbers.initial_sequence_number(now);
        self.irs = seg.seq();
        self.peer = seg.tcp.options;
        self.peer_window = u32::from(seg.tcp.window);
        self.ecn = ecn::is_agreed(shared.config.tcp.ecn, seg);
        self.traffic_class = seg.ip.traffic_class;
    }

    #[inline(never)]
    fn begin_as(&mut self, origin: Origin, shared: &Shared, now: Instant, id: ConnId, flow: &FourTuple) {
        let config = &shared.config.tcp;
        self.id = id;
        self.flow = *flow;
        self.origin = origin;
        self.opened = now;
        self.listener = None;
        self.settings = Settings::new(config);
        self.offered = Offered::new(config);
        self.waits = UserInterest::default();
        self.numbers = shared.secret.of_flow(flow);
        self.first_sent = None;
        self.retransmissions = 0;
        self.rtt = Rtt::new(config);
        self.deadline = None;
        self.syn_pending = true;
        self.ack_pending = None;
        self.reset_pending = None;
        self.reopens = false;
        self.closing = false;
        self.last_answer = None;
        self.syn_resent_early = false;
        self.end = None;
    }

    /// A passive open by SYN cookie: only the last ACK is seen, which carries the rest.
    pub fn of_cookie(
        &mut self,
        shared: &Shared,
        now: Instant,
        id: ConnId,
        seg: &Arrival<'_>,
        (iss, peer): (SndSeq, TcpOptions),
    ) {
        self.passive(shared, now, id, seg);
        self.iss = iss;
        self.irs = seg.seq() - 1;
        self.peer = peer;
    }

    /// Whether a SYN was exchanged: the peer sent one, or ours was sent.
    pub fn syn_exchanged(&self) -> bool {
        self.origin == Origin::Passive || self.first_sent.is_some()
    }

    /// Whether a closed socket is kept for the application once it has ended. An intercepted SYN without a decision
    /// leaves none: its end is reported.
    pub fn leaves_something(&self, end: &End) -> bool {
        self.has_user && (self.phase != Phase::AwaitingDecision || end.by == EndedBy::Application)
    }

    pub fn initial_numbers(&self) -> InitialNumbers {
        let answered = self.phase != Phase::SynSent;
        let chosen = self.syn_exchanged() && self.phase != Phase::AwaitingDecision;
        InitialNumbers { ours: chosen.then_some(self.iss.0), peers: answered.then_some(self.irs.0) }
    }

    pub fn state(&self) -> TcpState {
        match self.phase {
            Phase::SynSent => TcpState::SynSent,
            Phase::AwaitingDecision | Phase::SynReceived => TcpState::SynReceived,
        }
    }

    /// Writes the next segment into `packet`; `None` if there is none to send now.
    pub fn segmentize(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.apply_user_timeout();
        let (tcp, rule) = if let Some(rule) = self.reset_pending.take() {
            shared.counters.tcp_sent(TcpSent::Reset, 1);
            (self.later_header(now, TcpFlags::RST), Some(rule))
        } else if self.end.is_some() || self.phase == Phase::AwaitingDecision {
            return None;
        } else if core::mem::take(&mut self.syn_pending) {
            self.count_syn(shared);
            self.begin(shared, now);
            (self.syn_header(shared, now), None)
        } else {
            let rule = self.ack_pending.take()?;
            shared.counters.tcp_sent(TcpSent::ChallengeAck, 1);
            (self.later_header(now, TcpFlags::empty()), Some(rule))
        };
        let ip = segment::ip_header(&shared.config, &self.flow, self.settings.dscp);
        let ip = IpHeader { hop_limit: self.settings.hop_limit.unwrap_or(ip.hop_limit), ..ip };
        Some(Transmit { rule, ..segment::emit_control(&shared.config, &ip, &tcp, packet) })
    }

    /// Whether [`segmentize`](Self::segmentize) has a segment to send.
    pub fn wants_to_send(&self) -> bool {
        let goes_on = self.end.is_none() && self.phase != Phase::AwaitingDecision;
        self.reset_pending.is_some() || goes_on && (self.syn_pending || self.ack_pending.is_some())
    }

    fn count_syn(&self, shared: &mut Shared) {
        let counters = &mut shared.counters;
        if self.first_sent.is_some() {
            counters.tcp_sent(TcpSent::SynAgain, 1);
        } else {
            counters.tcp_sent(TcpSent::Control, 1);
            counters.tcp_active_opens += u64::from(self.origin == Origin::Active);
        }
    }

    /// The flags of ECN sent with SYN. A retransmitted SYN does not request ECN, since a middlebox may drop
    /// SYNs that do (RFC 3168 section 6.1.1.1).
    fn ecn_flags(&self, ecn: Ecn) -> TcpFlags {
        match self.phase {
            Phase::SynSent if ecn == Ecn::Request && self.retransmissions == 0 => ecn::SETUP,
            Phase::SynSent => TcpFlags::empty(),
            _ if self.ecn => TcpFlags::ECE,
            _ => TcpFlags::empty(),
        }
    }

    /// Records that the SYN is sent.
    fn begin(&mut self, shared: &Shared, now: Instant) {
        match self.first_sent {
            None => {
                self.first_sent = Some(now);
                if self.origin == Origin::Active {
                    self.opened = now;
                    self.iss = self.numbers.initial_sequence_number(now);
                }
            }
            Some(_) => self.retransmissions += 1,
        }
        self.deadline = Some(self.rtt.expiry(now, &shared.config.tcp));
        self.apply_user_timeout();
    }

    /// Limits the deadline to the user timeout, which may have been set after the SYN was sent.
    pub(super) fn apply_user_timeout(&mut self) {
        if let (Some(at), Some(limit)) = (self.deadline, self.settings.rare().user_timeout) {
            self.deadline = Some(at.min(self.opened + limit));
        }
    }

    /// The header of our SYN or SYN|ACK.
    fn syn_header(&self, shared: &Shared, now: Instant) -> TcpHeader {
        let syn = Syn {
            flow: &self.flow,
            iss: self.iss,
            answers: (self.phase == Phase::SynReceived).then_some((self.irs, &self.peer)),
            flags: TcpFlags::SYN | self.ecn_flags(shared.config.tcp.ecn),
            offered: &self.offered,
            clock: self.clock(now),
        };
        let mut header = syn.header(&shared.config);
        let options = &mut header.options;
        options.mss = options.mss.map(|mss| mss.min(self.max_segment()));
        options.user_timeout = self.settings.rare().advertised_user_timeout.map(user_timeout::field);
        header
    }

    /// The header of an ACK or a RST in SYN-RECEIVED.
    fn later_header(&self, now: Instant, flags: TcpFlags) -> TcpHeader {
        let negotiated = self.offered.negotiate(self.flow.remote.ip(), &self.peer);
        let ecr = self.peer.timestamps.map_or(0, |peer| peer.val);
        let timestamps = negotiated.timestamps.then(|| Timestamps { val: self.clock(now), ecr });
        let fields = segment::Fields {
            seq: (self.iss + 1).0,
            ack: Some((self.irs + 1).0),
            flags,
            window: (self.offered.window() >> negotiated.rcv_shift) as u16,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
        };
        fields.header(&self.flow)
    }

    /// TSval.
    fn clock(&self, now: Instant) -> u32 {
        negotiate::timestamp(now, self.numbers.timestamp_offset)
    }

    /// Whether our SYN was not sent yet.
    pub fn is_unsent(&self) -> bool {
        self.first_sent.is_none()
    }

    /// The limit set by the application (`TCP_MAXSEG`).
    fn max_segment(&self) -> u16 {
        self.settings.max_segment.unwrap_or(u16::MAX)
    }

    /// The header of the reset that refuses an intercepted SYN (`Rule::RstIntercepted`): as for `Rule::RstNoListener`.
    pub fn refusal_header(&self) -> TcpHeader {
        let ack = Some((self.irs + 1).0);
        let fields = segment::Fields { ack, flags: TcpFlags::RST, ..segment::Fields::default() };
        fields.header(&self.flow)
    }

    /// The header of the peer's SYN, as far as it is kept, for an ICMP error to quote.
    pub fn peers_syn_header(&self) -> TcpHeader {
        let fields = segment::Fields {
            seq: self.irs.0,
            ack: None,
            flags: TcpFlags::SYN,
            window: self.peer_window as u16,
            options: self.peer,
        };
        fields.header_between(self.flow.remote.port(), self.flow.local.port())
    }

    /// The deadline has expired: retransmit the SYN, or give up (`Rule::EndSynAckTimeout`, `Rule::EndSynTimeout`).
    pub fn expire(&mut self, shared: &mut Shared, now: Instant) {
        if self.deadline.is_none_or(|at| at > now) || self.end.is_some() {
            return;
        }
        self.deadline = None;
        if self.phase == Phase::AwaitingDecision {
            return self.finish(
                Cause::TimedOut(TimeLimit::Handshake),
                EndedBy::Stack,
                Rule::EndInterceptionTimeout,
                None,
                now,
            );
        }
        shared.counters.tcp_timeouts += 1;
        let config = &shared.config.tcp;
        let (retries, rule) = match self.phase {
            Phase::SynSent => (config.syn_retries, Rule::EndSynTimeout),
            Phase::AwaitingDecision => return,
            Phase::SynReceived => (config.syn_ack_retries, Rule::EndSynAckTimeout),
        };
        let late = self.settings.rare().user_timeout.is_some_and(|limit| now - self.opened >= limit);
        if self.retransmissions >= retries || late {
            return self.finish(Cause::TimedOut(TimeLimit::Handshake), EndedBy::Stack, rule, None, now);
        }
        // A SYN retransmitted early does not back off: nothing was lost.
        if self.retransmissions > 0 || !self.syn_resent_early {
            self.rtt.back_off();
        }
        self.syn_pending = true;
    }

    /// The initial window: one segment if more than one SYN was lost (RFC 5681 section 3.1, RFC 6928 section 2), as on
    /// Linux. None was lost if the answer echoes the timestamp of the first.
    fn initial_segments(&self) -> u32 {
        let lost = self.retransmissions > 1 + u32::from(self.syn_resent_early);
        let first = self.first_sent.map(|at| negotiate::timestamp(at, self.numbers.timestamp_offset));
        let answers_first =
            self.origin == Origin::Active && self.peer.timestamps.is_some_and(|echo| first == Some(echo.ecr));
        if lost && !answers_first { 1 } else { INITIAL_SEGMENTS }
    }

    /// The handshake ends without a connection.
    pub fn finish(&mut self, cause: Cause, by: EndedBy, rule: Rule, trigger: Option<Header>, now: Instant) {
        self.end = Some(Box::new(End {
            cause,
            by,
            rule,
            state: self.state(),
            trigger,
            peer_said: None,
            inferred: None,
            lost: LostBytes::default(),
            at: now,
        }));
    }

    /// The handshake is complete: `connection` becomes the connection that it has made.
    // Not inlined: its variables would take part in the stack frame of every arrival.
    #[inline(never)]
    pub fn establish(&mut self, shared: &Shared, now: Instant, connection: &mut Connection) {
        let config = &shared.config;
        let mut negotiated = self.offered.negotiate(self.flow.remote.ip(), &self.peer);
        negotiated.peer_mss = negotiated.peer_mss.min(self.max_segment());
        let window = self.offered.window();
        let ts_recent = self.peer.timestamps.map_or(0, |t| t.val);
        let mut rtt = self.rtt;
        rtt.progress();
        match self.first_sent.filter(|_| self.retransmissions == 0) {
            Some(sent) => rtt.measure(now - sent, &config.tcp),
            // A SYN retransmitted early was not lost.
            None if self.retransmissions > u32::from(self.syn_resent_early) => rtt.fall_back(&config.tcp),
            None => {}
        }
        let opened = Opened {
            id: self.id,
            flow: &self.flow,
            origin: self.origin,
            opened: self.opened,
            negotiated,
            ts_offset: self.numbers.timestamp_offset,
            snd: Snd::new(self.iss, self.irs, self.peer_window),
            rcv: Rcv::new(self.irs, window, negotiated.rcv_shift, ts_recent, now),
            rtt,
            settings: core::mem::replace(&mut self.settings, Settings::plain()),
            receive_buffer: self.offered.receive_buffer,
            waits: UserInterest { blocked: false, ..self.waits },
            has_user: self.has_user || self.listener.is_some(),
            closing: self.closing,
            ecn: self.ecn,
            initial_segments: self.initial_segments(),
            syns: 1 + self.retransmissions,
            // The ACK rate limit of a passive handshake does not carry over.
            last_challenge: self.last_answer.filter(|_| self.origin == Origin::Active),
            peer_user_timeout: self.peer.user_timeout.and_then(user_timeout::time),
        };
        connection.open(shared, now, opened);
    }
}
