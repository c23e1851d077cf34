//! One end of a connection: what its program does and has observed.

use super::app_profile::{AppProfile, Finish, Reading, keepalive};
use crate::random::Random;
use lastack_engine::{ConnId, FourTuple, InitialNumbers, Instant, Stack, Tcp, TcpConfig, TcpError};
use std::task::Poll;
use std::time::Duration;

/// A program at one end.
#[derive(Debug)]
pub(super) struct Application {
    pub host: usize,
    /// The life of the host it belongs to: a reboot begins another.
    pub life: usize,
    pub id: ConnId,
    pub flow: FourTuple,
    /// The number from which the bytes that it writes are generated.
    pub number: u64,
    pub profile: AppProfile,
    /// Whether it reads and writes to the end and closes cleanly, if nothing prevents it.
    pub means_well: bool,
    pub opened: Instant,
    /// The initial sequence numbers, read while the connection exists.
    pub numbers: InitialNumbers,
    pub written: u64,
    pub read: Vec<u8>,
    /// It has closed its write direction.
    pub half_closed: bool,
    /// It has read the end of the stream, before any error.
    pub end_of_stream: bool,
    pub error: Option<TcpError>,
    /// It reads no more data, so the end of the stream may be anywhere.
    pub deaf: bool,
    /// It has closed the connection: its id is invalid.
    pub closed: bool,
    /// When its host lost all state while the program was running.
    pub vanished: Option<Instant>,
    /// When it last changed an option.
    pub changed: Instant,
    /// It waits to be notified of readable data, or of room to write.
    pub waits: [bool; 2],
    /// It lingers until everything is acknowledged, or until this time.
    lingers_until: Option<Instant>,
    /// When it acts next without a notification.
    pub next: Option<Instant>,
}

/// The byte at this offset of a stream.
fn byte(number: u64, offset: u64) -> u8 {
    let word = Random::new(number << 32 ^ (offset >> 3)).draw();
    (word >> (8 * (offset & 7))) as u8
}

/// The bytes of a stream.
pub(super) fn text(number: u64, from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|offset| byte(number, offset)).collect()
}

impl Application {
    pub fn new(
        (host, life): (usize, usize),
        (id, flow): (ConnId, FourTuple),
        number: u64,
        now: Instant,
        random: &mut Random,
    ) -> Self {
        let profile = AppProfile::draw(random);
        Self {
            host,
            life,
            id,
            flow,
            number,
            profile,
            means_well: profile.means_well(),
            opened: now,
            numbers: InitialNumbers::default(),
            written: 0,
            read: Vec::new(),
            half_closed: false,
            end_of_stream: false,
            error: None,
            deaf: false,
            closed: false,
            vanished: None,
            changed: now,
            waits: [false; 2],
            lingers_until: None,
            next: Some(now),
        }
    }

    pub fn is_active(&self) -> bool {
        !self.closed && self.vanished.is_none()
    }

