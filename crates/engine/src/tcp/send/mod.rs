//! The send side of a connection: what may be sent, loss detection and recovery, congestion control.

pub(super) mod congestion;
pub(super) mod ecn;
pub(super) mod min_rtt;
pub(super) mod mtu_discovery;
pub(super) mod pacing;
pub(super) mod prr;
pub(super) mod rack;
pub(super) mod records;
pub(super) mod recovery;
pub(super) mod rtt;
pub(super) mod scoreboard;
pub(in crate::tcp) mod sharers;
