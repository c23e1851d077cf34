//! STATUS of RFC 9293 section 3.9.1: statistics of a connection, and their names in Linux's TCP_INFO.

use crate::Instant;
use crate::tcp::table::Socket;
use crate::tcp::{CaState, Tcp, TcpState};
use core::time::Duration;

/// A snapshot of a connection's statistics. [`TCP_INFO`] maps them to Linux's fields.
///
/// Segments are counted as on the wire: a super-segment counts as the number of segments that the link makes of it.
/// Counters have 32 bits, as on Linux, and wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Its state.
    pub state: TcpState,
    /// Eff.snd.MSS: max data in a sent segment.
    pub mss: u32,
    /// The MSS announced to the peer.
    pub advertised_mss: u32,
    /// Max data received in one segment.
    pub largest_received: u32,
    /// The path MTU.
    pub path_mtu: u32,
    /// Both sides use timestamps (RFC 7323).
    pub timestamps: bool,
    /// Both sides use selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Both sides use explicit congestion notification (RFC 3168).
    pub ecn: bool,
    /// Window scale shifts of the peer's window and of ours, if negotiated (RFC 7323).
    pub window_scaling: Option<(u8, u8)>,
    /// Congestion window, in bytes.
    pub cwnd: u32,
    /// Max bytes in flight: the congestion window, or its value during loss recovery.
    pub send_limit: u32,
    /// Slow start threshold, in bytes.
    pub ssthresh: u32,
    /// SND.WND, in bytes.
    pub snd_wnd: u32,
    /// RCV.WND, in bytes.
    pub rcv_wnd: u32,
    /// Smoothed RTT, once measured.
    pub srtt: Option<Duration>,
    /// RTT variation; zero before the first measurement.
    pub rttvar: Duration,
    /// Min RTT, of segments sent once, including our SYN or SYN|ACK.
    pub min_rtt: Option<Duration>,
    /// The receiver's RTT, measured by echoed timestamps.
    pub receiver_rtt: Option<Duration>,
    /// Max bytes that the application has read per round trip.
    pub rcv_space: u64,
    /// Retransmission timeout, without back-off.
    pub rto: Duration,
    /// Pacing rate in bytes per second, if pacing is on.
    pub pacing_rate: Option<u64>,
    /// The ACK delay.
    pub ack_delay: Duration,
    /// Bytes in the send buffer, not yet sent.
    pub unsent: usize,
    /// Bytes sent and not yet acknowledged.
    pub unacked: usize,
    /// Bytes received in sequence and not yet read.
    pub unread: usize,
    /// Bytes received beyond a gap.
    pub out_of_order: usize,
    /// Bytes SACKed by the peer.
    pub sacked: u32,
    /// Bytes marked lost and not yet retransmitted.
    pub lost: u32,
    /// Segments sent and not yet acknowledged, including a FIN without data.
    pub segments_unacked: u32,
    /// Those of them that are SACKed.
    pub segments_sacked: u32,
    /// Those marked lost and not yet retransmitted.
    pub segments_lost: u32,
    /// Those marked lost, retransmitted and in flight.
    pub segments_retrans: u32,
    /// The state of congestion control.
    pub ca_state: CaState,
    /// Number of duplicate ACKs that indicates a loss without SACK.
    pub reordering: u32,
    /// How often the retransmission timeout was doubled since new data was acknowledged.
    pub backoffs: u32,
    /// Unanswered zero-window or keep-alive probes.
    pub probes: u32,
    /// Retransmission timeouts, and those of them that did not follow another. Those of our SYN count.
    pub timeouts: u32,
    /// See [`timeouts`](Self::timeouts).
    pub timeout_recoveries: u32,
    /// When data last arrived.
    pub last_data: Option<Instant>,
    /// When the handshake was complete.
    pub established: Option<Instant>,
    /// When data or a FIN was last sent.
    pub last_data_sent: Option<Instant>,
    /// When an acceptable segment last arrived: each carries an ACK.
    pub last_ack: Option<Instant>,
    /// Segments received, acceptable or not.
    pub segments_in: u32,
    /// Segments sent.
    pub segments_out: u32,
    /// Data segments received.
    pub data_segments_in: u32,
    /// Data segments sent.
    pub data_segments_out: u32,
    /// Data segments received out of order, including duplicates.
    pub out_of_order_segments: u32,
    /// Segments retransmitted, including our SYN.
    pub retransmissions: u64,
    /// Bytes of data retransmitted.
    pub bytes_retransmitted: u64,
    /// Bytes of data sent, without retransmissions.
    pub bytes_sent: u64,
    /// Bytes of data received in sequence.
    pub bytes_received: u64,
    /// Segments delivered, including our SYN.
    pub delivered: u32,
    /// Those whose ACK carried ECE.
    pub delivered_marked: u32,
    /// Segments that the peer reported as duplicates by DSACK (RFC 2883).
    pub duplicates_reported: u32,
    /// How many ACKs have shown reordering.
    pub reorderings: u32,
    /// How long there was data to send or in flight.
    pub busy: Duration,
    /// How long of that sending was limited by the peer's window.
    pub rwnd_limited: Duration,
    /// How long of that sending was limited by the send buffer: the application waited for room while all data was in
    /// flight.
    pub sndbuf_limited: Duration,
}

