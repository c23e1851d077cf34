//! Requirements of RFC 9293 (`docs/rfc9293.md`) that no other test has for its subject.

use crate::tcp::tests::peer::{Kind, Peer, US, both};
use crate::{ConnectError, TcpState};
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use lastack_wire::ip::{self, IpHeader};

/// MUST-48, SHLD-21, SHLD-22: from the SYN to TIME-WAIT, and from the moment it is changed.
#[test]
fn the_user_sets_the_differentiated_services_field() {
    both(|v6| {
        let mut p = Peer::new(v6);
        p.open();
        p.tcp().set_dscp(10);
        assert_eq!((p.out().as_str(), p.last().ip.traffic_class), ("S seq=0", 40));
        let mut p = p.complete(Kind::Plain);
        assert_eq!(p.last().ip.traffic_class, 40);
        p.send(5);
        p.out();
        assert_eq!(p.last().ip.traffic_class, 40);
        p.tcp().set_dscp(0xff);
        assert_eq!(p.tcp().dscp(), 0x3f, "six bits");
        p.ack = 6;
        p.on("P. len=10");
        p.run(50);
        assert_eq!(
            (p.last().header().ack, p.last().ip.traffic_class),
            (crate::tcp::tests::peer::IRS + 11, 0xfc)
        );
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), "F. seq=6 ack=11");
        (p.seq, p.ack) = (11, 7);
        p.on("F.");
        assert_eq!((p.state(), p.last().ip.traffic_class), (TcpState::TimeWait, 0xfc));
        p.run(1000);
        assert!(p.on("F.").starts_with("answered Q1"));
        assert_eq!((p.sent.len(), p.last().ip.traffic_class), (7, 0xfc));
        // What a passive open begins with.
        let p = Peer::with(v6, |config| config.tcp.dscp = 46).listen(1).receive_syn(Kind::Full);
        assert_eq!(p.last().ip.traffic_class, 46 << 2);
    });
}

/// MUST-49.
#[test]
fn the_hop_limit_is_configured() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.hop_limit = 9).listen(1).establish(Kind::Full);
        p.send(10);
        p.out();
        p.on("S seq=0 port=6000");
        p.tcp().abort();
        p.out();
        assert!(p.sent.len() >= 4 && p.sent.iter().all(|sent| sent.ip.hop_limit == 9));
    });
}

/// MUST-65, MUST-67, SHLD-5, MAY-3: on each SYN, on nothing else, and as large as our link carries.
#[test]
fn every_syn_has_an_mss_that_fits_the_link() {
    both(|v6| {
        let mut set: Vec<Peer> = [if v6 { 1300 } else { 576 }, 1280, 1500, 9000, 70_000]
            .map(|mtu| Peer::with(v6, |config| (config.mtu, config.max_packet) = (mtu, mtu)))
            .into();
        let headers = if v6 { 60 } else { 40 };
        for mut p in set.drain(..) {
            let mtu = p.stack.shared.config.mtu;
            p.open();
            p.out();
            let mss = p.last().header().options.mss;
            assert_eq!(mss, Some((mtu - headers).min(65_535) as u16));
            let mut p = p.complete(Kind::Full);
            p.send(10);
            p.out();
            p.tcp().abort();
            p.out();
            assert_eq!(p.sent.len(), 4);
            assert!(p.sent[1..].iter().all(|sent| sent.header().options.mss.is_none()));
        }
        let p = Peer::syn_received(v6, Kind::Plain);
        assert_eq!(p.last().header().options.mss, Some(1500 - headers as u16));
    });
}

/// MUST-15.
#[test]
fn a_peer_that_names_no_mss_gets_small_segments() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.on("S seq=0");
        (p.seq, p.ack) = (1, 1);
        p.on(".");
        p.accept();
        let mss = if v6 { 1220 } else { 536 };
        assert_eq!(p.tcp().info().mss, mss);
        p.send(2 * mss as usize);
        assert_eq!(p.out(), format!(". seq=1 ack=1 len={mss} | P. seq={} ack=1 len={mss}", 1 + mss));
    });
}

/// MUST-1, REC-1: a window is not negative, whatever its highest bit, and has 30 bits if scaled.
#[test]
fn the_largest_windows_are_large() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=65535");
        assert_eq!(p.tcp().info().snd_wnd, 65_535);
        let mut p = Peer::listening(v6);
        p.on("S seq=0 mss=1460 ws=14");
        (p.seq, p.ack) = (1, 1);
        p.on(". win=65535");
        p.accept();
        assert_eq!(p.tcp().info().snd_wnd, 65_535 << 14);
    });
}

