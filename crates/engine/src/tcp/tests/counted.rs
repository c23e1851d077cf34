//! Counters that no other test reads.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Instant, Received, Rule, TCP_INFO, TcpInfo};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::IpHeader;

/// Each arrival that changes nothing has its reason, and each reason its number.
#[test]
fn every_reason_to_drop_counts() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.stack.tcp_config_mut().receive_buffer = 1000;
        let mut p = p.establish(Kind::Plain);
        let before = p.stack.counters().ip_in_receives;
        p.on(". at=100 len=5");
        p.on(". at=100 len=5");
        p.on(". len=1000");
        p.on(". len=5 at=1000");
        let from = p.tcp().remote().ip();
        let to = p.tcp().local().ip();
        let header = IpHeader::new(from, to, if v6 { 58 } else { 1 });
        let (mut message, mut packet) = (Vec::new(), Vec::new());
        Icmp::Echo { reply: true, ident: 1, seq: 1, data: b"unasked" }.emit(&header, &mut message);
        header.emit(message.len(), &mut packet);
        packet.extend(message);
        p.on_packet(&packet);
        p.on_packet(&packet[..10]);
        let counters = *p.stack.counters();
        assert_eq!(counters.ip_in_receives - before, 6);
        assert_eq!((counters.dropped_duplicates, counters.dropped_no_space), (1, 1));
        assert_eq!((counters.dropped_unwanted, counters.dropped_malformed), (1, 1));
    });
}

/// A rule counts where it is followed: by what arrived, by what is sent, and by what ended.
#[test]
fn every_rule_counts() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("R at=9");
        p.on("R at=-9");
        p.on("R");
        p.on(". len=1");
        let counters = p.stack.counters();
        assert_eq!(
            [Rule::AckChallengeRst, Rule::DropRstOutsideWindow, Rule::PeerRstExact, Rule::RstAckToListener]
                .map(|rule| counters.arrivals.of(rule)),
            [1; 4]
        );
        assert_eq!(
            (counters.sent.of(Rule::AckChallengeRst), counters.sent.of(Rule::RstAckToListener)),
            (1, 1)
        );
        assert_eq!(counters.ends.iter().collect::<Vec<_>>(), [(Rule::PeerRstExact, 1)]);
        assert_eq!(counters.tcp_established, 1);
    });
}

/// RFC 9293 section 3.8.6.3: an ACK that nothing took along goes when its time has passed.
#[test]
fn a_delayed_ack_counts_when_it_is_sent() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.stack.tcp_config_mut().quick_acks = 0;
        let mut p = p.establish(Kind::Plain);
        let _ = p.stack.handle_packet(p.now, &p.packet("P. len=5"), Received::default());
        p.run(100);
        assert!(p.stack.counters().tcp_delayed_acks <= 1, "{:?}", p.stack.counters());
        p.on("P. len=5 at=5");
        p.run(100);
        assert!(p.stack.counters().tcp_delayed_acks >= 1, "{:?}", p.stack.counters());
    });
}

fn linux(name: &str, info: &TcpInfo) -> u64 {
    let field = TCP_INFO.iter().find(|field| field.linux == name).unwrap();
    field.value.unwrap()(info, Instant::ZERO)
}

/// As on Linux, whose number counts what comes and not what is kept.
#[test]
fn out_of_order_data_counts_each_time_it_arrives() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on(". at=100 len=5");
        p.on(". at=100 len=5");
        assert_eq!(p.tcp().info().out_of_order_segments, 2);
        assert_eq!(p.stack.counters().tcp_ofo_segments, 2);
    });
}

/// Linux reports the RTO without the back-off of zero-window probes.
#[test]
fn window_probes_do_not_back_off_the_reported_rto() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.send(5);
        p.out();
        p.ack = 6;
        p.on(". win=0");
        let before = linux("tcpi_rto", &p.tcp().info());
        p.send(5);
        p.run(5000);
        let info = p.tcp().info();
        assert!(info.probes > 1 && info.backoffs > 1, "{info:?}");
        assert_eq!((linux("tcpi_rto", &info), linux("tcpi_backoff", &info)), (before, info.backoffs.into()));
        p.on(". win=1000");
        p.run(2000);
        let info = p.tcp().info();
        assert!(info.segments_unacked > 0 && info.backoffs > 0);
        assert!(linux("tcpi_rto", &info) > before, "what is in flight backs it off");
    });
}

/// The min RTT is that of the handshake until data is measured.
#[test]
fn the_handshake_shows_a_round_trip_time() {
    let mut pair = Pair::new(false);
    pair.delay = Duration::from_millis(10);
    let listener = pair.listen(1);
    let a = pair.a.stack.tcp_connect(None, SocketAddr::new(pair.b.addr, PORT)).unwrap();
    pair.run(Duration::from_millis(100));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    let trip = Some(Duration::from_millis(20));
    assert_eq!((pair.a.tcp(a).info().min_rtt, pair.b.tcp(b).info().min_rtt), (trip, trip));
}

/// What is in flight is limited by the buffer only while a writer waits for room.
#[test]
fn sndbuf_limited_time_counts_while_a_writer_waits() {
    for waits in [false, true] {
        let mut pair = Pair::with(false, |config| config.tcp.send_buffer = 10_000);
        let (a, _b) = pair.connect();
        pair.delay = Duration::from_millis(10);
        assert!(pair.a.tcp(a).send(&[0; 10_000]).is_ready());
        if waits {
            assert!(pair.a.tcp(a).send(b"more").is_pending());
        }
        pair.run(Duration::from_millis(100));
        let info = pair.a.tcp(a).info();
        assert!(info.busy >= Duration::from_millis(20), "{info:?}");
        assert_eq!(info.sndbuf_limited >= Duration::from_millis(20), waits, "{info:?}");
        assert_eq!(info.sndbuf_limited.is_zero(), !waits, "{info:?}");
    }
}
