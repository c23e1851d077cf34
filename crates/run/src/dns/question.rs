//! Queries over UDP. Each has its own sockets, one for each server that is queried, which are closed as soon as it is
//! answered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use lastack::{Datagram, IcmpError};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::conversation::{Answer, Conversation, Outcome};
use super::message;
use super::ruling::Ruling;
use super::{GIVE_UP, PATIENCE};
use crate::closing::Live;
use crate::host::error_queue::{self, QueuedError};
use crate::host::{Failure, Said, Source, scratch};
use crate::inject::Flow;
use crate::report::Proto;
use crate::udp::Flows;

/// Max pending queries; the oldest is evicted first.
const MAX_WAITING: usize = 1024;
/// Queries of one socket within this interval are one record.
const LINGER: Duration = Duration::from_millis(250);

/// The pending queries of a run.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: RefCell<HashMap<Key, Rc<Question>>>,
    conversations: RefCell<HashMap<Pair, Rc<Talk>>>,
}

/// The program's socket, and the name server inside.
type Pair = (SocketAddr, SocketAddr);
/// The same, and the identifier of the query.
type Key = (Pair, Option<u16>);

#[derive(Debug)]
struct Question {
    key: Key,
    datagram: Datagram,
    since: Instant,
    /// The program has retransmitted the query.
    again: Notify,
    /// Evicted, to make room for another query.
    evicted: Cell<bool>,
}

/// A conversation in progress.
#[derive(Debug)]
struct Talk {
    conversation: Conversation,
    waiting: Cell<usize>,
    /// Counts queries, to detect a new one during a pause.
    questions: Cell<u64>,
}

impl Questions {
    /// A datagram of the program to a name server.
    pub fn ask(&self, flows: &Rc<Flows>, datagram: &Datagram) {
        let pair = (datagram.remote, datagram.local);
        let key = (pair, message::id(&datagram.payload));
        let talk = self.talk(flows, pair);
        talk.conversation.account.sent(datagram.payload.len(), 1);
        let known = self.waiting.borrow().get(&key).cloned();
        if let Some(question) = known.filter(|question| question.datagram.payload == datagram.payload) {
            return question.again.notify_one();
        }
        Ruling::note_on(flows.run(), &talk.conversation, &datagram.payload);
        if let Some(ruling) = Ruling::on(flows.run(), &datagram.payload) {
            return self.answer_by_rule(flows, pair, talk, datagram, ruling);
        }
        self.make_room(MAX_WAITING.min(flows.run().budget.reserve() / 2));
        let question = Rc::new(Question {
            key,
            datagram: datagram.clone(),
            since: Instant::now(),
            again: Notify::new(),
            evicted: Cell::new(false),
        });
        self.waiting.borrow_mut().insert(key, question.clone());
        talk.begin();
        let flows = flows.clone();
        let live = flows.run().live.enter_quietly();
        tokio::task::spawn_local(async move {
            let outcome = question.resolve(&flows, &talk.conversation, &live).await;
            flows.questions().end(&question, &talk, outcome);
            flows.questions().close_when_quiet(&flows, pair, &talk, &live).await;
        });
    }

    /// An option of the run determines the answer.
    fn answer_by_rule(
        &self,
        flows: &Rc<Flows>,
        pair: Pair,
        talk: Rc<Talk>,
        datagram: &Datagram,
        ruling: Ruling,
    ) {
        talk.questions.set(talk.questions.get() + 1);
        if let Some(answer) = ruling.answer(&talk.conversation, pair.1, &datagram.payload) {
            flows.reply(pair.1, pair.0, &answer);
        }
        let flows = flows.clone();
        let live = flows.run().live.enter_quietly();
        tokio::task::spawn_local(async move {
            flows.questions().close_when_quiet(&flows, pair, &talk, &live).await;
        });
    }

    fn talk(&self, flows: &Flows, pair: Pair) -> Rc<Talk> {
        let new = || {
            let conversation = Conversation::new(pair.0, pair.1);
            *conversation.account.context.borrow_mut() =
                flows.run().context(&Flow::new(Proto::Udp, pair.0, pair.1));
            Rc::new(Talk { conversation, waiting: Cell::new(0), questions: Cell::new(0) })
        };
        self.conversations.borrow_mut().entry(pair).or_insert_with(new).clone()
    }

