//! The engine as the stack under test, in virtual time.

use std::{task::Poll, time::Duration};

use lastack_engine::{
    Config, ConnId, FourTuple, Instant, Keepalive, ListenerId, Received, Stack, Tcp, TcpError,
};

use crate::{
    counters,
    notation::Call,
    packets::Ends,
    play::{Outcome, Subject},
    scenarios::Settings,
};

/// A stack with the settings of the kernel it is compared with.
pub struct Engine {
    stack: Stack,
    now: Instant,
    ends: Ends,
    sent: Vec<Vec<u8>>,
    listener: Option<ListenerId>,
    connection: Option<ConnId>,
}

/// The settings of the kernel.
pub fn config(ends: &Ends, settings: Settings) -> Config {
    let mut config = Config::new([ends.local.ip()]);
    config.tcp.syn_cookies = false;
    if settings == Settings::Small {
        config.tcp.receive_buffer = 8192;
    }
    if settings == Settings::Short {
        let tcp = &mut config.tcp;
        (tcp.retries, tcp.orphan_retries) = (3, 1);
        (tcp.syn_retries, tcp.syn_ack_retries) = (1, 1);
        tcp.fin_wait_2 = Duration::from_secs(2);
        tcp.abort_on_overflow = true;
    }
    config
}

impl Engine {
    pub fn new(ends: Ends, settings: Settings) -> Self {
        Self {
            stack: Stack::new(config(&ends, settings), [7; 16]),
            now: Instant::from_millis(1000),
            ends,
            sent: Vec::new(),
            listener: None,
            connection: None,
        }
    }

    /// The loop that every user of a stack runs.
    fn drain(&mut self) {
        let mut packet = Vec::new();
        while self.stack.poll_transmit(self.now, &mut packet).is_some() {
            self.sent.push(std::mem::take(&mut packet));
        }
        while self.stack.poll_event().is_some() {}
    }

    fn tcp(&mut self) -> Tcp<'_> {
        let id = self.connection.expect("there is a connection");
        self.stack.tcp(id).expect("it was not closed")
    }

    fn open(&mut self, call: Call) -> Outcome {
        match call {
            Call::Listen(backlog) => {
                self.listener = Some(self.stack.tcp_listen(self.ends.local, backlog).unwrap());
                Outcome::Done
            }
            Call::Unlisten => {
                self.stack.tcp_unlisten(self.listener.take().unwrap());
                Outcome::Done
            }
            Call::Accept => match self.stack.tcp_accept(self.listener.unwrap()) {
                Some(id) => {
                    self.connection = Some(id);
                    Outcome::Done
                }
                None if self.stack.tcp_listener_addr(self.listener.unwrap()).is_none() => {
                    Outcome::Errno("EINVAL".to_owned())
                }
                None => Outcome::Errno("EAGAIN".to_owned()),
            },
            _ => {
                let connected = self.stack.tcp_connect(Some(self.ends.local), self.ends.peer_at(0));
                self.connection = Some(connected.unwrap());
                Outcome::Errno("EINPROGRESS".to_owned())
            }
        }
    }

    fn kill(&mut self, call: Call) -> Outcome {
        let Ends { local, .. } = self.ends;
        let killed = match call {
            Call::KillListener => self.stack.tcp_kill_listener(local),
            _ => self.stack.tcp_kill(&FourTuple { local, remote: self.ends.peer_at(0) }),
        };
        if killed { Outcome::Done } else { Outcome::Errno("ENOENT".to_owned()) }
    }

    fn use_connection(&mut self, call: Call) -> Outcome {
        let mut tcp = self.tcp();
        match call {
            Call::Send(len) => count(tcp.send(&vec![b'x'; len])),
            Call::Receive(len) => text(len, |buf| tcp.receive(buf)),
            Call::Peek => text(1 << 17, |buf| match tcp.poll_readable() {
                Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(tcp.peek(buf))),
                other => other,
            }),
            Call::Shutdown => tcp.shutdown().map_or_else(failed, |()| Outcome::Done),
            Call::Abort => {
                tcp.abort();
                Outcome::Done
            }
            Call::Linger => {
                tcp.set_linger(Some(Duration::ZERO));
                Outcome::Done
            }
            Call::Linger2(seconds) => {
                tcp.set_fin_wait_2(Some(Duration::from_secs(seconds.max(0) as u64)));
                Outcome::Done
            }
            Call::Keepalive(idle, interval, count) => {
                let [idle, interval] = [idle, interval].map(|s| Duration::from_secs(s.into()));
                tcp.set_keepalive(Some(Keepalive { idle, interval, count }));
                Outcome::Done
            }
            Call::UserTimeout(millis) => {
                tcp.set_user_timeout(Some(Duration::from_millis(millis.into())));
                Outcome::Done
            }
            Call::Error => tcp.take_error().map_or(Outcome::Errno("0".to_owned()), failed),
            _ => {
                tcp.close();
                self.connection = None;
                Outcome::Done
            }
        }
    }
}

impl Subject for Engine {
    fn call(&mut self, call: Call) -> Outcome {
        let outcome = match call {
            Call::Listen(_) | Call::Unlisten | Call::Accept | Call::Connect => self.open(call),
            Call::Counters => Outcome::Said(counters::show(&counters::ours(self.stack.counters()))),
            Call::Kill | Call::KillListener => self.kill(call),
            _ => self.use_connection(call),
        };
        self.drain();
        outcome
    }

    fn deliver(&mut self, packet: &[u8]) {
        // The verdict is not compared: Linux does not report it.
        let _ = self.stack.handle_packet(self.now, packet, Received::default());
        self.drain();
    }

    fn collect(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.stack.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        std::mem::take(&mut self.sent)
    }

    fn collect_late(&mut self) -> Vec<Vec<u8>> {
        Vec::new() // virtual time is never late
    }
}

fn count(sent: Poll<Result<usize, TcpError>>) -> Outcome {
    match sent {
        Poll::Ready(Ok(n)) => Outcome::Count(n),
        Poll::Ready(Err(error)) => failed(error),
        Poll::Pending => Outcome::Errno("EAGAIN".to_owned()),
    }
}

fn text(len: usize, receive: impl FnOnce(&mut [u8]) -> Poll<Result<usize, TcpError>>) -> Outcome {
    let mut buf = vec![0; len];
    match count(receive(&mut buf)) {
        Outcome::Count(n) => {
            buf.truncate(n);
            Outcome::Text(buf)
        }
        other => other,
    }
}

fn failed(error: TcpError) -> Outcome {
    Outcome::Errno(errno(error).to_owned())
}

pub fn errno(error: TcpError) -> &'static str {
    match error {
        TcpError::Refused => "ECONNREFUSED",
        TcpError::Reset => "ECONNRESET",
        TcpError::Aborted => "ECONNABORTED",
        TcpError::TimedOut => "ETIMEDOUT",
        TcpError::HostUnreachable => "EHOSTUNREACH",
        TcpError::NetworkUnreachable => "ENETUNREACH",
        TcpError::ProtocolUnreachable => "ENOPROTOOPT",
        TcpError::Prohibited => "EACCES",
        TcpError::Protocol => "EPROTO",
        TcpError::BrokenPipe => "EPIPE",
        TcpError::NotConnected => "ENOTCONN",
        other => unreachable!("an error without an errno: {other}"),
    }
}
