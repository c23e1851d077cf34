//! Text in both directions against a peer made by hand: when it is sent, when it is acknowledged, and
//! what the windows say.

use crate::TcpState;
use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Poll;

/// MSS 1460 each way, and no options that would make it less.
fn plain(v6: bool) -> Peer {
    let p = Peer::established(v6, Kind::Plain);
    assert_eq!(p.v6, v6);
    p
}

/// The max data in a segment of ours.
fn mss(p: &mut Peer) -> usize {
    p.tcp().info().mss as usize
}

/// RFC 9293 section 3.7.4.
#[test]
fn nagle_holds_a_small_segment_while_another_is_in_flight() {
    both(|v6| {
        let mut p = plain(v6);
        let mss = mss(&mut p);
        p.send(10);
        assert_eq!(p.out(), "P. seq=1 ack=1 len=10");
        p.send(20);
        p.send(30);
        assert_eq!(p.out(), "");
        p.ack = 11;
        assert_eq!(p.on("."), "accepted | P. seq=11 ack=1 len=50");
        // Full segments do not wait, and what is left waits only for another that is small.
        p.send(mss + 5);
        assert_eq!(p.out(), format!(". seq=61 ack=1 len={mss}"));
        p.ack = 61;
        assert_eq!(p.on("."), format!("accepted | P. seq={} ack=1 len=5", 61 + mss));
        p.send(mss + 3);
        assert_eq!(p.out(), format!(". seq={} ack=1 len={mss}", 66 + mss));
        p.ack = 61 + mss as i64;
        assert_eq!(p.on("."), "accepted");
        p.ack += 5;
        assert_eq!(p.on("."), format!("accepted | P. seq={} ack=1 len=3", 66 + 2 * mss));
        // A FIN takes along what waits.
        p.send(7);
        p.tcp().shutdown().unwrap();
        assert_eq!(p.out(), format!("FP. seq={} ack=1 len=7", 69 + 2 * mss));
    });
}

#[test]
fn nodelay_holds_nothing() {
    both(|v6| {
        let mut p = plain(v6);
        p.send(10);
        p.out();
        p.send(20);
        assert_eq!(p.out(), "");
        p.tcp().set_nodelay(true);
        assert_eq!(p.out(), "P. seq=11 ack=1 len=20");
        p.send(30);
        assert_eq!(p.out(), "P. seq=31 ack=1 len=30");
        let mut p = Peer::with(v6, |config| config.tcp.nodelay = true).listen(1).establish(Kind::Plain);
        p.send(1);
        assert_eq!(p.out(), "P. seq=1 ack=1 len=1");
        p.send(1);
        assert_eq!(p.out(), "P. seq=2 ack=1 len=1");
    });
}

/// RFC 9293 section 3.8.6.3: at most 40 ms, at least every second full segment.
#[test]
fn an_ack_is_delayed() {
    both(|v6| {
        let mut p = plain(v6);
        let mss = mss(&mut p) as i64;
        assert_eq!(p.on("P. len=10"), "accepted");
        p.pass(20);
        assert_eq!(p.on("P. at=10 len=10"), "accepted");
        assert_eq!(p.run(100), "20: . seq=1 ack=21", "counted from the first");
        p.seq = 21;
        assert_eq!(p.on(&format!(". len={mss}")), "accepted");
        let second = format!(". at={mss} len={mss}");
        assert_eq!(p.on(&second), format!("accepted | . seq=1 ack={}", 21 + 2 * mss));
        p.pass(100);
        // It is sent with our data.
        p.seq += 2 * mss;
        assert_eq!(p.on("P. len=5"), "accepted");
        p.send(3);
        assert_eq!(p.out(), format!("P. seq=1 ack={} len=3", p.seq + 5));
        p.ack = 4;
        p.on(". at=5");
        p.pass(1000);
    });
}

