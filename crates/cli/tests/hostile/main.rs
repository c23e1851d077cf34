//! A hostile peer against `lastack serve` and `lastack run` over TUN: neither panics, its memory does not grow with what
//! arrives, a hostile packet costs about as much CPU time as an ordinary one, and other clients are served.
//!
//! The default is short, and the program is the one that cargo builds for tests. The figures of docs/bounds.md are those of
//! a release build under the full load:
//!
//! ```text
//! cargo build --release -p lastack-cli
//! LASTACK=target/release/lastack LASTACK_HOSTILE=full \
//!     cargo test -p lastack-cli --test hostile -- --ignored --nocapture --test-threads 1
//! ```

mod attacks;
mod link;
mod packets;
mod peer;
mod victim;

use attacks::{Attack, Ground, ON_A_RECEIVER, ON_A_SENDER};
use link::Link;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use victim::{Client, Cost, Process, measure, resident};

/// The program under attack, absolute: a guest has another working directory.
fn lastack() -> PathBuf {
    let program = std::env::var_os("LASTACK").unwrap_or_else(|| env!("CARGO_BIN_EXE_lastack").into());
    std::path::absolute(Path::new("../..").join(program)).unwrap()
}

/// Whether it is built with debug assertions, which verify all that is kept for a connection after each packet: then its
/// CPU time says nothing.
fn verifies_itself() -> bool {
    cfg!(debug_assertions) && std::env::var_os("LASTACK").is_none()
}

/// CPU time of a hostile packet beside that of an ordinary one.
const MAX_RATIO: f64 = 3.0;
/// Bytes that twice as many hostile packets may add.
const MAX_GROWTH: u64 = 1 << 20;
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);

/// How much of everything.
struct Size {
    is_full: bool,
    /// Packets of each kind.
    packets: u32,
    /// Packets in a second.
    rate: u32,
    /// Bytes in flight where an attack needs many.
    flight: u32,
}

impl Size {
    fn chosen() -> Self {
        match std::env::var("LASTACK_HOSTILE").as_deref() {
            Ok("full") => Self { is_full: true, packets: 100_000, rate: 20_000, flight: 2_600_000 },
            Ok(other) => panic!("LASTACK_HOSTILE is {other:?}, not \"full\""),
            Err(_) => Self { is_full: false, packets: 2000, rate: 10_000, flight: 60_000 },
        }
    }
}

/// What one attack has shown.
struct Figures {
    name: &'static str,
    ordinary: Cost,
    hostile: Cost,
    /// Resident memory after as many hostile packets, and after twice as many.
    memory: [u64; 2],
    /// The longest round trip of another client after that.
    round_trip: Duration,
}

impl Figures {
    fn ratio(&self) -> f64 {
        self.hostile.each().as_secs_f64() / self.ordinary.each().as_secs_f64()
    }

    /// What exceeds the limits.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.ratio() > MAX_RATIO && !verifies_itself() {
            faults.push(format!(
                "{}: {:.1} times the CPU time of an ordinary packet",
                self.name,
                self.ratio()
            ));
        }
        if self.memory[1] > self.memory[0] + MAX_GROWTH {
            faults.push(format!(
                "{}: memory grows from {} to {} bytes",
                self.name, self.memory[0], self.memory[1]
            ));
        }
        if self.round_trip > MAX_ROUND_TRIP {
            faults.push(format!("{}: another client waits {:?}", self.name, self.round_trip));
        }
        faults
    }

    fn print(&self) {
        println!(
            "| {} | {:.1} us | {:.1} us | {:.2} | {:.1} MiB, {:.1} MiB | {:.1} ms |",
            self.name,
            self.ordinary.each().as_secs_f64() * 1e6,
            self.hostile.each().as_secs_f64() * 1e6,
            self.ratio(),
            self.memory[0] as f64 / f64::from(1 << 20),
            self.memory[1] as f64 / f64::from(1 << 20),
            self.round_trip.as_secs_f64() * 1e3,
        );
    }
}

/// Runs `work` on a thread with a network namespace of its own, whose loopback is up.
fn in_a_namespace(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("cannot run here: needs root, for a network namespace");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("cannot run here: ip is missing").success());
            work();
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Ordinary packets, hostile ones, and as many again.
fn play(attack: &Attack, size: &Size, ground: &Ground<'_>, pid: u32, client: &mut Client) -> Figures {
    let (mut ordinary, mut hostile) = (attack.prepare)(ground);
    let cost = |packets: &mut attacks::Packets, numbers: Range<u32>| {
        measure(ground.link, pid, size.rate, numbers.map(packets))
    };
    let benign = cost(&mut ordinary, 0..size.packets);
    let filled = size.packets.max(attack.fills);
    let first = cost(&mut hostile, 0..filled);
    let before = resident(pid);
    let second = cost(&mut hostile, filled..filled + size.packets);
    let memory = [before, resident(pid)];
    let round_trip = (0..5).map(|_| client.round_trip(pid)).max().unwrap();
    let hostile = Cost { packets: first.packets + second.packets, cpu: first.cpu + second.cpu };
    Figures { name: attack.name, ordinary: benign, hostile, memory, round_trip }
}

