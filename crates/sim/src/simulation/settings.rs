//! Random settings of hosts and paths.

use crate::random::Random;
use lastack_engine::{Algorithm, Config, Ecn, MtuProbing, TcpConfig};
use lastack_link::Plan;
use std::net::IpAddr;
use std::time::Duration;

/// The addresses of a host: one of each family, from the documentation ranges.
pub(super) fn addresses(host: usize) -> [IpAddr; 2] {
    let n = host as u8 + 1;
    [IpAddr::from([192, 0, 2, n]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)])]
}

/// The settings of a host. Those of a calm world do not disturb well-behaved programs.
pub(super) fn config(host: usize, calm: bool, random: &mut Random) -> Config {
    let mut config = Config::new(addresses(host));
    config.mtu = if random.once_in(2) { 1500 } else { 1280 + random.below(3000) as usize };
    config.max_packet = if random.once_in(4) { 65_535 } else { config.mtu };
    options(&mut config.tcp, random);
    if !calm {
        limits(&mut config.tcp, random);
    }
    // Packets of every size are kept, large ones, or none; a number of its own, so that no other depends on it.
    config.tcp.min_kept = [1, config.tcp.min_kept, usize::MAX][random.clone().below(3) as usize];
    config
}

fn options(tcp: &mut TcpConfig, random: &mut Random) {
    tcp.timestamps = !random.once_in(4);
    tcp.sack = !random.once_in(4);
    tcp.window_scaling = !random.once_in(4);
    tcp.congestion = if random.once_in(3) { Algorithm::Reno } else { Algorithm::Cubic };
    tcp.ecn = [Ecn::Off, Ecn::Accept, Ecn::Request][random.below(3) as usize];
    tcp.nodelay = random.once_in(3);
    tcp.dscp = random.below(64) as u8;
    let slowest = if random.once_in(2) { 40 } else { 490 };
    tcp.ack_delay = Duration::from_millis(1 + random.below(slowest));
    tcp.quick_acks = random.below(17) as u32;
    tcp.black_hole_timeouts = (!random.once_in(4)).then(|| 1 + random.below(4) as u32);
    tcp.mtu_probing =
        [MtuProbing::Off, MtuProbing::AfterBlackHole, MtuProbing::Always][random.below(3) as usize];
    tcp.mtu_probe_interval = Duration::from_millis(500 + random.below(60_000));
    tcp.pacing = random.once_in(3);
    tcp.slow_start_after_idle = !random.once_in(4);
    tcp.send_rst_reason = random.once_in(2);
    tcp.resend_plain_rst = random.once_in(3);
    tcp.slow_start_after_idle = random.once_in(2);
    tcp.pacing = random.once_in(4);
    let probing = [MtuProbing::Off, MtuProbing::AfterBlackHole, MtuProbing::Always];
    tcp.mtu_probing = probing[random.below(3) as usize];
    tcp.mtu_probe_interval = Duration::from_secs(1 + random.below(600));
    tcp.reset_on_embryonic_syn = !random.once_in(4);
    tcp.lenient_resets = !random.once_in(4);
    tcp.broken_pipe_in_close_wait = random.once_in(2);
    tcp.buffer_idle = Duration::from_millis(200 + random.below(10_000));
    if random.once_in(2) {
        tcp.send_buffer = 1 + random.below(30_000) as usize;
        tcp.receive_buffer = 1_000 + random.below(70_000) as usize;
    }
}

/// Limits that may end healthy connections.
fn limits(tcp: &mut TcpConfig, random: &mut Random) {
    tcp.syn_retries = random.below(7) as u32;
    tcp.syn_ack_retries = random.below(6) as u32;
    tcp.retries = 1 + random.below(15) as u32;
    tcp.orphan_retries = random.below(9) as u32;
    tcp.reset_on_give_up = random.once_in(3);
    tcp.abort_on_overflow = random.once_in(3);
    tcp.fin_wait_2 = Duration::from_millis(random.below(60_000));
    tcp.time_wait = Duration::from_millis(random.below(60_000));
    tcp.initial_rto = Duration::from_millis(200 + random.below(1_000));
    tcp.min_rto = Duration::from_millis(1 + random.below(300));
    // Data dropped beyond a gap is repaired by timeouts only, which may take longer than an orphan has.
    if random.once_in(4) {
        tcp.max_ooo_ranges = 1 + random.below(8) as usize;
    }
    tcp.challenge_interval = Duration::from_millis(random.below(1_000));
    pressure(tcp, random);
}

/// Memory is short: low limits for everything.
pub(super) fn pressure(tcp: &mut TcpConfig, random: &mut Random) {
    let mut little = |ordinary: usize| if random.once_in(3) { random.below(3) as usize } else { ordinary };
    tcp.max_embryonic = little(tcp.max_embryonic);
    tcp.max_orphans = little(tcp.max_orphans);
    tcp.max_time_wait = little(tcp.max_time_wait);
    tcp.syn_cookies = random.once_in(2);
    if random.once_in(3) {
        tcp.memory = random.below(100_000) as usize;
    }
    if random.once_in(3) {
        tcp.reset_rate = Some(1 + random.below(20) as u32);
    }
}

/// How a path treats packets.
pub(super) fn plan(seed: u64, random: &mut Random) -> Plan {
    let mut up_to = |max: f64| if random.once_in(2) { 0.0 } else { random.below(1000) as f64 / 1000.0 * max };
    let mut plan = Plan {
        seed,
        loss: up_to(0.10),
        duplicate: up_to(0.10),
        reorder: up_to(0.20),
        corrupt: up_to(0.05),
        delay: Duration::from_micros(20 + (up_to(1.0) * 80_000.0) as u64),
        jitter: Duration::from_micros((up_to(1.0) * 20_000.0) as u64),
        reorder_by: Duration::from_millis(30),
        ..Plan::default()
    };
    if random.once_in(3) {
        plan.rate = Some(20_000 + random.below(1_000_000));
        plan.queue = 3_000 + random.below(60_000) as usize;
    }
    plan
}