/// MUST-41, MUST-42: a listener beside an attempt from its port, and beside embryonic connections.
#[test]
fn a_port_that_connects_can_listen() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        let id = p.id;
        p = p.listen(4);
        assert_eq!((p.id, p.state()), (id, TcpState::SynSent));
        assert_eq!(p.on("S seq=0 port=6000 mss=1460"), "accepted | 6000: S. seq=0 ack=1");
        let any: IpAddr = if v6 { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() };
        assert!(p.stack.tcp_listen(SocketAddr::new(any, US), 1).is_ok());
        // Both go on.
        assert_eq!(p.on(". seq=1 ack=1 port=6000"), "accepted");
        assert_eq!(p.new_events(), "Incoming");
        let p = p.complete(Kind::Plain);
        assert_eq!(p.state(), TcpState::Established);
    });
}

/// MUST-43, MUST-44, MUST-45: the local address is the caller's, or the first of the family; then it
/// stays.
#[test]
fn the_local_address_is_requested_chosen_and_kept() {
    both(|v6| {
        let second: IpAddr = if v6 { "2001:db8::7" } else { "192.0.2.7" }.parse().unwrap();
        let mut p = Peer::with(v6, |config| config.addresses.push(second));
        let remote = SocketAddr::new(p.them, 7000);
        for (asked, expected) in [(None, p.us), (Some(second), second), (Some(p.us), p.us)] {
            let local = asked.map(|addr| SocketAddr::new(addr, 0));
            let id = p.stack.tcp_connect(local, remote).unwrap();
            assert_eq!(p.stack.tcp(id).unwrap().local().ip(), expected);
            p.out();
            assert_eq!(p.last().ip.src, expected);
        }
        // An answer comes from where the SYN went to.
        let any: IpAddr = if v6 { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() };
        p.stack.tcp_listen(SocketAddr::new(any, US), 1).unwrap();
        let syn = crate::tcp::tests::notation::Spec::parse("S seq=0 mss=1460");
        let packet = p.packet_from(IpHeader::new(p.them, second, ip::TCP), &syn);
        assert_eq!(p.on_packet(&packet), "accepted | S. seq=0 ack=1");
        assert_eq!(p.last().ip.src, second);
        p.run(1000);
        assert_eq!(p.last().ip.src, second, "sent again");
    });
}

/// MUST-46.
#[test]
fn a_connect_to_a_non_unicast_address_is_refused() {
    let mut p = Peer::new(false);
    for remote in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "240.0.0.1", "ff02::1", "::"] {
        let remote = SocketAddr::new(remote.parse().unwrap(), 80);
        assert_eq!(p.stack.tcp_connect(None, remote), Err(ConnectError::NotUnicast), "{remote}");
    }
    assert_eq!(p.out(), "");
}

/// MUST-58, MUST-59: what arrived before we could answer is acknowledged at once.
#[test]
fn segments_that_come_together_share_an_ack() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let out = p.on_all(&["P. len=1460", "P. at=1460 len=1460", "P. at=2920 len=1460", "F. at=4380"]);
        assert_eq!(out, ". seq=1 ack=4382");
        // With our data there is no separate ACK.
        let mut p = Peer::established(v6, Kind::Plain);
        let packet = p.packet("P. len=100");
        let _ = p.stack.handle_packet(p.now, &packet, crate::Received::default());
        p.send(7);
        assert_eq!(p.out(), "P. seq=1 ack=101 len=7");
        p.pass(100);
    });
}

/// MUST-34, SHLD-15, SHLD-16, MAY-7: a window that shrinks stops new data, not retransmissions.
#[test]
fn a_window_that_shrinks_stops_new_data_only() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let mss = p.tcp().info().mss as usize;
        p.send(4 * mss);
        assert_eq!(p.out().split(" | ").count(), 4);
        p.ack = 1 + mss as i64;
        assert_eq!(p.on(&format!(". win={mss}")), "accepted");
        p.send(mss);
        assert_eq!(p.out(), "", "the edge is behind what is in flight");
        let again = p.run(300);
        assert!(again.contains(&format!(". seq={} ack=1 len={mss}", 1 + mss)), "{again}");
        let new = 1 + 4 * mss;
        assert!(!again.contains(&format!("seq={new}")), "{again}");
        assert_eq!(p.ends(), "");
        p.ack = new as i64;
        let out = p.on(&format!(". win={mss}"));
        assert_eq!(out, format!("accepted | P. seq={new} ack=1 len={mss}"));
    });
}

