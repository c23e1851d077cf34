//! Whatever the settings are: no panic, no timer without end, no transfer that waits for
//! what cannot come.

use crate::tcp::tests::pair::Pair;
use crate::{BindError, Config, ConnectError, Keepalive};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;

/// A setting, and what makes it nothing, the least there is, and the most.
type Setting = (&'static str, [fn(&mut Config); 3]);

macro_rules! settings {
    ($kind:ident: $($($field:ident).+),* $(,)?) => {
        [$((stringify!($($field).+), settings!(@ $kind $($field).+))),*]
    };
    (@ times $($field:ident).+) => { [
        |c: &mut Config| c.$($field).+ = Duration::ZERO,
        |c: &mut Config| c.$($field).+ = Duration::from_nanos(1),
        |c: &mut Config| c.$($field).+ = Duration::MAX,
    ] };
    (@ sizes $($field:ident).+) => { [
        |c: &mut Config| c.$($field).+ = 0,
        |c: &mut Config| c.$($field).+ = 1,
        |c: &mut Config| c.$($field).+ = usize::MAX,
    ] };
    (@ counts $($field:ident).+) => { [
        |c: &mut Config| c.$($field).+ = 0,
        |c: &mut Config| c.$($field).+ = 1,
        |c: &mut Config| c.$($field).+ = u32::MAX,
    ] };
}

const TIMES: &[Setting] = &settings!(times:
    tcp.ack_delay, tcp.initial_rto, tcp.min_rto, tcp.max_rto, tcp.min_user_timeout, tcp.max_user_timeout,
    tcp.mtu_probe_interval, tcp.fin_wait_2, tcp.time_wait, tcp.challenge_interval, tcp.buffer_idle,
    tcp.intercept_timeout,
    datagrams.error_interval, datagrams.reassembly_time,
);

const SIZES: &[Setting] = &settings!(sizes:
    mtu, max_packet, tcp.send_buffer, tcp.receive_buffer, tcp.memory, tcp.max_orphans, tcp.max_time_wait,
    tcp.max_embryonic, tcp.max_ooo_ranges, tcp.min_kept, datagrams.receive_queue, datagrams.receive_bytes,
    datagrams.send_queue, datagrams.reassembly_bytes,
);

const COUNTS: &[Setting] = &settings!(counts:
    tcp.burst_segments, tcp.quick_acks, tcp.syn_retries, tcp.syn_ack_retries, tcp.retries, tcp.orphan_retries,
    datagrams.error_burst, datagrams.error_rate, datagrams.error_rate_burst,
);

const OPTIONAL: &[Setting] = &[
    (
        "tcp.black_hole_timeouts",
        [
            |c| c.tcp.black_hole_timeouts = Some(0),
            |c| c.tcp.black_hole_timeouts = Some(1),
            |c| c.tcp.black_hole_timeouts = Some(u32::MAX),
        ],
    ),
    (
        "tcp.advertised_user_timeout",
        [
            |c| c.tcp.advertised_user_timeout = Some(Duration::ZERO),
            |c| c.tcp.advertised_user_timeout = Some(Duration::from_nanos(1)),
            |c| c.tcp.advertised_user_timeout = Some(Duration::MAX),
        ],
    ),
    (
        "tcp.reset_rate",
        [
            |c| c.tcp.reset_rate = Some(0),
            |c| c.tcp.reset_rate = Some(1),
            |c| c.tcp.reset_rate = Some(u32::MAX),
        ],
    ),
];

/// A retransmission that is not to come for years does not come.
const WAITS: [(&str, usize); 2] = [("tcp.min_rto", 2), ("tcp.initial_rto", 2)];

const LEN: usize = 60_000;
const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(5), interval: Duration::from_secs(1), count: 3 };

/// Sends data to a reader that is slow at first, over a path that loses, is idle, and closes. Returns whether it all
/// arrived, or the connection ended of itself.
fn exchange(pair: &mut Pair) -> bool {
    pair.delay = Duration::from_millis(10);
    let listening = SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
    let Ok(listener) = pair.b.stack.tcp_listen(listening, 8) else { return true };
    let Ok(client) = pair.a.stack.tcp_connect(None, listening) else { return true };
    pair.run(Duration::from_secs(5));
    let Some(server) = pair.b.stack.tcp_accept(listener) else { return false };
    pair.lose = |n| n > 10 && n % 7 == 0;
    pair.a.tcp(client).set_keepalive(Some(KEEPALIVE));
    let data: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
    let (mut sent, mut got, mut buf) = (0, Vec::new(), [0; 16_384]);
    for round in 0..4000 {
        match pair.a.tcp(client).send(&data[sent..]) {
            Poll::Ready(Ok(n)) => sent += n,
            Poll::Ready(Err(_)) => break,
            Poll::Pending => {}
        }
        pair.run(Duration::from_millis(50));
        while round > 20
            && let Poll::Ready(Ok(n @ 1..)) = pair.b.tcp(server).receive(&mut buf)
        {
            got.extend_from_slice(&buf[..n]);
        }
        if got.len() == LEN {
            break;
        }
    }
    pair.run(Duration::from_secs(60));
    assert_eq!(got, data[..got.len()]);
    let over = pair.a.tcp(client).end().is_some() || pair.b.tcp(server).end().is_some();
    pair.a.tcp(client).close();
    pair.run(Duration::from_secs(20));
    pair.b.tcp(server).close();
    pair.run(Duration::from_secs(100));
    got.len() == LEN || over
}

