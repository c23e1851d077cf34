//! The state shared by a host, its sockets and its driver.

use crate::echo::Pings;
use crate::ended::Subscribers;
use crate::error::{HostError, gone, would_block};
use crate::sync::Mutex;
use crate::tcp::{Intercepted, Watched};
#[cfg(feature = "tracing")]
use crate::trace::Traces;
use crate::wakers::{Interest, Ticket, Wakers};
use lastack_engine::{ConnId, Event, Instant, ListenerId, Stack};
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
#[cfg(feature = "tracing")]
use std::sync::Arc;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker, ready};
use tokio::task::coop;

/// The stack and its lock.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Time zero of the stack's clock.
    pub start: tokio::time::Instant,
    #[cfg(feature = "tracing")]
    pub traces: Arc<Traces>,
}

/// The state under the lock.
pub(crate) struct Inner {
    pub stack: Stack,
    pub wakers: Wakers,
    pub listeners: HashSet<ListenerId>,
    pub intercepted: Intercepted,
    pub datagrams_intercepted: bool,
    pub raw_intercepted: bool,
    pub pings: Pings,
    pub ended: Subscribers,
    pub watched: Watched,
    pub driver: DriverState,
    /// All handles and sockets were dropped.
    pub abandoned: bool,
    /// [`Host::shutdown`](crate::Host::shutdown) has begun: no new sockets.
    pub shutting_down: bool,
    #[cfg(feature = "tracing")]
    traces: Arc<Traces>,
}

/// The state of the driver.
pub(crate) enum DriverState {
    /// It will check the stack before it sleeps.
    Awake,
    /// It sleeps until a deadline, or until it is woken.
    Asleep {
        /// The earliest deadline it has registered.
        until: Option<Instant>,
        /// Wakes it.
        waker: Waker,
    },
    /// It has ended with this error.
    Stopped(HostError),
}

impl fmt::Debug for Shared {
    /// Omits the stack: this is part of the Debug output of every socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub fn new(stack: Stack) -> Self {
        #[cfg(feature = "tracing")]
        let traces = Arc::<Traces>::default();
        let inner = Inner {
            stack,
            wakers: Wakers::default(),
            listeners: HashSet::new(),
            intercepted: Intercepted::default(),
            datagrams_intercepted: false,
            raw_intercepted: false,
            pings: Pings::default(),
            ended: Subscribers::default(),
            watched: Watched::default(),
            driver: DriverState::Awake,
            abandoned: false,
            shutting_down: false,
            #[cfg(feature = "tracing")]
            traces: traces.clone(),
        };
        Self {
            inner: Mutex::new(inner),
            start: tokio::time::Instant::now(),
            #[cfg(feature = "tracing")]
            traces,
        }
    }

    pub fn now(&self) -> Instant {
        Instant::since_start(self.start.elapsed())
    }

    /// The only place that takes the lock. The effects of the call are processed after unlocking: tasks are woken,
    /// and the driver if there is something to send or an earlier deadline.
    ///
    /// A panic of the call is a bug of the stack, which may be left in an inconsistent state. So the stack is
    /// replaced by an empty one, every waiting task gets [`HostError::Panicked`], and the panic is resumed in the
    /// caller. Hence the lock is never poisoned.
    pub fn with<R>(&self, call: impl FnOnce(&mut Inner) -> R) -> R {
        self.with_events(call).0
    }

    /// As [`with`](Self::with), and returns whether there were events that tasks may answer.
    pub fn with_events<R>(&self, call: impl FnOnce(&mut Inner) -> R) -> (R, bool) {
        let (result, due) = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let result = catch_unwind(AssertUnwindSafe(|| {
                let result = call(&mut inner);
                let events = inner.settle();
                (result, events)
            }));
            if let Err(panic) = &result {
                inner.break_down(panic.as_ref());
            }
            (result, inner.wakers.take_due())
        };
        if let Some(due) = due {
            due.wake();
        }
        #[cfg(feature = "tracing")]
        self.traces.emit();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Polls a socket; if pending, registers the task under `interest`: as a future with `ticket`, or without as the
    /// task of a `poll_*` method. Uses tokio's cooperative task budget, as tokio's sockets do.
    pub fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        ticket: Option<&mut Ticket>,
        call: impl FnOnce(&mut Inner) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let budget = ready!(coop::poll_proceed(cx));
        let result = self.with(|inner| match call(inner) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => match inner.running() {
                Err(error) => Poll::Ready(Err(error)),
                Ok(()) => {
                    match ticket {
                        Some(ticket) => inner.wakers.register(interest, ticket, cx.waker()),
                        None => inner.wakers.register_poller(interest, cx.waker()),
                    }
                    Poll::Pending
                }
            },
        });
        if result.is_ready() {
            budget.made_progress();
        }
        result
    }
}

impl Inner {
    /// A connection begins for the application, by this call.
    pub fn trace_begin(&self, id: ConnId, local: SocketAddr, remote: SocketAddr, how: &'static str) {
        #[cfg(feature = "tracing")]
        self.traces.began(id, lastack_engine::FourTuple { local, remote }, how);
        #[cfg(not(feature = "tracing"))]
        let _ = (id, local, remote, how);
    }

    /// An error once the driver has stopped: nothing will be received or sent.
    pub fn running(&self) -> io::Result<()> {
        match &self.driver {
            DriverState::Stopped(cause) => Err(cause.clone().into()),
            DriverState::Awake | DriverState::Asleep { .. } => Ok(()),
        }
    }

    /// An error if no new socket can be made: the driver has stopped, or the host is shutting down.
    pub fn accepts_sockets(&self) -> io::Result<()> {
        self.running()?;
        if self.shutting_down { Err(HostError::ShutDown.into()) } else { Ok(()) }
    }

