//! A connection in a synchronized state: its variables (the TCB of RFC 9293 section 3.3.1), and how it ends.

pub(super) mod ack;
pub(super) mod ack_hold;
pub(super) mod arrives;
mod buffers;
mod calls;
pub(super) mod check;
pub(super) mod expire;
pub(super) mod icmp;
mod info;
mod memory;
mod mtu_probing;
mod pacing;
pub(super) mod parked;
pub(super) mod pending;
mod plan;
mod prediction;
pub(super) mod rcv;
pub(super) mod retries;
mod segmentize;
pub(super) mod snd;
pub(super) mod state;
pub(super) mod stats;
pub(super) mod timers;
pub(super) mod user_timeout;

use crate::buffer::{RecvBuffer, SendRing};
use crate::end::{
    ByteCounts, Cause, End, Ended, EndedBy, Header, InitialNumbers, LikelyCause, LostBytes, Origin,
};
use crate::event::Event;
use crate::seq::{RcvSeq, SndSeq};
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::pending::Pending;
use crate::tcp::connection::rcv::Rcv;
use crate::tcp::connection::snd::Snd;
use crate::tcp::connection::state::{Next, State};
use crate::tcp::connection::stats::{LossStats, Stats};
use crate::tcp::connection::timers::Timers;
use crate::tcp::handshake::negotiate::Negotiated;
use crate::tcp::recv::ack_policy::AckPolicy;
use crate::tcp::recv::autotune::{self, RcvBufTuner};
use crate::tcp::segment;
use crate::tcp::send::congestion::{Algorithm, Congestion, SlowStartExit};
use crate::tcp::send::ecn::EcnState;
use crate::tcp::send::mtu_discovery::{self, MtuDiscovery};
use crate::tcp::send::pacing::Pacer;
use crate::tcp::send::records::Records;
use crate::tcp::send::recovery::Recovery;
use crate::tcp::send::rtt::Rtt;
use crate::tcp::socket::settings::{Settings, UserInterest};
use crate::{FourTuple, Instant, Rule};
use alloc::boxed::Box;
pub(in crate::tcp) use calls::Consumed;
use core::net::IpAddr;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp::HeaderTemplate;

/// The transmission control block of RFC 9293 section 3.3.1, from ESTABLISHED to LAST-ACK.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Connection {
    pub id: ConnId,
    pub flow: FourTuple,
    /// The headers of its segments.
    pub template: HeaderTemplate,
    pub state: State,
    pub negotiated: Negotiated,
    pub ts_offset: u32,
    /// Eff.snd.MSS
    pub mss: u32,
    /// The search for a larger path MTU (RFC 4821).
    pub search: Option<Box<MtuDiscovery>>,
    pub snd: Snd,
    pub rcv: Rcv,
    pub outgoing: SendRing,
    /// How much of `outgoing` may be used.
    pub send_limit: usize,
    /// The periods in which it was last counted among those that share the cache with their send buffers, and among those
    /// that share the path with their windows.
    pub shared_in: [u32; 2],
    pub incoming: RecvBuffer,
    pub reading: RcvBufTuner,
    pub rtt: Rtt,
    pub congestion: Congestion,
    pub recovery: Recovery,
    pub marks: EcnState,
    pub timers: Timers,
    pub pending: Pending,
    pub ack_policy: AckPolicy,
    /// The end of the last small segment sent, as a stream position: the Nagle algorithm.
    pub small: u64,
    /// The next end of data that is pushed (PSH), as a stream position: within a long write, or the end of the last.
    pub pushed: u64,
    /// The end of the last write, as a stream position, unless more was to follow.
    pub written: u64,
    /// The ends of records that segments must not span.
    pub records: Option<Box<Records>>,
    pub settings: Settings,
    pub waits: UserInterest,
    /// Whether the application holds its id. An orphan has no user.
    pub has_user: bool,
    /// Since when nothing was acknowledged although data is unacknowledged.
    pub stalled_since: Option<Instant>,
    /// When a segment was last received, and last sent.
    pub last_received: Instant,
    pub sent: Instant,
    /// When data was last sent; `None`: not since the congestion window was reduced after an idle period.
    pub data_sent: Option<Instant>,
    /// Unanswered window or keep-alive probes.
    pub probes: u32,
    /// The last ICMP error that did not end the connection (RFC 5927 section 5.2).
    pub soft_error: Option<Box<(IcmpError, IpAddr)>>,
    pub bytes: ByteCounts,
    pub stats: Stats,
    /// How the connection ends, once that is decided.
    pub fate: Option<Closing>,
    pub cold: Box<Cold>,
}