    fn make_room(&self, max: usize) {
        let waiting = self.waiting.borrow();
        if waiting.len() < max {
            return;
        }
        if let Some(oldest) = waiting.values().min_by_key(|question| question.since) {
            oldest.evicted.set(true);
            oldest.again.notify_one();
        }
    }

    fn end(&self, question: &Rc<Question>, talk: &Talk, outcome: Outcome) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.get(&question.key).is_some_and(|current| Rc::ptr_eq(current, question)) {
            waiting.remove(&question.key);
        }
        talk.conversation.add(outcome);
        talk.waiting.set(talk.waiting.get() - 1);
    }

    /// Writes the record once no query of it is pending, and none has followed for a while.
    async fn close_when_quiet(&self, flows: &Flows, pair: Pair, talk: &Rc<Talk>, live: &Live) {
        let asked = talk.questions.get();
        if talk.waiting.get() > 0 {
            return;
        }
        tokio::select! {
            () = sleep(LINGER) => {}
            () = live.closing() => {}
        }
        if talk.waiting.get() > 0 || talk.questions.get() != asked {
            return;
        }
        let mut conversations = self.conversations.borrow_mut();
        if conversations.get(&pair).is_some_and(|current| Rc::ptr_eq(current, talk)) {
            conversations.remove(&pair);
            drop(conversations);
            flows.run().record(talk.conversation.record());
        }
    }
}

impl Talk {
    fn begin(&self) {
        self.waiting.set(self.waiting.get() + 1);
        self.questions.set(self.questions.get() + 1);
    }
}

/// A server that was queried.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    socket: UdpSocket,
}

/// The progress of a query.
struct Course {
    order: Vec<SocketAddr>,
    source: Source,
    /// How many of the servers were queried.
    next: usize,
    /// The servers that may still answer.
    servers: Vec<Server>,
    /// The answer of a server that refuses or fails; another one may succeed.
    refusal: Option<(SocketAddr, Vec<u8>)>,
    failure: Option<(SocketAddr, Failure)>,
    last: SocketAddr,
    tries: u32,
    asked_at: Instant,
}

impl Question {
    /// Queries one server after the other, and answers the program.
    async fn resolve(&self, flows: &Flows, conversation: &Conversation, live: &Live) -> Outcome {
        let run = flows.run();
        let order = run.resolvers.order(run.plan.resolver_number(self.datagram.local.ip()));
        let mut course = Course::new(order, run.plan.source.clone());
        course.ask_next(&self.datagram.payload);
        let result = self.follow(&mut course, live).await;
        let asked = message::asked(&self.datagram.payload);
        let (server, result) = match result {
            Ok((server, answer)) => {
                run.names.learn(&answer);
                conversation.account.received(answer.len(), 1);
                flows.reply(self.datagram.local, self.datagram.remote, &answer);
                (server, Answer::Code(message::rcode(&answer)))
            }
            Err(Answer::Failed(failure)) => {
                flows.answer(&failure, &self.datagram);
                (course.last, Answer::Failed(failure))
            }
            Err(other) => (course.last, other),
        };
        Outcome { asked, server, tries: course.tries, result }
    }

    async fn follow(&self, course: &mut Course, live: &Live) -> Result<(SocketAddr, Vec<u8>), Answer> {
        let mut give_up = Instant::now() + GIVE_UP;
        loop {
            if course.servers.is_empty() && !course.ask_next(&self.datagram.payload) {
                return course.finish();
            }
            let more = course.next < course.order.len();
            let patience =
                if more || course.refusal.is_some() { course.asked_at + PATIENCE } else { give_up };
            tokio::select! {
                heard = course.hear() => {
                    if let Some(answer) = self.take(course, heard) {
                        return Ok(answer);
                    }
                }
                () = sleep_until(patience.min(give_up)) => {
                    if !course.ask_next(&self.datagram.payload) {
                        return course.finish();
                    }
                }
                () = self.again.notified() => {
                    if self.evicted.get() {
                        return course.finish();
                    }
                    give_up = Instant::now() + GIVE_UP;
                    course.resend_query(&self.datagram.payload);
                }
                () = live.closing() => {
                    let patient = self.since.elapsed() >= PATIENCE;
                    return Err(if patient { Answer::Silence } else { Answer::NotWaitedFor });
                }
            }
        }
    }

