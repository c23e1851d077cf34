//! Datagrams of the program: each pair of sockets is a flow with a connected socket of the host, so that the host hears
//! what became of them and the program hears it too.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lastack::{Datagram, Host, UdpInterceptor};
use lastack_wire::icmp::IcmpError;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Run;
use super::closing::Live;
use super::flow::FlowAccount;
use super::plan::Place;
use crate::host::error_queue::{self, QueuedError};
use crate::host::{Failure, Said, scratch};
use crate::report::Record;

/// Most flows at once; the one that was quiet for longest makes room.
const MOST_FLOWS: usize = 4096;
/// A flow is over when nothing has gone for so long.
const IDLE: Duration = Duration::from_secs(60);
/// A question and its answer.
const IDLE_DNS: Duration = Duration::from_secs(10);
/// A resolver that has not answered in this time is passed over, if there is another.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(2);

/// The program's socket and the one it sends to.
type Key = (SocketAddr, SocketAddr);

/// The flows of a run.
struct Flows {
    run: Rc<Run>,
    program: UdpInterceptor,
    flows: RefCell<HashMap<Key, Rc<Flow>>>,
}

/// A flow.
struct Flow {
    key: Key,
    account: FlowAccount,
    /// Where it leads; `None`: nowhere.
    to: Option<SocketAddr>,
    /// The way there; `None`: there is none now, and each datagram gets the answer of the account.
    socket: RefCell<Option<Rc<UdpSocket>>>,
    /// The task is to look at the flow again.
    changed: Notify,
    resolver: Option<Question>,
    last: Cell<Instant>,
}

/// What a flow to the resolvers remembers, to ask the next if one does not work.
struct Question {
    server: Cell<SocketAddr>,
    asked: RefCell<Vec<u8>>,
    /// When it was asked; `None`: it was answered.
    waiting: Cell<Option<Instant>>,
    tried: Cell<usize>,
}

/// Relays every datagram of the program, until the link ends.
pub async fn serve(run: Rc<Run>, host: &Host) -> io::Result<Infallible> {
    let flows = Rc::new(Flows { run, program: host.intercept_udp()?, flows: RefCell::default() });
    loop {
        let datagram = flows.program.recv().await?;
        flows.arrives(&datagram);
    }
}

impl Flows {
    /// A datagram of the program.
    fn arrives(self: &Rc<Self>, datagram: &Datagram) {
        let key = (datagram.remote, datagram.local);
        let known = self.flows.borrow().get(&key).cloned();
        let flow = known.unwrap_or_else(|| self.open(key));
        flow.last.set(Instant::now());
        if let Some(question) = &flow.resolver {
            question.ask(&datagram.payload);
        }
        let socket = flow.socket.borrow().clone();
        match socket.or_else(|| flow.connect()) {
            Some(socket) => self.pass_up(&flow, &socket, datagram),
            None => self.answer(&flow, datagram),
        }
    }

    fn open(self: &Rc<Self>, key: Key) -> Rc<Flow> {
        self.make_room();
        let account = FlowAccount::new(key.0, key.1);
        let (place, mut resolver) = (self.run.plan.place(key.1), None);
        let to = match place {
            Place::Remote(remote) => Some(remote),
            Place::Resolver => {
                let server = self.run.resolvers.current();
                resolver = Some(Question::new(server));
                Some(server)
            }
            place => {
                account.refused_here(place, self.run.plan.gateway(key.1.is_ipv6()));
                None
            }
        };
        let flow = Rc::new(Flow {
            key,
            account,
            to,
            socket: RefCell::default(),
            changed: Notify::new(),
            resolver,
            last: Cell::new(Instant::now()),
        });
        self.flows.borrow_mut().insert(key, flow.clone());
        let (flows, of_task) = (self.clone(), flow.clone());
        let live = self.run.live.enter_quietly();
        tokio::task::spawn_local(async move { flows.carry(of_task, live).await });
        flow
    }