impl Tcp<'_> {
    /// STATUS: its statistics. After its end they are the final ones; before it is established, all but the state are
    /// zero.
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

/// A field of Linux's `struct tcp_info`, and its counterpart here.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its name on Linux.
    pub linux: &'static str,
    /// The corresponding fields of [`TcpInfo`]; empty if there is none.
    pub ours: &'static str,
    /// Differences in meaning, or why there is no counterpart.
    pub note: &'static str,
    /// The value as Linux would report it at this time: times in its units, windows in segments.
    pub value: Option<fn(&TcpInfo, Instant) -> u64>,
}

macro_rules! counterparts {
    ($($linux:ident = $ours:literal $note:literal $($value:expr)?;)*) => {
        /// All fields of Linux's `struct tcp_info`, in its order.
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
    ca_state = "ca_state" "" |info, _| ca_state_number(info.ca_state);
    retransmits = "backoffs" "" |info, _| if info.segments_unacked > 0 { info.backoffs.into() } else { 0 };
    probes = "probes" "" |info, _| info.probes.into();
    backoff = "backoffs" "" |info, _| info.backoffs.into();
    options = "timestamps, sack, window_scaling, ecn" "the others belong to extensions that are not implemented; whether a packet was ECT is not recorded" option_bits;
    snd_wscale = "window_scaling" "" |info, _| info.window_scaling.map_or(0, |(snd, _)| snd.into());
    rcv_wscale = "window_scaling" "the scale that the buffer needs" |info, _| info.window_scaling.map_or(0, |(_, rcv)| rcv.into());
    delivery_rate_app_limited = "" "see `delivery_rate`";
    fastopen_client_fail = "" "TCP Fast Open is not implemented";
    rto = "rto, backoffs" "`rto` does not include the backoff" backed_off;
    ato = "ack_delay" "it is the same for all connections; Linux adapts it" |info, _| micros(info.ack_delay);
    snd_mss = "mss" "" |info, _| info.mss.into();
    rcv_mss = "largest_received" "zero before data arrives, where Linux has an estimate" |info, _| info.largest_received.into();
    unacked = "segments_unacked, unacked" "`unacked` is in bytes" |info, _| info.segments_unacked.into();
    sacked = "segments_sacked, sacked" "`sacked` is in bytes; without SACK Linux counts duplicate ACKs here" |info, _| info.segments_sacked.into();
    lost = "segments_lost, segments_retrans, lost" "Linux counts retransmitted data as lost until it is acknowledged" |info, _| (info.segments_lost + info.segments_retrans).into();
    retrans = "segments_retrans" "" |info, _| info.segments_retrans.into();
    fackets = "" "Linux no longer reports it";
    last_data_sent = "last_data_sent" "a time of the stack's clock" |info, now| since(info.last_data_sent, now);
    last_ack_sent = "" "Linux does not report it";
    last_data_recv = "last_data, established" "a time of the stack's clock; before data arrives Linux counts from the handshake" |info, now| since(info.last_data.or(info.established), now);
    last_ack_recv = "last_ack" "a time of the stack's clock" |info, now| since(info.last_ack, now);
    pmtu = "path_mtu" "" |info, _| info.path_mtu.into();
    rcv_ssthresh = "" "the window is limited by the buffer only";
    rtt = "srtt" "" |info, _| info.srtt.map_or(0, micros);
    rttvar = "rttvar" "" |info, _| micros(info.rttvar);
    snd_ssthresh = "ssthresh" "bytes; unlimited before the first loss" threshold;
    snd_cwnd = "send_limit, cwnd" "bytes; `cwnd` does not include what a recovery makes of it" |info, _| (info.send_limit / info.mss.max(1)).into();
    advmss = "advertised_mss" "the MSS that was announced; Linux subtracts the size of the timestamps" |info, _| (info.advertised_mss - if info.timestamps { 12 } else { 0 }).into();
    reordering = "reordering" "with SACK it is informational: loss is detected by time (RFC 8985)" |info, _| info.reordering.into();
    rcv_rtt = "receiver_rtt" "" |info, _| info.receiver_rtt.map_or(0, micros);
    rcv_space = "rcv_space" "zero before data is read, where Linux has an estimate" |info, _| info.rcv_space;
    total_retrans = "retransmissions" "" |info, _| info.retransmissions;
    pacing_rate = "pacing_rate" "none unless `TcpConfig::pacing` is on" |info, _| info.pacing_rate.unwrap_or(0);
    max_pacing_rate = "" "limited by the path only";
    bytes_acked = "bytes_sent, unacked" "data only; Linux also counts its SYN and FIN, for a connection that it opened" |info, _| info.bytes_sent - info.unacked as u64;
    bytes_received = "bytes_received" "data only; Linux also counts the FIN" |info, _| info.bytes_received;
    segs_out = "segments_out" "" |info, _| info.segments_out.into();
    segs_in = "segments_in" "" |info, _| info.segments_in.into();
    notsent_bytes = "unsent" "" |info, _| info.unsent as u64;
    min_rtt = "min_rtt" "forgotten after 150 to 300 s, where Linux forgets after 300 s" |info, _| info.min_rtt.map_or(0, micros);
    data_segs_in = "data_segments_in" "" |info, _| info.data_segments_in.into();
    data_segs_out = "data_segments_out" "" |info, _| info.data_segments_out.into();
    delivery_rate = "" "it is not sampled: no congestion control here uses it";
    busy_time = "busy" "" |info, _| micros(info.busy);
    rwnd_limited = "rwnd_limited" "" |info, _| micros(info.rwnd_limited);
    sndbuf_limited = "sndbuf_limited" "" |info, _| micros(info.sndbuf_limited);
    delivered = "delivered" "" |info, _| info.delivered.into();
    delivered_ce = "delivered_marked" "" |info, _| info.delivered_marked.into();
    bytes_sent = "bytes_sent, bytes_retransmitted" "their sum" |info, _| info.bytes_sent + info.bytes_retransmitted;
    bytes_retrans = "bytes_retransmitted" "" |info, _| info.bytes_retransmitted;
    dsack_dups = "duplicates_reported" "" |info, _| info.duplicates_reported.into();
    reord_seen = "reorderings" "" |info, _| info.reorderings.into();
    rcv_ooopack = "out_of_order_segments" "" |info, _| info.out_of_order_segments.into();
    snd_wnd = "snd_wnd" "" |info, _| info.snd_wnd.into();
    rcv_wnd = "rcv_wnd" "" |info, _| info.rcv_wnd.into();
    rehash = "" "the flow label is not changed";
    total_rto = "timeouts" "" |info, _| info.timeouts.into();
    total_rto_recoveries = "timeout_recoveries" "" |info, _| info.timeout_recoveries.into();
    total_rto_time = "" "not summed up";
    received_ce = "" "AccECN is not implemented";
    delivered_e1_bytes = "" "AccECN is not implemented";
    delivered_e0_bytes = "" "AccECN is not implemented";
    delivered_ce_bytes = "" "AccECN is not implemented";
    received_e1_bytes = "" "AccECN is not implemented";
    received_e0_bytes = "" "AccECN is not implemented";
    received_ce_bytes = "" "AccECN is not implemented";
    accecn_fail_mode = "" "AccECN is not implemented";
    accecn_opt_seen = "" "AccECN is not implemented";
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// Milliseconds since then; since the start of the clock if `None`.
fn since(then: Option<Instant>, now: Instant) -> u64 {
    then.map_or(now.as_millis(), |then| (now - then).as_millis() as u64)
}

/// The RTO with back-off; Linux counts the back-off of zero-window probes separately.
fn backed_off(info: &TcpInfo, _now: Instant) -> u64 {
    let backoffs = if info.segments_unacked == 0 && info.probes > 0 { 0 } else { info.backoffs };
    micros(info.rto).saturating_mul(1 << backoffs.min(20))
}

/// ssthresh in segments; Linux's infinite value if it was never set.
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
        CaState::Cwr => 2,
        CaState::Recovery => 3,
        CaState::Loss => 4,
    }
}