    /// # Panics
    ///
    /// If the stack no longer has an id that this program still holds.
    fn tcp<'a>(&self, stack: &'a mut Stack) -> Tcp<'a> {
        stack.tcp(self.id).unwrap_or_else(|| panic!("its name is gone before it closes: {self:?}"))
    }

    /// Sets its initial options.
    pub fn set_out(&mut self, stack: &mut Stack) {
        let mut tcp = self.tcp(stack);
        tcp.set_linger(self.profile.linger);
        tcp.set_keepalive(self.profile.keepalive);
        tcp.set_user_timeout(self.profile.user_timeout);
        tcp.set_max_segment(self.profile.max_segment);
        tcp.set_send_buffer(self.profile.send_buffer);
        tcp.set_nodelay(self.profile.nodelay);
        self.note_numbers(stack);
    }

    /// Stores the initial sequence numbers: they cannot be read after the end.
    pub fn note_numbers(&mut self, stack: &mut Stack) {
        let numbers = self.tcp(stack).initial_numbers();
        self.numbers.ours = numbers.ours.or(self.numbers.ours);
        self.numbers.peers = numbers.peers.or(self.numbers.peers);
    }

    /// There is an event on its connection.
    pub fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Performs its next actions, and sets when it continues.
    pub fn act(&mut self, stack: &mut Stack, now: Instant, random: &mut Random) {
        self.next = None;
        self.waits = [false; 2];
        self.note_numbers(stack);
        if let Some(until) = self.lingers_until {
            return self.linger(stack, now, until);
        }
        let patience = self.profile.patience.map(|patience| self.opened + patience);
        if let Some(end) = patience {
            if end <= now {
                return self.close(stack, now);
            }
            self.next = Some(end);
        }
        if self.profile.whims > 0 {
            self.profile.whims -= 1;
            self.changed = now;
            self.change_mind(stack, random);
            self.wake(now + Duration::from_millis(1 + random.below(5_000)));
        }
        let reads = self.read_some(stack, now);
        let writes = self.error.is_none() && self.write_some(stack, now);
        self.half_close(stack, now);
        if self.is_done() {
            self.close(stack, now);
        } else if reads || writes {
            self.wake(now);
        }
    }

    fn is_done(&self) -> bool {
        let finished = self.half_closed && self.end_of_stream;
        self.error.is_some()
            || match self.profile.finish {
                Finish::Orderly => finished,
                Finish::WhenWritten => self.written == self.profile.wants,
                Finish::AfterRead(bytes) => self.read.len() as u64 >= bytes || finished,
                Finish::AbortAfter(bytes) => self.written >= bytes,
                Finish::Hold => false,
            }
    }

    /// Reads once; returns whether it continues at once.
    fn read_some(&mut self, stack: &mut Stack, now: Instant) -> bool {
        let had = self.read.len() as u64;
        let (max, pause) = match self.profile.reading {
            Reading::Eager => (9_000, None),
            Reading::Slow(bytes, pause) => (bytes, Some(pause)),
            Reading::UpTo(max) => (max.saturating_sub(had).min(9_000) as usize, None),
        };
        if self.end_of_stream || self.error.is_some() || max == 0 {
            return false;
        }
        let mut buf = vec![0; max];
        let answer = self.tcp(stack).receive(&mut buf);
        self.waits[0] = answer.is_pending();
        match answer {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.end_of_stream = true,
            Poll::Ready(Ok(n)) => self.read.extend_from_slice(&buf[..n]),
            Poll::Ready(Err(error)) => self.error = Some(error),
        }
        if self.profile.deaf_after.is_some_and(|bytes| self.read.len() as u64 >= bytes) {
            self.profile.deaf_after = None;
            // The connection may be over already; the next read reports it.
            self.deaf |= self.tcp(stack).shutdown_read().is_ok();
        }
        if let Some(pause) = pause {
            self.wake(now + pause);
        }
        pause.is_none()
    }

    /// Writes once; returns whether it continues at once.
    fn write_some(&mut self, stack: &mut Stack, now: Instant) -> bool {
        if self.half_closed || self.written >= self.profile.wants {
            return false;
        }
        let chunk = self.profile.chunk.min(self.profile.wants - self.written);
        let text = text(self.number, self.written, chunk);
        let answer = self.tcp(stack).send(&text);
        self.waits[1] = answer.is_pending();
        match answer {
            Poll::Pending => return false,
            Poll::Ready(Ok(n)) => self.written += n as u64,
            Poll::Ready(Err(error)) => self.error = Some(error),
        }
        if !self.profile.pause.is_zero() {
            self.wake(now + self.profile.pause);
        }
        self.profile.pause.is_zero()
    }

    /// Half-closes when everything is written, if its profile includes that.
    fn half_close(&mut self, stack: &mut Stack, now: Instant) {
        let means_to = matches!(self.profile.finish, Finish::Orderly | Finish::AfterRead(_));
        if !means_to || self.half_closed || self.error.is_some() || self.written < self.profile.wants {
            return;
        }
        let early = self.tcp(stack).state() == lastack_engine::TcpState::SynSent;
        if early {
            // It would end the attempt (`Rule::EndAttemptClosed`). The result is reported as room to write.
            self.waits[1] = self.tcp(stack).send(&[]).is_pending();
            return;
        }
        match self.tcp(stack).shutdown() {
            Ok(()) => self.half_closed = true,
            // The connection has ended: a read reports why.
            Err(_) => {
                self.half_closed = true;
                self.wake(now);
            }
        }
    }

    fn change_mind(&mut self, stack: &mut Stack, random: &mut Random) {
        let mut tcp = self.tcp(stack);
        match random.below(7) {
            0 => tcp.set_nodelay(random.once_in(2)),
            1 => tcp.set_cork(random.once_in(2)),
            2 => tcp.set_keepalive(random.once_in(2).then(|| keepalive(random))),
            3 => tcp.set_user_timeout(Some(Duration::from_millis(random.below(30_000)))),
            4 => tcp.set_send_buffer(Some(1 + random.below(10_000) as usize)),
            5 => tcp.set_dscp(random.below(64) as u8),
            _ => tcp.set_linger(random.once_in(2).then(|| Duration::from_millis(random.below(3_000)))),
        }
        self.profile.keepalive = tcp.keepalive();
        self.profile.linger = tcp.linger();
    }

    /// Closes the connection, or starts to linger.
    pub fn close(&mut self, stack: &mut Stack, now: Instant) {
        if matches!(self.profile.finish, Finish::AbortAfter(_)) {
            self.tcp(stack).set_linger(Some(Duration::ZERO));
        } else if let Some(time) = self.profile.linger.filter(|time| !time.is_zero())
            && self.lingers_until.is_none()
            && self.tcp(stack).shutdown().is_ok()
        {
            self.half_closed = true;
            self.lingers_until = Some(now + time);
            return self.linger(stack, now, now + time);
        }
        self.drop(stack);
    }

    fn linger(&mut self, stack: &mut Stack, now: Instant, until: Instant) {
        if now < until && self.tcp(stack).poll_drained().is_pending() {
            self.wake(until);
        } else {
            self.drop(stack);
        }
    }

    /// The last descriptor is closed, as when a process dies.
    pub fn drop(&mut self, stack: &mut Stack) {
        self.note_numbers(stack);
        self.tcp(stack).close();
        self.closed = true;
        self.next = None;
    }

    /// What it still waits for although the condition holds: a missed notification.
    pub fn waits_without_success(&self, stack: &mut Stack) -> Option<&'static str> {
        if !self.is_active() || self.next.is_some() {
            return None;
        }
        let short = stack.config().tcp.memory < TcpConfig::default().memory;
        let mut tcp = self.tcp(stack);
        if self.waits[0] && tcp.poll_readable().is_ready() {
            return Some("text, the end of the stream or an error");
        }
        // Where memory is short, room is made by other connections and only its own acknowledgments notify it.
        let info = tcp.info();
        let incomplete = short && info.unsent + info.unacked > 0;
        (self.waits[1] && !incomplete && tcp.readiness().writable).then_some("room to write")
    }
}

impl Application {
    /// Since `gone` its peer has no state for the connection, and `calm` is the time of the last
    /// fault. Whether keep-alive should have detected it, and has not.
    pub fn is_fooled(&self, stack: &mut Stack, now: Instant, gone: Instant, calm: Instant) -> bool {
        let mut tcp = self.tcp(stack);
        let Some(times) = tcp.keepalive().filter(|_| tcp.user_timeout().is_none()) else { return false };
        let info = tcp.info();
        // Unacknowledged or unsent data detects it by itself, in its own time.
        let asks = tcp.end().is_none() && tcp.poll_drained().is_ready() && info.unsent + info.unacked == 0;
        let found = gone.max(calm).max(self.changed) + times.idle + times.interval * (times.count + 1);
        asks && now > found + Duration::from_secs(5)
    }
}