/// RFC 5681 section 4.2, RFC 2018: each segment beyond a gap is acknowledged at once, by itself, the
/// newest block first; the repair is acknowledged at once.
#[test]
fn out_of_order_data_is_acknowledged_selectively() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        let out = p.on_all(&["P. at=100 len=10", "P. at=200 len=10", "P. at=110 len=10"]);
        let last = ". seq=1 ack=1 sack=101-121 sack=201-211";
        assert_eq!(out, [last, last, last].join(" | "), "three ACKs, whatever was known when they left");
        assert_eq!(
            p.on("P. at=300 len=10"),
            "accepted | . seq=1 ack=1 sack=301-311 sack=101-121 sack=201-211"
        );
        // Three blocks fit beside a timestamp.
        let out = p.on("P. at=400 len=10");
        assert_eq!(out, "accepted | . seq=1 ack=1 sack=401-411 sack=301-311 sack=101-121");
        assert_eq!((p.receive(), p.tcp().info().out_of_order), ("pending".into(), 50));
        assert_eq!(p.on("P. len=100"), "accepted | . seq=1 ack=121 sack=401-411 sack=301-311 sack=201-211");
        assert_eq!(p.receive(), "120");
        assert_eq!(
            p.on("P. at=120 len=500"),
            "accepted | . seq=1 ack=621 sack=201-211",
            "the first that came twice"
        );
        assert_eq!((p.receive(), p.tcp().info().out_of_order), ("500".into(), 0));
    });
}

/// Without SACK the same, without blocks.
#[test]
fn out_of_order_data_without_sack() {
    both(|v6| {
        let mut p = plain(v6);
        assert_eq!(
            p.on_all(&["P. at=10 len=10", "P. at=20 len=10", "P. at=20 len=10"]),
            [". seq=1 ack=1"; 3].join(" | ")
        );
        assert_eq!(p.on("P. len=10"), "accepted | . seq=1 ack=31");
        assert_eq!(p.receive(), "30");
    });
}

/// D20: holes are bounded; data beyond the bound is dropped, the connection is not.
#[test]
fn a_storm_of_holes_is_bounded() {
    let mut p = Peer::established(false, Kind::Full);
    let mut dropped = 0;
    for n in 0..10_000 {
        dropped += usize::from(p.on(&format!("P. at={} len=1", 2 + 2 * n)).starts_with("dropped NoSpace"));
    }
    assert_eq!((p.tcp().info().out_of_order, dropped), (4096, 5904));
    assert_eq!((p.state(), p.ends()), (TcpState::Established, String::new()));
    assert!(p.on("P. len=600").starts_with("accepted"));
    assert_eq!(p.receive(), "601");
}

/// A connection with a receive buffer of 8000 bytes.
fn small(v6: bool) -> Peer {
    Peer::with(v6, |config| config.tcp.receive_buffer = 8000).listen(1).establish(Kind::Plain)
}

/// The right edge as the last ACK said it, relative to our RCV.NXT at the start.
fn edge(p: &Peer) -> i64 {
    let header = p.last().header();
    i64::from(header.ack.wrapping_sub(crate::tcp::tests::peer::IRS)) + i64::from(header.window)
}

/// RFC 9293 section 3.8.6: the edge never moves left, and moves right in steps that are worth it.
#[test]
fn the_window_shuts_and_opens_in_steps() {
    both(|v6| {
        let mut p = small(v6);
        for _ in 0..8 {
            p.on("P. len=1000");
            p.seq += 1000;
            p.run(50);
            assert_eq!(edge(&p), 8001);
        }
        assert_eq!(p.last().header().window, 0);
        // Text that does not fit is dropped, and answered.
        assert_eq!(p.on("P. len=1"), "dropped NoSpace | . seq=1 ack=8001");
        assert_eq!(p.tcp().info().unread, 8000);
        // Less than a segment and half the buffer is no step.
        p.tcp().consume(1400);
        assert_eq!(p.out(), "");
        p.tcp().consume(2600);
        assert_eq!(p.out(), ". seq=1 ack=8001");
        assert_eq!((p.last().header().window, edge(&p)), (4000, 12_001));
        // The window is open now: small steps are advertised with the next ACK only.
        p.tcp().consume(1500);
        assert_eq!(p.out(), "");
        p.on("P. len=10");
        p.run(50);
        assert_eq!(edge(&p), 13_501);
    });
}

