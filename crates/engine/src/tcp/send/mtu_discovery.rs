//! Packetization layer path MTU discovery, PLPMTUD (RFC 4821): a probe larger than the known path MTU is sent as data.
//! If it is acknowledged, all segments may be that large; if only the probe is lost, that is no sign of congestion.

use crate::Instant;
use crate::config::TcpConfig;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::handshake::negotiate::{Negotiated, headers};
use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

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
pub(in crate::tcp) const MIN_WINDOW: u32 = 11;
/// .. and this many segments after it, which show whether it was lost.
const FOLLOWERS: u32 = 4;

/// The outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Lost,
    /// A segment with this much data passes.
    Passed(u32),
}

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
    /// `high`: the largest size that may pass.
    pub fn new(high: u32) -> Self {
        Self { high, probe: None, next_search_at: None }
    }

    /// The largest size that may pass: after an interval, a size that was lost may pass now. `largest`: that of the
    /// link.
    pub fn size_limit(&self, now: Instant, largest: u32) -> u32 {
        let renewed = self.next_search_at.is_some_and(|at| at <= now);
        if renewed { largest } else { self.high }
    }

    /// The size of the next probe: the middle between the size that passes, `mss`, and the largest that may.
    pub fn next_size(&self, mss: u32, limit: u32) -> Option<u32> {
        (self.is_idle() && limit >= mss + MIN_GAIN).then(|| (mss + limit).div_ceil(2))
    }

    /// Bytes that must be ready for a probe of this size, with the segments after it.
    pub fn needed(mss: u32, size: u32) -> u32 {
        size + FOLLOWERS * mss
    }

    /// A probe was sent.
    pub fn sent(&mut self, now: Instant, limit: u32, seq: SndSeq, len: u32) {
        self.high = limit;
        self.next_search_at = self.next_search_at.filter(|at| *at > now);
        self.probe = Some((seq, len));
    }

    /// A timeout: the loss of the probe does not indicate the path MTU.
    pub fn abandon(&mut self) {
        self.probe = None;
    }

    /// Data was retransmitted. If it is of the probe, which was not lost alone, its acknowledgment does not indicate that the probe
    /// has passed (RFC 4821 section 7.6.4: inconclusive).
    pub fn on_retransmit(&mut self, start: SndSeq, len: u32) {
        self.probe = self.probe.filter(|(seq, size)| !start.before(*seq + *size) || !seq.before(start + len));
    }

    /// An ACK has arrived: handles a probe that was lost, or acknowledged by `una`.
    pub fn outcome(&mut self, now: Instant, interval: Duration, lost: bool, una: SndSeq) -> Option<Outcome> {
        let (seq, len) = self.probe?;
        if lost {
            self.probe = None;
            self.high = len - 1;
            self.next_search_at = Some(now + interval);
            return Some(Outcome::Lost);
        }
        if una.before(seq + len) {
            return None;
        }
        self.probe = None;
        self.next_search_at.get_or_insert(now + interval);
        Some(Outcome::Passed(len))
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