#[test]
fn every_setting_may_be_nothing_little_or_too_much() {
    for v6 in [false, true] {
        for (name, values) in [TIMES, SIZES, COUNTS, OPTIONAL].into_iter().flatten() {
            for (i, set) in values.iter().enumerate() {
                let mut pair = Pair::with(v6, set);
                let arrived = exchange(&mut pair);
                assert!(arrived || WAITS.contains(&(name, i)), "{name}, value {i}: the transfer hangs");
                assert!(pair.rounds < 20_000, "{name}, value {i}: {} timers in five minutes", pair.rounds);
            }
        }
    }
}

/// What is set while a stack runs is bounded as what it begins with.
#[test]
fn settings_are_brought_within_their_bounds_when_they_change() {
    let mut pair = Pair::new(false);
    let mut tcp = pair.a.stack.tcp_config_mut();
    (tcp.min_rto, tcp.max_rto, tcp.buffer_idle) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
    (tcp.send_buffer, tcp.receive_buffer) = (0, usize::MAX);
    drop(tcp);
    let tcp = &pair.a.stack.config().tcp;
    assert_eq!(tcp.min_rto, tcp.max_rto);
    assert_eq!(tcp.buffer_idle, Duration::from_millis(100));
    assert_eq!((tcp.send_buffer, tcp.receive_buffer), (536, 1 << 30));
}

/// Data is split as small as the link requires, and where that is less than IP allows, the call returns an error.
#[test]
fn the_smallest_links_carry_data_and_smaller_ones_are_refused() {
    for (v6, min) in [(false, 68), (true, 1280)] {
        let of = |mtu| {
            Pair::with(v6, |config| {
                (config.mtu, config.max_packet) = (mtu, mtu);
                config.tcp.send_rst_reason = true;
            })
        };
        for (mtu, lossy) in [(min, false), (min, true), (min + 1, true), (100.max(min), true)] {
            let mut pair = of(mtu);
            let (a, b) = pair.connect();
            pair.lose = if lossy { |n| n > 10 && n % 9 == 0 } else { |_| false };
            let data: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
            assert_eq!(pair.transfer(a, b, &data), data);
            let largest = pair.a.sent.iter().chain(&pair.b.sent).map(|(_, packet, _)| packet.len()).max();
            assert!(largest.unwrap() <= mtu, "{largest:?} on a link of {mtu}");
        }
        let mut pair = of(min - 1);
        let (here, there) = (SocketAddr::new(pair.a.addr, 1), SocketAddr::new(pair.b.addr, 1));
        let refused = BindError::LinkTooSmall;
        assert_eq!(pair.a.stack.tcp_connect(None, there), Err(ConnectError::Bind(refused)));
        assert_eq!(pair.a.stack.tcp_listen(here, 1), Err(refused));
    }
}

/// The user of a connection cannot make it spin or hang either.
#[test]
fn the_settings_of_a_connection_may_be_nothing_little_or_too_much() {
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for bytes in [0, 1, usize::MAX] {
            let mut pair = Pair::new(false);
            pair.delay = Duration::from_millis(10);
            pair.listen(8);
            let remote = SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
            let client = pair.a.stack.tcp_connect(None, remote).unwrap();
            pair.run(Duration::from_secs(1));
            let mut tcp = pair.a.tcp(client);
            tcp.set_keepalive(Some(Keepalive { idle: time, interval: time, count: bytes as u32 }));
            tcp.set_fin_wait_2(Some(time));
            tcp.set_advertised_user_timeout(Some(time));
            tcp.set_send_buffer(Some(bytes));
            assert!(matches!(tcp.send(b"text"), Poll::Ready(Ok(4))), "{bytes}");
            pair.run(Duration::from_secs(20));
            pair.a.tcp(client).close();
            pair.run(Duration::from_secs(20));
            assert!(pair.rounds < 100_000, "{time:?}: {} timers", pair.rounds);
        }
    }
}
