//! Active opens: `connect`, and the choice of an ephemeral port (RFC 6056).

use crate::Stack;
use crate::end::FourTuple;
use crate::ip::ingress::is_host;
use crate::ip::paths;
use crate::shared::Shared;
use crate::tcp::table::TcpTable;
use crate::tcp::{BindError, ConnId, ConnectError};
use core::net::SocketAddr;

/// The ephemeral ports (RFC 6335 section 6 and more, as on Linux).
const EPHEMERAL: core::ops::Range<u16> = 32_768..60_999;

impl Stack {
    /// Active OPEN: connects to `remote` from `local` (port 0: an ephemeral port), or from an address and port chosen by
    /// the stack. [`Event::Connected`](crate::Event::Connected) or [`Event::Ended`](crate::Event::Ended) follows.
    ///
    /// # Errors
    ///
    /// No local address or port is available, or `remote` cannot be another host.
    pub fn tcp_connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnId, ConnectError> {
        let remote = canonical(remote);
        let shared = &self.shared;
        check_remote(shared, remote)?;
        let source = shared.source_for(remote.ip());
        let local = match local {
            Some(local) if !local.ip().is_unspecified() => canonical(local),
            Some(any) => SocketAddr::new(source.ok_or(ConnectError::NoAddress)?, any.port()),
            None => SocketAddr::new(source.ok_or(ConnectError::NoAddress)?, 0),
        };
        if !shared.is_local(local.ip()) {
            return Err(ConnectError::Bind(BindError::NotOurs));
        }
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(ConnectError::NoAddress);
        }
        if shared.is_own(local.ip(), remote.ip()) {
            return Err(ConnectError::OwnAddress);
        }
        if !Shared::may_leave(local.ip(), remote.ip()) {
            return Err(ConnectError::NoAddress);
        }
        let mut flow = FourTuple { local, remote };
        let hash = self.tcp.free_flow(&mut self.shared, &mut flow)?;
        let shared = &self.shared;
        let now = self.tcp.clock();
        Ok(self.tcp.insert(hash, |handshake, id| handshake.connect(shared, now, id, &flow)))
    }
}

/// Converts an IPv4-mapped IPv6 address (`::ffff:10.0.0.2`) to IPv4, as on Linux.
pub(in crate::tcp) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Checks that `remote` can be connected to.
fn check_remote(shared: &Shared, remote: SocketAddr) -> Result<(), ConnectError> {
    Err(match remote.ip() {
        addr if !is_host(addr) => ConnectError::NotUnicast,
        _ if remote.port() == 0 => ConnectError::NoRemotePort,
        addr if !paths::is_carried(addr, shared.config.mtu) => ConnectError::Bind(BindError::LinkTooSmall),
        _ => return Ok(()),
    })
}

impl TcpTable {
    /// The hash of a four-tuple, which must be free, and gets an ephemeral port if its local port is 0 (RFC 6056
    /// algorithm 1, with a secret generator: a port reveals nothing about the next one, to any peer).
    fn free_flow(&self, shared: &mut Shared, flow: &mut FourTuple) -> Result<u32, ConnectError> {
        let free = |flow: &FourTuple| {
            let hash = self.demux.hash(flow);
            (!self.is_taken(hash, flow)).then_some(hash)
        };
        if flow.local.port() != 0 {
            return free(flow).ok_or(ConnectError::Bind(BindError::InUse));
        }
        let count = u32::from(EPHEMERAL.end - EPHEMERAL.start);
        let start = (shared.secret.draw() % u64::from(count)) as u32;
        (0..count)
            .map(|n| EPHEMERAL.start + ((start + n) % count) as u16)
            .filter(|port| !self.listeners.has_port(*port))
            .find_map(|port| {
                flow.local.set_port(port);
                free(flow)
            })
            .ok_or(ConnectError::Bind(BindError::NoPort))
    }
}
