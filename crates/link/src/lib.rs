//! The links of a stack: the [`Link`] trait, an in-memory link, and decorators of any link.
//!
//! [`Impair`] drops, delays and corrupts packets; [`Capture`] passes them to a [`Sink`] such as [`PcapngWriter`].
//! Decorators are applied from the inside out: this one captures packets received after the impairment, that is, what
//! the stack sees:
//!
//! ```
//! # #[cfg(feature = "pcap")] {
//! use lastack_link::{Capabilities, Capture, Impair, Link, PcapngWriter, Plan, pipe};
//! use std::time::{Duration, SystemTime};
//!
//! let (near, _far) = pipe(Capabilities::new(1500));
//! let plan = Plan { seed: 1, delay: Duration::from_millis(20), loss: 0.01, ..Plan::default() };
//! let file = PcapngWriter::new(Vec::new(), SystemTime::now());
//! let link = Capture::new(Impair::new(near, plan), file);
//! assert_eq!(link.capabilities().mtu, 1500);
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "pcap"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "pcap")]
mod capture;
mod channel;
mod checksum;
mod cut;
mod filter;
mod impair;
mod layout;
#[cfg(feature = "pcap")]
mod pcapng;
mod pipe;

use lastack_engine::{Checksums, Config, Instant, Received, Transmit, TransmitChecksum, Verdict};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

#[cfg(feature = "pcap")]
pub use capture::{Capture, Record, Sink};
pub use channel::{Channel, PacketReceiver, PacketSender, TrySendError, channel};
pub use checksum::complete_checksum;
pub use cut::Cut;
pub use filter::Filter;
pub use impair::{Course, Damage, Impair, ImpairStats, LaneStats, Passage, Plan};
#[cfg(feature = "pcap")]
pub use pcapng::{PcapngWriter, Section};
pub use pipe::{Pipe, PipeStats, pipe, pipe_with_queue};

/// A carrier of IP packets. Its calls never block and get the current time as a parameter.
///
/// The driver calls `recv` until it returns `None` and `flush` at the end of each round of calls, and starts the next
/// round once `poll_readable` is ready or the deadline of `poll_timeout` has passed.
pub trait Link {
    /// The MTU, the max packet size and the checksum offload of the link.
    fn capabilities(&self) -> Capabilities;

    /// Sends `packet`, or drops it if the link is full.
    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit);

    /// As [`send`](Self::send) of a packet in three parts: its headers, then the data in two slices, which may be empty
    /// ([`Stack::poll_transmit_vectored`](lastack_engine::Stack::poll_transmit_vectored)). By default the parts are
    /// joined and passed to `send`.
    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        self.send(now, &packet.concat(), transmit);
    }

    /// Whether [`send_vectored`](Self::send_vectored) passes the parts on without joining them. It does not change.
    fn is_vectored(&self) -> bool {
        false
    }

    /// Replaces the content of `packet` by the next received packet.
    ///
    /// `None` means that nothing was received, never that a packet was lost.
    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received>;

    /// Reports the verdict on the last packet that `recv` returned.
    fn annotate(&mut self, _now: Instant, _verdict: &Verdict) {}

    /// When the link has something to do even if nothing is received: call `recv` or `flush` then.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Ready once `recv` may return a packet.
    ///
    /// # Errors
    /// If the link has failed permanently.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The end of a round: nothing more is sent at this time.
    fn flush(&mut self, _now: Instant) {}
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by this host.
    Sent,
    /// Received.
    Received,
}

/// The MTU, the max packet size and the checksum offload of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The MTU: max size of an IP packet in bytes.
    pub mtu: usize,
    /// Max size of a super-segment ([`Transmit::segment_size`]); equal to `mtu` if the link cannot segment.
    pub max_packet: usize,
    /// Which checksums the stack computes and verifies.
    pub checksums: Checksums,
}

/// The max value of IP's length fields.
pub(crate) const LARGEST_PACKET: usize = 65_535;

impl Capabilities {
    /// A link of this MTU without segmentation and checksum offload.
    pub const fn new(mtu: usize) -> Self {
        let checksums = Checksums { verify: true, transmit: TransmitChecksum::Full };
        Self { mtu, max_packet: mtu, checksums }
    }

    /// An in-memory link: it takes super-segments, and checksums are not computed, since nothing can corrupt the
    /// bytes. Packets without a checksum are marked [`Received::checksum_good`]; those corrupted by a decorator such
    /// as [`Impair`] carry a checksum, which is verified.
    pub const fn memory(mtu: usize) -> Self {
        let checksums = Checksums { verify: true, transmit: TransmitChecksum::Partial };
        Self { mtu, max_packet: LARGEST_PACKET, checksums }
    }

    /// Applies them to the configuration of the stack that is to use the link.
    pub fn apply(&self, config: &mut Config) {
        config.mtu = self.mtu;
        config.max_packet = self.max_packet;
        config.checksums = self.checksums;
    }
}

