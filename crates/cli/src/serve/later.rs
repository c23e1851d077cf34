//! A capture that continues while the host on its link restarts.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use lastack::link::{Capabilities, Link};
use lastack::{Instant, Received, Transmit, Verdict};

/// A link whose clock started before the host's: the clock of a restarted host begins at zero, that of a capture does
/// not.
pub struct OffsetClockLink<L> {
    pub link: L,
    pub by: Duration,
}

impl<L: Link> Link for OffsetClockLink<L> {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.link.send(now + self.by, packet, transmit);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.link.recv(now + self.by, packet)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        self.link.annotate(now + self.by, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let at = self.link.poll_timeout()?;
        Some(Instant::since_start(at.elapsed().saturating_sub(self.by)))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.link.flush(now + self.by);
    }
}
