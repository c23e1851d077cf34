//! A trial of io_uring for the device: packets that a client of the kernel sends to a TUN device, and that come back.
//!
//! The work is the same as that of a small operation of the stack, without the stack: wait for a packet, read it, write
//! one. With epoll that takes four system calls, because readiness is edge-triggered (as tokio's is) and the device has to
//! be read until it is empty; with io_uring one. In a program of tokio the ring would have to wake the runtime, which waits
//! in epoll: that is the third way.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};
use lastack::device::tun;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::measure::Spread;
use crate::process::{self, ip};

/// How the packets are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Epoll,
    Ring,
    RingInEpoll,
}

const WAYS: [Way; 3] = [Way::Epoll, Way::Ring, Way::RingInEpoll];
const DEVICE: &str = "ring0";
/// Length of the virtio header before each packet.
const VIRTIO: usize = 10;

/// Compares the three ways in alternating rounds, all on one CPU. Prints a table.
pub fn trial(rounds: usize, time: Duration) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace needs root")?;
    let device = tun::create(DEVICE)?;
    ip(&format!("addr add 10.94.0.2/24 dev {DEVICE}"))?;
    ip(&format!("link set {DEVICE} up"))?;
    if let Err(error) = IoUring::new(8) {
        println!("io_uring is not available here: {error}");
        return Ok(());
    }
    process::pin(std::process::id(), Some(0))?;
    let mut times = [const { Vec::new() }; WAYS.len()];
    for round in 0..rounds {
        for at in 0..WAYS.len() {
            let at = (at + round) % WAYS.len();
            times[at].push(measure(WAYS[at], &device, time)?);
        }
    }
    println!("| way | microseconds for a round trip | ratio to epoll |\n|---|---:|---:|");
    for (way, own) in WAYS.iter().zip(&times) {
        let spread = Spread::of(own.iter().copied()).context("no rounds")?;
        let ratios = own.iter().zip(&times[0]).map(|(own, epoll)| own / epoll);
        let ratio = Spread::of(ratios).context("no rounds")?;
        println!(
            "| {way:?} | {:.2} ({:.2}-{:.2}) | {:.2} ({:.2}-{:.2}) |",
            spread.median, spread.min, spread.max, ratio.median, ratio.min, ratio.max
        );
    }
    Ok(())
}

/// Microseconds for a round trip.
fn measure(way: Way, device: &OwnedFd, time: Duration) -> Result<f64> {
    // From a non-blocking descriptor the ring returns EAGAIN instead of waiting for a packet.
    let flags = if way == Way::Epoll { OFlag::O_NONBLOCK } else { OFlag::empty() };
    fcntl(device, FcntlArg::F_SETFL(flags))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<()> {
            let result = match way {
                Way::Epoll => by_epoll(device, &done),
                Way::Ring => by_ring(device, &done, false),
                Way::RingInEpoll => by_ring(device, &done, true),
            };
            // The client then waits for an answer without success.
            result.inspect_err(|error| eprintln!("{way:?}: {error:#}"))
        });
        let socket = UdpSocket::bind("10.94.0.2:0")?;
        socket.connect("10.94.0.1:7")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let (begin, mut trips) = (Instant::now(), 0_u32);
        while begin.elapsed() < time {
            let data = trips.to_le_bytes();
            socket.send(&data)?;
            let mut answer = [0; 8];
            let len = socket
                .recv(&mut answer)
                .with_context(|| format!("no answer to number {trips} by {way:?}"))?;
            ensure!(answer[..len] == data, "a wrong answer");
            trips += 1;
        }
        let elapsed = begin.elapsed();
        done.store(true, Ordering::Relaxed);
        // Wakes the other thread, which then ends.
        socket.send(&[0])?;
        echo.join().expect("the echo has panicked")?;
        Ok(elapsed.as_secs_f64() * 1e6 / f64::from(trips))
    })
}

/// Makes the answer of a packet: exchanges addresses and ports, which leaves all checksums right.
fn answer(frame: &mut [u8]) -> bool {
    let packet = &mut frame[VIRTIO..];
    if packet.len() < 28 || packet[0] != 0x45 || packet[9] != 17 {
        return false;
    }
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = packet[20..24].split_at_mut(2);
    source.swap_with_slice(destination);
    true
}

fn by_epoll(device: &OwnedFd, done: &AtomicBool) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(device, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    let mut frame = [0; 2048];
    loop {
        epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)?;
        loop {
            match nix::unistd::read(device, &mut frame) {
                Ok(len) if answer(&mut frame[..len]) => {
                    if done.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    nix::unistd::write(device, &frame[..len])?;
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }
}

const READ: u64 = 1;

fn by_ring(device: &OwnedFd, done: &AtomicBool, in_epoll: bool) -> Result<()> {
    // The settings for one thread, which spare interrupts.
    let mut ring = match in_epoll {
        false => IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?,
        true => IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(8)?,
    };
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    // SAFETY: the ring is open for as long as the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let fd: RawFd = device.as_raw_fd();
    let mut frame = [0; 2048];
    let mut sent = [0; 2048];
    submit_read(&mut ring, fd, &mut frame)?;
    ring.submit()?;
    loop {
        if in_epoll {
            match epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
                // A completion interrupts it.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        } else {
            ring.submit_and_wait(1)?;
        }
        let completed: Vec<_> = ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (what, result) in completed {
            let len = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))?;
            if what != READ {
                continue;
            }
            if answer(&mut frame[..len]) {
                if done.load(Ordering::Relaxed) {
                    return Ok(());
                }
                sent[..len].copy_from_slice(&frame[..len]);
                let write = opcode::Write::new(types::Fd(fd), sent.as_ptr(), len as u32).build();
                // SAFETY: `sent` lives until the ring is dropped, and is written to only after the answer to the packet in
                // it has brought the next one.
                unsafe { ring.submission().push(&write)? };
            }
            submit_read(&mut ring, fd, &mut frame)?;
        }
        if in_epoll {
            ring.submit()?;
        }
    }
}

fn submit_read(ring: &mut IoUring, fd: RawFd, frame: &mut [u8; 2048]) -> Result<()> {
    let read =
        opcode::Read::new(types::Fd(fd), frame.as_mut_ptr(), frame.len() as u32).build().user_data(READ);
    // SAFETY: `frame` lives until the ring is dropped, and only one read into it is submitted at a time.
    unsafe { ring.submission().push(&read)? };
    Ok(())
}
