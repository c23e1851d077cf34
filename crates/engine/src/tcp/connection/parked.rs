//! An idle connection in compact form, from which the [`Connection`] is restored when anything happens to it.
//!
//! Nothing is in flight, unsent, unread or out of order, and nothing is pending: then the buffers and the scoreboard
//! are empty, no timer but keep-alive runs, and of congestion control and loss recovery only the learned parameters are
//! kept, as between two connections to the same host (RFC 9040).

use super::rcv::Rcv;
use super::snd::Snd;
use super::state::State;
use super::stats::{IdleStats, LossStats};
use super::timers::{Timer, Timers};
use super::{Cold, Connection, Pending};
use crate::Instant;
use crate::buffer::{RecvBuffer, SendRing};
use crate::end::{ByteCounts, FourTuple, Origin};
use crate::seq::{RcvSeq, SndSeq};
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::ack_hold::AckHold;
use crate::tcp::handshake::negotiate::Negotiated;
use crate::tcp::recv::ack_policy::AckPolicy;
use crate::tcp::recv::autotune::RcvBufTuner;
use crate::tcp::segment;
use crate::tcp::send::congestion::{Congestion, CongestionControl, LearnedWindow};
use crate::tcp::send::ecn::EcnState;
use crate::tcp::send::mtu_discovery::MtuDiscovery;
use crate::tcp::send::pacing::Pacer;
use crate::tcp::send::rack::LearnedPath;
use crate::tcp::send::recovery::Recovery;
use crate::tcp::send::rtt::Rtt;
use crate::tcp::socket::settings::{Settings, UserInterest};
use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::num::NonZeroU16;
use core::time::Duration;

/// A connection in ESTABLISHED that is idle.
#[derive(Debug)]
pub(crate) struct Parked {
    ends: Ends,
    pub origin: Origin,
    pub opened: Instant,
    established: Instant,
    negotiated: Negotiated,
    ts_offset: u32,
    mss: u32,
    iss: SndSeq,
    /// SND.UNA and SND.NXT
    snd_nxt: SndSeq,
    snd_wnd: u32,
    wl1: RcvSeq,
    wl2: SndSeq,
    max_wnd: u32,
    irs: RcvSeq,
    rcv_nxt: RcvSeq,
    rcv_edge: RcvSeq,
    rcv_shift: u8,
    last_ack: RcvSeq,
    ts_recent: u32,
    ts_recent_at: Instant,
    /// Number of bytes that the application has read, and the limits of the buffers.
    read: u64,
    receive_limit: u32,
    max_ooo: u32,
    send_buffer: u32,
    send_limit: u32,
    /// The max number of bytes read in one RTT, and that RTT in nanoseconds.
    reading: u32,
    reading_rtt: u64,
    rtt: [u64; 3],
    window: LearnedWindow,
    path: LearnedPath,
    ecn: bool,
    quick_acks: u16,
    interactive: bool,
    last_data: Moment,
    waits: UserInterest,
    last_received: Instant,
    sent: Instant,
    data_sent: Moment,
    pub bytes: ByteCounts,
    stats: IdleStats,
    nodelay: bool,
    dscp: u8,
    max_segment: Option<NonZeroU16>,
    /// ACKs are under the application's control, and it has allowed all of them.
    holds_acks: bool,
    rare: Option<Box<Rare>>,
}

/// Fields that few connections use.
#[derive(Debug)]
struct Rare {
    settings: Settings,
    losses: Option<LossStats>,
    search: Option<Box<MtuDiscovery>>,
    last_challenge: Option<Instant>,
    peer_user_timeout: Option<Duration>,
    /// An algorithm of the application.
    congestion: Option<Box<dyn CongestionControl>>,
}

impl Rare {
    /// `None` if all fields have their default values.
    fn kept(self) -> Option<Box<Self>> {
        let Self { settings, losses, search, last_challenge, peer_user_timeout, congestion } = &self;
        let is_plain = settings.is_plain()
            && (losses.is_none() && search.is_none() && last_challenge.is_none())
            && (peer_user_timeout.is_none() && congestion.is_none());
        (!is_plain).then(|| Box::new(self))
    }
}

/// An optional point in time; `NEVER` stands for none.
#[derive(Clone, Copy, Debug)]
struct Moment(Instant);

const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl From<Option<Instant>> for Moment {
    fn from(at: Option<Instant>) -> Self {
        Self(at.unwrap_or(NEVER))
    }
}

impl Moment {
    fn get(self) -> Option<Instant> {
        (self.0 != NEVER).then_some(self.0)
    }
}

/// A four-tuple: the local address and port first.
#[derive(Debug)]
enum Ends {
    V4 { addresses: [Ipv4Addr; 2], ports: [u16; 2] },
    V6 { addresses: Box<[Ipv6Addr; 2]>, ports: [u16; 2] },
}

