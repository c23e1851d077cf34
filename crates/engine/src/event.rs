//! Events that the stack reports to its driver.

use crate::end::Ended;
use crate::tcp::{ConnId, ListenerId};
use crate::udp::UdpId;
use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// Something that happened and concerns the user of a socket.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A connection waits at this listener to be accepted.
    Incoming(ListenerId),
    /// A SYN waits for [`Stack::tcp_answer`](crate::Stack::tcp_answer).
    Intercepted(ConnId),
    /// The connection that we opened is established.
    Connected(ConnId),
    /// There is text, the end of the stream, or an error to be received. Follows a receive that was
    /// pending, and the first text of a connection.
    Readable(ConnId),
    /// There is room for text, all text is acknowledged, or there is an error. Follows a send or a
    /// drain that was pending.
    Writable(ConnId),
    /// The peer asks for an acknowledgment that is held back, or whether anybody is there; see
    /// [`Tcp::hold_acks`](crate::Tcp::hold_acks).
    AckWanted(ConnId),
    /// The connection is over. Each connection has exactly one such event, whoever holds it.
    Ended(Box<Ended>),
    /// A datagram or an error waits at this socket.
    UdpReadable(UdpId),
    /// There is room in the send queue of this socket.
    UdpWritable(UdpId),
    /// An echo request waits for [`Stack::poll_echo_request`](crate::Stack::poll_echo_request).
    EchoRequest,
    /// An echo reply, or an error about an echo request of ours, waits for
    /// [`Stack::poll_echo_reply`](crate::Stack::poll_echo_reply).
    EchoReply,
}

/// Events not yet polled, in the order in which they happened.
///
/// Bounded by its senders: each event but `Ended` is sent once until its cause was dealt with, and
/// a connection ends once.
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
