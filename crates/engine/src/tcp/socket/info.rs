//! STATUS of RFC 9293 section 3.9.1: the figures of a connection, and their names in Linux's TCP_INFO.

use crate::end::End;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::stats::Limit;
use crate::tcp::handshake::negotiate;
use crate::tcp::send::congestion::Control;
use crate::tcp::send::min_rtt::MinRtt;
use crate::tcp::table::Socket;
use crate::tcp::{CaState, Tcp, TcpState};
use crate::{Config, Instant};
use core::time::Duration;

/// A look at a connection. [`TCP_INFO`] says what Linux calls each number.
///
/// Counts of segments are those of what is on the wire: a super-segment counts as often as the link cuts it. They
/// have 32 bits, as in Linux, and begin anew when they are full.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Its state.
    pub state: TcpState,
    /// Eff.snd.MSS: the most text in a segment we send.
    pub mss: u32,
    /// The MSS that we announced.
    pub advertised_mss: u32,
    /// The largest text that came in one segment.
    pub largest_received: u32,
    /// The largest packet that the path takes.
    pub path_mtu: u32,
    /// Both sides have timestamps (RFC 7323).
    pub timestamps: bool,
    /// Both sides have selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Both sides have explicit congestion notification (RFC 3168).
    pub ecn: bool,
    /// The shifts of the windows of the peer and of ours, if they are scaled (RFC 7323).
    pub window_scaling: Option<(u8, u8)>,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Bytes that may be in flight: the congestion window, or what a repair makes of it.
    pub send_limit: u32,
    /// Slow start threshold, bytes.
    pub ssthresh: u32,
    /// SND.WND, bytes.
    pub snd_wnd: u32,
    /// RCV.WND, bytes.
    pub rcv_wnd: u32,
    /// Smoothed round-trip time, once measured.
    pub srtt: Option<Duration>,
    /// Its variation; zero before it is measured.
    pub rttvar: Duration,
    /// The least round-trip time that was measured, of segments sent once, our SYN or SYN|ACK among them.
    pub min_rtt: Option<Duration>,
    /// The round-trip time that echoed timestamps show to a receiver.
    pub receiver_rtt: Option<Duration>,
    /// The most text that the user has read in a round trip.
    pub rcv_space: u64,
    /// Retransmission timeout, without back-off.
    pub rto: Duration,
    /// Bytes in a second that pacing lets go, if it is on.
    pub pacing_rate: Option<u64>,
    /// How long an ACK is held back.
    pub ack_delay: Duration,
    /// Bytes given to us and not yet sent.
    pub unsent: usize,
    /// Bytes sent and not yet acknowledged.
    pub unacked: usize,
    /// Bytes received in order and not yet read.
    pub unread: usize,
    /// Bytes received beyond a gap.
    pub out_of_order: usize,
    /// Bytes in flight that the peer has beyond a gap.
    pub sacked: u32,
    /// Bytes taken for lost and not sent again yet.
    pub lost: u32,
    /// Segments sent and not yet acknowledged, a FIN alone included.
    pub segments_unacked: u32,
    /// Those of them that the peer has beyond a gap.
    pub segments_sacked: u32,
    /// Those taken for lost and not sent again yet.
    pub segments_lost: u32,
    /// Those that were taken for lost and are on their way again.
    pub segments_retrans: u32,
    /// What congestion control is doing.
    pub ca_state: CaState,
    /// Duplicate ACKs that show a loss where the peer has no selective acknowledgments.
    pub reordering: u32,
    /// How often the retransmission timeout was doubled since something new was acknowledged.
    pub backoffs: u32,
    /// Unanswered probes, of a shut window or of keep-alive.
    pub probes: u32,
    /// Retransmission timeouts, and those among them that followed no other. Those of our SYN count.
    pub timeouts: u32,
    /// See [`timeouts`](Self::timeouts).
    pub timeout_recoveries: u32,
    /// When text last arrived.
    pub last_text: Option<Instant>,
    /// When the handshake was complete.
    pub established: Option<Instant>,
    /// When text or a FIN was last sent.
    pub last_text_sent: Option<Instant>,
    /// When an acceptable segment last arrived: each has an ACK.
    pub last_ack: Option<Instant>,
    /// Segments that arrived, acceptable or not.
    pub segments_in: u32,
    /// Segments sent.
    pub segments_out: u32,
    /// Segments with text that arrived.
    pub data_segments_in: u32,
    /// Segments with text that were sent.
    pub data_segments_out: u32,
    /// Segments with text that arrived before what precedes it, each as often as it came.
    pub early_segments: u32,
    /// Segments sent again, our SYN included.
    pub retransmissions: u64,
    /// Bytes of text sent again.
    pub octets_retransmitted: u64,
    /// Bytes of text sent, without what was sent again.
    pub octets_sent: u64,
    /// Bytes of text received in order.
    pub octets_received: u64,
    /// Segments, our SYN included, that the peer is known to have.
    pub delivered: u32,
    /// Those of which an ACK told with a mark of congestion.
    pub delivered_marked: u32,
    /// Segments that the peer reported to have twice (RFC 2883).
    pub duplicates_reported: u32,
    /// How many ACKs have shown that the path reorders.
    pub reorderings: u32,
    /// How long there was something to send or in flight.
    pub busy: Duration,
    /// How long of that the peer's window was what kept us from sending.
    pub rwnd_limited: Duration,
    /// How long of that the send buffer was: its user waited for room while all was in flight.
    pub sndbuf_limited: Duration,
}