/// A peer asks whether a shut window is open (RFC 9293 section 3.8.6.1): with an old byte, or with a
/// new one, which is taken once there is room.
#[test]
fn window_probes_of_the_peer_are_answered() {
    both(|v6| {
        let mut p = small(v6);
        p.on_all(&["P. len=4000", "P. at=4000 len=4000"]);
        p.seq = 8001;
        for probe in [". at=-1", ". at=-1 len=1", "P. len=1"] {
            p.run(500);
            let out = p.on(probe);
            assert!(out.ends_with("| . seq=1 ack=8001"), "{out}");
            assert_eq!(p.last().header().window, 0);
        }
        p.tcp().consume(1500);
        assert_eq!(p.out(), "");
        p.run(500);
        p.on(". at=-1");
        assert_eq!(p.last().header().window, 1500);
        assert_eq!(p.on("P. len=1"), "accepted");
    });
}

/// RFC 9293 section 3.8.6.2.1: data that fills neither a segment nor half the peer's largest window
/// waits, but not for ever.
#[test]
fn a_small_window_is_not_filled_at_once() {
    both(|v6| {
        let mut p = plain(v6);
        assert_eq!(p.on(". win=500"), "accepted");
        p.send(2000);
        assert_eq!(p.out(), "");
        assert_eq!(p.run(300), "200: P. seq=1 ack=1 len=500");
        p.ack = 501;
        assert!(p.on(".").starts_with("accepted | . seq=501 ack=1 len="), "open again");

        // Half the largest window that this peer ever had is worth a segment.
        let mut p = Peer::listening(v6);
        p.on("S seq=0 win=600 mss=1460");
        (p.seq, p.ack) = (1, 1);
        p.on(". win=600");
        p.accept();
        p.send(2000);
        assert_eq!(p.out(), ". seq=1 ack=1 len=600");
        p.ack = 601;
        assert_eq!(p.on(". win=299"), "accepted");
        assert_eq!(p.on(". win=300"), "accepted | . seq=601 ack=1 len=300");
    });
}

/// The peer's window is a limit, whatever congestion control says; and the other way round.
#[test]
fn both_windows_limit_the_data_in_flight() {
    both(|v6| {
        let mut p = plain(v6);
        let mss = mss(&mut p);
        p.send(100 * mss);
        let out = p.out();
        assert_eq!(out.split(" | ").count(), 10, "the initial window (RFC 6928)");
        p.ack = 1 + mss as i64;
        let out = p.on(&format!(". win={}", 11 * mss));
        assert_eq!(out.split(" | ").count(), 1 + 2, "slow start: one acknowledged, two sent");
        p.ack += 10 * mss as i64;
        let out = p.on(&format!(". win={}", 3 * mss));
        assert_eq!(out.split(" | ").count(), 1 + 3 - 1 + usize::from(!out.contains('|')), "{out}");
    });
}

/// RFC 3042: each of the first two duplicate ACKs lets a new segment go, whatever the congestion window
/// says; it brings the third, that shows a loss. With SACK what has arrived is not in flight any more.
#[test]
fn limited_transmit_sends_new_data_on_the_first_duplicates() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::established(v6, kind);
            let mss = mss(&mut p);
            p.send(mss);
            p.out();
            p.run(50);
            p.ack = 1 + mss as i64;
            p.on(".");
            p.send(12 * mss);
            assert_eq!(p.out().split(" | ").count(), 10);
            p.run(50);
            for n in 1..=2 {
                let sack = format!(". sack={}-{}", 1 + 2 * mss, 1 + (n + 2) * mss);
                p.on(if kind == Kind::Full { &sack } else { "." });
                let seq = p.last().header().seq.wrapping_sub(p.iss()) as usize;
                assert_eq!((seq, p.last().data().len()), (1 + (10 + n) * mss, mss), "{kind:?} {n}");
            }
            assert_eq!(p.tcp().info().retransmissions, 0);
        }
    });
}

