//! SYN cookies: T150, T152, T153, T154.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::{DropReason, Received, Rule, Verdict};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use core::time::Duration;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, TcpOptions};

/// A segment to B's listener from a host that does not exist.
fn forged(pair: &Pair, n: u32, flags: TcpFlags, ack: u32) -> Vec<u8> {
    let [_, a, b, c] = n.to_be_bytes();
    let src = match pair.b.addr {
        IpAddr::V4(_) => IpAddr::from([20, a, b, c]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, n as u16, (n >> 16) as u16 + 1]),
    };
    let ip = IpHeader::new(src, pair.b.addr, ip::TCP);
    let header = TcpHeader {
        src_port: 1000,
        dst_port: PORT,
        seq: n,
        ack,
        flags,
        window: 1000,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let mut packet = Vec::new();
    ip.emit(header.len(), &mut packet);
    header.emit(&mut packet);
    tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
    packet
}

fn flood(pair: &mut Pair, syns: u32) -> Verdict {
    let (mut last, mut sent) = (Verdict::Accepted, Vec::new());
    for n in 0..syns {
        let packet = forged(pair, n, TcpFlags::SYN, 0);
        last = pair.b.stack.handle_packet(pair.now, &packet, Received::default());
        while pair.b.stack.poll_transmit(pair.now, &mut sent).is_some() {}
    }
    last
}

/// T150, T152, D14.
#[test]
fn a_flood_does_not_keep_a_client_out_nor_take_its_options() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| config.tcp.max_embryonic = 64);
        let listener = pair.listen(8);
        assert_eq!(flood(&mut pair, 10_000), Verdict::Answered(Rule::LimitSynQueue));
        assert_eq!(pair.b.stack.tcp.len(), 64, "nothing is kept above the bound");
        let a = pair.a.stack.tcp_connect(None, SocketAddr::new(pair.b.addr, PORT)).unwrap();
        pair.run_until_idle();
        assert_eq!(pair.a.tcp(a).send(b"hello"), Poll::Ready(Ok(5)));
        pair.run_until_idle();
        let b = pair.b.stack.tcp_accept(listener).expect("its cookie came back");
        let mut buf = [0; 8];
        assert_eq!(pair.b.tcp(b).receive(&mut buf), Poll::Ready(Ok(5)));
        let info = pair.b.tcp(b).info();
        assert!(info.snd_wnd > 65_535, "window scale survived: {info:?}");
        assert_eq!(info.mss, 1428, "the class below 1460, less timestamps");
        let counters = pair.b.stack.counters();
        assert_eq!((counters.tcp_cookies_received, counters.tcp_cookies_failed), (1, 0));
        assert_eq!(counters.tcp_cookies_sent, 10_000 - 64 + 1);
    }
}

/// T153, S19.
#[test]
fn without_cookies_the_syn_is_dropped() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| {
            config.tcp.max_embryonic = 64;
            config.tcp.syn_cookies = false;
        });
        pair.listen(8);
        assert_eq!(flood(&mut pair, 100), Verdict::Dropped(DropReason::Rule(Rule::LimitSynQueue)));
    }
}

/// T154, D15.
#[test]
fn guessed_cookies_open_nothing() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| config.tcp.max_embryonic = 64);
        pair.listen(8);
        for (expected, syns) in [(Rule::RstAckToListener, 0), (Rule::RstBadCookie, 100)] {
            assert_eq!(flood(&mut pair, syns) == Verdict::Answered(Rule::LimitSynQueue), syns > 64);
            for n in 0..2000u32 {
                let packet = forged(&pair, 500_000 + n, TcpFlags::ACK, n.wrapping_mul(0x9e37_79b9));
                let verdict = pair.b.stack.handle_packet(pair.now, &packet, Received::default());
                assert_eq!(verdict, Verdict::Answered(expected));
            }
            pair.run_until_idle();
        }
        assert_eq!(pair.b.stack.counters().tcp_cookies_received, 0);
    }
}

/// A late copy of the ACK that brought a cookie back does not open the connection again after its end:
/// with the same numbers, two streams would mix.
#[test]
fn a_cookie_is_good_for_one_connection() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| config.tcp.max_embryonic = 0);
        let listener = pair.listen(8);
        let a = pair.a.stack.tcp_connect(None, SocketAddr::new(pair.b.addr, PORT)).unwrap();
        pair.run_until_idle();
        let ack = pair.a.sent.last().expect("the cookie comes back").1.clone();
        let b = pair.b.stack.tcp_accept(listener).expect("it is good");
        pair.b.tcp(b).abort();
        pair.run_until_idle();
        assert_eq!((pair.a.ended.len(), pair.b.ended.len()), (1, 1));
        pair.a.tcp(a).close();
        let late = pair.b.stack.handle_packet(pair.now, &ack, Received::default());
        assert_eq!(late, Verdict::Answered(Rule::RstBadCookie));
        assert_eq!(pair.b.stack.tcp_accept(listener), None);
    }
}

/// A cookie is believed for two minutes at most, though others are out.
#[test]
fn an_old_cookie_opens_nothing() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| config.tcp.max_embryonic = 0);
        let listener = pair.listen(8);
        pair.a.stack.tcp_connect(None, SocketAddr::new(pair.b.addr, PORT)).unwrap();
        pair.lose = |n| n == 3;
        pair.run_until_idle();
        let ack = pair.a.sent.last().expect("the cookie comes back").1.clone();
        pair.now += Duration::from_secs(300);
        assert_eq!(flood(&mut pair, 1), Verdict::Answered(Rule::LimitSynQueue));
        let late = pair.b.stack.handle_packet(pair.now, &ack, Received::default());
        assert_eq!((late, pair.b.stack.tcp_accept(listener)), (Verdict::Answered(Rule::RstBadCookie), None));
    }
}
