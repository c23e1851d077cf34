//! A UDP socket.

use crate::collections::bounded_queue::{Inbox, Most};
use crate::end::FourTuple;
use crate::event::Events;
use crate::ip::paths;
use crate::udp::{UdpError, UdpId};
use crate::{Event, IpFields};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use lastack_wire::icmp::IcmpError;

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Where it was sent to.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
    /// What its IP header said beside the addresses.
    pub ip: IpFields,
}

/// A datagram to be sent, or several of one flow.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub flow: FourTuple,
    pub payload: Vec<u8>,
    /// The payload is that of several datagrams, each of so many octets, the last with what is left. Together they are
    /// one packet that the link cuts.
    pub segment_size: Option<u16>,
    /// Instead of the socket's own settings.
    pub ip: Option<IpFields>,
}

#[derive(Debug)]
pub(super) struct Socket {
    /// What it was bound to.
    pub bound: SocketAddr,
    /// Set while it is connected. The local address is then a specific one.
    pub flow: Option<FourTuple>,
    pub received: Inbox<Datagram>,
    pub unsent: VecDeque<Outgoing>,
    /// A send found `unsent` full.
    pub blocked: bool,
    /// To be reported once, by the next call that can fail.
    pub error: Option<UdpError>,
    /// The ICMP error behind the last such error, and its sender.
    pub icmp: Option<(IcmpError, IpAddr)>,
    /// How many datagrams may wait to be read, instead of the stack's limit.
    pub receive_queue: Option<usize>,
    /// What is too large for the path is an error instead of fragmented.
    pub dont_fragment: bool,
    /// Instead of the stack's.
    pub hop_limit: Option<u8>,
    /// Where large packets went of late, and how large they were: about those a router may complain.
    large: Vec<(IpAddr, u16)>,
    closed: bool,
}

/// Most destinations of large packets that a socket remembers.
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

    /// A packet of so many octets has left for `remote`.
    pub fn note_size(&mut self, remote: IpAddr, octets: usize) {
        if octets <= paths::floor(remote) {
            return;
        }
        let octets = u16::try_from(octets).unwrap_or(u16::MAX);
        self.large.retain(|(other, _)| *other != remote);
        if self.large.len() >= MAX_LARGE {
            self.large.remove(0);
        }
        self.large.push((remote, octets));
    }

    /// Whether a packet larger than this has left for `remote` of late.
    pub fn has_sent_more(&self, remote: IpAddr, octets: usize) -> bool {
        self.large.iter().any(|(other, sent)| *other == remote && usize::from(*sent) > octets)
    }

    pub fn local(&self) -> SocketAddr {
        self.flow.map_or(self.bound, |flow| flow.local)
    }

    /// Its user has closed it; it only lives to send what waits.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.received = Inbox::default();
        self.error = None;
    }

    /// Adds a datagram to those that wait to be read; `false`: there are too many.
    pub fn deliver(&mut self, id: UdpId, datagram: Datagram, most: Most, events: &mut Events) -> bool {
        let octets = datagram.payload.len();
        let delivered = self.received.push(datagram, octets, most).is_ok();
        if delivered {
            self.tell(id, events);
        }
        delivered
    }

    /// Keeps an error for the next call that can fail.
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
