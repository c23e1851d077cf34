//! The server: a host and its restarts, the listeners, and the behavior on a connection.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use lastack::link::{Capture, Link};
use lastack::{Config, Ended, EndedConnections, Host, TcpListener, TcpStream};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};

use super::args::{Behaviour, ServeArgs};
use super::later::OffsetClockLink;
use super::output::{Output, PerSecond};
use super::{Device, Writer};
use lastack_run::report::Record;

/// The max time for connections to end after a signal.
const GRACE: Duration = Duration::from_secs(1);
/// Failed connection attempts are printed up to this many per second; the others are counted.
const ATTEMPTS_PER_SECOND: u32 = 10;

/// The server, across restarts of its host.
pub struct Server {
    args: ServeArgs,
    device: Device,
    writer: Option<Writer>,
    reboot: Notify,
    out: Output,
    /// The number of connections being served.
    open: Cell<usize>,
    /// Whether everything is to be closed.
    stop: watch::Sender<bool>,
    begun: std::time::Instant,
}

/// The first line of the output.
#[derive(Serialize)]
struct Listening<'a> {
    v: u8,
    r#type: &'static str,
    tun: &'a str,
    listening: Vec<SocketAddr>,
}

/// Why a host has ended.
enum Over {
    Rebooted,
    Stopped,
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Server {
    pub fn new(args: ServeArgs, device: Device, writer: Option<Writer>) -> io::Result<Rc<Self>> {
        let (reboot, stop) = (Notify::new(), watch::Sender::new(false));
        let out = Output::new(args.json)?;
        let (begun, open) = (std::time::Instant::now(), Cell::new(0));
        Ok(Rc::new(Self { args, device, writer, reboot, out, open, stop, begun }))
    }

    /// Gives the reader of the output limited time for the last lines.
    pub fn finish(self) {
        self.out.finish();
    }

    /// Serves until a signal.
    pub async fn serve(self: &Rc<Self>, mut ready: Option<File>) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        self.announce();
        while let Over::Rebooted = self.live(&mut signals, &mut ready).await? {}
        Ok(())
    }

    fn announce(&self) {
        if self.args.json {
            let line = Listening {
                v: 1,
                r#type: "listening",
                tun: &self.args.tun,
                listening: self.addresses().collect(),
            };
            return self.out.line(json(&line));
        }
        let addresses: Vec<String> = self.addresses().map(|address| address.to_string()).collect();
        let (addresses, tun, behave) = (addresses.join(", "), &self.args.tun, self.args.behave);
        self.out.line(format!("listening on {addresses} ({tun}), {behave}"));
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = &self.args.listen;
        self.args.addr.iter().flat_map(move |place| ports.iter().map(|&port| (place.ours, port).into()))
    }

    /// From one start of the host to the next: the state of its connections is lost.
    async fn live(self: &Rc<Self>, signals: &mut Signals, ready: &mut Option<File>) -> anyhow::Result<Over> {
        let mut config = Config::new(self.args.addr.iter().map(|place| place.ours));
        config.mtu = self.args.mtu as usize;
        let (host, driver) = Host::new(config, self.link());
        // The tasks of the host before a restart were dropped, and did not count their connections as ended.
        self.open.set(0);
        // All tasks in this set are dropped with it, the driver too: nothing is sent.
        let tasks = LocalSet::new();
        for address in self.addresses() {
            let listener = TcpListener::bind(&host, address)?;
            tasks.spawn_local(self.clone().until_stopped(self.clone().accept(listener)));
        }
        if let Some(mut ready) = ready.take() {
            ready.write_all(b"1").context("--ready-fd")?;
        }
        let work = tasks.run_until(async {
            tokio::select! {
                result = driver => result.context("the link failed").map(|()| Over::Stopped),
                over = self.watch(&host, signals) => Ok(over),
                error = self.out.failed() => Err(error.into()),
            }
        });
        work.await
    }

    /// Prints the ends of connections until the host loses its state, or a signal has closed them all.
    async fn watch(&self, host: &Host, signals: &mut Signals) -> Over {
        let mut journal = Journal::new(host, &self.out);
        tokio::select! {
            () = journal.print_all() => Over::Stopped,
            () = self.reboot.notified() => Over::Rebooted,
            () = signals.next() => {
                self.stop.send_replace(true);
                tokio::select! {
                    () = journal.print_until_none_is_open() => {}
                    () = tokio::time::sleep(GRACE) => {}
                    () = signals.next() => {}
                }
                journal.print_open();
                Over::Stopped
            }
        }
    }

