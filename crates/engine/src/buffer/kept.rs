//! Packets whose data a receive buffer keeps where the link has written it, instead of copying it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

/// A packet with unread data.
#[derive(Debug)]
struct KeptPacket {
    /// Empty until the packet is handed over, after all of it is processed.
    packet: Vec<u8>,
    /// Its unread data.
    data: Range<usize>,
    /// Memory accounted for it.
    capacity: usize,
    /// Bytes of the ring that come before it, and after the packet in front of it.
    ring_before: usize,
}

/// The kept packets of a receive buffer, in order.
#[derive(Debug, Default)]
pub(super) struct KeptPackets {
    queue: VecDeque<KeptPacket>,
    /// Bytes of the ring before the last packet.
    ring_before: usize,
}

/// What is consumed from the front.
#[derive(Debug)]
pub(super) struct Consumed {
    /// Bytes of the ring.
    pub ring: usize,
    /// Bytes of a packet.
    pub kept: usize,
    /// The buffer of a packet that has no more unread data, and the memory that counted for it.
    pub free: Option<(Vec<u8>, usize)>,
}

impl KeptPackets {
    /// Bytes of the ring before the last packet.
    pub fn ring_before(&self) -> usize {
        self.ring_before
    }

    /// Appends a packet of this capacity after `ring_len` unread bytes in the ring. Its buffer follows by
    /// [`fill`](Self::fill). Returns the memory that counts for it.
    pub fn push(&mut self, data: Range<usize>, capacity: usize, ring_len: usize) -> usize {
        let capacity = capacity + size_of::<KeptPacket>();
        let ring_before = ring_len - self.ring_before;
        self.ring_before = ring_len;
        self.queue.push_back(KeptPacket { packet: Vec::new(), data, capacity, ring_before });
        capacity
    }

    /// Takes the buffer of the packet pushed last; returns it if no packet waits for one.
    pub fn fill(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        match self.queue.back_mut() {
            Some(last) if last.packet.is_empty() => {
                debug_assert!(last.data.end <= packet.len());
                last.packet = packet;
                None
            }
            _ => Some(packet),
        }
    }

    /// Removes max `n` bytes from the front, of the ring and of one packet. `ring_len`: unread bytes in the ring.
    pub fn consume(&mut self, n: usize, ring_len: usize) -> Consumed {
        let Some(first) = self.queue.front_mut() else {
            return Consumed { ring: n.min(ring_len), kept: 0, free: None };
        };
        let ring = n.min(first.ring_before);
        first.ring_before -= ring;
        self.ring_before -= ring;
        let kept = (n - ring).min(first.data.len());
        first.data.start += kept;
        let mut free = None;
        if first.data.is_empty() {
            free = Some((mem::take(&mut first.packet), first.capacity));
            self.queue.pop_front();
        }
        Consumed { ring, kept, free }
    }

    /// Each packet's data, and the range of the ring's bytes before it.
    pub fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[u8])> {
        self.queue.iter().scan(0, |at, kept| {
            let start = mem::replace(at, *at + kept.ring_before);
            Some((start..*at, &kept.packet[kept.data.clone()]))
        })
    }
}