/// MUST-18 (Karn): without timestamps it is unknown which copy is acknowledged.
#[test]
fn retransmitted_data_gives_no_rtt_sample() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let measured = p.tcp().info().srtt;
        p.send(100);
        p.out();
        assert!(p.run(2500).contains("seq=1"));
        p.ack = 101;
        p.on(".");
        assert_eq!(p.tcp().info().srtt, measured);
        p.send(100);
        p.out();
        p.run(100);
        p.ack = 201;
        p.on(".");
        assert!(p.tcp().info().srtt > measured, "the next one is");
    });
}

/// MUST-21: the limit of the stack is for who sets none.
#[test]
fn the_user_may_wait_longer_than_the_stack() {
    both(|v6| {
        for window in [0, 65_535] {
            let mut p = Peer::established(v6, Kind::Plain);
            p.on(&format!(". win={window}"));
            p.tcp().set_user_timeout(Some(Duration::from_secs(3000)));
            p.send(100);
            p.out();
            p.run(2_999_000);
            assert_eq!((p.state(), p.ends()), (TcpState::Established, "".into()));
            p.run(1500);
            assert!(p.ends().contains("(S93)"), "{window}");
        }
        // Without a user the limit of orphans applies.
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_user_timeout(Some(Duration::from_secs(3000)));
        p.send(100);
        p.tcp().close();
        p.out();
        p.run(1_000_000);
        assert!(p.ends().contains("(S95)"));
    });
}

/// RFC 6298 section 5.7: a SYN that was lost leaves an RTO of three seconds, until there is a
/// measurement.
#[test]
fn after_a_lost_syn_the_first_data_is_waited_for() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        assert_eq!(p.run(1500), "1000: S seq=0");
        let mut p = p.complete(Kind::Plain);
        p.send(100);
        p.out();
        assert_eq!(p.run(3500), "3000: P. seq=1 ack=1 len=100");
        p.ack = 101;
        p.on(".");
        p.send(100);
        p.out();
        p.run(10);
        p.ack = 201;
        p.on(".");
        assert_eq!(p.tcp().info().rto, Duration::from_millis(210), "200 ms above the round-trip time");
    });
}

/// RFC 5681 section 3.1: where more than one SYN was lost the path is taken for crowded; not if the answer is
/// to the first, which was only late.
#[test]
fn after_two_lost_syns_the_first_window_is_one_segment() {
    both(|v6| {
        for (kind, late, segments) in
            [(Kind::Plain, false, 1), (Kind::Full, false, 1), (Kind::Full, true, 10)]
        {
            let mut p = Peer::syn_sent(v6);
            p.run(3500);
            assert_eq!(p.sent.len(), 3);
            let answer = if late { "S. seq=0 ack=1 mss=1460 sackok tsok ecr=-3000" } else { "" };
            let mut p = if late {
                p.timestamps = true;
                p.on(answer);
                (p.seq, p.ack) = (1, 1);
                p
            } else {
                p.complete(kind)
            };
            assert_eq!(p.tcp().info().cwnd, segments * p.tcp().info().mss, "{kind:?} {late}");
        }
    });
    // One SYN alone may be lost by chance; and so for the SYN|ACK.
    both(|v6| {
        for (silence, segments) in [(0, 10), (1500, 10), (3500, 1)] {
            let mut p = Peer::syn_received(v6, Kind::Full);
            p.run(silence);
            p.on(".");
            p.accept();
            assert_eq!(p.tcp().info().cwnd, segments * p.tcp().info().mss, "{silence}");
        }
    });
}