    /// The error of a call on a socket that is not in the stack: why the host stopped, if it has.
    pub fn gone(&self) -> io::Error {
        self.running().err().unwrap_or_else(gone)
    }

    /// The result of a non-blocking call.
    pub fn or_would_block<T>(&self, result: Poll<io::Result<T>>) -> io::Result<T> {
        match result {
            Poll::Ready(result) => result,
            Poll::Pending => self.running().and_then(|()| Err(would_block())),
        }
    }

    /// The driver has ended: wakes all tasks. The first cause is kept.
    pub fn stop(&mut self, cause: HostError) {
        if let DriverState::Asleep { waker, .. } =
            std::mem::replace(&mut self.driver, DriverState::Stopped(cause))
        {
            self.wakers.wake_later(waker);
        }
        self.wakers.wake_all();
    }

    /// The stack has panicked: its state is discarded.
    fn break_down(&mut self, panic: &(dyn Any + Send)) {
        let config = self.stack.config().clone();
        self.stack = Stack::new(config, [0; 16]);
        self.listeners.clear();
        self.intercepted = Intercepted::default();
        self.pings = Pings::default();
        self.stop(HostError::panicked(panic));
    }

    /// The last handle was dropped: the driver may be finished.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.wake_driver();
    }

    /// Whether the driver is finished: there are no handles or sockets, and no connection has anything left to send
    /// or receive. TIME-WAIT is not waited for.
    pub fn is_finished(&self) -> bool {
        let done = if self.shutting_down {
            // An ended connection can still be read, without a driver.
            self.stack.tcp_connections().next().is_none()
        } else {
            self.abandoned && self.stack.connections() == 0
        };
        done && !self.stack.has_output()
    }

    /// Wakes the tasks that wait for the stack's events. Returns whether there were any that they may answer.
    ///
    /// The acknowledgment that completes a handshake does not wait for an answer: if the task aborts the connection, the
    /// peer has still accepted it, as on Linux.
    fn settle(&mut self) -> bool {
        let mut events = false;
        while let Some(event) = self.stack.poll_event() {
            events |= !matches!(event, Event::Connected(_) | Event::Ended(_));
            self.dispatch(event);
        }
        if self.driver_is_late() {
            self.wake_driver();
        }
        events
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Incoming(id) => self.wakers.wake(Interest::Accept(id)),
            Event::Intercepted(id) => self.intercepted.push(&mut self.stack, &mut self.wakers, id),
            Event::Connected(id) | Event::Writable(id) => self.wakers.wake(Interest::Write(id)),
            Event::Readable(id) => self.wakers.wake(Interest::Read(id)),
            Event::AckWanted(id) => self.wakers.wake(Interest::Acknowledge(id)),
            Event::Ended(ended) => {
                self.wakers.wake_connection(ended.id);
                self.intercepted.ended(&mut self.stack, &ended);
                self.watched.ended(&ended);
                #[cfg(feature = "tracing")]
                self.traces.ended(&ended);
                self.ended.push(&mut self.wakers, &ended);
            }
            Event::UdpReadable(id) => self.wakers.wake(Interest::UdpRead(id)),
            Event::UdpWritable(id) => self.wakers.wake(Interest::UdpWrite(id)),
            Event::EchoRequest => self.wakers.wake(Interest::EchoRequest),
            Event::RawPacket => self.wakers.wake(Interest::RawPacket),
            Event::RawWritable => self.wakers.wake(Interest::RawWrite),
            Event::EchoReply => self.pings.collect(&mut self.stack, &mut self.wakers),
            // An event of a newer engine for a feature that these sockets do not offer.
            _ => {}
        }
    }

    /// Whether the driver sleeps although there is something to send, or past a deadline.
    fn driver_is_late(&self) -> bool {
        let DriverState::Asleep { until, .. } = &self.driver else { return false };
        self.stack.has_output()
            || self.stack.poll_timeout().is_some_and(|due| until.is_none_or(|until| due < until))
    }

    pub fn wake_driver(&mut self) {
        if !matches!(self.driver, DriverState::Asleep { .. }) {
            return;
        }
        if let DriverState::Asleep { waker, .. } = std::mem::replace(&mut self.driver, DriverState::Awake) {
            self.wakers.wake_later(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack_engine::Config;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_panic_of_the_stack_stops_the_host_and_wakes_all_that_wait() {
        let address = std::net::IpAddr::from([10, 0, 0, 1]);
        let shared = Shared::new(Stack::new(Config::new([address]), [0; 16]));
        let listener = shared.with(|inner| inner.stack.tcp_listen((address, 80).into(), 1).unwrap());
        let count = Arc::<Count>::default();
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let wait = |cx: &mut Context<'_>, shared: &Shared| -> Poll<io::Result<()>> {
            shared.poll(cx, Interest::Accept(listener), None, |_| Poll::Pending)
        };
        assert!(wait(&mut cx, &shared).is_pending());

        let half_done = || shared.with(|_| panic!("a length of {}", 7));
        let panic = catch_unwind(AssertUnwindSafe(half_done)).unwrap_err();
        let message = HostError::panicked(panic.as_ref()).to_string();
        assert!(message.ends_with("a length of 7"), "it goes on in the caller: {message}");
        assert_eq!(count.0.load(Ordering::Relaxed), 1);

        let Poll::Ready(Err(error)) = wait(&mut cx, &shared) else { panic!("nothing will ever come") };
        assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
        assert!(
            error.to_string().contains("panicked") && error.to_string().contains("a length of 7"),
            "{error}"
        );
        assert!(matches!(HostError::find(&error), Some(HostError::Panicked(_))));
        assert!(
            shared.with(|inner| inner.stack.tcp_listener_addr(listener)).is_none(),
            "nothing half done is used"
        );
    }
}
