//! Queries over TCP (RFC 7766): the messages are relayed one by one, so that the next server is tried if one does not
//! answer or fails, as over UDP.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use lastack::{InterceptedTcp, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream as HostStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::conversation::{Answer, Conversation, Outcome};
use super::message;
use super::ruling::Ruling;
use super::{GIVE_UP, PATIENCE};
use crate::Run;
use crate::closing::Live;
use crate::host::{self, Connected, Failure, Said, Source};
use crate::inject::Flow;
use crate::report::Proto;

/// Max pending queries of one connection.
const MAX_WAITING: usize = 128;
/// Length of the prefix of each message in bytes.
const PREFIX: usize = 2;

/// The result of an attempt to reach a server.
pub enum Reached {
    /// Connected, after this number of servers was tried.
    Server(HostStream, SocketAddr, usize),
    /// No server can be reached.
    Failed(Failure),
}

/// Connects to the first server that answers. After a timeout the next one is tried, unless it is the last.
async fn reach(order: &[SocketAddr], source: &Source) -> Reached {
    let mut last = Failure { errno: libc::ETIMEDOUT, said: Said::Nothing };
    for (at, &server) in order.iter().enumerate() {
        let attempt = host::connect_with(server, None, source);
        let connected = if at + 1 < order.len() {
            match timeout(PATIENCE, attempt).await {
                Ok(connected) => connected,
                Err(_) => continue,
            }
        } else {
            attempt.await
        };
        match connected {
            Ok(Connected { stream, .. }) => return Reached::Server(stream, server, at + 1),
            Err(failure) => last = failure,
        }
    }
    Reached::Failed(last)
}

/// Answers the queries of one connection of the program. `Err`: no server can be reached, and the SYN is not yet
/// answered.
pub async fn relay(run: &Run, syn: InterceptedTcp, live: &Live) -> Result<(), (InterceptedTcp, Failure)> {
    let (program, asked) = (syn.peer_addr(), syn.local_addr());
    let order = run.resolvers.order(run.plan.resolver_number(asked.ip()));
    let (host, server, next) = if Ruling::is_possible(run) {
        // A server is reached by the first query that needs one.
        (None, asked, 0)
    } else {
        let reached = tokio::select! {
            reached = reach(&order, &run.plan.source) => reached,
            _given_up = syn.closed() => return Ok(()),
            () = live.closing() => {
                syn.ignore();
                return Ok(());
            }
        };
        match reached {
            Reached::Server(host, server, next) => (Some(host), server, next),
            Reached::Failed(failure) => return Err((syn, failure)),
        }
    };
    // A program that has ended answers no SYN-ACK.
    let Some(Ok(stream)) = live.unless_closing(syn.accept()).await else { return Ok(()) };
    let conversation = Conversation::over_tcp(program, asked);
    *conversation.account.context.borrow_mut() = run.context(&Flow::new(Proto::Tcp, program, asked));
    let mut session = Session {
        program: Messages::default(),
        server: Messages::default(),
        waiting: VecDeque::new(),
        asked,
        address: server,
        next,
        order,
        source: run.plan.source.clone(),
        asked_at: Instant::now(),
        end: None,
    };
    tokio::select! {
        _ended = session.run(run, stream, host, &conversation) => {}
        () = live.closing() => {}
    }
    session.give_up(&conversation);
    run.record(conversation.record());
    Ok(())
}

/// A pending query.
#[derive(Debug)]
struct Waiting {
    message: Vec<u8>,
    /// The answer of a server that refuses or fails.
    refusal: Option<Vec<u8>>,
    tries: u32,
}

struct Session {
    program: Messages,
    server: Messages,
    waiting: VecDeque<Waiting>,
    /// The address that the program has asked, for answers of the run itself.
    asked: SocketAddr,
    /// The server.
    address: SocketAddr,
    /// How many servers of `order` were tried.
    next: usize,
    order: Vec<SocketAddr>,
    source: Source,
    asked_at: Instant,
    /// How the last server ended its connection, or that none can be reached.
    end: Option<ServerEnd>,
}

/// How a server ended its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ServerEnd {
    Closed,
    Reset,
    /// No server was reached at all.
    Failed(Failure),
}

