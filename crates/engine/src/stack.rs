//! The stack: its public interface, and the path of a packet through it.

use crate::config::validate::TcpConfigMut;
use crate::event::Event;
use crate::icmp::Icmp;
use crate::ip::ingress;
use crate::ip::raw::RawPackets;
use crate::ip::reassembly::Reassembly;
use crate::packet::{Lending, LentPacket, Offer, PacketBuffer};
use crate::shared::Shared;
use crate::tcp::TcpTable;
use crate::turn::Turn;
use crate::udp::UdpTable;
use crate::{Config, Counters, Instant, Received, Transmit, Verdict};
use crate::{icmp, udp};
use alloc::vec::Vec;
use core::mem;
use lastack_wire::ip::{self, IpPacket};

/// A TCP/IP stack with one link. Its output depends only on the calls and their times.
///
/// # Contract
///
/// The methods are of four groups:
///
/// * **A, getters**: [`config`](Self::config), [`counters`](Self::counters), [`connections`](Self::connections) etc.
///   They change nothing, and may be called at any time.
/// * **B, input**: [`handle_packet`](Self::handle_packet) for each packet that arrives,
///   [`handle_timeout`](Self::handle_timeout) when the time of [`poll_timeout`](Self::poll_timeout) is reached. They
///   take the current time, which must never go back.
/// * **C, calls of the application**: those of RFC 9293 section 3.9.1 ([`tcp_connect`](Self::tcp_connect),
///   [`tcp_listen`](Self::tcp_listen), [`tcp`](Self::tcp) for the rest) and their equivalents for UDP and ICMP echo.
///   They record the request; they send nothing, and take no time.
/// * **D, output**: after any number of calls of B and C, in this order:
///   [`poll_transmit`](Self::poll_transmit) until it returns `None`, passing each packet to the link;
///   [`poll_event`](Self::poll_event) until it returns `None`, waking the user of the socket for each event (if it makes
///   calls of C, restart D); [`poll_timeout`](Self::poll_timeout), the latest time at which the next call of B is due.
///
/// A call that returns `Poll::Pending` is followed by an event when it should be retried. The same calls at the same
/// times give the same packets, byte for byte. No method blocks, and none allocates memory in proportion to a size that
/// the peer claims.
///
/// # A loop without a runtime
///
/// Two stacks on one wire, with simulated time:
///
/// ```
/// use core::task::Poll;
/// use core::time::Duration;
/// use lastack_engine::{Config, Instant, Received, Stack};
///
/// let address = |last| core::net::IpAddr::from([10, 0, 0, last]);
/// let mut stacks = [1, 2].map(|last| Stack::new(Config::new([address(last)]), [last; 16]));
/// let listener = stacks[1].tcp_listen((address(2), 7).into(), 16).unwrap();
/// let client = stacks[0].tcp_connect(None, (address(2), 7).into()).unwrap();
///
/// let (mut now, mut packet, mut data) = (Instant::ZERO, Vec::new(), Vec::new());
/// while data != b"hello" {
///     // D: each packet to be sent goes to the other stack (B), until neither sends any more.
///     let mut quiet = true;
///     for side in [0, 1] {
///         while stacks[side].poll_transmit(now, &mut packet).is_some() {
///             let _verdict = stacks[1 - side].handle_packet(now, &packet, Received::default());
///             quiet = false;
///         }
///         while let Some(event) = stacks[side].poll_event() {
///             println!("{side}: {event:?}");
///         }
///     }
///     // C: the applications. Here they poll every time; a real program acts on the events.
///     if let Some(connection) = stacks[1].tcp_accept(listener) {
///         let mut tcp = stacks[1].tcp(connection).unwrap();
///         assert_eq!(tcp.send(b"hello"), Poll::Ready(Ok(5)));
///         tcp.close();
///     }
///     let mut buf = [0; 100];
///     if let Some(Poll::Ready(received)) = stacks[0].tcp(client).map(|mut tcp| tcp.receive(&mut buf)) {
///         data.extend_from_slice(&buf[..received.unwrap()]);
///     }
///     // B: no packet is in flight, so advance the time to the next deadline.
///     if quiet && stacks.iter().all(|stack| !stack.has_output()) {
///         now = stacks.iter().filter_map(Stack::poll_timeout).min().unwrap_or(now + Duration::from_secs(1));
///         stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Stack {
    pub(crate) shared: Shared,
    pub(crate) tcp: TcpTable,
    pub(crate) udp: UdpTable,
    pub(crate) icmp: Icmp,
    pub(crate) raw: RawPackets,
    pub(crate) reassembly: Reassembly,
    turn: Turn,
}

