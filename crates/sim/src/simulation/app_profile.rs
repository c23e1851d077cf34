//! The behavior of a program at one end of a connection.

use crate::random::Random;
use lastack_engine::Keepalive;
use std::time::Duration;

/// How a program finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// Writes everything, half-closes, reads to the end, closes.
    Orderly,
    /// Closes as soon as everything is written, without reading to the end.
    WhenWritten,
    /// Closes after it has read this many bytes.
    AfterRead(u64),
    /// Aborts after it has written this many bytes.
    AbortAfter(u64),
    /// Keeps the connection open, and does nothing.
    Hold,
}

/// How a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything available.
    Eager,
    /// At most this many bytes, then a pause.
    Slow(usize, Duration),
    /// At most this many bytes in total.
    UpTo(u64),
}

/// The behavior of a program at one end.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppProfile {
    /// Bytes it is to write.
    pub wants: u64,
    /// Max bytes per write, and the pause between writes.
    pub chunk: u64,
    pub pause: Duration,
    pub reading: Reading,
    pub finish: Finish,
    pub linger: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    pub max_segment: Option<u16>,
    pub send_buffer: Option<usize>,
    pub nodelay: bool,
    /// It shuts down its read direction after this many bytes.
    pub deaf_after: Option<u64>,
    /// It closes or aborts after this time.
    pub patience: Option<Duration>,
    /// The number of times it changes an option.
    pub whims: u64,
}

fn millis(random: &mut Random, max: u64) -> Duration {
    Duration::from_millis(random.below(max))
}

impl AppProfile {
    pub fn draw(random: &mut Random) -> Self {
        let wants = match random.below(5) {
            0 => random.below(20),
            1 => random.below(3_000),
            4 => random.below(90_000),
            _ => random.below(20_000),
        };
        let pause = if random.once_in(2) { Duration::ZERO } else { millis(random, 400) };
        let chunk = 1 + if random.once_in(4) { random.below(100) } else { random.below(8_000) };
        Self {
            wants,
            // The number of pauses is bounded.
            chunk: chunk.max(wants / 100),
            pause,
            reading: reading(random),
            finish: finish(random, wants),
            linger: match random.below(12) {
                0 => Some(Duration::ZERO),
                1 => Some(millis(random, 20_000)),
                _ => None,
            },
            keepalive: random.once_in(2).then(|| keepalive(random)),
            user_timeout: random.once_in(8).then(|| millis(random, 40_000)),
            max_segment: random.once_in(10).then(|| 40 + random.below(1500) as u16),
            send_buffer: random.once_in(8).then(|| 1 + random.below(20_000) as usize),
            nodelay: random.once_in(3),
            deaf_after: random.once_in(20).then(|| random.below(5_000)),
            patience: random.once_in(5).then(|| millis(random, 60_000)),
            whims: if random.once_in(4) { random.below(6) } else { 0 },
        }
    }

    /// Whether this program reads and writes to the end and closes cleanly, if nothing goes wrong.
    pub fn means_well(&self) -> bool {
        let reads = !matches!(self.reading, Reading::UpTo(_)) && self.deaf_after.is_none();
        let waits = self.user_timeout.is_none() && self.patience.is_none() && self.whims == 0;
        let asks = self.keepalive.is_none_or(|times| times.count >= 9);
        self.finish == Finish::Orderly && reads && waits && asks && self.linger.is_none()
    }
}

/// Also draws settings with which a lost probe ends the connection; such a program is not well-behaved.
pub(super) fn keepalive(random: &mut Random) -> Keepalive {
    Keepalive {
        idle: Duration::from_secs(5) + millis(random, 55_000),
        interval: Duration::from_millis(500) + millis(random, 5_000),
        count: if random.once_in(4) { random.below(3) as u32 } else { 9 },
    }
}

fn reading(random: &mut Random) -> Reading {
    match random.below(8) {
        0 => Reading::UpTo(0),
        1 => Reading::UpTo(random.below(10_000)),
        2 | 3 => Reading::Slow(500 + random.below(4_000) as usize, millis(random, 300)),
        _ => Reading::Eager,
    }
}

fn finish(random: &mut Random, wants: u64) -> Finish {
    match random.below(12) {
        0 | 1 => Finish::WhenWritten,
        2 => Finish::AfterRead(random.below(20_000)),
        3 => Finish::AbortAfter(random.below(wants + 1)),
        4 => Finish::Hold,
        _ => Finish::Orderly,
    }
}
