//! What a host, its sockets and its driver share.

use crate::echo::Pings;
use crate::ended::Subscribers;
use crate::error::stopped;
use crate::tcp::Intercepted;
use crate::wakers::{Due, Interest, Ticket, Wakers};
use lastack_engine::{Event, Instant, Stack};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
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
    pub intercepted: Intercepted,
    pub datagrams_intercepted: bool,
    pub pings: Pings,
    pub ended: Subscribers,
    pub driver: DriverState,
    /// No handle and no socket is left.
    pub abandoned: bool,
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
    /// It has ended: with the link's error, or because it was dropped.
    Stopped(Option<Arc<io::Error>>),
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
            intercepted: Intercepted::default(),
            datagrams_intercepted: false,
            pings: Pings::default(),
            ended: Subscribers::default(),
            driver: DriverState::Awake,
            abandoned: false,
        };
        Self { inner: Mutex::new(inner), start: tokio::time::Instant::now() }
    }

    pub fn now(&self) -> Instant {
        Instant::since_start(self.start.elapsed())
    }

    /// The one place that takes the lock. What the call did is carried to whom it concerns, after
    /// unlocking: tasks are woken, and the driver if there is something to send or an earlier
    /// deadline.
    pub fn with<R>(&self, call: impl FnOnce(&mut Inner) -> R) -> R {
        let (result, due) = {
            // A panic under the lock can only come from a user's closure, which sees no more than
            // borrowed octets: nothing is half done, so the lock is not given up.
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let result = call(&mut inner);
            (result, inner.settle())
        };
        due.wake();
        result
    }

    /// Polls something of a socket; if it is pending, the task is noted under `interest`: in the
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
            DriverState::Stopped(cause) => Err(stopped(cause.as_ref())),
            DriverState::Awake | DriverState::Asleep { .. } => Ok(()),
        }
    }

    /// The result of a call that must not wait.
    pub fn or_would_block<T>(&self, result: Poll<io::Result<T>>) -> io::Result<T> {
        match result {
            Poll::Ready(result) => result,
            Poll::Pending => self.running().and(Err(io::ErrorKind::WouldBlock.into())),
        }
    }

    /// The driver has ended, and with it everything that waits.
    pub fn stop(&mut self, cause: Option<io::Error>) {
        self.driver = DriverState::Stopped(cause.map(Arc::new));
        self.wakers.wake_all();
    }

    /// The last handle is gone: the driver may have nothing left to do.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.wake_driver();
    }

    /// Whether the driver has nothing left to do: nobody can ask for anything any more, and no
    /// connection still has something to send or to hear. TIME-WAIT is not waited for.
    pub fn is_finished(&self) -> bool {
        self.abandoned && self.stack.connections() == 0 && !self.stack.has_output()
    }

    /// Turns events into wakers.
    fn settle(&mut self) -> Due {
        while let Some(event) = self.stack.poll_event() {
            self.dispatch(event);
        }
        if self.driver_is_late() {
            self.wake_driver();
        }
        self.wakers.take_due()
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Incoming(id) => self.wakers.wake(Interest::Accept(id)),
            Event::Intercepted(id) => self.intercepted.push(&mut self.stack, &mut self.wakers, id),
            Event::Connected(id) | Event::Writable(id) => self.wakers.wake(Interest::Write(id)),
            Event::Readable(id) => self.wakers.wake(Interest::Read(id)),
            Event::Ended(ended) => {
                for interest in [Interest::Read, Interest::Write, Interest::End] {
                    self.wakers.wake(interest(ended.id));
                }
                self.ended.push(&mut self.wakers, &ended);
            }
            Event::UdpReadable(id) => self.wakers.wake(Interest::UdpRead(id)),
            Event::UdpWritable(id) => self.wakers.wake(Interest::UdpWrite(id)),
            Event::EchoRequest => self.wakers.wake(Interest::EchoRequest),
            Event::EchoReply => self.pings.collect(&mut self.stack, &mut self.wakers),
            other => unreachable!("an event that the sockets do not know: {other:?}"),
        }
    }

    /// Whether the driver sleeps while there is something to send, or past a deadline.
    fn driver_is_late(&self) -> bool {
        let DriverState::Asleep { until, .. } = &self.driver else { return false };
        self.stack.has_output()
            || self.stack.poll_timeout().is_some_and(|due| until.is_none_or(|until| due < until))
    }

    fn wake_driver(&mut self) {
        if !matches!(self.driver, DriverState::Asleep { .. }) {
            return;
        }
        if let DriverState::Asleep { waker, .. } = std::mem::replace(&mut self.driver, DriverState::Awake) {
            self.wakers.wake_later(waker);
        }
    }
}
