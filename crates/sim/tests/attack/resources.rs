//! Floods that mean to use something up. Each has a bound (docs/bounds.md), beyond which others go on.

use crate::forge::{Segment, raw};
use crate::heap::Meter;
use crate::host::{CLOSED, Host, OPEN, address};
use lastack_engine::{ConnId, DropReason, FourTuple, ListenerId, Rule, Verdict};
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::{self, Fragment, IpHeader};
use lastack_wire::tcp::{SackBlocks, TcpFlags, TcpOptions};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;
const ISN: u32 = 1000;

/// The four-tuple of peer `n`.
fn peer(host: &Host, n: u32) -> FourTuple {
    let v6 = host.us.is_ipv6();
    host.flow(address(v6, 1 + (n >> 16) as u16, n as u16), 5000, OPEN)
}

/// Opens and accepts a connection of peer `n`, whose window is this.
fn accepted(host: &mut Host, listener: ListenerId, n: u32, window: u16) -> (ConnId, FourTuple, u32) {
    let flow = peer(host, n);
    let ack = host.open_with(flow, ISN, TcpOptions { mss: Some(1460), ..TcpOptions::default() }, window);
    (host.stack.tcp_accept(listener).expect("it is established"), flow, ack)
}

fn send(host: &mut Host, id: ConnId, bytes: usize) -> usize {
    let mut sent = 0;
    let text = vec![7; 16_384];
    while sent < bytes
        && let Some(mut tcp) = host.stack.tcp(id)
        && let Poll::Ready(Ok(n)) = tcp.send(&text[..text.len().min(bytes - sent)])
    {
        sent += n;
    }
    sent
}

/// A peer that takes what it is sent, and its program, which sends that.
fn goes_on(host: &mut Host, listener: ListenerId, n: u32, bytes: u32) {
    let (id, flow, first) = accepted(host, listener, n, 60_000);
    let (mut sent, mut ack) = (0, first);
    for _ in 0..10_000 {
        sent += send(host, id, bytes as usize - sent);
        host.send();
        let last = host.last.filter(|_| host.last_flow.is_some_and(|to| to == flow));
        if let Some(last) = last {
            ack = last.seq.wrapping_add(host.last_len as u32);
        }
        let segment = Segment { flow, flags: ACK, seq: ISN + 1, ack, text: b"" };
        let _ = host.give(&segment.with(TcpOptions::default(), 60_000));
        if ack.wrapping_sub(first) == bytes {
            return;
        }
        host.pass(Duration::from_millis(10));
    }
    panic!("{} of {bytes} bytes arrived", ack.wrapping_sub(first));
}

/// D26, T164 to T166: ten thousand peers ask for much, and shut their windows. All of them together hold
/// what the stack allows; those that have stalled longest go, and a peer that takes what it asked for
/// gets it.
#[test]
fn ten_thousand_zero_windows() {
    const MEMORY: usize = 64 << 20;
    for v6 in [false, true] {
        let mut host = Host::new(v6, 1, |config| config.tcp.memory = MEMORY);
        let listener = host.listener;
        let meter = Meter::new();
        let mut ids = Vec::with_capacity(10_000);
        for n in 0..10_000 {
            let (id, ..) = accepted(&mut host, listener, n, 0);
            send(&mut host, id, 1 << 20);
            host.send();
            ids.push(id);
            if n % 100 == 0 {
                host.pass(Duration::from_millis(10));
            }
        }
        let connections = host.stack.connections();
        assert!(meter.peak() < MEMORY + connections * 7_000, "{} for {connections}", meter.peak());
        goes_on(&mut host, listener, 20_000, 1 << 20);
        for _ in 0..100 {
            host.pass(Duration::from_millis(100));
        }
        goes_on(&mut host, listener, 20_001, 1 << 20);
        let aborts = host.stack.counters().tcp_memory_aborts;
        println!("zero windows: {} bytes at most, {aborts} connections reset", meter.peak());
        assert!((100..10_000).contains(&aborts), "{aborts}");
        // The first went before the last, and their users get the reason.
        let end = |host: &mut Host, id| host.stack.tcp(id).expect("it is held").end().map(|end| end.rule);
        assert_eq!(end(&mut host, ids[0]), Some(Rule::LimitMemory));
        assert_eq!(end(&mut host, ids[9_999]), None);
    }
}

