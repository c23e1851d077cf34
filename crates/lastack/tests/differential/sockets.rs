//! The sockets of the library as what is under test, in virtual time.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use lastack::{
    Cause, EndError, FourTuple, Host, Instant, TcpError, TcpListener, TcpStream,
    link::{self, Link},
};
use tokio::{
    io::{AsyncReadExt, Interest, Ready},
    runtime::Runtime,
    task::JoinHandle,
};

use crate::{
    engine,
    notation::Call,
    numbers,
    packets::Ends,
    play::{self, Outcome, Subject},
    scenarios::Settings,
};

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// So often the tasks take turns until all is done that can be done at once.
const TURNS: usize = 8;

/// A program with a listener and a connection, over a host of its own.
pub struct Sockets {
    // Before the runtime, in which they live.
    connecting: Option<Connecting>,
    connection: Option<Arc<TcpStream>>,
    awaited: Option<JoinHandle<Outcome>>,
    listener: Option<TcpListener>,
    host: Host,
    far: link::Pipe,
    ends: Ends,
    runtime: Runtime,
}

impl Sockets {
    pub fn new(ends: Ends, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let (near, far) = link::pipe(link::Capabilities::new(1500));
        let config = engine::config(&ends, settings);
        let host = runtime.block_on(async {
            let (host, driver) = Host::with_secret(config, near, [7; 16]);
            tokio::spawn(driver);
            host
        });
        let (connecting, connection, awaited, listener) = (None, None, None, None);
        Self { connecting, connection, awaited, listener, host, far, ends, runtime }
    }

    /// How the connection ended, if it has and there still is one.
    pub fn end(&self) -> Option<String> {
        let end = self.connection.as_ref()?.end()?;
        let cause = match end.cause {
            Cause::Unreachable(error) => format!("`Unreachable`: {error}"),
            cause => format!("`{cause:?}`"),
        };
        Some(format!("{cause} ({})", end.rule))
    }

    /// Lets the host do what can be done now.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }

    /// What a future gives without waiting.
    fn now<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let _inside = self.runtime.enter();
        let future = std::pin::pin!(future);
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn begin(&mut self, future: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
        self.awaited = Some(self.runtime.spawn(future));
        Outcome::Done
    }

    fn open(&mut self, call: Call) -> Outcome {
        match call {
            Call::Listen(backlog) => {
                let bound = TcpListener::bind_with_backlog(&self.host, self.ends.local, backlog);
                self.listener = Some(bound.unwrap());
                Outcome::Done
            }
            Call::Unlisten => {
                self.listener = None;
                Outcome::Done
            }
            Call::Accept => match self.now(self.listener.as_ref().unwrap().accept()) {
                Some(Ok((stream, _))) => {
                    self.connection = Some(Arc::new(stream));
                    Outcome::Done
                }
                Some(Err(error)) => failed(&error),
                None => Outcome::Errno("EAGAIN".to_owned()),
            },
            Call::Connect => {
                let (host, ends) = (self.host.clone(), self.ends);
                let connecting =
                    async move { TcpStream::connect_from(&host, ends.local, ends.peer_at(0)).await };
                self.connecting = Some(Box::pin(connecting));
                match self.connected() {
                    Outcome::Said(_) => Outcome::Errno("EINPROGRESS".to_owned()),
                    other => other,
                }
            }
            _ => self.connected(),
        }
    }

    /// What has become of the attempt to connect.
    fn connected(&mut self) -> Outcome {
        let mut connecting = self.connecting.take().expect("it connects");
        match self.now(connecting.as_mut()) {
            None => {
                self.connecting = Some(connecting);
                Outcome::Said("waits".to_owned())
            }
            Some(Ok(stream)) => {
                self.connection = Some(Arc::new(stream));
                Outcome::Done
            }
            Some(Err(error)) => failed(&error),
        }
    }

    /// Takes the connection for a call that needs it exclusively.
    fn take(&mut self) -> TcpStream {
        let connection = self.connection.take().expect("there is a connection");
        Arc::into_inner(connection).expect("no other call uses it")
    }