    /// Runs a task until everything is to be closed. Then its sockets are closed, as the kernel does for a process that
    /// exits.
    async fn until_stopped(self: Rc<Self>, work: impl Future<Output = ()>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = work => {}
            // The sender lives as long as `self`.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn link(&self) -> Box<dyn Link> {
        match &self.writer {
            Some(writer) => Box::new(OffsetClockLink {
                link: Capture::new(self.device.clone(), writer.clone()),
                by: self.begun.elapsed(),
            }),
            None => Box::new(self.device.clone()),
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        // An error means the end of the link, which the driver reports.
        while let Ok((stream, _)) = listener.accept().await {
            if self.open.get() >= self.args.max_connections {
                stream.abort();
                continue;
            }
            self.open.set(self.open.get() + 1);
            let server = self.clone();
            spawn_local(self.clone().until_stopped(async move {
                server.serve_one(stream).await;
                server.open.set(server.open.get() - 1);
            }));
        }
    }

    /// Serves a connection until it has ended, or it has been idle for too long.
    async fn serve_one(&self, stream: TcpStream) {
        let watch = stream.watch();
        let moved = |info: lastack::TcpInfo| (info.bytes_sent, info.bytes_received, info.unread);
        let idle = async {
            let mut last = None;
            loop {
                let now = watch.info().map(moved);
                if now == last {
                    return;
                }
                last = now;
                tokio::time::sleep(self.args.idle).await;
            }
        };
        tokio::select! {
            // An error of a connection is its end, and printed as that.
            _end = self.behave(stream) => {}
            // Dropping the stream closes it.
            () = idle => {}
        }
    }

    async fn behave(&self, mut stream: TcpStream) -> io::Result<()> {
        match self.args.behave {
            Behaviour::Echo => {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                stream.shutdown().await?;
                stream.closed().await?;
            }
            Behaviour::Discard => {
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                stream.shutdown().await?;
                stream.closed().await?;
            }
            Behaviour::RstAfter(bytes) => {
                read_so_many(&mut stream, bytes).await?;
                stream.abort();
            }
            Behaviour::NeverRead => {
                stream.closed().await?;
            }
            Behaviour::HalfOpen(bytes) => {
                read_so_many(&mut stream, bytes).await?;
                // The driver sends after the tasks have run. Data that was read is acknowledged before it is forgotten.
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.forget(&stream)?;
                self.reboot.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    fn forget(&self, stream: &TcpStream) -> io::Result<()> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        self.out.line(if self.args.json {
            json(&Forgotten { v: 1, r#type: "forgotten", local, remote })
        } else {
            format!("tcp {local} > {remote}: dropped without RST (the stack was reset), with all other connections")
        });
        Ok(())
    }
}

/// Prints the ends of a host's connections.
struct Journal<'a> {
    host: &'a Host,
    ended: EndedConnections,
    /// The time at which the stack's clock is zero.
    zero: Timestamp,
    out: &'a Output,
    /// Attempts that were not completed: any host can cause them, with any source address.
    attempts: PerSecond,
    /// Ends that were lost because they came faster than they were printed, as far as that has been printed.
    missed: u64,
}

impl<'a> Journal<'a> {
    fn new(host: &'a Host, out: &'a Output) -> Self {
        let start = SignedDuration::try_from(host.now().elapsed()).unwrap_or_default();
        let (ended, zero) = (host.ended(), Timestamp::now() - start);
        Self { host, ended, zero, out, attempts: PerSecond::new(ATTEMPTS_PER_SECOND), missed: 0 }
    }

    /// Prints the end of each connection, for as long as the link works.
    async fn print_all(&mut self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                ended = self.ended.recv() => match ended {
                    Some(ended) => self.print_end(&ended),
                    None => return,
                },
                _ = second.tick() => self.print_held(),
            }
        }
    }

    async fn print_until_none_is_open(&mut self) {
        while !self.host.connections().is_empty()
            && let Some(ended) = self.ended.recv().await
        {
            self.print_end(&ended);
        }
    }

    /// Prints the ends that were not fetched yet, and the connections that have not ended.
    fn print_open(&mut self) {
        while let Some(ended) = self.ended.try_recv() {
            self.print_end(&ended);
        }
        self.print_held();
        let mut open = self.host.connections();
        open.sort_by_key(|connection| connection.opened);
        let now = self.host.now();
        for connection in &open {
            self.print(&Record::of_open(connection, now, self.zero));
        }
    }

    fn print_end(&mut self, ended: &Ended) {
        if ended.established.is_some() || self.attempts.pass(std::time::Instant::now()) {
            self.print(&Record::of_ours(ended, self.zero));
        }
    }

    /// Prints the number of ends and of attempts that were not printed.
    fn print_held(&mut self) {
        let missed = self.ended.missed();
        if missed > self.missed {
            let ends = missed - self.missed;
            self.missed = missed;
            self.out.line(match self.out.json() {
                true => json(&Missed { v: 1, r#type: "missed", ends }),
                false => format!("tcp: {ends} more ends not listed: too many connections ended at once"),
            });
        }
        match self.attempts.take_held() {
            0 => {}
            attempts if self.out.json() => {
                self.out.line(json(&Omitted { v: 1, r#type: "omitted", attempts }));
            }
            attempts => self.out.line(format!(
                "tcp: {attempts} more connection attempts not completed (not listed: more than {ATTEMPTS_PER_SECOND} per second)"
            )),
        }
    }

    fn print(&self, record: &Record) {
        self.out.line(if self.out.json() { record.json() } else { record.to_string() });
    }
}

fn json(line: &impl Serialize) -> String {
    // Serializing plain values cannot fail.
    serde_json::to_string(line).unwrap_or_default()
}

/// A line of JSON.
#[derive(Serialize)]
struct Missed {
    v: u8,
    r#type: &'static str,
    ends: u64,
}

/// A line of JSON.
#[derive(Serialize)]
struct Omitted {
    v: u8,
    r#type: &'static str,
    attempts: u64,
}

/// A line of JSON.
#[derive(Serialize)]
struct Forgotten {
    v: u8,
    r#type: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Reads this many bytes, or up to the end of the stream.
async fn read_so_many(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await.map(drop)
}