    fn make_room(&self) {
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= MOST_FLOWS
            && let Some(quietest) = flows.values().min_by_key(|flow| flow.last.get()).map(|flow| flow.key)
            && let Some(flow) = flows.remove(&quietest)
        {
            // It has been quiet for too long, as matters stand.
            flow.last.set(Instant::now() - IDLE);
            flow.changed.notify_one();
        }
    }

    /// From the program to the remote.
    fn pass_up(&self, flow: &Flow, socket: &UdpSocket, datagram: &Datagram) {
        let to = SockRef::from(socket);
        // What fails first may be the error of an earlier datagram, which stands in the queue too.
        match to.send(&datagram.payload).or_else(|_| to.send(&datagram.payload)) {
            Ok(octets) => flow.account.sent(octets),
            // The host's own queue is full.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                self.run.report.count(|summary| summary.dropped += 1);
            }
            Err(error) => {
                flow.account.failed(&Failure::local(&error));
                self.answer(flow, datagram);
            }
        }
    }

    /// Tells the program what is known of the flow.
    fn answer(&self, flow: &Flow, datagram: &Datagram) {
        // The program's family; the host's may be another, when a resolver is asked.
        let v6 = datagram.local.is_ipv6();
        let Some((error, from)) = flow.account.verdict(v6) else { return };
        let from = from.or(match error == IcmpError::port_unreachable(v6) {
            // As from the destination itself.
            true => None,
            false => self.run.plan.gateway(v6),
        });
        self.reject(datagram, error, from);
    }

    fn reject(&self, datagram: &Datagram, error: IcmpError, from: Option<std::net::IpAddr>) {
        if let Err(cause) = self.program.reject(datagram, error, from) {
            self.run.report.warn(format!("an ICMP error could not be passed on to the program: {cause}"));
        }
    }

    /// The task of a flow: what comes back, until nothing has for long.
    async fn carry(self: Rc<Self>, flow: Rc<Flow>, live: Live) {
        loop {
            let socket = flow.socket.borrow().clone();
            let deadline = flow.deadline(self.run.resolvers.len());
            tokio::select! {
                heard = hear(socket.as_deref()) => match heard {
                    Ok(heard) => self.pass_down(&flow, heard),
                    Err(error) => {
                        flow.account.failed(&Failure::local(&error));
                        flow.socket.take();
                    }
                },
                () = sleep_until(deadline) => if self.is_over(&flow) { break },
                () = flow.changed.notified() => {}
                () = live.closing() => break,
            }
        }
        let mut flows = self.flows.borrow_mut();
        if flows.get(&flow.key).is_some_and(|current| Rc::ptr_eq(current, &flow)) {
            flows.remove(&flow.key);
        }
        self.run.report.record(&flow.record());
    }

    /// A deadline of the flow has passed, or was moved meanwhile.
    fn is_over(&self, flow: &Flow) -> bool {
        if flow.question_is_late(self.run.resolvers.len()) {
            self.ask_the_next(flow);
            return false;
        }
        flow.last.get().elapsed() >= flow.idle()
    }

    fn pass_down(&self, flow: &Flow, heard: Heard) {
        let (program, remote) = flow.key;
        match heard {
            Heard::Datagram(payload) => {
                flow.last.set(Instant::now());
                if let Some(question) = &flow.resolver {
                    question.waiting.set(None);
                }
                match self.program.send_from(remote, program, &payload) {
                    Ok(()) => flow.account.received(payload.len()),
                    // Too many wait already: lost, as in a network.
                    Err(_) => self.run.report.count(|summary| summary.dropped += 1),
                }
            }
            Heard::Error(queued) => {
                let failure = Failure::new(&io::Error::from_raw_os_error(queued.errno), Some(queued.clone()));
                if flow.resolver.is_some() && self.ask_the_next(flow) {
                    return;
                }
                flow.account.failed(&failure);
                if let Said::Icmp(_, from) = failure.said {
                    // A resolver may be asked over the other family than the program asked over.
                    let error = failure.as_icmp(remote.is_ipv6());
                    let datagram = Datagram {
                        local: remote,
                        remote: program,
                        payload: queued.payload,
                        ip: lastack::IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: true },
                    };
                    self.reject(&datagram, error, self.run.plan.speaker(remote, from));
                }
            }
        }
    }

    /// Asks the next resolver, if there is one that this question was not put to.
    fn ask_the_next(&self, flow: &Flow) -> bool {
        let Some(question) = &flow.resolver else { return false };
        self.run.resolvers.failed(question.server.get());
        question.tried.set(question.tried.get() + 1);
        question.waiting.set(None);
        if question.tried.get() >= self.run.resolvers.len() {
            return false;
        }
        let server = self.run.resolvers.current();
        let Ok(socket) = connected(server) else { return false };
        question.server.set(server);
        question.waiting.set(Some(Instant::now()));
        // If it fails at once, its silence says so soon.
        let _silence = SockRef::from(&socket).send(&question.asked.borrow());
        *flow.socket.borrow_mut() = Some(Rc::new(socket));
        true
    }
}

