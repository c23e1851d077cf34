//! Opens many connections between two stacks in one process, leaves them idle, and prints what they take.
//!
//! ```console
//! $ cargo run --release -p lastack-sim --example idle_connections -- 1000000
//! ```

use lastack_engine::{Config, Instant, Received, Stack};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Connections to one port of the listening stack.
const PER_PORT: usize = 50_000;

/// Connections opened at a time.
const BATCH: usize = 100;

fn main() {
    let count =
        std::env::args().nth(1).map_or(100_000, |count| count.parse().expect("a number of connections"));
    let addresses = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let mut stacks = addresses.map(|address| Stack::new(Config::new([address]), [7; 16]));
    let mut now = Instant::from_millis(1000);
    let (before, start) = (resident(), std::time::Instant::now());
    for first in (0..count).step_by(BATCH) {
        open(&mut stacks, addresses, now, first..(first + BATCH).min(count));
        now += Duration::from_millis(1);
    }
    // Completes what is pending after the handshakes.
    let end = now + Duration::from_secs(60);
    while let Some(at) = stacks.iter().filter_map(Stack::poll_timeout).min().filter(|at| *at <= end) {
        now = now.max(at);
        stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
        carry(&mut stacks, now);
    }
    let open = stacks[0].connections() + stacks[1].connections();
    assert_eq!(open, 2 * count, "all are open");
    let bytes = resident().saturating_sub(before);
    println!("{count} connections, {open} ends, opened in {:.1} s", start.elapsed().as_secs_f64());
    println!("{} MB resident, {} bytes an end", bytes / 1_000_000, bytes / open as u64);
}

/// Opens and accepts these connections.
fn open(stacks: &mut [Stack; 2], addresses: [IpAddr; 2], now: Instant, numbers: std::ops::Range<usize>) {
    let mut accepted = 0;
    let mut listeners = Vec::new();
    for n in numbers.clone() {
        let port = 1 + (n / PER_PORT) as u16;
        let remote = SocketAddr::new(addresses[1], port);
        if let Ok(listener) = stacks[1].tcp_listen(remote, BATCH) {
            listeners.push(listener);
        }
        let local = SocketAddr::new(addresses[0], 10_000 + (n % PER_PORT) as u16);
        stacks[0].tcp_connect(Some(local), remote).expect("the port is free");
    }
    carry(stacks, now);
    for listener in listeners {
        while stacks[1].tcp_accept(listener).is_some() {
            accepted += 1;
        }
        stacks[1].tcp_unlisten(listener);
    }
    assert_eq!(accepted, numbers.len(), "all are accepted");
}

/// Carries packets both ways until there are none.
fn carry(stacks: &mut [Stack; 2], now: Instant) {
    let mut packet = Vec::new();
    loop {
        let mut carried = 0;
        for from in [0, 1] {
            while stacks[from].poll_transmit(now, &mut packet).is_some() {
                let _ = stacks[1 - from].handle_packet(now, &packet, Received::default());
                carried += 1;
            }
            while stacks[from].poll_event().is_some() {}
        }
        if carried == 0 {
            return;
        }
    }
}

/// Resident memory of the process in bytes, on Linux; zero elsewhere.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