/// The variables of a connection that few segments touch.
#[derive(Debug)]
pub(crate) struct Cold {
    pub origin: Origin,
    pub opened: Instant,
    pub established: Instant,
    /// Used only if pacing is on.
    pub pacer: Pacer,
    /// When the last rate-limited ACK was sent (RFC 5961 section 7).
    pub last_challenge: Option<Instant>,
    /// USER TIMEOUT that the peer advertised (RFC 5482).
    pub peer_user_timeout: Option<Duration>,
    pub losses: LossStats,
}

/// The fate of a connection whose end is decided.
#[derive(Debug)]
pub(crate) enum Closing {
    /// A reset is sent first.
    Resetting(Box<Ended>),
    TimeWait(Box<Ended>),
    Closed(Box<Ended>),
}

/// Why a connection ends; becomes part of an [`End`].
#[derive(Debug)]
pub(crate) struct Ending {
    pub cause: Cause,
    pub by: EndedBy,
    pub rule: Rule,
    pub trigger: Option<Header>,
    pub peer_said: Option<ResetReason>,
    pub inferred: Option<LikelyCause>,
}

impl Ending {
    pub fn new(cause: Cause, by: EndedBy, rule: Rule) -> Self {
        Self { cause, by, rule, trigger: None, peer_said: None, inferred: None }
    }

    pub fn by_segment(self, trigger: Header) -> Self {
        Self { trigger: Some(trigger), ..self }
    }
}

/// The state that a new connection takes over from its handshake.
pub(crate) struct Opened<'a> {
    pub id: ConnId,
    pub flow: &'a FourTuple,
    pub origin: Origin,
    pub opened: Instant,
    pub negotiated: Negotiated,
    pub ts_offset: u32,
    pub snd: Snd,
    pub rcv: Rcv,
    pub rtt: Rtt,
    pub settings: Settings,
    /// Max size of the receive buffer, as the SYN announced it.
    pub receive_buffer: usize,
    pub waits: UserInterest,
    pub has_user: bool,
    /// The application has closed already: a FIN follows the handshake.
    pub closing: bool,
    /// ECN is negotiated.
    pub ecn: bool,
    /// The initial window.
    pub initial_segments: u32,
    /// Number of times our SYN was sent.
    pub syns: u32,
    pub last_challenge: Option<Instant>,
    pub peer_user_timeout: Option<Duration>,
}

impl Connection {
    /// A connection without state, in CLOSED: an allocation for [`open`](Self::open).
    #[cold]
    pub fn blank() -> Self {
        let flow = FourTuple::NOWHERE;
        let (ours, peers) = (SndSeq(0), RcvSeq(0));
        Self {
            id: ConnId::default(),
            flow,
            template: segment::template(&flow, false),
            state: State::Established,
            negotiated: Negotiated::default(),
            ts_offset: 0,
            mss: 0,
            search: None,
            snd: Snd::new(ours, peers, 0),
            rcv: Rcv::new(peers, 0, 0, 0, Instant::ZERO),
            outgoing: SendRing::new(0),
            send_limit: 0,
            shared_in: [0; 2],
            incoming: RecvBuffer::new(0, 0),
            reading: RcvBufTuner::new(Instant::ZERO),
            rtt: Rtt::with([0; 3]),
            congestion: Congestion::new(Algorithm::Reno, SlowStartExit::default(), 0, 0),
            recovery: Recovery::new(ours, false),
            marks: EcnState::new(false),
            timers: Timers::default(),
            pending: Pending::default(),
            ack_policy: AckPolicy::default(),
            small: 0,
            pushed: 0,
            written: 0,
            records: None,
            settings: Settings::plain(),
            waits: UserInterest::default(),
            has_user: false,
            stalled_since: None,
            last_received: Instant::ZERO,
            sent: Instant::ZERO,
            data_sent: None,
            probes: 0,
            soft_error: None,
            bytes: ByteCounts::default(),
            stats: Stats::new(Origin::Active, Instant::ZERO, 1),
            fate: None,
            cold: Box::new(Cold {
                origin: Origin::Active,
                opened: Instant::ZERO,
                established: Instant::ZERO,
                pacer: Pacer::default(),
                last_challenge: None,
                peer_user_timeout: None,
                losses: LossStats::new(1, None),
            }),
        }
    }

