//! One end of a connection: what its program does, and what it has seen.

use lastack_engine::{ConnId, Instant, Keepalive, Stack, TcpError};
use lastack_sim::{HostId, Random};
use std::task::Poll;
use std::time::Duration;

/// How a program means to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Writes all, half-closes, reads to the end, closes.
    Orderly,
    /// Closes as soon as all is written, whatever the other side still says.
    CloseWhenWritten,
    /// Closes after reading this number of bytes.
    CloseAfter(u64),
    /// Aborts after writing this number of bytes.
    AbortAfter(u64),
}

/// A program at one end.
#[derive(Debug)]
pub struct Application {
    pub host: HostId,
    pub id: ConnId,
    /// The connection's number, and whether this end opened it: what the bytes are made of.
    pub connection: u64,
    pub active: bool,
    pub intent: Intent,
    /// How much it means to write.
    pub wants: u64,
    pub written: u64,
    pub read: u64,
    /// It has half-closed or closed after writing all that it wanted.
    pub finished: bool,
    /// It has read the end of the stream, before any error.
    pub end_of_stream: bool,
    pub error: Option<TcpError>,
    /// It has closed or aborted.
    pub closed: bool,
    /// It reads slowly: so seldom.
    pub laziness: u64,
    /// When it does something next.
    pub next: Instant,
}

/// The byte at this place of a stream.
fn byte(connection: u64, active: bool, offset: u64) -> u8 {
    let mut random = Random::new(connection << 33 ^ u64::from(active) << 32 ^ (offset >> 3));
    (random.draw() >> (8 * (offset & 7))) as u8
}

impl Application {
    pub fn new(host: HostId, id: ConnId, connection: u64, active: bool, random: &mut Random) -> Self {
        let wants = match random.below(4) {
            0 => random.below(20),
            1 => random.below(3_000),
            _ => random.below(120_000),
        };
        let intent = match random.below(10) {
            0 => Intent::CloseWhenWritten,
            1 => Intent::CloseAfter(random.below(40_000)),
            2 => Intent::AbortAfter(random.below(wants + 1)),
            _ => Intent::Orderly,
        };
        let laziness = if random.once_in(4) { 1 + random.below(8) } else { 1 };
        Self {
            host,
            id,
            connection,
            active,
            intent,
            wants,
            written: 0,
            read: 0,
            finished: false,
            end_of_stream: false,
            error: None,
            closed: false,
            laziness,
            next: Instant::ZERO,
        }
    }

    /// Asks a silent peer whether it is still there: a reset is sent once, and if that is lost nothing
    /// else tells (H5).
    pub fn keep_alive(&self, stack: &mut Stack) {
        let (idle, interval) = (Duration::from_secs(20), Duration::from_secs(3));
        if let Some(mut tcp) = stack.tcp(self.id) {
            tcp.set_keepalive(Some(Keepalive { idle, interval, count: 9 }));
        }
    }

    /// Does the next few actions, and returns the time of the next.
    pub fn act(&mut self, stack: &mut Stack, now: Instant, random: &mut Random) {
        self.next = now + Duration::from_micros(random.below(20_000));
        if random.once_in(self.laziness) {
            self.read_some(stack, random);
        }
        if self.error.is_none() {
            self.write_some(stack, random);
        }
        let finished = self.error.is_some()
            || match self.intent {
                Intent::Orderly => self.finished && self.end_of_stream,
                Intent::CloseWhenWritten => self.written == self.wants,
                Intent::CloseAfter(bytes) => self.read >= bytes || self.finished && self.end_of_stream,
                Intent::AbortAfter(bytes) => self.written >= bytes,
            };
        if finished {
            self.close(stack);
        }
    }

    fn read_some(&mut self, stack: &mut Stack, random: &mut Random) {
        let Some(mut tcp) = stack.tcp(self.id) else { panic!("its name is gone before it closes: {self:?}") };
        let mut buf = vec![0; 1 + random.below(9_000) as usize];
        while !self.end_of_stream && self.error.is_none() {
            match tcp.receive(&mut buf) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => self.end_of_stream = true,
                Poll::Ready(Ok(n)) => {
                    for (i, byte_read) in buf[..n].iter().enumerate() {
                        let offset = self.read + i as u64;
                        let sent = byte(self.connection, !self.active, offset);
                        assert_eq!(*byte_read, sent, "byte {offset} of {self:?}");
                    }
                    self.read += n as u64;
                }
                Poll::Ready(Err(error)) => self.error = Some(error),
            }
            if random.once_in(3) {
                return;
            }
        }
    }

    fn write_some(&mut self, stack: &mut Stack, random: &mut Random) {
        let Some(mut tcp) = stack.tcp(self.id) else { panic!("its name is gone before it closes: {self:?}") };
        while self.written < self.wants {
            let chunk = (1 + random.below(6_000)).min(self.wants - self.written);
            let text: Vec<u8> =
                (0..chunk).map(|i| byte(self.connection, self.active, self.written + i)).collect();
            match tcp.send(&text) {
                Poll::Pending => return,
                Poll::Ready(Ok(n)) => self.written += n as u64,
                Poll::Ready(Err(error)) => {
                    self.error = Some(error);
                    return;
                }
            }
            if random.once_in(3) {
                return;
            }
        }
        let half_closes = matches!(self.intent, Intent::Orderly | Intent::CloseAfter(_));
        if half_closes && !self.finished {
            match tcp.shutdown() {
                Ok(()) => self.finished = true,
                // Too early: the handshake is not over.
                Err(TcpError::NotConnected) if tcp.end().is_none() => {}
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn close(&mut self, stack: &mut Stack) {
        let Some(mut tcp) = stack.tcp(self.id) else { panic!("its name is gone before it closes: {self:?}") };
        if matches!(self.intent, Intent::AbortAfter(_)) {
            tcp.set_linger(Some(Duration::ZERO));
        }
        tcp.close();
        self.closed = true;
    }
}
