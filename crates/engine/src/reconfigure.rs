//! Changes of addresses and MTU at run time.

use crate::Stack;
use crate::tcp::BindError;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The min MTU of IPv4 (RFC 791).
const MIN_MTU: usize = 68;
/// The max value of the IP length field.
const MAX_MTU: usize = 65_535;

impl Stack {
    /// Replaces [`Config::addresses`](crate::Config::addresses). Connections of a removed address end as by
    /// [`tcp_kill`](Self::tcp_kill): the peer is sent RST, the application gets
    /// [`TcpError::Aborted`](crate::TcpError::Aborted). Sockets bound to a removed address stay open, and receive
    /// nothing.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let before = core::mem::replace(&mut self.shared.config.addresses, addresses.into_iter().collect());
        let kept = |local: IpAddr| self.shared.is_local(local) || !before.contains(&local);
        let gone: Vec<_> =
            self.tcp_connections().map(|open| open.flow).filter(|flow| !kept(flow.local.ip())).collect();
        for flow in gone {
            self.tcp_kill(&flow);
        }
    }

    /// Replaces the MTU of the link and the size of the largest super-segment
    /// ([`Config::mtu`](crate::Config::mtu), [`Config::max_packet`](crate::Config::max_packet)).
    /// A smaller MTU applies at once, also to retransmissions; a larger one only to new connections.
    ///
    /// # Errors
    /// [`BindError::LinkTooSmall`] below 68 bytes; nothing is changed.
    pub fn set_mtu(&mut self, mtu: usize, max_packet: usize) -> Result<(), BindError> {
        if mtu < MIN_MTU {
            return Err(BindError::LinkTooSmall);
        }
        let config = &mut self.shared.config;
        config.mtu = mtu.min(MAX_MTU);
        config.max_packet = max_packet.clamp(config.mtu, MAX_MTU);
        self.tcp.fit_paths(&self.shared);
        Ok(())
    }
}
