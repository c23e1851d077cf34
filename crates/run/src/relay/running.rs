//! A relay as one future, written by hand: an idle connection waits for a few events only, and what it needs for a while
//! at most is on the heap for that while.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lastack::Cause;
use tokio::time::sleep;

use super::{GRACE, Over, Relay, Seen, Side, TURN};
use crate::acks::Attending;

/// A future that exists for a while only.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The same, in half the room, where there is seldom one.
type Thin<'a, T> = Box<Boxed<'a, T>>;

/// Relays until the connection has ended, and passes the end on.
pub struct Running<'a> {
    relay: &'a Relay<'a>,
    up: Up<'a>,
    down: Down<'a>,
    attending: Option<Box<Attending<'a>>>,
    rare: Option<Box<Rare<'a>>>,
}

/// What only some connections wait for, or only at their end.
#[derive(Default)]
struct Rare<'a> {
    /// An error of the host's socket while no read would report it.
    trouble: Option<Boxed<'a, Over>>,
    /// The program has closed, and the remote has not.
    abandoned: Option<Boxed<'a, ()>>,
    /// Relaying is over: the end is passed on.
    end: Option<Boxed<'a, Over>>,
}

/// From the program to the remote, up to the program's FIN.
enum Up<'a> {
    /// Waits for data of the program.
    Data,
    /// Waits at the gate.
    Gate(Thin<'a, usize>),
    /// Waits for room in the host's socket.
    Room,
    /// The program's FIN waits at the gate.
    Fin(Thin<'a, ()>),
    Done,
}

/// From the remote to the program, up to the remote's FIN.
struct Down<'a> {
    waits: WaitsFor<'a>,
    /// Max bytes of a turn; 0: there was no whole one yet.
    turn: u32,
}

enum WaitsFor<'a> {
    /// Room on the program's side.
    Room,
    /// Data of the remote.
    Data,
    /// The gate.
    Gate(Thin<'a, usize>),
    /// The gate, for the remote's FIN.
    Fin(Thin<'a, ()>),
    Nothing,
}

impl<'a> Running<'a> {
    pub(super) fn new(relay: &'a Relay<'a>) -> Self {
        Self {
            relay,
            up: Up::Data,
            down: Down { waits: WaitsFor::Data, turn: 0 },
            attending: None,
            rare: None,
        }
    }

    /// What is relayed.
    pub fn relay(&self) -> &'a Relay<'a> {
        self.relay
    }

    /// Ready when both directions are done (`None`), or one cannot go on.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Option<Over>> {
        let relay = self.relay;
        // An error that another call has taken from the host's socket.
        if let Some(errno) = relay.failed.get() {
            return Poll::Ready(Some(Over::Host(errno)));
        }
        let mut seen = Seen::default();
        for result in [self.up.poll(relay, &mut seen, cx), self.down.poll(relay, cx)] {
            if let Poll::Ready(Err(over)) = result {
                return Poll::Ready(Some(over));
            }
        }
        if self.up.is_done() && self.down.is_done() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(over) = self.poll_ends(&mut seen, cx) {
            return Poll::Ready(Some(over));
        }
        let ack_wanted = seen.looked.then_some(seen.ack_wanted);
        relay.acks.poll(relay.sides(), &mut self.attending, ack_wanted, &relay.failed, cx);
        match relay.failed.get() {
            Some(errno) => Poll::Ready(Some(Over::Host(errno))),
            None => Poll::Pending,
        }
    }

    /// Ready when either side has ended, other than cleanly, or the program has released its socket.
    fn poll_ends(&mut self, seen: &mut Seen, cx: &mut Context<'_>) -> Poll<Over> {
        let relay = self.relay;
        // A read reports an error.
        let reads = matches!(self.down.waits, WaitsFor::Data);
        if reads && !self.up.is_done() {
            self.rare = None;
        } else if !reads {
            let rare = self.rare.get_or_insert_default();
            let trouble = rare.trouble.get_or_insert_with(|| Box::pin(relay.host_trouble()));
            if let Poll::Ready(over) = trouble.as_mut().poll(cx) {
                return Poll::Ready(over);
            }
        }
        let end = match seen.looked {
            true => seen.end.take(),
            false => match relay.program.poll_closed(cx) {
                Poll::Ready(Ok(end)) => Some(end),
                // The directions see an error themselves.
                _ => None,
            },
        };
        // They see an orderly end as well.
        if let Some(end) = end.filter(|end| end.cause != Cause::Orderly) {
            return Poll::Ready(Over::Program(Box::new(end)));
        }
        if self.up.is_done() {
            let rare = self.rare.get_or_insert_default();
            let abandoned = rare.abandoned.get_or_insert_with(|| Box::pin(relay.abandoned()));
            return abandoned.as_mut().poll(cx).map(|()| Over::LetGo);
        }
        Poll::Pending
    }

    /// Passes the end on: `over` says which side has ended, `None` that both directions are done.
    fn begin_end(&mut self, over: Option<Over>) -> Boxed<'a, Over> {
        let relay = self.relay;
        relay.ledger.course.ended();
        let (mut up, mut down) = (Up::Done, Down { waits: WaitsFor::Nothing, turn: 0 });
        std::mem::swap(&mut up, &mut self.up);
        std::mem::swap(&mut down, &mut self.down);
        Box::pin(async move {
            let over = match over {
                Some(over) => over,
                None => relay.settle().await,
            };
            match &over {
                // The kernels of both sides go on alone, as with any connection that a program has closed.
                Over::Orderly | Over::LetGo | Over::Injected(_) | Over::Evicted(_) => {}
                Over::Host(_) => {
                    relay.patiently(|cx| down.poll(relay, cx)).await;
                    relay.deliver_to_program().await;
                    sleep(GRACE.saturating_sub(relay.ledger.course.age())).await;
                }
                Over::Program(_) => {
                    relay.patiently(|cx| up.poll(relay, &mut Seen::default(), cx)).await;
                    relay.deliver_to_remote().await;
                    relay.reset_remote();
                }
            }
            over
        })
    }
}