/// SACK blocks and out-of-order data of single bytes (D17, D18, D20, T160, T161, T163).
#[test]
fn gaps_of_single_bytes() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 2, |_| {});
        let listener = host.listener;
        let flow = peer(&host, 1);
        let sack = TcpOptions { mss: Some(1), sack_permitted: true, ..TcpOptions::default() };
        let ack = host.open_with(flow, ISN, sack, 65_535);
        let id = host.stack.tcp_accept(listener).expect("it is established");
        let meter = Meter::new();
        send(&mut host, id, 100_000);
        host.send();
        for n in 0..8_000 {
            let mut blocks = SackBlocks::new();
            for block in 0..4 {
                let from = ack.wrapping_add(2 + (n * 8 + block * 2) % 60_000);
                blocks.push((from, from.wrapping_add(1)));
            }
            let options = TcpOptions { sack: blocks, ..TcpOptions::default() };
            let segment = Segment { flow, flags: ACK, seq: ISN + 1, ack, text: b"" };
            let _ = host.give(&segment.with(options, 65_535));
        }
        println!("SACK storm: {} bytes", meter.peak());
        assert!(meter.peak() < 2 << 20, "{}", meter.peak());

        let meter = Meter::new();
        let mut kept = 0;
        for n in 0..5_000 {
            let segment = Segment { flow, flags: ACK, seq: ISN + 3 + 2 * n, ack, text: b"x" };
            kept += u32::from(host.give(&segment.packet()) == Verdict::Accepted);
        }
        println!("holes: {} bytes, {kept} kept", meter.peak());
        assert_eq!(kept, 4096, "max_ooo_ranges");
        assert!(meter.peak() < 256 << 10, "{}", meter.peak());
    }
}

/// Data in single bytes, which is not read: it takes no more than it has bytes, and the window does
/// not open in steps as small (SWS).
#[test]
fn tiny_segments() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 3, |_| {});
        let (listener, meter) = (host.listener, Meter::new());
        let (id, flow, ack) = accepted(&mut host, listener, 1, 1000);
        for n in 0..20_000 {
            let segment = Segment { flow, flags: ACK, seq: ISN + 1 + n, ack, text: b"x" };
            assert_eq!(host.give(&segment.packet()), Verdict::Accepted);
        }
        println!("tiny segments: {} bytes", meter.peak());
        assert!(meter.peak() < 128 << 10, "{}", meter.peak());
        let before = host.stack.counters().tcp_out_segments;
        let mut byte = [0];
        for _ in 0..1000 {
            let _ = host.stack.tcp(id).expect("it is held").receive(&mut byte);
            host.send();
        }
        assert!(host.stack.counters().tcp_out_segments - before <= 2, "a window of a byte is none");
    }
}

/// D16, S17: complete connections that are not accepted, and data in each.
#[test]
fn an_accept_queue_without_accepts() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 4, |_| {});
        let meter = Meter::new();
        for n in 0..20_000 {
            let flow = peer(&host, n);
            let ack = host.open(flow, ISN);
            let text = Segment { flow, flags: ACK, seq: ISN + 1, ack, text: &[1; 1000] };
            let _ = host.give(&text.packet());
        }
        assert_eq!(host.stack.connections(), 65, "a backlog of 64, and one");
        assert_eq!(host.stack.counters().tcp_listen_overflows, 20_000 - 65);
        println!("accept queue: {} bytes", meter.peak());
        assert!(meter.peak() < 1 << 20, "{}", meter.peak());
    }
}