impl Flow {
    /// Its record; of a question, also whom it was put to.
    fn record(&self) -> Record {
        let mut record = self.account.record();
        if let Some(question) = &self.resolver {
            record.context.asked = Some(question.server.get());
            if !record.outcome.is_fine() {
                record.hint = Some("name a resolver that answers with --dns".to_owned());
            }
        }
        record
    }

    /// Tries to find the way, which may be there now.
    fn connect(&self) -> Option<Rc<UdpSocket>> {
        let to = self.resolver.as_ref().map(|question| question.server.get()).or(self.to)?;
        match connected(to) {
            Ok(socket) => {
                let socket = Rc::new(socket);
                *self.socket.borrow_mut() = Some(socket.clone());
                self.changed.notify_one();
                Some(socket)
            }
            Err(error) => {
                self.account.failed(&Failure::local(&error));
                None
            }
        }
    }

    fn idle(&self) -> Duration {
        if self.resolver.is_some() { IDLE_DNS } else { IDLE }
    }

    fn deadline(&self, resolvers: usize) -> Instant {
        let idle = self.last.get() + self.idle();
        match self.resolver.as_ref().and_then(|question| question.late_at(resolvers)) {
            Some(late) => late.min(idle),
            None => idle,
        }
    }

    fn question_is_late(&self, resolvers: usize) -> bool {
        let late = self.resolver.as_ref().and_then(|question| question.late_at(resolvers));
        late.is_some_and(|late| late <= Instant::now())
    }
}

impl Question {
    fn new(server: SocketAddr) -> Self {
        Self {
            server: Cell::new(server),
            asked: RefCell::default(),
            waiting: Cell::new(None),
            tried: Cell::new(0),
        }
    }

    fn ask(&self, payload: &[u8]) {
        *self.asked.borrow_mut() = payload.to_vec();
        self.tried.set(0);
        self.waiting.set(Some(Instant::now()));
    }

    /// When its silence means that the next is to be asked, if there is a next.
    fn late_at(&self, resolvers: usize) -> Option<Instant> {
        let waiting = self.waiting.get().filter(|_| self.tried.get() + 1 < resolvers)?;
        Some(waiting + RESOLVER_PATIENCE)
    }
}

/// What comes back.
enum Heard {
    Datagram(Vec<u8>),
    Error(QueuedError),
}

/// Waits for what comes back; for ever, if there is no socket.
async fn hear(socket: Option<&UdpSocket>) -> io::Result<Heard> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
            match socket.try_io(Interest::ERROR, || error_queue::take(socket)) {
                Ok(queued) => return Ok(Heard::Error(queued)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // An error that recv returns once stands in the queue too.
        let received =
            scratch::with(|buffer| socket.try_recv(buffer).map(|octets| buffer[..octets].to_vec()));
        if let Ok(payload) = received {
            return Ok(Heard::Datagram(payload));
        }
    }
}

/// A socket of the host that hears of errors.
fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    error_queue::enable(&socket, to.is_ipv6(), true)?;
    socket.connect(&to.into())?;
    UdpSocket::from_std(socket.into())
}