impl Session {
    /// Runs until the program has closed, or no server is left.
    async fn run(
        &mut self,
        run: &Run,
        mut program: TcpStream,
        mut host: Option<HostStream>,
        conversation: &Conversation,
    ) -> io::Result<()> {
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let patience = if self.next < self.order.len() { PATIENCE } else { GIVE_UP };
            let may_ask = open && self.waiting.len() < MAX_WAITING;
            let silent = !self.waiting.is_empty();
            let lost = tokio::select! {
                asked = self.program.next(&mut program), if may_ask => match asked? {
                    Some(message) => {
                        conversation.account.sent(message.len(), 1);
                        Ruling::note_on(run, conversation, &message);
                        if let Some(ruling) = Ruling::on(run, &message) {
                            if let Some(answer) = ruling.answer(conversation, self.asked, &message) {
                                send(&mut program, &answer).await?;
                            }
                            continue;
                        }
                        self.asked_at = Instant::now();
                        let sent = match &mut host {
                            Some(host) => send(host, &message).await.is_ok(),
                            None => false,
                        };
                        let tries = u32::from(host.is_some());
                        self.waiting.push_back(Waiting { message, refusal: None, tries });
                        !sent
                    }
                    None => {
                        open = false;
                        false
                    }
                },
                answered = next_of(&mut self.server, &mut host) => match answered {
                    Ok(Some(answer)) => {
                        self.asked_at = Instant::now();
                        self.answered(run, &mut program, answer, conversation).await?
                    }
                    // Servers close idle connections; the next query opens another.
                    ended => {
                        let reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
                        self.end = Some(if reset { ServerEnd::Reset } else { ServerEnd::Closed });
                        true
                    }
                },
                () = sleep_until(self.asked_at + patience), if silent => true,
            };
            if lost && !self.another(&mut host, &mut program, conversation).await? {
                break;
            }
        }
        if matches!(self.end, Some(ServerEnd::Reset | ServerEnd::Failed(_))) {
            program.abort();
            return Ok(());
        }
        program.shutdown().await
    }

    /// Handles an answer. `true`: its server refuses or fails, and another can be tried.
    async fn answered(
        &mut self,
        run: &Run,
        program: &mut TcpStream,
        answer: Vec<u8>,
        conversation: &Conversation,
    ) -> io::Result<bool> {
        let at = self.waiting.iter().position(|w| message::answers(&answer, message::id(&w.message)));
        if let Some(at) = at {
            if message::is_refusal(&answer) && self.next < self.order.len() {
                self.waiting[at].refusal = Some(answer);
                return Ok(true);
            }
            // A zone transfer has many answers to one query; the later ones are passed on unchanged.
            let question = self.waiting.remove(at);
            conversation.add(Outcome {
                asked: message::asked(&answer),
                server: self.address,
                tries: question.map_or(1, |question| question.tries),
                result: Answer::Code(message::rcode(&answer)),
            });
        }
        run.names.learn(&answer);
        conversation.account.received(answer.len(), 1);
        send(program, &answer).await?;
        Ok(false)
    }

    /// Sends pending queries to the next server. `false`: there is none, and the program has got the refusals.
    async fn another(
        &mut self,
        host: &mut Option<HostStream>,
        program: &mut TcpStream,
        conversation: &Conversation,
    ) -> io::Result<bool> {
        if self.waiting.is_empty() {
            // Nothing is lost: the connection is closed as the server closed it.
            return Ok(false);
        }
        let (stream, address, tried) = match reach(&self.order[self.next..], &self.source).await {
            Reached::Server(stream, address, tried) => (stream, address, tried),
            Reached::Failed(failure) => {
                if host.is_none() {
                    self.address = self.order.last().copied().unwrap_or(self.asked);
                    self.end = Some(ServerEnd::Failed(failure));
                }
                return self.hand_over_refusals(program, conversation).await.map(|()| false);
            }
        };
        let host = host.insert(stream);
        (self.address, self.next) = (address, self.next + tried);
        (self.server, self.asked_at, self.end) = (Messages::default(), Instant::now(), None);
        for question in &mut self.waiting {
            question.tries += 1;
            send(host, &question.message).await?;
        }
        Ok(true)
    }

    async fn hand_over_refusals(
        &mut self,
        program: &mut TcpStream,
        conversation: &Conversation,
    ) -> io::Result<()> {
        while let Some(at) = self.waiting.iter().position(|question| question.refusal.is_some()) {
            let Some(Waiting { refusal: Some(refusal), tries, .. }) = self.waiting.remove(at) else {
                continue;
            };
            conversation.add(Outcome {
                asked: message::asked(&refusal),
                server: self.address,
                tries,
                result: Answer::Code(message::rcode(&refusal)),
            });
            conversation.account.received(refusal.len(), 1);
            send(program, &refusal).await?;
        }
        Ok(())
    }

    /// The connection has ended: pending queries stay unanswered.
    fn give_up(&mut self, conversation: &Conversation) {
        let patient = self.asked_at.elapsed() >= PATIENCE;
        for question in self.waiting.drain(..) {
            conversation.add(Outcome {
                asked: message::asked(&question.message),
                server: self.address,
                tries: question.tries.max(1),
                result: match &self.end {
                    Some(ServerEnd::Reset) => Answer::Reset,
                    Some(ServerEnd::Closed) => Answer::Closed,
                    Some(ServerEnd::Failed(failure)) => Answer::Failed(failure.clone()),
                    None if patient => Answer::Silence,
                    None => Answer::NotWaitedFor,
                },
            });
        }
    }
}

/// The next message of the server; nothing ever, as long as none is connected.
async fn next_of(messages: &mut Messages, host: &mut Option<HostStream>) -> io::Result<Option<Vec<u8>>> {
    match host {
        Some(host) => messages.next(host).await,
        None => std::future::pending().await,
    }
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), message: &[u8]) -> io::Result<()> {
    // Messages were read with a length of two bytes.
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    to.write_all(&framed).await
}

/// The messages of a stream, each with a length prefix.
#[derive(Debug, Default)]
struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// The next message; `None`: the stream has ended. Cancel-safe.
    async fn next(&mut self, from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(prefix) = self.bytes.first_chunk::<PREFIX>() {
                let end = PREFIX + usize::from(u16::from_be_bytes(*prefix));
                if self.bytes.len() >= end {
                    let rest = self.bytes.split_off(end);
                    let mut message = std::mem::replace(&mut self.bytes, rest);
                    message.drain(..PREFIX);
                    return Ok(Some(message));
                }
            }
            if from.read_buf(&mut self.bytes).await? == 0 {
                let whole = self.bytes.is_empty();
                return if whole { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_cut_at_their_lengths() {
        let mut messages = Messages::default();
        let mut bytes = &b"\0\x03abc\0\0\0\x02de\0\x05f"[..];
        for expected in [&b"abc"[..], b"", b"de"] {
            assert_eq!(messages.next(&mut bytes).await.unwrap().unwrap(), expected);
        }
        assert_eq!(messages.next(&mut bytes).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(Messages::default().next(&mut &b""[..]).await.unwrap(), None);
    }
}