/// RFC 5681 section 3.2 without SACK: three copies of an ACK, and the segment goes again at once.
#[test]
fn three_duplicate_acks_repair_a_loss() {
    both(|v6| {
        let mut p = plain(v6);
        let mss = mss(&mut p);
        p.send(8 * mss);
        p.out();
        assert_eq!((p.on("."), p.on(".")), ("accepted".into(), "accepted".into()));
        let out = p.on(".");
        assert!(out.starts_with(&format!("accepted | . seq=1 ack=1 len={mss}")), "{out}");
        assert_eq!(p.tcp().info().retransmissions, 1);
    });
}

/// The window of a SYN is not scaled, every other is; and ours says all of the buffer.
#[test]
fn windows_are_scaled_but_in_a_syn() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.timestamps = true;
        assert_eq!(p.on("S seq=0 win=2000 mss=1460 ws=7 sackok"), "accepted | S. seq=0 ack=1");
        let syn = p.last().header();
        let shift = syn.options.window_scale.unwrap();
        assert_eq!(syn.window, 65_535);
        (p.seq, p.ack) = (1, 1);
        p.on(". win=100");
        p.accept();
        assert_eq!(p.tcp().info().snd_wnd, 12_800);
        p.on("P. len=10");
        p.run(50);
        assert!(u32::from(p.last().header().window) << shift > 65_535);
    });
}

/// RFC 7323 section 2.2: only the window of a SYN is not scaled. What answers in SYN-RECEIVED is no SYN.
#[test]
fn windows_are_scaled_in_syn_received() {
    both(|v6| {
        let old = ["accepted | S. seq=0 ack=1", "answered S33 | . seq=1 ack=1"];
        let mut p = Peer::listening(v6);
        p.timestamps = true;
        assert_eq!(p.on("S seq=0 mss=1460 ws=7 sackok"), old[0]);
        let shift = p.last().header().options.window_scale.unwrap();
        (p.seq, p.ack) = (1, 1);
        assert_eq!(p.on(". seq=-1000"), old[1]);
        assert_eq!(p.last().header().window, 65_535 >> shift);
        let mut p = Peer::listening(v6);
        assert_eq!(p.on("S seq=0 mss=1460"), old[0]);
        (p.seq, p.ack) = (1, 1);
        assert_eq!(p.on(". seq=-1000"), old[1]);
        assert_eq!(p.last().header().window, 65_535);
    });
}

/// The peer goes by the SYN that it saw, whatever the settings become before its answer.
#[test]
fn options_offered_in_a_syn_stay_when_the_settings_change() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        let offered = p.last().header();
        let shift = offered.options.window_scale.unwrap();
        let mut tcp = p.stack.tcp_config_mut();
        (tcp.receive_buffer, tcp.timestamps, tcp.sack) = (1000, false, false);
        tcp.window_scaling = false;
        drop(tcp);
        p.run(1100);
        let again = p.last().header();
        assert_eq!((again.window, again.options.window_scale), (offered.window, Some(shift)));
        let mut p = p.complete(Kind::Full);
        let ack = p.last().header();
        assert!(ack.options.timestamps.is_some());
        assert!(u32::from(ack.window) << shift >= 65_535 - (1 << shift), "{ack:?}");
        p.on(". at=10000 len=1000");
        assert!(!p.last().header().options.sack.is_empty());
    });
}

