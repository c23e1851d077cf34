//! What a program at one end of a connection means to do.

use crate::random::Random;
use lastack_engine::Keepalive;
use std::time::Duration;

/// How a program means to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// Writes all, half-closes, reads to the end, closes.
    Orderly,
    /// Closes as soon as all is written, whatever the other side still says.
    WhenWritten,
    /// Closes after so many octets read.
    AfterRead(u64),
    /// Aborts after so many octets written.
    AbortAfter(u64),
    /// Keeps what it has, and does nothing.
    Hold,
}

/// How a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All that there is.
    Eager,
    /// So much, and then a pause.
    Slow(usize, Duration),
    /// Nothing beyond so many octets.
    UpTo(u64),
}

/// What a program at one end means to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppProfile {
    /// Octets it means to write.
    pub wants: u64,
    /// Most octets it writes at once, and how long it thinks in between.
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
    /// It shuts its reading direction down after so many octets read.
    pub deaf_after: Option<u64>,
    /// It closes or aborts after so much time, whatever is going on.
    pub patience: Option<Duration>,
    /// How often it changes its mind about an option.
    pub whims: u64,
}

fn millis(random: &mut Random, most: u64) -> Duration {
    Duration::from_millis(random.below(most))
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
            // However long it thinks, it comes to an end.
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

    /// Whether, if nothing goes wrong, this program reads and writes to the end and parts in peace.
    pub fn means_well(&self) -> bool {
        let reads = !matches!(self.reading, Reading::UpTo(_)) && self.deaf_after.is_none();
        let waits = self.user_timeout.is_none() && self.patience.is_none() && self.whims == 0;
        let asks = self.keepalive.is_none_or(|times| times.count >= 9);
        self.finish == Finish::Orderly && reads && waits && asks && self.linger.is_none()
    }
}

/// One that dies of a lost probe is drawn too: it counts as a program that does not mean well.
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
