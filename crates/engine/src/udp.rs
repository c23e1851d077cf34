//! UDP (RFC 768): sockets, delivery and transmission.
//!
//! Calls queue datagrams; [`Stack::poll_transmit`] sends them.

mod arrives;
mod bindings;
mod error;
mod socket;
#[cfg(test)]
mod tests;
mod transmit;
mod view;

pub use error::UdpError;
pub use socket::Datagram;
pub use view::Udp;

pub(crate) use arrives::arrives;

use crate::collections::slots::SlotMap;
use crate::ip::ingress::is_host;
use crate::shared::Shared;
use crate::{BindError, Stack};
use alloc::collections::VecDeque;
use bindings::Bindings;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use socket::Socket;

crate::collections::slots::id_type! {
    /// The id of a UDP socket. It is never reused.
    pub struct UdpId;
}

/// All UDP sockets of a stack.
#[derive(Debug)]
pub(crate) struct UdpTable {
    sockets: SlotMap<UdpId, Socket>,
    bindings: Bindings,
    /// The socket that receives datagrams without a matching socket.
    intercept: Option<UdpId>,
    /// Sockets with queued datagrams, each once, served round-robin.
    ready: VecDeque<UdpId>,
}

impl UdpTable {
    pub fn new(shared: &Shared) -> Self {
        let mut table = Self {
            sockets: SlotMap::new(),
            bindings: Bindings::new(shared.secret.table()),
            intercept: None,
            ready: VecDeque::new(),
        };
        if shared.config.intercept.udp {
            table.intercept();
        }
        table
    }

    fn intercept(&mut self) -> UdpId {
        let anywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        *self.intercept.get_or_insert_with(|| self.sockets.insert(Socket::new(anywhere)))
    }

    /// Whether `poll_transmit` may have something to send.
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Releases a socket's addresses; queued datagrams are still sent.
    fn close(&mut self, id: UdpId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        self.bindings.release(socket.bound, socket.flow.as_ref());
        if self.intercept == Some(id) {
            self.intercept = None;
        }
        if socket.unsent.is_empty() {
            self.sockets.remove(id);
        } else {
            socket.close();
        }
    }
}

impl Stack {
    /// Opens a socket bound to `local`. An unspecified address means all local addresses (of both
    /// families if it is `::`); port 0 an ephemeral port.
    ///
    /// # Errors
    /// If another socket is bound to that address, it is not local, or no port is free.
    pub fn udp_bind(&mut self, local: SocketAddr) -> Result<UdpId, BindError> {
        let ip = local.ip().to_canonical();
        let ours = is_host(ip) && self.shared.is_local(ip);
        if !ours && !ip.is_unspecified() {
            return Err(BindError::NotOurs);
        }
        let bindings = &mut self.udp.bindings;
        let port = match local.port() {
            0 => bindings.ephemeral_port(self.shared.secret.draw()).ok_or(BindError::NoPort)?,
            port => port,
        };
        let bound = SocketAddr::new(ip, port);
        if bindings.is_taken(bound) {
            return Err(BindError::InUse);
        }
        let id = self.udp.sockets.insert(Socket::new(bound));
        self.udp.bindings.bind(bound, id);
        Ok(id)
    }

    /// The socket that receives every datagram without a matching socket, to any address and port. It is
    /// open from the start with [`Intercept::udp`](crate::Intercept), otherwise from the first call of
    /// this method. Datagrams [received](Udp::receive) have their destination, and it can
    /// [send](Udp::send_from) from any address.
    pub fn udp_intercept(&mut self) -> UdpId {
        self.udp.intercept()
    }

    /// A view of a socket; `None` if it was closed.
    pub fn udp(&mut self, id: UdpId) -> Option<Udp<'_>> {
        let open = self.udp.sockets.get(id).is_some_and(|socket| !socket.is_closed());
        open.then(|| Udp::new(&mut self.udp, &mut self.shared, id))
    }
}