impl Tcp<'_> {
    /// STATUS: its numbers. After its end they are those that it ended with; of an attempt to connect, that was
    /// not established, all but the state are zero.
    pub fn info(&self) -> TcpInfo {
        match self.socket() {
            Socket::Opening(_) => TcpInfo { state: self.state(), ..TcpInfo::default() },
            Socket::Open(connection) => {
                TcpInfo { state: self.state(), ..connection.info(self.shared, self.table.clock()) }
            }
            Socket::Closed(over) => {
                let numbers = over.numbers.as_deref().copied().unwrap_or_default();
                TcpInfo { state: self.state(), unread: over.incoming.len(), ..numbers }
            }
        }
    }
}

impl Connection {
    fn info(&self, shared: &Shared, now: Instant) -> TcpInfo {
        let config = &shared.config;
        let unacked = self.snd.nxt.earlier(self.end_of_text()) - self.snd.una;
        let negotiated = &self.negotiated;
        let (receiver_rtt, rcv_space) = self.reading.seen();
        TcpInfo {
            state: self.state.public(),
            timestamps: negotiated.timestamps,
            sack: negotiated.sack,
            ecn: self.marks.is_on(),
            window_scaling: negotiated.window_scaling.then_some((negotiated.snd_shift, negotiated.rcv_shift)),
            cwnd: self.congestion.window(),
            send_limit: self.recovery.window(&self.congestion, self.mss),
            ssthresh: self.congestion.threshold(),
            snd_wnd: self.snd.wnd,
            rcv_wnd: self.rcv.wnd(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            receiver_rtt,
            rcv_space,
            rto: self.rtt.base(),
            pacing_rate: self.pacing_rate(shared),
            ack_delay: config.tcp.ack_delay,
            unsent: self.outgoing.len() - unacked as usize,
            unacked: unacked as usize,
            unread: self.incoming.len(),
            out_of_order: self.incoming.out_of_order().octets() as usize,
            backoffs: self.rtt.backoffs(),
            probes: self.probes,
            last_text: self.ack_policy.last_text(),
            established: Some(self.established),
            last_ack: Some(self.heard),
            octets_sent: self.octets.sent + u64::from(unacked),
            octets_received: self.octets.received,
            ..self.counts(now, self.sizes(shared, now))
        }
    }

    /// What it ends with. Nothing is in flight any more; what was is lost, not acknowledged.
    pub(in crate::tcp) fn last_info(&self, shared: &Shared, now: Instant, end: &End) -> TcpInfo {
        TcpInfo {
            state: TcpState::Closed,
            unsent: end.lost.unsent as usize,
            unacked: end.lost.unacked as usize,
            octets_sent: self.octets.sent + end.lost.unacked,
            out_of_order: 0,
            sacked: 0,
            lost: 0,
            segments_unacked: 0,
            segments_sacked: 0,
            segments_lost: 0,
            segments_retrans: 0,
            ..self.info(shared, now)
        }
    }

    /// What segments and the path may hold.
    fn sizes(&self, shared: &Shared, now: Instant) -> TcpInfo {
        let remote = self.flow.remote.ip();
        let Config { mtu, .. } = shared.config;
        let allowed = self.settings.max_segment.unwrap_or(u16::MAX);
        TcpInfo {
            mss: self.mss,
            advertised_mss: u32::from(negotiate::own_mss(&shared.config, remote).min(allowed)),
            largest_received: u32::from(self.stats.largest_in),
            path_mtu: shared.paths.mtu(remote, mtu, now) as u32,
            ..TcpInfo::default()
        }
    }

    /// The least round-trip time of late, of which the handshake's is one.
    fn min_rtt(&self, now: Instant) -> Option<Duration> {
        let handshake = self.stats.handshake_rtt().filter(|_| !MinRtt::is_old(now, self.established));
        handshake.into_iter().chain(self.recovery.rack().min_rtt()).min()
    }

    /// What was counted.
    fn counts(&self, now: Instant, rest: TcpInfo) -> TcpInfo {
        let (stats, recovery) = (&self.stats, &self.recovery);
        let [segments_unacked, segments_sacked, segments_lost, segments_retrans] =
            recovery.scoreboard.count(self.mss);
        let (reorderings, duplicates_reported) = recovery.rack().seen();
        let spent = |limit| stats.limits.spent(now, limit);
        TcpInfo {
            sacked: recovery.scoreboard.sacked(),
            lost: recovery.scoreboard.lost(),
            segments_unacked,
            segments_sacked,
            segments_lost,
            segments_retrans,
            ca_state: recovery.ca_state(),
            reordering: recovery.dup_threshold(),
            min_rtt: self.min_rtt(now),
            timeouts: stats.timeouts,
            timeout_recoveries: stats.timeout_recoveries,
            last_text_sent: self.text_sent,
            segments_in: stats.segments_in,
            segments_out: stats.segments_out,
            data_segments_in: stats.text_in,
            data_segments_out: stats.text_out,
            early_segments: stats.early_in,
            retransmissions: u64::from(stats.retransmitted),
            octets_retransmitted: stats.octets_again,
            delivered: stats.delivered,
            delivered_marked: stats.delivered_marked,
            duplicates_reported,
            reorderings,
            busy: spent(Limit::Path) + spent(Limit::Peer) + spent(Limit::Buffer),
            rwnd_limited: spent(Limit::Peer),
            sndbuf_limited: spent(Limit::Buffer),
            ..rest
        }
    }
}

/// A field of Linux's `struct tcp_info`, and what we have for it.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo {
    /// Its name there.
    pub linux: &'static str,
    /// The fields of [`TcpInfo`] that say it; empty if none does.
    pub ours: &'static str,
    /// What differs in the meaning, or why there is none.
    pub note: &'static str,
    /// The number as Linux would tell it at this time: times in its units, windows in segments.
    pub value: Option<fn(&TcpInfo, Instant) -> u64>,
}

