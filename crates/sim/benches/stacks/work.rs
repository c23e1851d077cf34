//! The works that both stacks do through one interface.

use crate::harness::Work;

/// Packets that are carried at once: what a driver takes from a device before it turns to sending.
pub const BATCH: usize = 64;

/// Buffers of each end in bulk transfer.
pub const BULK_BUFFER: usize = 256 * 1024;

/// Connections that are opened and closed side by side.
pub const SIDE_BY_SIDE: usize = 8;

/// 2 MSL: smoltcp's is fixed.
pub const TIME_WAIT_MS: u64 = 10_000;

/// What packets look like.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Whether both ends compute and verify checksums.
    pub checksums: bool,
    /// The largest packet handed over at once is as large as IP allows, not 1500 bytes.
    pub large: bool,
}

/// One of the two hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// Two stacks and a wire between them; A has a connection to B.
pub trait Pair {
    /// Gives A data to send and returns how many bytes it accepted.
    fn send(&mut self, from: Side, text: &[u8]) -> usize;
    /// Reads data that has arrived, and returns how many bytes.
    fn receive(&mut self, at: Side, buf: &mut [u8]) -> usize;
    /// Carries what a side has to send, at most a batch, to the other, and returns how many packets.
    fn carry(&mut self, from: Side) -> usize;
    /// Nothing moves: lets time pass until the next timer.
    fn wait(&mut self);
}

/// Data from which its position can be derived.
struct Text(Vec<u8>);

impl Text {
    /// A prime, so that no power of two hides a displacement.
    const PERIOD: usize = 65_521;
    const CHUNK: usize = 64 * 1024;

    fn new() -> Self {
        let byte = |i: usize| ((i % Self::PERIOD) as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
        Self((0..Self::PERIOD + Self::CHUNK).map(byte).collect())
    }

    fn at(&self, position: u64) -> &[u8] {
        &self.0[(position % Self::PERIOD as u64) as usize..][..Self::CHUNK]
    }
}

/// Bulk transfer from A to B. The amount is bytes received.
pub fn bulk(mut pair: impl Pair + 'static) -> Work {
    let (text, mut buf) = (Text::new(), vec![0; Text::CHUNK]);
    let (mut sent, mut received) = (0u64, 0u64);
    let mut transfer = move |bytes: u64, verify: bool| {
        let end = received + bytes;
        while received < end {
            while let n @ 1.. = pair.send(Side::A, text.at(sent)) {
                sent += n as u64;
            }
            let packets = pair.carry(Side::A);
            while let n @ 1.. = pair.receive(Side::B, &mut buf) {
                assert!(!verify || buf[..n] == text.at(received)[..n], "the text is damaged");
                received += n as u64;
            }
            if packets + pair.carry(Side::B) == 0 {
                pair.wait();
            }
        }
        bytes as f64
    };
    transfer(8 << 20, true);
    Box::new(move || transfer(2 << 20, false))
}

/// The copies of a bulk transfer in packets of 64 KiB and nothing else: into the send buffer, the packet, and out of it,
/// with buffers of the same size. It is the most that a stack can reach with these calls. The amount is bytes.
pub fn copies() -> Work {
    const PACKET: usize = 65_535 - 52;
    const PACKETS: usize = BULK_BUFFER / PACKET;
    let text = Text::new();
    let mut sending = vec![0; BULK_BUFFER];
    let mut packets = [const { Vec::new() }; PACKETS];
    packets.fill_with(|| Vec::with_capacity(65_536));
    let mut buf = vec![0; Text::CHUNK];
    let mut position = 0u64;
    Box::new(move || {
        let mut bytes = 0;
        while bytes < 2 << 20 {
            // As the stacks do: fill the send buffer, send all, read all.
            for n in 0..PACKETS {
                let from = position + (n * PACKET) as u64;
                store(&mut sending, from, &text.at(from)[..PACKET]);
            }
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.clear();
                slices(&sending, position + (n * PACKET) as u64, PACKET)
                    .into_iter()
                    .for_each(|part| packet.extend_from_slice(part));
            }
            for packet in &packets {
                buf[..PACKET].copy_from_slice(packet);
                std::hint::black_box(&mut buf);
            }
            position += (PACKETS * PACKET) as u64;
            bytes += PACKETS * PACKET;
        }
        bytes as f64
    })
}

/// The two parts of a piece of a ring.
fn slices(ring: &[u8], position: u64, len: usize) -> [&[u8]; 2] {
    let at = position as usize % ring.len();
    let first = len.min(ring.len() - at);
    [&ring[at..at + first], &ring[..len - first]]
}

/// Copies data into a ring.
fn store(ring: &mut [u8], position: u64, data: &[u8]) {
    let at = position as usize % ring.len();
    let (first, second) = data.split_at(data.len().min(ring.len() - at));
    ring[at..at + first.len()].copy_from_slice(first);
    ring[..second.len()].copy_from_slice(second);
}

/// One byte there, one byte back.
pub fn round_trips(mut pair: impl Pair + 'static) -> Work {
    const TRIPS: u32 = 1000;
    let mut trip = move |byte: u8| {
        let mut buf = [0; 1];
        assert_eq!(pair.send(Side::A, &[byte]), 1);
        pair.carry(Side::A);
        assert_eq!((pair.receive(Side::B, &mut buf), buf), (1, [byte]));
        assert_eq!(pair.send(Side::B, &[!byte]), 1);
        pair.carry(Side::B);
        assert_eq!((pair.receive(Side::A, &mut buf), buf), (1, [!byte]));
    };
    Box::new(move || {
        (0..TRIPS).for_each(|n| trip(n as u8));
        f64::from(TRIPS)
    })
}
