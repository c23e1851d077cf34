//! A link whose other side is a program, by two queues of packets.

use crate::{Capabilities, Cut, Link, lock};
use lastack_engine::{Instant, Received, Transmit};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The stack's side of a [`channel`].
#[derive(Debug)]
pub struct Channel {
    capabilities: Capabilities,
    to_stack: Arc<Mutex<Queue>>,
    from_stack: Arc<Mutex<Queue>>,
    piece: Vec<u8>,
}

/// Sends packets to the stack on the other side of a [`channel`]. Clones share the queue; when the last is dropped,
/// the link fails.
#[derive(Debug)]
pub struct PacketSender {
    queue: Arc<Mutex<Queue>>,
}

/// Receives the packets that the stack on the other side of a [`channel`] sends. When it is dropped, they are lost.
#[derive(Debug)]
pub struct PacketReceiver {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    limit: usize,
    /// Packets lost because the queue was full, or the receiver was dropped.
    dropped: u64,
    senders: usize,
    reader_gone: bool,
    reader: Option<Waker>,
    writers: Vec<Waker>,
}

impl Queue {
    fn new(limit: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            packets: VecDeque::new(),
            limit,
            dropped: 0,
            senders: 1,
            reader_gone: false,
            reader: None,
            writers: Vec::new(),
        }))
    }

    fn take(queue: &Mutex<Self>) -> Option<Vec<u8>> {
        let (packet, writers) = {
            let mut queue = lock(queue);
            let packet = queue.packets.pop_front()?;
            (packet, std::mem::take(&mut queue.writers))
        };
        writers.into_iter().for_each(Waker::wake);
        Some(packet)
    }

    /// Returns the packet if the queue is full.
    fn put(queue: &Mutex<Self>, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        let reader = {
            let mut queue = lock(queue);
            if queue.packets.len() >= queue.limit {
                return Err(packet);
            }
            queue.packets.push_back(packet);
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    fn register_reader(&mut self, cx: &Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

/// A link of two queues, each with room for `packets` packets: the link for a [stack](lastack_engine::Stack), and the
/// two ends for a program that has packets from any source: a tunnel, a radio, another stack.
///
/// Every packet is a whole IP packet of at most [`Capabilities::mtu`] bytes, with complete checksums unless
/// `capabilities` say otherwise. If the queue is full, a packet of the stack is dropped and counted.
///
/// ```
/// use lastack_engine::{Instant, Received, Transmit};
/// use lastack_link::{Capabilities, Link, channel};
///
/// let (mut link, to_stack, mut from_stack) = channel(Capabilities::new(1500), 64);
/// link.send(Instant::ZERO, b"a packet", &Transmit::default());
/// assert_eq!(from_stack.try_recv().unwrap(), b"a packet");
/// to_stack.try_send(b"another".to_vec()).unwrap();
/// let mut packet = Vec::new();
/// assert_eq!(link.recv(Instant::ZERO, &mut packet), Some(Received::default()));
/// assert_eq!(packet, b"another");
/// ```
pub fn channel(capabilities: Capabilities, packets: usize) -> (Channel, PacketSender, PacketReceiver) {
    // The receiver would have to segment super-segments, which a program does not expect.
    let capabilities = Capabilities { max_packet: capabilities.mtu, ..capabilities };
    let (to_stack, from_stack) = (Queue::new(packets), Queue::new(packets));
    let (sender, receiver) =
        (PacketSender { queue: to_stack.clone() }, PacketReceiver { queue: from_stack.clone() });
    (Channel { capabilities, to_stack, from_stack, piece: Vec::new() }, sender, receiver)
}

impl Channel {
    /// Packets of the stack that were lost because the queue was full or the receiver dropped.
    pub fn dropped(&self) -> u64 {
        lock(&self.from_stack).dropped
    }

    fn push(&self, packet: Vec<u8>) {
        let gone = lock(&self.from_stack).reader_gone;
        if gone || Queue::put(&self.from_stack, packet).is_err() {
            lock(&self.from_stack).dropped += 1;
        }
    }
}

impl Link for Channel {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send(&mut self, _now: Instant, packet: &[u8], transmit: &Transmit) {
        if transmit.segment_size.is_none() {
            return self.push(packet.to_vec());
        }
        let mut piece = std::mem::take(&mut self.piece);
        let mut cut = Cut::new(packet, transmit);
        while cut.next(&mut piece).is_some() {
            self.push(piece.clone());
        }
        self.piece = piece;
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        *packet = Queue::take(&self.to_stack)?;
        Some(Received::default())
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = lock(&self.to_stack);
        if !queue.packets.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if queue.senders == 0 {
            let closed = "the last sender of the packets of this link was dropped";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, closed)));
        }
        queue.register_reader(cx);
        Poll::Pending
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let (reader, writers) = {
            let mut to_stack = lock(&self.to_stack);
            to_stack.reader_gone = true;
            to_stack.packets.clear();
            let writers = std::mem::take(&mut to_stack.writers);
            drop(to_stack);
            let mut from_stack = lock(&self.from_stack);
            from_stack.senders = 0;
            (from_stack.reader.take(), writers)
        };
        reader.into_iter().chain(writers).for_each(Waker::wake);
    }
}