/// RFC 9293 section 3.10.7.4, fifth, and where it falls short: retransmitted data, with an old SEQ,
/// acknowledges more and closes the window. The window advertised before does not count from the new SND.UNA.
#[test]
fn a_retransmission_carries_the_current_window() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::established(v6, kind);
            let wide = if kind == Kind::Full { 2 } else { 256 };
            p.on("P. len=100");
            p.on(&format!(". seq=101 win={wide}"));
            p.send(256);
            p.run(50);
            assert_eq!(p.last().data().len(), 256);
            p.on("P. seq=1 len=200 ack=257 win=0");
            assert_eq!(p.tcp().info().snd_wnd, 0);
            p.send(100);
            assert_eq!(p.out(), "", "the window is shut");
        }
    });
}

/// A blocked writer is notified when the user raises the limit of the send buffer (as Linux).
#[test]
fn a_larger_send_buffer_wakes_the_writer() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.tcp().set_send_buffer(Some(1000));
        p.on(". win=0");
        assert_eq!(p.tcp().send(&[7; 2000]), Poll::Ready(Ok(1000)));
        assert!(p.tcp().send(&[7; 1000]).is_pending());
        p.out();
        p.new_events();
        p.tcp().set_send_buffer(Some(3000));
        p.out();
        assert_eq!(p.new_events(), "Writable");
        assert_eq!(p.tcp().send(&[7; 1000]), Poll::Ready(Ok(1000)));
    });
}

/// A buffer is as large as it was made, however the settings grow: what does not fit waits, and a SEND
/// never takes nothing of something.
#[test]
fn a_send_accepts_data_or_waits_when_the_settings_grow() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| config.tcp.send_buffer = 1000).listen(1).establish(Kind::Full);
        p.stack.tcp_config_mut().send_buffer = 1 << 20;
        p.tcp().set_send_buffer(Some(5000));
        assert_eq!(p.tcp().send(&[7; 2000]), Poll::Ready(Ok(1000)));
        assert!(p.tcp().send(&[7; 2000]).is_pending() && p.tcp().poll_writable().is_pending());
    });
}

/// If the link segments, data is sent in packets of many segments, and received so.
#[test]
fn super_segments() {
    both(|v6| {
        let set = |config: &mut crate::Config| config.max_packet = 65_535;
        let mut p = Peer::with(v6, set).listen(1).establish(Kind::Full);
        let mss = mss(&mut p);
        p.send(4 * mss + 100);
        assert_eq!(p.out(), format!("P. seq=1 ack=1 len={}", 4 * mss + 100));
        let sent = p.last().clone();
        assert_eq!(usize::from(sent.transmit.segment_size.unwrap()), mss);
        let headers = sent.ip.len() + sent.header().len();
        assert_eq!(usize::from(sent.transmit.header_len), headers);
        assert_eq!(headers + mss, 1500, "each piece fills a packet");
        // Of what follows the Nagle algorithm holds the piece that is not full.
        p.send(3 * mss + 7);
        assert_eq!(p.out(), format!("P. seq={} ack=1 len={}", 101 + 4 * mss, 3 * mss));
        p.ack = 101 + 7 * mss as i64;
        assert_eq!(p.on("."), format!("accepted | P. seq={} ack=1 len=7", p.ack));
        assert_eq!(p.last().transmit.segment_size, None);
        p.ack += 7;
        assert_eq!(p.on("P. len=50000"), format!("accepted | . seq={} ack=50001", p.ack));
        assert_eq!(p.receive(), "50000");
    });
}

/// What was read in place is what was sent; peek takes nothing away.
#[test]
fn data_can_be_read_in_place() {
    both(|v6| {
        let mut p = plain(v6);
        p.on("P. len=300");
        let expected: Vec<u8> = (1..=300_i64).map(|i| (i % 251) as u8).collect();
        assert_eq!(p.tcp().readable().concat(), expected);
        let mut buf = [0; 100];
        assert_eq!(p.tcp().peek(&mut buf), 100);
        assert_eq!(buf, expected[..100]);
        p.tcp().consume(100);
        assert_eq!(p.tcp().readable().concat(), expected[100..]);
        assert_eq!(p.receive(), "200");
        p.tcp().consume(5);
        assert_eq!(p.receive(), "pending");
    });
}

