//! Events that the stack reports to its driver.

use crate::end::Ended;
use crate::tcp::{ConnId, ListenerId};
use crate::udp::UdpId;
use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// An event for the user of a socket.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The accept queue of this listener has a connection.
    Incoming(ListenerId),
    /// A SYN waits for [`Stack::tcp_answer`](crate::Stack::tcp_answer).
    Intercepted(ConnId),
    /// An active open has reached ESTABLISHED.
    Connected(ConnId),
    /// Data, the end of the stream, or an error can be received. Follows a receive that returned
    /// `Pending`, and the first data of a connection.
    Readable(ConnId),
    /// The send buffer has room, all data is acknowledged, or there is an error. Follows a send or a
    /// drain that returned `Pending`.
    Writable(ConnId),
    /// The peer has solicited an acknowledgment that is withheld, or has sent a keep-alive probe; see
    /// [`Tcp::hold_acks`](crate::Tcp::hold_acks).
    AckWanted(ConnId),
    /// The connection has ended. Reported exactly once for each connection, orphaned or not.
    Ended(Box<Ended>),
    /// A datagram or an error can be received from this socket.
    UdpReadable(UdpId),
    /// The send queue of this socket has room.
    UdpWritable(UdpId),
    /// An echo request waits for [`Stack::poll_echo_request`](crate::Stack::poll_echo_request).
    EchoRequest,
    /// An echo reply, or an error about an echo request sent, waits for
    /// [`Stack::poll_echo_reply`](crate::Stack::poll_echo_reply).
    EchoReply,
    /// A packet of another protocol waits for [`Stack::poll_raw_packet`](crate::Stack::poll_raw_packet).
    RawPacket,
    /// The queue of [`Stack::raw_send`](crate::Stack::raw_send) is empty again. Follows
    /// [`RawError::NoSpace`](crate::RawError::NoSpace).
    RawWritable,
}

/// Events not yet polled, in the order in which they happened.
///
/// Bounded by its sources: an event other than `Ended` is not repeated until its cause is handled,
/// and a connection ends once.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<Event>);

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        self.0.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}
