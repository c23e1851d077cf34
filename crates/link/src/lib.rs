//! What carries the packets of a stack: the [`Link`] trait, a link in memory, and decorators of any link.
//!
//! [`Impair`] makes a link lose, delay and damage packets; [`Capture`] shows them to a [`Sink`] such as
//! [`PcapngWriter`]. Decorators are read from the inside out: this one writes down what arrives after the
//! impairment, that is, what the stack sees:
//!
//! ```
//! use lastack_link::{Capabilities, Capture, Impair, Link, PcapngWriter, Plan, pipe};
//! use std::time::{Duration, SystemTime};
//!
//! let (near, _far) = pipe(Capabilities::new(1500));
//! let plan = Plan { seed: 1, delay: Duration::from_millis(20), loss: 0.01, ..Plan::default() };
//! let file = PcapngWriter::new(Vec::new(), SystemTime::now());
//! let link = Capture::new(Impair::new(near, plan), file);
//! assert_eq!(link.capabilities().mtu, 1500);
//! ```
#![forbid(unsafe_code)]

mod capture;
mod channel;
mod checksum;
mod cut;
mod filter;
mod impair;
mod layout;
mod pcapng;
mod pipe;

use lastack_engine::{Checksums, Config, Instant, Received, Transmit, TransmitChecksum, Verdict};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

pub use capture::{Capture, Direction, Record, Sink};
pub use channel::{Channel, PacketReceiver, PacketSender, TrySendError, channel};
pub use checksum::complete_checksum;
pub use cut::Cut;
pub use filter::Filter;
pub use impair::{Course, Damage, Impair, ImpairStats, LaneStats, Passage, Plan};
pub use pcapng::{PcapngWriter, Section};
pub use pipe::{Pipe, PipeStats, pipe, pipe_with_queue};

/// A carrier of IP packets that never blocks and is told the time.
///
/// Whoever drives it calls `recv` until it gives `None` and `flush` at the end of each round of calls, and comes
/// back once `poll_readable` says so or the deadline of `poll_timeout` has passed.
pub trait Link {
    /// What the link can carry, and who computes and tests checksums on it.
    fn capabilities(&self) -> Capabilities;

    /// Sends `packet`, or loses it: a full link drops, as a wire does.
    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit);

    /// Puts the next packet that has arrived into `packet`, instead of what was there.
    ///
    /// `None` says that nothing has arrived, never that something was lost on the way.
    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received>;

    /// Tells what became of the packet that `recv` gave last.
    fn annotate(&mut self, _now: Instant, _verdict: &Verdict) {}

    /// When the link has something to do though nothing new arrives: call `recv` or `flush` then.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Ready once `recv` may find something new.
    ///
    /// # Errors
    /// If the link is broken for good.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The end of a round: nothing more is sent at this time.
    fn flush(&mut self, _now: Instant) {}
}

/// What a link can carry, and who computes and tests checksums on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest IP packet it carries, in bytes.
    pub mtu: usize,
    /// The largest packet it takes if told where to cut it ([`Transmit::segment_size`]); equal to `mtu` if it
    /// cannot cut.
    pub max_packet: usize,
    /// Who computes and who tests checksums.
    pub checksums: Checksums,
}

/// The length fields of IP cannot say more.
pub(crate) const LARGEST_PACKET: usize = 65_535;

impl Capabilities {
    /// A link of this MTU that cannot cut super-segments and carries whole checksums.
    pub const fn new(mtu: usize) -> Self {
        let checksums = Checksums { verify: true, transmit: TransmitChecksum::Full };
        Self { mtu, max_packet: mtu, checksums }
    }

    /// A link within one memory: it takes super-segments, and nobody sums up bytes that nothing can damage.
    /// What arrives without a checksum is marked [`Received::checksum_good`]; what a decorator such as [`Impair`]
    /// has damaged carries one, and is tested.
    pub const fn memory(mtu: usize) -> Self {
        let checksums = Checksums { verify: true, transmit: TransmitChecksum::Partial };
        Self { mtu, max_packet: LARGEST_PACKET, checksums }
    }

    /// Enters them into the settings of the stack that is to use the link.
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

/// A link that somebody else looks at meanwhile: to read what [`Impair`] counted, or to change its plan.
impl<L: Link + ?Sized> Link for Arc<Mutex<L>> {
    fn capabilities(&self) -> Capabilities {
        lock(self).capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        lock(self).send(now, packet, transmit);
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

/// A panic elsewhere leaves a link no worse than a lost packet does, so poisoning is passed over.
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
