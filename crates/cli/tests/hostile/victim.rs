//! `lastack` as the victim: what it takes of the machine, and whether it still serves others.

use crate::link::Link;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// CPU time of all threads of a process.
pub fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the victim is alive");
    let spent = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
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
    let end = Instant::now() + Duration::from_secs(10);
    let mut last = (u64::MAX, Duration::ZERO);
    while Instant::now() < end {
        let now = (link.delivered(), cpu(pid));
        if now.0 == last.0 && now.1 < last.1 + PAUSE / 20 {
            break;
        }
        last = now;
        thread::sleep(PAUSE);
        link.drain();
    }
}

/// A client of the victim with the kernel's TCP, whose connection stays open.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        let end = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            // The interface does not exist before the victim has made it.
            match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => panic!("the victim does not answer: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// How long the victim takes to echo a few bytes.
    pub fn round_trip(&mut self) -> Duration {
        let start = Instant::now();
        self.0.write_all(b"are you there").expect("the connection is open");
        self.0.read_exact(&mut [0; 13]).expect("the victim echoes");
        start.elapsed()
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