    /// Handles the answer of a server; returns it if it is final.
    fn take(
        &self,
        course: &mut Course,
        (at, heard): (usize, io::Result<Vec<u8>>),
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let server = course.servers[at].address;
        match heard {
            Ok(answer) if !message::answers(&answer, self.key.1) => None,
            Ok(answer) if message::is_refusal(&answer) => {
                course.servers.swap_remove(at);
                course.refusal = Some((server, answer));
                course.ask_next(&self.datagram.payload);
                None
            }
            Ok(answer) => Some((server, answer)),
            Err(error) => {
                let queued = error_queue::first(&course.servers[at].socket);
                course.servers.swap_remove(at);
                course.failure = Some((server, failure(server, &error, queued)));
                course.ask_next(&self.datagram.payload);
                None
            }
        }
    }
}

impl Course {
    fn new(order: Vec<SocketAddr>, source: Source) -> Self {
        let last = order[0];
        Self {
            order,
            source,
            next: 0,
            servers: Vec::new(),
            refusal: None,
            failure: None,
            last,
            tries: 0,
            asked_at: Instant::now(),
        }
    }

    /// Queries the next reachable server; `false`: there is none.
    fn ask_next(&mut self, question: &[u8]) -> bool {
        while let Some(&address) = self.order.get(self.next) {
            self.next += 1;
            match ask(address, question, &self.source) {
                Ok(socket) => {
                    self.servers.push(Server { address, socket });
                    (self.last, self.asked_at) = (address, Instant::now());
                    self.tries += 1;
                    return true;
                }
                Err(error) => {
                    self.last = address;
                    self.failure = Some((address, failure(address, &error, None)));
                }
            }
        }
        false
    }

    /// The program has retransmitted: so does lastack, to all servers that have not answered.
    fn resend_query(&mut self, question: &[u8]) {
        for server in &self.servers {
            // A failure is reported by the next read.
            let _reported = socket2::SockRef::from(&server.socket).send(question);
        }
        self.tries += 1;
    }

    /// Waits for an answer or error of any server.
    async fn hear(&self) -> (usize, io::Result<Vec<u8>>) {
        let mut hearing: Vec<_> = self.servers.iter().map(|server| Box::pin(hear(&server.socket))).collect();
        let next = |cx: &mut Context<'_>| {
            let mut each = hearing.iter_mut().enumerate();
            let heard = each.find_map(|(at, heard)| match heard.as_mut().poll(cx) {
                Poll::Ready(heard) => Some((at, heard)),
                Poll::Pending => None,
            });
            heard.map_or(Poll::Pending, Poll::Ready)
        };
        poll_fn(next).await
    }

    /// No server is left that may answer.
    fn finish(&mut self) -> Result<(SocketAddr, Vec<u8>), Answer> {
        if let Some(refusal) = self.refusal.take() {
            return Ok(refusal);
        }
        match self.failure.take() {
            // One that was queried and did not answer takes precedence over one that cannot be reached.
            Some((server, failure)) if self.servers.is_empty() => {
                self.last = server;
                Err(Answer::Failed(failure))
            }
            _ => Err(Answer::Silence),
        }
    }
}

/// Queries a server from an unpredictable port of its own, with a connected socket. As in libc, an ICMP error that the
/// server cannot be reached is its answer (IP_RECVERR).
fn ask(server: SocketAddr, question: &[u8], source: &Source) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    source.apply(&socket, server.ip())?;
    error_queue::enable(&socket, server.is_ipv6(), true)?;
    socket.connect(&server.into())?;
    socket.send(question)?;
    UdpSocket::from_std(socket.into())
}

/// The failure of a server's socket, with the entry of its error queue. A closed port is always reported by ICMP.
fn failure(server: SocketAddr, error: &io::Error, queued: Option<QueuedError>) -> Failure {
    let failure = Failure::new(error, queued.filter(|queued| queued.icmp.is_some()));
    if failure.errno != libc::ECONNREFUSED || matches!(failure.said, Said::Icmp(..)) {
        return failure;
    }
    let said = Said::Icmp(IcmpError::port_unreachable(server.is_ipv6()), Some(server.ip()));
    Failure { said, ..failure }
}