    /// Enters ESTABLISHED with what its handshake has agreed on. Every variable gets its first value in place: a
    /// connection is large, and is not moved.
    #[inline]
    pub fn open(&mut self, shared: &Shared, now: Instant, opened: Opened<'_>) {
        let config = &shared.config.tcp;
        let remote = opened.flow.remote.ip();
        let (mss, search) = mtu_discovery::first_size(shared, now, &opened.negotiated, remote);
        self.id = opened.id;
        self.flow = *opened.flow;
        self.template = segment::template(opened.flow, opened.negotiated.timestamps);
        self.state = if opened.closing { State::FinWait1 } else { State::Established };
        self.negotiated = opened.negotiated;
        self.ts_offset = opened.ts_offset;
        self.mss = mss;
        self.search = search;
        self.outgoing = SendRing::new(config.send_buffer);
        self.send_limit = autotune::initial_send_buffer(config);
        self.shared_in = [0; 2];
        self.incoming = RecvBuffer::new(
            autotune::initial_receive_buffer(opened.receive_buffer, &opened.settings),
            config.max_ooo_ranges,
        );
        self.reading = RcvBufTuner::new(now);
        self.recovery.restart(opened.snd.una, opened.negotiated.sack);
        self.congestion =
            Congestion::new(config.congestion, config.slow_start_exit, mss, opened.initial_segments);
        self.marks = EcnState::new(opened.ecn);
        self.small = 0;
        self.pushed = 0;
        self.written = 0;
        self.records = None;
        self.snd = opened.snd;
        self.rcv = opened.rcv;
        self.timers = Timers::default();
        // With a SYN cookie the listener does not keep this option of the SYN: repeat it (RFC 5482 section 3).
        let user_timeout = opened.settings.rare().advertised_user_timeout.is_some();
        self.pending = Pending { user_timeout, ..Pending::default() };
        self.ack_policy = AckPolicy::default();
        self.settings = opened.settings;
        self.waits = opened.waits;
        self.has_user = opened.has_user;
        self.stalled_since = None;
        self.last_received = now;
        self.sent = now;
        self.data_sent = None;
        self.probes = 0;
        self.soft_error = None;
        self.bytes = ByteCounts::default();
        self.stats = Stats::new(opened.origin, now, opened.syns);
        self.fate = None;
        self.cold.origin = opened.origin;
        self.cold.opened = opened.opened;
        self.cold.established = now;
        self.cold.pacer = Pacer::default();
        self.cold.last_challenge = opened.last_challenge;
        self.cold.peer_user_timeout = opened.peer_user_timeout;
        self.cold.losses = LossStats::new(opened.syns, opened.rtt.srtt());
        self.rtt = opened.rtt;
    }

    /// The sequence number after the last byte in the send buffer: that of our FIN.
    pub fn end_of_data(&self) -> SndSeq {
        self.snd.una + self.outgoing.len() as u32
    }

    pub fn initial_numbers(&self) -> InitialNumbers {
        InitialNumbers { ours: Some(self.snd.iss.0), peers: Some(self.rcv.irs.0) }
    }

