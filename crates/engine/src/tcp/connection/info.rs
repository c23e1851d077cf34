//! The statistics that STATUS reports.

use crate::end::End;
use crate::shared::Shared;
use crate::tcp::TcpState;
use crate::tcp::connection::Connection;
use crate::tcp::connection::stats::Limit;
use crate::tcp::handshake::negotiate;
use crate::tcp::send::min_rtt::MinRtt;
use crate::tcp::socket::info::TcpInfo;
use crate::{Config, Instant};
use core::time::Duration;

impl Connection {
    pub fn info(&self, shared: &Shared, now: Instant) -> TcpInfo {
        let config = &shared.config;
        let unacked = self.snd.nxt.earlier(self.end_of_data()) - self.snd.una;
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
            out_of_order: self.incoming.out_of_order().bytes() as usize,
            backoffs: self.rtt.backoffs(),
            probes: self.probes,
            last_data: self.ack_policy.last_data(),
            established: Some(self.cold.established),
            last_ack: Some(self.last_received),
            bytes_sent: self.bytes.sent + u64::from(unacked),
            bytes_received: self.bytes.received,
            ..self.counts(now, self.sizes(shared, now))
        }
    }

    /// The final statistics. Nothing is in flight any more: unacknowledged data is lost.
    pub fn last_info(&self, shared: &Shared, now: Instant, end: &End) -> TcpInfo {
        TcpInfo {
            state: TcpState::Closed,
            unsent: end.lost.unsent as usize,
            unacked: end.lost.unacked as usize,
            bytes_sent: self.bytes.sent + end.lost.unacked,
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

    /// Segment sizes and path MTU.
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

    /// The min RTT of the recent window, including the sample of the handshake.
    pub(in crate::tcp) fn min_rtt(&self, now: Instant) -> Option<Duration> {
        let handshake = self.cold.losses.handshake_rtt();
        let handshake = handshake.filter(|_| !MinRtt::is_old(now, self.cold.established));
        handshake.into_iter().chain(self.recovery.rack().min_rtt()).min()
    }

    /// Counters.
    fn counts(&self, now: Instant, rest: TcpInfo) -> TcpInfo {
        let (stats, losses, recovery) = (&self.stats, &self.cold.losses, &self.recovery);
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
            timeouts: losses.timeouts,
            timeout_recoveries: losses.timeout_recoveries,
            last_data_sent: self.data_sent,
            segments_in: stats.segments_in,
            segments_out: stats.segments_out,
            data_segments_in: stats.data_in,
            data_segments_out: stats.data_out,
            out_of_order_segments: losses.ooo_in,
            retransmissions: u64::from(losses.retransmitted),
            bytes_retransmitted: losses.bytes_retrans,
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