macro_rules! forward {
    () => {
        fn capabilities(&self) -> Capabilities {
            (**self).capabilities()
        }

        fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
            (**self).send(now, packet, transmit);
        }

        fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
            (**self).send_vectored(now, packet, transmit);
        }

        fn is_vectored(&self) -> bool {
            (**self).is_vectored()
        }

        fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
            (**self).recv(now, packet)
        }

        fn annotate(&mut self, now: Instant, verdict: &Verdict) {
            (**self).annotate(now, verdict);
        }

        fn poll_timeout(&self) -> Option<Instant> {
            (**self).poll_timeout()
        }

        fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            (**self).poll_readable(cx)
        }

        fn flush(&mut self, now: Instant) {
            (**self).flush(now);
        }
    };
}

impl<L: Link + ?Sized> Link for Box<L> {
    forward!();
}

impl<L: Link + ?Sized> Link for &mut L {
    forward!();
}

/// A shared link, for reading the counters of an [`Impair`] or changing its plan.
impl<L: Link + ?Sized> Link for Arc<Mutex<L>> {
    fn capabilities(&self) -> Capabilities {
        lock(self).capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        lock(self).send(now, packet, transmit);
    }

    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        lock(self).send_vectored(now, packet, transmit);
    }

    fn is_vectored(&self) -> bool {
        lock(self).is_vectored()
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        lock(self).recv(now, packet)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        lock(self).annotate(now, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        lock(self).poll_timeout()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(self).poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        lock(self).flush(now);
    }
}

/// A link shared within a thread, without the cost of a lock for each call.
impl<L: Link + ?Sized> Link for Rc<RefCell<L>> {
    fn capabilities(&self) -> Capabilities {
        self.borrow().capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.borrow_mut().send(now, packet, transmit);
    }

    fn send_vectored(&mut self, now: Instant, packet: [&[u8]; 3], transmit: &Transmit) {
        self.borrow_mut().send_vectored(now, packet, transmit);
    }

    fn is_vectored(&self) -> bool {
        self.borrow().is_vectored()
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.borrow_mut().recv(now, packet)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        self.borrow_mut().annotate(now, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.borrow().poll_timeout()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.borrow_mut().poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.borrow_mut().flush(now);
    }
}

/// Poisoning is ignored: the effect of a panic elsewhere on a link is at worst a lost packet.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noop_context, segment};

    #[test]
    fn capabilities_are_entered_into_the_settings() {
        let mut config = Config::new([]);
        Capabilities::memory(9000).apply(&mut config);
        assert_eq!((config.mtu, config.max_packet), (9000, 65_535));
        assert_eq!(config.checksums.transmit, TransmitChecksum::Partial);
        Capabilities::new(1280).apply(&mut config);
        assert_eq!((config.mtu, config.max_packet), (1280, 1280));
        assert_eq!(config.checksums, Checksums::default());
    }

    #[test]
    fn a_link_shared_within_a_thread_is_a_link() {
        let (near, mut far) = pipe(Capabilities::new(1500));
        let shared = Rc::new(RefCell::new(near));
        let mut link = Rc::clone(&shared);
        let packet = segment("192.0.2.1", "192.0.2.2", b"text");
        link.send(Instant::ZERO, &packet, &Transmit::default());
        link.send_vectored(Instant::ZERO, [&packet[..20], &packet[20..], &[]], &Transmit::default());
        link.flush(Instant::ZERO);
        assert!(far.poll_readable(&mut noop_context()).is_ready());
        let mut got = Vec::new();
        for _ in 0..2 {
            assert_eq!(far.recv(Instant::ZERO, &mut got), Some(Received::default()));
            assert_eq!(got, packet);
        }
        far.send(Instant::ZERO, &packet, &Transmit::default());
        far.flush(Instant::ZERO);
        assert_eq!(link.recv(Instant::ZERO, &mut got), Some(Received::default()));
        assert_eq!((link.capabilities().mtu, link.is_vectored(), link.poll_timeout()), (1500, false, None));
        assert_eq!(shared.borrow().stats().sent, 2);
    }

    #[test]
    fn a_shared_boxed_link_is_a_link() {
        let (near, mut far) = pipe(Capabilities::new(1500));
        let shared = Arc::new(Mutex::new(near));
        let mut link: Box<dyn Link + Send> = Box::new(Arc::clone(&shared));
        let packet = segment("192.0.2.1", "192.0.2.2", b"text");
        link.send(Instant::ZERO, &packet, &Transmit::default());
        link.flush(Instant::ZERO);
        assert!(far.poll_readable(&mut noop_context()).is_ready());
        let mut got = Vec::new();
        assert_eq!(far.recv(Instant::ZERO, &mut got), Some(Received::default()));
        assert_eq!(got, packet);
        assert_eq!(lock(&shared).stats().sent, 1);
    }
}
