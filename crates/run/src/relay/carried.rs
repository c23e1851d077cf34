//! The relay of a connection beside what ends it from outside: a fault, a lack of descriptors, the end of the run.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lastack::TcpStream;

use super::{Boxed, Over, Relay, Running, Side};
use crate::account::ConnectionReport;
use crate::budget::{Idle, Slot};
use crate::closing::Live;
use crate::inject::{Held, Plan as Faults};
use crate::run::Run;

/// The relay of a connection: until it has ended, or is ended by a fault, by a lack of descriptors (`Some`), or with the
/// run (`None`).
pub struct Carried<'a> {
    running: Running<'a>,
    beside: Option<Box<Beside<'a>>>,
    slot: &'a Slot,
    live: &'a Live,
}

/// What only some connections have.
struct Beside<'a> {
    /// Waits until a fault ends it.
    acted: Option<Boxed<'a, Held>>,
    /// Measures what is shown.
    measured: Option<Boxed<'a, Infallible>>,
}

impl<'a> Carried<'a> {
    /// `acted`: waits until a fault ends it.
    pub fn new(
        relay: &'a Relay<'a>,
        account: &'a ConnectionReport,
        acted: Option<Boxed<'a, Held>>,
        slot: &'a Slot,
        live: &'a Live,
    ) -> Self {
        live.watch(&account.ledger);
        let beside = Beside { acted, measured: account.measure(relay) };
        let has_any = beside.acted.is_some() || beside.measured.is_some();
        Carried { running: relay.run(), beside: has_any.then(|| Box::new(beside)), slot, live }
    }
}

impl Future for Carried<'_> {
    type Output = Option<Over>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Over>> {
        if let Poll::Ready(over) = Pin::new(&mut self.running).poll(cx) {
            return Poll::Ready(Some(over));
        }
        let acted = self.beside.as_mut().and_then(|beside| beside.acted.as_mut());
        if let Some(Poll::Ready(held)) = acted.map(|acted| acted.as_mut().poll(cx)) {
            return Poll::Ready(Some(Over::Injected(held)));
        }
        let relay = self.running.relay();
        if self.slot.is_evicted() {
            return Poll::Ready(Some(Over::Evicted(self.slot.reason(relay.ledger().idle()))));
        }
        if let Some(measured) = self.beside.as_mut().and_then(|beside| beside.measured.as_mut()) {
            let _never = measured.as_mut().poll(cx);
        }
        ready!(self.live.poll_closing(relay.ledger(), cx));
        // Without the program's FIN a FIN to the remote would be false. With it, the host's kernel completes the
        // close alone.
        if !relay.ledger().program_fin.get() {
            relay.reset_remote();
        }
        Poll::Ready(None)
    }
}

/// What waits until a fault ends the connection, whose gate is prepared; `None`: it has no faults.
pub fn acted<'a>(
    run: &'a Run,
    faults: &'a Faults,
    account: &'a ConnectionReport,
    program: &'a TcpStream,
    relay: &'a Relay<'a>,
) -> Option<Boxed<'a, Held>> {
    if faults.is_empty() {
        return None;
    }
    let ledger = &account.ledger;
    let passed = |side| match side {
        Side::Program => ledger.to_remote.get(),
        Side::Remote => ledger.from_remote.get(),
    };
    Some(Box::pin(async move {
        faults.act(&run.inject, &relay.faulty(), &ledger.gate, program, passed, || relay.reset_remote()).await
    }))
}
