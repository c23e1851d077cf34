//! A TCP endpoint whose user decides each segment.

use crate::link::Link;
use crate::packets::Flow;
use lastack_wire::tcp::{TcpFlags, TcpOptions};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An established connection to the victim.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub flow: Flow,
    /// SND.NXT.
    pub seq: u32,
    /// What the victim has sent first: RCV.NXT.
    pub ack: u32,
}

impl Peer {
    pub fn connect(link: &Link, flow: Flow, options: TcpOptions) -> Self {
        let isn = 1000;
        for _attempt in 0..5 {
            link.send(&flow.tcp(TcpFlags::SYN, isn, 0, options, b""));
            let end = Instant::now() + Duration::from_secs(1);
            while let Some(packet) = link.recv_until(end) {
                let Some((header, _)) = flow.answer(&packet) else { continue };
                assert_eq!(header.flags, TcpFlags::SYN | TcpFlags::ACK, "{flow:?} is refused");
                let peer = Self { flow, seq: isn + 1, ack: header.seq.wrapping_add(1) };
                link.send(&peer.segment(TcpFlags::ACK, 0, b""));
                return peer;
            }
        }
        panic!("no SYN|ACK from {}", flow.to);
    }

    /// A segment at SND.NXT + `offset`.
    pub fn segment(&self, flags: TcpFlags, offset: u32, data: &[u8]) -> Vec<u8> {
        self.flow.tcp(flags, self.seq.wrapping_add(offset), self.ack, TcpOptions::default(), data)
    }

    /// An ACK of everything until `offset` bytes behind RCV.NXT.
    pub fn ack(&self, offset: u32, options: TcpOptions) -> Vec<u8> {
        self.flow.tcp(TcpFlags::ACK, self.seq, self.ack.wrapping_add(offset), options, b"")
    }

    /// Lets the congestion window of the victim grow, by acknowledging what it sends after 100 ms, until that much is
    /// in flight (what a slow machine sends in 20 ms is too little); then is silent. The victim echoes, so it is given data to send. Returns the bytes in flight.
    pub fn grow(&mut self, link: &Link, want: u32) -> u32 {
        const RTT: Duration = Duration::from_millis(100);
        // More may exceed the queue of the interface, which drops ACKs, too.
        const MAX_SENT: u32 = 100 * 1400;
        let (mut due, mut sent) = (VecDeque::new(), self.ack);
        // The window of the victim, scaled as its default receive buffer makes it announce.
        let (mut acked, mut window) = (self.seq, 64_000_u32);
        let (enough, end) =
            (Instant::now() + Duration::from_secs(20), Instant::now() + Duration::from_secs(60));
        let mut progress = Instant::now();
        let data = [b'x'; 1400];
        loop {
            let mut budget = 60;
            while budget > 0 && self.seq.wrapping_add(1400).wrapping_sub(acked) <= window.min(MAX_SENT) {
                link.send(&self.segment(TcpFlags::ACK, 0, &data));
                self.seq = self.seq.wrapping_add(1400);
                budget -= 1;
            }
            while let Some(packet) = link.recv_until(Instant::now() + Duration::from_micros(500)) {
                let Some((header, len)) = self.flow.answer(&packet) else { continue };
                assert!(!header.flags.contains(TcpFlags::RST), "the victim resets");
                if header.ack != acked && header.ack.wrapping_sub(acked) < 1 << 30 {
                    (acked, progress) = (header.ack, Instant::now());
                }
                window = u32::from(header.window) << 7;
                let last = header.seq.wrapping_add(len as u32);
                // The queue of the interface has dropped the ACK.
                if len > 0 && self.ack.wrapping_sub(last) < 1 << 30 {
                    link.send(&self.ack(0, TcpOptions::default()));
                }
                if len > 0 && last.wrapping_sub(sent) < 1 << 30 && last != sent {
                    sent = last;
                    due.push_back((Instant::now() + RTT, last));
                }
            }
            // The queue of the interface has dropped data.
            if progress.elapsed() > 2 * RTT && self.seq != acked {
                (self.seq, progress) = (acked, Instant::now());
            }
            let flight = sent.wrapping_sub(self.ack);
            // A busy machine does not get as far.
            if flight >= want || Instant::now() > enough && flight >= want / 6 {
                return flight;
            }
            assert!(
                Instant::now() < end,
                "{flight} bytes in flight, and no more: {self:?}, acknowledged {acked}, window {window}, {} wait",
                due.len()
            );
            while let Some((_, last)) = due.front().copied().filter(|(at, _)| *at <= Instant::now()) {
                due.pop_front();
                self.ack = last;
                link.send(&self.ack(0, TcpOptions::default()));
            }
        }
    }
}