/// Starts a victim whose messages go to a file.
fn start(command: &mut Command, errors: &File) -> Process {
    command.stdin(Stdio::null()).stderr(errors.try_clone().unwrap());
    Process(command.spawn().unwrap())
}

/// Ends the victim by SIGINT, and looks how it ended: `run` as its program does, by the signal.
fn end(mut victim: Process, mut errors: File, name: &str) {
    // The second signal: do not wait for the connections of the hostile peer.
    victim.interrupt();
    thread::sleep(Duration::from_millis(50));
    victim.interrupt();
    let status = victim.0.wait().unwrap();
    let mut said = String::new();
    errors.rewind().unwrap();
    errors.read_to_string(&mut said).unwrap();
    let orderly = status.success() || status.signal() == Some(libc::SIGINT);
    assert!(orderly && !said.contains("panicked"), "{name}: {status}\n{said}");
}

fn serve(attack: &Attack, size: &Size) -> Figures {
    let errors = tempfile::tempfile().unwrap();
    let mut command = Command::new(lastack());
    command.args(["serve", "--listen", "7", "--behave", "echo"]).stdout(Stdio::null());
    let server = start(&mut command, &errors);
    let address = SocketAddrV4::new(Ipv4Addr::new(10, 0, 3, 1), 7);
    let mut client = Client::connect(address.into());
    let link = Link::open("lastack0").expect("the interface of the victim");
    let sender = Ipv4Addr::new(10, 0, 3, 3);
    let ground = Ground { link: &link, server: address, sender, flight: size.flight };
    let figures = play(attack, size, &ground, server.0.id(), &mut client);
    drop(client);
    end(server, errors, attack.name);
    figures
}

/// The guest of `run` as the hostile peer: its interface is reached from its network namespace.
fn run(attack: &Attack, size: &Size) -> Figures {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    thread::spawn(move || host.incoming().flatten().for_each(|stream| drop(thread::spawn(|| echo(stream)))));
    let errors = tempfile::tempfile().unwrap();
    let mut command = Command::new(lastack());
    command.args(["run", "--host-loopback", "--host-pids", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let mut victim = start(command.stdout(Stdio::piped()), &errors);
    let mut guest = String::new();
    BufReader::new(victim.0.stdout.take().unwrap()).read_line(&mut guest).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", guest.trim())).expect("the guest runs");
    let figures = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let address = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 2), port);
            let mut client = Client::connect(address.into());
            let link = Link::open("lastack0").expect("the interface of the victim");
            let sender = Ipv4Addr::new(10, 0, 2, 101);
            let ground = Ground { link: &link, server: address, sender, flight: size.flight };
            play(attack, size, &ground, victim.0.id(), &mut client)
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    end(victim, errors, attack.name);
    figures
}

/// An echo server of the host.
fn echo(mut stream: TcpStream) {
    let mut data = vec![0; 1 << 16];
    while let Ok(len @ 1..) = stream.read(&mut data) {
        if stream.write_all(&data[..len]).is_err() {
            return;
        }
    }
}

/// Plays each attack, prints the figures, and tells what exceeds the limits.
fn withstands<'a>(
    size: &Size,
    attacks: impl Iterator<Item = &'a Attack>,
    victim: fn(&Attack, &Size) -> Figures,
) {
    println!(
        "| attack | an ordinary packet | a hostile one | ratio | memory, then | round trip |\n|---|---|---|---|---|---|"
    );
    let mut faults = Vec::new();
    for attack in attacks {
        let mut figures = victim(attack, size);
        // The machine may have other work: what is in the code shows each time.
        for _again in 0..2 {
            if figures.faults().is_empty() {
                break;
            }
            figures.print();
            figures = victim(attack, size);
        }
        figures.print();
        faults.extend(figures.faults());
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
#[ignore = "needs root, /dev/net/tun and ip"]
fn serve_withstands_a_hostile_peer() {
    let all = ON_A_SENDER.iter().chain(ON_A_RECEIVER);
    in_a_namespace(|| withstands(&Size::chosen(), all, serve));
}

/// Without those that open flows: a socket of the host is what an ordinary flow takes, too, and descriptors bound their
/// number.
#[test]
#[ignore = "needs root, /dev/net/tun and ip"]
fn run_withstands_a_hostile_guest() {
    let size = Size::chosen();
    let others = ON_A_RECEIVER.iter().filter(|attack| size.is_full && !attack.opens);
    in_a_namespace(|| withstands(&size, ON_A_SENDER.iter().chain(others), run));
}
