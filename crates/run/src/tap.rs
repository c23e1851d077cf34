//! Reads from the program's packets, on their way to the stack, what the stack does not report: the header fields of
//! its connections, urgent data, the groups that it joins, and the packets that lastack does not relay.

mod errors;
mod groups;
mod headers;
mod uncarried;
mod urgent;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use lastack::link::{Capabilities, Link};
use lastack::{Instant, Received, Transmit, Verdict};
use lastack_wire::ip::{self, IpPacket};
use tokio::sync::Notify;

pub use groups::Membership;
pub use headers::{Changes, TcpHeaders};
pub use uncarried::Uncarried;
pub use urgent::Urgent;

/// The period without packets that counts as quiet, and the polling interval.
const MOMENT: Duration = Duration::from_millis(2);
const MAX_MOMENTS: u32 = 1000;

/// A link that inspects the packets that arrive.
pub struct Tap<L> {
    link: L,
    seen: Arc<Seen>,
    headers: TcpHeaders,
}

/// What was seen, shared with its readers.
#[derive(Debug, Default)]
pub struct Seen {
    inner: Mutex<Inner>,
    /// A connection's header fields have changed.
    pub changed: Notify,
    /// A group was joined or left.
    pub joined: Notify,
    /// Urgent data of both directions.
    pub urgent: Urgent,
    /// Packets of the program so far.
    pub packets: AtomicU64,
}

/// The part under the lock.
#[derive(Debug, Default)]
pub struct Inner {
    /// The header fields of connections.
    pub headers: Changes,
    /// The groups that were joined and left, in sequence.
    pub memberships: Vec<Membership>,
    /// The packets that were not relayed.
    pub uncarried: Uncarried,
}

impl Seen {
    /// Waits until no packet of the program has arrived for a moment: it has ended, and its last packets may still be
    /// in transit.
    pub async fn quiet(&self) {
        for _ in 0..MAX_MOMENTS {
            let before = self.packets.load(Ordering::Relaxed);
            tokio::time::sleep(MOMENT).await;
            if self.packets.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// Takes the lock, which is never held for long.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Link> Tap<L> {
    /// Around a link.
    pub fn new(link: L, seen: Arc<Seen>) -> Self {
        Self { link, seen, headers: TcpHeaders::default() }
    }

    fn look(&mut self, packet: &[u8]) {
        let protocol = match packet.first().map(|first| first >> 4) {
            Some(4) => packet.get(9).copied(),
            Some(6) => packet.get(6).copied(),
            _ => None,
        };
        match protocol {
            Some(ip::TCP) => {
                if self.headers.look(packet, &self.seen) {
                    self.seen.urgent.look(packet);
                }
            }
            Some(ip::UDP) | None => {}
            Some(_) => self.look_closer(packet),
        }
    }

    /// A packet for the program with what the stack does not know of it; `None`: it stays as it is.
    fn changed(&self, packet: [&[u8]; 3], transmit: &Transmit) -> Option<Vec<u8>> {
        self.seen.urgent.marked(packet, !transmit.partial_checksum).or_else(|| errors::with_hop_limit(packet))
    }

    /// A packet that is neither TCP nor UDP, or has extension headers.
    fn look_closer(&self, packet: &[u8]) {
        let Ok(parsed) = IpPacket::parse(packet) else { return };
        let memberships = groups::read(&parsed);
        if !memberships.is_empty() {
            let mut seen = self.seen.lock();
            // The queue is bounded: a program may join and leave without end.
            let room = groups::MAX_WAITING.saturating_sub(seen.memberships.len());
            seen.memberships.extend(memberships.into_iter().take(room));
            drop(seen);
            self.seen.joined.notify_one();
        } else if let Some(kind) = uncarried::Kind::of(&parsed) {
            self.seen.lock().uncarried.add(kind);
        }
    }
}

impl<L: Link> Link for Tap<L> {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        match self.changed([packet, &[], &[]], transmit) {
            Some(marked) => self.link.send(now, &marked, transmit),
            None => self.link.send(now, packet, transmit),
        }
    }

    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        match self.changed(packet, transmit) {
            Some(marked) => self.link.send(now, &marked, transmit),
            None => self.link.send_vectored(now, packet, transmit),
        }
    }

    fn is_vectored(&self) -> bool {
        self.link.is_vectored()
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        let received = self.link.recv(now, packet)?;
        self.seen.packets.fetch_add(1, Ordering::Relaxed);
        self.look(packet);
        Some(received)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        self.link.annotate(now, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.link.flush(now);
    }
}
