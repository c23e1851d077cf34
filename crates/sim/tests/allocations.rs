//! How often a connection asks the allocator for memory.

use lastack_engine::{Config, ConnId, Event, Instant, ListenerId, Received, Stack};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

/// Counts the allocations of a thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came, and every result comes from it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))];
const PORT: u16 = 80;

/// A client and a server without delay between them, and a buffer for packets.
struct Hosts {
    now: Instant,
    stacks: [Stack; 2],
    listener: ListenerId,
    packet: Vec<u8>,
}

impl Hosts {
    fn new() -> Self {
        let mut stacks = [0, 1].map(|n| Stack::new(Config::new([ADDRESSES[n]]), [n as u8; 16]));
        let listener = stacks[1].tcp_listen(SocketAddr::new(ADDRESSES[1], PORT), 8).unwrap();
        Self { now: Instant::from_millis(1000), stacks, listener, packet: Vec::with_capacity(65_536) }
    }

    /// Carries packets until none is left.
    fn carry(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for from in [0, 1] {
                while self.stacks[from].poll_transmit(self.now, &mut self.packet).is_some() {
                    let _ = self.stacks[1 - from].handle_packet(self.now, &self.packet, Received::default());
                    quiet = 0;
                }
            }
        }
    }

    fn pass(&mut self, buf: &mut [u8], from: usize, (at, to): (ConnId, ConnId)) {
        let sent = self.stacks[from].tcp(at).unwrap().send(buf);
        assert_eq!(sent, Poll::Ready(Ok(buf.len())));
        self.carry();
        let received = self.stacks[1 - from].tcp(to).unwrap().receive(buf);
        assert_eq!(received, Poll::Ready(Ok(buf.len())));
    }

    /// A request, a response, and a close by each side.
    fn exchange(&mut self) {
        let a = self.stacks[0].tcp_connect(None, SocketAddr::new(ADDRESSES[1], PORT)).unwrap();
        self.carry();
        let b = self.stacks[1].tcp_accept(self.listener).unwrap();
        self.pass(&mut [1; 100], 0, (a, b));
        self.pass(&mut [2; 2000], 1, (b, a));
        self.stacks[0].tcp(a).unwrap().close();
        self.carry();
        self.stacks[1].tcp(b).unwrap().close();
        self.carry();
        let mut ended = 0;
        for stack in &mut self.stacks {
            while let Some(event) = stack.poll_event() {
                ended += usize::from(matches!(event, Event::Ended(_)));
            }
        }
        assert_eq!(ended, 2);
        // TIME-WAIT is over, and every timer has expired.
        self.now += Duration::from_secs(100);
        self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(self.now));
    }
}

/// A send buffer, a receive buffer and the record of the end: the rest is memory of earlier connections.
#[test]
fn a_connection_allocates_three_times() {
    let mut hosts = Hosts::new();
    (0..4).for_each(|_| hosts.exchange());
    let before = COUNT.get();
    (0..100).for_each(|_| hosts.exchange());
    let of_one_end = (COUNT.get() - before) as f64 / 200.0;
    // A debug build parks every connection as soon as it is established, and restores it.
    let max = if cfg!(debug_assertions) { 4.0 } else { 3.0 };
    assert!((1.0..=max).contains(&of_one_end), "{of_one_end} allocations for each end of a connection");
}