/// A connection that does nothing holds no buffer and needs no timer.
#[test]
fn idle_buffers_are_released() {
    both(|v6| {
        for kind in Kind::ALL {
            let mut p = Peer::established(v6, kind);
            assert_eq!(p.buffers(), 0);
            p.tcp().set_nodelay(true);
            p.send(5000);
            p.out();
            p.ack = 5001;
            p.on(".");
            p.on("P. len=500");
            p.on("P. at=900 len=50");
            p.on("P. at=500 len=400");
            assert_eq!(p.receive(), "950");
            assert_ne!(p.buffers(), 0);
            p.run(30_000);
            assert_eq!((p.buffers(), p.stack.poll_timeout()), (0, None));
            assert_eq!(p.on("P. at=950 len=5"), "accepted");
            p.seq += 955;
            assert_eq!(p.receive(), "5");
        }
        // What is unread or unacknowledged is kept.
        let mut p = plain(v6);
        p.on("P. len=500");
        p.run(100_000);
        assert_eq!(p.receive(), "500");
        p.run(30_000);
        assert_eq!((p.buffers(), p.stack.poll_timeout()), (0, None));
        // Only what was sent.
        let mut p = plain(v6);
        p.send(500);
        p.out();
        p.ack = 501;
        p.on(".");
        p.run(30_000);
        assert_eq!((p.buffers(), p.stack.poll_timeout()), (0, None));
    });
}

/// RFC 4821: a path that swallows large packets is found out by its timeouts, and small ones get through.
#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    for v6 in [false, true] {
        let mut pair = crate::tcp::tests::pair::Pair::new(v6);
        let (a, b) = pair.connect();
        pair.swallow_above = Some(1300);
        let data = alloc::vec![7; 100_000];
        assert_eq!(pair.transfer(a, b, &data), data);
        assert!(pair.a.tcp(a).info().mss < 1280, "{:?}", pair.a.tcp(a).info());
        assert_eq!(pair.a.stack.counters().tcp_black_holes, 1);
    }
}

/// Table 6: a segment whose first byte lies in the window is taken as far as the window goes.
#[test]
fn data_that_crosses_the_right_edge_is_cut_there() {
    both(|v6| {
        let listening = Peer::with(v6, |config| config.tcp.receive_buffer = 1000).listen(1);
        let mut p = listening.establish(Kind::Full);
        assert_eq!(p.on(". at=900 len=200"), "accepted | . seq=1 ack=1 sack=901-1001");
        assert_eq!(p.on(". at=1000 len=200"), "answered S51 | . seq=1 ack=1 sack=901-1001");
        assert_eq!(p.on(". len=1400"), "accepted | . seq=1 ack=1001 sack=901-1001");
        assert_eq!((p.last().header().window, p.tcp().info().out_of_order), (0, 0));
        assert_eq!((p.receive(), p.tcp().info().rcv_wnd), ("1000".into(), 0));
    });
}

/// RFC 9293 section 3.10.7.4, fifth: the window is that of the segment sent last, not arrived last.
#[test]
fn an_older_segment_does_not_change_the_send_window() {
    both(|v6| {
        let mut p = plain(v6);
        p.on(". at=1000 len=10 win=500");
        assert_eq!(p.tcp().info().snd_wnd, 500);
        p.on(". len=10 win=100");
        assert_eq!(p.tcp().info().snd_wnd, 500);
        p.on(". at=1010 win=300");
        assert_eq!(p.tcp().info().snd_wnd, 300);
    });
}

/// What lies beyond the right edge is not taken, though the buffer may have room for it.
#[test]
fn the_window_bounds_data_and_not_the_buffer() {
    both(|v6| {
        let mut p = plain(v6);
        assert_eq!(p.tcp().info().rcv_wnd, 65_535);
        assert_eq!(p.on(". at=65530 len=100"), "accepted | . seq=1 ack=1");
        assert_eq!(p.tcp().info().out_of_order, 5);
    });
}
