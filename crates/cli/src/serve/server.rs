//! The server: hosts one after another, their listeners and what is done with a connection.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use lastack::link::{Capture, Link};
use lastack::{Config, EndedConnections, Host, TcpListener, TcpStream};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};

use super::args::{Behaviour, ServeArgs};
use super::later::Later;
use super::{Device, Writer};
use lastack_run::report::Record;

/// How long connections may take to end after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// The server, over all lives of its host.
pub struct Server {
    args: ServeArgs,
    device: Device,
    writer: Option<Writer>,
    reboot: Notify,
    /// Whether all is to be closed.
    stop: watch::Sender<bool>,
    begun: std::time::Instant,
}

/// What is printed first.
#[derive(Serialize)]
struct Listening<'a> {
    v: u8,
    r#type: &'static str,
    tun: &'a str,
    listening: Vec<SocketAddr>,
}

/// Why a host lives no longer.
enum Over {
    Rebooted,
    Stopped,
}

/// What ends the program.
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
    pub fn new(args: ServeArgs, device: Device, writer: Option<Writer>) -> Rc<Self> {
        let (reboot, stop) = (Notify::new(), watch::Sender::new(false));
        Rc::new(Self { args, device, writer, reboot, stop, begun: std::time::Instant::now() })
    }

    /// Serves until a signal.
    pub async fn serve(self: &Rc<Self>, mut ready: Option<File>) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        self.announce()?;
        while let Over::Rebooted = self.live(&mut signals, &mut ready).await? {}
        Ok(())
    }

    fn announce(&self) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.args.json {
            let line = Listening {
                v: 1,
                r#type: "listening",
                tun: &self.args.tun,
                listening: self.addresses().collect(),
            };
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        let addresses: Vec<String> = self.addresses().map(|address| address.to_string()).collect();
        writeln!(out, "listening on {} ({}), {}", addresses.join(", "), self.args.tun, self.args.behave)
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = &self.args.listen;
        self.args.addr.iter().flat_map(move |place| ports.iter().map(|&port| (place.ours, port).into()))
    }

    /// From one start of the host to the next: what it knew of connections goes with it.
    async fn live(self: &Rc<Self>, signals: &mut Signals, ready: &mut Option<File>) -> anyhow::Result<Over> {
        let mut config = Config::new(self.args.addr.iter().map(|place| place.ours));
        config.mtu = self.args.mtu as usize;
        let (host, driver) = Host::new(config, self.link());
        // All that lives in this set dies with it, the driver too: nothing says goodbye.
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
                result = self.watch(&host, signals) => Ok(result?),
            }
        });
        work.await
    }

    /// Prints the ends of connections until the host forgets them, or a signal has closed them all.
    async fn watch(&self, host: &Host, signals: &mut Signals) -> io::Result<Over> {
        let mut journal = Journal::new(host, self.args.json);
        tokio::select! {
            result = journal.print_all() => result.map(|()| Over::Stopped),
            () = self.reboot.notified() => Ok(Over::Rebooted),
            () = signals.next() => {
                self.stop.send_replace(true);
                tokio::select! {
                    result = journal.print_until_none_is_open() => result?,
                    () = tokio::time::sleep(GRACE) => {}
                    () = signals.next() => {}
                }
                journal.print_open()?;
                Ok(Over::Stopped)
            }
        }
    }

    /// Does it until all is to be closed. Then what it holds is closed, as a kernel closes what a process held.
    async fn until_stopped(self: Rc<Self>, work: impl Future<Output = ()>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = work => {}
            // The sender lives as long as we do.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn link(&self) -> Box<dyn Link> {
        match &self.writer {
            Some(writer) => Box::new(Later {
                link: Capture::new(self.device.clone(), writer.clone()),
                by: self.begun.elapsed(),
            }),
            None => Box::new(self.device.clone()),
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        // An error is the end of the link, which the driver tells.
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            spawn_local(self.clone().until_stopped(async move {
                // What goes wrong with a connection is its end, and printed as that.
                let _end = server.behave(stream).await;
            }));
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
            Behaviour::RstAfter(octets) => {
                read_so_many(&mut stream, octets).await?;
                stream.abort();
            }
            Behaviour::NeverRead => {
                stream.closed().await?;
            }
            Behaviour::HalfOpen(octets) => {
                read_so_many(&mut stream, octets).await?;
                self.forget(&stream)?;
                self.reboot.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    fn forget(&self, stream: &TcpStream) -> io::Result<()> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let mut out = anstream::stdout().lock();
        if self.args.json {
            let line = Forgotten { v: 1, r#type: "forgotten", local, remote };
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        writeln!(
            out,
            "tcp {local} > {remote}: dropped without RST (the stack was reset), with all other connections"
        )
    }
}

/// Prints what becomes of a host's connections.
struct Journal<'a> {
    host: &'a Host,
    ended: EndedConnections,
    /// The time of the stack's zero.
    zero: Timestamp,
    json: bool,
}

impl<'a> Journal<'a> {
    fn new(host: &'a Host, json: bool) -> Self {
        let start = SignedDuration::try_from(host.now().elapsed()).unwrap_or_default();
        Self { host, ended: host.ended(), zero: Timestamp::now() - start, json }
    }

    /// The end of each connection, for as long as the link works.
    async fn print_all(&mut self) -> io::Result<()> {
        while let Some(ended) = self.ended.recv().await {
            self.print(&Record::of_ours(&ended, self.zero))?;
        }
        Ok(())
    }

    async fn print_until_none_is_open(&mut self) -> io::Result<()> {
        while !self.host.connections().is_empty()
            && let Some(ended) = self.ended.recv().await
        {
            self.print(&Record::of_ours(&ended, self.zero))?;
        }
        Ok(())
    }

    /// Those whose end nobody fetched yet, and those that have none.
    fn print_open(&mut self) -> io::Result<()> {
        while let Some(ended) = self.ended.try_recv() {
            self.print(&Record::of_ours(&ended, self.zero))?;
        }
        let mut open = self.host.connections();
        open.sort_by_key(|connection| connection.opened);
        let now = self.host.now();
        open.iter().try_for_each(|connection| self.print(&Record::of_open(connection, now, self.zero)))
    }

    fn print(&self, record: &Record) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json { writeln!(out, "{}", record.json()) } else { writeln!(out, "{record}") }
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Forgotten {
    v: u8,
    r#type: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Reads so many octets, or up to the end of the stream.
async fn read_so_many(stream: &mut TcpStream, octets: u64) -> io::Result<()> {
    tokio::io::copy(&mut stream.take(octets), &mut tokio::io::sink()).await.map(drop)
}
