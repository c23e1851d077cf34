//! One transfer over one path.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lastack::device::{Tun, tun};
use lastack::{Config, Host};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::path::{self, End, MTU};
use super::{Cell, Ends, Variant};
use crate::pattern::{self, Checker};
use crate::process::ip;
use crate::server::cubic;

const PORT: u16 = 5001;
/// The kernels' addresses.
const KERNEL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 95, 0, 1), Ipv4Addr::new(10, 95, 0, 2)];
/// The stacks' addresses.
const STACK: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 95, 1, 1), Ipv4Addr::new(10, 95, 1, 2)];
const STACK_DEVICE: &str = "stack";
const PATH_DEVICE: &str = "path";

/// What the receiver has read and compared.
#[derive(Default)]
struct Progress {
    received: AtomicU64,
    wrong: AtomicBool,
}

impl Progress {
    fn note(&self, checker: &Checker) {
        self.received.store(checker.compared(), Ordering::Relaxed);
        self.wrong.fetch_or(checker.is_wrong(), Ordering::Relaxed);
    }
}

/// Carries data for the time of the cell. Prints the goodput in Mbit/s.
pub fn run(ends: Ends, cell: Cell) -> Result<()> {
    let progress = Arc::new(Progress::default());
    let (devices, opened) = channel();
    let (ready, listening) = channel();
    let receiver = progress.clone();
    let far_devices = devices.clone();
    thread::spawn(move || die_of(receive(ends, cell, &receiver, &far_devices, &ready)));
    let far = opened.recv().context("the far end")?;
    let (started, start) = channel();
    thread::spawn(move || die_of(send(ends, cell, &devices, &listening, &started)));
    let near = opened.recv().context("the near end")?;
    thread::spawn(move || die_of(path::carry(near, far, cell)));
    let begun: Instant = start.recv().context("the connection")?;
    thread::sleep(cell.time().saturating_sub(begun.elapsed()));
    let bits = progress.received.load(Ordering::Relaxed) as f64 * 8.0;
    ensure!(!progress.wrong.load(Ordering::Relaxed), "wrong data has arrived");
    println!("{:.3}", bits / cell.time().as_secs_f64() / 1e6);
    // Without waiting for threads: the sender still sends.
    std::process::exit(0);
}

fn die_of(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

/// A network namespace for this thread, with the device of the path in it, from which `near` and its stack reach the
/// others.
fn namespace(ends: Ends, near: usize, cell: Cell, devices: &Sender<End>) -> Result<Option<Tun>> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace needs root")?;
    ip("link set lo up")?;
    let end = End::open(PATH_DEVICE)?;
    // The queue of the path is that of its bottleneck.
    ip(&format!("link set {PATH_DEVICE} mtu {MTU} txqueuelen 10000 up"))?;
    ip(&format!("addr add {}/32 dev {PATH_DEVICE}", KERNEL[near]))?;
    ip(&format!("route add {} dev {PATH_DEVICE} src {}", KERNEL[1 - near], KERNEL[near]))?;
    if cell.variant == Variant::NoSack {
        std::fs::write("/proc/sys/net/ipv4/tcp_sack", "0")?;
    }
    let stack = match ends {
        Ends::Linux => None,
        Ends::Lastack => {
            let fd = tun::create(STACK_DEVICE)?;
            ip(&format!("link set {STACK_DEVICE} mtu {MTU} txqueuelen 10000 up"))?;
            ip(&format!("route add {} dev {STACK_DEVICE}", STACK[near]))?;
            ip(&format!("route add {} dev {PATH_DEVICE}", STACK[1 - near]))?;
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            Some(Tun::from_fd(fd, MTU)?)
        }
    };
    devices.send(end)?;
    Ok(stack)
}

fn receive(
    ends: Ends,
    cell: Cell,
    progress: &Progress,
    devices: &Sender<End>,
    ready: &Sender<()>,
) -> Result<()> {
    let stack = namespace(ends, 1, cell, devices)?;
    let mut checker = Checker::new(true);
    let mut buffer = vec![0; pattern::CHUNK];
    let Some(tun) = stack else {
        let listener = TcpListener::bind((KERNEL[1], PORT))?;
        cubic(&listener);
        ready.send(())?;
        let (mut stream, _) = listener.accept()?;
        loop {
            let bytes = stream.read(&mut buffer)?;
            ensure!(bytes > 0, "the stream has ended");
            checker.receive(&buffer[..bytes]);
            progress.note(&checker);
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let host = Host::spawn(config(1, cell), tun);
        let listener = lastack::TcpListener::bind(&host, (STACK[1], PORT))?;
        ready.send(())?;
        let (mut stream, _) = listener.accept().await?;
        loop {
            let bytes = stream.read(&mut buffer).await?;
            ensure!(bytes > 0, "the stream has ended");
            checker.receive(&buffer[..bytes]);
            progress.note(&checker);
        }
    })
}

fn send(
    ends: Ends,
    cell: Cell,
    devices: &Sender<End>,
    listening: &std::sync::mpsc::Receiver<()>,
    started: &Sender<Instant>,
) -> Result<()> {
    let stack = namespace(ends, 0, cell, devices)?;
    listening.recv()?;
    let mut sent = 0;
    let Some(tun) = stack else {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        cubic(&socket);
        started.send(Instant::now())?;
        socket.connect(&SocketAddr::from((KERNEL[1], PORT)).into())?;
        let mut stream = TcpStream::from(socket);
        loop {
            sent += stream.write(pattern::at(sent))? as u64;
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let host = Host::spawn(config(0, cell), tun);
        started.send(Instant::now())?;
        let mut stream = lastack::TcpStream::connect(&host, (STACK[1], PORT)).await?;
        loop {
            sent += stream.write(pattern::at(sent)).await? as u64;
        }
    })
}

fn config(near: usize, cell: Cell) -> Config {
    let mut config = Config::new([STACK[near].into()]);
    config.tcp.sack = cell.variant != Variant::NoSack;
    config.tcp.pacing = cell.variant == Variant::Paced;
    config
}