impl Ends {
    fn new(flow: &FourTuple) -> Self {
        let ports = [flow.local.port(), flow.remote.port()];
        let v6 = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped(),
            IpAddr::V6(addr) => addr,
        };
        match (flow.local.ip(), flow.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => Self::V4 { addresses: [local, remote], ports },
            (local, remote) => Self::V6 { addresses: Box::new([v6(local), v6(remote)]), ports },
        }
    }

    fn flow(&self) -> FourTuple {
        let (addresses, [local, remote]) = match self {
            Self::V4 { addresses, ports } => (addresses.map(IpAddr::V4), *ports),
            Self::V6 { addresses, ports } => (addresses.map(IpAddr::V6), *ports),
        };
        FourTuple {
            local: SocketAddr::new(addresses[0], local),
            remote: SocketAddr::new(addresses[1], remote),
        }
    }
}

impl Parked {
    /// The connection's four-tuple.
    pub fn flow(&self) -> FourTuple {
        self.ends.flow()
    }

    /// Whether it takes more memory than its own.
    #[cfg(test)]
    pub fn has_rare_fields(&self) -> bool {
        self.rare.is_some()
    }

    /// The next deadline: only the keep-alive timer may run.
    pub fn deadline(&self) -> Option<Instant> {
        let keepalive = self.rare.as_ref()?.settings.rare().keepalive?;
        Some(self.last_received + keepalive.idle)
    }

    /// Applies the path MTU, as [`Connection::fit_path`] does.
    pub fn fit_path(&mut self, shared: &Shared, now: Instant) {
        let remote = self.flow().remote.ip();
        let mss = self.negotiated.data_size(shared.paths.mtu(remote, shared.config.mtu, now), remote);
        if let Some(search) = self.rare.as_mut().and_then(|rare| rare.search.as_mut()) {
            search.limit(mss.max(self.mss));
        }
        self.mss = self.mss.min(mss);
    }

    /// Restores the connection.
    pub fn unpark(&self, id: ConnId, connection: &mut Connection) {
        let flow = self.flow();
        let rare = self.rare.as_deref();
        let una = self.snd_nxt;
        let recovery = Recovery::with(una, self.negotiated.sack, &self.path);
        let position = recovery.scoreboard.position(una);
        let losses = rare.and_then(|rare| rare.losses.clone()).unwrap_or_else(|| self.stats.no_losses());
        connection.id = id;
        connection.template = segment::template(&flow, self.negotiated.timestamps);
        connection.flow = flow;
        connection.state = State::Established;
        connection.negotiated = self.negotiated;
        connection.ts_offset = self.ts_offset;
        connection.mss = self.mss;
        connection.search = rare.and_then(|rare| rare.search.clone());
        connection.snd = self.snd();
        connection.rcv = self.rcv();
        connection.outgoing = SendRing::new(self.send_buffer as usize);
        connection.send_limit = self.send_limit as usize;
        connection.shared_in = [0; 2];
        connection.incoming =
            RecvBuffer::after(self.read, self.receive_limit as usize, self.max_ooo as usize);
        connection.reading =
            RcvBufTuner::after(self.established, self.read, (self.reading, self.reading_rtt));
        connection.rtt = Rtt::with(self.rtt);
        connection.congestion = self.congestion();
        connection.recovery = recovery;
        connection.marks = EcnState::new(self.ecn);
        connection.timers = Timers::default();
        connection.pending = Pending::default();
        connection.ack_policy =
            AckPolicy::with(self.quick_acks.into(), self.interactive, self.last_data.get());
        connection.small = position;
        connection.pushed = position;
        connection.written = position;
        connection.records = None;
        connection.settings = rare.map_or_else(|| self.common(), |rare| rare.settings.clone());
        connection.waits = self.waits;
        connection.has_user = true;
        connection.stalled_since = None;
        connection.last_received = self.last_received;
        connection.sent = self.sent;
        connection.data_sent = self.data_sent.get();
        connection.probes = 0;
        connection.soft_error = None;
        connection.bytes = self.bytes;
        connection.stats = self.stats.stats(self.sent);
        connection.fate = None;
        *connection.cold = Cold {
            origin: self.origin,
            opened: self.opened,
            established: self.established,
            pacer: Pacer::default(),
            last_challenge: rare.and_then(|rare| rare.last_challenge),
            peer_user_timeout: rare.and_then(|rare| rare.peer_user_timeout),
            losses,
        };
    }

    /// The socket options, if no rare one is set.
    fn common(&self) -> Settings {
        Settings::common(self.nodelay, self.dscp, self.max_segment.map(NonZeroU16::get))
    }

    fn congestion(&self) -> Congestion {
        let custom = self.rare.as_ref().and_then(|rare| rare.congestion.as_ref());
        custom.map_or_else(|| Congestion::with(&self.window), |custom| Congestion::Custom(custom.clone_box()))
    }

    fn snd(&self) -> Snd {
        Snd {
            iss: self.iss,
            una: self.snd_nxt,
            nxt: self.snd_nxt,
            wnd: self.snd_wnd,
            wl1: self.wl1,
            wl2: self.wl2,
            max_wnd: self.max_wnd,
        }
    }

