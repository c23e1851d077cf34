//! `lastack` as the victim: what it takes of the machine, and whether it still serves others.

use crate::link::Link;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// A file of each thread of a process.
fn of_threads(pid: u32, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is alive");
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join(name)).ok()).collect()
}

/// A time that the scheduler counts for each thread, by its place in the line, of all of them.
fn scheduled(pid: u32, field: usize) -> Duration {
    let nanos = |stat: &String| stat.split_whitespace().nth(field)?.parse::<u64>().ok();
    Duration::from_nanos(of_threads(pid, "schedstat").iter().filter_map(nanos).sum())
}

/// CPU time of all threads of a process.
pub fn cpu(pid: u32) -> Duration {
    scheduled(pid, 0)
}

/// How long its threads have waited for a CPU, which others had.
fn queued(pid: u32) -> Duration {
    scheduled(pid, 1)
}

/// Whether a thread runs, or would if it had a CPU.
fn is_runnable(pid: u32) -> bool {
    let state = |stat: &String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'));
    of_threads(pid, "stat").iter().any(state)
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the victim is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("VmRSS in KiB");
    kib << 10
}

/// What a number of packets took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub packets: u64,
    pub cpu: Duration,
}

impl Cost {
    pub fn each(self) -> Duration {
        self.cpu / u32::try_from(self.packets.max(1)).unwrap()
    }
}

/// Sends packets at a fixed rate, so that the victim wakes as often for benign ones as for hostile ones.
pub fn measure(link: &Link, pid: u32, rate: u32, packets: impl Iterator<Item = Vec<u8>>) -> Cost {
    const BURST: u32 = 32;
    settle(link, pid);
    let (before, delivered) = (cpu(pid), link.delivered());
    let start = Instant::now();
    for (sent, packet) in (1..).zip(packets) {
        link.send(&packet);
        if sent % BURST == 0 {
            let due = start + Duration::from_secs(1) * sent / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            link.drain();
        }
    }
    settle(link, pid);
    Cost { packets: link.delivered() - delivered, cpu: cpu(pid) - before }
}

/// Waits until the victim has read what was sent, and has nothing more to do about it.
fn settle(link: &Link, pid: u32) {
    const PAUSE: Duration = Duration::from_millis(30);
    let end = Instant::now() + PATIENCE;
    let mut last = (u64::MAX, Duration::ZERO);
    while Instant::now() < end {
        let now = (link.delivered(), cpu(pid));
        if now.0 == last.0 && now.1 < last.1 + PAUSE / 20 && !is_runnable(pid) {
            break;
        }
        last = now;
        thread::sleep(PAUSE);
        link.drain();
    }
}

/// What lasts longer than this on a busy machine hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the victim with the kernel's TCP, whose connection stays open.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            // The interface does not exist before the victim has made it.
            match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => panic!("the victim does not answer: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// How long the victim takes to echo a few bytes, without the time that it and this process have waited for a CPU.
    pub fn round_trip(&mut self, victim: u32) -> Duration {
        let queue = || queued(victim) + queued(std::process::id());
        let (start, before) = (Instant::now(), queue());
        self.0.write_all(b"are you there").expect("the connection is open");
        self.0.read_exact(&mut [0; 13]).expect("the victim echoes");
        start.elapsed().saturating_sub(queue().saturating_sub(before))
    }
}

/// A child that is killed where a test fails.
pub struct Process(pub Child);

impl Process {
    pub fn interrupt(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it has not been waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
