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

/// A TCP/IP stack with one link.
///
/// # The two sides
///
/// *The network side* is told the time: [`handle_packet`](Self::handle_packet),
/// [`handle_timeout`](Self::handle_timeout), [`poll_transmit`](Self::poll_transmit).
///
/// *The user side* is the calls of RFC 9293 section 3.9.1 ([`tcp_connect`](Self::tcp_connect),
/// [`tcp_listen`](Self::tcp_listen), [`tcp`](Self::tcp) for the rest) and their like for UDP and
/// ICMP echo. They record what is wanted; they send nothing.
///
/// # The loop
///
/// After any call: `poll_transmit` until `None`, giving each packet to the link; `poll_event` until
/// `None`; then sleep until a packet arrives, a user calls, or the time that `poll_timeout` names
/// has come, at which `handle_timeout` is due.
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