/// Good SYN cookies for which there is no room: nothing is kept of those who bring them, and they are as
/// good afterwards.
#[test]
fn cookies_for_a_full_accept_queue() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 5, |config| config.tcp.max_embryonic = 8);
        let listener = host.listener;
        for n in 0..8 {
            let flow = peer(&host, 100_000 + n);
            let _ = host.segment(flow, TcpFlags::SYN, 5, 0);
        }
        let cookies: Vec<_> = (0..500)
            .map(|n| {
                let flow = peer(&host, n);
                assert_eq!(host.segment(flow, TcpFlags::SYN, ISN, 0), Verdict::Answered(Rule::LimitSynQueue));
                (flow, host.last.expect("a SYN|ACK").seq.wrapping_add(1))
            })
            .collect();
        let bring = |host: &mut Host, (flow, ack): (FourTuple, u32)| host.segment(flow, ACK, ISN + 1, ack);
        let verdicts: Vec<_> = cookies.iter().map(|cookie| bring(&mut host, *cookie)).collect();
        assert!(verdicts[..65].iter().all(|verdict| *verdict == Verdict::Accepted));
        assert!(
            verdicts[65..]
                .iter()
                .all(|verdict| *verdict == Verdict::Dropped(Rule::DropAckAcceptQueueFull.into()))
        );
        assert_eq!(host.stack.connections(), 8 + 65);
        assert!(host.stack.tcp_accept(listener).is_some());
        assert_eq!(bring(&mut host, cookies[400]), Verdict::Accepted);
        (0..64).for_each(|_| host.pass(Duration::from_secs(1)));
        assert_eq!(host.stack.connections(), 66, "what was embryonic is gone");
    }
}

/// D27: connections that the host closes, and whose peers do not answer, or not with their FIN.
#[test]
fn orphans_and_fin_wait_2() {
    for (v6, answers) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut host = Host::new(v6, 6, |config| config.tcp.max_orphans = 1000);
        let (listener, meter) = (host.listener, Meter::new());
        for n in 0..5000 {
            let (id, flow, ack) = accepted(&mut host, listener, n, 1000);
            send(&mut host, id, if answers { 0 } else { 900 });
            host.stack.tcp(id).expect("it is held").close();
            host.send();
            if answers {
                let _ = host.segment(flow, ACK, ISN + 1, ack.wrapping_add(1));
            }
        }
        assert_eq!(host.stack.connections(), 1000);
        assert_eq!(host.stack.counters().tcp_orphan_overflows, 4000);
        println!("orphans, FIN acknowledged {answers}: {} bytes", meter.peak());
        assert!(meter.peak() < 8 << 20, "{}", meter.peak());
        let time = if answers { 61 } else { 130 };
        (0..time).for_each(|_| host.pass(Duration::from_secs(1)));
        assert_eq!(host.stack.connections(), 0, "and they go in their time");
    }
}

/// S101: what a flood of connections leaves behind.
#[test]
fn time_wait() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 7, |config| config.tcp.max_time_wait = 10_000);
        let (listener, meter) = (host.listener, Meter::new());
        for n in 0..12_000 {
            let (id, flow, ack) = accepted(&mut host, listener, n, 1000);
            host.stack.tcp(id).expect("it is held").close();
            host.send();
            let _ = host.segment(flow, ACK | FIN, ISN + 1, ack.wrapping_add(1));
        }
        assert_eq!(host.stack.counters().tcp_time_wait_overflows, 2000);
        println!("TIME-WAIT: {} bytes for 10,000", meter.peak());
        assert!(meter.peak() < 5 << 20, "{}", meter.peak());
        host.pass(Duration::from_secs(61));
        assert_eq!(host.stack.poll_timeout(), None);
    }
}

/// D31, T49: resets, and segments that cause them, without a connection.
#[test]
fn unmatched_resets_allocate_nothing() {
    for v6 in [false, true] {
        let mut host = Host::new(v6, 8, |_| {});
        let flow = peer(&host, 1);
        let packets: Vec<_> = [TcpFlags::RST, TcpFlags::RST | ACK, TcpFlags::SYN, ACK]
            .map(|flags| {
                let flow = FourTuple { remote: SocketAddr::new(host.us, CLOSED), ..flow };
                Segment { flow, flags, seq: 5, ack: 5, text: b"" }.packet()
            })
            .into();
        packets.iter().for_each(|packet| {
            let _ = host.give(packet);
        });
        let meter = Meter::new();
        for n in 0..100_000 {
            let _ = host.give(&packets[n % packets.len()]);
        }
        assert!(meter.live() == 0 && meter.peak() < 1000, "{meter:?}: {}", meter.peak());
    }
}

