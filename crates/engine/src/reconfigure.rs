//! Addresses and an MTU that change while the stack runs.

use crate::Stack;
use crate::tcp::BindError;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The least MTU that IPv4 (RFC 791) works with.
const MIN_MTU: usize = 68;
/// The length field of IP cannot say more.
const MAX_MTU: usize = 65_535;

impl Stack {
    /// Replaces [`Config::addresses`](crate::Config::addresses). A connection from or to an address that is not the host's
    /// any more ends as by [`tcp_kill`](Self::tcp_kill): its peer is sent RST, its user gets
    /// [`TcpError::Aborted`](crate::TcpError::Aborted). Sockets that are bound to such an address stay, and receive
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

    /// Replaces the MTU of the link and the size of the largest packet it can cut
    /// ([`Config::mtu`](crate::Config::mtu), [`Config::max_packet`](crate::Config::max_packet)). Connections send smaller
    /// segments at once if they must; what was sent and not yet acknowledged is cut again. That the MTU has grown, only
    /// new connections make use of.
    ///
    /// # Errors
    /// [`BindError::LinkTooSmall`] below 68 bytes; nothing has changed then.
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
