//! What a host, its sockets and its driver share.

use crate::echo::Pings;
use crate::ended::Subscribers;
use crate::error::{HostError, gone, would_block};
use crate::sync::Mutex;
use crate::tcp::{Intercepted, Watched};
use crate::wakers::{Interest, Ticket, Wakers};
use lastack_engine::{Event, Instant, ListenerId, Stack};
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker, ready};
use tokio::task::coop;

/// The stack and its lock.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// The stack's zero of time.
    pub start: tokio::time::Instant,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub stack: Stack,
    pub wakers: Wakers,
    pub listeners: HashSet<ListenerId>,
    pub intercepted: Intercepted,
    pub datagrams_intercepted: bool,
    pub pings: Pings,
    pub ended: Subscribers,
    pub watched: Watched,
    pub driver: DriverState,
    /// No handle and no socket is left.
    pub abandoned: bool,
    /// [`Host::shutdown`](crate::Host::shutdown) has begun: nothing new is opened.
    pub shutting_down: bool,
}

/// What the driver does just now.
pub(crate) enum DriverState {
    /// It looks at the stack before it sleeps again.
    Awake,
    /// It sleeps until then, or until it is woken.
    Asleep {
        /// The earliest deadline it knows of.
        until: Option<Instant>,
        /// Wakes it.
        waker: Waker,
    },
    /// It has ended, for this reason.
    Stopped(HostError),
}

impl fmt::Debug for Shared {
    /// Not the whole stack: this stands in the Debug output of every socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub fn new(stack: Stack) -> Self {
        let inner = Inner {
            stack,
            wakers: Wakers::default(),
            listeners: HashSet::new(),
            intercepted: Intercepted::default(),
            datagrams_intercepted: false,
            pings: Pings::default(),
            ended: Subscribers::default(),
            watched: Watched::default(),
            driver: DriverState::Awake,
            abandoned: false,
            shutting_down: false,
        };
        Self { inner: Mutex::new(inner), start: tokio::time::Instant::now() }
    }

    pub fn now(&self) -> Instant {
        Instant::since_start(self.start.elapsed())
    }

    /// The one place that takes the lock. What the call did is passed on after unlocking: tasks are woken, and the
    /// driver if there is something to send or an earlier deadline.
    ///
    /// A panic of the call is a defect of the stack, which may have left a step half done. So the stack is replaced by
    /// an empty one, every waiting task gets [`HostError::Panicked`], and the panic goes on in the caller. That is why
    /// the lock is never found poisoned by a step that somebody could continue.
    pub fn with<R>(&self, call: impl FnOnce(&mut Inner) -> R) -> R {
        let (result, due) = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let result = catch_unwind(AssertUnwindSafe(|| {
                let result = call(&mut inner);
                inner.settle();
                result
            }));
            if let Err(panic) = &result {
                inner.break_down(panic.as_ref());
            }
            (result, inner.wakers.take_due())
        };
        due.wake();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Polls something of a socket; if it is pending, the task is registered under `interest`: in the
    /// place of a future, or without `ticket` in that of the `poll_*` methods. Takes part in tokio's
    /// budget of a task, as tokio's own sockets do.
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
    /// An error once the driver has stopped: nothing will ever arrive or leave.
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

    /// The error of a call on a socket that the stack does not have: why the host stopped, if it has.
    pub fn gone(&self) -> io::Error {
        self.running().err().unwrap_or_else(gone)
    }

    /// The result of a call that must not wait.
    pub fn or_would_block<T>(&self, result: Poll<io::Result<T>>) -> io::Result<T> {
        match result {
            Poll::Ready(result) => result,
            Poll::Pending => self.running().and_then(|()| Err(would_block())),
        }
    }

    /// The driver has ended, and with it everything that waits. The first cause is kept.
    pub fn stop(&mut self, cause: HostError) {
        if let DriverState::Asleep { waker, .. } =
            std::mem::replace(&mut self.driver, DriverState::Stopped(cause))
        {
            self.wakers.wake_later(waker);
        }
        self.wakers.wake_all();
    }

    /// A step of the stack has panicked: what it left is not used again.
    fn break_down(&mut self, panic: &(dyn Any + Send)) {
        let config = self.stack.config().clone();
        self.stack = Stack::new(config, [0; 16]);
        self.listeners.clear();
        self.intercepted = Intercepted::default();
        self.pings = Pings::default();
        self.stop(HostError::panicked(panic));
    }

    /// The last handle is gone: the driver may have nothing left to do.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.wake_driver();
    }

    /// Whether the driver has nothing left to do: nothing can be asked for any more, and no connection still has
    /// something to send or to receive. TIME-WAIT is not waited for.
    pub fn is_finished(&self) -> bool {
        let done = if self.shutting_down {
            // What is over may still be read by its user, and needs no driver.
            self.stack.tcp_connections().next().is_none()
        } else {
            self.abandoned && self.stack.connections() == 0
        };
        done && !self.stack.has_output()
    }

    /// Turns events into wakers.
    fn settle(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            self.dispatch(event);
        }
        if self.driver_is_late() {
            self.wake_driver();
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Incoming(id) => self.wakers.wake(Interest::Accept(id)),
            Event::Intercepted(id) => self.intercepted.push(&mut self.stack, &mut self.wakers, id),
            Event::Connected(id) | Event::Writable(id) => self.wakers.wake(Interest::Write(id)),
            Event::Readable(id) => self.wakers.wake(Interest::Read(id)),
            Event::AckWanted(id) => self.wakers.wake(Interest::Acknowledge(id)),
            Event::Ended(ended) => {
                let ends =
                    [Interest::Read, Interest::Write, Interest::End, Interest::Acknowledge, Interest::Watch];
                for interest in ends {
                    self.wakers.wake(interest(ended.id));
                }
                self.intercepted.ended(&mut self.stack, &ended);
                self.watched.ended(&ended);
                self.ended.push(&mut self.wakers, &ended);
            }
            Event::UdpReadable(id) => self.wakers.wake(Interest::UdpRead(id)),
            Event::UdpWritable(id) => self.wakers.wake(Interest::UdpWrite(id)),
            Event::EchoRequest => self.wakers.wake(Interest::EchoRequest),
            Event::EchoReply => self.pings.collect(&mut self.stack, &mut self.wakers),
            // An event of a newer engine, about something that these sockets do not offer.
            _ => {}
        }
    }

    /// Whether the driver sleeps while there is something to send, or past a deadline.
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