impl Stack {
    /// Creates a stack with these settings. All values that must be unpredictable are derived from
    /// `secret`: use random bytes in production, and constant ones in tests.
    pub fn new(config: Config, secret: [u8; 16]) -> Self {
        let shared = Shared::new(config, secret);
        Self {
            tcp: TcpTable::new(&shared),
            udp: UdpTable::new(&shared),
            icmp: Icmp::default(),
            raw: RawPackets::default(),
            reassembly: Reassembly::default(),
            turn: Turn::default(),
            shared,
        }
    }

    /// Processes one IP packet that arrived and returns the verdict on it.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8], received: Received) -> Verdict {
        self.shared.counters.ip_in_receives += 1;
        let verdict = self.judge(now, packet, received);
        self.shared.counters.arrived(&verdict);
        verdict
    }

    /// As [`handle_packet`](Self::handle_packet), without copying the data of a large segment: the stack may keep the
    /// buffer as a part of a receive buffer, and leave another one in its place, whose content does not matter. It does
    /// so if the segment has [`TcpConfig::min_kept`](crate::TcpConfig::min_kept) bytes of data or more, they fill half of
    /// the buffer's capacity, and they are the next that the application will read.
    #[inline]
    pub fn handle_owned_packet(&mut self, now: Instant, packet: &mut Vec<u8>, received: Received) -> Verdict {
        if packet.len() < self.shared.config.tcp.min_kept {
            return self.handle_packet(now, packet, received);
        }
        self.handle_large_packet(now, packet, received)
    }

    #[inline(never)]
    fn handle_large_packet(&mut self, now: Instant, packet: &mut Vec<u8>, received: Received) -> Verdict {
        self.shared.offer = Some(Offer::new(packet));
        let verdict = self.handle_packet(now, packet, received);
        let offer = self.shared.offer.take();
        if let Some(id) = offer.and_then(|offer| offer.kept_by) {
            let kept = mem::replace(packet, self.shared.pool.take());
            if let Some(unread) = self.tcp.fill_kept(id, kept) {
                self.shared.pool.put(unread, now);
            }
        }
        verdict
    }

    fn judge(&mut self, now: Instant, packet: &[u8], received: Received) -> Verdict {
        let parsed = IpPacket::parse(packet);
        let parsed = match ingress::admit(&mut self.shared, &parsed) {
            Ok(parsed) => parsed,
            Err(reason) => return Verdict::Dropped(reason),
        };
        if parsed.fragment.is_none() {
            return self.deliver(now, packet, parsed, received);
        }
        // Its data is copied into a packet of its own.
        self.shared.offer = None;
        match self.reassembly.add(&mut self.shared, now, packet, parsed) {
            Ok(whole) => match IpPacket::parse(&whole) {
                Ok(mut parsed) => {
                    // A reply to a fragmented packet may be fragmented.
                    parsed.header.dont_fragment = false;
                    self.deliver(now, &whole, &parsed, Received::default())
                }
                Err(malformed) => Verdict::Dropped(malformed.into()),
            },
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    fn deliver(&mut self, now: Instant, packet: &[u8], parsed: &IpPacket<'_>, received: Received) -> Verdict {
        match parsed.header.protocol {
            ip::TCP => self.tcp.arrives(&mut self.shared, now, &parsed.header, parsed.payload, received),
            ip::UDP => udp::arrives(self, now, packet, parsed, received),
            ip::ICMP | ip::ICMPV6 => icmp::arrives(self, now, packet, parsed),
            _ => match self.raw.arrives(&mut self.shared, parsed) {
                Some(verdict) => verdict,
                None => icmp::unknown_protocol(self, now, packet, parsed),
            },
        }
    }

    /// Runs the timers due at `now`. Call it when the time of [`poll_timeout`](Self::poll_timeout) is
    /// reached.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tcp.handle_timeout(&mut self.shared, now);
        self.reassembly.handle_timeout(&mut self.shared, &mut self.icmp, now);
        if self.pool_deadline().is_some_and(|at| at <= now) {
            self.shared.pool.release();
        }
    }

    /// When `handle_timeout` is due next; `None` while no timer is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = Instant::earliest(self.tcp.poll_timeout(), self.reassembly.poll_timeout());
        Instant::earliest(timers, self.pool_deadline())
    }

    /// When the memory of free packet buffers is released.
    fn pool_deadline(&self) -> Option<Instant> {
        self.shared.pool.deadline(self.shared.config.tcp.buffer_idle)
    }

    /// Writes the next packet to be sent into `packet`, replacing its content. Replies, TCP and UDP take turns, as do
    /// the connections and the sockets among themselves.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        if self.has_output() {
            return self.transmit(now, packet);
        }
        self.turn = Turn::default();
        None
    }

    /// As [`poll_transmit`](Self::poll_transmit), without copying the data of a TCP segment: `headers` gets the rest of
    /// the packet, and the data is lent from the send buffer. For links that take several slices (`writev`).
    ///
    /// The packet is `headers`, `data[0]`, `data[1]`, in this order; a packet that is not a TCP segment with data is in
    /// `headers` as a whole.
    pub fn poll_transmit_vectored<'a>(
        &'a mut self,
        now: Instant,
        headers: &mut Vec<u8>,
    ) -> Option<LentPacket<'a>> {
        loop {
            let mut packet = Lending { headers: &mut *headers, lent: None };
            let transmit = self.transmit(now, &mut packet)?;
            let Some((id, at)) = packet.lent else { return Some(LentPacket { transmit, data: [&[], &[]] }) };
            // If memory is short, the connection may have been aborted right after its segment: its RST follows.
            if self.tcp.sent_data(id, at.clone()).is_some() {
                let data = self.tcp.sent_data(id, at).unwrap_or_default();
                return Some(LentPacket { transmit, data });
            }
        }
    }

    #[inline(never)]
    fn transmit(&mut self, now: Instant, packet: &mut impl PacketBuffer) -> Option<Transmit> {
        let others = !self.shared.outbox.is_empty() || self.udp.has_output();
        let mut transmit = None;
        if others {
            transmit = self.transmit_other(now, packet.headers());
        }
        if transmit.is_none() {
            transmit = self.tcp.poll_transmit(&mut self.shared, now, packet);
        }
        if transmit.is_none() && others {
            transmit = self.transmit_other(now, packet.headers());
        }
        let transmit = transmit?;
        self.shared.counters.ip_out_requests += 1;
        if let Some(rule) = transmit.rule {
            self.shared.counters.sent.count(rule);
        }
        Some(transmit)
    }

    /// Writes a reply or a datagram; `None` if there is none, or if it is TCP's turn.
    #[inline(never)]
    fn transmit_other(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        // A packet that is sent in fragments is finished first.
        if let Some(transmit) = self.shared.pop_part(packet) {
            return Some(transmit);
        }
        // Replies alone take no turns.
        if !self.tcp.has_output() && !self.udp.has_output() {
            self.turn = Turn::Replies.next();
            return self.shared.pop_outbox(now, packet);
        }
        for _ in 0..Turn::COUNT {
            let turn = self.turn;
            self.turn = turn.next();
            let transmit = match turn {
                Turn::Replies => self.shared.pop_outbox(now, packet),
                Turn::Tcp if self.tcp.has_output() => return None,
                Turn::Tcp => None,
                Turn::Udp => self.udp.poll_transmit(&mut self.shared, now, packet),
            };
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something to send.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.shared.outbox.is_empty() || self.tcp.has_output() || self.udp.has_output()
    }

    /// The oldest event not yet polled.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop()
    }

    /// The number of connections, orphaned ones included. A connection counts until it has ended and
    /// its socket is closed. TIME-WAIT is not counted.
    pub fn connections(&self) -> usize {
        self.tcp.len()
    }

    /// Checks the invariants of the stack, for simulations and fuzzing. The cost is proportional to the
    /// number of connections: do not call it in production.
    ///
    /// # Panics
    ///
    /// If an invariant is violated: this is a bug in the stack.
    pub fn check(&self) {
        self.tcp.check(&self.shared);
    }

    /// The counters of this stack.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The effective settings: those given at creation, clamped to their bounds.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The TCP settings, mutable. Options negotiated by existing connections do not change; a sender
    /// waiting for buffer space is not notified if a limit grows.
    pub fn tcp_config_mut(&mut self) -> TcpConfigMut<'_> {
        TcpConfigMut(&mut self.shared.config.tcp)
    }
}