/// RFC 5681 section 4.1: what the path could take is not known any more.
#[test]
fn a_silence_reduces_the_window() {
    both(|v6| {
        for (restart, silence, halves) in [(true, 300, 1), (true, 20_000, 9), (true, 150, 0), (false, 300, 0)]
        {
            let set = |config: &mut crate::Config| config.tcp.slow_start_after_idle = restart;
            let mut p = Peer::with(v6, set).listen(1).establish(Kind::Full);
            let mss = p.tcp().info().mss;
            for round in [10, 20] {
                p.send((round * mss) as usize);
                p.out();
                p.run(1);
                for _ in 0..round {
                    p.ack += i64::from(mss);
                    p.on(".");
                }
            }
            let before = p.tcp().info().cwnd;
            assert!(before > 20 * mss);
            p.run(silence);
            let from = p.sent.len();
            p.send(50 * mss as usize);
            p.out();
            let left = (before >> halves).max(10 * mss);
            assert_eq!(p.tcp().info().cwnd, left, "after {silence} ms");
            assert_eq!((p.sent.len() - from) as u32, left / mss);
        }
    });
}

/// RFC 2883 section 4.2.2, 4.3: of a segment that is new in part, the part that is not.
#[test]
fn the_duplicate_part_is_reported() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on("P. at=20 len=10");
        assert_eq!(p.on("P. at=15 len=10"), "accepted | . seq=1 ack=1 sack=21-26 sack=16-31");
        assert_eq!(p.on("P. at=25 len=10"), "accepted | . seq=1 ack=1 sack=26-31 sack=16-36");
        assert_eq!(p.on("P. at=10 len=30"), "accepted | . seq=1 ack=1 sack=16-36 sack=11-41");
        assert_eq!(p.on("P. len=20"), "accepted | . seq=1 ack=41 sack=11-21");
    });
}

/// RFC 2018 section 4: our data segments report out-of-order data too, if there is room.
#[test]
fn blocks_ride_on_data() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let mss = p.tcp().info().mss as usize;
        p.on_all(&["P. at=20 len=10", "P. at=40 len=10"]);
        for (room, blocks) in [(0, ""), (11, ""), (12, " sack=41-51"), (20, " sack=41-51 sack=21-31")] {
            let seq = 1 + p.tcp().info().bytes_sent;
            p.send(mss - room);
            assert_eq!(p.out(), format!("P. seq={seq} ack=1 len={}{blocks}", mss - room));
            p.ack = seq as i64 + (mss - room) as i64;
            p.on(".");
        }
        assert!(p.sent.iter().all(|sent| sent.bytes.len() <= 1500));
    });
}

/// RFC 2883 section 4: duplicate data is reported once, before the new blocks.
#[test]
fn duplicate_data_is_reported() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on_all(&["P. len=10", "P. at=20 len=10"]);
        assert_eq!(p.on("P. len=10"), "answered S51 | . seq=1 ack=11 sack=1-11 sack=21-31");
        assert_eq!(p.on("P. at=20 len=10"), "dropped Duplicate | . seq=1 ack=11 sack=21-31 sack=21-31");
        assert_eq!(p.on("P. at=40 len=10"), "accepted | . seq=1 ack=11 sack=41-51 sack=21-31");
        // Late by its timestamp too, and only in part what we have.
        p.run(20);
        p.on("P. at=10 len=1");
        let out = p.on("P. len=20 ts=-10");
        assert_eq!(out, "answered S55 | . seq=1 ack=12 sack=1-12 sack=41-51 sack=21-31");
    });
}

/// RFC 7323 section 5.5: after 24 days of silence the last timestamp proves nothing.
#[test]
fn a_timestamp_is_valid_for_24_days() {
    both(|v6| {
        let day = 24 * 3_600_000;
        for (days, taken) in [(23, false), (25, true)] {
            let mut p = Peer::established(v6, Kind::Full);
            p.run(days * day);
            let out = p.on(&format!("P. len=5 ts={}", -1000 - (days * day) as i64));
            assert_eq!(out.starts_with("accepted"), taken, "{days}: {out}");
        }
    });
}

/// RFC 8985 section 7: two round trips after the last segment it goes again, before the RTO.
#[test]
fn a_tail_that_is_lost_is_probed() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let mss = p.tcp().info().mss as usize;
        p.send(10);
        p.out();
        p.run(100);
        p.ack = 11;
        p.on(".");
        let srtt = p.tcp().info().srtt.unwrap();
        p.send(3 * mss);
        p.out();
        // And two milliseconds, less than which no clock needs to tell apart.
        let time = srtt * 2 + Duration::from_millis(2);
        let last = format!("{}: P. seq={} ack=1 len={mss}", time.as_millis(), 11 + 2 * mss);
        assert!(time < p.tcp().info().rto);
        assert_eq!(p.run(time.as_millis() as u64 + 1), last);
    });
}