/// Why a packet could not be sent to a stack; contains the packet.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError {
    /// The queue is full.
    Full(Vec<u8>),
    /// The link, and so the stack, was dropped.
    Closed(Vec<u8>),
}

impl std::fmt::Display for TrySendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue of packets is full",
            Self::Closed(_) => "the link was dropped",
        })
    }
}

impl std::error::Error for TrySendError {}

impl PacketSender {
    /// Sends a packet to the stack.
    ///
    /// # Errors
    /// [`TrySendError::Full`] if the queue is full, [`TrySendError::Closed`] if the stack was dropped.
    pub fn try_send(&self, packet: Vec<u8>) -> Result<(), TrySendError> {
        if lock(&self.queue).reader_gone {
            return Err(TrySendError::Closed(packet));
        }
        Queue::put(&self.queue, packet).map_err(TrySendError::Full)
    }

    /// Sends a packet to the stack, waiting until there is room.
    ///
    /// # Errors
    /// The stack was dropped; returns the packet.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the packet is not sent.
    pub async fn send(&self, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut packet = Some(packet);
        poll_fn(|cx| {
            let Some(this) = packet.take() else { return Poll::Ready(Ok(())) };
            match self.try_send(this) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Closed(back)) => Poll::Ready(Err(back)),
                Err(TrySendError::Full(back)) => {
                    let mut queue = lock(&self.queue);
                    if queue.packets.len() < queue.limit || queue.reader_gone {
                        cx.waker().wake_by_ref();
                    } else {
                        queue.writers.push(cx.waker().clone());
                    }
                    packet = Some(back);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Clone for PacketSender {
    fn clone(&self) -> Self {
        lock(&self.queue).senders += 1;
        Self { queue: self.queue.clone() }
    }
}

impl Drop for PacketSender {
    fn drop(&mut self) {
        let reader = {
            let mut queue = lock(&self.queue);
            queue.senders -= 1;
            if queue.senders == 0 { queue.reader.take() } else { None }
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl PacketReceiver {
    /// The next packet of the stack; `None` once the link was dropped.
    ///
    /// # Cancel safety
    /// No packet is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv), for a hand-written future.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut queue = lock(&self.queue);
        if let Some(packet) = queue.packets.pop_front() {
            return Poll::Ready(Some(packet));
        }
        if queue.senders == 0 {
            return Poll::Ready(None);
        }
        queue.register_reader(cx);
        Poll::Pending
    }

    /// The next packet of the stack, without waiting.
    pub fn try_recv(&mut self) -> Option<Vec<u8>> {
        Queue::take(&self.queue)
    }
}

impl Drop for PacketReceiver {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.reader_gone = true;
        queue.packets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noop_context;
    use std::pin::pin;

    const NOW: Instant = Instant::ZERO;

    #[test]
    fn a_full_queue_drops_what_the_stack_sends_and_counts_it() {
        let (mut link, _sender, mut receiver) = channel(Capabilities::new(1500), 2);
        for packet in [b"1", b"2", b"3"] {
            link.send(NOW, packet, &Transmit::default());
        }
        assert_eq!(link.dropped(), 1);
        assert_eq!(
            [receiver.try_recv(), receiver.try_recv(), receiver.try_recv()],
            [Some(b"1".to_vec()), Some(b"2".to_vec()), None]
        );
    }

    #[test]
    fn a_sender_waits_for_room() {
        let (mut link, sender, _receiver) = channel(Capabilities::new(1500), 1);
        sender.try_send(b"1".to_vec()).unwrap();
        assert_eq!(sender.try_send(b"2".to_vec()), Err(TrySendError::Full(b"2".to_vec())));
        let mut send = pin!(sender.send(b"2".to_vec()));
        assert!(send.as_mut().poll(&mut noop_context()).is_pending());
        let mut packet = Vec::new();
        assert!(link.recv(NOW, &mut packet).is_some());
        assert_eq!(send.as_mut().poll(&mut noop_context()), Poll::Ready(Ok(())));
        assert!(link.recv(NOW, &mut packet).is_some() && packet == b"2");
    }

    #[test]
    fn each_side_is_notified_that_the_other_is_gone() {
        let (mut link, sender, receiver) = channel(Capabilities::new(1500), 8);
        let clone = sender.clone();
        drop(sender);
        assert!(link.poll_readable(&mut noop_context()).is_pending());
        clone.try_send(b"last".to_vec()).unwrap();
        drop(clone);
        assert!(
            matches!(link.poll_readable(&mut noop_context()), Poll::Ready(Ok(()))),
            "what was sent comes first"
        );
        let mut packet = Vec::new();
        assert!(link.recv(NOW, &mut packet).is_some());
        assert!(matches!(link.poll_readable(&mut noop_context()), Poll::Ready(Err(_))));
        drop(receiver);
        link.send(NOW, b"x", &Transmit::default());
        assert_eq!(link.dropped(), 1);

        let (link, sender, mut receiver) = channel(Capabilities::new(1500), 8);
        drop(link);
        assert_eq!(sender.try_send(b"x".to_vec()), Err(TrySendError::Closed(b"x".to_vec())));
        assert_eq!(receiver.poll_recv(&mut noop_context()), Poll::Ready(None));
    }
}