fn fragment(host: &Host, ident: u32, offset: u32, more: bool, len: usize) -> Vec<u8> {
    let header =
        IpHeader { dont_fragment: false, ..IpHeader::new(peer(host, ident).local.ip(), host.us, ip::UDP) };
    let mut packet = Vec::new();
    header.emit_fragment(Fragment { ident, offset, more }, len, &mut packet);
    packet.resize(packet.len() + len, 3);
    packet
}

/// Fragments of packets that are never whole, small ones and large ones, and such as overlap.
#[test]
fn fragments() {
    for (v6, len) in [(false, 8), (true, 8), (false, 1400), (true, 1200)] {
        let mut host = Host::new(v6, 9, |_| {});
        let meter = Meter::new();
        for n in 0..60_000 {
            let packet = fragment(&host, n, 0, true, len);
            assert_eq!(host.give(&packet), Verdict::Dropped(DropReason::Incomplete));
        }
        println!("fragments of {len}: {} bytes", meter.peak());
        assert!(meter.peak() < 5 << 20, "{}", meter.peak());
        for (offset, more) in [(16, true), (8, true), (24, false)] {
            let packet = fragment(&host, 70_000, offset, more, 16);
            let expected =
                if offset == 16 { DropReason::Incomplete } else { Rule::DropOverlappingFragments.into() };
            assert_eq!(host.give(&packet), Verdict::Dropped(expected), "at {offset}");
        }
        host.pass(Duration::from_secs(31));
        host.pass(Duration::from_secs(1));
        assert_eq!(host.stack.poll_timeout(), None);
        assert!(meter.live() < 512 << 10, "{}", meter.live());
    }
}

/// Datagrams that are not read, small and large.
#[test]
fn datagrams() {
    for v6 in [false, true] {
        for (len, fit) in [(100, 256), (40_000, 104)] {
            let mut host = Host::new(v6, 10, |_| {});
            host.stack.udp_bind(SocketAddr::new(host.us, 53)).expect("the port is free");
            let (source, payload) = (address(v6, 1, 1), vec![1; len]);
            let meter = Meter::new();
            let delivered =
                (0..1000).filter(|_| host.payload(source, 9, 53, &payload) == Verdict::Accepted).count();
            println!("datagrams of {len}: {} bytes", meter.peak());
            assert_eq!(delivered, fit);
            assert!(meter.peak() < 5 << 20, "{}", meter.peak());
            assert_eq!(host.stack.counters().udp_receive_overflows, 1000 - fit as u64);
        }
    }
}

/// Echo requests while the link takes nothing.
#[test]
fn echoes() {
    for v6 in [false, true] {
        for len in [8, 1400] {
            let mut host = Host::new(v6, 11, |_| {});
            let protocol = if v6 { ip::ICMPV6 } else { ip::ICMP };
            let header = IpHeader::new(address(v6, 1, 1), host.us, protocol);
            let mut message = Vec::new();
            let data = &vec![5; len];
            Icmp::Echo { reply: false, ident: 1, seq: 1, data }.emit(&header, &mut message);
            let packet = raw(header, &message);
            let meter = Meter::new();
            for _ in 0..20_000 {
                let _ = host.stack.handle_packet(host.now, &packet, lastack_engine::Received::default());
            }
            println!("echoes of {len}: {} bytes", meter.peak());
            assert!(meter.peak() < 6 << 20, "{}", meter.peak());
            assert!(host.stack.counters().outbox_overflows > 0);
            host.send();
            assert!(!host.stack.has_output() && host.give(&packet) == Verdict::Accepted);
        }
    }
}
