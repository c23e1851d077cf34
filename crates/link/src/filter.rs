//! A link with a packet filter.

use crate::{Capabilities, Direction, Link};
use lastack_engine::{Instant, Received, Transmit, Verdict};
use std::io;
use std::task::{Context, Poll};

/// A link that drops the packets for which a function returns `false`: the third one, all with FIN, or all for some
/// time.
///
/// ```
/// use lastack_link::{Capabilities, Direction, Filter, pipe};
///
/// let (near, _far) = pipe(Capabilities::new(1500));
/// let mut sent = 0;
/// let link = Filter::new(near, move |direction, _packet: &[u8]| {
///     sent += u32::from(direction == Direction::Sent);
///     sent != 3 || direction == Direction::Received
/// });
/// # drop(link);
/// ```
#[derive(Debug)]
pub struct Filter<L, F> {
    link: L,
    passes: F,
    lost: u64,
}

impl<L: Link, F: FnMut(Direction, &[u8]) -> bool> Filter<L, F> {
    /// A link that passes the packets for which `passes` returns `true`.
    pub fn new(link: L, passes: F) -> Self {
        Self { link, passes, lost: 0 }
    }

    /// Number of packets dropped.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The inner link.
    pub fn inner(&self) -> &L {
        &self.link
    }
}

impl<L: Link, F: FnMut(Direction, &[u8]) -> bool> Link for Filter<L, F> {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        if (self.passes)(Direction::Sent, packet) {
            self.link.send(now, packet, transmit);
        } else {
            self.lost += 1;
        }
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        loop {
            let received = self.link.recv(now, packet)?;
            if (self.passes)(Direction::Received, packet) {
                return Some(received);
            }
            self.lost += 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe;
    use crate::testing::segment;

    #[test]
    fn a_filtered_packet_is_lost_in_either_direction() {
        let (near, mut far) = pipe(Capabilities::new(1500));
        let mut numbers = [0; 2];
        let mut link = Filter::new(near, move |direction, _packet: &[u8]| {
            let number = &mut numbers[usize::from(direction == Direction::Received)];
            *number += 1;
            *number != 2
        });
        let packets = [b"1", b"2", b"3"].map(|data| segment("192.0.2.1", "192.0.2.2", data));
        for packet in &packets {
            link.send(Instant::ZERO, packet, &Transmit::default());
            far.send(Instant::ZERO, packet, &Transmit::default());
        }
        let mut packet = Vec::new();
        for link in [&mut link as &mut dyn Link, &mut far] {
            let got: Vec<_> =
                std::iter::from_fn(|| link.recv(Instant::ZERO, &mut packet).map(|_| packet.clone()))
                    .collect();
            assert_eq!(got, [packets[0].clone(), packets[2].clone()]);
        }
        assert_eq!(link.lost(), 2);
    }
}
