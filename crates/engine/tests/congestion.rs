//! A congestion control of the application: a window of five segments that never changes, and a record of its calls.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use lastack_engine::congestion::{Acked, Algorithm, CongestionControl, CongestionFactory};
use lastack_engine::{Config, Instant, Received, Stack};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;

const SEGMENTS: u32 = 5;

/// How often each method was called.
#[derive(Debug)]
struct Calls {
    built: AtomicU32,
    acked: AtomicU32,
    losses: AtomicU32,
    timeouts: AtomicU32,
}

#[derive(Debug)]
struct Factory {
    calls: &'static Calls,
}

impl CongestionFactory for Factory {
    fn name(&self) -> &str {
        "fixed"
    }

    fn build(&self, window: u32, mss: u32) -> Box<dyn CongestionControl> {
        assert_eq!(window, 10 * mss, "the initial window (RFC 6928)");
        self.calls.built.fetch_add(1, Relaxed);
        Box::new(Fixed { window: SEGMENTS * mss, calls: self.calls })
    }
}

#[derive(Clone, Debug)]
struct Fixed {
    window: u32,
    calls: &'static Calls,
}

impl CongestionControl for Fixed {
    fn on_ack(&mut self, acked: &Acked) {
        assert!(acked.bytes > 0 && acked.delivered <= acked.sent);
        self.calls.acked.fetch_add(acked.bytes, Relaxed);
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u32, mss: u32) {
        assert!(in_flight <= SEGMENTS * mss);
        self.calls.losses.fetch_add(1, Relaxed);
    }

    fn on_timeout(&mut self, _now: Instant, _in_flight: u32, _mss: u32) {
        self.calls.timeouts.fetch_add(1, Relaxed);
    }

    fn on_repeated_timeout(&mut self, _mss: u32) {
        self.calls.timeouts.fetch_add(1, Relaxed);
    }

    fn limit_window(&mut self, _window: u32) {}

    fn undo(&mut self) {}

    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn CongestionControl> {
        Box::new(self.clone())
    }
}

impl Calls {
    const fn new() -> Self {
        Self {
            built: AtomicU32::new(0),
            acked: AtomicU32::new(0),
            losses: AtomicU32::new(0),
            timeouts: AtomicU32::new(0),
        }
    }
}

static LOSS_CALLS: Calls = Calls::new();
static TIMEOUT_CALLS: Calls = Calls::new();
static LOSSES: Factory = Factory { calls: &LOSS_CALLS };
static TIMEOUTS: Factory = Factory { calls: &TIMEOUT_CALLS };

/// Two stacks on a link with a delay of 10 ms; the client sends and the server reads.
struct Transfer {
    stacks: [Stack; 2],
    client: lastack_engine::ConnId,
    server: Option<lastack_engine::ConnId>,
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
    now: Instant,
    /// Segments of the client with data since the connection was established.
    data: u32,
    max_unacked: usize,
    read: usize,
}

impl Transfer {
    fn new(factory: &'static Factory) -> Self {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let at = SocketAddr::new(address(2), 7);
        let mut stacks = [1, 2].map(|last| {
            let mut config = Config::new([address(last)]);
            config.tcp.congestion = Algorithm::Custom(factory);
            Stack::new(config, [last; 16])
        });
        let listener = stacks[1].tcp_listen(at, 1).unwrap();
        let client = stacks[0].tcp_connect(None, at).unwrap();
        let (wire, now) = (VecDeque::new(), Instant::ZERO);
        let mut this = Self { stacks, client, server: None, wire, now, data: 0, max_unacked: 0, read: 0 };
        this.run(|_| false);
        this.server = this.stacks[1].tcp_accept(listener);
        assert!(this.server.is_some(), "connected");
        this
    }

    /// Passes packets on until nothing happens for a moment; `lost` decides by the number of the data segment.
    fn run(&mut self, lost: impl Fn(u32) -> bool) {
        let mut quiet = self.now;
        while self.now < quiet + Duration::from_millis(1000) {
            for side in [0, 1] {
                let mut packet = Vec::new();
                while self.stacks[side].poll_transmit(self.now, &mut packet).is_some() {
                    quiet = self.now;
                    let has_data = side == 0 && packet.len() > 100;
                    self.data += u32::from(has_data);
                    if !(has_data && lost(self.data)) {
                        self.wire.push_back((self.now + Duration::from_millis(10), 1 - side, packet.clone()));
                    }
                }
                while self.stacks[side].poll_event().is_some() {}
            }
            if let Some(info) = self.stacks[0].tcp(self.client).map(|tcp| tcp.info()) {
                self.max_unacked = self.max_unacked.max(info.unacked);
            }
            self.now += Duration::from_millis(1);
            while self.wire.front().is_some_and(|(due, ..)| *due <= self.now) {
                let (_, to, packet) = self.wire.pop_front().unwrap();
                let _verdict = self.stacks[to].handle_packet(self.now, &packet, Received::default());
            }
            self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(self.now));
            let mut buf = [0; 65_536];
            let server = self.server.and_then(|server| self.stacks[1].tcp(server));
            if let Some(Poll::Ready(read)) = server.map(|mut tcp| tcp.receive(&mut buf)) {
                self.read += read.unwrap();
            }
        }
    }

    fn send(&mut self, len: usize, lost: impl Fn(u32) -> bool) {
        let sent = self.stacks[0].tcp(self.client).unwrap().send(&vec![7; len]);
        assert_eq!(sent, Poll::Ready(Ok(len)));
        self.run(lost);
        let unacked = self.stacks[0].tcp(self.client).unwrap().info().unacked;
        assert_eq!((unacked, core::mem::take(&mut self.read)), (0, len), "all is delivered");
    }
}

#[test]
fn its_window_is_the_limit_and_it_is_informed_of_a_loss() {
    let mut transfer = Transfer::new(&LOSSES);
    transfer.send(20_000, |_| false);
    let mss = transfer.stacks[0].tcp(transfer.client).unwrap().info().mss;
    assert_eq!(transfer.max_unacked, (SEGMENTS * mss) as usize, "the window is used, and never exceeded");
    transfer.send(40_000, |segment| segment == 30);
    let calls = &LOSS_CALLS;
    let counts = [&calls.built, &calls.losses, &calls.timeouts].map(|count| count.load(Relaxed));
    assert_eq!(counts, [2, 1, 0], "one for each end; one loss");
    let acked = calls.acked.load(Relaxed);
    assert!((45_000..60_000).contains(&acked), "acknowledged outside the recovery: {acked}");
}

#[test]
fn it_is_informed_of_a_timeout() {
    let mut transfer = Transfer::new(&TIMEOUTS);
    transfer.send(2_000, |segment| (1..=6).contains(&segment));
    let calls = &TIMEOUT_CALLS;
    assert!(calls.timeouts.load(Relaxed) > 0);
    assert_eq!(calls.losses.load(Relaxed), 0);
}

#[test]
fn algorithms_are_equal_by_name() {
    assert_eq!(Algorithm::Custom(&LOSSES), Algorithm::Custom(&TIMEOUTS));
    assert_ne!(Algorithm::Custom(&LOSSES), Algorithm::Cubic);
    assert_eq!(Algorithm::Custom(&LOSSES).to_string(), "fixed");
}
