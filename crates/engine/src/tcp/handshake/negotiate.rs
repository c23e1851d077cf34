//! Negotiation of options: MSS, window scaling, timestamps, SACK permitted (RFC 9293 section 3.2, RFC 7323, RFC 2018).

use crate::{Config, Instant, TcpConfig};
use core::net::IpAddr;
use lastack_wire::tcp::{TcpOptions, Timestamps};

/// The SMSS to a peer that sends no MSS option (RFC 9293 MUST-15: 536 for IPv4, 1220 for IPv6).
const DEFAULT_MSS: [u16; 2] = [536, 1220];

/// Min MSS; a smaller one is raised to it, as it would send more header than data (CVE-2019-11479).
pub(crate) const MIN_MSS: u16 = 88;

/// Max window shift (RFC 7323 section 2.3).
const MAX_SHIFT: u8 = 14;

/// The options that both SYNs agreed on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Negotiated {
    /// Snd.Wind.Shift: applied to received windows.
    pub snd_shift: u8,
    /// Rcv.Wind.Shift: applied to advertised windows.
    pub rcv_shift: u8,
    pub sack: bool,
    pub timestamps: bool,
    /// Window scaling is in use, even with shift 0.
    pub window_scaling: bool,
    /// The MSS that the peer announced, options included.
    pub peer_mss: u16,
}

/// The options of our SYN. They are fixed when the connection is created, even if the settings change before the
/// handshake is complete: the peer may have received an earlier SYN.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    pub receive_buffer: usize,
    timestamps: bool,
    sack: bool,
    window_scaling: bool,
}

impl Offered {
    pub fn new(config: &TcpConfig) -> Self {
        Self {
            receive_buffer: config.receive_buffer,
            timestamps: config.timestamps,
            sack: config.sack,
            window_scaling: config.window_scaling,
        }
    }

    /// The receive window of our SYN: the field is not scaled.
    pub fn window(&self) -> u32 {
        self.receive_buffer.min(usize::from(u16::MAX)) as u32
    }

    /// The options of our SYN. For a SYN|ACK, `answering` holds the options of the peer's SYN: an option missing there
    /// is not offered.
    pub fn options(
        &self,
        config: &Config,
        remote: IpAddr,
        answering: Option<&TcpOptions>,
        timestamps: Timestamps,
    ) -> TcpOptions {
        let peer = |has: fn(&TcpOptions) -> bool| answering.is_none_or(has);
        TcpOptions {
            mss: Some(own_mss(config, remote)),
            window_scale: (self.window_scaling && peer(|o| o.window_scale.is_some()))
                .then(|| rcv_shift(self.receive_buffer)),
            sack_permitted: self.sack && peer(|o| o.sack_permitted),
            timestamps: (self.timestamps && peer(|o| o.timestamps.is_some())).then_some(timestamps),
            ..TcpOptions::default()
        }
    }

    /// The options that our SYN and the peer's agree on.
    pub fn negotiate(&self, remote: IpAddr, peer: &TcpOptions) -> Negotiated {
        let scaling = if self.window_scaling { peer.window_scale } else { None };
        let default = DEFAULT_MSS[usize::from(remote.is_ipv6())];
        Negotiated {
            snd_shift: scaling.map_or(0, |shift| shift.min(MAX_SHIFT)),
            rcv_shift: scaling.map_or(0, |_| rcv_shift(self.receive_buffer)),
            sack: self.sack && peer.sack_permitted,
            timestamps: self.timestamps && peer.timestamps.is_some(),
            window_scaling: scaling.is_some(),
            peer_mss: peer.mss.unwrap_or(default).max(MIN_MSS),
        }
    }
}

impl Negotiated {
    /// Eff.snd.MSS: the max data in a segment on a path of this MTU (RFC 9293 section 3.7.1, RFC 6691).
    pub fn data_size(&self, path_mtu: usize, remote: IpAddr) -> u32 {
        // Below the min MSS only if our own link is that small: the path MTU from routers has a floor.
        let mss = usize::from(self.peer_mss).min(path_mtu.saturating_sub(headers(remote)));
        mss.saturating_sub(self.options()).max(1) as u32
    }

    /// The size of the packet with this much data.
    pub fn packet_size(&self, payload: u32, remote: IpAddr) -> usize {
        headers(remote) + self.options() + payload as usize
    }

    /// The size of the options in every segment.
    fn options(&self) -> usize {
        if self.timestamps { 12 } else { 0 }
    }
}

/// The size of an IP and a TCP header without options.
pub(crate) fn headers(remote: IpAddr) -> usize {
    if remote.is_ipv4() { 40 } else { 60 }
}

/// The MSS we announce, from the MTU of our link.
pub(crate) fn own_mss(config: &Config, remote: IpAddr) -> u16 {
    config.mtu.saturating_sub(headers(remote)).min(usize::from(u16::MAX)) as u16
}

/// The min shift with which the window field can represent the whole receive buffer.
fn rcv_shift(receive_buffer: usize) -> u8 {
    let bits = usize::BITS - receive_buffer.leading_zeros();
    bits.saturating_sub(u16::BITS).min(u32::from(MAX_SHIFT)) as u8
}

/// TSval: a 1 ms clock with a per-connection offset (RFC 7323 section 5.4).
pub(crate) fn timestamp(now: Instant, offset: u32) -> u32 {
    (now.as_millis() as u32).wrapping_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_covers_the_buffer() {
        assert_eq!([65_535, 65_536, 1 << 20, usize::MAX].map(rcv_shift), [0, 1, 5, 14]);
    }

    #[test]
    fn nothing_is_used_that_the_peer_did_not_offer() {
        let offered = Offered::new(&TcpConfig::default());
        let remote: IpAddr = "10.0.0.2".parse().unwrap();
        let plain = offered.negotiate(remote, &TcpOptions::default());
        assert_eq!(plain, Negotiated { peer_mss: 536, ..Negotiated::default() });
        let tiny = TcpOptions { mss: Some(1), window_scale: Some(15), ..TcpOptions::default() };
        let tiny = offered.negotiate(remote, &tiny);
        assert_eq!((tiny.data_size(1500, remote), tiny.snd_shift, tiny.rcv_shift), (88, 14, 7));
    }

    #[test]
    fn a_segment_fits_the_path() {
        let n = Negotiated { peer_mss: 1460, timestamps: true, ..Negotiated::default() };
        assert_eq!(n.data_size(1500, "10.0.0.2".parse().unwrap()), 1448);
        assert_eq!(n.data_size(1300, "10.0.0.2".parse().unwrap()), 1248);
        assert_eq!(n.data_size(1500, "fd00::2".parse().unwrap()), 1428);
    }
}
