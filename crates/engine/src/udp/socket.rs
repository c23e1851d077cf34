//! A UDP socket.

use crate::collections::bounded_queue::{Inbox, Limits};
use crate::end::FourTuple;
use crate::event::Events;
use crate::ip::paths;
use crate::udp::{UdpError, UdpId};
use crate::{Event, IpFields};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use lastack_wire::icmp::IcmpError;

/// A datagram received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Its destination.
    pub local: SocketAddr,
    /// Its source.
    pub remote: SocketAddr,
    /// Its data.
    pub payload: Vec<u8>,
    /// Other fields of its IP header.
    pub ip: IpFields,
}

/// A datagram to be sent, or several of the same flow.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub flow: FourTuple,
    pub payload: Vec<u8>,
    /// The payload is split into datagrams of this many bytes (the last may be shorter). They form one super-segment,
    /// which the link splits.
    pub segment_size: Option<u16>,
    /// Overrides the settings of the socket.
    pub ip: Option<IpFields>,
}

#[derive(Debug)]
pub(super) struct Socket {
    /// The address it was bound to.
    pub bound: SocketAddr,
    /// Set while it is connected. The local address is then specific.
    pub flow: Option<FourTuple>,
    pub received: Inbox<Datagram>,
    pub unsent: VecDeque<Outgoing>,
    /// A send failed because `unsent` was full.
    pub blocked: bool,
    /// Reported once, by the next call that can fail.
    pub error: Option<UdpError>,
    /// The ICMP error that caused the last such error, and its sender.
    pub icmp: Option<(IcmpError, IpAddr)>,
    /// Max datagrams in the receive queue; overrides the stack's limit.
    pub receive_queue: Option<usize>,
    /// A datagram too large for the path is an error instead of fragmented.
    pub dont_fragment: bool,
    /// Overrides the stack's setting.
    pub hop_limit: Option<u8>,
    /// Destinations and sizes of recent large packets: ICMP errors may refer to them.
    large: Vec<(IpAddr, u16)>,
    closed: bool,
}

/// Max destinations in `large`.
const MAX_LARGE: usize = 16;

impl Socket {
    pub fn new(bound: SocketAddr) -> Self {
        Self {
            bound,
            flow: None,
            received: Inbox::default(),
            unsent: VecDeque::new(),
            blocked: false,
            error: None,
            icmp: None,
            receive_queue: None,
            dont_fragment: false,
            hop_limit: None,
            large: Vec::new(),
            closed: false,
        }
    }

    /// A packet of `octets` bytes was sent to `remote`.
    pub fn note_size(&mut self, remote: IpAddr, bytes: usize) {
        if bytes <= paths::floor(remote) {
            return;
        }
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.large.retain(|(other, _)| *other != remote);
        if self.large.len() >= MAX_LARGE {
            self.large.remove(0);
        }
        self.large.push((remote, bytes));
    }

    /// Whether a packet larger than this was recently sent to `remote`.
    pub fn has_sent_more(&self, remote: IpAddr, bytes: usize) -> bool {
        self.large.iter().any(|(other, sent)| *other == remote && usize::from(*sent) > bytes)
    }

    pub fn local(&self) -> SocketAddr {
        self.flow.map_or(self.bound, |flow| flow.local)
    }

    /// The application has closed it; it only exists to send queued datagrams.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.received = Inbox::default();
        self.error = None;
    }

    /// Adds a datagram to the receive queue; `false`: it is full.
    pub fn deliver(&mut self, id: UdpId, datagram: Datagram, max: Limits, events: &mut Events) -> bool {
        let bytes = datagram.payload.len();
        let delivered = self.received.push(datagram, bytes, max).is_ok();
        if delivered {
            self.tell(id, events);
        }
        delivered
    }

    /// Stores an error for the next call that can fail.
    pub fn fail(&mut self, id: UdpId, error: UdpError, events: &mut Events) {
        if !self.closed {
            self.error = Some(error);
            self.tell(id, events);
        }
    }

    fn tell(&mut self, id: UdpId, events: &mut Events) {
        if self.received.tell() {
            events.push(Event::UdpReadable(id));
        }
    }
}
