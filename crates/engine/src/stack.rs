//! The stack: its two sides, and the path of a packet through it.

use crate::config::validate::TcpConfigMut;
use crate::event::Event;
use crate::icmp::Icmp;
use crate::ip::ingress;
use crate::ip::reassembly::Reassembly;
use crate::shared::Shared;
use crate::tcp::TcpTable;
use crate::udp::UdpTable;
use crate::{Config, Counters, Instant, Received, Transmit, Verdict};
use crate::{icmp, udp};
use alloc::vec::Vec;
use lastack_wire::ip::{self, IpPacket};

/// A TCP/IP stack with one link, as a function of calls and time.
///
/// # Contract
///
/// The methods are of four groups:
///
/// * **A, getters**: [`config`](Self::config), [`counters`](Self::counters), [`connections`](Self::connections) and
///   their like. They change nothing, and may be called at any time.
/// * **B, what happens**: [`handle_packet`](Self::handle_packet) for each packet that arrives,
///   [`handle_timeout`](Self::handle_timeout) when the time of [`poll_timeout`](Self::poll_timeout) has come. They are told
///   the time, which must never go back.
/// * **C, calls of the user**: those of RFC 9293 section 3.9.1 ([`tcp_connect`](Self::tcp_connect),
///   [`tcp_listen`](Self::tcp_listen), [`tcp`](Self::tcp) for the rest) and their like for UDP and ICMP echo. They record
///   what is wanted; they send nothing, and know no time.
/// * **D, what is to be done**: after any number of calls of B and C, in this order:
///   [`poll_transmit`](Self::poll_transmit) until it gives `None`, each packet going to the link;
///   [`poll_event`](Self::poll_event) until it gives `None`, each event waking its user (who makes calls of C: then begin D
///   again); [`poll_timeout`](Self::poll_timeout), the latest time at which the next call of B is due.
///
/// A call that gives `Poll::Pending` is followed by an event once it is worth to be tried again. The same calls at the
/// same times give the same packets, byte for byte. Nothing here blocks, and nothing allocates in proportion to what a
/// peer claims.
///
/// # A loop without a runtime
///
/// Two stacks on one wire, whose time is a number:
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
///     // D: whatever is to be sent goes to the other stack (B), until both are quiet.
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
///     // C: the users. Here they ask each time; a program keeps the events and asks those that are concerned.
///     if let Some(connection) = stacks[1].tcp_accept(listener) {
///         let mut tcp = stacks[1].tcp(connection).unwrap();
///         assert_eq!(tcp.send(b"hello"), Poll::Ready(Ok(5)));
///         tcp.close();
///     }
///     let mut buf = [0; 100];
///     if let Some(Poll::Ready(received)) = stacks[0].tcp(client).map(|mut tcp| tcp.receive(&mut buf)) {
///         data.extend_from_slice(&buf[..received.unwrap()]);
///     }
///     // B: nothing is on its way, so time goes on to the next deadline.
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
    pub(crate) reassembly: Reassembly,
}

impl Stack {
    /// A stack with these settings. `secret` should be random in production and is what a test
    /// fixes: all that outsiders must not guess derives from it.
    pub fn new(config: Config, secret: [u8; 16]) -> Self {
        let shared = Shared::new(config, secret);
        Self {
            tcp: TcpTable::new(&shared),
            udp: UdpTable::new(&shared),
            icmp: Icmp::default(),
            reassembly: Reassembly::default(),
            shared,
        }
    }

    /// Takes in one IP packet and says what became of it.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8], received: Received) -> Verdict {
        self.shared.counters.ip_in_receives += 1;
        let verdict = self.judge(now, packet, received);
        self.shared.counters.arrived(&verdict);
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
        match self.reassembly.add(&mut self.shared, now, packet, parsed) {
            Ok(whole) => match IpPacket::parse(&whole) {
                Ok(mut parsed) => {
                    // What came in fragments may leave in fragments.
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
            _ => icmp::unknown_protocol(self, now, packet, parsed),
        }
    }

    /// Does what is due at `now`: to be called when [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tcp.handle_timeout(&mut self.shared, now);
        self.reassembly.handle_timeout(&mut self.shared, &mut self.icmp, now);
    }

    /// When `handle_timeout` is due next; `None` while nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.tcp.poll_timeout(), self.reassembly.poll_timeout()].into_iter().flatten().min()
    }

    /// Puts the next packet to be sent into `packet`, replacing what it held.
    pub fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmit> {
        let transmit = self
            .shared
            .pop_outbox(now, packet)
            .or_else(|| self.tcp.poll_transmit(&mut self.shared, now, packet))
            .or_else(|| self.udp.poll_transmit(&mut self.shared, now, packet))?;
        self.shared.counters.ip_out_requests += 1;
        if let Some(rule) = transmit.rule {
            self.shared.counters.sent.count(rule);
        }
        Some(transmit)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something to send.
    pub fn has_output(&self) -> bool {
        !self.shared.outbox.is_empty() || self.tcp.has_output() || self.udp.has_output()
    }

    /// The oldest event not yet polled.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop()
    }

    /// How many connections there are, held by a user or not: until they are over and their user has
    /// closed them. TIME-WAIT is none.
    pub fn connections(&self) -> usize {
        self.tcp.len()
    }

    /// Tests what must hold between any two steps, for simulations and fuzzing. Its cost is proportional
    /// to what exists, so that a program that serves people does not call it.
    ///
    /// # Panics
    ///
    /// If it does not hold: that is a defect of this stack.
    pub fn check(&self) {
        self.tcp.check(&self.shared);
    }

    /// What happened how often.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The settings the stack runs with: those it was made with, within their bounds.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The settings of TCP, to be changed. What a connection has agreed on with its peer stays; who waits
    /// for room is not told if there is more.
    pub fn tcp_config_mut(&mut self) -> TcpConfigMut<'_> {
        TcpConfigMut(&mut self.shared.config.tcp)
    }
}