    fn rcv(&self) -> Rcv {
        Rcv {
            irs: self.irs,
            nxt: self.rcv_nxt,
            edge: self.rcv_edge,
            shift: self.rcv_shift,
            max_field: u16::MAX,
            fin: None,
            last_ack: self.last_ack,
            unacked: 0,
            full: 0,
            ts_recent: self.ts_recent,
            ts_recent_at: self.ts_recent_at,
            duplicate: None,
            hold: self.holds_acks.then_some(AckHold { upto: self.rcv_nxt, asked: false }),
            recent: [0; 4],
        }
    }
}

impl Connection {
    /// Whether parking it would lose nothing.
    fn may_park(&self, shared: &Shared, now: Instant) -> bool {
        let used = self.bytes != ByteCounts::default();
        let idle = now - self.last_received.max(self.sent) >= shared.config.tcp.buffer_idle;
        let timers = Timer::ALL.iter().filter(|timer| !matches!(timer, Timer::KeepAlive | Timer::Idle));
        self.has_user
            && self.state == State::Established
            && self.fate.is_none()
            && (idle || !used)
            && self.memory() == 0
            && self.pending.is_empty()
            && self.snd.una == self.snd.nxt
            && self.recovery.is_open()
            && (self.rcv.fin, self.rcv.duplicate, self.rcv.unacked) == (None, None, 0)
            && self.rcv.hold.is_none_or(|hold| hold == AckHold { upto: self.rcv.nxt, asked: false })
            && (self.soft_error.is_none() && self.stalled_since.is_none())
            && (self.probes, self.rtt.backoffs()) == (0, 0)
            && !self.marks.is_pending()
            && self.search.as_ref().is_none_or(|search| search.is_idle())
            && timers.into_iter().all(|timer| !self.timers.is_running(*timer))
    }

    /// The compact form of an idle connection; `None` if it may not be parked.
    #[allow(clippy::too_many_lines, reason = "a line for each field, so that none is forgotten")]
    pub fn park(&self, shared: &Shared, now: Instant) -> Option<Parked> {
        if !self.may_park(shared, now) {
            return None;
        }
        // Every field is named, so that the compiler reports a new one.
        #[rustfmt::skip]
        let Self {
            id: _, flow, template: _, state: _, negotiated, ts_offset, mss, search, snd, rcv, outgoing,
            send_limit, shared_in: _, incoming, reading, rtt, congestion, recovery, marks, timers: _, pending: _, ack_policy,
            small: _, pushed: _, written: _, records: _, settings, waits, has_user: _, stalled_since: _, last_received, sent, data_sent, probes: _,
            soft_error: _, bytes, stats, fate: _, cold,
        } = self;
        let Cold { origin, opened, established, pacer: _, last_challenge, peer_user_timeout, losses } =
            &**cold;
        let stats = IdleStats::new(stats, losses);
        let rare = Rare {
            settings: settings.clone(),
            losses: (*losses != stats.no_losses()).then(|| losses.clone()),
            search: search.clone(),
            last_challenge: *last_challenge,
            peer_user_timeout: *peer_user_timeout,
            congestion: congestion.custom(),
        };
        let (reading, reading_rtt) = reading.parts();
        let (quick_acks, interactive, last_data) = ack_policy.parts();
        let saturated = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Some(Parked {
            ends: Ends::new(flow),
            origin: *origin,
            opened: *opened,
            established: *established,
            negotiated: *negotiated,
            ts_offset: *ts_offset,
            mss: *mss,
            iss: snd.iss,
            snd_nxt: snd.nxt,
            snd_wnd: snd.wnd,
            wl1: snd.wl1,
            wl2: snd.wl2,
            max_wnd: snd.max_wnd,
            irs: rcv.irs,
            rcv_nxt: rcv.nxt,
            rcv_edge: rcv.edge,
            rcv_shift: rcv.shift,
            last_ack: rcv.last_ack,
            ts_recent: rcv.ts_recent,
            ts_recent_at: rcv.ts_recent_at,
            read: incoming.total_read(),
            receive_limit: saturated(incoming.limit()),
            max_ooo: saturated(incoming.max_ooo()),
            send_buffer: saturated(outgoing.limit()),
            send_limit: saturated(*send_limit),
            reading,
            reading_rtt,
            rtt: rtt.parts(),
            window: congestion.learned(),
            path: recovery.learned(),
            ecn: marks.is_on(),
            quick_acks: quick_acks.min(u32::from(u16::MAX)) as u16,
            interactive,
            last_data: last_data.into(),
            waits: *waits,
            last_received: *last_received,
            sent: *sent,
            data_sent: (*data_sent).into(),
            bytes: *bytes,
            stats,
            nodelay: settings.nodelay,
            dscp: settings.dscp,
            max_segment: settings.max_segment.and_then(NonZeroU16::new),
            holds_acks: rcv.hold.is_some(),
            rare: rare.kept(),
        })
    }
}
