//! Socket options about buffers and packet sizes: `SO_RCVBUF`, `TCP_NOTSENT_LOWAT`, `MSG_EOR`, `IP_MTU_DISCOVER`.

use crate::Stack;
use crate::config::validate::MIN_BUFFER;
use crate::shared::Shared;
use crate::tcp::handshake::{Handshake, negotiate};
use crate::tcp::table::Socket;
use crate::tcp::{ListenerId, Tcp, TcpError};
use core::net::IpAddr;
use core::task::Poll;

impl Stack {
    /// The receive buffer of a listener's later connections ([`Tcp::set_receive_buffer`]); connections opened by a SYN
    /// cookie have the stack's.
    pub fn tcp_set_listener_receive_buffer(&mut self, id: ListenerId, bytes: Option<usize>) {
        let bytes = bounded(bytes, self.shared.config.tcp.receive_buffer);
        if let Some(listener) = self.tcp.listeners.get_mut(id) {
            listener.receive_buffer = bytes;
        }
    }
}

/// A size within the limits of a receive buffer.
fn bounded(bytes: Option<usize>, limit: usize) -> Option<u32> {
    bytes.map(|bytes| bytes.clamp(MIN_BUFFER, limit) as u32)
}

/// The whole segments that fit: a window of them invites no partial segment.
fn whole_segments(shared: &Shared, remote: IpAddr, bytes: usize) -> usize {
    let mss = usize::from(negotiate::own_mss(&shared.config, remote)).max(1);
    if bytes > mss { bytes - bytes % mss } else { bytes }
}

impl Tcp<'_> {
    /// `SO_RCVBUF`: size of the receive buffer, from 536 bytes up to the stack's limit; the window has whole
    /// segments and never exceeds it; `None`: auto-tuning. Set before the SYN is sent, it determines the window scale too. A window that
    /// was advertised is not taken back.
    pub fn set_receive_buffer(&mut self, bytes: Option<usize>) {
        let bytes = bounded(bytes, self.shared.config.tcp.receive_buffer);
        self.set(|settings| settings.receive_buffer = bytes);
        match self.table.socket_mut(self.id) {
            Socket::Opening(handshake) => handshake.fit_receive_buffer(self.shared),
            Socket::Open(connection) => {
                let bytes = bytes.unwrap_or_default() as usize;
                connection.incoming.raise_limit(whole_segments(
                    self.shared,
                    connection.flow.remote.ip(),
                    bytes,
                ));
                connection.cap_receive_buffer(self.shared);
                // A share limits only the windows that the stack itself sizes.
                connection.rcv.limit_window(usize::MAX);
            }
            Socket::Closed(_) => {}
        }
    }

    /// See [`set_receive_buffer`](Self::set_receive_buffer). The stack's limit, if none is set.
    pub fn receive_buffer(&self) -> usize {
        let limit = self.shared.config.tcp.receive_buffer;
        self.settings().receive_buffer.map_or(limit, |bytes| bytes as usize)
    }

    /// `TCP_NOTSENT_LOWAT`: the send buffer takes at most this much data beyond what the peer's window and the
    /// congestion window allow sending; [`Event::Writable`](crate::Event::Writable) follows once half of that is sent.
    /// `None`: the size of the send buffer is the only limit.
    pub fn set_not_sent_low_water(&mut self, bytes: Option<u32>) {
        self.set(|settings| settings.not_sent_low_water = bytes);
        if let Socket::Open(connection) = self.table.socket_mut(self.id) {
            connection.wake_writer(self.shared);
        }
    }

    /// See [`set_not_sent_low_water`](Self::set_not_sent_low_water).
    pub fn not_sent_low_water(&self) -> Option<u32> {
        self.settings().not_sent_low_water
    }

    /// [`send`](Self::send), and a record ends after `data` if all of it was taken (`MSG_EOR`): no segment contains
    /// data from both sides of its end. The peer is not notified. At most 1024 ends are kept.
    ///
    /// # Errors
    ///
    /// As in [`send`](Self::send).
    pub fn send_record(&mut self, data: &[u8]) -> Poll<Result<usize, TcpError>> {
        let sent = self.send(data);
        if sent == Poll::Ready(Ok(data.len()))
            && let Socket::Open(connection) = self.table.socket_mut(self.id)
        {
            connection.end_record();
            self.table.account_memory(self.shared, self.id);
        }
        sent
    }

    /// `IP_MTU_DISCOVER`. `false` is `IP_PMTUDISC_DONT`: IPv4 segments are sent without DF from the handshake's end on,
    /// and ICMP errors do not lower the path MTU. No effect on IPv6, whose routers never fragment.
    pub fn set_path_mtu_discovery(&mut self, on: bool) {
        self.set(|settings| settings.may_fragment = !on);
    }

    /// See [`set_path_mtu_discovery`](Self::set_path_mtu_discovery).
    pub fn path_mtu_discovery(&self) -> bool {
        !self.settings().may_fragment
    }
}

impl Handshake {
    /// Applies the size of the receive buffer to the SYN, unless it was sent.
    pub fn fit_receive_buffer(&mut self, shared: &Shared) {
        if !self.is_unsent() {
            return;
        }
        let limit = shared.config.tcp.receive_buffer;
        let whole = |bytes: u32| whole_segments(shared, self.flow.remote.ip(), bytes as usize);
        self.offered.receive_buffer = self.settings.receive_buffer.map_or(limit, whole);
    }
}