macro_rules! counterparts {
    ($($linux:ident = $ours:literal $note:literal $($value:expr)?;)*) => {
        /// Every field of Linux's `struct tcp_info`, in its order.
        pub const TCP_INFO: &[PeerInfo] = &[$(PeerInfo {
            linux: concat!("tcpi_", stringify!($linux)),
            ours: $ours,
            note: $note,
            value: counterparts!(@ $($value)?),
        },)*];
    };
    (@ $value:expr) => { Some($value) };
    (@) => { None };
}

counterparts! {
    state = "state" "" |info, _| state_number(info.state);
    ca_state = "ca_state" "`CWR` is not told apart: marks of congestion reduce the window at once" |info, _| ca_state_number(info.ca_state);
    retransmits = "backoffs" "" |info, _| if info.segments_unacked > 0 { info.backoffs.into() } else { 0 };
    probes = "probes" "" |info, _| info.probes.into();
    backoff = "backoffs" "" |info, _| info.backoffs.into();
    options = "timestamps, sack, window_scaling, ecn" "the rest are of extensions that are not built; whether a packet was ECT is not noted" option_bits;
    snd_wscale = "window_scaling" "" |info, _| info.window_scaling.map_or(0, |(snd, _)| snd.into());
    rcv_wscale = "window_scaling" "as much as our buffer needs" |info, _| info.window_scaling.map_or(0, |(_, rcv)| rcv.into());
    delivery_rate_app_limited = "" "see `delivery_rate`";
    fastopen_client_fail = "" "TCP Fast Open is not built";
    rto = "rto, backoffs" "`rto` is without back-off" backed_off;
    ato = "ack_delay" "it is the same for all connections; Linux adapts it" |info, _| micros(info.ack_delay);
    snd_mss = "mss" "" |info, _| info.mss.into();
    rcv_mss = "largest_received" "zero before text comes, where Linux guesses" |info, _| info.largest_received.into();
    unacked = "segments_unacked, unacked" "`unacked` is in octets" |info, _| info.segments_unacked.into();
    sacked = "segments_sacked, sacked" "`sacked` is in octets; Linux without SACK counts duplicate ACKs here" |info, _| info.segments_sacked.into();
    lost = "segments_lost, segments_retrans, lost" "what is on its way again is lost to Linux still" |info, _| (info.segments_lost + info.segments_retrans).into();
    retrans = "segments_retrans" "" |info, _| info.segments_retrans.into();
    fackets = "" "Linux tells none any more";
    last_data_sent = "last_text_sent" "a time of the stack's clock" |info, now| since(info.last_text_sent, now);
    last_ack_sent = "" "Linux tells none";
    last_data_recv = "last_text, established" "a time of the stack's clock; before text came Linux counts from the handshake" |info, now| since(info.last_text.or(info.established), now);
    last_ack_recv = "last_ack" "a time of the stack's clock" |info, now| since(info.last_ack, now);
    pmtu = "path_mtu" "" |info, _| info.path_mtu.into();
    rcv_ssthresh = "" "the window is that of the buffer: nothing else holds it back";
    rtt = "srtt" "" |info, _| info.srtt.map_or(0, micros);
    rttvar = "rttvar" "" |info, _| micros(info.rttvar);
    snd_ssthresh = "ssthresh" "octets; out of reach before a loss" threshold;
    snd_cwnd = "send_limit, cwnd" "octets; `cwnd` is without what a repair makes of it" |info, _| (info.send_limit / info.mss.max(1)).into();
    advmss = "advertised_mss" "what we announced; Linux tells it without the room for timestamps" |info, _| (info.advertised_mss - if info.timestamps { 12 } else { 0 }).into();
    reordering = "reordering" "with SACK it is only told: time decides what is lost (RFC 8985)" |info, _| info.reordering.into();
    rcv_rtt = "receiver_rtt" "" |info, _| info.receiver_rtt.map_or(0, micros);
    rcv_space = "rcv_space" "zero before text is read, where Linux guesses" |info, _| info.rcv_space;
    total_retrans = "retransmissions" "" |info, _| info.retransmissions;
    pacing_rate = "pacing_rate" "none unless `TcpConfig::pacing` is on" |info, _| info.pacing_rate.unwrap_or(0);
    max_pacing_rate = "" "there is no bound but the path";
    bytes_acked = "octets_sent, unacked" "text only; Linux counts our SYN and FIN, of a connection that it opened" |info, _| info.octets_sent - info.unacked as u64;
    bytes_received = "octets_received" "text only; Linux counts the FIN" |info, _| info.octets_received;
    segs_out = "segments_out" "" |info, _| info.segments_out.into();
    segs_in = "segments_in" "" |info, _| info.segments_in.into();
    notsent_bytes = "unsent" "" |info, _| info.unsent as u64;
    min_rtt = "min_rtt" "forgotten after 150 to 300 s, where Linux forgets after 300 s" |info, _| info.min_rtt.map_or(0, micros);
    data_segs_in = "data_segments_in" "" |info, _| info.data_segments_in.into();
    data_segs_out = "data_segments_out" "" |info, _| info.data_segments_out.into();
    delivery_rate = "" "no samples of it are taken: no congestion control here uses it";
    busy_time = "busy" "" |info, _| micros(info.busy);
    rwnd_limited = "rwnd_limited" "" |info, _| micros(info.rwnd_limited);
    sndbuf_limited = "sndbuf_limited" "" |info, _| micros(info.sndbuf_limited);
    delivered = "delivered" "" |info, _| info.delivered.into();
    delivered_ce = "delivered_marked" "" |info, _| info.delivered_marked.into();
    bytes_sent = "octets_sent, octets_retransmitted" "their sum" |info, _| info.octets_sent + info.octets_retransmitted;
    bytes_retrans = "octets_retransmitted" "" |info, _| info.octets_retransmitted;
    dsack_dups = "duplicates_reported" "" |info, _| info.duplicates_reported.into();
    reord_seen = "reorderings" "" |info, _| info.reorderings.into();
    rcv_ooopack = "early_segments" "" |info, _| info.early_segments.into();
    snd_wnd = "snd_wnd" "" |info, _| info.snd_wnd.into();
    rcv_wnd = "rcv_wnd" "" |info, _| info.rcv_wnd.into();
    rehash = "" "there is no flow label to choose anew";
    total_rto = "timeouts" "" |info, _| info.timeouts.into();
    total_rto_recoveries = "timeout_recoveries" "" |info, _| info.timeout_recoveries.into();
    total_rto_time = "" "not summed up";
    received_ce = "" "AccECN is not built";
    delivered_e1_bytes = "" "AccECN is not built";
    delivered_e0_bytes = "" "AccECN is not built";
    delivered_ce_bytes = "" "AccECN is not built";
    received_e1_bytes = "" "AccECN is not built";
    received_e0_bytes = "" "AccECN is not built";
    received_ce_bytes = "" "AccECN is not built";
    accecn_fail_mode = "" "AccECN is not built";
    accecn_opt_seen = "" "AccECN is not built";
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// Milliseconds since then; since always if it never was.
fn since(then: Option<Instant>, now: Instant) -> u64 {
    then.map_or(now.as_millis(), |then| (now - then).as_millis() as u64)
}

/// The back-off is the timer's; between probes of a shut window Linux counts it apart.
fn backed_off(info: &TcpInfo, _now: Instant) -> u64 {
    let backoffs = if info.segments_unacked == 0 && info.probes > 0 { 0 } else { info.backoffs };
    micros(info.rto).saturating_mul(1 << backoffs.min(20))
}

/// A threshold that was never set is out of reach.
fn threshold(info: &TcpInfo, _now: Instant) -> u64 {
    if info.ssthresh >= 1 << 30 { 0x7fff_ffff } else { (info.ssthresh / info.mss.max(1)).into() }
}

/// `TCPI_OPT_..`
fn option_bits(info: &TcpInfo, _now: Instant) -> u64 {
    [info.timestamps, info.sack, info.window_scaling.is_some(), info.ecn]
        .into_iter()
        .enumerate()
        .map(|(bit, is)| u64::from(is) << bit)
        .sum()
}

/// The number of a state in Linux.
fn state_number(state: TcpState) -> u64 {
    match state {
        TcpState::Established => 1,
        TcpState::SynSent => 2,
        TcpState::SynReceived => 3,
        TcpState::FinWait1 => 4,
        TcpState::FinWait2 => 5,
        TcpState::TimeWait => 6,
        TcpState::Closed => 7,
        TcpState::CloseWait => 8,
        TcpState::LastAck => 9,
        TcpState::Listen => 10,
        TcpState::Closing => 11,
    }
}

/// `TCP_CA_..`
fn ca_state_number(repair: CaState) -> u64 {
    match repair {
        CaState::Open => 0,
        CaState::Disorder => 1,
        CaState::Recovery => 3,
        CaState::Loss => 4,
    }
}