impl Future for Running<'_> {
    type Output = Over;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if let Some(end) = self.rare.as_mut().and_then(|rare| rare.end.as_mut()) {
                return end.as_mut().poll(cx);
            }
            let over = ready!(self.poll_relay(cx));
            let end = Some(self.begin_end(over));
            self.rare = Some(Box::new(Rare { end, ..Rare::default() }));
        }
    }
}

impl<'a> Up<'a> {
    fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    fn poll(
        &mut self,
        relay: &'a Relay<'a>,
        seen: &mut Seen,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Over>> {
        let gate = &relay.ledger.gate;
        loop {
            let passed = relay.ledger.to_remote.get();
            let is_open = || gate.room(Side::Program, passed) > 0;
            *self = match self {
                Self::Data if !is_open() => Self::Gate(thin(gate.left(Side::Program, passed))),
                Self::Data => match ready!(relay.poll_up(cx, seen))? {
                    // A fault has closed the gate meanwhile.
                    Some(0) if !is_open() => Self::Data,
                    Some(0) => {
                        relay.ledger.blocked.set(true);
                        Self::Room
                    }
                    Some(bytes) => {
                        relay.passed_up(bytes);
                        if seen.drained {
                            return Poll::Pending;
                        }
                        Self::Data
                    }
                    None => {
                        relay.is_end_of_stream()?;
                        match gate.holds_fin(Side::Program) {
                            true => Self::Fin(thin(gate.fin(Side::Program))),
                            false => {
                                relay.finish_up();
                                Self::Done
                            }
                        }
                    }
                },
                Self::Gate(opened) => {
                    ready!(Pin::new(opened).poll(cx));
                    Self::Data
                }
                Self::Room => {
                    let writable = ready!(relay.host.poll_write_ready(cx));
                    relay.ledger.blocked.set(false);
                    writable.map_err(|error| relay.host_failed(&error))?;
                    Self::Data
                }
                Self::Fin(passes) => {
                    ready!(Pin::new(passes).poll(cx));
                    relay.finish_up();
                    Self::Done
                }
                Self::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<'a> Down<'a> {
    fn is_done(&self) -> bool {
        matches!(self.waits, WaitsFor::Nothing)
    }

    fn poll(&mut self, relay: &'a Relay<'a>, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let gate = &relay.ledger.gate;
        loop {
            let left = match &mut self.waits {
                WaitsFor::Room => {
                    let room = ready!(relay.program.poll_write_ready(cx));
                    room.map_err(|error| relay.program_failed(&error))?;
                    self.waits = WaitsFor::Data;
                    continue;
                }
                WaitsFor::Data => {
                    // The directions are polled by one task: each may be the only one that waits for its part of the
                    // readiness, which takes less memory than a future.
                    let data = ready!(relay.host.poll_read_ready(cx));
                    data.map_err(|error| relay.host_failed(&error))?;
                    let passed = relay.ledger.from_remote.get();
                    match gate.room(Side::Remote, passed) {
                        0 => {
                            self.waits = WaitsFor::Gate(thin(gate.left(Side::Remote, passed)));
                            continue;
                        }
                        left => left,
                    }
                }
                WaitsFor::Gate(opened) => ready!(Pin::new(opened).poll(cx)),
                WaitsFor::Fin(passes) => {
                    ready!(Pin::new(passes).poll(cx));
                    relay.finish_down();
                    self.waits = WaitsFor::Nothing;
                    continue;
                }
                WaitsFor::Nothing => return Poll::Ready(Ok(())),
            };
            ready!(self.pass(relay, left, cx))?;
        }
    }

    /// Passes up to `left` bytes on. Pending: the turn is over, and the tasks that are ready run first. (Unlike with
    /// tokio's `yield_now`, no events are looked for first, which is a system call.)
    fn pass(&mut self, relay: &'a Relay<'a>, left: usize, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let turn = if self.turn == 0 { TURN } else { self.turn as usize };
        self.waits = WaitsFor::Data;
        match relay.pass_down(left.min(turn)) {
            Ok(Some(0)) => {
                // A reset that was reported to another call shows as an end of stream.
                if let Some(errno) = relay.failed.get() {
                    return Poll::Ready(Err(Over::Host(errno)));
                }
                self.waits = match relay.ledger.gate.holds_fin(Side::Remote) {
                    true => WaitsFor::Fin(thin(relay.ledger.gate.fin(Side::Remote))),
                    false => {
                        relay.finish_down();
                        WaitsFor::Nothing
                    }
                };
            }
            Ok(Some(bytes)) if bytes == turn => {
                if self.turn == 0 {
                    // In whole segments, so that a turn does not end in a small one.
                    let segment = relay.program.info().map_or(1, |info| info.mss.max(1)) as usize;
                    self.turn = (TURN - TURN % segment.min(TURN)) as u32;
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ok(None) => self.waits = WaitsFor::Room,
            Ok(Some(_)) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(relay.host_failed(&error))),
        }
        Poll::Ready(Ok(()))
    }
}

fn thin<'a, T>(future: impl Future<Output = T> + 'a) -> Thin<'a, T> {
    Box::new(Box::pin(future))
}