    /// Whether all data written, and our FIN, is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.outgoing.is_empty() && !self.state.fin_pending()
    }

    /// Performs a transition of the state machine.
    pub fn go(&mut self, next: Next, now: Instant) {
        if let Next::State(state) = next {
            self.state = state;
            return;
        }
        // A clean close is attributed to the side that sent the first FIN.
        let by = if self.state == State::LastAck { EndedBy::Peer } else { EndedBy::Application };
        let ended = self.end(Ending::new(Cause::Orderly, by, Rule::EndOrderly), now);
        let waits = matches!(next, Next::TimeWait);
        self.fate = Some(if waits { Closing::TimeWait(ended) } else { Closing::Closed(ended) });
    }

    /// Ends the connection; nothing more is sent.
    pub fn finish(&mut self, ending: Ending, now: Instant) {
        let end = self.end(ending, now);
        self.fate = Some(Closing::Closed(end));
    }

    /// Ends the connection with a reset of ours (RFC 9293 section 3.10.5).
    ///
    /// In CLOSING and LAST-ACK both sides have sent FIN and no reset is sent (`Rule::EndAbortAfterFins`), unless data
    /// is lost: received data that was not read, or our data that was not sent.
    pub fn abort(&mut self, ending: Ending, now: Instant) {
        let mut ended = self.end(ending, now);
        let finished = matches!(self.state, State::Closing | State::LastAck);
        let unsent = !self.snd.nxt.after(self.end_of_data());
        // An administrator's ABORT is silent in these states even if data is lost (`Rule::EndKilledSilently`).
        let rule = ended.end.rule;
        let killed = rule == Rule::EndKilledSilently;
        let silent = finished && (killed || !unsent && rule != Rule::RstUnreadDataAtClose);
        self.outgoing.clear();
        self.pending = Pending { reset: !silent, ..Pending::default() };
        self.fate = Some(if silent {
            ended.end.rule = if killed { rule } else { Rule::EndAbortAfterFins };
            Closing::Closed(ended)
        } else {
            Closing::Resetting(ended)
        });
    }

    /// The end of the connection, once it is decided.
    pub fn decided(&self) -> Option<&End> {
        match self.fate.as_ref()? {
            Closing::Resetting(end) | Closing::TimeWait(end) | Closing::Closed(end) => Some(&end.end),
        }
    }

    /// The record of an end at `now`.
    pub fn end(&self, ending: Ending, now: Instant) -> Box<Ended> {
        let in_flight = self.snd.nxt.earlier(self.end_of_data());
        let unacked = u64::from(in_flight - self.snd.una);
        let reader_gone = !self.has_user || ending.rule == Rule::RstAbort;
        let unread = if reader_gone { self.incoming.len() as u64 } else { 0 };
        let end = End {
            cause: ending.cause,
            by: ending.by,
            rule: ending.rule,
            state: self.state.public(),
            trigger: ending.trigger,
            peer_said: ending.peer_said,
            inferred: ending.inferred,
            lost: LostBytes {
                unsent: self.outgoing.len() as u64 - unacked,
                unacked,
                unread: unread + self.incoming.out_of_order().bytes(),
            },
            at: now,
        };
        Box::new(Ended {
            id: self.id,
            flow: self.flow,
            origin: self.cold.origin,
            opened: self.cold.opened,
            established: Some(self.cold.established),
            numbers: self.initial_numbers(),
            bytes: self.bytes,
            end,
        })
    }

    /// Notifies a waiting reader that the connection is readable.
    pub fn wake_reader(&mut self, shared: &mut Shared) {
        if self.has_user && core::mem::take(&mut self.waits.read) {
            shared.events.push(Event::Readable(self.id));
        }
    }

    /// Notifies a waiting writer that there is room, or that all data is acknowledged.
    #[inline]
    pub fn wake_writer(&mut self, shared: &mut Shared) {
        if self.has_user && (self.waits.write || self.waits.drain) {
            self.wake_waiting_writer(shared);
        }
    }

    fn wake_waiting_writer(&mut self, shared: &mut Shared) {
        let drained = self.waits.drain && self.is_drained();
        let room = self.waits.write && self.is_writable_again(shared);
        if room || drained {
            self.waits.write = false;
            self.waits.blocked = false;
            self.waits.drain = false;
            shared.events.push(Event::Writable(self.id));
        }
    }
}