/// Waits for an answer, or for an error from the network.
async fn hear(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        for (is_ready, interest) in
            [(ready.is_error(), Interest::ERROR), (ready.is_readable(), Interest::READABLE)]
        {
            if !is_ready {
                continue;
            }
            let received = scratch::with(|buffer| {
                let receive = || Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?);
                socket.try_io(interest, receive).map(|bytes| buffer[..bytes].to_vec())
            });
            match received {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{answer, question};
    use super::*;

    /// A server of this host that gives this answer to each question, or none.
    fn server(rcode: Option<u8>) -> SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, who)) = socket.recv_from(&mut buffer) {
                if let Some(rcode) = rcode {
                    socket.send_to(&answer(&buffer[..length], rcode, &[]), who).unwrap();
                }
            }
        });
        address
    }

    fn closed() -> SocketAddr {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    async fn course(order: &[SocketAddr]) -> (Result<(SocketAddr, u8), Answer>, u32, Duration) {
        let payload = question(7, "a.test");
        let (program, asked) = ("10.0.2.100:5000".parse().unwrap(), "10.0.2.3:53".parse().unwrap());
        let ip = lastack::IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: true };
        let question = Question {
            key: ((program, asked), Some(7)),
            datagram: Datagram { local: asked, remote: program, payload, ip },
            since: Instant::now(),
            again: Notify::new(),
            evicted: Cell::new(false),
        };
        let connections = crate::closing::Connections::new();
        let (mut course, begun) = (Course::new(order.to_vec(), Source::default()), std::time::Instant::now());
        course.ask_next(&question.datagram.payload);
        let result = question.follow(&mut course, &connections.enter_quietly()).await;
        (result.map(|(server, answer)| (server, message::rcode(&answer))), course.tries, begun.elapsed())
    }

    #[tokio::test]
    async fn a_server_that_fails_or_does_not_answer_is_skipped() {
        let good = server(Some(0));
        for first in [server(Some(2)), server(Some(4)), server(Some(5)), closed()] {
            let (result, tries, took) = course(&[first, good]).await;
            assert_eq!(result.unwrap(), (good, 0));
            assert!(tries == 2 && took < PATIENCE, "{took:?}");
        }
        let (result, _, took) = course(&[server(None), good]).await;
        assert_eq!(result.unwrap(), (good, 0));
        assert!(took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
        let (result, tries, _) = course(&[server(Some(3)), good]).await;
        assert_eq!((result.unwrap().1, tries), (3, 1), "no such name is an answer");
    }

    #[tokio::test]
    async fn if_all_servers_fail_the_program_gets_the_last_answer() {
        let (refused, silent) = (server(Some(5)), server(None));
        assert_eq!(course(&[refused, silent]).await.0.unwrap(), (refused, 5));
        let (result, ..) = course(&[closed(), closed()]).await;
        let Err(Answer::Failed(failure)) = result else { panic!("{result:?}") };
        assert_eq!(failure.errno, libc::ECONNREFUSED);
    }

    #[test]
    fn the_oldest_question_is_given_up_for_another() {
        let questions = Questions::default();
        let (program, asked) = ("10.0.2.100:5000".parse().unwrap(), "10.0.2.3:53".parse().unwrap());
        let ip = lastack::IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: true };
        let begun = Instant::now();
        let ask = |id: u16| {
            let key = ((program, asked), Some(id));
            let datagram = Datagram { local: asked, remote: program, payload: question(id, "a.test"), ip };
            let since = begun + Duration::from_millis(u64::from(id));
            let question =
                Rc::new(Question { key, datagram, since, again: Notify::new(), evicted: Cell::new(false) });
            questions.make_room(MAX_WAITING);
            questions.waiting.borrow_mut().insert(key, question.clone());
            question
        };
        let mut all: Vec<_> = (0..MAX_WAITING as u16).map(ask).collect();
        assert!(all.iter().all(|question| !question.evicted.get()));
        // The task of a question that is given up removes it.
        for late in 0..100 {
            all.push(ask(MAX_WAITING as u16 + late));
            assert!(all[usize::from(late)].evicted.get() && !all[usize::from(late) + 1].evicted.get());
            questions.waiting.borrow_mut().remove(&all[usize::from(late)].key);
            assert_eq!(questions.waiting.borrow().len(), MAX_WAITING);
        }
    }
}