    fn use_connection(&mut self, call: Call) -> Outcome {
        let Some(stream) = self.connection.clone() else { return Outcome::Errno("no connection".to_owned()) };
        match call {
            Call::Send(len) => stream.try_write(&vec![b'x'; len]).map_or_else(|e| failed(&e), Outcome::Count),
            Call::Receive(len) => text(len, |buf| stream.try_read(buf)),
            Call::Peek => text(1 << 17, |buf| {
                self.now(stream.peek(buf)).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
            }),
            Call::Shutdown => done(stream.shutdown_write()),
            Call::ShutdownRead => done(stream.shutdown_read()),
            Call::ShutdownBoth => done(stream.shutdown_read().and_then(|()| stream.shutdown_write())),
            Call::Abort => {
                stream.abort();
                Outcome::Done
            }
            Call::Linger => done(stream.set_linger(Some(Duration::ZERO))),
            Call::LingerFor(seconds) => done(stream.set_linger(Some(Duration::from_secs(seconds.into())))),
            Call::Keepalive(idle, interval, count) => {
                let [idle, interval] = [idle, interval].map(|s| Duration::from_secs(s.into()));
                done(stream.set_keepalive(Some(lastack::Keepalive { idle, interval, count })))
            }
            Call::UserTimeout(millis) => {
                done(stream.set_user_timeout(Some(Duration::from_millis(millis.into()))))
            }
            Call::Error => match stream.take_error() {
                Ok(error) => error.map_or(Outcome::Errno("0".to_owned()), |error| failed(&error)),
                Err(error) => failed(&error),
            },
            Call::PeerName => done(stream.peer_addr().map(drop)),
            Call::LocalName => done(stream.local_addr().map(drop)),
            Call::Nodelay => done(stream.set_nodelay(true)),
            Call::Ready => Outcome::Said(self.readiness(&stream)),
            Call::Info => {
                Outcome::Said(numbers::show(&numbers::ours(&stream.info().unwrap(), self.host.now())))
            }
            Call::BeginReceive => self.begin(async move {
                if let Err(error) = stream.readable().await {
                    return failed(&error);
                }
                text(1 << 17, |buf| stream.try_read(buf))
            }),
            _ => {
                drop(stream);
                self.consume(call)
            }
        }
    }

    /// Calls that need the stream exclusively.
    fn consume(&mut self, call: Call) -> Outcome {
        let mut stream = self.take();
        match call {
            Call::BeginClose => self.begin(async move { done(stream.close().await) }),
            Call::ReceiveWhole(len) => {
                let mut whole = Vec::new();
                let read = self.now((&mut stream).take(len as u64).read_to_end(&mut whole));
                self.connection = Some(Arc::new(stream));
                match read.unwrap_or(Err(io::ErrorKind::WouldBlock.into())) {
                    Ok(_) => Outcome::Text(whole),
                    Err(error) if whole.is_empty() => failed(&error),
                    Err(error) => Outcome::Partly(whole, errno(&error)),
                }
            }
            _ => Outcome::Done,
        }
    }

    fn readiness(&self, stream: &TcpStream) -> String {
        let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        let ready = self.now(stream.ready(all)).unwrap_or(Ok(Ready::EMPTY)).unwrap();
        let bits = [Ready::READABLE, Ready::WRITABLE, Ready::READ_CLOSED, Ready::WRITE_CLOSED, Ready::ERROR];
        play::readiness(bits.map(|bit| ready & bit == bit))
    }
}

impl Subject for Sockets {
    fn call(&mut self, call: Call) -> Outcome {
        let outcome = match call {
            Call::Listen(_) | Call::Unlisten | Call::Accept | Call::Connect | Call::Connected => {
                self.open(call)
            }
            Call::Kill => {
                let flow = FourTuple { local: self.ends.local, remote: self.ends.peer_at(0) };
                found(self.host.kill(flow))
            }
            Call::KillListener => found(self.host.kill_listener(self.ends.local)),
            Call::Awaited => {
                let begun = self.awaited.take().expect("a call waits");
                if begun.is_finished() {
                    self.runtime.block_on(begun).unwrap()
                } else {
                    self.awaited = Some(begun);
                    Outcome::Said("waits".to_owned())
                }
            }
            _ => self.use_connection(call),
        };
        self.settle();
        outcome
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.far.send(Instant::ZERO, packet, &lastack::Transmit::default());
        self.settle();
    }

    fn collect(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
        self.settle();
        let (mut packets, mut packet) = (Vec::new(), Vec::new());
        while self.far.recv(Instant::ZERO, &mut packet).is_some() {
            packets.push(std::mem::take(&mut packet));
        }
        packets
    }

    fn collect_late(&mut self) -> Vec<Vec<u8>> {
        Vec::new() // virtual time is never late
    }
}

fn found(was_there: bool) -> Outcome {
    if was_there { Outcome::Done } else { Outcome::Errno("ENOENT".to_owned()) }
}

fn done(result: io::Result<()>) -> Outcome {
    result.map_or_else(|error| failed(&error), |()| Outcome::Done)
}

fn text(len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Outcome {
    let mut buf = vec![0; len];
    match read(&mut buf) {
        Ok(n) => {
            buf.truncate(n);
            Outcome::Text(buf)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Outcome {
    Outcome::Errno(errno(error))
}

/// The errno that stands behind an error.
fn errno(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => return "EAGAIN".to_owned(),
        io::ErrorKind::InvalidInput => return "EINVAL".to_owned(),
        _ => {}
    }
    let held = error.get_ref();
    let ended = held.and_then(|held| held.downcast_ref::<EndError>()).map(EndError::error);
    let code = ended.or_else(|| held.and_then(|held| held.downcast_ref::<TcpError>()).copied());
    engine::errno(code.unwrap_or_else(|| panic!("an error without an errno: {error}"))).to_owned()
}
