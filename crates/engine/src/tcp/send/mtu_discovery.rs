//! Packetization layer path MTU discovery, PLPMTUD (RFC 4821): a probe larger than the known path MTU is sent as data.
//! If it is acknowledged, all segments may be that large; if only the probe is lost, that is no sign of congestion.

use crate::Instant;
use crate::config::TcpConfig;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::CaState;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate::{Negotiated, headers};
use alloc::boxed::Box;
use core::net::IpAddr;

/// When the path MTU is searched for (RFC 4821).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MtuProbing {
    /// Never: only ICMP errors and timeouts lower the path MTU (`tcp_mtu_probing` 0).
    Off,
    /// Where the path drops large packets silently (1).
    #[default]
    AfterBlackHole,
    /// On every connection, starting at a size that passes everywhere (2).
    Always,
}

/// The packet size that passes everywhere (RFC 4821 section 7.2, RFC 8200 section 5).
pub(in crate::tcp) fn base_mtu(config: &TcpConfig, remote: IpAddr) -> usize {
    if remote.is_ipv4() { usize::from(config.base_mss) + headers(remote) } else { 1280 }
}

/// The minimum gain for which a probe is sent (`tcp_probe_threshold`).
const MIN_GAIN: u32 = 8;
/// A probe needs a congestion window of at least this many segments, ..
const MIN_WINDOW: u32 = 11;
/// .. and this many segments after it, which show whether it was lost.
const FOLLOWERS: u32 = 4;

/// The state of the search. Sizes are those of the data in a segment.
#[derive(Clone, Debug)]
pub(crate) struct MtuDiscovery {
    /// The largest size that may pass.
    high: u32,
    /// The probe in flight: its first byte, and its size.
    probe: Option<(SndSeq, u32)>,
    /// When the search starts over, with all larger sizes.
    next_search_at: Option<Instant>,
}

impl MtuDiscovery {
    fn new(high: u32) -> Self {
        Self { high, probe: None, next_search_at: None }
    }

    /// Whether no probe is in flight.
    pub fn is_idle(&self) -> bool {
        self.probe.is_none()
    }

    /// The network reports that no larger size passes.
    pub fn limit(&mut self, size: u32) {
        self.high = self.high.min(size);
    }
}

/// The initial Eff.snd.MSS of a connection, and the search for a larger one.
pub(in crate::tcp) fn first_size(
    shared: &Shared,
    now: Instant,
    negotiated: &Negotiated,
    remote: IpAddr,
) -> (u32, Option<Box<MtuDiscovery>>) {
    let link = shared.config.mtu;
    let path = shared.paths.mtu(remote, link, now);
    let always = shared.config.tcp.mtu_probing == MtuProbing::Always;
    let size = negotiated
        .data_size(if always { path.min(base_mtu(&shared.config.tcp, remote)) } else { path }, remote);
    let silent = shared.paths.is_black_hole(remote, now);
    let high = negotiated.data_size(if silent { link } else { path }, remote);
    let searched = negotiated.sack && (always || silent && shared.config.tcp.mtu_probing != MtuProbing::Off);
    (size, searched.then(|| Box::new(MtuDiscovery::new(high))))
}

impl Connection {
    /// The path drops large packets: starts the search for the largest that passes. Without SACK the loss of a
    /// probe cannot be distinguished from other losses.
    pub(in crate::tcp) fn start_mtu_discovery(&mut self, shared: &Shared) {
        if self.negotiated.sack && shared.config.tcp.mtu_probing != MtuProbing::Off {
            self.search = Some(Box::new(MtuDiscovery::new(self.largest_size(shared))));
        }
    }

    fn largest_size(&self, shared: &Shared) -> u32 {
        self.negotiated.data_size(shared.config.mtu, self.flow.remote.ip())
    }

    /// The largest size that may pass: after an interval, a size that was lost may pass now.
    fn size_limit(&self, shared: &Shared, now: Instant) -> Option<u32> {
        let search = self.search.as_ref()?;
        let renewed = search.next_search_at.is_some_and(|at| at <= now);
        Some(if renewed { self.largest_size(shared) } else { search.high })
    }

    /// The size of a probe to be sent now: the middle between the size that passes and the largest that may.
    pub(in crate::tcp) fn next_probe_size(&self, shared: &Shared, now: Instant, cwnd: u32) -> Option<u32> {
        self.search.as_ref().filter(|search| search.probe.is_none())?;
        let high = self.size_limit(shared, now)?;
        if high < self.mss + MIN_GAIN {
            return None;
        }
        let size = (self.mss + high).div_ceil(2);
        let needed = size + FOLLOWERS * self.mss;
        let ready = self.end_of_data().offset_from(self.snd.nxt) >= needed as i32
            && self.snd.edge().offset_from(self.snd.nxt) >= needed as i32
            && cwnd >= MIN_WINDOW * self.mss
            && self.recovery.ca_state() == CaState::Open;
        ready.then_some(size)
    }

    /// A probe was sent.
    #[cold]
    pub(in crate::tcp) fn on_mtu_probe_sent(&mut self, shared: &Shared, now: Instant, seq: SndSeq, len: u32) {
        let high = self.size_limit(shared, now);
        if let Some(search) = &mut self.search {
            search.high = high.unwrap_or(search.high);
            search.next_search_at = search.next_search_at.filter(|at| *at > now);
            search.probe = Some((seq, len));
        }
        let start = self.recovery.scoreboard.position(seq);
        self.recovery.probes_size(start..start + u64::from(len));
    }

    /// A timeout: the loss of the probe says nothing about the path MTU.
    pub(in crate::tcp) fn abandon_probe(&mut self) {
        if let Some(search) = &mut self.search {
            search.probe = None;
        }
    }

    /// After an ACK: handles a probe that was acknowledged or lost.
    pub(in crate::tcp) fn on_mtu_probe_outcome(&mut self, shared: &mut Shared, now: Instant) {
        let lost = self.recovery.take_size_probe_lost();
        let Some(search) = &mut self.search else { return };
        let Some((seq, len)) = search.probe else { return };
        let TcpConfig { mtu_probe_interval, .. } = shared.config.tcp;
        if lost {
            search.probe = None;
            search.high = len - 1;
            search.next_search_at = Some(now + mtu_probe_interval);
            shared.counters.tcp_mtu_probes_lost += 1;
        } else if !self.snd.una.before(seq + len) {
            search.probe = None;
            search.next_search_at.get_or_insert(now + mtu_probe_interval);
            if len > self.mss {
                self.mss = len;
                let remote = self.flow.remote.ip();
                shared.paths.raise(remote, self.negotiated.packet_size(len, remote), now);
                shared.counters.tcp_mtu_probes_arrived += 1;
            }
        }
    }
}
