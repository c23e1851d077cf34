//! The SYN of an active open and the SYN|ACK of a passive open, whether the handshake is kept or encoded in a cookie.

use crate::seq::{RcvSeq, SndSeq};
use crate::tcp::handshake::negotiate::Offered;
use crate::tcp::segment;
use crate::{Config, FourTuple};
use lastack_wire::tcp::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// A SYN, or a SYN|ACK if the peer's SYN has arrived.
pub(super) struct Syn<'a> {
    pub flow: &'a FourTuple,
    pub iss: SndSeq,
    /// The sequence number and the options of the peer's SYN.
    pub answers: Option<(RcvSeq, &'a TcpOptions)>,
    /// SYN, and the flags of ECN.
    pub flags: TcpFlags,
    pub offered: &'a Offered,
    /// TSval.
    pub clock: u32,
}

impl Syn<'_> {
    /// The header with the options that are offered. Only the window of a SYN is not scaled (RFC 7323 section 2.2).
    #[inline(always)]
    pub fn header(&self, config: &Config) -> TcpHeader {
        let options = self.answers.map(|(_, options)| options);
        let ecr = options.and_then(|options| options.timestamps).map_or(0, |peer| peer.val);
        let timestamps = Timestamps { val: self.clock, ecr };
        let remote = self.flow.remote.ip();
        let fields = segment::Fields {
            seq: self.iss.0,
            ack: self.answers.map(|(irs, _)| (irs + 1).0),
            flags: self.flags,
            window: self.offered.window() as u16,
            options: self.offered.options(config, remote, options, timestamps),
        };
        fields.header(self.flow)
    }
}
