//! What an attacker beside the path would like to foretell, seen from outside: initial sequence numbers
//! (RFC 6528) and ephemeral ports (RFC 6056). T140 to T143.

use crate::host::{Host, OPEN, address};
use lastack_engine::{ConnId, Stack};
use lastack_wire::tcp::TcpFlags;
use std::net::SocketAddr;
use std::time::Duration;

/// Pearson's statistic of counts that should be equal, in standard deviations from its mean.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let sum: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    let freedom = counts.len() as f64 - 1.0;
    (sum - freedom) / (2.0 * freedom).sqrt()
}

fn assert_uniform(what: &str, values: impl Iterator<Item = u32>) {
    let mut counts = [0; 64];
    values.for_each(|value| counts[(value >> 26) as usize] += 1);
    let chi = chi_square(&counts);
    assert!(chi.abs() < 5.0, "{what}: {chi} {counts:?}");
}

/// The ISN with which the host answers a SYN from there; the embryonic connection goes at once.
fn isn(host: &mut Host, source: u16, port: u16) -> u32 {
    let flow = host.flow(address(host.us.is_ipv6(), 1, source), port, OPEN);
    let _ = host.segment(flow, TcpFlags::SYN, 1, 0);
    let isn = host.last.expect("a SYN|ACK").seq;
    let _ = host.segment(flow, TcpFlags::RST, 2, 0);
    isn
}

/// D11: neither neighbours nor time nor another boot tell the next one.
#[test]
fn initial_sequence_numbers() {
    for v6 in [false, true] {
        let (mut host, mut other) = (Host::new(v6, 1, |_| {}), Host::new(v6, 2, |_| {}));
        let isns: Vec<u32> =
            (0..20_000).map(|n| isn(&mut host, (n >> 8) as u16, 1000 + (n & 0xff) as u16)).collect();
        assert_uniform("ISNs", isns.iter().copied());
        assert_uniform("low halves", isns.iter().map(|isn| isn << 16));
        assert_uniform("steps to the next port", isns.windows(2).map(|w| w[1].wrapping_sub(w[0])));
        assert_uniform("steps to the next host", isns.windows(257).map(|w| w[256].wrapping_sub(w[0])));
        let again = (0..20_000).map(|n| isn(&mut other, (n >> 8) as u16, 1000 + (n & 0xff) as u16));
        assert_uniform("another boot", again.zip(&isns).map(|(a, b)| a.wrapping_sub(*b)));
    }
}

/// D11: of one four-tuple they go up with a clock of 4 microseconds, so that what is old is behind what is
/// new.
#[test]
fn initial_sequence_numbers_of_one_four_tuple_grow() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 3, |_| {});
        let mut before = isn(&mut host, 1, 1);
        for millis in (1..400).chain([10_000, 100_000, 1_000_000]) {
            host.pass(Duration::from_millis(millis));
            let next = isn(&mut host, 1, 1);
            assert_eq!(next.wrapping_sub(before), (millis * 250) as u32, "after {millis} ms");
            before = next;
        }
    }
}

fn port(stack: &mut Stack, remote: SocketAddr) -> (ConnId, u32) {
    let id = stack.tcp_connect(None, remote).expect("a port is free");
    (id, stack.tcp(id).expect("it is held").local().port().into())
}

/// D12: a port reveals nothing of the next, to the same destination or another, nor of those after a reboot.
#[test]
fn ephemeral_ports() {
    /// Ports 32,768 to 60,998, spread over 32 bits.
    fn spread(port: u32) -> u32 {
        ((u64::from(port - 32_768) << 32) / 28_231) as u32
    }
    for v6 in [false, true] {
        let mut series = Vec::new();
        for boot in [1, 2] {
            let mut host = Host::new(v6, boot, |_| {});
            let remotes = [7, 8].map(|n| SocketAddr::new(address(v6, 1, n), 443));
            let ports: Vec<u32> = (0..8000)
                .map(|n| {
                    let (id, port) = port(&mut host.stack, remotes[n % 2]);
                    host.stack.tcp(id).expect("it is held").close();
                    host.send();
                    port
                })
                .collect();
            assert_uniform("ports", ports.iter().map(|port| spread(*port)));
            for apart in [1, 2, 4] {
                let steps = ports.windows(apart + 1).map(|w| (w[apart] + 28_231 - w[0]) % 28_231 + 32_768);
                assert_uniform("steps", steps.map(spread));
            }
            series.push(ports);
        }
        let apart = series[0].iter().zip(&series[1]).map(|(a, b)| (a + 28_231 - b) % 28_231 + 32_768);
        assert_uniform("another boot", apart.map(spread));
    }
}

/// The same of UDP, by sockets that are bound to any port and closed.
#[test]
fn ports_of_udp() {
    let mut host = Host::new(false, 5, |_| {});
    let ports: Vec<u32> = (0..8000)
        .map(|_| {
            let id = host.stack.udp_bind(SocketAddr::new(host.us, 0)).expect("a port is free");
            let socket = host.stack.udp(id).expect("it is held");
            let port = socket.local().port();
            socket.close();
            port.into()
        })
        .collect();
    let spread = |port: u32| ((u64::from(port - 49_152) << 32) / 16_384) as u32;
    assert_uniform("ports", ports.iter().map(|port| spread(*port)));
    assert_uniform("steps", ports.windows(2).map(|w| spread((w[1] + 16_384 - w[0]) % 16_384 + 49_152)));
}
